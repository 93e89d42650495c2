"""The proposition `early-rounding`: Rounding before softmax."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.sampling import apply_temperature
from omnivault.softmax import softmax
from tests.chapters.production.common_rounding import every_dtype
from tests.support.strategies import (
    HALF,
    assert_within,
    double,
    exactly,
    nearest,
    number,
    shares,
    softmax_bound,
    total,
    unit,
)

BITS = {torch.float16: 11, torch.bfloat16: 8, torch.float32: 24, torch.float64: 53}


def moved(weights: Sequence[int], factors: Sequence[Fraction]) -> list[Fraction]:
    """By which factors the probabilities change if the weights do by these."""
    p = shares(*weights)
    new = [w * f for w, f in zip(weights, factors, strict=True)]
    return [x / total(new) / a for x, a in zip(new, p, strict=True)]


def largest_factor(p: Fraction, q: Fraction) -> Fraction:
    """Of a probability p, if logits move by no more than log q."""
    return q**2 / (1 + p * (q**2 - 1))


@pytest.mark.statement("early-rounding", "exact")
@given(
    st.lists(st.integers(1, 20) | st.just(10**6), min_size=1, max_size=5),
    st.fractions(1, 10, max_denominator=50) | st.just(1 + Fraction(1, 10**9)),
)
def test_no_corner_moves_a_probability_by_more(weights: list[int], q: Fraction) -> None:
    p = shares(*weights)
    corners = itertools.product([1 / q, Fraction(1), q], repeat=len(p))
    changes = [moved(weights, factors) for factors in corners]
    if len(p) == 1:  # nothing to take from, nothing to give to
        assert all(c == [1] for c in changes)
    for a, of_one in zip(p, zip(*changes, strict=True), strict=True):
        if q == 1:
            assert set(of_one) == {1}
        else:
            assert all(1 / q**2 < c < q**2 for c in of_one)
        if len(p) > 1:
            assert max(of_one) == largest_factor(a, q)
            assert min(of_one) == largest_factor(a, 1 / q)


@pytest.mark.statement("early-rounding", "exact")
@given(st.data(), st.integers(1, 6), st.floats(1e-9, 50))
def test_no_logits_move_a_probability_by_more(data: st.DataObject, k: int, delta: float) -> None:
    z = [mp.mpf(x) for x in data.draw(st.lists(st.floats(-15, 15), min_size=k, max_size=k))]
    step = st.sampled_from([-1.0, 1.0]) | st.floats(-1, 1)
    steps = data.draw(st.lists(step, min_size=k, max_size=k))
    near = [a + delta * mp.mpf(s) for a, s in zip(z, steps, strict=True)]
    sums = [mp.fsum(map(mp.exp, row)) for row in (z, near)]
    for a, b in zip(z, near, strict=True):
        change = (mp.exp(b) / sums[1]) / (mp.exp(a) / sums[0])
        assert mp.exp(-2 * mp.mpf(delta)) < change < mp.exp(2 * mp.mpf(delta))


@pytest.mark.statement("early-rounding", "exact")
@pytest.mark.parametrize("delta", [1e-6, 2.0**-8, 1.0, 20.0])
@pytest.mark.parametrize("k", [2, 5])
def test_no_constant_below_two_will_do(k: int, delta: float) -> None:
    far = 200
    z = [mp.mpf(-far), *[mp.mpf(0)] * (k - 1)]
    for sign in (1, -1):
        near = [z[0] + sign * mp.mpf(delta), *(a - sign * mp.mpf(delta) for a in z[1:])]
        log_p, log_near = (row[0] - mp.log(mp.fsum(map(mp.exp, row))) for row in (z, near))
        assert_within(sign * (log_near - log_p) / delta, 2, 2 * mp.exp(-far + 45) + 1e-35)
        for constant in (1.0, 1.99, 2 - 1e-12):
            assert sign * (log_near - log_p) > constant * mp.mpf(delta)
    # On the way there, the factor of the proof.
    q = Fraction(3, 2)
    for m in (1, 10, 10**9):
        up, down = [q, *[1 / q] * (k - 1)], [1 / q, *[q] * (k - 1)]
        weights = [1, *[m] * (k - 1)]
        p = shares(*weights)[0]
        assert moved(weights, up)[0] * (1 + p * (q**2 - 1)) == q**2
        assert moved(weights, down)[0] * (q**2 + p * (1 - q**2)) == 1


def quotients(dtype: torch.dtype, size: int = 40) -> Iterator[tuple[Tensor, float]]:
    """Logits and temperatures whose quotients neither overflow nor underflow, with a zero."""
    generator = torch.Generator().manual_seed(0)
    for temperature in (1.0, 0.7, 0.3, 1.7, 9.3):
        for scale in (0.5, 20.0):
            z = scale * torch.randn(size, generator=generator, dtype=torch.float64)
            z = torch.where(z.abs() < 1e-2, 0.0, z).to(dtype)
            # The division of float32 takes the temperature in float32.
            divisor = torch.tensor(temperature, dtype=torch.float32).item()
            yield z, temperature if dtype is torch.float64 else divisor


def log_changes(z: Sequence[Fraction], near: Sequence[Fraction]) -> list[Any]:
    """Logarithms of the factors by which softmax changes."""
    rows = [[number(x) for x in row] for row in (z, near)]
    norms = [mp.log(mp.fsum(map(mp.exp, row))) for row in rows]
    return [(b - norms[1]) - (a - norms[0]) for a, b in zip(*rows, strict=True)]


@pytest.mark.statement("early-rounding", "exact")
@every_dtype
def test_rounded_quotients_stay_within_the_bound(dtype: torch.dtype) -> None:
    u = Fraction(1, 2 ** BITS[dtype])
    assert u == Fraction(unit(dtype))
    for z, temperature in quotients(dtype):
        exact = [x / Fraction(temperature) for x in exactly(z)]
        delta = u * max(map(abs, exact))
        divided = exactly(apply_temperature(z, temperature))
        # omnivault divides in float32 and rounds again: to the same numbers, or in a tie nearly.
        again = Fraction(unit(torch.float32)) if dtype in HALF else 0
        for x, y in zip(exact, divided, strict=True):
            assert abs(y - x) <= u * abs(x)
            best = min(abs(a - x) for a in nearest(x, BITS[dtype]))
            assert abs(y - x) <= best + 2 * again * abs(x)
        assert all(abs(c) < 2 * number(delta) for c in log_changes(exact, divided))


@pytest.mark.statement("early-rounding", "exact")
@every_dtype
def test_rounding_comes_near_the_bound(dtype: torch.dtype) -> None:
    u = Fraction(1, 2 ** BITS[dtype])
    largest = 32 * (1 + u)  # in the middle between two numbers, of which the even one is 32
    assert nearest(largest, BITS[dtype]) == {Fraction(32), 32 * (1 + 2 * u)}
    z = [-largest, largest]
    near = [Fraction(-32), Fraction(32)]
    if dtype is not torch.float64:
        assert exactly(double([float(x) for x in z]).to(dtype)) == near
    delta = u * largest
    up, down = log_changes(z, near)
    assert 2 * number(delta) * (1 - 2 * number(u)) < up < 2 * number(delta)
    assert abs(down) < 1e-20


@pytest.mark.statement("early-rounding", "exact")
def test_in_float16_a_quotient_that_is_lost_breaks_the_bound() -> None:
    u = Fraction(1, 2**11)
    z = torch.tensor([1.0, 0.0], dtype=torch.float16)
    for temperature in (2.0**26, 2.0**27):
        exact = [x / Fraction(temperature) for x in exactly(z)]
        divided = exactly(z / temperature)
        assert divided == [0, 0]
        assert abs(log_changes(exact, divided)[0]) > 2 * number(u * exact[0])


@pytest.mark.statement("early-rounding")
@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_omnivault_converts_before_it_divides(dtype: torch.dtype) -> None:
    for z, temperature in quotients(dtype):
        exact = (z.double() / temperature).softmax(-1)
        ours = softmax(z, temperature=temperature).double()
        # Of half precision it holds the rounding of what is returned, and no more.
        assert_within(ours, exact, softmax_bound(z, temperature))
