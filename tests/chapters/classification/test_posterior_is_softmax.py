"""The theorem `posterior-is-softmax`: The posterior is a softmax."""

from __future__ import annotations

import math
from typing import Any

import pytest
import scipy.optimize
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.classification.common import U, is_constant, whole
from tests.support.strategies import assert_within, double


@st.composite
def contingency(draw: DrawFn, least: int) -> list[list[int]]:
    """How many there are of each class (rows) and each value of x (columns); no class is empty."""
    k, m = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    row = st.lists(st.integers(least, 9), min_size=m, max_size=m).filter(lambda n: sum(n) > 0)
    return draw(st.lists(row, min_size=k, max_size=k))


def log_joint(counts: list[list[int]]) -> Tensor:
    """log f_k(x) + log pi_k for each x, a row each; the density is that of the counting measure."""
    total = sum(map(sum, counts))
    prior = double([sum(row) / total for row in counts])
    density = double([[n / sum(row) for n in row] for row in counts])
    return (density.log() + prior.log().unsqueeze(-1)).T


@pytest.mark.statement("posterior-is-softmax", "exact")
@given(contingency(1))
def test_counting_gives_the_softmax_of_log_density_and_log_prior(counts: list[list[int]]) -> None:
    p = softmax(log_joint(counts))
    column = [sum(row[x] for row in counts) for x in range(len(counts[0]))]
    expected = double([[row[x] / column[x] for row in counts] for x in range(len(column))])
    # Logits up to 9, logarithms that are off by 8 u, and exponentials by 8 u; twice, for the sum.
    assert_within(p, expected, 256 * U * expected)


@pytest.mark.statement("posterior-is-softmax", "exact")
@given(contingency(0))
def test_where_a_density_vanishes_its_logit_is_minus_infinity(counts: list[list[int]]) -> None:
    for x, z in enumerate(log_joint(counts)):
        of_x = [row[x] for row in counts]
        assert (z == -math.inf).tolist() == [n == 0 for n in of_x]
        if any(of_x):
            expected = double([n / sum(of_x) for n in of_x])
            assert_within(softmax(z), expected, 256 * U * expected)
        else:
            # Nothing of any class is there to compare.
            assert softmax(z).isnan().all()


@pytest.mark.statement("posterior-is-softmax")
@given(contingency(1), st.data())
def test_logits_of_the_same_posterior_differ_by_a_constant(
    counts: list[list[int]], data: st.DataObject
) -> None:
    z = log_joint(counts)[0]
    constant = data.draw(st.booleans())
    change = data.draw(whole(1)).expand(len(z)) if constant else data.draw(whole(len(z)))
    p, moved = softmax(z), softmax(z + change)
    # Unequal changes differ by one or more and multiply the odds by e or more; z + change is
    # rounded at a size of 10.
    same = bool(((moved / p - 1).abs() <= 256 * U).all())
    assert same == is_constant(change)
    # The other way: whatever has this posterior is its logarithm up to a constant.
    # Twice: p is off by 52 u, its logarithm, up to 9, by 8 u of itself, the difference by 9 u.
    assert_within(z - p.log(), (z - p.log()).mean().expand_as(z), 320 * U)


LINE: dict[str, list[tuple[float, Any]]] = {
    "three normals": [
        (0.5, scipy.stats.norm(-1, 1)),
        (0.3, scipy.stats.norm(2, 0.5)),
        (0.2, scipy.stats.norm(0, 3)),
    ],
    "three families": [
        (0.1, scipy.stats.gamma(2.5)),
        (0.6, scipy.stats.expon(scale=2)),
        (0.3, scipy.stats.lognorm(0.7)),
    ],
    "heavy and light": [(0.9, scipy.stats.norm()), (0.1, scipy.stats.cauchy())],
    "the same twice": [(0.75, scipy.stats.norm()), (0.25, scipy.stats.norm())],
    "one class": [(1.0, scipy.stats.logistic())],
}


@pytest.mark.statement("posterior-is-softmax", "scipy")
@pytest.mark.parametrize("classes", LINE.values(), ids=LINE.keys())
@pytest.mark.parametrize("x", [0.25, 1.0, 2.5])
def test_densities_on_a_line_against_probabilities_of_a_short_interval(
    classes: list[tuple[float, Any]], x: float
) -> None:
    z = double([float(density.logpdf(x)) + math.log(prior) for prior, density in classes])
    h = 1e-4
    near = double([prior * (law.cdf(x + h) - law.cdf(x - h)) for prior, law in classes])
    # The interval is off by h^2 f'' / 6 f, of which f'' / f is below 100; two cdfs by 8 u each,
    # over all classes' probability of it, 2 h times a density of 0.1 or more.
    assert_within(softmax(z), near / near.sum(), 100 * h**2 / 3 + 16 * U / (2 * h * 0.1))


@pytest.mark.statement("posterior-is-softmax")
@pytest.mark.parametrize("x", [0.0, 0.5, 3.0])
def test_the_measure_may_have_atoms_and_any_scale_but_must_be_common(x: float) -> None:
    # Zero with probability r, otherwise exponential: densities for a point mass at 0 + length.
    zero, rate = double([0.5, 0.1, 0.2]), double([1.0, 0.3, 4.0])
    prior = double([0.2, 0.3, 0.5])
    h = 1e-4
    if x == 0:
        density, near = zero, zero
    else:
        density = (1 - zero) * rate * (-rate * x).exp()
        near = (1 - zero) * ((-rate * (x - h)).exp() - (-rate * (x + h)).exp())
    expected = near * prior / (near * prior).sum()
    z = density.log() + prior.log()
    # sinh(h rate) / h rate is 1 + (h rate)^2 / 6; two exponentials, 16 u, over 2 h rate.
    allowed = (h * 4.0) ** 2 / 6 + 16 * U / (2 * h * 0.3)
    assert_within(softmax(z), expected, allowed)
    # With respect to 7 times that measure, all densities are a seventh.
    assert_within(softmax((density / 7).log() + prior.log()), expected, allowed)
    # One class in other units than the rest is another posterior.
    mixed = density / double([7.0, 1.0, 1.0])
    assert (softmax(mixed.log() + prior.log()) - expected).abs().max() > 1e-3
