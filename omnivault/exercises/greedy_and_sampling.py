"""Checks for the chapter *Greedy, sampling, and the central question*."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from omnivault.exercises.checking import Case, called, claim, exercise, returns, shown, tensor_of


@exercise(
    "ex-half-the-time",
    hint="the largest probability falls as T rises: halve an interval around the place.",
)
def half_the_time(temperature_for_half: Any, generator: torch.Generator) -> Iterator[Case]:
    for size in (3, 3, 4, 5, 8, 12, 20, 50):
        exponent, shift = (torch.rand(2, generator=generator) * 6 - 3).tolist()
        temperature = 10**exponent
        # At this temperature the others weigh together as much as the best one alone.
        others = torch.rand(size - 1, generator=generator) + 0.05
        gaps = torch.cat([torch.zeros(1), (others / others.sum()).log()])
        z = temperature * (shift + gaps)[torch.randperm(size, generator=generator)]
        yield returns(temperature_for_half, z, expected=temperature, rel=1e-3)


@exercise(
    "ex-rank-sampler",
    hint="draw a rank first, from weights that do not know z, then look up who has it.",
)
def rank_sampler(by_rank: Any, generator: torch.Generator) -> Iterator[Case]:
    size, draws = 6, 1000
    z = torch.arange(float(size)) + 0.5 * torch.rand(size, generator=generator) - 3
    z = z[torch.randperm(size, generator=generator)]

    def draw(scores: torch.Tensor, source: torch.Generator) -> tuple[int | None, str]:
        got, told = called(by_rank, scores, source)
        token = tensor_of(got)
        if token is None or token.numel() != 1 or token.item() not in range(size):
            return None, told
        return int(token), f"{told} {shown(got)}."

    for seed in torch.randint(2**31, (20,), generator=generator).tolist():
        token, told = draw(z, torch.Generator().manual_seed(seed))
        yield claim(token is not None, f"one index of z is wanted: {told}")
        again, _ = draw(z, torch.Generator().manual_seed(seed))
        yield claim(token == again, "the same z and the same seed give two different tokens.")
        for temperature in (0.1, 10.0):
            other, _ = draw(z / temperature, torch.Generator().manual_seed(seed))
            yield claim(
                token == other, f"the same seed gives another token at T = {temperature:g}."
            )

    ranked = z.argsort(descending=True).tolist()
    drawn = [draw(z, generator)[0] for _ in range(draws)]
    total = sum(1 / r**2 for r in range(1, size + 1))
    for r in range(1, size + 1):
        seen, chance = drawn.count(ranked[r - 1]) / draws, 1 / r**2 / total
        # By Hoeffding's inequality a right sampler is this far off once in 10^9 checks or less.
        yield claim(
            abs(seen - chance) < 0.11,
            f"rank {r} came in {seen:.2f} of the draws, not in about {chance:.2f}.",
        )


@exercise(
    "ex-tv-temperatures",
    hint="the tokens that gain by the colder temperature are the best ones; add up their gains.",
)
def tv_temperatures(tv_distance: Any, generator: torch.Generator) -> Iterator[Case]:
    for size in (2, 3, 4, 6, 10, 20, 50, 100):
        z = 2 * torch.randn(size, generator=generator)
        if size == 6:
            z[:2], z[2:] = 1.0, z[2:].clamp(max=0.0)  # two are tied for the best
        temperature = 0.3 + torch.rand(1, generator=generator).item()
        warmer = temperature * (1.3 + torch.rand(1, generator=generator).item())
        cold, warm = ((z.double() / t).softmax(0) for t in (temperature, warmer))
        distance = (cold - warm).clamp(min=0).sum()
        yield returns(tv_distance, z, temperature, warmer, expected=distance, abs=1e-5)
