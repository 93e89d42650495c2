"""The theorem `jacobian-structure`: The structure of the Jacobian."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax, softmax_jacobian
from tests.chapters.derivatives.common import (
    TEMPERATURE,
    U,
    distributions,
    fractions,
    jacobian_formula,
    numbers,
    softmax_of,
    symbolic_softmax,
    symbols,
    vanishes,
)
from tests.support.strategies import assert_within, rows, temperatures, whole_rows


@pytest.mark.statement("jacobian-structure", "exact")
@given(distributions(2, 6), st.data())
def test_symmetric_with_rows_and_columns_that_sum_to_zero(
    p: list[Fraction], data: st.DataObject
) -> None:
    t = data.draw(st.fractions(Fraction(1, 100), 100, max_denominator=100))
    jacobian = jacobian_formula(p, t)
    assert [list(column) for column in zip(*jacobian, strict=True)] == jacobian
    assert all(sum(row) == 0 for row in jacobian)
    # Positive semidefinite: the form is a variance, zero for constants alone.
    v = data.draw(fractions(len(p)))
    form = sum(v[i] * jacobian[i][j] * v[j] for i, j in itertools.product(range(len(p)), repeat=2))
    mean = sum(a * b for a, b in zip(p, v, strict=True))
    assert form == sum(a * (b - mean) ** 2 for a, b in zip(p, v, strict=True)) / t
    assert form >= 0
    assert (form == 0) == (len(set(v)) == 1)


@pytest.mark.statement("jacobian-structure", "symbolic")
@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_structure_in_symbols(k: int) -> None:
    z, v = symbols(k), list(sympy.symbols(f"v:{k}", real=True))
    p = symbolic_softmax(z)
    jacobian = sympy.Matrix(p).jacobian(z)
    zeros = [*(jacobian - jacobian.T), *(jacobian * sympy.ones(k, 1))]
    zeros.append(jacobian.trace() - (1 - sum(q**2 for q in p)) / TEMPERATURE)
    # Differences squared, all weights positive: no less than 0, and 0 for constants alone.
    pairs = itertools.combinations(range(k), 2)
    squares = sum(p[i] * p[j] * (v[i] - v[j]) ** 2 for i, j in pairs) / TEMPERATURE
    zeros.append((sympy.Matrix([v]) * jacobian * sympy.Matrix(v))[0] - squares)
    assert all(map(vanishes, zeros))


@pytest.mark.statement("jacobian-structure", "exact")
@settings(max_examples=50)
@given(distributions(1, 5))
def test_the_kernel_consists_of_the_constants(p: list[Fraction]) -> None:
    k = len(p)
    entries = [[sympy.Rational(x.numerator, x.denominator) for x in r] for r in jacobian_formula(p)]
    matrix = sympy.Matrix(entries)
    assert matrix.rank() == k - 1
    (kernel,) = matrix.nullspace()
    assert len(set(kernel)) == 1
    # Sylvester: every leading minor but the whole determinant is positive, so no rank is lost
    # to anything but the constants.
    minors = [matrix[:n, :n].det() for n in range(1, k + 1)]
    assert all(minor > 0 for minor in minors[:-1])
    assert minors[-1] == 0


@pytest.mark.statement("jacobian-structure", "exact")
@settings(max_examples=50)
@given(rows(2, 5, bound=20.0), temperatures(0.5, 10.0))
def test_trace_and_eigenvalues_at_fifty_digits(z: Tensor, temperature: float) -> None:
    t = mp.mpf(temperature)
    p = softmax_of(numbers(z), t)
    matrix = mp.matrix(jacobian_formula(p, t))
    eigenvalues = sorted(mp.eigsy(matrix, eigvals_only=True))
    trace = mp.fsum(matrix[i, i] for i in range(len(p)))
    assert_within(trace, (1 - mp.fsum(q * q for q in p)) / t, mp.mpf("1e-45"))
    assert_within(mp.fsum(eigenvalues), trace, mp.mpf("1e-45"))
    assert_within(eigenvalues[0], 0, mp.mpf("1e-45"))
    # No probability is below exp(-80) / 5 = 3e-36, and no eigenvalue but one below the smallest.
    assert eigenvalues[1] >= min(p) / t * (1 - mp.mpf("1e-5")) > mp.mpf("1e-38")
    limit = 2 * max(q * (1 - q) for q in p) / t
    assert eigenvalues[-1] <= limit + mp.mpf("1e-45")
    if len(p) == 2:
        # Two classes meet the bound: no constant below 2 would do.
        assert_within(eigenvalues[-1], limit, mp.mpf("1e-45"))


@pytest.mark.statement("jacobian-structure")
@given(rows(2, 8, bound=10.0), temperatures(0.5, 10.0))
def test_the_matrix_of_the_package_has_this_structure(z: Tensor, temperature: float) -> None:
    k = len(z)
    jacobian = softmax_jacobian(z, temperature=temperature)
    assert torch.equal(jacobian, jacobian.mT)
    # Entries up to 1 / (4 T), each off by 6 gaps of 40 and some roundings.
    allowed = (6 * 40 + 64) * U / temperature
    zero = torch.zeros(k, dtype=z.dtype)
    assert_within(jacobian.sum(-1), zero, 4 * k * U / temperature)
    assert_within(jacobian.sum(-2), zero, 4 * k * U / temperature)
    eigenvalues = torch.linalg.eigvalsh(jacobian)
    # Some K^2 roundings of the largest, which is at most 1 / (2 T).
    assert eigenvalues.min().item() >= -4 * k**2 * U / temperature
    p = softmax(z, temperature=temperature)
    trace = (1 - p.square().sum()) / temperature
    assert_within(jacobian.trace(), trace, k * allowed)
    limit = 2 / temperature * (p * (1 - p)).max().item()
    assert eigenvalues.max().item() <= limit + allowed


@pytest.mark.statement("jacobian-structure")
@given(whole_rows(1, 8, bound=5), temperatures(1.0, 10.0))
def test_the_rank_is_one_less_than_the_number_of_classes(z: Tensor, temperature: float) -> None:
    # The least probability, exp(-10) / 8 = 6e-6, bounds the nonzero eigenvalues from below.
    singular = torch.linalg.svdvals(softmax_jacobian(z, temperature=temperature)) * temperature
    assert int((singular > 5e-6).sum()) == len(z) - 1
    assert_within(singular[-1].item(), 0.0, 4 * len(z) ** 2 * U)


@pytest.mark.statement("jacobian-structure")
@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("k", [2, 3, 7])
def test_a_tie_of_all_classes_has_one_eigenvalue_besides_zero(k: int, temperature: float) -> None:
    z = torch.full((k,), 3.0, dtype=torch.float64)
    eigenvalues = torch.linalg.eigvalsh(softmax_jacobian(z, temperature=temperature)) * temperature
    expected = torch.tensor([0.0] + [1 / k] * (k - 1), dtype=torch.float64)
    assert_within(eigenvalues, expected, 8 * k * U)
    # The bound 2 (K - 1) / K^2 is met for K = 2 alone.
    assert (Fraction(2 * (k - 1), k**2) > Fraction(1, k)) == (k > 2)


@pytest.mark.statement("jacobian-structure")
def test_it_vanishes_where_softmax_saturates() -> None:
    for depth in (10.0, 20.0, 40.0, 300.0):
        z = torch.tensor([0.0, -depth, -depth - 1], dtype=torch.float64)
        largest = torch.linalg.eigvalsh(softmax_jacobian(z)).max().item()
        assert 0 < largest <= 3 * math.exp(-depth)
