"""The proposition `typical-tokens`: Typical tokens."""

from __future__ import annotations

import pytest
from hypothesis import given

from omnivault.information import entropy
from omnivault.sampling import typical_p
from tests.chapters.decoding.common import U, row, shares, tokens, weight_rows
from tests.support.strategies import assert_within


@pytest.mark.statement("typical-tokens")
@given(weight_rows)
def test_the_mean_surprise_is_the_entropy_and_the_leader_surprises_less(weights: list[int]) -> None:
    p = row(shares(*weights))
    surprise = -p.log()
    # Either sum: log to 8 u, a product, and six additions, of terms that are all positive.
    assert_within(entropy(p), (p * surprise).sum(), rel=32 * U)
    gap = entropy(p) - surprise.min()
    assert (gap > 0.01) == (len(set(weights)) > 1)
    assert abs(gap) < 64 * U or len(set(weights)) > 1


@pytest.mark.statement("typical-tokens")
def test_the_leader_may_be_ruled_out_and_a_zero_changes_nothing() -> None:
    p = row([0.4, 0.3, 0.1, 0.1, 0.1])
    assert [round(x, 2) for x in (-p.log()).tolist()] == [0.92, 1.2, 2.3, 2.3, 2.3]
    assert round(entropy(p).item(), 2) == 1.42
    for mass in (0.01, 0.29, 0.3 * (1 - 100 * U)):  # less what rounding may take from 0.3
        assert tokens(typical_p(p.log(), mass)) == [1]
    assert tokens(typical_p(p.log(), 0.31)) == [0, 1]
    # On the border of the simplex a fair choice among two of three is as surprising as its mean.
    assert_within(entropy(row([0.5, 0.5, 0.0])), -row([0.5]).log().squeeze(), rel=16 * U)
