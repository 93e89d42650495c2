"""The definition `softmax-definition`: Softmax with temperature."""

from __future__ import annotations

import pytest
import scipy.special
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.first_principles.common import A, B, U
from tests.support.strategies import (
    SINGLE_DOUBLE,
    as_double,
    assert_within,
    exact_softmax,
    exactly,
    rows,
    softmax_bound,
    temperatures,
    total,
)


@pytest.mark.statement("softmax-definition", "exact")
@given(rows(), temperatures())
def test_each_share_is_its_exponential_over_the_sum(z: Tensor, temperature: float) -> None:
    p = softmax(z, temperature=temperature)
    # No largest logit is subtracted here: 50 digits with an unbounded exponent need no shift.
    weights = [mp.exp(mp.mpf(x) / temperature) for x in z.tolist()]
    everything = mp.fsum(weights)
    assert_within(p, as_double([w / everything for w in weights]), softmax_bound(z, temperature))


@pytest.mark.statement("softmax-definition", "exact", "torch", "scipy")
@given(rows(), st.sampled_from([0.125, 1.0, 64.0]))
def test_softmax_of_other_libraries_is_this_one(z: Tensor, temperature: float) -> None:
    # They know no temperature; these divide without rounding.
    scaled = z / temperature
    expected, bound = as_double(exact_softmax(z, temperature)), softmax_bound(z, temperature)
    assert_within(torch.softmax(scaled, 0), expected, bound)
    assert_within(torch.from_numpy(scipy.special.softmax(scaled.numpy())), expected, bound)
    assert_within(softmax(z, temperature=temperature), expected, bound)


@pytest.mark.statement("softmax-definition", "exact")
@given(rows(), temperatures())
def test_shares_are_positive_and_sum_to_one(z: Tensor, temperature: float) -> None:
    # Gaps of at most 60 over a temperature of at least 0.1: exp(-600) is a normal float64.
    p = softmax(z, temperature=temperature)
    assert bool((p > 0).all())
    # One sum, one quotient each and the sum that is taken here.
    assert_within(total(exactly(p)), 1, (len(z) + 2) * U)


@pytest.mark.statement("softmax-definition")
@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
@pytest.mark.parametrize(
    ("values", "temperature", "expected"),
    [
        pytest.param([7.0], 1.0, [1.0], id="one class"),
        pytest.param([0.0, 0.0], 1.0, [0.5, 0.5], id="two tied"),
        pytest.param([-3.0] * 4, 0.1, [0.25] * 4, id="four tied"),
        pytest.param([3.0, 1.0, 3.0], 1e-30, [0.5, 0.0, 0.5], id="tiny T keeps the tie at the top"),
        pytest.param([3.0, 1.0], 1e-30, [1.0, 0.0], id="tiny T"),
        pytest.param([3.0, -1.0, 2.0, 0.0], 1e30, [0.25] * 4, id="huge T"),
    ],
)
def test_edges_are_met_exactly(
    values: list[float], temperature: float, expected: list[float], dtype: torch.dtype
) -> None:
    p = softmax(torch.tensor(values, dtype=dtype), temperature=temperature)
    assert p.tolist() == expected


@pytest.mark.statement("softmax-definition")
def test_the_numbers_of_the_running_examples() -> None:
    a, b = (torch.tensor(row, dtype=torch.float64) for row in (A, B))

    def printed(values: Tensor, digits: int) -> str:
        return " ".join(f"{x:.{digits}g}" for x in values.tolist())

    assert [round(x, 4) for x in softmax(a).tolist()] == [0.0047, 0.2583, 0.7020, 0.0350]
    assert printed((a - 6).exp(), 4) == "0.006738 0.3679 1 0.04979"
    assert round((a - 6).exp().sum().item(), 4) == 1.4244
    assert printed(softmax(b), 2) == "4.7e-58 1 5.3e-141 5.7e-52"
    assert printed(a.exp(), 5) == "2.7183 148.41 403.43 20.086"
    assert printed(b.exp(), 4) == "6.144e-06 1.304e+52 6.89e-89 7.389"
