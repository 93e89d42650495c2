"""The proposition `jacobian-covariance`: The Jacobian is a covariance."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import sympy
import torch
from hypothesis import given
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax, softmax_jacobian
from tests.chapters.derivatives.common import (
    DRAWS,
    ERRORS_OFF,
    TEMPERATURE,
    U,
    as_matrix,
    assert_sampled,
    central_moment,
    delta,
    distributions,
    draw_one_hot,
    jacobian_formula,
    numbers,
    softmax_of,
    symbolic_softmax,
    symbols,
    vanishes,
)
from tests.package.softmax.test_jacobian import jacobian_bound
from tests.support.strategies import assert_within, rows, temperatures


@pytest.mark.statement("jacobian-covariance", "exact")
@given(distributions())
def test_mean_and_covariance_of_a_draw_class_by_class(p: list[Fraction]) -> None:
    k = range(len(p))
    draws = [(q, [delta(i, c) for i in k]) for c, q in enumerate(p)]
    mean = [sum(q * y[i] for q, y in draws) for i in k]
    assert mean == p
    second = [[sum(q * y[i] * y[j] for q, y in draws) for j in k] for i in k]
    covariance = [[second[i][j] - mean[i] * mean[j] for j in k] for i in k]
    assert covariance == [[central_moment(p, i, j) for j in k] for i in k]
    assert covariance == [[delta(i, j) * p[i] - p[i] * p[j] for j in k] for i in k]
    for t in (Fraction(1, 7), Fraction(1), Fraction(50)):
        assert covariance == [[t * x for x in row] for row in jacobian_formula(p, t)]


@pytest.mark.statement("jacobian-covariance", "symbolic")
@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_covariance_in_symbols(k: int) -> None:
    z = symbols(k)
    p = symbolic_softmax(z)
    for i, j in itertools.product(range(k), repeat=2):
        assert vanishes(central_moment(p, i, j) - (delta(i, j) * p[i] - p[i] * p[j]))
        assert vanishes(central_moment(p, i, j) - TEMPERATURE * sympy.diff(p[i], z[j]))


@pytest.mark.statement("jacobian-covariance", "exact")
@given(rows(1, 6, bound=20.0), temperatures(0.1, 100.0))
def test_the_jacobian_of_the_package_times_t_is_that_covariance(
    z: Tensor, temperature: float
) -> None:
    p = softmax_of(numbers(z), mp.mpf(temperature))
    k = range(len(p))
    covariance = as_matrix([[central_moment(p, i, j) for j in k] for i in k])
    scaled = temperature * softmax_jacobian(z, temperature=temperature)
    assert_within(
        scaled, covariance, temperature * jacobian_bound(z, temperature) + 2 * U * scaled.abs()
    )


@pytest.mark.statement("jacobian-covariance", "statistical", false_alarm=1e-8)
@pytest.mark.parametrize(
    ("values", "temperature"),
    [
        ([2.0, 1.0, 3.0, 5.0, 4.0], 1.0),
        ([2.0, 1.0, 3.0, 5.0, 4.0], 0.7),
        ([2.0, 1.0, 3.0, 5.0, 4.0], 2.5),
        ([1.0, 1.0, 0.0], 1.0),
        ([0.0, 0.0], 1.0),
        ([0.0, -5.0], 1.0),
        ([4.0], 1.0),
    ],
)
def test_mean_and_covariance_of_draws(values: list[float], temperature: float) -> None:
    z = torch.tensor(values, dtype=torch.float64)
    y = draw_one_hot(z, temperature, DRAWS, seed=20)
    p = softmax(z, temperature=temperature)
    assert p.min().item() * DRAWS > 500
    classes = torch.eye(len(z), dtype=torch.float64)
    assert_sampled(y.mean(0), p, classes)
    away = y - p
    sampled = away.T @ away / DRAWS
    apart = classes - p
    assert_sampled(sampled, p, apart.unsqueeze(-1) * apart.unsqueeze(-2))
    # And that is T J.
    jacobian = softmax_jacobian(z, temperature=temperature)
    largest = ERRORS_OFF * 0.25 / math.sqrt(DRAWS) + DRAWS * U
    assert_within(sampled, temperature * jacobian, largest)
    if temperature != 1.0:
        assert (sampled - jacobian).abs().max().item() > 5 * largest
