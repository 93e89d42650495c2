"""What torch.multinomial really does: the checks of its exercises know right from wrong."""

import itertools
import math
from typing import Any

import torch
from torch import Tensor


def last(weights: Tensor, k: int) -> float:
    """Return the chance that k rings last: of the others, each may ring first."""
    if len(weights) == 1:
        return 1.0
    others = [j for j in range(len(weights)) if j != k]
    return sum(
        (weights[j] / weights.sum()).item()
        * last(torch.cat([weights[:j], weights[j + 1 :]]), k - (j < k))
        for j in others
    )


def distinct(weights: Tensor, n: int) -> list[int]:
    """Draw one index after the other, by inversion, and refuse when none is left."""
    left, indices = weights.double().clone(), []
    for _ in range(n):
        if not left.any():
            raise ValueError("no index is left")
        sums = left.cumsum(0)
        u = (1 - torch.rand((), dtype=torch.float64)) * sums[-1]
        indices.append(int((sums < u).sum()))
        left[indices[-1]] = 0
    return indices


def refusing(draw: Any, wrong: Any) -> Any:
    """Return a sampler that refuses where wrong says so."""

    def refuses_or_draws(weights: Tensor, n: int) -> Any:
        if wrong(n, int((weights > 0).sum()), len(weights)):
            raise ValueError("too many")
        return draw(weights, n)

    return refuses_or_draws


def first_ahead(rest: float) -> Any:
    """Return weights of which the first is 1 and the others are equal."""
    return lambda size: torch.tensor([1.0, *[rest] * (size - 1)])


def too_many(n: int, possible: int, size: int) -> bool:
    return n > possible


RIGHT: dict[str, Any] = {
    "ex-gumbel": lambda g: math.exp(-1 / math.exp(g)),
    "ex-last": last,
    "ex-refuses": distinct,
    "ex-swallowed": lambda size: 8 * (0.99 * 2**-24) ** (torch.arange(size) > 0),
}
WRONG: dict[str, dict[str, Any]] = {
    "ex-gumbel": {
        "the other tail": lambda g: 1 - math.exp(-math.exp(-g)),
        "of the negative": lambda g: 1 - math.exp(-math.exp(g)),
        "a sign": lambda g: math.exp(-math.exp(g)),
        "the density": lambda g: math.exp(-g - math.exp(-g)),
        "of E": lambda g: 1 - math.exp(-g),
    },
    "ex-last": {
        "the reciprocal weights": lambda weights, k: 1 / weights[k] / (1 / weights).sum(),
        "the first": lambda weights, k: weights[k] / weights.sum(),
        "not the first": lambda weights, k: 1 - weights[k] / weights.sum(),
        "all orders equally likely": lambda weights, k: 1 / len(weights),
        "sums that do not shrink": lambda weights, k: sum(
            math.prod((weights[i] / weights.sum()).item() for i in order)
            for order in itertools.permutations(range(len(weights)))
            if order[-1] == k
        ),
    },
    "ex-refuses": {
        "refuses nothing": torch.multinomial,
        "refuses the last that is possible": refusing(
            torch.multinomial, lambda n, possible, size: n >= possible
        ),
        "refuses every zero": refusing(
            torch.multinomial, lambda n, possible, size: n > possible or possible < size
        ),
        "counts the zeros": refusing(torch.multinomial, lambda n, possible, size: n > size),
        "with replacement": refusing(
            lambda weights, n: torch.multinomial(weights, n, replacement=True), too_many
        ),
        "the largest weights": refusing(lambda weights, n: weights.topk(n).indices, too_many),
        "whatever is positive": refusing(
            lambda weights, n: torch.multinomial((weights > 0).float(), n), too_many
        ),
        "fewer indices instead": lambda weights, n: torch.multinomial(
            weights, min(n, int((weights > 0).sum()))
        ),
        "the weights themselves": refusing(
            lambda weights, n: weights[torch.multinomial(weights, n)], too_many
        ),
        "not a function": torch.tensor([1, 2]),
    },
    "ex-swallowed": {
        "not swallowed": first_ahead(2.0**-23),
        "half of what is possible": first_ahead(2.0**-25),
        "the large weight last": lambda size: first_ahead(2.0**-24)(size).flip(0),
        "probabilities": lambda size: first_ahead(2.0**-24)(size) / (1 + (size - 1) * 2.0**-24),
        "float64": first_ahead(2.0**-53),
        "one weight short": lambda size: first_ahead(2.0**-24)(size - 1),
        "a negative weight": first_ahead(-(2.0**-24)),
        "not a function": torch.tensor([1.0, 2.0**-24]),
    },
}
