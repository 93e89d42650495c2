"""The theorem `prefix-cuts`: Cuts that keep the order."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from omnivault.sampling import TRUNCATIONS, greedy
from tests.chapters.cuts.common import (
    CUTS,
    ORDERED,
    Law,
    best,
    dials,
    distributions,
    is_clear,
    keeps_order,
    kept,
    ours,
    row,
    shares,
)
from tests.support.strategies import exact_softmax, whole_rows


@pytest.mark.statement("prefix-cuts", "exact")
@pytest.mark.parametrize("name", ORDERED)
@given(distributions(), st.data())
def test_ten_keep_the_order_and_with_it_one_of_the_best(
    name: str, p: Law, data: st.DataObject
) -> None:
    dial = data.draw(dials(name, len(p)))
    for inside in (kept(name, p, dial), ours(name, row(p), dial)):
        assert keeps_order(p, inside)
        assert inside & best(p)


@pytest.mark.statement("prefix-cuts")
@pytest.mark.parametrize("name", ORDERED)
@given(whole_rows(1, 6), st.data())
def test_greedy_decoding_meets_the_same_logit_and_the_same_token_if_one_is_best(
    name: str, z: Tensor, data: st.DataObject
) -> None:
    dial = data.draw(dials(name, len(z)))
    cut = TRUNCATIONS[name].function(z, dial if name == "top_k" else float(dial))
    assert z[greedy(cut)] == z.max()
    assert greedy(cut) == greedy(z) or int((z == z.max()).sum()) > 1


@pytest.mark.statement("prefix-cuts")
@pytest.mark.parametrize("name", ["top_p", "top_h", "tail_free"])
def test_of_two_best_greedy_may_find_the_other(name: str) -> None:
    z = row(shares(2, 2, 1))
    assert ours(name, z, 0.3) == {1}
    assert greedy(z) == 0


@pytest.mark.statement("prefix-cuts", "exact")
@pytest.mark.parametrize("name", CUTS)
@given(whole_rows(1, 6, bound=4), st.integers(-1000, 1000), st.data())
def test_no_shift_is_seen_and_nothing_is_empty(
    name: str, z: Tensor, shift: int, data: st.DataObject
) -> None:
    dial = data.draw(dials(name, len(z)))
    inside = ours(name, z, dial)
    assert inside
    # A logarithm of p is a difference of numbers up to 1000, with as much more rounding.
    assume(is_clear(name, exact_softmax(z), dial))
    assert ours(name, z + shift, dial) == inside == kept(name, exact_softmax(z), dial)


@pytest.mark.statement("prefix-cuts", "exact")
@pytest.mark.parametrize(
    ("name", "weights", "dial", "inside"),
    [("typical_p", (4, 3, 1, 1, 1), 0.2, {1}), ("xtc", (2, 1), 0.3, {1})],
)
def test_typical_sampling_and_xtc_rule_out_the_best(
    name: str, weights: tuple[int, ...], dial: float, inside: set[int]
) -> None:
    p = shares(*weights)
    assert kept(name, [float(x) for x in p], dial) == ours(name, row(p), dial) == inside
    assert not keeps_order(p, inside)
    assert not inside & best(p)
    assert name not in ORDERED
