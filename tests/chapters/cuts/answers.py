"""Cuts: the checks of its exercises tell right answers from wrong ones."""

from typing import Any

import torch

Tensor = torch.Tensor


def moved(p: Tensor, threshold: float, chance: float) -> float:
    q = p.clone()
    reach = [i for i in range(len(p)) if p[i] >= threshold]
    for i in sorted(reach, key=lambda i: float(p[i]), reverse=True)[:-1]:
        q[i] = 0
    return float(((chance * q / q.sum() + (1 - chance) * p) - p).abs().sum() / 2)


def all_above(p: Tensor, threshold: float, chance: float) -> float:
    return chance * float(p[p >= threshold].sum())


def without_the_coin(p: Tensor, threshold: float, chance: float) -> float:
    return moved(p, threshold, 1.0)


def whole_difference(p: Tensor, threshold: float, chance: float) -> float:
    return 2 * moved(p, threshold, chance)


def two_laws(first: Tensor, second: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    opens = first.masked_fill(~allowed.any(-1), 0.0)
    inside = second.masked_fill(~allowed, 0.0)
    steps = torch.nan_to_num(inside / inside.sum(-1, keepdim=True))
    given = first.unsqueeze(-1) * inside
    return (opens / opens.sum()).unsqueeze(-1) * steps, given / given.sum()


def swapped(first: Tensor, second: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    masked, given = two_laws(first, second, allowed)
    return given, masked


def one_law(first: Tensor, second: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    return (two_laws(first, second, allowed)[1],) * 2


def no_first_mask(first: Tensor, second: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    masked, given = two_laws(first, second, allowed)
    opens = first.masked_fill(~allowed.any(-1), 0.0)
    return masked * opens.sum(), given


RIGHT: dict[str, Any] = {
    "ex-cut-by-hand": (2, 3, 1, 2, 3),
    "ex-port-min-p": lambda m, t: m ** (1 / t),
    "ex-order-example": [0.2, 0.55, 0.25],
    "ex-xtc-distance": moved,
    "ex-grammar": two_laws,
}
WRONG: dict[str, dict[str, Any]] = {
    "ex-cut-by-hand": {
        "p-less compared with 1/K": [2, 3, 2, 2, 3],
        "XTC rules out all above": [2, 3, 1, 2, 2],
        "top-h keeps what crosses": [2, 3, 1, 3, 3],
        "four answers": [2, 3, 1, 2],
    },
    "ex-port-min-p": {
        "the power T": lambda m, t: m**t,
        "divided": lambda m, t: m / t,
        "unchanged": lambda m, t: m,
    },
    "ex-order-example": {
        "the same either way": [8, 1, 1],
        "on the border": [3, 2, 1],
        "two tokens": [5, 3],
        "not positive": [5, 3, 0],
        "complex": torch.tensor([5.5, 2.5, 2.0]) + 0j,
        "more than any float": [10**400, 1, 1],
        "on the meta device": torch.ones(3, device="meta"),
    },
    "ex-xtc-distance": {
        "all that reach it": all_above,
        "always acts": without_the_coin,
        "the sum of the differences": whole_difference,
    },
    "ex-grammar": {
        "the wrong way round": swapped,
        "one law for both": one_law,
        "the first step not masked": no_first_mask,
    },
}
