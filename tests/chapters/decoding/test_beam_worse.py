"""The proposition `beam-worse`: A wider beam can find a worse text."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tests.chapters.decoding.common import Text, Toy, chance, padded


def trap(y: Text) -> list[Fraction]:
    if len(y) < 2:
        return padded(10, *({(): [0.51, 0.49], (0,): [0.34, 0.22, 0.22, 0.22]}.get(y, [0.5, 0.5])))
    return padded(10, *[1] * (10 if y[0] else 1))


@pytest.mark.statement("beam-worse", "exact")
def test_width_two_finds_less_than_a_seventh_of_greedys_text() -> None:
    model = Toy(10, trap)
    wide, narrow = model.probability(model.best(2, 3)), model.probability(model.greedy(3))
    assert (narrow, wide) == (Fraction("0.1734"), Fraction("0.0245"))
    assert 7 * wide < narrow == max(model.texts(3).values())
    # The beginnings of the proof: what is kept, and what is dropped.
    second = sorted(model.texts(2).items(), key=lambda item: -item[1])[:6]
    assert [y for y, _ in second[:3]] == [(1, 0), (1, 1), (0, 0)]
    assert [float(p) for _, p in second] == [0.245, 0.245, 0.1734, 0.1122, 0.1122, 0.1122]
    assert model.best(1, 3) == model.best(4, 3) == (0, 0, 0)


@pytest.mark.statement("beam-worse", "exact")
def test_two_steps_are_no_trap_and_a_wider_beam_is_mostly_better() -> None:
    for model in (chance(4, seed) for seed in range(30)):
        narrow, wide = (model.probability(model.best(width, 2)) for width in (1, 2))
        assert narrow <= wide  # greedy's first token is kept, with all that follows
