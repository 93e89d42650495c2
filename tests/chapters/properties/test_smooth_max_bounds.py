"""The theorem `smooth-max-bounds`: Log-sum-exp is a smooth maximum."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from omnivault.softmax import logsumexp
from tests.chapters.properties.common import U, is_constant
from tests.support.strategies import (
    DTYPES,
    assert_within,
    finite_rows,
    logsumexp_bound,
    rows,
    temperatures,
    whole_rows,
)


@pytest.mark.statement("smooth-max-bounds")
@given(rows(2, 8, bound=15.0), temperatures(1.0, 10.0))
def test_strictly_above_the_maximum_and_at_most_t_log_k_above(
    z: Tensor, temperature: float
) -> None:
    value = logsumexp(z, temperature=temperature)
    # Gaps of at most 30 over a T of at least 1: the excess is at least 1e-13, the spacing of
    # float64 at 15 is 2e-15.
    assert value > z.max()
    allowed = logsumexp_bound(z, temperature).item()
    assert value.item() <= z.max().item() + temperature * math.log(len(z)) + allowed


@pytest.mark.statement("smooth-max-bounds")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(data=st.data(), temperature=temperatures(1e-30, 1e3))
def test_no_rounding_puts_it_below_the_maximum(
    dtype: torch.dtype, data: st.DataObject, temperature: float
) -> None:
    # The sum contains exp(0) = 1, so its logarithm is not negative.
    z = data.draw(finite_rows(dtype))
    assert logsumexp(z, temperature=temperature) >= z.max()


@pytest.mark.statement("smooth-max-bounds")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [1e-30, 0.3, 1.0, 1e30])
@pytest.mark.parametrize("logit", [-3.0, 0.0, 1e4])
def test_of_one_logit_it_is_the_logit(logit: float, temperature: float, dtype: torch.dtype) -> None:
    z = torch.tensor([logit], dtype=dtype)
    assert torch.equal(logsumexp(z, temperature=temperature), z[0])


@pytest.mark.statement("smooth-max-bounds")
@given(whole_rows(1, 8), temperatures(0.5, 10.0))
def test_the_upper_bound_is_met_by_constant_logits_alone(z: Tensor, temperature: float) -> None:
    k = len(z)
    slack = (
        z.max().item() + temperature * math.log(k) - logsumexp(z, temperature=temperature).item()
    )
    allowed = 2 * logsumexp_bound(z, temperature).item()
    if is_constant(z):
        assert_within(slack, 0.0, allowed)
    else:
        # At least one logit lies one or more below the maximum.
        least = temperature * math.log(k / (k - 1 + math.exp(-1 / temperature)))
        assert slack >= least - allowed
        assert least > 100 * allowed


@pytest.mark.statement("smooth-max-bounds")
@given(whole_rows(1, 6), st.integers(1, 5), temperatures(0.1, 10.0))
def test_an_m_way_tie_at_the_top_adds_t_log_m(z: Tensor, copies: int, temperature: float) -> None:
    tied = torch.cat([z, z.max().repeat(copies)])
    m = int((tied == tied.max()).sum())
    value = logsumexp(tied, temperature=temperature).item()
    least = tied.max().item() + temperature * math.log(m)
    allowed = logsumexp_bound(tied, temperature).item()
    assert value >= least - allowed
    # What is added beyond comes from the others, each at least one below.
    rest = (len(tied) - m) * math.exp(-1 / temperature)
    assert value <= tied.max().item() + temperature * math.log(m + rest) + allowed


@pytest.mark.statement("smooth-max-bounds")
@given(whole_rows(1, 8), temperatures(1.0, 10.0))
def test_the_lower_bound_is_met_by_constant_logits_alone(z: Tensor, temperature: float) -> None:
    m = int((z == z.max()).sum())
    excess = (logsumexp(z, temperature=temperature) - z.max()).item() - temperature * math.log(m)
    allowed = 2 * logsumexp_bound(z, temperature).item()
    if is_constant(z):
        assert_within(excess, 0.0, allowed)
    else:
        # Even the smallest of the others adds exp(-20) to the sum of m ones.
        spread = (z.max() - z.min()).item()
        least = temperature * math.log1p(math.exp(-spread / temperature) / m)
        assert excess >= least - allowed
        assert least > 100 * allowed


@pytest.mark.statement("smooth-max-bounds")
@given(rows(1, 8))
def test_it_falls_to_the_maximum_as_t_falls_to_zero(z: Tensor) -> None:
    excess = []
    for temperature in (10.0, 1.0, 0.1, 1e-2, 1e-4, 1e-30):
        value = logsumexp(z, temperature=temperature)
        excess.append((value - z.max()).item())
        assert excess[-1] <= temperature * math.log(len(z)) + logsumexp_bound(z, temperature).item()
    assert all(later <= earlier for earlier, later in itertools.pairwise(excess))
    assert excess[-1] <= 2 * U * z.max().abs().item() + 1e-29


@pytest.mark.statement("smooth-max-bounds")
def test_in_floating_point_the_lower_bound_is_met() -> None:
    # exp(-20) = 2e-9 is less than half of float32's spacing at 1, and log 2 than that at 1e8: 8.
    for z in (torch.tensor([1.0, -19.0]), torch.tensor([1e8, 1e8])):
        assert logsumexp(z) == z.max()
    assert_within(logsumexp(torch.tensor([1.0, -19.0]).double()) - 1, math.exp(-20), 4 * U)
