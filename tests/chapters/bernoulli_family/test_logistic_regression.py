"""The definition `logistic-regression`: Logistic regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from sklearn.metrics import log_loss
from torch.nn import functional

from omnivault.distributions import Bernoulli
from tests.chapters.bernoulli_family.common import (
    EXACT,
    Data,
    U,
    Vector,
    datasets,
    whole_parameters,
)
from tests.support.strategies import as_double, assert_within, double, inner, sigma


@pytest.mark.statement("logistic-regression", "exact", "torch", "sklearn")
@given(datasets(max_d=3), st.data())
def test_the_loss_is_the_mean_negative_log_likelihood(data: Data, draw: st.DataObject) -> None:
    theta = draw.draw(whole_parameters(data))
    loss = data.loss(*theta)
    pi = [sigma(mp.mpf(e)) for e in data.eta(theta)]
    likelihood = mp.fprod(p if y else 1 - p for p, y in zip(pi, data.y, strict=True))
    assert_within(loss, -mp.log(likelihood) / len(data.y), EXACT)
    eta, y = double(data.eta(theta)), double(data.y)
    mean = (Bernoulli.log_partition(eta) - y * eta).mean()
    peer = functional.binary_cross_entropy_with_logits(eta, y)
    # Softmax regression of two classes, the second logit at 0.
    logits = torch.stack([eta, torch.zeros_like(eta)], -1)
    softmax_regression = functional.cross_entropy(logits, 1 - y.long())
    # A(eta), up to 21, is rounded before y eta is subtracted; then up to five terms are added.
    assert_within(torch.stack([mean, peer, softmax_regression]), loss, 64 * U, rel=64 * U)
    # scikit-learn takes probabilities: pi is rounded, and what is left of 1 - pi has lost digits.
    rounded = log_loss(data.y, as_double(pi).numpy(), labels=[0, 1])
    lost = max(1 / (1 - p) for p in pi)
    assert_within(rounded, loss, 16 * U * lost, rel=32 * U)


@pytest.mark.statement("logistic-regression", "exact")
@given(st.tuples(*[st.integers(-4, 4)] * 3), st.tuples(*[st.integers(-3, 3)] * 2))
def test_a_unit_of_a_feature_multiplies_the_odds(theta: Vector, x: Vector) -> None:
    *w, b = theta

    def odds(x: Sequence[int]) -> Any:
        pi = sigma(mp.mpf(inner(w, x) + b))
        return pi / (1 - pi)

    for d, weight in enumerate(w):
        more = [v + (i == d) for i, v in enumerate(x)]
        assert_within(odds(more), odds(x) * mp.exp(weight), rel=mp.mpf(10) ** -30)
