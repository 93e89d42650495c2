"""The theorem `monotone-decoder`: More logit, more probability; warmer, less score."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omnivault.information import entropy
from tests.chapters.one_problem.common import (
    OURS,
    REGULARIZERS,
    SYMMETRIC,
    Law,
    Problem,
    U,
    distributions,
    logits,
    mixture,
    ours,
    pairs,
    rounding,
    temperatures,
    tensor,
)
from tests.support.strategies import assert_within, inner


def minus(p: Law, q: Law) -> Law:
    return [x - y for x, y in zip(p, q, strict=True)]


@pytest.mark.statement("monotone-decoder", "exact")
@pytest.mark.parametrize("name", REGULARIZERS)
@given(pairs(), temperatures())
def test_probabilities_do_not_turn_against_the_logits(
    name: str, both: tuple[Law, Law], t: Fraction
) -> None:
    first, second = (Problem(name, z, t) for z in both)
    # Mixtures need no test: the product is linear in each of the two.
    for p, q in product(first.solutions, second.solutions):
        assert inner(minus(p, q), minus(first.z, second.z)) >= -first.zero


@pytest.mark.statement("monotone-decoder", "exact")
@pytest.mark.parametrize("name", REGULARIZERS)
@given(logits(), temperatures(), st.integers(1, 12), st.data())
def test_who_is_raised_loses_nothing(
    name: str, z: Law, t: Fraction, step: int, data: st.DataObject
) -> None:
    i = data.draw(st.integers(0, len(z) - 1))
    raised = [x + Fraction(step, 4) * (i == j) for j, x in enumerate(z)]
    before, after = Problem(name, z, t), Problem(name, raised, t)
    most = max(p[i] for p in before.solutions)
    assert min(p[i] for p in after.solutions) >= most - before.zero


@pytest.mark.statement("monotone-decoder", "exact")
@pytest.mark.parametrize("name", REGULARIZERS)
@given(logits(), temperatures(), temperatures())
def test_warmer_means_less_score_and_no_less_entropy(
    name: str, z: Law, t: Fraction, more: Fraction
) -> None:
    colder, warmer = Problem(name, z, t), Problem(name, z, t + more)
    for p, q in product(colder.solutions, warmer.solutions):
        assert warmer.score(q) <= colder.score(p) + warmer.zero
        assert warmer.cost(q) <= colder.cost(p) + warmer.zero


@pytest.mark.statement("monotone-decoder", "exact")
@pytest.mark.parametrize("name", SYMMETRIC)
@given(logits(), temperatures(), st.data())
def test_a_symmetric_regularizer_keeps_the_order(
    name: str, z: Law, t: Fraction, data: st.DataObject
) -> None:
    problem = Problem(name, z, t)
    weights = problem.exactly(data.draw(distributions(len(problem.solutions))))
    p = mixture(problem.solutions, weights)
    for i, j in product(range(len(z)), repeat=2):
        if z[i] > z[j]:
            assert p[i] >= p[j]
        if z[i] == z[j] and len(problem.solutions) == 1:
            assert_within(p[i], p[j], problem.zero)


def lattice(k: int, parts: int) -> list[tuple[int, ...]]:
    """All distributions in so many parts, as whole numbers."""
    return [p for p in product(range(parts + 1), repeat=k) if sum(p) == parts]


@pytest.mark.statement("monotone-decoder", "exact")
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=4), st.integers(1, 5), st.data())
def test_the_order_needs_no_convexity(z: Sequence[int], parts: int, data: st.DataObject) -> None:
    # Any cost at all that does not see the names, on a set that does not see them.
    laws = lattice(len(z), parts)
    kinds = sorted({tuple(sorted(p)) for p in laws})
    drawn = st.lists(st.integers(0, 8), min_size=len(kinds), max_size=len(kinds))
    cost = dict(zip(kinds, data.draw(drawn), strict=True))
    values = {p: inner(p, z) - cost[tuple(sorted(p))] for p in laws}
    best = [p for p in laws if values[p] == max(values.values())]
    for p, i, j in product(best, range(len(z)), range(len(z))):
        assert z[i] <= z[j] or p[i] >= p[j]
        # One maximizer is that of the names exchanged too.
        assert z[i] != z[j] or p[i] == p[j] or len(best) > 1


@pytest.mark.statement("monotone-decoder", "exact")
def test_what_is_not_symmetric_or_not_one_may_do_otherwise() -> None:
    z = [Fraction(0), Fraction(1, 4)]
    p = Problem("skewed", z).solution
    assert p[0] > p[1]
    for tied in Problem("nothing", [Fraction(0)] * 2).solutions:
        assert tied[0] != tied[1]


@pytest.mark.statement("monotone-decoder")
@pytest.mark.parametrize("name", OURS)
@settings(max_examples=50)
@given(pairs(1, 6), temperatures(), temperatures())
def test_softmax_sparsemax_and_entmax_are_monotone_in_float64(
    name: str, both: tuple[Law, Law], t: Fraction, more: Fraction
) -> None:
    z, other = (tensor(x) for x in both)
    p, warm = ours(name, z, t), ours(name, z, t + more)
    errors = rounding(name, z, t) + rounding(name, z, t + more)
    turn = (p - ours(name, other, t)) @ (z - other)
    moved = (z - other).abs() @ (rounding(name, z, t) + rounding(name, other, t))
    assert turn >= -moved - 16 * U * (z - other).abs().sum()
    assert warm @ z <= p @ z + z.abs() @ errors + 16 * U * z.abs().max()
    # All that is sorted by its logit is sorted by its probability, and ties stay ties.
    ranked = p[z.argsort(descending=True)]
    tied = z.sort(descending=True).values.diff() == 0
    assert bool((ranked.diff() <= errors.max()).all())
    assert_within(ranked.diff()[tied], torch.zeros(int(tied.sum())), errors.max())
    if name == "entropy":
        # H is within a rounding of -sum p log p, and an error of p moves it by log(1/p) times that.
        allowed = float(errors @ (1 - warm.clamp(min=1e-300).log())) + 64 * U
        allowed += float(errors @ (1 - p.clamp(min=1e-300).log()))
        assert entropy(warm) >= entropy(p) - allowed
