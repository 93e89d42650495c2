"""The theorem `p-less`: P-less of every order."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from tests.chapters.cuts.common import (
    ZERO,
    Law,
    Tokens,
    best,
    distributions,
    exact,
    heated,
    is_clear,
    kept,
    ours,
    reaches,
    renyi,
    row,
    shares,
)
from tests.support.strategies import exact_softmax, temperatures, whole_rows

F = Fraction
ORDERS = [F(1, 100), F(1, 4), F(1, 2), F(9, 10), F(1), F(3, 2), F(2), F(3), F(8), mp.inf]
finite_orders = st.sampled_from(ORDERS[:-1])


@pytest.mark.statement("p-less", "exact")
@given(distributions())
def test_the_cutoff_is_at_most_the_largest_and_rises_with_the_order(p: Law) -> None:
    cutoffs = [mp.exp(-renyi(p, order)) for order in ORDERS]
    assert all(reaches(above, below) for below, above in pairwise(cutoffs))
    assert reaches(max(p), cutoffs[-1])
    sets = [kept("p_less", p, order) for order in ORDERS]
    assert all(more >= fewer for more, fewer in pairwise(sets))
    assert sets[-1] == best(p)
    for order, inside in zip(ORDERS, sets, strict=True):
        assert inside
        if is_clear("p_less", p, order):
            assert ours("p_less", row(p), order) == inside


@pytest.mark.statement("p-less", "exact")
def test_of_six_five_four_three_and_one_three_two_or_one_are_kept() -> None:
    p = shares(6, 5, 4, 3, 1)
    sizes = [len(kept("p_less", p, order)) for order in ORDERS]
    assert sizes == [3, 3, 2, 2, 2, 2, 2, 2, 1, 1]
    assert [len(ours("p_less", row(p), order)) for order in ORDERS] == sizes


def excess(z: list[Any], i: int, order: Fraction, beta: Any) -> Any:
    """F of the proof, whose sign says whether token i is kept at T = 1 / beta."""
    a, result = exact(order), mp.mpf(0)
    for x in z:
        d = x - z[i]
        slope = (mp.exp(a * d * beta) - mp.exp(d * beta)) / (d * beta) if d else mp.mpf(0)
        result -= d * abs(slope)
    return result


@pytest.mark.statement("p-less", "exact")
@given(whole_rows(2, 6, bound=5), temperatures(0.3, 30.0), finite_orders)
def test_a_falling_function_of_one_over_t_says_what_is_kept(
    z: Tensor, t: float, order: Fraction
) -> None:
    assume(order != 1 and len(set(z.tolist())) > 1)
    numbers = [mp.mpf(x) for x in z.tolist()]
    inside = kept("p_less", exact_softmax(z, t), order)
    warmer = kept("p_less", exact_softmax(z, 1.1 * t), order)
    assert inside <= warmer
    for i in range(len(z)):
        here = excess(numbers, i, order, 1 / mp.mpf(t))
        assert (here >= 0) == (i in inside)
        assert excess(numbers, i, order, 1 / mp.mpf(1.1 * t)) > here


def above_mean(z: Tensor) -> Tokens:
    return {i for i, x in enumerate(z.tolist()) if x > F(int(z.sum()), len(z))}


@pytest.mark.statement("p-less", "exact")
@given(whole_rows(1, 6, bound=5), finite_orders)
def test_what_is_above_the_mean_comes_in_and_nothing_else(z: Tensor, order: Fraction) -> None:
    if len(set(z.tolist())) == 1:
        everything = set(range(len(z)))
        assert kept("p_less", exact_softmax(z), order) == ours("p_less", z, order) == everything
        return
    sets = [kept("p_less", exact_softmax(z, t), order) for t in (0.1, 1, 10, 100, 1e4, 1e6)]
    assert all(colder <= warmer for colder, warmer in pairwise(sets))
    # Means and whole numbers differ by a sixth or not at all: far more than 100 / T, for T = 1e4.
    assert sets[-1] == sets[-2] == above_mean(z)
    # A token at the mean lacks some z^2 / T^2 of the cutoff.
    assert ours("p_less", z / 1e4, order) == above_mean(z)


@pytest.mark.statement("p-less", "exact", "torch")
@given(whole_rows(1, 6, bound=5), temperatures(0.3, 30.0))
def test_order_one_keeps_those_that_do_not_gain_from_warming(z: Tensor, t: float) -> None:
    p = exact_softmax(z, t)
    mean = mp.fsum(a * mp.mpf(x) for a, x in zip(p, z.tolist(), strict=True))
    inside = {i for i, x in enumerate(z.tolist()) if x >= mean - ZERO}
    assert kept("p_less", p, 1) == inside
    slopes = torch.autograd.functional.jacobian(
        lambda t: (z / t).softmax(-1), torch.tensor(t, dtype=torch.float64)
    )
    for i, slope in enumerate(slopes.tolist()):
        # p (mean - z) / T^2, of numbers up to 10, each rounded a few times.
        if abs(p[i] * (mean - z[i].item())) / t**2 > 1e-9:
            assert (slope < 0) == (i in inside)
    if is_clear("p_less", p, F(1)):
        assert ours("p_less", z / t, 1) == inside


@pytest.mark.statement("p-less", "exact")
@given(distributions(), st.sampled_from([F(1, 3), F(2, 3), F(2), F(5)]), st.sampled_from(ORDERS))
def test_the_set_grows_beside_tokens_ruled_out_too(p: Law, t: Fraction, order: Any) -> None:
    cold, warm = sorted((F(1), t))
    colder, warmer = (kept("p_less", heated(p, s), order) for s in (cold, warm))
    assert colder <= warmer
    assert colder == warmer or order != mp.inf
    if is_clear("p_less", heated(p, warm), order):
        assert ours("p_less", row(p, float(warm)), order) == warmer
