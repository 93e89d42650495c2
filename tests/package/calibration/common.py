"""What several of these tests share."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import torch
from torch import Tensor

from omnivault.calibration import fit_temperature
from tests.support.strategies import DTYPES, unit

INF, NAN = math.inf, math.nan
U = unit(torch.float64)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(p: Tensor, seed: int = 0) -> Tensor:
    """One class of each row, with the probabilities of the row."""
    return torch.multinomial(p, 1, generator=generator(seed)).squeeze(-1)


def exact_group(claim: float, bins: int, dtype: torch.dtype) -> int:
    """How many borders k / bins, rounded as a claim of ``dtype`` is, are at most the claim."""
    borders = [torch.tensor(k / bins, dtype=dtype).item() for k in range(1, bins)]
    return sum(border <= claim for border in borders)


OUTSIDE = "claims must lie in [0, 1], got {}; turn logits into probabilities with softmax(z) first"
BINS = "bins must be at least 1, got {}"
NO_INT = "bins must be an int such as 10, got {}"
NOT_CLASSES = (
    "labels must be a tensor of dtype torch.int64, got {}; "
    "one class index for each row, labels.long()"
)
NOT_ROWS = (
    "needed are N >= 1 rows of K classes and N labels, got shapes {} and {}; "
    "flatten the batch dimensions"
)
NO_CLASS = "labels must lie in [0, {}], got {}; classes count from 0"
CLASSES = torch.tensor([0, 1])


def bad_labels(rows: Tensor) -> dict[str, tuple[Any, Any, type[Exception], str, Tensor, Tensor]]:
    """Labels that do not fit two rows of three, which either function rejects alike."""
    return {
        "labels in a list": (
            rows,
            [0, 1],
            TypeError,
            NOT_CLASSES.format([0, 1]),
            rows,
            CLASSES,
        ),
        "labels of int32": (
            rows,
            CLASSES.int(),
            TypeError,
            NOT_CLASSES.format("tensor([0, 1], dtype=torch.int32)"),
            rows,
            CLASSES.int().long(),
        ),
        "floating labels": (
            rows,
            CLASSES.float(),
            TypeError,
            NOT_CLASSES.format("tensor([0.0, 1.0])"),
            rows,
            CLASSES,
        ),
        "boolean labels": (
            rows,
            CLASSES.bool(),
            TypeError,
            NOT_CLASSES.format("tensor([False, True])"),
            rows,
            CLASSES.bool().long(),
        ),
        "one row": (rows[0], CLASSES, ValueError, NOT_ROWS.format((3,), (2,)), rows, CLASSES),
        "one row, one label": (
            rows[0],
            torch.tensor(0),
            ValueError,
            NOT_ROWS.format((3,), ()),
            rows,
            CLASSES,
        ),
        "one row, three labels": (
            rows[0],
            torch.tensor([0, 1, 2]),
            ValueError,
            NOT_ROWS.format((3,), (3,)),
            rows,
            CLASSES,
        ),
        "two matrices, two labels": (
            rows.unsqueeze(1),
            CLASSES,
            ValueError,
            NOT_ROWS.format((2, 1, 3), (2,)),
            rows.unsqueeze(1).flatten(0, 1),
            CLASSES,
        ),
        "a batch of batches": (
            rows.unsqueeze(0),
            CLASSES.unsqueeze(0),
            ValueError,
            NOT_ROWS.format((1, 2, 3), (1, 2)),
            rows,
            CLASSES,
        ),
        "labels for three rows": (
            rows,
            torch.tensor([0, 1, 1]),
            ValueError,
            NOT_ROWS.format((2, 3), (3,)),
            rows,
            CLASSES,
        ),
        "one label for two rows": (
            rows,
            torch.tensor([1]),
            ValueError,
            NOT_ROWS.format((2, 3), (1,)),
            rows,
            CLASSES,
        ),
        "labels in a column": (
            rows,
            CLASSES.unsqueeze(-1),
            ValueError,
            NOT_ROWS.format((2, 3), (2, 1)),
            rows,
            CLASSES,
        ),
        "no rows": (
            rows[:0],
            CLASSES[:0],
            ValueError,
            NOT_ROWS.format((0, 3), (0,)),
            rows,
            CLASSES,
        ),
        "classes from one": (
            rows,
            torch.tensor([0, 3]),
            ValueError,
            NO_CLASS.format(2, [3]),
            rows,
            torch.tensor([0, 1]),
        ),
        "a class below zero": (
            rows,
            torch.tensor([-1, 1]),
            ValueError,
            NO_CLASS.format(2, [-1]),
            rows,
            torch.tensor([0, 1]),
        ),
    }


Data = tuple[Tensor, Tensor]


def in_units(z: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Gaps to the largest logit in units of T, probabilities, and the mean gap of each row."""
    z = z.double()
    gaps = (z.amax(-1, keepdim=True) / 2 - z / 2) / (temperature / 2)
    p = torch.softmax(-gaps, -1)
    return gaps, p, (p * gaps).sum(-1, keepdim=True)


def accuracy(z: Tensor, temperature: float, moved: float = 0.0) -> float:
    """Largest relative error of the root of the derivative, computed in float64.

    Rounding moves the derivative by the errors of p times the gaps, as strategies.softmax_bound
    counts them, and of its means over the rows, and by logits moved by ``moved``; its root by that
    over its slope, the mean variance.
    """
    gaps, p, mean = in_units(z, temperature)
    variance = (p * (gaps - mean) ** 2).sum(-1).mean()
    of_p = (p * gaps * (3 * gaps + 3 * mean + 2 * z.shape[1] + 20)).sum(-1).mean()
    of_means = 2 * (len(z) + 2) * mean.mean()
    shifts = moved / temperature * (2 + variance.sqrt())
    return float((U * (of_p + of_means) + shifts) / variance)


def rounding_of_loss(z: Tensor, labels: Tensor, temperature: float) -> float:
    """Largest error of :func:`loss_at`: of log-probabilities, and of their mean."""
    size = z.double().abs().max().item() / temperature + math.log(z.shape[1])
    return U * (len(z) * loss_at(z, labels, temperature) + 8 * size + z.shape[1] + 32)


def slope(z: Tensor, labels: Tensor, log_beta: float) -> float:
    """Mean over the rows of E_p[z] - z_y, the derivative of the loss in beta, by SciPy."""
    values = z.double().numpy()
    values = values - values.max(-1, keepdims=True)
    p = scipy.special.softmax(values * math.exp(log_beta), axis=-1)
    chosen = values[np.arange(len(values)), labels.numpy()]
    return float(((p * values).sum(-1) - chosen).mean())


def best_temperature(z: Tensor, labels: Tensor) -> float:
    """The root of the derivative, bracketed and bisected: it needs no loss."""
    # Around one in units of the mean gap.
    log_scale = math.log((z.double().amax(-1, keepdim=True) - z.double()).mean().item())
    root = scipy.optimize.brentq(
        lambda x: slope(z, labels, x), -log_scale - 30, -log_scale + 30, xtol=1e-14, rtol=1e-14
    )
    return math.exp(-root)


def assert_best(z: Tensor, labels: Tensor) -> None:
    """The fit is the root of the derivative; each of the two is off by rounding."""
    best = best_temperature(z, labels)
    # brentq stops within 1e-14 of log T, and 1e-14 of its size.
    stop = 1e-14 * (2 + abs(math.log(best)))
    assert fit_temperature(z, labels) == pytest.approx(best, rel=2 * accuracy(z, best) + stop)


def loss_at(z: Tensor, labels: Tensor, temperature: float) -> float:
    distribution = torch.distributions.Categorical(logits=z.double() / temperature)
    return -float(distribution.log_prob(labels).mean())


def levels(z: Tensor, labels: Tensor) -> tuple[Fraction, Fraction, Fraction]:
    """Exact means of the labels' logits, of all, and of the largest."""
    of_labels = z.gather(-1, labels.unsqueeze(-1)).flatten()
    chosen, every, largest = (
        sum(map(Fraction, values.tolist()), Fraction()) / values.numel()
        for values in (of_labels, z.flatten(), z.amax(-1))
    )
    return chosen, every, largest
