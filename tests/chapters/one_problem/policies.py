"""What the tests of policies and rewards share: the tilt, the best of n, and what they are like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from mpmath import mp
from torch import Tensor

from tests.support.strategies import number, shares, smallest, unit

Law = Sequence[Any]
"""Probabilities: fractions, or numbers of 50 digits."""

Rewards = Sequence[Any]

# What 50 digits leave of 1 - 1.
ZERO = mp.mpf(10) ** -45


# Inputs -------------------------------------------------------------------------------------------


@st.composite
def policies(draw: DrawFn, min_size: int = 1, max_size: int = 5, least: int = 0) -> Any:
    """Fractions of whole weights up to 9, so that ties are common; 0 is an outcome ruled out."""
    weights = st.lists(st.integers(least, 9), min_size=min_size, max_size=max_size)
    return shares(*draw(weights.filter(any)))


@st.composite
def tasks(
    draw: DrawFn, min_size: int = 1, max_size: int = 5, least: int = 0, bound: int = 5
) -> tuple[Law, list[int]]:
    """A policy and the reward of each outcome, a whole number: equal rewards are common."""
    q = draw(policies(min_size, max_size, least))
    return q, draw(lists_of(st.integers(-bound, bound), len(q)))


def lists_of(one: SearchStrategy[Any], size: int) -> SearchStrategy[list[Any]]:
    return st.lists(one, min_size=size, max_size=size)


def row(values: Sequence[Any], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor([float(x) for x in values], dtype=dtype)


# Distributions ------------------------------------------------------------------------------------


def exact(x: Any) -> Any:
    return number(x) if isinstance(x, Fraction) else mp.mpf(x)


def mean(p: Law, values: Sequence[Any]) -> Any:
    """Of what can occur: a value of another outcome may be infinite."""
    return mp.fsum(exact(a) * exact(x) for a, x in zip(p, values, strict=True) if a)


def kl(p: Law, q: Law) -> Any:
    pairs = [(exact(a), exact(b)) for a, b in zip(p, q, strict=True) if a]
    return mp.inf if any(b == 0 for _, b in pairs) else mp.fsum(a * mp.log(a / b) for a, b in pairs)


def total_variation(p: Law, q: Law) -> Any:
    return mp.fsum(abs(exact(a) - exact(b)) for a, b in zip(p, q, strict=True)) / 2


def reweighted(q: Law, weights: Sequence[Any]) -> list[Any]:
    """Each probability times its weight, renormalized: exact where all are fractions."""
    products = [a * w for a, w in zip(q, weights, strict=True)]
    return [x / sum(products) for x in products]


def softmax_of(z: Sequence[Any]) -> list[Any]:
    return reweighted([mp.exp(exact(x)) for x in z], [1] * len(z))


# The tilt -----------------------------------------------------------------------------------------


def tilt(q: Law, r: Rewards, t: Any) -> list[Any]:
    """The policy q tilted by the reward r at the temperature T."""
    return reweighted([exact(a) for a in q], [mp.exp(exact(x) / exact(t)) for x in r])


def smooth_maximum(q: Law, r: Rewards, t: Any) -> Any:
    """T log E_q[e^(r/T)], the most that reward less T times the divergence can be."""
    return exact(t) * mp.log(mean(q, [mp.exp(exact(x) / exact(t)) for x in r]))


def levels(q: Law, r: Rewards) -> list[Any]:
    """The rewards that can occur, the smallest first."""
    return sorted({x for a, x in zip(q, r, strict=True) if a})


def same(p: Law, q: Law) -> bool:
    return bool(total_variation(p, q) < ZERO)


# How far rounding may move a tilt -----------------------------------------------------------------


def _exponent_errors(q: Tensor, r: Tensor, t: float, u: float) -> tuple[Tensor, Tensor]:
    """Errors of (r_i - max r) / T + log q_i in units of 1, and the tilt; for outcomes with q > 0.

    A gap is rounded three times (shift, division, T), a logarithm is within 8 u and rounded, the
    sum of both is rounded, and once more where the largest is taken off; the weight itself may be
    a rounded fraction.
    """
    gap = (r.max() - r) / t
    size = q.log().abs().max()
    return u * (5 * gap + 13 * size + 2), torch.softmax(q.log() - gap, -1)


def tilt_bounds(q: Law, r: Rewards, t: float, dtype: torch.dtype) -> tuple[Tensor, float]:
    """Largest errors of ``softmax`` and of ``logsumexp`` with the weights q, in ``dtype``.

    Summed in cascade, divided and rounded as in ``tests.support.strategies``; of the smooth maximum
    all its parts are rounded too.
    """
    inside = [i for i, a in enumerate(q) if a]
    some_q, some_r = row([q[i] for i in inside]), row([r[i] for i in inside])
    u = unit(dtype)
    errors, p = _exponent_errors(some_q, some_r, t, u)
    cascade = u * (4 * math.log2(len(q) + 1) + 20)
    shared = float((p * errors).sum()) + cascade
    of_softmax = torch.full((len(q),), 2 * smallest(dtype), dtype=torch.float64)
    of_softmax[inside] += p * (errors + shared)
    largest_log = float(some_q.log().abs().max()) + math.log(len(q))
    parts = t * 12 * largest_log + 3 * float(some_r.abs().max())
    return of_softmax, t * shared + u * parts


# The best of n ------------------------------------------------------------------------------------


def best_of(q: Law, r: Rewards, n: int) -> list[Any]:
    """The law of the first of n draws with the largest reward."""
    law = []
    for a, x in zip(q, r, strict=True):
        up_to = sum(b for b, y in zip(q, r, strict=True) if y <= x)
        below = sum(b for b, y in zip(q, r, strict=True) if y < x)
        law.append(a / (up_to - below) * (up_to**n - below**n) if a else a)
    return law


def divergence_bound(n: int) -> Any:
    """log n - (n - 1) / n, which no best of n reaches on a finite set but for n = 1."""
    return mp.log(n) - mp.mpf(n - 1) / n
