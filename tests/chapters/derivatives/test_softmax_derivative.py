"""The theorem `softmax-derivative`: The derivative of softmax."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import sympy
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.softmax import log_softmax, softmax_jacobian
from tests.chapters.derivatives.common import (
    FAR_BELOW,
    TEMPERATURE,
    U,
    as_matrix,
    delta,
    distributions,
    edges,
    entry,
    jacobian_formula,
    lse_of,
    numbers,
    quotient,
    softmax_of,
    symbolic_softmax,
    symbols,
    vanishes,
)
from tests.package.softmax.common import half_rounding
from tests.package.softmax.test_jacobian import jacobian_bound
from tests.support.strategies import (
    DTYPES,
    SINGLE_DOUBLE,
    as_double,
    assert_within,
    rows,
    smallest,
    softmax_bound,
    temperatures,
)


@pytest.mark.statement("softmax-derivative", "exact")
@given(rows(1, 5, bound=10.0), temperatures(0.1, 10.0))
def test_slopes_of_softmax_and_of_its_logarithm(z: Tensor, temperature: float) -> None:
    x, t = numbers(z), mp.mpf(temperature)
    p = softmax_of(x, t)
    formula = jacobian_formula(p, t)
    for i, j in itertools.product(range(len(x)), repeat=2):
        slope = quotient(entry(lambda y: softmax_of(y, t), i), x, j)
        assert_within(slope, formula[i][j], FAR_BELOW)
        slope = quotient(entry(lambda y: [(a - lse_of(y, t)) / t for a in y], i), x, j)
        assert_within(slope, (delta(i, j) - p[j]) / t, FAR_BELOW)


@pytest.mark.statement("softmax-derivative", "symbolic")
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_slopes_in_symbols(k: int) -> None:
    z = symbols(k)
    p = symbolic_softmax(z)
    formula = jacobian_formula(p, TEMPERATURE)
    for i, j in itertools.product(range(k), repeat=2):
        assert vanishes(sympy.diff(p[i], z[j]) - formula[i][j])
        slope = sympy.diff(sympy.log(p[i]), z[j])
        assert vanishes(slope - (delta(i, j) - p[j]) / TEMPERATURE)


@pytest.mark.statement("softmax-derivative", "exact")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@settings(max_examples=30)
@given(values=rows(1, 5, dtype=torch.float32), temperature=temperatures(0.1, 10.0))
@example(values=torch.tensor([0.0, 12.0]), temperature=0.125)
@example(values=torch.tensor([30.0, -30.0]), temperature=0.1)
def test_the_package_computes_the_formula(
    dtype: torch.dtype, values: Tensor, temperature: float
) -> None:
    z = values.to(dtype)
    # The formula subtracts p_i from 1, and what is left may be exp(-600) = 1e-261.
    with mp.workdps(300):
        p = softmax_of(numbers(z), mp.mpf(temperature))
        expected = as_matrix(jacobian_formula(p, mp.mpf(temperature)))
    assert_within(
        softmax_jacobian(z, temperature=temperature),
        expected,
        jacobian_bound(z, temperature) + half_rounding(expected, dtype),
    )


@pytest.mark.statement("softmax-derivative", "exact", "torch")
@pytest.mark.parametrize("temperature", [0.5, 1.0, 8.0])
@edges
def test_slopes_at_the_edges(values: list[float], temperature: float) -> None:
    z = torch.tensor(values, dtype=torch.float64)
    p = softmax_of(numbers(z), temperature)
    expected = as_matrix(jacobian_formula(p, temperature))
    oracle = torch.func.jacrev(lambda x: torch.softmax(x / temperature, -1))(z)
    # Autograd subtracts p_i p_i from p_i, numbers up to 1, and its p is off by 3 u of a gap.
    allowed = jacobian_bound(z, temperature) + 8 * U / temperature
    assert_within(oracle, expected, allowed)
    assert_within(softmax_jacobian(z, temperature=temperature), expected, allowed)
    logarithm = torch.func.jacrev(lambda x: log_softmax(x, temperature=temperature))(z)
    steps = torch.eye(len(z), dtype=z.dtype) - as_double(p)
    error = softmax_bound(z, temperature) / temperature + 8 * U / temperature
    assert_within(logarithm, steps / temperature, error.expand_as(logarithm))


@pytest.mark.statement("softmax-derivative", "exact")
@given(distributions(2, 6), st.fractions(Fraction(1, 100), 100, max_denominator=100))
def test_a_logit_raises_its_own_probability_and_lowers_every_other(
    p: list[Fraction], t: Fraction
) -> None:
    for (i, row), (j, _) in itertools.product(enumerate(jacobian_formula(p, t)), enumerate(p)):
        assert row[j] > 0 if i == j else row[j] < 0


@pytest.mark.statement("softmax-derivative")
@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 100.0])
@pytest.mark.parametrize("k", [2, 3, 20])
def test_no_sign_is_lost_to_rounding_until_a_product_underflows(
    k: int, temperature: float, dtype: torch.dtype
) -> None:
    # Nine tenths of the range of the exponential, for p_i p_j with both small.
    depth = -0.45 * math.log(smallest(dtype)) * temperature
    z = -torch.linspace(0.0, depth, k, dtype=dtype)
    jacobian = softmax_jacobian(z, temperature=temperature)
    own = torch.eye(k, dtype=torch.bool)
    assert bool((jacobian[own] > 0).all())
    assert bool((jacobian[~own] < 0).all())


@pytest.mark.statement("softmax-derivative", "exact")
@given(distributions(), st.fractions(Fraction(1, 100), 100, max_denominator=100))
def test_the_rate_is_at_most_a_quarter_over_t_and_that_at_one_half_only(
    p: list[Fraction], t: Fraction
) -> None:
    halved = [Fraction(1, 2), *(q / 2 for q in p)]
    for probabilities in (p, halved):
        slopes = jacobian_formula(probabilities, t)
        for i, q in enumerate(probabilities):
            assert slopes[i][i] <= 1 / (4 * t)
            assert (slopes[i][i] == 1 / (4 * t)) == (q == Fraction(1, 2))


@pytest.mark.statement("softmax-derivative")
@pytest.mark.parametrize("temperature", [0.01, 0.3, 1.0, 50.0])
@pytest.mark.parametrize("others", [1, 2, 5])
def test_a_class_as_likely_as_all_others_moves_fastest(others: int, temperature: float) -> None:
    # softmax(T log n, 0, ..., 0) with n zeros has p_1 = 1/2.
    z = torch.zeros(others + 1, dtype=torch.float64)
    z[0] = temperature * math.log(others)
    slope = softmax_jacobian(z, temperature=temperature)[0, 0].item() * temperature
    # p (1 - p) is flat there; six p that sum to 1 up to 6 u, twice, and products added up.
    assert_within(slope, 1 / 4, rel=32 * U)
    # Away from it p - 1/2 = tanh(move / 2) / 2, and the rate is 1 / (4 cosh(move / 2)^2).
    for move in (-0.01, 0.01):
        z[0] = temperature * (math.log(others) + move)
        slope = softmax_jacobian(z, temperature=temperature)[0, 0].item() * temperature
        assert_within(slope, 1 / (4 * math.cosh(move / 2) ** 2), rel=32 * U)


@pytest.mark.statement("softmax-derivative")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [0.01, 1.0, 50.0])
def test_one_class_raises_nothing(temperature: float, dtype: torch.dtype) -> None:
    z = torch.tensor([7.0], dtype=dtype)
    assert softmax_jacobian(z, temperature=temperature).tolist() == [[0.0]]
    slope = torch.func.jacrev(lambda x: log_softmax(x, temperature=temperature))(z)
    assert slope.tolist() == [[0.0]]
