"""The temperature inside attention: the checks of its exercises know right answers from wrong."""

import math
from typing import Any

import torch


def ahead_of(*others: float) -> Any:
    """Return scores that lead others, which repeat, by 20."""
    return lambda n: [20.0, *(others * n)[: n - 1]]


RIGHT: dict[str, Any] = {
    "ex-correlated": lambda r, d: (r * math.sqrt(d), math.hypot(1, r)),
    "ex-cosine": lambda weight, n: 2 / (math.log(weight * (n - 1)) - math.log1p(-weight)),
    "ex-longer": lambda gamma, n, n_new: math.log((n_new - 1) / (n - 1) * math.exp(gamma)) / gamma,
    "ex-gap-bound": ahead_of(7.0),
    "ex-sink-level": lambda total, c: total / (total + (1 - total) * math.exp(-c)),
    "ex-kappa": lambda w, g, n: math.log((n - 1) * w / (1 - w), n) / g,
}
WRONG: dict[str, dict[str, Any]] = {
    "ex-correlated": {
        "the variance": lambda r, d: (r * math.sqrt(d), 1 + r**2),
        "not divided": lambda r, d: (r * d, math.sqrt((1 + r**2) * d)),
        "less spread for correlated ones": lambda r, d: (r * math.sqrt(d), math.sqrt(1 - r**2)),
        "the mean divided by d": lambda r, d: (r, math.sqrt(1 + r**2)),
        "the sign of r lost": lambda r, d: (abs(r) * math.sqrt(d), math.sqrt(1 + r**2)),
    },
    "ex-cosine": {
        "n keys in place of n - 1": lambda w, n: 2 / math.log(w * n / (1 - w)),
        "scores from 0 to 1": lambda w, n: 1 / math.log(w * (n - 1) / (1 - w)),
        "9 to 1 for every weight": lambda w, n: 2 / math.log(9 * (n - 1)),
        "1 / tau": lambda w, n: math.log(w * (n - 1) / (1 - w)) / 2,
        "in base 2": lambda w, n: 2 / math.log2(w * (n - 1) / (1 - w)),
    },
    "ex-longer": {
        "for a weight of one half": lambda gamma, n, n_new: math.log(n_new - 1) / math.log(n),
        "the gap that is missing": lambda gamma, n, n_new: math.log((n_new - 1) / (n - 1)),
        "n in place of n - 1": lambda gamma, n, n_new: 1 + math.log(n_new / n) / gamma,
        "the temperature": lambda gamma, n, n_new: (
            1 / (1 + math.log((n_new - 1) / (n - 1)) / gamma)
        ),
    },
    "ex-sink-level": {
        "no change, as without a sink": lambda total, c: total,
        "the weight multiplied": lambda total, c: total * math.exp(c),
        "renormalized without the sink": lambda total, c: 1.0,
        "the odds": lambda total, c: total / (1 - total) * math.exp(c),
        "c subtracted": lambda total, c: total / (total + (1 - total) * math.exp(c)),
    },
    "ex-kappa": {
        "enough in the limit": lambda w, g, n: 1 / g,
        "n in place of n - 1": lambda w, g, n: math.log(n * w / (1 - w)) / (g * math.log(n)),
        "without log n": lambda w, g, n: math.log((n - 1) * w / (1 - w)) / g,
        "the gap not divided by": lambda w, g, n: math.log((n - 1) * w / (1 - w)) / math.log(n),
        "for a weight of one half": lambda w, g, n: math.log(n - 1) / (g * math.log(n)),
    },
    "ex-gap-bound": {
        "all equal": torch.zeros,
        "two ahead": lambda n: torch.tensor([9.0, 9.0, *[0.0] * n])[:n],
        "the others far apart": ahead_of(7.0, -90.0),
        "the gap too small": lambda n: torch.eye(n)[0],
        "the gap so large that the bound is 0": lambda n: 1e4 * torch.eye(n)[0],
        "two scores": lambda n: torch.tensor([9.0, 0.0]),
        "not a function": torch.tensor([9.0, 0.0]),
    },
}
