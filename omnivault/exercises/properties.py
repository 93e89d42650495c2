"""Checks for the chapter *What softmax keeps, and what it does not*."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from omnivault.exercises.checking import Case, called, claim, exercise, returns, shown, tensor_of


@exercise("ex-same", hint="two softmaxes are the same if z/T differs by a constant, and only then.")
def same(answer: Any, generator: torch.Generator) -> Iterator[Case]:
    z = torch.tensor([1.0, 2.0, 4.0])
    expected = [
        bool((other / t - z).diff().eq(0).all())  # of small numbers, halves at most: exact
        for other, t in ((z - 2, 1), (2 * z, 1), (z, 2), (2 * z, 2), (z.flip(0), 1))
    ]
    if not isinstance(answer, (list, tuple)) or len(answer) != len(expected):
        yield claim(False, f"a list of five is wanted, True or False, got {shown(answer)}.")
        return
    wrong = sum(bool(got != want) for got, want in zip(answer, expected, strict=True))
    yield claim(wrong == 0, f"{wrong} of the five {'is' if wrong == 1 else 'are'} wrong.")


@exercise("ex-after", hint="which logits, up to a constant, have the softmax p?")
def after(at_temperature: Any, generator: torch.Generator) -> Iterator[Case]:
    for k in [2, *torch.randint(3, 7, (19,), generator=generator).tolist()]:
        z = 2 * torch.randn(k, generator=generator)
        t = 0.2 + 3 * torch.rand((), generator=generator).item()
        weights = (z.double() / t).exp()
        p = z.exp() / z.exp().sum()
        # In float32 p is off by 64 u and log p, below 16, by 8 u of itself; over t, twice: 2000 u.
        yield returns(at_temperature, p, t, expected=weights / weights.sum(), rel=1e-3)
    # Probabilities of 0.001, whose powers 1/t are 0 even in float64.
    t = 0.005
    x = torch.randn(1000, generator=generator).double()
    # Whoever goes on in float32: p and log p, 7, are off by 64 u; over t, twice: 30,000 u.
    p, expected = (torch.softmax(logits, -1) for logits in (t * x, x))
    yield returns(at_temperature, p, t, expected=expected, rel=5e-3)


@exercise(
    "ex-boltzmann", hint="a mean reaches the maximum only if nothing below it has any weight."
)
def boltzmann(equals_max: Any, generator: torch.Generator) -> Iterator[Case]:
    for k in [2, 3, *torch.randint(2, 7, (4,), generator=generator).tolist()]:
        z = 3 * torch.randn(1, generator=generator).expand(k)
        yield returns(equals_max, z, expected=True)
        lower = z.index_add(0, torch.tensor([0]), -1 - torch.rand(1, generator=generator))
        yield returns(equals_max, lower, expected=False)  # K - 1 of them are tied for the maximum
        higher = z.index_add(0, torch.tensor([k - 1]), torch.tensor([50.0]))
        yield returns(equals_max, higher, expected=False)


@exercise("ex-which-dial", hint="compare the log-odds of one pair of classes, not tied, in both.")
def which_dial(find: Any, generator: torch.Generator) -> Iterator[Case]:
    for k in [2, *torch.randint(3, 6, (19,), generator=generator).tolist()]:
        z = (0.5 + torch.rand(k, generator=generator)).cumsum(0)
        z = z[torch.randperm(k, generator=generator)]
        if k > 2:
            z[1] = z[0]  # this pair tells nothing
        t = math.exp(3 * torch.rand((), generator=generator).item() - 1.5)
        p, q = (torch.softmax(logits, -1) for logits in (z, z / t))
        # In float32 the log-odds of p and q, 0.1 or more, are off by 64 u: 600 u of them.
        yield returns(find, p, q, expected=t, rel=1e-3)
    p = torch.full((4,), 0.25)
    got, told = called(find, p, p, may_raise=Exception)
    told = told if isinstance(got, Exception) else f"{told} {shown(got)}"
    yield claim(isinstance(got, ValueError), f"{told}; a ValueError is wanted.")


@exercise("ex-total-variation", hint="the slope of the sigmoid is largest at 0: move across it.")
def total_variation(worst: Any, generator: torch.Generator) -> Iterator[Case]:
    for _ in range(20):
        t, h = (0.5 + 2 * torch.rand(2, generator=generator)).tolist()
        eps = t * h
        got, told = called(worst, eps, t)
        told = f"{told} {shown(got)}"
        pair = tensor_of(got)
        if pair is None or pair.dim() != 2 or pair.shape[0] != 2 or pair.shape[1] < 2:
            yield claim(False, f"{told}; two vectors of logits are wanted, of the same length.")
            return
        u, v = pair
        apart = (u - v).abs().max().item()
        yield claim(apart <= eps * (1 + 1e-4), f"{told}, where one logit differs by {apart:.4g}.")
        # Logits below 8, in float32, are off by 8 u: a ten thousandth is more than enough.
        # The event that gains most has all the classes that gain.
        change = (torch.softmax(u / t, 0) - torch.softmax(v / t, 0)).clamp(min=0).sum().item()
        bound = 1 - 2 / (math.exp(h) + 1)
        yield claim(
            abs(change - bound) < 1e-4 * bound,
            f"{told}; an event changes by {change:.4g} at most, the bound is {bound:.4g}.",
        )
