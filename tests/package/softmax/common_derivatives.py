"""What several of these tests share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from omnivault.softmax import SoftmaxFunction
from tests.support.strategies import arithmetic, smallest, softmax_bound, unit

INF, NAN = math.inf, math.nan


# Torch gives it no type.
function: Callable[[Any, Any], Tensor] = SoftmaxFunction.apply


@dataclass(frozen=True)
class Counted:
    """Numbers as float64 has them, and how far arithmetic in ``dtype`` may be from them.

    Every operation passes on the errors of its operands and adds one rounding of its own, which
    is relative (u) or, below the normal numbers, absolute (the smallest number).
    """

    value: Tensor
    error: Tensor
    dtype: torch.dtype

    def rounded(self, value: Tensor, error: Tensor, roundings: float = 1) -> Counted:
        own = roundings * unit(self.dtype) * (value.abs() + error) + smallest(self.dtype)
        return Counted(value, error + own, self.dtype)

    def __mul__(self, other: Counted) -> Counted:
        error = self.value.abs() * other.error + self.error * (other.value.abs() + other.error)
        return self.rounded(self.value * other.value, error)

    def __sub__(self, other: Counted) -> Counted:
        return self.rounded(self.value - other.value, self.error + other.error)

    def over(self, temperature: Any) -> Counted:
        """Divided by T, which is rounded to the dtype itself."""
        return self.rounded(self.value / temperature, self.error / temperature, 2)

    def sum(self, *dim: int, keepdim: bool = False) -> Counted:
        """Added up in cascade."""
        terms = math.prod(self.value.shape[d] for d in dim)
        size = (self.value.abs() + self.error).sum(dim, keepdim)
        own = 4 * math.log2(terms + 1) * unit(self.dtype) * size
        error = self.error.sum(dim, keepdim) + own
        return Counted(self.value.sum(dim, keepdim), error, self.dtype)

    def arranged(self, arrange: Callable[[Tensor], Tensor]) -> Counted:
        """Moved about, which rounds nothing."""
        return Counted(arrange(self.value), arrange(self.error), self.dtype)

    def bound(self, dtype: torch.dtype) -> Tensor:
        """Largest error once the result is in ``dtype``: rounded again if that is narrower."""
        if unit(dtype) <= unit(self.dtype):
            return self.error
        return self.error + unit(dtype) * (self.value.abs() + self.error) + smallest(dtype)


def counted_softmax(z: Tensor, temperature: Any, dim: int = -1) -> Counted:
    """Softmax with the error of its dtype: half precision has rounded the probabilities."""
    p = torch.softmax(z.double() / temperature, dim)
    return Counted(p, softmax_bound(z, temperature, dim), arithmetic(z.dtype))


def counted_vjp(z: Tensor, v: Tensor, temperature: Any, dim: int = -1) -> Counted:
    """p (v - <p, v>) / T, by PyTorch, and by ours, with v less what it is at the leader.

    The error is that of both: either may stand on the other side of a comparison.
    """
    p = counted_softmax(z, temperature, dim)
    v = v.double().expand(p.value.shape)
    # Rounded once: v may come in a wider dtype than p.
    upstream = p.rounded(v, torch.zeros_like(v))
    leader = p.value.argmax(dim, keepdim=True)
    torchs, ours = (
        (p * (u - (p * u).sum(dim, keepdim=True))).over(temperature)
        for u in (upstream, upstream - upstream.arranged(lambda x: x.gather(dim, leader)))
    )
    return Counted(ours.value, torchs.error + ours.error, ours.dtype)
