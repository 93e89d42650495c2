"""The theorem `forward-reverse`: Forward covers, reverse may select."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
import scipy.special
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from mpmath import mp

from omnivault.information import kl_divergence
from tests.chapters.cross_entropy_kl.common import (
    NOTHING,
    ONE,
    ZERO,
    Data,
    Pair,
    Row,
    assert_close,
    divergence,
    log,
    pairs,
    same,
    simplex,
)
from tests.support.strategies import as_double, assert_within, number, shares


@pytest.mark.statement("forward-reverse", "exact", "scipy")
@given(pairs())
@example((shares(1, 1), (ONE, Fraction(5e-324))))  # positive is enough, however small
def test_the_forward_divergence_needs_cover_and_the_reverse_may_not_leave(pair: Pair) -> None:
    for p, q in itertools.permutations(pair):
        finite = all(b > 0 for a, b in zip(p, q, strict=True) if a)
        computed = kl_divergence(as_double(p), as_double(q)).item()
        assert math.isfinite(computed) == finite
        assert_close(computed, divergence(p, q))
        terms = scipy.special.rel_entr([float(x) for x in p], [float(x) for x in q])
        assert math.isfinite(terms.sum()) == finite


class Family(NamedTuple):
    base: list[int]
    statistic: list[list[int]]
    """A row for each outcome."""
    unseen: list[int]
    """What may be added to a distribution without a change of its sum and its moments."""


FAMILIES = {
    "a coin": Family([1, 1], [[0], [1]], [0, 0]),
    "a binomial": Family([1, 3, 3, 1], [[0], [1], [2], [3]], [1, -2, 1, 0]),
    "a bump": Family([1] * 5, [[x, x * x] for x in range(-2, 3)], [1, -3, 3, -1, 0]),
    "logits": Family([1, 1, 1], [[1, 0, 0], [0, 1, 0], [0, 0, 1]], [0, 0, 0]),
    "a tie": Family([1, 2, 1, 5], [[0], [1], [1], [3]], [0, 1, -1, 0]),
    "a constant": Family([1, 2, 3], [[1], [1], [1]], [2, -1, -1]),
}
on_families = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def member(family: Family, eta: Sequence[Any]) -> list[Any]:
    exponents = [mp.fdot(zip(eta, t, strict=True)) for t in family.statistic]
    weights = [h * mp.exp(x) for h, x in zip(family.base, exponents, strict=True)]
    return [w / mp.fsum(weights) for w in weights]


def moments(family: Family, p: Sequence[Any]) -> list[Any]:
    return [mp.fdot(zip(p, t, strict=True)) for t in zip(*family.statistic, strict=True)]


def forward(p: Sequence[Any], q: Sequence[Any]) -> Any:
    return mp.fsum(a * mp.log(a / b) for a, b in zip(p, q, strict=True) if a)


def natural(family: Family) -> SearchStrategy[list[Any]]:
    d = len(family.statistic[0])
    return st.lists(st.integers(-8, 8).map(lambda n: mp.mpf(n) / 4), min_size=d, max_size=d)


@pytest.mark.statement("forward-reverse", "exact")
@on_families
@settings(max_examples=30)
@given(st.data())
def test_the_slope_of_the_forward_divergence_is_the_difference_of_moments(
    family: Family, data: Data
) -> None:
    p = [number(x) for x in data.draw(simplex(len(family.base)))]
    eta, other = data.draw(natural(family)), data.draw(natural(family))

    def value(step: Any, direction: Sequence[Any]) -> Any:
        at = [e + step * d for e, d in zip(eta, direction, strict=True)]
        return forward(p, member(family, at))

    sides = zip(moments(family, member(family, eta)), moments(family, p), strict=True)
    stated = [a - b for a, b in sides]
    h = mp.mpf(10) ** -12
    for i, slope in enumerate(stated):
        axis = [int(i == j) for j in range(len(eta))]
        assert_within((value(h, axis) - value(-h, axis)) / (2 * h), slope, 1e-20)
    # Where the moments differ, a step downhill shows that it is not smallest.
    here, size = value(0, stated), mp.fdot(stated, stated)
    assert (value(mp.mpf(-0.01), stated) < here - max(size / 1000, NOTHING)) == (size > NOTHING)
    # A convex function lies above its tangents.
    way = [b - a for a, b in zip(eta, other, strict=True)]
    assert value(1, way) >= here + mp.fdot(stated, way) - NOTHING


@pytest.mark.statement("forward-reverse", "exact")
@on_families
@settings(max_examples=30)
@given(st.data())
def test_where_the_moments_agree_the_forward_divergence_is_smallest(
    family: Family, data: Data
) -> None:
    fit, other = (member(family, data.draw(natural(family))) for _ in range(2))
    # A p with the moments of the fit, as far from it as it can be: it has a zero.
    falls = [f / -d for f, d in zip(fit, family.unseen, strict=True) if d < 0]
    p = [f + min(falls, default=0) * d for f, d in zip(fit, family.unseen, strict=True)]
    p = [x if x > NOTHING else mp.mpf(0) for x in p]
    excess = forward(p, other) - forward(p, fit)
    assert_within(excess, forward(fit, other), NOTHING)
    sides = zip(moments(family, other), moments(family, p), strict=True)
    assert (excess < NOTHING) == all(same(a, b) for a, b in sides)
    assert (forward(p, fit) > NOTHING) == any(family.unseen)


@pytest.mark.statement("forward-reverse", "exact")
def test_a_law_that_is_certain_has_no_smallest_forward_divergence_among_coins() -> None:
    certain = [mp.mpf(0), mp.mpf(1)]
    coins = [member(FAMILIES["a coin"], [mp.mpf(eta)]) for eta in (0, 1, 10, 100)]
    values = [forward(certain, coin) for coin in coins]
    assert all(a > b > 0 for a, b in itertools.pairwise(values))
    assert values[-1] < 1e-43
    # The moments come as near as one likes, and do not agree.
    assert all(0 < 1 - moments(FAMILIES["a coin"], coin)[0] < 1 for coin in coins)


@st.composite
def mixtures(draw: DrawFn) -> tuple[list[Row], Row]:
    """Disjoint pieces on six outcomes, of which some may be left over, and their weights."""
    n = draw(st.integers(1, 3))
    owner = [*range(n), *draw(st.lists(st.integers(0, 3), min_size=6 - n, max_size=6 - n))]
    sizes = draw(st.lists(st.integers(1, 5), min_size=6, max_size=6))
    pieces = [shares(*(s * (o == j) for s, o in zip(sizes, owner, strict=True))) for j in range(n)]
    return pieces, shares(*draw(st.lists(st.sampled_from([1, 2, 10**6]), min_size=n, max_size=n)))


def mixed(pieces: list[Row], weights: Row) -> Row:
    return tuple(
        sum((w * x for w, x in zip(weights, column, strict=True)), ZERO)
        for column in zip(*pieces, strict=True)
    )


@pytest.mark.statement("forward-reverse", "exact")
@given(mixtures(), st.data())
def test_the_reverse_divergence_pays_a_fee_for_the_pieces_it_ignores(
    case: tuple[list[Row], Row], data: Data
) -> None:
    pieces, weights = case
    p, j = mixed(pieces, weights), data.draw(st.integers(0, len(pieces) - 1))
    inside = [i for i, x in enumerate(pieces[j]) if x]
    kept = dict(zip(inside, data.draw(simplex(len(inside))), strict=True))
    q = data.draw(st.just(pieces[j]) | st.just(tuple(kept.get(i, ZERO) for i in range(6))))
    exact = divergence(q, p)
    assert_within(exact, divergence(q, pieces[j]) - log(weights[j]), NOTHING)
    assert same(exact, -log(weights[j])) == (q == pieces[j])  # the fee alone
    assert_close(kl_divergence(as_double(q), as_double(p)).item(), exact)


@pytest.mark.statement("forward-reverse", "exact")
def test_pieces_that_overlap_or_a_q_that_leaves_its_piece_pay_another_fee() -> None:
    first, second, half = shares(1, 1, 0), shares(0, 1, 1), shares(1, 1)
    assert 0 < divergence(first, mixed([first, second], half)) < math.log(2) - 0.3
    everywhere, apart = shares(1, 1, 1), [shares(1, 1, 0), shares(0, 0, 1)]
    assert divergence(everywhere, mixed(apart, half)) < divergence(everywhere, apart[0]) == mp.inf
