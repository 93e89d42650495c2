"""The proposition `two-searches`: A draw in two searches."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from omnivault.inverse_cdf import block_sums, inverse_cdf
from tests.chapters.production.common_pieces import FALSE_ALARM, drawn, seeded, single_and_double
from tests.support.strategies import (
    SINGLE_DOUBLE,
    assert_within,
    double,
    exactly,
    rounded,
    shares,
    total,
)

GRID = 2**53
LAST = 1 - 2.0**-53
pytestmark = pytest.mark.usefixtures("two_searches")


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
