"""How serving engines sample: the checks of its exercises tell right answers from wrong ones."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def step_by_step(p: Tensor, rho: float) -> float:
    """Draw among the first tokens of the ranking; a rejected one leaves those before it."""
    ranked, mass, n = ranking(p, rho)
    expected = [0.0] * (n + 1)  # by the number of tokens that are left
    for k in range(n + 1, len(p) + 1):
        again = sum(ranked[j - 1] * (1 + expected[j - 1]) for j in range(n + 1, k + 1))
        expected.append(again / mass[k - 1])
    return expected[-1]


def ranking(p: Tensor, rho: float) -> tuple[list[float], list[float], int]:
    """Return the probabilities as they are ranked, their sums, and the size of the nucleus."""
    ranked = p.double().sort(descending=True).values
    mass = ranked.cumsum(0)
    return ranked.tolist(), mass.tolist(), int((mass < rho).sum()) + 1


def as_they_come(p: Tensor, rho: float) -> Tensor:
    mass = p.cumsum(0)
    return (p / mass)[int((mass < rho).sum()) + 1 :].sum()


def worst_first(p: Tensor, rho: float) -> Tensor:
    return as_they_come(p.sort().values, rho)


def one_too_many(p: Tensor, rho: float) -> float:
    ranked, mass, n = ranking(p, rho)
    return step_by_step(p, rho) + ranked[n - 1] / mass[n - 1]


def one_too_few(p: Tensor, rho: float) -> float:
    ranked, mass, n = ranking(p, rho)
    return sum(r / m for r, m in zip(ranked[n + 1 :], mass[n + 1 :], strict=True))


def without_itself(p: Tensor, rho: float) -> float:
    ranked, mass, n = ranking(p, rho)
    return sum(r / m for r, m in zip(ranked[n:], mass[n - 1 :], strict=False))


def from_nucleus(formula: Callable[[float], float]) -> Callable[[Tensor, float], float]:
    """Make an answer of a function of the mass of the nucleus."""

    def answer(p: Tensor, rho: float) -> float:
        _, mass, n = ranking(p, rho)
        return formula(mass[n - 1])

    return answer


def two_ways(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    more = torch.where(p > q, p - q, 0.0)
    return p - more, more


def normalized(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    accepted, more = two_ways(p, q)
    return accepted, more / more.sum()


def fastest(
    tokens: Callable[[float, Tensor], Tensor],
    time: Callable[[float, Tensor], Tensor] = lambda c, g: 1 + c * g,
    first: int = 0,
    last: int = 20,
) -> Callable[[float, float], int]:
    """Make an answer of the tokens of a round and of the time that it takes."""

    def answer(a: float, c: float) -> int:
        g = torch.arange(first, last + 1.0)
        return first + int((tokens(a, g) / time(c, g)).argmax())

    return answer


def per_round(a: float, g: Tensor) -> Tensor:
    return (1 - a ** (g + 1)) / (1 - a)


RIGHT: dict[str, Any] = {
    "ex-rejections": step_by_step,
    "ex-speculative": two_ways,
    "ex-lookahead": fastest(per_round),
}
WRONG: dict[str, dict[str, Any]] = {
    "ex-rejections": {
        "not ranked": as_they_come,
        "the worst first": worst_first,
        "the last of the nucleus too": one_too_many,
        "without the first behind the nucleus": one_too_few,
        "the bound": lambda p, rho: math.log(1 / rho),
        "the logarithm of the nucleus": from_nucleus(lambda mass: math.log(1 / mass)),
        "divided by one": from_nucleus(lambda mass: 1 - mass),
        "the mass before the token": without_itself,
        "every draw from all tokens": from_nucleus(lambda mass: 1 / mass - 1),
    },
    "ex-speculative": {
        "the second draw for certain": normalized,
        "the quotient for the probability": lambda p, q: ((p / q).clamp(max=1), two_ways(p, q)[1]),
        "p and q the other way around": lambda p, q: two_ways(q, p),
        "the second draw from p": lambda p, q: (two_ways(p, q)[0], p * two_ways(p, q)[1].sum()),
        "the first alone": lambda p, q: two_ways(p, q)[0],
    },
    "ex-lookahead": {
        "without the extra token": fastest(lambda a, g: (1 - a**g) / (1 - a)),
        "the proposals' time alone": fastest(per_round, lambda c, g: c * g, first=1),
        "nothing is rejected early": fastest(lambda a, g: 1 + a * g),
        "the accepted of independent ones": fastest(lambda a, g: a * g),
        "always ahead": fastest(per_round, first=1),
        "the slowest": fastest(lambda a, g: -per_round(a, g)),
        "one proposal more in the time": fastest(per_round, lambda c, g: 1 + c * (g + 1)),
        "up to 19": fastest(per_round, last=19),
        "tokens for proposals": lambda a, c: fastest(per_round)(a, c) + 1,
    },
}
