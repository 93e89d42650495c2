"""The comparison that all statements' tests lean on fails where it should."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from mpmath import mp

from tests.support import run_report
from tests.support.strategies import assert_within, double

AGREE: list[tuple[Any, Any, Any, Any]] = [
    (1.0, 1.5, 0.5, 0.0),
    (1.0, 1.5, 0.0, Fraction(1, 3)),
    ([1.0, [2.0]], [1.0, [2.5]], [0.0, 0.5], 0.0),
    (np.array([1.0, 2.0]), 1.5, 0.5, 0.0),
    (Fraction(1, 3), mp.mpf(1) / 3, mp.mpf(10) ** -50, 0.0),
    (double([1e-200]), double([3e-200]), 2e-200, 0.0),
    (math.inf, math.inf, 0.0, 1.0),
    (double([math.inf, 1.0]), double([math.inf, 1.5]), 0.5, 0.0),
    (torch.tensor([1.0]), double([1.5]), double([0.5]), 0.0),
]
DIFFER: list[tuple[Any, Any, Any, Any]] = [
    (1.0, 1.5, 0.49, 0.0),
    (1.0, 1.5, 0.0, 0.33),
    (Fraction(1, 3), 1 / 3, 1e-18, 0.0),
    ([1.0, 2.0], [1.0, 2.0, 3.0], 9.0, 0.0),
    ([1.0, 2.0], [1.0, 2.5], [0.5, 0.0], 0.0),
    (math.nan, math.nan, 9.0, 9.0),
    (double([1e-200]), double([3e-200]), 1e-200, 0.0),
    (1.0, math.inf, 9.0, 9.0),
    (math.inf, -math.inf, 9.0, 9.0),
    (double([1.0, 1.0]), double([1.0, math.inf]), 9.0, 9.0),
    (double([1.0, math.nan]), double([1.0, math.nan]), 9.0, 9.0),
    (double([1.0, 1.0]), double([1.0]), 9.0, 9.0),
    (double([1.0, 2.0]), double([1.0, 2.5]), double([0.5, 0.0]), 0.0),
]


@pytest.mark.parametrize(("actual", "expected", "bound", "rel"), AGREE)
def test_near_enough(actual: Any, expected: Any, bound: Any, rel: Any) -> None:
    assert_within(actual, expected, bound, rel=rel)


@pytest.mark.parametrize(("actual", "expected", "bound", "rel"), DIFFER)
def test_too_far(actual: Any, expected: Any, bound: Any, rel: Any) -> None:
    with pytest.raises(AssertionError):
        assert_within(actual, expected, bound, rel=rel)


def test_the_error_nearest_to_its_bound_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_report, "worst", None)
    assert_within([1.0, 2.0], [1.25, 2.125], [1.0, 0.25])
    assert run_report.worst == (0.125, 0.25)
    assert_within(3.0, 3.5, 8.0)
    assert_within(3.0, 3.0, 0.0)
    assert run_report.worst == (0.125, 0.25)
