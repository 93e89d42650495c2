"""Checks for the chapter *Softmax in floating point*."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional

from omnivault.exercises.checking import (
    Case,
    agree,
    claim,
    exercise,
    returns,
    shown,
    tensor_of,
)


def between(low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    """Draw one number uniformly."""
    return low + (high - low) * torch.rand((), generator=generator)


@exercise(
    "ex-overflow",
    hint="compare with the row of each format in the table; for (c), recall what is subtracted.",
)
def overflow(answer: Any, generator: torch.Generator) -> Iterator[Case]:
    given = tensor_of(answer)
    if given is None or given.shape != (5,):
        yield claim(False, f"five times True or False are wanted, got {shown(answer)}.")
        return
    single, half, brain = (
        math.log(torch.finfo(dtype).max) for dtype in (torch.float32, torch.half, torch.bfloat16)
    )
    exponents = [88 - single, 88 + math.log(4) - single, 0 - single, 12 - half, 12 - brain]
    expected = [exponent > 0 for exponent in exponents]
    right = sum(agree(one, other) for one, other in zip(given.tolist(), expected, strict=True))
    yield claim(right == 5, f"{right} of the five are right.")


@exercise(
    "ex-softplus",
    hint="subtract the larger of 0 and x, and keep what a sum with 1 would swallow.",
)
def softplus(function: Any, generator: torch.Generator) -> Iterator[Case]:
    for low, high in [(-80, -40), (-20, 0), (0, 20), (800, 1000)] * 5:
        x = between(low, high, generator)
        expected = -functional.logsigmoid(-x.double())
        # In float32 an exponential and a logarithm, of 8 u each.
        yield returns(function, x, expected=expected, rel=1e-5, abs=0)


@exercise(
    "ex-average-gap",
    hint="H(p) - R = log S, so one class has to lead; how much entropy can the others still add?",
)
def average_gap(answer: Any, generator: torch.Generator) -> Iterator[Case]:
    logits = tensor_of(answer)
    if logits is None or logits.ndim != 1 or not len(logits) or not logits.isfinite().all():
        yield claim(False, f"a 1-D tensor of finite logits is wanted, got {shown(answer)}.")
        return
    p = torch.softmax(logits, 0)
    entropy = torch.special.entr(p).sum().item()
    average = (p @ (logits.max() - logits)).item()
    yield claim(
        entropy >= 0.5 and average >= 0.9 * entropy,
        f"H(p) is {shown(entropy)} nats and R is {shown(average)}.",
    )


@exercise("ex-online-attention", hint="o is a sum of weights like d, and rescaled as d is.")
def online_attention(combine: Any, generator: torch.Generator) -> Iterator[Case]:
    for sizes in [(2, 3), (1, 1), (3, 1), (0, 2), (3, 0)] * 4:
        level = 2000 * torch.randn((), generator=generator)
        scores = level + 3 * torch.randn(sum(sizes), generator=generator)
        values = torch.randn(sum(sizes), 2, generator=generator)
        one, other = map(triple, scores.split(sizes), values.split(sizes))
        expected = triple(scores.double(), values.double())
        # In float32: five weights, off by 24 u, times values up to 4: 500 u.
        yield returns(combine, one, other, expected=expected, abs=5e-5)


def triple(
    scores: torch.Tensor, values: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Maximum, sum of weights and weighted sum of the values; of an empty part as well."""
    maximum = max(scores, default=scores.new_tensor(-torch.inf))
    weights = (scores - maximum).exp()
    return maximum, weights.sum(), weights @ values


@exercise(
    "ex-log-difference",
    hint="factor x out; 1 - e^(b - a) calls for expm1 where b is near a, and for log1p elsewhere.",
)
def log_difference(function: Any, generator: torch.Generator) -> Iterator[Case]:
    # 1 - e^(b - a) is a multiple of u, half a unit in the last place of 1. A gap of n + 1/2 of them
    # lies midway, so that without expm1 the logarithm is off by 1 / (2 n + 1), which is seen in two
    # decimals. Numbers below 0.01 are so close together that a - b is this very gap.
    tiny = torch.finfo(torch.get_default_dtype()).eps / 2
    for _ in range(10):
        a = between(-0.01, 0.01, generator)
        b = a - tiny * (0.5 + torch.randint(2, 12, (), generator=generator))
        # The logarithm is -14 or more: 8 u of it, and 8 u of the difference.
        expected = a.item() + math.log(a.item() - b.item())
        yield returns(function, a, b, expected=expected, rel=1e-5)

        # From -40 down e^b is nothing beside 1, even in float64.
        a, b = torch.tensor(0.0), between(-80, -40, generator)
        yield returns(function, a, b, expected=-math.exp(b.item()), rel=1e-5, abs=0)

        a = between(-1000, 1000, generator)
        b = a - between(0.2, 2, generator)
        expected = a.item() + math.log(1 - math.exp(b.item() - a.item()))
        yield returns(function, a, b, expected=expected, rel=1e-5, abs=1e-4)
