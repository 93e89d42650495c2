"""What the tests of one problem share: the problem solved once more, of exact numbers.

Maximize <p, z> - T Omega(p) over the distributions p. Where Omega is a quadratic, or made of
planes, the maximizers are fractions; otherwise numbers to 50 digits. Several maximizers are the
mixtures of a few corners.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import combinations
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from mpmath import mp
from torch import Tensor

from omnivault.entmax import entmax, sparsemax
from omnivault.softmax import softmax
from tests.support.strategies import double, inner, number, softmax_bound, unit

Law = Sequence[Any]

U = unit(torch.float64)
ZERO = mp.mpf(10) ** -20
"""What 50 digits may leave of nothing: a square root at a border takes half of 40 of them."""


# Regularizers -------------------------------------------------------------------------------------


def corner(k: int, i: int) -> list[Fraction]:
    return [Fraction(int(i == j)) for j in range(k)]


def subsets(k: int) -> list[tuple[int, ...]]:
    """All but the empty one."""
    return [s for size in range(1, k + 1) for s in combinations(range(k), size)]


def negative_entropy(p: Law) -> Any:
    return mp.fsum(x * mp.log(x) for x in p if x)


def of_order(alpha: Fraction) -> Callable[[Law], Any]:
    a = number(alpha)
    return lambda p: (mp.fsum(x**a for x in p) - 1) / (a * (a - 1))


def half_square(p: Law) -> Any:
    return inner(p, p) / 2


def skewed(p: Law) -> Any:
    """Half a square, and a cost that differs between tokens."""
    return (inner(p, p) + inner(p, range(1, len(p) + 1)) ** 2) / 2


# Maximizers ---------------------------------------------------------------------------------------


def softmax_of(z: Law, t: Any) -> list[list[Any]]:
    weights = [mp.exp((x - max(z)) / t) for x in z]
    return [[w / mp.fsum(weights) for w in weights]]


def entmax_of(alpha: Fraction) -> Callable[[Law, Any], list[list[Any]]]:
    """The slope of Omega_alpha is p^(alpha - 1) / (alpha - 1): halve the interval of the level."""
    a = number(alpha) - 1

    def law(z: Law, t: Any) -> list[list[Any]]:
        scaled = [a * (x - max(z)) / t for x in z]

        def at(level: Any) -> list[Any]:
            return [(x - level) ** (1 / a) if x > level else mp.mpf(0) for x in scaled]

        low, high = mp.mpf(-1), mp.mpf(0)
        while high - low > ZERO**2:
            middle = (low + high) / 2
            low, high = (middle, high) if mp.fsum(at(middle)) >= 1 else (low, middle)
        return [at(low)]

    return law


def solved(matrix: list[list[Fraction]], right: list[Fraction]) -> list[Fraction]:
    """The solution of linear equations, by elimination."""
    n = len(right)
    rows = [[*row, b] for row, b in zip(matrix, right, strict=True)]
    for i in range(n):
        pivot = next(r for r in range(i, n) if rows[r][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for r in range(n):
            if r != i:
                rows[r] = [x - rows[r][i] * y for x, y in zip(rows[r], rows[i], strict=True)]
    return [row[-1] for row in rows]


def quadratic_of(slope: Callable[[Law], Law]) -> Callable[[Law, Any], list[list[Fraction]]]:
    """Try every support, for a positive definite quadratic with this linear slope.

    Inside, z - T slope(p) is one level, and outside it is not above.
    """

    def law(z: Law, t: Any) -> list[list[Fraction]]:
        k = len(z)
        columns = [slope(corner(k, j)) for j in range(k)]
        for inside in subsets(k):
            matrix = [[t * columns[j][i] for j in inside] + [Fraction(1)] for i in inside]
            matrix.append([Fraction(1)] * len(inside) + [Fraction(0)])
            *shares, level = solved(matrix, [*(z[i] for i in inside), Fraction(1)])
            if min(shares) <= 0:
                continue
            p = [Fraction(0)] * k
            for i, x in zip(inside, shares, strict=True):
                p[i] = x
            rates = [x - t * s for x, s in zip(z, slope(p), strict=True)]
            if max(rates) == level:
                return [p]
        raise AssertionError("a continuous function has a maximum")

    return law


def skewed_slope(p: Law) -> Law:
    cost = inner(p, range(1, len(p) + 1))
    return [x + i * cost for i, x in enumerate(p, 1)]


def best_corners(corners: Sequence[Law], values: Sequence[Any]) -> list[Law]:
    return [p for p, value in zip(corners, values, strict=True) if value == max(values)]


def hardest_of(z: Law, t: Any) -> list[Law]:
    return best_corners([corner(len(z), i) for i in range(len(z))], z)


def leveled_of(z: Law, t: Any) -> list[Law]:
    """Over a set S the level distribution scores (sum of z - T) / |S|: of these, the best."""
    sets = subsets(len(z))
    corners = [[Fraction(int(i in s), len(s)) for i in range(len(z))] for s in sets]
    return best_corners(corners, [(sum(z[i] for i in s) - t) / Fraction(len(s)) for s in sets])


@dataclass(frozen=True)
class Regularizer:
    value: Callable[[Law], Any]
    solutions: Callable[[Law, Any], Sequence[Law]]
    exact: bool = False
    strict: bool = True
    symmetric: bool = True


ORDERS = {f"entmax {a}": a for a in (Fraction(5, 4), Fraction(3, 2), Fraction(3))}
REGULARIZERS = {
    "entropy": Regularizer(negative_entropy, softmax_of),
    "nothing": Regularizer(lambda p: Fraction(0), hardest_of, exact=True, strict=False),
    "square": Regularizer(half_square, quadratic_of(lambda p: p), exact=True),
    **{name: Regularizer(of_order(a), entmax_of(a)) for name, a in ORDERS.items()},
    "largest": Regularizer(max, leveled_of, exact=True, strict=False),
    "skewed": Regularizer(skewed, quadratic_of(skewed_slope), exact=True, symmetric=False),
}
STRICT = [name for name, omega in REGULARIZERS.items() if omega.strict]
SYMMETRIC = [name for name, omega in REGULARIZERS.items() if omega.symmetric]


class Problem:
    """Maximize <p, z> - T Omega(p), of fractions."""

    def __init__(self, name: str, z: Law, t: Any = 1) -> None:
        self.name, self.omega = name, REGULARIZERS[name]
        self.z, self.t = self.exactly(z), self.exactly([Fraction(t)])[0]
        self.zero = 0 if self.omega.exact else ZERO * max(self.t, 1)
        """By how much numbers that are equal may differ."""

    def exactly(self, values: Law) -> list[Any]:
        if self.omega.exact:
            return list(values)
        return [number(x) if isinstance(x, Fraction) else mp.mpf(x) for x in values]

    def score(self, p: Law) -> Any:
        return inner(self.exactly(p), self.z)

    def cost(self, p: Law) -> Any:
        return self.omega.value(self.exactly(p))

    def objective(self, p: Law) -> Any:
        return self.score(p) - self.t * self.cost(p)

    @cached_property
    def solutions(self) -> list[Law]:
        """All corners of the set of maximizers."""
        return [self.exactly(p) for p in self.omega.solutions(self.z, self.t)]

    @property
    def solution(self) -> Law:
        [only] = self.solutions
        return only

    @property
    def value(self) -> Any:
        return self.objective(self.solutions[0])


def mixture(laws: Sequence[Law], weights: Law) -> list[Any]:
    return [inner(weights, column) for column in zip(*laws, strict=True)]


# Inputs -------------------------------------------------------------------------------------------


def logits(min_size: int = 1, max_size: int = 4) -> SearchStrategy[list[Fraction]]:
    """Quarters up to 3: ties and borders are common, and float64 holds each of them."""
    quarters = st.integers(-12, 12).map(lambda n: Fraction(n, 4))
    return st.lists(quarters, min_size=min_size, max_size=max_size)


@st.composite
def pairs(draw: DrawFn, min_size: int = 1, max_size: int = 4) -> tuple[Law, Law]:
    k = draw(st.integers(min_size, max_size))
    return draw(logits(k, k)), draw(logits(k, k))


def temperatures() -> SearchStrategy[Fraction]:
    """Binary fractions from very cold to very hot."""
    plain = st.integers(1, 40).map(lambda n: Fraction(n, 8))
    return plain | st.sampled_from([Fraction(1, 2**10), Fraction(50), Fraction(2**20)])


def distributions(k: int) -> SearchStrategy[list[Fraction]]:
    """Fractions, corners and faces among them."""
    weights = st.lists(st.integers(0, 6), min_size=k, max_size=k).filter(any)
    return weights.map(lambda several: [Fraction(w, sum(several)) for w in several])


def tensor(values: Law) -> Tensor:
    return double([float(x) for x in values])


# The functions of omnivault -----------------------------------------------------------------------


OURS = ["entropy", "square", *ORDERS]


def ours(name: str, z: Tensor, t: Any) -> Tensor:
    """The maximizer for logits z, by omnivault."""
    if name == "entropy":
        return softmax(z, temperature=float(t))
    if name == "square":
        return sparsemax(z, float(t))
    return entmax(z, float(ORDERS[name]), float(t))


def rounding(name: str, z: Tensor, t: Any) -> Tensor:
    """How far rounding may move it, in float64.

    (z - max z) / T is rounded three times, and counts where it is small against 1 / (alpha - 1);
    the level is a sum of K such numbers, each rounded again. A power 1 / (alpha - 1) makes of an
    error d at a border d^(1 / (alpha - 1)), and elsewhere multiplies it by the exponent.
    """
    if name == "entropy":
        return softmax_bound(z, float(t))
    power = 1 / float(ORDERS.get(name, 2) - 1)
    error = 8 * (len(z) + 4) * U
    return torch.full_like(z, 2 * max(1.0, power) * error ** min(1.0, power))
