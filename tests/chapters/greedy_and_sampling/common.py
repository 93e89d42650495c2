"""What the tests of several statements of this chapter share."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from mpmath import mp
from torch import Tensor

from omnivault.sampling import apply_temperature
from tests.support.strategies import assert_within, unit

not_constant = pytest.mark.parametrize(
    "values",
    [[1, 0], [0, -1e-6], [1, 0, 0], [3, -2, 3, 3], [2, 1, 0, -3, 1], [5, 4.8, 0, 0, 0]],
    ids=str,
)


# Warm enough for the largest gap to leave exp(-64), far above 50 digits; steps down to 1 percent.
LADDER = [mp.mpf(x) / 1000 for x in (125, 500, 505, 1000, 1010, 3000, 10**5, 10**7)]
COLD, HOT = mp.mpf(1) / 10**9, mp.mpf(10) ** 9
U = unit(torch.float64)


def row(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def tops(values: Sequence[Any]) -> list[int]:
    return [i for i, x in enumerate(values) if x == max(values)]


def falls(numbers: Sequence[Any]) -> bool:
    return all(a > b for a, b in pairwise(numbers))


def assert_falls(f: Callable[[Any], Any], cold: Any, hot: Any) -> None:
    """Strictly below the cold limit and above the hot one, and close to them at the ends."""
    assert falls([cold, *map(f, LADDER), hot])
    assert_within([f(COLD), f(HOT)], [cold, hot], 1e-8)


def same_order(z: Sequence[Any], w: Sequence[Any]) -> bool:
    return all((z[i] < z[j]) == (w[i] < w[j]) for i, j in product(range(len(z)), repeat=2))


READS_ORDER: dict[str, Callable[[Sequence[Any]], Any]] = {
    "constant": lambda z: 7,
    "argmax": tops,
    "first of the largest": lambda z: tops(z)[0],
    "second best": lambda z: sorted(range(len(z)), key=lambda i: -z[i])[1:2],
    "number of different values": lambda z: len(set(z)),
    # A random rule is its distribution.
    "draw by rank": lambda z: [Fraction(1, sum(other >= x for other in z)) for x in z],
}


class Toy:
    """Whole logits that depend on all tokens before, often tied and never constant."""

    def __init__(self, vocabulary: int, seed: int, low: int = 0) -> None:
        self.vocabulary, self.seed, self.low, self.temperature = vocabulary, seed, low, 1.0

    def logits(self, *prefix: int) -> list[float]:
        source = random.Random(f"{self.seed} {prefix}")
        z = [0.0]
        while min(z) == max(z):
            z = [float(source.randint(self.low, 3)) for _ in range(self.vocabulary)]
        return z

    def __call__(self, ids: Tensor) -> Tensor:
        z = torch.stack([row(self.logits(*prefix)) for prefix in ids.tolist()])
        return apply_temperature(z, self.temperature)
