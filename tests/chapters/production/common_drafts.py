"""What the tests of several statements of this chapter share."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from tests.support.strategies import SINGLE_DOUBLE, double, events, shares, total

FALSE_ALARM = 1e-3  # of another seed; with the one given a test passes for ever or fails for ever
Path = tuple[int, ...]
Law = dict[Any, Fraction]
Shares = tuple[Fraction, ...]
Choose = Callable[[Iterable[Any]], int]
single_and_double = pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def every_run(run: Callable[[Choose], Any]) -> Law:
    """The law of what ``run`` returns, from all runs; ``choose(weights)`` makes its choices."""
    law: Law = defaultdict(Fraction)
    script: list[int] = []
    while True:
        taken: list[tuple[int, list[int], Fraction]] = []

        def choose(weights: Iterable[Any]) -> int:
            w = [Fraction(x) for x in weights]
            possible = [i for i, x in enumerate(w) if x > 0]
            at = script[len(taken)] if len(taken) < len(script) else 0  # noqa: B023
            taken.append((at, possible, w[possible[at]] / sum(w)))  # noqa: B023
            return possible[at]

        result = run(choose)
        law[result] += math.prod((chance for *_, chance in taken), start=Fraction(1))
        while taken and taken[-1][0] == len(taken[-1][1]) - 1:
            taken.pop()
        if not taken:
            return dict(law)
        script = [at for at, *_ in taken]
        script[-1] += 1


def distributions(k: int) -> st.SearchStrategy[Shares]:
    whole = st.lists(st.integers(0, 6), min_size=k, max_size=k)
    return whole.filter(any).map(lambda weights: shares(*weights))


pairs = st.integers(1, 4).flatmap(lambda k: st.tuples(distributions(k), distributions(k)))


def tables(k: int) -> st.SearchStrategy[list[list[int]]]:
    row = st.lists(st.integers(0, 9), min_size=k, max_size=k)
    return st.lists(row, min_size=k, max_size=k)


def variation(p: Shares, q: Shares) -> Fraction:
    """The total variation distance, as the largest difference of two probabilities."""
    return max(total(p[i] - q[i] for i in event) for event in events(len(p)))


def acceptance(p: Shares, q: Shares, x: int) -> Fraction:
    return min(Fraction(1), p[x] / q[x])


def leftover(p: Shares, q: Shares) -> Shares:
    """What a token is drawn from after a rejection."""
    rest = [max(Fraction(0), a - b) for a, b in zip(p, q, strict=True)]
    return tuple(x / total(rest) for x in rest)


Model = Callable[[Path], Shares]


def after_a_round(target: Model, draft: Model, text: Path, ahead: int, end: int) -> Law:
    """The law of the text that one round makes of a text, as the algorithm goes."""
    law: Law = defaultdict(Fraction)
    proposed: dict[Path, Fraction] = {(): Fraction(1)}
    for _ in range(min(ahead, end - len(text))):
        proposed = {
            (*new, x): chance * q
            for new, chance in proposed.items()
            for x, q in enumerate(draft((*text, *new)))
            if q
        }
    for new, chance in proposed.items():
        reached = chance
        for n, x in enumerate(new):
            before = (*text, *new[:n])
            p, q = target(before), draft(before)
            keep = acceptance(p, q, x)
            if keep < 1:
                for y, r in enumerate(leftover(p, q)):
                    law[*before, y] += reached * (1 - keep) * r
            reached *= keep
        whole = (*text, *new)
        if len(whole) == end:
            law[whole] += reached
        elif reached:
            for y, r in enumerate(target(whole)):
                law[*whole, y] += reached * r
    return {new: chance for new, chance in law.items() if chance}


def series(a: Fraction, ahead: int) -> Fraction:
    """Tokens of one round, on average."""
    return Fraction(ahead + 1) if a == 1 else (1 - a ** (ahead + 1)) / (1 - a)


def logits(row: Sequence[Fraction], temperature: float = 1.0) -> Tensor:
    return temperature * double([float(x) for x in row]).log()


def small_fractions(weights: Tensor) -> list[Fraction]:
    """Shares as they were before softmax rounded them."""
    found = [Fraction(w).limit_denominator(100) for w in (weights / weights.sum()).tolist()]
    return found if any(found) else [Fraction(1)] * len(found)


Round = Callable[[Model, Model, Path, int, int], Law]


def in_rounds(one_round: Round, target: Model, draft: Model, ahead: int, end: int) -> Law:
    """The law of the texts of ``end`` tokens."""
    texts: Law = {(): Fraction(1)}
    while any(len(text) < end for text in texts):
        after: Law = defaultdict(Fraction)
        for text, chance in texts.items():
            done = len(text) == end
            one = {text: Fraction(1)} if done else one_round(target, draft, text, ahead, end)
            for new, x in one.items():
                after[new] += chance * x
        texts = after
    return texts


def texts_of(target: Model, k: int, end: int) -> Law:
    """The law of the texts that the target gives, one token after the other."""
    law = {
        text: math.prod((target(text[:n])[x] for n, x in enumerate(text)), start=Fraction(1))
        for text in itertools.product(range(k), repeat=end)
    }
    return {text: chance for text, chance in law.items() if chance}


def from_table(k: int, rows: Sequence[Shares]) -> Model:
    """A model whose next token depends on the whole text before it."""

    def model(text: Path) -> Shares:
        shorter = sum(k**n for n in range(len(text)))
        place: int = shorter + sum(x * k**n for n, x in enumerate(text))
        return rows[place % len(rows)]

    return model


@st.composite
def two_models(draw: st.DrawFn) -> tuple[int, Model, Model]:
    k = draw(st.integers(1, 3))
    tables = [draw(st.lists(distributions(k), min_size=1, max_size=7)) for _ in range(2)]
    return k, from_table(k, tables[0]), from_table(k, tables[1])
