"""Checks of what rounding does to a draw: quotients, noise from a grid, and sums."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from strategies import (
    DTYPES,
    HALF,
    assert_within,
    double,
    exactly,
    nearest,
    number,
    shares,
    softmax_bound,
    total,
    unit,
)
from torch import Tensor

from omnivault.inverse_cdf import block_sums
from omnivault.sampling import apply_temperature, top_p
from omnivault.softmax import softmax

pytestmark = pytest.mark.usefixtures("one_thread")
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)

BITS = {torch.float16: 11, torch.bfloat16: 8, torch.float32: 24, torch.float64: 53}


# Rounding before softmax --------------------------------------------------------------------------


def moved(weights: Sequence[int], factors: Sequence[Fraction]) -> list[Fraction]:
    """By which factors the probabilities change if the weights do by these."""
    p = shares(*weights)
    new = [w * f for w, f in zip(weights, factors, strict=True)]
    return [x / total(new) / a for x, a in zip(new, p, strict=True)]


def largest_factor(p: Fraction, q: Fraction) -> Fraction:
    """Of a probability p, if logits move by no more than log q."""
    return q**2 / (1 + p * (q**2 - 1))


@pytest.mark.statement("early-rounding", "exact")
@given(
    st.lists(st.integers(1, 20) | st.just(10**6), min_size=1, max_size=5),
    st.fractions(1, 10, max_denominator=50) | st.just(1 + Fraction(1, 10**9)),
)
def test_no_corner_moves_a_probability_by_more(weights: list[int], q: Fraction) -> None:
    p = shares(*weights)
    corners = itertools.product([1 / q, Fraction(1), q], repeat=len(p))
    changes = [moved(weights, factors) for factors in corners]
    if len(p) == 1:  # nothing to take from, nothing to give to
        assert all(c == [1] for c in changes)
    for a, of_one in zip(p, zip(*changes, strict=True), strict=True):
        if q == 1:
            assert set(of_one) == {1}
        else:
            assert all(1 / q**2 < c < q**2 for c in of_one)
        if len(p) > 1:
            assert max(of_one) == largest_factor(a, q)
            assert min(of_one) == largest_factor(a, 1 / q)


@pytest.mark.statement("early-rounding", "exact")
@given(st.data(), st.integers(1, 6), st.floats(1e-9, 50))
def test_no_logits_move_a_probability_by_more(data: st.DataObject, k: int, delta: float) -> None:
    z = [mp.mpf(x) for x in data.draw(st.lists(st.floats(-15, 15), min_size=k, max_size=k))]
    step = st.sampled_from([-1.0, 1.0]) | st.floats(-1, 1)
    steps = data.draw(st.lists(step, min_size=k, max_size=k))
    near = [a + delta * mp.mpf(s) for a, s in zip(z, steps, strict=True)]
    sums = [mp.fsum(map(mp.exp, row)) for row in (z, near)]
    for a, b in zip(z, near, strict=True):
        change = (mp.exp(b) / sums[1]) / (mp.exp(a) / sums[0])
        assert mp.exp(-2 * mp.mpf(delta)) < change < mp.exp(2 * mp.mpf(delta))


@pytest.mark.statement("early-rounding", "exact")
@pytest.mark.parametrize("delta", [1e-6, 2.0**-8, 1.0, 20.0])
@pytest.mark.parametrize("k", [2, 5])
def test_no_constant_below_two_will_do(k: int, delta: float) -> None:
    far = 200
    z = [mp.mpf(-far), *[mp.mpf(0)] * (k - 1)]
    for sign in (1, -1):
        near = [z[0] + sign * mp.mpf(delta), *(a - sign * mp.mpf(delta) for a in z[1:])]
        log_p, log_near = (row[0] - mp.log(mp.fsum(map(mp.exp, row))) for row in (z, near))
        assert_within(sign * (log_near - log_p) / delta, 2, 2 * mp.exp(-far + 45) + 1e-35)
        for constant in (1.0, 1.99, 2 - 1e-12):
            assert sign * (log_near - log_p) > constant * mp.mpf(delta)
    # On the way there, the factor of the proof.
    q = Fraction(3, 2)
    for m in (1, 10, 10**9):
        up, down = [q, *[1 / q] * (k - 1)], [1 / q, *[q] * (k - 1)]
        weights = [1, *[m] * (k - 1)]
        p = shares(*weights)[0]
        assert moved(weights, up)[0] * (1 + p * (q**2 - 1)) == q**2
        assert moved(weights, down)[0] * (q**2 + p * (1 - q**2)) == 1


def quotients(dtype: torch.dtype, size: int = 40) -> Iterator[tuple[Tensor, float]]:
    """Logits and temperatures whose quotients neither overflow nor underflow, with a zero."""
    generator = torch.Generator().manual_seed(0)
    for temperature in (1.0, 0.7, 0.3, 1.7, 9.3):
        for scale in (0.5, 20.0):
            z = scale * torch.randn(size, generator=generator, dtype=torch.float64)
            z = torch.where(z.abs() < 1e-2, 0.0, z).to(dtype)
            # The division of float32 takes the temperature in float32.
            divisor = torch.tensor(temperature, dtype=torch.float32).item()
            yield z, temperature if dtype is torch.float64 else divisor


def log_changes(z: Sequence[Fraction], near: Sequence[Fraction]) -> list[Any]:
    """Logarithms of the factors by which softmax changes."""
    rows = [[number(x) for x in row] for row in (z, near)]
    norms = [mp.log(mp.fsum(map(mp.exp, row))) for row in rows]
    return [(b - norms[1]) - (a - norms[0]) for a, b in zip(*rows, strict=True)]


@pytest.mark.statement("early-rounding", "exact")
@every_dtype
def test_rounded_quotients_stay_within_the_bound(dtype: torch.dtype) -> None:
    u = Fraction(1, 2 ** BITS[dtype])
    assert u == Fraction(unit(dtype))
    for z, temperature in quotients(dtype):
        exact = [x / Fraction(temperature) for x in exactly(z)]
        delta = u * max(map(abs, exact))
        divided = exactly(apply_temperature(z, temperature))
        # omnivault divides in float32 and rounds again: to the same numbers, or in a tie nearly.
        again = Fraction(unit(torch.float32)) if dtype in HALF else 0
        for x, y in zip(exact, divided, strict=True):
            assert abs(y - x) <= u * abs(x)
            best = min(abs(a - x) for a in nearest(x, BITS[dtype]))
            assert abs(y - x) <= best + 2 * again * abs(x)
        assert all(abs(c) < 2 * number(delta) for c in log_changes(exact, divided))


@pytest.mark.statement("early-rounding", "exact")
@every_dtype
def test_rounding_comes_near_the_bound(dtype: torch.dtype) -> None:
    u = Fraction(1, 2 ** BITS[dtype])
    largest = 32 * (1 + u)  # in the middle between two numbers, of which the even one is 32
    assert nearest(largest, BITS[dtype]) == {Fraction(32), 32 * (1 + 2 * u)}
    z = [-largest, largest]
    near = [Fraction(-32), Fraction(32)]
    if dtype is not torch.float64:
        assert exactly(double([float(x) for x in z]).to(dtype)) == near
    delta = u * largest
    up, down = log_changes(z, near)
    assert 2 * number(delta) * (1 - 2 * number(u)) < up < 2 * number(delta)
    assert abs(down) < 1e-20


@pytest.mark.statement("early-rounding", "exact")
def test_in_float16_a_quotient_that_is_lost_breaks_the_bound() -> None:
    u = Fraction(1, 2**11)
    z = torch.tensor([1.0, 0.0], dtype=torch.float16)
    for temperature in (2.0**26, 2.0**27):
        exact = [x / Fraction(temperature) for x in exactly(z)]
        divided = exactly(z / temperature)
        assert divided == [0, 0]
        assert abs(log_changes(exact, divided)[0]) > 2 * number(u * exact[0])


@pytest.mark.statement("early-rounding")
@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_omnivault_converts_before_it_divides(dtype: torch.dtype) -> None:
    for z, temperature in quotients(dtype):
        exact = (z.double() / temperature).softmax(-1)
        ours = softmax(z, temperature=temperature).double()
        # Of half precision it holds the rounding of what is returned, and no more.
        assert_within(ours, exact, softmax_bound(z, temperature))


# The tail that a grid cuts off --------------------------------------------------------------------


def noise(k: int, b: int) -> Any:
    """-log(-log u) of u = k / 2^b, to 50 digits."""
    return -mp.log(-mp.log(mp.mpf(k) / 2**b))


@cache
def grid(b: int) -> list[Any]:
    return [noise(k, b) for k in range(1, 2**b)]


def out_of_reach(b: int) -> Any:
    """How far below the maximum no noise of the grid can lift a token."""
    return b * mp.log(2) + mp.log(b * mp.log(2))


@pytest.mark.statement("gumbel-grid", "exact")
@pytest.mark.parametrize("b", range(2, 13))
def test_every_noise_of_the_grid_lies_between_the_bounds(b: int) -> None:
    least, most = -mp.log(b * mp.log(2)), -mp.log(-mp.log(1 - mp.mpf(2) ** -b))
    values = grid(b)
    assert_within(min(values), least, 1e-45)
    assert_within(max(values), most, 1e-45)
    assert values[0] == min(values)
    assert values[-1] == max(values) < b * mp.log(2)
    assert all(x < y for x, y in itertools.pairwise(values))
    second, first = sorted(values)[-2:]
    assert mp.log(2) < first - second < mp.log(2) + mp.mpf(2) ** -b


@pytest.mark.statement("gumbel-grid", "exact")
@pytest.mark.parametrize("b", [13, 23, 24, 32, 53, 64, 100])
def test_the_ends_of_finer_grids(b: int) -> None:
    x = mp.mpf(2) ** -b
    with mp.workdps(100):
        least, second, first = (noise(k, b) for k in (1, 2**b - 2, 2**b - 1))
        assert_within(least, -mp.log(b * mp.log(2)), 1e-45)
        assert 0 < b * mp.log(2) - first < x
        assert 0 < first - second - mp.log(2) < x
        # What the proof says of the ratio of the logarithms.
        r = mp.log(1 - 2 * x) / mp.log(1 - x)
        assert 2 < r < 2 + x / (1 - 2 * x) <= 2 + 2 * x


@pytest.mark.statement("gumbel-grid", "exact")
@pytest.mark.parametrize(("b", "k"), [(2, 2), (2, 4), (3, 3), (4, 2), (4, 3), (5, 2), (8, 2)])
def test_a_token_that_far_below_is_never_drawn(b: int, k: int) -> None:
    far = out_of_reach(b)
    for beyond in (0, mp.mpf("1e-40"), 1, 50):
        for best in (1, k - 1):  # how many share the maximum
            z = [mp.mpf(3)] * best + [3 - far / 2] * (k - 1 - best) + [3 - far - beyond]
            for g in itertools.product(grid(b), repeat=k - 1):
                # The last token has the largest noise of all; it loses with any other as well.
                sums = [a + e for a, e in zip(z, [*g, grid(b)[-1]], strict=True)]
                assert sums[-1] < max(sums[:-1])


@pytest.mark.statement("gumbel-grid", "exact")
@pytest.mark.parametrize("b", range(2, 8))
def test_a_token_a_little_nearer_is_drawn_once(b: int) -> None:
    values = grid(b)
    far = out_of_reach(b)
    reach = values[-1] - values[0]
    assert 0 < far - reach < mp.mpf(2) ** -b
    drawn = {
        d: sum(y - d > x for x in values for y in values) for d in (reach + 1e-30, far, far + 9)
    }
    assert set(drawn.values()) == {0}
    assert sum(y - reach + 1e-30 > x for x in values for y in values) == 1
    for temperature in (0.5, 3):  # logits that are a multiple of it
        z = [mp.mpf(7), 7 - far * temperature]
        assert values[-1] + z[1] / temperature < values[0] + z[0] / temperature


def plain(u: Tensor) -> Tensor:
    return -(-u.log()).log()


def exchanged(u: Tensor) -> Tensor:
    return -(-(-u).log1p()).log()


@pytest.mark.statement("gumbel-grid", "exact")
@pytest.mark.parametrize("b", [2, 5, 12])
@pytest.mark.parametrize("dtype", DTYPES[2:], ids=str)
def test_the_exchanged_formula_has_the_same_tail_and_infinity(b: int, dtype: torch.dtype) -> None:
    u = torch.arange(2**b, dtype=dtype) / 2**b
    g = exchanged(u)
    assert g[0] == math.inf
    assert g[1:].isfinite().all()
    assert g.argsort(descending=True).tolist() == list(range(2**b))
    # Two logarithms to 4 ulp: the error of the first becomes an absolute one in the second.
    bounds = [8 * unit(dtype) * (1 + abs(x)) for x in grid(b)]
    assert_within(g[1:].flip(0).tolist(), grid(b), bounds)
    # Infinite noise beats any logit.
    z = torch.tensor([torch.finfo(dtype).max, -torch.finfo(dtype).max], dtype=dtype)
    assert (z + exchanged(u[[2**b - 1, 0]])).argmax() == 1
    assert (z + exchanged(u[[2**b - 1, 1]])).argmax() == 0


@pytest.mark.statement("gumbel-grid", "exact")
@pytest.mark.parametrize(("dtype", "b"), [(torch.float32, 24), (torch.float64, 53)])
def test_torch_draws_from_the_grid(dtype: torch.dtype, b: int) -> None:
    u = torch.rand(2**20, generator=torch.Generator().manual_seed(0), dtype=dtype)
    k = u.double() * 2**b
    assert torch.equal(k, k.round())
    assert 0 <= k.min() <= k.max() < 2**b
    assert k.remainder(2).unique().tolist() == [0, 1]  # on no coarser grid
    g = plain(u[u > 0])
    least, most = math.log(b * math.log(2)), b * math.log(2)
    assert g.min().item() >= -least - 8 * unit(dtype) * (1 + least)
    assert g.max().item() <= most + 8 * unit(dtype) * (1 + most)


@pytest.mark.statement("gumbel-grid", "exact")
def test_all_the_noise_of_single_precision() -> None:
    b = 24
    least, most = -mp.log(b * mp.log(2)), noise(2**b - 1, b)
    g = plain(torch.arange(1, 2**b, dtype=torch.float32) / 2**b)
    error = 8 * unit(torch.float32) * (1 + most)  # of two logarithms to 4 ulp
    assert_within(g.min().item(), least, 8 * unit(torch.float32) * (1 - least))
    assert_within(g.max().item(), most, error)
    assert g.argmax() == 2**b - 2
    assert_within((g[-1] - g[-2]).item(), mp.log(2), 2 * error)
    # The book counts five values of 15 and more.
    assert int((g > 15).sum()) == sum(noise(2**b - k, b) > 15 for k in range(1, 20)) == 5
    ends = plain(double([2.0**-b, 1 - 2.0**-b]))
    far = float(out_of_reach(b))
    assert round(far, 2) == 19.45
    assert (double([0.0, -far]) + ends).argmax() == 0
    assert (double([0.0, -far + 2.0**-b]) + ends).argmax() == 1
    # The tail that float64 keeps: its grid goes more than 20 higher.
    assert plain(double([1 - 2.0**-53])).item() > g.max().item() + 20


# A sum in any order -------------------------------------------------------------------------------


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
@given(data=st.data(), n=st.integers(1, 20))
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
