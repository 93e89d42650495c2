"""Checks for the chapter *Softmax from first principles*."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from omnivault.exercises.checking import Case, exercise, returns


@exercise("ex-base-two", hint="b to the power z is e to the power z ln b, and T divides z.")
def base_two(base: Any, generator: torch.Generator) -> Iterator[Case]:
    for t in (0.2 + 3 * torch.rand(20, generator=generator)).tolist():
        yield returns(base, t, expected=10 ** (1 / (t * math.log(10))))


@exercise("ex-power-law", hint="as a function of log x, f has to ignore a common shift.")
def power_law(weight: Any, generator: torch.Generator) -> Iterator[Case]:
    prices = [0.25, 1.0, *torch.randn(18, generator=generator).exp().tolist()]
    ratios = (1.2 + 4 * torch.rand(20, generator=generator)).tolist()
    for x, doubled in zip(prices, ratios, strict=True):
        yield returns(weight, x, doubled, expected=math.exp(math.log(x) * math.log(doubled, 2)))


@exercise("ex-factor-ten", hint="the logarithm of the odds is the lead divided by T.")
def factor_ten(lead: Any, generator: torch.Generator) -> Iterator[Case]:
    for t in (0.1 + 4 * torch.rand(20, generator=generator)).tolist():
        yield returns(lead, t, expected=t / math.log10(math.e))
