"""The theorem `temperature-family`: The temperature family."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from mpmath import mp

from omnivault.calibration import fit_temperature
from omnivault.softmax import softmax
from tests.chapters.categorical_family.common import (
    EXACT,
    U,
    beta_for,
    lse,
    mean_score,
    on_scores,
    scores,
    soft,
)
from tests.support.strategies import as_double, assert_within, double, inner, number, softmax_bound


@pytest.mark.statement("temperature-family", "exact")
@given(scores(), st.fractions(-20, 20, max_denominator=8))
def test_the_log_partition_along_the_temperature_family(z: list[int], inverse: Fraction) -> None:
    # exp(-6 * 20) is 8e-53.
    with mp.workdps(100):
        beta = number(inverse)
        a = lse([beta * x for x in z])
        p = soft([beta * x for x in z])
        assert_within([mp.exp(beta * x - a) for x in z], p, EXACT)
        mean = inner(p, z)
        variance = inner(p, [(x - mean) ** 2 for x in z])

        def log_partition(b: Any) -> Any:
            return lse([b * x for x in z])

        assert_within(mp.diff(log_partition, beta), mean, mp.mpf(10) ** -25)
        assert_within(mp.diff(log_partition, beta, 2), variance, mp.mpf(10) ** -20)
        assert variance > mp.mpf(10) ** -60
        assert min(z) < mean < max(z)
        assert mean_score(z, beta + mp.mpf(1) / 1000) > mean
        if beta > 0:
            temperature = float(1 / beta)
            probs = softmax(double(z), temperature=temperature)
            assert_within(probs, as_double(p), softmax_bound(double(z), temperature))
        elif beta == 0:
            assert_within(mean, Fraction(sum(z), len(z)), EXACT)


@pytest.mark.statement("temperature-family", "exact")
@on_scores
def test_the_mean_score_takes_every_value_between_and_neither_end(z: list[int]) -> None:
    low, high = min(z), max(z)
    with mp.workdps(400):
        grid = [mean_score(z, mp.mpf(b)) for b in (-100, -30, -3, -1, 0, 1, 3, 30, 100)]
        assert all(a < b for a, b in pairwise([low, *grid, high]))
        assert grid[0] - low < 1e-40 > high - grid[-1]
    for part in (mp.mpf(10) ** -20, mp.mpf(1) / 3, 1 - mp.mpf(10) ** -20):
        mu = low + part * (high - low)
        assert_within(mean_score(z, beta_for(z, mu)), mu, EXACT)
    # Of constant scores all beta are one distribution: the family is not minimal.
    assert_within(soft([mp.mpf(3)] * len(z)), soft([mp.mpf(-7)] * len(z)), EXACT)


@pytest.mark.statement("temperature-family", "exact")
@given(scores(), st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_the_likelihood_has_a_maximizer_if_and_only_if_the_mean_is_inside(
    z: list[int], counts: list[int]
) -> None:
    counts = counts[: len(z)]
    assume(any(counts))
    n = sum(counts)
    mean, z_bar = Fraction(inner(counts, z), n), Fraction(sum(z), len(z))

    def value(beta: Any) -> Any:
        p = soft([beta * x for x in z])
        return inner(counts, [mp.log(x) for x in p]) / n

    if not min(z) < mean < max(z):
        way = 1 if mean == max(z) else -1  # better for ever
        values = [value(mp.mpf(way * b)) for b in range(-8, 13, 4)]
        assert all(a < b for a, b in pairwise(values))
        # The supremum is not attained: all on the ties of the best.
        ties = sum(x == mean for x in z)
        assert_within(value(mp.mpf(way * 200)), -mp.log(ties), EXACT)
        return
    beta = beta_for(z, number(mean))
    assert all(value(beta + s) < value(beta) for s in (-5, -1e-6, 1e-6, 5))
    assert (beta > EXACT) == (mean > z_bar)
    # The package fits temperatures, and no others.
    labels = torch.tensor([k for k, m in enumerate(counts) for _ in range(m)])
    logits = double(z).expand(n, -1)
    if mean > z_bar:
        p = soft([beta * x for x in z])
        curvature = inner(p, [(x - number(mean)) ** 2 for x in z])
        # Newton's last step, or what the rounding of a mean of logits makes of its zero.
        rounding = 128 * U * (max(z) - min(z)) / (curvature * beta)
        assert_within(fit_temperature(logits, labels), 1 / beta, rel=1e-12 + rounding)
    else:
        with pytest.raises(ValueError, match=r"no temperature makes the labels likelier"):
            fit_temperature(logits, labels)
