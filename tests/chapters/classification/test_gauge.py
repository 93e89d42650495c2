"""The theorem `gauge`: The gauge freedom of softmax regression."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from torch import Tensor
from torch.nn import functional

from omnivault.softmax import log_softmax, softmax
from tests.chapters.classification.common import (
    Dataset,
    Model,
    U,
    datasets,
    digits,
    gradients,
    layer_of,
    logits,
    loss,
    models,
    normal,
    sum_error,
    whole,
)
from tests.support.strategies import as_double, assert_within, double, exact_softmax, softmax_bound


def torch_loss(model: Model, data: Dataset) -> Tensor:
    weight, bias = model
    return functional.cross_entropy(functional.linear(data[0], weight, bias), data[1])


def sparse(*shape: int) -> SearchStrategy[Tensor]:
    size = math.prod(shape)
    return st.lists(st.sampled_from([0, 0, 0, 1]), min_size=size, max_size=size).map(
        lambda values: double(values).reshape(shape)
    )


@pytest.mark.statement("gauge", "torch")
@given(models(), st.data())
def test_the_same_row_and_the_same_number_added_change_no_probability(
    model: Model, data: st.DataObject
) -> None:
    weight, bias = model
    row, number = data.draw(whole(weight.shape[1])), data.draw(st.integers(-9, 9))
    x = data.draw(whole(5, weight.shape[1], bound=9))
    # Integers: not a bit changes.
    moved = softmax(logits((weight + row, bias + number), x))
    assert torch.equal(moved, softmax(logits(model, x)))
    allowed = 2 * softmax_bound(logits(model, x))
    for layer in (layer_of(model), layer_of((weight + row, bias + number))):
        assert_within(layer(x).softmax(-1), moved, allowed)


@pytest.mark.statement("gauge")
@pytest.mark.parametrize("spoiled", ["nothing", "weights", "biases"])
@settings(max_examples=50)
@given(model=models(2), data=st.data())
def test_the_same_probabilities_everywhere_need_that_and_nothing_else(
    spoiled: str, model: Model, data: st.DataObject
) -> None:
    weight, bias = model
    k, d = weight.shape
    other = (
        weight + data.draw(whole(d)) + (data.draw(sparse(k, d)) if spoiled == "weights" else 0),
        bias + data.draw(whole(1)) + (data.draw(sparse(k)) if spoiled == "biases" else 0),
    )
    is_gauge = all(
        bool((new - old == (new - old)[0]).all()) for new, old in zip(other, model, strict=True)
    )
    # An affine function that vanishes at 0 and at the unit vectors vanishes.
    points = torch.cat([torch.zeros(1, d, dtype=weight.dtype), torch.eye(d, dtype=weight.dtype)])
    agree = torch.equal(log_softmax(logits(model, points)), log_softmax(logits(other, points)))
    assert agree == is_gauge
    somewhere = data.draw(whole(4, d, bound=9))
    if agree:
        assert torch.equal(
            log_softmax(logits(model, somewhere)), log_softmax(logits(other, somewhere))
        )
        # The vector and the number can be read off any row; the last, say.
        assert torch.equal(other[0], weight + (other[0] - weight)[-1])
        assert torch.equal(other[1], bias + (other[1] - bias)[-1])


@pytest.mark.statement("gauge")
@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("d", [1, 2, 4])
def test_data_can_determine_k_minus_1_times_d_plus_1_numbers(k: int, d: int) -> None:
    x = torch.cat([torch.zeros(1, d, dtype=torch.float64), torch.eye(d, dtype=torch.float64)])

    def log_probabilities(parameters: Tensor) -> Tensor:
        return log_softmax(logits((parameters[:, :d], parameters[:, d]), x)).flatten()

    # Not torch.func, whose import takes two seconds.
    jacobian = torch.autograd.functional.jacobian(log_probabilities, normal(k, d + 1))
    singular = torch.linalg.svdvals(jacobian.reshape(len(x) * k, -1))
    # A change of logits that sums to zero moves log-probabilities by no less than itself, and the
    # points, with a 1 for the bias, make a matrix whose singular values are 0.414 or more.
    assert int((singular > 0.41).sum()) == (k - 1) * (d + 1)
    noise = 64 * len(singular) * U * singular.max()
    assert int((singular <= noise).sum()) == len(singular) - (k - 1) * (d + 1)


@pytest.mark.statement("gauge")
def test_fewer_points_than_all_determine_less() -> None:
    # All x have equal components, so that the first minus the second is 0, and free in any row.
    weight, bias = double([[1, 2], [0, 3], [2, 2]]), double([0, 1, 2])
    other = weight + double([[5, -5], [0, 0], [0, 0]])
    diagonal = torch.arange(-4.0, 5.0, dtype=torch.float64).unsqueeze(-1).expand(9, 2)
    assert torch.equal(
        softmax(logits((weight, bias), diagonal)), softmax(diagonal @ other.T + bias)
    )
    off = double([1, 0])
    assert not torch.equal(softmax(off @ weight.T + bias), softmax(off @ other.T + bias))


@pytest.mark.statement("gauge", "exact", "torch")
@given(models(), st.data(), st.floats(0.01, 3.0))
def test_gradients_sum_to_zero_over_the_classes(
    model: Model, data: st.DataObject, scale: float
) -> None:
    model = model[0] * scale, model[1] * scale
    x, y = data.draw(datasets(*model[0].shape))
    # Errors of the probabilities, exponents up to 2 * 3 * 16 * 3, times |x| <= 4.
    allowed = 4 * (3 * 2 * 200 + 64) * len(model[1]) * U
    for subject in (loss, torch_loss):
        by_weight, by_bias = gradients(subject, model, (x, y))
        assert_within(by_weight.sum(0), 0.0, allowed)
        assert_within(by_bias.sum(), 0.0, allowed)
        # They are no zeros themselves: (P - Y)' X / N and the mean of P - Y.
        error = torch.stack([as_double(exact_softmax(z)) for z in logits(model, x)])
        error = error - functional.one_hot(y, len(model[1]))
        assert_within(by_weight, error.T @ x / len(y), allowed)
        assert_within(by_bias, error.mean(0), allowed)


@pytest.mark.statement("gauge", "torch")
@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_of_a_torch_layer_on_the_digits_sum_to_zero(seed: int) -> None:
    x, y = digits()
    layer = layer_of((3 * normal(10, 64, seed=seed), normal(10, seed=seed + 2)))
    functional.cross_entropy(layer(x), y).backward()
    weight, bias = layer.weight.grad, layer.bias.grad
    assert weight is not None
    assert bias is not None
    for gradient in (weight, bias):
        assert_within(gradient.sum(0), 0.0, sum_error(len(y)))
        assert gradient.abs().max() > 1e-3


STEP_SIZES = [0.1, 3.0, 1e-3, 50.0, 0.7]


# Forty steps of parameters below 1000, added ten at a time, and of gradients that do not quite sum
# to zero, each of which a momentum of 0.9 repeats ten times.
FORTY_STEPS = 40 * 10 * 1000 * U + 10 * 8 * sum(STEP_SIZES) * sum_error(300)


def descend(
    start: Model,
    data: Dataset,
    make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer],
    steps: int = 40,
) -> Model:
    """Train a torch layer; the step size changes from step to step."""
    layer = layer_of(start)
    optimizer = make(list(layer.parameters()))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = STEP_SIZES[step % len(STEP_SIZES)]
        optimizer.zero_grad()
        functional.cross_entropy(layer(data[0]), data[1]).backward()
        optimizer.step()
    return layer.weight.detach(), layer.bias.detach()


def sums(model: Model) -> Tensor:
    return torch.cat([model[0].sum(0), model[1].sum().reshape(1)])


@pytest.mark.statement("gauge", "torch")
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="plain"),
        pytest.param({"momentum": 0.9}, id="momentum"),
        pytest.param({"momentum": 0.9, "nesterov": True}, id="nesterov"),
        pytest.param({"momentum": 0.5, "dampening": 0.5}, id="dampened"),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_gradient_descent_keeps_the_sums(options: dict[str, Any], seed: int) -> None:
    start = normal(10, 64, seed=seed), normal(10, seed=seed + 2)
    end = descend(start, digits(), lambda p: torch.optim.SGD(p, lr=1.0, **options))
    assert_within(sums(end), sums(start), FORTY_STEPS)
    assert end[0].abs().max() < 1000
    assert (end[0] - start[0]).abs().max() > 1
    assert (end[1] - start[1]).abs().max() > 1


@pytest.mark.statement("gauge", "torch")
@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
def test_lbfgs_keeps_the_sums(line_search: str | None) -> None:
    start = normal(10, 64), normal(10, seed=2)
    layer = layer_of(start)
    optimizer = torch.optim.LBFGS(
        layer.parameters(), lr=0.5, max_iter=30, line_search_fn=line_search
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(layer(digits()[0]), digits()[1])
        value.backward()
        return value

    before = closure().item()
    optimizer.step(closure)
    assert closure().item() < before / 10
    end = layer.weight.detach(), layer.bias.detach()
    # Thirty steps, each a combination of up to sixty vectors below 1000.
    assert_within(sums(end), sums(start), 30 * 60 * 10 * 1000 * U)
    assert (end[0] - start[0]).abs().max() > 1


@pytest.mark.statement("gauge", "torch")
def test_gradients_of_parts_of_the_data_keep_the_sums_too() -> None:
    x, y = digits()
    start = normal(10, 64), normal(10, seed=2)
    layer = layer_of(start)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0, momentum=0.9)
    for batch in torch.arange(300).split(7):
        optimizer.zero_grad()
        functional.cross_entropy(layer(x[batch]), y[batch]).backward()
        optimizer.step()
    end = layer.weight.detach(), layer.bias.detach()
    # 43 steps, each repeated ten times by the momentum; ten parameters below 1000 are added.
    assert_within(sums(end), sums(start), 43 * 10 * (10 * 1000 * U + sum_error(7)))
    assert (end[0] - start[0]).abs().max() > 1


@pytest.mark.statement("gauge", "torch")
@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_momentum_that_does_not_start_from_rest_moves_the_sums(momentum: float) -> None:
    x, y = digits()
    start = normal(10, 64), normal(10, seed=2)
    layer = layer_of(start)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=momentum)
    velocity = normal(10, 64, seed=3), normal(10, seed=4)
    for part, v in zip((layer.weight, layer.bias), velocity, strict=True):
        optimizer.state[part]["momentum_buffer"] = v.clone()
    for _ in range(20):
        optimizer.zero_grad()
        functional.cross_entropy(layer(x), y).backward()
        optimizer.step()
    end = layer.weight.detach(), layer.bias.detach()
    # The gradients add nothing; the sum of the velocity is repeated, each time by less.
    repeats = sum(momentum**n for n in range(1, 21))
    expected = sums(start) - 0.1 * repeats * sums(velocity)
    assert_within(sums(end), expected, 20 * 10 * (10 * 1000 * U + sum_error(300)))
    assert (sums(end) - sums(start)).abs().max() > 0.1


@pytest.mark.statement("gauge", "torch")
@pytest.mark.parametrize(
    ("matrix", "kept"),
    [
        pytest.param([4.0] * 10, True, id="a multiple of the identity"),
        pytest.param([1.0] * 5 + [4.0] * 5, False, id="diagonal"),
    ],
)
def test_lbfgs_keeps_the_sums_if_its_matrix_starts_from_a_multiple_of_the_identity(
    matrix: list[float], kept: bool
) -> None:
    # From a diagonal matrix it does what it does from the identity with parameters in other units:
    # those of a class are divided by the root of its entry.
    x, y = digits()
    root = double(matrix).sqrt()
    start = normal(10, 64), normal(10, seed=2)
    scaled = [
        (start[0] / root.unsqueeze(-1)).requires_grad_(),
        (start[1] / root).requires_grad_(),
    ]
    optimizer = torch.optim.LBFGS(scaled, lr=0.5, max_iter=30)

    def model() -> Model:
        return scaled[0] * root.unsqueeze(-1), scaled[1] * root

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = torch_loss(model(), (x, y))
        value.backward()
        return value

    before = closure().item()
    optimizer.step(closure)
    assert closure().item() < before / 10
    change = (sums((model()[0].detach(), model()[1].detach())) - sums(start)).abs().max().item()
    # As above, and twice for the other units.
    assert (change <= 2 * 30 * 60 * 10 * 1000 * U) == kept
    assert kept or change > 0.1


@pytest.mark.statement("gauge")
def test_another_start_ends_with_other_sums() -> None:
    ends = [
        sums(descend((normal(10, 64, seed=seed), normal(10, seed=9)), digits(), torch.optim.SGD))
        for seed in (0, 1)
    ]
    assert (ends[0] - ends[1])[:64].abs().max() > 1
    assert_within(ends[0][64], ends[1][64], 2 * FORTY_STEPS)


@pytest.mark.statement("gauge")
def test_what_is_not_gradient_descent_on_the_loss_moves_the_sums() -> None:
    start = normal(10, 64), normal(10, seed=2)
    # A step size of its own for each parameter, as Adam has.
    adam = sums(descend(start, digits(), torch.optim.Adam, steps=5)) - sums(start)
    assert adam[:64].abs().max() > 1e-2
    assert adam[64].abs() > 1e-2
    # A penalty on all parameters.
    decayed = descend(start, digits(), lambda p: torch.optim.SGD(p, weight_decay=0.01), steps=5)
    change = sums(decayed) - sums(start)
    assert change[:64].abs().max() > 1e-2
    assert change[64].abs() > 1e-2
