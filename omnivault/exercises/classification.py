"""Checks for the chapter *Where logits come from*."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor

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


@exercise("ex-parameters", hint="count W and b; then take away what moves no probability.")
def parameters(count: Any, generator: torch.Generator) -> Iterator[Case]:
    for k, d, bias in product((2, 3, 10, 49_152), (1, 64, 576), (True, False)):
        columns = d + bias
        yield returns(count, k, d, bias, expected=(k * columns, k * columns - columns))


@exercise("ex-two-classes", hint="at the optimum the two rows sum to zero; write them with w.")
def two_classes(penalty: Any, generator: torch.Generator) -> Iterator[Case]:
    for d in torch.randint(1, 6, (20,), generator=generator).tolist():
        w = torch.randn(d, generator=generator)
        lam = 0.1 + 2 * torch.rand((), generator=generator).item()
        # The smallest penalty of two rows whose difference is w: the rows are w/2 and -w/2.
        expected = sum(lam / 2 * (row**2).sum() for row in (w / 2, -w / 2))
        yield returns(penalty, w, lam, expected=expected)


@exercise("ex-priors", hint="a logit is a log-density plus a log-prior; replace the second.")
def priors(adjusted: Any, generator: torch.Generator) -> Iterator[Case]:
    for k in [2, *torch.randint(3, 7, (19,), generator=generator).tolist()]:
        f, pi, new = 0.1 + torch.rand(3, k, generator=generator)
        pi, new = pi / pi.sum(), new / new.sum()
        z = f.log() + pi.log() + torch.randn((), generator=generator)
        got, told = called(adjusted, z, pi, new)
        logits = tensor_of(got)
        if logits is None or logits.shape != (k,):
            yield claim(False, f"{told} {shown(got)}; {k} logits are wanted.")
            return
        found, expected = torch.softmax(logits, -1), f * new / (f * new).sum()
        yield claim(
            agree(found, expected),
            f"{told} {shown(got)}, whose softmax is {shown(found)}, not {shown(expected)}.",
        )


@exercise("ex-generative", hint="compare each step with the theorem on one common covariance.")
def generative(fit: Any, generator: torch.Generator) -> Iterator[Case]:
    for k, d in ((2, 1), (2, 3), (3, 2), (4, 3), (5, 5)):
        y = torch.arange(k).repeat_interleave(8 * torch.arange(1, k + 1))
        y = y[torch.randperm(len(y), generator=generator)]
        x = 2 * torch.randn(k, d, generator=generator)[y]
        x = x + torch.randn(len(y), d, generator=generator)
        got, _ = called(fit, x, y)
        pair = got if isinstance(got, (list, tuple)) and len(got) == 2 else (None, None)
        w, b = map(tensor_of, pair)
        if w is None or b is None or w.shape != (k, d) or b.shape != (k,):
            yield claim(False, f"W has to be {k} by {d} and b of length {k} in the case at hand.")
            return
        query = torch.randn(5, d, generator=generator, dtype=torch.float64)
        found = log_odds(query @ w.T + b)
        # Whether the squares are divided by N, N - 1 or N - K is left open.
        expected = [
            log_odds(by_densities(x.double(), y, query, divisor=len(y) - lost))
            for lost in (0, 1, k)
        ]
        first, rule = found[0, 0].item(), expected[0][0, 0].item()
        # Answers in float32 take squares of inputs up to 10 apart and are off by 1e-4 or less;
        # without the 0.01 on the diagonal all is off by about 1e-2.
        yield claim(
            any(agree(found, z, rel=2e-3, abs=2e-3) for z in expected),
            f"with {k} classes the log-odds of the first two at {shown(query[0])} are {first:.4g};"
            f" Bayes' rule gives {rule:.4g}.",
        )


def log_odds(z: Tensor) -> Tensor:
    """Return the log-odds of the first class against each other one."""
    return z[:, :1] - z[:, 1:]


def by_densities(x: Tensor, y: Tensor, query: Tensor, divisor: int) -> Tensor:
    """Return logits by the densities of the Gaussians that are fitted to x and y."""
    classes = [x[y == k] for k in range(int(y.max()) + 1)]
    centered = torch.cat([inputs - inputs.mean(0) for inputs in classes])
    covariance = centered.T @ centered / divisor + 0.01 * torch.eye(x.shape[-1]).double()
    densities = [
        torch.distributions.MultivariateNormal(inputs.mean(0), covariance).log_prob(query)
        for inputs in classes
    ]
    counts = torch.tensor([len(inputs) for inputs in classes]).double()
    return torch.stack(densities, dim=-1) + counts.log()


@exercise("ex-gauge", hint="split each row into the mean of the rows and the rest.")
def gauge(shift: Any, generator: torch.Generator) -> Iterator[Case]:
    for _ in range(20):
        k, d = torch.randint(2, 7, (2,), generator=generator).tolist()
        w = torch.randn(k, d, generator=generator)
        total = sum(w[1:], start=w[0])
        # Rows may cancel: two sums of k, in any order, in float32 at least.
        rounding = k * torch.finfo(torch.float32).eps * w.abs().max().item()
        yield returns(shift, w, expected=-total / k, abs=rounding)
