"""The theorem `chi-square`: The chi-square statistic."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.nn import functional

from omnivault.distributions import Categorical
from tests.chapters.categorical.common import (
    POSITIVE,
    Counts,
    Row,
    few_draws,
    independent,
    mean,
    stuck,
)
from tests.support.strategies import as_double, assert_within, shares, total

on_positive = pytest.mark.parametrize("pi", [pytest.param(shares(*w), id=str(w)) for w in POSITIVE])


def statistic(c: Sequence[int], pi: Row) -> Fraction:
    n = sum(c)
    return total((i - n * p) ** 2 / (n * p) for i, p in zip(c, pi, strict=True))


def grid(pi: Row, n: int) -> tuple[Any, Any]:
    """All values of the statistic and their probabilities."""
    rest = itertools.product(range(n + 1), repeat=len(pi) - 1)
    c = np.array([(*r, n - sum(r)) for r in rest if sum(r) <= n])
    p = np.array([float(x) for x in pi])
    return ((c - n * p) ** 2 / (n * p)).sum(-1), scipy.stats.multinomial.pmf(c, n, p)


@pytest.mark.statement("chi-square", "exact")
@on_positive
@few_draws
def test_the_mean_of_the_statistic_is_one_less_than_the_outcomes(pi: Row, n: int) -> None:
    k = len(pi)
    assert mean(independent(pi, n), lambda c: statistic(c, pi)) == k - 1
    # Not for draws that are all equal; and no probability may be zero.
    assert mean(stuck(pi, n), lambda c: statistic(c, pi)) == n * (k - 1)
    with pytest.raises(ZeroDivisionError):
        statistic((n, *[0] * k), (*pi, Fraction(0)))


@pytest.mark.statement("chi-square", "exact")
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=4),
    st.integers(1, 3),
)
def test_draws_from_another_distribution(weights: list[tuple[int, int]], n: int) -> None:
    assume(any(w for _, w in weights))
    pi, other = (shares(*w) for w in zip(*weights, strict=True))
    x2 = mean(independent(other, n), lambda c: statistic(c, pi))
    bound = n * total((q - p) ** 2 / p for p, q in zip(pi, other, strict=True))
    assert x2 >= bound
    assert (x2 == bound) == (max(other) == 1)  # what is left is a variance
    assert (bound > 0) == (other != pi)  # so it grows without limit


@pytest.mark.statement("chi-square", "statistical", false_alarm=4e-7)
def test_from_another_distribution_it_grows_like_the_sum_of_squares() -> None:
    pi, other = as_double(shares(1, 2, 3, 4)), as_double(shares(2, 2, 3, 3))
    draws = Categorical(other).sample(200_000, generator=torch.Generator().manual_seed(0))
    frequencies = functional.one_hot(draws).cumsum(0) / torch.arange(1, len(draws) + 1)[:, None]
    ratio = ((frequencies - pi) ** 2 / pi).sum(-1)  # X^2 / n
    limit = ((other - pi) ** 2 / pi).sum()
    # By Hoeffding's inequality a frequency is off by more than e with a probability of at most
    # 2 exp(-2 n e^2), and at some n from m on, 2 exp(-2 m e^2) / (1 - exp(-2 e^2)).
    for error, m in ((0.02, 32_000), (0.01, 128_000)):
        allowed = ((error**2 + 2 * error * (other - pi).abs()) / pi).sum()
        assert_within(ratio[m:], limit.expand(len(draws) - m), allowed)
        assert allowed < limit  # which is not zero


@pytest.mark.statement("chi-square", "scipy")
@pytest.mark.parametrize(
    ("weights", "draws"),
    [((1, 4), (10, 100, 10_000)), ((5, 3, 2), (10, 60, 360)), ((1, 2, 3, 4), (5, 20, 80))],
)
def test_the_limit_is_chi_square_with_one_degree_less(weights: Counts, draws: Counts) -> None:
    distances = []
    for n in draws:
        x2, share = grid(shares(*weights), n)
        order = np.argsort(x2)
        x2, below = x2[order], np.cumsum(share[order])
        # Equal values jump together; others are 1/1600 or more apart.
        last = np.append(np.diff(x2) > 1e-9, True)
        above = below[last]
        cdf, other = (scipy.stats.chi2.cdf(x2[last], len(weights) - i) for i in (1, 0))
        distances.append(max(abs(above - cdf).max(), abs(np.append(0, above[:-1]) - cdf).max()))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.04 < distances[0]
    assert abs(above - other).max() > 0.15  # with K degrees of freedom it is no limit
