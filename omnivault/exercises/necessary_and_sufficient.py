"""Checks for the appendix *Necessary and sufficient*."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor

from omnivault.exercises.checking import Case, called, claim, exercise, shown, tensor_of

OFF = 64 * 2.0**-53
"""What rounding makes of the softmax of up to four logits that are at most 5 apart."""

WORDS = {
    (True, True): "both",
    (True, False): "necessary",
    (False, True): "sufficient",
    (False, False): "neither",
}


def relation(a: Tensor, b: Tensor) -> str:
    """Say what A is for B, as far as examples tell."""
    return WORDS[not (b & ~a).any(), not (a & ~b).any()]


@exercise("ex-name-relation", hint="look for logits with A and without B, and the other way round.")
def name_relation(relations: Any, generator: torch.Generator) -> Iterator[Case]:
    for k in (2, 3, 4):
        grid = product((-2, -1, 0, 0.1, 1, 1.1, 3), repeat=k)
        z = torch.tensor(list(grid), dtype=torch.float64)
        p = torch.softmax(z, -1)
        first, rest, p_1 = z[:, 0], z[:, 1:], p[:, 0]
        expected = [
            relation((rest == first[:, None]).all(-1), ((p - 1 / k).abs() < OFF).all(-1)),
            relation(first > 0, p_1 > 1 / k + OFF),
            relation(p_1 > 1 / 2 + OFF, (rest < first[:, None]).all(-1)),
            relation(first == z.amax(-1), p_1 > 1 / k - OFF),
        ]
        got, told = called(relations, k)
        told = f"{told} {shown(got)}"
        if not isinstance(got, (list, tuple)) or len(got) != 4:
            yield claim(False, f"{told}; a list of four words is wanted.")
            return
        wrong = sum(word != want for word, want in zip(got, expected, strict=True))
        yield claim(
            wrong == 0, f"{told}; {wrong} of the four {'is' if wrong == 1 else 'are'} wrong."
        )


@exercise("ex-counterexample", hint="choose the probabilities first, then the logits for them.")
def counterexample(answer: Any, generator: torch.Generator) -> Iterator[Case]:
    pair = tensor_of(answer)
    if pair is None or pair.shape != (2, 4) or not pair.isfinite().all():
        yield claim(False, f"two vectors of four logits are wanted, got {shown(answer)}.")
        return
    p, q = torch.softmax(pair, -1).sort(-1).values
    for place, name in ((-1, "largest"), (0, "smallest")):
        one, other = p[place].item(), q[place].item()
        # Logits may be given to a few digits; what differs has to differ by ten times as much.
        yield claim(
            abs(one - other) < 1e-4 * one,
            f"the {name} probabilities are {one:.6g} and {other:.6g}.",
        )
    yield claim(
        (p - q)[1:3].abs().max() > 1e-3 * p[1],
        f"the two softmaxes are equal up to order: {shown(p)}.",
    )
