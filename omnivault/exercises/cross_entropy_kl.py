"""Checks for the chapter *What the loss measures*."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from omnivault.exercises.checking import Case, exercise, returns


@exercise(
    "ex-double-gradient",
    hint="the gradient in q is softmax(q) - e_y; then comes the Jacobian of q = softmax(z).",
)
def double_gradient(gradient: Any, generator: torch.Generator) -> Iterator[Case]:
    def loss(z: torch.Tensor, y: int) -> torch.Tensor:
        u = z.softmax(0)
        return u.logsumexp(0) - u[y]

    for size in (2, 3, 4, 5, 8, 10):
        confident = torch.zeros(size).index_fill(0, torch.tensor(0), 6.0)
        for z in (2 * torch.randn(size, generator=generator), torch.zeros(size), confident):
            y = int(torch.randint(1, size, (), generator=generator))
            exact = torch.func.grad(loss)(z.double(), y)
            yield returns(gradient, z, y, expected=exact, abs=1e-5)  # softmax twice in float32


@exercise(
    "ex-perplexity-mean",
    hint="the mean of the losses is the loss of the whole; a perplexity is not a loss.",
)
def perplexity_mean(whole_perplexity: Any, generator: torch.Generator) -> Iterator[Case]:
    for parts in (2, 2, 2, 3, 4, 5, 8, 10):
        perplexities = 5 + 95 * torch.rand(parts, generator=generator)
        whole = math.prod(perplexities.tolist()) ** (1 / parts)
        yield returns(whole_perplexity, perplexities, expected=whole)


@exercise(
    "ex-jensen-shannon",
    hint="both divergences go to m, each has the weight 1/2, and 0 log 0 counts as 0.",
)
def jensen_shannon(divergence: Any, generator: torch.Generator) -> Iterator[Case]:
    def entropy(p: torch.Tensor) -> Any:
        return torch.special.entr(p.double()).sum()

    for size in (2, 2, 3, 4, 5, 8, 10, 20):
        p, q = (1.5 * torch.randn(2, size, generator=generator)).softmax(-1)
        spread = entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2
        yield returns(divergence, p, q, expected=spread, abs=1e-5)
    half = torch.rand(1, generator=generator).item() / 2 + 0.25
    left, right = torch.tensor([[half, 1 - half, 0.0, 0.0], [0.0, 0.0, half, 1 - half]])
    yield returns(divergence, left, right, expected=math.log(2), abs=1e-5)
    yield returns(divergence, left, left, expected=0.0, abs=1e-5)


@exercise("ex-pinsker", hint="solve KL >= 2 TV^2 for TV.")
def pinsker(tv_bound: Any, generator: torch.Generator) -> Iterator[Case]:
    for divergence in (0.01 + torch.rand(20, generator=generator)).tolist():
        yield returns(tv_bound, divergence, expected=math.sqrt(divergence / 2))


@exercise("ex-z-loss", hint="the gradient of LSE is p; the square brings 2 LSE in front of it.")
def z_loss(gradient: Any, generator: torch.Generator) -> Iterator[Case]:
    def loss(z: torch.Tensor, y: int, strength: float) -> torch.Tensor:
        return z.logsumexp(0) - z[y] + strength * z.logsumexp(0) ** 2

    for size in (2, 2, 3, 4, 5, 8, 10):
        z = 3 + 2 * torch.randn(size, generator=generator)
        y = int(torch.randint(size, (), generator=generator))
        for strength in (0.0, 0.1, 1.0):
            exact = torch.func.grad(loss)(z.double(), y, strength)
            # Sums of numbers of size 20, in float32.
            yield returns(gradient, z, y, strength, expected=exact, abs=1e-4)


@exercise(
    "ex-blocked-loss",
    hint="two numbers a row, N D and V D for the gradients, and a block has V columns at most.",
)
def blocked_loss(numbers: Any, generator: torch.Generator) -> Iterator[Case]:
    for _ in range(20):
        n, v, d, b = torch.randint(1, 1000, (4,), generator=generator).tolist()
        held = {"pairs": (n, 2), "block": (n, len(range(v)[:b])), "for x": (n, d), "for W": (v, d)}
        yield returns(numbers, n, v, d, b, expected=sum(math.prod(x) for x in held.values()))
