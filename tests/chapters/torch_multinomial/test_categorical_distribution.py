"""The definition `categorical-distribution`: Categorical distribution."""

from __future__ import annotations

import math

import pytest
import torch


@pytest.mark.statement("categorical-distribution")
def test_torch_raises_on_what_is_no_distribution_but_names_another_fault_for_nan() -> None:
    raced, total = "contains either `inf`, `nan` or element < 0", "sum of probabilities <= 0"
    for bad, first, searched in (
        ([0.5, -0.1], raced, "entry < 0"),
        ([0.5, math.nan], raced, "entry < 0"),
        ([0.5, math.inf], raced, "entry = infinity or NaN"),
        ([0.0, 0.0], total, total),
        ([1, 2], "only supports floating-point dtypes", "only supports floating-point dtypes"),
    ):
        for n, replacement, message in ((1, False, first), (1, True, first), (2, True, searched)):
            with pytest.raises(RuntimeError, match=message):
                torch.multinomial(torch.tensor(bad), n, replacement)
    assert torch.multinomial(torch.ones(1).expand(2**24), 1).shape == (1,)
    with pytest.raises(RuntimeError, match=r"number of categories cannot exceed 2\^24"):
        torch.multinomial(torch.ones(1).expand(2**24 + 1), 1)
