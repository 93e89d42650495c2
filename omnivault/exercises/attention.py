"""Checks for the chapter *The temperature inside attention*."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from omnivault.exercises.checking import Case, called, claim, exercise, returns, tensor_of


@exercise("ex-correlated", hint="write k_i = r q_i + sqrt(1 - r^2) u_i and use that E[q_i^4] = 3.")
def correlated(scaled_score: Any, generator: torch.Generator) -> Iterator[Case]:
    correlations = [0.0, -0.5, 1.0, *(1.8 * torch.rand(17, generator=generator) - 0.9).tolist()]
    for r in correlations:
        d = int(torch.randint(2, 1025, (), generator=generator))
        # A product is a difference of squares of independent variables, (q + k)/2 and (q - k)/2.
        plus, minus = (1 + r) / 2, (1 - r) / 2
        mean, variance = d * (plus - minus), d * (2 * plus**2 + 2 * minus**2)
        yield returns(scaled_score, r, d, expected=(mean / math.sqrt(d), math.sqrt(variance / d)))


@exercise("ex-cosine", hint="the best that a key can do is a score of 1 among scores of -1.")
def cosine(largest_tau: Any, generator: torch.Generator) -> Iterator[Case]:
    sizes = [2, 3, 1024, *torch.randint(2, 200, (17,), generator=generator).tolist()]
    for n in sizes:
        tau = 0.4 + float(torch.rand((), generator=generator))
        best = math.exp(1 / tau) / (math.exp(1 / tau) + (n - 1) * math.exp(-1 / tau))
        yield returns(largest_tau, best, n, expected=tau)


@exercise(
    "ex-longer", hint="the others weigh (n - 1) e^(-gamma) together, relative to the right key."
)
def longer(scale: Any, generator: torch.Generator) -> Iterator[Case]:
    gaps = (1 + 5 * torch.rand(20, generator=generator)).tolist()
    for i, gamma in enumerate(gaps):
        # Few keys, where n is far from n - 1, and many.
        n = int(torch.randint(2, 2000 if i % 2 else 5, (), generator=generator))
        n_new = n + int(torch.randint(1, 5 * n, (), generator=generator))
        others = (n - 1) * math.exp(-gamma)
        weight = 1 / (1 + others)
        logit = math.log(weight) - math.log(others * weight)
        yield returns(scale, gamma, n, n_new, expected=(logit + math.log(n_new - 1)) / gamma)


@exercise("ex-sink-level", hint="to a sink of score 0, the keys weigh as one key of score LSE(s).")
def sink_level(total_after: Any, generator: torch.Generator) -> Iterator[Case]:
    levels = (6 * torch.rand(20, generator=generator) - 3).tolist()
    for i, level in enumerate(levels):
        # Up, down and not at all.
        c = (i % 3 - 1) * (0.5 + float(torch.rand((), generator=generator)))
        before, after = (1 / (1 + math.exp(-x)) for x in (level, level + c))
        yield returns(total_after, before, c, expected=after)


@exercise("ex-kappa", hint="at worst the others weigh (n - 1) n^(-kappa g), to 1 of the right key.")
def kappa(least_kappa: Any, generator: torch.Generator) -> Iterator[Case]:
    gaps = (0.5 + 3 * torch.rand(20, generator=generator)).tolist()
    for i, gap in enumerate(gaps):
        # Few keys, where n is far from n - 1, and many.
        n = int(torch.randint(3, 2000 if i % 2 else 6, (), generator=generator))
        factor = (0.7 + float(torch.rand((), generator=generator))) / gap
        weight = 1 / (1 + (n - 1) * n ** (-factor * gap))
        yield returns(least_kappa, weight, gap, n, expected=factor)


@exercise("ex-gap-bound", hint="put one score far ahead, and find out where the others should lie.")
def gap_bound(scores: Any, generator: torch.Generator) -> Iterator[Case]:
    for n in [2, 3, 64, *torch.randint(4, 33, (7,), generator=generator).tolist()]:
        got, _ = called(scores, n)
        s = tensor_of(got)
        if s is None or s.shape != (n,) or not s.isfinite().all():
            yield claim(False, f"for n = {n} a tensor of {n} finite scores is wanted.")
            return
        p = s.softmax(-1)
        jacobian = -p[:, None] * p
        # The diagonal as a sum: 1 - p would lose its digits where p is near 1.
        jacobian.fill_diagonal_(0)
        jacobian -= torch.diag(jacobian.sum(-1))
        largest, second = s.topk(2).values.tolist()
        bound = 2 * (n - 1) * math.exp(second - largest)
        if bound < 1e-200:
            yield claim(False, f"for n = {n} the bound is all but 0; a smaller gap will do.")
            return
        share = float(torch.linalg.matrix_norm(jacobian, ord=2)) / bound
        yield claim(
            share > 0.9 * n / (2 * (n - 1)),
            f"for n = {n} the norm at your scores is {share:.3f} of the bound, and it can be more.",
        )
