"""The definition `cut`: A cut, and what it may do."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from omnivault.sampling import TRUNCATIONS, apply_temperature
from omnivault.softmax import softmax
from tests.chapters.cuts.common import (
    CUTS,
    SCALE_FREE,
    Law,
    Tokens,
    U,
    dials,
    distributions,
    exact,
    heated,
    is_clear,
    keeps_order,
    kept,
    row,
    shares,
    tokens,
)
from tests.support.strategies import assert_within


def law_of(p: Law, inside: Tokens) -> list[object]:
    """The distribution of a token, given that it is inside."""
    mass = sum(p[i] for i in inside)
    return [exact(x / mass) if i in inside else exact(0) for i, x in enumerate(p)]


@pytest.mark.statement("cut", "exact")
@pytest.mark.parametrize("name", CUTS)
@given(distributions(), st.data())
def test_a_cut_rules_out_what_is_outside_and_leaves_the_rest_as_it_is(
    name: str, p: Law, data: st.DataObject
) -> None:
    dial = data.draw(dials(name, len(p)))
    assume(is_clear(name, p, dial))
    z, inside = row(p), kept(name, p, dial)
    cut = TRUNCATIONS[name].function(z, dial if name == "top_k" else float(dial))
    assert inside
    assert inside <= tokens(z)
    assert tokens(cut) == inside
    assert torch.equal(cut[cut.isfinite()], z[cut.isfinite()])
    # Log, exp, six additions and a quotient, of logits up to 3.
    assert_within(softmax(cut), law_of(p, inside), rel=64 * U)


@pytest.mark.statement("cut", "exact")
@pytest.mark.parametrize("name", CUTS)
@given(distributions(min_size=2), st.sampled_from([0.25, 0.5, 2.0, 4.0]), st.data())
def test_both_orders_give_one_law_exactly_where_the_sets_agree(
    name: str, p: Law, t: float, data: st.DataObject
) -> None:
    dial, hot = data.draw(dials(name, len(p))), heated(p, t)
    assume(is_clear(name, p, dial) and is_clear(name, hot, dial))
    cut, value = TRUNCATIONS[name].function, dial if name == "top_k" else float(dial)
    before = softmax(apply_temperature(cut(row(p), value), t))
    after = softmax(cut(apply_temperature(row(p), t), value))
    agree = kept(name, p, dial) == kept(name, hot, dial)
    assert agree or name not in SCALE_FREE
    assert torch.equal(before > 0, after > 0) == agree
    if agree:
        assert torch.equal(before, after)
    # Either order is the warm law on its own set. Four times the logits, four times their errors.
    assert_within(before, law_of(hot, kept(name, p, dial)), rel=128 * U)
    assert_within(after, law_of(hot, kept(name, hot, dial)), rel=128 * U)


@pytest.mark.statement("cut")
def test_what_keeps_the_order_is_closed_upward_and_ties_are_free() -> None:
    p = shares(3, 2, 2, 1)
    closed = [s for s in ({0}, {0, 1}, {0, 2}, {0, 1, 2}, {0, 1, 2, 3}) if keeps_order(p, s)]
    assert len(closed) == 5
    assert not any(keeps_order(p, s) for s in ({1}, {1, 2}, {3}, {0, 3}, {0, 1, 3}))
    assert {name for name, known in TRUNCATIONS.items() if known.commutes} == set(SCALE_FREE)
