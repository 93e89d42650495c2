"""The theorem `cold-limit`: The cold limit."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.temperature.common import (
    EXAMPLE,
    ZERO,
    U,
    exact_row,
    is_constant,
    near_tied_rows,
    row,
)
from tests.support.strategies import (
    DTYPES,
    as_double,
    assert_within,
    events,
    exact_softmax,
    softmax_bound,
    temperatures,
    unit,
    whole_rows,
)


class Cold:
    """The quantities of the cold limit, to 50 digits, from the probabilities alone."""

    def __init__(self, z: Tensor, temperature: Any) -> None:
        at_top = (z == z.max()).tolist()
        self.k, self.m = len(z), sum(at_top)
        self.p = exact_softmax(z, temperature)
        self.miss = mp.fsum(a for a, top in zip(self.p, at_top, strict=True) if not top)
        self.limit = [mp.mpf(top) / self.m for top in at_top]
        if self.m < self.k:
            values = sorted(set(exact_row(z)))
            self.factor = mp.exp(-(values[-1] - values[-2]) / temperature)
            self.lower = self.factor / (self.m + self.factor)
            self.upper = (self.k - self.m) * self.factor / self.m


@pytest.mark.statement("cold-limit", "exact")
@given(near_tied_rows(2, 8), temperatures(0.5, 1e3))
def test_missing_the_maximum_lies_between_its_bounds(z: Tensor, temperature: float) -> None:
    assume(not is_constant(z))
    cold = Cold(z, temperature)
    # Below the upper bound always, at the lower one if and only if one class is not at the top.
    assert cold.miss < cold.upper
    assert cold.miss > cold.lower * (1 - ZERO)
    assert (cold.miss < cold.lower * (1 + ZERO)) == (cold.k - cold.m == 1)


@pytest.mark.statement("cold-limit", "exact")
@given(near_tied_rows(2, 8), temperatures(0.02, 1e3))
def test_computed_misses_lie_between_their_bounds(z: Tensor, temperature: float) -> None:
    assume(not is_constant(z))
    cold = Cold(z, temperature)
    computed = softmax(z, temperature=temperature)[z != z.max()].sum().item()
    # Gaps up to 11 / 0.02, six roundings each; no underflow before exp(-745).
    tolerance = (6 * 11 / temperature + 64) * U
    assert computed >= float(cold.lower) * (1 - tolerance)
    assert computed <= float(cold.upper) * (1 + tolerance)
    assert_within(computed, cold.miss, rel=tolerance)


@pytest.mark.statement("cold-limit", "exact")
@settings(max_examples=60)
@given(near_tied_rows(1, 6), temperatures(0.1, 1e3))
def test_the_distance_to_the_limit_is_the_probability_of_missing(
    z: Tensor, temperature: float
) -> None:
    cold = Cold(z, temperature)
    difference = [a - b for a, b in zip(cold.p, cold.limit, strict=True)]
    # Half the L1 distance, and by definition: the largest difference on an event.
    assert_within(mp.fsum(abs(x) for x in difference) / 2, cold.miss, ZERO)
    largest = max(abs(mp.fsum(difference[i] for i in event)) for event in events(len(z)))
    assert_within(largest, cold.miss, ZERO)
    computed = (softmax(z, temperature=temperature) - as_double(cold.limit)).abs().sum() / 2
    allowed = softmax_bound(z, temperature).sum() + len(z) * U
    assert_within(computed, cold.miss, allowed)


@pytest.mark.statement("cold-limit")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(z=whole_rows(1, 8), temperature=temperatures(0.01, 100.0))
def test_classes_at_the_top_have_the_same_probability(
    dtype: torch.dtype, z: Tensor, temperature: float
) -> None:
    p = softmax(z.to(dtype), temperature=temperature)
    top = p[z == z.max()]
    assert bool((top == top[0]).all())
    if is_constant(z):
        # In the arithmetic, then rounded: 1 / K at every T.
        share = torch.tensor(1.0, dtype=torch.promote_types(dtype, torch.float32)) / len(z)
        assert torch.equal(p, share.to(dtype).expand_as(p))


@pytest.mark.statement("cold-limit")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("values", "winners"),
    [
        pytest.param(EXAMPLE, [3], id="the example"),
        pytest.param([5.0, 5.0, 3.0, 1.0], [0, 1], id="two tied"),
        pytest.param([1.0, 7.0, 7.0, 7.0], [1, 2, 3], id="three tied"),
        pytest.param([2.0, 2.0], [0, 1], id="all tied"),
        pytest.param([-3.0], [0], id="one class"),
        pytest.param([-1.0, 1.0], [1], id="two classes"),
        pytest.param([-1e4, -1.1e4, -6e4], [0], id="large"),
    ],
)
def test_very_cold_is_uniform_on_the_maximum(
    values: list[float], winners: list[int], dtype: torch.dtype
) -> None:
    z = row(values, dtype)
    arithmetic = torch.promote_types(dtype, torch.float32)
    share = (torch.tensor(1.0, dtype=arithmetic) / len(winners)).to(dtype)
    expected = torch.zeros_like(z).index_fill(0, torch.tensor(winners), share.item())
    # exp(-1 / 0.001) underflows in every format.
    for temperature in (1e-3, 1e-10, 1e-37):
        assert torch.equal(softmax(z, temperature=temperature), expected)


@pytest.mark.statement("cold-limit", "exact")
@pytest.mark.parametrize("second", [1, 2, 5])
@pytest.mark.parametrize("further", [0, 3])
@pytest.mark.parametrize("m", [1, 2, 3])
def test_the_rate_is_set_by_the_gap_and_the_number_of_classes_behind_it(
    m: int, second: int, further: int
) -> None:
    gap = 0.5
    z = row([0.0] * m + [-gap] * second + [-2.0] * further)
    # The number of classes that stand second, times exp(-g / T) / m; s and exp(-g / T) in the
    # denominators are what is left of the difference.
    for temperature in (0.1, 0.05, 0.02, 0.005):
        cold = Cold(z, temperature)
        left = (second + 2) * math.exp(-gap / temperature) + 3 * math.exp(-1.5 / temperature)
        assert_within(cold.miss / cold.lower, second, rel=left)
        assert_within(cold.miss / cold.upper, Fraction(second, second + further), rel=left)
        computed = softmax(z, temperature=temperature)[m:].sum()
        expected = second * mp.exp(-gap / mp.mpf(temperature)) / m
        # Gaps up to 2 / T, six roundings each.
        assert_within(computed, expected, rel=left + (6 * 2 / temperature + 64) * U)


@pytest.mark.statement("cold-limit", "exact")
@pytest.mark.parametrize(
    ("gap", "dtype"),
    [(1e-6, torch.float32), (1e-12, torch.float64), (2**-9, torch.float16)],
    ids=["float32", "float64", "float16"],
)
def test_near_ties_are_broken_only_below_their_gap(gap: float, dtype: torch.dtype) -> None:
    z = row([0.0, -gap, -2e4], dtype)
    # p is within gap / (4 T) of one half.
    allowed = 1e-4 / 4 + softmax_bound(z, 1e4 * gap)[:2]
    assert_within(softmax(z, temperature=1e4 * gap)[:2], 0.5, allowed)
    assert softmax(z, temperature=1e-3 * gap).tolist() == [1.0, 0.0, 0.0]
    # The gap is rounded, and p (1 - p) is at most 1/4.
    allowed = softmax_bound(z, gap)[1] + unit(dtype) / 4
    assert_within(softmax(z, temperature=gap)[1], 1 / (1 + mp.e), allowed)


@pytest.mark.statement("cold-limit")
def test_a_fair_draw_among_the_tied_is_not_argmax() -> None:
    z = torch.tensor([1.0, 3.0, 3.0])
    assert softmax(z, temperature=1e-30).tolist() == [0.0, 0.5, 0.5]
    assert torch.nn.functional.one_hot(z.argmax(), 3).tolist() == [0, 1, 0]
