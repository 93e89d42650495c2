"""What the tests of several statements of this chapter share."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor

from omnivault.softmax import softmax
from tests.support.strategies import Event, exactly, unit

U = unit(torch.float64)
Measure = Callable[[Event], Fraction]


def measure(z: Tensor, temperature: float, *, normalized: bool = True) -> Measure:
    """P(A) = sum over A of the very numbers p, over their sum unless that is to be seen."""
    p = exactly(softmax(z, temperature=temperature))
    total = sum(p, Fraction(0)) if normalized else Fraction(1)
    return lambda event: sum((p[j] for j in event), Fraction(0)) / total
