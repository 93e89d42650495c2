"""What the tests on texts share: a model of fractions, its texts, and weights for tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product

from hypothesis import strategies as st

from tests.chapters.cuts.common import shares

F = Fraction
Text = tuple[int, ...]
Weights = Callable[[Text], list[Fraction]]
K, N = 3, 2


class Steps:
    """Numbers for each beginning of a text of N tokens among K, drawn by hypothesis."""

    def __init__(self, rows: list[list[int]]) -> None:
        beginnings = [y for n in range(N) for y in product(range(K), repeat=n)]
        self.rows = dict(zip(beginnings, rows, strict=True))

    def law(self, y: Text) -> list[Fraction]:
        """Conditional probabilities after a beginning."""
        return shares(*self.rows[y])

    def weights(self, y: Text) -> list[Fraction]:
        return [F(x) for x in self.rows[y]]


BEGINNINGS = sum(K**n for n in range(N))
TEXTS = list(product(range(K), repeat=N))


def steps(least: int, most: int) -> st.SearchStrategy[Steps]:
    row = st.lists(st.integers(least, most), min_size=K, max_size=K).filter(any)
    return st.lists(row, min_size=BEGINNINGS, max_size=BEGINNINGS).map(Steps)


def along(y: Text, numbers: Weights) -> Fraction:
    """The product of the numbers of a text's tokens."""
    return math.prod((numbers(y[:n])[y[n]] for n in range(len(y))), start=F(1))


def mass(y: Text, p: Weights, w: Weights) -> Fraction:
    """What a step divides by: Z of a beginning."""
    return sum((a * b for a, b in zip(p(y), w(y), strict=True)), F(0))


def normalizers(y: Text, p: Weights, w: Weights) -> Fraction:
    return math.prod((mass(y[:n], p, w) for n in range(len(y))), start=F(1))


def token_by_token(p: Weights, w: Weights) -> dict[Text, Fraction]:
    """The law of a text each of whose tokens is drawn from p w, renormalized."""
    law: dict[Text, Fraction] = {(): F(1)}
    for _ in range(N):
        after: dict[Text, Fraction] = {}
        for y, chance in law.items():
            drawn = [a * b for a, b in zip(p(y), w(y), strict=True)]
            for token, weight in enumerate(drawn):
                after[(*y, token)] = chance * weight / sum(drawn) if chance else F(0)
        law = after
    return law


def of_texts(p: Weights, w: Weights) -> dict[Text, Fraction]:
    """The law of texts with probabilities in proportion to p w."""
    whole = [along(y, p) * along(y, w) for y in TEXTS]
    return dict(zip(TEXTS, shares(*whole), strict=True))


def total_variation(p: dict[Text, Fraction], q: dict[Text, Fraction]) -> Fraction:
    return sum((abs(p[y] - q[y]) for y in TEXTS), F(0)) / 2
