"""Softmax as a measure: the checks of its exercises tell right answers from wrong ones."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def conditional(z: Tensor, kept: Tensor, t: float) -> Tensor:
    probs = torch.softmax(z / t, -1)
    inside = torch.zeros_like(z).index_fill(0, kept, 1)
    return probs * inside / (probs * inside).sum()


def with_zeros(z: Tensor, kept: Tensor, t: float) -> Tensor:
    return torch.softmax(torch.zeros_like(z).index_copy(0, kept, z[kept]) / t, -1)


def union(one: Sequence[float], two: Sequence[float], three: float) -> float:
    either = one[0] + one[1] - two[0]
    return either + one[2] - (two[1] + two[2] - three)


RIGHT: dict[str, Any] = {
    "ex-events": lambda k: (2**k, 2**k // 2),
    "ex-conditioning": conditional,
    "ex-inclusion": union,
    "ex-saturation": lambda k: 24 * math.log(2) + math.log(k - 1),
}
WRONG: dict[str, dict[str, Any]] = {
    "ex-events": {
        "one for each token": lambda k: (k, 1),
        "without the impossible event": lambda k: (2**k - 1, 2 ** (k - 1)),
        "the token alone left out": lambda k: (2**k, 2**k - 1),
        "only the number of events": lambda k: 2**k,
    },
    "ex-conditioning": {
        "zeros in place of minus infinity": with_zeros,
        "not renormalized": lambda z, kept, t: (
            torch.softmax(z / t, -1) * torch.zeros_like(z).index_fill(0, kept, 1)
        ),
        "no temperature": lambda z, kept, t: conditional(z, kept, 1.0),
        "multiplied by the temperature": lambda z, kept, t: conditional(z, kept, 1 / t),
        "the kept ones alone": lambda z, kept, t: torch.softmax(z[kept] / t, -1),
    },
    "ex-inclusion": {
        "as if disjoint": lambda one, two, three: sum(one),
        "no triple": lambda one, two, three: sum(one) - sum(two),
        "the triple taken away": lambda one, two, three: sum(one) - sum(two) - three,
        "the triple twice": lambda one, two, three: sum(one) - sum(two) + 2 * three,
    },
    "ex-saturation": {
        "two classes": lambda k: 24 * math.log(2),
        "all K of them": lambda k: 24 * math.log(2) + math.log(k),
        "in bits": lambda k: 24 + math.log2(k - 1),
        "the wrong sign": lambda k: 24 * math.log(2) - math.log(k - 1),
    },
}
