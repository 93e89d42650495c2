"""What the tests of several statements of this chapter share."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.support.strategies import unit

U = unit(torch.float64)


def above(x: Tensor) -> Tensor:
    """Entry (i, j) says whether x_i > x_j."""
    return x.unsqueeze(-1) > x.unsqueeze(-2)


def is_constant(z: Tensor) -> bool:
    return bool((z == z[0]).all())


def svd_error(k: int) -> float:
    """Of singular values of K x K numbers, relative to the largest: some K^2 roundings."""
    return 8 * k * k * U
