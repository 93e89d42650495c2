"""The definition `exponential-family`: Exponential family."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp

from omnivault.distributions import Multinomial
from tests.chapters.bernoulli_family.common import (
    EXACT,
    Family,
    U,
    Vector,
    at,
    families,
    parameters,
)
from tests.support.strategies import as_double, assert_within, double, inner


@pytest.mark.statement("exponential-family", "exact")
@given(families(), st.data())
def test_the_log_partition_is_the_only_constant_that_makes_probabilities(
    family: Family, data: st.DataObject
) -> None:
    k = data.draw(parameters(family))
    eta, a = at(k), family.log_partition(*at(k))
    terms = [(h, inner(eta, t)) for h, t in zip(family.h, family.t, strict=True)]
    law = [h * mp.exp(x - a) for h, x in terms]
    assert all(0 < p <= 1 for p in law)
    assert_within(law, family.law(k), EXACT)
    for shift in (-0.5, 0.01):
        assert abs(mp.fsum(h * mp.exp(x - a + shift) for h, x in terms) - 1) > 0.009
    # A constant factor of the base, or one constant in all t(y), is no other family.
    doubled = family._replace(h=tuple(3 * h for h in family.h))
    moved = family._replace(t=tuple(tuple(x + 1 for x in t) for t in family.t))
    assert family.law(k) == doubled.law(k) == moved.law(k)
    assert_within(doubled.log_partition(*eta), a + mp.log(3), EXACT)
    assert_within(moved.log_partition(*eta), a + sum(eta), EXACT)
    assert family.free_directions() == moved.free_directions()


@pytest.mark.statement("exponential-family", "exact")
@pytest.mark.parametrize("eta", [-1e5, -700.0, 0.0, 700.0, 1e5])
def test_with_finitely_many_outcomes_it_is_finite_everywhere(eta: float) -> None:
    a = Family((1, 2, 1), ((0,), (1,), (2,))).log_partition(mp.mpf(eta))
    assert mp.isfinite(a)
    assert_within(a, 2 * mp.log1p(mp.exp(eta)), EXACT * max(1, abs(eta)))  # two coins
    # A logarithm to 8 u, of a sum of two; a term that adds nothing to 1 may be left out, or kept.
    of_package = Multinomial.log_partition(2, double([eta]), minimal=True)
    assert_within(of_package, a, 2 * U, rel=16 * U)


@pytest.mark.statement("exponential-family", "exact")
@pytest.mark.parametrize("k", [(0, 0, 0), (1, -2, 1), (3, 0, -1)])
def test_counts_of_three_draws_have_the_number_of_orders_as_their_base(k: Vector) -> None:
    counts = tuple(c for c in product(range(4), repeat=3) if sum(c) == 3)
    orders = [math.factorial(3) // math.prod(map(math.factorial, c)) for c in counts]
    family = Family(tuple(orders), counts)
    p = family.law(k)
    rolls = Multinomial.from_natural(3, double([float(x) for x in at(k)]))
    # exp of factorials up to log 6 and of three log p, off by a dozen u in all and 30 u each.
    assert_within(rolls.pmf(torch.tensor(counts)), as_double(p), 128 * U)
    assert p != family._replace(h=(1,) * len(counts)).law(k)  # the base matters


@pytest.mark.statement("exponential-family", "exact")
@pytest.mark.parametrize(
    ("t", "free"),
    [
        pytest.param(((0,), (1,)), [], id="a coin"),
        pytest.param(((0,), (0,), (1,)), [], id="outcomes that look alike"),
        pytest.param(((5,), (5,)), [(1,)], id="a constant statistic"),
        pytest.param(((0, 1), (1, 0)), [(1, 1)], id="both faces of a coin"),
        pytest.param(((0, 0), (1, 1)), [(-1, 1)], id="a square of 0 or 1"),
        pytest.param(((0, 0), (1, 1), (2, 4)), [], id="a square of 0, 1 or 2"),
        pytest.param(((0, 0), (1, 2), (2, 4)), [(-2, 1)], id="twice the same"),
    ],
)
def test_minimal_and_overcomplete(t: tuple[Vector, ...], free: list[Vector]) -> None:
    family = Family((1,) * len(t), t)
    assert family.free_directions() == free
    small = product(range(-4, 5), repeat=len(t[0]))
    constant = [a for a in small if any(a) and family.is_constant(a)]
    assert bool(constant) == bool(free)
    assert family.is_constant((0,) * len(t[0]))
