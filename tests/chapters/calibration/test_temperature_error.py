"""The proposition `temperature-error`: The error of a fitted temperature."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.calibration import fit_temperature
from tests.chapters.calibration.common import (
    ZERO,
    U,
    all_constant,
    bisected,
    fit_bound,
    generator,
    labeled,
    mean_of,
    softmax_of,
)
from tests.support.strategies import assert_within, double, number


class World(NamedTuple):
    """A distribution of pairs: rows of logits, their weights, and of each row those of its labels.

    At the inverse temperature ``beta`` the expected loss is smallest.
    """

    rows: list[list[Any]]
    weights: list[Fraction]
    labels: list[list[Any]]
    beta: Any


def slopes(world: World, beta: Any) -> list[tuple[Any, Any]]:
    """E_p[z] - z_Y for p at this beta, with its chances for labels as they come."""
    return [
        (mean_of(row, softmax_of(row, beta)) - x, number(weight) * q)
        for row, weight, label in zip(world.rows, world.weights, world.labels, strict=True)
        for q, x in zip(label, row, strict=True)
    ]


def slope_moment(world: World, beta: Any, power: int) -> Any:
    return mp.fsum(chance * x**power for x, chance in slopes(world, beta))


def curvature(world: World, beta: Any) -> Any:
    terms = []
    for row, weight in zip(world.rows, world.weights, strict=True):
        p = softmax_of(row, beta)
        mean = mean_of(row, p)
        terms.append(number(weight) * mean_of([(x - mean) ** 2 for x in row], p))
    return mp.fsum(terms)


def error_variance(world: World) -> Any:
    """That of sqrt(N) times the error, by the proposition."""
    return slope_moment(world, world.beta, 2) / curvature(world, world.beta) ** 2


def best(rows: list[list[Any]], weights: list[Fraction], labels: list[list[Any]]) -> World:
    """Find where the expected loss is smallest."""
    at = mp.findroot(
        lambda beta: slope_moment(World(rows, weights, labels, beta), beta, 1),
        (mp.mpf("0.2"), mp.mpf(2)),
        solver="anderson",
    )
    return World(rows, weights, labels, at)


HALF = [Fraction(1, 2)] * 2
# Small gaps that are right too often, large ones too rarely: no temperature is the truth.
UNTRUE = best(
    [[1, 0], [4, 0]], HALF, [[mp.mpf("0.95"), mp.mpf("0.05")], [mp.mpf("0.8"), mp.mpf("0.2")]]
)
# The very labels of beta = 1/2.
TRUE = World(
    [[1, 0], [4, 0]],
    HALF,
    [softmax_of([1, 0], mp.mpf("0.5")), softmax_of([4, 0], mp.mpf("0.5"))],
    mp.mpf("0.5"),
)
THREE = best(
    [[2, 1, 0], [0, 3, 3]],
    [Fraction(1, 3), Fraction(2, 3)],
    [[mp.mpf(x) for x in label] for label in (["0.2", "0.6", "0.2"], ["0.1", "0.8", "0.1"])],
)
WORLDS = [
    pytest.param(UNTRUE, id="untrue"),
    pytest.param(TRUE, id="true"),
    pytest.param(THREE, id="three classes"),
]


@pytest.mark.statement("temperature-error", "exact")
@given(labeled(), st.floats(0.0, 3.0))
def test_of_labels_from_the_model_the_two_means_are_equal(
    data: tuple[Tensor, Tensor], beta: float
) -> None:
    rows = data[0].tolist()
    weights = [Fraction(1, len(rows))] * len(rows)
    world = World(rows, weights, [softmax_of(row, beta) for row in rows], beta)
    assert_within(slope_moment(world, beta, 1), 0, ZERO * 100)
    kappa = curvature(world, beta)
    assert_within(slope_moment(world, beta, 2), kappa, ZERO * 1000)
    assert (kappa > mp.mpf(10) ** -30) == (not all_constant(data[0]))


@pytest.mark.statement("temperature-error", "exact")
def test_of_other_labels_they_differ_either_way() -> None:
    for world, more in ((UNTRUE, True), (THREE, False)):
        assert_within(slope_moment(world, world.beta, 1), 0, ZERO)
        v, kappa = slope_moment(world, world.beta, 2), curvature(world, world.beta)
        assert (v > 1.05 * kappa) if more else (v < 0.95 * kappa)


@pytest.mark.statement("temperature-error", "exact")
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("h", [-2, -0.5, 1, 3])
def test_a_step_of_one_over_root_n_moves_the_slope_by_h_kappa(world: World, h: float) -> None:
    n = mp.mpf(10) ** 16
    step = world.beta + h / mp.sqrt(n)
    # The remainder of the proof, for ranges of 4 or less.
    allowed = 4**3 * mp.mpf(h) ** 2 / (2 * mp.sqrt(n))
    kappa = curvature(world, world.beta)
    assert_within(mp.sqrt(n) * slope_moment(world, step, 1), h * kappa, allowed)
    # (E_p[z] - z_Y)^2 changes by twice 4, times 16 / 4 a unit of beta at most.
    v = slope_moment(world, world.beta, 2)
    assert_within(slope_moment(world, step, 2), v, 2 * 4 * 4 * abs(h) / mp.sqrt(n))


def chance_of_a_fit_below(world: World, n: int, beta: Any) -> tuple[Any, Any]:
    """P(slope of n rows > 0) and P(slope >= 0), which the chance of a fit up to beta is between."""
    values, chances = zip(*slopes(world, beta), strict=True)
    above, at_least = mp.mpf(0), mp.mpf(0)
    logs = [mp.log(c) for c in chances]
    for counts in product(range(n + 1), repeat=3):
        last = n - sum(counts)
        if last < 0:
            continue
        each = (*counts, last)
        slope = mp.fsum(m * x for m, x in zip(each, values, strict=True))
        if slope >= -ZERO:
            log_chance = mp.loggamma(n + 1) + mp.fsum(
                m * log - mp.loggamma(m + 1) for m, log in zip(each, logs, strict=True)
            )
            at_least += mp.exp(log_chance)
            above += mp.exp(log_chance) if slope > ZERO else 0
    return above, at_least


@pytest.mark.statement("temperature-error", "exact")
@pytest.mark.parametrize("h", [-1.5, 0.5, 2.0])
def test_the_chance_of_a_fit_below_a_step_is_that_of_a_normal_variable(h: float) -> None:
    n = 30
    beta = UNTRUE.beta + h / mp.sqrt(n)
    above, at_least = chance_of_a_fit_below(UNTRUE, n, beta)
    mean = slope_moment(UNTRUE, beta, 1)
    deviation = mp.sqrt(slope_moment(UNTRUE, beta, 2) - mean**2)
    # Berry and Esseen, with the constant of Shevtsova (2011).
    third = mp.fsum(chance * abs(x - mean) ** 3 for x, chance in slopes(UNTRUE, beta))
    off = mp.mpf("0.4748") * third / (deviation**3 * mp.sqrt(n))
    due = mp.ncdf(mp.sqrt(n) * mean / deviation)
    assert due - off <= above <= at_least <= due + off
    assert off < 0.25
    # And what is due tends to the chance of the proposition.
    far = mp.mpf(10) ** 20
    beta = UNTRUE.beta + h / mp.sqrt(far)
    mean = slope_moment(UNTRUE, beta, 1)
    deviation = mp.sqrt(slope_moment(UNTRUE, beta, 2) - mean**2)
    limit = mp.ncdf(h / mp.sqrt(error_variance(UNTRUE)))
    assert_within(mp.ncdf(mp.sqrt(far) * mean / deviation), limit, 1e-8)


def samples(world: World, n: int, many: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of two logits and labels, ``(many, n)`` of each."""
    draws = generator(seed)
    kind = torch.multinomial(
        double([float(w) for w in world.weights]), many * n, replacement=True, generator=draws
    )
    first = double([float(label[0]) for label in world.labels])[kind]
    labels = (torch.rand(many * n, generator=draws, dtype=torch.float64) >= first).long()
    gaps = double([float(row[0]) - float(row[1]) for row in world.rows])[kind]
    return gaps.reshape(many, n), labels.reshape(many, n)


@pytest.mark.statement("temperature-error", "statistical", false_alarm=1.2e-6)
@pytest.mark.parametrize("world", WORLDS[:2])
def test_fits_scatter_as_the_proposition_says(world: World) -> None:
    n, many = 400, 4000
    gaps, labels = samples(world, n, many, seed=0)
    found = bisected(gaps, labels)
    scaled = math.sqrt(n) * (found - float(world.beta))
    # Five standard errors of a variance of normal numbers, and 5% for terms of the order 1/N.
    allowed = 5 * math.sqrt(2 / many) + 0.05
    assert_within(scaled.var().item(), float(error_variance(world)), rel=allowed)
    for gap, label, beta in zip(gaps[:5], labels[:5], found[:5].tolist(), strict=True):
        z = torch.stack([gap, torch.zeros_like(gap)], -1)
        assert_within(
            fit_temperature(z, label), 1 / beta, rel=fit_bound(z, label, 1 / beta) + 1e-14
        )


@pytest.mark.statement("temperature-error")
def test_without_a_spread_of_the_slope_every_fit_is_the_best() -> None:
    # The label's logit is the expected one at beta = 1, in every row: v = 0.
    z = double([[1.0, math.e / (1 + math.e), 0.0]])
    p = torch.softmax(z[0], -1)
    assert_within((p * z[0]).sum().item(), z[0, 1].item(), 8 * U)
    for n in (1, 7):
        rows, labels = z.expand(n, 3), torch.ones(n, dtype=torch.long)
        assert_within(fit_temperature(rows, labels), 1.0, fit_bound(rows, labels, 1.0, U))
