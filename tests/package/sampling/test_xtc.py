"""XTC: kept sets by its definition, those seen of llama.cpp, and the edges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import omnivault.engines
from omnivault.sampling import top_n_sigma, xtc
from tests.package.sampling.common import (
    DYADIC,
    INF,
    KINDS,
    SEEN,
    TWO_BITS,
    dtypes,
    logits_of,
    tokens,
)
from tests.support.strategies import (
    SINGLE_DOUBLE,
    arithmetic,
    exact_softmax,
    softmax_bound,
    whole_rows,
)


def defined(probs: list[Any], logits: list[float], threshold: float) -> list[int]:
    top = [i for i, p in enumerate(probs) if p >= threshold]
    last = min(top, key=lambda i: (logits[i], -i), default=None)
    return [i for i, p in enumerate(probs) if p and (i not in top or i == last)]


def assert_kept_as_defined(z: Tensor, threshold: float) -> None:
    probs = exact_softmax(z)
    off = softmax_bound(z.to(arithmetic(z.dtype))).tolist()
    # Of a token as near to the threshold as rounding may move it the last one may be another.
    if all(abs(p - threshold) > e for p, e in zip(probs, off, strict=True)):
        assert tokens(xtc(z, threshold)) == defined(probs, z.tolist(), threshold)


@dtypes
@pytest.mark.parametrize("kind", KINDS)
def test_kept_sets_of_random_rows(kind: str, dtype: torch.dtype) -> None:
    for row in logits_of(kind, 10, 30, dtype):
        for threshold in (1e-9, 0.01, 0.03, 0.1, 0.3, 0.5):
            assert_kept_as_defined(row, threshold)


@given(whole_rows(max_size=8, bound=3), st.floats(0.01, 0.6))
def test_kept_sets_of_whole_numbers(z: Tensor, threshold: float) -> None:
    assert_kept_as_defined(z, threshold)


@pytest.mark.parametrize(
    ("probs", "threshold", "expected"),
    [
        pytest.param(DYADIC, 0.2, [1, 2, 3], id="the last of two"),
        pytest.param(DYADIC, 0.3, [0, 1, 2, 3], id="one alone is left"),
        pytest.param(DYADIC, 0.1, [3], id="the last of four, of two equals the higher index"),
        pytest.param(DYADIC, 1, [0, 1, 2, 3], id="reached by none"),
        pytest.param(TWO_BITS, 0.25, [3], id="reached by all, who are equal"),
        pytest.param(TWO_BITS, 0.26, [0, 1, 2, 3], id="missed by all"),
        pytest.param([0.5, 0.0, 0.5], 0.5, [2], id="two halves"),
        pytest.param([0.0, 1.0], 1, [1], id="certain"),
        pytest.param([1.0], 0.1, [0], id="one token"),
    ],
)
def test_borders_by_hand(probs: list[float], threshold: float, expected: list[int]) -> None:
    for dtype in SINGLE_DOUBLE:
        assert tokens(xtc(torch.tensor(probs, dtype=dtype).log(), threshold)) == expected


@dtypes
def test_huge_and_tiny_logits(dtype: torch.dtype) -> None:
    limits = torch.finfo(dtype)
    for row, expected in (
        ([limits.max, -limits.max, -INF], [0, 1]),
        ([limits.max, limits.max, -limits.max, -INF], [1, 2]),
        ([limits.tiny, 0.0, -limits.tiny], [2]),
    ):
        assert tokens(xtc(torch.tensor(row, dtype=dtype), 0.3)) == expected


BY_HAND = json.loads(
    (Path(omnivault.engines.__file__).parent / "observations" / "by_hand.json").read_text("utf-8")
)


@pytest.mark.parametrize("dial", ["xtc_threshold", "top_n_sigma"])
def test_kept_sets_are_those_of_llama_cpp(dial: str) -> None:
    rows = {name: torch.tensor(row) for name, row in BY_HAND["rows"].items()}
    seen = [
        (rows[one["row"]], one["settings"][dial], one["kept"])
        for one in BY_HAND["observations"]
        if one["engine"] == "llama.cpp"
        and dial in one["settings"]
        and one["settings"].get("xtc_probability", 1) == 1
        and one["settings"][dial] > 0
        and not {"filler", "order", "prompt"} & set(one)
        and set(one["settings"]) <= {dial, "xtc_probability"}
    ]
    assert len(seen) > 30
    function = xtc if dial == "xtc_threshold" else top_n_sigma
    for z, value, inside in seen:
        assert tokens(function(z, value)) == inside


def test_of_equals_llama_cpp_keeps_one_and_which_one_is_another() -> None:
    others = 0
    for one in SEEN["xtc_ties"]:
        z = torch.tensor(one["logits"])
        inside = tokens(xtc(z, one["threshold"]))
        assert z[inside].sort().values.tolist() == z[one["kept"]].sort().values.tolist()
        others += inside != one["kept"]
    assert others > 0
