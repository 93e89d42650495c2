from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from omnivault.softmax import softmax
from tests.package.information.common import (
    NO_DIM,
    NOT_A_ROW,
    NOT_FLOATING,
    Measure,
    both,
)

FROM_THE_FRONT = (
    "dim {} is counted from the front, and p of shape {} and q of shape {} have not as many "
    "dimensions; count it from the back, as in dim=-1"
)
NO_FIT = (
    "p of shape {} and q of shape {} must have as many outcomes along dim {} and broadcast "
    "otherwise; add dimensions with unsqueeze"
)


BAD_PAIRS: dict[str, tuple[Any, Any, int, type[Exception], str, Tensor, Tensor, int]] = {
    "p a list": (
        [0.5, 0.5],
        torch.tensor([0.5, 0.5]),
        -1,
        TypeError,
        NOT_FLOATING.format("[0.5, 0.5]"),
        torch.tensor([0.5, 0.5]),
        torch.tensor([0.5, 0.5]),
        -1,
    ),
    "q integers": (
        torch.tensor([0.0, 1.0]),
        torch.tensor([0, 1]),
        -1,
        TypeError,
        NOT_FLOATING.format("tensor([0, 1])"),
        torch.tensor([0.0, 1.0]),
        torch.tensor([0.0, 1.0]),
        -1,
    ),
    "q logits": (
        torch.tensor([0.5, 0.5]),
        torch.tensor([1.0, 2.0]),
        -1,
        ValueError,
        NOT_A_ROW.format([1.0, 2.0], 3),
        torch.tensor([0.5, 0.5]),
        softmax(torch.tensor([1.0, 2.0])),
        -1,
    ),
    "p logits": (
        torch.tensor([1.0, 2.0]),
        torch.tensor([0.5, 0.5]),
        -1,
        ValueError,
        NOT_A_ROW.format([1.0, 2.0], 3),
        softmax(torch.tensor([1.0, 2.0])),
        torch.tensor([0.5, 0.5]),
        -1,
    ),
    "both logits": (
        torch.tensor([1.0, 2.0]),
        torch.tensor([3.0, 4.0]),
        -1,
        ValueError,
        NOT_A_ROW.format([1.0, 2.0], 3),
        softmax(torch.tensor([1.0, 2.0])),
        softmax(torch.tensor([3.0, 4.0])),
        -1,
    ),
    "q log-probabilities": (
        torch.tensor([0.5, 0.5]),
        torch.tensor([0.0, -math.inf]),
        -1,
        ValueError,
        NOT_A_ROW.format("[0.0, -inf]", "-inf"),
        torch.tensor([0.5, 0.5]),
        torch.tensor([0.0, -math.inf]).exp(),
        -1,
    ),
    "a label for p": (
        torch.tensor(1.0),
        torch.tensor([0.5, 0.5]),
        -1,
        ValueError,
        NO_DIM.format(-1, ()),
        torch.tensor([0.0, 1.0]),
        torch.tensor([0.5, 0.5]),
        -1,
    ),
    "no such dim of q": (
        torch.eye(2),
        torch.tensor([0.5, 0.5]),
        1,
        ValueError,
        NO_DIM.format(1, (2,)),
        torch.eye(2),
        torch.tensor([[0.5, 0.5]]),
        1,
    ),
    "two and three outcomes": (
        torch.tensor([0.5, 0.5]),
        torch.tensor([0.5, 0.5, 0.0]),
        -1,
        ValueError,
        NO_FIT.format((2,), (3,), -1),
        torch.tensor([0.5, 0.5, 0.0]),
        torch.tensor([0.5, 0.5, 0.0]),
        -1,
    ),
    "one outcome and three": (
        torch.ones(2, 1),
        torch.full((2, 4), 0.25),
        1,
        ValueError,
        NO_FIT.format((2, 1), (2, 4), 1),
        torch.ones(2, 1).expand(2, 4) / 4,
        torch.full((2, 4), 0.25),
        1,
    ),
    "one outcome of q": (
        torch.full((2, 4), 0.25),
        torch.ones(2, 1),
        -1,
        ValueError,
        NO_FIT.format((2, 4), (2, 1), -1),
        torch.full((2, 4), 0.25),
        torch.full((2, 4), 0.25),
        -1,
    ),
    "batches of two and three": (
        torch.full((2, 4), 0.25),
        torch.full((3, 4), 0.25),
        -1,
        ValueError,
        NO_FIT.format((2, 4), (3, 4), -1),
        torch.full((2, 1, 4), 0.25),
        torch.full((3, 4), 0.25),
        -1,
    ),
    # Dimension 0 of p would meet dimension 1 of q.
    "dim from the front of a row and a matrix": (
        torch.full((2,), 0.5),
        torch.full((2, 2), 0.5),
        0,
        ValueError,
        FROM_THE_FRONT.format(0, (2,), (2, 2)),
        torch.full((2, 1), 0.5),
        torch.full((2, 2), 0.5),
        0,
    ),
    "dim from the front of a batch and a matrix": (
        torch.full((3, 2, 2), 0.5),
        torch.full((2, 2), 0.5),
        1,
        ValueError,
        FROM_THE_FRONT.format(1, (3, 2, 2), (2, 2)),
        torch.full((3, 2, 2), 0.5),
        torch.full((2, 2), 0.5),
        -1,
    ),
    "an empty batch and three": (
        torch.full((0, 4), 0.25),
        torch.full((3, 4), 0.25),
        -1,
        ValueError,
        NO_FIT.format((0, 4), (3, 4), -1),
        torch.full((0, 4), 0.25),
        torch.full((1, 4), 0.25),
        -1,
    ),
}


@both
@pytest.mark.parametrize(
    ("p", "q", "dim", "error", "message", "good_p", "good_q", "good_dim"),
    BAD_PAIRS.values(),
    ids=BAD_PAIRS.keys(),
)
def test_what_is_no_pair_of_distributions_is_shown_with_what_would_work(
    p: Any,
    q: Any,
    dim: int,
    error: type[Exception],
    message: str,
    good_p: Tensor,
    good_q: Tensor,
    good_dim: int,
    measure: Measure,
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        measure(p, q, dim)
    assert not measure(good_p, good_q, good_dim).isnan().any()
