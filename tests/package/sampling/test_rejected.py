from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from omnivault.sampling import (
    TRUNCATIONS,
    apply_temperature,
    epsilon_cutoff,
    eta_cutoff,
    greedy,
    in_nucleus,
    min_p,
    plain_sample,
    sample,
    tail_free,
    top_a,
    top_h,
    top_k,
    top_p,
    typical_p,
    xtc,
)
from tests.package.sampling.common import INF, NAN, Truncation, generator

ROW = torch.tensor([0.5, 1.5])
SHARE = "{name} must lie in (0, 1], got {}; 1 keeps every token"
REMEDY = (
    "; convert the logits with z.double(), or take the limit: the largest logit for T -> 0, the "
    "uniform distribution for T -> infinity"
)
RANGE32 = "temperature must lie in [1.175e-38, 3.403e+38] to be computed in torch.float32"
OVERFLOW = "; subtract the largest first: logits - logits.amax(-1, keepdim=True)"
BAD_LOGITS: list[tuple[Any, type[Exception], str]] = [
    (
        [0.5, 1.5],
        TypeError,
        "logits must be a torch.Tensor, got [0.5, 1.5]; wrap them in torch.tensor(...)",
    ),
    (
        torch.tensor([1, 2]),
        TypeError,
        "logits must have a floating dtype, got torch.int64 with values [1, 2]; convert them with "
        "z.float()",
    ),
    (
        torch.tensor(1.0),
        ValueError,
        "logits need a dimension that holds the classes, got the scalar 1.0; "
        "reshape(1) makes it a row of one",
    ),
    (
        torch.zeros(2, 0),
        ValueError,
        "dimension -1 of the logits is empty (shape (2, 0)); a softmax needs at least one class",
    ),
    *(
        (torch.tensor([[0.5, 1.5], row]), ValueError, f"logits of a row {message}")
        for row, message in [
            ([NAN, INF], "hold nan: [nan, inf]; look for the operation before that made it"),
            (
                [INF, -INF],
                "hold +inf: [inf, -inf]; subtract what overflowed, or compute the logits in "
                "float32",
            ),
            ([-INF, -INF], "are all -inf: [-inf, -inf]; a mask must leave at least one token"),
        ]
    ),
]


@pytest.mark.parametrize(("bad", "error", "message"), BAD_LOGITS)
def test_logits_without_a_softmax_are_shown(bad: Any, error: type[Exception], message: str) -> None:
    functions: list[Callable[..., Tensor]] = [greedy, sample]
    rules = [rule.function for rule in TRUNCATIONS.values()]
    functions += [lambda z, f=f: f(z, 1) for f in (apply_temperature, *rules)]
    functions.append(lambda z: in_nucleus(z, torch.zeros(2, dtype=torch.int64), 0.9))
    for function in functions:
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            function(bad)
        function(torch.tensor([[0.5, 1.5], [-INF, 2.0]]))


def k_message(k: int) -> str:
    return f"top_k must lie in [1, 2], the size of the vocabulary, got {k}; 2 keeps every token"


BAD_K: list[tuple[Any, type[Exception], str]] = [
    (0, ValueError, k_message(0)),
    (-1, ValueError, k_message(-1)),
    (3, ValueError, k_message(3)),
    (1.0, TypeError, "top_k must be an int such as 50, got 1.0"),
    (True, TypeError, "top_k must be an int such as 50, got True"),
    ("1", TypeError, "top_k must be an int such as 50, got '1'"),
]
BAD_P: list[tuple[Any, type[Exception], str]] = [
    *((p, ValueError, SHARE.replace("{}", str(p))) for p in (0, -0.5, 1.5, 1 + 2**-52, NAN, INF)),
    ("0.9", TypeError, "{name} must be a number such as 0.9, got '0.9'"),
    (True, TypeError, "{name} must be a number such as 0.9, got True"),
    (1j, TypeError, "{name} must be a number such as 0.9, got 1j"),
]


SHARES: tuple[Truncation, ...] = (top_p, typical_p, top_h, tail_free, xtc)
FROM_ZERO: tuple[Truncation, ...] = (min_p, epsilon_cutoff, eta_cutoff, top_a)


def first_in_nucleus(z: Tensor, p: Any) -> Tensor:
    return in_nucleus(z, torch.tensor(0), p)


@pytest.mark.parametrize(
    ("function", "bad", "error", "message", "good"),
    [
        *((top_k, *row, k) for row in BAD_K for k in (1, 2)),
        *((f, *row, 1e-9) for row in BAD_P for f in (*SHARES, first_in_nucleus)),
        *((f, *row, good) for row in BAD_P[1:] for f in FROM_ZERO for good in (1e-9, 0)),
    ],
)
def test_a_truncation_out_of_range_is_shown_beside_one_in_it(
    function: Truncation, bad: Any, error: type[Exception], message: str, good: float
) -> None:
    name = "p" if function is first_in_nucleus else function.__name__
    message = message.format(name=name)
    if function in FROM_ZERO:
        message = message.replace("(0, 1]", "[0, 1]").replace("1 keeps", "0 keeps")
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        function(ROW, bad)
    function(ROW, good)
    if function not in (typical_p, first_in_nucleus):
        arguments: list[dict[str, Any]] = [{function.__name__: value} for value in (bad, good)]
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            sample(ROW, **arguments[0])
        sample(ROW, **arguments[1])


@pytest.mark.parametrize("p", [1, Fraction(1, 2), np.float32(0.5), np.float64(0.5)], ids=repr)
def test_any_real_number_is_a_share(p: Any) -> None:
    for function in (*SHARES, *FROM_ZERO):
        assert torch.equal(function(ROW, p), function(ROW, float(p)))


@pytest.mark.parametrize(
    ("bad", "error", "message", "good"),
    [
        (INF, ValueError, f"{RANGE32}, got inf{REMEDY}", torch.finfo(torch.float32).max),
        (1e-39, ValueError, f"{RANGE32}, got 1e-39{REMEDY}", 2.0**-126),
        (torch.tensor([1, INF, 1]), ValueError, f"{RANGE32}, got [inf]{REMEDY}", torch.tensor(0.5)),
        ("1", TypeError, "temperature must be a number such as 0.7, got '1'", 1),
        (
            True,
            TypeError,
            "temperature must be a number such as 0.7, got True",
            Fraction(1, 2),
        ),
        (
            torch.tensor([1.0, 2.0]),
            ValueError,
            "temperature must be a number or have the shape (3,) of the rows, got (2,); give one "
            "number for each row",
            torch.tensor([1.0, 2.0, 3.0]),
        ),
        (
            torch.ones(3, 1),
            ValueError,
            "temperature must be a number or have the shape (3,) of the rows, got (3, 1); give one "
            "number for each row",
            torch.ones(3),
        ),
    ],
)
def test_a_temperature_that_cannot_divide_is_shown_beside_one_that_can(
    bad: Any, error: type[Exception], message: str, good: Any
) -> None:
    z = torch.tensor([0.0, -1.0]).expand(3, 2)
    for function in (apply_temperature, lambda z, t: sample(z, temperature=t)):
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            function(z, bad)
        function(z, good)


def test_a_temperature_below_zero_and_where_zero_is_greedy() -> None:
    z = ROW.expand(3, 2)
    mixed = torch.tensor([1.0, -0.5, 0.0])
    remedy = "; for T -> 0 take the largest logit: logits.argmax(-1), or greedy(logits)"
    for temperature, shown in ((mixed, "[-0.5, 0.0]"), (0, "0"), (NAN, "nan")):
        message = f"temperature must be > 0, got {shown}{remedy}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            apply_temperature(z, temperature)
    with pytest.raises(ValueError, match=r"have the shape \(2, 3\) of the rows, got \(2,\)"):
        apply_temperature(torch.zeros(2, 3, 4), torch.ones(2))
    for draw in (sample, plain_sample):
        message = "temperature must be >= 0, got [-0.5]; 0 takes the largest logit"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            draw(z, temperature=mixed)
        assert draw(z, temperature=mixed.clamp(min=0))[2] == 1


def test_a_quotient_that_overflows_is_shown_and_sample_does_without_it() -> None:
    for value in (8.0, -8.0):
        z = torch.tensor([[0.0, 1.0], [value, value]])
        message = f"logits [{value}, {value}] divided by the temperature overflow torch.float32"
        with pytest.raises(ValueError, match=f"^{re.escape(message + OVERFLOW)}$"):
            apply_temperature(z, torch.tensor([1.0, 2e-38]))
        # 8 / 2e-38 is beyond float32: only of differences are the quotients at most 0.
        assert sample(torch.tensor([value, value + 1]), temperature=2e-38).item() == 1
    half = torch.tensor([10.0, 20.0], dtype=torch.float16)
    with pytest.raises(ValueError, match=r"^logits \[10.0, 20.0\] .* torch.float16; "):
        apply_temperature(half, 1e-4)
    assert apply_temperature(half, 1e-3).tolist() == [10000.0, 20000.0]
    assert sample(half, temperature=1e-4).item() == 1


@pytest.mark.parametrize("count", [0, 1, 5, 7])
def test_a_generator_for_each_row_or_one_for_all(count: int) -> None:
    z = torch.zeros(2, 3, 4)
    message = f"{count} generators for 6 rows; give one for all rows, or one for each"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        sample(z, generator=[generator()] * count)
    assert sample(z, generator=[generator()] * 6).shape == (2, 3)
