"""Checks for the chapter *Where softmax comes from*."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from omnivault.exercises.checking import Case, exercise, returns


@exercise(
    "ex-bregman", hint="the gradient of A = LSE is softmax, and the tangent touches at theta."
)
def bregman(above_tangent: Any, generator: torch.Generator) -> Iterator[Case]:
    for size in (2, 2, 3, 4, 5, 8, 12, 20):
        theta, eta = 1.5 * torch.randn(2, size, generator=generator)
        p, q = theta.double().softmax(0), eta.double().softmax(0)
        kl = (p * (p / q).log()).sum()
        # In float32 three terms of size ten, off by some hundred roundings, cancel.
        yield returns(above_tangent, theta, eta, expected=kl, abs=1e-4)
    yield returns(above_tangent, theta, theta + 2, expected=0.0, abs=1e-4)


@exercise(
    "ex-bigram",
    hint="each row is fitted by its frequencies; weigh its entropy by how often the row is used.",
)
def bigram(lowest_loss: Any, generator: torch.Generator) -> Iterator[Case]:
    for size in (2, 3, 4, 5, 6, 8, 10, 12):
        counts = torch.randint(1, 10, (size, size), generator=generator)
        counts[0] *= 10  # the first letter is the most frequent one
        counts[1, 0] = counts[0, size - 1] = 0
        loss = 0.0
        for row in counts.tolist():
            loss -= sum(c * math.log(c / sum(row)) for c in row if c)
        pairs = counts.to(torch.get_default_dtype())
        yield returns(lowest_loss, pairs, expected=loss / int(counts.sum()))


@exercise(
    "ex-two-constraints",
    hint="it is the softmax of a parabola; look for the two coefficients that give the moments.",
)
def two_constraints(largest_entropy: Any, generator: torch.Generator) -> Iterator[Case]:
    y = torch.arange(21, dtype=torch.float64)
    for low, high in ((2, 3), (2, 3), (3, 4), (3, 4), (4, 4.5)):
        u, v = torch.rand(2, generator=generator).tolist()
        center, width = 6 + 8 * u, low + (high - low) * v
        p = (-((y - center) ** 2) / (2 * width**2)).softmax(0)
        mean = (p * y).sum()
        variance = (p * (y - mean) ** 2).sum()
        # The logits of the parabola are differences of numbers up to 70: in float32 some hundred
        # roundings of 1e-7, and as many in the moments, which a variance of 4 magnifies.
        yield returns(largest_entropy, mean.item(), variance.item(), expected=p, rel=0, abs=3e-4)
