"""The proposition `overflow`: Overflow."""

from __future__ import annotations

import math
from fractions import Fraction
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp

from omnivault.softmax import logsumexp, softmax
from tests.chapters.numerics.common import (
    APART,
    BINARY,
    E5M2,
    INF,
    Format,
    as_mpf,
    dtypes,
    every_format,
    first,
    ln_border,
    single_double,
)
from tests.support.strategies import arithmetic, assert_within, exact_logsumexp, smallest, unit


def as_fraction(x: Any) -> Fraction:
    """The very number in an mpf."""
    mantissa, exponent = mp.mpf(x).man_exp
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


@pytest.mark.statement("overflow", "exact", "torch")
@pytest.mark.statement("shift-rescue", "exact", "torch")
@pytest.mark.parametrize(
    ("form", "dtype"),
    [
        (BINARY[torch.float16], torch.float16),
        (BINARY[torch.bfloat16], torch.bfloat16),
        (E5M2, torch.float8_e5m2),
        (BINARY[torch.float32], torch.float32),
    ],
    ids=["float16", "bfloat16", "e5m2", "float32"],
)
def test_the_formats_are_those_of_the_hardware(form: Format, dtype: torch.dtype) -> None:
    wide = torch.float64 if dtype is torch.float32 else torch.float32
    random = Random(3)
    numbers = [form.border, form.largest, form.smallest, form.smallest / 2, form.smallest * 3 / 2]
    for _ in range(500):
        scale = random.randrange(form.low, form.high + form.bits + 1)
        # A number of the format, the tie above it, and the floats of the wider one beside it.
        place = max(scale - form.bits + 1, form.low)
        numbers.append(random.randrange(2**form.bits) * Fraction(2) ** place)
        numbers.append(numbers[-1] + Fraction(2) ** place / 2)
    bits = torch.int64 if wide is torch.float64 else torch.int32
    exact = torch.tensor([float(x) for x in numbers], dtype=wide)
    patterns = exact.view(bits)
    beside = torch.cat([exact, (patterns + 1).view(wide), (patterns - 1).view(wide)])
    beside = beside[beside.isfinite() & (beside >= 0)]
    assert len(beside) > 2000
    expected = [float(form.round(Fraction(x))) for x in beside.tolist()]
    assert beside.to(dtype).to(wide).tolist() == expected
    if dtype is not torch.float8_e5m2:
        limits = torch.finfo(dtype)
        assert float(form.largest) == limits.max
        assert float(form.smallest) == smallest(dtype)


@pytest.mark.statement("overflow", "exact")
@every_format
def test_an_exponential_rounds_to_infinity_from_the_logarithm_of_the_border_on(
    form: Format,
) -> None:
    # At the border itself there is a tie, and half an ulp below it is the largest number.
    assert form.round(form.border) == INF
    assert form.round(form.border * (1 - Fraction(1, 10**60))) == form.largest
    border = ln_border(form)
    for step in (APART, mp.mpf("1e-20"), mp.mpf("1e-3"), mp.mpf(1), mp.mpf(1000)):
        assert form.round(as_fraction(mp.exp(border + step))) == INF
        assert form.round(as_fraction(mp.exp(border - step))) <= form.largest
    # The logarithm of the largest number itself is below: half a unit makes a difference.
    assert form.round(as_fraction(mp.exp(mp.log(as_mpf(form.largest)) + APART))) == form.largest


@pytest.mark.statement("overflow", "exact")
@every_format
@settings(max_examples=50)
@given(data=st.data())
def test_a_sum_rounds_to_infinity_from_the_same_border_on(
    form: Format, data: st.DataObject
) -> None:
    # The exponentials themselves are drawn, as parts of f_max+, so that sums tie exactly.
    k = data.draw(st.integers(1, 6))
    parts = data.draw(st.lists(st.integers(1, 2**12), min_size=k, max_size=k))
    total = data.draw(
        st.sampled_from([form.border, form.largest, form.border - form.border / 10**30])
        | st.integers(1, 60).map(lambda n: form.border * n / 20)
    )
    weights = [total * n / sum(parts) for n in parts]
    overflows = form.round(sum(weights)) == INF
    assert overflows == (total >= form.border)
    z = [mp.log(as_mpf(w)) for w in weights]
    lse = max(z) + mp.log(sum(mp.exp(x - max(z)) for x in z))
    if abs(lse - ln_border(form)) > APART:
        assert overflows == (lse >= ln_border(form))
    # At the latest when the largest exponential is at the border, never while it is below 1/K.
    if max(weights) >= form.border:
        assert overflows
    if max(weights) < form.border / k:
        assert not overflows


@pytest.mark.statement("overflow", "exact")
@every_format
@pytest.mark.parametrize("k", [1, 2, 3, 7, 1000])
def test_between_the_two_borders_both_occur(form: Format, k: int) -> None:
    tiny = Fraction(1, 10**80)
    # Equal logits overflow from ln f_max+ - ln K on, to the very number.
    assert form.round(k * (form.border / k)) == INF
    assert form.round(k * (form.border / k * (1 - tiny))) == form.largest
    # One that leads by far does not until it is at the border, if the others are low enough.
    leader = form.border * (1 - 2 * tiny)
    others = [form.border * tiny / k] * (k - 1)
    assert form.round(leader + sum(others)) == form.largest
    assert form.round(form.border + sum(others)) == INF


@pytest.mark.statement("overflow", "exact", "torch")
@dtypes
@pytest.mark.parametrize("k", [1, 2, 1000])
def test_torch_overflows_at_these_borders(dtype: torch.dtype, k: int) -> None:
    border = ln_border(BINARY[dtype]) - mp.log(k)
    # The border moves by a neighbor, by 8 u of the exponential (4 units in the last place) and by
    # the roundings of the sum, which is one of float32 in half precision.
    spacing = torch.finfo(dtype).eps * float(border)
    found = first(lambda x: x.expand(k).exp().sum().isinf(), dtype)
    rounding = 8 * unit(dtype) + k * unit(arithmetic(dtype))
    assert_within(found, border, spacing + rounding)
    # And the softmax of the package does not mind.
    p = softmax(torch.full((k,), found, dtype=dtype))
    assert torch.equal(p, torch.full_like(p, 1 / k))
    assert p.isfinite().all()


@pytest.mark.statement("overflow", "exact", "torch")
@single_double
@given(st.data())
def test_the_smooth_maximum_says_whether_the_plain_sum_overflows(
    dtype: torch.dtype, data: st.DataObject
) -> None:
    border = float(ln_border(BINARY[dtype]))
    low = data.draw(st.sampled_from([0.999, 0.99]))
    values = data.draw(st.lists(st.floats(low * border, 1.001 * border), min_size=1, max_size=8))
    z = torch.tensor(values, dtype=dtype)
    overflows = bool(z.exp().sum().isinf())
    lse = exact_logsumexp(z)
    # An exponential by 8 u, a sum of eight by 8 u; the smooth maximum by 2 u of itself, and 40 u.
    if abs(lse - border) > 64 * unit(dtype) + 4 * unit(dtype) * border:
        assert overflows == (lse > border)
        assert overflows == (logsumexp(z).item() > border)


@pytest.mark.statement("overflow", "exact")
def test_python_stops_where_float64_ends() -> None:
    border = float(ln_border(BINARY[torch.float64]))
    assert math.exp(border * (1 - 2**-51)) <= torch.finfo(torch.float64).max
    with pytest.raises(OverflowError):
        math.exp(border * (1 + 2**-51))
