"""The properties of softmax: the checks of its exercises tell right answers from wrong ones."""

import math
from typing import Any

import torch
from torch import Tensor


def at_temperature(p: Tensor, t: float) -> Tensor:
    log_p = torch.log(p) / t
    return torch.exp(log_p - torch.logsumexp(log_p, 0))


def by_powers(p: Tensor, t: float) -> Tensor:
    power = p ** (1 / t)
    return power / power.sum()


def find_temperature(p: Tensor, q: Tensor) -> float:
    best, worst = p.argmax(), p.argmin()
    if torch.isclose(p[best], p[worst]):
        raise ValueError
    return math.log(p[best] / p[worst]) / math.log(q[best] / q[worst])


RIGHT: dict[str, Any] = {
    "ex-same": (True, False, False, True, False),
    "ex-after": at_temperature,
    "ex-boltzmann": lambda z: len(set(z.tolist())) == 1,
    "ex-which-dial": find_temperature,
    "ex-total-variation": lambda eps, t: torch.tensor([[eps + 1, 1.0], [1.0, eps + 1]]),
}
WRONG: dict[str, dict[str, Any]] = {
    "ex-same": {
        "a scale forgotten": [True, True, False, True, False],
        "an order forgotten": [True, False, False, True, True],
        "the constant noticed": [False, False, False, True, False],
        "four of them": [True, False, False, True],
        "the letters": "ad",
    },
    "ex-after": {
        "the power T": lambda p, t: at_temperature(p, 1 / t),
        "by powers, which underflow": by_powers,
        "not normalized": lambda p, t: p ** (1 / t),
        "no logarithm": lambda p, t: torch.softmax(p / t, -1),
        "as it was": lambda p, t: p,
    },
    "ex-boltzmann": {
        "never": lambda z: False,
        "always": lambda z: True,
        "ties at the maximum": lambda z: int((z == z.max()).sum()) > 1,
        "one logit far ahead": lambda z: bool(
            torch.isclose((torch.softmax(z, -1) * z).sum(), z.max(), atol=1e-4)
        ),
    },
    "ex-which-dial": {
        "upside down": lambda p, q: 1 / find_temperature(p, q),
        "the first pair": lambda p, q: (p[0] / p[1]).log() / (q[0] / q[1]).log(),
        "no odds": lambda p, q: p.max().log() / q.max().log(),
        "any temperature": lambda p, q: 1.0 if p.std() < 1e-6 else find_temperature(p, q),
        "another error": lambda p, q: math.log(p.max() / p.min()) / math.log(q.max() / q.min()),
    },
    "ex-total-variation": {
        "one logit moves": lambda eps, t: ([eps, 0.0], [0.0, 0.0]),
        "a start in the middle": lambda eps, t: ([eps, -eps], [0.0, 0.0]),
        "too far": lambda eps, t: ([eps, -eps], [-eps, eps]),
        "half as far": lambda eps, t: ([eps / 4, -eps / 4], [-eps / 4, eps / 4]),
        "a common shift": lambda eps, t: ([eps, eps], [0.0, 0.0]),
        "one vector": lambda eps, t: [eps, -eps],
        "two lengths": lambda eps, t: ([eps, -eps], [0.0, 0.0, 0.0]),
        "a number": lambda eps, t: math.tanh(eps / (2 * t)),
        "an error": lambda eps, t: (eps / 0, 0.0),
    },
}
