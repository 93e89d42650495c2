"""The definition `perplexity`: Perplexity."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnivault.information import perplexity
from tests.chapters.cross_entropy_kl.common import ZERO, chances, exact_perplexity, of_perplexity
from tests.support.strategies import as_double, assert_within


@pytest.mark.statement("perplexity", "exact")
@pytest.mark.statement("perplexity-range", "exact")
@given(st.lists(chances, min_size=1, max_size=6))
def test_the_reciprocal_of_the_geometric_mean_is_one_only_if_all_was_certain(
    given_to: list[Fraction],
) -> None:
    exact = exact_perplexity(given_to)
    assert exact >= 1
    assert (exact == 1) == (set(given_to) == {1})
    log_probs, n = as_double(given_to).log(), len(given_to)
    assert_within(perplexity(log_probs), exact, rel=of_perplexity(exact, n))
    # Read again and again: a product that is no float64.
    again = log_probs.repeat(1000)
    assert_within(perplexity(again), exact, rel=of_perplexity(exact, 1000 * n))
    assert perplexity(as_double([*given_to, 0]).log()).item() == exact_perplexity([ZERO])
