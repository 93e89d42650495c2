from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from mpmath import mp
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from strategies import DTYPES, HALF, smallest, unit
from torch import Tensor
from torch.nn import functional

from omnivault.calibration import (
    ReliabilityBins,
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
)
from omnivault.softmax import softmax

INF, NAN = math.inf, math.nan
U = unit(torch.float64)

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


pytestmark = pytest.mark.usefixtures("one_thread")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(p: Tensor, seed: int = 0) -> Tensor:
    """One class of each row, with the probabilities of the row."""
    return torch.multinomial(p, 1, generator=generator(seed)).squeeze(-1)


# Reliability --------------------------------------------------------------------------------------


def exact_group(claim: float, bins: int) -> int:
    return min(math.floor(Fraction(claim) * bins), bins - 1)


def clear_of_edges(claim: float, bins: int) -> bool:
    """Whether rounding the product with ``bins`` cannot move the claim to another group."""
    exact = Fraction(claim) * bins
    return exact.denominator == 1 or abs(exact - round(exact)) > 1e-9


def in_a_loop(
    claimed: list[float], came_true: list[bool], bins: int
) -> list[tuple[int, float, float]]:
    """Count, mean claim and frequency of each group, in exact arithmetic."""
    groups: list[list[tuple[Fraction, bool]]] = [[] for _ in range(bins)]
    for claim, true in zip(claimed, came_true, strict=True):
        groups[exact_group(claim, bins)].append((Fraction(claim), true))
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
    edges = [k / bins for k in range(bins + 1) if clear_of_edges(k / bins, bins)]
    between = st.floats(0, 1).map(lambda claim: torch.tensor(claim, dtype=dtype).item())
    numbers = st.sampled_from(edges) | between.filter(lambda claim: clear_of_edges(claim, bins))
    return torch.tensor(draw(st.lists(numbers, min_size=1, max_size=12)), dtype=dtype)


@settings(max_examples=50)
@given(st.data(), st.integers(1, 20))
def test_groups_are_those_of_a_loop(data: st.DataObject, bins: int) -> None:
    for dtype in DTYPES:
        claimed = data.draw(claims(bins, dtype))
        n = len(claimed)
        came_true = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
        groups = reliability_bins(claimed, torch.tensor(came_true), bins)
        assert_same_groups(groups, in_a_loop(claimed.tolist(), came_true, bins))


@pytest.mark.parametrize("bins", [1, 2, 3, 10, 15, 40])
def test_groups_are_those_of_scikit_learn(bins: int) -> None:
    claimed = torch.rand(500, generator=generator(), dtype=torch.float64).sqrt()
    # On an edge scikit-learn goes down, omnivault up.
    assert all(clear_of_edges(claim, bins) for claim in claimed.tolist())
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


@pytest.mark.parametrize("bins", [1, 2, 3, 4, 5, 7, 8, 10, 15, 16, 20])
def test_an_edge_belongs_to_the_group_above_it_and_one_to_the_last(bins: int) -> None:
    edges = torch.tensor([k / bins for k in range(bins + 1)], dtype=torch.float64)
    came_true = torch.ones(bins + 1, dtype=torch.bool)
    groups = reliability_bins(edges, came_true, bins)
    assert groups.counts.tolist() == [1] * (bins - 1) + [2]
    expected = [k / bins for k in range(bins - 1)] + [(bins - 1) / bins / 2 + 0.5]
    assert groups.claimed.tolist() == pytest.approx(expected, rel=4 * U, abs=0)


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


OUTSIDE = "claims must lie in [0, 1], got {}; turn logits into probabilities with softmax(z) first"
NOT_BOOLEAN = (
    "came_true must be boolean, got {} with values {}; compare the choice with the label, "
    "probs.argmax(-1) == labels"
)
NOT_VECTORS = (
    "claimed and came_true must be two vectors of one length >= 1, got shapes {} and {}; "
    "flatten them"
)
BINS = "bins must be an int of at least 1, got {}"

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
    "a fraction of a group": ((HALVES, YES, 2.0), ValueError, BINS.format(2.0), (HALVES, YES, 2)),
    "a boolean of groups": ((HALVES, YES, True), ValueError, BINS.format(True), (HALVES, YES, 1)),
    "edges of groups": (
        (HALVES, YES, [0.0, 1.0]),
        ValueError,
        BINS.format([0.0, 1.0]),
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


# Expected calibration error -----------------------------------------------------------------------


def exact_error(probs: Tensor, labels: list[int], bins: int) -> float:
    """ECE by its definition; the first of equal probabilities is the choice."""
    confidences = [min(max(row), 1.0) for row in probs.tolist()]
    right = [
        row.index(max(row)) == label for row, label in zip(probs.tolist(), labels, strict=True)
    ]
    error = Fraction(0)
    for group in range(bins):
        members = [n for n, c in enumerate(confidences) if exact_group(c, bins) == group]
        # n_b times the distance of two means is the distance of two sums.
        error += abs(sum(Fraction(confidences[n]) - right[n] for n in members))
    return float(error / len(labels))


@st.composite
def classified(
    draw: DrawFn, dtype: torch.dtype, bins: int = 15, min_classes: int = 1
) -> tuple[Tensor, Tensor]:
    """Probabilities, often tied, and labels."""
    n, k = draw(st.integers(1, 8)), draw(st.integers(min_classes, 4))
    numbers = draw(st.lists(st.integers(-4, 4), min_size=n * k, max_size=n * k))
    z = torch.tensor(numbers, dtype=dtype).reshape(n, k)
    probs = softmax(z, temperature=draw(st.sampled_from([0.25, 1.0, 3.0])))
    assume(all(clear_of_edges(claim, bins) for claim in probs.amax(-1).tolist()))
    labels = draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n))
    return probs, torch.tensor(labels)


@settings(max_examples=50)
@given(st.data(), st.integers(1, 20))
def test_calibration_error_is_that_of_a_loop(data: st.DataObject, bins: int) -> None:
    for dtype in DTYPES:
        probs, labels = data.draw(classified(dtype, bins))
        error = expected_calibration_error(probs, labels, bins)
        assert type(error) is float
        # Of 8 inputs in up to 8 groups: means, products and their sum.
        assert error == pytest.approx(exact_error(probs, labels.tolist(), bins), abs=64 * U)
        assert 0 <= error <= 1


@pytest.mark.parametrize("bins", [1, 2, 10, 15, 40])
def test_calibration_error_is_that_of_scikit_learns_curve(bins: int) -> None:
    z = 2 * torch.randn(400, 5, generator=generator(), dtype=torch.float64)
    probs, labels = torch.softmax(z, -1), drawn(torch.softmax(z / 2, -1))
    confidence, choice = probs.max(-1)
    assert all(clear_of_edges(claim, bins) for claim in confidence.tolist())
    frequency, mean = calibration_curve(
        (choice == labels).numpy(), confidence.numpy(), n_bins=bins, strategy="uniform"
    )
    sizes, _ = np.histogram(confidence.numpy(), bins, (0, 1))
    expected = float((sizes[sizes > 0] * np.abs(frequency - mean)).sum() / 400)
    # Means of up to 400 numbers, added in two ways.
    error = expected_calibration_error(probs, labels, bins)
    assert error == pytest.approx(expected, abs=1000 * U)
    assert expected > 0.05


@pytest.mark.parametrize(
    ("probs", "labels", "expected"),
    [
        pytest.param([[0.9, 0.1]] * 2, [0, 1], 0.4, id="sure and half right"),
        pytest.param([[0.75, 0.25]] * 4, [0, 0, 0, 1], 0.0, id="as right as sure"),
        pytest.param([[1.0, 0.0]] * 3, [1, 1, 1], 1.0, id="certain and wrong"),
        pytest.param([[1.0, 0.0], [0.0, 1.0]], [0, 1], 0.0, id="certain and right"),
        pytest.param([[1.0]] * 2, [0, 0], 0.0, id="one class"),
        pytest.param([[0.25] * 4] * 4, [0, 1, 2, 3], 0.0, id="blind"),
        pytest.param([[0.375, 0.375, 0.25]], [0], 0.625, id="tied, the first is right"),
        pytest.param([[0.375, 0.375, 0.25]], [1], 0.375, id="tied, the first is wrong"),
        # The gaps of two groups do not cancel, those within one do.
        pytest.param([[0.75, 0.25], [1.0, 0.0]], [0, 1], 0.625, id="two groups"),
        pytest.param([[0.75, 0.25], [0.76, 0.24]], [0, 1], 0.255, id="one group"),
    ],
)
@dtypes
def test_closed_forms_of_calibration_error(
    probs: list[list[float]], labels: list[int], expected: float, dtype: torch.dtype
) -> None:
    error = expected_calibration_error(torch.tensor(probs, dtype=dtype), torch.tensor(labels))
    # A probability of 0.9 is rounded to the dtype; all of the other rows is exact.
    assert error == pytest.approx(expected, abs=unit(dtype) if expected in (0.4, 0.255) else 0.0)


def test_data_that_keep_every_promise_have_no_error() -> None:
    # In groups of 16 claims of k / 16, k are right; three classes, each the choice in turn.
    probs, labels = [], []
    for k in range(6, 17):
        for n in range(16):
            choice = n % 3
            row = [(16 - k) / 32] * 3
            row[choice] = k / 16
            probs.append(row)
            labels.append(choice if n < k else (choice + 1) % 3)
    for bins in (1, 2, 5, 15, 16, 1000):
        # In every group two equal sums of sixteenths, exact, over one number.
        error = expected_calibration_error(
            torch.tensor(probs, dtype=torch.float64), torch.tensor(labels), bins
        )
        assert error == 0.0
    # One broken promise of the 176 costs what it weighs.
    labels[0] = 1
    error = expected_calibration_error(torch.tensor(probs), torch.tensor(labels))
    assert error == pytest.approx(1 / 176, abs=4 * U)


@given(st.data())
def test_one_group_has_the_distance_of_the_means(data: st.DataObject) -> None:
    probs, labels = data.draw(classified(torch.float64))
    confidence, choice = probs.max(-1)
    expected = abs((choice == labels).double().mean().item() - confidence.mean().item())
    assert expected_calibration_error(probs, labels, 1) == pytest.approx(expected, abs=32 * U)


@given(st.data())
def test_smaller_groups_have_no_smaller_error(data: st.DataObject) -> None:
    # By the triangle inequality; with powers of two each group is the union of two.
    probs, labels = data.draw(classified(torch.float64))
    errors = [expected_calibration_error(probs, labels, 2**k) for k in range(7)]
    assert all(fine >= coarse - 64 * U for coarse, fine in pairwise(errors))


@given(st.data())
def test_neither_rows_nor_classes_have_an_order(data: st.DataObject) -> None:
    probs, labels = data.draw(classified(torch.float64))
    n, k = probs.shape
    error = expected_calibration_error(probs, labels)
    order = torch.tensor(data.draw(st.permutations(range(n))))
    assert expected_calibration_error(probs[order], labels[order]) == pytest.approx(
        error, abs=64 * U
    )
    # Which of two equal probabilities is the choice does depend on their order.
    ordered = probs.sort(-1, descending=True).values
    assume(k == 1 or bool((ordered[:, 0] > ordered[:, 1]).all()))
    names = torch.tensor(data.draw(st.permutations(range(k))))
    renamed = torch.empty_like(probs)
    renamed[:, names] = probs
    assert expected_calibration_error(renamed, names[labels]) == pytest.approx(error, abs=64 * U)


def test_only_the_confidence_and_the_choice_count() -> None:
    labels = torch.tensor([0, 1])
    one, other = torch.tensor([[0.5, 0.5, 0.0]] * 2), torch.tensor([[0.5, 0.25, 0.25]] * 2)
    assert expected_calibration_error(one, labels) == expected_calibration_error(other, labels)


@pytest.mark.parametrize(
    ("dtype", "above"),
    [
        (torch.float64, 1 + 2**-52),
        (torch.float32, 1 + 2**-23),
        (torch.float32, 1.0009),
        (torch.float16, 1 + 2**-10),
        (torch.bfloat16, 1 + 2**-7),
    ],
    ids=str,
)
def test_a_probability_rounded_to_above_one_is_one(dtype: torch.dtype, above: float) -> None:
    probs = torch.tensor([[above, 0.0], [0.0, above], [above, 0.0]], dtype=dtype)
    assert probs.amax() > 1
    labels = torch.tensor([0, 1, 1])
    assert expected_calibration_error(probs, labels) == pytest.approx(1 / 3, rel=4 * U)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_precision_is_its_double_precision_copy(dtype: torch.dtype) -> None:
    z = 2 * torch.randn(3000, 4, generator=generator(), dtype=torch.float64)
    probs, labels = torch.softmax(z, -1).to(dtype), drawn(torch.softmax(z / 2, -1))
    confidence = probs.amax(-1).double()
    expected = 0.0
    for group in range(15):
        inside = (confidence * 15).floor() == group
        right = (probs.argmax(-1) == labels).double()
        expected += abs((right - confidence)[inside].sum().item()) / 3000
    # Sums of up to 3000 numbers below 1, in two ways.
    assert expected_calibration_error(probs, labels) == pytest.approx(expected, abs=6100 * U)


def test_a_calibrated_model_has_little_error_but_some() -> None:
    n, bins = 20_000, 15
    probs = torch.softmax(2 * torch.randn(n, 4, generator=generator(), dtype=torch.float64), -1)
    labels = drawn(probs, 1)
    # A group's frequency has standard error 1 / (2 sqrt(n_b)) at most, so the expected error is at
    # most sqrt(bins / n) / 2. A label moves the error by 1 / n, so it is 0.02 above its mean with
    # probability exp(-2 n 0.02^2) = 1e-7 at most (McDiarmid).
    error = expected_calibration_error(probs, labels, bins)
    assert 0 < error < math.sqrt(bins / n) / 2 + 0.02
    overconfident = torch.softmax(4 * probs.log(), -1)
    assert expected_calibration_error(overconfident, labels, bins) > 0.1


def test_gradients_are_neither_needed_nor_kept() -> None:
    probs = torch.softmax(torch.randn(5, 3, generator=generator()), -1).requires_grad_()
    labels = torch.tensor([0, 1, 2, 0, 1])
    assert expected_calibration_error(probs, labels) == expected_calibration_error(
        probs.detach(), labels
    )
    assert probs.grad is None


NOT_A_ROW = (
    "probabilities must be >= 0 and sum to 1, got a row {} with sum {}; "
    "turn logits into probabilities with softmax(z) first"
)
NOT_FLOATING = (
    "probabilities must be a tensor of a floating dtype, got {}; "
    "torch.tensor(...) or p.float() makes one"
)
NOT_CLASSES = (
    "labels must be a tensor of dtype torch.int64, got {}; "
    "one class index for each row, labels.long()"
)
NOT_ROWS = (
    "needed are N >= 1 rows of K classes and N labels, got shapes {} and {}; "
    "flatten the batch dimensions"
)
NO_CLASS = "labels must lie in [0, {}], got {}; classes count from 0"

CLASSES = torch.tensor([0, 1])


def bad_labels(rows: Tensor) -> dict[str, tuple[Any, Any, type[Exception], str, Tensor, Tensor]]:
    """Labels that do not fit two rows of three, which either function rejects alike."""
    return {
        "labels in a list": (
            rows,
            [0, 1],
            TypeError,
            NOT_CLASSES.format([0, 1]),
            rows,
            CLASSES,
        ),
        "labels of int32": (
            rows,
            CLASSES.int(),
            TypeError,
            NOT_CLASSES.format("tensor([0, 1], dtype=torch.int32)"),
            rows,
            CLASSES.int().long(),
        ),
        "floating labels": (
            rows,
            CLASSES.float(),
            TypeError,
            NOT_CLASSES.format("tensor([0., 1.])"),
            rows,
            CLASSES,
        ),
        "boolean labels": (
            rows,
            CLASSES.bool(),
            TypeError,
            NOT_CLASSES.format("tensor([False,  True])"),
            rows,
            CLASSES.bool().long(),
        ),
        "one row": (rows[0], CLASSES, ValueError, NOT_ROWS.format((3,), (2,)), rows, CLASSES),
        "one row, one label": (
            rows[0],
            torch.tensor(0),
            ValueError,
            NOT_ROWS.format((3,), ()),
            rows,
            CLASSES,
        ),
        "one row, three labels": (
            rows[0],
            torch.tensor([0, 1, 2]),
            ValueError,
            NOT_ROWS.format((3,), (3,)),
            rows,
            CLASSES,
        ),
        "two matrices, two labels": (
            rows.unsqueeze(1),
            CLASSES,
            ValueError,
            NOT_ROWS.format((2, 1, 3), (2,)),
            rows.unsqueeze(1).flatten(0, 1),
            CLASSES,
        ),
        "a batch of batches": (
            rows.unsqueeze(0),
            CLASSES.unsqueeze(0),
            ValueError,
            NOT_ROWS.format((1, 2, 3), (1, 2)),
            rows,
            CLASSES,
        ),
        "labels for three rows": (
            rows,
            torch.tensor([0, 1, 1]),
            ValueError,
            NOT_ROWS.format((2, 3), (3,)),
            rows,
            CLASSES,
        ),
        "one label for two rows": (
            rows,
            torch.tensor([1]),
            ValueError,
            NOT_ROWS.format((2, 3), (1,)),
            rows,
            CLASSES,
        ),
        "labels in a column": (
            rows,
            CLASSES.unsqueeze(-1),
            ValueError,
            NOT_ROWS.format((2, 3), (2, 1)),
            rows,
            CLASSES,
        ),
        "no rows": (
            rows[:0],
            CLASSES[:0],
            ValueError,
            NOT_ROWS.format((0, 3), (0,)),
            rows,
            CLASSES,
        ),
        "classes from one": (
            rows,
            torch.tensor([0, 3]),
            ValueError,
            NO_CLASS.format(2, [3]),
            rows,
            torch.tensor([0, 1]),
        ),
        "a class below zero": (
            rows,
            torch.tensor([-1, 1]),
            ValueError,
            NO_CLASS.format(2, [-1]),
            rows,
            torch.tensor([0, 1]),
        ),
    }


# Each row: rejected probabilities and labels, the whole message, accepted ones.
BAD_PROBS: dict[str, tuple[Any, Any, type[Exception], str, Tensor, Tensor]] = {
    "probabilities in a list": (
        [[0.5, 0.5]] * 2,
        CLASSES,
        TypeError,
        NOT_FLOATING.format([[0.5, 0.5]] * 2),
        torch.tensor([[0.5, 0.5]] * 2),
        CLASSES,
    ),
    "integer probabilities": (
        torch.eye(2).long(),
        CLASSES,
        TypeError,
        NOT_FLOATING.format("tensor([[1, 0],\n        [0, 1]])"),
        torch.eye(2),
        CLASSES,
    ),
    "logits": (
        torch.tensor([[1.0, 2.0]] * 2),
        CLASSES,
        ValueError,
        NOT_A_ROW.format([1.0, 2.0], 3),
        softmax(torch.tensor([[1.0, 2.0]] * 2)),
        CLASSES,
    ),
    "two one-vs-rest probabilities": (
        torch.tensor([[0.5, 0.25], [0.5, 0.5]]),
        CLASSES,
        ValueError,
        NOT_A_ROW.format([0.5, 0.25], 0.75),
        torch.tensor([[0.75, 0.25], [0.5, 0.5]]),
        CLASSES,
    ),
    "nan": (
        torch.tensor([[NAN, 0.5], [0.5, 0.5]]),
        CLASSES,
        ValueError,
        OUTSIDE.format("[nan]"),
        torch.tensor([[0.5, 0.5], [0.5, 0.5]]),
        CLASSES,
    ),
    **bad_labels(torch.tensor([[0.5, 0.25, 0.25]] * 2)),
}


@pytest.mark.parametrize(
    ("probs", "labels", "error", "message", "good_probs", "good_labels"),
    BAD_PROBS.values(),
    ids=BAD_PROBS.keys(),
)
def test_what_has_no_calibration_error_is_shown_with_what_would_work(
    probs: Any,
    labels: Any,
    error: type[Exception],
    message: str,
    good_probs: Tensor,
    good_labels: Tensor,
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        expected_calibration_error(probs, labels)
    assert 0 <= expected_calibration_error(good_probs, good_labels) <= 1


def test_bins_are_checked_and_used() -> None:
    probs, labels = torch.tensor([[0.75, 0.25], [1.0, 0.0]]), torch.tensor([0, 1])
    assert expected_calibration_error(probs, labels, 1) == 0.375
    assert expected_calibration_error(probs, labels, bins=4) == 0.375
    assert expected_calibration_error(probs, labels, bins=5) == 0.625
    with pytest.raises(ValueError, match=f"^{re.escape(BINS.format(0))}$"):
        expected_calibration_error(probs, labels, 0)


# Temperature --------------------------------------------------------------------------------------

Data = tuple[Tensor, Tensor]


def in_units(z: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Gaps to the largest logit in units of T, probabilities, and the mean gap of each row."""
    z = z.double()
    gaps = (z.amax(-1, keepdim=True) / 2 - z / 2) / (temperature / 2)
    p = torch.softmax(-gaps, -1)
    return gaps, p, (p * gaps).sum(-1, keepdim=True)


def accuracy(z: Tensor, temperature: float, moved: float = 0.0) -> float:
    """Largest relative error of the root of the derivative, computed in float64.

    Rounding moves the derivative by the errors of p times the gaps, as strategies.softmax_bound
    counts them, and of its means over the rows, and by logits moved by ``moved``; its root by that
    over its slope, the mean variance.
    """
    gaps, p, mean = in_units(z, temperature)
    variance = (p * (gaps - mean) ** 2).sum(-1).mean()
    of_p = (p * gaps * (3 * gaps + 3 * mean + 2 * z.shape[1] + 20)).sum(-1).mean()
    of_means = 2 * (len(z) + 2) * mean.mean()
    shifts = moved / temperature * (2 + variance.sqrt())
    return float((U * (of_p + of_means) + shifts) / variance)


def rounding_of_loss(z: Tensor, labels: Tensor, temperature: float) -> float:
    """Largest error of :func:`loss_at`: of log-probabilities, and of their mean."""
    size = z.double().abs().max().item() / temperature + math.log(z.shape[1])
    return U * (len(z) * loss_at(z, labels, temperature) + 8 * size + z.shape[1] + 32)


def slope(z: Tensor, labels: Tensor, log_beta: float) -> float:
    """Mean over the rows of E_p[z] - z_y, the derivative of the loss in beta, by SciPy."""
    values = z.double().numpy()
    values = values - values.max(-1, keepdims=True)
    p = scipy.special.softmax(values * math.exp(log_beta), axis=-1)
    chosen = values[np.arange(len(values)), labels.numpy()]
    return float(((p * values).sum(-1) - chosen).mean())


def best_temperature(z: Tensor, labels: Tensor) -> float:
    """The root of the derivative, bracketed and bisected: it needs no loss."""
    # Around one in units of the mean gap.
    log_scale = math.log((z.double().amax(-1, keepdim=True) - z.double()).mean().item())
    root = scipy.optimize.brentq(
        lambda x: slope(z, labels, x), -log_scale - 30, -log_scale + 30, xtol=1e-14, rtol=1e-14
    )
    return math.exp(-root)


def assert_best(z: Tensor, labels: Tensor) -> None:
    """The fit is the root of the derivative; each of the two is off by rounding."""
    best = best_temperature(z, labels)
    # brentq stops within 1e-14 of log T, and 1e-14 of its size.
    stop = 1e-14 * (2 + abs(math.log(best)))
    assert fit_temperature(z, labels) == pytest.approx(best, rel=2 * accuracy(z, best) + stop)


def loss_at(z: Tensor, labels: Tensor, temperature: float) -> float:
    distribution = torch.distributions.Categorical(logits=z.double() / temperature)
    return -float(distribution.log_prob(labels).mean())


def sampled(n: int, k: int, temperature: float, seed: int = 0, spread: float = 2.0) -> Data:
    """Random logits and labels drawn from softmax_T of them."""
    z = spread * torch.randn(n, k, generator=generator(seed), dtype=torch.float64)
    return z, drawn(torch.softmax(z / temperature, -1), seed + 1)


SAMPLES: dict[str, Data] = {
    "ten rows": sampled(10, 3, 1.0, seed=3),
    "calibrated": sampled(300, 5, 1.0),
    "overconfident": sampled(300, 5, 3.0),
    "underconfident": sampled(300, 5, 0.4),
    "two classes": sampled(200, 2, 1.5),
    "a hundred classes": sampled(200, 100, 1.0),
    "small logits": sampled(300, 5, 1e-3, spread=1e-3),
    "large logits": sampled(300, 5, 1e3, spread=1e3),
    "shifted logits": (sampled(300, 5, 1.0)[0] + 100.0, sampled(300, 5, 1.0)[1]),
}
samples = pytest.mark.parametrize(("z", "labels"), SAMPLES.values(), ids=SAMPLES.keys())


@pytest.mark.parametrize(
    ("gap", "k", "right", "wrong"),
    [
        (4.0, 2, 3, 1),
        (1.0, 2, 2, 1),
        (1.0, 2, 11, 9),
        (0.01, 2, 99, 1),
        (1.0, 2, 9999, 1),
        (300.0, 2, 5, 3),
        (2.0, 3, 1, 1),
        (2.0, 10, 1, 1),
        (7.0, 5, 17, 4),
    ],
)
@dtypes
def test_equal_gaps_have_a_closed_form(
    gap: float, k: int, right: int, wrong: int, dtype: torch.dtype
) -> None:
    # p of the largest is the accuracy a, and the others share the rest: T = g / log(a (k-1)/(1-a)).
    z = torch.zeros(1, k, dtype=dtype)
    z[:, 0] = gap
    labels = torch.cat([torch.zeros(right), torch.ones(wrong)]).long()
    exact_gap = z[0, 0].item()
    expected = exact_gap / math.log(right * (k - 1) / wrong)
    z = z.expand(right + wrong, k)
    temperature = fit_temperature(z, labels)
    assert type(temperature) is float
    # The logarithm is at least 0.2, of a rounded quotient.
    assert temperature == pytest.approx(expected, rel=accuracy(z, expected) + 16 * U)


@samples
def test_temperature_is_where_scipy_finds_the_root_of_the_derivative(
    z: Tensor, labels: Tensor
) -> None:
    assert_best(z, labels)


@samples
def test_temperature_is_where_scipy_finds_the_smallest_loss(z: Tensor, labels: Tensor) -> None:
    temperature = fit_temperature(z, labels)
    found = scipy.optimize.minimize_scalar(
        lambda log_t: loss_at(z, labels, math.exp(log_t)),
        bounds=(math.log(temperature) - 5, math.log(temperature) + 5),
        method="bounded",
        options={"xatol": 1e-6},
    )
    rounding = rounding_of_loss(z, labels, temperature)
    assert loss_at(z, labels, temperature) <= found.fun + 2 * rounding
    # It sees no more than losses, in steps of a third of 1e-6 at least, and may stop where the
    # slope changes them by less than rounding does.
    gaps, p, mean = in_units(z, temperature)
    curvature = (p * (gaps - mean) ** 2).sum(-1).mean().item()
    off = 1e-6 + 4 * rounding / (1e-6 / 3) / curvature
    assert found.x == pytest.approx(math.log(temperature), abs=off)


@samples
def test_no_neighbor_has_a_smaller_loss(z: Tensor, labels: Tensor) -> None:
    temperature = fit_temperature(z, labels)
    loss = loss_at(z, labels, temperature)
    # The loss at a distance of 1e-4 is higher by 1e-8 times its curvature, far above rounding.
    for factor in (1 - 1e-4, 1 + 1e-4, 0.9, 1.1, 0.1, 10.0):
        assert loss_at(z, labels, temperature * factor) > loss


@samples
def test_the_mean_logit_of_the_labels_is_the_expected_one(z: Tensor, labels: Tensor) -> None:
    temperature = fit_temperature(z, labels)
    p = torch.softmax(z / temperature, -1)
    mean = (p * z).sum(-1, keepdim=True)
    variance = (p * (z - mean).square()).sum(-1).mean().item()
    gap = abs(slope(z, labels, -math.log(temperature)))
    # An error e of log T moves it by e Var / T, and so does its own rounding.
    assert gap <= 2 * accuracy(z, temperature) * variance / temperature


@st.composite
def whole_data(draw: DrawFn) -> Data:
    """Integer logits, often tied, and labels that have a temperature."""
    n, k = draw(st.integers(2, 8)), draw(st.integers(2, 5))
    numbers = draw(st.lists(st.integers(-5, 5), min_size=n * k, max_size=n * k))
    z = torch.tensor(numbers, dtype=torch.float64).reshape(n, k)
    labels = torch.tensor(draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n)))
    of_labels, of_all, largest = levels(z, labels)
    # Near either end rounding moves the root far; that has a test of its own.
    assume(of_all + (largest - of_all) / 8 <= of_labels < largest)
    return z, labels


def levels(z: Tensor, labels: Tensor) -> tuple[Fraction, Fraction, Fraction]:
    """Exact means of the labels' logits, of all, and of the largest."""
    of_labels = z.gather(-1, labels.unsqueeze(-1)).flatten()
    chosen, every, largest = (
        sum(map(Fraction, values.tolist()), Fraction()) / values.numel()
        for values in (of_labels, z.flatten(), z.amax(-1))
    )
    return chosen, every, largest


@settings(max_examples=60)
@given(whole_data())
def test_temperature_of_small_data_is_the_root_of_the_derivative(data: Data) -> None:
    assert_best(*data)


@settings(max_examples=50)
@given(whole_data(), st.integers(-950, 950))
def test_temperature_has_the_units_of_the_logits_exactly_for_powers_of_two(
    data: Data, exponent: int
) -> None:
    z, labels = data
    c = 2.0**exponent
    assert fit_temperature(c * z, labels) == c * fit_temperature(z, labels)


@pytest.mark.parametrize("c", [1e-300, 1e-100, 1e-8, 0.1, 3.0, 1e5, 1e100, 1e300])
@samples
def test_temperature_has_the_units_of_the_logits(z: Tensor, labels: Tensor, c: float) -> None:
    temperature = fit_temperature(z, labels)
    # Scaling rounds the logits, whatever they have in common included.
    rel = 2 * accuracy(z, temperature, U * z.abs().max().item()) + 4 * U
    assert fit_temperature(c * z, labels) == pytest.approx(c * temperature, rel=rel, abs=0)


@settings(max_examples=50)
@given(whole_data(), st.data())
def test_a_constant_of_each_row_changes_nothing(data: Data, more: st.DataObject) -> None:
    z, labels = data
    n = len(z)
    constants = more.draw(st.lists(st.integers(-1000, 1000), min_size=n, max_size=n))
    shifted = z + torch.tensor(constants, dtype=z.dtype).unsqueeze(-1)
    # The sums of integers are exact, so nothing at all.
    assert fit_temperature(shifted, labels) == fit_temperature(z, labels)


@settings(max_examples=30)
@given(whole_data(), st.data())
def test_rows_and_classes_have_no_order_for_the_temperature(
    data: Data, more: st.DataObject
) -> None:
    z, labels = data
    temperature = fit_temperature(z, labels)
    # Repeated three times there are three times as many to add.
    rel = 2 * accuracy(z.repeat(3, 1), temperature)
    expected = pytest.approx(temperature, rel=rel)
    order = torch.tensor(more.draw(st.permutations(range(len(z)))))
    assert fit_temperature(z[order], labels[order]) == expected
    names = torch.tensor(more.draw(st.permutations(range(z.shape[1]))))
    renamed = torch.empty_like(z)
    renamed[:, names] = z
    assert fit_temperature(renamed, names[labels]) == expected
    # Nor does it matter how often the data are repeated.
    assert fit_temperature(z.repeat(3, 1), labels.repeat(3)) == expected


@samples
def test_what_has_been_cooled_or_heated_to_its_temperature_has_temperature_one(
    z: Tensor, labels: Tensor
) -> None:
    temperature = fit_temperature(z, labels)
    rel = 2 * accuracy(z, temperature, U * z.abs().max().item())
    assert fit_temperature(z / temperature, labels) == pytest.approx(1.0, rel=rel)


@samples
def test_temperature_does_not_change_the_choice(z: Tensor, labels: Tensor) -> None:
    p = softmax(z, temperature=fit_temperature(z, labels))
    assert torch.equal(p.argmax(-1), z.argmax(-1))


@dtypes
def test_logits_of_every_dtype_are_computed_in_double_precision(dtype: torch.dtype) -> None:
    z, labels = sampled(200, 5, 2.0)
    z = z.to(dtype)
    assert fit_temperature(z, labels) == fit_temperature(z.double(), labels)
    assert_best(z, labels)


def test_strides_do_not_matter_to_the_temperature() -> None:
    z, labels = sampled(60, 4, 1.0)
    temperature = fit_temperature(z, labels)
    # (z + 1 rounds the logits.)
    rel = 2 * accuracy(z, temperature, U * (z.abs().max().item() + 1))
    expected = pytest.approx(temperature, rel=rel)
    assert fit_temperature(z.T.contiguous().T, labels) == expected
    wide = torch.stack([z, z + 1], -1)[..., 1]
    assert fit_temperature(wide, torch.stack([labels, labels], -1)[:, 1]) == expected


def test_neither_inputs_nor_settings_are_changed() -> None:
    z, labels = sampled(60, 4, 1.0)
    z.requires_grad_()
    before = z.detach().clone(), labels.clone(), torch.get_rng_state()
    expected = fit_temperature(z, labels)
    assert torch.equal(z.detach(), before[0])
    assert torch.equal(labels, before[1])
    assert torch.equal(torch.get_rng_state(), before[2])
    assert z.grad is None
    assert z.requires_grad
    # Evaluation is done without gradients; the fit needs its own.
    with torch.no_grad():
        assert fit_temperature(z, labels) == expected
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()


def test_temperature_can_be_fitted_in_inference_mode() -> None:
    z, labels = sampled(60, 4, 1.0)
    expected = fit_temperature(z, labels)
    with torch.inference_mode():
        assert fit_temperature(z, labels) == expected


def test_labels_may_come_from_inference_mode() -> None:
    z, labels = sampled(60, 4, 1.0)
    with torch.inference_mode():
        copies = z.clone(), labels.clone()
    assert fit_temperature(*copies) == fit_temperature(z, labels)


@pytest.mark.parametrize("true", [0.2, 1.0, 2.5, 8.0])
def test_temperature_of_the_labels_is_recovered(true: float) -> None:
    z, labels = sampled(20_000, 5, true, seed=10, spread=3.0)
    p = torch.softmax(z / true, -1)
    mean = (p * z).sum(-1, keepdim=True)
    # Fisher information of log T: N Var / T^2. The estimate is normal, so a right one is further
    # off than 5 standard errors with probability 6e-7.
    information = (p * (z - mean).square()).sum().item() / true**2
    assert information > 100
    assert abs(math.log(fit_temperature(z, labels) / true)) < 5 / math.sqrt(information)


# The two ends of the condition --------------------------------------------------------------------


def near_chance(d: float) -> Data:
    """The label is on average d / 4 above the mean of all logits."""
    return torch.tensor([[1 + d, 0.0], [1.0, 0.0]], dtype=torch.float64), torch.tensor([0, 1])


def near_separable(d: float) -> Data:
    """The label is on average d / 4 below the largest logit."""
    z = torch.tensor([[1.0, 0.0]] * 3 + [[d, 0.0]], dtype=torch.float64)
    return z, torch.tensor([0, 0, 0, 1])


def two_scales(d: float) -> Data:
    """Nearly all of the logits is in rows that do not matter."""
    z = torch.tensor([[1.0, 0.0]] * 2 + [[d, 0.0]] * 3, dtype=torch.float64)
    return z, torch.tensor([0, 0, 0, 0, 1])


def exact_temperature(z: Tensor, labels: Tensor) -> float:
    """For two classes, by 50 digits: the derivative is a sum of sigmoids."""
    gaps = [mp.mpf(a) - mp.mpf(b) for a, b in z.tolist()]

    def derivative(x: Any) -> Any:
        beta = mp.exp(x)
        # What the other class has: 1 - p would have lost all of its digits.
        return mp.fsum(
            gap / (1 + mp.exp(-beta * gap)) if label else -gap / (1 + mp.exp(beta * gap))
            for gap, label in zip(gaps, labels.tolist(), strict=True)
        )

    # Increasing, so bisection cannot miss its root; findroot does where it is flat.
    low, high = mp.mpf(-60), mp.mpf(60)
    assert derivative(low) < 0 < derivative(high)
    while high - low > mp.mpf(10) ** -20:
        middle = (low + high) / 2
        low, high = (middle, high) if derivative(middle) < 0 else (low, middle)
    return float(mp.exp(-low))


@pytest.mark.parametrize(
    ("make", "exponent"),
    [
        *[(near_chance, exponent) for exponent in (-1, -2, -5, -10, -20, -30)],
        *[(near_separable, exponent) for exponent in (-2, -10, -30, -300)],
        *[(two_scales, exponent) for exponent in (-10, -30, -45)],
    ],
)
def test_just_inside_the_condition_there_is_a_temperature(
    make: Callable[[float], Data], exponent: int
) -> None:
    z, labels = make(2.0**exponent)
    of_labels, of_all, largest = levels(z, labels)
    assert of_all < of_labels < largest
    expected = exact_temperature(z, labels)
    assert fit_temperature(z, labels) == pytest.approx(expected, rel=accuracy(z, expected))


@pytest.mark.parametrize("decades", [2, 6, 14])
def test_temperature_of_gaps_of_every_size(decades: int) -> None:
    random = np.random.default_rng(decades)
    fits = 0
    for _ in range(60):
        n = int(random.integers(2, 9))
        gaps = 10 ** random.uniform(-decades, 0, n)
        z = torch.tensor(np.stack([gaps, np.zeros(n)], -1))
        labels = torch.tensor(random.random(n) < 0.3).long()
        of_labels, of_all, largest = levels(z, labels)
        if of_all < of_labels < largest:
            fits += 1
            expected = exact_temperature(z, labels)
            rel = accuracy(z, expected)
            assert fit_temperature(z, labels) == pytest.approx(expected, rel=rel, abs=0)
    assert fits > 20


CHANCE = (
    "the labels' logits, on average {} below the largest, are not above those of all classes, {} "
    "below: no temperature makes the labels likelier than uniform guessing (T -> infinity); check "
    "that labels and logits are of the same rows"
)
SEPARABLE = (
    "every label has a largest logit of its row, so the likelihood does not fall as T -> 0 and no "
    "temperature is best; fit on held-out data where the model errs"
)


@pytest.mark.parametrize("c", [2.0**-300, 1.0, 2.0**300])
@pytest.mark.parametrize(
    ("z", "labels", "message"),
    [
        (*near_chance(0.0), CHANCE.format(0.5, 0.5)),
        (*near_chance(-(2.0**-40)), CHANCE.format(0.5, 0.5)),
        (*near_chance(-0.5), CHANCE.format(0.5, 0.375)),
        (*near_separable(0.0), SEPARABLE),
        (*near_separable(-(2.0**-40)), SEPARABLE),
        (*near_separable(-1.0), SEPARABLE),
        (torch.eye(3), torch.tensor([0, 1, 2]), SEPARABLE),
        (torch.eye(3), torch.tensor([1, 2, 0]), CHANCE.format(1, 0.666667)),
        (torch.eye(2)[:1], torch.tensor([0]), SEPARABLE),
        (torch.eye(2)[:1], torch.tensor([1]), CHANCE.format(1, 0.5)),
    ],
)
def test_just_outside_the_condition_there_is_none(
    z: Tensor, labels: Tensor, message: str, c: float
) -> None:
    z = z.double()
    of_labels, of_all, largest = levels(z, labels)
    assert not of_all < of_labels < largest
    if c == 1.0:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            fit_temperature(z, labels)
    else:
        # The numbers in the message have the units of the logits.
        kind = "no temperature is best" if message == SEPARABLE else "than uniform guessing"
        with pytest.raises(ValueError, match=kind):
            fit_temperature(c * z, labels)


@given(st.data())
def test_there_is_a_temperature_if_and_only_if_the_condition_holds(data: st.DataObject) -> None:
    n, k = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    numbers = data.draw(st.lists(st.integers(-3, 3), min_size=n * k, max_size=n * k))
    # Integers: the means are exact but for one rounding, so equal ones come out equal.
    z = torch.tensor(numbers, dtype=torch.float32).reshape(n, k)
    labels = torch.tensor(data.draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n)))
    of_labels, of_all, largest = levels(z, labels)
    if of_all < of_labels < largest:
        assert 0 < fit_temperature(z, labels) < math.inf
    else:
        kind = "no temperature is best" if of_labels == largest else "than uniform guessing"
        with pytest.raises(ValueError, match=kind):
            fit_temperature(z, labels)


def test_every_class_once_is_no_better_than_chance() -> None:
    # Each row of whole numbers with each label: both means are one and the same fraction.
    for seed in range(100):
        z = torch.randint(-9, 10, (2, 3), generator=generator(seed)).double()
        assert (z.amax(-1) > z.amin(-1)).any()
        with pytest.raises(ValueError, match="than uniform guessing"):
            fit_temperature(z.repeat_interleave(3, 0), torch.arange(3).repeat(2))


@pytest.mark.parametrize("z", [torch.ones(3, 4), torch.zeros(2, 1)], ids=["tied", "one class"])
def test_logits_that_say_nothing_have_no_temperature(z: Tensor) -> None:
    with pytest.raises(ValueError, match="no temperature is best"):
        fit_temperature(z, torch.zeros(len(z), dtype=torch.int64))


@pytest.mark.parametrize(
    ("logits", "right"),
    [
        # In turn too large for a sum, for a difference, and too small for the inverse.
        ((0.5e308, -0.5e308), 2),
        ((1e308, -1e308), 99),
        ((1e-310, 0.0), 2),
    ],
)
def test_temperature_of_the_largest_and_the_smallest_logits(
    logits: tuple[float, float], right: int
) -> None:
    z = torch.tensor([logits], dtype=torch.float64).expand(right + 1, 2)
    labels = torch.tensor([0] * right + [1])
    expected = logits[0] / math.log(right) - logits[1] / math.log(right)
    rel = accuracy(z, expected) + 8 * U
    # Numbers below 1e-308 are whole multiples of the smallest.
    off = 4 * smallest(torch.float64)
    assert fit_temperature(z, labels) == pytest.approx(expected, rel=rel, abs=off)


def finite(values: str) -> str:
    return f"logits must be finite, got {values}; leave the classes out that no row allows"


FITTING = torch.tensor([[2.0, 1.0, 0.0]] * 2)

# Each row: rejected logits and labels, the whole message, accepted ones.
BAD_LOGITS: dict[str, tuple[Any, Any, type[Exception], str, Tensor, Tensor]] = {
    "logits in a list": (
        [[2.0, 1.0, 0.0]] * 2,
        CLASSES,
        TypeError,
        "logits must be a torch.Tensor, got [[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]]; "
        "wrap them in torch.tensor(...)",
        FITTING,
        CLASSES,
    ),
    "integer logits": (
        FITTING.long(),
        CLASSES,
        TypeError,
        "logits must have a floating dtype, got torch.int64 with values [2, 1, 0, 2, 1, 0]; "
        "convert them with z.float()",
        FITTING.long().float(),
        CLASSES,
    ),
    "no classes": (
        FITTING[:, :0],
        CLASSES,
        ValueError,
        "dimension -1 of the logits is empty (shape (2, 0)); a softmax needs at least one class",
        FITTING,
        CLASSES,
    ),
    "a class ruled out": (
        torch.tensor([[2.0, 1.0, -INF]] * 2),
        CLASSES,
        ValueError,
        finite("[-inf, -inf]"),
        torch.tensor([[2.0, 1.0]] * 2 + [[2.0, 1.0]]),
        torch.tensor([0, 1, 0]),
    ),
    "infinite": (
        torch.tensor([[INF, 1.0, 0.0], [2.0, 1.0, 0.0]]),
        CLASSES,
        ValueError,
        finite("[inf]"),
        FITTING,
        CLASSES,
    ),
    "nan": (
        torch.tensor([[NAN, 1.0, 0.0], [2.0, 1.0, 0.0]]),
        CLASSES,
        ValueError,
        finite("[nan]"),
        FITTING,
        CLASSES,
    ),
    "all nan": (
        torch.full((2, 4), NAN),
        CLASSES,
        ValueError,
        finite("[nan, nan, nan, nan, nan, nan, ...]"),
        FITTING,
        CLASSES,
    ),
    **bad_labels(FITTING),
}


@pytest.mark.parametrize(
    ("z", "labels", "error", "message", "good_z", "good_labels"),
    BAD_LOGITS.values(),
    ids=BAD_LOGITS.keys(),
)
def test_what_has_no_temperature_is_shown_with_what_would_work(
    z: Any,
    labels: Any,
    error: type[Exception],
    message: str,
    good_z: Tensor,
    good_labels: Tensor,
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        fit_temperature(z, labels)
    assert fit_temperature(good_z, good_labels) > 0


# Real data ----------------------------------------------------------------------------------------


def digits() -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return pixels[order] / 16, labels[order]


def test_temperature_of_digits_is_that_of_scikit_learn() -> None:
    pixels, labels = digits()
    model = LogisticRegression(C=1e3, max_iter=2000).fit(pixels[:500], labels[:500])
    held_out, truth = pixels[500:1100], labels[500:1100]
    calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="temperature")
    (one,) = calibrated.fit(held_out, truth).calibrated_classifiers_
    temperature = fit_temperature(
        torch.tensor(model.decision_function(held_out)), torch.tensor(truth)
    )
    # It keeps beta = 1 / T, and its minimizer sees no more than losses: it stops where steps of
    # 1e-8 no longer change them, at a slope of 1e-5, say.
    theirs = 1 / one.calibrators[0].beta_
    assert temperature == pytest.approx(theirs, rel=1e-4)
    z, y = torch.tensor(model.decision_function(held_out)), torch.tensor(truth)
    rounding = rounding_of_loss(z, y, temperature)
    assert loss_at(z, y, temperature) <= loss_at(z, y, theirs) + 2 * rounding
    assert temperature > 1.5


def test_temperature_mends_a_network_that_is_too_sure_of_its_digits() -> None:
    pixels, labels = digits()
    x, y = torch.tensor(pixels, dtype=torch.float32), torch.tensor(labels)
    # A fifth of the training labels is wrong, and the network learns them by heart.
    learned = y[:300].clone()
    learned[::5] = (learned[::5] + 1) % 10
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torch.nn.Sequential(
            torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
        )
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        functional.cross_entropy(network(x[:300]), learned).backward()
        optimizer.step()
    with torch.no_grad():
        z = network(x)
    with pytest.raises(ValueError, match="no temperature is best"):
        fit_temperature(z[:300], learned)
    held_out, test = slice(300, 1000), slice(1000, None)
    temperature = fit_temperature(z[held_out], y[held_out])
    assert_best(z[held_out], y[held_out])
    assert temperature > 1.5
    # On data that neither the training nor the fit has seen.
    assert loss_at(z[test], y[test], temperature) < loss_at(z[test], y[test], 1.0) - 0.1
    before = expected_calibration_error(softmax(z[test]), y[test])
    after = expected_calibration_error(softmax(z[test], temperature=temperature), y[test])
    assert after < before / 2
