"""What the tests of several statements of this chapter share."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]
Property = Callable[[Pair], bool]
ROWS = [torch.tensor(z, dtype=torch.float64) for z in itertools.product((0.0, 1.0, 2.0), repeat=3)]
PAIRS: list[Pair] = list(itertools.product(ROWS, ROWS))


def equal_argmax(pair: Pair) -> bool:
    u, v = pair
    return torch.equal(u == u.max(), v == v.max())


def equal_ranking(pair: Pair) -> bool:
    u, v = (z.unsqueeze(-1) - z.unsqueeze(-2) for z in pair)
    return torch.equal(u.sign(), v.sign())


def rows_of_the_table(a: Property, b: Property) -> set[tuple[bool, bool]]:
    """Which of the four combinations of a and b occur among all pairs of small integer logits."""
    return {(a(pair), b(pair)) for pair in PAIRS}


def sufficient(a: Property, b: Property) -> bool:
    """A is sufficient for B: whenever A then B. The row (true, false) is missing."""
    return (True, False) not in rows_of_the_table(a, b)


def necessary(a: Property, b: Property) -> bool:
    """A is necessary for B: never B without A. The row (false, true) is missing."""
    return (False, True) not in rows_of_the_table(a, b)
