"""What several of these tests share."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from omnivault.distributions import Categorical, Multinomial
from tests.support.strategies import DTYPES, unit

INF, NAN = math.inf, math.nan
Function = Callable[..., Any]


class Family(NamedTuple):
    n: int
    make: Function
    from_natural: Function
    log_partition: Function


FAMILIES = [Family(1, Categorical, Categorical.from_natural, Categorical.log_partition)]
for n in (1, 4):
    functions = (Multinomial, Multinomial.from_natural, Multinomial.log_partition)
    FAMILIES.append(Family(n, *(partial(f, n) for f in functions)))


families = pytest.mark.parametrize("family", FAMILIES, ids=["one", "1 draw", "4 draws"])
forms = pytest.mark.parametrize("minimal", [False, True], ids=["overcomplete", "minimal"])
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 1.5 * torch.randn(shape, generator=generator, dtype=torch.float64)


def logits_of(eta: Tensor, minimal: bool) -> Tensor:
    """K logits of as many, or of one fewer, natural parameters."""
    return torch.nn.functional.pad(eta, (0, 1)) if minimal else eta


ROUNDING = 1024 * unit(torch.float64)  # hundreds of roundings, of numbers of size ten or less


def assert_close(actual: Tensor, expected: Any, rel: float = ROUNDING) -> None:
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.double(), expected, rtol=rel, atol=rel)


P3 = torch.tensor([0.5, 0.25, 0.25])
index, counts = [Categorical(P3).sufficient_statistic], [Multinomial(2, P3).sufficient_statistic]
