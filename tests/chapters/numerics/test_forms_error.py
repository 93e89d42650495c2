"""The theorem `forms-error`: Error of the division form and of the subtraction form."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.softmax import log_softmax, logsumexp, softmax
from tests.chapters.numerics.common import (
    APART,
    FINE,
    KAPPAS,
    TORCH_KAPPA,
    Computed,
    Sizes,
    Vector,
    conspiring,
    division,
    leveled_rows,
    log_domain_bound,
    noise,
    rounding,
    single_double,
    sizes,
    torch_rows,
    weighted,
    with_second_order,
)
from tests.support.strategies import SINGLE_DOUBLE, assert_within, rows, unit, whole_rows


def log_normalizer(z: Vector, op: Computed) -> Any:
    _, _, total = weighted(z, op)
    return op("level", 0, max(z) + op("log", 0, mp.log(total)))


def subtraction(z: Vector, op: Computed) -> Vector:
    level = log_normalizer(z, op)
    return [op("last", i, mp.exp(op("rest", i, x - level))) for i, x in enumerate(z)]


def division_bound(s: Sizes, kappa: Any) -> Vector:
    return [gap + s.mean_gap + s.k + 2 * kappa for gap in s.gaps]


def subtraction_bound(s: Sizes, kappa: Any) -> Vector:
    added = abs(s.level) + (1 + kappa) * mp.log(s.k)
    return [added + bound for bound in division_bound(s, kappa)]


def relative_errors(computed: Vector, exact: Vector) -> Vector:
    return [abs(a / b - 1) for a, b in zip(computed, exact, strict=True)]


@pytest.mark.statement("forms-error", "exact")
@given(leveled_rows())
def test_the_average_gap_is_at_most_the_entropy_and_that_at_most_log_k(z: Vector) -> None:
    s = sizes(z)
    assert s.mean_gap <= s.entropy + APART
    # Entropy by its own definition, where no probability is lost to the digits.
    assert_within(s.entropy, -sum(q * mp.log(q) for q in s.p), APART)
    assert_within(s.entropy - s.mean_gap, s.log_total, APART)
    assert s.entropy <= mp.log(s.k) + APART
    # Equality: S = 1 for one class alone, and log K for equal logits alone.
    assert (s.entropy - s.mean_gap <= mp.mpf("1e-30")) == (s.k == 1)
    if max(s.gaps) == 0:
        assert s.mean_gap == 0
        assert_within(s.entropy, mp.log(s.k), APART)
    elif max(s.gaps) > mp.mpf("1e-6"):
        assert s.entropy < mp.log(s.k) - mp.mpf("1e-14")


@pytest.mark.statement("forms-error", "exact")
@given(leveled_rows(), st.sampled_from(KAPPAS), st.integers(0, 10**6))
def test_no_errors_of_the_model_exceed_the_bounds(z: Vector, kappa: Any, seed: int) -> None:
    random = Random(seed)
    random.shuffle(z)
    s = sizes(z)
    choices = [noise(seed, FINE, kappa)]
    i = random.randrange(s.k)
    choices += [conspiring(i, direction, s.level, FINE, kappa) for direction in (-1, 1)]
    for op in choices:
        for form, bounds in (
            (division, division_bound(s, kappa)),
            (subtraction, subtraction_bound(s, kappa)),
        ):
            for error, bound in zip(relative_errors(form(z, op), s.p), bounds, strict=True):
                assert error <= with_second_order(bound, FINE)


@pytest.mark.statement("forms-error", "exact")
@pytest.mark.parametrize("kappa", KAPPAS, ids=str)
@pytest.mark.parametrize("direction", [-1, 1])
@pytest.mark.parametrize(
    "values",
    [
        pytest.param([0.0, -1.278, -60.0], id="largest average gap of two"),
        pytest.param([0.0, 0.0, -60.0], id="two tied"),
        pytest.param([0.0, -70.0], id="two"),
        pytest.param([0.0, 0.0, -65.0, -65.0, -70.0], id="three that add nothing"),
    ],
)
def test_every_term_of_the_division_bound_can_be_used_up(
    values: list[float], direction: int, kappa: Any
) -> None:
    # The last class has no share in the sum, so that its own errors and those of the sum do not
    # cancel; the first partial sums are as large as the whole.
    z = [mp.mpf(x) for x in values]
    s, last = sizes(z), len(z) - 1
    op = conspiring(last, direction, s.level, FINE, kappa)
    error = relative_errors(division(z, op), s.p)[last]
    assert_within(error / FINE, division_bound(s, kappa)[last], rel=mp.mpf("1e-10"))


@pytest.mark.statement("forms-error", "exact")
@pytest.mark.parametrize("kappa", KAPPAS, ids=str)
@pytest.mark.parametrize("direction", [-1, 1])
@pytest.mark.parametrize("level", [-1e6, -3.0, 0.0, 10.0, 1e6])
@pytest.mark.parametrize("values", [[0.0, 0.0], [0.0, -60.0], [0.0, -65.0, -70.0], [0.0]], ids=str)
def test_every_term_of_the_subtraction_bound_can_be_used_up(
    values: list[float], level: float, direction: int, kappa: Any
) -> None:
    # All but one u: the proof counts K - 1 additions and no division, the theorem K of both.
    z = [mp.mpf(x) + mp.mpf(level) for x in values]
    s, last = sizes(z), len(z) - 1
    op = conspiring(last, direction, s.level, FINE, kappa)
    # The gap of the sum has an error of its own: it is not what is taken from L.
    sum_only = conspiring(-1, direction, s.level, FINE, kappa)

    def both(kind: str, index: int, exact: Any) -> Any:
        return (sum_only if kind in ("gap", "exp") else op)(kind, index, exact)

    error = relative_errors(subtraction(z, both), s.p)[last]
    bound = subtraction_bound(s, kappa)[last]
    # log K stands for log S.
    spare = 1 + (1 + kappa) * (mp.log(s.k) - s.log_total)
    assert error / FINE >= (bound - spare) * (1 - mp.mpf("1e-10"))
    assert error <= with_second_order(bound, FINE)


@pytest.mark.statement("forms-error", "exact")
@pytest.mark.parametrize("bits", [8, 11, 24])
@settings(max_examples=60)
@given(data=st.data())
def test_correct_rounding_stays_within_the_bounds(bits: int, data: st.DataObject) -> None:
    op = rounding(bits)
    # Gaps up to 16: at 8 bits both orders count.
    z = data.draw(rows(1, 6, bound=8.0) | whole_rows(1, 6, bound=8))
    level = data.draw(st.sampled_from([0.0, 1.0, 10.0]))
    numbers = [op("", 0, mp.mpf(x) + level) for x in z.tolist()]
    s, u = sizes(numbers), mp.mpf(2) ** -bits
    for form, bounds in (
        (division, division_bound(s, 1)),
        (subtraction, subtraction_bound(s, 1)),
    ):
        errors = relative_errors(form(numbers, op), s.p)
        for error, bound in zip(errors, bounds, strict=True):
            assert error <= with_second_order(bound, u)


@pytest.mark.statement("forms-error", "exact")
@single_double
@settings(max_examples=60)
@given(data=st.data())
def test_torch_stays_within_the_bounds(dtype: torch.dtype, data: st.DataObject) -> None:
    z = data.draw(torch_rows(dtype))
    s, u = sizes([mp.mpf(x) for x in z.tolist()]), unit(dtype)
    forms = (
        (softmax(z), division_bound(s, TORCH_KAPPA)),
        ((z - logsumexp(z)).exp(), subtraction_bound(s, TORCH_KAPPA)),
    )
    for computed, bounds in forms:
        allowed = [p * with_second_order(bound, u) for p, bound in zip(s.p, bounds, strict=True)]
        assert_within(computed, s.p, allowed)


@pytest.mark.statement("forms-error", "exact")
@given(whole_rows(1, 8), st.integers(-(2**20), 2**20), st.sampled_from(KAPPAS))
def test_the_division_form_does_not_see_the_level(z: Tensor, c: int, kappa: Any) -> None:
    numbers = [mp.mpf(x) for x in z.tolist()]
    moved = [x + c for x in numbers]
    assert division_bound(sizes(numbers), kappa) == division_bound(sizes(moved), kappa)
    for bits in (24, 53):
        assert division(numbers, rounding(bits)) == division(moved, rounding(bits))
    for dtype in SINGLE_DOUBLE:
        assert torch.equal(softmax((z + c).to(dtype)), softmax(z.to(dtype)))


@pytest.mark.statement("forms-error", "exact")
@given(leveled_rows(), st.integers(2, 60))
def test_an_error_of_the_normalizer_alone_scales_every_probability(z: Vector, bits: int) -> None:
    s = sizes(z)

    def op(kind: str, index: int, exact: Any) -> Any:
        return rounding(bits)(kind, index, exact) if kind == "level" else exact

    epsilon = log_normalizer(z, op) - s.level
    p = subtraction(z, op)
    assert_within(p, [exact * mp.exp(-epsilon) for exact in s.p], rel=mp.mpf("1e-40"))
    assert_within(sum(p), mp.exp(-epsilon), rel=mp.mpf("1e-40"))
    assert abs(epsilon) <= abs(s.level) * mp.mpf(2) ** -bits


@pytest.mark.statement("forms-error", "exact")
@pytest.mark.parametrize("power", [10, 15, 20])
@pytest.mark.parametrize("k", [2, 5])
def test_the_level_cannot_be_dropped_from_the_subtraction_bound(power: int, k: int) -> None:
    # A level of 2^n puts L just above a power of two, where u |L| is half a unit in the last
    # place, and log S = log(1 + exp(-gap)) is just below that half: all of it is rounded away.
    half = 2.0 ** (power - 24)
    gap = -math.log(math.expm1(half))
    spacing = 2.0 ** (power - 24)
    gap = math.ceil(gap / spacing) * spacing
    # More classes, far below, add nothing.
    z = torch.tensor([2.0**power, 2.0**power - gap] + [2.0**power - 80] * (k - 2))
    s = sizes([mp.mpf(x) for x in z.tolist()])
    stored = logsumexp(z)
    assert stored.item() == 2.0**power
    epsilon = mp.mpf(stored.item()) - s.level
    u = mp.mpf(2) ** -24
    # Nearly the largest error that one rounding allows: no factor below 1 would do for |L|.
    assert 0.9 * s.level * u < abs(epsilon) <= s.level * u
    p = [mp.mpf(x) for x in (z - stored).exp().tolist()]
    for i, (computed, exact) in enumerate(zip(p, s.p, strict=True)):
        # What is left besides the factor are the subtraction and the exponential.
        left = s.gaps[i] + s.log_total + TORCH_KAPPA
        assert_within(computed, exact * mp.exp(-epsilon), rel=with_second_order(left, u))
        bound = subtraction_bound(s, TORCH_KAPPA)[i]
        assert_within(computed, exact, rel=with_second_order(bound, u))
        # Above all that the bound without the level allows.
        assert abs(computed / exact - 1) > with_second_order(bound - s.level, u)
    assert_within(sum(p), mp.exp(-epsilon), rel=with_second_order(s.gaps[1] + TORCH_KAPPA + 1, u))
    # The division form of the same row is within its own bound, far below.
    for computed, exact, bound in zip(
        softmax(z).tolist(), s.p, division_bound(s, TORCH_KAPPA), strict=True
    ):
        assert_within(computed, exact, rel=with_second_order(bound, u))


@pytest.mark.statement("forms-error", "exact")
def test_a_pair_whose_normalizer_uses_up_all_but_a_ten_millionth_of_one_rounding() -> None:
    values = [256.0, 244.90965270996094]
    assert torch.tensor(values).tolist() == values  # numbers of float32
    z = [mp.mpf(x) for x in values]
    s = sizes(z)
    # 256 is followed by 256 + 2^-15: what is less than half of that away is rounded to it.
    assert 0 < s.level - 256 < mp.mpf(2) ** -16
    with mp.workprec(24):
        assert +s.level == 256
    assert logsumexp(torch.tensor(values)).item() == 256
    epsilon = 256 - s.level
    share = abs(epsilon) / (s.level * mp.mpf(2) ** -24)
    assert 1 - mp.mpf("1.1e-7") < share < 1 - mp.mpf("0.9e-7")
    p = [mp.exp(x - 256) for x in z]
    assert_within(sum(p), mp.exp(-epsilon), rel=mp.mpf("1e-45"))
    assert_within(p, [q * mp.exp(-epsilon) for q in s.p], rel=mp.mpf("1e-45"))


@pytest.mark.statement("forms-error", "exact")
@pytest.mark.parametrize(("level", "least"), [(1e3, 10), (1e4, 100), (1e5, 1000)])
def test_at_a_high_level_the_subtraction_form_exceeds_the_division_bound(
    level: float, least: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for row in 2 * torch.randn(50, 8, generator=generator):
        z = row + level
        s, u = sizes([mp.mpf(x) for x in z.tolist()]), mp.mpf(2) ** -24
        limit = max(division_bound(s, TORCH_KAPPA)) * u
        assert_within(softmax(z), s.p, [p * limit * (1 + limit) for p in s.p])
        p = [mp.mpf(x) for x in (z - logsumexp(z)).exp().tolist()]
        worst = max(worst, float(max(relative_errors(p, s.p)) / limit))
        # The two subtractions do not see the level either.
        bounds = [b + TORCH_KAPPA for b in log_domain_bound(s, TORCH_KAPPA)]
        allowed = [q * with_second_order(bound, u) for q, bound in zip(s.p, bounds, strict=True)]
        assert_within(log_softmax(z).exp(), s.p, allowed)
    assert worst > least
