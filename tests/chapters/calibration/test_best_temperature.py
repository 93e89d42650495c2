"""The theorem `best-temperature`: The best temperature."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import scipy.optimize
import scipy.stats
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mpmath import mp
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

from omnivault.calibration import fit_temperature
from omnivault.softmax import softmax
from tests.chapters.calibration.common import (
    MIXED,
    ZERO,
    Labeled,
    U,
    all_constant,
    fit_bound,
    generator,
    labeled,
    three_means,
)
from tests.support.strategies import assert_within, double


def exact_rows(data: Labeled, beta: Any) -> list[tuple[list[Any], list[Any], int]]:
    """Softmax of beta z, to 50 digits also for beta = 0; z; and the label."""
    table = []
    for row, label in zip(*(part.tolist() for part in data), strict=True):
        weights = [mp.exp(mp.mpf(beta) * (mp.mpf(z) - max(row))) for z in row]
        table.append(([w / mp.fsum(weights) for w in weights], row, label))
    return table


def exact_loss(data: Labeled, beta: Any) -> Any:
    """The function l(beta) of the theorem."""
    rows = exact_rows(data, beta)
    return mp.fsum(-mp.log(p[label]) for p, _, label in rows) / len(rows)


def exact_slope(data: Labeled, beta: Any) -> Any:
    """Mean expected logit minus mean logit of the labels; differences first, so none cancels."""
    rows = exact_rows(data, beta)
    return mp.fsum(
        a * (mp.mpf(x) - z[label]) for p, z, label in rows for a, x in zip(p, z, strict=True)
    ) / len(rows)


def exact_curvature(data: Labeled, beta: Any) -> Any:
    rows = exact_rows(data, beta)
    return mp.fsum(
        a * b * (mp.mpf(x) - y) ** 2 / 2
        for p, z, _ in rows
        for a, x in zip(p, z, strict=True)
        for b, y in zip(p, z, strict=True)
    ) / len(rows)


@pytest.mark.statement("best-temperature", "exact", "torch")
@settings(max_examples=60)
@given(labeled(), st.floats(0.0, 3.0))
@example(MIXED, 1.0)
def test_slope_and_curvature_are_a_mean_gap_and_a_mean_variance(data: Labeled, beta: float) -> None:
    z, y = data
    at = torch.tensor(beta, dtype=torch.float64, requires_grad=True)
    value = functional.cross_entropy(at * z, y)
    (slope,) = torch.autograd.grad(value, at, create_graph=True)
    # With constant rows nothing depends on beta, which autograd may say in its own way.
    (curvature,) = torch.autograd.grad(slope, at)
    # The formulas, with the package's softmax; gaps up to 30, logits up to 5, squares up to 25.
    p = softmax(beta * z)
    mean = (p * z).sum(-1)
    allowed = 25 * (6 * 30 + 64) * U
    expected = (mean - z.gather(-1, y.unsqueeze(-1)).squeeze(-1)).mean()
    assert_within(slope.detach(), expected, allowed)
    assert_within(curvature, (p * (z - mean.unsqueeze(-1)) ** 2).sum(-1).mean(), allowed)
    # And both against 50 digits, where the curvature is seen to be positive.
    # Losses up to 32, and a mean of four.
    assert_within(value.item(), exact_loss(data, beta), 512 * U)
    assert_within(slope.item(), exact_slope(data, beta), allowed)
    assert_within(curvature.item(), exact_curvature(data, beta), allowed)
    assert (exact_curvature(data, beta) > 0) == (not all_constant(z))


@pytest.mark.statement("best-temperature", "exact")
@given(labeled(), st.lists(st.integers(0, 12), min_size=3, max_size=3, unique=True))
def test_the_loss_is_convex_and_strictly_so_unless_all_rows_are_constant(
    data: Labeled, quarters: list[int]
) -> None:
    low, between, high = (mp.mpf(n) / 4 for n in sorted(quarters))
    weight = (high - between) / (high - low)
    chord = weight * exact_loss(data, low) + (1 - weight) * exact_loss(data, high)
    slack = chord - exact_loss(data, between)
    if all_constant(data[0]):
        assert_within(slack, 0, ZERO)
        assert_within(exact_loss(data, low), mp.log(data[0].shape[1]), ZERO)
    else:
        # Gaps of 10 times a beta of 3: the curvature is at least exp(-30) / 16.
        assert slack > mp.mpf(10) ** -20


# What fit_temperature says where nothing is best.
COLDER, HOTTER = "as T -> 0", "T -> infinity"


# Gaps of 10 times 8: exp(-80) = 1e-35 is seen by 50 digits.
BETAS = (0.0, 1e-3, 0.1, 0.5, 1.0, 2.0, 8.0)


def root_of_slope(data: Labeled) -> float:
    high = 1.0
    while exact_slope(data, high) <= 0:
        high *= 2
    root = scipy.optimize.brentq(
        lambda beta: float(exact_slope(data, beta)), 0.0, high, xtol=1e-300, rtol=8 * U
    )
    return float(root)


@pytest.mark.statement("best-temperature", "exact")
@settings(max_examples=60)
@given(labeled())
def test_a_best_temperature_exists_if_and_only_if_the_labels_lie_between(data: Labeled) -> None:
    left, middle, right = three_means(data)
    assert left <= right
    assert middle <= right
    assert_within(exact_slope(data, 0), left - middle, ZERO)
    slopes = [exact_slope(data, beta) for beta in BETAS]
    if all_constant(data[0]):
        # All temperatures are equally good.
        assert left == middle == right
        assert slopes == [0] * len(BETAS)
    else:
        assert all(later > earlier for earlier, later in pairwise(slopes))
        # The limit, not reached.
        assert slopes[-1] < mp.mpf(right.numerator) / right.denominator - (
            mp.mpf(middle.numerator) / middle.denominator
        )
    if left < middle < right:
        best = root_of_slope(data)
        assert best > 0
        assert_within(fit_temperature(*data), 1 / best, rel=fit_bound(*data, 1 / best) + 16 * U)
        least = exact_loss(data, best)
        for beta in (*BETAS, best * 0.99, best * 1.01):
            assert exact_loss(data, beta) > least
        below, above = (exact_slope(data, factor * best) for factor in (0.99, 1.01))
        assert below < 0 < above
    else:
        with pytest.raises(ValueError, match=COLDER if middle == right else HOTTER):
            fit_temperature(*data)
        if not all_constant(data[0]):
            # Colder is always better, or hotter is.
            sign = -1 if middle == right else 1
            assert all(sign * slope > 0 for slope in slopes[1:])
            losses = [sign * exact_loss(data, beta) for beta in BETAS]
            assert all(later > earlier for earlier, later in pairwise(losses))


@pytest.mark.statement("best-temperature", "exact")
@pytest.mark.parametrize("gap", [0.01, 4.0, 300.0])
@pytest.mark.parametrize("wrong", range(11))
def test_of_two_classes_with_one_gap_between_none_and_half_may_be_wrong(
    wrong: int, gap: float
) -> None:
    z = double([[gap, 0.0]] * 10)
    y = torch.tensor([1] * wrong + [0] * (10 - wrong))
    left, middle, right = three_means((z, y))
    if 0 < wrong < 5:
        assert left < middle < right
        # softmax(z / T) = (1 - wrong / 10, wrong / 10), the share that is right.
        expected = gap / math.log((10 - wrong) / wrong)
        # The logarithm is at least 0.4, of a rounded quotient.
        rounding = fit_bound(z, y, expected) + 16 * U
        assert_within(fit_temperature(z, y), expected, rel=rounding)
    else:
        assert not left < middle < right
        with pytest.raises(ValueError, match=HOTTER if wrong else COLDER):
            fit_temperature(z, y)


@pytest.mark.statement("best-temperature", "exact")
@pytest.mark.parametrize(
    ("rows", "labels", "limit"),
    [
        pytest.param([[2, 1, 0]], [1], HOTTER, id="the label is the mean"),
        pytest.param([[2, 1.01, 0]], [1], None, id="a little above it"),
        pytest.param([[2, 0.99, 0]], [1], HOTTER, id="a little below it"),
        pytest.param([[2, 1.99, 0]], [1], None, id="a little below the largest"),
        pytest.param([[2, 2, 0]], [1], COLDER, id="tied for the largest"),
        pytest.param([[2, 2, 0], [2, 2, 0]], [0, 1], COLDER, id="tied, both ways"),
        pytest.param([[2, 1, 0]], [0], COLDER, id="the largest"),
        pytest.param([[2, 1, 0]], [2], HOTTER, id="the smallest"),
        pytest.param([[1, 0], [1, 0]], [0, 1], HOTTER, id="half right"),
        pytest.param([[1, 0]] * 9 + [[20, 0]], [0] * 9 + [1], HOTTER, id="nine of ten right"),
        pytest.param([[2, 0], [1, 0]], [0, 1], None, id="right by more than wrong"),
        pytest.param([[2, 0], [1, 0]], [1, 0], HOTTER, id="wrong by more than right"),
        pytest.param([[3, 3], [5, 0], [5, 0], [5, 0]], [0, 0, 0, 1], None, id="a constant row"),
        pytest.param([[3, 3], [5, 0]], [1, 0], COLDER, id="a constant row, no mistake"),
        pytest.param([[3, 3], [1, 1]], [0, 1], COLDER, id="constant rows"),
        pytest.param([[7], [-2]], [0, 0], COLDER, id="one class"),
    ],
)
def test_at_the_borders(rows: list[list[float]], labels: list[int], limit: str | None) -> None:
    data = double(rows), torch.tensor(labels)
    left, middle, right = three_means(data)
    assert (left < middle < right) == (limit is None)
    if limit is None:
        expected = 1 / root_of_slope(data)
        assert_within(fit_temperature(*data), expected, rel=fit_bound(*data, expected) + 16 * U)
    else:
        with pytest.raises(ValueError, match=limit):
            fit_temperature(*data)


@pytest.mark.statement("best-temperature")
@pytest.mark.parametrize("above", [1e-1, 1e-2, 1e-3])
def test_just_above_chance_the_best_temperature_is_far_away(above: float) -> None:
    data = double([[2.0, 1 + above, 0.0]]), torch.tensor([1])
    # The slope is -2/3 of that at beta = 0 and rises with Var = 2/3, up to the second order.
    assert_within(fit_temperature(*data), 1 / above, rel=above**2)


def ten_classes(seed: int, temperature: float) -> Labeled:
    z = 3 * torch.randn(300, 10, generator=generator(seed), dtype=torch.float64)
    p = torch.softmax(z / temperature, -1)
    return z, torch.multinomial(p, 1, generator=generator(seed + 1)).squeeze(-1)


@pytest.mark.statement("best-temperature", "scipy")
@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
@pytest.mark.parametrize("seed", [0, 10])
def test_the_best_temperature_against_a_minimizer_and_a_root_finder(
    seed: int, temperature: float
) -> None:
    z, y = ten_classes(seed, temperature)

    def value(beta: float) -> float:
        return functional.cross_entropy(beta * z, y).item()

    def slope(beta: float) -> float:
        p = torch.softmax(beta * z, -1)
        return float((p * z).sum(-1).mean() - z.gather(-1, y.unsqueeze(-1)).mean())

    fitted = fit_temperature(z, y)
    root = scipy.optimize.brentq(slope, 1e-3, 1e2, xtol=1e-14)
    # Here the logits are not shifted: their means are of larger numbers.
    of_means = 2 * len(z) * U * z.abs().max().item()
    p = softmax(z, temperature=fitted)
    curvature = ((p * z**2).sum(-1) - (p * z).sum(-1) ** 2).mean().item()
    rounding = 2 * fit_bound(z, y, fitted) / fitted + of_means / curvature
    assert_within(1 / fitted, root, rounding + 2e-14)
    found = scipy.optimize.minimize_scalar(value, bounds=(0, 20), method="bounded")
    # Where it stops; rounding, which it sees in steps of a third of that, moves it by less.
    assert_within(found.x, 1 / fitted, 1e-5)
    # Two means of 300 losses around 1.
    assert value(1 / fitted) <= found.fun + 4 * len(z) * U
    # The third part of the theorem.
    expected_logit = (p * z).sum(-1).mean()
    allowed = of_means + 2 * fit_bound(z, y, fitted) * curvature / fitted
    assert_within(expected_logit, z.gather(-1, y.unsqueeze(-1)).mean(), allowed)
    # One zero and no other: the slope increases.
    slopes = [slope(beta / 10) for beta in range(60)]
    assert all(later > earlier for earlier, later in pairwise(slopes))


@pytest.mark.statement("best-temperature", "sklearn")
def test_for_two_classes_it_is_the_weight_of_a_logistic_regression_without_intercept() -> None:
    z = 3 * torch.randn(500, 2, generator=generator(), dtype=torch.float64)
    y = torch.multinomial(torch.softmax(z / 1.7, -1), 1, generator=generator(1)).squeeze(-1)
    peer = LogisticRegression(C=math.inf, fit_intercept=False, solver="newton-cholesky", tol=1e-12)
    x = z[:, 1:] - z[:, :1]
    weight = float(peer.fit(x.numpy(), y.numpy()).coef_[0, 0])
    # It stops at a slope of 1e-12 at most, of a mean of 500 terms that is rounded.
    p = torch.sigmoid(weight * x)
    stop = 1e-12 + 2 * (len(z) + 20) * U * x.abs().mean().item()
    allowed = stop / (p * (1 - p) * x**2).mean().item() + fit_bound(z, y, 1 / weight) * weight
    assert_within(1 / fit_temperature(z, y), weight, allowed)
