"""The theorem `entmax`: Powers above a threshold."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from mpmath import mp

from omnivault.entmax import entmax
from tests.chapters.one_problem.common import distributions, temperatures
from tests.chapters.one_problem.separable import (
    ENTROPY,
    ZERO,
    Law,
    exact,
    logits,
    nearest,
    of_order,
    rounding,
    row,
)
from tests.support.strategies import assert_within, number, unit

F = Fraction
ALPHAS = [F(9, 8), F(3, 2), F(2), F(3)]
every_alpha = pytest.mark.parametrize("alpha", ALPHAS, ids=str)
SMALL = mp.mpf(10) ** -15
"""A threshold of up to 10^4 has 45 digits left, and the root of what is near it half of these."""


def threshold(z: Law, alpha: Fraction, t: Any) -> Any:
    """The tau of the theorem, by halving; 1 below the largest all is too much, at it too little."""
    a = number(alpha) - 1
    u = [a * exact(x) / exact(t) for x in z]
    low, high = max(u) - 1, max(u)
    for _ in range(160):
        tau = (low + high) / 2
        rest = mp.fsum(max(x - tau, 0) ** (1 / a) for x in u)
        low, high = (tau, high) if rest >= 1 else (low, tau)
    return low


def by_formula(z: Law, alpha: Fraction, t: Any) -> list[Any]:
    a, tau = number(alpha) - 1, threshold(z, alpha, t)
    return [max(a * exact(x) / exact(t) - tau, mp.mpf(0)) ** (1 / a) for x in z]


@pytest.mark.statement("entmax", "exact")
@every_alpha
@given(logits(), temperatures(), st.data())
def test_the_formula_solves_the_problem(
    alpha: Fraction, z: Law, t: Fraction, data: st.DataObject
) -> None:
    omega, p = of_order(alpha), by_formula(z, alpha, t)
    assert_within(mp.fsum(p), 1, SMALL)
    assert_within(p, omega.solution(z, t), SMALL)
    q = data.draw(distributions(len(z)))
    slack = SMALL * max(1, exact(t))
    assert omega.objective(z, t, q) <= omega.objective(z, t, p) + slack
    # The slopes of what is kept are level, and where nothing is kept they are not above.
    rates = [exact(x) - exact(t) * omega.slope_at(y) for x, y in zip(z, p, strict=True)]
    kept = [r for r, y in zip(rates, p, strict=True) if y > SMALL]
    assert max(kept) - min(kept) <= slack
    assert max(rates) <= max(kept) + slack


@pytest.mark.statement("entmax", "exact")
@every_alpha
@given(logits(), temperatures())
@example([F(0), F(0), F(0)], F(1))
@example([F(12), F(0)], F(1))
@example([F(3)], F(1, 2**10))
def test_where_the_threshold_lies(alpha: Fraction, z: Law, t: Fraction) -> None:
    a = number(alpha) - 1
    best = a * exact(max(z)) / exact(t)
    low, high = best - 1, best - mp.mpf(len(z)) ** -a
    size = max(1, abs(best))
    tau = threshold(z, alpha, t)
    assert low - ZERO * size <= tau <= high + ZERO * size
    # Both ends are reached: by a corner, and by a tie of all.
    assert_within(threshold([0, -100 * t], alpha, t), -1, ZERO)
    assert_within(threshold([0] * len(z), alpha, t), -(mp.mpf(len(z)) ** -a), ZERO)


# By hand: probabilities whose roots of this power are fractions, and the logits they come from.
ROOTS: list[tuple[Fraction, int, list[Fraction]]] = [
    (F(3, 2), 2, [F(3, 5), F(4, 5)]),
    (F(3, 2), 2, [F(2, 7), F(3, 7), F(6, 7)]),
    (F(3, 2), 2, [F(1, 2)] * 4),
    (F(3, 2), 2, [F(1)]),
    (F(4, 3), 3, [F(3, 6), F(4, 6), F(5, 6)]),
    (F(5, 4), 4, [F(30, 353), F(120, 353), F(272, 353), F(315, 353)]),
    (F(2), 1, [F(1, 6), F(2, 6), F(3, 6)]),
]


@pytest.mark.statement("entmax", "exact")
@pytest.mark.parametrize(("alpha", "power", "roots"), ROOTS)
@pytest.mark.parametrize("t", [F(1), F(1, 4), F(3)])
@pytest.mark.parametrize("below", [[], [F(0)], [F(1, 100), F(2)]])
def test_probabilities_in_fractions(
    alpha: Fraction, power: int, roots: list[Fraction], t: Fraction, below: list[Fraction]
) -> None:
    p = [r**power for r in roots]
    assert sum(p) == 1
    # (alpha - 1) z / T = tau + root, with a tau of 5, and what is not above 5 has nothing.
    z = [(5 + r) * t / (alpha - 1) for r in roots] + [(5 - x) * t / (alpha - 1) for x in below]
    p = p + [F(0)] * len(below)
    assert_within(by_formula(z, alpha, t), p, SMALL)
    # z is rounded, by up to 2^-53 of 6, in the units of T / (alpha - 1).
    found = entmax(row(z), float(alpha), float(t))
    assert_within(
        found, p, rounding(len(z), float(alpha), 2**-53) + 2 * len(z) * power * 6 * 2**-53
    )


@pytest.mark.statement("entmax", "exact")
@every_alpha
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@given(logits(), temperatures())
@example([F(7)], F(1, 2**10))
@example([F(1), F(1), F(0)], F(2**20))
def test_entmax_is_this_formula(alpha: Fraction, dtype: torch.dtype, z: Law, t: Fraction) -> None:
    p = entmax(row(z, dtype), float(alpha), float(t))
    assert_within(p, by_formula(z, alpha, t), rounding(len(z), float(alpha), unit(dtype)))


@pytest.mark.statement("entmax", "exact")
@every_alpha
@given(logits(2, 5), temperatures())
def test_the_order_of_what_is_kept_is_strict(alpha: Fraction, z: Law, t: Fraction) -> None:
    p = by_formula(z, alpha, t)
    found = entmax(row(z), float(alpha), float(t)).tolist()
    for i, x in enumerate(z):
        for j, y in enumerate(z):
            if x == y:
                assert p[i] == p[j]
                assert found[i] == found[j]
            elif x > y:
                assert p[i] > p[j] or p[i] <= SMALL
                assert found[i] >= found[j]


@pytest.mark.statement("entmax", "exact")
@given(logits(), st.sampled_from([F(1, 2), F(1), F(3)]))
@example([F(2), F(0), F(-1)], F(1, 2))
def test_near_alpha_1_it_is_nearly_softmax(z: Law, t: Fraction) -> None:
    limit = ENTROPY.solution(z, t)
    off = []
    for digits in (2, 4, 6, 8):
        p = by_formula(z, 1 + F(1, 10**digits), t)
        off.append(max(abs(x - y) for x, y in zip(p, limit, strict=True)))
    # Of first order: log p changes by up to x^2 / 2 for an x of 12 at most, and by as much again.
    assert all(x <= 150 * mp.mpf(10) ** -d for x, d in zip(off, (2, 4, 6, 8), strict=True))
    found = entmax(row(z), 1 + 1e-8, float(t))
    assert_within(found, limit, 150 * 1e-8)


def by_sorting(z: Law, t: Any) -> list[Any]:
    """Of alpha = 3/2: a threshold from the mean and the squares of the k largest."""
    u = [x / (2 * t) for x in z]
    ranked = sorted(u, reverse=True)
    k = max(
        n for n in range(1, len(u) + 1) if sum((x - ranked[n - 1]) ** 2 for x in ranked[:n]) < 1
    )
    mean = sum(ranked[:k]) / k
    spread = sum((x - mean) ** 2 for x in ranked[:k])
    tau = exact(mean) - mp.sqrt(exact((1 - spread) / k))
    return [max(exact(x) - tau, 0) ** 2 for x in u]


@pytest.mark.statement("entmax", "exact")
@given(logits(), temperatures())
@example([F(2), F(0)], F(1))
def test_of_order_three_halves_sorting_is_enough(z: Law, t: Fraction) -> None:
    p = by_sorting(z, t)
    assert_within(p, by_formula(z, F(3, 2), t), SMALL)
    assert_within(entmax(row(z), 1.5, float(t)), p, rounding(len(z), 1.5, 2**-53))


@pytest.mark.statement("entmax", "exact")
@given(logits(), temperatures())
def test_of_order_two_it_is_the_nearest_distribution(z: Law, t: Fraction) -> None:
    p = nearest(z, t)
    assert_within(by_formula(z, F(2), t), p, SMALL)
    assert_within(entmax(row(z), 2.0, float(t)), p, rounding(len(z), 2.0, 2**-53))


def kept(z: Law, power: int, t: Fraction) -> set[int]:
    """Of alpha = 1 + 1/power, in fractions: those below which there is no 1 yet."""
    a = F(1, power)
    return {j for j, y in enumerate(z) if sum((a * (x - y) / t) ** power for x in z if x > y) < 1}


@pytest.mark.statement("entmax", "exact")
@given(logits(), temperatures())
@example([F(2), F(0), F(0)], F(1))
@example([F(1), F(1, 2), F(1, 2), F(1, 4)], F(5, 4))
def test_what_is_kept_and_that_a_larger_alpha_keeps_no_more(z: Law, t: Fraction) -> None:
    sets = [kept(z, power, t) for power in (1, 2, 3, 4, 8)]
    assert all(larger <= smaller for larger, smaller in itertools.pairwise(sets))
    assert sets[0] == {i for i, x in enumerate(nearest(z, t)) if x}
    for power, inside in zip((1, 2, 3, 4, 8), sets, strict=True):
        p = by_formula(z, 1 + F(1, power), t)
        tau = threshold(z, 1 + F(1, power), t)
        above = {i for i, x in enumerate(z) if exact(x) / power / exact(t) - tau > ZERO}
        assert above <= inside
        assert all(p[i] > 0 for i in inside)
