"""The corollary `sigmoid`: Degrees of freedom; two classes are a sigmoid."""

from __future__ import annotations

from typing import Any

import pytest
import scipy.special
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.properties.common import U, svd_error
from tests.support.strategies import (
    SINGLE_DOUBLE,
    assert_within,
    exact_softmax,
    rows,
    softmax_bound,
    temperatures,
    whole_rows,
)


@pytest.mark.statement("sigmoid", "torch", "scipy")
@given(st.data(), temperatures())
def test_two_classes_are_the_sigmoid_of_the_difference(
    data: st.DataObject, temperature: float
) -> None:
    for dtype in SINGLE_DOUBLE:
        z = data.draw(rows(2, 2, dtype=dtype))
        x = (z[0].double() - z[1].double()) / temperature
        p = softmax(z, temperature=temperature)
        expected = torch.stack([torch.sigmoid(x), torch.sigmoid(-x)])
        # The float64 oracle rounds x too, up to 600 of it.
        allowed = softmax_bound(z, temperature) + expected * U * (4 * x.abs() + 8)
        assert_within(p, expected, allowed)
        # Each has an exponential, of 4 units in the last place or of 1, a sum and a quotient.
        assert_within(expected[0], scipy.special.expit(x.item()), rel=16 * U)


@pytest.mark.statement("sigmoid")
@given(whole_rows(2, 8), temperatures())
def test_the_last_logit_can_be_fixed_at_zero(z: Tensor, temperature: float) -> None:
    reduced = z - z[-1]
    assert reduced[-1] == 0
    # Integers: not a bit changes.
    p = softmax(z, temperature=temperature)
    assert torch.equal(softmax(reduced, temperature=temperature), p)


@pytest.mark.statement("sigmoid")
@given(whole_rows(1, 8, bound=5), temperatures(1.0, 10.0))
def test_softmax_has_one_degree_of_freedom_less_than_classes(z: Tensor, temperature: float) -> None:
    k = len(z)
    jacobian = torch.func.jacrev(lambda x: softmax(x, temperature=temperature))(z)
    # The diagonal is T diag(p)^(1/2) (I - projection) diag(p)^(1/2): no nonzero eigenvalue is below
    # min p / T, at least exp(-10) / 8 / T = 6e-6 / T, and the zero one is of the size of rounding.
    singular = torch.linalg.svdvals(jacobian) * temperature
    assert int((singular > 1e-6).sum()) == k - 1
    assert_within(singular[-1], 0.0, svd_error(k))
    assert_within(jacobian @ torch.ones(k, dtype=z.dtype), 0.0, 8 * k * U / temperature)


@pytest.mark.statement("sigmoid", "exact")
@given(
    st.lists(st.integers(1, 1000), min_size=1, max_size=6),
    whole_rows(1, 6),
    temperatures(),
)
def test_every_distribution_has_one_vector_of_logits_that_ends_in_zero(
    weights: list[int], z: Tensor, temperature: float
) -> None:
    def logits(p: list[Any]) -> list[Any]:
        return [temperature * mp.log(x / p[-1]) for x in p]

    # Onto: that vector has the softmax which was asked for.
    p = [mp.mpf(w) / sum(weights) for w in weights]
    e = [mp.exp(x / temperature) for x in logits(p)]
    assert logits(p)[-1] == 0
    assert_within([x / mp.fsum(e) for x in e], p, mp.mpf(10) ** -45)
    # One to one: a vector that ends in zero comes back from its softmax.
    assert_within(logits(exact_softmax(z - z[-1], temperature)), z - z[-1], mp.mpf(10) ** -40)
