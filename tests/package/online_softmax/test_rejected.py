from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from omnivault.online_softmax import block_statistics, chunked_softmax, combine
from tests.package.online_softmax.common import INF
from tests.package.softmax.test_rejected import BAD_DIM, BAD_LOGITS, ROW, name_of


def in_chunks_of_two(z: Tensor, dim: int = -1) -> Tensor:
    return chunked_softmax(z, 2, dim)


both_maps = pytest.mark.parametrize("subject", [block_statistics, in_chunks_of_two], ids=name_of)


@both_maps
@pytest.mark.parametrize(
    ("bad", "error", "message", "good"), BAD_LOGITS.values(), ids=BAD_LOGITS.keys()
)
def test_bad_logits_are_shown_with_what_would_work(
    subject: Callable[..., Any], bad: Any, error: type[Exception], message: str, good: Tensor
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        subject(bad)
    subject(good)


@both_maps
@pytest.mark.parametrize(("dim", "error", "message"), BAD_DIM.values(), ids=BAD_DIM.keys())
def test_bad_dim_is_shown_with_what_would_work(
    subject: Callable[..., Any], dim: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        subject(ROW, dim)
    for good in (-2, -1, 0, 1):
        subject(ROW, good)


@both_maps
def test_an_empty_dimension_is_named_as_the_caller_named_it(subject: Callable[..., Any]) -> None:
    message = (
        "dimension 1 of the logits is empty (shape (2, 0)); a softmax needs at least one class"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        subject(torch.zeros(2, 0), 1)
    subject(torch.zeros(2, 0), 0)


@pytest.mark.parametrize(
    ("bad", "shown", "good"),
    [
        (0, "0", 1),
        (-1, "-1", 1),
        (2.0, "2.0", 2),
        (True, "True", 1),
        (None, "None", 3),
        ("2", "'2'", 2),
        (np.int64(2), "np.int64(2)", int(np.int64(2))),
        (INF, "inf", sys.maxsize),
    ],
)
def test_a_bad_chunk_size_is_shown_with_what_would_work(bad: Any, shown: str, good: int) -> None:
    message = f"chunk_size must be an int of at least 1, got {shown}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        chunked_softmax(ROW, bad)
    assert chunked_softmax(ROW, good).shape == ROW.shape


def test_no_chunk_size_is_too_large() -> None:
    assert torch.equal(chunked_softmax(ROW, 2**63), chunked_softmax(ROW, 3))


def test_blocks_of_shapes_that_do_not_broadcast_are_rejected() -> None:
    one, other = block_statistics(torch.zeros(2, 5)), block_statistics(torch.zeros(3, 5))
    with pytest.raises(
        ValueError, match=r"^blocks of the shapes \(2,\) and \(3,\) do not broadcast$"
    ):
        combine(one, other)
    assert combine(one, block_statistics(torch.zeros(1, 5))).maximum.shape == (2,)
