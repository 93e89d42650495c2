"""What the tests of several statements of this chapter share."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
import sympy
import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from mpmath import mp

from tests.support.strategies import inner, total, unit

U = unit(torch.float64)
EXACT = mp.mpf(10) ** -40
Vector = tuple[int, ...]
Row = tuple[Fraction, ...]


def shares(weights: Sequence[int | Fraction]) -> Row:
    exact = [Fraction(w) for w in weights]
    return tuple(w / total(exact) for w in exact)


def lse(z: Sequence[Any]) -> Any:
    return mp.log(mp.fsum(mp.exp(x) for x in z))


def soft(z: Sequence[Any]) -> list[Any]:
    weights = [mp.exp(x) for x in z]
    return [w / mp.fsum(weights) for w in weights]


def powers(z: Sequence[int]) -> Row:
    """Softmax of z log 2, in fractions."""
    return shares([Fraction(2) ** x for x in z])


def largest(values: Any) -> Any:
    return max(abs(x) for x in values)


def exact_entropy(p: Sequence[Any]) -> Any:
    return -mp.fsum(x * mp.log(x) for x in p if x > 0)


positive_weights = st.lists(st.integers(1, 50), min_size=2, max_size=6)


# Two and more outcomes, ties, a rare one, extreme ones.
Z = [
    pytest.param([0, 1], id="two"),
    pytest.param([0, 1, 3], id="three"),
    pytest.param([2, 2, -1, 0], id="the largest twice"),
    pytest.param([-1, -1, 0, -1], id="the smallest three times"),
    pytest.param([3, 0, 0, 0, 3], id="two values"),
]
on_scores = pytest.mark.parametrize("z", Z)
Statistic = tuple[Vector, ...]


def at(k: Sequence[int]) -> list[Any]:
    return [i * mp.log(2) for i in k]


def weights_of(h: Vector, t: Statistic, k: Sequence[int]) -> list[Fraction]:
    """The law at k log 2 but for its sum."""
    return [w * Fraction(2) ** inner(k, x) for w, x in zip(h, t, strict=True)]


def minimal(t: Statistic) -> bool:
    return bool(sympy.Matrix([[1, *x] for x in t]).rank() == len(t[0]) + 1)


# A base, a statistic and a parameter k, which stands for k log 2.
FAMILIES: list[Any] = [
    pytest.param((1, 1, 1), ((0,), (1,), (2,)), (1,), id="a mean"),
    pytest.param((1, 1, 1, 1), ((0,), (0,), (3,), (1,)), (-1,), id="ties"),
    pytest.param((1,) * 4, ((0, 0), (1, 1), (2, 4), (3, 9)), (1, -1), id="a mean and a square"),
    pytest.param((1,) * 4, ((1, 1), (2, 2), (0, 0), (5, 5)), (2, -1), id="the same mean twice"),
    pytest.param((1, 1), ((0,), (1,)), (2,), id="two outcomes"),
    pytest.param((1, 1, 1), ((1, 0, 0), (0, 1, 0), (0, 0, 1)), (0, 1, -1), id="all frequencies"),
    pytest.param((1, 1, 1), ((7,), (7,), (7,)), (3,), id="nothing known"),
    pytest.param((1, 2, 1), ((0,), (1,), (2,)), (1,), id="two coins"),
    pytest.param((3, 1, 1, 1), ((0,), (0,), (0,), (0,)), (2,), id="a base, and nothing known"),
    pytest.param((1, 3, 3, 1), ((0, 0), (1, 1), (2, 4), (3, 9)), (-1, 1), id="a base and a square"),
]
on_families = pytest.mark.parametrize(("h", "t", "k"), FAMILIES)


def mean_score(z: Sequence[int], beta: Any) -> Any:
    return inner(soft([beta * x for x in z]), z)


def beta_for(z: Sequence[int], mu: Any) -> Any:
    """Where the mean score is mu, by bisection, which needs no derivative."""
    low, high = mp.mpf(-1), mp.mpf(1)
    while mean_score(z, low) > mu:
        low *= 2
    while mean_score(z, high) < mu:
        high *= 2
    for _ in range(170):
        middle = (low + high) / 2
        low, high = (low, middle) if mean_score(z, middle) > mu else (middle, high)
    return low


def scores(max_size: int = 4) -> SearchStrategy[list[int]]:
    z = st.lists(st.integers(-3, 3), min_size=2, max_size=max_size)
    return z.filter(lambda values: len(set(values)) > 1)
