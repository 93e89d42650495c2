from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from random import Random
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from mpmath import mp
from strategies import (
    DTYPES,
    SINGLE_DOUBLE,
    arithmetic,
    as_double,
    assert_within,
    exact_log_softmax,
    exact_logsumexp,
    exact_softmax,
    finite_rows,
    rows,
    smallest,
    softmax_bound,
    unit,
    whole_rows,
)
from torch import Tensor

from omnivault.online_softmax import (
    SoftmaxStatistics,
    block_statistics,
    chunked_softmax,
    combine,
)
from omnivault.softmax import log_softmax, logsumexp, softmax

INF = math.inf

Vector = list[Any]


# Formats ------------------------------------------------------------------------------------------

# A number of a format, or the infinity that a number beyond it is rounded to.
Rounded = Fraction | float


@dataclass(frozen=True)
class Format:
    """A binary format with subnormal numbers, rounded to the nearest, ties to even."""

    name: str
    bits: int  # t, of the significand
    low: int  # the smallest positive number is 2^low
    high: int  # the largest finite one is (2^t - 1) 2^high

    @property
    def smallest(self) -> Fraction:
        """The eta of the book."""
        return Fraction(2) ** self.low

    @property
    def largest(self) -> Fraction:
        """Its Omega."""
        return Fraction(2**self.bits - 1) * Fraction(2) ** self.high

    @property
    def border(self) -> Fraction:
        """Half a unit in the last place above Omega."""
        return self.largest + Fraction(2) ** self.high / 2

    def round(self, x: Rounded) -> Rounded:
        if x == INF or x == 0:
            return x
        x = Fraction(x)
        exponent = x.numerator.bit_length() - x.denominator.bit_length()
        if Fraction(2) ** exponent > x:
            exponent -= 1
        quantum = Fraction(2) ** max(exponent - self.bits + 1, self.low)
        # round() of a fraction takes ties to even.
        nearest = round(x / quantum) * quantum
        return nearest if nearest <= self.largest else INF


BINARY = {
    torch.float16: Format("float16", 11, -24, 5),
    torch.bfloat16: Format("bfloat16", 8, -133, 120),
    torch.float32: Format("float32", 24, -149, 104),
    torch.float64: Format("float64", 53, -1074, 971),
}
E5M2 = Format("e5m2", 3, -16, 13)
# Small enough for every order of a sum to be tried; in each 2^t <= Omega, as in the theorem.
TINY = [
    Format("one bit", 1, -3, 4),
    Format("two bits", 2, -4, 2),
    Format("three bits", 3, -6, 1),
    Format("four bits", 4, -3, 2),
    E5M2,
]
every_format = pytest.mark.parametrize("form", [*BINARY.values(), *TINY], ids=lambda f: f.name)
tiny_formats = pytest.mark.parametrize("form", TINY, ids=lambda f: f.name)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
single_double = pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)


def as_fraction(x: Any) -> Fraction:
    """The very number in an mpf."""
    mantissa, exponent = mp.mpf(x).man_exp
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


def as_mpf(x: Fraction) -> Any:
    return mp.mpf(x.numerator) / x.denominator


def ln_border(form: Format) -> Any:
    return mp.log(as_mpf(form.border))


# What 50 digits tell apart near ln of the largest double, 710.
APART = mp.mpf("1e-44")


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


# overflow -----------------------------------------------------------------------------------------


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
    # The exponentials themselves are drawn, as parts of Omega+, so that sums tie exactly.
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
    # Equal logits overflow from ln Omega+ - ln K on, to the very number.
    assert form.round(k * (form.border / k)) == INF
    assert form.round(k * (form.border / k * (1 - tiny))) == form.largest
    # One that leads by far does not until it is at the border, if the others are low enough.
    leader = form.border * (1 - 2 * tiny)
    others = [form.border * tiny / k] * (k - 1)
    assert form.round(leader + sum(others)) == form.largest
    assert form.round(form.border + sum(others)) == INF


INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def first(happens: Callable[[Tensor], Tensor], dtype: torch.dtype) -> float:
    """Smallest number of the dtype between 1 and 2000 where it happens."""
    integers = INTEGERS[dtype.itemsize]
    low, high = torch.tensor([1.0, 2000.0], dtype=dtype).view(integers).tolist()
    while high - low > 1:
        middle = (low + high) // 2
        if bool(happens(torch.tensor(middle, dtype=integers).view(dtype))):
            high = middle
        else:
            low = middle
    return float(torch.tensor(high, dtype=integers).view(dtype).item())


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


# shift-rescue -------------------------------------------------------------------------------------


def underflow(dtype: torch.dtype) -> float:
    """-ln(eta / 2): from this gap on a weight is rounded to zero."""
    # Half of the smallest double is no double.
    return math.log(2) - math.log(smallest(dtype))


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
    # Omega = 15 < 16 = 2^t: sixteen ones overflow although K <= 2^t.
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


# The model of rounding ----------------------------------------------------------------------------

# What an operation returns: its kind, the class or the number of the term, the exact result.
Computed = Callable[[str, int, Any], Any]

# Kinds: "gap" z_k - m, "exp" of it, "add", "divide"; "log" of the sum, "level" m + log S, "rest"
# z_i - L, "last" exponential; "minus" (z_i - m) - log S.
TRANSCENDENTAL = ("exp", "log", "last")


def exactly(kind: str, index: int, exact: Any) -> Any:
    return exact


def weighted(z: Vector, op: Computed) -> tuple[Vector, Vector, Any]:
    """Gaps, weights and their sum, added up in the order in which "pick" takes two of the terms.

    Unless something else is picked these are the first two: one term after the other.
    """
    gaps = [op("gap", k, x - max(z)) for k, x in enumerate(z)]
    weights = [op("exp", k, mp.exp(gap)) for k, gap in enumerate(gaps)]
    terms = list(weights)
    while len(terms) > 1:
        a = terms.pop(op("pick", len(terms), 0))
        b = terms.pop(op("pick", len(terms), 0))
        terms.insert(0, op("add", len(terms), a + b))
    return gaps, weights, terms[0]


def division(z: Vector, op: Computed) -> Vector:
    _, weights, total = weighted(z, op)
    return [op("divide", i, w / total) for i, w in enumerate(weights)]


def log_normalizer(z: Vector, op: Computed) -> Any:
    _, _, total = weighted(z, op)
    return op("level", 0, max(z) + op("log", 0, mp.log(total)))


def subtraction(z: Vector, op: Computed) -> Vector:
    level = log_normalizer(z, op)
    return [op("last", i, mp.exp(op("rest", i, x - level))) for i, x in enumerate(z)]


def log_domain(z: Vector, op: Computed) -> Vector:
    """The two subtractions, before the exponential."""
    gaps, _, total = weighted(z, op)
    log_total = op("log", 0, mp.log(total))
    return [op("minus", i, gap - log_total) for i, gap in enumerate(gaps)]


@dataclass(frozen=True)
class Sizes:
    """The numbers of which the bounds are made, at 50 digits."""

    gaps: Vector
    mean_gap: Any
    log_total: Any
    level: Any
    entropy: Any
    p: Vector

    @property
    def k(self) -> int:
        return len(self.p)


def sizes(z: Vector) -> Sizes:
    p = division(z, exactly)
    gaps = [max(z) - x for x in z]
    mean_gap = sum(a * b for a, b in zip(p, gaps, strict=True))
    total = sum(mp.exp(-gap) for gap in gaps)
    # From logits: a probability of 1e-60 would cost the entropy digits.
    entropy = sum(a * (gap + mp.log(total)) for a, gap in zip(p, gaps, strict=True))
    return Sizes(gaps, mean_gap, mp.log(total), max(z) + mp.log(total), entropy, p)


def division_bound(s: Sizes, kappa: Any) -> Vector:
    return [gap + s.mean_gap + s.k + 2 * kappa for gap in s.gaps]


def subtraction_bound(s: Sizes, kappa: Any) -> Vector:
    added = abs(s.level) + (1 + kappa) * mp.log(s.k)
    return [added + bound for bound in division_bound(s, kappa)]


def log_domain_bound(s: Sizes, kappa: Any) -> Vector:
    shared = s.mean_gap + kappa + s.k - 1 + kappa * mp.log(s.k)
    return [2 * gap + s.log_total + shared for gap in s.gaps]


def with_second_order(bound: Any, u: Any) -> Any:
    """First order plus the rest: the errors compound among themselves and with one more factor."""
    return bound * u + 2 * ((bound + 1) * u) ** 2


def noise(seed: int, u: Any, kappa: Any) -> Computed:
    """Errors of any size up to the largest, mostly the largest, and sums in any order."""
    random = Random(seed)

    def op(kind: str, index: int, exact: Any) -> Any:
        if kind == "pick":
            return random.randrange(index)
        error = random.choice([-1, 1, random.uniform(-1, 1)])
        return exact * (1 + error * u * (kappa if kind in TRANSCENDENTAL else 1))

    return op


def conspiring(i: int, direction: int, level: Any, u: Any, kappa: Any) -> Computed:
    """All errors as large as they may be and in the direction that moves class i the most."""

    def op(kind: str, index: int, exact: Any) -> Any:
        if kind == "pick":
            return exact
        mine = index == i
        # Numbers below zero grow when they shrink in size; the sum is to move the other way.
        sign = {
            "gap": -1 if mine else 1,
            "exp": 1 if mine else -1,
            "add": -1,
            "divide": 1,
            "log": -1,
            "level": -1 if level > 0 else 1,
            "rest": -1,
            "last": 1,
            "minus": -1,
        }[kind]
        size = u * (kappa if kind in TRANSCENDENTAL else 1)
        return exact * (1 + direction * sign * size)

    return op


def rounding(bits: int) -> Computed:
    """Correct rounding to so many bits, with exponents that never end: kappa = 1."""

    def op(kind: str, index: int, exact: Any) -> Any:
        if kind == "pick":
            return exact
        with mp.workprec(bits):
            return +exact

    return op


# Second orders are far below first ones, and 50 digits far below second ones.
FINE = mp.mpf(2) ** -60
KAPPAS = [mp.mpf("0.1"), mp.mpf(1), mp.mpf(2), mp.mpf("3.5")]


def relative_errors(computed: Vector, exact: Vector) -> Vector:
    return [abs(a / b - 1) for a, b in zip(computed, exact, strict=True)]


@st.composite
def leveled_rows(draw: DrawFn, min_size: int = 1) -> Vector:
    """Rows whose gaps are up to 60, at levels up to 1e6, with ties."""
    z = draw(rows(min_size, 6) | whole_rows(min_size, 6, bound=3))
    level = draw(st.sampled_from([0, 0, 1, -10, 1000, 10**6]))
    return [mp.mpf(x) + level for x in z.tolist()]


# forms-error --------------------------------------------------------------------------------------


@pytest.mark.statement("forms-error", "exact")
@given(leveled_rows())
def test_the_average_gap_is_at_most_the_entropy_and_that_at_most_log_k(z: Vector) -> None:
    s = sizes(z)
    assert s.mean_gap <= s.entropy + APART
    # Entropy by its own definition, where no probability is lost to the digits.
    assert_within(s.entropy, -sum(q * mp.log(q) for q in s.p), APART)
    assert_within(s.entropy - s.mean_gap, s.log_total, APART)
    assert s.entropy <= mp.log(s.k) + APART
    # Equality: S = 1 for one class alone, and log K for equal logits alone.
    assert (s.entropy - s.mean_gap <= mp.mpf("1e-30")) == (s.k == 1)
    if max(s.gaps) == 0:
        assert s.mean_gap == 0
        assert_within(s.entropy, mp.log(s.k), APART)
    elif max(s.gaps) > mp.mpf("1e-6"):
        assert s.entropy < mp.log(s.k) - mp.mpf("1e-14")


@pytest.mark.statement("forms-error", "exact")
@given(leveled_rows(), st.sampled_from(KAPPAS), st.integers(0, 10**6))
def test_no_errors_of_the_model_exceed_the_bounds(z: Vector, kappa: Any, seed: int) -> None:
    random = Random(seed)
    random.shuffle(z)
    s = sizes(z)
    choices = [noise(seed, FINE, kappa)]
    i = random.randrange(s.k)
    choices += [conspiring(i, direction, s.level, FINE, kappa) for direction in (-1, 1)]
    for op in choices:
        for form, bounds in (
            (division, division_bound(s, kappa)),
            (subtraction, subtraction_bound(s, kappa)),
        ):
            for error, bound in zip(relative_errors(form(z, op), s.p), bounds, strict=True):
                assert error <= with_second_order(bound, FINE)


@pytest.mark.statement("forms-error", "exact")
@pytest.mark.parametrize("kappa", KAPPAS, ids=str)
@pytest.mark.parametrize("direction", [-1, 1])
@pytest.mark.parametrize(
    "values",
    [
        pytest.param([0.0, -1.278, -60.0], id="largest average gap of two"),
        pytest.param([0.0, 0.0, -60.0], id="two tied"),
        pytest.param([0.0, -70.0], id="two"),
        pytest.param([0.0, 0.0, -65.0, -65.0, -70.0], id="three that add nothing"),
    ],
)
def test_every_term_of_the_division_bound_can_be_used_up(
    values: list[float], direction: int, kappa: Any
) -> None:
    # The last class has no share in the sum, so that its own errors and those of the sum do not
    # cancel; the first partial sums are as large as the whole.
    z = [mp.mpf(x) for x in values]
    s, last = sizes(z), len(z) - 1
    op = conspiring(last, direction, s.level, FINE, kappa)
    error = relative_errors(division(z, op), s.p)[last]
    assert_within(error / FINE, division_bound(s, kappa)[last], rel=mp.mpf("1e-10"))


@pytest.mark.statement("forms-error", "exact")
@pytest.mark.parametrize("kappa", KAPPAS, ids=str)
@pytest.mark.parametrize("direction", [-1, 1])
@pytest.mark.parametrize("level", [-1e6, -3.0, 0.0, 10.0, 1e6])
@pytest.mark.parametrize("values", [[0.0, 0.0], [0.0, -60.0], [0.0, -65.0, -70.0], [0.0]], ids=str)
def test_every_term_of_the_subtraction_bound_can_be_used_up(
    values: list[float], level: float, direction: int, kappa: Any
) -> None:
    # All but one u: the proof counts K - 1 additions and no division, the theorem K of both.
    z = [mp.mpf(x) + mp.mpf(level) for x in values]
    s, last = sizes(z), len(z) - 1
    op = conspiring(last, direction, s.level, FINE, kappa)
    # The gap of the sum has an error of its own: it is not what is taken from L.
    sum_only = conspiring(-1, direction, s.level, FINE, kappa)

    def both(kind: str, index: int, exact: Any) -> Any:
        return (sum_only if kind in ("gap", "exp") else op)(kind, index, exact)

    error = relative_errors(subtraction(z, both), s.p)[last]
    bound = subtraction_bound(s, kappa)[last]
    # log K stands for log S.
    spare = 1 + (1 + kappa) * (mp.log(s.k) - s.log_total)
    assert error / FINE >= (bound - spare) * (1 - mp.mpf("1e-10"))
    assert error <= with_second_order(bound, FINE)


@pytest.mark.statement("forms-error", "exact")
@pytest.mark.parametrize("bits", [8, 11, 24])
@settings(max_examples=60)
@given(data=st.data())
def test_correct_rounding_stays_within_the_bounds(bits: int, data: st.DataObject) -> None:
    op = rounding(bits)
    # Gaps up to 16: at 8 bits both orders count.
    z = data.draw(rows(1, 6, bound=8.0) | whole_rows(1, 6, bound=8))
    level = data.draw(st.sampled_from([0.0, 1.0, 10.0]))
    numbers = [op("", 0, mp.mpf(x) + level) for x in z.tolist()]
    s, u = sizes(numbers), mp.mpf(2) ** -bits
    for form, bounds in (
        (division, division_bound(s, 1)),
        (subtraction, subtraction_bound(s, 1)),
    ):
        errors = relative_errors(form(numbers, op), s.p)
        for error, bound in zip(errors, bounds, strict=True):
            assert error <= with_second_order(bound, u)


# Exponential and logarithm to four units in the last place, which are 8 u: the libraries that torch
# calls promise one or two, and which one it calls depends on the processor.
TORCH_KAPPA = 8


@st.composite
def torch_rows(draw: DrawFn, dtype: torch.dtype) -> Tensor:
    """Rows with gaps up to 60, so that nothing underflows, at levels up to 1e5."""
    z = draw(rows(1, 8, dtype=dtype))
    return z + draw(st.sampled_from([0.0, 1.0, -10.0, 1e3, 1e5]))


@pytest.mark.statement("forms-error", "exact")
@single_double
@settings(max_examples=60)
@given(data=st.data())
def test_torch_stays_within_the_bounds(dtype: torch.dtype, data: st.DataObject) -> None:
    z = data.draw(torch_rows(dtype))
    s, u = sizes([mp.mpf(x) for x in z.tolist()]), unit(dtype)
    forms = (
        (softmax(z), division_bound(s, TORCH_KAPPA)),
        ((z - logsumexp(z)).exp(), subtraction_bound(s, TORCH_KAPPA)),
    )
    for computed, bounds in forms:
        allowed = [p * with_second_order(bound, u) for p, bound in zip(s.p, bounds, strict=True)]
        assert_within(computed, s.p, allowed)


@pytest.mark.statement("forms-error", "exact")
@given(whole_rows(1, 8), st.integers(-(2**20), 2**20), st.sampled_from(KAPPAS))
def test_the_division_form_does_not_see_the_level(z: Tensor, c: int, kappa: Any) -> None:
    numbers = [mp.mpf(x) for x in z.tolist()]
    moved = [x + c for x in numbers]
    assert division_bound(sizes(numbers), kappa) == division_bound(sizes(moved), kappa)
    for bits in (24, 53):
        assert division(numbers, rounding(bits)) == division(moved, rounding(bits))
    for dtype in SINGLE_DOUBLE:
        assert torch.equal(softmax((z + c).to(dtype)), softmax(z.to(dtype)))


@pytest.mark.statement("forms-error", "exact")
@given(leveled_rows(), st.integers(2, 60))
def test_an_error_of_the_normalizer_alone_scales_every_probability(z: Vector, bits: int) -> None:
    s = sizes(z)

    def op(kind: str, index: int, exact: Any) -> Any:
        return rounding(bits)(kind, index, exact) if kind == "level" else exact

    epsilon = log_normalizer(z, op) - s.level
    p = subtraction(z, op)
    assert_within(p, [exact * mp.exp(-epsilon) for exact in s.p], rel=mp.mpf("1e-40"))
    assert_within(sum(p), mp.exp(-epsilon), rel=mp.mpf("1e-40"))
    assert abs(epsilon) <= abs(s.level) * mp.mpf(2) ** -bits


@pytest.mark.statement("forms-error", "exact")
@pytest.mark.parametrize("power", [10, 15, 20])
@pytest.mark.parametrize("k", [2, 5])
def test_the_level_cannot_be_dropped_from_the_subtraction_bound(power: int, k: int) -> None:
    # A level of 2^n puts L just above a power of two, where u |L| is half a unit in the last
    # place, and log S = log(1 + exp(-gap)) is just below that half: all of it is rounded away.
    half = 2.0 ** (power - 24)
    gap = -math.log(math.expm1(half))
    spacing = 2.0 ** (power - 24)
    gap = math.ceil(gap / spacing) * spacing
    # More classes, far below, add nothing.
    z = torch.tensor([2.0**power, 2.0**power - gap] + [2.0**power - 80] * (k - 2))
    s = sizes([mp.mpf(x) for x in z.tolist()])
    stored = logsumexp(z)
    assert stored.item() == 2.0**power
    epsilon = mp.mpf(stored.item()) - s.level
    u = mp.mpf(2) ** -24
    # Nearly the largest error that one rounding allows: no factor below 1 would do for |L|.
    assert 0.9 * s.level * u < abs(epsilon) <= s.level * u
    p = [mp.mpf(x) for x in (z - stored).exp().tolist()]
    for i, (computed, exact) in enumerate(zip(p, s.p, strict=True)):
        # What is left besides the factor are the subtraction and the exponential.
        left = s.gaps[i] + s.log_total + TORCH_KAPPA
        assert_within(computed, exact * mp.exp(-epsilon), rel=with_second_order(left, u))
        bound = subtraction_bound(s, TORCH_KAPPA)[i]
        assert_within(computed, exact, rel=with_second_order(bound, u))
        # Above all that the bound without the level allows.
        assert abs(computed / exact - 1) > with_second_order(bound - s.level, u)
    assert_within(sum(p), mp.exp(-epsilon), rel=with_second_order(s.gaps[1] + TORCH_KAPPA + 1, u))
    # The division form of the same row is within its own bound, far below.
    for computed, exact, bound in zip(
        softmax(z).tolist(), s.p, division_bound(s, TORCH_KAPPA), strict=True
    ):
        assert_within(computed, exact, rel=with_second_order(bound, u))


@pytest.mark.statement("forms-error", "exact")
@pytest.mark.parametrize(("level", "least"), [(1e3, 10), (1e4, 100), (1e5, 1000)])
def test_at_a_high_level_the_subtraction_form_exceeds_the_division_bound(
    level: float, least: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for row in 2 * torch.randn(50, 8, generator=generator):
        z = row + level
        s, u = sizes([mp.mpf(x) for x in z.tolist()]), mp.mpf(2) ** -24
        limit = max(division_bound(s, TORCH_KAPPA)) * u
        assert_within(softmax(z), s.p, [p * limit * (1 + limit) for p in s.p])
        p = [mp.mpf(x) for x in (z - logsumexp(z)).exp().tolist()]
        worst = max(worst, float(max(relative_errors(p, s.p)) / limit))
        # The two subtractions do not see the level either.
        bounds = [b + TORCH_KAPPA for b in log_domain_bound(s, TORCH_KAPPA)]
        allowed = [q * with_second_order(bound, u) for q, bound in zip(s.p, bounds, strict=True)]
        assert_within(log_softmax(z).exp(), s.p, allowed)
    assert worst > least


# log-domain ---------------------------------------------------------------------------------------


@pytest.mark.statement("log-domain", "exact")
@given(leveled_rows())
def test_a_log_probability_is_the_gap_up_to_log_k(z: Vector) -> None:
    s = sizes(z)
    for gap, log_p in zip(s.gaps, log_domain(z, exactly), strict=True):
        assert -gap - mp.log(s.k) - APART <= log_p <= -gap
        # Equality: above for one class alone, below for equal logits alone.
        assert (log_p == -gap) == (s.k == 1)
        if max(s.gaps) == 0:
            assert_within(log_p, -gap - mp.log(s.k), APART)
        elif max(s.gaps) > mp.mpf("1e-6"):
            assert log_p > -gap - mp.log(s.k) + mp.mpf("1e-8")


@pytest.mark.statement("log-domain", "exact")
@given(leveled_rows(), st.sampled_from(KAPPAS), st.integers(0, 10**6))
def test_no_errors_of_the_model_exceed_the_absolute_bound(z: Vector, kappa: Any, seed: int) -> None:
    random = Random(seed)
    random.shuffle(z)
    s = sizes(z)
    exact = log_domain(z, exactly)
    choices = [noise(seed, FINE, kappa)]
    i = random.randrange(s.k)
    choices += [conspiring(i, direction, s.level, FINE, kappa) for direction in (-1, 1)]
    for op in choices:
        computed = log_domain(z, op)
        for a, b, bound in zip(computed, exact, log_domain_bound(s, kappa), strict=True):
            assert abs(a - b) <= with_second_order(bound, FINE)


@pytest.mark.statement("log-domain", "exact")
@pytest.mark.parametrize("kappa", KAPPAS, ids=str)
@pytest.mark.parametrize("direction", [-1, 1])
@pytest.mark.parametrize(
    "values",
    [[0.0, -1.278, -60.0], [0.0, -65.0], [0.0, 0.0, -65.0, -70.0], [0.0, -65.0, -70.0]],
    ids=str,
)
def test_every_term_of_the_absolute_bound_can_be_used_up(
    values: list[float], direction: int, kappa: Any
) -> None:
    z = [mp.mpf(x) for x in values]
    s, last = sizes(z), len(z) - 1
    op = conspiring(last, direction, s.level, FINE, kappa)
    error = abs(log_domain(z, op)[last] - log_domain(z, exactly)[last])
    bound = log_domain_bound(s, kappa)[last]
    # log K stands for log S.
    spare = kappa * (mp.log(s.k) - s.log_total)
    assert (bound - spare) * (1 - mp.mpf("1e-10")) <= error / FINE <= bound * (1 + mp.mpf("1e-10"))


@pytest.mark.statement("log-domain", "exact")
@pytest.mark.parametrize("kappa", KAPPAS, ids=str)
@pytest.mark.parametrize("direction", [-1, 1])
def test_two_equal_logits_use_up_log_k_as_well(direction: int, kappa: Any) -> None:
    z = [mp.mpf(0), mp.mpf(0)]
    # Both weights are off in one direction, so no class is singled out.
    op = conspiring(-1, direction, 1, FINE, kappa)
    error = abs(log_domain(z, op)[0] + mp.log(2))
    bound = log_domain_bound(sizes(z), kappa)[0]
    assert_within(error / FINE, bound, rel=mp.mpf("1e-10"))
    assert_within(bound, mp.log(2) + kappa * (1 + mp.log(2)) + 1, APART)


@pytest.mark.statement("log-domain", "exact")
@pytest.mark.parametrize("bits", [8, 11, 24])
@settings(max_examples=60)
@given(data=st.data())
def test_correct_rounding_stays_within_the_absolute_bound(bits: int, data: st.DataObject) -> None:
    op = rounding(bits)
    z = data.draw(rows(1, 6, bound=8.0) | whole_rows(1, 6, bound=8))
    numbers = [op("", 0, mp.mpf(x)) for x in z.tolist()]
    s, u = sizes(numbers), mp.mpf(2) ** -bits
    exact = log_domain(numbers, exactly)
    for a, b, bound in zip(log_domain(numbers, op), exact, log_domain_bound(s, 1), strict=True):
        assert abs(a - b) <= with_second_order(bound, u)


@pytest.mark.statement("log-domain", "exact")
@single_double
@settings(max_examples=60)
@given(data=st.data())
def test_log_softmax_stays_within_the_absolute_bound(
    dtype: torch.dtype, data: st.DataObject
) -> None:
    # Gaps of any size: what underflows in the sum is less than one rounding of it.
    scale = data.draw(st.sampled_from([1.0, 10.0, 1e4]))
    z = data.draw(torch_rows(dtype)) * scale
    s = sizes([mp.mpf(x) for x in z.tolist()])
    for computed, exact, bound in zip(
        log_softmax(z).tolist(), exact_log_softmax(z), log_domain_bound(s, TORCH_KAPPA), strict=True
    ):
        assert_within(computed, exact, with_second_order(bound, unit(dtype)))


@pytest.mark.statement("log-domain", "exact")
@every_format
@pytest.mark.parametrize("others", [0, 1, 5])
def test_the_logarithm_of_a_rounded_probability_is_minus_infinity_from_half_the_smallest_on(
    form: Format, others: int
) -> None:
    half = form.smallest / 2
    # At r = -ln(eta / 2) itself the weight is a tie, which goes to the even number: zero.
    for weight in (half, half * (1 - Fraction(1, 10**60)), half / 1000):
        row = [Fraction(1)] * (1 + others)
        total: Rounded = Fraction(0)
        for w in [*row, weight]:
            total = form.round(total + form.round(w))
        assert form.round(form.round(weight) / Fraction(total)) == 0
    # Just above, the weight is the smallest number, and a leader that takes all leaves it there.
    assert form.round(half * (1 + Fraction(1, 10**60))) == form.smallest
    total = form.round(1 + form.smallest)
    assert form.round(form.smallest / Fraction(total)) == form.smallest
    # The condition is sufficient, not necessary: two leaders halve it to a tie.
    if form.bits > 1:
        assert form.round(2 + form.smallest) == 2
        assert form.round(form.smallest / 2) == 0


@pytest.mark.statement("log-domain", "exact")
@dtypes
@settings(max_examples=50)
@given(data=st.data())
def test_the_logarithm_of_softmax_is_lost_where_log_softmax_is_not(
    dtype: torch.dtype, data: st.DataObject
) -> None:
    edge = underflow(dtype)
    # From a neighbor above the border on: torch's exponential is not rounded correctly there.
    gap = data.draw(st.floats(edge * (1 + 4 * unit(dtype)), 3 * edge))
    others = data.draw(st.lists(st.floats(-3.0, 0.0), max_size=3))
    z = torch.tensor([0.0, *others, -gap], dtype=dtype)
    assert softmax(z).log()[-1].item() == -INF
    s = sizes([mp.mpf(x) for x in z.tolist()])
    exact = exact_log_softmax(z)[-1]
    # Half precision is rounded once more at the end.
    allowed = log_domain_bound(s, TORCH_KAPPA)[-1] + abs(exact)
    assert_within(log_softmax(z)[-1].item(), exact, with_second_order(allowed, unit(dtype)))


@pytest.mark.statement("log-domain", "exact")
@dtypes
def test_short_of_the_border_the_logarithm_is_finite(dtype: torch.dtype) -> None:
    edge = underflow(dtype)
    # The first number of the dtype that is short of it; read as integers, floats keep order.
    z = torch.tensor([0.0, -edge], dtype=dtype)
    integers = INTEGERS[dtype.itemsize]
    while -z[1].item() >= edge:
        z = (z.view(integers) - torch.tensor([0, 1], dtype=integers)).view(dtype)
    p = softmax(z)
    # That number is 11 u away, or more, and the exponential off by 8 u before its last rounding.
    assert p.tolist() == [1.0, smallest(dtype)]
    assert p.double().log()[1].isfinite()
    # Its digits are gone all the same: the true one is less.
    assert 0.5 < exact_softmax(z)[1] / smallest(dtype) < 0.8
    assert log_softmax(z)[1] == z[1]


# online-monoid ------------------------------------------------------------------------------------

# A pair (m, d) with e^m in place of m, which may be any positive number: for logits that are
# logarithms of fractions everything is rational. e^-inf is 0, and 0 over anything is 0.
Pair = tuple[Fraction, Fraction]

NEUTRAL: Pair = (Fraction(0), Fraction(0))


def plus(first: Pair, second: Pair) -> Pair:
    largest = max(first[0], second[0])
    if largest == 0:
        return NEUTRAL
    return largest, first[1] * first[0] / largest + second[1] * second[0] / largest


def statistics_of(exponentials: Sequence[Fraction]) -> Pair:
    """s(I) by its definition."""
    if not exponentials:
        return NEUTRAL
    largest = max(exponentials)
    return largest, sum((x / largest for x in exponentials), Fraction(0))


def phi(pair: Pair) -> Pair:
    """(m, d e^m)."""
    return pair[0], pair[1] * pair[0]


positive = st.fractions(Fraction(1, 100), 100, max_denominator=100) | st.integers(1, 3).map(
    Fraction
)
pairs = st.just(NEUTRAL) | st.tuples(positive, positive)
exponential_rows = st.lists(positive, min_size=1, max_size=5)


@pytest.mark.statement("online-monoid", "exact")
@given(pairs, pairs, pairs)
def test_the_laws_of_a_commutative_monoid(a: Pair, b: Pair, c: Pair) -> None:
    assert plus(plus(a, b), c) == plus(a, plus(b, c))
    assert plus(a, b) == plus(b, a)
    assert plus(a, NEUTRAL) == plus(NEUTRAL, a) == a
    # Nothing leaves the set: d is positive, or the pair is neutral.
    total = plus(a, b)
    assert (total[1] > 0) if total[0] > 0 else total == NEUTRAL
    # And under phi it is a maximum beside a sum.
    sums = phi(a)[1] + phi(b)[1]
    assert phi(total) == (max(a[0], b[0]), sums)
    assert (phi(a) == phi(b)) == (a == b)


@pytest.mark.statement("online-monoid", "exact")
def test_a_second_pair_at_minus_infinity_would_break_the_identity() -> None:
    stray = (Fraction(0), Fraction(1))
    assert plus(stray, NEUTRAL) != stray


Real = tuple[Any, Any]


def plus_real(first: Real, second: Real) -> Real:
    """The formula as it stands, at 50 digits."""
    largest = max(first[0], second[0])
    scales = [mp.mpf(0) if m == -mp.inf else mp.exp(m - largest) for m, _ in (first, second)]
    return largest, first[1] * scales[0] + second[1] * scales[1]


def real(pair: Pair) -> Real:
    return (mp.log(as_mpf(pair[0])) if pair[0] else -mp.inf), as_mpf(pair[1])


def same(a: Real, b: Real) -> bool:
    both = a[0] == b[0] or abs(a[0] - b[0]) <= APART
    return bool(both and abs(a[1] - b[1]) <= APART * (1 + abs(b[1])))


@pytest.mark.statement("online-monoid", "exact")
@given(pairs, pairs)
def test_with_real_maxima_it_is_the_same_operation(a: Pair, b: Pair) -> None:
    assert same(plus_real(real(a), real(b)), real(plus(a, b)))
    assert plus_real(real(NEUTRAL), real(NEUTRAL)) == (-mp.inf, 0)


def partitions(items: Sequence[int]) -> Iterator[list[list[int]]]:
    """All ways to split into blocks."""
    if not items:
        yield []
        return
    for smaller in partitions(items[1:]):
        yield [[items[0]], *smaller]
        for n, block in enumerate(smaller):
            yield [*smaller[:n], [items[0], *block], *smaller[n + 1 :]]


def groupings(blocks: Sequence[Any], operation: Callable[[Any, Any], Any]) -> Iterator[Any]:
    """The results of all ways to put parentheses around a sequence."""
    if len(blocks) == 1:
        yield blocks[0]
    for cut in range(1, len(blocks)):
        for left in groupings(blocks[:cut], operation):
            for right in groupings(blocks[cut:], operation):
                yield operation(left, right)


def everything(
    k: int, statistics: Callable[[list[int]], Any], operation: Callable[[Any, Any], Any]
) -> Iterator[Any]:
    """Every partition of a row of k, in every order of its blocks and every grouping of them."""
    for blocks in partitions(range(k)):
        for order in itertools.permutations([statistics(block) for block in blocks]):
            yield from groupings(order, operation)


@pytest.mark.statement("online-monoid")
def test_the_number_of_ways() -> None:
    # Bell numbers, and for four blocks 4! orders of 5 groupings.
    assert [len(list(partitions(range(k)))) for k in range(1, 6)] == [1, 2, 5, 15, 52]
    assert len(list(groupings([NEUTRAL] * 4, plus))) == 5
    assert len(list(everything(4, lambda _: NEUTRAL, plus))) == 1 + 7 * 2 + 6 * 6 * 2 + 24 * 5


@pytest.mark.statement("online-monoid", "exact")
@settings(max_examples=30)
@given(st.lists(positive, min_size=1, max_size=4))
def test_every_splitting_order_and_grouping_gives_the_same_pair(row: list[Fraction]) -> None:
    found = set(everything(len(row), lambda block: statistics_of([row[i] for i in block]), plus))
    assert found == {statistics_of(row)}
    # The pair gives the normalizer and the probabilities.
    ((largest, d),) = found
    assert largest * d == sum(row)
    assert [x / largest / d for x in row] == [x / sum(row) for x in row]


@pytest.mark.statement("online-monoid", "exact")
@given(exponential_rows, st.data())
def test_disjoint_parts_combine_and_an_empty_one_adds_nothing(
    row: list[Fraction], data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.booleans(), min_size=len(row), max_size=len(row)))
    part = [x for x, take in zip(row, chosen, strict=True) if take]
    rest = [x for x, take in zip(row, chosen, strict=True) if not take]
    assert plus(statistics_of(part), statistics_of(rest)) == statistics_of(row)
    assert plus(statistics_of([]), statistics_of(row)) == statistics_of(row)
    # Parts that overlap count twice what they share.
    assert plus(statistics_of(row), statistics_of(row)) == (max(row), 2 * statistics_of(row)[1])


def stats(m: float, d: float, dtype: torch.dtype) -> SoftmaxStatistics:
    return SoftmaxStatistics(torch.tensor(m, dtype=dtype), torch.tensor(d, dtype=dtype))


def width_of(dtype: torch.dtype) -> Literal[32, 64]:
    return 64 if dtype is torch.float64 else 32


def bits_of(x: Tensor) -> Tensor:
    return x.view(INTEGERS[x.dtype.itemsize])


def identical(a: SoftmaxStatistics, b: SoftmaxStatistics) -> bool:
    """Bit for bit, but for the sign of a maximum of zero: torch.maximum takes that of the first."""
    return torch.equal(a.maximum, b.maximum) and torch.equal(bits_of(a.total), bits_of(b.total))


@pytest.mark.statement("online-monoid")
@single_double
@given(data=st.data())
def test_combine_is_commutative_to_the_last_bit_and_has_the_identity(
    dtype: torch.dtype, data: st.DataObject
) -> None:
    width = width_of(dtype)
    largest = torch.finfo(dtype).max
    maxima = st.floats(-100, 100, width=width) | st.floats(-largest, largest, width=width)
    # Up to 1e30, so that no total overflows; 1e-30 stays above the subnormal numbers.
    totals = st.floats(1.0, 2.0**20, width=width) | st.floats(2.0**-100, 2.0**100, width=width)
    a, b = (stats(data.draw(maxima), data.draw(totals), dtype) for _ in range(2))
    neutral = stats(-INF, 0.0, dtype)
    assert identical(combine(a, b), combine(b, a))
    assert identical(combine(a, neutral), a)
    assert identical(combine(neutral, a), a)
    assert identical(combine(neutral, neutral), neutral)
    assert identical(block_statistics(torch.full((3,), -INF, dtype=dtype)), neutral)


@pytest.mark.statement("online-monoid")
def test_the_reading_of_minus_infinity_is_needed() -> None:
    # Left to the arithmetic, the exponential of -inf - -inf is nan.
    minus = torch.tensor(-INF)
    assert (minus - minus).exp().isnan()
    assert combine(stats(-INF, 0.0, torch.float32), stats(-INF, 0.0, torch.float32)).total == 0


def combination_bound(gap: float, steps: int, dtype: torch.dtype) -> float:
    """Relative error of d after ``steps`` combinations of pairs that lie ``gap`` apart.

    On its way into the total a pair is scaled by exponentials of differences that add up to no
    more than the gap, each rounded; each step has an exponential (8 u), a product and a sum. A
    thousandth is for what the errors add to one another; the bound itself is below one.
    """
    return unit(dtype) * (gap + (TORCH_KAPPA + 2) * steps) * (1 + 1e-3)


@pytest.mark.statement("online-monoid", "exact")
@single_double
@given(data=st.data())
def test_combine_is_associative_up_to_rounding(dtype: torch.dtype, data: st.DataObject) -> None:
    width = width_of(dtype)
    # Nothing underflows that counts: a gap of 40 is 4e-18, a ratio of totals 1e6.
    maxima, totals = st.floats(-20, 20, width=width), st.floats(2.0**-10, 2.0**10, width=width)
    a, b, c = (stats(data.draw(maxima), data.draw(totals), dtype) for _ in range(3))
    left, right = combine(combine(a, b), c), combine(a, combine(b, c))
    assert torch.equal(left.maximum, right.maximum)
    exact = reduce(
        plus_real, [(mp.mpf(s.maximum.item()), mp.mpf(s.total.item())) for s in (a, b, c)]
    )
    bound = combination_bound(40.0, 2, dtype)
    for result in (left, right):
        assert result.maximum.item() == exact[0]
        assert_within(result.total.item(), exact[1], rel=bound)


@pytest.mark.statement("online-monoid")
@single_double
def test_combine_is_not_associative_to_the_last_bit(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(2)
    maxima = torch.randn(3, 1000, generator=generator).to(dtype)
    totals = 1 + torch.rand(3, 1000, generator=generator).to(dtype)
    a, b, c = (SoftmaxStatistics(m, d) for m, d in zip(maxima, totals, strict=True))
    left, right = combine(combine(a, b), c), combine(a, combine(b, c))
    assert torch.equal(left.maximum, right.maximum)
    assert 0 < int((left.total != right.total).sum()) < 1000


@pytest.mark.statement("online-monoid", "exact")
@single_double
@settings(max_examples=10)
@given(data=st.data())
def test_every_splitting_of_a_row_of_torch_gives_the_pair_up_to_rounding(
    dtype: torch.dtype, data: st.DataObject
) -> None:
    z = data.draw(rows(1, 4, dtype=dtype) | whole_rows(1, 4).map(lambda row: row.to(dtype)))
    k, largest = len(z), z.max()
    numbers = [mp.mpf(x) for x in z.tolist()]
    exact = sum(mp.exp(x - max(numbers)) for x in numbers)
    # Blocks are at most four steps themselves: an exponential and K - 1 additions.
    bound = combination_bound(60.0, 2 * k, dtype)
    for found in everything(k, lambda block: block_statistics(z[block]), combine):
        assert torch.equal(found.maximum, largest)
        assert_within(found.total.item(), exact, rel=bound)
        assert found.total.item() >= 1 - bound


@pytest.mark.statement("online-monoid", "exact")
@dtypes
@settings(max_examples=40)
@given(data=st.data())
def test_the_pair_gives_the_normalizer_and_the_probabilities(
    dtype: torch.dtype, data: st.DataObject
) -> None:
    z = data.draw(rows(1, 8, dtype=torch.float32)).to(dtype)
    if data.draw(st.booleans()):
        z = torch.cat([z, torch.full((3,), -INF, dtype=dtype)])
    size = data.draw(st.integers(1, len(z)))
    shuffled = z[torch.randperm(len(z), generator=torch.Generator().manual_seed(len(z)))]
    pair = reduce(combine, [block_statistics(part) for part in shuffled.split(size)])
    kept = z[z > -INF]
    wide = arithmetic(dtype)
    # A gap of 60, and a logarithm of at most log 8.
    bound = combination_bound(60.0, 2 * len(z), wide) + 4 * unit(wide)
    lse = mp.mpf(pair.maximum.item()) + mp.log(mp.mpf(pair.total.item()))
    assert_within(lse, exact_logsumexp(kept), bound)
    expected = torch.zeros(len(z), dtype=torch.float64)
    expected[: len(kept)] = as_double(exact_softmax(kept))
    allowed = torch.zeros_like(expected)
    steps = (TORCH_KAPPA + 2) * len(z) * unit(wide)
    allowed[: len(kept)] = 2 * softmax_bound(kept) + steps * expected[: len(kept)]
    computed = (z.to(wide) - pair.maximum).exp() / pair.total
    assert_within(computed, expected, allowed)
    assert_within(chunked_softmax(z, size), expected, allowed)


@pytest.mark.statement("online-monoid", "exact")
@single_double
@pytest.mark.parametrize("ascending", [True, False])
def test_long_rows_one_logit_at_a_time(dtype: torch.dtype, ascending: bool) -> None:
    # Ascending logits move the maximum at every step, where every earlier term is scaled again.
    generator = torch.Generator().manual_seed(4)
    z = (5 * torch.randn(500, generator=generator)).to(dtype).sort(descending=not ascending)[0]
    pair = reduce(combine, [block_statistics(part) for part in z.split(1)])
    exact = sum(mp.exp(mp.mpf(x) - mp.mpf(z.max().item())) for x in z.tolist())
    gap = (z.max() - z.min()).item()
    assert_within(pair.total.item(), exact, rel=combination_bound(gap, 500, dtype))
    assert 1 <= pair.total.item() <= 500
