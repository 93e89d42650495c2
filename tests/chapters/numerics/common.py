"""What the tests of several statements of this chapter share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from mpmath import mp
from torch import Tensor

from tests.support.strategies import DTYPES, SINGLE_DOUBLE, rows, smallest, whole_rows

INF = math.inf
Vector = list[Any]


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
        """The f_min of the book."""
        return Fraction(2) ** self.low

    @property
    def largest(self) -> Fraction:
        """Its f_max."""
        return Fraction(2**self.bits - 1) * Fraction(2) ** self.high

    @property
    def border(self) -> Fraction:
        """Half a unit in the last place above f_max."""
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


# Small enough for every order of a sum to be tried; in each 2^t = 1/u <= f_max, as in the theorem.
TINY = [
    Format("one bit", 1, -3, 4),
    Format("two bits", 2, -4, 2),
    Format("three bits", 3, -6, 1),
    Format("four bits", 4, -3, 2),
    E5M2,
]
every_format = pytest.mark.parametrize("form", [*BINARY.values(), *TINY], ids=lambda f: f.name)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
single_double = pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)


def as_mpf(x: Fraction) -> Any:
    return mp.mpf(x.numerator) / x.denominator


def ln_border(form: Format) -> Any:
    return mp.log(as_mpf(form.border))


# What 50 digits tell apart near ln of the largest double, 710.
APART = mp.mpf("1e-44")
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


def underflow(dtype: torch.dtype) -> float:
    """-ln(f_min / 2): from this gap on a weight is rounded to zero."""
    # Half of the smallest double is no double.
    return math.log(2) - math.log(smallest(dtype))


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


@st.composite
def leveled_rows(draw: DrawFn, min_size: int = 1) -> Vector:
    """Rows whose gaps are up to 60, at levels up to 1e6, with ties."""
    z = draw(rows(min_size, 6) | whole_rows(min_size, 6, bound=3))
    level = draw(st.sampled_from([0, 0, 1, -10, 1000, 10**6]))
    return [mp.mpf(x) + level for x in z.tolist()]


# Exponential and logarithm to four units in the last place, which are 8 u: the libraries that torch
# calls promise one or two, and which one it calls depends on the processor.
TORCH_KAPPA = 8


@st.composite
def torch_rows(draw: DrawFn, dtype: torch.dtype) -> Tensor:
    """Rows with gaps up to 60, so that nothing underflows, at levels up to 1e5."""
    z = draw(rows(1, 8, dtype=dtype))
    return z + draw(st.sampled_from([0.0, 1.0, -10.0, 1e3, 1e5]))


# A pair (m, d) with e^m in place of m, which may be any positive number: for logits that are
# logarithms of fractions everything is rational. e^-inf is 0, and 0 over anything is 0.
Pair = tuple[Fraction, Fraction]
NEUTRAL: Pair = (Fraction(0), Fraction(0))
positive = st.fractions(Fraction(1, 100), 100, max_denominator=100) | st.integers(1, 3).map(
    Fraction
)
pairs = st.just(NEUTRAL) | st.tuples(positive, positive)
