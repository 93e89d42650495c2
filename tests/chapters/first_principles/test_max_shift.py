"""The proposition `max-shift`: The maximum may be subtracted."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.first_principles.common import B, U
from tests.support.strategies import (
    SINGLE_DOUBLE,
    as_double,
    assert_within,
    exact_softmax,
    exactly,
    finite_rows,
    rows,
    smallest,
    softmax_bound,
    temperatures,
    total,
    unit,
)


@pytest.mark.statement("max-shift")
@given(st.data())
def test_subtracting_the_maximum_changes_no_bit(data: st.DataObject) -> None:
    for dtype in SINGLE_DOUBLE:
        z = data.draw(finite_rows(dtype))
        # The second shift subtracts zero. (Far enough apart, z - max z is -inf; at T = 1 that is
        # as it should be.)
        assert torch.equal(softmax(z), softmax(z - z.max()))


@pytest.mark.statement("max-shift")
@given(st.data(), temperatures(1e-3, 1e3))
def test_any_finite_logits_have_finite_shares(data: st.DataObject, temperature: float) -> None:
    for dtype in SINGLE_DOUBLE:
        # The largest there are, too, which any T below 1 takes beyond the format.
        extreme = torch.finfo(dtype).max * torch.tensor([1.0, -1.0, 0.5], dtype=dtype)
        for z in (extreme, data.draw(finite_rows(dtype))):
            p = softmax(z, temperature=temperature)
            assert not p.isnan().any()
            k, u = len(z), unit(dtype)
            # The sum that divides takes K - 1 roundings in any order, each quotient one.
            assert_within(total(exactly(p)), 1, (k + 2) * u)
            # exp(0) over a sum in [1, K].
            assert (1 - (k + 2) * u) / k <= p.max().item() <= 1


@pytest.mark.statement("max-shift", "exact")
@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
@pytest.mark.parametrize(
    ("values", "share_of_the_range"),
    [
        pytest.param([0.9, -0.9], 0.9, id="a temperature as large as the logits"),
        pytest.param([1.0, -1.0, 0.5], 1.0, id="the largest numbers there are"),
        pytest.param([1.0, -1.0, -1.0], 0.1, id="a tenth of that"),
    ],
)
def test_a_difference_beyond_the_format_is_no_share_of_zero(
    values: list[float], share_of_the_range: float, dtype: torch.dtype
) -> None:
    largest = torch.finfo(dtype).max
    z, temperature = largest * torch.tensor(values, dtype=dtype), share_of_the_range * largest
    # The plain shift loses it.
    assert (z - z.max()).isinf().any()
    assert ((z - z.max()) / temperature).exp().min() == 0
    assert_within(
        softmax(z, temperature=temperature),
        as_double(exact_softmax(z, temperature)),
        # An eighth of all, so that the bound's own differences stay within the format.
        softmax_bound(z / 8, temperature / 8),
    )


@pytest.mark.statement("max-shift")
@given(rows(bound=1e4), temperatures())
def test_shifted_exponentials_add_up_to_between_one_and_k(z: Tensor, temperature: float) -> None:
    exponents = (z - z.max()) / temperature
    assert bool((exponents <= 0).all())
    weights = exponents.exp()
    assert int((weights == 1).sum()) >= int((z == z.max()).sum()) >= 1
    added = weights.sum().item()
    assert 1 <= added <= len(z)
    # The package's largest share is one over that sum.
    p = softmax(z, temperature=temperature)
    # Two sums, in any order, and two quotients.
    relative = 2 * len(z) * U
    assert_within(p.max(), 1 / added, rel=relative)
    assert_within(p, weights / added, relative * p + 2 * smallest(z.dtype))


@pytest.mark.statement("max-shift", "exact")
@given(rows(bound=1e3), temperatures())
def test_the_shift_changes_nothing_in_exact_arithmetic(z: Tensor, temperature: float) -> None:
    plain = [mp.exp(mp.mpf(x) / temperature) for x in z.tolist()]
    shifted = [mp.exp((mp.mpf(x) - mp.mpf(z.max().item())) / temperature) for x in z.tolist()]
    sides = [[w / mp.fsum(weights) for w in weights] for weights in (plain, shifted)]
    assert_within(*sides, rel=mp.mpf(10) ** -45)
    assert min(shifted) > 0
    assert max(shifted) == 1
    assert 1 <= mp.fsum(shifted) <= len(z)


@pytest.mark.statement("max-shift")
def test_a_shifted_exponential_may_still_round_to_zero() -> None:
    b = torch.tensor(B, dtype=torch.float64)
    for z, zeros in ((b, 0), (b.float(), 3)):
        weights = (z - z.max()).exp()
        assert int((weights == 0).sum()) == int((softmax(z) == 0).sum()) == zeros


@pytest.mark.statement("max-shift", "exact")
@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        pytest.param(B, torch.float32, id="float32, exp(120)"),
        pytest.param([88.8, 0.0], torch.float32, id="float32, just above 88.72"),
        pytest.param([710.0, 0.0], torch.float64, id="float64, just above 709.78"),
        pytest.param([11.1, 0.0], torch.float16, id="float16, just above 11.09"),
        pytest.param([89.0, 0.0], torch.bfloat16, id="bfloat16, above 88.5"),
    ],
)
def test_without_the_shift_the_largest_share_is_nan(
    values: list[float], dtype: torch.dtype
) -> None:
    z = torch.tensor(values, dtype=dtype)
    weights = z.exp()
    assert (weights / weights.sum())[z.argmax()].isnan()
    assert_within(softmax(z), as_double(exact_softmax(z)), softmax_bound(z))


@pytest.mark.statement("max-shift")
@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        pytest.param([88.5, 88.5], torch.float32, id="float32"),
        pytest.param([709.5, 709.5], torch.float64, id="float64"),
        pytest.param([11.0, 11.0], torch.float16, id="float16"),
        pytest.param([88.5, 88.5], torch.bfloat16, id="bfloat16"),
    ],
)
def test_the_sum_overflows_before_its_terms_do(values: list[float], dtype: torch.dtype) -> None:
    z = torch.tensor(values, dtype=dtype)
    weights = z.exp()
    assert not weights.isinf().any()
    # Every term is finite, their sum is not, and all the mass is lost.
    assert (weights / weights.sum()).tolist() == [0.0, 0.0]
    assert softmax(z).tolist() == [0.5, 0.5]
