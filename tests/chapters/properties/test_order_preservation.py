"""The theorem `order-preservation`: Softmax preserves order."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.properties.common import above
from tests.support.strategies import DTYPES, exact_softmax, rows, temperatures, whole_rows

EXAMPLE = torch.tensor([2.0, 1.0, 3.0, 5.0, 4.0], dtype=torch.float64)


@pytest.mark.statement("order-preservation")
@given(whole_rows(2, 8, bound=15), temperatures(1.0, 100.0))
def test_order_and_ties_are_kept_both_ways(z: Tensor, temperature: float) -> None:
    # Gaps between 1 / 100 and 30: far above rounding, far from underflow.
    p = softmax(z, temperature=temperature)
    assert torch.equal(above(p), above(z))
    # i above j in neither order means a tie: ties are exactly the ties.
    assert torch.equal(p.unsqueeze(-1) == p.unsqueeze(-2), z.unsqueeze(-1) == z.unsqueeze(-2))


@pytest.mark.statement("order-preservation", "exact")
@given(rows(2, 6, bound=50.0), temperatures())
def test_order_in_exact_arithmetic(z: Tensor, temperature: float) -> None:
    # Multiples of 2^-20: the least gap over the largest T is 1e-8, and 50 digits see 1e-50.
    z = (z * 2**20).round() / 2**20
    p = exact_softmax(z, temperature)
    computed = softmax(z, temperature=temperature)
    for i, j in itertools.permutations(range(len(z)), 2):
        assert (z[i] > z[j]).item() == (p[i] > p[j])
        assert (z[i] == z[j]).item() == (p[i] == p[j])
        if z[i] >= z[j]:
            assert computed[i] >= computed[j]


@pytest.mark.statement("order-preservation")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 8.0])
def test_the_example_keeps_its_ranking(dtype: torch.dtype, temperature: float) -> None:
    p = softmax(EXAMPLE.to(dtype), temperature=temperature)
    assert p.argsort().tolist() == EXAMPLE.argsort().tolist() == [1, 0, 2, 4, 3]
    assert len(set(p.tolist())) == 5
