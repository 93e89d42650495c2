"""What the tests of several statements of this chapter share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import reduce
from operator import getitem
from typing import Any

import pytest
import sympy
import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from mpmath import mp
from torch import Tensor
from torch.nn.functional import one_hot

from omnivault.softmax import softmax
from tests.support.strategies import as_double, assert_within, unit

U = unit(torch.float64)


# Where the formulas have an edge: one class, two, ties, one class that takes all but e^-300.
EDGES = {
    "the example": [2.0, 1.0, 3.0, 5.0, 4.0],
    "one class": [3.0],
    "two tied": [-1.0, -1.0],
    "two apart": [1.0, 0.0],
    "four tied": [2.0, 2.0, 2.0, 2.0],
    "tie at the top": [1.0, 3.0, 3.0],
    "saturated": [0.0, -300.0],
    "saturated, three classes": [-40.0, 0.0, -41.0],
}
edges = pytest.mark.parametrize("values", EDGES.values(), ids=EDGES.keys())
Vector = list[Any]


def delta(i: int, j: int) -> int:
    return int(i == j)


def numbers(z: Tensor) -> Vector:
    return [mp.mpf(x) for x in z.tolist()]


def softmax_of(x: Vector, temperature: Any) -> Vector:
    """Softmax at 50 digits, of numbers that need not be floats."""
    largest = max(x)
    weights = [mp.exp((a - largest) / temperature) for a in x]
    total = mp.fsum(weights)
    return [w / total for w in weights]


def lse_of(x: Vector, temperature: Any) -> Any:
    largest = max(x)
    total = mp.fsum(mp.exp((a - largest) / temperature) for a in x)
    return largest + temperature * mp.log(total)


def loss_of(x: Vector, y: Vector, temperature: Any = 1) -> Any:
    """The cross-entropy, written with logits and not with probabilities, which may underflow."""
    normalizer = lse_of(x, temperature)
    return -mp.fsum(b * (a - normalizer) / temperature for a, b in zip(x, y, strict=True))


STEP = mp.mpf("1e-15")


def quotient(f: Callable[[Vector], Any], x: Vector, j: int) -> Any:
    """Central difference: off by a third derivative times 1e-30, and by 1e-50 / 1e-15."""
    ahead, behind = list(x), list(x)
    ahead[j] += STEP
    behind[j] -= STEP
    return (f(ahead) - f(behind)) / (2 * STEP)


def entry(f: Callable[[Vector], Any], *index: int) -> Callable[[Vector], Any]:
    """The component of a function with this index."""
    return lambda x: reduce(getitem, index, f(x))


# Third derivatives are at most 1/T^3, and T is at least 0.1 wherever this is used, times 100 for
# what they are multiplied with.
FAR_BELOW = mp.mpf("1e-24")


def jacobian_formula(p: Sequence[Any], temperature: Any = 1) -> list[Vector]:
    k = range(len(p))
    return [[p[i] * (delta(i, j) - p[j]) / temperature for j in k] for i in k]


def central_moment(p: Sequence[Any], *indices: int) -> Any:
    """E of the product of (Y_i - p_i), the expectation written out over the classes drawn."""
    return sum(q * math.prod(delta(c, i) - p[i] for i in indices) for c, q in enumerate(p))


def as_matrix(entries: Sequence[Vector]) -> Tensor:
    return torch.stack([as_double(row) for row in entries])


@st.composite
def distributions(draw: DrawFn, min_size: int = 1, max_size: int = 6) -> list[Fraction]:
    """Any rational p in the open simplex: softmax of T log p is p, so all of them are outputs.

    Ties are common, and so are probabilities of 1e-9 and of 1e-30.
    """
    weight = st.integers(1, 5) | st.integers(1, 10**9) | st.just(10**30)
    weights = draw(st.lists(weight, min_size=min_size, max_size=max_size))
    return [Fraction(w, sum(weights)) for w in weights]


def fractions(size: int) -> SearchStrategy[list[Fraction]]:
    number = st.integers(-3, 3) | st.fractions(-5, 5, max_denominator=100)
    return st.lists(number.map(Fraction), min_size=size, max_size=size)


TEMPERATURE = sympy.Symbol("T", positive=True)


def symbols(k: int) -> Vector:
    return list(sympy.symbols(f"z:{k}", real=True))


def symbolic_lse(z: Vector) -> Any:
    return TEMPERATURE * sympy.log(sum(sympy.exp(x / TEMPERATURE) for x in z))


def symbolic_softmax(z: Vector) -> Vector:
    total = sum(sympy.exp(x / TEMPERATURE) for x in z)
    return [sympy.exp(x / TEMPERATURE) / total for x in z]


def vanishes(expression: Any) -> bool:
    """Whether a rational function of exponentials is zero identically."""
    return bool(sympy.expand(sympy.numer(sympy.together(expression))) == 0)


def draw_one_hot(z: Tensor, temperature: float, draws: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    p = softmax(z, temperature=temperature)
    return one_hot(
        torch.multinomial(p, draws, replacement=True, generator=generator), len(z)
    ).double()


# No count is expected below 500, so a sample mean is off by more than 7 standard errors with a
# probability below 1e-9 (Bernstein's inequality, since what a rare class adds is skewed). Over the
# means that one test looks at, fewer than 100, these bounds add up to less than 1e-8.
DRAWS = 200_000
ERRORS_OFF = 7


def assert_sampled(values: Tensor, p: Tensor, of_class: Tensor) -> None:
    """That ``values``, a mean over draws, are the mean of ``of_class``, one row for each class."""
    weights = p.reshape(-1, *[1] * (of_class.ndim - 1))
    mean = (weights * of_class).sum(0)
    variance = (weights * (of_class - mean).square()).sum(0)
    # One class has no variance, but roundings of the sum of numbers up to 1.
    assert_within(values, mean, ERRORS_OFF * (variance / DRAWS).sqrt() + DRAWS * U)


@st.composite
def layers(draw: DrawFn) -> tuple[list[Vector], Vector, Vector, Vector]:
    """W (K x D), b, x and a distribution y, as exact numbers."""
    k, d = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    number = st.integers(-2, 2) | st.fractions(-3, 3, max_denominator=50)

    def vector(size: int) -> Vector:
        drawn = draw(st.lists(number, min_size=size, max_size=size))
        return [mp.mpf(q.numerator) / q.denominator for q in map(Fraction, drawn)]

    weights = draw(st.lists(st.integers(0, 5), min_size=k, max_size=k).filter(any))
    y = [mp.mpf(w) / sum(weights) for w in weights]
    return [vector(d) for _ in range(k)], vector(k), vector(d), y


def affine(w: list[Vector], x: Vector, b: Vector) -> Vector:
    return [
        mp.fsum(a * c for a, c in zip(row, x, strict=True)) + d for row, d in zip(w, b, strict=True)
    ]
