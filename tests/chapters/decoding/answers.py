"""Decoding: the checks of its exercises tell right answers from wrong ones."""

import math
from typing import Any

import torch

Tensor = torch.Tensor


def gains(beam: Tensor, greedily: Tensor) -> list[float]:
    return [math.log10(math.e) * sum(row) for row in (beam - greedily).tolist()]


def right_orders(beam: Tensor, greedily: Tensor) -> tuple[float, int]:
    found = gains(beam, greedily)
    return sum(found) / len(found), sum(gain < 0 for gain in found)


def scaled(factor: float) -> Any:
    def wrong(beam: Tensor, greedily: Tensor) -> tuple[float, int]:
        mean, losses = right_orders(beam, greedily)
        return mean * factor, losses

    return wrong


def of_mean_quotient(beam: Tensor, greedily: Tensor) -> tuple[Tensor, Tensor]:
    gain = (beam - greedily).sum(1)
    return gain.exp().mean().log10(), (gain < 0).sum()


def wins(beam: Tensor, greedily: Tensor) -> tuple[float, int]:
    return right_orders(beam, greedily)[0], len(beam) - right_orders(beam, greedily)[1]


def share(beam: Tensor, greedily: Tensor) -> tuple[float, float]:
    mean, losses = right_orders(beam, greedily)
    return mean, losses / len(beam)


def cross_entropy(z: Tensor, t: float) -> Tensor:
    return z.logsumexp(0) - (z / t).softmax(0) @ z


def entropy_at(z: Tensor, t: float) -> Any:
    return torch.special.entr((z / t).softmax(0)).sum()


RIGHT: dict[str, Any] = {
    "ex-truncate-by-hand": (2, 2, 3, 3),
    "ex-how-likely": right_orders,
    "ex-sampler-surprise": cross_entropy,
}
WRONG: dict[str, dict[str, Any]] = {
    "ex-truncate-by-hand": {
        "the token that crosses is dropped": [2, 2, 2, 3],
        "the border does not belong to the set": [2, 3, 3, 2],
        "one of them off": [2, 2, 3, 2],
        "three answers": [2, 2, 3],
        "the probabilities": [[0.4, 0.3], [0.4, 0.3], [0.4, 0.3, 0.2], [0.4, 0.3, 0.2]],
        "a number": 2,
        "words": ["two", "two", "three", "three"],
    },
    "ex-how-likely": {
        "in nats": scaled(math.log(10)),
        "in bits": scaled(math.log2(10)),
        "of a token": scaled(1 / 4),
        "the other way around": scaled(-1.0),
        "the logarithm of the mean": of_mean_quotient,
        "more probable": wins,
        "a share": share,
        "the gain of each": gains,
    },
    "ex-sampler-surprise": {
        "the entropy at T": entropy_at,
        "the entropy at 1": lambda z, t: entropy_at(z, 1.0),
        "the sampler's own surprise of p": lambda z, t: (
            (z / t).logsumexp(0) - z.softmax(0) @ (z / t)
        ),
        "in bits": lambda z, t: cross_entropy(z, t) / math.log(2),
        "the log-probability": lambda z, t: -cross_entropy(z, t),
    },
}
