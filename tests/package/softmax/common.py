"""What several of these tests share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.strategies import DTYPES, HALF, smallest, unit

INF, NAN = math.inf, math.nan
Map = Callable[..., Tensor]


def random_logits(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 5 * torch.randn(*shape, generator=generator, dtype=torch.float64)


dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


# 0.3 is not a float32: the temperature is rounded too.
some_temperatures = pytest.mark.parametrize("temperature", [1.0, 0.3, 2.5, 40.0])


def slack(dtype: torch.dtype) -> int:
    """How many bounds apart: a float64 oracle rounds as much as a float64 subject."""
    return 2 if dtype is torch.float64 else 1


def backward(subject: Map, z: Tensor, upstream: Tensor | None, dim: int, **named: Any) -> Tensor:
    z = z.detach().requires_grad_()
    out = subject(z, dim, **named)
    upstream = torch.ones_like(out) if upstream is None else upstream
    (gradient,) = torch.autograd.grad(out, z, upstream)
    return gradient


def half_rounding(gradient: Tensor, dtype: torch.dtype) -> Tensor | float:
    return unit(dtype) * gradient.abs() + smallest(dtype) if dtype in HALF else 0.0


ROWS_FOR_MPMATH = {
    "book's A": [1.0, 5.0, 6.0, 3.0],
    "book's B": [-12.0, 120.0, -203.0, 2.0],
    "ties": [1.5, 1.5, -2.0, 1.5],
    "one class": [3.0],
    "two classes": [0.0, -20.0],
    "wide": [0.0, -40.0, -80.0],
    "into the subnormals": [0.0, -90.0, -100.0, -103.0],
    "far from zero": [10000.0, 10001.0, 9998.0],
}
