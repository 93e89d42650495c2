"""Checks for the chapter *One problem for all decoders*."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from omnivault.exercises.checking import Case, called, claim, exercise, returns, shown, tensor_of


@exercise(
    "ex-sparse-pair",
    hint="write the objective in p_1 alone; a parabola whose top lies outside ends at a border.",
)
def sparse_pair(probability: Any, generator: torch.Generator) -> Iterator[Case]:
    level = float(torch.randn((), generator=generator))
    for temperature in (0.25, 1.0, 3.0):
        for share in (-5.0, -0.9, -0.2, 0.0, 0.5, 0.95, 2.0):
            one, two = level + share * temperature, level
            # The tau of the projection: at it, what the two have above it adds up to 1.
            low, high = min(one, two) / temperature - 1, max(one, two) / temperature
            for _ in range(80):
                tau = (low + high) / 2
                total = sum(max(z / temperature - tau, 0.0) for z in (one, two))
                low, high = (tau, high) if total > 1 else (low, tau)
            expected = max(one / temperature - low, 0.0)
            yield returns(probability, one, two, temperature, expected=expected, abs=1e-5)


@exercise(
    "ex-preferred",
    hint="a text's reward is T log(p/q) and a constant, and a preference sees their difference.",
)
def preferred(probability: Any, generator: torch.Generator) -> Iterator[Case]:
    for temperature in (0.1, 0.5, 1.0, 2.0):
        for _ in range(3):
            policy, reference = -6 * torch.rand(2, 2, generator=generator)
            rewards = [
                temperature * (p - q)
                for p, q in zip(policy.tolist(), reference.tolist(), strict=True)
            ]
            weights = [math.exp(r - max(rewards)) for r in rewards]
            expected = weights[0] / sum(weights)
            yield returns(probability, policy, reference, temperature, expected=expected, abs=1e-5)


@exercise(
    "ex-draws-needed",
    hint="all n draws miss the best share with a probability that is a power.",
)
def draws_needed(needed: Any, generator: torch.Generator) -> Iterator[Case]:
    cases = [(0.5, 0.99), (0.01, 0.95), (0.1, 0.9), (0.75, 0.5)]
    for exact in (0.5, 2.5, 6.5, 20.5):  # numbers of draws far from a whole one
        share = 0.02 + 0.4 * float(torch.rand((), generator=generator))
        cases.append((share, 1 - (1 - share) ** exact))
    for share, certainty in cases:
        n, missed = 1, 1 - share
        while missed > 1 - certainty:
            n, missed = n + 1, missed * (1 - share)
        expected = n, math.log(n) - 1 + 1 / n
        yield returns(needed, share, certainty, expected=expected, abs=1e-5)


@exercise(
    "ex-two-experts",
    hint="logits that are averaged are probabilities to powers, multiplied; their sum is the key.",
)
def two_experts(merged: Any, generator: torch.Generator) -> Iterator[Case]:
    for w in (0.0, 0.2, 0.5, 0.9, 1.0):
        for k in (1, 2, 5):
            z, other = 2 * torch.randn(2, k, generator=generator)
            p, q = (row.double().softmax(-1).tolist() for row in (z, other))
            powers = [a**w * b ** (1 - w) for a, b in zip(p, q, strict=True)]
            law = torch.tensor([x / math.fsum(powers) for x in powers], dtype=torch.float64)
            expected = law, -math.log(math.fsum(powers))
            yield returns(merged, z, other, w, expected=expected, abs=1e-5)


@exercise(
    "ex-guided-away",
    hint="guidance with 3 is 3 z - 2 z'; let a close second of z be hopeless in z'.",
)
def guided_away(rows: Any, generator: torch.Generator) -> Iterator[Case]:
    got, told = called(rows)
    pair = tensor_of([tensor_of(row) for row in got] if isinstance(got, (list, tuple)) else got)
    fits = pair is not None and pair.shape == (2, 3) and bool(pair.isfinite().all())
    yield claim(fits, f"{told} {shown(got)}; two rows of three finite logits are wanted.")
    assert pair is not None
    z, other = pair
    guided = 3 * z - 2 * other
    first = int(guided.argmax())
    for name, row in (("z", z), ("z'", other)):
        yield claim(
            row.argmax() != first,
            f"guidance makes token {first + 1} most probable, and so it is in {name}.",
        )
    near = min(float(row.topk(2).values.diff().abs()) for row in (z, other, guided))
    yield claim(near > 1e-3, "two logits at the top are tied, or nearly; stay clear of ties.")


@exercise(
    "ex-half-sure",
    hint="with all in the support p_i = 1/K + (z_i - mean)/T; which i reaches 0 first?",
)
def half_sure(temperature: Any, generator: torch.Generator) -> Iterator[Case]:
    rows = [[1.0, 0.0, 0.0, 0.0], [2.0, 2.0], [-3.0]]
    rows += [(3 * torch.randn(k, generator=generator)).tolist() for k in (2, 3, 8, 30)]
    for row in rows:
        expected = len(row) * (math.fsum(row) / len(row) - min(row))
        yield returns(temperature, torch.tensor(row), expected=expected, abs=1e-4)
