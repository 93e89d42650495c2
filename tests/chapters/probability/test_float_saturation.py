"""The proposition `float-saturation`: Saturation."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.probability.common import U
from tests.support.strategies import (
    assert_within,
    exactly,
    number,
    rounded,
    smallest,
    softmax_bound,
    unit,
)


@pytest.mark.statement("float-saturation")
def test_float32_leaves_the_open_simplex() -> None:
    z = torch.tensor([0.0, -200.0, -300.0])
    assert softmax(z).tolist() == [1.0, 0.0, 0.0]
    # In exact arithmetic, and in float64, it does not.
    p = softmax(z.double())
    # An exponential here, 8 u, and one there, 2 u; the sum is 1.
    assert_within(p[1:], [math.exp(-200), math.exp(-300)], rel=12 * U)


# A format with t significant bits and the smallest number 2^-s: halfway between 0 and that lies
# 2^-(s + 1), halfway between 1 and the next number, 1 + 2^(1 - t), lies 1 + 2^-t. Both ties go to
# the even neighbor, to 0 and to 1.
FORMATS = pytest.mark.parametrize(
    ("dtype", "t", "s"),
    [
        pytest.param(torch.float32, 24, 149, id="float32"),
        pytest.param(torch.float64, 53, 1074, id="float64"),
    ],
)


def two_shares(gap: Tensor, temperature: float = 1.0) -> list[float]:
    """The shares of two classes whose logits are ``gap`` temperatures apart."""
    z = torch.stack([torch.zeros_like(gap), -gap * temperature])
    return [float(share) for share in softmax(z, temperature=temperature)]


@pytest.mark.statement("float-saturation")
@FORMATS
def test_shares_are_zero_and_one_exactly_when_the_rounded_weight_says_so(
    dtype: torch.dtype, t: int, s: int
) -> None:
    integers = torch.int32 if dtype is torch.float32 else torch.int64
    steps = torch.arange(-500, 500, dtype=integers)
    # Consecutive numbers around both thresholds, and everything from 0 past the second.
    near = [
        (torch.tensor(n * math.log(2), dtype=dtype).view(integers) + steps).view(dtype)
        for n in (t, s + 1)
    ]
    gap = torch.cat([*near, torch.linspace(0, 1.1 * s * math.log(2), 10_000, dtype=dtype)])
    z = torch.stack([torch.zeros_like(gap), -gap], -1)
    weight = z.exp()[:, 1]
    larger, smaller = softmax(z).unbind(-1)
    assert torch.equal(larger == 1, weight <= 2.0**-t)
    assert torch.equal(smaller == 0, weight == 0)
    for event in (larger == 1, smaller == 0):
        assert event.any()
        assert not event.all()


@pytest.mark.statement("float-saturation", "exact")
@pytest.mark.parametrize(("t", "s"), [(2, 5), (3, 7), (4, 15), (8, 17)])
def test_in_small_formats_with_every_operation_rounded(t: int, s: int) -> None:
    zero, one = Fraction(1, 2 ** (s + 1)), Fraction(1, 2**t)
    least = Fraction(1, 2**s)
    middle = one * (1 + one)
    # exp(-g) around the thresholds and elsewhere.
    centers = (zero, one, middle)
    near = [at * (1 + Fraction(i, 2 ** (t + 3))) for at in centers for i in range(-32, 33)]
    for exp in near + [Fraction(i, 1000) for i in range(1, 1001)]:
        weight = rounded(exp, t, least)
        both = rounded(1 + weight, t, least)
        larger, smaller = rounded(1 / both, t, least), rounded(weight / both, t, least)
        # g is at least t log 2 - log(1 + 2^-t) if and only if e^-g is at most the middle.
        assert (larger == 1) == (weight <= one) == (exp <= middle)
        assert (smaller == 0) == (weight == 0) == (exp <= zero)


def exp_of_minus(g: Fraction) -> Fraction:
    """Fifty digits of it, or forty-nine."""
    return Fraction(int(mp.floor(mp.ldexp(mp.exp(-number(g)), 300))), 2**300)


def held_gap(z: tuple[Fraction, Fraction], temperature: Fraction, t: int, s: int) -> Fraction:
    """The gap over the temperature with both operations rounded."""
    least = Fraction(1, 2**s)
    return rounded(rounded(z[0] - z[1], t, least) / temperature, t, least)


def shares_with_every_operation_rounded(gap: Fraction, t: int, s: int) -> tuple[Fraction, Fraction]:
    least = Fraction(1, 2**s)
    weight = rounded(exp_of_minus(gap), t, least)
    both = rounded(1 + weight, t, least)
    return rounded(1 / both, t, least), rounded(weight / both, t, least)


def saturates(gap: Fraction, t: int, s: int) -> tuple[bool, bool]:
    """Whether the gap reaches the thresholds of one and of zero."""
    one = t * mp.log(2) - mp.log(1 + mp.mpf(2) ** -t)
    return bool(number(gap) >= one), bool(number(gap) >= (s + 1) * mp.log(2))


COUNTEREXAMPLES = pytest.mark.parametrize(
    ("dtype", "z", "temperature", "t", "s", "larger_is_one"),
    [
        pytest.param(
            torch.float64, (36.7368005696771, -6.747e-16), 1.0, 53, 1074, False, id="float64"
        ),
        pytest.param(torch.float32, (14.971978, 0.0), 0.9, 24, 149, True, id="float32, one"),
        pytest.param(torch.float32, (134.25, 0.001259), 8.07, 24, 149, False, id="float32, below"),
    ],
)


@pytest.mark.statement("float-saturation", "exact")
@COUNTEREXAMPLES
def test_the_rounded_gap_decides_where_the_exact_one_says_otherwise(
    dtype: torch.dtype,
    z: tuple[float, float],
    temperature: float,
    t: int,
    s: int,
    larger_is_one: bool,
) -> None:
    first, second, divisor = exactly(torch.tensor([*z, temperature], dtype=dtype))
    exact, held = (first - second) / divisor, held_gap((first, second), divisor, t, s)
    larger, _ = shares_with_every_operation_rounded(held, t, s)
    assert (larger == 1) == larger_is_one == saturates(held, t, s)[0]
    assert saturates(exact, t, s)[0] != larger_is_one


@pytest.mark.statement("float-saturation")
def test_the_package_has_a_share_below_one_from_an_exact_gap_beyond_the_threshold() -> None:
    # 15 units in the last place of exp from where the share is one, and exp errs by four at most.
    # The other two counterexamples lie nearer.
    z = torch.tensor([134.25, 0.001259])
    temperature = torch.tensor(8.07).item()
    first, second = exactly(z)
    assert saturates((first - second) / Fraction(temperature), 24, 149)[0]
    assert softmax(z, temperature=temperature)[0] == 1 - 2.0**-23


@pytest.mark.statement("float-saturation", "exact")
@pytest.mark.parametrize(("t", "s"), [(2, 5), (3, 7), (4, 9)])
def test_all_pairs_of_logits_of_a_small_format(t: int, s: int) -> None:
    least = Fraction(1, 2**s)
    # Zero, subnormal numbers, and all others below 16.
    numbers = {rounded(Fraction(i, 2**s), t, least) for i in range(16 * 2**s)}
    temperatures = [Fraction(quarters, 4) for quarters in (2, 3, 4, 6)]
    gaps = set()
    misled = 0
    for temperature in temperatures:
        for first in numbers:
            for second in (x for x in numbers if x <= first):
                held = held_gap((first, second), temperature, t, s)
                exact = (first - second) / temperature
                gaps.add(held)
                misled += saturates(exact, t, s) != saturates(held, t, s)
    assert misled
    reached = set()
    for gap in gaps:
        larger, smaller = shares_with_every_operation_rounded(gap, t, s)
        assert (larger == 1, smaller == 0) == saturates(gap, t, s)
        reached.add((larger == 1, smaller == 0))
    assert reached == {(False, False), (True, False), (True, True)}


@pytest.mark.statement("float-saturation", "exact")
def test_with_one_significant_bit_the_tie_may_go_up() -> None:
    # Powers of two alone are neither even nor odd. Here 1 + 1/2 goes to 2, and with the weight
    # 2^-t the larger share is a half.
    for t, larger in ((1, Fraction(1, 2)), (2, Fraction(1))):
        both = rounded(1 + Fraction(1, 2**t), t)
        assert rounded(1 / both, t) == larger


# The thresholds are certain for a correctly rounded exp. One that errs by four units in the last
# place may move them by four relative eps of exp, that is, by 8 u in the gap: less than the
# distance of two numbers there, 2 u times 16 or more. So look two numbers to either side.
def around(threshold: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    margin = 4 * unit(dtype) * threshold
    before = torch.tensor(threshold - margin, dtype=dtype)
    return before, torch.tensor(threshold + margin, dtype=dtype)


@pytest.mark.statement("float-saturation")
@FORMATS
@pytest.mark.parametrize("temperature", [1.0, 0.5, 4.0])
def test_the_gap_from_which_the_smaller_share_is_zero(
    dtype: torch.dtype, t: int, s: int, temperature: float
) -> None:
    # The temperatures are powers of two, so that z / T is the gap again.
    before, after = around((s + 1) * math.log(2), dtype)
    assert two_shares(before, temperature) == [1.0, smallest(dtype)]
    assert two_shares(after, temperature) == [1.0, 0.0]
    # Up to 1.5 times the smallest number it is rounded down.
    before, after = around((s + 1) * math.log(2) - math.log(3), dtype)
    assert two_shares(before, temperature)[1] == 2 * smallest(dtype)
    assert two_shares(after, temperature)[1] == smallest(dtype)
    assert smallest(dtype) == 2.0**-s


@pytest.mark.statement("float-saturation")
@FORMATS
@pytest.mark.parametrize("temperature", [1.0, 0.5, 4.0])
def test_the_gap_from_which_the_larger_share_is_one(
    dtype: torch.dtype, t: int, s: int, temperature: float
) -> None:
    before, after = around(t * math.log(2), dtype)
    # 1 + weight is rounded to 1 + 2^(1 - t), whose reciprocal is 1 - 2^(1 - t): the largest number
    # below one, 1 - 2^-t, is skipped.
    assert two_shares(before, temperature)[0] == 1 - 2.0 ** (1 - t)
    assert two_shares(after, temperature)[0] == 1.0
    for gap in (before, after):
        # Nothing happens to the small share there, and the two sum to more than one.
        larger, smaller = two_shares(gap, temperature)
        # The gap is off t log 2 by 4 u of it and one rounding, below 4 t u; exp by 8 u.
        assert_within(smaller, 2.0**-t, rel=(4 * t + 12) * unit(dtype))
    assert Fraction(larger) + Fraction(smaller) > 1


@pytest.mark.statement("float-saturation")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_many_small_shares_add_up_to_keep_the_largest_below_one(dtype: torch.dtype) -> None:
    # u is 2^-t, so that alone each of them is e times too light.
    gap = 1 - math.log(unit(dtype))
    alone = torch.tensor([0.0, -gap], dtype=dtype)
    among = torch.tensor([0.0] + [-gap] * 1000, dtype=dtype)
    assert softmax(alone)[0].item() == 1.0
    # 1000 exp(-gap) = 1000 u / e, far more than one rounding.
    exact = 1 / (1 + 1000 * unit(dtype) / math.e)
    assert_within(softmax(among)[0], exact, softmax_bound(among)[0])
    assert softmax(among)[0].item() < 1


# Half the smallest subnormal is 2^-25 in float16 and 2^-134 in bfloat16, which float32 still
# holds; p itself is rounded to the dtype, so that it is 1 within a quarter of eps, not half.
@pytest.mark.statement("float-saturation")
@pytest.mark.parametrize(
    ("dtype", "vanishes", "certain"),
    [
        pytest.param(torch.float16, 25 * math.log(2), 12 * math.log(2), id="float16"),
        pytest.param(torch.bfloat16, 134 * math.log(2), 9 * math.log(2), id="bfloat16"),
    ],
)
def test_half_precision_saturates_sooner(
    dtype: torch.dtype, vanishes: float, certain: float
) -> None:
    # The gap is represented to 2^-8 relative at worst, so look one percent to either side.
    def shares(gap: float) -> list[float]:
        return softmax(torch.tensor([0.0, -gap], dtype=dtype)).tolist()

    assert shares(certain * 1.01)[0] == 1.0
    assert shares(certain * 0.99)[0] < 1.0
    assert shares(vanishes * 0.99)[1] > 0.0
    assert shares(vanishes * 1.01)[1] == 0.0
