"""The proposition `halves`: Halves cannot overflow."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from omnivault.softmax import softmax
from tests.chapters.numerics.common import (
    BINARY,
    INF,
    Format,
    Rounded,
    every_format,
    single_double,
)
from tests.support.strategies import (
    SINGLE_DOUBLE,
    as_double,
    assert_within,
    exact_softmax,
    smallest,
    softmax_bound,
    unit,
)


def rounded(form: Format, x: Fraction) -> Rounded:
    """Rounding of any sign: that of negative numbers mirrors that of positive ones."""
    return -form.round(-x) if x < 0 else form.round(x)


def smallest_normal(form: Format) -> Fraction:
    return form.smallest * Fraction(2) ** (form.bits - 1)


def halved(form: Format, x: Fraction) -> Rounded:
    return rounded(form, x / 2)


def numbers(form: Format) -> SearchStrategy[Fraction]:
    """Any numbers of the format; often large, subnormal, or odd multiples of the smallest."""
    significands = st.integers(0, 2**form.bits - 1)
    places = st.sampled_from([form.low, form.low + 1, form.high]) | st.integers(form.low, form.high)
    size = st.builds(lambda n, place: n * Fraction(2) ** place, significands, places)
    return st.builds(
        lambda sign, x: sign * x, st.sampled_from([1, -1]), size | st.just(form.largest)
    )


@pytest.mark.statement("halves", "exact")
@every_format
@settings(max_examples=60)
@given(data=st.data())
def test_the_plain_difference_overflows_and_that_of_halves_does_not(
    form: Format, data: st.DataObject
) -> None:
    z, m = sorted(data.draw(numbers(form)) for _ in range(2))
    assert (rounded(form, z - m) == -INF) == (m - z >= form.border)
    lower, upper = halved(form, z), halved(form, m)
    for half in (lower, upper):
        assert -form.largest / 2 <= half <= form.largest / 2
    difference = Fraction(lower) - Fraction(upper)
    assert -form.largest <= rounded(form, difference) <= 0
    # What halving has cost.
    error = abs(difference - (z - m) / 2)
    assert error <= form.smallest
    if all(x == 0 or abs(x) >= 2 * smallest_normal(form) for x in (z, m)):
        assert error == 0


@pytest.mark.statement("halves", "exact")
@every_format
def test_the_borders_are_met(form: Format) -> None:
    largest, tiny = form.largest, form.smallest
    assert rounded(form, -largest - largest) == -INF
    assert rounded(form, Fraction(halved(form, -largest)) - Fraction(halved(form, largest))) == (
        -largest
    )
    # At half a unit above the largest number there is a tie, which overflows.
    unit_there = Fraction(2) ** form.high
    assert rounded(form, -unit_there / 2 - largest) == -INF
    if form.bits > 1:
        # Odd multiples of the smallest number are off by half of it, to the even side.
        difference = Fraction(halved(form, -3 * tiny)) - Fraction(halved(form, 3 * tiny))
        assert difference == -4 * tiny
        # The last number below twice the smallest normal one is odd.
        last = 2 * smallest_normal(form) - tiny
        assert abs(Fraction(halved(form, last)) - last / 2) == tiny / 2
    # The temperature from which on the error is at most u.
    u = Fraction(1, 2**form.bits)
    assert 2 * tiny / (4 * smallest_normal(form)) == u


@pytest.mark.statement("halves", "exact", "torch")
@single_double
@settings(max_examples=60)
@given(data=st.data())
def test_exponents_of_torch_are_finite_and_off_by_what_is_said(
    dtype: torch.dtype, data: st.DataObject
) -> None:
    form, u = BINARY[dtype], Fraction(unit(dtype))
    z, m = sorted(data.draw(numbers(form)) for _ in range(2))
    normal = smallest_normal(form)
    temperature = abs(data.draw(numbers(form)))
    if temperature < 2 * normal:
        temperature += 2 * normal
    row = torch.tensor([float(z), float(m)], dtype=dtype)
    warmth = torch.tensor(float(temperature), dtype=dtype)
    temperature = Fraction(warmth.item())
    difference = row / 2 - row.max() / 2
    assert bool(difference.isfinite().all())
    exponent = (difference / (warmth / 2))[0].item()
    exact = (z - m) / temperature
    if abs(exact) < form.largest / 4:
        # Two roundings of the exponent, and what the quotient loses where it is subnormal.
        moved = 2 * form.smallest / temperature
        allowed = (abs(exact) + moved) * (2 * u + u * u) + moved + form.smallest
        assert_within(exponent, exact, allowed)
    else:
        assert exponent < -float(form.largest) / 5


@pytest.mark.statement("halves", "exact", "torch")
@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
def test_large_logits_at_a_large_temperature(dtype: torch.dtype) -> None:
    large = 3e38 if dtype is torch.float32 else 1.7e308
    z = torch.tensor([large, -large], dtype=dtype)
    t = torch.tensor(large, dtype=dtype)
    assert torch.softmax((z - z.max()) / t, -1).tolist() == [1.0, 0.0]
    p = torch.softmax((z / 2 - z.max() / 2) / (t / 2), -1)
    # Both gaps are exact; softmax by 32 u.
    expected = 1 / (1 + math.exp(-2))
    assert_within(p, torch.tensor([expected, 1 - expected]).double(), rel=64 * unit(torch.float32))
    assert_within(softmax(z, temperature=large), p, rel=64 * unit(dtype))


@pytest.mark.statement("halves", "exact")
@given(
    st.floats(2.0**126, 1.75 * 2**127, width=32),
    st.lists(st.floats(-(2.0**126), 2.0**126, width=32), max_size=4),
    st.floats(2.0**123, 1.75 * 2**127, width=32),
)
def test_softmax_of_the_package_sees_gaps_beyond_the_largest_number(
    top: float, others: list[float], temperature: float
) -> None:
    z = torch.tensor([top, *others, -1.75 * 2**127])
    p = softmax(z, temperature=temperature)
    expected = as_double(exact_softmax(z, temperature))
    assert_within(p, expected, softmax_bound(z, temperature))


@pytest.mark.statement("halves", "exact", "torch")
@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
def test_a_temperature_of_the_size_of_the_smallest_number_is_where_halves_lose(
    dtype: torch.dtype,
) -> None:
    z = torch.tensor([smallest(dtype), 0.0], dtype=dtype)
    t = 2 * z[0]
    assert ((z / 2 - z.max() / 2) / (t / 2)).tolist() == [0.0, 0.0]
    assert ((z - z.max()) / t).tolist() == [0.0, -0.5]
