"""The theorem `sparsemax`: The nearest distribution."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

from omnivault.entmax import sparsemax
from tests.chapters.one_problem.common import corner, distributions, temperatures
from tests.chapters.one_problem.separable import (
    Law,
    logits,
    nearest,
    rounding,
    row,
)
from tests.support.strategies import assert_within, inner, total, unit

F = Fraction
EXAMPLE = [F(1, 2), F(1, 4), F(-1)]
BORDER = [F(1), F(1, 2), F(1, 2), F(1, 4)]
"""At T = 1/2 the second and third are at the border; at T = 5/4 and the last one too."""


def support_size(z: Law, t: Any) -> int:
    ranked = sorted(z, reverse=True)
    return max(k for k in range(1, len(z) + 1) if sum(ranked[:k]) - k * ranked[k - 1] < t)


def by_rule(z: Law, t: Any) -> list[Any]:
    k = support_size(z, t)
    tau = (sum(sorted(z, reverse=True)[:k]) / t - 1) / k
    return [max(x / t - tau, 0) for x in z]


def squared(p: Law, q: Law) -> Any:
    return sum((x - y) ** 2 for x, y in zip(p, q, strict=True))


@pytest.mark.statement("sparsemax", "exact")
@given(logits(), temperatures(), st.data())
@example([F(7)], F(1, 2**10), None)
@example(BORDER, F(1, 2), None)
@example(BORDER, F(5, 4), None)
def test_the_rule_gives_the_nearest_distribution(
    z: Law, t: Fraction, data: st.DataObject | None
) -> None:
    p = by_rule(z, t)
    assert sum(p) == 1
    assert p == nearest(z, t)
    assert support_size(z, t) == sum(x > 0 for x in p)
    # No corner lies on that side of the plane at p on which z / T does.
    scaled = [x / t for x in z]
    away = [x - y for x, y in zip(scaled, p, strict=True)]
    assert all(inner(away, corner(len(z), i)) <= inner(away, p) for i in range(len(z)))
    if data is not None:
        q = data.draw(distributions(len(z)))
        assert squared(q, scaled) >= squared(p, scaled) + squared(p, q)


@pytest.mark.statement("sparsemax", "exact")
@given(logits(), temperatures())
@example(BORDER, F(1, 2))
def test_it_solves_the_problem(z: Law, t: Fraction) -> None:
    k = len(z)
    p = by_rule(z, t)

    def objective(q: Law) -> Any:
        return inner(q, z) - t * inner(q, q) / 2

    # Concave: what no small exchange between two classes improves, nothing improves.
    for i, j in combinations(range(k), 2):
        for a, b in ((i, j), (j, i)):
            step = [p[a] * F(1, 1000) * (int(n == b) - int(n == a)) for n in range(k)]
            assert objective([x + y for x, y in zip(p, step, strict=True)]) <= objective(p)
    # The level of these values: all kept, none above outside.
    rates = [x - t * y for x, y in zip(z, p, strict=True)]
    assert {r for r, y in zip(rates, p, strict=True) if y} == {max(rates)}


@pytest.mark.statement("sparsemax", "exact")
@given(logits(), temperatures())
@example([F(3), F(1), F(1)], F(2))
@example([F(3), F(1), F(1)], F(2) + F(1, 2**20))
def test_warm_enough_all_are_kept_on_a_straight_line(z: Law, t: Fraction) -> None:
    p = nearest(z, t)
    warm = total(x - min(z) for x in z) < t
    assert warm == (min(p) > 0)
    if warm:
        mean = total(z) / len(z)
        assert p == [F(1, len(z)) + (x - mean) / t for x in z]


@pytest.mark.statement("sparsemax", "exact", "torch")
@given(logits(2, 5), temperatures())
@example(EXAMPLE, F(1))
def test_the_jacobian_is_that_of_the_support(z: Law, t: Fraction) -> None:
    p = nearest(z, t)
    inside = [x > 0 for x in p]
    size = sum(inside)
    level = (total(x for x, kept in zip(z, inside, strict=True) if kept) / t - 1) / size
    # Inside a region: nobody at the border.
    assume(all(kept or x / t < level for x, kept in zip(z, inside, strict=True)))
    jacobian = [
        [(F(a and i == j) - F(a and b, size)) / t for j, b in enumerate(inside)]
        for i, a in enumerate(inside)
    ]
    # A step that nobody notices at the border: the map is a plane here, not nearly one.
    room = min(
        [x for x in p if x] + [level - x / t for x, a in zip(z, inside, strict=True) if not a]
    )
    h = room * t / 4
    for j in range(len(z)):
        moved = nearest([x + h * (i == j) for i, x in enumerate(z)], t)
        assert [(b - a) / h for a, b in zip(p, moved, strict=True)] == [r[j] for r in jacobian]
    found = torch.autograd.functional.jacobian(lambda x: sparsemax(x, float(t)), row(z))
    assert_within(found, row([x for r in jacobian for x in r]).reshape(found.shape), 8 * 2**-53 / t)


@pytest.mark.statement("sparsemax", "exact")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@given(logits(1, 8), temperatures())
@example(EXAMPLE, F(1))
@example([F(7)], F(2**20))
@example(BORDER, F(1, 2))
@example(BORDER, F(5, 4))
def test_sparsemax_is_this_rule(dtype: torch.dtype, z: Law, t: Fraction) -> None:
    p = sparsemax(row(z, dtype), float(t))
    expected = by_rule(z, t)
    assert_within(p, expected, rounding(len(z), 2.0, unit(dtype)))
    if t.numerator == 1 or t == F(2**20):
        # Halves of quarters, divided by a power of 2, are exact: so is what is kept.
        assert [x > 0 for x in p.tolist()] == [x > 0 for x in expected]


@pytest.mark.statement("sparsemax", "exact")
@given(logits(2, 2), temperatures())
@example([F(7), F(0)], F(8))
def test_of_two_classes_it_is_a_ramp(z: Law, t: Fraction) -> None:
    ramp = min(max((1 + (z[0] - z[1]) / t) / 2, F(0)), F(1))
    assert by_rule(z, t) == [ramp, 1 - ramp]
    assert_within(sparsemax(row(z), float(t)), [ramp, 1 - ramp], 8 * 2**-53)
