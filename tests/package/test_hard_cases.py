"""The hard cases: their answers, and how far the package is from them."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from mpmath import mp

from omnivault import hard_cases as module
from omnivault import information, softmax
from omnivault.hard_cases import HardCase, hard_cases
from tests.support.strategies import DTYPES, arithmetic

CASES = hard_cases()
FUNCTIONS = {
    name: getattr(softmax, name, None) or getattr(information, name)
    for name in {case.function for case in CASES}
}


def limits() -> dict[tuple[str, torch.dtype], int]:
    """The table in the docstring of the module."""
    rows = re.findall(r"^``(\w+)``((?: +\d+){4})$", module.__doc__ or "", re.MULTILINE)
    return {
        (function, dtype): int(limit)
        for function, numbers in rows
        for dtype, limit in zip(DTYPES, numbers.split(), strict=True)
    }


def test_the_table_has_every_function() -> None:
    assert {function for function, _ in limits()} == set(FUNCTIONS)


def exact(case: HardCase) -> list[Any]:
    """By the definitions, the term of the largest logit apart: 1 + e^-1e10 would be 1."""
    t = mp.mpf(case.temperature)

    def logs(z: tuple[float, ...]) -> list[Any]:
        gaps = [(mp.mpf(x) - max(z)) / t for x in z]
        others = [mp.exp(gap) for gap in gaps]
        others.remove(1)
        return [gap - mp.log1p(mp.fsum(others)) for gap in gaps]

    z = logs(case.z)
    match case.function:
        case "softmax":
            return [mp.exp(x) for x in z]
        case "log_softmax":
            return z
        case "logsumexp":
            return [t * mp.log(mp.fsum(mp.exp(mp.mpf(x) / t) for x in case.z))]
        case "entropy_from_logits":
            return [-mp.fsum(mp.exp(x) * x for x in z if x != -mp.inf)]
        case _:
            pairs = [(a, b) for a, b in zip(z, logs(case.w), strict=True) if a != -mp.inf]
            return [mp.fsum(mp.exp(a) * (a - b) for a, b in pairs)]


def test_the_answers_are_exact_to_fifty_digits() -> None:
    with mp.workdps(900):
        assert_fifty_digits()


def assert_fifty_digits() -> None:
    for case in CASES:
        for result, value in zip(case.result, exact(case), strict=True):
            if mp.isinf(value) or value == 0:
                assert mp.mpf(result) == value, case
            else:
                digits = result.split("e")[0].replace(".", "").lstrip("-0")
                assert len(digits) == 50, case
                assert abs(mp.mpf(result) - value) <= abs(value) * mp.mpf(10) ** -49, case


def holds(dtype: torch.dtype, *numbers: float) -> bool:
    return torch.tensor(numbers, dtype=dtype).tolist() == list(numbers)


def gap_error(case: HardCase, dtype: torch.dtype) -> float:
    """Units in the last place that rounding the gaps to the format costs, 0 if it costs nothing."""
    own, worst = arithmetic(dtype), 0.0
    for z in (case.z, case.w):
        finite = [x for x in z if x > -math.inf]
        for x in finite:
            gap = (max(finite) - mp.mpf(x)) / mp.mpf(case.temperature)
            if gap < mp.mpf(1e300) and torch.tensor(float(gap), dtype=own).item() != gap:
                # Two roundings of half a unit, or two units of u: the shift, and the division.
                worst = max(worst, 2 * float(gap))
    return worst


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.function}, {case.case}")
def test_hard_case(case: HardCase, dtype: torch.dtype) -> None:
    own = arithmetic(dtype)
    if not holds(dtype, *case.z, *case.w) or not holds(own, case.temperature):
        return
    info = torch.finfo(dtype)
    if case.temperature < torch.finfo(own).tiny:
        return
    rows = [torch.tensor(z, dtype=dtype) for z in (case.z, case.w) if z]
    value = FUNCTIONS[case.function](*rows, temperature=case.temperature)
    assert value.dtype is dtype
    unit_of = [abs(mp.mpf(x)) for x in case.result]
    if case.function == "logsumexp":
        unit_of = [max(unit_of[0], abs(mp.mpf(max(case.z))))]
    limit: float = limits()[case.function, dtype]
    if dtype is own:
        limit += gap_error(case, dtype)
    numbers = zip(value.flatten().tolist(), map(mp.mpf, case.result), unit_of, strict=True)
    for actual, expected, size in numbers:
        if mp.isinf(expected) or expected == 0:
            assert actual == expected
        elif info.tiny <= abs(expected) <= info.max:
            step = mp.mpf(2) ** math.floor(mp.log(size, 2)) * info.eps
            assert abs(actual - expected) <= limit * step, (actual, expected)
