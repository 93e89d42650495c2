"""The proposition `separable`: When there is an optimum without a penalty."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import scipy.optimize
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from mpmath import mp
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.classification.common import (
    AT_MINIMUM,
    Dataset,
    Model,
    U,
    datasets,
    digits,
    gradients,
    heavy_ball,
    logits,
    loss,
    models,
    newton,
    normal,
    whole,
)
from tests.support.strategies import assert_within, double, log_softmax_bound


def gaps(model: Model, data: Dataset) -> Tensor:
    """z_y - z_j of every pair and every other class, a row for each pair."""
    x, y = data
    z = logits(model, x)
    every = z.gather(1, y.unsqueeze(-1)) - z
    others = torch.arange(z.shape[1]) != y.unsqueeze(-1)
    return every[others].reshape(len(y), -1)


def exact_loss(model: Model, data: Dataset, scale: float = 1.0) -> Any:
    """L(sW, sb) to 50 digits, however small: log1p keeps what 1 + exp(-500) would lose."""
    rows = gaps(model, data).tolist()
    terms = [mp.log1p(mp.fsum(mp.exp(-scale * mp.mpf(g)) for g in row)) for row in rows]
    return mp.fsum(terms) / len(rows)


@st.composite
def separated(draw: DrawFn) -> tuple[Model, Dataset]:
    """A model and data that it labels, each with the strictly largest logit."""
    k, d = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    weight, bias = draw(whole(k, d)), draw(whole(k))
    x = draw(whole(draw(st.integers(1, 5)), d))
    top = logits((weight, bias), x).topk(2, -1)
    clear = top.values[:, 0] > top.values[:, 1]
    if not clear.any():
        # A bias above all others settles every tie.
        bias = bias + 100 * torch.eye(k, dtype=bias.dtype)[0]
        clear = torch.ones(len(x), dtype=torch.bool)
    x = x[clear]
    return (weight, bias), (x, logits((weight, bias), x).argmax(-1))


@pytest.mark.statement("separable", "exact")
@given(separated())
def test_along_the_ray_the_loss_tends_to_zero_and_never_is(drawn: tuple[Model, Dataset]) -> None:
    model, data = drawn
    k = len(model[1])
    margin = gaps(model, data).min().item()
    assert margin >= 1
    scales = [0.0, 0.5, 1.0, 2.0, 10.0, 100.0, 1000.0]
    values = [exact_loss(model, data, s) for s in scales]
    assert_within(values[0], mp.log(k), rel=1e-48)
    for scale, value in zip(scales, values, strict=True):
        assert value > 0
        # log(1 + x) <= x.
        assert value <= (k - 1) * mp.exp(-scale * margin)
        computed = loss((scale * model[0], scale * model[1]), data)
        z = logits(model, data[0]) * scale
        assert_within(computed, value, log_softmax_bound(z).max().item() * 2 + 64 * U)
    assert all(later < earlier for earlier, later in pairwise(values))
    assert values[-1] < mp.mpf(10) ** -400


@pytest.mark.statement("separable", "exact")
@given(models(2), st.data())
def test_no_parameters_have_loss_zero_on_any_data(model: Model, data: st.DataObject) -> None:
    pairs = data.draw(datasets(*model[0].shape))
    value = exact_loss(model, pairs)
    assert value > 0
    # At least that of one pair, and that at least that of its largest gap.
    assert value >= mp.log1p(mp.exp(-mp.mpf(gaps(model, pairs).max().item()))) / len(pairs[1])
    # Whole logits: a sum, its logarithm, the difference and a mean of at most six.
    assert_within(loss(model, pairs), value, 32 * U * (1 + float(value)))


@pytest.mark.statement("separable")
def test_with_one_class_the_loss_is_zero_everywhere() -> None:
    # No other logit is there to be above: K = 1 is the exception.
    data = normal(4, 2), torch.zeros(4, dtype=torch.int64)
    for seed in range(3):
        assert loss((normal(1, 2, seed=seed), normal(1, seed=seed)), data).item() == 0.0


@pytest.mark.statement("separable", "exact")
def test_in_floating_point_zero_is_reached() -> None:
    data = double([[-1.0], [1.0]]), torch.tensor([0, 1])
    model = double([[-1.0], [1.0]]), torch.zeros(2, dtype=torch.float64)
    assert loss((10 * model[0], model[1]), data) > 0
    assert loss((400 * model[0], model[1]), data) == 0
    assert_within(exact_loss(model, data, 20.0), mp.exp(-40), rel=mp.exp(-40))


# Feasible, to the linear program's solver, is what violates no condition by more.
FEASIBLE = 1e-7


def widest_margin(data: Dataset, k: int) -> tuple[float, Model, Tensor]:
    """The least gap z_y - z_j, made as large as parameters in [-1, 1] allow, by linear programming.

    It is positive if and only if the data are separable. If they are not, the weights of the gaps
    that the dual program finds prove it: with them the gaps of every model average to zero.
    """
    x, y = data
    d = x.shape[1]
    constraints: list[list[float]] = []
    for point, label in zip(x.tolist(), y.tolist(), strict=True):
        for j in range(k):
            if j != label:
                row = [0.0] * (k * (d + 1) + 1)
                for i, value in enumerate([*point, 1.0]):
                    row[label * (d + 1) + i] = -value
                    row[j * (d + 1) + i] = value
                row[-1] = 1.0
                constraints.append(row)
    solution = scipy.optimize.linprog(
        [0.0] * (k * (d + 1)) + [-1.0],
        A_ub=constraints,
        b_ub=[0.0] * len(constraints),
        bounds=[(-1, 1)] * (k * (d + 1)) + [(None, None)],
    )
    assert solution.status == 0
    theta = double(solution.x[:-1].tolist()).reshape(k, d + 1)
    weights = -double(solution.ineqlin.marginals.tolist())
    return float(solution.x[-1]), (theta[:, :d], theta[:, d]), weights


@pytest.mark.statement("separable", "exact", "scipy")
@settings(max_examples=50)
@given(st.integers(2, 3), st.integers(1, 2), st.data())
def test_separable_or_not_is_what_a_linear_program_says(
    k: int, d: int, data: st.DataObject
) -> None:
    pairs = data.draw(datasets(k, d))
    margin, model, weights = widest_margin(pairs, k)
    if margin > 1e-6:
        assert gaps(model, pairs).min() > 0
        assert exact_loss(model, pairs, 200 / margin) < mp.mpf(10) ** -80
    else:
        # Every model has a pair with no positive gap, whose loss is log 2 or more.
        assert_within(margin, 0.0, FEASIBLE)
        assert weights.min() >= -FEASIBLE
        assert_within(weights.sum(), 1.0, FEASIBLE)
        for scale in (0.0, 1.0, 100.0):
            other = data.draw(whole(k, d)), data.draw(whole(k))
            # Of each parameter's coefficients the weights make zero.
            allowed = FEASIBLE * sum(part.abs().sum().item() for part in other)
            assert_within((weights * gaps(other, pairs).flatten()).sum(), 0.0, allowed)
            assert gaps(other, pairs).min() <= 0
            least = mp.log(2) / len(pairs[1])
            assert exact_loss(other, pairs, scale) >= least * (1 - mp.mpf(10) ** -45)


def largest_total(data: Dataset, k: int) -> tuple[float, Model]:
    """The sum of all gaps, made as large as parameters in [-1, 1] allow with no gap negative."""
    x, y = data
    d = x.shape[1]
    rows: list[list[float]] = []
    for point, label in zip(x.tolist(), y.tolist(), strict=True):
        for j in range(k):
            if j != label:
                row = [0.0] * (k * (d + 1))
                for i, value in enumerate([*point, 1.0]):
                    row[label * (d + 1) + i] = value
                    row[j * (d + 1) + i] = -value
                rows.append(row)
    matrix = double(rows)
    solution = scipy.optimize.linprog(
        (-matrix.sum(0)).tolist(),
        A_ub=(-matrix).tolist(),
        b_ub=[0.0] * len(rows),
        bounds=[(-1, 1)] * (k * (d + 1)),
    )
    assert solution.status == 0
    theta = double(solution.x.tolist()).reshape(k, d + 1)
    return -float(solution.fun), (theta[:, :d], theta[:, d])


@pytest.mark.statement("separable", "exact", "scipy")
@settings(max_examples=60)
@given(st.integers(2, 3), st.integers(1, 2), st.data())
def test_there_is_an_optimum_if_and_only_if_no_gaps_are_nonnegative_but_not_zero(
    k: int, d: int, data: st.DataObject
) -> None:
    labels = data.draw(st.lists(st.integers(0, k - 1), min_size=1, max_size=8))
    pairs = data.draw(whole(len(labels), d, bound=1)), torch.tensor(labels)
    most, h = largest_total(pairs, k)
    best = newton((torch.zeros(k, d).double(), torch.zeros(k).double()), pairs, 0.0)
    if most > 1e-6:
        assert gaps(h, pairs).min() >= -FEASIBLE
        # The other way round, no point is a minimum: from any it goes down along h.
        for seed in range(3):
            model = normal(k, d, seed=seed), normal(k, seed=seed + 10)
            moved = model[0] + h[0], model[1] + h[1]
            assert exact_loss(moved, pairs) < exact_loss(model, pairs)
    else:
        assert_within(most, 0.0, FEASIBLE * k * (d + 1) * len(labels))
        # No slope is left, and L is convex: nothing is lower, near or far.
        for gradient in gradients(loss, best, pairs):
            assert_within(gradient, torch.zeros_like(gradient), AT_MINIMUM)
        least = exact_loss(best, pairs)
        size = max(part.abs().max().item() for part in best)
        for seed in range(3):
            for scale in (0.5, 10.0):
                by = normal(k, d, seed=seed) * scale, normal(k, seed=seed + 10) * scale
                away = sum(part.abs().sum().item() for part in by)
                other = best[0] + by[0], best[1] + by[1]
                slack = AT_MINIMUM * away + 64 * U * (size + away)
                assert exact_loss(other, pairs) >= least - slack


@pytest.mark.statement("separable")
@pytest.mark.parametrize(
    ("x", "labels", "direction"),
    [
        # A third class that does not occur: it always wants a lower bias.
        pytest.param([[-1], [-1], [1], [1]], [0, 1, 0, 1], [0, 0, -1], id="a missing class"),
        # Of three classes one pair of neighbors overlaps and the third stands apart.
        pytest.param([[0], [0], [5]], [0, 1, 2], [0, 0, 1], id="one class apart"),
    ],
)
def test_data_of_three_classes_that_only_touch(
    x: list[list[float]], labels: list[int], direction: list[float]
) -> None:
    data = double(x), torch.tensor(labels)
    most, h = largest_total(data, 3)
    assert most > 0.1
    # Not separable, and yet it goes down for ever.
    assert_within(widest_margin(data, 3)[0], 0.0, FEASIBLE)
    values = [exact_loss((s * h[0], s * h[1]), data) for s in (0.0, 1.0, 10.0, 100.0)]
    assert all(later < earlier for earlier, later in pairwise(values))
    assert values[-1] > mp.log(2) / 2
    # The class that is alone, or nowhere, is told apart from the other two.
    change = logits(h, data[0][-1:])[0]
    assert (change[2] - change[:2].max()).item() * sum(direction) > 0


@pytest.mark.statement("separable", "scipy", "sklearn")
def test_data_that_overlap_have_an_optimum_without_a_penalty() -> None:
    # At -1 a quarter of four labels is class 1, at 1 two thirds of three.
    x = double([[-1.0]] * 4 + [[1.0]] * 3)
    data = x, torch.tensor([0, 0, 0, 1, 0, 1, 1])
    assert_within(widest_margin(data, 2)[0], 0.0, FEASIBLE)
    start = torch.zeros(2, 1, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    best = newton(start, data, 0.0)
    p = softmax(logits(best, double([[-1.0], [1.0]])))
    # The slopes are the sum and the difference of 4/7 and 3/7 of what p is off.
    assert_within(p[:, 1], double([1 / 4, 2 / 3]), 7 / 3 * AT_MINIMUM)
    # Log-odds -log 3 at -1 and log 2 at 1.
    slope, level = ((part[1] - part[0]).item() for part in best)
    # They move by p's error over p (1 - p), which is 3/16 or more.
    allowed = 16 / 3 * 7 / 3 * AT_MINIMUM
    assert_within(slope, (math.log(2) + math.log(3)) / 2, allowed)
    assert_within(level, (math.log(2) - math.log(3)) / 2, allowed)
    least = loss(best, data).item()
    # The mean entropy of the labels at the two places. Near the minimum errors enter squared.
    entropies = scipy.stats.entropy([[1 / 4, 3 / 4], [1 / 3, 2 / 3]], axis=1)
    assert_within(least, float(4 * entropies[0] + 3 * entropies[1]) / 7, 64 * U)
    peer = LogisticRegression(C=math.inf, solver="newton-cholesky", tol=1e-10)
    peer.fit(x.numpy(), data[1].numpy())
    # It stops at slopes of 1e-10; the least curvature is 0.19.
    assert_within(float(peer.coef_[0, 0]), slope, math.sqrt(2) * 1e-10 / 0.19 + allowed)
    for seed in range(20):
        other = best[0] + normal(2, 1, seed=seed), best[1] + normal(2, seed=seed + 50)
        assert loss(other, data).item() > least
    # No ray leads to zero.
    assert loss((1000 * best[0], 1000 * best[1]), data).item() > 10


@pytest.mark.statement("separable", "exact")
def test_data_that_only_touch_have_an_infimum_above_zero_that_is_not_attained() -> None:
    # Both labels at 0, class 1 alone to the right: not separable, and still no optimum.
    data = double([[0.0], [0.0], [1.0]]), torch.tensor([0, 1, 1])
    assert_within(widest_margin(data, 2)[0], 0.0, FEASIBLE)
    infimum = 2 * mp.log(2) / 3
    model = double([[0.0], [1.0]]), torch.zeros(2, dtype=torch.float64)
    values = [exact_loss(model, data, s) for s in (0.0, 1.0, 10.0, 100.0)]
    assert all(later < earlier for earlier, later in pairwise(values))
    assert infimum < values[-1] < infimum + mp.mpf(10) ** -40
    for seed in range(20):
        assert exact_loss((normal(2, 1, seed=seed), normal(2, seed=seed + 50)), data) > infimum


@pytest.mark.statement("separable")
def test_the_digits_are_separable() -> None:
    data = digits()
    weight, bias = heavy_ball((normal(10, 64), normal(10, seed=1)), data, 0.0, 1500)
    margin = gaps((weight, bias), data).min().item()
    assert margin > 1
    values = [loss((s * weight, s * bias), data).item() for s in (0.25, 0.5, 1.0, 2.0)]
    assert all(later < earlier for earlier, later in pairwise(values))
    assert 0 < values[-1] <= 9 * math.exp(-2 * margin)
