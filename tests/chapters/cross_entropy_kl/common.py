"""What the tests of several statements of this chapter share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from mpmath import mp

from tests.support.strategies import assert_within, number, shares, unit

Row = tuple[Fraction, ...]
Data = st.DataObject
Pair = tuple[Row, Row]
U = unit(torch.float64)
ZERO, ONE, INF = Fraction(0), Fraction(1), math.inf
NOTHING = mp.mpf(10) ** -45  # what 50 digits leave of a zero


def vertex(k: int, y: int) -> Row:
    return tuple(Fraction(i == y) for i in range(k))


def log(x: Fraction) -> Any:
    return mp.log(number(x)) if x else -mp.inf


def charge(p: Sequence[Fraction], q: Sequence[Fraction]) -> Any:
    """H(p, q); what does not occur is not charged."""
    return mp.fsum(-number(a) * log(b) for a, b in zip(p, q, strict=True) if a)


def divergence(p: Sequence[Fraction], q: Sequence[Fraction]) -> Any:
    both = [(a, b) for a, b in zip(p, q, strict=True) if a]
    return mp.fsum(number(a) * log(a / b) if b else mp.inf for a, b in both)


def same(a: Any, b: Any) -> bool:
    return bool(a == b == mp.inf or abs(a - b) < NOTHING)


def assert_close(computed: float, exact: Any) -> None:
    """Allow what float64 may make of up to six terms of size x.

    Logarithms are off by 8 u x, products and sums by 6 u x, and the inputs by u. What cancels are
    the p log p, which sum to log 6 or less, so that the x sum to the result and twice that.
    """
    assert math.isinf(computed) == mp.isinf(exact)
    assert_within(computed, exact, 128 * U, rel=32 * U)


def of_perplexity(exact: Any, n: int) -> Any:
    """The relative error of a perplexity: that of its logarithm, a mean of n terms, and of exp."""
    return U * ((n + 16) * mp.log(exact) + 16)


def product(chances: Any) -> Fraction:
    return math.prod(chances, start=ONE)


def simplex(k: int) -> SearchStrategy[Row]:
    """Faces, corners and ties included, and probabilities of a millionth."""
    weights = st.lists(st.sampled_from([0, 0, 1, 1, 2, 3, 10**6]), min_size=k, max_size=k)
    return weights.filter(any).map(lambda w: shares(*w))


@st.composite
def pairs(draw: DrawFn) -> Pair:
    p = draw(st.integers(1, 5).flatmap(simplex))
    return p, draw(st.sampled_from([p, p[::-1]]) | simplex(len(p)))


fractions = st.fractions(Fraction(1, 10**6), 1, max_denominator=10**6)
chances = fractions | st.sampled_from([ONE, 1 - Fraction(1, 2**53)])


def exact_perplexity(given_to: Sequence[Fraction]) -> Any:
    """The root of an exact product, without a logarithm."""
    everything = product(given_to)
    return mp.root(1 / number(everything), len(given_to)) if everything else mp.inf


def mp_log_softmax(z: Sequence[Any], temperature: Any = 1) -> list[Any]:
    scaled = [mp.mpf(x) / temperature for x in z]
    normalizer = mp.log(mp.fsum(mp.exp(x) for x in scaled))
    return [x - normalizer for x in scaled]
