"""The theorem `shift-rescue`: The shifted softmax cannot overflow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from mpmath import mp

from omnivault.softmax import softmax
from tests.chapters.numerics.common import (
    BINARY,
    INF,
    TINY,
    Format,
    Rounded,
    dtypes,
    every_format,
    ln_border,
    underflow,
)
from tests.support.strategies import (
    DTYPES,
    arithmetic,
    assert_within,
    exact_softmax,
    finite_rows,
    smallest,
    unit,
)

tiny_formats = pytest.mark.parametrize("form", TINY, ids=lambda f: f.name)


@pytest.mark.statement("shift-rescue", "exact")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@settings(max_examples=50)
@given(data=st.data())
def test_weights_lie_between_zero_and_one_for_any_logits(
    dtype: torch.dtype, data: st.DataObject
) -> None:
    z = [mp.mpf(x) for x in data.draw(finite_rows(dtype)).tolist()]
    weights = [mp.exp(x - max(z)) for x in z]
    # Not fsum: it would write out exponents of 1e308.
    total = sum(weights)
    assert all(0 < w <= 1 for w in weights)
    assert max(weights) == 1
    assert 1 <= total <= len(z)


def every_sum(form: Format, weights: Sequence[Rounded]) -> dict[int, set[Rounded]]:
    """All values that any order of rounded additions gives, for each set of terms (a bit mask)."""
    sums: dict[int, set[Rounded]] = {1 << i: {w} for i, w in enumerate(weights)}
    for terms in range(1, 1 << len(weights)):
        if terms in sums:
            continue
        found = set()
        part = (terms - 1) & terms
        while part > terms ^ part:
            found |= {form.round(a + b) for a in sums[part] for b in sums[terms ^ part]}
            part = (part - 1) & terms
        sums[terms] = found
    return sums


@st.composite
def weight_rows(draw: DrawFn, form: Format) -> list[Fraction]:
    """Weights e^(z - m): any numbers in (0, 1], the largest of them 1, up to K = 2^t."""
    weight = (
        st.fractions(Fraction(1, 1000), 1, max_denominator=1000)
        | st.integers(1, 2**form.bits).map(lambda n: Fraction(n, 2**form.bits))
        # Ties with zero and with the smallest number.
        | st.integers(1, 8).map(lambda n: n * form.smallest / 4)
        | st.just(Fraction(1))
    )
    others = draw(st.lists(weight, max_size=min(5, 2**form.bits - 1)))
    place = draw(st.integers(0, len(others)))
    return [*others[:place], Fraction(1), *others[place:]]


@pytest.mark.statement("shift-rescue", "exact")
@tiny_formats
@settings(max_examples=40)
@given(data=st.data())
def test_no_order_of_the_sum_overflows(form: Format, data: st.DataObject) -> None:
    exact = data.draw(weight_rows(form))
    assert len(exact) <= 2**form.bits <= form.largest
    weights = [form.round(w) for w in exact]
    assert all(0 <= w <= 1 for w in weights)
    sums = every_sum(form, weights)
    for terms, values in sums.items():
        members = [w for i, w in enumerate(weights) if terms >> i & 1]
        assert all(max(members) <= value <= len(members) for value in values)
    for denominator in sums[2 ** len(weights) - 1]:
        assert 1 <= denominator <= len(weights)
        quotients = [form.round(w / Fraction(denominator)) for w in weights]
        assert all(0 <= q <= 1 for q in quotients)
    # What is lost was small, one by one and altogether.
    lost = [w / sum(exact) for w, rounded in zip(exact, weights, strict=True) if rounded == 0]
    assert all(p <= form.smallest / 2 for p in lost)
    assert sum(lost) <= len(exact) * form.smallest / 2


def add_up(form: Format, weights: Sequence[Rounded], order: str, random: Random) -> Rounded:
    """Rounded additions one at a time, in pairs, or in a random order and grouping."""
    terms = list(weights)
    while len(terms) > 1:
        if order == "pairs":
            odd = terms[len(terms) & ~1 :]
            pairs = zip(terms[::2], terms[1::2], strict=False)
            terms = [form.round(a + b) for a, b in pairs] + odd
        else:
            if order == "random":
                random.shuffle(terms)
            terms = [form.round(terms[0] + terms[1]), *terms[2:]]
    return terms[0]


@pytest.mark.statement("shift-rescue", "exact")
@pytest.mark.parametrize("order", ["one at a time", "pairs", "random"])
@pytest.mark.parametrize("form", [*TINY, BINARY[torch.bfloat16]], ids=lambda f: f.name)
def test_as_many_classes_as_the_format_allows(form: Format, order: str) -> None:
    random = Random(5)
    k = 2**form.bits
    assert add_up(form, [Fraction(1)] * k, order, random) == k
    weights = [form.round(Fraction(random.randrange(1, 1001), 1000)) for _ in range(k - 1)]
    denominator = add_up(form, [*weights, Fraction(1)], order, random)
    assert 1 <= denominator <= k
    # A quotient of equals is 1, and no other is larger.
    assert form.round(max(weights) / Fraction(denominator)) <= 1


@pytest.mark.statement("shift-rescue", "exact")
@tiny_formats
def test_with_more_classes_a_sum_may_exceed_their_number(form: Format) -> None:
    # 2^t + 3 lies between two numbers of the format and goes to the even one, 2^t + 4.
    if form.bits < 2:
        return
    k = 2**form.bits + 3
    total = form.round(Fraction(2**form.bits) + 3)
    assert form.round(Fraction(3)) == 3
    assert total == k + 1


@pytest.mark.statement("shift-rescue", "exact")
def test_two_to_the_t_must_not_exceed_the_largest_number() -> None:
    # f_max = 15 < 16 = 2^t: sixteen ones overflow although K <= 2^t.
    form = Format("four bits and no range", 4, -4, 0)
    assert form.largest == 15
    assert add_up(form, [Fraction(1)] * 16, "pairs", Random(1)) == INF


@pytest.mark.statement("shift-rescue", "exact", "torch")
def test_in_float16_a_vocabulary_overflows_or_stalls() -> None:
    form = BINARY[torch.float16]
    # 65,520 = 2^15 + ... + 2^4 ones, each power of two added up without error.
    powers = [form.round(Fraction(2**n)) for n in range(15, 3, -1)]
    assert add_up(form, powers, "one at a time", Random(1)) == INF
    assert add_up(form, [*powers[:-1], Fraction(15)], "one at a time", Random(1)) == 65_504
    assert torch.ones(65_520, dtype=torch.float16).sum().isinf()
    for dtype, last in ((torch.float16, 2048), (torch.bfloat16, 256)):
        assert BINARY[dtype].round(Fraction(last + 1)) == last == 2 ** BINARY[dtype].bits
        one = torch.ones((), dtype=dtype)
        running = one * 0
        for _ in range(last + 100):
            running = running + one
        assert running.item() == last
    # The package adds up in float32.
    for dtype in DTYPES:
        p = softmax(torch.zeros(70_000, dtype=dtype))
        assert torch.equal(p, torch.full_like(p, 1 / 70_000))


@pytest.mark.statement("shift-rescue", "exact")
@every_format
def test_a_weight_that_rounds_to_zero_is_at_most_half_the_smallest_number(form: Format) -> None:
    half = form.smallest / 2
    above = half * (1 + Fraction(1, 10**60))
    # Ties to even: half of the smallest number itself is gone.
    assert form.round(half) == 0
    assert form.round(above) == form.smallest
    for w in (half, half * 9 / 10, half / 1000):
        assert w / (1 + w) <= w <= half
    # The bound is met in the limit of a leader that takes all.
    if form.bits > 2:
        assert half / (1 + half) > half * (1 - 2 * half)


@pytest.mark.statement("shift-rescue", "exact")
@dtypes
@settings(max_examples=50)
@given(data=st.data())
def test_torch_loses_no_larger_probability(dtype: torch.dtype, data: st.DataObject) -> None:
    edge = underflow(dtype)
    k = data.draw(st.integers(1, 5))
    values = data.draw(st.lists(st.floats(0.9 * edge, 1.1 * edge), min_size=k, max_size=k))
    z = torch.tensor([0.0, *(-x for x in values)], dtype=dtype)
    weights = (z - z.max()).exp()
    p = exact_softmax(z)
    lost = [q for q, w in zip(p, weights.tolist(), strict=True) if w == 0]
    # The exponent is exact, and the exponential off by 8 u before it is rounded to zero.
    half = mp.mpf(smallest(dtype)) / 2
    assert all(q <= half * (1 + 16 * unit(arithmetic(dtype))) for q in lost)


@pytest.mark.statement("shift-rescue")
@dtypes
@given(data=st.data())
def test_softmax_of_any_finite_logits_lies_between_zero_and_one(
    dtype: torch.dtype, data: st.DataObject
) -> None:
    z = data.draw(finite_rows(dtype, 1, 40))
    p = softmax(z)
    assert bool(((p >= 0) & (p <= 1)).all())
    # One weight is 1, and the denominator is at most K.
    assert p.max().item() >= (1 - 2 * unit(dtype)) / len(z)
    # Halves: the difference of two finite numbers may overflow, to the weight zero.
    weights = (z - z.max()).exp()
    assert bool(((weights >= 0) & (weights <= 1)).all())
    assert weights.max().item() == 1.0
    assert 1 <= weights.double().sum().item() <= len(z)


@pytest.mark.statement("shift-rescue")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_without_the_shift_it_overflows(dtype: torch.dtype) -> None:
    border = float(ln_border(BINARY[dtype]))
    z = torch.tensor([1.01 * border, 0.0], dtype=dtype)
    plain = z.exp() / z.exp().sum()
    assert plain[0].isnan()
    assert softmax(z).tolist()[0] == 1.0


@pytest.mark.statement("shift-rescue")
def test_the_shift_has_no_power_over_what_was_lost_before() -> None:
    z = torch.tensor([1e8, 1e8 + 3.0])
    assert softmax(z).tolist() == [0.5, 0.5]
    p = softmax(z + torch.tensor([0.0, 8.0]))[1].item()
    # The sum and the quotient; the exponential counts e^-8 times.
    assert_within(p, 1 / (1 + math.exp(-8)), rel=4 * unit(torch.float32))
