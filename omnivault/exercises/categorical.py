"""Checks for the chapter *One token, many tokens*."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from omnivault.exercises.checking import Case, called, claim, exercise, returns, shown, tensor_of


@exercise("ex-twenty", hint="each pattern of c hits among n draws is equally likely; count them.")
def twenty(probability: Any, generator: torch.Generator) -> Iterator[Case]:
    for i, pi in enumerate((0.1 + 0.8 * torch.rand(20, generator=generator)).tolist()):
        n = int(torch.randint(2, 25, (), generator=generator))
        c = (0, n, 1)[i] if i < 3 else round(n * pi)
        law = [1.0]  # of the count so far, one draw after the other
        for _ in range(n):
            law = [
                pi * hit + (1 - pi) * miss
                for hit, miss in zip([0.0, *law], [*law, 0.0], strict=True)
            ]
        yield returns(probability, pi, n, c, expected=law[c], abs=1e-12)


@exercise(
    "ex-lumping", hint="the group of one draw is a categorical draw too; with which probabilities?"
)
def lumping(probability: Any, generator: torch.Generator) -> Iterator[Case]:
    for i in range(10):
        pi = (2 * torch.rand(4, generator=generator)).softmax(-1)
        # Two groups or three, none of them empty, and not always neighbors.
        groups = torch.tensor([0, 0, 1, 1] if i % 2 else [0, 1, 2, 1])
        groups = groups[torch.randperm(4, generator=generator)]
        n = 3 + i % 3
        sequences = torch.cartesian_prod(*[torch.arange(4)] * n)
        of_groups = torch.eye(int(groups.max()) + 1)[groups[sequences]].sum(1)
        counts = of_groups[int(torch.randint(len(sequences), (), generator=generator))].long()
        same = (of_groups == counts).all(-1)
        chance = pi[sequences].double().prod(-1)[same].sum()
        yield returns(probability, pi, groups, counts, expected=chance)


@exercise("ex-waiting", hint="all n draws miss the token with probability (1 - pi)^n.")
def waiting(needed: Any, generator: torch.Generator) -> Iterator[Case]:
    for u, v in torch.rand(20, 2, generator=generator).tolist():
        pi, chance = 0.5 * 0.005**u, 0.5 + 0.45 * v
        n = 1
        while 1 - (1 - pi) ** n < chance:
            n += 1
        # Half a draw less than n: rounding must not decide.
        yield returns(needed, pi, 1 - (1 - pi) ** (n - 0.5), expected=n, rel=0, abs=1e-3)


@exercise(
    "ex-mode", hint="by the inequality, the next draw goes where pi_j / (c_j + 1) is largest."
)
def mode(most_likely: Any, generator: torch.Generator) -> Iterator[Case]:
    laws = [
        (torch.tensor([0.87, 0.065, 0.065]), 10),  # the nearest to n pi is another
        (torch.tensor([0.3, 0.3, 0.4]), 1),
        (torch.tensor([0.5, 0.5]), 7),  # a tie
        *((torch.rand(2 + i % 2, generator=generator).add(0.1), 5 + i) for i in range(12)),
    ]
    for weights, n in laws:
        pi = weights / weights.sum()
        got, told = called(most_likely, pi, n)
        c = tensor_of(got)
        told = f"{told} {shown(got)}"
        if c is None or c.shape != pi.shape or (c < 0).any() or (c != c.round()).any():
            yield claim(False, f"{told}, and {len(pi)} counts are wanted.")
            return
        yield claim(c.sum() == n, f"{told}; the counts should sum to {n}.")
        every = torch.cartesian_prod(*[torch.arange(n + 1.0)] * len(pi)).double()
        every = every[every.sum(-1) == n]
        best = log_chance(every, pi).max()
        # An answer may compare these in float32: terms up to 120 in all, to a dozen units.
        yield claim(log_chance(c, pi) > best - 1e-4, f"{told}, and other counts are likelier.")


def log_chance(counts: torch.Tensor, pi: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of counts, up to a term that n determines."""
    return (counts * pi.double().log() - torch.lgamma(counts + 1)).sum(-1)
