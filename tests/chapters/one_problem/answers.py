"""One problem: the checks of its exercises tell right answers from wrong ones."""

import math
from typing import Any

import torch

Tensor = torch.Tensor


def pair(z1: float, z2: float, temperature: float) -> float:
    if abs(z1 - z2) >= temperature:
        return float(z1 > z2)
    return (temperature + z1 - z2) / (2 * temperature)


def preference(policy: Tensor, reference: Tensor, temperature: float) -> Tensor:
    return (temperature * (policy - reference)).softmax(-1)[0]


def draws(share: float, certainty: float) -> tuple[int, float]:
    n = math.ceil(math.log1p(-certainty) / math.log1p(-share))
    return n, math.log(n) + 1 / n - 1


def mean_of_logits(z: Tensor, other: Tensor, w: float) -> tuple[Tensor, Tensor]:
    mean = w * z + (1 - w) * other
    spare = w * z.logsumexp(-1) + (1 - w) * other.logsumexp(-1)
    return mean.softmax(-1), spare - mean.logsumexp(-1)


def mixture(z: Tensor, other: Tensor, w: float) -> tuple[Tensor, Tensor]:
    law = w * z.softmax(-1) + (1 - w) * other.softmax(-1)
    return law, mean_of_logits(z, other, w)[1]


RIGHT: dict[str, Any] = {
    "ex-sparse-pair": pair,
    "ex-preferred": preference,
    "ex-draws-needed": draws,
    "ex-two-experts": mean_of_logits,
    "ex-guided-away": lambda: torch.tensor([[0.0, 1.0, 0.9], [0.0, 2.0, -1.0]]),
    "ex-half-sure": lambda z: (z - z.min()).sum(),
}
WRONG: dict[str, dict[str, Any]] = {
    "ex-sparse-pair": {
        "softmax": lambda z1, z2, t: 1 / (1 + math.exp((z2 - z1) / t)),
        "beyond the borders": lambda z1, z2, t: 0.5 + (z1 - z2) / (2 * t),
        "twice as steep": lambda z1, z2, t: min(max(0.5 + (z1 - z2) / t, 0.0), 1.0),
        "without the temperature": lambda z1, z2, t: pair(z1, z2, 1.0),
        "of the other": lambda z1, z2, t: pair(z2, z1, t),
        "both": lambda z1, z2, t: [pair(z1, z2, t), pair(z2, z1, t)],
    },
    "ex-preferred": {
        "without the reference": lambda p, q, t: preference(p, torch.zeros(2), t),
        "divided by T": lambda p, q, t: preference(p, q, 1 / t),
        "the other text": lambda p, q, t: 1 - preference(p, q, t),
        "the reward": lambda p, q, t: t * (p - q)[0],
        "of the first alone": lambda p, q, t: torch.sigmoid(t * (p - q)[0]),
    },
    "ex-draws-needed": {
        "rounded down": lambda s, c: draws(s, c) if (n := draws(s, c)[0]) < 2 else (n - 1, 0.0),
        "the two exchanged": lambda s, c: draws(c, s),
        "without the last term": lambda s, c: (draws(s, c)[0], math.log(draws(s, c)[0])),
        "on average": lambda s, c: (math.ceil(c / s), 0.0),
        "n alone": lambda s, c: draws(s, c)[0],
    },
    "ex-two-experts": {
        "of probabilities": mixture,
        "the weights exchanged": lambda z, other, w: mean_of_logits(other, z, w),
        "the sign lost": lambda z, other, w: (
            mean_of_logits(z, other, w)[0],
            -mean_of_logits(z, other, w)[1],
        ),
        "logits": lambda z, other, w: (w * z + (1 - w) * other, mean_of_logits(z, other, w)[1]),
        "the levels of the logits left in": lambda z, other, w: (
            mean_of_logits(z, other, w)[0],
            -(w * z + (1 - w) * other).logsumexp(-1),
        ),
    },
    "ex-guided-away": {
        "first in z": lambda: ([2.0, 1.0, 0.0], [0.0, 1.0, 0.0]),
        "first in z'": lambda: ([0.0, 9.0, 10.0], [0.0, 5.0, 4.9]),
        "exchanged": lambda: ([0.0, 2.0, -1.0], [0.0, 1.0, 0.9]),
        "tied": lambda: ([1.0, 1.0, 0.0], [1.0, 0.0, 0.0]),
        "two tokens": lambda: ([1.0, 0.8], [1.0, 0.0]),
        "not finite": lambda: ([1.0, 0.8, 0.0], [1.0, -math.inf, 0.0]),
        "no rows": lambda: "z",
        "words": lambda: (["a", "b", "c"], [1.0, 0.0, 0.0]),
    },
    "ex-half-sure": {
        "the range": lambda z: z.max() - z.min(),
        "the lead": lambda z: z.topk(min(2, len(z))).values.diff().abs().sum(),
        "from the largest": lambda z: (z.max() - z).sum(),
        "the sum": lambda z: z.sum(),
        "of the mean": lambda z: (z - z.min()).mean(),
    },
}
