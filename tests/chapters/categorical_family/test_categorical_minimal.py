"""The theorem `categorical-minimal`: Minimal form of the categorical distribution."""

from __future__ import annotations

import pytest
import sympy
import torch
from hypothesis import given
from mpmath import mp
from torch import Tensor
from torch.nn import functional

from omnivault.distributions import Categorical
from tests.chapters.categorical_family.common import (
    EXACT,
    U,
    positive_weights,
    powers,
    shares,
    soft,
)
from tests.support.strategies import (
    as_double,
    assert_within,
    inner,
    logsumexp_bound,
    number,
    rows,
    sigma,
    softmax_bound,
    whole_row_pairs,
)


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
