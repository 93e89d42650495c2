"""The theorem `variational`: Variational characterization."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from mpmath import mp
from torch import Tensor

from omnivault.information import entropy
from omnivault.softmax import logsumexp, softmax
from tests.chapters.properties.common import U
from tests.support.strategies import assert_within, exact_softmax, rows, temperatures, whole_rows


@st.composite
def simplex_points(draw: DrawFn, size: int) -> Tensor:
    """Any point of the simplex: faces, vertices and the center included."""
    weights = draw(
        st.lists(st.integers(0, 8), min_size=size, max_size=size).filter(lambda w: sum(w) > 0)
    )
    p = torch.tensor(weights, dtype=torch.float64)
    return p / p.sum()


def objective(p: Tensor, z: Tensor, temperature: float) -> Tensor:
    return (p * z).sum() + temperature * entropy(p)


@pytest.mark.statement("variational", "exact")
@given(st.data(), temperatures(0.1, 20.0))
def test_the_gap_is_t_times_the_divergence_from_softmax(
    data: st.DataObject, temperature: float
) -> None:
    z = data.draw(rows(1, 6, bound=20.0))
    q = data.draw(simplex_points(len(z)))
    gap = logsumexp(z, temperature=temperature) - objective(q, z, temperature)
    # KL from exact logarithms: log p is (z - LSE) / T and underflows nowhere.
    log_p = [mp.log(x) for x in exact_softmax(z, temperature)]
    divergence = mp.fsum(
        mp.mpf(a) * (mp.log(mp.mpf(a)) - b) for a, b in zip(q.tolist(), log_p, strict=True) if a > 0
    )
    # Terms up to |z| + T log K, a few roundings each; q sums to 1 only to K u, which the gap
    # multiplies by LSE.
    size = z.abs().max().item() + temperature * (math.log(len(z)) + 1)
    allowed = (4 * len(z) + 32) * U * size
    assert_within(gap, temperature * divergence, allowed)
    assert gap.item() >= -allowed


@pytest.mark.statement("variational")
@given(rows(1, 8, bound=20.0), temperatures(0.1, 20.0))
def test_softmax_attains_the_maximum(z: Tensor, temperature: float) -> None:
    p = softmax(z, temperature=temperature)
    size = z.abs().max().item() + temperature * (math.log(len(z)) + 1)
    # The objective is flat at the top: the error of p enters squared, the sum of p once.
    allowed = (4 * len(z) + 32) * U * size
    attained = objective(p, z, temperature)
    assert_within(attained, logsumexp(z, temperature=temperature), allowed)


@pytest.mark.statement("variational")
@given(st.data(), temperatures(0.1, 20.0))
def test_nothing_else_attains_it(data: st.DataObject, temperature: float) -> None:
    z = data.draw(whole_rows(2, 6, bound=5))
    q = data.draw(simplex_points(len(z)))
    distance = (q - softmax(z, temperature=temperature)).abs().sum().item()
    gap = logsumexp(z, temperature=temperature) - objective(q, z, temperature)
    # Pinsker: KL is at least half the squared L1 distance.
    size = 5 + temperature * (math.log(len(z)) + 1)
    allowed = (4 * len(z) + 32) * U * size
    assert gap.item() >= temperature * distance**2 / 2 - allowed
    assume(distance > 1e-3)
    assert gap.item() > 0


@pytest.mark.statement("variational")
@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
def test_corners_and_center(temperature: float) -> None:
    z = torch.tensor([1.0, 3.0, 3.0], dtype=torch.float64)
    center = torch.full((3,), 1 / 3, dtype=torch.float64)
    value = logsumexp(z, temperature=temperature).item()
    for corner, logit in zip(torch.eye(3, dtype=torch.float64), z.tolist(), strict=True):
        assert objective(corner, z, temperature).item() == logit
        assert logit < value
    at_center = objective(center, z, temperature).item()
    # Logarithms of 4 units in the last place, products and sums of three.
    assert_within(at_center, 7 / 3 + temperature * math.log(3), rel=16 * U)
    assert at_center < value
