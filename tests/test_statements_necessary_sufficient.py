from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    exact_softmax,
    log_softmax_bound,
    softmax_bound,
    temperatures,
    whole_row_pairs,
    whole_rows,
)
from torch import Tensor

from omnivault.softmax import log_softmax, softmax

Pair = tuple[Tensor, Tensor]
Property = Callable[[Pair], bool]

ROWS = [torch.tensor(z, dtype=torch.float64) for z in itertools.product((0.0, 1.0, 2.0), repeat=3)]
PAIRS: list[Pair] = list(itertools.product(ROWS, ROWS))


def differ_by_a_constant(pair: Pair) -> bool:
    u, v = pair
    return bool((u - v == (u - v)[0]).all())


def equal_softmax(pair: Pair) -> bool:
    # Integer logits: shifts are exact, so equal means equal to the last bit.
    u, v = pair
    return torch.equal(softmax(u), softmax(v))


def equal_argmax(pair: Pair) -> bool:
    u, v = pair
    return torch.equal(u == u.max(), v == v.max())


def equal_ranking(pair: Pair) -> bool:
    u, v = (z.unsqueeze(-1) - z.unsqueeze(-2) for z in pair)
    return torch.equal(u.sign(), v.sign())


def rows_of_the_table(a: Property, b: Property) -> set[tuple[bool, bool]]:
    """Which of the four combinations of a and b occur among all pairs of small integer logits."""
    return {(a(pair), b(pair)) for pair in PAIRS}


def sufficient(a: Property, b: Property) -> bool:
    """A is sufficient for B: whenever A then B. The row (true, false) is missing."""
    return (True, False) not in rows_of_the_table(a, b)


def necessary(a: Property, b: Property) -> bool:
    """A is necessary for B: never B without A. The row (false, true) is missing."""
    return (False, True) not in rows_of_the_table(a, b)


# necessary-and-sufficient -------------------------------------------------------------------------


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


# equal-argmax-is-necessary ------------------------------------------------------------------------


@pytest.mark.statement("equal-argmax-is-necessary")
@pytest.mark.statement("equal-ranking-is-necessary")
@given(whole_rows(1, 8), st.integers(-50, 50), temperatures(0.1))
def test_equal_softmax_has_equal_winners_and_ranking(u: Tensor, c: int, temperature: float) -> None:
    # Every row with the softmax of u is u + c: built here from the probabilities, then rounded to
    # the integers that u is made of.
    back = temperature * log_softmax(u, temperature=temperature)
    v = (back - back[0] + u[0] + c).round()
    assert (4 * temperature * log_softmax_bound(u, temperature)).max() < 0.5
    p, q = softmax(u, temperature=temperature), softmax(v, temperature=temperature)
    assert torch.equal(p, q)
    assert equal_argmax((u, v))
    assert equal_ranking((u, v))


@pytest.mark.statement("equal-argmax-is-necessary")
@given(whole_row_pairs(), temperatures(0.5, 10.0))
def test_different_winners_have_different_softmax(pair: Pair, temperature: float) -> None:
    u, v = pair
    p, q = (softmax(z, temperature=temperature) for z in pair)
    # The winners can be read off the probabilities, so equal probabilities have equal winners.
    assert torch.equal(p == p.max(), u == u.max())
    assert torch.equal(q == q.max(), v == v.max())
    if not equal_argmax(pair):
        assert not torch.equal(p, q)


@pytest.mark.statement("equal-argmax-is-necessary")
@pytest.mark.parametrize(
    ("u", "v"),
    [
        pytest.param([0.0, 1.0], [0.0, 2.0], id="two classes"),
        pytest.param([1.0, 2.0, 3.0], [2.0, 1.0, 3.0], id="another ranking"),
        pytest.param([2.0, 2.0, 0.0], [2.0, 2.0, 1.0], id="the same tie"),
    ],
)
def test_equal_winners_do_not_make_equal_softmax(u: list[float], v: list[float]) -> None:
    pair = (torch.tensor(u, dtype=torch.float64), torch.tensor(v, dtype=torch.float64))
    assert equal_argmax(pair)
    p, q = (softmax(z) for z in pair)
    assert torch.equal(p == p.max(), q == q.max())
    rounding = sum(softmax_bound(z).max().item() for z in pair)
    assert (p - q).abs().max().item() > 0.01 > rounding


# equal-ranking-is-necessary -----------------------------------------------------------------------


@pytest.mark.statement("equal-ranking-is-necessary", "exact")
@given(whole_row_pairs(), temperatures(0.5, 10.0))
def test_different_rankings_have_different_softmax(pair: Pair, temperature: float) -> None:
    u, v = pair
    p, q = (softmax(z, temperature=temperature) for z in pair)
    assert equal_ranking((p, u))
    assert equal_ranking((q, v))
    if not equal_ranking(pair):
        assert not torch.equal(p, q)
        # In exact arithmetic as well.
        assert exact_softmax(u, temperature) != exact_softmax(v, temperature)


@pytest.mark.statement("equal-ranking-is-necessary", "exact")
@given(
    whole_rows(2, 6, bound=5),
    st.floats(0.25, 4.0).filter(lambda c: abs(c - 1) > 0.1),
    temperatures(0.5, 5.0),
)
def test_equal_rankings_do_not_make_equal_softmax(z: Tensor, c: float, temperature: float) -> None:
    # Scaling keeps the ranking; the softmax only of constant logits.
    assert equal_ranking((z, c * z))
    p, q = softmax(z, temperature=temperature), softmax(c * z, temperature=temperature)
    constant = bool((z == z[0]).all())
    # Scaling moves the logarithm of some p_i / p_j by |c - 1| / T or more, so that of p_i or of p_j
    # by half of it: 0.01 or more.
    moved = (p.log() - q.log()).abs().max().item()
    assert moved == 0 if constant else moved > 0.009
    assert (exact_softmax(z, temperature) == exact_softmax(c * z, temperature)) == constant


@pytest.mark.statement("equal-ranking-is-necessary")
def test_the_ranking_says_more_than_the_winner() -> None:
    assert sufficient(equal_ranking, equal_argmax)
    assert not necessary(equal_ranking, equal_argmax)
    pair = (torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 1.0, 3.0]))
    assert equal_argmax(pair)
    assert not equal_ranking(pair)
