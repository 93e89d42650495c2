"""The proposition `guidance`: Two rows of logits and a scale."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor
from transformers import ClassifierFreeGuidanceLogitsProcessor

from omnivault.softmax import softmax
from tests.chapters.one_problem.policies import (
    ZERO,
    Law,
    exact,
    kl,
    lists_of,
    mean,
    policies,
    reweighted,
    row,
    same,
    softmax_of,
    tilt,
)
from tests.support.strategies import assert_within, inner, softmax_bound, total, unit

F = Fraction
U = unit(torch.float64)
Rows = tuple[list[int], list[int]]

row_pairs = st.integers(1, 5).flatmap(lambda k: st.tuples(*[lists_of(st.integers(-5, 5), k)] * 2))
scales = st.integers(-48, 80).map(lambda n: F(n, 16))


def guided(z: list[Any], other: list[Any], g: Any) -> list[Any]:
    """The logits z + (g - 1) (z - z')."""
    return [
        exact(x) + (exact(g) - 1) * (exact(x) - exact(y)) for x, y in zip(z, other, strict=True)
    ]


def log_ratios(p: Law, other: Law) -> list[Any]:
    return [mp.log(exact(a) / exact(b)) for a, b in zip(p, other, strict=True)]


@pytest.mark.statement("guidance", "exact")
@given(row_pairs, st.integers(-4, 6), st.integers(-5, 5), st.integers(-5, 5))
def test_it_multiplies_powers_and_sees_no_level(rows: Rows, g: int, c: int, d: int) -> None:
    # Logits in units of log 2: weights are powers, and all is in fractions.
    weights, others = ([F(2) ** x for x in z] for z in rows)
    p, other = (reweighted(w, [1] * len(w)) for w in (weights, others))
    powers = [F(2) ** (x + (g - 1) * (x - y)) for x, y in zip(*rows, strict=True)]
    expected = reweighted(powers, [1] * len(powers))
    products = [a**g * b ** (1 - g) for a, b in zip(p, other, strict=True)]
    assert reweighted(products, [1] * len(p)) == expected
    if g in (0, 1):
        assert expected == (other, p)[g]
    z, w = ([x + level for x in z] for z, level in zip(rows, (c, d), strict=True))
    log2 = mp.log(2)
    logits = guided([x * log2 for x in z], [x * log2 for x in w], g)
    assert_within(softmax_of(logits), expected, ZERO)


@pytest.mark.statement("guidance", "exact")
@given(row_pairs, st.integers(1, 64).map(lambda n: 1 + F(n, 16)))
def test_above_1_it_is_a_tilt_by_the_log_ratio(rows: Rows, g: Fraction) -> None:
    p, other = (softmax_of(z) for z in rows)
    tilted = tilt(p, log_ratios(p, other), 1 / (g - 1))
    assert_within(softmax_of(guided(*rows, g)), tilted, ZERO)


@pytest.mark.statement("guidance", "exact")
@given(row_pairs, scales, scales)
def test_the_mean_log_ratio_rises_with_the_scale(rows: Rows, g: Fraction, more: Fraction) -> None:
    p, other = (softmax_of(z) for z in rows)
    ratio = log_ratios(p, other)
    low, high = (mean(softmax_of(guided(*rows, x)), ratio) for x in sorted((g, more)))
    level = len({x - y for x, y in zip(*rows, strict=True)}) == 1
    if g == more or level:
        assert_within(low, high, ZERO)
    else:
        assert low < high - ZERO
    # At a slope that is the variance.
    step = mp.mpf(10) ** -15
    here = softmax_of(guided(*rows, g))
    ahead, behind = (mean(softmax_of(guided(*rows, exact(g) + s)), ratio) for s in (step, -step))
    variance = mean(here, [(x - mean(here, ratio)) ** 2 for x in ratio])
    # What a central difference leaves out: a third derivative, below (a range of 20)^4, and a sixth
    # of the step squared.
    assert_within((ahead - behind) / (2 * step), variance, mp.mpf(20) ** 4 * step**2)


def guided_row(z: Tensor, other: Tensor, g: float) -> Tensor:
    return z + (g - 1) * (z - other)


@pytest.mark.statement("guidance", "transformers")
@given(row_pairs, st.integers(17, 80))
def test_transformers_has_the_same_row(rows: Rows, sixteenths: int) -> None:
    g = sixteenths / 16
    z, other = (row(x) for x in rows)
    # Theirs begins at z', ours at z; both are exact, of whole numbers and sixteenths.
    theirs = ClassifierFreeGuidanceLogitsProcessor(g)(
        torch.zeros(1, 1, dtype=torch.long), torch.stack([z, other])
    )
    ours = guided_row(z, other, g)
    assert torch.equal(theirs[0], ours)
    expected = softmax_of(guided(*rows, F(sixteenths, 16)))
    assert_within(softmax(ours), expected, softmax_bound(ours))


@pytest.mark.statement("guidance", "exact")
@given(row_pairs, st.integers(-48, 80))
def test_weights_and_a_temperature_of_softmax_do_it(rows: Rows, sixteenths: int) -> None:
    g = sixteenths / 16
    z, other = (row(x) for x in rows)
    expected = softmax_of(guided(*rows, F(sixteenths, 16)))
    p, other_p = softmax(z), softmax(other)
    if g > 1:
        # Gaps up to 10: 90 u of each probability, so 490 u of a logarithm of their ratio with its
        # own rounding and that of the exponents, and 340 u of that of a weight. A probability
        # moves by p (1 - p) times twice the largest of these, and by the rounding of its sum.
        tilted = softmax((p / other_p).log(), temperature=1 / (g - 1), weights=p)
        assert_within(tilted, expected, (245 * (g - 1) + 170 + 30) * U)
    if g == 1:
        assert torch.equal(guided_row(z, other, g), z)
    if g == 0:
        assert torch.equal(guided_row(z, other, g), other)


@st.composite
def experts(draw: st.DrawFn, low: int) -> tuple[list[list[int]], list[Fraction], Law]:
    """Rows of logits, weights from ``low`` sixths on that add up to 1, and a policy."""
    p = draw(policies(1, 4))
    rows = draw(st.lists(lists_of(st.integers(-4, 4), len(p)), min_size=1, max_size=3))
    weights = [F(w, 6) for w in draw(lists_of(st.integers(low, 6), len(rows) - 1))]
    return rows, [1 - total(weights), *weights], p


def mixed(rows: list[list[int]], weights: list[Fraction]) -> list[Any]:
    """The softmax of the weighted sum of the rows."""
    return softmax_of(
        [inner([exact(w) for w in weights], column) for column in zip(*rows, strict=True)]
    )


@pytest.mark.statement("guidance", "exact")
@given(experts(-12))
def test_weighted_rows_multiply_powers_and_are_least_divergent(
    mixture: tuple[list[list[int]], list[Fraction], Law],
) -> None:
    rows, weights, p = mixture
    laws, best = [softmax_of(z) for z in rows], mixed(rows, weights)
    products = [
        mp.fprod(x ** exact(w) for x, w in zip(column, weights, strict=True))
        for column in zip(*laws, strict=True)
    ]
    assert_within(reweighted(products, [1] * len(p)), best, ZERO)
    # Whatever the signs of the weights, what they weigh is least there, and there alone.
    weighted = mp.fsum(exact(w) * kl(p, law) for w, law in zip(weights, laws, strict=True))
    constant = -mp.log(mp.fsum(products))
    assert_within(weighted, kl(p, best) + constant, ZERO)
    least = mp.fsum(exact(w) * kl(best, law) for w, law in zip(weights, laws, strict=True))
    assert_within(least, constant, ZERO)
    assert (weighted > least + ZERO) != same(p, best)
    if min(weights) >= 0:
        assert least >= -ZERO
