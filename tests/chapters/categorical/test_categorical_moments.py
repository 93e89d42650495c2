"""The theorem `categorical-moments`: Mean and covariance of one token."""

from __future__ import annotations

import itertools

import pytest
import torch

from omnivault.distributions import Categorical, Multinomial
from omnivault.softmax import softmax, softmax_jacobian
from tests.chapters.categorical.common import (
    HALF,
    Row,
    U,
    covariance,
    few_draws,
    independent,
    means,
    on_the_simplex,
    stuck,
)
from tests.support.strategies import as_double, assert_within, exact_softmax, softmax_bound


def stated_covariance(pi: Row, n: int = 1) -> list[Row]:
    k = range(len(pi))
    return [tuple(n * (pi[i] * (i == j) - pi[i] * pi[j]) for j in k) for i in k]


@pytest.mark.statement("categorical-moments", "exact", "torch")
@pytest.mark.parametrize("temperature", [0.25, 0.7, 1.0, 3.0])
@pytest.mark.parametrize("values", [[2.0], [1.0, -1.0], [0.5, 0.5, 0.5], [1.0, 2.0, 0.5, 1.5]])
def test_it_is_the_temperature_times_the_jacobian(values: list[float], temperature: float) -> None:
    z = torch.tensor(values, dtype=torch.float64)
    slopes = torch.func.jacrev(lambda x: torch.softmax(x / temperature, -1))(z)
    p = exact_softmax(z, temperature)
    exact = torch.stack([as_double([a * (a is b) - a * b for b in p]) for a in p])
    # On the diagonal p (1 - p), or p times the sum of the others; and a few roundings.
    error, q = softmax_bound(z, temperature), as_double(p)
    bound = torch.outer(q, error) + torch.outer(error, q) + 4 * U
    bound += torch.diag(error + q * error.sum())
    assert_within(temperature * slopes, exact, bound)
    if len(values) > 1 and temperature != 1:  # the factor T is needed
        assert (slopes - exact).abs().max() > 1e-4
    assert_within(Categorical(softmax(z, temperature=temperature)).covariance, exact, bound)
    assert_within(temperature * softmax_jacobian(z, temperature=temperature), exact, bound)


@pytest.mark.statement("categorical-moments", "exact")  # n = 1
@pytest.mark.statement("multinomial-moments", "exact")
@on_the_simplex
@few_draws
def test_mean_and_covariance_of_counts(pi: Row, n: int) -> None:
    law = independent(pi, n)
    exact = covariance(law)
    assert means(law) == tuple(n * p for p in pi)
    assert exact == stated_covariance(pi, n)
    for i, j in itertools.permutations(range(len(pi)), 2):
        assert exact[i][j] <= 0
        assert (exact[i][j] == 0) == (pi[i] * pi[j] == 0)
    assert all(sum(r) == 0 for r in exact)  # no inverse
    many, one = Multinomial(n, as_double(pi)), Categorical(as_double(pi))
    assert_within(many.mean, n * one.mean, 0.0)
    assert_within(many.mean, as_double(means(law)), n * U)
    matrix = torch.stack([as_double(r) for r in exact])
    assert_within(many.covariance, matrix, 4 * n * U)
    assert_within(n * one.covariance, matrix, 4 * n * U)
    # Equal draws vary n times as much, and other dependent ones are positively correlated.
    assert covariance(stuck(pi, n)) == stated_covariance(pi, n**2)
    assert covariance({(1, 1, 0): HALF, (0, 0, 2): HALF})[0][1] > 0
