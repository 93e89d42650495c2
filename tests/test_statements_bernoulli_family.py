from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import product
from typing import Any, NamedTuple

import pytest
import scipy.special
import sympy
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from mpmath import mp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from strategies import as_double, assert_within, double, inner, number, sigma, total, unit
from torch import Tensor
from torch.func import jacrev
from torch.nn import functional

from omnivault.distributions import Bernoulli, Multinomial

pytestmark = pytest.mark.usefixtures("one_thread")

U = unit(torch.float64)
EXACT = mp.mpf(10) ** -40
Vector = tuple[int, ...]


# exponential-family, log-partition-moments --------------------------------------------------------


class Family(NamedTuple):
    """With the natural parameter k log 2, k whole, every probability is a fraction."""

    h: Vector
    t: tuple[Vector, ...]

    def weights(self, k: Vector) -> list[Fraction]:
        return [h * Fraction(2) ** inner(k, t) for h, t in zip(self.h, self.t, strict=True)]

    def law(self, k: Vector) -> list[Fraction]:
        weights = self.weights(k)
        return [w / total(weights) for w in weights]

    def mean(self, k: Vector) -> list[Fraction]:
        columns = zip(*self.t, strict=True)
        return [total(p * x for p, x in zip(self.law(k), c, strict=True)) for c in columns]

    def covariance(self, k: Vector) -> Any:
        mu, d = self.mean(k), range(len(k))
        centered = [[x - m for x, m in zip(t, mu, strict=True)] for t in self.t]
        pairs = list(zip(self.law(k), centered, strict=True))
        return sympy.Matrix(len(d), len(d), lambda i, j: total(p * c[i] * c[j] for p, c in pairs))

    def log_partition(self, *eta: Any) -> Any:
        terms = [h * mp.exp(inner(eta, t)) for h, t in zip(self.h, self.t, strict=True)]
        return mp.log(mp.fsum(terms))

    def is_constant(self, a: Vector) -> bool:
        return len({inner(a, t) for t in self.t}) == 1

    def free_directions(self) -> list[Vector]:
        """A basis of the a for which <a, t(y)> is the same for all y, of whole numbers."""
        first = sympy.Matrix([self.t[0]])
        differences = sympy.Matrix.vstack(*[sympy.Matrix([t]) - first for t in self.t])
        basis = differences.nullspace()
        return [tuple(int(x) for x in v * math.lcm(*[int(x.q) for x in v])) for v in basis]


def at(k: Vector) -> list[Any]:
    return [i * mp.log(2) for i in k]


@st.composite
def families(draw: DrawFn, max_d: int = 3) -> Family:
    d, size = draw(st.integers(1, max_d)), draw(st.integers(2, 5))
    t = st.tuples(*[st.integers(-2, 2)] * d)
    h = draw(st.lists(st.integers(1, 3), min_size=size, max_size=size))
    return Family(tuple(h), tuple(draw(st.lists(t, min_size=size, max_size=size))))


def parameters(family: Family) -> st.SearchStrategy[Vector]:
    return st.tuples(*[st.integers(-3, 3)] * len(family.t[0]))


@pytest.mark.statement("exponential-family", "exact")
@given(families(), st.data())
def test_the_log_partition_is_the_only_constant_that_makes_probabilities(
    family: Family, data: st.DataObject
) -> None:
    k = data.draw(parameters(family))
    eta, a = at(k), family.log_partition(*at(k))
    terms = [(h, inner(eta, t)) for h, t in zip(family.h, family.t, strict=True)]
    law = [h * mp.exp(x - a) for h, x in terms]
    assert all(0 < p <= 1 for p in law)
    assert_within(law, family.law(k), EXACT)
    for shift in (-0.5, 0.01):
        assert abs(mp.fsum(h * mp.exp(x - a + shift) for h, x in terms) - 1) > 0.009
    # A constant factor of the base, or one constant in all t(y), is no other family.
    doubled = family._replace(h=tuple(3 * h for h in family.h))
    moved = family._replace(t=tuple(tuple(x + 1 for x in t) for t in family.t))
    assert family.law(k) == doubled.law(k) == moved.law(k)
    assert_within(doubled.log_partition(*eta), a + mp.log(3), EXACT)
    assert_within(moved.log_partition(*eta), a + sum(eta), EXACT)
    assert family.free_directions() == moved.free_directions()


@pytest.mark.statement("exponential-family", "exact")
@pytest.mark.parametrize("eta", [-1e5, -700.0, 0.0, 700.0, 1e5])
def test_with_finitely_many_outcomes_it_is_finite_everywhere(eta: float) -> None:
    a = Family((1, 2, 1), ((0,), (1,), (2,))).log_partition(mp.mpf(eta))
    assert mp.isfinite(a)
    assert_within(a, 2 * mp.log1p(mp.exp(eta)), EXACT * max(1, abs(eta)))  # two coins
    # A logarithm to 8 u, at eta = 0 of a sum of two; elsewhere the larger term alone.
    assert_within(Multinomial.log_partition(2, double([eta]), minimal=True), a, rel=16 * U)


@pytest.mark.statement("exponential-family", "exact")
@pytest.mark.parametrize("k", [(0, 0, 0), (1, -2, 1), (3, 0, -1)])
def test_counts_of_three_draws_have_the_number_of_orders_as_their_base(k: Vector) -> None:
    counts = tuple(c for c in product(range(4), repeat=3) if sum(c) == 3)
    orders = [math.factorial(3) // math.prod(map(math.factorial, c)) for c in counts]
    family = Family(tuple(orders), counts)
    p = family.law(k)
    rolls = Multinomial.from_natural(3, double([float(x) for x in at(k)]))
    # exp of factorials up to log 6 and of three log p, off by a dozen u in all and 30 u each.
    assert_within(rolls.pmf(torch.tensor(counts)), as_double(p), 128 * U)
    assert p != family._replace(h=(1,) * len(counts)).law(k)  # the base matters


@pytest.mark.statement("exponential-family", "exact")
@pytest.mark.parametrize(
    ("t", "free"),
    [
        pytest.param(((0,), (1,)), [], id="a coin"),
        pytest.param(((0,), (0,), (1,)), [], id="outcomes that look alike"),
        pytest.param(((5,), (5,)), [(1,)], id="a constant statistic"),
        pytest.param(((0, 1), (1, 0)), [(1, 1)], id="both faces of a coin"),
        pytest.param(((0, 0), (1, 1)), [(-1, 1)], id="a square of 0 or 1"),
        pytest.param(((0, 0), (1, 1), (2, 4)), [], id="a square of 0, 1 or 2"),
        pytest.param(((0, 0), (1, 2), (2, 4)), [(-2, 1)], id="twice the same"),
    ],
)
def test_minimal_and_overcomplete(t: tuple[Vector, ...], free: list[Vector]) -> None:
    family = Family((1,) * len(t), t)
    assert family.free_directions() == free
    small = product(range(-4, 5), repeat=len(t[0]))
    constant = [a for a in small if any(a) and family.is_constant(a)]
    assert bool(constant) == bool(free)
    assert family.is_constant((0,) * len(t[0]))


@pytest.mark.statement("log-partition-moments", "exact")
@settings(max_examples=25)
@given(families(max_d=2), st.data())
def test_gradient_and_hessian_are_mean_and_covariance(family: Family, data: st.DataObject) -> None:
    k = data.draw(parameters(family))
    unit_vectors = [tuple(int(i == j) for j in range(len(k))) for i in range(len(k))]
    for e, mean in zip(unit_vectors, family.mean(k), strict=True):
        slope = mp.diff(family.log_partition, tuple(at(k)), e)
        assert_within(slope, mean, mp.mpf(10) ** -25)
    covariance = family.covariance(k)
    for (i, e), (j, f) in product(enumerate(unit_vectors), repeat=2):
        order = tuple(a + b for a, b in zip(e, f, strict=True))
        curve = mp.diff(family.log_partition, tuple(at(k)), order)
        assert_within(curve, Fraction(str(covariance[i, j])), mp.mpf(10) ** -20)


@pytest.mark.statement("log-partition-moments", "exact")
@given(families(max_d=1), st.data())
def test_higher_derivatives_are_the_next_cumulants(family: Family, data: st.DataObject) -> None:
    k = data.draw(parameters(family))
    [mean], p = family.mean(k), family.law(k)
    moment = [
        total(q * (t - mean) ** n for q, (t,) in zip(p, family.t, strict=True)) for n in range(5)
    ]
    expected = {3: moment[3], 4: moment[4] - 3 * moment[2] ** 2}
    for order, exact in expected.items():
        slope = mp.diff(family.log_partition, at(k)[0], order)
        assert_within(slope, exact, mp.mpf(10) ** -20)


@pytest.mark.statement("log-partition-moments", "exact")
@given(families(), st.data())
def test_minimal_means_positive_definite_and_no_two_parameters_of_one_mean(
    family: Family, data: st.DataObject
) -> None:
    k, other = (data.draw(parameters(family)) for _ in range(2))
    free = family.free_directions()
    # Positive definite if and only if minimal; the kernel is made of the free directions.
    covariance = family.covariance(k)
    minors = [covariance[:n, :n].det() for n in range(1, len(k) + 1)]
    assert all(m > 0 for m in minors) == (not free)
    assert covariance.rank() == len(k) - len(free)
    assert all(not any(covariance * sympy.Matrix(a)) for a in free)
    step = tuple(b - a for a, b in zip(k, other, strict=True))
    rise = inner([b - a for a, b in zip(family.mean(k), family.mean(other), strict=True)], step)
    assert rise >= 0
    assert (rise > 0) == (not family.is_constant(step))
    same_law, same_mean = (f(k) == f(other) for f in (family.law, family.mean))
    assert same_law == same_mean == family.is_constant(step)
    if not free:
        assert same_mean == (k == other)


@pytest.mark.statement("log-partition-moments", "exact")
@given(families(), st.data(), st.integers(1, 7))
def test_the_log_partition_is_below_its_chords_strictly_if_minimal(
    family: Family, data: st.DataObject, eighths: int
) -> None:
    k, other = (data.draw(parameters(family)) for _ in range(2))
    s = mp.mpf(eighths) / 8
    between = [s * a + (1 - s) * b for a, b in zip(at(k), at(other), strict=True)]
    chord = s * family.log_partition(*at(k)) + (1 - s) * family.log_partition(*at(other))
    gap = chord - family.log_partition(*between)
    if family.is_constant(tuple(a - b for a, b in zip(k, other, strict=True))):
        assert_within(gap, 0, EXACT)  # a straight line
    else:
        assert gap > mp.mpf(10) ** -10
    if not family.free_directions() and k != other:
        assert gap > 0


@pytest.mark.statement("log-partition-moments", "exact")
@given(families(), st.data(), st.integers(-5, 5))
def test_overcomplete_means_a_line_of_parameters_of_one_distribution(
    family: Family, data: st.DataObject, s: int
) -> None:
    k = data.draw(parameters(family))
    free = family.free_directions()
    assume(free)
    for a in free:
        assert any(a)
        moved = tuple(x + s * y for x, y in zip(k, a, strict=True))
        assert family.law(moved) == family.law(k)
        # s need not be whole, and A is a straight line there.
        third = [x + y / mp.mpf(3) for x, y in zip(at(k), a, strict=True)]
        rise = family.log_partition(*third) - family.log_partition(*at(k))
        assert_within(rise, Fraction(inner(a, family.t[0]), 3), EXACT)


@pytest.mark.statement("log-partition-moments", "exact", "torch")
@pytest.mark.parametrize("eta", [-700.0, -40.0, -2.0, 0.0, 0.5, 20.5, 40.0, 700.0])
def test_mean_and_variance_of_a_coin_far_out(eta: float) -> None:
    with mp.workdps(400):
        p = sigma(mp.mpf(eta))
        mean, variance = p, p * (1 - p)
    x = double(eta)
    slope, curve = jacrev(Bernoulli.log_partition), jacrev(jacrev(Bernoulli.log_partition))
    # 1 / (1 + exp(-x)), with exp to 8 u; the next derivative has it three times.
    assert_within(slope(x), mean, rel=16 * U)
    # Where exp(-2 x) underflows, the variance, which is next to nothing, becomes 0.
    assert_within(curve(x), variance, 4 * U, rel=64 * U)


@pytest.mark.statement("log-partition-moments", "statistical", false_alarm=1e-5)
def test_draws_have_the_mean_and_the_covariance_that_the_derivatives_say() -> None:
    eta, n, draws = double([0.3, -1.2, 0.8]), 4, 100_000
    rolls = Multinomial.from_natural(n, eta)
    t = rolls.sample(draws, generator=torch.Generator().manual_seed(0)).double()
    slope = jacrev(lambda z: Multinomial.log_partition(n, z))
    mean, covariance = slope(eta), jacrev(slope)(eta)
    centered = t - mean
    products = centered.unsqueeze(-1) * centered.unsqueeze(-2)
    # Five standard errors in nine places: other seeds would fail with a probability of 1e-5.
    assert_within(t.mean(0), mean, 5 * (covariance.diagonal() / draws).sqrt())
    assert_within(products.mean(0), covariance, 5 * products.std(0) / math.sqrt(draws))


# bernoulli-natural --------------------------------------------------------------------------------

inside = st.fractions(0, 1, max_denominator=10**6).filter(lambda p: 0 < p < 1)
COIN = Family((1, 1), ((0,), (1,)))


@pytest.mark.statement("bernoulli-natural", "exact")
@given(inside, inside)
def test_the_form_the_log_partition_and_the_inverse(pi: Fraction, other: Fraction) -> None:
    p = number(pi)
    eta = mp.log(p / (1 - p))
    a = mp.log(1 + mp.exp(eta))
    assert_within(a, -mp.log(1 - p), EXACT)
    assert_within(a, COIN.log_partition(eta), EXACT)
    for y in (0, 1):
        assert_within(mp.exp(eta * y - a), pi**y * (1 - pi) ** (1 - y), EXACT)
    assert_within(sigma(eta), p, EXACT)
    rounded = double(float(eta))
    # |eta| is below 14, so that its rounding is 14 u for exp, beside 8 u for it and for log1p.
    assert_within(Bernoulli.log_partition(rounded), a, rel=32 * U)
    assert_within(Bernoulli.from_natural(rounded).probs, p, rel=32 * U)
    # 1 - p has lost digits; the logarithm is good to 8 u.
    assert_within(Bernoulli(double(float(p))).to_natural(), eta, 8 * U / (1 - p), rel=16 * U)
    q = number(other)
    assert mp.sign(mp.log(q / (1 - q)) - eta) == (other > pi) - (other < pi)  # one to one


@pytest.mark.statement("bernoulli-natural", "exact")
@given(st.floats(-800, 800))
def test_every_real_number_is_the_log_odds_of_one_probability(eta: float) -> None:
    with mp.workdps(450):  # 1 - pi is down to exp(-800)
        pi = sigma(mp.mpf(eta))
        assert 0 < pi < 1
        assert_within(mp.log(pi / (1 - pi)), eta, EXACT)
        assert sigma(mp.mpf(eta) - mp.mpf(10) ** -30) < pi < sigma(mp.mpf(eta) + mp.mpf(10) ** -30)


@pytest.mark.statement("bernoulli-natural", "symbolic")
def test_computer_algebra_solves_for_the_sigmoid() -> None:
    eta, p = sympy.symbols("eta p", real=True)
    assert COIN.free_directions() == []
    [solution] = sympy.solve(sympy.Eq(sympy.exp(eta), p / (1 - p)), p)
    assert sympy.simplify(solution - 1 / (1 + sympy.exp(-eta))) == 0
    # With twice the weight on y = 1 the same steps end elsewhere.
    [weighted] = sympy.solve(sympy.Eq(2 * sympy.exp(eta), p / (1 - p)), p)
    assert weighted.subs(eta, 0) == sympy.Rational(2, 3)


@pytest.mark.statement("bernoulli-natural", "exact", "scipy")
def test_the_two_certain_coins_are_limits_and_no_members() -> None:
    with mp.workdps(450):
        for eta in (10, 100, 1000):
            assert 0 < sigma(-mp.mpf(eta)) < mp.exp(-eta)
            assert 0 < 1 - sigma(mp.mpf(eta)) < mp.exp(-eta)
    assert scipy.special.logit([0, 1]).tolist() == [-math.inf, math.inf]
    ends = double([0.0, 1.0])
    assert Bernoulli(ends).to_natural().tolist() == [-math.inf, math.inf]
    assert torch.equal(Bernoulli.from_natural(double([-math.inf, math.inf])).probs, ends)
    assert Bernoulli.from_natural(double(-700.0)).probs.item() > 0


# logistic-regression, logistic-fit ----------------------------------------------------------------


class Data(NamedTuple):
    x: tuple[Vector, ...]
    y: Vector

    def eta(self, theta: Sequence[Any]) -> list[Any]:
        return [inner(theta, (*x, 1)) for x in self.x]

    def loss(self, *theta: Any) -> Any:
        terms = [mp.log1p(mp.exp(e)) - y * e for e, y in zip(self.eta(theta), self.y, strict=True)]
        return mp.fsum(terms) / len(self.y)

    def gradient(self, theta: Sequence[Any]) -> list[Any]:
        residual = [sigma(e) - y for e, y in zip(self.eta(theta), self.y, strict=True)]
        rows = zip(*[(*x, 1) for x in self.x], strict=True)
        return [inner(residual, c) / len(self.y) for c in rows]

    def spans(self) -> bool:
        return bool(sympy.Matrix([(*x, 1) for x in self.x]).rank() == len(self.x[0]) + 1)


@st.composite
def datasets(draw: DrawFn, max_d: int = 2) -> Data:
    d, n = draw(st.integers(1, max_d)), draw(st.integers(1, 5))
    x = draw(st.lists(st.tuples(*[st.integers(-2, 2)] * d), min_size=n, max_size=n))
    return Data(tuple(x), tuple(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))))


def whole_parameters(data: Data) -> st.SearchStrategy[Vector]:
    return st.tuples(*[st.integers(-3, 3)] * (len(data.x[0]) + 1))


@pytest.mark.statement("logistic-regression", "exact", "torch", "sklearn")
@given(datasets(max_d=3), st.data())
def test_the_loss_is_the_mean_negative_log_likelihood(data: Data, draw: st.DataObject) -> None:
    theta = draw.draw(whole_parameters(data))
    loss = data.loss(*theta)
    pi = [sigma(mp.mpf(e)) for e in data.eta(theta)]
    likelihood = mp.fprod(p if y else 1 - p for p, y in zip(pi, data.y, strict=True))
    assert_within(loss, -mp.log(likelihood) / len(data.y), EXACT)
    eta, y = double(data.eta(theta)), double(data.y)
    mean = (Bernoulli.log_partition(eta) - y * eta).mean()
    peer = functional.binary_cross_entropy_with_logits(eta, y)
    # Softmax regression of two classes, the second logit at 0.
    logits = torch.stack([eta, torch.zeros_like(eta)], -1)
    softmax_regression = functional.cross_entropy(logits, 1 - y.long())
    # A(eta), up to 21, is rounded before y eta is subtracted; then up to five terms are added.
    assert_within(torch.stack([mean, peer, softmax_regression]), loss, 64 * U, rel=64 * U)
    # scikit-learn takes probabilities: pi is rounded, and what is left of 1 - pi has lost digits.
    rounded = log_loss(data.y, as_double(pi).numpy(), labels=[0, 1])
    lost = max(1 / (1 - p) for p in pi)
    assert_within(rounded, loss, 16 * U * lost, rel=32 * U)


@pytest.mark.statement("logistic-regression", "exact")
@given(st.tuples(*[st.integers(-4, 4)] * 3), st.tuples(*[st.integers(-3, 3)] * 2))
def test_a_unit_of_a_feature_multiplies_the_odds(theta: Vector, x: Vector) -> None:
    *w, b = theta

    def odds(x: Sequence[int]) -> Any:
        pi = sigma(mp.mpf(inner(w, x) + b))
        return pi / (1 - pi)

    for d, weight in enumerate(w):
        more = [v + (i == d) for i, v in enumerate(x)]
        assert_within(odds(more), odds(x) * mp.exp(weight), rel=mp.mpf(10) ** -30)


@pytest.mark.statement("logistic-fit", "exact")
@settings(max_examples=20)
@given(datasets(), st.data())
def test_gradient_and_hessian_of_the_loss(data: Data, draw: st.DataObject) -> None:
    theta = draw.draw(whole_parameters(data))
    d = len(theta)
    e = [tuple(int(i == j) for j in range(d)) for i in range(d)]
    pi = [sigma(mp.mpf(x)) for x in data.eta(theta)]
    x = [(*row, 1) for row in data.x]
    for i, stated in enumerate(data.gradient(theta)):
        assert_within(mp.diff(data.loss, theta, e[i]), stated, mp.mpf(10) ** -25)
    for i, j in product(range(d), repeat=2):
        stated = inner([p * (1 - p) for p in pi], [r[i] * r[j] for r in x]) / len(x)
        order = tuple(a + b for a, b in zip(e[i], e[j], strict=True))
        assert_within(mp.diff(data.loss, theta, order), stated, mp.mpf(10) ** -20)


@pytest.mark.statement("logistic-fit", "exact")
@given(datasets(), st.data())
def test_the_loss_is_convex_and_flat_only_where_no_example_looks(
    data: Data, draw: st.DataObject
) -> None:
    a, b = (draw.draw(whole_parameters(data)) for _ in range(2))
    middle = [mp.mpf(x + y) / 2 for x, y in zip(a, b, strict=True)]
    gap = (data.loss(*a) + data.loss(*b)) / 2 - data.loss(*middle)
    unseen = data.eta([x - y for x, y in zip(a, b, strict=True)]) == [0] * len(data.y)
    if unseen:
        assert_within(gap, 0, EXACT)
    else:
        assert gap > mp.mpf(10) ** -12
    if data.spans():
        assert unseen == (a == b)


def matched(x: Sequence[Vector], theta: Vector, swap: int = 0) -> Data:
    """Labels whose share at each x is exactly the probability at theta log 2.

    A swap moves ones between the first four x, where these are 0, 1, 2, 3.
    """
    rows: list[Vector] = []
    labels: list[int] = []
    for i, row in enumerate(x):
        odds = Fraction(2) ** inner(theta, (*row, 1))
        ones = odds.numerator + (swap * (1, -1, -1, 1)[i] if swap else 0)
        copies = odds.numerator + odds.denominator
        assert 0 <= ones <= copies
        rows += [row] * copies
        labels += [1] * ones + [0] * (copies - ones)
    return Data(tuple(rows), tuple(labels))


MATCHED = [
    pytest.param([(0,), (1,)], (1, 0), 0, id="two points"),
    pytest.param([(0,), (1,), (2,), (3,)], (1, -1), 0, id="a line"),
    pytest.param([(0,), (1,), (2,), (3,)], (1, -1), 1, id="not the probability at any x"),
    pytest.param([(0,), (1,), (2,), (3,)], (-1, 2), -1, id="nor here"),
    pytest.param([(0, 0), (1, 0), (0, 1), (1, 1)], (1, -2, 1), 0, id="two features"),
    pytest.param([(2,)], (1, -1), 0, id="one point"),
    pytest.param([(0, 0), (1, 1), (2, 2)], (1, 0, -1), 0, id="the same feature twice"),
]


@pytest.mark.statement("logistic-fit", "exact")
@pytest.mark.parametrize(("x", "theta", "swap"), MATCHED)
def test_where_the_sums_agree_is_a_minimum_and_the_only_one_if_the_data_span(
    x: list[Vector], theta: Vector, swap: int
) -> None:
    data = matched(x, theta, swap)
    best = at(theta)
    assert_within(data.gradient(best), 0, EXACT)
    others = [s for s in product((-2, -1, 0, 1, 2), repeat=len(theta)) if any(s)]
    flat = 0
    for step in others:
        unseen = not any(data.eta(step))
        flat += unseen
        for size in (mp.mpf("1e-6"), mp.mpf(1)):
            there = [b + size * s for b, s in zip(best, step, strict=True)]
            rise = data.loss(*there) - data.loss(*best)
            assert abs(rise) < EXACT if unseen else rise > mp.mpf(10) ** -16
            assert all(abs(g) < EXACT for g in data.gradient(there)) == unseen
    assert (flat == 0) == data.spans()


@pytest.mark.statement("logistic-fit", "sklearn", "torch", "statistical", false_alarm=3e-6)
def test_scikit_learn_agrees_in_the_sums_and_its_error_is_that_of_the_hessian() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 2, generator=generator, dtype=torch.float64)
    truth = double([1.0, -2.0, 0.5])
    design = torch.cat([x, torch.ones(2000, 1, dtype=torch.float64)], 1)
    y = Bernoulli.from_natural(design @ truth).sample(1, generator=generator)[0].double()
    tol = 1e-9
    peer = LogisticRegression(C=math.inf, solver="newton-cholesky", tol=tol)
    peer.fit(x.numpy(), y.numpy())
    pi = double(peer.predict_proba(x.numpy())[:, 1])
    # It stops where no mean residual is above tol; the rounding of 2000 terms is far less.
    assert_within(design.T @ pi, design.T @ y, 2 * 2000 * tol)
    theta = double([*peer.coef_[0], peer.intercept_[0]])

    def loss(theta: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(design @ theta, y)

    hessian = design.T @ ((pi * (1 - pi)).unsqueeze(-1) * design) / 2000
    # Means of 2000 terms of size 1 or less on average, in any order.
    assert_within(jacrev(jacrev(loss))(theta), hessian, 2 * 2000 * U)
    # Five standard errors: other seeds would fail with a probability of 3e-6.
    assert_within(theta, truth, 5 * (hessian.inverse().diagonal() / 2000).sqrt())


@pytest.mark.statement("logistic-fit", "exact")
@pytest.mark.parametrize(
    ("x", "y", "direction"),
    [
        pytest.param([(0,), (1,)], (1, 1), (0, 1), id="only ones"),
        pytest.param([(0,), (1,)], (0, 0), (0, -1), id="only zeros"),
        pytest.param([(-1,), (2,)], (0, 1), (1, 0), id="separable"),
        pytest.param([(1, 0), (0, 1), (3, 3)], (0, 0, 1), (1, 1, -3), id="by a line"),
        pytest.param([(-1,), (0,), (0,), (1,)], (0, 0, 1, 1), (1, 0), id="on the border"),
    ],
)
@pytest.mark.parametrize("start", [0, -3, 5])
def test_spanning_data_need_not_have_a_minimum(
    x: list[Vector], y: Vector, direction: Vector, start: int
) -> None:
    data = Data(tuple(x), y)
    assert data.spans()
    here = [mp.mpf(start)] * len(direction)
    for s in range(0, 60, 6):  # downhill for ever, and nowhere do all sums agree
        there = [h + s * d for h, d in zip(here, direction, strict=True)]
        assert inner(data.gradient(there), direction) < 0


# residual-link ------------------------------------------------------------------------------------

Link = Callable[[Any], Any]
OTHERS: dict[str, Link] = {
    "probit": mp.ncdf,
    "probit, stretched": lambda x: mp.ncdf(x / mp.mpf("1.702")),
    "arctan": lambda x: mp.mpf(1) / 2 + mp.atan(x) / mp.pi,
    "root": lambda x: (1 + x / mp.sqrt(1 + x * x)) / 2,
    "complementary log-log": lambda x: 1 - mp.exp(-mp.exp(x)),
    "temperature 2": lambda x: sigma(x / 2),
    "falling": lambda x: sigma(-x),
    "constant": lambda x: mp.mpf(1) / 3,
    "mixed with a fair coin": lambda x: (1 + 8 * sigma(x)) / 10,
    "not increasing": lambda x: (2 + mp.sin(x)) / 4,
}


def excess(g: Link, x: Any, y: int) -> Any:
    """Derivative of the loss minus the residual."""
    return mp.diff(lambda s: -mp.log(g(s) if y else 1 - g(s)), x) - (g(x) - y)


@pytest.mark.statement("residual-link", "exact")
@given(st.floats(-20, 20), st.floats(-10, 10), st.sampled_from([0, 1]))
def test_a_shifted_sigmoid_has_the_residual_as_its_gradient(x: float, c: float, y: int) -> None:
    assert_within(excess(lambda s: sigma(s + c), mp.mpf(x), y), 0, mp.mpf(10) ** -25)


@pytest.mark.statement("residual-link", "exact")
@pytest.mark.parametrize("link", OTHERS)
def test_no_other_link_has_it_for_either_label(link: str) -> None:
    g, grid = OTHERS[link], [mp.mpf(i) / 2 for i in range(-5, 6)]
    errors = [[excess(g, x, y) for x in grid] for y in (0, 1)]
    assert min(max(map(abs, row)) for row in errors) > 0.01
    for x, no, yes in zip(grid, *errors, strict=True):
        # One factor for both labels, so that they fail together.
        factor = mp.diff(g, x) / (g(x) * (1 - g(x)))
        assert_within(no, g(x) * (factor - 1), mp.mpf(10) ** -20)
        assert_within(yes, (g(x) - 1) * (factor - 1), mp.mpf(10) ** -20)


@pytest.mark.statement("residual-link")
@pytest.mark.parametrize("start", ["0.1", "0.5", "0.93"])
@pytest.mark.parametrize("y", [0, 1])
def test_the_equation_of_one_label_leaves_only_the_shift_open(start: str, y: int) -> None:
    g0 = mp.mpf(start)
    # The loss l itself: g is 1 - exp(-l) for y = 0 and exp(-l) for y = 1, and l' = g - y.
    with mp.workdps(20):
        for way in (1, -1):  # away from 0 to the right and to the left
            solution = mp.odefun(
                lambda s, loss, way=way: way * (mp.exp(-loss) - 1 if y else 1 - mp.exp(-loss)),
                0,
                -mp.log(g0 if y else 1 - g0),
            )
            for s in (1, 3):
                p = mp.exp(-solution(s))
                c = mp.log(g0 / (1 - g0))
                assert_within(p if y else 1 - p, sigma(way * s + c), mp.mpf(10) ** -12)


@pytest.mark.statement("residual-link", "exact")
@pytest.mark.parametrize("y", [0, 1])
def test_for_all_eta_is_needed(y: int) -> None:
    def glued(x: Any) -> Any:
        return sigma(x if x <= 0 else x + x * x)  # both pieces have the slope 1/4 at 0

    at_left = [excess(glued, mp.mpf(x), y) for x in (-5, -2, -0.5)]
    assert_within(at_left, 0, mp.mpf(10) ** -20)
    assert all(abs(excess(glued, mp.mpf(x), y)) > 0.01 for x in (0.5, 1))
