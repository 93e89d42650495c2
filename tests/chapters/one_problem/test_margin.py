"""The theorem `margin`: The lead that takes everything."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mpmath import mp

from omnivault.entmax import entmax, sparsemax
from omnivault.softmax import softmax
from tests.chapters.one_problem.common import corner, distributions, temperatures
from tests.chapters.one_problem.separable import (
    POSITIVE,
    SPARSE,
    ZERO,
    Law,
    exact,
    logits,
    nearest,
    row,
)

LEADS = [Fraction(0), Fraction(1, 3), 1 - Fraction(1, 10**4), Fraction(1), Fraction(3, 2)]
"""Of the first logit, in margins."""


@pytest.mark.statement("margin", "exact")
@pytest.mark.parametrize("name", SPARSE)
@given(st.sampled_from(LEADS), temperatures(), st.integers(2, 4), st.data())
def test_nothing_is_better_than_the_corner_from_the_margin_on(
    name: str, lead: Fraction, t: Fraction, k: int, data: st.DataObject
) -> None:
    omega = SPARSE[name]
    z = [exact(lead) * omega.margin(t), *[mp.mpf(0)] * (k - 1)]
    best = omega.objective(z, t, corner(k, 0))
    if lead >= 1:
        p = data.draw(distributions(k))
        assert omega.objective(z, t, p) <= best + ZERO * t
    else:
        # Near enough to the corner it pays to leave it, towards any other.
        step = mp.mpf(10) ** -30
        p = [1 - step, *[mp.mpf(0)] * (k - 2), step]
        assert omega.objective(z, t, p) > best


@pytest.mark.statement("margin", "exact")
@pytest.mark.parametrize("name", SPARSE)
@given(logits(2, 4), temperatures(), st.sampled_from(LEADS))
@example([Fraction(0), Fraction(11, 4)], Fraction(7, 4), Fraction(1))
def test_the_solution_is_a_corner_from_the_margin_on(
    name: str, others: Law, t: Fraction, lead: Fraction
) -> None:
    omega = SPARSE[name]
    z = [exact(max(others)) + exact(lead) * omega.margin(t), *others]
    first, *rest = omega.solution(z, t)
    # A lead that lacks d of the margin leaves d^5 or so of the order 6/5. Of the order 3 it leaves
    # the root of d, and 50 digits of a logit of 4,000 lack 10^-46 of it.
    nothing = mp.mpf(10) ** -22
    assert max(rest) <= nothing if lead >= 1 else max(rest) > mp.mpf(10) ** -28
    assert abs(first + mp.fsum(rest) - 1) <= nothing


@pytest.mark.statement("margin", "exact")
@pytest.mark.parametrize("name", POSITIVE)
@given(logits(2, 4), temperatures())
@settings(max_examples=50)
def test_with_an_infinite_slope_at_0_everything_is_possible(name: str, z: Law, t: Fraction) -> None:
    omega = POSITIVE[name]
    p = omega.solution(z, t)
    assert min(p) > 0
    # The sum is rounded to 50 digits, and so is a large level.
    assert abs(mp.fsum(p) - 1) <= ZERO * max(1, 1 / exact(t))
    # It solves the problem: no corner, and so no distribution, lies in a direction that pays.
    rates = [exact(x) - exact(t) * omega.slope_at(a) for x, a in zip(z, p, strict=True)]
    assert max(rates) - min(rates) <= mp.mpf(10) ** -25


@pytest.mark.statement("margin", "exact")
@given(logits(2, 5), temperatures())
@example([Fraction(1), Fraction(0)], Fraction(1))
@example([Fraction(1), Fraction(1)], Fraction(1, 2**10))
def test_the_nearest_distribution_is_a_corner_from_a_lead_of_t_on(z: Law, t: Fraction) -> None:
    second, first = sorted(z)[-2:]
    assert (max(nearest(z, t)) == 1) == (first - second >= t)


@pytest.mark.statement("margin")
@pytest.mark.parametrize("alpha", [1.125, 1.25, 1.5, 2.0, 3.0, 5.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@given(logits(1, 4), st.integers(-10, 10), st.sampled_from([0.0, 0.5, 1 - 2**-9, 1.0, 1 + 2**-9]))
def test_sparsemax_and_entmax_have_this_margin(
    alpha: float, dtype: torch.dtype, others: Law, power: int, lead: float
) -> None:
    t = 2.0**power
    rest = [float(x - max(others)) for x in others]
    z = torch.tensor([lead * t / (alpha - 1), *rest], dtype=dtype)
    for p in [entmax(z, alpha, t)] + [sparsemax(z, t)] * (alpha == 2):
        # One that lacks 2^-9 of it may leave so little, 2^-72 for alpha = 9/8, that p_1 is 1 too.
        assert (p[1:] == 0).all() == (lead >= 1)
        assert p[0] == 1 or lead < 1


@pytest.mark.statement("margin", "exact")
@given(logits(2, 5), st.integers(-5, 20))
def test_softmax_gives_everything_to_none(z: Law, power: int) -> None:
    t = 2.0**power
    p = softmax(row(z), temperature=t)
    # Of gaps up to 6 / T, 192 here: exp(-192) is no underflow.
    assert (p > 0).all()
    assert min(POSITIVE["entropy"].solution(z, Fraction(t))) > 0
