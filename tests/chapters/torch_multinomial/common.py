"""What the tests of several statements of this chapter share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction

import pytest
import torch

from tests.support.strategies import DTYPES, SINGLE_DOUBLE

FALSE_ALARM = 1e-3  # of another seed; with the one given a test passes for ever or fails for ever
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
single_and_double = pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def orders(k: int, n: int) -> list[tuple[int, ...]]:
    return list(itertools.permutations(range(k), n))


def chance(order: Sequence[int], weights: Sequence[int]) -> Fraction:
    """The probability of an ordered sample, as the definition states it."""
    left, product = sum(weights), Fraction(1)
    for i in order:
        product, left = product * Fraction(weights[i], left), left - weights[i]
    return product
