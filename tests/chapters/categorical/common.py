"""What the tests of several statements of this chapter share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch

from tests.support.strategies import shares, total, unit

Row = tuple[Fraction, ...]
Counts = tuple[int, ...]
Law = dict[Counts, Fraction]
U = unit(torch.float64)
HALF = Fraction(1, 2)


# One outcome, fair and unfair coins, uniform, the example, rare ones, four outcomes.
POSITIVE = [(1,), (1, 1), (1, 2), (1, 1, 1), (5, 3, 2), (999, 1, 1), (1, 2, 3, 4)]
ANY = [*POSITIVE, (1, 0), (1, 0, 1), (0, 0, 1, 0)]
on_the_simplex = pytest.mark.parametrize("pi", [pytest.param(shares(*w), id=str(w)) for w in ANY])
few_draws = pytest.mark.parametrize("n", [1, 2, 3, 4])


def product(values: Any) -> Fraction:
    return math.prod(values, start=Fraction(1))


def independent(pi: Row, n: int) -> Law:
    """The law of the counts of n independent draws, one sequence after the other."""
    law: Law = {}
    for sequence in itertools.product(range(len(pi)), repeat=n):
        c = tuple(sequence.count(i) for i in range(len(pi)))
        law[c] = law.get(c, Fraction(0)) + product(pi[y] for y in sequence)
    return law


def stuck(pi: Row, n: int) -> Law:
    """Each draw has the law pi, but all are equal: what independence excludes."""
    return {tuple(n * (i == y) for i in range(len(pi))): p for y, p in enumerate(pi)}


def mean(law: Law, value: Callable[[Counts], Fraction]) -> Fraction:
    return total(p * value(c) for c, p in law.items())


def means(law: Law) -> Row:
    return tuple(total(p * c[i] for c, p in law.items()) for i in range(len(next(iter(law)))))


def covariance(law: Law) -> list[Row]:
    mu = means(law)
    k = range(len(mu))
    centered = [([x - m for x, m in zip(c, mu, strict=True)], p) for c, p in law.items()]
    return [tuple(total(p * d[i] * d[j] for d, p in centered) for j in k) for i in k]
