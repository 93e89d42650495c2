"""Checks for the chapter *What torch.multinomial really does*."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from omnivault.exercises.checking import Case, called, claim, exercise, returns, shown, tensor_of


@exercise("ex-gumbel", hint="G <= g means E >= e^(-g).")
def gumbel(distribution: Any, generator: torch.Generator) -> Iterator[Case]:
    for g in (5 * torch.rand(20, generator=generator) - 1.5).tolist():
        rings_before = -math.expm1(-math.exp(-g))
        yield returns(distribution, g, expected=1 - rings_before)


@exercise("ex-last", hint="add up the chances of all the orders that end in k.")
def last(chance: Any, generator: torch.Generator) -> Iterator[Case]:
    for size in (2, 3, 4, 4, 3, 5):
        weights = 0.2 + 2 * torch.rand(size, generator=generator)
        weights[0] = 3.0
        k = int(torch.randint(0, size, (), generator=generator))
        others = weights.tolist()
        mine = others.pop(k)
        # The probability that no other clock rings later, by inclusion and exclusion.
        expected = math.fsum(
            (-1) ** len(later) * mine / (mine + sum(later))
            for number in range(size)
            for later in itertools.combinations(others, number)
        )
        # Alternating sums in float32 lose up to a few thousand units.
        yield returns(chance, weights, k, expected=expected, rel=1e-3)


@exercise("ex-refuses", hint="compare n with the number of weights that are positive.")
def refuses(draw: Any, generator: torch.Generator) -> Iterator[Case]:
    for i in range(10):
        size = int(torch.randint(3, 9, (), generator=generator))
        weights = torch.rand(size, generator=generator) + 0.1
        possible = size if i % 4 == 0 else int(torch.randint(1, size, (), generator=generator))
        weights[torch.randperm(size, generator=generator)[possible:]] = 0
        got, told = drawn(draw, weights, possible, 1, generator)[0]
        if isinstance(got, Exception):
            yield claim(False, told)
            return
        indices = tensor_of(got)
        yield claim(
            indices is not None
            and indices.shape == (possible,)
            and indices.sort().values.tolist() == weights.nonzero().flatten().tolist(),
            f"{told} {shown(got)}, and each index of a positive weight is wanted.",
        )
        got, told = drawn(draw, weights, possible + 1, 1, generator)[0]
        yield claim(
            isinstance(got, Exception),
            f"{told} {shown(got)}, and no more than {possible} can be drawn.",
        )
    weights = torch.tensor([0.0, 1.0, 0.0, 4.0])
    one_each = [tensor_of(got) for got, _ in drawn(draw, weights, 1, 500, generator)]
    share = sum(index is not None and index.tolist() == [3] for index in one_each) / 500
    # Almost eight standard deviations: one false alarm in 10^11.
    yield claim(
        abs(share - 0.8) < 0.14,
        f"of 500 draws from the weights {shown(weights)}, {share:.0%} are the last index.",
    )


def drawn(
    draw: Any, weights: torch.Tensor, n: int, times: int, generator: torch.Generator
) -> list[tuple[Any, str]]:
    """Call the reader's sampler, and leave torch's own generator as it was."""
    seed = int(torch.randint(2**31, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return [called(draw, weights, n, may_raise=Exception) for _ in range(times)]


@exercise("ex-swallowed", hint="what is the largest w for which 1 + w is 1 in float32?")
def swallowed(weights: Any, generator: torch.Generator) -> Iterator[Case]:
    for size in [2, 3, 49_152, *torch.randint(4, 10_000, (5,), generator=generator).tolist()]:
        got, _ = called(weights, size)
        w = tensor_of(got)
        if w is None or w.shape != (size,) or not (w >= 0).all() or not 0 < w.sum() < 1e38:
            yield claim(False, f"for K = {size} a tensor of {size} weights is wanted.")
            return
        w = w.float()
        # Not torch.cumsum, which adds up float32 in float64.
        sums = torch.from_numpy(np.add.accumulate(w.numpy()))
        lost = w[1:][sums[1:] == sums[:-1]].double().sum() / sums[-1]
        share = lost.item() / ((size - 1) * 2**-24)
        yield claim(
            share > 0.9,
            f"for K = {size} what is lost is {share:.3f} of the bound, and it can be more.",
        )
