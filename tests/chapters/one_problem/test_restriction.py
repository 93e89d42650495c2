"""The theorem `restriction`: A smaller vocabulary."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from mpmath import mp

from omnivault.entmax import entmax, sparsemax
from omnivault.softmax import logsumexp, softmax
from tests.chapters.one_problem.common import distributions, temperatures
from tests.chapters.one_problem.separable import (
    BOTH,
    ENTROPY,
    POSITIVE,
    SPARSE,
    ZERO,
    Law,
    Sum,
    exact,
    logits,
    nearest,
    of_order,
    rounding,
    row,
)
from tests.support.strategies import assert_within, inner, logsumexp_bound

F = Fraction
SMALL = mp.mpf(10) ** -15


@st.composite
def rows_and_sets(draw: st.DrawFn, min_size: int = 1) -> tuple[Law, list[int]]:
    z = draw(logits(min_size, 4))
    inside = draw(st.sets(st.integers(0, len(z) - 1), min_size=1))
    return z, sorted(inside)


def padded(p: Law, inside: list[int], k: int) -> list[Any]:
    return [p[inside.index(i)] if i in inside else F(0) for i in range(k)]


def lattice(k: int, parts: int) -> list[list[Fraction]]:
    counts = product(range(parts + 1), repeat=k)
    return [[F(n, parts) for n in several] for several in counts if sum(several) == parts]


@pytest.mark.statement("restriction", "exact")
@given(rows_and_sets(), temperatures(), st.sampled_from([F(0), F(1)]))
def test_to_leave_out_is_to_give_minus_infinity(
    both: tuple[Law, list[int]], t: Fraction, curved: Fraction
) -> None:
    z, inside = both
    minus = [x if i in inside else -math.inf for i, x in enumerate(z)]

    def score(p: Law) -> Any:
        # Nothing times minus infinity is nothing.
        return sum(a * x if a else 0 for a, x in zip(p, minus, strict=True))

    def objective(p: Law, scored: Any) -> Any:
        return scored - t * curved * inner(p, p) / 2

    # Of a lattice of distributions: those best with the logits cut, and the best of those inside.
    points = lattice(len(z), 4)
    cut = [objective(p, score(p)) for p in points]
    within = [p for p in points if all(i in inside or not x for i, x in enumerate(p))]
    values = [objective(p, inner(p, z)) for p in within]
    best = [p for p, value in zip(points, cut, strict=True) if value == max(cut)]
    assert best == [p for p, value in zip(within, values, strict=True) if value == max(values)]


@pytest.mark.statement("restriction")
@given(rows_and_sets(), temperatures())
def test_sparsemax_entmax_and_softmax_of_minus_infinity_are_those_of_the_rest(
    both: tuple[Law, list[int]], t: Fraction
) -> None:
    z, inside = both
    cut = row([float(x) if i in inside else -torch.inf for i, x in enumerate(z)])
    rest = row([z[i] for i in inside])
    for alpha in (1.0, 1.5, 2.0):
        p, expected = (entmax(x, alpha, float(t)) for x in (cut, rest))
        assert all(i in inside or x == 0 for i, x in enumerate(p.tolist()))
        # The same sums, in another order.
        allowed = 64 * 2**-53 if alpha == 1 else 2 * rounding(len(z), alpha, 2**-53)
        assert_within(p[inside], expected, allowed)
    assert_within(sparsemax(cut, float(t))[inside], expected, allowed)


@pytest.mark.statement("restriction", "exact")
@given(rows_and_sets(), temperatures(), st.data())
def test_softmax_renormalizes_and_loses_the_logarithm_of_what_is_left(
    both: tuple[Law, list[int]], t: Fraction, data: st.DataObject
) -> None:
    z, inside = both
    heat = exact(t)
    weights = [mp.exp(exact(x - max(z)) / heat) for x in z]
    value = exact(max(z)) + heat * mp.log(mp.fsum(weights))
    p = [w / mp.fsum(weights) for w in weights]
    left = mp.fsum(p[i] for i in inside)
    best = [p[i] / left for i in inside]
    rest = [z[i] for i in inside]
    size = max(1, heat)
    found = ENTROPY.objective(rest, t, best)
    assert_within(found, value + heat * mp.log(left), ZERO * size)
    # Any other on the set lacks T times its divergence from p, less that of the best.
    q = data.draw(distributions(len(inside)))
    gap = heat * (divergence(q, [p[i] for i in inside]) + mp.log(left))
    assert_within(ENTROPY.objective(rest, t, q), found - gap, ZERO * size)
    assert gap >= -ZERO * size
    assert_within(divergence(best, [p[i] for i in inside]), -mp.log(left), ZERO * 2**10)
    allowed = logsumexp_bound(row(rest), float(t)).item()
    assert_within(logsumexp(row(rest), temperature=float(t)), found, allowed)
    # Of a p that underflows nothing can be told.
    if min(best) > mp.mpf(10) ** -280 and left > mp.mpf(10) ** -280:
        ours = softmax(row(z), temperature=float(t))[inside]
        gaps = max(1.0, float((max(z) - min(z)) / t))
        assert_within(ours / ours.sum(), best, 2**-53 * 2**7 * gaps)


def divergence(q: Law, p: Law) -> Any:
    return mp.fsum(exact(a) * mp.log(exact(a) / b) for a, b in zip(q, p, strict=True) if a)


def favor(omega: Sum, z: Law, t: Any) -> Any:
    """How many times as likely the first is as the second."""
    p = omega.solution(z, t)
    return p[0] / p[1]


OTHERS = {"entropy and square": BOTH, **{f"order {a}": of_order(F(a)) for a in ("1/2", "9/10")}}


@pytest.mark.statement("restriction", "exact")
@given(logits(3, 5), st.sampled_from([F(1, 2), F(1), F(4)]))
@settings(max_examples=25)
def test_only_softmax_leaves_the_odds_of_two_alone(z: Law, t: Fraction) -> None:
    assume(z[0] > z[1])
    odds = favor(ENTROPY, z, t)
    assert_within(odds, favor(ENTROPY, z[:2], t), odds * SMALL)
    assert_within(mp.log(odds), exact((z[0] - z[1]) / t), SMALL)
    for name, omega in OTHERS.items():
        # A smaller vocabulary has more for each: a regularizer with more of a curve at large
        # probabilities than p log p evens them out, one with less does the opposite.
        more, less = favor(omega, z, t), favor(omega, z[:2], t)
        assert more > less if name == "entropy and square" else more < less


@pytest.mark.statement("restriction", "exact")
@given(logits(3, 4), st.sampled_from([F(2), F(4)]))
@settings(max_examples=40)
def test_sparsemax_and_entmax_even_out_the_odds_of_what_is_kept(z: Law, t: Fraction) -> None:
    assume(z[0] > z[1])
    for name in ("order 6/5", "order 3/2", "order 2"):
        p, q = (SPARSE[name].solution(several, t) for several in (z, z[:2]))
        if p[1] > SMALL and mp.fsum(p[2:]) > SMALL:
            assert p[0] / p[1] > q[0] / q[1]


@pytest.mark.statement("restriction", "exact")
def test_the_example_of_sparsemax() -> None:
    z = [F(1, 2), F(1, 4), F(0)]
    p, q = nearest(z, F(1)), nearest(z[:2], F(1))
    assert p == [F(7, 12), F(4, 12), F(1, 12)]
    assert q == [F(5, 8), F(3, 8)]
    assert [x / sum(p[:2]) for x in p[:2]] == [F(7, 11), F(4, 11)]
    assert_within(sparsemax(row(z)), p, 8 * 2**-53)
    assert_within(sparsemax(row([*z[:2], -mp.inf])), [*q, 0], 8 * 2**-53)


@pytest.mark.statement("restriction", "exact")
@pytest.mark.parametrize("name", POSITIVE)
@given(logits(2, 2), st.sampled_from([F(1, 2), F(1), F(4)]), st.integers(0, 1))
@settings(max_examples=25)
@example([F(1), F(0)], F(1), 0)
def test_of_two_tokens_everything_renormalizes(name: str, z: Law, t: Fraction, only: int) -> None:
    # Of one of two nothing but 1 is left, and that is its share of itself.
    assert POSITIVE[name].solution(z, t)[only] > 0
    assert_within(POSITIVE[name].solution([z[only]], t), 1, ZERO)
