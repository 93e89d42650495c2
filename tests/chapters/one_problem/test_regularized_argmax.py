"""The theorem `regularized-argmax`: What all regularized maxima share."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp

from omnivault.softmax import logsumexp
from tests.chapters.one_problem.common import (
    OURS,
    REGULARIZERS,
    STRICT,
    ZERO,
    Law,
    Problem,
    U,
    corner,
    distributions,
    logits,
    mixture,
    ours,
    rounding,
    temperatures,
    tensor,
)
from tests.support.strategies import assert_within, logsumexp_bound


def spread(name: str, k: int) -> Any:
    """R, the largest value of a convex function, at a corner, less the smallest."""
    level = Problem(name, [Fraction(0)] * k)
    return max(level.cost(corner(k, i)) for i in range(k)) - level.cost(level.solutions[0])


SPREADS = {
    "entropy": mp.log,
    "square": lambda k: (1 - Fraction(1, k)) / 2,
    "nothing": lambda k: 0,
    "largest": lambda k: 1 - Fraction(1, k),
    "entmax 3": lambda k: (1 - mp.mpf(1) / k**2) / 6,
}


@pytest.mark.statement("regularized-argmax", "exact")
@pytest.mark.parametrize("name", REGULARIZERS)
@given(logits(), temperatures(), st.data())
def test_mixtures_of_maximizers_are_maximizers(
    name: str, z: Law, t: Fraction, data: st.DataObject
) -> None:
    problem = Problem(name, z, t)
    assert problem.solutions
    weights = problem.exactly(data.draw(distributions(len(problem.solutions))))
    mixed = mixture(problem.solutions, weights)
    assert_within(problem.objective(mixed), problem.value, problem.zero)


@pytest.mark.statement("regularized-argmax", "exact")
@pytest.mark.parametrize("name", STRICT)
@given(logits(), temperatures(), st.data())
def test_a_strictly_convex_regularizer_leaves_one(
    name: str, z: Law, t: Fraction, data: st.DataObject
) -> None:
    problem = Problem(name, z, t)
    other = problem.exactly(data.draw(distributions(len(z))))
    apart = max(abs(x - y) for x, y in zip(problem.solution, other, strict=True))
    # The cost of a mixture of two that are 2^-20 apart is less than that mixture of their costs
    # by 2^-80 or more (of order 3, where a probability is near 0).
    if apart > 2**-20:
        assert problem.objective(other) < problem.value - problem.zero


@pytest.mark.statement("regularized-argmax", "exact")
@pytest.mark.parametrize("name", REGULARIZERS)
@given(logits(), temperatures(), st.integers(-40, 40))
def test_a_shift_moves_the_value_alone(name: str, z: Law, t: Fraction, c: int) -> None:
    problem, shifted = (Problem(name, row, t) for row in (z, [x + Fraction(c, 4) for x in z]))
    assert_within(shifted.solutions, problem.solutions, problem.zero)
    assert_within(shifted.value, problem.value + problem.exactly([Fraction(c, 4)])[0], problem.zero)


@pytest.mark.statement("regularized-argmax", "exact")
@pytest.mark.parametrize("name", REGULARIZERS)
@given(logits(), temperatures())
def test_a_temperature_divides_the_logits(name: str, z: Law, t: Fraction) -> None:
    problem, divided = Problem(name, z, t), Problem(name, [x / t for x in z])
    assert_within(divided.solutions, problem.solutions, problem.zero)
    assert_within(problem.t * divided.value, problem.value, problem.zero)


@pytest.mark.statement("regularized-argmax", "exact")
@pytest.mark.parametrize("name", REGULARIZERS)
@given(logits(), temperatures())
def test_no_more_than_the_spread_of_the_regularizer_is_given_up(
    name: str, z: Law, t: Fraction
) -> None:
    problem = Problem(name, z, t)
    most = max(problem.z)
    for p in problem.solutions:
        least = most - problem.t * spread(name, len(z))
        assert least - problem.zero <= problem.score(p) <= most + problem.zero


@pytest.mark.statement("regularized-argmax", "exact")
@pytest.mark.parametrize("name", SPREADS)
@pytest.mark.parametrize("k", range(1, 6))
def test_the_spreads_by_name(name: str, k: int) -> None:
    assert_within(spread(name, k), SPREADS[name](k), ZERO)


@pytest.mark.statement("regularized-argmax", "exact")
@given(st.integers(1, 5), temperatures())
def test_without_strictness_all_of_the_spread_may_go(k: int, t: Fraction) -> None:
    # At the tie between the level distribution and one corner, both are best.
    z = [t * (1 - Fraction(1, k)) * k / max(k - 1, 1), *[Fraction(0)] * (k - 1)]
    problem = Problem("largest", z, t)
    assert min(problem.score(p) for p in problem.solutions) == max(z) - t * spread("largest", k)


@pytest.mark.statement("regularized-argmax")
@pytest.mark.parametrize("name", OURS)
@settings(max_examples=50)
@given(logits(1, 6), temperatures(), st.integers(-40, 40))
def test_softmax_sparsemax_and_entmax_do_so_in_float64(
    name: str, z: Law, t: Fraction, c: int
) -> None:
    row = tensor(z)
    p, allowed = ours(name, row, t), rounding(name, row, t)
    # Quarters of this size are added without rounding.
    assert_within(ours(name, row + c / 4, t), p, 2 * allowed)
    assert_within(
        ours(name, row / float(t), 1), p, 2 * allowed + 8 * U * row.abs().max() / float(t)
    )
    most, score = row.max().item(), float(row @ p)
    slack = float(row.abs() @ allowed) + 8 * len(z) * U * (abs(most) + float(t))
    assert most - float(t * Fraction(float(spread(name, len(z))))) - slack <= score <= most + slack


@pytest.mark.statement("regularized-argmax")
@given(logits(1, 6), temperatures(), st.integers(-40, 40))
def test_so_does_the_smooth_maximum(z: Law, t: Fraction, c: int) -> None:
    row, temperature = tensor(z), float(t)
    value, allowed = logsumexp(row, temperature=temperature), logsumexp_bound(row, temperature)
    shifted = logsumexp(row + c / 4, temperature=temperature)
    assert_within(shifted, value + c / 4, 2 * allowed + 4 * U * (abs(c) + value.abs()))
    divided = temperature * logsumexp(row / temperature)
    # The quotients are rounded once more, and a smooth maximum moves by no more than its logits.
    assert_within(divided, value, 3 * allowed + 4 * U * (row.abs().max() + value.abs()))
