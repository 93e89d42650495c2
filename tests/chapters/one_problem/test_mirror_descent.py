"""The theorem `mirror-descent`: A step of training is a regularized maximum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp

from omnivault.information import kl_divergence
from omnivault.softmax import softmax
from tests.chapters.one_problem.common import (
    ZERO,
    Law,
    U,
    corner,
    distributions,
    logits,
    pairs,
    temperatures,
    tensor,
)
from tests.support.strategies import assert_within, exact_softmax, inner, number, softmax_bound


def decimals(values: Law) -> list[Any]:
    return [number(x) for x in values]


def divergence(p: Law, q: Law) -> Any:
    return mp.fsum(a * mp.log(a / b) for a, b in zip(p, q, strict=True) if a)


def multiplied(p: Law, g: Law, t: Any) -> list[Any]:
    """p_i e^(-g_i / T), divided by their sum."""
    weights = [a * mp.exp((min(g) - x) / t) for a, x in zip(p, g, strict=True)]
    return [w / mp.fsum(weights) for w in weights]


def positive(k: int) -> st.SearchStrategy[list[Fraction]]:
    weights = st.lists(st.integers(1, 40), min_size=k, max_size=k)
    return weights.map(lambda several: [Fraction(w, sum(several)) for w in several])


@st.composite
def starts(draw: st.DrawFn) -> tuple[Law, Law]:
    """A distribution without zeros, and a gradient."""
    g = draw(logits())
    return draw(positive(len(g))), g


# One step -----------------------------------------------------------------------------------------


@pytest.mark.statement("mirror-descent", "exact")
@given(starts(), temperatures(), st.data())
def test_the_step_alone_has_the_least_cost(
    start: tuple[Law, Law], temperature: Fraction, data: st.DataObject
) -> None:
    p, g = map(decimals, start)
    t = number(temperature)
    after = multiplied(p, g, t)
    other = decimals(data.draw(distributions(len(p))))
    cost, least = (inner(g, q) + t * divergence(q, p) for q in (other, after))
    assert_within(cost - least, t * divergence(other, after), ZERO * max(t, 1))
    assert cost >= least - ZERO * max(t, 1)


@pytest.mark.statement("mirror-descent", "exact")
@given(pairs(1, 6), temperatures(), st.data())
def test_in_the_logits_the_step_is_a_subtraction(
    both: tuple[Law, Law], t: Fraction, data: st.DataObject
) -> None:
    z, g = (tensor(x) for x in both)
    moved = z - g / float(t)
    after = softmax(moved)
    expected = multiplied(exact_softmax(z), decimals(both[1]), number(t))
    # Two roundings of the logits before softmax, which moves by no more than its logits do.
    errors = softmax_bound(moved) + 2 * U * float(moved.abs().max() + g.abs().max() / float(t))
    assert_within(after, expected, errors)
    p, other = softmax(z), tensor(data.draw(distributions(len(z))))
    cost, least = (q @ g + float(t) * kl_divergence(q, p) for q in (other, after))
    # The slope of the cost is |g| + T (|log q / p| + 1), and log p is -24 or more.
    slack = float(errors.sum() + len(z) * U) * (float(g.abs().max()) + 64 * float(t))
    slack += float(t) * float(errors @ (1 - after.clamp(min=1e-300).log()))
    assert cost >= least - slack


LOSSES: list[Callable[[Sequence[Any]], Any]] = [
    lambda p: p[0],
    lambda p: sum(i * x**2 for i, x in enumerate(p, 1)) + p[0] * p[-1] ** 2,
    lambda p: sum((i + 2) * x**3 for i, x in enumerate(p)) - 2 * p[0] * p[-1],
]


@pytest.mark.statement("mirror-descent", "symbolic")
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("loss", range(len(LOSSES)))
def test_symbols_find_the_gradient_in_the_logits(k: int, loss: int) -> None:
    z, p = sp.symbols(f"z_0:{k}", real=True), sp.symbols(f"p_0:{k}", positive=True)
    value = sp.sympify(LOSSES[loss](p))
    g = sp.Matrix([sp.diff(value, x) for x in p])
    law = sp.Matrix(p)
    expected = (sp.diag(*p) - law * law.T) * g
    weights = sp.symbols(f"w_0:{k}", positive=True)
    shares = [sp.exp(x) / sum(sp.exp(y) for y in z) for x in z]
    inserted = dict(zip(p, shares, strict=True))
    plain = {sp.exp(x): w for x, w in zip(z, weights, strict=True)}
    for i, x in enumerate(z):
        by_logit = sp.diff(value.subs(inserted, simultaneous=True), x)
        rest = (by_logit - expected[i].subs(inserted, simultaneous=True)).subs(plain)
        assert sp.expand(sp.fraction(sp.together(rest))[0]) == 0


@pytest.mark.statement("mirror-descent", "exact", "torch")
@pytest.mark.parametrize("loss", LOSSES)
@given(z=logits(1, 6))
def test_autograd_finds_it_too(loss: Callable[[Sequence[Any]], Any], z: Law) -> None:
    row = tensor(z).requires_grad_()
    (by_logits,) = torch.autograd.grad(loss(list(softmax(row))), row)
    p = exact_softmax(row.detach())
    g = [
        mp.diff(lambda x, i=i: loss([*p[:i], x, *p[i + 1 :]]), p[i], h=mp.mpf(10) ** -16)
        for i in range(len(p))
    ]
    mean = inner(p, g)
    expected = [a * (x - mean) for a, x in zip(p, g, strict=True)]
    # Slopes up to 3 (K + 1), and second ones up to twice that, of six terms or fewer.
    errors = softmax_bound(row.detach())
    allowed = 64 * (len(z) + 1) * (errors.max() + errors + len(z) * U)
    assert_within(by_logits, expected, allowed)


@pytest.mark.statement("mirror-descent", "exact")
@given(starts(), temperatures())
def test_the_step_is_the_natural_gradient_but_for_a_constant(
    start: tuple[Law, Law], temperature: Fraction
) -> None:
    shares, g = start
    k = len(g)
    p = sp.Matrix([sp.Rational(x.numerator, x.denominator) for x in shares])
    slope = sp.Matrix([sp.Rational(x.numerator, x.denominator) for x in g])
    fisher = sp.diag(*p) - p * p.T
    centered = sp.eye(k) - sp.ones(k, k) / k
    # The four conditions of Penrose say that this is the pseudoinverse.
    inverse = centered * sp.diag(*[1 / x for x in p]) * centered
    assert fisher * inverse * fisher == fisher
    assert inverse * fisher * inverse == inverse
    assert fisher * inverse == (fisher * inverse).T
    assert inverse * fisher == (inverse * fisher).T
    natural = inverse * fisher * slope
    assert natural == slope - sp.ones(k, 1) * sum(slope) / k
    t = number(temperature)
    step = [mp.log(number(a)) - mp.mpf(x.p) / x.q / t for a, x in zip(shares, natural, strict=True)]
    weights = [mp.exp(x - max(step)) for x in step]
    after = multiplied(decimals(shares), decimals(g), t)
    assert_within([w / mp.fsum(weights) for w in weights], after, ZERO)


# Many steps ---------------------------------------------------------------------------------------


def against(p: Law) -> list[Any]:
    """A gradient that an adversary picks: the most probable costs 1."""
    return [mp.mpf(int(x == max(p))) for x in p]


def gradients() -> st.SearchStrategy[list[Law]]:
    return st.integers(1, 4).flatmap(lambda k: st.lists(logits(k, k), min_size=1, max_size=8))


def walk(several: Sequence[Law | None], k: int, t: Any) -> tuple[list[Law], list[Law]]:
    """Distributions p_1 to p_(N+1) and gradients; for none the adversary picks."""
    laws: list[Law] = [[mp.mpf(1) / k] * k]
    gs: list[Law] = []
    for g in several:
        gs.append(against(laws[-1]) if g is None else decimals(g))
        laws.append(multiplied(laws[-1], gs[-1], t))
    return laws, gs


def reach(gs: Sequence[Law]) -> Any:
    return max(max(g) - min(g) for g in gs)


def regret(laws: Sequence[Law], gs: Sequence[Law], p: Law) -> Any:
    return mp.fsum(inner(g, q) - inner(g, p) for g, q in zip(gs, laws[:-1], strict=True))


def most_regret(k: int, n: int, r: Any, t: Any) -> Any:
    return t * mp.log(k) + n * r**2 / (8 * t)


@pytest.mark.statement("mirror-descent", "exact")
@given(gradients(), temperatures(), st.data())
def test_each_regret_is_a_difference_of_divergences(
    several: list[Law], temperature: Fraction, data: st.DataObject
) -> None:
    k, t = len(several[0]), number(temperature)
    p = decimals(data.draw(distributions(k)))
    laws, gs = walk(several, k, t)
    for g, (q, after) in zip(gs, pairwise(laws), strict=True):
        step = divergence(p, q) - divergence(p, after) + divergence(q, after)
        assert_within(inner(g, q) - inner(g, p), t * step, ZERO * max(t, 1))
        # The last is of the lemma of Hoeffding.
        assert divergence(q, after) <= (max(g) - min(g)) ** 2 / (8 * t**2) + ZERO


@pytest.mark.statement("mirror-descent", "exact")
@given(
    gradients() | st.integers(1, 30).map(lambda n: [None] * n), st.integers(2, 4), temperatures()
)
def test_no_sequence_makes_regret_larger_than_its_bound(
    several: Sequence[Law | None], k: int, temperature: Fraction
) -> None:
    k, t = len(several[0]) if several[0] else k, number(temperature)
    laws, gs = walk(several, k, t)
    bound = most_regret(k, len(gs), reach(gs), t)
    # Regret is linear in p: a corner is the hardest to beat.
    for i in range(k):
        assert regret(laws, gs, decimals(corner(k, i))) <= bound + ZERO * max(t, 1)


@pytest.mark.statement("mirror-descent", "exact")
@pytest.mark.parametrize("k", [2, 3, 10])
@pytest.mark.parametrize("n", [1, 7, 100])
@pytest.mark.parametrize("r", [Fraction(1, 3), 5])
def test_the_best_temperature_leaves_a_root_of_the_steps(k: int, n: int, r: Any) -> None:
    r = number(Fraction(r))
    t = r * mp.sqrt(n / (8 * mp.log(k)))
    bound = r * mp.sqrt(n * mp.log(k) / 2)
    assert_within(most_regret(k, n, r, t), bound, ZERO)
    for other in (t * 0.99, t * 1.01):
        assert most_regret(k, n, r, other) > bound
    laws: list[Law] = [[mp.mpf(1) / k] * k]
    gs: list[Law] = []
    for _ in range(n):
        gs.append([r * x for x in against(laws[-1])])
        laws.append(multiplied(laws[-1], gs[-1], t))
    for i in range(k):
        assert regret(laws, gs, corner(k, i)) <= bound


@pytest.mark.statement("mirror-descent", "exact")
def test_the_eighth_is_reached_by_a_small_step_from_the_middle() -> None:
    for t in (2**6, 2**12):
        laws, gs = walk([[Fraction(0), Fraction(1)]], 2, mp.mpf(t))
        # With x = 1 / (2 T) the divergence is log cosh x, above x^2 / 2 - x^4 / 12.
        below = most_regret(1, 1, reach(gs), mp.mpf(t)) / t - (mp.mpf(1) / (2 * t)) ** 4 / 12
        assert divergence(*laws) >= below


@pytest.mark.statement("mirror-descent")
@settings(max_examples=50)
@given(gradients(), temperatures(), st.data())
def test_float64_keeps_the_account(
    several: list[Law], temperature: Fraction, data: st.DataObject
) -> None:
    # At 1/8 or more no probability is below exp(-384).
    k, t = len(several[0]), max(float(temperature), 0.125)
    p = tensor(data.draw(distributions(k)))
    gone = torch.zeros(k, dtype=torch.float64)
    laws = [softmax(gone)]
    for g in several:
        gone = gone + tensor(g)
        laws.append(softmax(-gone, temperature=t))
    for g, (q, after) in zip(several, pairwise(laws), strict=True):
        step = kl_divergence(p, q) - kl_divergence(p, after) + kl_divergence(q, after)
        # Each log p has an error of 3 u |gone| / T and some, once for each of the divergences.
        allowed = 6 * t * U * (20 * float(gone.abs().max()) / t + 64)
        assert_within((q - p) @ tensor(g), t * step, allowed + 64 * U * 6)
