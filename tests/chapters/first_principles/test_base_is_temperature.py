"""The proposition `base-is-temperature`: A base is a temperature."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.first_principles.common import A, U
from tests.support.strategies import as_double, assert_within, rows, softmax_bound, whole_rows


@pytest.mark.statement("base-is-temperature", "exact")
@given(rows(1, 6, bound=10.0), st.floats(1.01, 1000.0))
def test_a_base_above_one_is_a_temperature(z: Tensor, base: float) -> None:
    powers = [mp.mpf(base) ** mp.mpf(x) for x in z.tolist()]
    expected = as_double([w / mp.fsum(powers) for w in powers])
    temperature = 1 / math.log(base)
    p = softmax(z, temperature=temperature)
    # log(base) and its reciprocal are rounded too; both act as a rounding of T.
    gap = (z.max() - z) / temperature
    bound = softmax_bound(z, temperature) + 2 * p * U * (gap + (p * gap).sum())
    assert_within(p, expected, bound)


@pytest.mark.statement("base-is-temperature", "exact")
@given(whole_rows(2, 6, bound=5), st.floats(0.05, 0.95))
def test_a_base_below_one_reverses_the_order(z: Tensor, base: float) -> None:
    powers = [mp.mpf(base) ** mp.mpf(x) for x in z.tolist()]
    expected = as_double([w / mp.fsum(powers) for w in powers])
    # The order first, without the package's help.
    for i in range(len(z)):
        for j in range(len(z)):
            assert (z[i] > z[j]).item() == (powers[i] < powers[j])
    temperature = -1 / math.log(base)
    p = softmax(-z, temperature=temperature)
    gap = (z - z.min()) / temperature
    bound = softmax_bound(-z, temperature) + 2 * p * U * (gap + (p * gap).sum())
    assert_within(p, expected, bound)


@pytest.mark.statement("base-is-temperature", "exact")
@given(whole_rows(2, 6, bound=5), st.floats(1.01, 1000.0))
def test_a_base_above_one_keeps_the_order(z: Tensor, base: float) -> None:
    powers = [mp.mpf(base) ** mp.mpf(x) for x in z.tolist()]
    p = softmax(z, temperature=1 / math.log(base))
    for i in range(len(z)):
        for j in range(len(z)):
            assert (z[i] > z[j]).item() == (powers[i] > powers[j])
            # Unequal scores differ by one; equal ones may meet two versions of exp.
            assert p[i] > p[j] or not z[i] > z[j]


@pytest.mark.statement("base-is-temperature")
@pytest.mark.parametrize(
    ("base", "temperature"), [(math.e, 1.0), (math.e**2, 0.5), (math.sqrt(math.e), 2.0)]
)
def test_base_e_is_temperature_one(base: float, temperature: float) -> None:
    z = torch.tensor(A, dtype=torch.float64)
    weights = base**z
    # The base is off by 4 u, over five points by 20 u, exponentials by 8 u; p e moves by at most
    # half the largest e, and sums and quotients take 4 u a side.
    assert_within(softmax(z, temperature=temperature), weights / weights.sum(), 32 * U)


@pytest.mark.statement("base-is-temperature")
@given(rows(1, 8))
def test_base_one_is_the_limit_of_infinite_temperature(z: Tensor) -> None:
    weights = 1.0**z
    # Gaps of 60 over 1e30 are lost beside 1.
    assert torch.equal(softmax(z, temperature=1e30), weights / weights.sum())
