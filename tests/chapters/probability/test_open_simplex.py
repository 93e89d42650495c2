"""The proposition `open-simplex`: The image is the open simplex."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from omnivault.softmax import log_softmax, logsumexp, softmax
from tests.chapters.probability.common import U
from tests.support.strategies import (
    DTYPES,
    assert_within,
    log_softmax_bound,
    rows,
    softmax_bound,
    temperatures,
)


@pytest.mark.statement("open-simplex")
@given(rows(2, 8, bound=15.0), temperatures(1.0))
def test_every_share_lies_strictly_between_zero_and_one(z: Tensor, temperature: float) -> None:
    # Gaps of at most 30 / 1: exp(-30) is 800 times the rounding of 1.
    p = softmax(z, temperature=temperature)
    assert bool(((p > 0) & (p < 1)).all())


@pytest.mark.statement("open-simplex")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("logit", [-1e4, -1.0, 0.0, 3.5, 1e4])
def test_one_class_has_all_of_it(logit: float, dtype: torch.dtype) -> None:
    assert softmax(torch.tensor([logit], dtype=dtype), temperature=0.7).tolist() == [1.0]


def interior_points() -> st.SearchStrategy[Tensor]:
    def normalized(weights: list[float]) -> Tensor:
        p = torch.tensor(weights, dtype=torch.float64)
        return p / p.sum()

    return st.lists(st.floats(1e-12, 1.0), min_size=2, max_size=8).map(normalized)


@pytest.mark.statement("open-simplex")
@given(interior_points(), temperatures(), st.integers(-10, 10))
def test_every_interior_point_is_reached(p: Tensor, temperature: float, c: int) -> None:
    z = temperature * p.log() + c
    # The logarithm is off by 8 u of itself, T log p and the sum by one u; these errors of the
    # exponents reach every p through the sum, too. The sum of p was off by K u.
    size = 10 * p.log().abs() + abs(c) / temperature
    relative = size + (p * size).sum() + len(p) + 2
    allowed = softmax_bound(z, temperature) + p * U * relative
    assert_within(softmax(z, temperature=temperature), p, allowed)


@pytest.mark.statement("open-simplex")
@given(rows(2, 8), temperatures())
def test_the_preimage_is_unique_up_to_a_constant(z: Tensor, temperature: float) -> None:
    preimage = temperature * log_softmax(z, temperature=temperature)
    constant = z - preimage
    expected = logsumexp(z, temperature=temperature)
    allowed = 2 * temperature * log_softmax_bound(z, temperature) + 4 * U * (
        z.abs() + expected.abs()
    )
    assert_within(constant, expected.expand_as(z), allowed)


@pytest.mark.statement("open-simplex")
def test_the_boundary_is_approached_and_not_reached() -> None:
    # 1 - p_1 = exp(-m) / (1 + exp(-m)): as near to 0 as wanted, and exactly the second share.
    for m in (1.0, 10.0, 30.0, 36.0, 300.0, 700.0):
        p = softmax(torch.tensor([0.0, -m], dtype=torch.float64))
        assert_within(p[1], math.exp(-m) / (1 + math.exp(-m)), rel=(3 * m + 16) * U)
        assert p[1].item() > 0
        assert (p[0].item() < 1) == (m <= 36)
