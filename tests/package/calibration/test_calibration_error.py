from __future__ import annotations

import math
import re
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from sklearn.calibration import calibration_curve
from torch import Tensor

from omnivault.calibration import expected_calibration_error
from omnivault.softmax import softmax
from tests.package.calibration.common import (
    BINS,
    CLASSES,
    NAN,
    OUTSIDE,
    U,
    bad_labels,
    drawn,
    dtypes,
    exact_group,
    generator,
)
from tests.support.strategies import DTYPES, HALF, unit


def exact_error(probs: Tensor, labels: list[int], bins: int) -> float:
    """ECE by its definition; the first of equal probabilities is the choice."""
    confidences = [min(max(row), 1.0) for row in probs.tolist()]
    right = [
        row.index(max(row)) == label for row, label in zip(probs.tolist(), labels, strict=True)
    ]
    error = Fraction(0)
    for group in range(bins):
        members = [
            n for n, c in enumerate(confidences) if exact_group(c, bins, probs.dtype) == group
        ]
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
    assert not {k / bins for k in range(1, bins)} & set(confidence.tolist())
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
        NOT_FLOATING.format("tensor([1, 0, 0, 1])"),
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


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_the_outputs_of_a_sigmoid_become_two_classes(shape: tuple[int, ...]) -> None:
    p = torch.tensor([0.9, 0.2, 0.6]).reshape(shape)
    labels = torch.tensor([1, 0, 1])
    with pytest.raises(ValueError, match=r"two classes, torch\.stack\(\[1 - p, p\], -1\)$"):
        expected_calibration_error(p, labels)
    p = p.flatten()
    expected_calibration_error(torch.stack([1 - p, p], -1), labels)
