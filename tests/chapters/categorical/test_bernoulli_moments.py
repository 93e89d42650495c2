"""The proposition `bernoulli-moments`: Mean and variance of an event."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnivault.distributions import Bernoulli
from tests.chapters.categorical.common import HALF, Law, U, covariance, means
from tests.support.strategies import as_double, assert_within, shares


@pytest.mark.statement("bernoulli-moments", "exact")
@given(st.fractions(0, 1, max_denominator=1000) | st.sampled_from(shares(0, 1, 1)))
def test_mean_and_variance_of_an_event(pi: Fraction) -> None:
    law: Law = {(1,): pi, (0,): 1 - pi}
    assert means(law) == (pi,)
    [[variance]] = covariance(law)
    assert variance == pi * (1 - pi) == Fraction(1, 4) - (pi - HALF) ** 2 <= Fraction(1, 4)
    assert (variance == Fraction(1, 4)) == (pi == HALF)
    coin = Bernoulli(as_double([pi]))
    assert coin.mean.item() == float(pi)
    assert_within(coin.variance, [variance], U)
