"""Checks of a draw in pieces: noise by blocks, the largest of noisy logits, and two searches."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import pytest
import sympy as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from scipy.stats import chisquare, gumbel_r
from strategies import SINGLE_DOUBLE, assert_within, double, exactly, rounded, shares, total, unit
from torch import Tensor

from omnivault.inverse_cdf import block_sums, inverse_cdf

FALSE_ALARM = 1e-3  # of another seed; with the one given a test passes for ever or fails for ever

Blocks = list[list[int]]

single_and_double = pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
pytestmark = pytest.mark.usefixtures("one_thread")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Noise by blocks ----------------------------------------------------------------------------------


def partitions(k: int) -> Iterator[Blocks]:
    """All ways to split 0 to k - 1 into nonempty blocks."""
    if k == 0:
        yield []
        return
    for blocks in partitions(k - 1):
        yield [*blocks, [k - 1]]
        for b in range(len(blocks)):
            yield [block + [k - 1] * (a == b) for a, block in enumerate(blocks)]


def arrangements(left: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All orders of balls, of which ``left[i]`` have the color i."""
    if not any(left):
        yield ()
        return
    for i, n in enumerate(left):
        if n:
            for rest in arrangements([x - (j == i) for j, x in enumerate(left)]):
                yield (i, *rest)


# A clock of the whole rate w rings with the first of w clocks of rate 1, of which every order is
# equally probable: so colors come in the order in which the clocks ring, and the largest noisy
# logit comes first.
few_balls = pytest.mark.parametrize(
    "weights", [(1,), (4,), (1, 1), (1, 5), (1, 2, 3), (2, 2, 2), (1, 2, 1, 2), (1, 1, 1, 1)]
)


@pytest.mark.statement("gumbel-blocks", "exact")
@few_balls
def test_the_first_ball_of_a_block_in_all_orders_of_balls(weights: tuple[int, ...]) -> None:
    orders = list(arrangements(weights))
    n = sum(weights)
    for blocks in partitions(len(weights)):
        leads = []
        for block in blocks:
            place = [next(r for r, i in enumerate(order) if i in block) for order in orders]
            winner = [order[r] for order, r in zip(orders, place, strict=True)]
            leads.append(list(zip(place, winner, strict=True)))
            seen = Counter(leads[-1])
            own = sum(weights[i] for i in block)
            for r, i in itertools.product(range(n), range(len(weights))):
                # As the first of so many balls of one color, and then any of them.
                first = Fraction(math.comb(n - r - 1, own - 1), math.comb(n, own))
                chance = first * Fraction(weights[i], own) if i in block else 0
                assert Fraction(seen[r, i], len(orders)) == chance
        for order, reports in zip(orders, zip(*leads, strict=True), strict=True):
            assert min(reports)[1] == order[0]


@pytest.mark.statement("gumbel-blocks", "symbolic")
@pytest.mark.parametrize("k", [1, 2, 3])
def test_density_of_the_maximum_and_its_index_is_a_product(k: int) -> None:
    temperature = sp.symbols("T", positive=True)
    z = sp.symbols(f"z:{k}", real=True)
    x = sp.symbols("x", real=True)

    def cdf(y: sp.Expr) -> sp.Expr:
        return sp.exp(-sp.exp(-y))

    density = sp.diff(cdf(x), x)
    normalizer = sum(sp.exp(a / temperature) for a in z)
    g = x + sp.log(normalizer)
    for i, own in enumerate(z):
        others = sp.prod([cdf(g - a / temperature) for j, a in enumerate(z) if j != i])
        joint = density.subs(x, g - own / temperature) * others
        p = sp.exp(own / temperature) / normalizer
        difference = sp.expand_log(sp.log(joint) - sp.log(p * density), force=True)
        assert sp.simplify(sp.expand(difference, force=True)) == 0
    # The density is that of all there is.
    assert sp.limit(cdf(x), x, -sp.oo) == 0
    assert sp.limit(cdf(x), x, sp.oo) == 1


def in_pieces(noisy: Tensor, blocks: Blocks) -> tuple[Tensor, Tensor]:
    """The index that each block reports, and the one that follows from the reports."""
    reports = [noisy[:, block].max(-1) for block in blocks]
    i = torch.stack(
        [torch.tensor(b)[r.indices] for b, r in zip(blocks, reports, strict=True)],
        dim=1,
    )
    largest = torch.stack([report.values for report in reports], 1).argmax(-1, keepdim=True)
    return i, i.gather(1, largest).squeeze(1)


def gumbel(rows: int, k: int, dtype: torch.dtype, seed: int) -> Tensor:
    return -torch.empty(rows, k, dtype=dtype).exponential_(generator=seeded(seed)).log()


def leads(noisy: Tensor, n: int) -> Tensor:
    """The rows whose n largest numbers are not so near to the next that rounding decides."""
    # Logarithms of a weight and of an exponential variable, of up to 15 together, to 4 ulp.
    gaps = -noisy.sort(-1, descending=True).values[:, : n + 1].diff(dim=-1)
    clear = (gaps > 300 * unit(noisy.dtype)).all(-1)
    assert clear.double().mean() > 0.99  # a gap is that small once in 50,000 rows, or less often
    return clear


@pytest.mark.statement("gumbel-blocks", "torch")
@single_and_double
@pytest.mark.parametrize("temperature", [1e-6, 1.0, 1e6])
def test_all_ways_to_split_give_the_token_of_torch(temperature: float, dtype: torch.dtype) -> None:
    w = torch.tensor([3.0, 1.0, 0.01, 7.0, 2.0], dtype=dtype)
    noisy = (temperature * w.log()) / temperature + gumbel(2000, 5, dtype, 1)
    clear = leads(noisy, 1)
    expected = torch.multinomial(w.expand(2000, 5), 1, generator=seeded(1)).squeeze(1)[clear]
    splits = list(partitions(5))
    assert len(splits) == 52
    for blocks in splits:
        assert torch.equal(in_pieces(noisy, blocks)[1][clear], expected)


@pytest.mark.statement("gumbel-blocks", "scipy", "statistical", false_alarm=0.016)
@single_and_double
@pytest.mark.parametrize("temperature", [1e-6, 1e6])
def test_reports_of_blocks_are_independent_draws(temperature: float, dtype: torch.dtype) -> None:
    n, weights, blocks = 20_000, [3, 1, 2, 4, 2, 5], [[4, 1, 3], [5], [0, 2]]
    z = temperature * torch.tensor(weights, dtype=dtype).log()
    noisy = z / temperature + gumbel(n, 6, dtype, 2)
    i, token = in_pieces(noisy, blocks)
    expected = [n * float(p) for p in shares(*weights)]
    assert chisquare(token.bincount(minlength=6), expected).pvalue > FALSE_ALARM
    edges = [0.01, 0.25, 0.5, 0.75, 0.99]
    cells = [b - a for a, b in itertools.pairwise([0, *edges, 1])]
    for b, block in enumerate(blocks):
        centered = noisy[:, block].amax(-1) - (z[block] / temperature).logsumexp(-1)
        cell = torch.searchsorted(double(gumbel_r.ppf(edges)), centered.double())
        seen = Counter(zip(i[:, b].tolist(), cell.tolist(), strict=True))
        own = dict(zip(block, shares(*(weights[j] for j in block)), strict=True))
        pairs = list(itertools.product(own, range(6)))
        together = [n * float(own[j]) * cells[c] for j, c in pairs]
        assert chisquare([seen[pair] for pair in pairs], together).pvalue > FALSE_ALARM


# Several different tokens -------------------------------------------------------------------------


def successive(order: Sequence[int], weights: Sequence[Any]) -> Fraction:
    """The probability of these draws without replacement, in this order."""
    chance = Fraction(1)
    for n, i in enumerate(order):
        chance *= weights[i] / total(
            Fraction(w) for j, w in enumerate(weights) if j not in order[:n]
        )
    return chance


@pytest.mark.statement("gumbel-top-k", "exact")
@few_balls
def test_colors_come_in_the_order_of_successive_draws(weights: tuple[int, ...]) -> None:
    orders = [tuple(dict.fromkeys(order)) for order in arrangements(weights)]
    k = len(weights)
    for n in range(1, k + 1):
        seen = Counter(order[:n] for order in orders)
        for order in itertools.permutations(range(k), n):
            assert Fraction(seen[order], len(orders)) == successive(order, weights)


rational = st.fractions(Fraction(1, 10**6), 20, max_denominator=10**6) | st.just(Fraction(10**9))


@pytest.mark.statement("gumbel-top-k", "exact")
@given(st.lists(rational, min_size=1, max_size=4))
def test_integrals_over_the_largest_numbers_give_successive_draws(weights: list[Fraction]) -> None:
    # log(-log X) = -(z/T + G): then X is at most x with probability x^w, and has the order of
    # the noisy logits. All integrals are of powers of x, from the last index to the first.
    k = len(weights)
    for n in range(1, k + 1):
        for order in itertools.permutations(range(k), n):
            power = total(w for i, w in enumerate(weights) if i not in order)
            factor = Fraction(1)
            for i in reversed(order):  # of w y^(w - 1) factor y^power, from 0 to x
                factor *= weights[i] / (weights[i] + power)
                power += weights[i]
            assert factor == successive(order, weights)


@pytest.mark.statement("gumbel-top-k", "exact")
@given(
    st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 10**4)), min_size=1, max_size=6),
    st.sampled_from(["1e-6", "0.7", "1", "1e6"]),
)
def test_falling_noisy_logits_are_rising_times(pairs: list[tuple[int, int]], t: str) -> None:
    temperature = mp.mpf(t)
    noise = [-mp.log(mp.mpf(e) / 1000) for _, e in pairs]
    noisy = [z / temperature + g for (z, _), g in zip(pairs, noise, strict=True)]
    times = [mp.mpf(e) / 1000 / mp.exp(z / temperature) for z, e in pairs]
    for a, b in itertools.combinations(range(len(pairs)), 2):
        if abs(noisy[a] - noisy[b]) > 1e-30:
            assert (noisy[a] > noisy[b]) == (times[a] < times[b])
    assert_within([mp.exp(-x) for x in noisy], times, rel=mp.mpf(10) ** -35)


@pytest.mark.statement("gumbel-top-k", "torch", "statistical", false_alarm=0.016)
@single_and_double
@pytest.mark.parametrize("temperature", [1e-6, 1e6])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_topk_gives_the_draws_of_torch_without_replacement(
    n: int, temperature: float, dtype: torch.dtype
) -> None:
    weights = [1, 5, 2, 3]
    w = torch.tensor(weights, dtype=dtype)
    z = temperature * w.log()
    noisy = z / temperature + gumbel(5000, 4, dtype, n)
    drawn = noisy.topk(n).indices
    without = torch.multinomial(w.expand(5000, 4), n, generator=seeded(n))
    clear = leads(noisy, n)
    assert torch.equal(drawn[clear], without[clear])
    orders = list(itertools.permutations(range(4), n))
    seen = Counter(map(tuple, drawn.tolist()))
    expected = [5000 * float(successive(order, weights)) for order in orders]
    assert chisquare([seen[order] for order in orders], expected).pvalue > FALSE_ALARM


# Two searches -------------------------------------------------------------------------------------

GRID = 2**53
LAST = 1 - 2.0**-53


def sums_of_float64() -> list[float]:
    """From 2^-1000 on: powers of two, the numbers beside them, and some between."""
    rng = random.Random(0)
    c = []
    for a in range(-1000, 1024):
        power = math.ldexp(1.0, a)
        c += [power, math.nextafter(power, math.inf), math.ldexp(rng.uniform(1, 2), a)]
        c += [math.nextafter(power, 0)] * (a > -1000)
    return [*c, torch.finfo(torch.float64).max]


@pytest.mark.statement("two-searches", "exact")
def test_no_rounded_product_reaches_the_sum() -> None:
    rng = random.Random(1)
    for c in sums_of_float64():
        below = math.nextafter(c, 0)
        for k in (0, 1, GRID // 2, GRID - 2, GRID - 1, rng.randrange(GRID)):
            product = (k / GRID) * c
            exact = Fraction(k, GRID) * Fraction(c)
            if exact >= Fraction(2) ** -1022:
                assert Fraction(product) == rounded(exact, 53)
            assert product <= below < c
    # The number below a power of two is reached, and from a finer grid the power itself.
    for c in (1.0, 2.0**-1000, 2.0**1023):
        assert Fraction(LAST * c) == Fraction(LAST) * Fraction(c) == Fraction(math.nextafter(c, 0))
        assert rounded((1 - Fraction(1, 2 * GRID)) * Fraction(c), 53) == c


def drawn(weights: Tensor, pairs: Tensor) -> Tensor:
    """What ``inverse_cdf`` draws from one row of weights with these uniform numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", lambda *_, **__: pairs)
        return inverse_cdf(weights.expand(len(pairs), -1))


def found(sums: Sequence[float], u: float) -> int:
    """The first sum above the product of u and the last one; a product below that one."""
    product = min(u * sums[-1], math.nextafter(sums[-1], 0))
    return next(i for i, x in enumerate(sums) if x > product)


@pytest.mark.statement("two-searches", "exact")
@pytest.mark.parametrize("exponent", [-1074, -1073, -1022, -1000, -999, -149, -1, 0, 127, 1000])
def test_searches_end_at_an_index_with_weight(exponent: int) -> None:
    rng = random.Random(exponent)
    numbers = [0.0, 2.0**-53, 0.5, LAST - 2.0**-53, LAST, *(rng.random() for _ in range(5))]
    pairs = list(itertools.product(numbers, numbers))
    for size in (1, 2, 128, 129, 300):
        row = [
            math.ldexp(rng.choice([0, 0, 1, 2, 3, 7, rng.random()]), exponent) for _ in range(size)
        ]
        row[rng.randrange(size)] = math.ldexp(1.0, exponent)
        for dtype in SINGLE_DOUBLE if -149 <= exponent < 120 else SINGLE_DOUBLE[1:]:
            weights = torch.tensor(row, dtype=dtype)
            w = weights.tolist()
            blocks = list(itertools.accumulate(block_sums(weights[None])[0].tolist()))
            expected = []
            for u, v in pairs:
                start = 128 * found(blocks, u)
                inside = list(itertools.accumulate(w[start : start + 128]))
                expected.append(start + found(inside, v))
                assert blocks[-1] < 2.0**-1000 or u * blocks[-1] < blocks[-1]
                assert inside[-1] < 2.0**-1000 or v * inside[-1] < inside[-1]
            assert drawn(weights, double(pairs)).tolist() == expected
            assert all(w[i] > 0 for i in expected)
            assert expected[0] == next(i for i, x in enumerate(w) if x)


def bounds(u: Fraction) -> tuple[Fraction, Fraction]:
    """The factors between which a probability changes."""
    gamma = 127 * u / (1 - 127 * u)
    return (1 - gamma) / (1 + gamma), (1 + gamma) / (1 - gamma)


def factors(blocks: Sequence[Sequence[Fraction]], sums: Sequence[Fraction]) -> list[Fraction]:
    """For each weight that is not 0, its chance in two draws, by its chance in one."""
    every = total(total(block) for block in blocks)
    ratios = []
    for block, own in zip(blocks, sums, strict=True):
        for w in block:
            if w:
                ratios.append(own / total(sums) * w / total(block) / (w / every))
    return ratios


def added(numbers: Sequence[Fraction], bits: int, rng: random.Random | None = None) -> Fraction:
    """The rounded sum, from left to right, or in a random order with random brackets."""
    left = list(numbers)
    while len(left) > 1:
        i, j = (0, 1) if rng is None else sorted(rng.sample(range(len(left)), 2))
        left[i] = rounded(left[i] + left.pop(j), bits)
    return left[0]


@pytest.mark.statement("two-searches", "exact")
@given(
    st.lists(st.integers(1, 128) | st.just(128), min_size=1, max_size=3),
    st.sampled_from([8, 11, 24]),
    st.integers(0, 2**32),
    st.booleans(),
)
def test_sums_in_any_order_change_a_chance_by_a_factor_near_one(
    sizes: list[int], bits: int, seed: int, in_order: bool
) -> None:
    rng = random.Random(seed)

    def weight() -> Fraction:
        return rng.randrange(2**bits) * Fraction(2) ** -rng.randrange(2 * bits)

    blocks = [[weight() for _ in range(size)] for size in sizes]
    blocks[0][0] = Fraction(2) ** bits
    for block in blocks:
        block[1:] = [x * rng.choice([0, 1]) for x in block[1:]]
    sums = [added(block, bits, None if in_order else rng) for block in blocks]
    assert [s == 0 for s in sums] == [not any(block) for block in blocks]
    low, high = bounds(Fraction(1, 2**bits))
    ratios = factors(blocks, sums)
    assert low <= min(ratios) <= 1 <= max(ratios) <= high


@pytest.mark.statement("two-searches", "exact")
@pytest.mark.parametrize("bits", [24, 53])
def test_both_bounds_are_nearly_reached(bits: int) -> None:
    u = Fraction(1, 2**bits)
    down = [Fraction(1)] + [u] * 127  # each is half a unit and lost
    up = [Fraction(1)] + [u + u / 2**9] * 127  # each is a little more and rounded to a unit
    low, high = bounds(u)
    for first, second in ((down, up), (up, down)):
        blocks = [[2**20 * x for x in first], second]
        ratios = factors(blocks, [added(block, bits) for block in blocks])
        assert low < min(ratios)
        assert max(ratios) < high
        if first is down:
            assert (max(ratios) - 1) / (high - 1) > Fraction(99, 100)
        else:
            assert (1 - min(ratios)) / (1 - low) > Fraction(99, 100)


def numbers_before(weights: Tensor, indices: Sequence[int], u: float | None) -> list[int]:
    """For each index, how many numbers of the grid give a smaller one.

    They are numbers for the block if ``u`` is None, and otherwise those within the block of u.
    """
    least = torch.zeros(len(indices), dtype=torch.int64)
    beyond = torch.full_like(least, GRID)
    while bool((least < beyond).any()):
        middle = (least + beyond) // 2
        numbers = middle.double() / GRID
        pair = [numbers, torch.zeros_like(numbers)]
        if u is not None:
            pair = [torch.full_like(numbers, u), numbers]
        # Rows whose answer is known may have the number 1, for which nothing is promised.
        pairs = torch.stack(pair, 1).clamp(max=LAST)
        smaller = (drawn(weights, pairs) < torch.tensor(indices)) & (least < beyond)
        least = torch.where(smaller, middle + 1, least)
        beyond = torch.where(smaller, beyond, middle)
    return least.tolist()


def rows_to_count(vocabulary: int, dtype: torch.dtype) -> Tensor:
    g = seeded(vocabulary)
    weights = (3 * torch.randn(vocabulary, generator=g, dtype=dtype)).exp()
    weights[::5] *= 2.0**-12
    weights[3::7] = 0
    weights[: vocabulary // 100] = 0  # the number 0 must not give one of these
    return weights


@pytest.mark.statement("two-searches", "exact")
@single_and_double
@pytest.mark.parametrize("vocabulary", [1, 2, 128, 129, 300])
def test_inverse_cdf_gives_each_index_its_share_of_all_numbers(
    vocabulary: int, dtype: torch.dtype
) -> None:
    weights = rows_to_count(vocabulary, dtype)
    w = exactly(weights)
    sums = exactly(block_sums(weights[None])[0])
    low, high = bounds(Fraction(torch.finfo(dtype).eps) / 2)
    starts = [*range(0, vocabulary, 128)]
    before = [*numbers_before(weights, starts, None), GRID]
    for b, start in enumerate(starts):
        block = w[start : start + 128]
        chosen = Fraction(before[b + 1] - before[b], GRID)
        # The ends of an interval lie on the grid and are rounded once, the sum of all each time.
        part = sums[b] / total(sums)
        assert_within(chosen, part, (4 + len(starts) * part) / GRID)
        indices = range(start, start + len(block))
        inside = [*numbers_before(weights, indices, before[b] / GRID), GRID]
        assert inside[0] == 0
        for x, (m, n) in zip(block, itertools.pairwise(inside), strict=True):
            assert (m == n) == (x == 0)
            own = Fraction(n - m, GRID)
            part = x / total(block)
            assert_within(own, part, (4 + len(block) * part) / GRID)
            share = x / total(w)
            # What is left is the grid, and float64's rounding of sums.
            left = (9 + (len(block) + len(starts)) * share) / GRID
            assert low * share - left <= chosen * own <= high * share + left


@pytest.mark.statement("two-searches", "statistical", false_alarm=0.004)
@single_and_double
def test_numbers_of_torch_lie_on_the_grid_and_choose_fairly(dtype: torch.dtype) -> None:
    n = 40_000
    u = torch.rand(n, 2, dtype=torch.float64, generator=seeded(4))
    k = u * GRID
    assert torch.equal(k, k.floor())
    assert 0 <= float(k.min()) <= float(k.max()) < GRID
    weights = torch.zeros(400, dtype=dtype)
    inside = [0, 5, 127, 128, 200, 384, 399]
    weights[inside] = torch.tensor([3, 1, 2, 5, 4, 1, 2], dtype=dtype)
    counts = inverse_cdf(weights.expand(n, -1), generator=seeded(4)).bincount(minlength=400)
    assert int(counts[inside].sum()) == n
    expected = [n * float(x) for x in shares(3, 1, 2, 5, 4, 1, 2)]
    assert chisquare(counts[inside], expected).pvalue > FALSE_ALARM
