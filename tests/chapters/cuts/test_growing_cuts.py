"""The theorem `growing-cuts`: Cuts that grow with the temperature."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.chapters.cuts.common import (
    ORDERED,
    SCALE_FREE,
    Law,
    dials,
    distributions,
    heated,
    is_clear,
    kept,
    ours,
    row,
    shares,
)

F = Fraction
GROWING = ("top_p", "min_p", "top_a", "eta_cutoff", "p_less")

# From T = 1 to 2. Warming rules out what was kept.
SHRINKING = {
    "epsilon_cutoff": ((6, 5, 1), F(2, 5), {0, 1}, {0}),
    "typical_p": ((3, 1, 1), F(1, 2), {0}, {1, 2}),
    "top_h": ((4, 1, 1), F(3, 5), {0, 2}, {0}),
    "tail_free": ((6, 4, 1, 1), F(3, 10), {0, 1}, {0}),
    "xtc": ((2, 1), F(3, 8), {0, 1}, {1}),
}


def rising() -> st.SearchStrategy[list[Fraction]]:
    """Three temperatures from 1/20 to 200, each a twentieth above the one before or more."""
    powers = st.lists(st.integers(-60, 108), min_size=3, max_size=3, unique=True)
    return powers.map(lambda several: [F(21, 20) ** power for power in sorted(several)])


@pytest.mark.statement("growing-cuts", "exact")
@pytest.mark.parametrize("name", [*GROWING, *SCALE_FREE])
@given(distributions(), rising(), st.data())
def test_what_is_kept_stays_when_it_is_warmer(
    name: str, p: Law, several: list[Fraction], data: st.DataObject
) -> None:
    dial = data.draw(dials(name, len(p)))
    laws = [heated(p, t) for t in several]
    sets = [kept(name, law, dial) for law in laws]
    for colder, warmer in pairwise(sets):
        assert colder <= warmer
        assert colder == warmer or name in GROWING
    for t, law, inside in zip(several, laws, sets, strict=True):
        # At T = 1/20 a row has logits down to -80, and 80 times the rounding.
        if is_clear(name, law, dial):
            assert ours(name, row(p, float(t)), dial) == inside


@pytest.mark.statement("growing-cuts", "exact")
@pytest.mark.parametrize("name", SHRINKING)
def test_warming_rules_out_what_the_other_five_kept(name: str) -> None:
    weights, dial, cold, warm = SHRINKING[name]
    p = shares(*weights)
    assert {*SHRINKING, *GROWING, *SCALE_FREE} >= {*ORDERED}
    assert not cold <= warm
    for t, inside in ((1, cold), (2, warm)):
        assert is_clear(name, heated(p, t), dial, F(1, 100))
        assert kept(name, heated(p, t), dial) == ours(name, row(p, t), dial) == inside


@pytest.mark.statement("growing-cuts", "exact")
@pytest.mark.parametrize("name", ["min_p", "top_a", "eta_cutoff"])
@given(distributions(), st.integers(0, 15))
def test_three_keep_everything_in_the_end(name: str, p: Law, sixteenths: int) -> None:
    dial = F(sixteenths, 16)
    finite = {i for i, x in enumerate(p) if x}
    # No gap is above log 9, no cutoff within 3 percent of 1/K.
    assert kept(name, heated(p, 1000), dial) == finite
    assert ours(name, row(p, 1000), dial) == finite
    if name == "top_a":
        assert kept(name, heated(p, 1000), F(1)) == ours(name, row(p, 1000), 1) == finite
    elif len({x for x in p if x}) > 1:
        # A share of 1 keeps no more than the best, an epsilon of 1 what reaches the mean.
        assert kept(name, heated(p, 1000), F(1)) < finite


@pytest.mark.statement("growing-cuts", "exact")
@given(st.integers(1, 8), st.integers(1, 15))
def test_min_p_lets_a_token_in_at_its_gap_over_the_logarithm_of_the_share(
    weight: int, sixteenths: int
) -> None:
    p, share = shares(9, weight), F(sixteenths, 16)
    t = math.log(9 / weight) / math.log(1 / share)
    assume(t > 0)
    for factor, inside in ((0.999, {0}), (1.001, {0, 1})):
        assert kept("min_p", heated(p, factor * t), share) == inside
        assert ours("min_p", row(p, factor * t), share) == inside
