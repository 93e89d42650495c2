"""The same dials in other engines: the checks of its exercises tell right answers from wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from omnivault.engines import kept, probs


def masses(z: Tensor, t: float) -> list[float]:
    ranked = (z.double() / t).softmax(0).sort(descending=True).values
    return ranked.cumsum(0).tolist()


def size(z: Tensor, t: float, rho: float) -> int:
    return 1 + sum(mass < rho for mass in masses(z, t))


def right_side(z: Tensor, t: float, rho: float, tokens: set[int]) -> str:
    first, last = (size(z, s, rho) == len(tokens) for s in (t, 1.0))
    return "either" if first and last else "first" if first else "last"


def never_either(z: Tensor, t: float, rho: float, tokens: set[int]) -> str:
    return "first" if size(z, t, rho) == len(tokens) else "last"


def the_other_side(z: Tensor, t: float, rho: float, tokens: set[int]) -> str:
    found = right_side(z, t, rho, tokens)
    return {"first": "last", "last": "first"}.get(found, found)


def right_number(z: Tensor, t: float, rho: float) -> float:
    count = size(z, 1.0, rho)
    sums = [0.0, *masses(z, t)]
    return (sums[count - 1] + 2 * sums[count]) / 3


def one_fewer(z: Tensor, t: float, rho: float) -> float:
    return masses(z, t)[size(z, 1.0, rho) - 1] + 1e-3


def right_bound(p: Tensor, rho: float) -> int:
    mass = 0.0
    for k, x in enumerate(sorted(p.double().tolist(), reverse=True), 1):
        mass += x
        if mass >= rho * (mass + (len(p) - k) * x):
            return k
    return len(p)


def of_the_next_token(p: Tensor, rho: float) -> int:
    ranked, mass = sorted(p.double().tolist(), reverse=True), 0.0
    for k, x in enumerate(ranked, 1):
        mass += x
        if mass >= rho * (mass + sum(ranked[k:])):
            return k
    return len(p)


def unranked_bound(p: Tensor, rho: float) -> int:
    mass = 0.0
    for k, x in enumerate(p.double().tolist(), 1):
        mass += x
        if mass >= rho * (mass + (len(p) - k) * x):
            return k
    return len(p)


ENGINES = ("sglang", "vllm", "transformers", "llama.cpp")


def likeliest(z: Tensor, settings: dict[str, Any], draws: list[int]) -> str:
    laws = {name: probs(z, name, **settings) for name in ENGINES}
    return max(ENGINES, key=lambda name: laws[name][draws].log().sum().item())


def first_that_could(z: Tensor, settings: dict[str, Any], draws: list[int]) -> str:
    sets = {name: set(kept(z, name, **settings).tolist()) for name in ENGINES}
    return next(name for name in ENGINES if set(draws) <= sets[name])


def compare_laws(compare: Callable[[Tensor, Tensor], bool]) -> Callable[[Any, Tensor], bool]:
    def passes(sampler: Any, z: Tensor) -> bool:
        longer = sampler(torch.cat([z, torch.full((50,), -torch.inf)]))
        return compare(longer, torch.cat([sampler(z), torch.zeros(50)]))

    return passes


RIGHT: dict[str, Any] = {
    "ex-kept-in-engines": (2, 3, 2, 3, 1, 2),
    "ex-port-share": (lambda m, t: m ** (1 / t), lambda m, t: m**t),
    "ex-first-or-last": right_side,
    "ex-number-for-row": right_number,
    "ex-two-rows": (torch.tensor([0.61] + [0.039] * 10), [0.55, 0.45]),
    "ex-bound-kept": right_bound,
    "ex-whose-draws": likeliest,
    "ex-finds-fault": compare_laws(lambda a, b: torch.allclose(a, b, rtol=0, atol=1e-6)),
}
WRONG: dict[str, dict[str, Any]] = {
    "ex-kept-in-engines": {
        "every engine divides first": [3, 3, 2, 3, 1, 2],
        "no one renormalizes": [2, 3, 3, 3, 2, 2],
        "five numbers": [2, 3, 2, 3, 1],
        "a number": 2,
    },
    "ex-port-share": {
        "the other way around": (lambda m, t: m**t, lambda m, t: m ** (1 / t)),
        "as it is": (lambda m, t: m, lambda m, t: m),
        "divided": (lambda m, t: m / t, lambda m, t: m * t),
        "one function": lambda m, t: m ** (1 / t),
    },
    "ex-first-or-last": {
        "never either": never_either,
        "the other side": the_other_side,
        "always either": lambda z, t, rho, tokens: "either",
    },
    "ex-number-for-row": {
        "as it is": lambda z, t, rho: rho,
        "to the power 1/T": lambda z, t, rho: rho ** (1 / t),
        "one token more": one_fewer,
        "a row": lambda z, t, rho: masses(z, t),
    },
    "ex-two-rows": {
        "one number does for both": ([0.61, 0.39], [0.59, 0.205, 0.205]),
        "the same row twice": ([0.7, 0.3], [0.7, 0.3]),
        "no probabilities": ([0.7, 0.7], [0.5, 0.5]),
        "exactly on the border": ([0.6, 0.4], [0.5, 0.5]),
        "one row": [0.6, 0.4],
        "words": ("one", "other"),
    },
    "ex-bound-kept": {
        "the true tail": of_the_next_token,
        "without ranking": unranked_bound,
        "one fewer": lambda p, rho: right_bound(p, rho) - 1,
    },
    "ex-whose-draws": {
        "the first that could": first_that_could,
        "always the same": lambda z, settings, draws: "vllm",
    },
    "ex-finds-fault": {
        "nan slips through": compare_laws(lambda a, b: not bool(((a - b).abs() > 1e-6).any())),
        "not the new tokens": compare_laws(
            lambda a, b: torch.allclose(a[:-50], b[:-50], rtol=0, atol=1e-2)
        ),
        "everything passes": lambda sampler, z: True,
        "too strict": lambda sampler, z: False,
    },
}
