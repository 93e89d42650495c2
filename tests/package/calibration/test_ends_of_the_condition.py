from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.calibration import fit_temperature
from tests.package.calibration.common import (
    CLASSES,
    INF,
    NAN,
    Data,
    U,
    accuracy,
    bad_labels,
    generator,
    levels,
)
from tests.support.strategies import smallest


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
    z = z.double() + 2  # so that no row looks like probabilities
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
