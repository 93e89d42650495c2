"""What several of these tests share."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from tests.support.strategies import DTYPES

INF, NAN = math.inf, math.nan
FALSE_ALARM = 1e-6  # of another seed, or of another machine, where draws may be others
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chances(*shape: int) -> Tensor:
    return torch.rand(shape, generator=generator(1), dtype=torch.float64)


def rows(*shape: int) -> Tensor:
    z = torch.randn(*shape, generator=generator(2), dtype=torch.float64)
    return (2 * z).softmax(-1)


def vectors(n: int, k: int) -> Tensor:
    """All vectors of k counts that sum to n."""
    return torch.tensor([y for y in product(range(n + 1), repeat=k) if sum(y) == n])


P3 = torch.tensor([0.5, 0.25, 0.25])
