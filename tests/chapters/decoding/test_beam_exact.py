"""The theorem `beam-exact`: When beam search is exact."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tests.chapters.decoding.common import Text, Toy, chance, shares


@pytest.mark.statement("beam-exact", "exact")
@pytest.mark.parametrize(("k", "n"), [(1, 3), (2, 1), (2, 2), (2, 4), (3, 3), (4, 2)])
def test_a_beam_as_wide_as_all_beginnings_is_exact_and_width_one_is_greedy(k: int, n: int) -> None:
    for seed in range(10):
        model = chance(k, seed)
        texts = model.texts(n)
        greedys = model.greedy(n)
        for width in (1, 2, k ** (n - 1), k**n):
            model.rows = 0
            found = model.best(width, n)
            assert model.rows <= width * n
            assert width < k ** (n - 1) or texts[found] == max(texts.values())
            assert width > 1 or found == greedys


@pytest.mark.statement("beam-exact", "exact")
@pytest.mark.parametrize(("k", "n"), [(2, 2), (3, 2), (2, 4), (3, 3)])
def test_one_beginning_less_is_not_enough(k: int, n: int) -> None:
    """All beginnings are nearly as probable; only after the least probable one a token is sure."""

    def after(y: Text) -> list[Fraction]:
        if len(y) < n - 1:
            return shares(*[1001] * (k - 1), 1000)
        return shares(1, *[0] * (k - 1)) if min(y) == k - 1 else shares(*[1] * k)

    model = Toy(k, after)
    best = max(model.texts(n).values())
    assert model.probability(model.best(k ** (n - 1), n)) == best
    for width in range(1, k ** (n - 1)):
        assert model.probability(model.best(width, n)) < best


@pytest.mark.statement("beam-exact", "exact")
def test_ties_may_part_width_one_from_greedy_search_in_the_text_alone() -> None:
    for model in (chance(3, seed, 1, 2) for seed in range(20)):
        found = model.best(1, 4)
        assert all(
            model.after(found[:i])[t] == max(model.after(found[:i])) for i, t in enumerate(found)
        )
