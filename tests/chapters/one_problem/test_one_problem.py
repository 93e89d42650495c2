"""The definition `one-problem`: One problem."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp

from omnivault.entmax import entmax
from omnivault.softmax import logsumexp
from tests.chapters.one_problem.common import (
    ORDERS,
    OURS,
    REGULARIZERS,
    ZERO,
    Law,
    Problem,
    distributions,
    half_square,
    logits,
    negative_entropy,
    of_order,
    ours,
    rounding,
    temperatures,
    tensor,
)
from tests.support.strategies import assert_within, logsumexp_bound


@pytest.mark.statement("one-problem", "exact")
@pytest.mark.parametrize("name", REGULARIZERS)
@given(logits(), temperatures(), st.data())
def test_no_distribution_does_better(name: str, z: Law, t: Fraction, data: st.DataObject) -> None:
    problem = Problem(name, z, t)
    for p in problem.solutions:
        assert min(p) >= 0
        assert_within(sum(p), 1, problem.zero)
        assert_within(problem.objective(p), problem.value, problem.zero)
    other = data.draw(distributions(len(z)))
    assert problem.objective(other) <= problem.value + problem.zero


@pytest.mark.statement("one-problem", "exact")
@given(logits(), temperatures())
def test_its_value_is_the_smooth_or_the_plain_maximum(z: Law, t: Fraction) -> None:
    smooth = Problem("entropy", z, t)
    weights = [mp.exp((x - max(smooth.z)) / smooth.t) for x in smooth.z]
    expected = max(smooth.z) + smooth.t * mp.log(mp.fsum(weights))
    assert_within(smooth.value, expected, smooth.zero)
    row = tensor(z)
    bound = logsumexp_bound(row, float(t)).item()
    assert_within(logsumexp(row, temperature=float(t)), smooth.value, bound)
    assert Problem("nothing", z, t).value == max(z)


@pytest.mark.statement("one-problem", "exact")
@given(logits(), st.data())
def test_without_a_regularizer_all_on_the_largest_logits_solve_it(
    z: Law, data: st.DataObject
) -> None:
    problem = Problem("nothing", z)
    p = data.draw(distributions(len(z)))
    on_the_largest = all(x == max(z) for x, share in zip(z, p, strict=True) if share)
    assert (problem.objective(p) == problem.value) == on_the_largest
    assert len(problem.solutions) == z.count(max(z))


@pytest.mark.statement("one-problem", "exact")
@pytest.mark.parametrize("name", OURS)
@given(logits(1, 6), temperatures())
def test_softmax_sparsemax_and_entmax_solve_it(name: str, z: Law, t: Fraction) -> None:
    row = tensor(z)
    p = ours(name, row, t)
    assert_within(p, Problem(name, z, t).solution, rounding(name, row, t))
    ends = {1: "entropy", 2: "square"}
    for alpha, end in ends.items():
        assert_within(
            entmax(row, alpha, float(t)), Problem(end, z, t).solution, rounding(end, row, t)
        )


@pytest.mark.statement("one-problem", "symbolic")
@pytest.mark.parametrize("k", [1, 2, 3])
def test_entmax_of_order_two_is_sparsemax_and_of_order_one_softmax(k: int) -> None:
    alpha = sp.Symbol("alpha", positive=True)
    p: list[Any] = list(sp.symbols(f"p_1:{k}", positive=True))
    p.append(sp.Integer(1) - sum(p))
    regularizer = (sum(x**alpha for x in p) - 1) / (alpha * (alpha - 1))
    constant = regularizer.subs(alpha, 2) - sum(x**2 for x in p) / 2
    assert sp.expand(constant) == -sp.Rational(1, 2)
    # At alpha = 1 both parts of the fraction are 0: the limit is that of their slopes.
    slope = sp.diff(sum(x**alpha for x in p), alpha) / sp.diff(alpha * (alpha - 1), alpha)
    assert sp.simplify(slope.subs(alpha, 1) - sum(x * sp.log(x) for x in p)) == 0


@pytest.mark.statement("one-problem", "exact")
@given(st.integers(1, 5).flatmap(distributions))
def test_the_regularizers_of_entmax_join_the_two(p: Law) -> None:
    q = Problem("entropy", [Fraction(0)] * len(p)).exactly(p)
    assert_within(of_order(Fraction(2))(q), half_square(q) - mp.mpf(1) / 2, ZERO)
    # Of d = alpha - 1, p^alpha = p + d p log p + (d log p)^2 p / 2 and less, where p is below 1:
    # the squares add up to less than the largest p (log p)^2, 4 / e^2, for each.
    for d in (Fraction(1, 2**10), Fraction(1, 2**30)):
        near = mp.mpf(d.numerator) / d.denominator
        error = near * (abs(negative_entropy(q)) + len(p) * 2 / mp.e**2)
        assert_within(of_order(1 + d)(q), negative_entropy(q), error)
    costs = [REGULARIZERS[name].value(q) for name in ORDERS]
    # (p^alpha - p) / (alpha - 1) rises with alpha; so does it, over alpha, as none is positive.
    assert sorted(costs) == costs
