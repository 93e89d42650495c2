"""The theorem `ce-decomposition`: Cross-entropy is entropy plus divergence."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch.nn.functional import nll_loss

from omnivault.information import cross_entropy, entropy, kl_divergence
from tests.chapters.cross_entropy_kl.common import (
    NOTHING,
    Data,
    Pair,
    Row,
    assert_close,
    charge,
    divergence,
    log,
    pairs,
    same,
    simplex,
    vertex,
)
from tests.support.strategies import as_double, assert_within, number, shares


@pytest.mark.statement("ce-decomposition", "exact")
@given(pairs())
def test_cross_entropy_is_entropy_plus_divergence(pair: Pair) -> None:
    p, q = pair
    of_both, of_p = charge(p, q), charge(p, p)
    assert_within(of_both, of_p + divergence(p, q), NOTHING)
    assert of_both >= of_p
    assert (of_both == of_p) == (p == q)
    assert_close(cross_entropy(as_double(p), as_double(q)).item(), of_both)
    assert_close(entropy(as_double(p)).item(), of_p)


@pytest.mark.statement("ce-decomposition", "exact", "torch")
@given(st.integers(1, 5).flatmap(simplex), st.data())
def test_the_charge_of_a_label_is_minus_its_log_probability(q: Row, data: Data) -> None:
    y = data.draw(st.integers(0, len(q) - 1))
    label = vertex(len(q), y)
    assert charge(label, label) == 0
    assert_within(charge(label, q), -log(q[y]), NOTHING)
    assert_within(divergence(label, q), -log(q[y]), NOTHING)
    a, b = as_double(label), as_double(q)
    assert_close(kl_divergence(a, b).item(), -log(q[y]))
    assert_close(cross_entropy(a, b).item(), -log(q[y]))
    assert_close(nll_loss(b.log(), torch.tensor(y)).item(), -log(q[y]))


@pytest.mark.statement("ce-decomposition", "exact", "torch")
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=10), st.data()
)
def test_the_loss_is_a_floor_plus_a_mean_divergence(
    labeled: list[tuple[int, int]], data: Data
) -> None:
    n, inputs = len(labeled), sorted({x for x, _ in labeled})
    labels = {x: shares(*(labeled.count((x, y)) for y in range(3))) for x in inputs}
    model = {x: data.draw(st.just(f) | simplex(3)) for x, f in labels.items()}
    share = {x: number(Fraction(sum(x == i for i, _ in labeled), n)) for x in inputs}
    loss = mp.fsum(-log(model[x][y]) for x, y in labeled) / n
    floor = mp.fsum(share[x] * charge(labels[x], labels[x]) for x in inputs)
    assert_within(
        loss, floor + mp.fsum(share[x] * divergence(labels[x], model[x]) for x in inputs), NOTHING
    )
    assert same(loss, floor) == (model == labels)  # the floor is attained, and by one model alone
    assert (floor == 0) == all(1 in f for f in labels.values())
    table = torch.stack([as_double(model[x]).log() for x, _ in labeled])
    assert_close(nll_loss(table, torch.tensor([y for _, y in labeled])).item(), loss)
