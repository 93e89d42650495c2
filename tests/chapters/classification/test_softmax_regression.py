"""The definition `softmax-regression`: Softmax regression."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch.nn import functional

from omnivault.softmax import log_softmax, softmax
from tests.chapters.classification.common import (
    Model,
    U,
    datasets,
    generator,
    layer_of,
    logits,
    loss,
    models,
    normal,
    whole,
)
from tests.support.strategies import (
    as_double,
    assert_within,
    double,
    exact_log_softmax,
    exact_softmax,
    log_softmax_bound,
    softmax_bound,
)


@pytest.mark.statement("softmax-regression", "exact", "torch")
@given(st.data(), models(max_classes=5))
def test_probabilities_and_loss_are_those_of_fifty_digits_and_of_torch(
    data: st.DataObject, model: Model
) -> None:
    x, y = data.draw(datasets(*model[0].shape))
    z = logits(model, x)
    for n, row in enumerate(z):
        # The logits by the definition, w_k and x at a time.
        assert row.tolist() == [
            sum(w * v for w, v in zip(weights, x[n].tolist(), strict=True)) + bias
            for weights, bias in zip(model[0].tolist(), model[1].tolist(), strict=True)
        ]
        assert_within(softmax(row), as_double(exact_softmax(row)), softmax_bound(row))
    exact = mp.fsum(-exact_log_softmax(row)[k] for row, k in zip(z, y.tolist(), strict=True))
    picked = log_softmax_bound(z)[torch.arange(len(y)), y]
    allowed = picked.mean().item() + 4 * U * float(exact)
    value = loss(model, (x, y))
    assert_within(value, exact / len(y), allowed)
    with torch.no_grad():
        layer = layer_of(model)
        assert torch.equal(layer(x), z)
        assert_within(functional.cross_entropy(layer(x), y), value, 4 * allowed + 64 * U)
        assert_within(functional.softmax(layer(x), -1), softmax(z), 2 * softmax_bound(z))


@pytest.mark.statement("softmax-regression")
@given(models(), st.data())
def test_it_decides_for_the_largest_logit(model: Model, data: st.DataObject) -> None:
    z = logits(model, data.draw(whole(3, model[0].shape[1])))
    p = softmax(z)
    assert torch.equal(p == p.amax(-1, keepdim=True), z == z.amax(-1, keepdim=True))
    # Of those that tie, the first.
    first = [row.index(max(row)) for row in z.tolist()]
    assert p.argmax(-1).tolist() == first
    assert_within(p.sum(-1), torch.ones(3, dtype=torch.float64), 2 * (len(model[1]) + 1) * U)


@pytest.mark.statement("softmax-regression", "sklearn")
@pytest.mark.parametrize("classes", [3, 5])
def test_scikit_learn_has_the_same_model(classes: int) -> None:
    model = normal(classes, 4), normal(classes, seed=1)
    x = normal(50, 4, seed=2)
    y = torch.randint(0, classes, (50,), generator=generator(3))
    peer = LogisticRegression()
    peer.coef_, peer.intercept_ = model[0].numpy(), model[1].numpy()
    peer.classes_ = torch.arange(classes).numpy()
    z = logits(model, x)
    p = softmax(z)
    # Five roundings of the terms of a logit, here and there; p moves by twice as much, p times.
    size = (x.abs() @ model[0].abs().T + model[1].abs()).amax(-1, keepdim=True)
    allowed = 2 * softmax_bound(z) + 2 * 10 * size * p * U
    assert_within(torch.tensor(peer.predict_proba(x.numpy())), p, allowed)
    assert peer.predict(x.numpy()).tolist() == p.argmax(-1).tolist()
    expected = log_loss(y.numpy(), p.numpy(), labels=list(range(classes)))
    # Logarithms of p there, log-probabilities here, and two means.
    rounding = (allowed / p).max().item() + 2 * log_softmax_bound(z).max().item()
    assert_within(loss(model, (x, y)), float(expected), rounding, rel=2 * len(y) * U)


@pytest.mark.statement("softmax-regression")
@pytest.mark.parametrize(
    ("weight", "bias", "x", "odds"),
    [
        pytest.param([[2], [3], [5]], [1, 1, 1], [1], [2, 3, 5], id="weights"),
        pytest.param([[2], [3], [5]], [1, 1, 1], [0], [1, 1, 1], id="origin"),
        pytest.param([[2], [3], [5]], [1, 1, 1], [2], [4, 9, 25], id="squared"),
        pytest.param([[2], [3], [5]], [7, 1, 2], [1], [14, 3, 10], id="biases"),
        pytest.param([[2, 3], [1, 1]], [1, 5], [2, 1], [12, 5], id="two features"),
        pytest.param([[2]], [3], [9], [1], id="one class"),
    ],
)
def test_closed_forms(
    weight: list[list[int]], bias: list[int], x: list[int], odds: list[int]
) -> None:
    # Parameters are the logarithms of the numbers, so that the odds are integers.
    model = double(weight).log(), double(bias).log()
    p = softmax(logits(model, double(x)))
    # Logarithms are off by 8 u of themselves, logits up to 3.3 by 36 u, exponentials by 8 u; twice.
    assert_within(p, double(odds) / sum(odds), rel=128 * U)
    # As much in the logarithm of p, of which the smallest is 0.34.
    for k, w in enumerate(odds):
        value = loss(model, (double([x, x]), torch.tensor([k, k])))
        assert_within(value, math.log(sum(odds) / w), 128 * U)
    # The loss is a mean: of all classes once, the mean of their logarithms.
    everyone = double([x] * len(odds)), torch.arange(len(odds))
    expected = math.fsum(math.log(sum(odds) / w) for w in odds) / len(odds)
    assert_within(loss(model, everyone), expected, 128 * U)


@pytest.mark.statement("softmax-regression")
@given(models(2), st.data())
def test_one_more_in_a_logit_multiplies_the_odds_by_e(model: Model, data: st.DataObject) -> None:
    weight, bias = model
    x = data.draw(whole(weight.shape[1]))
    k = data.draw(st.integers(0, len(bias) - 1))
    raised = bias + torch.eye(len(bias), dtype=bias.dtype)[k]
    before, after = (log_softmax(logits((weight, b), x)) for b in (bias, raised))
    change = (after[k] - after) - (before[k] - before)
    expected = torch.ones_like(change)
    expected[k] = 0
    allowed = 8 * log_softmax_bound(logits(model, x)).max() + 64 * U
    assert_within(change, expected, allowed)
