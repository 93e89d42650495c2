"""Regularizers that are sums over the tokens, and the problem solved for them once more.

Where nothing is said, numbers have 50 digits; logits and temperatures are fractions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from mpmath import mp
from torch import Tensor

from tests.chapters.one_problem.common import subsets
from tests.support.strategies import double, inner, number, total

Law = Sequence[Any]

ZERO = mp.mpf(10) ** -40
"""What 50 digits may leave of nothing."""


def exact(x: Any) -> Any:
    return number(x) if isinstance(x, Fraction) else mp.mpf(x)


# Regularizers -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sum:
    """Omega(p) = phi(p_1) + ... + phi(p_K), with the slope of phi and what undoes it."""

    phi: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    inverse: Callable[[Any], Any]
    lowest: Any
    """The slope at 0."""

    def slope_at(self, x: Any) -> Any:
        return self.slope(x) if x else self.lowest

    def objective(self, z: Law, t: Any, p: Law) -> Any:
        cost = mp.fsum(self.phi(exact(x)) for x in p)
        return inner([exact(x) for x in p], [exact(x) for x in z]) - exact(t) * cost

    def margin(self, t: Any) -> Any:
        """By so much must the first logit lead to take everything."""
        return exact(t) * (self.slope(mp.mpf(1)) - self.lowest)

    def solution(self, z: Law, t: Any) -> list[Any]:
        """All slopes of p_i > 0 are z_i / T less one level, halved until the sum is 1.

        The largest probability lies between 1/K and 1, which says where the level does.
        """
        scaled = [exact(x) / exact(t) for x in z]
        low, high = (max(scaled) - self.slope(mp.mpf(1) / n) for n in (1, len(z)))

        def at(level: Any) -> list[Any]:
            return [
                self.inverse(x - level) if x - level > self.lowest else mp.mpf(0) for x in scaled
            ]

        for _ in range(180):
            middle = (low + high) / 2
            low, high = (middle, high) if mp.fsum(at(middle)) >= 1 else (low, middle)
        return at(low)


def of_order(alpha: Fraction) -> Sum:
    """Of entmax; below 1 those of Tsallis, with a slope that is infinite at 0."""
    a = number(alpha) - 1
    return Sum(
        phi=lambda p: p ** (a + 1) / (a * (a + 1)),
        slope=lambda p: p**a / a,
        inverse=lambda x: (a * x) ** (1 / a),
        lowest=mp.mpf(0) if a > 0 else -mp.inf,
    )


ENTROPY = Sum(
    phi=lambda p: p * mp.log(p) if p else mp.mpf(0),
    slope=lambda p: mp.log(p) + 1,
    inverse=lambda x: mp.exp(x - 1),
    lowest=-mp.inf,
)
BOTH = Sum(
    phi=lambda p: ENTROPY.phi(p) + p**2 / 2,
    slope=lambda p: ENTROPY.slope(p) + p,
    inverse=lambda x: mp.lambertw(mp.exp(x - 1)).real,
    lowest=-mp.inf,
)
SPARSE = {
    **{f"order {a}": of_order(Fraction(a)) for a in ("6/5", "3/2", "2", "3")},
    "exponential": Sum(mp.exp, mp.exp, mp.log, lowest=mp.mpf(1)),
    "logarithm": Sum(
        phi=lambda p: -mp.log(1 + p),
        slope=lambda p: -1 / (1 + p),
        inverse=lambda x: -1 / x - 1,
        lowest=mp.mpf(-1),
    ),
}
POSITIVE = {
    "entropy": ENTROPY,
    "entropy and square": BOTH,
    "order 1/2": of_order(Fraction(1, 2)),
    "order 3/4": of_order(Fraction(3, 4)),
}


# The nearest distribution -------------------------------------------------------------------------


def nearest(z: Law, t: Fraction) -> list[Fraction]:
    """The distribution nearest to z / T, of fractions: every support is tried.

    On it p is z / T less one level, and no logit outside is above the level.
    """
    for inside in subsets(len(z)):
        level = (total(z[i] for i in inside) / t - 1) / len(inside)
        p = [z[i] / t - level if i in inside else Fraction(0) for i in range(len(z))]
        if all(p[i] > 0 if i in inside else z[i] / t <= level for i in range(len(z))):
            return p
    raise AssertionError("one distribution is the nearest")


# Inputs -------------------------------------------------------------------------------------------


def logits(min_size: int = 1, max_size: int = 5) -> SearchStrategy[list[Fraction]]:
    """Quarters up to 3: ties and borders are common, and float32 holds each of them."""
    quarters = st.integers(-12, 12).map(lambda n: Fraction(n, 4))
    return st.lists(quarters, min_size=min_size, max_size=max_size)


def row(values: Law, dtype: torch.dtype = torch.float64) -> Tensor:
    return double([float(x) for x in values]).to(dtype)


# Rounding -----------------------------------------------------------------------------------------


def rounding(k: int, alpha: float, u: float) -> float:
    """How far rounding moves entmax of K classes, or sparsemax, in the sum of absolute values.

    With a = alpha - 1 and w = a x / m^a in [-1, 0], for x = (z - max z) / T and the largest
    probability m, each term m (1 + w)^(1/a) has an error from some 16 roundings of w and from
    a log m in exp(-a log m); the power makes of an error d at most d, or d^(1/a) for a > 1. log1p
    and exp add 12 units. The terms rise with m, so where the computed sum passes 1 they are as far
    off together as that sum; dividing by the sum doubles it, and so do the terms' own errors.
    """
    a = alpha - 1
    term: float = ((16 + a * float(mp.log(k))) * u) ** min(1.0, 1 / a) + 12 * u
    return 4 * (k * term + (8 + 5 * k.bit_length()) * u)
