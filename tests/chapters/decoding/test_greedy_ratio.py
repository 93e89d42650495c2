"""The proposition `greedy-ratio`: How bad greedy search can be."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from tests.chapters.decoding.common import Toy, chance, shares, two_steps


@pytest.mark.statement("greedy-ratio", "exact")
@pytest.mark.parametrize(("k", "n"), [(1, 2), (2, 1), (2, 5), (5, 3)])
def test_greedys_text_has_at_least_the_probability_of_a_uniform_one(k: int, n: int) -> None:
    bound = Fraction(1, k**n)
    for seed in range(10):
        model = chance(k, seed)
        assert model.probability(model.greedy(n)) >= bound
    uniform = Toy(k, lambda y: shares(*[1] * k))
    assert uniform.probability(uniform.greedy(n)) == bound


@pytest.mark.statement("greedy-ratio", "exact")
@pytest.mark.parametrize("epsilon", [2.0, 1.0, 0.1, 0.02])
def test_greedys_text_may_be_less_than_any_share_of_the_best(epsilon: float) -> None:
    k = max(2, math.floor(3 / (2 * epsilon)) + 1)
    model = two_steps(k)
    found = model.probability(model.greedy(2))
    assert found == Fraction(6, 10 * k) < epsilon * max(model.texts(2).values())
    assert max(model.texts(2).values()) == Fraction(4, 10) == model.probability(model.best(2, 2))
