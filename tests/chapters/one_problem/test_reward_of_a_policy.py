"""The corollary `reward-of-a-policy`: The reward that a policy is best for."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import sympy as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp

from tests.chapters.one_problem.policies import (
    ZERO,
    Law,
    exact,
    lists_of,
    policies,
    reweighted,
    row,
    same,
    tilt,
)
from tests.support.strategies import assert_within, sigma, temperatures, unit

F = Fraction
U = unit(torch.float64)


def rewards_of(p: Law, q: Law, t: Any, level: Any = 0) -> list[Any]:
    """The rewards for which p is the best policy: T log(p / q), up to a constant."""
    pairs = zip(p, q, strict=True)
    return [exact(t) * mp.log(exact(a) / exact(b)) + exact(level) for a, b in pairs]


def margin(p: Law, q: Law, t: Any, y: int, other: int) -> Any:
    """How much more reward y has than another outcome."""
    ratios = [exact(a) / exact(b) for a, b in zip(p, q, strict=True)]
    return exact(t) * (mp.log(ratios[y]) - mp.log(ratios[other]))


@st.composite
def pairs(draw: st.DrawFn, min_size: int = 1) -> tuple[Law, Law]:
    """Two policies that can do the same."""
    p = draw(policies(min_size, least=1))
    return p, reweighted([F(w) for w in draw(lists_of(st.integers(1, 9), len(p)))], [1] * len(p))


@pytest.mark.statement("reward-of-a-policy", "exact")
@given(pairs(), temperatures(0.02, 1e3), st.integers(-5, 5), st.data())
def test_a_policy_is_the_tilt_by_these_rewards_and_by_no_others(
    pair: tuple[Law, Law], t: float, level: int, data: st.DataObject
) -> None:
    p, q = pair
    r = rewards_of(p, q, t, level)
    assert_within(tilt(q, r, t), p, ZERO)
    moves = data.draw(lists_of(st.integers(-3, 3), len(p)))
    other = tilt(q, [x + move for x, move in zip(r, moves, strict=True)], t)
    assert same(other, p) == (len(set(moves)) == 1)


@pytest.mark.statement("reward-of-a-policy", "exact")
@given(pairs(), st.data())
def test_in_fractions_too(pair: tuple[Law, Law], data: st.DataObject) -> None:
    p, q = pair
    factors = [a / b for a, b in zip(p, q, strict=True)]
    assert reweighted(q, factors) == list(p)
    scales = [F(s) for s in data.draw(lists_of(st.integers(1, 3), len(p)))]
    others = reweighted(q, [f * s for f, s in zip(factors, scales, strict=True)])
    assert (others == list(p)) == (len(set(scales)) == 1)


@pytest.mark.statement("reward-of-a-policy", "exact")
@given(policies(2, least=1), temperatures(0.02, 1e3), st.data())
def test_differences_of_rewards_are_read_off_without_the_normalizer(
    q: Law, t: float, data: st.DataObject
) -> None:
    r = data.draw(lists_of(st.integers(-5, 5), len(q)))
    p = tilt(q, r, t)
    for y in range(len(q)):
        for other in range(len(q)):
            assert_within(margin(p, q, t, y, other), r[y] - r[other], ZERO * (1 + t))


@pytest.mark.statement("reward-of-a-policy", "exact")
@given(pairs(2), st.integers(1, 3))
def test_the_odds_of_bradley_and_terry_are_powers_of_ratios(pair: tuple[Law, Law], t: int) -> None:
    p, q = pair
    first, second = ((p[i] / q[i]) ** t for i in (0, 1))
    assert_within(sigma(margin(p, q, t, 0, 1)), first / (first + second), ZERO)


@pytest.mark.statement("reward-of-a-policy", "symbolic")
def test_loss_and_gradient_in_symbols() -> None:
    t, q, q_other, weight, weight_other = sp.symbols("T q q' w w'", positive=True)
    # Free logarithms, and those of a softmax of three logits: the normalizer leaves.
    free = sp.symbols("l l'", real=True)
    m = t * ((free[0] - sp.log(q)) - (free[1] - sp.log(q_other)))
    loss = -sp.log(1 / (1 + sp.exp(-m)))
    chance = 1 / (1 + sp.exp(-m))
    for log_p, slope in zip(free, (-t * (1 - chance), t * (1 - chance)), strict=True):
        assert sp.simplify(sp.diff(loss, log_p) - slope) == 0
    normalizer = weight + weight_other
    p, p_other = weight / normalizer, weight_other / normalizer
    ratio = sp.expand_log(sp.log(sp.cancel(p / p_other)), force=True)
    assert normalizer not in ratio.atoms(sp.Add)
    assert sp.simplify(ratio - sp.log(weight) + sp.log(weight_other)) == 0


@pytest.mark.statement("reward-of-a-policy", "torch")
@given(
    st.integers(2, 5).flatmap(lambda k: st.tuples(*[lists_of(st.integers(-4, 4), k)] * 2)),
    temperatures(0.05, 5.0),
)
def test_the_gradient_by_autograd(rows: tuple[list[int], list[int]], t: float) -> None:
    z, log_q = row(rows[0]).requires_grad_(), torch.log_softmax(row(rows[1]), -1)
    log_p = torch.log_softmax(z, -1)
    log_p.retain_grad()
    m = t * ((log_p[0] - log_q[0]) - (log_p[1] - log_q[1]))
    loss = -torch.nn.functional.logsigmoid(m)
    loss.backward()
    differences = [values[0] - values[1] for values in rows]
    exact_margin = mp.mpf(t) * (differences[0] - differences[1])
    slope = -mp.mpf(t) * (1 - sigma(exact_margin))
    # Log-probabilities up to 8 + log 5 < 10 with errors of 40 u or so each; a sigmoid is no steeper
    # than a quarter of its size 1, and exp and the sums round by some more.
    error = t * (t * 4 * 40 * 10 * U + 32 * U)
    zeros = [0] * (len(z) - 2)
    assert log_p.grad is not None
    assert_within(log_p.grad, [slope, -slope, *zeros], error)
    # And in the logits of the policy, whose normalizer has left.
    assert z.grad is not None
    assert_within(z.grad, [slope, -slope, *zeros], 3 * error)
    # The loss is what PyTorch calls the binary cross-entropy of the logit m and the label 1.
    same_loss = torch.nn.functional.binary_cross_entropy_with_logits(m, torch.ones_like(m))
    size = t * 4 * 40 * 10 * U + 64 * U * (1 + loss.item())
    assert_within([loss.item(), same_loss.item()], mp.log1p(mp.exp(-exact_margin)), size)


def mean_loss(p: Law, q: Law, r: list[int], t: float) -> Any:
    """Over all pairs, compared as Bradley and Terry have it."""
    losses = []
    for y in range(len(q)):
        for other in range(y):
            chance = sigma(mp.mpf(r[y] - r[other]))
            m = margin(p, q, t, y, other)
            losses.append(-chance * mp.log(sigma(m)) - (1 - chance) * mp.log(sigma(-m)))
    return mp.fsum(losses)


@pytest.mark.statement("reward-of-a-policy", "exact")
@given(pairs(2), temperatures(0.1, 10.0), st.data())
def test_the_mean_loss_is_least_at_the_tilt_alone(
    pair: tuple[Law, Law], t: float, data: st.DataObject
) -> None:
    p, q = pair
    r = data.draw(lists_of(st.integers(-3, 3), len(q)))
    best = tilt(q, r, t)
    least = mean_loss(best, q, r, t)
    assert (mean_loss(p, q, r, t) > least + ZERO) != same(p, best)
