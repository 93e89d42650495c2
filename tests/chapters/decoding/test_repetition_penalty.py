"""The proposition `repetition-penalty`: The repetition penalty reads the level."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
import torch
import transformers as hf
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.chapters.decoding.common import row
from tests.support.strategies import whole_rows


def penalized(z: Sequence[Any], seen: Sequence[int], theta: Any) -> list[Any]:
    return [(x / theta if x > 0 else x * theta) if i in seen else x for i, x in enumerate(z)]


@pytest.mark.statement("repetition-penalty", "transformers")
def test_the_penalty_is_that_of_transformers_and_reads_the_level() -> None:
    theirs, leads = hf.RepetitionPenaltyLogitsProcessor(2.0), []
    for shift in (10, 0, -1, -1.5, -3, -4):
        expected = penalized([3.0 + shift, 2.0 + shift], [0], 2.0)
        assert (
            theirs(torch.tensor([[0]]), row([3 + shift, 2 + shift])[None])[0].tolist() == expected
        )
        leads.append(expected[0] - expected[1])
    assert leads == [-5.5, -0.5, 0.0, 0.25, 1.0, 0.0]


@pytest.mark.statement("repetition-penalty", "exact")
@given(whole_rows(2, 6, 9), st.integers(1, 9), st.sampled_from([1, 2]), st.data())
def test_above_zero_a_penalized_logit_moves_by_a_part_of_the_shift(
    z: Tensor, shift: int, theta: int, data: st.DataObject
) -> None:
    seen = data.draw(st.lists(st.integers(0, len(z) - 1)))
    values = [Fraction(x) for x in z.tolist()]
    low, high = (penalized([x + c for x in values], seen, theta) for c in (100, 100 + shift))
    moved = [b - a for a, b in zip(low, high, strict=True)]
    # Above zero a logit that was penalized moves by a part of the shift.
    assert moved == [Fraction(shift, theta if i in seen else 1) for i in range(len(z))]


@pytest.mark.statement("repetition-penalty")
@pytest.mark.parametrize("theta", [1.01, 1.2, 2.0, 10.0])
@pytest.mark.parametrize("z", [(3.0, 2.0), (0.5, -4.0), (-1.0, -1.5)])
def test_for_every_penalty_a_shift_changes_the_argmax(theta: float, z: tuple[float, float]) -> None:
    def leader(c: float) -> int:
        first, second = penalized([z[0] + c, z[1] + c], [0], theta)
        return 0 if first > second else 1

    assert leader(-z[1]) == 0
    assert leader(1000.0 * theta / (theta - 1)) == 1
