"""Checks for the chapter *Where the sigmoid comes from*."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from omnivault.exercises.checking import Case, exercise, returns


@exercise("ex-spin", hint="the mean is the first derivative of log(2 cosh eta).")
def spin(moments: Any, generator: torch.Generator) -> Iterator[Case]:
    for eta in (6 * torch.rand(20, generator=generator) - 3).tolist():
        up = math.exp(eta) / (math.exp(eta) + math.exp(-eta))
        mean = up - (1 - up)
        yield returns(moments, eta, expected=(mean, 1 - mean**2))


@exercise("ex-cumulants", hint="it is the fourth central moment minus three squared variances.")
def cumulants(fourth: Any, generator: torch.Generator) -> Iterator[Case]:
    for p in torch.rand(20, generator=generator).tolist():
        moments = [p * (1 - p) ** k + (1 - p) * (-p) ** k for k in range(5)]
        yield returns(fourth, p, expected=moments[4] - 3 * moments[2] ** 2)


@exercise("ex-newton", hint="divide L' = tanh(b/2)/2 by L'' = 1/(4 cosh(b/2)^2).")
def newton(step: Any, generator: torch.Generator) -> Iterator[Case]:
    for b in (8 * torch.rand(20, generator=generator) - 4).tolist():
        slope = 1 / (1 + math.exp(-b)) - 0.5
        curvature = (0.5 + slope) * (0.5 - slope)
        yield returns(step, b, expected=b - slope / curvature)
