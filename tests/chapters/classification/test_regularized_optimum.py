"""The theorem `regularized-optimum`: With a penalty there is one optimum."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional

from omnivault.softmax import softmax
from tests.chapters.classification.common import (
    AT_MINIMUM,
    STOP,
    Dataset,
    Model,
    U,
    digits,
    gradients,
    heavy_ball,
    is_constant,
    layer_of,
    logits,
    loss,
    newton,
    normal,
    second_derivatives,
    sum_error,
    whole,
)
from tests.support.strategies import assert_within, double, log_softmax_bound


def objective(model: Model, data: Dataset, penalty: float) -> Tensor:
    """L with the penalty, by its definition."""
    return loss(model, data) + penalty / 2 * (model[0] ** 2).sum()


def rounding(model: Model, data: Dataset, penalty: float) -> float:
    """How far the computed value of the objective may be from the exact one."""
    (weight, bias), (x, y) = model, data
    k, d = weight.shape
    # A logit takes d + 1 roundings of numbers up to the reach, and one more for a bias that was
    # moved; a loss has two logits.
    reach = (x.abs() @ weight.abs().T + bias.abs()).max().item()
    losses = 2 * (d + 2) * reach * U + log_softmax_bound(logits(model, x)).max().item()
    # No loss and no square is negative, so a sum of n of them is off by n u of itself.
    return losses + (len(y) + k * d + 4) * objective(model, data, penalty).item() * U


def slopes(model: Model, data: Dataset, penalty: float) -> Model:
    return gradients(lambda parameters, pairs: objective(parameters, pairs, penalty), model, data)


def steepness(model: Model, data: Dataset, penalty: float) -> float:
    """The norm of the gradient, and at least what rounding may have taken from it.

    At a minimum the errors of a pair are below 2 together, its x is shorter than 8, and n of them
    are added in any order.
    """
    by_weight, by_bias = slopes(model, data, penalty)
    norm = math.hypot(by_weight.norm().item(), by_bias.norm().item())
    return norm + 16 * len(data[1]) * U


def apart(model: Model, other: Model) -> Model:
    """What is left of it without the common bias, which no gradient moves."""
    by_weight, by_bias = (a - b for a, b in zip(model, other, strict=True))
    return by_weight, by_bias - by_bias.mean()


def farthest(model: Model, other: Model, data: Dataset, penalty: float) -> float:
    """How far apart two models may be that have the slopes they have, common biases aside.

    From the one to the other the second derivative falls at most by the factor e^-r, where r is
    the range of the change of a point's logits (see Newton's method). So along the way the slope
    changes by at least e^-r times the least curvature times the distance.
    """
    matrix = second_derivatives(model, data, penalty)
    k, d = model[0].shape
    # The common bias has no curvature. Give it some, so that the least eigenvalue is another's.
    common = torch.zeros(k, d + 1, dtype=torch.float64)
    common[:, d] = 1
    least = torch.linalg.eigvalsh(matrix + torch.outer(common.flatten(), common.flatten()))[0]
    change = logits(apart(model, other), data[0])
    r = (change.amax(-1) - change.amin(-1)).max().item()
    both = steepness(model, data, penalty) + steepness(other, data, penalty)
    return both * math.exp(r) / float(least)


def assert_same_optimum(model: Model, other: Model, data: Dataset, penalty: float) -> None:
    """Assert that the weights, the biases up to a constant and the objectives agree."""
    far = farthest(model, other, data, penalty)
    by_weight, by_bias = apart(model, other)
    assert_within(math.hypot(by_weight.norm().item(), by_bias.norm().item()), 0.0, far)
    values = [objective(m, data, penalty).item() for m in (model, other)]
    # Convex: the one is lower than the other by no more than slope times distance.
    both = steepness(model, data, penalty) + steepness(other, data, penalty)
    rounded = rounding(model, data, penalty) + rounding(other, data, penalty)
    assert_within(values[0], values[1], both * far + rounded)


@st.composite
def complete_datasets(draw: DrawFn, classes: int, features: int) -> Dataset:
    """Every class occurs."""
    extra = draw(st.lists(st.integers(0, classes - 1), max_size=4))
    labels = torch.tensor([*range(classes), *extra])
    return draw(whole(len(labels), features, bound=2)), labels


@pytest.mark.statement("regularized-optimum", "torch")
@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 3), st.floats(0.1, 2.0), st.data())
def test_one_minimum_is_reached_from_every_start(
    k: int, d: int, penalty: float, data: st.DataObject
) -> None:
    pairs = data.draw(complete_datasets(k, d))
    starts = [(data.draw(whole(k, d, bound=1)), data.draw(whole(k, bound=1))) for _ in range(2)]
    ends = [newton(start, pairs, penalty) for start in starts]
    for (weight, bias), start in zip(ends, starts, strict=True):
        for gradient in slopes((weight, bias), pairs, penalty):
            assert_within(gradient, torch.zeros_like(gradient), AT_MINIMUM)
        # The gradient of W sums to penalty * sum w_k.
        assert_within(weight.sum(0), 0.0, 2 * k * AT_MINIMUM / penalty)
        # The sum of the biases is where it had been: sixty steps, four biases, below 100.
        assert_within(bias.sum(), start[1].sum(), 60 * 4 * 100 * U)
    assert_same_optimum(ends[0], ends[1], pairs, penalty)


@pytest.mark.statement("regularized-optimum")
@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 3), st.floats(0.1, 2.0), st.data())
def test_everything_else_is_higher_by_the_penalty_on_the_distance(
    k: int, d: int, penalty: float, data: st.DataObject
) -> None:
    pairs = data.draw(complete_datasets(k, d))
    best = newton((torch.zeros(k, d, dtype=torch.float64), torch.zeros(k).double()), pairs, penalty)
    least = objective(best, pairs, penalty).item()
    at_best = rounding(best, pairs, penalty)
    # At zero it is the logarithm, which is off by u.
    assert least <= math.log(k) * (1 + 2 * U) + at_best
    for _ in range(3):
        by = data.draw(whole(k, d)), data.draw(whole(k))
        for scale in (1.0, 0.125):
            moved = best[0] + scale * by[0], best[1] + scale * by[1]
            value = objective(moved, pairs, penalty).item()
            slack = AT_MINIMUM * sum(part.abs().sum().item() for part in by)  # left of the slopes
            slack += at_best + rounding(moved, pairs, penalty)
            # L is convex and the gradient at the minimum is zero. The distance is that of the
            # rounded weights; its square, of k d differences, has a few u for each.
            square = (moved[0] - best[0]).square().sum().item()
            slack += (k * d + 4) * penalty * square * U
            assert value - least >= penalty / 2 * square - slack
            only_bias = best[0], best[1] + scale * by[1]
            slack += rounding(only_bias, pairs, penalty)
            excess = objective(only_bias, pairs, penalty).item() - least
            # Biases that change by a constant change nothing; others change it by more.
            if is_constant(by[1]):
                assert_within(excess, 0.0, slack)
            else:
                assert excess > slack


@pytest.mark.statement("regularized-optimum")
@given(st.integers(2, 4), st.integers(1, 2), st.data())
def test_where_every_class_occurs_unequal_biases_are_costly(
    k: int, d: int, data: st.DataObject
) -> None:
    # The bound in the proof of existence.
    x, y = data.draw(complete_datasets(k, d))
    weight, bias = data.draw(whole(k, d, bound=1)), data.draw(whole(k, bound=50))
    reach = (x @ weight.T).abs().max().item()
    spread = (bias.max() - bias.min()).item()
    value = loss((weight, bias), (x, y)).item()
    # Whole logits: a sum, its logarithm, the difference and a mean of at most eight are rounded.
    assert value >= (spread - 2 * reach) / len(y) - 32 * U * (1 + value)


@pytest.mark.statement("regularized-optimum")
@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_of_one_class_any_bias_will_do_and_no_weight(penalty: float) -> None:
    pairs = normal(5, 2), torch.zeros(5, dtype=torch.int64)
    weight, bias = newton((normal(1, 2), double([3.0])), pairs, penalty)
    # The slope is the penalty times the weight.
    assert_within(weight, 0.0, STOP / penalty)
    for level in (bias, bias - 100):
        assert_within(objective((weight, level), pairs, penalty), 0.0, STOP**2 / penalty)


def fitted_by_torch(data: Dataset, penalty: float, seed: int, k: int = 10) -> Model:
    """The layer, the loss and an optimizer of torch, from a random start."""
    start = normal(k, data[0].shape[1], seed=seed), normal(k, seed=seed + 1)
    layer = layer_of(start)
    optimizer = torch.optim.LBFGS(
        layer.parameters(),
        max_iter=1000,
        tolerance_grad=1e-11,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(layer(data[0]), data[1])
        value = value + penalty / 2 * (layer.weight**2).sum()
        value.backward()
        return value

    optimizer.step(closure)
    weight, bias = layer.weight.detach(), layer.bias.detach()
    # At most 1000 steps, no longer than the gradient over the least curvature of W.
    assert_within(bias.sum(), start[1].sum(), 1000 * sum_error(len(data[1])) / penalty)
    return weight, bias


DIGITS_PENALTY = 1e-2


def slope_where_it_stops(decrease: float, share: float) -> float:
    """The slope at which an optimizer may leave the digits.

    With L the largest curvature, a step against the slope lowers the objective by the slope's
    square over 2 L. A line search takes what lowers it by a share of that, and an optimizer stops
    when it was lowered by no more than the decrease.
    """
    # A softmax has curvatures of at most 1/2.
    largest = (digits()[0].square().sum(-1).max().item() + 1) / 2 + DIGITS_PENALTY
    return math.sqrt(2 * largest * decrease / share)


# For torch, what rounding hides in the sum of n losses; for SciPy, 64 eps.
BY_TORCH = slope_where_it_stops(300 * U, 1e-4)
BY_SCIPY = slope_where_it_stops(64 * 2 * U, 1e-3)


@cache
def torch_digits(seed: int) -> Model:
    return fitted_by_torch(digits(), DIGITS_PENALTY, seed)


@pytest.mark.statement("regularized-optimum", "torch")
def test_two_starts_on_the_digits_end_in_the_same_place_but_for_the_sum_of_biases() -> None:
    model, other = torch_digits(0), torch_digits(2)
    for end in (model, other):
        steep = steepness(end, digits(), DIGITS_PENALTY)
        assert steep < BY_TORCH
        # The gradient of W sums to penalty * sum w_k, and ten numbers to sqrt(10) of their norm.
        assert_within(end[0].sum(0), 0.0, math.sqrt(10) * steep / DIGITS_PENALTY)
    assert_same_optimum(model, other, digits(), DIGITS_PENALTY)
    assert (model[1].mean() - other[1].mean()).abs() > 0.1
    assert model[0].abs().max() > 0.1


@pytest.mark.statement("regularized-optimum", "sklearn", "torch")
def test_scikit_learn_finds_the_same_optimum_on_the_digits() -> None:
    x, y = digits()
    peer = LogisticRegression(C=1 / (DIGITS_PENALTY * len(y)), tol=1e-9, max_iter=10_000)
    peer.fit(x.numpy(), y.numpy())
    model = torch_digits(0)
    theirs = torch.tensor(peer.coef_), torch.tensor(peer.intercept_)
    steep = steepness(theirs, (x, y), DIGITS_PENALTY)
    assert steep < BY_SCIPY
    assert steepness(model, (x, y), DIGITS_PENALTY) < BY_TORCH
    assert_within(theirs[0].sum(0), 0.0, math.sqrt(10) * steep / DIGITS_PENALTY)
    assert_same_optimum(model, theirs, (x, y), DIGITS_PENALTY)
    # A probability moves by at most half of what a logit does.
    far = farthest(model, theirs, (x, y), DIGITS_PENALTY)
    allowed = far * math.sqrt(x.square().sum(-1).max().item() + 1) / 2
    p = softmax(logits(model, x))
    assert_within(torch.tensor(peer.predict_proba(x.numpy())), p, allowed)
    first, second = p.topk(2, -1).values.unbind(-1)
    # Two images lie so near to a border that this much could decide.
    clear = first - second > 2 * allowed
    assert int(clear.sum()) > 290
    assert torch.equal(torch.tensor(peer.predict(x.numpy()))[clear], p.argmax(-1)[clear])


@pytest.mark.statement("regularized-optimum", "torch")
@pytest.mark.statement("gauge", "torch")
def test_gradient_descent_from_two_starts_ends_there_too() -> None:
    for seed in (5, 7):
        start = normal(10, 64, seed=seed), normal(10, seed=seed + 1)
        end = heavy_ball(start, digits(), DIGITS_PENALTY, 1500)
        for model in (end, torch_digits(0)):
            assert steepness(model, digits(), DIGITS_PENALTY) < BY_TORCH
        assert_same_optimum(torch_digits(0), end, digits(), DIGITS_PENALTY)
        # A momentum of 0.9 repeats each error ten times.
        assert_within(end[1].sum(), start[1].sum(), 1500 * 10 * sum_error(300))


@pytest.mark.statement("regularized-optimum")
@pytest.mark.statement("gauge")
@pytest.mark.parametrize("rate", [0.1, 1.0])
def test_only_the_penalty_acts_on_the_sum_of_the_rows(rate: float) -> None:
    x, y = digits()
    weight, bias = normal(10, 64, seed=3), normal(10, seed=4)
    start = weight.sum(0)
    for _ in range(30):
        by_weight, by_bias = slopes((weight, bias), (x, y), DIGITS_PENALTY)
        weight, bias = weight - rate * by_weight, bias - rate * by_bias
    # The data say nothing about it, so it decays geometrically toward the sum at the optimum, 0.
    # Thirty steps of gradients that do not quite sum to zero, and of ten weights below 10.
    allowed = 30 * (rate * sum_error(len(y)) + 10 * 10 * U)
    assert_within(weight.sum(0), (1 - rate * DIGITS_PENALTY) ** 30 * start, allowed)


@pytest.mark.statement("regularized-optimum", "torch")
@given(st.integers(2, 4), st.integers(1, 3), st.data())
def test_a_class_that_does_not_occur_always_wants_a_lower_bias(
    k: int, d: int, data: st.DataObject
) -> None:
    missing = data.draw(st.integers(0, k - 1))
    others = [c for c in range(k) if c != missing]
    y = torch.tensor(data.draw(st.lists(st.sampled_from(others), min_size=1, max_size=6)))
    pairs = data.draw(whole(len(y), d, bound=2)), y
    weight, bias = data.draw(whole(k, d, bound=1)), data.draw(whole(k, bound=4))
    _, by_bias = slopes((weight, bias), pairs, 0.5)
    # The mean probability of the class, which is never zero: no point is a minimum.
    p = softmax(logits((weight, bias), pairs[0])).mean(0)[missing]
    # Whole logits. Here two exponentials, there one of a rounded logarithm up to 22, and two means.
    assert_within(by_bias[missing], p, rel=128 * U)
    assert by_bias[missing] > 0
    lower = bias.clone()
    lower[missing] -= 1
    assert objective((weight, lower), pairs, 0.5) < objective((weight, bias), pairs, 0.5)


@pytest.mark.statement("regularized-optimum")
def test_with_a_class_missing_the_infimum_is_that_of_the_others_and_not_attained() -> None:
    x, y = double([[-1.0], [0.0], [0.5], [2.0]]), torch.tensor([0, 1, 0, 1])
    penalty = 0.3
    start = torch.zeros(2, 1, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    weight, bias = newton(start, (x, y), penalty)
    infimum = objective((weight, bias), (x, y), penalty).item()

    def with_third(row: float, level: float) -> float:
        model = torch.cat([weight, double([[row]])]), torch.cat([bias, double([level])])
        return objective(model, (x, y), penalty).item()

    values = [with_third(0.0, level) for level in (0.0, -5.0, -10.0, -20.0)]
    assert all(later < earlier for earlier, later in pairwise(values))
    # Each loss grows by log(1 + e^-20 / sum e^z), about 1e-9.
    added = (math.exp(-20) / logits((weight, bias), x).exp().sum(-1)).mean().item()
    assert infimum < values[-1] < infimum + 1.01 * added
    # Whatever the third class does, and the others do in return, is above it.
    for seed in range(20):
        model = normal(3, 1, seed=seed), 3 * normal(3, seed=seed + 100)
        assert objective(model, (x, y), penalty).item() > infimum
    # With an instance of the class there is a minimum again.
    complete = torch.cat([x, double([[1.0]])]), torch.cat([y, torch.tensor([2])])
    start = torch.zeros(3, 1, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for gradient in slopes(newton(start, complete, penalty), complete, penalty):
        assert_within(gradient, torch.zeros_like(gradient), AT_MINIMUM)


@pytest.mark.statement("regularized-optimum")
def test_without_a_penalty_the_weights_need_not_be_unique() -> None:
    # The second feature is twice the first, and the labels overlap.
    x = double([[-1.0, -2.0], [-1.0, -2.0], [1.0, 2.0], [1.0, 2.0], [0.0, 0.0]])
    data = x, torch.tensor([0, 1, 0, 1, 1])
    start = torch.zeros(2, 2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    weight, bias = newton(start, data, 0.0)
    other = weight + double([[2.0, -1.0], [-4.0, 2.0]])
    for candidate in (weight, other):
        for gradient in slopes((candidate, bias), data, 0.0):
            assert_within(gradient, torch.zeros_like(gradient), AT_MINIMUM)
    # Logits are sums of terms up to 8, and a loss moves by twice as much.
    assert_within(loss((weight, bias), data), loss((other, bias), data), 128 * U)
    # The least penalty tells them apart.
    gap = objective((other, bias), data, 1e-6) - objective((weight, bias), data, 1e-6)
    assert gap.item() > 1e-6
