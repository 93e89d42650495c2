"""The definition `necessary-and-sufficient`: Necessary, sufficient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omnivault.softmax import softmax
from tests.chapters.necessary_and_sufficient.common import (
    Pair,
    Property,
    equal_argmax,
    equal_ranking,
    necessary,
    sufficient,
)


def differ_by_a_constant(pair: Pair) -> bool:
    u, v = pair
    return bool((u - v == (u - v)[0]).all())


def equal_softmax(pair: Pair) -> bool:
    # Integer logits: shifts are exact, so equal means equal to the last bit.
    u, v = pair
    return torch.equal(softmax(u), softmax(v))


@pytest.mark.statement("necessary-and-sufficient")
@pytest.mark.parametrize(
    ("a", "b", "a_implies_b"),
    [(False, False, True), (False, True, True), (True, False, False), (True, True, True)],
)
def test_truth_table_of_the_implication_and_its_relatives(
    a: bool, b: bool, a_implies_b: bool
) -> None:
    def implies(p: bool, q: bool) -> bool:
        return q if p else True

    assert implies(a, b) == a_implies_b
    assert implies(not b, not a) == a_implies_b  # the contrapositive says the same
    assert implies(b, a) == implies(not a, not b)  # the converse and the inverse do
    assert (implies(a, b) and implies(b, a)) == (a == b)  # both together: equivalence
    # The converse is another claim: it disagrees exactly where a and b disagree.
    assert (implies(b, a) == implies(a, b)) == (a == b)


@pytest.mark.statement("necessary-and-sufficient")
@given(
    st.frozensets(st.integers(0, 5)),
    st.frozensets(st.integers(0, 5)),
    st.frozensets(st.integers(0, 5)),
)
def test_sufficient_is_a_subset_and_necessary_a_superset(
    a: frozenset[int], b: frozenset[int], c: frozenset[int]
) -> None:
    universe = frozenset(range(6))

    def is_sufficient(p: frozenset[int], q: frozenset[int]) -> bool:
        return all(x in q for x in universe if x in p)

    def is_necessary(p: frozenset[int], q: frozenset[int]) -> bool:
        return not any(x in q and x not in p for x in universe)

    assert is_sufficient(a, b) == (a <= b)
    assert is_necessary(a, b) == (a >= b) == is_sufficient(b, a)
    assert is_necessary(a, b) == is_sufficient(universe - a, universe - b)
    assert (is_sufficient(a, b) and is_necessary(a, b)) == (a == b)
    if is_sufficient(a, b) and is_sufficient(b, c):
        assert is_sufficient(a, c)


@pytest.mark.statement("necessary-and-sufficient")
@pytest.mark.parametrize(
    ("a", "b", "is_sufficient", "is_necessary"),
    [
        pytest.param(differ_by_a_constant, equal_softmax, True, True, id="translation: both"),
        pytest.param(equal_ranking, equal_softmax, False, True, id="ranking: necessary only"),
        pytest.param(equal_argmax, equal_softmax, False, True, id="argmax: necessary only"),
        pytest.param(equal_softmax, equal_argmax, True, False, id="softmax: sufficient only"),
        pytest.param(
            lambda pair: torch.equal(*pair),
            equal_softmax,
            True,
            False,
            id="equality: sufficient only",
        ),
        pytest.param(
            lambda pair: bool(pair[0][0] == pair[1][0]), equal_softmax, False, False, id="neither"
        ),
    ],
)
def test_the_book_s_own_conditions(
    a: Property, b: Property, is_sufficient: bool, is_necessary: bool
) -> None:
    assert sufficient(a, b) == is_sufficient
    assert necessary(a, b) == is_necessary
    # Contraposition, read off the table of the negations.
    assert sufficient(lambda x: not b(x), lambda x: not a(x)) == is_sufficient
    # A necessary for B is B sufficient for A.
    assert sufficient(b, a) == is_necessary
