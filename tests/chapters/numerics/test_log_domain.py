"""The proposition `log-domain`: Log-softmax keeps what softmax loses."""

from __future__ import annotations

from fractions import Fraction
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp

from omnivault.softmax import log_softmax, softmax
from tests.chapters.numerics.common import (
    APART,
    FINE,
    INF,
    INTEGERS,
    KAPPAS,
    TORCH_KAPPA,
    Computed,
    Format,
    Rounded,
    Vector,
    conspiring,
    dtypes,
    every_format,
    exactly,
    leveled_rows,
    log_domain_bound,
    noise,
    rounding,
    single_double,
    sizes,
    torch_rows,
    underflow,
    weighted,
    with_second_order,
)
from tests.support.strategies import (
    assert_within,
    exact_log_softmax,
    exact_softmax,
    rows,
    smallest,
    unit,
    whole_rows,
)


def log_domain(z: Vector, op: Computed) -> Vector:
    """The two subtractions, before the exponential."""
    gaps, _, total = weighted(z, op)
    log_total = op("log", 0, mp.log(total))
    return [op("minus", i, gap - log_total) for i, gap in enumerate(gaps)]


@pytest.mark.statement("log-domain", "exact")
@given(leveled_rows())
def test_a_log_probability_is_the_gap_up_to_log_k(z: Vector) -> None:
    s = sizes(z)
    for gap, log_p in zip(s.gaps, log_domain(z, exactly), strict=True):
        assert -gap - mp.log(s.k) - APART <= log_p <= -gap
        # Equality: above for one class alone, below for equal logits alone.
        assert (log_p == -gap) == (s.k == 1)
        if max(s.gaps) == 0:
            assert_within(log_p, -gap - mp.log(s.k), APART)
        elif max(s.gaps) > mp.mpf("1e-6"):
            assert log_p > -gap - mp.log(s.k) + mp.mpf("1e-8")


@pytest.mark.statement("log-domain", "exact")
@given(leveled_rows(), st.sampled_from(KAPPAS), st.integers(0, 10**6))
def test_no_errors_of_the_model_exceed_the_absolute_bound(z: Vector, kappa: Any, seed: int) -> None:
    random = Random(seed)
    random.shuffle(z)
    s = sizes(z)
    exact = log_domain(z, exactly)
    choices = [noise(seed, FINE, kappa)]
    i = random.randrange(s.k)
    choices += [conspiring(i, direction, s.level, FINE, kappa) for direction in (-1, 1)]
    for op in choices:
        computed = log_domain(z, op)
        for a, b, bound in zip(computed, exact, log_domain_bound(s, kappa), strict=True):
            assert abs(a - b) <= with_second_order(bound, FINE)


@pytest.mark.statement("log-domain", "exact")
@pytest.mark.parametrize("kappa", KAPPAS, ids=str)
@pytest.mark.parametrize("direction", [-1, 1])
@pytest.mark.parametrize(
    "values",
    [[0.0, -1.278, -60.0], [0.0, -65.0], [0.0, 0.0, -65.0, -70.0], [0.0, -65.0, -70.0]],
    ids=str,
)
def test_every_term_of_the_absolute_bound_can_be_used_up(
    values: list[float], direction: int, kappa: Any
) -> None:
    z = [mp.mpf(x) for x in values]
    s, last = sizes(z), len(z) - 1
    op = conspiring(last, direction, s.level, FINE, kappa)
    error = abs(log_domain(z, op)[last] - log_domain(z, exactly)[last])
    bound = log_domain_bound(s, kappa)[last]
    # log K stands for log S.
    spare = kappa * (mp.log(s.k) - s.log_total)
    assert (bound - spare) * (1 - mp.mpf("1e-10")) <= error / FINE <= bound * (1 + mp.mpf("1e-10"))


@pytest.mark.statement("log-domain", "exact")
@pytest.mark.parametrize("kappa", KAPPAS, ids=str)
@pytest.mark.parametrize("direction", [-1, 1])
def test_two_equal_logits_use_up_log_k_as_well(direction: int, kappa: Any) -> None:
    z = [mp.mpf(0), mp.mpf(0)]
    # Both weights are off in one direction, so no class is singled out.
    op = conspiring(-1, direction, 1, FINE, kappa)
    error = abs(log_domain(z, op)[0] + mp.log(2))
    bound = log_domain_bound(sizes(z), kappa)[0]
    assert_within(error / FINE, bound, rel=mp.mpf("1e-10"))
    assert_within(bound, mp.log(2) + kappa * (1 + mp.log(2)) + 1, APART)


@pytest.mark.statement("log-domain", "exact")
@pytest.mark.parametrize("bits", [8, 11, 24])
@settings(max_examples=60)
@given(data=st.data())
def test_correct_rounding_stays_within_the_absolute_bound(bits: int, data: st.DataObject) -> None:
    op = rounding(bits)
    z = data.draw(rows(1, 6, bound=8.0) | whole_rows(1, 6, bound=8))
    numbers = [op("", 0, mp.mpf(x)) for x in z.tolist()]
    s, u = sizes(numbers), mp.mpf(2) ** -bits
    exact = log_domain(numbers, exactly)
    for a, b, bound in zip(log_domain(numbers, op), exact, log_domain_bound(s, 1), strict=True):
        assert abs(a - b) <= with_second_order(bound, u)


@pytest.mark.statement("log-domain", "exact")
@single_double
@settings(max_examples=60)
@given(data=st.data())
def test_log_softmax_stays_within_the_absolute_bound(
    dtype: torch.dtype, data: st.DataObject
) -> None:
    # Gaps of any size: what underflows in the sum is less than one rounding of it.
    scale = data.draw(st.sampled_from([1.0, 10.0, 1e4]))
    z = data.draw(torch_rows(dtype)) * scale
    s = sizes([mp.mpf(x) for x in z.tolist()])
    for computed, exact, bound in zip(
        log_softmax(z).tolist(), exact_log_softmax(z), log_domain_bound(s, TORCH_KAPPA), strict=True
    ):
        assert_within(computed, exact, with_second_order(bound, unit(dtype)))


@pytest.mark.statement("log-domain", "exact")
@every_format
@pytest.mark.parametrize("others", [0, 1, 5])
def test_the_logarithm_of_a_rounded_probability_is_minus_infinity_from_half_the_smallest_on(
    form: Format, others: int
) -> None:
    half = form.smallest / 2
    # At r = -ln(f_min / 2) itself the weight is a tie, which goes to the even number: zero.
    for weight in (half, half * (1 - Fraction(1, 10**60)), half / 1000):
        row = [Fraction(1)] * (1 + others)
        total: Rounded = Fraction(0)
        for w in [*row, weight]:
            total = form.round(total + form.round(w))
        assert form.round(form.round(weight) / Fraction(total)) == 0
    # Just above, the weight is the smallest number, and a leader that takes all leaves it there.
    assert form.round(half * (1 + Fraction(1, 10**60))) == form.smallest
    total = form.round(1 + form.smallest)
    assert form.round(form.smallest / Fraction(total)) == form.smallest
    # The condition is sufficient, not necessary: two leaders halve it to a tie.
    if form.bits > 1:
        assert form.round(2 + form.smallest) == 2
        assert form.round(form.smallest / 2) == 0


@pytest.mark.statement("log-domain", "exact")
@dtypes
@settings(max_examples=50)
@given(data=st.data())
def test_the_logarithm_of_softmax_is_lost_where_log_softmax_is_not(
    dtype: torch.dtype, data: st.DataObject
) -> None:
    edge = underflow(dtype)
    # From a neighbor above the border on: torch's exponential is not rounded correctly there.
    gap = data.draw(st.floats(edge * (1 + 4 * unit(dtype)), 3 * edge))
    others = data.draw(st.lists(st.floats(-3.0, 0.0), max_size=3))
    z = torch.tensor([0.0, *others, -gap], dtype=dtype)
    assert softmax(z).log()[-1].item() == -INF
    s = sizes([mp.mpf(x) for x in z.tolist()])
    exact = exact_log_softmax(z)[-1]
    # Half precision is rounded once more at the end.
    allowed = log_domain_bound(s, TORCH_KAPPA)[-1] + abs(exact)
    assert_within(log_softmax(z)[-1].item(), exact, with_second_order(allowed, unit(dtype)))


@pytest.mark.statement("log-domain", "exact")
@dtypes
def test_short_of_the_border_the_logarithm_is_finite(dtype: torch.dtype) -> None:
    edge = underflow(dtype)
    # The first number of the dtype that is short of it; read as integers, floats keep order.
    z = torch.tensor([0.0, -edge], dtype=dtype)
    integers = INTEGERS[dtype.itemsize]
    while -z[1].item() >= edge:
        z = (z.view(integers) - torch.tensor([0, 1], dtype=integers)).view(dtype)
    p = softmax(z)
    # That number is 11 u away, or more, and the exponential off by 8 u before its last rounding.
    assert p.tolist() == [1.0, smallest(dtype)]
    assert p.double().log()[1].isfinite()
    # Its digits are gone all the same: the true one is less.
    assert 0.5 < exact_softmax(z)[1] / smallest(dtype) < 0.8
    assert log_softmax(z)[1] == z[1]
