"""The theorem `log-n-attention`: Scores that grow like the logarithm of the length."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.attention.common import ZERO, U, row
from tests.support.strategies import assert_within, exact_softmax, rows

KAPPAS = st.floats(0.05, 3.0)
GAPS = st.floats(0.125, 4.0)


def ensured(n: int, kappa: Any, gap: Any) -> Any:
    """The weight that the leading key has at least."""
    return 1 / (1 + (n - 1) * mp.mpf(n) ** (-mp.mpf(kappa) * mp.mpf(gap)))


@pytest.mark.statement("log-n-attention", "exact")
@given(rows(1, 7, bound=4.0), KAPPAS, GAPS)
def test_the_leading_key_keeps_its_weight(behind: Tensor, kappa: float, gap: float) -> None:
    n = len(behind) + 1
    # The others are behind by the gap, or by more.
    s = torch.cat([row([0.0]), -gap - behind.abs()])
    temperature = 1 / (mp.mpf(kappa) * mp.log(n))
    weight = exact_softmax(s, temperature)[0]
    least = ensured(n, kappa, -mp.mpf(s[1:].max().item()))
    assert weight >= least * (1 - ZERO)
    tied = bool((s[1:] == s[1]).all())
    # Scores that differ by less than 1e-15 differ in the weight as well, though not in 45 digits.
    if tied or (s[1:].max() - s[1:].min()) > 1e-12:
        assert (abs(weight / least - 1) < ZERO) == tied
    assert ensured(n, kappa, gap) <= least * (1 + ZERO)


@pytest.mark.statement("log-n-attention", "exact")
@pytest.mark.parametrize("gap", ["0.25", "1", "3"])
@pytest.mark.parametrize(
    ("product", "limit"), [("0.5", 0), ("0.9", 0), ("1", 0.5), ("1.1", 1), ("2", 1)]
)
def test_one_over_the_gap_is_the_border(gap: str, product: str, limit: float) -> None:
    kappa = mp.mpf(product) / mp.mpf(gap)
    sizes = [10**e for e in (1, 2, 10, 40)]
    weights = [ensured(n, kappa, mp.mpf(gap)) for n in sizes]
    off = [abs(weight - limit) for weight in weights]
    assert all(later < sooner for sooner, later in itertools.pairwise(off))
    # The others weigh (1 - 1/n) n^(1 - kappa g), to 1 of the leading key.
    away = abs(1 - mp.mpf(product)) if limit != 0.5 else 1
    for n, distance in zip(sizes, off, strict=True):
        assert mp.mpf(n) ** -away / 5 < distance < 1.2 * mp.mpf(n) ** -away


@pytest.mark.statement("log-n-attention")
@pytest.mark.parametrize("n", [2, 3, 100, 100_000])
@pytest.mark.parametrize("kappa", [0.25, 0.5, 1.0])
def test_a_softmax_at_a_temperature_of_one_over_log_n(n: int, kappa: float) -> None:
    s = row([2.0, *[0.0] * (n - 1)])
    weight = softmax(s, temperature=1 / (kappa * math.log(n)))[0].item()
    # An exponent of size 2 kappa log n with three roundings, and a sum of n terms.
    bound = (2 * n + 16 * kappa * math.log(n) + 128) * U
    assert_within(weight, ensured(n, kappa, 2.0), rel=bound)
    if kappa == 0.5:
        assert_within(weight, mp.mpf(n) / (2 * n - 1), rel=bound)


@pytest.mark.statement("log-n-attention", "exact")
@given(GAPS)
def test_without_the_factor_every_gap_is_lost(gap: float) -> None:
    weights = []
    for e in (1, 4, 40):
        n = 10**e
        # kappa log n = 1 for this n.
        weights.append(ensured(n, 1 / mp.log(n), gap))
        assert_within(weights[-1], 1 / (1 + (n - 1) * mp.exp(-mp.mpf(gap))), rel=ZERO)
    assert weights[0] > weights[1] > weights[2]
    assert weights[2] < mp.mpf(10) ** -38
