"""What the tests of several statements of this chapter share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import sympy
import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from mpmath import mp

from tests.support.strategies import inner, sigma, total, unit

U = unit(torch.float64)
EXACT = mp.mpf(10) ** -40
Vector = tuple[int, ...]


class Family(NamedTuple):
    """With the natural parameter k log 2, k whole, every probability is a fraction."""

    h: Vector
    t: tuple[Vector, ...]

    def weights(self, k: Vector) -> list[Fraction]:
        return [h * Fraction(2) ** inner(k, t) for h, t in zip(self.h, self.t, strict=True)]

    def law(self, k: Vector) -> list[Fraction]:
        weights = self.weights(k)
        return [w / total(weights) for w in weights]

    def mean(self, k: Vector) -> list[Fraction]:
        columns = zip(*self.t, strict=True)
        return [total(p * x for p, x in zip(self.law(k), c, strict=True)) for c in columns]

    def covariance(self, k: Vector) -> Any:
        mu, d = self.mean(k), range(len(k))
        centered = [[x - m for x, m in zip(t, mu, strict=True)] for t in self.t]
        pairs = list(zip(self.law(k), centered, strict=True))
        return sympy.Matrix(len(d), len(d), lambda i, j: total(p * c[i] * c[j] for p, c in pairs))

    def log_partition(self, *eta: Any) -> Any:
        terms = [h * mp.exp(inner(eta, t)) for h, t in zip(self.h, self.t, strict=True)]
        return mp.log(mp.fsum(terms))

    def is_constant(self, a: Vector) -> bool:
        return len({inner(a, t) for t in self.t}) == 1

    def free_directions(self) -> list[Vector]:
        """A basis of the a for which <a, t(y)> is the same for all y, of whole numbers."""
        first = sympy.Matrix([self.t[0]])
        differences = sympy.Matrix.vstack(*[sympy.Matrix([t]) - first for t in self.t])
        basis = differences.nullspace()
        return [tuple(int(x) for x in v * math.lcm(*[int(x.q) for x in v])) for v in basis]


def at(k: Vector) -> list[Any]:
    return [i * mp.log(2) for i in k]


@st.composite
def families(draw: DrawFn, max_d: int = 3) -> Family:
    d, size = draw(st.integers(1, max_d)), draw(st.integers(2, 5))
    t = st.tuples(*[st.integers(-2, 2)] * d)
    h = draw(st.lists(st.integers(1, 3), min_size=size, max_size=size))
    return Family(tuple(h), tuple(draw(st.lists(t, min_size=size, max_size=size))))


def parameters(family: Family) -> st.SearchStrategy[Vector]:
    return st.tuples(*[st.integers(-3, 3)] * len(family.t[0]))


class Data(NamedTuple):
    x: tuple[Vector, ...]
    y: Vector

    def eta(self, theta: Sequence[Any]) -> list[Any]:
        return [inner(theta, (*x, 1)) for x in self.x]

    def loss(self, *theta: Any) -> Any:
        terms = [mp.log1p(mp.exp(e)) - y * e for e, y in zip(self.eta(theta), self.y, strict=True)]
        return mp.fsum(terms) / len(self.y)

    def gradient(self, theta: Sequence[Any]) -> list[Any]:
        residual = [sigma(e) - y for e, y in zip(self.eta(theta), self.y, strict=True)]
        rows = zip(*[(*x, 1) for x in self.x], strict=True)
        return [inner(residual, c) / len(self.y) for c in rows]

    def spans(self) -> bool:
        return bool(sympy.Matrix([(*x, 1) for x in self.x]).rank() == len(self.x[0]) + 1)


@st.composite
def datasets(draw: DrawFn, max_d: int = 2) -> Data:
    d, n = draw(st.integers(1, max_d)), draw(st.integers(1, 5))
    x = draw(st.lists(st.tuples(*[st.integers(-2, 2)] * d), min_size=n, max_size=n))
    return Data(tuple(x), tuple(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))))


def whole_parameters(data: Data) -> st.SearchStrategy[Vector]:
    return st.tuples(*[st.integers(-3, 3)] * (len(data.x[0]) + 1))
