from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from mpmath import mp
from torch import Tensor

from omnivault.softmax import Softmax, log_softmax, logsumexp, softmax, softmax_jacobian
from tests.package.softmax.common import INF, NAN, Map
from tests.support.strategies import exact_softmax

ROW = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
ALONG_DIM: list[Any] = [softmax, log_softmax, logsumexp]
MAPS: list[Any] = [*ALONG_DIM, softmax_jacobian]


def name_of(subject: Map) -> str:
    return getattr(subject, "__name__", type(subject).__name__)


# Each row: rejected logits, the whole message, accepted neighbor.
BAD_LOGITS: dict[str, tuple[Any, type[Exception], str, Tensor]] = {
    "a list": (
        [1.0, 2.0],
        TypeError,
        "logits must be a torch.Tensor, got [1.0, 2.0]; wrap them in torch.tensor(...)",
        torch.tensor([1.0, 2.0]),
    ),
    "an array": (
        np.array([1.0, 2.0]),
        TypeError,
        "logits must be a torch.Tensor, got array([1., 2.]); wrap them in torch.tensor(...)",
        torch.tensor(np.array([1.0, 2.0])),
    ),
    "booleans": (
        torch.tensor([True, False]),
        TypeError,
        "logits must have a floating dtype, got torch.bool with values [True, False]; "
        "convert them with z.float()",
        torch.tensor([1.0, 0.0]),
    ),
    "complex": (
        torch.tensor([1j]),
        TypeError,
        "logits must have a floating dtype, got torch.complex64 with values [1j]; "
        "convert them with z.float()",
        torch.tensor([1.0]),
    ),
    "a scalar": (
        torch.tensor(2.5),
        ValueError,
        "logits need a dimension that holds the classes, got the scalar 2.5; "
        "reshape(1) makes it a row of one",
        torch.tensor(2.5).reshape(1),
    ),
    "no classes": (
        torch.zeros(2, 0),
        ValueError,
        "dimension -1 of the logits is empty (shape (2, 0)); a softmax needs at least one class",
        torch.zeros(0, 2),
    ),
}


# Softmax and its kin take integers; what is differentiated, or has been computed, is floating.
INTEGERS: dict[str, tuple[Any, type[Exception], str, Tensor]] = {
    "integers": (
        torch.tensor([1, 2]),
        TypeError,
        "logits must have a floating dtype, got torch.int64 with values [1, 2]; "
        "convert them with z.float()",
        torch.tensor([1, 2]).float(),
    ),
    "many integers": (
        torch.arange(7).reshape(1, 7),
        TypeError,
        "logits must have a floating dtype, got torch.int64 with values [0, 1, 2, 3, 4, 5, ...]; "
        "convert them with z.float()",
        torch.arange(7.0).reshape(1, 7),
    ),
    "six integers": (
        torch.arange(6),
        TypeError,
        "logits must have a floating dtype, got torch.int64 with values [0, 1, 2, 3, 4, 5]; "
        "convert them with z.float()",
        torch.arange(6.0),
    ),
    "short integers": (
        torch.tensor([1, 2], dtype=torch.int16),
        TypeError,
        "logits must have a floating dtype, got torch.int16 with values [1, 2]; "
        "convert them with z.float()",
        torch.tensor([1, 2], dtype=torch.int16).float(),
    ),
}


@pytest.mark.parametrize("subject", [*MAPS, Softmax(), Softmax().jacobian], ids=name_of)
@pytest.mark.parametrize(
    ("bad", "error", "message", "good"), BAD_LOGITS.values(), ids=BAD_LOGITS.keys()
)
def test_bad_logits_are_shown_with_what_would_work(
    subject: Map, bad: Any, error: type[Exception], message: str, good: Tensor
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        subject(bad)
    subject(good)


# Each row: rejected dim, the whole message.
BAD_DIM: dict[str, tuple[Any, type[Exception], str]] = {
    "too large": (2, ValueError, "dim must lie in [-2, 1] for logits of shape (2, 3), got 2"),
    "too small": (-3, ValueError, "dim must lie in [-2, 1] for logits of shape (2, 3), got -3"),
    "a float": (1.0, TypeError, "dim must be an int such as -1, got 1.0"),
    "a boolean": (True, TypeError, "dim must be an int such as -1, got True"),
    "none": (None, TypeError, "dim must be an int such as -1, got None"),
}


def layer_at(z: Tensor, dim: int) -> Tensor:
    return Softmax(dim).forward(z)


def jacobian_at(z: Tensor, dim: int) -> Tensor:
    return Softmax(dim).jacobian(z)


@pytest.mark.parametrize("subject", [*ALONG_DIM, layer_at, jacobian_at], ids=name_of)
@pytest.mark.parametrize(("dim", "error", "message"), BAD_DIM.values(), ids=BAD_DIM.keys())
def test_bad_dim_is_shown_with_what_would_work(
    subject: Map, dim: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        subject(ROW, dim)
    for good in (-2, -1, 0, 1):
        subject(ROW, good)


def test_an_empty_dimension_is_named_as_the_caller_named_it() -> None:
    message = (
        "dimension 1 of the logits is empty (shape (2, 0)); a softmax needs at least one class"
    )
    for subject in (*ALONG_DIM, jacobian_at):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            subject(torch.zeros(2, 0), 1)
        assert subject(torch.zeros(2, 0), 0).numel() == 0


NOT_POSITIVE = (
    "temperature must be > 0, got {}; for T -> 0 take the largest logit: logits.argmax(-1), or "
    "greedy(logits)"
)
NOT_HELD = (
    "temperature must lie in [{}, {}] to be computed in {}, got {}; convert the logits with "
    "z.double(), or take the limit: the largest logit for T -> 0, the uniform distribution for "
    "T -> infinity"
)
IN_SINGLE = ("1.175e-38", "3.403e+38", "torch.float32")
IN_DOUBLE = ("2.225e-308", "1.798e+308", "torch.float64")


# Each row: dtype of the logits, rejected temperature, the whole message, accepted neighbor.
BAD_TEMPERATURE: dict[str, tuple[torch.dtype, Any, type[Exception], str, Any]] = {
    "a string": (
        torch.float32,
        "1.0",
        TypeError,
        "temperature must be a number such as 0.7, got '1.0'",
        1.0,
    ),
    "none": (
        torch.float32,
        None,
        TypeError,
        "temperature must be a number such as 0.7, got None",
        1,
    ),
    "a boolean": (
        torch.float32,
        True,
        TypeError,
        "temperature must be a number such as 0.7, got True",
        1,
    ),
    "a tensor of booleans": (
        torch.float32,
        torch.tensor(True),
        TypeError,
        "temperature must hold real numbers, got tensor(True)",
        torch.tensor(0.5),
    ),
    "three for two rows": (
        torch.float32,
        torch.tensor([0.5, 0.5, 0.5]),
        ValueError,
        "temperature must be a number or have the shape (2,) of the rows, got (3,); give one "
        "number for each row",
        torch.tensor(2),
    ),
    "complex": (
        torch.float32,
        1j,
        TypeError,
        "temperature must be a number such as 0.7, got 1j",
        1.0,
    ),
    "a decimal": (
        torch.float32,
        Decimal("0.5"),
        TypeError,
        "temperature must be a number such as 0.7, got Decimal('0.5')",
        Fraction(1, 2),
    ),
    "zero": (torch.float32, 0.0, ValueError, NOT_POSITIVE.format("0.0"), 0.1),
    "the integer zero": (torch.float32, 0, ValueError, NOT_POSITIVE.format("0"), 1),
    "negative": (torch.float32, -0.5, ValueError, NOT_POSITIVE.format("-0.5"), 0.5),
    "nan": (torch.float32, NAN, ValueError, NOT_POSITIVE.format("nan"), np.float32(0.5)),
    "-inf": (torch.float32, -INF, ValueError, NOT_POSITIVE.format("-inf"), np.float64(0.5)),
    "+inf": (
        torch.float32,
        INF,
        ValueError,
        NOT_HELD.format(*IN_SINGLE, "inf"),
        torch.finfo(torch.float32).max,
    ),
    "above float32": (
        torch.float32,
        1e39,
        ValueError,
        NOT_HELD.format(*IN_SINGLE, "1e+39"),
        1e38,
    ),
    "below float32": (
        torch.float32,
        1e-39,
        ValueError,
        NOT_HELD.format(*IN_SINGLE, "1e-39"),
        torch.finfo(torch.float32).tiny,
    ),
    # Half precision is computed in float32, so float32's range counts: 1e5 is above float16's.
    "above float32, float16": (
        torch.float16,
        1e39,
        ValueError,
        NOT_HELD.format(*IN_SINGLE, "1e+39"),
        1e5,
    ),
    "below float32, bfloat16": (
        torch.bfloat16,
        1e-39,
        ValueError,
        NOT_HELD.format(*IN_SINGLE, "1e-39"),
        1e-30,
    ),
    "+inf, float64": (
        torch.float64,
        INF,
        ValueError,
        NOT_HELD.format(*IN_DOUBLE, "inf"),
        torch.finfo(torch.float64).max,
    ),
    "below float64": (
        torch.float64,
        5e-324,
        ValueError,
        NOT_HELD.format(*IN_DOUBLE, "5e-324"),
        1e-39,
    ),
}


@pytest.mark.parametrize("subject", MAPS, ids=name_of)
@pytest.mark.parametrize(
    ("dtype", "bad", "error", "message", "good"),
    BAD_TEMPERATURE.values(),
    ids=BAD_TEMPERATURE.keys(),
)
def test_bad_temperature_is_shown_with_what_would_work(
    subject: Map, dtype: torch.dtype, bad: Any, error: type[Exception], message: str, good: Any
) -> None:
    z = ROW.to(dtype)
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        subject(z, temperature=bad)
    assert not subject(z, temperature=good).isnan().any()


@pytest.mark.parametrize("number", [2, np.float32(2.0), np.float64(2.0), np.int64(2), Fraction(2)])
@pytest.mark.parametrize("subject", MAPS, ids=name_of)
def test_any_real_number_is_a_temperature(subject: Map, number: Any) -> None:
    assert torch.equal(subject(ROW, temperature=number), subject(ROW, temperature=2.0))


def test_fifty_digits_are_fifty_digits() -> None:
    # The oracle against a closed form: 1 / (1 + e^-1) to more digits than any dtype holds.
    p = exact_softmax(torch.tensor([0.0, -1.0]))
    assert abs(p[0] - 1 / (1 + mp.exp(-1))) < mp.mpf(10) ** -49
