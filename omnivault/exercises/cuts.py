"""Checks for the chapter *Every cut under three questions*."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import torch

from omnivault.exercises.checking import Case, agree, claim, exercise, returns, tensor_of

BY_HAND = {"epsilon": 2, "top-a": 3, "p-less": 1, "top-h": 2, "XTC": 3}


@exercise(
    "ex-cut-by-hand",
    hint="top-a compares with 0.6 times the square of 1/2, p-less with the sum of the squares.",
)
def cut_by_hand(sizes: Any, generator: torch.Generator) -> Iterator[Case]:
    numbers = tensor_of(sizes)
    yield claim(
        numbers is not None and numbers.shape == (len(BY_HAND),),
        "five numbers are wanted, in the order of the question.",
    )
    for size, (rule, kept) in zip(sizes, BY_HAND.items(), strict=True):
        yield claim(agree(size, kept), f"{rule} keeps another number of tokens.")


@exercise(
    "ex-port-min-p",
    hint="both say how far a logit may lie below the largest; one of them after the division.",
)
def port_min_p(share_after: Any, generator: torch.Generator) -> Iterator[Case]:
    for temperature in (0.25, 0.5, 1.0, 2.0, 5.0):
        for gap in (0.0, 0.5, 3.0):
            share = torch.tensor(-gap, dtype=torch.float64).exp().item()
            expected = torch.tensor(-gap / temperature, dtype=torch.float64).exp()
            yield returns(share_after, share, temperature, expected=expected, abs=1e-9)


@exercise(
    "ex-order-example",
    hint="the first of the two that top-k leaves must have more than 0.6 of their sum only.",
)
def order_example(weights: Any, generator: torch.Generator) -> Iterator[Case]:
    numbers = tensor_of(weights)
    listed = numbers.tolist() if numbers is not None and numbers.ndim == 1 else []
    yield claim(
        len(listed) >= 3 and all(0 < x < math.inf for x in listed),
        "three or more positive numbers are wanted.",
    )
    ranked = sorted(map(Fraction, listed), reverse=True)
    mass, two = Fraction(6, 10), ranked[0] + ranked[1]
    after_k = 1 if ranked[0] >= mass * two else 2
    first = next(r for r in range(1, len(ranked) + 1) if sum(ranked[:r]) >= mass * sum(ranked))
    yield claim(after_k != min(first, 2), "both orders keep the same tokens.")
    near = min(abs(ranked[0] / two - mass), abs(ranked[0] / sum(ranked) - mass))
    yield claim(near > Fraction(1, 1000), "a probability lies on a border; stay clear of it.")


@exercise(
    "ex-xtc-distance",
    hint="the distance is the mass that is ruled out, times how often it is.",
)
def xtc_distance(distance: Any, generator: torch.Generator) -> Iterator[Case]:
    for chance in (0.0, 0.5, 1.0):
        for threshold in (0.01, 0.1, 0.2, 0.6):
            p = (2 * torch.randn(6, generator=generator).double()).softmax(-1)
            ranked = sorted(p.tolist(), reverse=True)
            reach = sum(x >= threshold for x in ranked)
            expected = chance * sum(ranked[: max(reach - 1, 0)])
            yield returns(distance, p, threshold, chance, expected=expected, abs=1e-9)


@exercise(
    "ex-grammar",
    hint="a mask divides by the mass that it leaves, at each step; a condition divides once.",
)
def grammar(laws: Any, generator: torch.Generator) -> Iterator[Case]:
    for rows, columns in ((2, 2), (2, 3), (3, 2), (4, 3)):
        first = torch.rand(rows, generator=generator).double() + 0.1
        second = torch.rand(rows, columns, generator=generator).double() + 0.1
        first, second = first / first.sum(), second / second.sum(-1, keepdim=True)
        allowed = torch.rand(rows, columns, generator=generator) < 0.6
        allowed[0, 0], allowed[-1] = True, rows < 3  # with three or more one leads nowhere
        masked, given = torch.zeros(2, rows, columns, dtype=torch.float64)
        whole = sum(float(first[a]) for a in range(rows) if allowed[a].any())
        for a in range(rows):
            left = float(second[a][allowed[a]].sum())
            for b in range(columns):
                if allowed[a, b]:
                    masked[a, b] = float(first[a]) / whole * float(second[a, b]) / left
                    given[a, b] = float(first[a] * second[a, b])
        expected = masked, given / given.sum()
        yield returns(laws, first, second, allowed, expected=expected, abs=1e-9)
