"""The definition `calibration-definition`: Calibration."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import pytest
import scipy.stats
import torch
from torch import Tensor

from omnivault.softmax import softmax

FALSE_ALARM = 1e-6
DRAWS = 200_000


def logits_of(n: int) -> Tensor:
    """n rows: every order of three rows of logits, so that many rows give a class the same q."""
    base = [[0.0, 1.0, 2.0], [0.0, 0.5, -0.5], [3.0, 0.0, 0.0]]
    table = torch.tensor([list(p) for row in base for p in permutations(row)], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    return table[torch.randint(len(table), (n,), generator=generator)]


def labels_of(p: Tensor) -> Tensor:
    """One draw per row by inverting its distribution function."""
    generator = torch.Generator().manual_seed(1)
    u = torch.rand(len(p), 1, generator=generator, dtype=torch.float64)
    return (p.cumsum(-1) < u).sum(-1).clamp(max=p.shape[-1] - 1)


def least_p_value(p: Tensor, labels: Tensor) -> float:
    """Chi-square test, for every announced q, that the labels below it have distribution q.

    The smallest p-value, times the number of tests (Bonferroni).
    """
    p_values: list[float] = []
    # The weights of one row in another order may sum to another last digit.
    distributions, group = torch.unique(p.round(decimals=12), dim=0, return_inverse=True)
    for i, q in enumerate(distributions):
        counts = torch.bincount(labels[group == i], minlength=p.shape[-1]).double()
        expected = q * counts.sum()
        # Enough in every cell for the chi-square distribution to be accurate far in its tail.
        assert expected.min() > 50
        p_values.append(float(scipy.stats.chisquare(counts.numpy(), expected.numpy()).pvalue))
    return min(1.0, min(p_values) * len(p_values))


def least_p_value_by_class(p: Tensor, labels: Tensor) -> float:
    """What follows for single numbers, P(Y = k | p_k = q) = q: exact binomial tests."""
    p_values: list[float] = []
    for k in range(p.shape[-1]):
        numbers, group = torch.unique(p[:, k].round(decimals=12), return_inverse=True)
        sizes = torch.bincount(group).tolist()
        hits = torch.bincount(group[labels == k], minlength=len(numbers)).tolist()
        p_values += [
            float(scipy.stats.binomtest(hit, size, q).pvalue)
            for hit, size, q in zip(hits, sizes, numbers.tolist(), strict=True)
        ]
    return min(1.0, min(p_values) * len(p_values))


@pytest.mark.statement("calibration-definition", "statistical", false_alarm=2e-6)
@pytest.mark.parametrize("test", [least_p_value, least_p_value_by_class])
def test_labels_drawn_from_softmax_make_it_calibrated(
    test: Callable[[Tensor, Tensor], float],
) -> None:
    # Other seeds would fail with a probability of at most FALSE_ALARM.
    labels = labels_of(torch.softmax(logits_of(DRAWS), -1))
    assert test(softmax(logits_of(DRAWS)), labels) > FALSE_ALARM


@pytest.mark.statement("calibration-definition", "statistical", false_alarm=0.003)
@pytest.mark.parametrize("test", [least_p_value, least_p_value_by_class])
@pytest.mark.parametrize("temperature", [0.5, 0.95, 1.1, 2.0])
def test_another_temperature_is_not_calibrated(
    temperature: float, test: Callable[[Tensor, Tensor], float]
) -> None:
    z = logits_of(DRAWS)
    labels = labels_of(torch.softmax(z, -1))
    q = softmax(z, temperature=temperature)
    # The winners, and with them the accuracy, are the same; the probabilities are wrong.
    assert torch.equal(q.argmax(-1), z.argmax(-1))
    # Other seeds would hide the temperature 0.95 with a probability of 0.0023, by the noncentral
    # chi-square distribution, and the others never.
    assert test(q, labels) < FALSE_ALARM


@pytest.mark.statement("calibration-definition", "statistical", false_alarm=1e-6)
def test_calibration_is_not_accuracy() -> None:
    # Always announcing the overall frequencies is calibrated, and knows nothing about any row.
    z = logits_of(DRAWS)
    truth = torch.softmax(z, -1)
    labels = labels_of(truth)
    # Every order of a row is as likely as any other, so each class comes up a third of the time.
    announced = softmax(torch.zeros_like(z))
    assert least_p_value(announced, labels) > FALSE_ALARM
    informed = (truth.argmax(-1) == labels).double().mean().item()
    ignorant = (announced.argmax(-1) == labels).double().mean().item()
    assert informed > ignorant + 0.2
