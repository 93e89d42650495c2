"""The proposition `sums-in-any-order`: A sum in any order."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from fractions import Fraction
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.inverse_cdf import block_sums
from omnivault.sampling import top_p
from tests.chapters.production.common_rounding import every_dtype
from tests.support.strategies import DTYPES, assert_within, exactly, nearest, number, total, unit


def gamma(n: int, u: Fraction) -> Fraction:
    assert (n - 1) * u < 1
    return (n - 1) * u / (1 - (n - 1) * u)


@cache
def all_sums(numbers: tuple[int, ...], bits: int) -> frozenset[Fraction]:
    """What rounded additions make of the numbers, in any order and with any brackets."""
    if len(numbers) == 1:
        return frozenset({Fraction(numbers[0])})
    made: set[Fraction] = set()
    first, *others = numbers
    for size in range(len(others)):
        for chosen in itertools.combinations(range(len(others)), size):
            left = (first, *(others[i] for i in chosen))
            right = tuple(x for i, x in enumerate(others) if i not in chosen)
            for a in all_sums(left, bits):
                for b in all_sums(right, bits):
                    made |= nearest(a + b, bits, Fraction(1))
    return frozenset(made)


@pytest.mark.statement("sums-in-any-order", "exact")
@pytest.mark.parametrize(
    ("bits", "n", "largest"),
    [(2, 1, 64), (2, 2, 64), (2, 3, 32), (2, 4, 24), (3, 2, 40), (3, 4, 20), (3, 6, 5)],
)
def test_no_order_and_no_brackets_break_the_bound(bits: int, n: int, largest: int) -> None:
    u = Fraction(1, 2**bits)
    numbers = [x for x in range(largest + 1) if x in nearest(Fraction(x), bits, Fraction(1))]
    bound = gamma(n, u)
    for several in itertools.combinations_with_replacement(numbers, n):
        s = sum(several)
        for made in all_sums(several, bits):
            assert abs(made - s) <= bound * s
            # Too small for full precision, hence exact.
            assert s >= 2**bits or made == s


@pytest.mark.statement("sums-in-any-order", "exact")
@every_dtype
@pytest.mark.parametrize("n", [2, 3, 17, 100])
def test_additions_can_lose_almost_that_much(dtype: torch.dtype, n: int) -> None:
    u = Fraction(unit(dtype))
    # In the middle, where 1 is even; and a little above the middle, so rounded up each time.
    for up, x in ((False, float(u)), (True, float(u * (1 + 4 * u)))):
        numbers = torch.tensor([1.0] + [x] * (n - 1), dtype=dtype)
        s = total(exactly(numbers))
        made = Fraction(one_by_one(numbers).item())
        m = (n - 1) * u
        assert (made - s) * (1 if up else -1) >= m * (1 - 4 * u)
        assert m * (1 - 4 * u) / (1 + 2 * m) * s <= abs(made - s) <= gamma(n, u) * s


def one_by_one(numbers: Tensor) -> Tensor:
    s = numbers[0]
    for x in numbers[1:]:
        s = s + x
    return s


def in_pairs(numbers: Tensor) -> Tensor:
    while len(numbers) > 1:
        odd = numbers[len(numbers) // 2 * 2 :]
        numbers = torch.cat([numbers[0:-1:2] + numbers[1::2], odd])
    return numbers[0]


def in_random_brackets(numbers: Tensor) -> Tensor:
    choose = random.Random(0)
    left: list[Tensor] = list(numbers)
    while len(left) > 1:
        a, b = (left.pop(choose.randrange(len(left))) for _ in range(2))
        left.append(a + b)
    return left[0]


ORDERS: dict[str, Callable[[Tensor], Tensor]] = {
    "one by one": one_by_one,
    "backwards": lambda x: one_by_one(x.flip(0)),
    "small first": lambda x: one_by_one(x.sort().values),
    "large first": lambda x: one_by_one(x.sort(descending=True).values),
    "in pairs": in_pairs,
    "random brackets": in_random_brackets,
    "torch.sum": lambda x: x.sum(),
    "torch.cumsum": lambda x: x.cumsum(-1)[-1],
}


@pytest.mark.statement("sums-in-any-order", "exact")
@every_dtype
@given(data=st.data(), n=st.integers(1, 3) | st.integers(1, 20))
def test_torch_stays_within_the_bound(dtype: torch.dtype, data: st.DataObject, n: int) -> None:
    limits = torch.finfo(dtype)
    scale = data.draw(st.sampled_from([1.0, limits.tiny, limits.max / 2**6]))
    unscaled = st.floats(0, 1) | st.sampled_from([0.0, 1.0, limits.eps / 2, limits.eps])
    numbers = torch.tensor(
        [x * scale for x in data.draw(st.lists(unscaled, min_size=n, max_size=n))], dtype=dtype
    )
    s = total(exactly(numbers))
    for order in ORDERS.values():
        made = Fraction(order(numbers).item())
        assert_within(made, s, gamma(n, Fraction(unit(dtype))) * s)
        if s < Fraction(limits.tiny):
            assert made == s


@pytest.mark.statement("sums-in-any-order", "exact")
@pytest.mark.parametrize("dtype", DTYPES[2:], ids=str)
@pytest.mark.parametrize("size", [1, 127, 128, 129, 700])
def test_blocks_of_omnivault_stay_within_the_bound(dtype: torch.dtype, size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    u = unit(dtype)
    spread = (20 * torch.randn(size, generator=generator, dtype=dtype)).exp()
    swallowed = torch.full((size,), u, dtype=dtype)
    swallowed[::128] = 1
    subnormal = torch.rand(size, generator=generator, dtype=dtype) * torch.finfo(dtype).tiny
    huge = torch.rand(size, generator=generator, dtype=dtype) * torch.finfo(dtype).max / 128
    rows = torch.stack([spread, swallowed, subnormal, huge, torch.zeros(size, dtype=dtype)])
    sums = block_sums(rows)
    for row, made in zip(rows, sums, strict=True):
        exact = exactly(row)
        due = [total(exact[i : i + 128]) for i in range(0, size, 128)]
        assert len(made) == len(due)
        bound = gamma(min(size, 128), Fraction(u))
        assert_within(exactly(made), due, [bound * s for s in due])
        for x, s in zip(exactly(made), due, strict=True):
            assert s >= Fraction(torch.finfo(dtype).tiny) or x == s
    # The book's number for blocks of float32.
    assert Fraction(7, 10**6) < gamma(128, Fraction(1, 2**24)) < Fraction(8, 10**6)


@pytest.mark.statement("sums-in-any-order", "exact")
def test_the_sum_of_top_p_stays_within_the_bound() -> None:
    generator = torch.Generator().manual_seed(0)
    p = (3 * torch.randn(3000, generator=generator)).softmax(-1).sort().values
    u = Fraction(unit(torch.float32))
    exact = list(itertools.accumulate(exactly(p)))
    made = exactly(p.cumsum(-1))
    bounds = [gamma(n, u) * s for n, s in enumerate(exact, 1)]
    assert_within(made, exact, bounds)
    # Farther from the border than the bound, and than softmax is wrong, exact sums decide.
    z = p.log()
    weights = [mp.exp(mp.mpf(x)) for x in z.tolist()]
    norm = mp.fsum(weights)
    for rho in (0.1, 0.5, 0.9, 0.999):
        kept = top_p(z, rho).isfinite().tolist()
        mass = mp.mpf(0)
        for n, (w, keep) in enumerate(zip(weights, kept, strict=True), 1):
            mass += w / norm
            # The sum of the softmax, and this one; exponents are up to 25, and rounded thrice.
            slack = 2 * number(gamma(3000, u)) + 128 * number(u)
            if abs(mass - (1 - mp.mpf(rho))) > slack * mass:
                assert keep == (mass > 1 - rho) or n == len(weights)


@pytest.mark.statement("sums-in-any-order", "exact")
@every_dtype
def test_with_a_negative_number_nothing_is_promised(dtype: torch.dtype) -> None:
    u = unit(dtype)
    numbers = torch.tensor([1.0, u, -1.0], dtype=dtype)
    s, made = total(exactly(numbers)), Fraction(one_by_one(numbers).item())
    assert abs(made - s) == s > gamma(3, Fraction(u)) * s
