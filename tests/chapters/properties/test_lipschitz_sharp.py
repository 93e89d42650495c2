"""The theorem `lipschitz-sharp`: The constant is sharp."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from omnivault.softmax import softmax, softmax_jacobian
from tests.chapters.properties.common import U, svd_error
from tests.support.strategies import assert_within, temperatures, whole_rows


def spectral_norm(z: Tensor, temperature: float) -> float:
    return float(torch.linalg.svdvals(softmax_jacobian(z, temperature=temperature))[0])


@pytest.mark.statement("lipschitz-sharp")
@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0, 50.0])
@pytest.mark.parametrize("level", [-7.0, 0.0, 2.0])
def test_two_equal_logits_have_slope_1_over_2t(level: float, temperature: float) -> None:
    z = torch.full((2,), level, dtype=torch.float64)
    assert_within(spectral_norm(z, temperature), 1 / (2 * temperature), rel=svd_error(2))


@pytest.mark.statement("lipschitz-sharp")
@given(st.integers(-15, 15), temperatures(1.0, 10.0))
def test_of_two_classes_only_equal_logits_have_it(gap: int, temperature: float) -> None:
    z = torch.tensor([float(gap), 0.0], dtype=torch.float64)
    # J = s (1 - s) [[1, -1], [-1, 1]] / T has norm 2 s (1 - s) / T = 1 / (2 T cosh(gap / 2T)^2).
    expected = 1 / (2 * temperature * math.cosh(gap / (2 * temperature)) ** 2)
    assert_within(spectral_norm(z, temperature), expected, rel=(6 * 15 + 64) * U)
    # A gap of 1 at T = 10 lowers it by 1 / 400.
    assert (spectral_norm(z, temperature) < 1 / (2 * temperature) * (1 - 1e-6)) == (gap != 0)


@pytest.mark.statement("lipschitz-sharp")
@given(whole_rows(3, 8, bound=5), temperatures(1.0, 10.0))
def test_of_more_classes_none_has_it(z: Tensor, temperature: float) -> None:
    # In each class there is at least exp(-10) / 8 = 6e-6, which keeps J that far from the limit.
    assert spectral_norm(z, temperature) < 1 / (2 * temperature) * (1 - 1e-7)


@pytest.mark.statement("lipschitz-sharp")
@pytest.mark.parametrize("k", [3, 4, 10])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_of_more_classes_it_is_approached(k: int, temperature: float) -> None:
    for m in (0.0, 1.0, 3.0, 10.0, 20.0, 30.0):
        z = torch.tensor([0.0, 0.0] + [-m * temperature] * (k - 2), dtype=torch.float64)
        # (1, -1, 0, ..., 0) is an eigenvector, with eigenvalue p_1 / T.
        share = 1 / (2 + (k - 2) * math.exp(-m))
        norm = spectral_norm(z, temperature)
        # p_1 twice, off by 24 u, a few operations, and the norm.
        error = 64 * U + svd_error(k)
        assert norm >= share / temperature * (1 - error)
        # No other eigenvalue is larger from m = 1 on: they are at most max of p, 2 p (1 - 2 p).
        if m >= 3:
            assert_within(norm, share / temperature, rel=error)
        # At m = 30 the others have (k - 2) e^-30 / 2, twice the error or more.
        assert norm < 1 / (2 * temperature)
    assert norm > (1 - k * math.exp(-m)) / (2 * temperature)


@pytest.mark.statement("lipschitz-sharp")
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_slope_of_the_chord_is_attained_in_the_limit_only(temperature: float) -> None:
    center = torch.zeros(2, dtype=torch.float64)
    ratios = []
    for step in (4.0, 1.0, 0.25, 1e-2, 1e-4):
        direction = step * torch.tensor([1.0, -1.0], dtype=torch.float64)
        moved = softmax(center + direction, temperature=temperature) - softmax(
            center, temperature=temperature
        )
        ratio = (moved.norm() / direction.norm()).item() * 2 * temperature
        x = step / temperature
        # p_1 - 1/2 = tanh(x) / 2, of which p is off by 16 u, over x; two norms, the quotient.
        assert_within(ratio, math.tanh(x) / x, rel=32 * U * (1 + 1 / x))
        ratios.append(ratio)
    # 1 - x^2 / 3 at the last, with x down to 2.5e-5: the error is two thirds of that.
    assert all(earlier < later < 1 for earlier, later in itertools.pairwise(ratios))
    assert ratios[-1] > 1 - x**2
