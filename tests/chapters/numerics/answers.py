"""Softmax in floating point: the checks of its exercises tell right answers from wrong ones."""

import math
from typing import Any

import torch

Triple = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def combine_triples(one: Triple, other: Triple) -> Triple:
    if other[0] > one[0]:
        one, other = other, one
    factor = torch.exp(other[0] - one[0])
    return one[0], one[1] + factor * other[1], one[2] + factor * other[2]


def unshifted(one: Triple, other: Triple) -> Triple:
    m = torch.maximum(one[0], other[0])
    d = (one[1] * one[0].exp() + other[1] * other[0].exp()) / m.exp()
    o = (one[2] * one[0].exp() + other[2] * other[0].exp()) / m.exp()
    return m, d, o


def log_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    gap = float(a) - float(b)
    return a.item() + math.log(-math.expm1(-gap)) if gap < 10 else a.item() - math.exp(-gap)


RIGHT: dict[str, Any] = {
    "ex-overflow": (0, 1, 0, 1, 0),
    "ex-softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    # One class has the weight 1, and the other hundred thousand have 0.06 together.
    "ex-average-gap": torch.cat([torch.ones(1), torch.full((100_000,), 6e-7)]).log(),
    "ex-online-attention": combine_triples,
    "ex-log-difference": log_difference,
}
WRONG: dict[str, dict[str, Any]] = {
    "ex-overflow": {
        "a sum like its terms": [False, False, False, True, False],
        "softmax without the shift": [False, True, True, True, False],
        "bfloat16 like float16": [False, True, False, True, True],
        "one missing": [False, True, False, True],
        "a word": "no",
    },
    "ex-softplus": {
        "as written": lambda x: torch.log(1 + torch.exp(x)),
        "log1p of an overflow": lambda x: torch.log1p(torch.exp(x)),
        "by logsumexp": lambda x: torch.logsumexp(torch.stack([torch.zeros_like(x), x]), 0),
        "without log1p": lambda x: x.clamp(min=0) + torch.log(1 + torch.exp(-x.abs())),
        "the maximum": lambda x: x.clamp(min=0),
        "by hand in double precision": lambda x: max(x, 0) + math.log(1 + math.exp(-abs(x))),
    },
    "ex-average-gap": {
        "equal logits": torch.zeros(50),
        "a sure class": torch.tensor([20.0, 0.0]),
        "a lead among ten": torch.tensor([5.2] + 9 * [0.0]),
        "a weak lead": torch.cat([torch.tensor([7.0]), torch.zeros(1000)]),
        "a mask": torch.tensor([0.0, -torch.inf]),
        "one number": 3.0,
        "no logits": torch.zeros(0),
    },
    "ex-online-attention": {
        "o not rescaled": lambda one, other: (*combine_triples(one, other)[:2], one[2] + other[2]),
        "nothing rescaled": lambda one, other: (
            torch.maximum(one[0], other[0]),
            one[1] + other[1],
            one[2] + other[2],
        ),
        "without the shift": unshifted,
        "o divided by d": lambda one, other: (
            *combine_triples(one, other)[:2],
            combine_triples(one, other)[2] / combine_triples(one, other)[1],
        ),
        "the pair alone": lambda one, other: combine_triples(one, other)[:2],
        "three numbers": lambda m, d, o: (m, d, o),
    },
    "ex-log-difference": {
        "as written": lambda a, b: torch.log(torch.exp(a) - torch.exp(b)),
        "without expm1": lambda a, b: a + torch.log(1 - torch.exp(b - a)),
        "log1p everywhere": lambda a, b: a + torch.log1p(-torch.exp(b - a)),
        "expm1 everywhere": lambda a, b: a + torch.log(-torch.expm1(b - a)),
        "a difference of logarithms": lambda a, b: a - b,
        "the sum": torch.logaddexp,
    },
}
