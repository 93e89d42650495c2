"""What several of these tests share."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from omnivault.information import cross_entropy, kl_divergence
from tests.support.strategies import DTYPES, HALF, arithmetic, smallest, unit

Measure = Callable[..., Tensor]
both = pytest.mark.parametrize("measure", [cross_entropy, kl_divergence])
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def entropy_bound(p: Tensor, dim: int = -1) -> Tensor:
    """Logarithm (8 u), product and a sum of K positive terms in cascade; half rounds again."""
    # A p just above 1 has a tiny negative term, and a p rounded near 1 a tiny positive one.
    size = torch.xlogy(p.double(), p.double()).abs().sum(dim)
    u = unit(arithmetic(p.dtype))
    bound = u * (10 + 4 * math.log2(p.shape[dim] + 1)) * size
    return bound + (unit(p.dtype) * size + smallest(p.dtype) if p.dtype in HALF else 0.0)


def rounded(dtype: torch.dtype) -> float:
    """Relative error of a few logarithms or exponentials (8 u each) of what the dtype holds."""
    return 4 * unit(dtype) + 16 * unit(arithmetic(dtype))


def probabilities(*shape: int, dim: int = -1) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.softmax(3 * torch.randn(*shape, generator=generator, dtype=torch.float64), dim)


NOT_A_ROW = (
    "probabilities must be >= 0 and sum to 1, got a row {} with sum {}; "
    "turn logits into probabilities with softmax(z) first"
)
NOT_FLOATING = (
    "probabilities must be a tensor of a floating dtype, got {}; "
    "torch.tensor(...) or p.float() makes one"
)
NO_DIM = (
    "dim {} does not exist in probabilities of shape {}; "
    "the last dimension is -1, a scalar has none"
)


def other_probabilities(*shape: int, dim: int = -1) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.softmax(2 * torch.randn(*shape, generator=generator, dtype=torch.float64), dim)
