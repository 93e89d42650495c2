from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from omnivault.softmax import softmax_hessian, softmax_vjp
from tests.package.softmax.common_derivatives import INF, NAN, function
from tests.package.softmax.test_rejected import (
    BAD_DIM,
    BAD_LOGITS,
    BAD_TEMPERATURE,
    IN_DOUBLE,
    IN_SINGLE,
    INTEGERS,
    NOT_HELD,
    NOT_POSITIVE,
    ROW,
)


@pytest.mark.parametrize(
    ("bad", "error", "message", "good"), BAD_LOGITS.values(), ids=BAD_LOGITS.keys()
)
def test_bad_logits_of_the_hessian_are_shown_with_what_would_work(
    bad: Any, error: type[Exception], message: str, good: Tensor
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        softmax_hessian(bad)
    softmax_hessian(good)


NOT_LOGITS = BAD_LOGITS | INTEGERS


@pytest.mark.parametrize(
    ("bad", "error", "message", "good"), NOT_LOGITS.values(), ids=NOT_LOGITS.keys()
)
def test_bad_logits_are_shown_with_what_would_work(
    bad: Any, error: type[Exception], message: str, good: Tensor
) -> None:
    temperature = torch.tensor(0.5)
    exact = f"^{re.escape(message)}$"
    with pytest.raises(error, match=exact):
        function(bad, temperature)
    with pytest.raises(error, match=exact.replace("logits", "probabilities")):
        softmax_vjp(bad, torch.tensor(1.0))
    function(good, temperature)
    softmax_vjp(good, torch.tensor(1.0))


@pytest.mark.parametrize(("dim", "error", "message"), BAD_DIM.values(), ids=BAD_DIM.keys())
def test_bad_dim_of_the_vjp_is_shown_with_what_would_work(
    dim: Any, error: type[Exception], message: str
) -> None:
    message = re.escape(message.replace("logits", "probabilities"))
    with pytest.raises(error, match=f"^{message}$"):
        softmax_vjp(ROW, ROW, dim)
    for good in (-2, -1, 0, 1):
        softmax_vjp(ROW, ROW, good)


def test_an_empty_dimension_of_probabilities_is_named_as_the_caller_named_it() -> None:
    message = re.escape(
        "dimension 1 of the probabilities is empty (shape (2, 0)); "
        "a softmax needs at least one class"
    )
    empty = torch.zeros(2, 0)
    with pytest.raises(ValueError, match=f"^{message}$"):
        softmax_vjp(empty, empty, 1)
    assert softmax_vjp(empty, empty, 0).shape == (2, 0)


def vjp_at(p: Tensor, *, temperature: Any) -> Tensor:
    return softmax_vjp(p, ROW.to(p.dtype), temperature=temperature)


@pytest.mark.parametrize("subject", [softmax_hessian, vjp_at])
@pytest.mark.parametrize(
    ("dtype", "bad", "error", "message", "good"),
    BAD_TEMPERATURE.values(),
    ids=BAD_TEMPERATURE.keys(),
)
def test_bad_temperature_is_shown_with_what_would_work(
    subject: Callable[..., Tensor],
    dtype: torch.dtype,
    bad: Any,
    error: type[Exception],
    message: str,
    good: Any,
) -> None:
    z = ROW.to(dtype)
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        subject(z, temperature=bad)
    assert not subject(z, temperature=good).isnan().any()


# Each row: rejected v, its repr, accepted neighbor.
BAD_V: dict[str, tuple[Any, str, Tensor]] = {
    "a list": ([1.0, 2.0, 3.0], "[1.0, 2.0, 3.0]", torch.tensor([1.0, 2.0, 3.0])),
    "a number": (1.0, "1.0", torch.tensor(1.0)),
    "none": (None, "None", torch.tensor(0.0)),
    "integers": (
        torch.tensor([1, 2, 3]),
        "tensor([1, 2, 3])",
        torch.tensor([1, 2, 3], dtype=torch.float16),
    ),
    "booleans": (
        torch.tensor([True, False, True]),
        "tensor([True, False, True])",
        torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64),
    ),
    "complex": (
        torch.tensor(1j),
        "tensor(1j, dtype=torch.complex64)",
        torch.tensor(1.0, dtype=torch.bfloat16),
    ),
}


@pytest.mark.parametrize(("bad", "shown", "good"), BAD_V.values(), ids=BAD_V.keys())
def test_bad_v_is_shown_with_what_would_work(bad: Any, shown: str, good: Tensor) -> None:
    message = f"v must be a tensor of a floating dtype, got {shown}; try v.to(p.dtype)"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        softmax_vjp(ROW, bad)
    softmax_vjp(ROW, good)


@pytest.mark.parametrize(
    ("shape", "bad", "good"),
    [
        ((2, 3), (2,), (2, 1)),
        ((2, 3), (4,), (3,)),
        ((2, 3), (3, 2), (2, 3)),
        ((2, 3), (1, 2, 3), (1, 3)),
        ((2, 3), (2, 2, 3), (2, 3)),
        ((2, 3), (0,), ()),
        # These would broadcast, but to a shape that is not p's.
        ((3,), (1, 3), (3,)),
        ((1, 3), (2, 3), (1, 3)),
        ((2, 1), (2, 3), (2, 1)),
    ],
)
def test_v_of_another_shape_is_shown_with_what_would_work(
    shape: tuple[int, ...], bad: tuple[int, ...], good: tuple[int, ...]
) -> None:
    p = torch.full(shape, 1 / shape[-1])
    message = (
        f"v of shape {bad} does not broadcast to p of shape {shape}; "
        "give one number for each probability"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        softmax_vjp(p, torch.ones(bad))
    assert softmax_vjp(p, torch.ones(good)).shape == shape


# Each row: rejected temperature, its repr, accepted neighbor.
NOT_A_TENSOR: dict[str, tuple[Any, str, Tensor]] = {
    "a float": (0.5, "0.5", torch.tensor(0.5)),
    "an int": (2, "2", torch.tensor(2.0)),
    "none": (None, "None", torch.tensor(1.0)),
    "a list": ([0.5, 0.5], "[0.5, 0.5]", torch.tensor([0.5, 0.5])),
    "an integer": (torch.tensor(2), "tensor(2)", torch.tensor(2.0, dtype=torch.float16)),
    "a boolean": (torch.tensor(True), "tensor(True)", torch.tensor(1.0, dtype=torch.float64)),
    "complex": (
        torch.tensor(1j),
        "tensor(1j, dtype=torch.complex64)",
        torch.tensor(1.0, dtype=torch.bfloat16),
    ),
}


@pytest.mark.parametrize(("bad", "shown", "good"), NOT_A_TENSOR.values(), ids=NOT_A_TENSOR.keys())
def test_a_temperature_that_is_no_tensor_is_shown_with_what_would_work(
    bad: Any, shown: str, good: Tensor
) -> None:
    message = (
        f"temperature must be a tensor of a floating dtype, got {shown}; "
        "torch.tensor(0.7) makes one"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        function(ROW, bad)
    function(ROW, good)


@pytest.mark.parametrize(
    ("shape", "bad", "good"),
    [
        ((2, 3), (3,), (2,)),
        ((2, 3), (2, 1), (2,)),
        ((2, 3), (2, 3), (1,)),
        ((2, 3), (1, 2), ()),
        ((2, 3), (0,), (2,)),
        ((3,), (1,), ()),
        ((3,), (3,), ()),
        ((2, 4, 3), (2,), (2, 1)),
        ((2, 4, 3), (2, 4, 1), (4,)),
        ((1, 3), (2,), (1,)),
        ((0, 3), (2,), (0,)),
    ],
)
def test_temperatures_of_another_shape_are_shown_with_what_would_work(
    shape: tuple[int, ...], bad: tuple[int, ...], good: tuple[int, ...]
) -> None:
    z = torch.zeros(shape)
    message = (
        f"temperature must be a number or have the shape {shape[:-1]} of the rows, got {bad}; "
        "give one number for each row"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        function(z, torch.ones(bad))
    assert function(z, torch.ones(good)).shape == shape


# Each row: dtypes of z and T, rejected temperature, the whole message, accepted neighbor.
OUT_OF_RANGE: dict[str, tuple[torch.dtype, torch.dtype, float, str, float]] = {
    "zero": (torch.float32, torch.float32, 0.0, NOT_POSITIVE.format("0.0"), 0.1),
    "minus zero": (torch.float32, torch.float32, -0.0, NOT_POSITIVE.format("-0.0"), 0.1),
    "negative": (torch.float64, torch.float64, -0.5, NOT_POSITIVE.format("-0.5"), 0.5),
    "nan": (torch.float32, torch.float32, NAN, NOT_POSITIVE.format("nan"), 1.0),
    "nan, half": (torch.float16, torch.float16, NAN, NOT_POSITIVE.format("nan"), 6e-8),
    "-inf": (torch.float32, torch.float32, -INF, NOT_POSITIVE.format("-inf"), 1.0),
    "+inf": (
        torch.float32,
        torch.float32,
        INF,
        NOT_HELD.format(*IN_SINGLE, "inf"),
        torch.finfo(torch.float32).max,
    ),
    "+inf, float64": (
        torch.float64,
        torch.float64,
        INF,
        NOT_HELD.format(*IN_DOUBLE, "inf"),
        torch.finfo(torch.float64).max,
    ),
    "above float32": (
        torch.float32,
        torch.float64,
        1e39,
        NOT_HELD.format(*IN_SINGLE, "1e+39"),
        torch.finfo(torch.float32).max,
    ),
    "below float32": (
        torch.float32,
        torch.float64,
        1e-39,
        NOT_HELD.format(*IN_SINGLE, "1e-39"),
        torch.finfo(torch.float32).tiny,
    ),
    # Rounded to float32 these two would be in range, as their neighbors are.
    "just above float32": (
        torch.float32,
        torch.float64,
        math.nextafter(torch.finfo(torch.float32).max, INF),
        NOT_HELD.format(*IN_SINGLE, math.nextafter(torch.finfo(torch.float32).max, INF)),
        torch.finfo(torch.float32).max,
    ),
    "just below float32": (
        torch.float32,
        torch.float64,
        math.nextafter(torch.finfo(torch.float32).tiny, 0.0),
        NOT_HELD.format(*IN_SINGLE, math.nextafter(torch.finfo(torch.float32).tiny, 0.0)),
        torch.finfo(torch.float32).tiny,
    ),
    # Half precision is computed in float32, so float32's range counts: 1e5 is above float16's.
    "above float32, float16": (
        torch.float16,
        torch.float64,
        1e39,
        NOT_HELD.format(*IN_SINGLE, "1e+39"),
        1e5,
    ),
    "below float64": (
        torch.float64,
        torch.float64,
        5e-324,
        NOT_HELD.format(*IN_DOUBLE, "5e-324"),
        1e-39,
    ),
    "bfloat16, zero": (torch.float32, torch.bfloat16, 0.0, NOT_POSITIVE.format("0.0"), 1e-30),
}


# The same for a T of a dtype that does not hold the limits of the arithmetic.
NARROW: dict[str, tuple[torch.dtype, torch.dtype, float, str, float]] = {
    "float16 zero for float16": (
        torch.float16,
        torch.float16,
        0.0,
        NOT_POSITIVE.format("0.0"),
        6e-8,
    ),
    "float16 +inf for float32": (
        torch.float32,
        torch.float16,
        INF,
        NOT_HELD.format(*IN_SINGLE, "inf"),
        65504.0,
    ),
    "bfloat16 +inf for bfloat16": (
        torch.bfloat16,
        torch.bfloat16,
        INF,
        NOT_HELD.format(*IN_SINGLE, "inf"),
        3e38,
    ),
    "float32 zero for float64": (
        torch.float64,
        torch.float32,
        0.0,
        NOT_POSITIVE.format("0.0"),
        1e-45,
    ),
    "float32 +inf for float64": (
        torch.float64,
        torch.float32,
        INF,
        NOT_HELD.format(*IN_DOUBLE, "inf"),
        3e38,
    ),
}


@pytest.mark.parametrize(
    ("dtype", "t_dtype", "bad", "message", "good"),
    [pytest.param(*row, id=name) for name, row in (OUT_OF_RANGE | NARROW).items()],
)
def test_a_temperature_out_of_range_is_shown_wherever_it_stands(
    dtype: torch.dtype, t_dtype: torch.dtype, bad: float, message: str, good: float
) -> None:
    z = torch.zeros(2, 3, 4, dtype=dtype)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        function(z, torch.tensor(bad, dtype=t_dtype))
    in_a_row = re.sub("got ([^;]+)", r"got [\1]", message)
    for i in range(6):
        temperature = torch.full((2, 3), good, dtype=t_dtype)
        p = function(z, temperature)
        assert torch.equal(p, torch.full((2, 3, 4), 0.25, dtype=dtype))
        temperature.view(-1)[i] = bad
        with pytest.raises(ValueError, match=f"^{re.escape(in_a_row)}$"):
            function(z, temperature)


def test_every_temperature_out_of_range_is_shown() -> None:
    temperature = torch.tensor([1.0, -2.0, 0.0, INF])
    message = NOT_POSITIVE.format("[-2.0, 0.0, inf]")
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        function(torch.zeros(4, 3), temperature)


def test_a_more_precise_vector_is_rounded_to_the_arithmetic_of_the_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    p = torch.randn(50, generator=generator).softmax(-1)
    v = torch.randn(50, generator=generator, dtype=torch.float64)
    assert torch.equal(softmax_vjp(p, v), softmax_vjp(p, v.float()))
