"""The theorem `not-scale-invariant`: Softmax is not scale-invariant."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from omnivault.softmax import log_softmax, softmax
from tests.chapters.properties.common import U, is_constant
from tests.support.strategies import log_softmax_bound, temperatures, whole_rows


@pytest.mark.statement("not-scale-invariant")
@given(
    whole_rows(1, 8, bound=5),
    st.floats(0.01, 10.0).filter(lambda c: abs(c - 1) > 1e-3),
    temperatures(1.0, 10.0),
)
def test_scaling_leaves_only_constant_logits_alone(z: Tensor, c: float, temperature: float) -> None:
    p = softmax(z, temperature=temperature)
    scaled = softmax(c * z, temperature=temperature)
    if is_constant(z):
        assert torch.equal(scaled, p)
        assert torch.equal(p, torch.full_like(p, 1 / len(z)))
        return
    assert not torch.equal(scaled, p)
    # log p(c z) - log p(z) is (c - 1) z / T up to a constant, so some entry of it is at least
    # half its spread.
    change = log_softmax(c * z, temperature=temperature) - log_softmax(z, temperature=temperature)
    spread = abs(c - 1) * (z.max() - z.min()).item() / temperature
    allowed = log_softmax_bound(c * z, temperature) + log_softmax_bound(z, temperature)
    # c z is rounded, and the spread.
    allowed = allowed + U * (2 * (c * z).abs().max() / temperature + 4 * spread)
    assert change.abs().max().item() >= spread / 2 - allowed.max().item()


@pytest.mark.statement("not-scale-invariant")
@pytest.mark.parametrize(
    ("values", "c", "before", "after"),
    [
        (
            [10.0, 20.0, 30.0],
            0.01,
            [2.06e-9, 4.54e-5, 0.99995],
            [0.3006, 0.3322, 0.3672],
        ),
        (
            [1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0],
            0.1,
            [0.0236, 0.0643, 0.1747, 0.4748, 0.0236, 0.0643, 0.1747],
            [0.1250, 0.1381, 0.1526, 0.1687, 0.1250, 0.1381, 0.1526],
        ),
    ],
)
def test_the_examples_in_numbers(
    values: list[float], c: float, before: list[float], after: list[float]
) -> None:
    z = torch.tensor(values, dtype=torch.float64)
    # Written with three digits or four: half a unit of the last of them, at most.
    assert softmax(z).tolist() == pytest.approx(before, rel=2.5e-3)
    assert softmax(c * z).tolist() == pytest.approx(after, rel=5e-4)


@pytest.mark.statement("not-scale-invariant")
@given(whole_rows(1, 8), st.integers(-10, 10), temperatures())
def test_dividing_by_the_norm_first_makes_it_scale_invariant(
    z: Tensor, exponent: int, temperature: float
) -> None:
    assume(bool(z.any()))
    # A power of two scales every step exactly.
    scaled = 2.0**exponent * z
    assert torch.equal(scaled / scaled.norm(), z / z.norm())
    # Without the division the same two are told apart.
    same = torch.equal(
        softmax(scaled, temperature=temperature), softmax(z, temperature=temperature)
    )
    assert same == (exponent == 0 or is_constant(z))
