"""Checks for the chapter *Calibration: a temperature learned from data*."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from omnivault.exercises.checking import (
    Case,
    agree,
    called,
    claim,
    exercise,
    returns,
    shown,
    tensor_of,
)


@exercise("ex-null", hint="an error speaks against calibration if few by chance are as large.")
def null(share: Any, generator: torch.Generator) -> Iterator[Case]:
    for i in range(20):
        by_chance = torch.randint(20, 60, (100,), generator=generator) / 1000  # with many ties
        measured = (0.015, 0.065)[i] if i < 2 else by_chance[i].item()
        larger = sum(error >= measured for error in by_chance.tolist())
        yield returns(share, measured, by_chance, expected=larger / 100)


@exercise("ex-slope-only", hint="the weight of the feature is 1/T, if nothing else is fitted.")
def slope_only(temperature: Any, generator: torch.Generator) -> Iterator[Case]:
    for true in (0.8, 1.2, 1.6, 2.0, 2.4):
        z = 2 * torch.randn(500, 2, generator=generator)
        x = (z[:, 0] - z[:, 1]).double()
        # More of the first class than any temperature explains: an intercept would not be 0.
        first = torch.rand(500, generator=generator) < torch.sigmoid(x / true + 1)
        low, high = 1e-3, 1e3
        for _ in range(60):
            beta = math.sqrt(low * high)
            slope = (x * (torch.sigmoid(beta * x) - first.double())).sum()
            low, high = (low, beta) if slope > 0 else (beta, high)
        got, _ = called(temperature, z, (~first).long())
        yield claim(
            agree(got, 1 / beta, rel=2e-3),
            f"for 500 random rows your T is {shown(got)}, not {1 / beta:.4g}.",
        )


@exercise("ex-brier", hint="try many temperatures, and compare with the one-hot vectors of y.")
def brier(best: Any, generator: torch.Generator) -> Iterator[Case]:
    for scale in (0.6, 1.0, 3.0):
        z = 3 * torch.randn(200, 4, generator=generator)
        y = torch.multinomial(z.softmax(-1), 1, generator=generator)[:, 0]
        # Bad surprises, which the log-loss weighs more than the Brier score does.
        y[:30] = z[:30].argmin(-1)
        z = scale * z
        got, _ = called(best, z, y)
        at = tensor_of(got)
        if at is None or at.numel() != 1 or not 0 < at.item() < math.inf:
            yield claim(False, f"one temperature is wanted, got {shown(got)}.")
            return
        smallest = score(torch.logspace(-0.5, 1.5, 300), z, y).min()
        reached = score(at.flatten(), z, y)
        yield claim(
            reached < smallest + 5e-4,
            f"at your T = {at.item():.3g} the score is {reached.item():.4f}, and it can be "
            f"{smallest.item():.4f}.",
        )


def score(temperatures: torch.Tensor, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the Brier score of each of these temperatures."""
    p = (z.double() / temperatures.double()[:, None, None]).softmax(-1)
    of_label = p.gather(-1, y.expand(len(p), -1)[..., None])[..., 0]
    return ((p**2).sum(-1) - 2 * of_label + 1).mean(-1)


@exercise("ex-bins", hint="a normal variable is sqrt(2/pi) standard deviations from 0 on average.")
def bins(error: Any, generator: torch.Generator) -> Iterator[Case]:
    for i, c in enumerate((0.5 + 0.4 * torch.rand(20, generator=generator)).tolist()):
        number = (1, 15)[i] if i < 2 else int(torch.randint(1, 51, (), generator=generator))
        n = int(torch.randint(1000, 5000, (), generator=generator))  # in a bin
        # De Moivre's mean distance of a binomial variable from its mean, without a normal one.
        m = math.floor(n * c) + 1
        log_chance = math.lgamma(n + 1) - math.lgamma(m + 1) - math.lgamma(n - m + 1)
        log_chance += m * math.log(c) + (n - m) * math.log(1 - c)
        distance = 2 * m * (1 - c) * math.exp(log_chance)
        yield returns(error, c, n * number, number, expected=distance / n, rel=5e-3)


@exercise("ex-whole-texts", hint="square the sum of each text, not each term of it.")
def whole_texts(error: Any, generator: torch.Generator) -> Iterator[Case]:
    for texts, tokens in ((1, 1), (1, 7), (4, 4), (5, 30), (8, 60)):
        s = torch.randn(tokens, generator=generator) + 0.2
        variance = torch.rand(tokens, generator=generator) + 0.5
        # Each text has a token; they stand in no order.
        others = torch.randint(texts, (tokens - texts,), generator=generator)
        text = torch.cat([torch.arange(texts), others])
        text = text[torch.randperm(tokens, generator=generator)]
        sums = [0.0] * texts
        for n, x in zip(text.tolist(), s.tolist(), strict=True):
            sums[n] += x
        expected = math.hypot(*sums) / math.fsum(variance.tolist())
        yield returns(error, s, variance, text, expected=expected)
