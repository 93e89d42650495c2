"""The theorem `dot-product-variance`: The variance of an inner product."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chapters.attention.common import drawn_components, normal
from tests.support.strategies import assert_within

# A distribution with finitely many values: value to probability.
Law = dict[Fraction, Fraction]


def two_points(a: Fraction) -> Law:
    """Mean 0 and variance 1: ``a`` with probability 1 / (1 + a^2), and -1 / a."""
    return {a: 1 / (1 + a * a), -1 / a: a * a / (1 + a * a)}


SIGNS = two_points(Fraction(1))
SPARSE = {Fraction(2): Fraction(1, 8), Fraction(0): Fraction(3, 4), Fraction(-2): Fraction(1, 8)}
SKEWED = two_points(Fraction(2))


def moments(law: Law) -> tuple[Fraction, Fraction]:
    mean = sum((x * share for x, share in law.items()), Fraction(0))
    return mean, sum((x * x * share for x, share in law.items()), Fraction(0)) - mean**2


def has_moments(law: Law, mean: int, variance: int) -> bool:
    return moments(law) == (Fraction(mean), Fraction(variance))


def law_of(function: Callable[..., Fraction], *laws: Law) -> Law:
    """The distribution of a function of independent variables, by going through all values."""
    result: Law = {}
    for outcome in itertools.product(*(law.items() for law in laws)):
        value = function(*(x for x, _ in outcome))
        share = math.prod((share for _, share in outcome), start=Fraction(1))
        result[value] = result.get(value, Fraction(0)) + share
    return result


def inner_product(*components: Fraction) -> Fraction:
    d = len(components) // 2
    return sum((a * b for a, b in zip(components[:d], components[d:], strict=True)), Fraction(0))


@pytest.mark.statement("dot-product-variance", "exact")
@settings(max_examples=60)
@given(st.integers(1, 3), st.data())
def test_the_variance_is_the_width_whatever_the_distributions(d: int, data: st.DataObject) -> None:
    # Each of the 2 d components has a distribution of its own.
    values = st.fractions(Fraction(1, 8), Fraction(8), max_denominator=9)
    laws = [
        two_points(data.draw(values)) if data.draw(st.booleans()) else SPARSE for _ in range(2 * d)
    ]
    assert all(has_moments(law, 0, 1) for law in laws)
    product = law_of(inner_product, *laws)
    assert sum(product.values()) == 1
    assert has_moments(product, 0, d)
    # Divided by the root, the variance is divided by d.
    assert moments(product)[1] / d == 1


@pytest.mark.statement("dot-product-variance", "exact")
@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_signs_sum_to_a_random_walk(d: int) -> None:
    product = law_of(inner_product, *[SIGNS] * (2 * d))
    # The product of two signs is a sign: d steps of a fair walk.
    assert product == {
        Fraction(2 * ups - d): Fraction(math.comb(d, ups), 2**d) for ups in range(d + 1)
    }
    assert has_moments(product, 0, d)


@pytest.mark.statement("dot-product-variance", "symbolic")
def test_means_and_variances_of_products_in_symbols() -> None:
    m, n, s, t = sp.symbols("m n s t", real=True)
    # Of independent variables with means m and n and variances s and t.
    variance = sp.expand((s + m**2) * (t + n**2) - (m * n) ** 2)
    assert variance.subs({m: 0, n: 0, s: 1, t: 1}) == 1
    assert sp.expand(variance - (s * t + m**2 * t + n**2 * s)) == 0
    # Each of the four hypotheses is used.
    for value in ({m: 1}, {n: 1}, {s: 2}, {t: 2}):
        assert variance.subs({m: 0, n: 0, s: 1, t: 1} | value) == 2


@pytest.mark.statement("dot-product-variance", "scipy")
def test_normal_components_by_quadrature() -> None:
    # The product of two standard normal variables has the density K_0(|x|) / pi.
    for power in (0, 2):
        moment, error = scipy.integrate.quad(
            lambda x, power=power: 2 * x**power * scipy.special.k0(x) / math.pi, 0, math.inf
        )
        assert_within(moment, 1, error)
        assert error < 1e-7


@pytest.mark.statement("dot-product-variance", "exact")
@pytest.mark.parametrize("d", [2, 3])
def test_what_happens_without_the_hypotheses(d: int) -> None:
    # The same vector twice: the mean is d.
    same = law_of(lambda *q: inner_product(*q, *q), *[SKEWED] * d)
    assert moments(same)[0] == d
    # All components of q equal, and all of k: every product is the same, and the variance d^2.
    repeated = law_of(lambda a, b: d * a * b, SKEWED, SPARSE)
    assert has_moments(repeated, 0, d * d)
    # With all components of q equal and those of k independent the products are uncorrelated:
    # independence is more than is needed.
    half = law_of(lambda a, *k: inner_product(*[a] * d, *k), SKEWED, *[SPARSE] * d)
    assert has_moments(half, 0, d)
    # A mean of 1 in q and k: (1 + 1) (1 + 1) - 1 for each product.
    moved = {x + 1: share for x, share in SIGNS.items()}
    assert has_moments(law_of(inner_product, *[moved] * (2 * d)), d, 3 * d)
    # A variance of 4 in q alone.
    wide = {2 * x: share for x, share in SIGNS.items()}
    assert has_moments(law_of(inner_product, *[wide] * d, *[SIGNS] * d), 0, 4 * d)


@pytest.mark.statement("dot-product-variance", "statistical", false_alarm=3e-9)
@pytest.mark.parametrize("d", [1, 64])
@pytest.mark.parametrize("name", ["normal", "uniform", "skewed", "signs"])
def test_drawn_products_have_the_variance(name: str, d: int) -> None:
    pairs = 20_000
    if name == "normal":
        components = normal(2 * pairs * d, seed=10)
    else:
        components, _ = drawn_components(name, 2 * pairs * d)
    q, k = components.view(2, pairs, d)
    products = (q * k).sum(-1)
    # E[X^4] is 3 d (d - 1) + d E[q^4] E[k^4].
    fourth = {"normal": 3.0, "uniform": 1.8, "skewed": 3.25, "signs": 1.0}[name] ** 2
    deviation = math.sqrt((3 * d * (d - 1) + d * fourth - d * d) / pairs)
    # Seven standard deviations: 3e-12 if the average were normal. Its skewness, at most 0.07, makes
    # that exp(0.07 * 7^3 / 6) = 55 times as much.
    assert abs(products.mean().item()) <= 7 * math.sqrt(d / pairs)
    assert abs(products.square().mean().item() - d) <= 7 * deviation + 1e-12
    scaled = products / math.sqrt(d)
    assert abs(scaled.square().mean().item() - 1) <= 7 * deviation / d + 1e-12
