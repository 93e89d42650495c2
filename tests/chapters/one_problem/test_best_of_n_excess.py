"""The theorem `best-of-n-excess`: What the best of n diverges more than a tilt."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp

from omnivault.information import kl_divergence
from omnivault.softmax import softmax
from tests.chapters.one_problem.policies import (
    ZERO,
    Law,
    best_of,
    exact,
    kl,
    levels,
    mean,
    policies,
    reweighted,
    row,
    same,
    tasks,
    tilt,
    tilt_bounds,
)
from tests.support.strategies import assert_within, temperatures, unit

F = Fraction


def inverse_temperature(q: Law, r: list[Any], goal: Any) -> Any:
    """The b = 1 / T for which the tilt of q by r has this mean reward, to 50 digits.

    The mean rises with b, between that of q, at 0, and the largest reward.
    """

    def excess(b: Any) -> Any:
        return mean(tilt(q, r, 1 / b), r) - exact(goal)

    low, high = mp.mpf(0), mp.mpf(1)
    while excess(high) < 0:
        low, high = high, 2 * high
        assert high < 2**12, "no tilt has this reward"
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    # Newton's steps from near by double the digits: the slope is the variance.
    b = (low + high) / 2
    for _ in range(6):
        b -= excess(b) / variance(tilt(q, r, 1 / b), r)
    return b


def variance(p: Law, r: list[Any]) -> Any:
    return mean(p, [(exact(x) - mean(p, r)) ** 2 for x in r])


def log_factor(q: Law, r: list[Any], n: int, level: Any) -> Any:
    """The logarithm of what the best of n multiplies the outcomes of this reward by."""
    up_to = sum(a for a, x in zip(q, r, strict=True) if x <= level)
    below = sum(a for a, x in zip(q, r, strict=True) if x < level)
    return mp.log(exact((up_to**n - below**n) / (up_to - below)))


def slopes(q: Law, r: list[Any], n: int) -> list[Any]:
    """Of that logarithm, from each level of the reward to the next."""
    several = levels(q, r)
    return [
        (log_factor(q, r, n, b) - log_factor(q, r, n, a)) / (exact(b) - exact(a))
        for a, b in pairwise(several)
    ]


contests = tasks(2, 5, bound=3).filter(lambda task: len(levels(*task)) > 1)


@pytest.mark.statement("best-of-n-excess", "exact")
@given(contests, st.integers(2, 12), st.lists(temperatures(0.1, 100.0), min_size=2, max_size=4))
def test_one_temperature_has_the_same_reward(
    task: tuple[Law, list[int]], n: int, several: list[float]
) -> None:
    q, r = task
    goal = mean(best_of(q, r, n), r)
    assert mean(q, r) < goal < levels(q, r)[-1]
    t = 1 / inverse_temperature(q, r, goal)
    assert t > 0
    assert_within(mean(tilt(q, r, t), r), goal, ZERO)
    # The mean falls where it is hotter, so there is no other.
    for other in several:
        gained = mean(tilt(q, r, other), r) - goal
        assert (gained > 0) == (other < t)
    # Colder, a probability is below e^-60, and 50 digits would still see it.
    warmer = [mean(tilt(q, r, x), r) for x in sorted({0.1, *several, 1e6})]
    assert all(a > b for a, b in pairwise(warmer))


@pytest.mark.statement("best-of-n-excess", "exact")
@given(contests, st.integers(2, 12))
def test_the_divergence_has_two_parts(task: tuple[Law, list[int]], n: int) -> None:
    q, r = task
    best = best_of(q, r, n)
    tilted = tilt(q, r, 1 / inverse_temperature(q, r, mean(best, r)))
    excess = kl(best, tilted)
    assert_within(kl(best, q), kl(tilted, q) + excess, ZERO)
    # None, if and only if the logarithm of the factors is a straight line.
    steps = slopes(q, r, n)
    assert all(step > 0 for step in steps)
    straight = max(steps) - min(steps) < ZERO
    assert same(best, tilted) == straight
    assert (kl(tilted, q) < kl(best, q) - ZERO) != straight


@pytest.mark.statement("best-of-n-excess", "exact")
@given(policies(2, 5, least=1), st.integers(2, 12), st.data())
def test_of_two_levels_it_is_a_tilt(q: Law, n: int, data: st.DataObject) -> None:
    r = [0, 1, *data.draw(st.lists(st.integers(0, 1), min_size=len(q) - 2, max_size=len(q) - 2))]
    good = sum(a for a, x in zip(q, r, strict=True) if x)
    # Factors of both levels, in fractions: (1 - (1-s)^n) / s and (1-s)^(n-1).
    odds = (1 - (1 - good) ** n) / good / (1 - good) ** (n - 1)
    assert best_of(q, r, n) == reweighted(q, [odds if x else F(1) for x in r])
    assert odds > 1
    t = 1 / mp.log(exact(odds))
    assert_within(tilt(q, r, t), best_of(q, r, n), ZERO)
    # What 50 digits leave of a mean is divided by its slope.
    best = best_of(q, r, n)
    assert_within(inverse_temperature(q, r, mean(best, r)), 1 / t, ZERO / variance(best, r))


@pytest.mark.statement("best-of-n-excess", "exact")
@given(policies(3, 6, least=1), st.integers(2, 12), temperatures(0.1, 10.0))
def test_one_reward_of_every_order_makes_it_a_tilt(q: Law, n: int, t: float) -> None:
    order = list(range(len(q)))
    r = [exact(t) * log_factor(q, order, n, level) for level in order]
    best = best_of(q, order, n)
    assert_within(tilt(q, r, t), best, ZERO)
    # Divided by differences of logarithms above 1/100.
    assert_within(slopes(q, r, n), 1 / exact(t), 100 * (1 + 1 / exact(t)) * ZERO)
    largest = max(1, max(abs(x) for x in r))
    allowed = largest * ZERO / variance(best, r)
    assert_within(inverse_temperature(q, r, mean(best, r)), 1 / exact(t), allowed)
    # One level moved, the order kept: a tilt no more.
    r[-1] += exact(t)
    tilted = tilt(q, r, 1 / inverse_temperature(q, r, mean(best, r)))
    assert kl(best, tilted) > ZERO


@pytest.mark.statement("best-of-n-excess", "symbolic")
def test_of_an_exponential_distance_from_the_best_it_is_a_tilt() -> None:
    n, rate, t, x = sp.symbols("n lambda T x", positive=True)
    # x = r_0 - r has the density lambda e^(-lambda x), so F(r) = e^(-lambda x).
    density = rate * sp.exp(-rate * x)
    up_to = sp.exp(-rate * x)
    best = n * up_to ** (n - 1) * density
    weight = density * sp.exp(-x / t)
    normalizer = sp.integrate(weight, (x, 0, sp.oo))
    tilted = (weight / normalizer).subs(t, 1 / ((n - 1) * rate))
    assert sp.simplify(sp.log(sp.simplify(best / tilted))) == 0


@pytest.mark.statement("best-of-n-excess", "symbolic")
def test_of_other_rewards_it_is_none() -> None:
    r, n = sp.symbols("r n", positive=True)
    # log F is a straight line of the reward for the exponential law alone.
    uniform, normal = r, sp.erfc(-r / sp.sqrt(2)) / 2
    gumbel = sp.exp(-sp.exp(-r))
    exponential = sp.exp(r - 7)
    curved = [sp.simplify(sp.diff((n - 1) * sp.log(f), r, 2)) for f in (uniform, normal, gumbel)]
    assert all(bool(bend.subs({r: F(1, 2), n: 3}) < 0) for bend in curved)
    assert sp.diff((n - 1) * sp.log(exponential), r, 2) == 0


@pytest.mark.statement("best-of-n-excess", "exact")
@settings(max_examples=60)
@given(contests, st.integers(2, 12))
def test_in_the_arithmetic_too(task: tuple[Law, list[int]], n: int) -> None:
    q, r = task
    best = best_of(q, r, n)
    t = 1 / inverse_temperature(q, r, mean(best, r))
    tilted = softmax(row(r), temperature=float(t), weights=row(q))
    bound, _ = tilt_bounds(q, r, float(t), torch.float64)
    assert_within(tilted, tilt(q, r, t), bound)
    error = float(bound.sum()) + len(q) * unit(torch.float64)
    largest = max(abs(x) for x in r)
    assert_within(tilted @ row(r), mean(best, r), (2 * error + 8 * unit(torch.float64)) * largest)
    # Of an error of p, each divergence sees at most 1 + |log(p/q)| times as much, where p is not 0.
    several = [tilted, row(best)]
    log_size = 1 + max(
        abs(mp.log(a / exact(b))) for a, b in zip(tilt(q, r, t), q, strict=True) if b
    )
    parts = [kl_divergence(p, row(q)) for p in several]
    excess = kl_divergence(row(best), tilted)
    allowed = 64 * float(log_size) * (error + 8 * unit(torch.float64))
    assert_within(parts[1] - parts[0], excess, allowed)
