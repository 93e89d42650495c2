from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import sympy
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from mpmath import mp
from strategies import (
    as_double,
    assert_within,
    double,
    exact_softmax,
    inner,
    logsumexp_bound,
    number,
    row_pairs,
    rows,
    sigma,
    softmax_bound,
    total,
    unit,
    whole_row_pairs,
    whole_rows,
)
from torch import Tensor
from torch.func import jacrev
from torch.nn import functional

from omnivault.calibration import fit_temperature
from omnivault.distributions import Categorical
from omnivault.information import entropy, kl_divergence
from omnivault.softmax import logsumexp, softmax

pytestmark = pytest.mark.usefixtures("one_thread")

U = unit(torch.float64)
EXACT = mp.mpf(10) ** -40
Vector = tuple[int, ...]
Row = tuple[Fraction, ...]


def shares(weights: Sequence[int | Fraction]) -> Row:
    exact = [Fraction(w) for w in weights]
    return tuple(w / total(exact) for w in exact)


def lse(z: Sequence[Any]) -> Any:
    return mp.log(mp.fsum(mp.exp(x) for x in z))


def soft(z: Sequence[Any]) -> list[Any]:
    weights = [mp.exp(x) for x in z]
    return [w / mp.fsum(weights) for w in weights]


def powers(z: Sequence[int]) -> Row:
    """Softmax of z log 2, in fractions."""
    return shares([Fraction(2) ** x for x in z])


def largest(values: Any) -> Any:
    return max(abs(x) for x in values)


def exact_entropy(p: Sequence[Any]) -> Any:
    return -mp.fsum(x * mp.log(x) for x in p if x > 0)


positive_weights = st.lists(st.integers(1, 50), min_size=2, max_size=6)
# Two and more outcomes, ties, a rare one, extreme ones.
Z = [
    pytest.param([0, 1], id="two"),
    pytest.param([0, 1, 3], id="three"),
    pytest.param([2, 2, -1, 0], id="the largest twice"),
    pytest.param([-1, -1, 0, -1], id="the smallest three times"),
    pytest.param([3, 0, 0, 0, 3], id="two values"),
]
on_scores = pytest.mark.parametrize("z", Z)


# categorical-minimal ------------------------------------------------------------------------------


@pytest.mark.statement("categorical-minimal", "exact")
@given(positive_weights)
def test_the_minimal_form_and_its_inverse(weights: list[int]) -> None:
    pi = [number(p) for p in shares(weights)]
    eta = [mp.log(p / pi[-1]) for p in pi[:-1]]
    a = mp.log(1 + mp.fsum(mp.exp(x) for x in eta))
    assert_within(a, -mp.log(pi[-1]), EXACT)
    for y, p in enumerate(pi):
        t = [int(k == y) for k in range(len(pi))][:-1]
        assert_within(mp.exp(inner(eta, t) - a), p, EXACT)
    below = 1 + mp.fsum(mp.exp(x) for x in eta)
    assert_within([*[mp.exp(x) / below for x in eta], 1 / below], pi, EXACT)
    assert_within(soft([*eta, mp.mpf(0)]), pi, EXACT)
    if len(pi) == 2:
        assert_within(sigma(eta[0]), pi[0], EXACT)
    die, rounded = Categorical(as_double(pi)), as_double(eta)
    # Two logarithms, each of size log 251 or less and good to 8 u.
    assert_within(die.to_natural(minimal=True), rounded, 96 * U)
    # Parameters up to log 50 are off by 4 u.
    off = softmax_bound(functional.pad(rounded, (0, 1))) + 16 * U
    assert_within(Categorical.from_natural(rounded, minimal=True).probs, die.probs, off)
    off = logsumexp_bound(functional.pad(rounded, (0, 1))) + 16 * U
    assert_within(Categorical.log_partition(rounded, minimal=True), as_double([a])[0], off)


@pytest.mark.statement("categorical-minimal", "exact")
@given(rows(min_size=1, max_size=5, bound=400.0))
def test_every_vector_is_the_parameter_of_a_positive_distribution(eta: Tensor) -> None:
    with mp.workdps(450):
        exact = [mp.mpf(x) for x in eta.tolist()]
        pi = soft([*exact, mp.mpf(0)])
        assert min(pi) > 0
        assert_within(mp.fsum(pi), 1, EXACT)
        assert_within([mp.log(p / pi[-1]) for p in pi[:-1]], exact, EXACT)
    made = Categorical.from_natural(eta, minimal=True).probs
    logits = functional.pad(eta, (0, 1))
    assert_within(made, as_double(pi), softmax_bound(logits))


@pytest.mark.statement("categorical-minimal", "exact")
@given(whole_row_pairs(min_size=1, max_size=4, bound=2))
def test_two_minimal_parameters_are_two_distributions(pair: tuple[Tensor, Tensor]) -> None:
    u, v = ([*map(int, row.tolist()), 0] for row in pair)
    assert (powers(u) == powers(v)) == (u == v)


@pytest.mark.statement("categorical-minimal", "exact")
@pytest.mark.statement("categorical-overcomplete", "exact")
@pytest.mark.parametrize("k", [2, 3, 5])
def test_one_hot_vectors_have_one_free_direction_until_one_component_is_left_out(k: int) -> None:
    one_hot = sympy.eye(k)
    differences = sympy.Matrix.vstack(*[one_hot.row(y) - one_hot.row(k - 1) for y in range(k)])
    assert differences.nullspace() == [sympy.ones(k, 1)]
    assert differences[:, :-1].nullspace() == []
    die = Categorical(torch.full((k,), 1 / k, dtype=torch.float64))
    every = torch.arange(k)
    assert torch.equal(die.sufficient_statistic(every), torch.eye(k, dtype=torch.float64))
    assert torch.equal(
        die.sufficient_statistic(every, minimal=True), torch.eye(k, dtype=torch.float64)[:, :-1]
    )


# categorical-overcomplete -------------------------------------------------------------------------


@pytest.mark.statement("categorical-overcomplete", "exact")
@given(rows(min_size=2), st.floats(-30, 30))
def test_the_log_partition_is_log_sum_exp_and_the_law_is_softmax(z: Tensor, c: float) -> None:
    logits = [mp.mpf(x) for x in z.tolist()]
    one_hot = [[int(k == y) for k in range(len(z))] for y in range(len(z))]
    a = mp.log(mp.fsum(mp.exp(inner(logits, t)) for t in one_hot))
    law = [mp.exp(inner(logits, t) - a) for t in one_hot]
    assert_within(law, exact_softmax(z), EXACT)
    off = logsumexp_bound(z) + U * float(abs(a))
    assert_within(Categorical.log_partition(z), as_double([a])[0], off)
    assert_within(Categorical.from_natural(z).probs, as_double(law), softmax_bound(z))
    # Any natural parameter of the law is its logarithm and a constant, which is A.
    assert_within([x - mp.log(p) for x, p in zip(logits, law, strict=True)], a, EXACT)
    assert_within(soft([x + mp.mpf(c) for x in logits]), law, EXACT)


@pytest.mark.statement("categorical-overcomplete", "exact")
@given(positive_weights)
def test_it_contains_every_positive_distribution(weights: list[int]) -> None:
    pi = [number(p) for p in shares(weights)]
    z = [mp.log(p) for p in pi]
    assert_within(lse(z), 0, EXACT)
    assert_within(soft(z), pi, EXACT)
    probs = as_double(pi)
    again = Categorical.from_natural(Categorical(probs).to_natural()).probs
    # p log p, at most 1 / e, to 8 u, and the mean of log p with it.
    assert_within(again, probs, softmax_bound(probs.log()) + 16 * U)


@pytest.mark.statement("categorical-overcomplete", "exact")
@given(whole_row_pairs(min_size=2, bound=3), st.booleans(), st.integers(-5, 5))
def test_two_logit_rows_are_one_distribution_if_and_only_if_they_differ_by_a_constant(
    pair: tuple[Tensor, Tensor], shifted: bool, c: int
) -> None:
    u, v = ([int(x) for x in row.tolist()] for row in pair)
    if shifted:
        v = [x + c for x in u]
    constant = len({a - b for a, b in zip(u, v, strict=True)}) == 1
    assert (powers(u) == powers(v)) == constant
    # The minimal parameter does not see the constant, and sees everything else.
    minimal = [[x - row[-1] for x in row[:-1]] for row in (u, v)]
    assert (minimal[0] == minimal[1]) == constant
    assert powers([*minimal[0], 0]) == powers(u)


# categorical-log-partition ------------------------------------------------------------------------


@cache
def symbolic(k: int, minimal: bool) -> tuple[Any, Any, Any]:
    """Variables, gradient and Hessian of A as computer algebra finds them."""
    eta = sympy.symbols(f"z:{k - minimal}", real=True)
    a = sympy.log(sum(sympy.exp(x) for x in eta) + int(minimal))
    return eta, sympy.Matrix([sympy.diff(a, x) for x in eta]), sympy.hessian(a, eta)


@pytest.mark.statement("categorical-log-partition", "exact")
@pytest.mark.parametrize(
    "weights", [(1, 1), (1, 99), (1, 1, 1), (5, 3, 2), (1, 1000, 1), (1, 2, 3, 4), (7, 1, 1, 1, 5)]
)
def test_both_forms_by_computer_algebra(weights: Vector) -> None:
    k = len(weights)
    pi = sympy.Matrix([sympy.Rational(w, sum(weights)) for w in weights])
    full = sympy.diag(*pi) - pi * pi.T
    # e^z is the weight, and in the minimal form its quotient with the last.
    for minimal, last in ((False, 1), (True, weights[-1])):
        eta, gradient, hessian = symbolic(k, minimal)
        there = {sympy.exp(x): sympy.Rational(w, last) for x, w in zip(eta, weights, strict=False)}
        size = k - minimal
        assert sympy.simplify(gradient.subs(there) - pi[:size, :]) == sympy.zeros(size, 1)
        assert sympy.simplify(hessian.subs(there) - full[:size, :size]) == sympy.zeros(size, size)
    assert full.rank() == k - 1
    assert full.nullspace() == [sympy.ones(k, 1)]
    part = full[:-1, :-1]
    assert part.is_positive_definite
    assert not full.is_positive_definite
    assert part.det() == math.prod(pi)
    stated = sympy.diag(*[1 / p for p in pi[:-1]]) + sympy.ones(k - 1, k - 1) / pi[k - 1]
    assert part.inv() == stated


@pytest.mark.statement("categorical-log-partition", "symbolic")
@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_hessians_their_determinant_and_inverse_with_symbols(k: int) -> None:
    weights = sympy.symbols(f"w:{k}", positive=True)
    for minimal, last in ((False, 1), (True, weights[-1])):
        eta, gradient, hessian = symbolic(k, minimal)
        there = {x: sympy.log(w / last) for x, w in zip(eta, weights, strict=False)}
        pi = sympy.Matrix(weights[: len(eta)]) / sum(weights)
        stated = sympy.diag(*pi) - pi * pi.T
        assert (gradient.subs(there) - pi).applyfunc(sympy.simplify).is_zero_matrix
        assert (hessian.subs(there) - stated).applyfunc(sympy.simplify).is_zero_matrix
    assert sympy.cancel(stated.det() - math.prod(weights) / sum(weights) ** k) == 0
    ones = sympy.ones(k - 1, k - 1)
    inverse = sympy.diag(*[1 / p for p in pi]) + ones * sum(weights) / weights[-1]
    assert (stated * inverse).applyfunc(sympy.cancel) == sympy.eye(k - 1)


@pytest.mark.statement("categorical-log-partition", "exact", "torch")
@given(row_pairs(max_size=5, bound=12.0))
def test_automatic_differentiation_of_the_package(pair: tuple[Tensor, Tensor]) -> None:
    z, v = pair
    p = exact_softmax(z)
    exact = torch.stack([as_double([a * (a is b) - a * b for b in p]) for a in p])
    slope = jacrev(Categorical.log_partition)
    # Of five classes a probability is off by 32 u, and a difference p - p p by three times that.
    assert_within(slope(z), as_double(p), 32 * U)
    assert_within(jacrev(slope)(z), exact, 96 * U)
    short = jacrev(lambda eta: Categorical.log_partition(eta, minimal=True))
    eta = z[:-1] - z[-1]  # up to 24, and rounded
    assert_within(short(eta), as_double(p[:-1]), 64 * U)
    assert_within(jacrev(short)(eta), exact[:-1, :-1], 192 * U)
    # Against a difference of the gradient too, in any direction.
    step = mp.mpf(10) ** -15
    pairs = [(mp.mpf(a), mp.mpf(b)) for a, b in zip(z.tolist(), v.tolist(), strict=True)]
    ahead, behind = (soft([a + s * b for a, b in pairs]) for s in (step, -step))
    difference = [(a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True)]
    # Five products of entries up to 1/4, rounded a few times, and numbers up to 12.
    assert_within(exact @ v, as_double(difference), 128 * U)


@pytest.mark.statement("categorical-log-partition", "statistical", false_alarm=2e-5)
@pytest.mark.parametrize("k", [2, 3, 5])
def test_draws_have_the_stated_mean_and_covariance(k: int) -> None:
    z, n = torch.linspace(-1, 1, k, dtype=torch.float64), 100_000
    die = Categorical.from_natural(z)
    t = die.sufficient_statistic(die.sample(n, generator=torch.Generator().manual_seed(k)))
    mean = jacrev(logsumexp)(z)
    covariance = jacrev(jacrev(logsumexp))(z)
    centered = t - mean
    products = centered.unsqueeze(-1) * centered.unsqueeze(-2)
    # Five standard errors in up to 25 places: other seeds would fail with a probability of 2e-5.
    assert_within(t.mean(0), mean, 5 * (covariance.diagonal() / n).sqrt())
    assert_within(products.mean(0), covariance, 5 * products.std(0) / math.sqrt(n))


# moment-matching ----------------------------------------------------------------------------------

Statistic = tuple[Vector, ...]


def weights_of(h: Vector, t: Statistic, k: Sequence[int]) -> list[Fraction]:
    """The law at k log 2 but for its sum."""
    return [w * Fraction(2) ** inner(k, x) for w, x in zip(h, t, strict=True)]


def in_proportion(weights: Sequence[Fraction]) -> list[int]:
    """Observed counts that are exactly as the law says."""
    common = math.lcm(*(w.denominator for w in weights))
    return [int(w * common) for w in weights]


def at(k: Sequence[int]) -> list[Any]:
    return [i * mp.log(2) for i in k]


def log_likelihood(h: Vector, t: Statistic, counts: Sequence[int], eta: Sequence[Any]) -> Any:
    """Mean of log P over the observations, P by its definition."""
    terms = [w * mp.exp(inner(eta, x)) for w, x in zip(h, t, strict=True)]
    logs = [mp.log(x / mp.fsum(terms)) for x in terms]
    return inner(counts, logs) / sum(counts)


@st.composite
def observed(draw: DrawFn) -> tuple[Vector, Statistic, Vector, list[int]]:
    d, size = draw(st.integers(1, 2)), draw(st.integers(2, 4))
    vectors = st.tuples(*[st.integers(-1, 2)] * d)
    t = draw(st.lists(vectors, min_size=size, max_size=size))
    h = draw(st.lists(st.integers(1, 3), min_size=size, max_size=size))
    k = draw(st.tuples(*[st.integers(-2, 2)] * d))
    counts = draw(st.lists(st.integers(0, 3), min_size=size, max_size=size).filter(any))
    if draw(st.booleans()):  # those that k fits
        counts = in_proportion(weights_of(tuple(h), tuple(t), k))
    return tuple(h), tuple(t), k, counts


@pytest.mark.statement("moment-matching", "exact")
@given(observed())
def test_the_likelihood_its_gradient_and_where_it_is_largest(
    case: tuple[Vector, Statistic, Vector, list[int]],
) -> None:
    h, t, k, counts = case
    n, eta, columns = sum(counts), at(k), list(zip(*t, strict=True))
    t_bar = [Fraction(inner(counts, c), n) for c in columns]
    law = shares(weights_of(h, t, k))
    gradient = [a - inner(law, c) for a, c in zip(t_bar, columns, strict=True)]

    def value(*eta: Any) -> Any:
        return log_likelihood(h, t, counts, eta)

    a = lse([mp.log(w) + inner(eta, x) for w, x in zip(h, t, strict=True)])
    base = inner(counts, [mp.log(w) for w in h]) / n
    here = value(*eta)
    assert_within(inner(eta, [number(x) for x in t_bar]) - a + base, here, EXACT)
    step = mp.mpf(10) ** -12
    for i, slope in enumerate(gradient):
        ahead, behind = ([x + s * (i == j) for j, x in enumerate(eta)] for s in (step, -step))
        assert_within((value(*ahead) - value(*behind)) / (2 * step), slope, 1e-20)
    # The largest value if and only if the means agree.
    others = [at(o) for o in product(range(-3, 4), repeat=len(k))]
    if any(gradient):
        uphill = [x + number(g) / 64 for x, g in zip(eta, gradient, strict=True)]
        assert value(*uphill) > here
    else:
        assert all(value(*other) <= here + EXACT for other in others)
    for other in others[::5]:  # concave
        middle = [(x + y) / 2 for x, y in zip(eta, other, strict=True)]
        assert value(*middle) >= (here + value(*other)) / 2 - EXACT


def mean_log_softmax(counts: Sequence[int], z: Sequence[Any]) -> Any:
    return inner(counts, z) / mp.mpf(sum(counts)) - lse(z)


@pytest.mark.statement("moment-matching", "exact")
@given(st.lists(st.integers(0, 6), min_size=2, max_size=5).filter(any), whole_rows(5, 5, bound=3))
def test_frequencies_are_the_fit_and_an_unseen_outcome_leaves_none(
    counts: list[int], row: Tensor
) -> None:
    f = shares(counts)
    least = -exact_entropy([number(x) for x in f])
    z = [int(x) for x in row.tolist()][: len(counts)]
    value = mean_log_softmax(counts, at(z))
    if all(counts):
        best = [mp.log(number(x)) + 7 for x in f]  # any constant
        assert_within(mean_log_softmax(counts, best), least, EXACT)
        assert (abs(value - least) < EXACT) == (powers(z) == f)
        assert value <= least + EXACT
        fitted = Categorical(as_double([number(x) for x in f]))
        # Logits of size 7, rounded, and 50 u for a softmax of five that are log 6 apart.
        assert_within(Categorical.from_natural(as_double(best)).probs, fitted.probs, 64 * U)
        return
    assert value < least
    assert powers(z) != f
    lower = [x - (n == 0) for x, n in zip(z, counts, strict=True)]  # always better
    assert mean_log_softmax(counts, at(lower)) > value
    for digits in (5, 20, 35):  # and the supremum is not attained
        s = mp.mpf(10) ** -digits
        near = [mp.log((1 - s) * number(x) + s / len(f)) for x in f]
        gap = least - mean_log_softmax(counts, near)
        assert 0 < gap < 2 * s


@pytest.mark.statement("moment-matching", "scipy")
@pytest.mark.parametrize("counts", [(3, 1), (1, 1, 1), (10, 1, 5, 4), (1000, 1)])
@pytest.mark.parametrize("start", [0.0, 2.0])
def test_an_optimizer_finds_the_frequencies(counts: Vector, start: float) -> None:
    labels = torch.tensor([k for k, n in enumerate(counts) for _ in range(n)])

    def loss(z: Any) -> tuple[float, Any]:
        leaf = double(z).requires_grad_()
        value = functional.cross_entropy(leaf.expand(len(labels), -1), labels)
        value.backward()
        assert leaf.grad is not None
        return value.item(), leaf.grad.numpy()

    z0, tol = start * np.arange(len(counts)), 1e-6
    found = scipy.optimize.minimize(loss, z0, jac=True, method="BFGS", options={"gtol": tol})
    assert found.success
    f = as_double([number(x) for x in shares(counts)])
    # It stops where no component of the gradient, p - f, is above tol.
    off = tol + 2 * len(labels) * U
    p = softmax(double(found.x))
    assert_within(p, f, off)
    # The divergence is below the chi-square distance; the loss itself is a mean of rounded terms.
    assert_within(found.fun, entropy(f), (off**2 / p).sum().item() + 16 * len(labels) * U)
    spread = double(found.x) - f.log()
    # One constant, that of the start: p / f is 1 but for off / f, and no gradient moves the sum.
    assert_within(spread, spread[:1].expand(len(f)), 2 * off / (f.min() - off))
    assert_within(found.x.sum(), z0.sum(), tol)


# temperature-family, mean-constraint --------------------------------------------------------------


def mean_score(z: Sequence[int], beta: Any) -> Any:
    return inner(soft([beta * x for x in z]), z)


def beta_for(z: Sequence[int], mu: Any) -> Any:
    """Where the mean score is mu, by bisection, which needs no derivative."""
    low, high = mp.mpf(-1), mp.mpf(1)
    while mean_score(z, low) > mu:
        low *= 2
    while mean_score(z, high) < mu:
        high *= 2
    for _ in range(170):
        middle = (low + high) / 2
        low, high = (low, middle) if mean_score(z, middle) > mu else (middle, high)
    return low


def scores(max_size: int = 4) -> SearchStrategy[list[int]]:
    z = st.lists(st.integers(-3, 3), min_size=2, max_size=max_size)
    return z.filter(lambda values: len(set(values)) > 1)


@pytest.mark.statement("temperature-family", "exact")
@given(scores(), st.fractions(-20, 20, max_denominator=8))
def test_the_log_partition_along_the_temperature_family(z: list[int], inverse: Fraction) -> None:
    # exp(-6 * 20) is 8e-53.
    with mp.workdps(100):
        beta = number(inverse)
        a = lse([beta * x for x in z])
        p = soft([beta * x for x in z])
        assert_within([mp.exp(beta * x - a) for x in z], p, EXACT)
        mean = inner(p, z)
        variance = inner(p, [(x - mean) ** 2 for x in z])

        def log_partition(b: Any) -> Any:
            return lse([b * x for x in z])

        assert_within(mp.diff(log_partition, beta), mean, mp.mpf(10) ** -25)
        assert_within(mp.diff(log_partition, beta, 2), variance, mp.mpf(10) ** -20)
        assert variance > mp.mpf(10) ** -60
        assert min(z) < mean < max(z)
        assert mean_score(z, beta + mp.mpf(1) / 1000) > mean
        if beta > 0:
            temperature = float(1 / beta)
            probs = softmax(double(z), temperature=temperature)
            assert_within(probs, as_double(p), softmax_bound(double(z), temperature))
        elif beta == 0:
            assert_within(mean, Fraction(sum(z), len(z)), EXACT)


@pytest.mark.statement("temperature-family", "exact")
@on_scores
def test_the_mean_score_takes_every_value_between_and_neither_end(z: list[int]) -> None:
    low, high = min(z), max(z)
    with mp.workdps(400):
        grid = [mean_score(z, mp.mpf(b)) for b in (-100, -30, -3, -1, 0, 1, 3, 30, 100)]
        assert all(a < b for a, b in pairwise([low, *grid, high]))
        assert grid[0] - low < 1e-40 > high - grid[-1]
    for part in (mp.mpf(10) ** -20, mp.mpf(1) / 3, 1 - mp.mpf(10) ** -20):
        mu = low + part * (high - low)
        assert_within(mean_score(z, beta_for(z, mu)), mu, EXACT)
    # Of constant scores all beta are one distribution: the family is not minimal.
    assert_within(soft([mp.mpf(3)] * len(z)), soft([mp.mpf(-7)] * len(z)), EXACT)


@pytest.mark.statement("temperature-family", "exact")
@given(scores(), st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_the_likelihood_has_a_maximizer_if_and_only_if_the_mean_is_inside(
    z: list[int], counts: list[int]
) -> None:
    counts = counts[: len(z)]
    assume(any(counts))
    n = sum(counts)
    mean, z_bar = Fraction(inner(counts, z), n), Fraction(sum(z), len(z))

    def value(beta: Any) -> Any:
        p = soft([beta * x for x in z])
        return inner(counts, [mp.log(x) for x in p]) / n

    if not min(z) < mean < max(z):
        way = 1 if mean == max(z) else -1  # better for ever
        values = [value(mp.mpf(way * b)) for b in range(-8, 13, 4)]
        assert all(a < b for a, b in pairwise(values))
        # The supremum is not attained: all on the ties of the best.
        ties = sum(x == mean for x in z)
        assert_within(value(mp.mpf(way * 200)), -mp.log(ties), EXACT)
        return
    beta = beta_for(z, number(mean))
    assert all(value(beta + s) < value(beta) for s in (-5, -1e-6, 1e-6, 5))
    assert (beta > EXACT) == (mean > z_bar)
    # The package fits temperatures, and no others.
    labels = torch.tensor([k for k, m in enumerate(counts) for _ in range(m)])
    logits = double(z).expand(n, -1)
    if mean > z_bar:
        p = soft([beta * x for x in z])
        curvature = inner(p, [(x - number(mean)) ** 2 for x in z])
        # Newton's last step, or what the rounding of a mean of logits makes of its zero.
        rounding = 128 * U * (max(z) - min(z)) / (curvature * beta)
        assert_within(fit_temperature(logits, labels), 1 / beta, rel=1e-12 + rounding)
    else:
        with pytest.raises(ValueError, match=r"no temperature makes the labels likelier"):
            fit_temperature(logits, labels)


def exact_entropy_at(z: Sequence[int], mu: Any) -> Any:
    beta = beta_for(z, mu)
    return exact_entropy(soft([beta * x for x in z]))


@pytest.mark.statement("mean-constraint", "exact")
@given(scores(), st.lists(st.integers(0, 3), min_size=4, max_size=4), st.booleans())
def test_no_distribution_of_the_same_mean_has_more_entropy(
    z: list[int], weights: list[int], softened: bool
) -> None:
    assume(any(weights[: len(z)]))
    row = powers([(w - 1) * x for x, w in zip(z, weights[:1] * len(z), strict=True)])
    p = [number(x) for x in (row if softened else shares(weights[: len(z)]))]
    mu = inner(p, z)
    assume(min(z) < mu < max(z))
    best = soft([beta_for(z, mu) * x for x in z])
    assert_within(inner(best, z), mu, EXACT)
    is_best = largest(x - y for x, y in zip(p, best, strict=True)) < mp.mpf(10) ** -15
    gap = exact_entropy(best) - exact_entropy(p)
    if is_best:
        assert_within(gap, 0, EXACT)
    else:
        assert gap > mp.mpf(10) ** -25
    if softened:
        assert is_best


@pytest.mark.statement("mean-constraint", "exact", "scipy")
@on_scores
@pytest.mark.parametrize("part", [0.05, 0.3, 0.5, 0.8, 0.95])
def test_a_solver_that_knows_no_softmax_finds_it(z: list[int], part: float) -> None:
    low, high = min(z), max(z)
    mu, scores = low + part * (high - low), np.array(z, dtype=float)
    ends = [(1 - part) / z.count(low) * (x == low) + part / z.count(high) * (x == high) for x in z]
    start = 0.9 * np.array(ends) + 0.1 / len(z)
    found = scipy.optimize.minimize(
        lambda p: (p * np.log(p)).sum(),
        start,
        jac=lambda p: np.log(p) + 1,
        bounds=[(1e-12, 1)] * len(z),
        constraints={"type": "eq", "fun": lambda p: np.array([p.sum() - 1, p @ scores - mu])},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
    )
    beta = beta_for(z, mp.mpf(mu))
    best = soft([beta * x for x in z])
    # It stops where a step gains less than 1e-15; allow for a hundred such steps. What the entropy
    # lacks is KL(found || best), at least half the squared distance (Pinsker).
    lacking, far = 1e-13, math.sqrt(2 * 1e-13)
    assert_within(exact_entropy([mp.mpf(x) for x in found.x]), exact_entropy(best), lacking)
    assert_within(double(found.x), as_double(best), far)
    # Stationary: the gradient of the entropy is a multiple of z, and the multiplier is -beta.
    slope, centered = np.polyfit(scores, -np.log(found.x) - 1, 1)[0], scores - scores.mean()
    off = far / (found.x.min() - far) * np.abs(centered).sum() / (centered @ centered)
    assert_within(slope, -beta, off)


@pytest.mark.statement("mean-constraint", "exact")
@on_scores
@pytest.mark.parametrize("part", ["0.001", "0.2", "0.5", "0.7", "0.999"])
def test_the_slope_of_the_largest_entropy_is_minus_beta(z: list[int], part: str) -> None:
    mu = min(z) + mp.mpf(part) * (max(z) - min(z))
    beta, step = beta_for(z, mu), mp.mpf(10) ** -12
    rise = exact_entropy_at(z, mu + step) - exact_entropy_at(z, mu - step)
    assert_within(rise / (2 * step), -beta, mp.mpf(10) ** -12)
    above = mu - mp.mpf(sum(z)) / len(z)
    assert mp.sign(beta) == mp.sign(above) or abs(beta) + abs(above) < EXACT
    if len(z) == 2:  # the entropy of a coin
        assert_within(beta, mp.log(mp.mpf(part) / (1 - mp.mpf(part))), EXACT)
    if beta > 0.01:
        p = softmax(double(z), temperature=float(1 / beta))
        off = softmax_bound(double(z), float(1 / beta))
        # Scores are 3 at most, and the entropy has the slope log p + 1. Then five terms are added.
        assert_within(p @ double(z), mu, 3 * off.sum() + 64 * U)
        assert_within(entropy(p), exact_entropy_at(z, mu), (off * (1 - p.log())).sum() + 64 * U)


@pytest.mark.statement("mean-constraint", "exact")
@on_scores
@pytest.mark.parametrize("end", [max, min])
@given(st.lists(st.integers(0, 4), min_size=5, max_size=5))
def test_at_either_end_it_is_uniform_on_the_classes_there(
    z: list[int], end: Callable[[list[int]], int], weights: list[int]
) -> None:
    best = end(z)
    assume(any(weights[: len(z)]))
    p = shares(weights[: len(z)])
    only = all(x == best for x, q in zip(z, p, strict=True) if q)
    assert (inner(p, z) == best) == only
    uniform = shares([int(x == best) for x in z])
    if only:
        gap = mp.log(z.count(best)) - exact_entropy([number(x) for x in p])
        if p == uniform:
            assert_within(gap, 0, EXACT)
        else:
            assert gap > 0.008  # of the weights 3, 4, 4


@pytest.mark.statement("mean-constraint", "exact")
@on_scores
def test_as_the_mean_nears_the_largest_the_maximizer_nears_the_uniform_on_the_best(
    z: list[int],
) -> None:
    uniform = [number(p) for p in shares([int(x == max(z)) for x in z])]
    betas = [beta_for(z, max(z) - mp.mpf(10) ** -digits) for digits in (1, 5, 15, 30)]
    assert all(a < b for a, b in pairwise(betas))
    assert betas[-1] > 10  # no limit: T tends to 0
    for digits, beta in zip((1, 5, 15, 30), betas, strict=True):
        miss = max(abs(p - q) for p, q in zip(soft([beta * x for x in z]), uniform, strict=True))
        # Scores are whole, so that every probability of another costs its size at least.
        assert 0 < miss <= mp.mpf(10) ** -digits + EXACT
    assert_within(softmax(double(z), temperature=1e-3), as_double(uniform), U)


@pytest.mark.statement("mean-constraint", "exact")
@on_scores
def test_as_the_mean_nears_the_smallest_the_maximizer_nears_the_uniform_on_the_worst(
    z: list[int],
) -> None:
    uniform = [number(p) for p in shares([int(x == min(z)) for x in z])]
    betas = [beta_for(z, min(z) + mp.mpf(10) ** -digits) for digits in (1, 5, 15, 30)]
    assert all(a > b for a, b in pairwise(betas))
    assert betas[-1] < -10  # no limit
    misses = [
        max(abs(p - q) for p, q in zip(soft([b * x for x in z]), uniform, strict=True))
        for b in betas
    ]
    assert 0 < misses[-1] < mp.mpf(10) ** -30 + EXACT
    assert misses == sorted(misses, reverse=True)


# softmax-link -------------------------------------------------------------------------------------

Link = Callable[[Sequence[Any]], list[Any]]


def residual_excess(g: Link, z: Sequence[Any]) -> list[list[Any]]:
    """Derivative of -log g_y by z_j minus the residual; a row for each y."""
    p, step = g(z), mp.mpf(10) ** -15
    table = []
    for y in range(len(z)):
        line = []
        for j in range(len(z)):
            ahead, behind = ([x + s * (i == j) for i, x in enumerate(z)] for s in (step, -step))
            slope = -(mp.log(g(ahead)[y]) - mp.log(g(behind)[y])) / (2 * step)
            line.append(slope - (p[j] - (j == y)))
        table.append(line)
    return table


def normalized(weights: Sequence[Any]) -> list[Any]:
    return [w / mp.fsum(weights) for w in weights]


OTHERS: dict[str, Link] = {
    "temperature 2": lambda z: soft([x / 2 for x in z]),
    "negative": lambda z: soft([-x for x in z]),
    "turned around": lambda z: soft(z[::-1]),
    "squares": lambda z: normalized([1 + x * x for x in z]),
    "normal": lambda z: normalized([mp.ncdf(x) for x in z]),
    "uniform": lambda z: normalized([mp.mpf(1) for _ in z]),
    "smoothed": lambda z: [(9 * p + mp.mpf(1) / len(z)) / 10 for p in soft(z)],
    "a shift that depends on z": lambda z: soft([z[0] + mp.sin(z[-1]), *z[1:]]),
}


@pytest.mark.statement("softmax-link", "exact")
@given(row_pairs(min_size=2, max_size=4, bound=8.0))
def test_softmax_after_any_shift_has_the_residual_as_its_gradient(
    pair: tuple[Tensor, Tensor],
) -> None:
    z, c = ([mp.mpf(x) for x in row.tolist()] for row in pair)
    table = residual_excess(lambda s: soft([x + y for x, y in zip(s, c, strict=True)]), z)
    assert_within(table, 0, mp.mpf(10) ** -25)


@pytest.mark.statement("softmax-link", "exact")
@pytest.mark.parametrize("link", OTHERS)
@pytest.mark.parametrize("k", [2, 3, 4])
def test_no_other_function_has_it(link: str, k: int) -> None:
    points = [[mp.mpf(x) for x in z[:k]] for z in ((1, -1, 2, 0), (-2, 0.5, 0, 1), (0, 0, 1, 3))]
    found = [largest(x for line in residual_excess(OTHERS[link], z) for x in line) for z in points]
    assert max(found) > 0.04


@pytest.mark.statement("softmax-link", "scipy")
@pytest.mark.parametrize("start", [(0.5, 0.5), (0.9, 0.1), (0.2, 0.3, 0.5), (0.7, 0.1, 0.1, 0.1)])
def test_the_equation_followed_from_one_point_leads_to_softmax(start: tuple[float, ...]) -> None:
    g0 = np.array(start)
    for direction in ([1, -2, 0.5, 3], [-1, -1, 2, 0], [2, 2, 2, 2]):
        z = np.array(direction[: len(g0)], dtype=float)
        # Along s z the logarithm of g_y rises by z_y - <g, z>, g being the g_j themselves.
        path = scipy.integrate.solve_ivp(
            lambda _, log_g, z=z: z - np.exp(log_g) @ z, (0, 1), np.log(g0), rtol=1e-12, atol=1e-13
        )
        expected = torch.softmax(double(z + np.log(g0)), -1)
        # A step is off by its tolerance, in the mean square, which grows by e^|z| at most.
        each = math.sqrt(len(g0)) * (1e-13 + 1e-12 * np.abs(path.y).max())
        off = len(path.t) * each * math.exp(np.abs(z).max())
        assert_within(double(np.exp(path.y[:, -1])), expected, off)


@pytest.mark.statement("softmax-link", "exact")
def test_for_three_outcomes_the_equation_of_one_label_is_not_enough() -> None:
    def other(z: Sequence[Any]) -> list[Any]:
        """Softmax of z_1 and of a soft maximum of the others at another temperature."""
        first = sigma(z[0] - 2 * lse([x / 2 for x in z[1:]]))
        return [first, *[(1 - first) * p for p in soft([x / 2 for x in z[1:]])]]

    z = [mp.mpf(1), mp.mpf(-1), mp.mpf(2)]
    table = residual_excess(other, z)
    assert_within(table[0], 0, mp.mpf(10) ** -25)
    assert largest(table[1]) > 0.05 < largest(table[2])
    assert_within(residual_excess(other, z[:2]), 0, mp.mpf(10) ** -25)


# maximum-entropy ----------------------------------------------------------------------------------

STATISTICS: list[Any] = [
    pytest.param(((0,), (1,), (2,)), (1,), id="a mean"),
    pytest.param(((0,), (0,), (3,), (1,)), (-1,), id="ties"),
    pytest.param(((0, 0), (1, 1), (2, 4), (3, 9)), (1, -1), id="a mean and a square"),
    pytest.param(((1, 1), (2, 2), (0, 0), (5, 5)), (2, -1), id="the same mean twice"),
    pytest.param(((0,), (1,)), (2,), id="two outcomes"),
    pytest.param(((1, 0, 0), (0, 1, 0), (0, 0, 1)), (0, 1, -1), id="all frequencies"),
    pytest.param(((7,), (7,), (7,)), (3,), id="nothing known"),
]


def rivals(t: Statistic, p: Row) -> list[Row]:
    """Other distributions of the same mean: along each free direction halfway and to the border."""
    known = sympy.Matrix([[1, *x] for x in t]).T
    found = []
    for v in known.nullspace():
        direction = [Fraction(int(x.p), int(x.q)) for x in v]
        for sign in (1, -1):
            edge = min(q / -(sign * d) for q, d in zip(p, direction, strict=True) if sign * d < 0)
            for part in (Fraction(1, 1000), Fraction(1, 2), Fraction(1)):
                step = sign * part * edge
                found.append(tuple(q + step * d for q, d in zip(p, direction, strict=True)))
    return found


@pytest.mark.statement("maximum-entropy", "exact")
@pytest.mark.parametrize(("t", "k"), STATISTICS)
def test_a_rival_lacks_entropy_by_its_divergence(t: Statistic, k: Vector) -> None:
    law = powers([inner(k, x) for x in t])
    mu = [inner(law, c) for c in zip(*t, strict=True)]
    p = [number(x) for x in law]
    largest_entropy = exact_entropy(p)
    a = lse([inner(at(k), x) for x in t])
    assert_within(largest_entropy, a - inner(at(k), [number(m) for m in mu]), EXACT)
    others = rivals(t, law)
    unknown = len(t) - sympy.Matrix([[1, *x] for x in t]).rank()
    assert len(others) == 6 * unknown  # none where the mean tells all
    for rival in others:
        assert [inner(rival, c) for c in zip(*t, strict=True)] == mu
        assert min(rival) >= 0
        q = [number(x) for x in rival]
        divergence = mp.fsum(x * mp.log(x / y) for x, y in zip(q, p, strict=True) if x > 0)
        assert_within(exact_entropy(q), largest_entropy - divergence, EXACT)
        assert exact_entropy(q) < largest_entropy - mp.mpf(10) ** -10
        difference = kl_divergence(as_double(q), as_double(p)) + entropy(as_double(q))
        # Three sums of up to four terms, with logarithms up to 6 that are good to 8 u.
        assert_within(difference, entropy(as_double(p)), 256 * U)


@pytest.mark.statement("maximum-entropy")
def test_another_base_is_beaten() -> None:
    binomial, uniform = shares([1, 2, 1]), shares([1, 1, 1])  # both have the mean 1
    assert inner(binomial, (0, 1, 2)) == inner(uniform, (0, 1, 2)) == 1
    assert entropy(double([0.25, 0.5, 0.25])) < entropy(double([1 / 3] * 3))
