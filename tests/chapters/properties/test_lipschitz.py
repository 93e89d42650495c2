"""The theorem `lipschitz`: Softmax is Lipschitz with constant 1/(2T)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.properties.common import U
from tests.support.strategies import row_pairs, softmax_bound, temperatures, whole_row_pairs


@pytest.mark.statement("lipschitz")
@given(row_pairs(1, 8), temperatures())
def test_softmax_moves_at_most_the_distance_over_2t(
    pair: tuple[Tensor, Tensor], temperature: float
) -> None:
    u, v = pair
    moved = softmax(u, temperature=temperature) - softmax(v, temperature=temperature)
    # Rounding: the error of each end, which matters when the ends are close.
    rounding = (softmax_bound(u, temperature) + softmax_bound(v, temperature)).norm().item()
    # Either norm has eight differences, squares, a sum of them and a root.
    limit = (u - v).norm().item() / (2 * temperature)
    assert moved.norm().item() <= limit * (1 + 16 * U) + rounding


@pytest.mark.statement("lipschitz")
@pytest.mark.statement("lipschitz-sharp")
@given(st.floats(-5.0, 5.0), st.floats(1e-9, 1.0), st.integers(0, 6), temperatures())
def test_even_where_it_moves_fastest(
    level: float, step: float, others: int, temperature: float
) -> None:
    # Two tied logits pulled apart, the others far below: the direction of the largest slope.
    rest = torch.full((others,), level - 40 * temperature, dtype=torch.float64)
    u = torch.cat([torch.tensor([level, level], dtype=torch.float64), rest])
    v = u.clone()
    v[0] += step
    v[1] -= step
    moved = softmax(u, temperature=temperature) - softmax(v, temperature=temperature)
    rounding = (softmax_bound(u, temperature) + softmax_bound(v, temperature)).norm().item()
    limit = (u - v).norm().item() / (2 * temperature)
    assert moved.norm().item() <= limit * (1 + 16 * U) + rounding
    # The bound is not idle: tanh(x) >= x - x^3 / 3 with x = step / T. The others have e^-40 each.
    assert (
        moved.norm().item() >= limit * (1 - (step / temperature) ** 2 / 3) * (1 - 24 * U) - rounding
    )


@pytest.mark.statement("lipschitz")
def test_in_floating_point_neighbors_can_break_the_bound() -> None:
    # The logits are one float apart; their images are rounded each for itself.
    ratios = []
    for start in torch.linspace(0.1, 3.0, 500):
        u = torch.stack([start, torch.tensor(0.0)])
        v = torch.stack([torch.nextafter(start, torch.tensor(9.0)), torch.tensor(0.0)])
        moved = (softmax(u).double() - softmax(v).double()).norm()
        ratios.append((moved / ((v.double() - u.double()).norm() / 2)).item())
    assert max(ratios) > 1
    # In float64 the same pairs keep it.
    u, v = torch.tensor([1.0, 0.0]).double(), torch.tensor([1.0 + 2**-23, 0.0]).double()
    assert (softmax(u) - softmax(v)).norm() < (u - v).norm() / 2


@pytest.mark.statement("lipschitz")
@given(whole_row_pairs(1, 6, bound=5), temperatures(0.5, 10.0))
def test_chords_are_strictly_shorter(pair: tuple[Tensor, Tensor], temperature: float) -> None:
    u, v = pair
    assume(not torch.equal(u, v))
    moved = softmax(u, temperature=temperature) - softmax(v, temperature=temperature)
    # At most tanh(x) / x of the limit with x = |u - v| / (2 sqrt(2) T), at least 1 / 29.
    assert moved.norm().item() < (u - v).norm().item() / (2 * temperature) * (1 - 1e-5)
