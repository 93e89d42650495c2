"""The theorem `conjugate-gradient`: The decoder is the gradient of its value."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp

from omnivault.softmax import logsumexp
from tests.chapters.one_problem.common import (
    ORDERS,
    OURS,
    REGULARIZERS,
    STRICT,
    ZERO,
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
from tests.support.strategies import assert_within, inner, number, softmax_bound


def minus(p: Law, q: Law) -> list[Any]:
    """The difference, to 50 digits."""
    differences = [x - y for x, y in zip(p, q, strict=True)]
    return [number(x) if isinstance(x, Fraction) else mp.mpf(x) for x in differences]


def most(v: Law) -> Any:
    return max(abs(x) for x in v)


def absolute(v: Law) -> Any:
    return mp.fsum(abs(x) for x in v)


def length(v: Law) -> Any:
    return mp.sqrt(mp.fsum(x * x for x in v))


Norm = Callable[[Law], Any]
# The regularizer, the norm and its dual, and mu.
STRONG: list[tuple[str, Norm, Norm, int]] = [
    ("entropy", absolute, most, 1),
    ("entropy", length, length, 2),
    ("square", length, length, 1),
    ("skewed", length, length, 1),
]
each_strong = pytest.mark.parametrize(
    ("name", "norm", "dual", "mu"), STRONG, ids=lambda x: getattr(x, "__name__", str(x))
)


def movement(name: str, v: Law, t: Any) -> Any:
    """How much <p, v> may move if the logits move by v."""
    if name == "entmax 3":
        # tau moves by no more than the (alpha - 1) z / T, and p is the root of their difference.
        return mp.sqrt(4 * most(v) / t) * absolute(v)
    return length(v) ** 2 / t  # mu is 1 or more


@pytest.mark.statement("conjugate-gradient", "exact")
@pytest.mark.parametrize("name", REGULARIZERS)
@given(pairs(), temperatures())
def test_every_maximizer_is_a_slope_from_below(
    name: str, both: tuple[Law, Law], t: Fraction
) -> None:
    here, there = (Problem(name, z, t) for z in both)
    step = [x - y for x, y in zip(there.z, here.z, strict=True)]
    for p in here.solutions:
        assert there.value >= here.value + inner(p, step) - here.zero


@pytest.mark.statement("conjugate-gradient", "exact")
@pytest.mark.parametrize("name", STRICT)
@given(pairs(), temperatures())
def test_the_slope_in_every_direction_is_that_of_the_maximizer(
    name: str, both: tuple[Law, Law], t: Fraction
) -> None:
    z, direction = both
    here = Problem(name, z, t)
    for h in (Fraction(1, 2**20), -Fraction(1, 2**30)):
        moved = [x + h * v for x, v in zip(z, direction, strict=True)]
        rise = Problem(name, moved, t).value - here.value
        step = minus(moved, z)
        slope = inner(minus(here.solution, [0] * len(z)), step)
        rise = minus([rise], [0])[0]
        assert_within(rise, slope, movement(name, step, number(t)) + ZERO**2 * 2**20)


@pytest.mark.statement("conjugate-gradient", "exact")
@given(temperatures())
def test_with_two_maximizers_there_is_a_kink(t: Fraction) -> None:
    # At a tie: the slopes to both sides are those of the two.
    for name, z in {
        "nothing": [Fraction(1), Fraction(1)],
        "largest": [t / 2, -t / 2],
    }.items():
        tied = Problem(name, z, t)
        slopes = []
        for h in (Fraction(-1, 2**30), Fraction(1, 2**30)):
            moved = Problem(name, [z[0] + h, z[1]], t)
            slopes.append((moved.value - tied.value) / h)
        assert slopes[0] < slopes[1]
        assert slopes == sorted(p[0] for p in tied.solutions)


@pytest.mark.statement("conjugate-gradient", "exact")
@each_strong
@given(st.integers(1, 4), st.data())
def test_the_regularizers_are_strongly_convex(
    name: str, norm: Norm, dual: Norm, mu: int, k: int, data: st.DataObject
) -> None:
    p, q = data.draw(distributions(k)), data.draw(distributions(k))
    a = Fraction(data.draw(st.integers(1, 15)), 16)
    problem = Problem(name, [Fraction(0)] * k)
    chord = mixture([[problem.cost(p)], [problem.cost(q)]], problem.exactly([a, 1 - a]))
    [bend] = minus(chord, [problem.cost(mixture([p, q], [a, 1 - a]))])
    least = mp.mpf(mu) / 2 * number(a * (1 - a)) * norm(minus(p, q)) ** 2
    assert bend >= least - ZERO
    if name == "square":
        assert_within(bend, least, ZERO)


@pytest.mark.statement("conjugate-gradient", "exact")
@pytest.mark.parametrize(("name", "norm", "dual", "mu"), STRONG[:3])
def test_no_larger_constant_of_convexity_will_do(
    name: str, norm: Norm, dual: Norm, mu: int
) -> None:
    problem, h = Problem(name, [Fraction(0)] * 2), Fraction(1, 2**10)
    p, q = ([Fraction(1, 2) + x, Fraction(1, 2) - x] for x in (h, -h))
    [bend] = minus([problem.cost(p)], [problem.cost([Fraction(1, 2)] * 2)])
    # With x = 2 h: (1 + x) log(1 + x) + (1 - x) log(1 - x) is below x^2 (1 + x^2 / 5).
    most_bend = mp.mpf(mu) / 8 * norm(minus(p, q)) ** 2 * (1 + number(4 * h * h) / 5)
    assert bend <= most_bend


@pytest.mark.statement("conjugate-gradient", "exact")
@each_strong
@given(pairs(), temperatures())
def test_no_step_is_longer_than_the_logits_move(
    name: str, norm: Norm, dual: Norm, mu: int, both: tuple[Law, Law], t: Fraction
) -> None:
    first, second = (Problem(name, z, t) for z in both)
    step = norm(minus(first.solution, second.solution))
    assert step <= dual(minus(*both)) / (number(t) * mu) + ZERO


@pytest.mark.statement("conjugate-gradient", "exact")
@given(st.fractions(0, 1), st.fractions(0, 1), st.integers(-20, 20), temperatures())
def test_sparsemax_of_two_attains_its_bound(a: Fraction, b: Fraction, c: int, t: Fraction) -> None:
    u, v = ([c + x * t / 2, c - x * t / 2] for x in (2 * a - 1, 2 * b - 1))
    p, q = (Problem("square", z, t).solution for z in (u, v))
    assert [x - y for x, y in zip(p, q, strict=True)] == [
        (x - y) / t for x, y in zip(u, v, strict=True)
    ]


@pytest.mark.statement("conjugate-gradient", "symbolic")
@pytest.mark.parametrize("k", [1, 2, 3])
def test_symbols_find_the_maximizer_as_a_gradient(k: int) -> None:
    t = sp.Symbol("T", positive=True)
    z = sp.symbols(f"z_0:{k}", real=True)
    weights = [sp.exp(x / t) for x in z]
    smooth = t * sp.log(sum(weights))
    # Where all are in the support of sparsemax, it is a line.
    line = [sp.Rational(1, k) + (x - sum(z) / k) / t for x in z]
    value = sum(p * x for p, x in zip(line, z, strict=True)) - t * sum(p**2 for p in line) / 2
    for i, x in enumerate(z):
        assert sp.simplify(sp.diff(smooth, x) - weights[i] / sum(weights)) == 0
        assert sp.expand(sp.diff(value, x) - line[i]) == 0


@pytest.mark.statement("conjugate-gradient", "exact", "torch")
@given(logits(1, 6), temperatures())
def test_autograd_finds_softmax_in_the_smooth_maximum(z: Law, t: Fraction) -> None:
    row = tensor(z).requires_grad_()
    (gradient,) = torch.autograd.grad(logsumexp(row, temperature=float(t)), row)
    allowed = 2 * softmax_bound(row.detach(), float(t))
    assert_within(gradient, Problem("entropy", z, t).solution, allowed)


@pytest.mark.statement("conjugate-gradient", "exact", "torch")
@pytest.mark.parametrize("name", [name for name in OURS if name not in ("entropy", "entmax 3")])
@given(logits(1, 6), temperatures())
def test_autograd_finds_sparsemax_and_entmax_in_their_values(
    name: str, z: Law, t: Fraction
) -> None:
    row, alpha = tensor(z).requires_grad_(), float(ORDERS.get(name, Fraction(2)))
    p = ours(name, row, t)
    value = p @ row - float(t) * (p**alpha).sum() / (alpha * (alpha - 1))
    (gradient,) = torch.autograd.grad(value, row)
    # Through p nothing moves: on the support z - T p^(alpha - 1) / (alpha - 1) is one level. What
    # rounding leaves of that is multiplied by slopes p^(2 - alpha) / T, none above 1 / T.
    size = float(row.detach().abs().max()) + float(t) / (alpha - 1)
    leftover = len(z) * (16 * U * size / float(t) + rounding(name, row, t) / (alpha - 1))
    assert_within(gradient, Problem(name, z, t).solution, rounding(name, row, t) + leftover)


@pytest.mark.statement("conjugate-gradient")
@settings(max_examples=50)
@given(pairs(1, 6), temperatures())
def test_softmax_and_sparsemax_take_no_longer_steps_in_float64(
    both: tuple[Law, Law], t: Fraction
) -> None:
    u, v = (tensor(z) for z in both)
    for name, order, dual, mu in (
        ("entropy", 1, torch.inf, 1),
        ("entropy", 2, 2, 2),
        ("square", 2, 2, 1),
    ):
        step = (ours(name, u, t) - ours(name, v, t)).norm(p=order)
        errors = rounding(name, u, t) + rounding(name, v, t)
        bound = (u - v).norm(p=dual) / (float(t) * mu)
        assert step <= bound * (1 + 16 * U) + errors.sum() * (1 + 16 * U)
