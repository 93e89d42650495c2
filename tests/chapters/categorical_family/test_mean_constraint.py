"""The theorem `mean-constraint`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
from hypothesis import assume, given
from hypothesis import strategies as st
from mpmath import mp

from omnivault.information import entropy
from omnivault.softmax import softmax
from tests.chapters.categorical_family.common import (
    EXACT,
    U,
    beta_for,
    exact_entropy,
    largest,
    on_scores,
    powers,
    scores,
    shares,
    soft,
)
from tests.support.strategies import as_double, assert_within, double, inner, number, softmax_bound


def exact_entropy_at(z: Sequence[int], mu: Any) -> Any:
    beta = beta_for(z, mu)
    return exact_entropy(soft([beta * x for x in z]))


@pytest.mark.statement("mean-constraint", "exact")
@given(scores(), st.lists(st.integers(0, 3), min_size=4, max_size=4), st.booleans())
def test_no_distribution_of_the_same_mean_has_more_entropy(
    z: list[int], weights: list[int], softened: bool
) -> None:
    assume(any(weights[: len(z)]))
    row = powers([(w - 1) * x for x, w in zip(z, weights[:1] * len(z), strict=True)])
    p = [number(x) for x in (row if softened else shares(weights[: len(z)]))]
    mu = inner(p, z)
    assume(min(z) < mu < max(z))
    best = soft([beta_for(z, mu) * x for x in z])
    assert_within(inner(best, z), mu, EXACT)
    is_best = largest(x - y for x, y in zip(p, best, strict=True)) < mp.mpf(10) ** -15
    gap = exact_entropy(best) - exact_entropy(p)
    if is_best:
        assert_within(gap, 0, EXACT)
    else:
        assert gap > mp.mpf(10) ** -25
    if softened:
        assert is_best


@pytest.mark.statement("mean-constraint", "exact", "scipy")
@on_scores
@pytest.mark.parametrize("part", [0.05, 0.3, 0.5, 0.8, 0.95])
def test_a_solver_that_knows_no_softmax_finds_it(z: list[int], part: float) -> None:
    low, high = min(z), max(z)
    mu, scores = low + part * (high - low), np.array(z, dtype=float)
    ends = [(1 - part) / z.count(low) * (x == low) + part / z.count(high) * (x == high) for x in z]
    start = 0.9 * np.array(ends) + 0.1 / len(z)
    found = scipy.optimize.minimize(
        lambda p: (p * np.log(p)).sum(),
        start,
        jac=lambda p: np.log(p) + 1,
        bounds=[(1e-12, 1)] * len(z),
        constraints={"type": "eq", "fun": lambda p: np.array([p.sum() - 1, p @ scores - mu])},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
    )
    beta = beta_for(z, mp.mpf(mu))
    best = soft([beta * x for x in z])
    # It stops where a step gains less than 1e-15; allow for a hundred such steps. What the entropy
    # lacks is KL(found || best), at least half the squared distance (Pinsker).
    lacking, far = 1e-13, math.sqrt(2 * 1e-13)
    assert_within(exact_entropy([mp.mpf(x) for x in found.x]), exact_entropy(best), lacking)
    assert_within(double(found.x), as_double(best), far)
    # Stationary: the gradient of the entropy is a multiple of z, and the multiplier is -beta.
    slope, centered = np.polyfit(scores, -np.log(found.x) - 1, 1)[0], scores - scores.mean()
    off = far / (found.x.min() - far) * np.abs(centered).sum() / (centered @ centered)
    assert_within(slope, -beta, off)


@pytest.mark.statement("mean-constraint", "exact")
@on_scores
@pytest.mark.parametrize("part", ["0.001", "0.2", "0.5", "0.7", "0.999"])
def test_the_slope_of_the_largest_entropy_is_minus_beta(z: list[int], part: str) -> None:
    mu = min(z) + mp.mpf(part) * (max(z) - min(z))
    beta, step = beta_for(z, mu), mp.mpf(10) ** -12
    rise = exact_entropy_at(z, mu + step) - exact_entropy_at(z, mu - step)
    assert_within(rise / (2 * step), -beta, mp.mpf(10) ** -12)
    above = mu - mp.mpf(sum(z)) / len(z)
    assert mp.sign(beta) == mp.sign(above) or abs(beta) + abs(above) < EXACT
    if len(z) == 2:  # the entropy of a coin
        assert_within(beta, mp.log(mp.mpf(part) / (1 - mp.mpf(part))), EXACT)
    if beta > 0.01:
        p = softmax(double(z), temperature=float(1 / beta))
        off = softmax_bound(double(z), float(1 / beta))
        # Scores are 3 at most, and the entropy has the slope log p + 1. Then five terms are added.
        assert_within(p @ double(z), mu, 3 * off.sum() + 64 * U)
        assert_within(entropy(p), exact_entropy_at(z, mu), (off * (1 - p.log())).sum() + 64 * U)


@pytest.mark.statement("mean-constraint", "exact")
@on_scores
@pytest.mark.parametrize("end", [max, min])
@given(st.lists(st.integers(0, 4), min_size=5, max_size=5))
def test_at_either_end_it_is_uniform_on_the_classes_there(
    z: list[int], end: Callable[[list[int]], int], weights: list[int]
) -> None:
    best = end(z)
    assume(any(weights[: len(z)]))
    p = shares(weights[: len(z)])
    only = all(x == best for x, q in zip(z, p, strict=True) if q)
    assert (inner(p, z) == best) == only
    uniform = shares([int(x == best) for x in z])
    if only:
        gap = mp.log(z.count(best)) - exact_entropy([number(x) for x in p])
        if p == uniform:
            assert_within(gap, 0, EXACT)
        else:
            assert gap > 0.008  # of the weights 3, 4, 4


@pytest.mark.statement("mean-constraint", "exact")
@on_scores
def test_as_the_mean_nears_the_largest_the_maximizer_nears_the_uniform_on_the_best(
    z: list[int],
) -> None:
    uniform = [number(p) for p in shares([int(x == max(z)) for x in z])]
    betas = [beta_for(z, max(z) - mp.mpf(10) ** -digits) for digits in (1, 5, 15, 30)]
    assert all(a < b for a, b in pairwise(betas))
    assert betas[-1] > 10  # no limit: T tends to 0
    for digits, beta in zip((1, 5, 15, 30), betas, strict=True):
        miss = max(abs(p - q) for p, q in zip(soft([beta * x for x in z]), uniform, strict=True))
        # Scores are whole, so that every probability of another costs its size at least.
        assert 0 < miss <= mp.mpf(10) ** -digits + EXACT
    assert_within(softmax(double(z), temperature=1e-3), as_double(uniform), U)


@pytest.mark.statement("mean-constraint", "exact")
@on_scores
def test_as_the_mean_nears_the_smallest_the_maximizer_nears_the_uniform_on_the_worst(
    z: list[int],
) -> None:
    uniform = [number(p) for p in shares([int(x == min(z)) for x in z])]
    betas = [beta_for(z, min(z) + mp.mpf(10) ** -digits) for digits in (1, 5, 15, 30)]
    assert all(a > b for a, b in pairwise(betas))
    assert betas[-1] < -10  # no limit
    misses = [
        max(abs(p - q) for p, q in zip(soft([b * x for x in z]), uniform, strict=True))
        for b in betas
    ]
    assert 0 < misses[-1] < mp.mpf(10) ** -30 + EXACT
    assert misses == sorted(misses, reverse=True)
