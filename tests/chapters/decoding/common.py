"""What the tests of several statements of this chapter share."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from itertools import product
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from omnivault.decoding import Beams, beam_search, greedy_search
from tests.support.strategies import unit

NOTHING = torch.zeros(0, dtype=torch.int64)
U = unit(torch.float64)
Text = tuple[int, ...]


def row(values: Sequence[Any]) -> Tensor:
    return torch.tensor([float(x) for x in values], dtype=torch.float64)


def shares(*weights: Any) -> list[Fraction]:
    return [Fraction(w) / sum(weights) for w in weights]


class Toy:
    """A model of exact conditionals; omnivault sees their logarithms, divided by T."""

    def __init__(self, k: int, conditionals: Callable[[Text], Sequence[Fraction]]) -> None:
        self.k, self.after, self.temperature, self.rows = k, cache(conditionals), 1.0, 0

    def __call__(self, ids: Tensor) -> Tensor:
        self.rows += len(ids)
        known = {y: row(self.after(y)).log() for y in set(map(tuple, ids.tolist()))}
        return torch.stack([known[tuple(y)] for y in ids.tolist()]) / self.temperature

    def probability(self, y: Sequence[int]) -> Fraction:
        return math.prod((self.after(tuple(y[:i]))[t] for i, t in enumerate(y)), start=Fraction(1))

    def texts(self, n: int) -> dict[Text, Fraction]:
        return {y: self.probability(y) for y in product(range(self.k), repeat=n)}

    def greedy(self, n: int) -> Text:
        return tuple(greedy_search(self, NOTHING, max_new_tokens=n).tolist())

    def beams(self, width: int, n: int) -> Beams:
        return beam_search(self, NOTHING, width=width, max_new_tokens=n)

    def best(self, width: int, n: int) -> Text:
        return tuple(self.beams(width, n).ids[0].tolist())


def chance(k: int, seed: int, low: int = 0, high: int = 10**6) -> Toy:
    def after(y: Text) -> list[Fraction]:
        source = random.Random(f"{seed} {y}")
        weights = [source.randint(low, high) for _ in range(k)]
        return shares(*weights) if any(weights) else shares(*[1] * k)

    return Toy(k, after)


def padded(k: int, *weights: float) -> list[Fraction]:
    return shares(*(Fraction(str(w)) for w in weights), *[0] * (k - len(weights)))


def two_steps(k: int) -> Toy:
    """Token 0 with .6 or 1 with .4; after 0 k equally likely ones, after 1 a certain one."""
    v = max(k, 2)
    return Toy(v, lambda y: padded(v, *([1] if y[0] else [1] * k)) if y else padded(v, 0.6, 0.4))


def tokens(z: Tensor) -> list[int]:
    return [i for i, kept in enumerate(z.isfinite().tolist()) if kept]


def ranked(p: Sequence[Any]) -> list[int]:
    """Most probable first; of equals the last, which is omnivault's choice."""
    return sorted(range(len(p)), key=lambda i: (-p[i], -i))


weight_rows = st.lists(st.integers(1, 9), min_size=1, max_size=7)
