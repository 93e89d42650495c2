"""Checks for the chapter *Softmax induces a probability measure*."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from omnivault.exercises.checking import Case, exercise, returns


@exercise(
    "ex-events", hint="every token is in an event or not, and for the given one that is settled."
)
def events(count: Any, generator: torch.Generator) -> Iterator[Case]:
    for k in [1, 2, 3, *torch.randint(4, 40, (7,), generator=generator).tolist()]:
        # By the size of the event, and by that of the rest of it.
        every = sum(math.comb(k, size) for size in range(k + 1))
        yield returns(count, k, expected=(every, sum(math.comb(k - 1, r) for r in range(k))))


@exercise("ex-conditioning", hint="a logit of minus infinity has the weight zero.")
def conditioning(conditional: Any, generator: torch.Generator) -> Iterator[Case]:
    for k in [2, *torch.randint(3, 9, (19,), generator=generator).tolist()]:
        z = 2 * torch.randn(k, generator=generator)
        size = int(torch.randint(1, k, (), generator=generator))
        kept = torch.randperm(k, generator=generator)[:size]
        t = 0.3 + 2 * torch.rand((), generator=generator).item()
        weights = torch.zeros(k, dtype=torch.float64)
        weights[kept] = (z[kept].double() / t).exp()
        yield returns(conditional, z, kept, t, expected=weights / weights.sum())


@exercise("ex-inclusion", hint="how often does each sum count an outcome that is in all three?")
def inclusion(union: Any, generator: torch.Generator) -> Iterator[Case]:
    for _ in range(20):
        weights = 0.1 + torch.rand(8, generator=generator)
        p = weights / weights.sum()
        coins = torch.rand(3, 8, generator=generator) < 0.5
        coins[:, 0] = True  # something is in all three
        a, b, c = coins
        events = (a, b, c, a & b, a & c, b & c, a & b & c, a | b | c)
        *parts, expected = [p[event].sum().item() for event in events]
        yield returns(union, tuple(parts[:3]), tuple(parts[3:6]), parts[6], expected=expected)


@exercise(
    "ex-saturation", hint="write down the odds of the lead class against the others together."
)
def saturation(gap: Any, generator: torch.Generator) -> Iterator[Case]:
    for k in [2, 3, 49152, *torch.randint(4, 100_000, (17,), generator=generator).tolist()]:
        lead = 1 - 2.0**-24
        each = 2.0**-24 / (k - 1)
        yield returns(gap, k, expected=math.log(lead / each))
