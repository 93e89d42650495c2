from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from omnivault.information import entropy
from omnivault.softmax import softmax
from tests.package.information.common import NO_DIM, NOT_A_ROW, NOT_FLOATING

# Each row: rejected p and dim, the whole message, accepted p and dim.
BAD: dict[str, tuple[Any, int, type[Exception], str, Tensor, int]] = {
    "a list": (
        [0.5, 0.5],
        -1,
        TypeError,
        NOT_FLOATING.format("[0.5, 0.5]"),
        torch.tensor([0.5, 0.5]),
        -1,
    ),
    "an array": (
        np.array([0.5, 0.5]),
        -1,
        TypeError,
        NOT_FLOATING.format("array([0.5, 0.5])"),
        torch.tensor(np.array([0.5, 0.5])),
        -1,
    ),
    "integers": (
        torch.tensor([0, 1]),
        -1,
        TypeError,
        NOT_FLOATING.format("tensor([0, 1])"),
        torch.tensor([0.0, 1.0]),
        -1,
    ),
    "a scalar": (
        torch.tensor(1.0),
        -1,
        ValueError,
        NO_DIM.format(-1, ()),
        torch.tensor([1.0]),
        -1,
    ),
    "dim too large": (
        torch.tensor([0.5, 0.5]),
        1,
        ValueError,
        NO_DIM.format(1, (2,)),
        torch.tensor([0.5, 0.5]),
        0,
    ),
    "dim too small": (
        torch.eye(3),
        -3,
        ValueError,
        NO_DIM.format(-3, (3, 3)),
        torch.eye(3),
        -2,
    ),
    "negative": (
        torch.tensor([-0.5, 1.5]),
        -1,
        ValueError,
        NOT_A_ROW.format([-0.5, 1.5], 1),
        torch.tensor([0.0, 1.0]),
        -1,
    ),
    "logits": (
        torch.tensor([1.0, 2.0, 3.0]),
        -1,
        ValueError,
        NOT_A_ROW.format([1.0, 2.0, 3.0], 6),
        softmax(torch.tensor([1.0, 2.0, 3.0])),
        -1,
    ),
    "six logits": (
        torch.ones(6),
        -1,
        ValueError,
        NOT_A_ROW.format([1.0] * 6, 6),
        torch.ones(6) / 6,
        -1,
    ),
    "many logits": (
        torch.ones(7),
        -1,
        ValueError,
        NOT_A_ROW.format("[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, ...]", 7),
        torch.ones(7) / 7,
        -1,
    ),
    "the second row": (
        torch.tensor([[0.5, 0.5], [0.5, 1.0]]),
        1,
        ValueError,
        NOT_A_ROW.format([0.5, 1.0], 1.5),
        torch.tensor([[0.5, 0.5], [0.5, 0.5]]),
        1,
    ),
    "a column": (
        torch.tensor([[0.5, 0.0], [0.5, 0.5]]),
        0,
        ValueError,
        NOT_A_ROW.format([0.0, 0.5], 0.5),
        torch.tensor([[0.5, 0.5], [0.5, 0.5]]),
        0,
    ),
    "no outcomes": (
        torch.zeros(2, 0),
        -1,
        ValueError,
        NOT_A_ROW.format([], 0),
        torch.zeros(0, 2),
        -1,
    ),
    "infinite": (
        torch.tensor([math.inf, 0.0]),
        -1,
        ValueError,
        NOT_A_ROW.format("[inf, 0.0]", "inf"),
        torch.tensor([1.0, 0.0]),
        -1,
    ),
    "0.002 too much": (
        torch.tensor([0.5, 0.501953125]),
        -1,
        ValueError,
        NOT_A_ROW.format([0.5, 0.501953125], 1.00195),
        torch.tensor([0.5, 0.5009]),
        -1,
    ),
    "0.002 too little": (
        torch.tensor([0.5, 0.498046875], dtype=torch.float64),
        -1,
        ValueError,
        NOT_A_ROW.format([0.5, 0.498046875], 0.998047),
        torch.tensor([0.5, 0.4991], dtype=torch.float64),
        -1,
    ),
    "0.0625 too much in half precision": (
        torch.tensor([0.5, 0.5625], dtype=torch.float16),
        -1,
        ValueError,
        NOT_A_ROW.format([0.5, 0.5625], 1.0625),
        torch.tensor([0.5, 0.546875], dtype=torch.float16),
        -1,
    ),
    "0.0625 too little in half precision": (
        torch.tensor([0.5, 0.4375], dtype=torch.bfloat16),
        -1,
        ValueError,
        NOT_A_ROW.format([0.5, 0.4375], 0.9375),
        torch.tensor([0.5, 0.453125], dtype=torch.bfloat16),
        -1,
    ),
}


@pytest.mark.parametrize(
    ("bad", "bad_dim", "error", "message", "good", "good_dim"), BAD.values(), ids=BAD.keys()
)
def test_what_is_no_distribution_is_shown_with_what_would_work(
    bad: Any, bad_dim: int, error: type[Exception], message: str, good: Tensor, good_dim: int
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        entropy(bad, bad_dim)
    assert not entropy(good, good_dim).isnan().any()
