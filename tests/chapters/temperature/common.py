"""What the tests of several statements of this chapter share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import sympy as sp
import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from mpmath import mp
from torch import Tensor

from omnivault.softmax import SoftmaxFunction
from tests.support.strategies import exact_softmax, unit, whole_rows

U = unit(torch.float64)


# What 50 digits leave of 1 - 1.
ZERO = mp.mpf(10) ** -45


# With a gradient for T.
softmax_at: Callable[[Any, Any], Tensor] = SoftmaxFunction.apply
EXAMPLE = [2.0, 1.0, 3.0, 5.0, 4.0]
EDGES = [
    pytest.param(EXAMPLE, id="the example"),
    pytest.param([3.0], id="one class"),
    pytest.param([1.0, -1.0], id="two classes"),
    pytest.param([4.0, 4.0], id="two tied"),
    pytest.param([2.0, 2.0, 2.0], id="three tied"),
    pytest.param([5.0, 5.0, 1.0, 1.0, 1.0], id="tie at the top"),
    pytest.param([5.0, 1.0, 1.0, 1.0], id="all others tied"),
    pytest.param([5.0, 4.8, 0.0, 0.0, 0.0], id="two scales"),
    pytest.param([0.0, -1e-6, -5.0], id="near tie"),
    pytest.param([1e4, 0.0, -1e4], id="far apart"),
]


def row(values: Sequence[float], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


def is_constant(z: Tensor) -> bool:
    return bool((z == z[0]).all())


@st.composite
def near_tied_rows(draw: DrawFn, min_size: int = 1, max_size: int = 6) -> Tensor:
    """Whole numbers up to 5, some of them moved by 2^-20: exact ties, near ties, and neither."""
    z = draw(whole_rows(min_size, max_size, bound=5))
    nudges = st.lists(st.sampled_from([0, 0, 1, -1]), min_size=len(z), max_size=len(z))
    return z + torch.tensor(draw(nudges), dtype=torch.float64) / 2**20


def rising(min_size: int = 2, max_size: int = 4) -> SearchStrategy[list[float]]:
    """Rising temperatures, each at least 5 percent above the one before, between 0.37 and 930.

    Over the smallest, a gap of 10 leaves exp(-27): the strict inequalities of the chapter are
    between numbers that differ by far more than 1e-50.
    """
    powers = st.lists(st.integers(-20, 140), min_size=min_size, max_size=max_size, unique=True)
    return powers.map(lambda several: [1.05**power for power in sorted(several)])


def exact_row(z: Tensor) -> list[Any]:
    return [mp.mpf(x) for x in z.tolist()]


def mean_of(values: Sequence[Any], p: Sequence[Any]) -> Any:
    return mp.fsum(a * x for a, x in zip(p, values, strict=True))


def exact_mean(z: Tensor, temperature: Any) -> Any:
    return mean_of(exact_row(z), exact_softmax(z, temperature))


def exact_variance(z: Tensor, temperature: Any) -> Any:
    mean = exact_mean(z, temperature)
    return mean_of([(x - mean) ** 2 for x in exact_row(z)], exact_softmax(z, temperature))


class Symbols:
    """Softmax of K logits and a temperature that are symbols."""

    def __init__(self, k: int) -> None:
        self.t = t = sp.Symbol("T", positive=True)
        self.z = sp.symbols(f"z_1:{k + 1}", real=True)
        self.weights = [sp.exp(x / t) for x in self.z]
        self.sum = sum(self.weights)
        self.p = [w / self.sum for w in self.weights]
        self.mean = sum(a * x for a, x in zip(self.p, self.z, strict=True))
        self.variance = sum(a * (x - self.mean) ** 2 for a, x in zip(self.p, self.z, strict=True))
        self.entropy = -sum(a * sp.expand_log(sp.log(a), force=True) for a in self.p)

    def vanishes(self, expression: Any) -> bool:
        """Whether it is zero identically: a polynomial in logits, weights and logs over another."""
        plain = sp.symbols(f"w_1:{len(self.z) + 1}", positive=True)
        rational = expression.subs(dict(zip(self.weights, plain, strict=True)))
        return bool(sp.expand(sp.fraction(sp.together(rational))[0]) == 0)


def renyi(p: Sequence[Any], order: Any) -> Any:
    """Renyi's entropy, of any order but 1 by its formula."""
    if order == 1:
        return -mp.fsum(a * mp.log(a) for a in p)
    if order == mp.inf:
        return -mp.log(max(p))
    return mp.log(mp.fsum(a ** mp.mpf(order) for a in p)) / (1 - mp.mpf(order))


def slope_bound(size: float, temperature: float) -> float:
    """Largest error of dp/dT for logits up to ``size``.

    It sums terms up to z / T^2, with relative errors of a few z / T.
    """
    return (16 * size / temperature + 64) * U * size / temperature**2


def slopes_of(p: Tensor, t: Tensor) -> Tensor:
    return torch.stack([torch.autograd.grad(a, t, retain_graph=True)[0] for a in p])


def tails(p: Sequence[Any]) -> list[Any]:
    """Sums of all but the r largest, r = 1, ..., K - 1: these keep their digits near zero."""
    smallest_first = sorted(p)
    return [mp.fsum(smallest_first[: len(p) - r]) for r in range(1, len(p))]
