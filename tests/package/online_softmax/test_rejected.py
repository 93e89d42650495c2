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
    ("bad", "error", "message", "good"),
    [
        (0, ValueError, "at least 1, got 0; 1024 is common", 1),
        (np.int64(-1), ValueError, "at least 1, got -1; 1024 is common", np.int64(1)),
        (2.0, TypeError, "an int such as 1024, got 2.0", torch.tensor(2)),
        (True, TypeError, "an int such as 1024, got True", 1),
        (None, TypeError, "an int such as 1024, got None", 3),
        ("2", TypeError, "an int such as 1024, got '2'", 2),
        (INF, TypeError, "an int such as 1024, got inf", sys.maxsize),
    ],
)
def test_a_bad_chunk_size_is_shown_with_what_would_work(
    bad: Any, error: type[Exception], message: str, good: Any
) -> None:
    with pytest.raises(error, match=f"^{re.escape('chunk_size must be ' + message)}$"):
        chunked_softmax(ROW, bad)
    assert torch.equal(chunked_softmax(ROW, good), chunked_softmax(ROW, int(good)))


def test_no_chunk_size_is_too_large() -> None:
    assert torch.equal(chunked_softmax(ROW, 2**63), chunked_softmax(ROW, 3))


def test_blocks_of_shapes_that_do_not_broadcast_are_rejected() -> None:
    one, other = block_statistics(torch.zeros(2, 5)), block_statistics(torch.zeros(3, 5))
    with pytest.raises(
        ValueError, match=r"^blocks of the shapes \(2,\) and \(3,\) do not broadcast$"
    ):
        combine(one, other)
    assert combine(one, block_statistics(torch.zeros(1, 5))).maximum.shape == (2,)
