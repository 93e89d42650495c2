"""What the tests of several statements of this chapter share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from mpmath import mp
from torch import Tensor

from tests.support.strategies import unit

U = unit(torch.float64)


# What 50 digits leave of 1 - 1.
ZERO = mp.mpf(10) ** -45


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def row(values: Sequence[float], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


def attention_bound(q: Tensor, k: Tensor, v: Tensor, tau: float) -> Tensor:
    """Largest difference of two ways to the same attention, in any order of summation.

    In either a score is a sum of d products, its error divided by tau a relative one of a weight,
    own and through the sum, and the output a sum of n.
    """
    size = 1 + (q.abs() @ k.abs().mT).max() / tau
    return 8 * (q.shape[-1] + k.shape[-2] + 8) * U * size * v.abs().max()


def drawn_components(name: str, count: int) -> tuple[Tensor, float]:
    """Independent components with mean 0 and variance 1, and the largest square there is."""
    u = torch.rand(count, generator=seeded(14), dtype=torch.float64)
    return {
        "uniform": ((2 * u - 1) * math.sqrt(3), 3.0),
        "sparse": (torch.where(u < 0.125, -2.0, torch.where(u < 0.25, 2.0, 0.0)).double(), 4.0),
        "skewed": (torch.where(u < 0.2, 2.0, -0.5).double(), 4.0),
        "signs": (torch.where(u < 0.5, -1.0, 1.0).double(), 1.0),
    }[name]
