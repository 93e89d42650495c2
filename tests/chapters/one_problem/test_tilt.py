"""The theorem `tilt`: The tilt of a policy by a reward."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import sympy as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp

from omnivault.softmax import logsumexp, softmax
from tests.chapters.one_problem.policies import (
    ZERO,
    Law,
    exact,
    kl,
    levels,
    lists_of,
    mean,
    policies,
    reweighted,
    row,
    same,
    smooth_maximum,
    softmax_of,
    tasks,
    tilt,
    tilt_bounds,
    total_variation,
)
from tests.support.strategies import SINGLE_DOUBLE, assert_within, log_softmax_bound, temperatures

F = Fraction


def value(p: Law, q: Law, r: list[int], t: float) -> Any:
    """The reward, less T times the divergence."""
    return mean(p, r) - t * kl(p, q)


@st.composite
def contests(draw: st.DrawFn) -> tuple[Law, list[int], Law]:
    """A policy q, a reward and another policy, which rules out what q rules out, and maybe more."""
    q, r = draw(tasks())
    weights = draw(lists_of(st.integers(0, 5), len(q)).filter(lambda w: any(inside(w, q))))
    return q, r, reweighted([F(x) for x in inside(weights, q)], [1] * len(q))


def inside(weights: list[int], q: Law) -> list[int]:
    return [w if a else 0 for w, a in zip(weights, q, strict=True)]


@pytest.mark.statement("tilt", "exact")
@given(contests(), temperatures(0.2, 1e3))
def test_what_a_policy_lacks_is_its_divergence_from_the_tilt(
    contest: tuple[Law, list[int], Law], t: float
) -> None:
    q, r, p = contest
    most, best = smooth_maximum(q, r, t), tilt(q, r, t)
    assert_within(value(p, q, r, t), most - t * kl(p, best), ZERO * (1 + t))
    # So it is reached by the tilt, and by nothing else: no probability is below e^-60.
    assert_within(value(best, q, r, t), most, ZERO * (1 + t))
    assert (value(p, q, r, t) < most - ZERO * (1 + t)) != same(p, best)


@pytest.mark.statement("tilt", "symbolic")
@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_identity_in_symbols(k: int) -> None:
    t, *symbols = sp.symbols(f"T p_1:{k + 1} q_1:{k + 1}", positive=True)
    p, q, r = symbols[:k], symbols[k:], sp.symbols(f"r_1:{k + 1}", real=True)
    # The last one is what the others leave of 1.
    p = [*p[:-1], 1 - sum(p[:-1])]
    normalizer = sum(b * sp.exp(x / t) for b, x in zip(q, r, strict=True))
    # The logarithm of p* written out; and p* adds up to 1.
    logs = [sp.log(b) + x / t - sp.log(normalizer) for b, x in zip(q, r, strict=True)]
    assert sp.simplify(sum(sp.exp(log) for log in logs)) == 1
    triples = list(zip(p, q, r, strict=True))
    left = sum(a * x - t * a * (sp.log(a) - sp.log(b)) for a, b, x in triples)
    lacking = sum(a * (sp.log(a) - log) for a, log in zip(p, logs, strict=True))
    assert sp.expand(left - t * sp.log(normalizer) + t * lacking) == 0


def test_a_policy_that_does_what_q_rules_out_is_infinitely_bad() -> None:
    assert value([F(1, 2), F(1, 2)], [F(1), F(0)], [0, 9], 1.0) == -mp.inf


@pytest.mark.statement("tilt", "exact")
@given(tasks(), st.data())
def test_tilts_add(task: tuple[Law, list[int]], data: st.DataObject) -> None:
    q, r = task
    # At T = 1 / log 2 and T' = 1 / log 3 the factors of whole rewards are powers: fractions.
    again = data.draw(lists_of(st.integers(-5, 5), len(q)))
    twice = reweighted(reweighted(q, [F(2) ** x for x in r]), [F(3) ** x for x in again])
    assert twice == reweighted(q, [F(2) ** x * F(3) ** y for x, y in zip(r, again, strict=True)])
    # And they are tilts at these temperatures.
    t, t_again = 1 / mp.log(2), 1 / mp.log(3)
    assert_within(tilt(tilt(q, r, t), again, t_again), twice, ZERO)


@pytest.mark.statement("tilt", "exact")
@given(
    st.integers(1, 5).flatmap(lambda k: st.tuples(*[lists_of(st.integers(-5, 5), k)] * 3)),
    temperatures(0.1, 100.0),
    temperatures(0.1, 100.0),
)
def test_of_a_softmax_it_is_a_bias_of_the_logits(
    rows: tuple[list[int], list[int], list[int]], t: float, t_again: float
) -> None:
    z, r, again = rows
    biased = [x + mp.mpf(y) / t for x, y in zip(z, r, strict=True)]
    assert_within(softmax_of(biased), tilt(softmax_of(z), r, t), ZERO)
    twice = tilt(tilt(softmax_of(z), r, t), again, t_again)
    both = [x + mp.mpf(y) / t_again for x, y in zip(biased, again, strict=True)]
    assert_within(softmax_of(both), twice, ZERO)
    # In PyTorch's numbers: the bias moves each logit by a rounding or two of itself.
    logits = row(z) + row(r) / t
    moved = 2 * torch.finfo(torch.float64).eps * (row(z).abs() + row(r).abs() / t).max()
    computed = torch.log_softmax(logits, -1).exp()
    bound = log_softmax_bound(logits) + 2 * moved + 8 * torch.finfo(torch.float64).eps
    assert_within(computed, softmax_of(biased), bound)


@pytest.mark.statement("tilt", "exact")
@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
@given(task=tasks(1, 6), t=temperatures(0.02, 1e4))
def test_weights_of_softmax_tilt(dtype: torch.dtype, task: tuple[Law, list[int]], t: float) -> None:
    q, r = task
    weights = row(q)
    tilted = softmax(row(r, dtype), temperature=t, weights=weights)
    of_softmax, of_maximum = tilt_bounds(q, r, t, dtype)
    assert_within(tilted, tilt(q, r, t), of_softmax)
    assert bool((tilted[weights == 0] == 0).all())
    most = logsumexp(row(r, dtype), temperature=t, weights=weights)
    assert_within(most, smooth_maximum(q, r, t), of_maximum)


def conditioned(q: Law, r: list[int]) -> list[Any]:
    """The policy q, given that the reward is the largest that can occur."""
    return reweighted(q, [F(x == levels(q, r)[-1]) for x in r])


@pytest.mark.statement("tilt", "exact")
@given(tasks(), temperatures(0.02, 1e6))
def test_hot_it_is_q_and_cold_it_is_q_at_the_largest_reward(
    task: tuple[Law, list[int]], t: float
) -> None:
    q, r = task
    several, p = levels(q, r), tilt(q, r, t)
    # E_q[e^(r/T)] lies between the smallest and the largest e^(r/T).
    most = mp.exp((several[-1] - several[0]) / mp.mpf(t))
    for a, b in zip(p, q, strict=True):
        assert exact(b) / most * (1 - ZERO) <= a <= exact(b) * most * (1 + ZERO)
    cold = conditioned(q, r)
    # The distance from the cold limit is the probability of all other rewards.
    missed = mp.fsum(a for a, b in zip(p, cold, strict=True) if not b)
    assert_within(total_variation(p, cold), missed, ZERO)
    if len(several) == 1:
        assert same(p, q)
        assert cold == list(q)
    else:
        at_top = sum(a for a, x in zip(q, r, strict=True) if x == several[-1])
        odds = exact((1 - at_top) / at_top) * mp.exp((several[-2] - several[-1]) / mp.mpf(t))
        assert missed <= odds * (1 + ZERO)


@pytest.mark.statement("tilt")
@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
@pytest.mark.parametrize(
    ("weights", "r", "cold"),
    [
        pytest.param([1], [3], [1], id="one outcome"),
        pytest.param([1, 3], [2, 5], [0, 4], id="two outcomes"),
        pytest.param([1, 3], [5, 5], [1, 3], id="two tied"),
        pytest.param([1, 2, 1], [5, 0, 5], [2, 0, 2], id="tie at the top"),
        pytest.param([3, 1, 4], [5, 5, 0], [6, 2, 0], id="shares kept at the top"),
        pytest.param([2, 2, 0], [0, 1, 9], [0, 4, 0], id="the best cannot occur"),
        pytest.param([0, 4, 0], [7, 1, 9], [0, 4, 0], id="one can occur"),
    ],
)
def test_limits_in_the_arithmetic(
    weights: list[int], r: list[int], cold: list[int], dtype: torch.dtype
) -> None:
    q = row(weights) / sum(weights)
    z = row(r, dtype)
    # Up to rounding in log and exp of quarters and eighths: 8 u each, on |log q| <= log 8 < 3.
    rel = 64 * torch.finfo(dtype).eps
    for t in (1e-3, 1e-10, 1e-37):
        assert_within(softmax(z, temperature=t, weights=q), row(cold) / sum(cold), rel=rel)
    # And by the theorem no factor is further from 1 than exp(9 / T).
    for t in (1e10, 1e37):
        assert_within(softmax(z, temperature=t, weights=q), q, rel=rel + 10 / t)


@pytest.mark.statement("tilt", "exact")
@given(policies(), st.integers(-5, 5), temperatures(0.02, 1e3))
def test_one_reward_for_all_moves_nothing(q: Law, c: int, t: float) -> None:
    r = [c] * len(q)
    assert same(tilt(q, r, t), q)
    assert_within(smooth_maximum(q, r, t), c, ZERO * (1 + t))
