from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from scipy.stats import binomtest, chisquare, expon, kstest
from strategies import DTYPES, SINGLE_DOUBLE, assert_within, nearest, unit

FALSE_ALARM = 1e-3  # of another seed; with the one given a test passes for ever or fails for ever

TINY = mp.mpf(10) ** -30

each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
single_and_double = pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
pytestmark = pytest.mark.usefixtures("one_thread")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def orders(k: int, n: int) -> list[tuple[int, ...]]:
    return list(itertools.permutations(range(k), n))


def chance(order: Sequence[int], weights: Sequence[int]) -> Fraction:
    """The probability of an ordered sample, as the definition states it."""
    left, product = sum(weights), Fraction(1)
    for i in order:
        product, left = product * Fraction(weights[i], left), left - weights[i]
    return product


@pytest.mark.statement("exponential-race", "exact")
@pytest.mark.parametrize("weights", [(3,), (1, 1), (1, 9), (2, 2, 2), (1, 0, 2), (5, 0.01, 3, 0)])
def test_the_winner_has_the_share_of_its_weight_whenever_it_rings(weights: list[float]) -> None:
    w, total = [mp.mpf(x) for x in weights], mp.fsum(weights)
    for t in (0, mp.mpf(1) / 3, 2):
        won = []
        for i, own in enumerate(w):
            if own == 0:
                continue
            # Given E_i = x, clock k rings later if E_k > x w_k / w_i.
            rate = 1 + mp.fsum(x / own for k, x in enumerate(w) if k != i)
            ends = [own * t, own * t + 1, own * t + 10, mp.inf]
            won.append(mp.quad(lambda x: mp.exp(-x * rate), ends))  # noqa: B023
            assert_within(won[-1], own / total * mp.exp(-total * t), TINY)
        # Without ties these are all there is: one wins alone, later than t if all ring later.
        assert_within(mp.fsum(won), mp.fprod(mp.exp(-x * t) for x in w), TINY)


@pytest.mark.statement("exponential-race", "torch", "statistical", false_alarm=0.008)
@pytest.mark.parametrize("replacement", [False, True])
@each_dtype
def test_one_draw_of_torch_is_a_race(dtype: torch.dtype, replacement: bool) -> None:
    row = torch.tensor([1.0, 0.0, 2.0, 5.0], dtype=dtype)
    for w in (row, torch.ones(3, 1, dtype=dtype), row.expand(20_000, 4).contiguous()):
        e = torch.empty_like(w).exponential_(generator=seeded(1))
        drawn = torch.multinomial(w, 1, replacement, generator=seeded(1))
        assert torch.equal((w / e).argmax(-1, keepdim=True), drawn)
    seen = drawn.flatten().bincount(minlength=4)
    assert seen[1] == 0
    assert chisquare(seen[[0, 2, 3]], [2500, 5000, 12500]).pvalue > FALSE_ALARM


@pytest.mark.statement("exponential-race", "statistical", false_alarm=0.004)
def test_the_first_time_is_exponential_and_independent_of_the_winner() -> None:
    w = torch.tensor([1.0, 0.0, 2.0, 5.0], dtype=torch.float64)
    e = torch.empty(20_000, 4, dtype=torch.float64).exponential_(generator=seeded(2))
    time, winner = (e / w).min(-1)  # E / 0 is infinite: that clock never rings
    for won in (winner >= 0, winner == 0, winner == 2, winner == 3):
        assert kstest(time[won], expon(scale=1 / 8).cdf).pvalue > FALSE_ALARM


@pytest.mark.statement("exponential-race", "statistical", false_alarm=1e-14)
def test_rounding_brings_ties_back_which_the_first_index_wins() -> None:
    # 1 race in 600 in bfloat16.
    e = torch.empty(200_000, 2).bfloat16().exponential_(generator=seeded())
    tie = 1 / e[:, 0] == 1 / e[:, 1]
    assert 1 / 1000 < tie.double().mean() < 1 / 300
    # So does overflow: in float32 two equal weights of 2e38 are not drawn equally often.
    drawn = torch.multinomial(torch.full((10_000, 2), 2e38), 1, generator=seeded())
    assert binomtest(int(drawn.sum()), 10_000, 0.5).pvalue < 1e-6


@pytest.mark.statement("successive-draws", "exact")
@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.integers(1, 5))
def test_each_draw_is_categorical_among_those_left(weights: list[int], n: int) -> None:
    k, total = len(weights), sum(weights)
    n = min(n, k)
    law = {order: chance(order, weights) for order in orders(k, n)}
    assert sum(law.values()) == 1
    assert all(chance(order, [7 * w for w in weights]) == p > 0 for order, p in law.items())
    for start in orders(k, n - 1):
        # Of the draws with replacement, the first that is new: a geometric series of repeats.
        repeat = Fraction(sum(weights[i] for i in start), total)
        for i in set(range(k)) - set(start):
            new = Fraction(weights[i], total) / (1 - repeat)
            assert law[*start, i] == chance(start, weights) * new
    assert len(set(weights)) > 1 or set(law.values()) == {Fraction(1, math.perm(k, n))}


@pytest.mark.statement("successive-draws")
@single_and_double
def test_no_more_draws_than_positive_weights(dtype: torch.dtype) -> None:
    with pytest.raises(ZeroDivisionError):
        chance((1, 2, 0), (0, 7, 3, 0))
    # torch compares with the length of the row only, and then returns what is impossible.
    w = torch.tensor([0.0, 0.7, 0.3, 0.0], dtype=dtype)
    for n, seed in itertools.product((2, 3, 4), range(20)):
        drawn = torch.multinomial(w, n, generator=seeded(seed))
        assert sorted(drawn[:2].tolist()) == [1, 2]
        assert len(drawn.unique()) == n
    with pytest.raises(RuntimeError, match="cannot sample n_sample > prob_dist"):
        torch.multinomial(w, 5)


@pytest.mark.statement("race-order", "exact")
@pytest.mark.parametrize("weights", [(3,), (1, 1), (1, 4), (1, 2, 3), (2, 2, 2)])
def test_iterated_integrals_over_the_times_give_the_successive_draws(weights: list[int]) -> None:
    k = len(weights)
    s, t = sp.symbols("s t", positive=True)
    full = {}
    for order in orders(k, k):
        later: sp.Expr = sp.Integer(1)  # P(the rest ring in this order after s)
        for i in reversed(order):
            density = weights[i] * sp.exp(-weights[i] * t)
            later = sp.integrate(sp.expand(density * later.subs(s, t)), (t, s, sp.oo))
        full[order] = Fraction(str(later.subs(s, 0)))
    for n in range(1, k + 1):
        for start in orders(k, n):
            first = sum(p for order, p in full.items() if order[:n] == start)
            assert first == chance(start, weights)


@pytest.mark.statement("race-order", "symbolic")
@pytest.mark.parametrize("k", [2, 3])
def test_so_they_do_whatever_the_weights_are(k: int) -> None:
    # The clocks in the order of their names: any other order is this one with other names.
    w = sp.symbols("a b c", positive=True)[:k]
    s, t = sp.symbols("s t", positive=True)
    later: sp.Expr = sp.Integer(1)
    for x in reversed(w):
        density = x * sp.exp(-x * t)
        later = sp.integrate(sp.powsimp(sp.expand(density * later.subs(s, t))), (t, s, sp.oo))
    expected = sp.prod([x / sum(w[i:]) for i, x in enumerate(w)])
    assert sp.simplify(later.subs(s, 0) - expected) == 0


@pytest.mark.statement("race-order", "torch", "statistical", false_alarm=0.008)
@single_and_double
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_torch_returns_the_order_of_the_race(n: int, dtype: torch.dtype) -> None:
    weights = (1, 2, 3, 4)
    w = torch.tensor(weights, dtype=dtype).expand(5000, 4).contiguous()
    e = torch.empty_like(w).exponential_(generator=seeded(n))
    drawn = torch.multinomial(w, n, generator=seeded(n))
    assert torch.equal((e / w).argsort(-1)[:, :n], drawn)
    seen = [tuple(row) for row in drawn.tolist()]
    counts = [seen.count(order) for order in orders(4, n)]
    expected = [5000 * float(chance(order, weights)) for order in orders(4, n)]
    assert chisquare(counts, expected).pvalue > FALSE_ALARM


def in_a_pair(k: int, weights: Sequence[int]) -> Fraction:
    return sum((chance(o, weights) for o in orders(len(weights), 2) if k in o), Fraction(0))


@pytest.mark.statement("inclusion", "exact")
@given(st.lists(st.integers(1, 20) | st.just(10**6), min_size=3, max_size=5))
def test_a_pair_favors_the_heavier_index_but_less_than_one_draw(weights: list[int]) -> None:
    k = range(len(weights))
    pi = [Fraction(w, sum(weights)) for w in weights]
    rho = [in_a_pair(i, weights) for i in k]
    assert rho == [pi[i] * (1 + sum(pi[j] / (1 - pi[j]) for j in k if j != i)) for i in k]
    for i, j in itertools.permutations(k, 2):
        if pi[j] > pi[i]:
            assert 1 < rho[j] / rho[i] < pi[j] / pi[i]
    # "It holds for the first draw and for no further one": each draw by itself.
    for place in k[1:]:
        law = [(o[place], chance(o, weights)) for o in orders(len(pi), place + 1)]
        odds = [sum(p for last, p in law if last == i) / pi[i] for i in k]
        for i, j in itertools.permutations(k, 2):
            assert (odds[j] < odds[i]) == (pi[j] > pi[i])


@pytest.mark.statement("inclusion", "exact")
def test_two_indices_are_too_few_and_the_bounds_are_approached() -> None:
    # K = 2, or a third of weight 0: both are always in the pair, and the lower bound is attained.
    assert [in_a_pair(i, (1, 9)) for i in (0, 1)] == [1, 1]
    assert [in_a_pair(i, (1, 9, 0)) for i in (0, 1, 2)] == [1, 1, 0]
    tiny, many = (10**6, 10**6 // 2, 1), (2, 1, *[1] * 60)
    assert 1 < in_a_pair(0, tiny) / in_a_pair(1, tiny) < 1 + Fraction(1, 10**5)
    assert 2 - Fraction(1, 50) < in_a_pair(0, many) / in_a_pair(1, many) < 2


@pytest.mark.statement("inverse-cdf", "exact")
@given(st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(any))
def test_each_index_has_an_interval_of_its_probability(weights: list[int]) -> None:
    c = list(itertools.accumulate(Fraction(w, sum(weights)) for w in weights))
    length = [Fraction(0)] * len(c)
    for a, b in itertools.pairwise(sorted({Fraction(0), *c})):
        inside = [a + (b - a) * x / 4 for x in (1, 2, 3, 4)]  # with b, without a
        [found] = {next(k for k, x in enumerate(c) if u <= x) for u in inside}
        length[found] += b - a
    assert length == [Fraction(w, sum(weights)) for w in weights]


@pytest.mark.statement("inverse-cdf", "torch", "statistical", false_alarm=0.002)
@single_and_double
def test_with_replacement_torch_searches_the_cumulative_sum(dtype: torch.dtype) -> None:
    w = torch.rand(300, generator=seeded(3), dtype=torch.float64).to(dtype)
    w[::7] = 0
    c = np.cumsum(w.numpy())  # one by one, in the dtype
    u = torch.rand(20_000, generator=seeded(4), dtype=torch.float64)
    drawn = torch.multinomial(w, 20_000, True, generator=seeded(4))
    assert torch.equal(torch.searchsorted(torch.from_numpy(c / c[-1]).double(), u), drawn)
    assert w[drawn].min() > 0
    expected = 20_000 * w[w > 0].double() / w.double().sum()
    assert chisquare(drawn.bincount(minlength=300)[w > 0], expected).pvalue > FALSE_ALARM


@pytest.mark.statement("swallowed", "exact")
@pytest.mark.parametrize("digits", [1, 2, 3, 5])
def test_a_small_weight_rounds_away_whatever_becomes_of_ties(digits: int) -> None:
    u, half_step = Fraction(1, 2**digits), Fraction(1, 2)
    for s in map(Fraction, range(2 ** (digits - 1), 2**digits)):
        # u 2^a is half a step: below it a weight is swallowed, and u s / 2 is below.
        assert all(nearest(s + half_step * i / 64, digits) == {s} for i in range(64))
        assert u * s / 2 < half_step <= u * s
        # At half a step it depends on ties; above it is not swallowed, so never above u s.
        assert s in nearest(s + half_step, digits)
        assert all(s not in nearest(s + half_step * i / 64, digits) for i in range(65, 256))
    assert half_step / (u * s / 2) == 1 / (1 - u)  # just below 2^(e + 1): the best constant


@pytest.mark.statement("swallowed")
@each_dtype
def test_the_formats_of_torch_swallow(dtype: torch.dtype) -> None:
    info, u = torch.finfo(dtype), unit(dtype)
    one = torch.ones((), dtype=dtype)
    for s in (one, 3 * one, info.max * one, 2 - 2 * u * one, info.smallest_normal / u * one):
        assert s + s * (u / 2) == s
    assert one + u * one == one < one + u * (1 + 2 * u) * one
    assert (2 - 2 * u * one) + u * one == 2  # u is above u s / 2 by a factor 1 / (1 - u)
    assert 0 * one + info.smallest_normal > 0  # s > 0 is needed


@pytest.mark.statement("swallowed", "torch", "statistical", false_alarm=0.004)
def test_torch_never_draws_what_is_swallowed() -> None:
    # Near the bound of 2^-24, with few enough digits for the sum from the other end to be exact.
    weights = torch.full((2**20 + 1,), 2.0**-24 * 15 / 16)
    weights[0] = 1.0
    tail = 1 - 1 / (1 + 2.0**-4 * 15 / 16)
    n = 20_000
    assert not torch.multinomial(weights, n, True, generator=seeded(5)).any()
    raced = [torch.multinomial(weights, 1, generator=seeded(i)) for i in range(128)]
    for drawn in (
        torch.multinomial(weights.double(), n, True, generator=seeded(5)),
        2**20 - torch.multinomial(weights.flip(0), n, True, generator=seeded(5)),
        torch.cat(raced),
    ):
        assert (hits := int((drawn > 0).sum())) > 0
        assert binomtest(hits, len(drawn), tail).pvalue > FALSE_ALARM


@pytest.mark.statement("swallowed")
def test_more_can_be_lost_than_the_statement_names() -> None:
    # Weights of u are above u s / 2 and swallowed all the same: K u in all, 0.29% for 49,152.
    u = 2.0**-24
    weights = torch.full((49_152,), u)
    weights[0] = 1.0
    assert not torch.multinomial(weights, 50_000, True, generator=seeded()).any()
    assert weights[1:].double().sum() > 0.0029


@pytest.mark.statement("categorical-distribution")
def test_torch_raises_on_what_is_no_distribution_but_names_another_fault_for_nan() -> None:
    raced, total = "contains either `inf`, `nan` or element < 0", "sum of probabilities <= 0"
    for bad, first, searched in (
        ([0.5, -0.1], raced, "entry < 0"),
        ([0.5, math.nan], raced, "entry < 0"),
        ([0.5, math.inf], raced, "entry = infinity or NaN"),
        ([0.0, 0.0], total, total),
        ([1, 2], "only supports floating-point dtypes", "only supports floating-point dtypes"),
    ):
        for n, replacement, message in ((1, False, first), (1, True, first), (2, True, searched)):
            with pytest.raises(RuntimeError, match=message):
                torch.multinomial(torch.tensor(bad), n, replacement)
    assert torch.multinomial(torch.ones(1).expand(2**24), 1).shape == (1,)
    with pytest.raises(RuntimeError, match=r"number of categories cannot exceed 2\^24"):
        torch.multinomial(torch.ones(1).expand(2**24 + 1), 1)
