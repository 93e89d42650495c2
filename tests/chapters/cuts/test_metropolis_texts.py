"""The theorem `metropolis-texts`: Metropolis for texts."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chapters.cuts.texts import (
    TEXTS,
    Steps,
    Text,
    along,
    normalizers,
    of_texts,
    steps,
    token_by_token,
    total_variation,
)

F = Fraction
Law = dict[Text, Fraction]


def acceptance(y: Text, proposed: Text, p: Steps, w: Steps) -> Fraction:
    ratio = normalizers(proposed, p.law, w.weights) / normalizers(y, p.law, w.weights)
    return min(F(1), ratio)


def moved(law: Law, p: Steps, w: Steps) -> Law:
    """The law after one step of the chain."""
    q, after = token_by_token(p.law, w.weights), dict.fromkeys(TEXTS, F(0))
    for y, chance in law.items():
        # A text without weight is neither proposed nor left.
        for proposed in [other for other in TEXTS if chance and q[other]]:
            moves = chance * q[proposed] * acceptance(y, proposed, p, w)
            after[proposed] += moves
            after[y] += chance * q[proposed] - moves
    return after


@pytest.mark.statement("metropolis-texts", "exact")
@given(steps(1, 4), steps(1, 4))
def test_the_flow_is_the_same_both_ways_and_the_target_stays(p: Steps, w: Steps) -> None:
    pi, q = of_texts(p.law, w.weights), token_by_token(p.law, w.weights)
    assert moved(pi, p, w) == pi
    for y in TEXTS:
        for other in TEXTS:
            there = pi[y] * q[other] * acceptance(y, other, p, w)
            assert there == pi[other] * q[y] * acceptance(other, y, p, w)


def factor(q: Law, ratios: Law) -> Fraction:
    """The largest of the ratios of the normalizers over their mean, of texts that can be drawn."""
    mean = sum((q[y] * ratios[y] for y in TEXTS), F(0))
    return max(ratios[y] for y in TEXTS if q[y]) / mean


@pytest.mark.statement("metropolis-texts", "exact")
@given(steps(1, 4), steps(0, 4))
def test_the_factor_is_the_largest_ratio_and_that_of_the_normalizers(p: Steps, w: Steps) -> None:
    pi, q = of_texts(p.law, w.weights), token_by_token(p.law, w.weights)
    ratios = {y: normalizers(y, p.law, w.weights) for y in TEXTS}
    assert factor(q, ratios) == max(pi[y] / q[y] for y in TEXTS if q[y])
    assert all(pi[y] == 0 for y in TEXTS if not q[y])
    law = q
    for n in range(3):
        assert total_variation(law, pi) <= (1 - 1 / factor(q, ratios)) ** n
        law = moved(law, p, w)


@pytest.mark.statement("metropolis-texts", "exact")
@given(steps(1, 4), st.integers(2, 3))
def test_the_distance_falls_below_the_bound_from_the_first_step(p: Steps, power: int) -> None:
    """Texts at the temperature 1 / power: weights p^(power - 1)."""

    class Powers(Steps):
        def __init__(self) -> None:
            self.rows = p.rows

        def weights(self, y: Text) -> list[Fraction]:
            return [x ** (power - 1) for x in p.law(y)]

    w = Powers()
    pi = of_texts(p.law, w.weights)
    powers = {y: along(y, p.law) ** power for y in TEXTS}
    assert all(pi[y] * sum(powers.values()) == powers[y] for y in TEXTS)
    law = token_by_token(p.law, w.weights)
    most = max(pi[y] / law[y] for y in TEXTS)
    for n in range(4):
        assert total_variation(law, pi) <= (1 - 1 / most) ** n
        law = moved(law, p, w)


def test_a_start_elsewhere_comes_as_near() -> None:
    p = Steps([[1, 2, 3], [1, 1, 4], [2, 3, 1], [1, 1, 1]])
    w = Steps([[1, 1, 2], [3, 1, 1], [1, 4, 1], [1, 2, 2]])
    pi, q = of_texts(p.law, w.weights), token_by_token(p.law, w.weights)
    most = max(pi[y] / q[y] for y in TEXTS)
    for start in TEXTS:
        law = {y: F(y == start) for y in TEXTS}
        for n in range(4):
            assert total_variation(law, pi) <= (1 - 1 / most) ** n
            law = moved(law, p, w)
