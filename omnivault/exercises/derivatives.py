"""Checks for the chapter *The derivatives of softmax*."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from omnivault.exercises.checking import Case, exercise, returns

SIZES = [2, 3, 4, 5] * 5


@exercise("ex-log-jacobian", hint="the two parts add up to v, and A leaves one of them as it is.")
def log_jacobian(parts: Any, generator: torch.Generator) -> Iterator[Case]:
    for size in SIZES:
        p = torch.softmax(torch.randn(size, generator=generator), 0)
        v = 2 * torch.randn(size, generator=generator)
        projection = torch.eye(size).double() - p.double().expand(size, size)
        image = projection @ v.double()
        # In float32: five products with a v up to 10, added up.
        yield returns(parts, p, v, expected=(v.double() - image, image), abs=1e-5)


@exercise(
    "ex-inverse",
    hint="L is the log-partition less beta z_c, and its derivatives are those of a log-partition.",
)
def inverse(derivatives: Any, generator: torch.Generator) -> Iterator[Case]:
    for size in SIZES:
        z = 2 * torch.randn(size, generator=generator)
        beta = 0.2 + 2.8 * torch.rand((), generator=generator).item()
        c = int(torch.randint(size, (), generator=generator))
        p = torch.softmax(beta * z.double(), 0)
        apart = z.double().unsqueeze(-1) - z.double()
        expected = (p @ apart[:, c], p @ apart**2 @ p / 2)
        # In float32: p off by some 50 u, times squares of differences up to 12.
        yield returns(derivatives, beta, z, c, expected=expected, abs=5e-4)


@exercise("ex-hvp", hint="multiply the two parts of J, diag(p) and the outer product, by v.")
def hessian_vector(product: Any, generator: torch.Generator) -> Iterator[Case]:
    for size in SIZES:
        z, v = 2 * torch.randn(2, size, generator=generator)
        p = torch.softmax(z.double(), 0)
        hessian = torch.diag(p) - torch.outer(p, p)
        # In float32: p off by some 50 u, times differences of v up to 16.
        yield returns(product, z, v, expected=hessian @ v.double(), abs=1e-4)


@exercise(
    "ex-third-moment", hint="at T = 1, H_111 is the third central moment of a draw's first entry."
)
def third_moment(estimate: Any, generator: torch.Generator) -> Iterator[Case]:
    for _ in range(20):
        p1 = 0.05 + 0.9 * torch.rand((), generator=generator).item()
        hits = torch.rand(8, generator=generator) < p1
        draws = torch.stack([hits, ~hits], -1).to(torch.get_default_dtype())
        share = hits.double().mean().item()
        expected = share * (1 - p1) ** 3 - (1 - share) * p1**3
        # In float32: eight cubes below 1, added up, are off by 16 u.
        yield returns(estimate, draws, torch.tensor([p1, 1 - p1]), expected=expected)
