from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import reduce
from operator import getitem
from typing import Any

import pytest
import sympy
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from mpmath import mp
from strategies import (
    DTYPES,
    SINGLE_DOUBLE,
    arithmetic,
    as_double,
    assert_within,
    inner,
    row_pairs,
    rows,
    smallest,
    softmax_bound,
    temperatures,
    unit,
    whole_row_pairs,
    whole_rows,
)
from test_softmax import half_rounding, jacobian_bound
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, one_hot
from torch.utils._python_dispatch import TorchDispatchMode

from omnivault.softmax import (
    SoftmaxFunction,
    log_softmax,
    logsumexp,
    softmax,
    softmax_hessian,
    softmax_jacobian,
    softmax_vjp,
)

U = unit(torch.float64)

EXAMPLE = torch.tensor([2.0, 1.0, 3.0, 5.0, 4.0], dtype=torch.float64)

# Where the formulas have an edge: one class, two, ties, one class that takes all but e^-300.
EDGES = {
    "the example": [2.0, 1.0, 3.0, 5.0, 4.0],
    "one class": [3.0],
    "two tied": [-1.0, -1.0],
    "two apart": [1.0, 0.0],
    "four tied": [2.0, 2.0, 2.0, 2.0],
    "tie at the top": [1.0, 3.0, 3.0],
    "saturated": [0.0, -300.0],
    "saturated, three classes": [-40.0, 0.0, -41.0],
}
edges = pytest.mark.parametrize("values", EDGES.values(), ids=EDGES.keys())

# Torch gives it no type.
function: Callable[[Any, Any], Tensor] = SoftmaxFunction.apply

Vector = list[Any]


def delta(i: int, j: int) -> int:
    return int(i == j)


# Exact arithmetic ---------------------------------------------------------------------------------


def numbers(z: Tensor) -> Vector:
    return [mp.mpf(x) for x in z.tolist()]


def softmax_of(x: Vector, temperature: Any) -> Vector:
    """Softmax at 50 digits, of numbers that need not be floats."""
    largest = max(x)
    weights = [mp.exp((a - largest) / temperature) for a in x]
    total = mp.fsum(weights)
    return [w / total for w in weights]


def lse_of(x: Vector, temperature: Any) -> Any:
    largest = max(x)
    total = mp.fsum(mp.exp((a - largest) / temperature) for a in x)
    return largest + temperature * mp.log(total)


def loss_of(x: Vector, y: Vector, temperature: Any = 1) -> Any:
    """The cross-entropy, written with logits and not with probabilities, which may underflow."""
    normalizer = lse_of(x, temperature)
    return -mp.fsum(b * (a - normalizer) / temperature for a, b in zip(x, y, strict=True))


STEP = mp.mpf("1e-15")


def quotient(f: Callable[[Vector], Any], x: Vector, j: int) -> Any:
    """Central difference: off by a third derivative times 1e-30, and by 1e-50 / 1e-15."""
    ahead, behind = list(x), list(x)
    ahead[j] += STEP
    behind[j] -= STEP
    return (f(ahead) - f(behind)) / (2 * STEP)


def entry(f: Callable[[Vector], Any], *index: int) -> Callable[[Vector], Any]:
    """The component of a function with this index."""
    return lambda x: reduce(getitem, index, f(x))


# Third derivatives are at most 1/T^3, and T is at least 0.1 wherever this is used, times 100 for
# what they are multiplied with.
FAR_BELOW = mp.mpf("1e-24")


def jacobian_formula(p: Sequence[Any], temperature: Any = 1) -> list[Vector]:
    k = range(len(p))
    return [[p[i] * (delta(i, j) - p[j]) / temperature for j in k] for i in k]


def hessian_formula(p: Sequence[Any], i: int, j: int, k: int) -> Any:
    """At T = 1."""
    first = (delta(i, j) - p[j]) * (delta(i, k) - p[k])
    return p[i] * (first - p[j] * (delta(j, k) - p[k]))


def central_moment(p: Sequence[Any], *indices: int) -> Any:
    """E of the product of (Y_i - p_i), the expectation written out over the classes drawn."""
    return sum(q * math.prod(delta(c, i) - p[i] for i in indices) for c, q in enumerate(p))


def as_matrix(entries: Sequence[Vector]) -> Tensor:
    return torch.stack([as_double(row) for row in entries])


@st.composite
def distributions(draw: DrawFn, min_size: int = 1, max_size: int = 6) -> list[Fraction]:
    """Any rational p in the open simplex: softmax of T log p is p, so all of them are outputs.

    Ties are common, and so are probabilities of 1e-9 and of 1e-30.
    """
    weight = st.integers(1, 5) | st.integers(1, 10**9) | st.just(10**30)
    weights = draw(st.lists(weight, min_size=min_size, max_size=max_size))
    return [Fraction(w, sum(weights)) for w in weights]


def fractions(size: int) -> SearchStrategy[list[Fraction]]:
    number = st.integers(-3, 3) | st.fractions(-5, 5, max_denominator=100)
    return st.lists(number.map(Fraction), min_size=size, max_size=size)


# Symbols ------------------------------------------------------------------------------------------

TEMPERATURE = sympy.Symbol("T", positive=True)


def symbols(k: int) -> Vector:
    return list(sympy.symbols(f"z:{k}", real=True))


def symbolic_lse(z: Vector) -> Any:
    return TEMPERATURE * sympy.log(sum(sympy.exp(x / TEMPERATURE) for x in z))


def symbolic_softmax(z: Vector) -> Vector:
    total = sum(sympy.exp(x / TEMPERATURE) for x in z)
    return [sympy.exp(x / TEMPERATURE) / total for x in z]


def variance_in_symbols(p: Vector, v: Vector) -> Any:
    mean = sum(q * x for q, x in zip(p, v, strict=True))
    return sum(q * (x - mean) ** 2 for q, x in zip(p, v, strict=True))


def vanishes(expression: Any) -> bool:
    """Whether a rational function of exponentials is zero identically."""
    return bool(sympy.expand(sympy.numer(sympy.together(expression))) == 0)


# softmax-derivative -------------------------------------------------------------------------------


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


# jacobian-structure -------------------------------------------------------------------------------


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


# jacobian-covariance ------------------------------------------------------------------------------


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


def draw_one_hot(z: Tensor, temperature: float, draws: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    p = softmax(z, temperature=temperature)
    return one_hot(
        torch.multinomial(p, draws, replacement=True, generator=generator), len(z)
    ).double()


# No count is expected below 500, so a sample mean is off by more than 7 standard errors with a
# probability below 1e-9 (Bernstein's inequality, since what a rare class adds is skewed). Over the
# means that one test looks at, fewer than 100, these bounds add up to less than 1e-8.
DRAWS = 200_000
ERRORS_OFF = 7


def assert_sampled(values: Tensor, p: Tensor, of_class: Tensor) -> None:
    """That ``values``, a mean over draws, are the mean of ``of_class``, one row for each class."""
    weights = p.reshape(-1, *[1] * (of_class.ndim - 1))
    mean = (weights * of_class).sum(0)
    variance = (weights * (of_class - mean).square()).sum(0)
    # One class has no variance, but roundings of the sum of numbers up to 1.
    assert_within(values, mean, ERRORS_OFF * (variance / DRAWS).sqrt() + DRAWS * U)


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


# vjp ----------------------------------------------------------------------------------------------


def vjp_formula(p: Sequence[Any], v: Sequence[Any], temperature: Any = 1) -> Vector:
    mean = sum(a * b for a, b in zip(p, v, strict=True))
    return [a * (b - mean) / temperature for a, b in zip(p, v, strict=True)]


@pytest.mark.statement("vjp", "exact")
@given(st.data(), st.fractions(Fraction(1, 100), 100, max_denominator=100))
def test_the_product_is_the_transposed_jacobian_times_the_vector(
    data: st.DataObject, t: Fraction
) -> None:
    p = data.draw(distributions())
    v = data.draw(fractions(len(p)))
    jacobian = jacobian_formula(p, t)
    product = vjp_formula(p, v, t)
    assert product == [sum(jacobian[i][j] * v[i] for i in range(len(p))) for j in range(len(p))]
    assert sum(product) == 0
    # Zero if and only if v is constant; one class has no other v.
    assert (not any(product)) == (len(set(v)) == 1)
    assert not any(vjp_formula(p, [v[0]] * len(p), t))


@pytest.mark.statement("vjp", "symbolic")
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_both_gradients_in_symbols(k: int) -> None:
    z, v = symbols(k), list(sympy.symbols(f"v:{k}", real=True))
    p = symbolic_softmax(z)
    loss = inner(v, p)
    g = vjp_formula(p, v, TEMPERATURE)
    for x, slope in zip(z, g, strict=True):
        assert vanishes(sympy.diff(loss, x) - slope)
    assert vanishes(sum(g))
    assert vanishes(sympy.diff(loss, TEMPERATURE) + inner(g, z) / TEMPERATURE)


@pytest.mark.statement("vjp", "exact")
@settings(max_examples=50)
@given(row_pairs(1, 5, bound=10.0), temperatures(0.1, 10.0))
def test_both_gradients_are_difference_quotients(
    pair: tuple[Tensor, Tensor], temperature: float
) -> None:
    x, v = (numbers(row) for row in pair)
    t = mp.mpf(temperature)

    # v is the gradient of this loss, which is linear, and of any other up to second order.
    def loss(x: Vector, t: Any) -> Any:
        return mp.fsum(a * b for a, b in zip(softmax_of(x, t), v, strict=True))

    g = vjp_formula(softmax_of(x, t), v, t)
    for j, slope in enumerate(g):
        assert_within(quotient(lambda y: loss(y, t), x, j), slope, FAR_BELOW)
    slope = -mp.fsum(a * b for a, b in zip(g, x, strict=True)) / t
    # The third derivative for T is of the size of |v| (gap / T)^3 / T^3, up to 1e11.
    assert_within(quotient(lambda s: loss(x, s[0]), [t], 0), slope, mp.mpf("1e-18"))


@pytest.mark.statement("vjp", "exact", "torch")
@given(row_pairs(1, 8, bound=10.0), temperatures(0.5, 10.0))
def test_the_package_sends_gradients_through(
    pair: tuple[Tensor, Tensor], temperature: float
) -> None:
    z, v = pair
    t = mp.mpf(temperature)
    exact = vjp_formula(softmax_of(numbers(z), t), numbers(v), t)
    # v up to 10, the mean of it too; p is off by 3 gaps of 40 and as many for their mean.
    allowed = (6 * 40 + 64) * U * 20 / temperature
    p = softmax(z, temperature=temperature)
    assert_within(softmax_vjp(p, v, temperature=temperature), as_double(exact), allowed)

    logits = z.clone().requires_grad_()
    warmth = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    to_z, to_t = torch.autograd.grad(function(logits, warmth), (logits, warmth), v)
    assert_within(to_z, as_double(exact), allowed)
    slope = float(-mp.fsum(a * b for a, b in zip(exact, numbers(z), strict=True)) / t)
    # Logits up to 10, gaps up to 20; eight of them are added up.
    assert_within(to_t.item(), slope, 8 * allowed * 20 / temperature)
    # And torch's own, which divides before it subtracts.
    plain = torch.softmax(logits / warmth, -1)
    for ours, theirs in zip(
        (to_z, to_t), torch.autograd.grad(plain, (logits, warmth), v), strict=True
    ):
        assert_within(ours, theirs, 16 * allowed * 20 / temperature)


@pytest.mark.statement("vjp", "exact")
@pytest.mark.parametrize("temperature", [0.3, 1.0, 20.0])
@edges
def test_both_gradients_at_the_edges(values: list[float], temperature: float) -> None:
    z = torch.tensor(values, dtype=torch.float64)
    v = torch.tensor([1.0, -2.0, 0.5, 3.0, 3.0], dtype=torch.float64)[: len(z)]
    t = mp.mpf(temperature)
    exact = vjp_formula(softmax_of(numbers(z), t), numbers(v), t)
    logits = z.clone().requires_grad_()
    warmth = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    to_z, to_t = torch.autograd.grad(function(logits, warmth), (logits, warmth), v)
    # Five classes, |v - mean| up to 5, and as much for the errors of p in the mean. Where p is 1
    # the mean of v cancels v to a few u.
    allowed = 10 * softmax_bound(z, temperature) + 32 * U
    assert_within(to_z, as_double(exact), allowed / temperature)
    slope = float(-mp.fsum(a * b for a, b in zip(exact, numbers(z), strict=True)) / t)
    # The logits enter shifted: by gaps, not by their level.
    gap = (z.max() - z) / temperature
    # Equal gaps leave 1e-50 of the 50 digits.
    allowed = (8 * allowed * gap + 8 * U * gap).sum() / temperature + 8 * U * abs(slope) + 1e-45
    assert_within(to_t, torch.tensor(slope, dtype=torch.float64), allowed)
    if len(z) == 1:
        assert to_z.tolist() == [0.0]
        assert to_t.item() == 0.0


@pytest.mark.statement("vjp")
@given(whole_row_pairs(1, 6, bound=5), temperatures(1.0, 10.0))
def test_in_floating_point_constants_leave_noise_and_all_else_more(
    pair: tuple[Tensor, Tensor], temperature: float
) -> None:
    z, v = pair
    p = softmax(z, temperature=temperature)
    g = softmax_vjp(p, v, temperature=temperature)
    assert_within(math.fsum(g.tolist()), 0.0, 64 * U * 5 / temperature)
    if bool((v == v[0]).all()):
        # The mean of v is |v| times a sum of p that is 1 to K / 2 roundings.
        assert_within(g, torch.zeros_like(g), 16 * U * 5 / temperature)
    else:
        # The class of the largest v has v - mean at least the least p, exp(-10) / 6 = 7e-6.
        least = p.min().item() ** 2 / temperature
        # Rounding, 65 u of p, takes less than a thousandth of that.
        assert g.abs().max().item() >= least * (1 - 1e-3) > 4e-12


class Work(TorchDispatchMode):
    """How many numbers the operations write, and how many the largest of them writes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.written = 0
        self.largest = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        size = result.numel() if isinstance(result, Tensor) else 0
        self.written += size
        self.largest = max(self.largest, size)
        return result


@pytest.mark.statement("vjp")
@pytest.mark.parametrize("k", [1, 10, 1000, 49_152])
def test_both_gradients_take_a_number_of_operations_that_grows_as_k(k: int) -> None:
    generator = torch.Generator().manual_seed(1)
    z, v = torch.randn(2, k, generator=generator)
    p = softmax(z, temperature=0.7)
    with Work() as work:
        softmax_vjp(p, v, temperature=0.7)
    assert k <= work.written <= 10 * k + 10
    assert work.largest == k

    logits, warmth = z.requires_grad_(), torch.tensor(0.7, requires_grad=True)
    output = function(logits, warmth)
    with Work() as work:
        torch.autograd.grad(output, (logits, warmth), v)
    assert k <= work.written <= 25 * k + 25
    assert work.largest == k

    if k == 1000:
        # What counts the work sees a matrix.
        with Work() as work:
            softmax_jacobian(z.detach())
        assert work.largest == k * k


# hessian ------------------------------------------------------------------------------------------


@pytest.mark.statement("hessian", "exact")
@given(distributions(1, 5))
def test_the_formula_is_symmetric_sums_to_zero_and_is_a_third_moment(p: list[Fraction]) -> None:
    k = range(len(p))
    for i, j in itertools.product(k, repeat=2):
        for m in k:
            entry = hessian_formula(p, i, j, m)
            assert entry == central_moment(p, i, j, m)
            for order in itertools.permutations((i, j, m)):
                assert entry == hessian_formula(p, *order)
        assert sum(hessian_formula(p, m, i, j) for m in k) == 0
        assert sum(hessian_formula(p, i, m, j) for m in k) == 0
        assert sum(hessian_formula(p, i, j, m) for m in k) == 0


@pytest.mark.statement("hessian", "exact")
@settings(max_examples=30)
@given(rows(1, 4, bound=10.0), temperatures(0.1, 10.0))
def test_it_is_the_difference_quotient_of_the_jacobian(z: Tensor, temperature: float) -> None:
    x, t = numbers(z), mp.mpf(temperature)
    p = softmax_of(x, t)
    for i, j, k in itertools.product(range(len(x)), repeat=3):
        slope = quotient(entry(lambda y: jacobian_formula(softmax_of(y, t), t), i, j), x, k)
        # A fourth derivative, of the size of 1 / T^4.
        assert_within(slope, hessian_formula(p, i, j, k) / t**2, FAR_BELOW)


@pytest.mark.statement("hessian", "symbolic")
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_second_derivatives_of_softmax_and_third_of_the_smooth_maximum(k: int) -> None:
    z = symbols(k)
    p = symbolic_softmax(z)
    smooth_maximum = symbolic_lse(z)
    for i, j, m in itertools.product(range(k), repeat=3):
        formula = hessian_formula(p, i, j, m) / TEMPERATURE**2
        assert vanishes(sympy.diff(p[i], z[j], z[m]) - formula)
        if i <= j <= m:
            assert vanishes(sympy.diff(smooth_maximum, z[i], z[j], z[m]) - formula)
            assert vanishes(central_moment(p, i, j, m) - TEMPERATURE**2 * formula)


@pytest.mark.statement("lse-gradient", "symbolic")
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_gradient_and_hessian_of_the_smooth_maximum_in_symbols(k: int) -> None:
    z, v = symbols(k), list(sympy.symbols(f"v:{k}", real=True))
    p = symbolic_softmax(z)
    gradient = [sympy.diff(symbolic_lse(z), x) for x in z]
    assert all(vanishes(a - b) for a, b in zip(gradient, p, strict=True))
    hessian = sympy.Matrix(gradient).jacobian(z)
    formula = sympy.Matrix(jacobian_formula(p, TEMPERATURE))
    assert all(map(vanishes, hessian - formula))
    form = (sympy.Matrix([v]) * hessian * sympy.Matrix(v))[0]
    assert vanishes(form - variance_in_symbols(p, v) / TEMPERATURE)


@pytest.mark.statement("hessian", "symbolic")
@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_moments_are_cumulants_up_to_the_third(k: int) -> None:
    # log E exp<s, Y> = log sum p_c exp(s_c). Its fourth derivative is no central moment.
    p, s = sympy.symbols(f"p:{k}", positive=True), sympy.symbols(f"s:{k}", real=True)
    generating = sympy.log(sum(q * sympy.exp(x) for q, x in zip(p, s, strict=True)))
    # The last probability is what the others leave.
    at_zero = {p[-1]: 1 - sum(p[:-1]), **dict.fromkeys(s, 0)}

    def cumulant(*indices: int) -> Any:
        return sympy.diff(generating, *(s[i] for i in indices)).subs(at_zero)

    chosen = [q.subs(at_zero) for q in p]
    for i, j, m in itertools.combinations_with_replacement(range(k), 3):
        assert vanishes(cumulant(i) - chosen[i])
        assert vanishes(cumulant(i, j) - central_moment(chosen, i, j))
        assert vanishes(cumulant(i, j, m) - central_moment(chosen, i, j, m))
        assert vanishes(cumulant(i, j, m) - hessian_formula(chosen, i, j, m))
    assert not vanishes(cumulant(0, 0, 0, 0) - central_moment(chosen, 0, 0, 0, 0))


@pytest.mark.statement("hessian", "exact", "torch")
@settings(max_examples=50)
@given(rows(1, 4, bound=10.0), temperatures(0.5, 10.0))
def test_the_package_computes_the_formula_and_so_does_autograd(
    z: Tensor, temperature: float
) -> None:
    t = mp.mpf(temperature)
    p = softmax_of(numbers(z), t)
    k = range(len(p))
    expected = torch.stack(
        [as_matrix([[hessian_formula(p, i, j, m) / t**2 for m in k] for j in k]) for i in k]
    )
    hessian = softmax_hessian(z, temperature=temperature)
    # Three factors p, each off by 3 gaps of 40 and as much for the mean of them.
    allowed = (18 * 40 + 128) * U / temperature**2
    assert_within(hessian, expected, allowed)
    moment = torch.stack(
        [as_matrix([[central_moment(p, i, j, m) for m in k] for j in k]) for i in k]
    )
    assert_within(temperature**2 * hessian, moment, 2 * temperature**2 * allowed)
    for order in itertools.permutations(range(3)):
        assert_within(hessian.permute(order), hessian, 2 * allowed)
    for dim in range(3):
        assert_within(hessian.sum(dim), torch.zeros_like(hessian[0]), len(p) * allowed)

    def plain(x: Tensor) -> Tensor:
        return torch.softmax(x / temperature, -1)

    def smooth_maximum(x: Tensor) -> Tensor:
        return logsumexp(x, temperature=temperature)

    # Torch divides first: |z| / T, up to 20, is rounded as well.
    assert_within(torch.func.jacrev(torch.func.jacrev(plain))(z), expected, 2 * allowed)
    third = torch.func.jacrev(torch.func.jacrev(torch.func.grad(smooth_maximum)))(z)
    assert_within(third, expected, 2 * allowed)


@pytest.mark.statement("hessian", "exact")
@pytest.mark.parametrize("temperature", [0.1, 1.0, 7.0])
def test_one_and_two_classes_and_ties(temperature: float) -> None:
    assert softmax_hessian(torch.tensor([3.0]), temperature=temperature).item() == 0.0
    assert not softmax_hessian(torch.tensor([3.0, 3.0]), temperature=temperature).any()
    # Two classes have one number, p q (q - p), with the sign (-1)^(number of second indices).
    z = torch.tensor([0.3, 0.0], dtype=torch.float64)
    p, q = softmax_of(numbers(z), mp.mpf(temperature))
    one = float(p * q * (q - p) / mp.mpf(temperature) ** 2)
    assert one < 0
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64)
    expected = one * sign[:, None, None] * sign[:, None] * sign
    allowed = (9 * 3 + 32) * U / temperature**2
    assert_within(softmax_hessian(z, temperature=temperature), expected, allowed)
    # A tie of three: 2/27 on the diagonal, -1/27 for one index apart, 2/27 for all apart.
    tied = softmax_hessian(torch.zeros(3, dtype=torch.float64), temperature=temperature)
    for index in itertools.product(range(3), repeat=3):
        exact = (-1 if len(set(index)) == 2 else 2) / 27 / temperature**2
        assert_within(tied[index].item(), exact, rel=64 * U)


@pytest.mark.statement("hessian")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_signs_and_digits_where_softmax_saturates(temperature: float, dtype: torch.dtype) -> None:
    # p = 1 - e, q = e: all eight entries are e / T^2 up to a sign and a relative error of e.
    z = torch.tensor([0.0, -10.0], dtype=dtype)
    e = math.exp(-10 / temperature)
    hessian = (softmax_hessian(z, temperature=temperature).double() * temperature**2) / e
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64)
    # Three p, each off by 3 gap + 20 u. Half precision may hold e as a subnormal number.
    relative = (3 * (3 * 10 / temperature + 20) + 10) * unit(arithmetic(dtype)) + 8 * unit(dtype)
    held = smallest(dtype) * temperature**2 / e
    assert_within(hessian, -sign[:, None, None] * sign[:, None] * sign, relative + 4 * e + held)


@pytest.mark.statement("hessian", "statistical", false_alarm=1e-8)
@pytest.mark.parametrize(
    ("values", "temperature"),
    [
        ([2.0, 1.0, 3.0, 5.0, 4.0], 1.0),
        ([2.0, 1.0, 3.0, 5.0, 4.0], 2.5),
        ([1.0, 0.0], 1.0),
        ([1.0, 1.0, 0.0], 0.5),
        ([4.0], 1.0),
    ],
)
def test_third_moments_of_draws(values: list[float], temperature: float) -> None:
    z = torch.tensor(values, dtype=torch.float64)
    p = softmax(z, temperature=temperature)
    assert p.min().item() * DRAWS > 500
    away = draw_one_hot(z, temperature, DRAWS, seed=21) - p
    sampled = torch.einsum("ni,nj,nk->ijk", away, away, away) / DRAWS
    apart = torch.eye(len(z), dtype=torch.float64) - p
    of_class = torch.einsum("ci,cj,ck->cijk", apart, apart, apart)
    assert_sampled(sampled, p, of_class)
    moment = temperature**2 * softmax_hessian(z, temperature=temperature)
    assert_within((p[:, None, None, None] * of_class).sum(0), moment, 128 * U)


# cross-entropy-gradient ---------------------------------------------------------------------------


def loss_gradient(p: Sequence[Any], y: Sequence[Any], temperature: Any = 1) -> Vector:
    total = sum(y)
    return [(total * a - b) / temperature for a, b in zip(p, y, strict=True)]


# Not all are distributions: negative numbers, a sum of zero, smoothing without renormalizing.
TARGETS = {
    "one-hot": [0.0, 1.0, 0.0],
    "soft": [0.25, 0.25, 0.5],
    "uniform": [1 / 3, 1 / 3, 1 / 3],
    "weighted": [0.0, 7.0, 0.0],
    "smoothed": [0.1, 1.0, 0.1],
    "signed": [1.0, -2.0, 0.5],
    "sum of zero": [1.0, -3.0, 2.0],
    "nothing": [0.0, 0.0, 0.0],
}
targets = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())


@pytest.mark.statement("cross-entropy-gradient", "exact", "torch")
@given(row_pairs(1, 5, bound=10.0), temperatures(0.1, 10.0))
def test_the_gradient_of_the_loss_for_any_targets(
    pair: tuple[Tensor, Tensor], temperature: float
) -> None:
    x, y = (numbers(row) for row in pair)
    t = mp.mpf(temperature)
    formula = loss_gradient(softmax_of(x, t), y, t)
    for j, slope in enumerate(formula):
        assert_within(quotient(lambda a: loss_of(a, y, t), x, j), slope, FAR_BELOW)
    # The package's logarithm, differentiated by autograd: y up to 10, five of them.
    z = pair[0].clone().requires_grad_()
    loss = -(pair[1] * log_softmax(z, temperature=temperature)).sum()
    (gradient,) = torch.autograd.grad(loss, z)
    allowed = (50 * softmax_bound(pair[0], temperature) + 64 * U * 50) / temperature
    assert_within(gradient, as_double(formula), allowed)


@pytest.mark.statement("cross-entropy-gradient", "symbolic")
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_the_gradient_of_the_loss_in_symbols(k: int) -> None:
    z, y = symbols(k), list(sympy.symbols(f"y:{k}", real=True))
    p = symbolic_softmax(z)
    loss = -sum(b * sympy.log(q) for q, b in zip(p, y, strict=True))
    whole = {y[-1]: 1 - sum(y[:-1])}
    for x, q, b, slope in zip(z, p, y, loss_gradient(p, y, TEMPERATURE), strict=True):
        derivative = sympy.diff(loss, x)
        assert vanishes(derivative - slope)
        # With a sum of one it is p - y, and without it is not.
        short = (q - b) / TEMPERATURE
        assert vanishes((derivative - short).subs(whole))
        assert not vanishes(derivative - short)


@pytest.mark.statement("cross-entropy-gradient", "exact", "torch")
@pytest.mark.parametrize("temperature", [0.2, 1.0, 9.0])
@targets
def test_targets_of_every_kind(target: list[float], temperature: float) -> None:
    y = torch.tensor(target, dtype=torch.float64)
    for values in ([1.0, 2.0, 3.0], [2.0, 2.0, 2.0], [0.0, -300.0, 1.0]):
        z = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        p = as_double(softmax_of(numbers(z.detach()), mp.mpf(temperature)))
        loss = -(y * torch.log_softmax(z / temperature, -1)).sum()
        (gradient,) = torch.autograd.grad(loss, z)
        expected = (y.sum() * p - y) / temperature
        error = y.abs().sum() * (2 * softmax_bound(z.detach(), temperature) + 16 * U)
        assert_within(gradient, expected, error / temperature)
        if abs(y.sum().item() - 1) > 0.01:
            away = (gradient - (p - y) / temperature).abs().max()
            assert away.item() > 1e-3 / temperature
        # Adding a constant to z changes nothing, so the components sum to zero.
        total = gradient.sum().item()
        assert_within(total, 0.0, 64 * U * y.abs().sum().item() / temperature)


@pytest.mark.statement("cross-entropy-gradient", "exact", "torch")
@given(rows(2, 8, bound=20.0), st.data())
def test_of_a_label_it_is_p_less_one_there_and_p_elsewhere(z: Tensor, data: st.DataObject) -> None:
    label = data.draw(st.integers(0, len(z) - 1))
    logits = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(logits, torch.tensor(label)), logits)
    expected = as_double(softmax_of(numbers(z), 1))
    expected[label] -= 1
    # Torch's own exponential of a log-probability up to 42.
    assert_within(gradient, expected, softmax_bound(z) + 64 * U)
    assert gradient[label].item() <= 0
    assert bool((gradient[torch.arange(len(z)) != label] > 0).all())


@pytest.mark.statement("cross-entropy-gradient")
def test_one_class_has_nothing_to_learn() -> None:
    for target in (1.0, 3.0, -2.0, 0.0):
        z = torch.tensor([5.0], dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(-(target * log_softmax(z)).sum(), z)
        assert gradient.item() == 0.0
        assert loss_gradient([Fraction(1)], [Fraction(target)]) == [0]


@pytest.mark.statement("cross-entropy-gradient", "exact")
@given(distributions(2, 5), st.fractions(Fraction(1, 10), 10, max_denominator=10))
def test_it_vanishes_where_p_is_the_renormalized_target(p: list[Fraction], scale: Fraction) -> None:
    assert not any(loss_gradient(p, [scale * q for q in p]))
    # And at no other p.
    others = [p[-1], *p[:-1]]
    assert any(loss_gradient(others, [scale * q for q in p])) == (others != p)


# weight-gradient ----------------------------------------------------------------------------------


@st.composite
def layers(draw: DrawFn) -> tuple[list[Vector], Vector, Vector, Vector]:
    """W (K x D), b, x and a distribution y, as exact numbers."""
    k, d = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    number = st.integers(-2, 2) | st.fractions(-3, 3, max_denominator=50)

    def vector(size: int) -> Vector:
        drawn = draw(st.lists(number, min_size=size, max_size=size))
        return [mp.mpf(q.numerator) / q.denominator for q in map(Fraction, drawn)]

    weights = draw(st.lists(st.integers(0, 5), min_size=k, max_size=k).filter(any))
    y = [mp.mpf(w) / sum(weights) for w in weights]
    return [vector(d) for _ in range(k)], vector(k), vector(d), y


def affine(w: list[Vector], x: Vector, b: Vector) -> Vector:
    return [
        mp.fsum(a * c for a, c in zip(row, x, strict=True)) + d for row, d in zip(w, b, strict=True)
    ]


@pytest.mark.statement("weight-gradient", "exact")
@settings(max_examples=40)
@given(layers())
def test_weights_bias_and_input_at_fifty_digits(
    layer: tuple[list[Vector], Vector, Vector, Vector],
) -> None:
    w, b, x, y = layer
    error = [p - q for p, q in zip(softmax_of(affine(w, x, b), 1), y, strict=True)]
    for k, slope in enumerate(error):
        assert_within(quotient(lambda c: loss_of(affine(w, x, c), y), b, k), slope, FAR_BELOW)
        for d in range(len(x)):

            def moved(row: Vector, k: int = k) -> Any:
                return loss_of(affine([*w[:k], row, *w[k + 1 :]], x, b), y)

            # Row k and column d of (p - y) x^T.
            assert_within(quotient(moved, w[k], d), slope * x[d], FAR_BELOW)
    for d in range(len(x)):
        slope = mp.fsum(e * row[d] for e, row in zip(error, w, strict=True))
        assert_within(quotient(lambda c: loss_of(affine(w, c, b), y), x, d), slope, FAR_BELOW)


@pytest.mark.statement("weight-gradient", "torch")
@pytest.mark.parametrize("soft", [False, True], ids=["label", "distribution"])
@pytest.mark.parametrize(("k", "d"), [(1, 1), (1, 4), (2, 1), (3, 4), (4, 3), (3, 3), (10, 2)])
def test_the_side_of_the_input_is_that_of_the_storage(k: int, d: int, soft: bool) -> None:
    generator = torch.Generator().manual_seed(k * 10 + d)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    weight, b, x = normal(k, d), normal(k), normal(d)
    y = torch.zeros(k, dtype=torch.float64)
    y[k // 2] = 1.0
    if soft:
        y = torch.softmax(normal(k), -1).detach()
    # A few roundings of numbers up to 10.
    allowed = 64 * 10 * U

    z = linear(x, weight, b)
    loss = cross_entropy(z, y) if soft else cross_entropy(z, torch.tensor(k // 2))
    to_weight, to_b, to_x = torch.autograd.grad(loss, (weight, b, x))
    error = softmax(z.detach()) - y
    features, rows_of_w = x.detach(), weight.detach()
    assert to_weight.shape == (k, d)
    assert_within(to_weight, torch.outer(error, features), allowed)
    assert_within(to_b, error, allowed)
    by_class = sum((error[i] * rows_of_w[i] for i in range(k)), torch.zeros(d).double())
    assert_within(to_x, by_class, allowed)

    stored = rows_of_w.T.clone().requires_grad_()
    ours = -(y * log_softmax(stored.T @ x + b)).sum()
    to_stored, to_b, to_x = torch.autograd.grad(ours, (stored, b, x))
    assert to_stored.shape == (d, k)
    assert_within(to_stored, torch.outer(features, error), allowed)
    assert_within(to_b, error, allowed)
    by_column = sum((error[i] * stored.detach()[:, i] for i in range(k)), torch.zeros(d).double())
    assert_within(to_x, by_column, allowed)
    if k == d > 1:
        # A square matrix hides a wrong side from shapes, not from numbers.
        assert (to_weight - torch.outer(features, error)).abs().max().item() > 1e-3


@pytest.mark.statement("weight-gradient", "torch")
def test_at_another_temperature_and_for_other_targets_there_are_other_factors() -> None:
    x = torch.tensor([1.0, -2.0], dtype=torch.float64)
    weight = torch.tensor([[0.5, 1.0], [2.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    y = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)

    def gradient(temperature: float, y: Tensor) -> Tensor:
        w = weight.clone().requires_grad_()
        loss = -(y * log_softmax(w @ x, temperature=temperature)).sum()
        (slope,) = torch.autograd.grad(loss, w)
        return slope

    p = softmax(weight @ x)
    assert_within(gradient(1.0, y), torch.outer(p - y, x), 64 * U)
    assert_within(gradient(1.0, 3 * y), torch.outer(3 * (p - y), x), 64 * U)
    p = softmax(weight @ x, temperature=2.0)
    assert_within(gradient(2.0, y), torch.outer(p - y, x) / 2, 64 * U)


# loss-convex --------------------------------------------------------------------------------------


@st.composite
def targets_of(draw: DrawFn, size: int) -> Vector:
    """Any distribution: corners, faces and the center included."""
    weights = draw(st.lists(st.integers(0, 5), min_size=size, max_size=size).filter(any))
    return [mp.mpf(w) / sum(weights) for w in weights]


# The weights are written as w and 1 - w, both exact.
shares = st.integers(1, 15).map(lambda n: (mp.mpf(n) / 16, mp.mpf(16 - n) / 16))

# Chords of losses up to 100 lie on the curve to this at 50 digits.
ON_THE_CURVE = mp.mpf("1e-45")


def between(a: Vector, b: Vector, share: tuple[Any, Any]) -> Vector:
    return [share[0] * s + share[1] * t for s, t in zip(a, b, strict=True)]


@pytest.mark.statement("loss-convex", "exact")
@given(st.data(), shares)
def test_chords_lie_strictly_above_unless_their_direction_is_constant(
    data: st.DataObject, share: tuple[Any, Any]
) -> None:
    pair = data.draw(row_pairs(1, 6, bound=15.0) | whole_row_pairs(1, 6, bound=2))
    # Multiples of 2^-20: what differs, differs by enough for 50 digits.
    u, v = (numbers((row * 2**20).round() / 2**20) for row in pair)
    y = data.draw(targets_of(len(u)))
    chord = share[0] * loss_of(u, y) + share[1] * loss_of(v, y)
    height = chord - loss_of(between(u, v, share), y)
    if len({a - b for a, b in zip(u, v, strict=True)}) == 1:
        assert_within(height, 0, ON_THE_CURVE)
        # Along a constant the loss is not only straight but flat.
        assert_within(loss_of(u, y), loss_of(v, y), ON_THE_CURVE)
    else:
        # Variance times w (1 - w) / 2: at least (2^-20)^2 exp(-30) / 6 of it.
        assert height > mp.mpf("1e-32")


@pytest.mark.statement("loss-convex", "exact", "torch")
@given(st.data())
def test_its_hessian_is_the_jacobian_whatever_the_targets(data: st.DataObject) -> None:
    z = data.draw(rows(1, 5, bound=10.0))
    y = as_double(data.draw(targets_of(len(z))))

    def loss(x: Tensor) -> Tensor:
        return cross_entropy(x, y)

    hessian = torch.func.jacrev(torch.func.grad(loss))(z)
    # p up to 1, off by 6 gaps of 20 and a few roundings.
    assert_within(hessian, softmax_jacobian(z), (6 * 20 + 64) * U)
    p = softmax_of(numbers(z), 1)
    assert_within(hessian, as_matrix(jacobian_formula(p)), (6 * 20 + 64) * U)


@pytest.mark.statement("loss-convex", "symbolic")
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_its_hessian_in_symbols(k: int) -> None:
    z, y = symbols(k), list(sympy.symbols(f"y:{k}", real=True))
    p = [q.subs(TEMPERATURE, 1) for q in symbolic_softmax(z)]
    loss = -sum(b * sympy.log(q) for q, b in zip(p, y, strict=True))
    whole = {y[-1]: 1 - sum(y[:-1])}
    formula = jacobian_formula(p)
    for i, j in itertools.product(range(k), repeat=2):
        assert vanishes((sympy.diff(loss, z[i], z[j])).subs(whole) - formula[i][j])


@pytest.mark.statement("loss-convex", "exact")
@settings(max_examples=40)
@given(st.data(), shares)
def test_convex_in_weights_and_bias_and_so_is_the_mean_over_a_dataset(
    data: st.DataObject, share: tuple[Any, Any]
) -> None:
    w, b, x, y = data.draw(layers())
    k, d = len(b), len(x)
    number = st.integers(-3, 3).map(mp.mpf)

    def vector(size: int) -> Vector:
        return data.draw(st.lists(number, min_size=size, max_size=size))

    other_w, other_b = [vector(d) for _ in range(k)], vector(k)
    middle = [between(r, s, share) for r, s in zip(w, other_w, strict=True)]
    middle_b = between(b, other_b, share)
    dataset = [(x, y), *((vector(d), data.draw(targets_of(k))) for _ in range(2))]
    heights = []
    for features, target in dataset:
        ends = (
            loss_of(affine(w, features, b), target),
            loss_of(affine(other_w, features, other_b), target),
        )
        center = loss_of(affine(middle, features, middle_b), target)
        heights.append(share[0] * ends[0] + share[1] * ends[1] - center)
        assert heights[-1] >= -ON_THE_CURVE
    assert mp.fsum(heights) / len(heights) >= -ON_THE_CURVE


@pytest.mark.statement("loss-convex", "exact")
def test_in_weights_and_bias_it_is_not_strictly_convex() -> None:
    # The bias takes back what the weights add: the logits do not move.
    x, y = [mp.mpf(2)], [mp.mpf(1), mp.mpf(0)]
    losses = [
        loss_of(affine([[mp.mpf(1 + s)], [mp.mpf(0)]], x, [mp.mpf(-2 * s), mp.mpf(0)]), y)
        for s in (0, 1, 2)
    ]
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.statement("loss-convex", "exact")
def test_targets_that_are_no_distribution_can_make_it_concave() -> None:
    # The Hessian is (sum of y) J.
    y = [mp.mpf(-1), mp.mpf(0)]
    ends = [loss_of([mp.mpf(x), mp.mpf(0)], y) for x in (-2, 2)]
    assert loss_of([mp.mpf(0), mp.mpf(0)], y) > sum(ends) / 2 + mp.mpf("0.1")


@pytest.mark.statement("loss-convex", "torch")
@given(
    whole_row_pairs(2, 6, bound=10) | whole_rows(2, 6).map(lambda z: (z, z + 3)),
    st.data(),
)
def test_torch_finds_chords_above_the_curve(
    pair: tuple[Tensor, Tensor], data: st.DataObject
) -> None:
    u, v = pair
    label = torch.tensor(data.draw(st.integers(0, len(u) - 1)))
    ends = (cross_entropy(u, label) + cross_entropy(v, label)).item() / 2
    height = ends - cross_entropy((u + v) / 2, label).item()
    constant = bool(((u - v) == (u - v)[0]).all())
    # At least the Hessian's exp(-20) / 6 over 8; losses up to 22 are rounded to 4e-15.
    assert (height > 1e-11) == (not constant)
    if constant:
        assert_within(height, 0.0, 64 * 22 * U)
