"""The proposition `scaling-odds`: Scaling raises the odds to a power."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.properties.common import U, is_constant
from tests.support.strategies import assert_within, rows, softmax_bound, temperatures, whole_rows


@pytest.mark.statement("scaling-odds")
@given(rows(1, 8), st.floats(0.01, 10.0), temperatures())
def test_scaling_the_logits_is_dividing_the_temperature(
    z: Tensor, c: float, temperature: float
) -> None:
    scaled = softmax(c * z, temperature=temperature)
    p = softmax(z, temperature=temperature / c)
    # c z and T / c are rounded.
    gap = c * (z.max() - z) / temperature
    size = c * z.abs().max() / temperature
    allowed = 2 * softmax_bound(c * z, temperature) + p * U * (2 * gap + 4 * size + 4)
    assert_within(scaled, p, allowed)


@pytest.mark.statement("scaling-odds")
@given(rows(2, 6, bound=10.0), st.floats(0.01, 10.0), temperatures(0.5, 10.0))
def test_scaling_raises_the_odds_to_a_power(z: Tensor, c: float, temperature: float) -> None:
    p = softmax(z, temperature=temperature)
    scaled = softmax(c * z, temperature=temperature)
    for i, j in itertools.permutations(range(len(z)), 2):
        odds = mp.mpf(p[i].item()) / mp.mpf(p[j].item())
        after = mp.mpf(scaled[i].item()) / mp.mpf(scaled[j].item())
        # Exponents up to 40 with c = 1, 400 with c = 10; four of them, three roundings each, the
        # odds' own error times c, and the product c z.
        allowed = (2 * 3 * (c + 1) * 40 + c * 40 + 32 * (c + 1)) * 2 * U
        assert_within(after, odds ** mp.mpf(c), rel=allowed)


@pytest.mark.statement("scaling-odds")
@given(
    whole_rows(1, 6, bound=5),
    st.lists(st.integers(0, 20), min_size=2, max_size=6, unique=True),
    temperatures(1.0, 4.0),
)
def test_the_largest_share_grows_and_the_smallest_shrinks(
    z: Tensor, tenths: list[int], temperature: float
) -> None:
    # Gaps up to 10, c up to 2: the largest share stays 2e-9 below 1, and steps of 0.1 in c move
    # it by a thousandth of that or more.
    factors = [n / 10 for n in sorted(tenths)]
    shares = torch.stack([softmax(c * z, temperature=temperature) for c in factors])
    largest, smallest = shares.amax(-1), shares.amin(-1)
    if is_constant(z):
        assert bool((shares == 1 / len(z)).all())
        return
    tied = int((z == z.max()).sum())
    assert bool((largest[1:] > largest[:-1]).all()), f"{tied} tied at the top"
    assert bool((smallest[1:] < smallest[:-1]).all())
    # The m tied at the top share what the others lose, and never more than 1 / m each.
    assert bool((largest <= 1 / tied).all())


@pytest.mark.statement("scaling-odds")
def test_in_floating_point_the_growth_ends_at_one() -> None:
    z = torch.tensor([0.0, -1.0])
    # exp(-17) is below half of float32's eps, so strictness is over from there on.
    assert softmax(16 * z)[0] < 1
    assert softmax(17 * z)[0] == softmax(34 * z)[0] == 1
    assert softmax(17 * z)[1] > softmax(34 * z)[1] > 0
