from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from sklearn.calibration import calibration_curve
from torch import Tensor

from omnivault.calibration import ReliabilityBins, reliability_bins
from tests.package.calibration.common import (
    BINS,
    NAN,
    NO_INT,
    OUTSIDE,
    U,
    dtypes,
    exact_group,
    generator,
)
from tests.support.strategies import DTYPES, HALF, SINGLE_DOUBLE


def in_a_loop(
    claimed: list[float], came_true: list[bool], bins: int, dtype: torch.dtype
) -> list[tuple[int, float, float]]:
    """Count, mean claim and frequency of each group, in exact arithmetic."""
    groups: list[list[tuple[Fraction, bool]]] = [[] for _ in range(bins)]
    for claim, true in zip(claimed, came_true, strict=True):
        groups[exact_group(claim, bins, dtype)].append((Fraction(claim), true))
    return [
        (
            len(group),
            float(sum(claim for claim, _ in group) / len(group)) if group else NAN,
            float(Fraction(sum(true for _, true in group), len(group))) if group else NAN,
        )
        for group in groups
    ]


def as_rows(groups: ReliabilityBins) -> list[tuple[int, float, float]]:
    return list(
        zip(
            groups.counts.tolist(),
            groups.claimed.tolist(),
            groups.frequency.tolist(),
            strict=True,
        )
    )


def assert_same_groups(
    actual: ReliabilityBins, expected: list[tuple[int, float, float]], rel: float = 128 * U
) -> None:
    """Two sums of N <= 60 numbers in float64 are off by less than 60 u each."""
    assert actual.counts.dtype is torch.int64
    assert actual.claimed.dtype is actual.frequency.dtype is torch.float64
    assert actual.counts.shape == actual.claimed.shape == actual.frequency.shape == (len(expected),)
    counts, claimed, frequency = map(list, zip(*expected, strict=True))
    assert actual.counts.tolist() == counts
    assert actual.claimed.tolist() == pytest.approx(claimed, rel=rel, abs=0, nan_ok=True)
    assert actual.frequency.tolist() == pytest.approx(frequency, rel=rel, abs=0, nan_ok=True)


@st.composite
def claims(draw: DrawFn, bins: int, dtype: torch.dtype) -> Tensor:
    """Claims of any size, with the edges of the groups among them."""
    edges = [k / bins for k in range(bins + 1)]
    between = st.floats(0, 1).map(lambda claim: torch.tensor(claim, dtype=dtype).item())
    numbers = st.sampled_from(edges) | between
    return torch.tensor(draw(st.lists(numbers, min_size=1, max_size=12)), dtype=dtype)


@settings(max_examples=50)
@given(st.data(), st.integers(1, 20))
def test_groups_are_those_of_a_loop(data: st.DataObject, bins: int) -> None:
    for dtype in DTYPES:
        claimed = data.draw(claims(bins, dtype))
        n = len(claimed)
        came_true = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
        groups = reliability_bins(claimed, torch.tensor(came_true), bins)
        assert_same_groups(groups, in_a_loop(claimed.tolist(), came_true, bins, dtype))


@pytest.mark.parametrize("bins", [1, 2, 3, 10, 15, 40])
def test_groups_are_those_of_scikit_learn(bins: int) -> None:
    claimed = torch.rand(500, generator=generator(), dtype=torch.float64).sqrt()
    # On an edge scikit-learn goes down, omnivault up.
    assert not {k / bins for k in range(1, bins)} & set(claimed.tolist())
    came_true = torch.rand(500, generator=generator(1), dtype=torch.float64) < claimed
    frequency, mean = calibration_curve(
        came_true.numpy(), claimed.numpy(), n_bins=bins, strategy="uniform"
    )
    groups = reliability_bins(claimed, came_true, bins)
    filled = groups.counts > 0
    # Two sums of up to 500 numbers.
    np.testing.assert_allclose(groups.claimed[filled].numpy(), mean, rtol=1002 * U)
    np.testing.assert_allclose(groups.frequency[filled].numpy(), frequency, rtol=2 * U)
    sizes, _ = np.histogram(claimed.numpy(), bins, (0, 1))
    assert groups.counts.tolist() == sizes.tolist()


@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
@pytest.mark.parametrize("bins", range(1, 101))
def test_an_edge_belongs_to_the_group_above_it_and_one_to_the_last(
    bins: int, dtype: torch.dtype
) -> None:
    # In 43 of these the product of an edge and the number of groups was rounded to below a whole
    # number, as 0.29 * 100 is.
    edges = torch.tensor([k / bins for k in range(bins + 1)], dtype=dtype)
    came_true = torch.ones(bins + 1, dtype=torch.bool)
    groups = reliability_bins(edges, came_true, bins)
    assert groups.counts.tolist() == [1] * (bins - 1) + [2]
    assert groups.claimed[:-1].tolist() == edges[:-2].tolist()


def test_a_claim_of_29_percent_is_in_the_group_that_begins_there() -> None:
    claimed = torch.tensor([0.29, 0.57, 0.58])
    groups = reliability_bins(claimed, torch.ones(3, dtype=torch.bool), 100)
    assert groups.counts.nonzero().flatten().tolist() == [29, 57, 58]


@dtypes
def test_what_is_just_below_an_edge_belongs_to_the_group_below_it(dtype: torch.dtype) -> None:
    # With 8 groups the edges, and the product of each claim with 8, are exact.
    edges = torch.arange(1, 9, dtype=dtype) / 8
    below = torch.nextafter(edges, torch.zeros_like(edges))
    groups = reliability_bins(below, torch.zeros(8, dtype=torch.bool), 8)
    assert groups.counts.tolist() == [1] * 8
    assert groups.claimed.tolist() == below.tolist()
    assert groups.frequency.tolist() == [0.0] * 8


def test_zero_of_either_sign_belongs_to_the_first_group() -> None:
    groups = reliability_bins(torch.tensor([0.0, -0.0]), torch.tensor([True, False]), 3)
    assert_same_groups(groups, [(2, 0.0, 0.5), (0, NAN, NAN), (0, NAN, NAN)])


def test_there_are_fifteen_groups_and_the_empty_ones_are_nan() -> None:
    groups = reliability_bins(torch.tensor([0.5]), torch.tensor([True]))
    empty = (0, NAN, NAN)
    assert_same_groups(groups, [empty] * 7 + [(1, 0.5, 1.0)] + [empty] * 7)


def test_one_group_has_the_means_of_all() -> None:
    claimed = torch.rand(50, generator=generator(), dtype=torch.float64)
    came_true = torch.arange(50) % 5 == 0
    groups = reliability_bins(claimed, came_true, 1)
    assert_same_groups(groups, [(50, claimed.mean().item(), 0.2)])


@settings(max_examples=50)
@given(st.data(), st.integers(1, 20))
def test_groups_together_are_all_claims(data: st.DataObject, bins: int) -> None:
    claimed = data.draw(claims(bins, torch.float64))
    n = len(claimed)
    came_true = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    groups = reliability_bins(claimed, came_true, bins)
    assert groups.counts.sum().item() == n
    assert groups.claimed.isnan().tolist() == (groups.counts == 0).tolist()
    assert groups.frequency.isnan().tolist() == (groups.counts == 0).tolist()
    sums = (groups.counts * groups.claimed.nan_to_num()).sum().item()
    # Up to 12 claims, then up to 20 groups.
    assert sums == pytest.approx(math.fsum(claimed.tolist()), rel=64 * U, abs=0)
    true = (groups.counts * groups.frequency.nan_to_num()).sum().item()
    assert true == pytest.approx(came_true.sum().item(), rel=64 * U, abs=0)
    # Each mean lies in its group.
    for k, claim in enumerate(groups.claimed.tolist()):
        rounded = claim * (1 + 16 * U)
        assert math.isnan(claim) or k / bins <= rounded
        assert math.isnan(claim) or claim * (1 - 16 * U) <= (k + 1) / bins


@settings(max_examples=50)
@given(st.data(), st.integers(0, 4))
def test_halving_the_groups_splits_each_in_two(data: st.DataObject, doublings: int) -> None:
    # Powers of two: every product is exact.
    bins = 2**doublings
    claimed = data.draw(claims(2 * bins, torch.float64))
    came_true = claimed > 0.3
    coarse = reliability_bins(claimed, came_true, bins)
    fine = reliability_bins(claimed, came_true, 2 * bins)
    assert coarse.counts.tolist() == fine.counts.reshape(-1, 2).sum(-1).tolist()


def test_claims_have_no_order() -> None:
    claimed = torch.rand(60, generator=generator(), dtype=torch.float64)
    came_true = torch.rand(60, generator=generator(1)) < 0.5
    order = torch.randperm(60, generator=generator(2))
    once, again = (
        reliability_bins(claimed, came_true, 7),
        reliability_bins(claimed[order], came_true[order], 7),
    )
    assert_same_groups(again, as_rows(once))


def test_strides_do_not_matter() -> None:
    claimed = torch.rand(20, 2, generator=generator(), dtype=torch.float64)
    came_true = torch.rand(20, 3, generator=generator(1)) < 0.5
    once = reliability_bins(claimed[:, 1], came_true[:, 2], 4)
    again = reliability_bins(claimed[:, 1].contiguous(), came_true[:, 2].contiguous(), 4)
    assert as_rows(once) == as_rows(again)
    expanded = reliability_bins(torch.tensor([0.75]).expand(8), torch.tensor([True]).expand(8), 4)
    assert_same_groups(expanded, [(0, NAN, NAN)] * 3 + [(8, 0.75, 1.0)])


@pytest.mark.parametrize("dtype", [*HALF, torch.float32], ids=str)
def test_sums_are_taken_in_double_precision(dtype: torch.dtype) -> None:
    # In bfloat16 a sum of equal numbers stops at 256 of them.
    claimed = torch.full((5000,), 0.9, dtype=dtype)
    groups = reliability_bins(claimed, torch.arange(5000) % 5000 == 0, 2)
    assert groups.claimed[1].item() == pytest.approx(claimed[0].item(), rel=5002 * U)
    assert groups.frequency[1].item() == 1 / 5000


def test_groups_carry_no_gradient_and_inputs_are_left_alone() -> None:
    claimed = torch.tensor([0.1, 0.9], dtype=torch.float64, requires_grad=True)
    groups = reliability_bins(claimed, torch.tensor([True, False]), 2)
    assert not any(tensor.requires_grad for tensor in groups)
    groups.claimed.zero_()
    assert claimed.tolist() == [0.1, 0.9]
    assert claimed.requires_grad


NOT_BOOLEAN = (
    "came_true must be boolean, got {} with values {}; compare the choice with the label, "
    "probs.argmax(-1) == labels"
)
NOT_VECTORS = (
    "claimed and came_true must be two vectors of one length >= 1, got shapes {} and {}; "
    "flatten them"
)
HALVES, YES = torch.tensor([0.5, 0.5]), torch.tensor([True, False])


# Each row: rejected claims, truths and bins, the whole message, accepted ones.
BAD_CLAIMS: dict[
    str, tuple[tuple[Any, Any, Any], type[Exception], str, tuple[Tensor, Tensor, int]]
] = {
    "claims in a list": (
        ([0.5, 0.5], YES, 2),
        TypeError,
        "claimed must be a torch.Tensor, got [0.5, 0.5]; use torch.tensor(...)",
        (HALVES, YES, 2),
    ),
    "truths in a list": (
        (HALVES, [True, False], 2),
        TypeError,
        "came_true must be a torch.Tensor, got [True, False]; use torch.tensor(...)",
        (HALVES, YES, 2),
    ),
    "integer claims": (
        (torch.tensor([0, 1]), YES, 2),
        TypeError,
        "claimed must have a floating dtype, got torch.int64; try .float()",
        (torch.tensor([0, 1]).float(), YES, 2),
    ),
    "the labels themselves": (
        (torch.full((8,), 0.5), torch.arange(8), 2),
        TypeError,
        NOT_BOOLEAN.format("torch.int64", "[0, 1, 2, 3, 4, 5, ...]"),
        (torch.full((8,), 0.5), torch.arange(8) == 3, 2),
    ),
    "truths as numbers": (
        (HALVES, torch.tensor([1.0, 0.0]), 2),
        TypeError,
        NOT_BOOLEAN.format("torch.float32", "[1.0, 0.0]"),
        (HALVES, torch.tensor([1.0, 0.0]).bool(), 2),
    ),
    "a matrix": (
        (torch.full((2, 2), 0.5), torch.ones(2, 2, dtype=torch.bool), 2),
        ValueError,
        NOT_VECTORS.format((2, 2), (2, 2)),
        (torch.full((4,), 0.5), torch.ones(4, dtype=torch.bool), 2),
    ),
    "scalars": (
        (torch.tensor(0.5), torch.tensor(True), 2),
        ValueError,
        NOT_VECTORS.format((), ()),
        (torch.tensor([0.5]), torch.tensor([True]), 2),
    ),
    "two and three": (
        (HALVES, torch.ones(3, dtype=torch.bool), 2),
        ValueError,
        NOT_VECTORS.format((2,), (3,)),
        (HALVES, torch.ones(2, dtype=torch.bool), 2),
    ),
    "one truth for two claims": (
        (HALVES, torch.tensor([True]), 2),
        ValueError,
        NOT_VECTORS.format((2,), (1,)),
        (HALVES[:1], torch.tensor([True]), 2),
    ),
    "no claims": (
        (torch.zeros(0), torch.zeros(0, dtype=torch.bool), 2),
        ValueError,
        NOT_VECTORS.format((0,), (0,)),
        (torch.zeros(1), torch.zeros(1, dtype=torch.bool), 2),
    ),
    "no groups": ((HALVES, YES, 0), ValueError, BINS.format(0), (HALVES, YES, 1)),
    "fewer than no groups": ((HALVES, YES, -1), ValueError, BINS.format(-1), (HALVES, YES, 1)),
    "a fraction of a group": ((HALVES, YES, 2.0), TypeError, NO_INT.format(2.0), (HALVES, YES, 2)),
    "a boolean of groups": ((HALVES, YES, True), TypeError, NO_INT.format(True), (HALVES, YES, 1)),
    "edges of groups": (
        (HALVES, YES, [0.0, 1.0]),
        TypeError,
        NO_INT.format([0.0, 1.0]),
        (HALVES, YES, 1),
    ),
    "logits": (
        (torch.tensor([4.0, 0.5]), YES, 2),
        ValueError,
        OUTSIDE.format("[4.0]"),
        (torch.tensor([1.0, 0.5]), YES, 2),
    ),
    "just above one": (
        (torch.tensor([0.5, 1 + 2**-23]), YES, 2),
        ValueError,
        OUTSIDE.format([1 + 2**-23]),
        (torch.tensor([0.5, 1 + 2**-23]).clamp(max=1), YES, 2),
    ),
    "just below zero": (
        (torch.tensor([-(2.0**-149), 1.0]), YES, 2),
        ValueError,
        OUTSIDE.format([-(2.0**-149)]),
        (torch.tensor([2.0**-149, 1.0]), YES, 2),
    ),
    "nan": (
        (torch.tensor([0.5, NAN]), YES, 2),
        ValueError,
        OUTSIDE.format("[nan]"),
        (torch.tensor([0.5, 0.0]), YES, 2),
    ),
    "seven logits": (
        (torch.full((7,), 2.0), torch.ones(7, dtype=torch.bool), 2),
        ValueError,
        OUTSIDE.format("[2.0, 2.0, 2.0, 2.0, 2.0, 2.0, ...]"),
        (torch.full((7,), 1.0), torch.ones(7, dtype=torch.bool), 2),
    ),
}


@pytest.mark.parametrize(
    ("bad", "error", "message", "good"), BAD_CLAIMS.values(), ids=BAD_CLAIMS.keys()
)
def test_what_cannot_be_grouped_is_shown_with_what_would_work(
    bad: tuple[Any, Any, Any],
    error: type[Exception],
    message: str,
    good: tuple[Tensor, Tensor, int],
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        reliability_bins(*bad)
    assert reliability_bins(*good).counts.sum().item() == len(good[0])
