"""Greedy and sampling: the checks of its exercises tell right answers from wrong ones."""

import math
from collections.abc import Callable
from typing import Any

import torch
from scipy.optimize import brentq

Tensor = torch.Tensor


def where(gap: Callable[[float], float]) -> float:
    return float(brentq(gap, 1e-5, 1e5))


def right_temperature(z: Tensor) -> float:
    behind = (z.max() - z).tolist()
    return where(lambda t: sum(math.exp(-gap / t) for gap in behind) - 2)


def agreeing_draws(z: Tensor) -> float:
    return where(lambda t: (z / t).softmax(0).square().sum().item() - 0.5)


def by_inversion(z: Tensor, generator: torch.Generator) -> Tensor:
    weights = torch.arange(1, len(z) + 1).double() ** -2
    u = torch.rand(1, generator=generator).double() * weights.sum()
    return z.sort(descending=True).indices[(weights.cumsum(0) < u).sum()]


def from_weights(
    weights: Callable[[Tensor, Tensor], Tensor],
) -> Callable[[Tensor, torch.Generator], int]:
    def draw(z: Tensor, generator: torch.Generator) -> int:
        rank = z.argsort(descending=True).argsort() + 1.0
        return int(torch.multinomial(weights(z, rank), 1, generator=generator))

    return draw


def unseeded(z: Tensor, generator: torch.Generator) -> Tensor:
    return by_inversion(z, torch.default_generator)


def at_two(z: Tensor, t: float, warmer: float) -> tuple[Tensor, Tensor]:
    return torch.softmax(z / t, 0), torch.softmax(z / warmer, 0)


def overlap(z: Tensor, t: float, warmer: float) -> Tensor:
    return 1 - torch.minimum(*at_two(z, t, warmer)).sum()


def absolute_sum(z: Tensor, t: float, warmer: float) -> Tensor:
    cold, warm = at_two(z, t, warmer)
    return (cold - warm).abs().sum()


def largest_difference(z: Tensor, t: float, warmer: float) -> Tensor:
    cold, warm = at_two(z, t, warmer)
    return (cold - warm).abs().max()


RIGHT: dict[str, Any] = {
    "ex-half-the-time": right_temperature,
    "ex-rank-sampler": by_inversion,
    "ex-tv-temperatures": overlap,
}
WRONG: dict[str, dict[str, Any]] = {
    "ex-half-the-time": {
        "the inverse temperature": lambda z: 1 / right_temperature(z),
        "two draws agree": agreeing_draws,
        "as if at T = 1": lambda z: z.softmax(0).max() / 0.5,
    },
    "ex-rank-sampler": {
        "one over the rank": from_weights(lambda z, rank: 1 / rank),
        "a rank from zero, plus two": from_weights(lambda z, rank: 1 / (rank + 1) ** 2),
        "the worst first": from_weights(lambda z, rank: 1 / (7 - rank) ** 2),
        "the index for the rank": from_weights(lambda z, rank: 1 / (torch.arange(6.0) + 1) ** 2),
        "softmax": from_weights(lambda z, rank: z.softmax(0)),
        "greedy": lambda z, generator: z.argmax(),
        "another generator": unseeded,
        "the distribution": lambda z, generator: z.softmax(0),
        "a logit": lambda z, generator: z.max(),
        "one argument": lambda z: z.argmax(),
    },
    "ex-tv-temperatures": {
        "twice as much": absolute_sum,
        "the largest difference": largest_difference,
        "the overlap": lambda z, t, warmer: 1 - overlap(z, t, warmer),
        "one temperature inverted": lambda z, t, warmer: overlap(z, 1 / t, warmer),
    },
}
