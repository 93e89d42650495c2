"""The theorem `z-loss`: What z-loss pins."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from tests.chapters.cross_entropy_kl.common import (
    NOTHING,
    Row,
    U,
    charge,
    divergence,
    log,
    mp_log_softmax,
    simplex,
)
from tests.support.strategies import (
    as_double,
    assert_within,
    logsumexp_bound,
    number,
    rows,
    shares,
    softmax_bound,
    whole_rows,
)

STRENGTHS = [Fraction(1, 10**4), Fraction(1, 2), Fraction(3)]
on_strengths = pytest.mark.parametrize("strength", STRENGTHS, ids=str)
inside = st.lists(st.integers(1, 10**6), min_size=1, max_size=5).map(lambda w: shares(*w))


def lse(z: Sequence[Any]) -> Any:
    return mp.log(mp.fsum(mp.exp(x) for x in z))


def plain_loss(z: Sequence[Any], y: Row) -> Any:
    return lse(z) - mp.fdot(z, map(number, y))


def loss(z: Sequence[Any], y: Row, strength: Fraction) -> Any:
    return plain_loss(z, y) + number(strength) * lse(z) ** 2


def stated_gradient(z: Sequence[Any], y: Row, strength: Fraction) -> list[Any]:
    level = lse(z)
    p = [mp.exp(x) for x in mp_log_softmax(z)]
    pull = 2 * number(strength) * level
    return [a - number(b) + pull * a for a, b in zip(p, y, strict=True)]


def exactly(z: Tensor) -> list[Any]:
    return [mp.mpf(x) for x in z.tolist()]


@pytest.mark.statement("z-loss", "exact", "torch")
@on_strengths
@settings(max_examples=50)
@given(rows(1, 6), st.data())
def test_the_gradient_and_its_sum(strength: Fraction, z: Tensor, data: st.DataObject) -> None:
    y = data.draw(simplex(len(z)))
    stated = stated_gradient(exactly(z), y, strength)
    assert_within(mp.fsum(stated), 2 * number(strength) * lse(exactly(z)), NOTHING)
    z.requires_grad_()
    level = z.logsumexp(0)
    target = as_double([number(b) for b in y])
    value = level - z @ target + float(strength) * level**2
    (found,) = torch.autograd.grad(value, z)
    # p with two factors, one of them with the error of LSE; and a few roundings of the sum.
    z, level = z.detach(), level.detach().abs()
    pull = 2 * float(strength)
    bound = (1 + pull * level) * softmax_bound(z) + pull * z.softmax(0) * logsumexp_bound(z)
    bound = bound + 8 * U * (z.softmax(0) * (1 + pull * level) + target)
    assert_within(found, as_double(stated), 2 * bound)


@pytest.mark.statement("z-loss", "exact")
@settings(max_examples=50)
@given(rows(1, 6), st.fractions(-100, 100), st.data())
def test_cross_entropy_leaves_the_level_and_its_descent_the_mean(
    z: Tensor, c: Fraction, data: st.DataObject
) -> None:
    y = data.draw(simplex(len(z)))
    here = exactly(z)
    moved = [x + number(c) for x in here]
    scale = 1 + max(abs(x) for x in (*here, *moved))
    assert_within(plain_loss(moved, y), plain_loss(here, y), scale * NOTHING)
    gradient = stated_gradient(here, y, Fraction(0))
    after = [x - number(c) * g for x, g in zip(here, gradient, strict=True)]
    assert_within(mp.fsum(after), mp.fsum(here), 1000 * scale * NOTHING)
    # The loss that is charged for the level changes with it.
    by = number(STRENGTHS[1]) * (lse(moved) ** 2 - lse(here) ** 2)
    difference = loss(moved, y, STRENGTHS[1]) - loss(here, y, STRENGTHS[1])
    assert_within(difference, by, scale**2 * NOTHING)


@pytest.mark.statement("z-loss", "exact")
@on_strengths
@settings(max_examples=50)
@given(inside, st.data(), st.sampled_from([0, 6]))
def test_the_minimum_is_at_the_logarithms_and_nowhere_else(
    strength: Fraction, y: Row, data: st.DataObject, digits: int
) -> None:
    best = [log(b) for b in y]
    assert_within(lse(best), 0, NOTHING)
    assert_within(stated_gradient(best, y, strength), 0, NOTHING)
    assert_within(loss(best, y, strength), charge(y, y), NOTHING)
    step = data.draw(whole_rows(len(y), len(y), 2))
    other = [b + mp.mpf(s) / 10**digits for b, s in zip(best, step.tolist(), strict=True)]
    excess = loss(other, y, strength) - charge(y, y)
    gradient = stated_gradient(other, y, strength)
    assert excess > -NOTHING
    assert (excess < NOTHING) == (not step.any())
    assert (max(map(abs, gradient)) < NOTHING) == (not step.any())


@pytest.mark.statement("z-loss", "exact")
@on_strengths
@settings(max_examples=50)
@given(inside, st.integers(0, 5), st.integers(1, 12))
def test_with_a_zero_the_entropy_is_approached_and_not_reached(
    strength: Fraction, positive: Row, place: int, digits: int
) -> None:
    cut = min(place, len(positive))
    y = (*positive[:cut], Fraction(0), *positive[cut:])
    t = Fraction(1, 10**digits)
    near = tuple((1 - t) * b + t / len(y) for b in y)
    z = [log(b) for b in near]
    excess = loss(z, y, strength) - charge(y, y)
    assert_within(excess, divergence(y, near), NOTHING)
    assert 0 < excess <= -log(1 - t)
    # The class of probability 0 is still pushed down.
    gradient = stated_gradient(z, y, strength)
    assert_within(gradient[cut], number(t / len(y)), NOTHING)
    assert gradient[cut] > NOTHING
