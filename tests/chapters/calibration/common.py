"""What the tests of several statements of this chapter share."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from mpmath import mp
from torch import Tensor

from tests.support.strategies import double, total, unit

U = unit(torch.float64)


# What 50 digits leave of 1 - 1.
ZERO = mp.mpf(10) ** -45


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


Distribution = tuple[Fraction, ...]


def shares(counts: Sequence[int]) -> Distribution:
    return tuple(Fraction(n, sum(counts)) for n in counts)


Labeled = tuple[Tensor, Tensor]


@st.composite
def labeled(draw: DrawFn, max_rows: int = 4, max_classes: int = 4, bound: int = 5) -> Labeled:
    """Rows of whole logits with labels; ties and constant rows are common."""
    n, k = draw(st.integers(1, max_rows)), draw(st.integers(1, max_classes))
    numbers = draw(st.lists(st.integers(-bound, bound), min_size=n * k, max_size=n * k))
    labels = draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n))
    return double(numbers).reshape(n, k), torch.tensor(labels)


def three_means(data: Labeled) -> tuple[Fraction, Fraction, Fraction]:
    """Mean of all logits, of the labels' and of the largest."""
    rows = [[Fraction(x) for x in row] for row in data[0].tolist()]
    n = len(rows)
    return (
        total(total(row) / len(row) for row in rows) / n,
        total(row[label] for row, label in zip(rows, data[1].tolist(), strict=True)) / n,
        total(max(row) for row in rows) / n,
    )


def fit_bound(z: Tensor, y: Tensor, temperature: float, moved: float = 0.0) -> float:
    """Largest relative error of a root of the slope that was computed in float64.

    What rounding adds to the slope, over beta times the curvature, in units of T: the error of p
    times the gap, as in ``softmax_bound``; the means over the rows; and logits moved by ``moved``.
    """
    gaps = (z.amax(-1, keepdim=True) - z) / temperature
    p = torch.softmax(-gaps, -1)
    mean = (p * gaps).sum(-1, keepdim=True)
    variance = (p * (gaps - mean) ** 2).sum(-1).mean()
    of_p = (p * gaps * (3 * gaps + 3 * mean + 2 * z.shape[1] + 20)).sum(-1).mean()
    of_means = 2 * (len(z) + 2) * mean.mean()
    shifts = moved / temperature * (2 + variance.sqrt())
    return float((U * (of_p + of_means) + shifts) / variance)


def all_constant(z: Tensor) -> bool:
    return bool((z == z[:, :1]).all())


# Some rows are constant, and others are not.
MIXED = double([[3, 3, 3], [0, 2, 1]]), torch.tensor([0, 2])


def softmax_of(row: list[Any], beta: Any) -> list[Any]:
    weights = [mp.exp(beta * (mp.mpf(x) - max(row))) for x in row]
    return [w / mp.fsum(weights) for w in weights]


def mean_of(row: list[Any], p: list[Any]) -> Any:
    return mp.fsum(a * x for a, x in zip(p, row, strict=True))


def bisected(gaps: Tensor, labels: Tensor) -> Tensor:
    """Best 1/T of each sample of rows with these gaps, by bisection on the derivative."""
    low, high = torch.zeros(len(gaps), 1), torch.full((len(gaps), 1), 20.0)
    low, high = low.double(), high.double()
    for _ in range(60):
        beta = (low + high) / 2
        slope = (gaps * (torch.sigmoid(beta * gaps) - (1 - labels))).sum(-1, keepdim=True)
        low, high = torch.where(slope > 0, low, beta), torch.where(slope > 0, beta, high)
    return low.squeeze(-1)
