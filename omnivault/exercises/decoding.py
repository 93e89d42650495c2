"""Checks for the chapter *Decoding: from steps to texts*."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from omnivault.exercises.checking import Case, agree, claim, exercise, returns, tensor_of

BY_HAND = {"top-k": 2, "top-p with 0.7": 2, "top-p with 0.71": 3, "min-p": 3}


@exercise(
    "ex-truncate-by-hand",
    hint="the token with which the sum reaches the mass is kept, and so is one on the border.",
)
def truncate_by_hand(sizes: Any, generator: torch.Generator) -> Iterator[Case]:
    numbers = tensor_of(sizes)
    yield claim(
        numbers is not None and numbers.shape == (len(BY_HAND),),
        "four numbers are wanted, in the order of the question.",
    )
    for size, (rule, kept) in zip(sizes, BY_HAND.items(), strict=True):
        yield claim(agree(size, kept), f"{rule} keeps another number of tokens.")


@exercise(
    "ex-how-likely",
    hint="the log-probability of a text is the sum over its tokens; an order is a factor of ten.",
)
def how_likely(orders_apart: Any, generator: torch.Generator) -> Iterator[Case]:
    for texts in (3, 5, 7, 9, 11):  # odd, so that losses and gains are not equally many
        gain = 0.5 + 4 * torch.rand(texts, 1, generator=generator)
        gain[1:] *= torch.where(torch.rand(texts - 1, 1, generator=generator) < 0.5, -1.0, 1.0)
        gain[0] *= -1
        part = 0.1 + torch.rand(texts, 4, generator=generator)
        greedily = -5 - torch.rand(texts, 4, generator=generator)
        beam = greedily + gain * part / part.sum(1, keepdim=True)
        expected = (gain.mean() / math.log(10), (gain < 0).sum())
        yield returns(orders_apart, beam, greedily, expected=expected, abs=1e-4)


@exercise(
    "ex-sampler-surprise",
    hint="the surprise is that of the model at T = 1, the weights are those of the sampler.",
)
def sampler_surprise(mean_surprise: Any, generator: torch.Generator) -> Iterator[Case]:
    for temperature in (0.2, 0.5, 0.8, 1.0, 1.5, 3.0):
        for size in (2, 5, 30):
            z = 2 * torch.randn(size, generator=generator)
            exact = z.double()
            drawn = (exact / temperature).exp()
            surprise = exact.exp().sum().log() - drawn @ exact / drawn.sum()
            yield returns(mean_surprise, z, temperature, expected=surprise, abs=1e-5)
