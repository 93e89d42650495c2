"""What the tests of several statements of this chapter share."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from tests.support.strategies import shares

RANKED = [
    shares(*sorted(weights, reverse=True))
    for size in (1, 2, 3, 4, 5)
    for weights in combinations_with_replacement((1, 2, 3, 7, 20), size)
]
"""Ranked distributions, among them ties and peaks."""
MASSES = [Fraction(k, 17) for k in range(1, 18)]


def nucleus(p: Sequence[Fraction], rho: Fraction) -> int:
    """Count the tokens, given in falling order, whose mass reaches rho."""
    mass = Fraction(0)
    for count, x in enumerate(p, 1):
        mass += x
        if mass >= rho:
            return count
    raise AssertionError("the masses sum to less than rho")


def renormalized(p: Sequence[Fraction]) -> list[Fraction]:
    return [x / sum(p) for x in p]


def logits(p: Sequence[Fraction]) -> Tensor:
    return torch.tensor([float(x) for x in p], dtype=torch.float64).log()
