"""The theorem `best-of-n`: The best of n draws."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import Any

import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from scipy.stats import chisquare, kstest

from omnivault.distributions import Categorical
from omnivault.information import kl_divergence
from tests.chapters.one_problem.policies import (
    ZERO,
    Law,
    best_of,
    divergence_bound,
    exact,
    kl,
    lists_of,
    policies,
    row,
    tasks,
)
from tests.support.strategies import assert_within, shares, unit

F = Fraction
FALSE_ALARM = 1e-6


def by_enumeration(q: Law, r: list[int], n: int) -> list[Fraction]:
    """All sequences of n draws, each with its probability and the first of its best."""
    law = [F(0)] * len(q)
    for draws in product(range(len(q)), repeat=n):
        chance = F(1)
        for y in draws:
            chance *= q[y]
        first = draws[0]
        for y in draws[1:]:
            first = y if r[y] > r[first] else first
        law[first] += chance
    return law


@pytest.mark.statement("best-of-n", "exact")
@settings(max_examples=60)
@given(tasks(1, 4, bound=1), st.integers(1, 4))
def test_its_law_is_that_of_all_sequences(task: tuple[Law, list[int]], n: int) -> None:
    q, r = task
    assert best_of(q, r, n) == by_enumeration(q, r, n)


@pytest.mark.statement("best-of-n", "exact")
@given(policies(1, 6), st.integers(1, 12), st.randoms(use_true_random=False))
def test_without_ties_powers_of_the_distribution_function(q: Law, n: int, random: Any) -> None:
    r = random.sample(range(-9, 10), len(q))
    order, up_to = sorted(range(len(q)), key=lambda i: r[i]), F(0)
    law = best_of(q, r, n)
    for i in order:
        assert law[i] == (up_to + q[i]) ** n - up_to**n
        up_to += q[i]
    assert up_to == sum(law) == 1


@pytest.mark.statement("best-of-n", "exact")
@given(tasks(1, 6), st.one_of(st.integers(1, 5), st.sampled_from([10, 100, 1000])))
def test_its_divergence_stays_below_the_bound(task: tuple[Law, list[int]], n: int) -> None:
    q, r = task
    divergence = kl(best_of(q, r, n), q)
    if n == 1:
        assert best_of(q, r, n) == list(q)
        assert divergence == divergence_bound(n) == 0
    else:
        # The least that is left: of one level, log n - (n - 1) / n itself; otherwise Jensen's.
        assert divergence < divergence_bound(n) - ZERO
    if len({x for a, x in zip(q, r, strict=True) if a}) == 1:
        assert_within(divergence, 0, ZERO)


@pytest.mark.statement("best-of-n", "symbolic")
def test_a_continuous_reward_reaches_it() -> None:
    n, v = sp.symbols("n v", positive=True)
    u = sp.Symbol("u", positive=True)
    log_density = sp.log(n) + (n - 1) * sp.log(u)
    density = n * u ** (n - 1)
    primitive = u**n * log_density - (n - 1) / n * u**n
    assert sp.simplify(sp.diff(primitive, u) - density * log_density) == 0
    # At 1, and nothing at 0: u^n log u vanishes there for every n > 0.
    bound = sp.log(n) - (n - 1) / n
    assert sp.simplify(primitive.subs(u, 1) - bound) == 0
    assert sp.limit(v**n * sp.log(v), v, 0) == 0
    assert sp.simplify(sp.diff(bound, n) - (n - 1) / n**2) == 0
    for k in (1, 2, 10, 1000):
        assert_within(divergence_bound(k), mp.mpf(sp.N(bound.subs(n, k), 50)), ZERO)


@pytest.mark.statement("best-of-n", "statistical", false_alarm=3e-6)
@pytest.mark.parametrize("n", [1, 2, 16])
def test_the_density_for_a_continuous_reward(n: int) -> None:
    generator = torch.Generator().manual_seed(12)
    rewards = torch.randn(20_000, n, dtype=torch.float64, generator=generator)
    best = rewards.amax(-1)
    # A density n F^(n - 1) under the law of one draw: F of the best is at most u in u^n of cases.
    below = torch.special.ndtr(best).numpy()
    assert kstest(below, "beta", (n, 1)).pvalue > FALSE_ALARM


@pytest.mark.statement("best-of-n", "statistical", false_alarm=3e-6)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_draws_of_it(n: int) -> None:
    q, r = shares(4, 1, 6, 2, 3), [1, 3, 0, 3, 2]
    draws = Categorical(row(q)).sample(20_000 * n, generator=torch.Generator().manual_seed(n))
    draws = draws.reshape(20_000, n)
    # PyTorch's argmax is the first of equals.
    first = row(r)[draws].argmax(-1, keepdim=True)
    counts = draws.gather(-1, first).flatten().bincount(minlength=len(q))
    expected = 20_000 * row(best_of(q, r, n))
    assert expected.min() > 100
    assert chisquare(counts, expected).pvalue > FALSE_ALARM


def largest_level(q: Law, r: list[int]) -> Fraction:
    """The most that one level of the reward has of the probability."""
    return max(sum((a for a, x in zip(q, r, strict=True) if x == level), F(0)) for level in r)


@pytest.mark.statement("best-of-n", "exact")
@given(tasks(1, 6), st.integers(2, 12))
def test_the_finer_the_levels_the_nearer(task: tuple[Law, list[int]], n: int) -> None:
    q, r = task
    left = divergence_bound(n) - kl(best_of(q, r, n), q)
    # x log x of the density n u^(n - 1) goes from 0 down to -1/e and up to n log n.
    variation = n * mp.log(n) + 2 / mp.e
    assert 0 < left <= exact(largest_level(q, r)) * variation
    # A level cut in two: nearer, by more than 50 digits leave for n up to 12.
    i = next(i for i, a in enumerate(q) if a)
    split = [*q, q[i] / 2]
    split[i] /= 2
    above = [2 * x for x in r] + [2 * r[i] + 1]
    finer = divergence_bound(n) - kl(best_of(split, above, n), split)
    assert finer < left - ZERO


@pytest.mark.statement("best-of-n", "exact")
@pytest.mark.parametrize("n", [2, 3, 10])
def test_many_small_levels_come_near_and_a_rare_best_does_not(n: int) -> None:
    before = mp.inf
    for k in (4, 16, 64, 256):
        q, r = [F(1, k)] * k, list(range(k))
        left = divergence_bound(n) - kl(best_of(q, r, n), q)
        assert 0 < left < before
        assert left <= (n * mp.log(n) + 2 / mp.e) / k
        before = left
        # The largest reward is as rare here, and the divergence goes to 0: at most log n for an
        # outcome that is n times as probable, and its share is n / k.
        rare = [1 - F(1, k), F(1, k)]
        assert kl(best_of(rare, [0, 1], n), rare) <= mp.mpf(n) / k * mp.log(n)


@pytest.mark.statement("best-of-n", "exact")
@given(tasks(1, 5, least=1), st.integers(1, 8))
def test_kl_divergence_of_the_package_says_so(task: tuple[Law, list[int]], n: int) -> None:
    q, r = task
    best = best_of(q, r, n)
    computed = kl_divergence(row(best), row(q))
    # Rounded to float64, a probability p moves p (|log(p/q)| + 2) u; excess and sum some more.
    sizes = [a * (abs(mp.log(exact(a) / exact(b))) + 2) for a, b in zip(best, q, strict=True) if a]
    assert_within(computed, kl(best, q), 32 * unit(torch.float64) * (1 + mp.fsum(sizes)))


@pytest.mark.statement("best-of-n", "exact")
@given(tasks(1, 5), st.integers(1, 6), st.data())
def test_what_counts_is_the_order_of_the_rewards(
    task: tuple[Law, list[int]], n: int, data: st.DataObject
) -> None:
    q, r = task
    steps = data.draw(lists_of(st.integers(1, 100), 11))
    other = [sum(steps[: x + 6]) for x in r]
    assert best_of(q, other, n) == best_of(q, r, n)
