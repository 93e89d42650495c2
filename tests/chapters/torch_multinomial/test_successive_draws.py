"""The definition `successive-draws`: Successive draws."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.chapters.torch_multinomial.common import chance, orders, seeded, single_and_double


@pytest.mark.statement("successive-draws", "exact")
@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.integers(1, 5))
def test_each_draw_is_categorical_among_those_left(weights: list[int], n: int) -> None:
    k, total = len(weights), sum(weights)
    n = min(n, k)
    law = {order: chance(order, weights) for order in orders(k, n)}
    assert sum(law.values()) == 1
    assert all(chance(order, [7 * w for w in weights]) == p > 0 for order, p in law.items())
    for start in orders(k, n - 1):
        # Of the draws with replacement, the first that is new: a geometric series of repeats.
        repeat = Fraction(sum(weights[i] for i in start), total)
        for i in set(range(k)) - set(start):
            new = Fraction(weights[i], total) / (1 - repeat)
            assert law[*start, i] == chance(start, weights) * new
    assert len(set(weights)) > 1 or set(law.values()) == {Fraction(1, math.perm(k, n))}


@pytest.mark.statement("successive-draws")
@single_and_double
def test_no_more_draws_than_positive_weights(dtype: torch.dtype) -> None:
    with pytest.raises(ZeroDivisionError):
        chance((1, 2, 0), (0, 7, 3, 0))
    # torch compares with the length of the row only, and then returns what is impossible.
    w = torch.tensor([0.0, 0.7, 0.3, 0.0], dtype=dtype)
    for n, seed in itertools.product((2, 3, 4), range(20)):
        drawn = torch.multinomial(w, n, generator=seeded(seed))
        assert sorted(drawn[:2].tolist()) == [1, 2]
        assert len(drawn.unique()) == n
    with pytest.raises(RuntimeError, match="cannot sample n_sample > prob_dist"):
        torch.multinomial(w, 5)
