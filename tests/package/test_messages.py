"""What a message shows of an argument: its values, in one line, however many there are."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from omnivault._checks import shown, some_values
from omnivault.softmax import softmax

SHOWN: dict[str, tuple[Any, str]] = {
    "a number": (42, "42"),
    "a short list": ([1.0, 2.0], "[1.0, 2.0]"),
    "six numbers": (list(range(6)), "[0, 1, 2, 3, 4, 5]"),
    "a huge number": (10**5000, "an int of some 5000 digits"),
    "a huge negative number": (-(10**5000), "a negative int of some 5000 digits"),
    "a large number": (-(10**30), "-1" + 30 * "0"),
    "a long list": (list(range(200_000)), "[0, 1, 2, 3, 4, 5, ...]"),
    "a scalar tensor": (torch.tensor(True), "tensor(True)"),
    "a tensor": (torch.tensor([1, 2]), "tensor([1, 2])"),
    "its dtype, if it is no usual one": (
        torch.tensor([0.5], dtype=torch.float64),
        "tensor([0.5], dtype=torch.float64)",
    ),
    "a long tensor": (torch.zeros(200_000), "tensor([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, ...])"),
    "a sparse tensor": (torch.eye(2).to_sparse(), "tensor([1.0, 0.0, 0.0, 1.0])"),
    "a tensor without values": (
        torch.empty(3, device="meta"),
        "tensor([no values on the meta device])",
    ),
    "an array of many lines": (np.zeros((2, 2)), "array([[0., 0.], [0., 0.]])"),
}


@pytest.mark.parametrize(("value", "text"), SHOWN.values(), ids=SHOWN.keys())
def test_shown(value: Any, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    "value",
    [
        "x" * 500,
        [torch.ones(1000)] * 50,
        np.arange(100_000.0),
        dict.fromkeys(range(99), "y" * 100),
        [["z" * 90] * 9] * 9,
    ],
    ids=["a string", "tensors in a list", "an array", "a dictionary", "lists in a list"],
)
def test_whatever_it_is_it_stays_short(value: Any) -> None:
    assert len(shown(value)) <= 120
    assert "\n" not in shown(value)


def test_the_number_of_a_scalar_has_no_brackets() -> None:
    assert some_values(torch.tensor(0.5)) == "0.5"
    assert some_values(torch.tensor([0.5])) == "[0.5]"


def test_a_message_about_200_000_numbers_is_short() -> None:
    wrong: Any = list(range(200_000))
    with pytest.raises(TypeError, match=re.escape("got [0, 1, 2, 3, 4, 5, ...]; wrap")) as error:
        softmax(wrong)
    assert len(str(error.value)) <= 300
    softmax(torch.arange(200_000.0))
