"""The theorem `top-h-greedy`: What greedy top-h leaves of the best mass."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.chapters.cuts.common import (
    ZERO,
    Law,
    Tokens,
    distributions,
    entropy,
    exact,
    first_entropies,
    heated,
    is_clear,
    kept,
    ours,
    ranking,
    reaches,
    renormalized,
    row,
    shares,
)
from tests.support.strategies import events

F = Fraction


def mass_of(p: Law, inside: Tokens) -> Fraction:
    return sum((p[i] for i in inside), F(0))


def best_set(p: Law, h: Fraction) -> Tokens:
    """The set of most mass whose entropy, renormalized, is within the bound: all are tried."""
    bound = exact(h) * entropy(p)
    sets = [set(event) for event in events(len(p)) if event]
    within = [s for s in sets if reaches(bound, entropy(renormalized([p[i] for i in s])))]
    return max(within, key=lambda s: mass_of(p, s))


@pytest.mark.statement("top-h-greedy", "exact")
@given(distributions(least=1, max_size=8), st.sampled_from([F(1, 3), F(1), F(3)]))
def test_each_token_adds_entropy(p: Law, t: Fraction) -> None:
    rising = first_entropies(heated(p, t))
    assert rising[0] == 0
    assert all(b - a > ZERO for a, b in pairwise(rising))


@pytest.mark.statement("top-h-greedy", "exact")
@given(distributions(least=1), st.integers(1, 16))
def test_greedy_has_more_than_r_of_r_and_one_parts_of_the_best_mass(
    p: Law, sixteenths: int
) -> None:
    h = F(sixteenths, 16)
    inside = kept("top_h", p, h)
    if is_clear("top_h", p, h):
        assert ours("top_h", row(p), h) == inside
    r, order = len(inside), ranking(p)
    assert inside == set(order[:r])
    mass, most = mass_of(p, inside), mass_of(p, best_set(p, h))
    assert mass <= most
    if r == len(p):
        assert mass == most == 1
        return
    left_out = p[order[r]]
    assert most < mass + left_out <= mass * (1 + F(1, r))
    assert mass > F(r, r + 1) * most >= most / 2


@pytest.mark.statement("top-h-greedy", "exact")
@given(distributions(least=1, max_size=5), st.integers(1, 15))
def test_what_has_as_much_mass_as_one_token_more_has_more_entropy(p: Law, sixteenths: int) -> None:
    r = len(kept("top_h", p, F(sixteenths, 16)))
    assume(r < len(p))
    more = set(ranking(p)[: r + 1])
    least = entropy(renormalized([p[i] for i in more]))
    for event in events(len(p)):
        if mass_of(p, set(event)) >= mass_of(p, more):
            assert reaches(entropy(renormalized([p[i] for i in event])), least)


@pytest.mark.statement("top-h-greedy", "exact")
def test_of_three_two_and_one_greedy_takes_less_than_the_best() -> None:
    p, h = shares(3, 2, 1), F(3, 5)
    assert is_clear("top_h", p, h, F(1, 20))
    assert kept("top_h", p, h) == ours("top_h", row(p), h) == {0}
    assert best_set(p, h) == {0, 2}
    assert mass_of(p, {0}) / mass_of(p, {0, 2}) == F(3, 4)


@pytest.mark.statement("top-h-greedy", "exact")
@pytest.mark.parametrize("r", [1, 2, 3])
def test_no_larger_part_can_be_promised(r: int) -> None:
    p = shares(*[1000] * (r + 1), 999)
    other = {*range(r), r + 1}
    entropies = [entropy(renormalized([p[i] for i in s])) for s in (other, range(r + 1))]
    h = F(float(sum(entropies) / 2 / entropy(p)))
    inside = kept("top_h", p, h)
    assert len(inside) == r
    assert mass_of(p, best_set(p, h)) == mass_of(p, other)
    assert F(r, r + 1) < mass_of(p, inside) / mass_of(p, other) < F(r, r + 1) + F(1, 1000)
