"""The proposition `nucleus-slack`: The mass of a nucleus, computed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from fractions import Fraction

import pytest
import torch
from mpmath import mp
from torch import Tensor

from omnivault.sampling import top_p
from tests.chapters.production.common_rounding import every_dtype
from tests.support.strategies import (
    SINGLE_DOUBLE,
    assert_within,
    exactly,
    number,
    rounded,
    total,
    unit,
)


def gamma(k: int, n: int, u: Fraction) -> Fraction:
    m = k + n - 1
    assert m * u < 1
    return m * u / (1 - m * u)


def in_brackets(numbers: Sequence[Fraction], bits: int, choose: random.Random) -> Fraction:
    """Add in an order and with brackets by chance, and round each sum."""
    left = list(numbers)
    while len(left) > 1:
        a, b = (left.pop(choose.randrange(len(left))) for _ in range(2))
        left.append(rounded(a + b, bits))
    return left[0]


@pytest.mark.statement("nucleus-slack", "exact")
@pytest.mark.parametrize(("bits", "largest", "k"), [(3, 16, 1), (4, 40, 2), (5, 9, 3), (6, 5, 4)])
def test_no_weights_in_no_order_break_the_bound(bits: int, largest: int, k: int) -> None:
    u, choose = Fraction(1, 2**bits), random.Random(k)
    numbers = [Fraction(x) for x in range(largest + 1) if rounded(Fraction(x), bits) == x]
    for weights in itertools.product(numbers, repeat=k):
        if not any(weights):
            continue
        shares = [rounded(w / in_brackets(weights, bits, choose), bits) for w in weights]
        for n in range(1, k + 1):
            exact = total(weights[:n]) / total(weights)
            made = in_brackets(shares[:n], bits, choose)
            assert_within(made, exact, gamma(k, n, u) * exact)


@pytest.mark.statement("nucleus-slack", "exact")
def test_the_division_counts() -> None:
    """Of two weights, 3 bits: the sum is rounded down by a seventh, the quotient up."""
    u = Fraction(1, 8)
    worst = Fraction(0)
    for a, b in itertools.product(range(1, 33), repeat=2):
        if any(rounded(Fraction(x), 3) != x for x in (a, b)):
            continue
        exact = Fraction(a, a + b)
        made = rounded(a / rounded(Fraction(a + b), 3), 3)
        worst = max(worst, abs(made / exact - 1))
    assert u / (1 - u) < worst <= gamma(2, 1, u)


def one_by_one(numbers: Tensor) -> Tensor:
    s = numbers[0]
    for x in numbers[1:]:
        s = s + x
    return s


@pytest.mark.statement("nucleus-slack", "exact")
@every_dtype
def test_two_sums_lose_more_than_one(dtype: torch.dtype) -> None:
    u = Fraction(unit(dtype))
    k = {torch.bfloat16: 30, torch.float16: 200}.get(dtype, 1000)
    w = torch.full((k,), float(u * (1 + 4 * u)), dtype=dtype)
    w[:2] = 1.0
    made = Fraction(one_by_one((w / one_by_one(w))[1:]).item())
    exact = total(exactly(w[1:])) / total(exactly(w))
    one_sum = (k - 1) * u / (1 - (k - 1) * u)
    assert made - exact > max(k * u, one_sum) * exact
    assert_within(made, exact, gamma(k, k - 1, u) * exact)


@pytest.mark.statement("nucleus-slack", "exact")
@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
@pytest.mark.parametrize("spread", [0, 3, 16])
def test_top_p_decides_as_exact_sums_do_outside_the_slack(dtype: torch.dtype, spread: int) -> None:
    generator = torch.Generator().manual_seed(spread)
    k, u = 3000, Fraction(unit(dtype))
    # Multiples of 1/256, so that no rounding moves an exponent.
    z = (torch.randint(0, 256 * spread + 1, (k,), generator=generator) / 256).to(dtype)
    weights = [mp.exp(mp.mpf(x)) for x in z.tolist()]
    every = mp.fsum(weights)
    order = sorted(range(k), key=lambda i: (z[i].item(), i))
    after = list(itertools.accumulate(weights[i] for i in order))
    for rho in (0.1, 0.5, 0.9, 0.999):
        kept = top_p(z, rho).isfinite().tolist()
        decided = 0
        for n, (i, s) in enumerate(zip(order, after, strict=True), 1):
            mass = s / every
            # An exponential is within 8 u above and below, and 1 - rho is rounded.
            slack = number(gamma(k, n, u) + 32 * u)
            if abs(mass - (1 - mp.mpf(rho))) > slack * mass:
                assert kept[i] == (mass > 1 - mp.mpf(rho))
                decided += 1
        assert decided > 0.99 * k
