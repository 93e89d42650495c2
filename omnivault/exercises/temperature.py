"""Checks for the chapter *What temperature does*."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from omnivault.exercises.checking import Case, called, claim, exercise, returns, shown, tensor_of


def between(low: float, high: float, generator: torch.Generator) -> float:
    """Draw one number uniformly."""
    return low + (high - low) * torch.rand((), generator=generator).item()


def rows(generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Logits in any order, at least 0.5 apart, but for a tie at the top of every other row."""
    for size in [2, 3, 4, 5, 6] * 2:
        order = torch.randperm(size, generator=generator)
        # In float64, where no formula for the answer loses digits that count.
        z = order + 0.5 * torch.rand(size, generator=generator, dtype=torch.float64) - 1
        yield z
        yield torch.cat([z, z.max().unsqueeze(0)])


def entropy(p: torch.Tensor) -> float:
    return float(torch.special.entr(p).sum())


@exercise("ex-odds-by-hand", hint="temperature raises the odds to the power 1/T.")
def odds_by_hand(warmed: Any, generator: torch.Generator) -> Iterator[Case]:
    for temperature in (0.5, 2.0, *(between(0.3, 4, generator) for _ in range(18))):
        p = between(0.05, 0.95, generator)
        logit = math.log(p) - math.log(1 - p)
        expected = 1 / (1 + math.exp(-logit / temperature))
        yield returns(warmed, p, temperature, expected=expected)


@exercise("ex-cold-enough", hint="in the worst row all others are tied, g behind the leader.")
def cold_enough(highest: Any, generator: torch.Generator) -> Iterator[Case]:
    for size in [2, 3, 10, 1000, 49_152] * 4:
        gap = between(0.1, 3, generator)
        delta = 10 ** between(-8, -3, generator)
        # The worst row exactly; the upper bound of the cold limit, 0.02% colder at most, will do.
        expected = gap / math.log((size - 1) * (1 - delta) / delta)
        yield returns(highest, size, gap, delta, expected=expected, rel=1e-3)


@exercise("ex-target-entropy", hint="the entropy, in nats, rises with T: try bisection.")
def target_entropy(temperature_for: Any, generator: torch.Generator) -> Iterator[Case]:
    for z in rows(generator):
        tied = int((z == z.max()).sum())
        share = between(0.1, 0.9, generator)
        h = (1 - share) * math.log(tied) + share * math.log(len(z))
        got, told = called(temperature_for, z, h)
        temperature = tensor_of(got)
        if temperature is None or temperature.ndim or not temperature > 0:
            yield claim(False, f"{told} {shown(got)}, which is no temperature.")
            return
        reached = entropy(torch.softmax(z.double() / temperature, 0))
        holds = math.isclose(reached, h, abs_tol=1e-4)
        yield claim(holds, f"{told} {shown(got)}, where H(p) = {shown(reached)}.")


@exercise(
    "ex-divergence",
    hint="with beta = 1/T, the mean logit has the derivative Var(z) in beta; then the chain rule.",
)
def divergence(slope: Any, generator: torch.Generator) -> Iterator[Case]:
    ranges = [(0.4, 0.8), (1.3, 3), (1, 1), (3, 6), (0.3, 0.6)] * 4
    for z, (low, high) in zip(rows(generator), ranges, strict=True):
        temperature = torch.tensor(between(low, high, generator)).double().requires_grad_()
        log_p = torch.log_softmax(z.double() / temperature, 0)
        away = log_p.exp() @ (log_p - torch.log_softmax(z.double(), 0))
        (expected,) = torch.autograd.grad(away, temperature)
        yield returns(slope, z, temperature.item(), expected=expected, rel=1e-3, abs=1e-3)


@exercise(
    "ex-zipf",
    hint="a power of a power multiplies exponents, and sum_k k^-s is finite only for s > 1.",
)
def zipf(exponent_and_end: Any, generator: torch.Generator) -> Iterator[Case]:
    for _ in range(20):
        a, temperature = between(0.5, 3, generator), between(0.3, 3, generator)
        second_to_first = (2**-a) ** (1 / temperature)
        yield returns(exponent_and_end, a, temperature, expected=(-math.log2(second_to_first), a))


@exercise(
    "ex-free-energy",
    hint="differentiate E[z] + T H(p); for the integral, ask what LSE_T goes to as T goes to 0.",
)
def free_energy(slope_and_integral: Any, generator: torch.Generator) -> Iterator[Case]:
    for z in rows(generator):
        temperature = between(0.3, 4, generator)
        x = (z.double() - z.double().max()) / temperature
        expected = (entropy(torch.softmax(x, 0)), temperature * math.log(x.exp().sum()))
        yield returns(slope_and_integral, z, temperature, expected=expected, rel=1e-3, abs=1e-4)
