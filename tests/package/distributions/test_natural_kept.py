"""What a natural parameter knows and a rounded probability does not."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.distributions import Bernoulli, Categorical, Multinomial
from omnivault.softmax import softmax
from tests.support.strategies import (
    SINGLE_DOUBLE,
    as_double,
    assert_within,
    exact_log_softmax,
    rows,
    smallest,
    unit,
)

INF = math.inf
both = pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)


def test_the_logarithm_of_a_probability_that_underflows() -> None:
    eta = torch.tensor([0.0, -104.0])
    distribution = Categorical.from_natural(eta)
    assert distribution.probs.tolist() == [1.0, 0.0]
    assert distribution.log_pmf(torch.tensor([1, 2])).tolist() == [-104.0, -INF]
    counts = torch.tensor([1, 2])
    expected = math.log(3) - 208
    assert Multinomial.from_natural(3, eta).log_pmf(counts).item() == pytest.approx(expected)
    # Probabilities that were given know nothing of that.
    assert Categorical(distribution.probs).log_pmf(torch.tensor(1)).item() == -INF


@both
@given(data=st.data())
def test_log_pmf_against_fifty_digits(dtype: torch.dtype, data: st.DataObject) -> None:
    eta = data.draw(rows(1, 6, bound=600.0, dtype=dtype))
    expected = as_double(exact_log_softmax(eta))
    # 3 u of the gap, which is no larger than the logarithm, and 8 u of that and of log(1 + s).
    gap = (eta.max() - eta).double()
    bound = unit(dtype) * (3 * gap + 24 * expected.abs() + 8 * math.log(6))
    value = Categorical.from_natural(eta).log_pmf(torch.arange(len(eta)))
    assert_within(value, expected, bound)


@both
def test_variance_and_covariance_of_near_certainty(dtype: torch.dtype) -> None:
    for gap in (1.0, 20.0, 80.0):
        exact = mp.exp(-gap) / (1 + mp.exp(-gap)) ** 2
        expected = torch.tensor(float(exact), dtype=torch.float64)
        for eta in (gap, -gap):
            coin = Bernoulli.from_natural(torch.tensor(eta, dtype=dtype))
            assert_within(coin.variance, expected, rel=32 * unit(dtype))
        logits = torch.tensor([0.0, -gap], dtype=dtype)
        for covariance in (
            Categorical.from_natural(logits).covariance,
            # The same from the rounded probabilities: the smaller one says it all.
            Categorical(softmax(logits)).covariance,
            Multinomial.from_natural(1, logits).covariance,
        ):
            signs = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
            assert_within(covariance, signs * expected, rel=32 * unit(dtype))
            assert covariance.sum(-1).tolist() == [0.0, 0.0]


@both
@given(eta=st.floats(-600, 600, width=32))
@example(eta=94.34375)
def test_a_coin_and_its_other_side(dtype: torch.dtype, eta: float) -> None:
    coin = Bernoulli.from_natural(torch.tensor(eta, dtype=dtype))
    y = torch.tensor([0, 1])
    exact = [-mp.log1p(mp.exp(eta)), -mp.log1p(mp.exp(-eta))]
    logs = as_double(exact)
    # An exponential is within four units in the last place, among the subnormal numbers too.
    bound = 32 * unit(dtype) * logs.abs() + 4 * smallest(dtype)
    assert_within(coin.log_pmf(y), logs, bound)
    probabilities = as_double([mp.exp(x) for x in exact])
    # The sigmoid is 1 / (1 + e^-x): 0 where the exponential overflows.
    bound = 32 * unit(dtype) * probabilities + torch.finfo(dtype).tiny
    assert_within(coin.pmf(y), probabilities, bound)


def parts(eta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    odds = Bernoulli.from_natural(eta[0]).to_natural()
    one = Categorical.from_natural(eta, minimal=True).to_natural(minimal=True)
    many = Multinomial.from_natural(5, eta, minimal=True).to_natural(minimal=True)
    return odds, one, many


@both
@given(data=st.data())
def test_a_natural_parameter_comes_back_as_it_was(dtype: torch.dtype, data: st.DataObject) -> None:
    eta = data.draw(rows(1, 6, bound=1e4, dtype=dtype))
    odds, one, many = parts(eta)
    assert odds.item() == eta[0].item()
    assert torch.equal(one, eta)
    assert torch.equal(many, eta)


def test_the_last_outcome_may_be_improbable_and_not_impossible() -> None:
    improbable = Categorical.from_natural(torch.tensor([0.0, -1000.0]))
    assert improbable.to_natural(minimal=True).tolist() == [1000.0]
    impossible = Categorical.from_natural(torch.tensor([0.0, -INF]))
    with pytest.raises(ValueError, match="the last outcome has the probability 0"):
        impossible.to_natural(minimal=True)


@pytest.mark.parametrize(("n", "expected"), [(1, 2.0611536e-9), (10**6, 2.0611536e-3)])
@both
def test_a_log_partition_near_zero(dtype: torch.dtype, n: int, expected: float) -> None:
    eta = torch.tensor([-20.0], dtype=dtype)
    value = Multinomial.log_partition(n, eta, minimal=True)
    exact = torch.tensor(float(n * mp.log1p(mp.exp(-20))), dtype=torch.float64)
    assert_within(value, exact, rel=32 * unit(dtype))
    assert value.item() == pytest.approx(expected, rel=1e-7)
    if n == 1:
        value = Categorical.log_partition(eta, minimal=True)
        assert_within(value, exact, rel=32 * unit(dtype))


def test_an_improbable_outcome_is_as_rare_as_it_is() -> None:
    # Of 2^25 draws 0.03 are due; with the 24 bits of a float32 there were as many as for 2^-24.
    rare = Bernoulli(torch.tensor(1e-9))
    generator = torch.Generator().manual_seed(0)
    ones = sum(int(rare.sample(2**23, generator=generator).sum()) for _ in range(4))
    assert ones == 0  # false alarm: 1 - exp(-0.034) = 3.3 %


def test_draws_are_those_of_float64() -> None:
    probs = torch.tensor([0.25, 0.7])
    drawn = Bernoulli(probs).sample(1000, generator=torch.Generator().manual_seed(1))
    chances = probs.double().expand(1000, 2)
    expected = torch.bernoulli(chances, generator=torch.Generator().manual_seed(1))
    assert torch.equal(drawn, expected.long())
