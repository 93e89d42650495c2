"""One token, many tokens: the checks of its exercises tell right answers from wrong ones."""

import math
from collections import Counter
from typing import Any

import torch
from scipy import stats
from torch import Tensor


def group_sums(pi: Tensor, groups: Tensor) -> Tensor:
    return torch.stack([pi[groups == g].sum() for g in groups.unique()])


def grouped(pi: Tensor, groups: Tensor, counts: Tensor) -> Any:
    """Return a product of binomial probabilities, one group after the other."""
    chance, left, mass = 1.0, int(counts.sum()), 1.0
    for p, c in zip(group_sums(pi, groups).tolist(), counts.tolist(), strict=True):
        chance *= stats.binom.pmf(c, left, min(1.0, p / mass))
        left, mass = left - c, mass - p
    return chance


def by_quotients(pi: Tensor, n: int) -> list[int]:
    """Return how many of the n largest quotients pi / 1, pi / 2, ... each outcome has."""
    quotients = [(-p / i, k) for k, p in enumerate(pi.tolist()) for i in range(1, n + 1)]
    won = Counter(k for _, k in sorted(quotients)[:n])
    return [won[k] for k in range(len(pi))]


def by_remainders(pi: Tensor, n: int) -> Tensor:
    """Round down, and give what is left to the largest remainders."""
    c = (n * pi).floor()
    c[(n * pi - c).argsort(descending=True)[: n - int(c.sum())]] += 1
    return c


RIGHT: dict[str, Any] = {
    "ex-twenty": lambda pi, n, c: stats.binom.pmf(c, n, pi),
    "ex-lumping": grouped,
    "ex-waiting": lambda pi, chance: stats.geom.ppf(chance, pi),
    "ex-mode": by_quotients,
}
WRONG: dict[str, dict[str, Any]] = {
    "ex-twenty": {
        "one pattern of hits": lambda pi, n, c: pi**c * (1 - pi) ** (n - c),
        "at most c": lambda pi, n, c: stats.binom.cdf(c, n, pi),
        "hits and misses exchanged": lambda pi, n, c: stats.binom.pmf(n - c, n, pi),
        "Poisson's limit": lambda pi, n, c: stats.poisson.pmf(c, n * pi),
    },
    "ex-lumping": {
        "one order of the draws": lambda pi, groups, counts: (
            group_sums(pi, groups) ** counts
        ).prod(),
        "the mean of a group": lambda pi, groups, counts: (
            grouped(pi, groups, counts) / (groups.bincount() ** counts).prod()
        ),
        "groups as likely as they are large": lambda pi, groups, counts: grouped(
            torch.full_like(pi, 1 / len(pi)), groups, counts
        ),
        "groups that are neighbors": lambda pi, groups, counts: grouped(
            pi, groups.sort().values, counts
        ),
    },
    "ex-waiting": {
        "rounded down": lambda pi, chance: math.floor(math.log(1 - chance) / math.log(1 - pi)),
        "not rounded": lambda pi, chance: math.log(1 - chance) / math.log(1 - pi),
        "the mean": lambda pi, chance: math.ceil(1 / pi),
        "of being absent": lambda pi, chance: math.ceil(math.log(chance) / math.log(1 - pi)),
        "three means": lambda pi, chance: math.ceil(3 / pi),
    },
    "ex-mode": {
        "the mean": lambda pi, n: n * pi,
        "the mean, rounded": lambda pi, n: (n * pi).round(),
        "the nearest to the mean": by_remainders,
        "all on the likeliest": lambda pi, n: [n * (k == int(pi.argmax())) for k in range(len(pi))],
        "the next draw without the 1": lambda pi, n: by_quotients(pi, n - 1),
        "a count less than 0": lambda pi, n: torch.tensor([n + 1.0, -1.0, 0.0])[: len(pi)],
        "not a function": torch.tensor([5, 3, 2]),
    },
}
