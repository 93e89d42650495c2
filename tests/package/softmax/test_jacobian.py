from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from mpmath import mp
from torch import Tensor

from omnivault.softmax import Softmax, softmax, softmax_jacobian
from tests.package.softmax.common import (
    INF,
    ROWS_FOR_MPMATH,
    dtypes,
    half_rounding,
    random_logits,
    slack,
    some_temperatures,
)
from tests.support.strategies import (
    arithmetic,
    as_double,
    assert_within,
    exact_softmax,
    rows,
    smallest,
    softmax_bound,
    temperatures,
    unit,
)


def jacobian_bound(z: Tensor, temperature: float) -> Tensor:
    """Relative errors of p_i and p_j add up; the diagonal is a sum of such products."""
    wide = z.to(arithmetic(z.dtype))
    p = torch.softmax(wide.double() / temperature, -1)
    error = softmax_bound(wide, temperature)
    outer = p.unsqueeze(-1) * error.unsqueeze(-2) + error.unsqueeze(-1) * p.unsqueeze(-2)
    off_diagonal = outer - torch.diag_embed(outer.diagonal(dim1=-2, dim2=-1))
    bound = (off_diagonal + torch.diag_embed(off_diagonal.sum(-1))) / temperature
    return 2 * bound + 2 * smallest(arithmetic(z.dtype)) * (1 + 1 / temperature)


def exact_jacobian(z: Tensor, temperature: float) -> Tensor:
    p = exact_softmax(z, temperature)
    # 1 - p_i as the sum of the others: 50 digits do not hold a p_i that is 1e-60 below 1.
    rest = [mp.fsum(p[:i] + p[i + 1 :]) for i in range(len(p))]
    return torch.stack(
        [
            as_double(
                [(p_i * rest[i] if i == j else -p_i * p_j) / temperature for j, p_j in enumerate(p)]
            )
            for i, p_i in enumerate(p)
        ]
    )


@pytest.mark.parametrize("shape", [(1,), (2,), (6,), (1, 4), (3, 4), (2, 3, 4), (0, 3), (2, 1)])
@dtypes
@some_temperatures
def test_jacobian_is_what_autograd_finds(
    shape: tuple[int, ...], dtype: torch.dtype, temperature: float
) -> None:
    z = random_logits(*shape).to(dtype)
    jacobian = softmax_jacobian(z, temperature=temperature)
    assert jacobian.dtype is dtype
    assert jacobian.shape == (*shape, shape[-1])
    flat = z.double().reshape(-1, shape[-1])
    expected = [
        torch.func.jacrev(lambda x: torch.softmax(x / temperature, -1))(row) for row in flat
    ]
    if not expected:
        return
    oracle = torch.stack(expected).reshape(jacobian.shape)
    bound = slack(dtype) * jacobian_bound(z, temperature) + half_rounding(oracle, dtype)
    # Autograd subtracts on the diagonal, p_i - p_i p_i, and cancels there.
    assert_within(jacobian, oracle, bound + 4 * unit(torch.float64) / temperature)


@pytest.mark.parametrize("values", ROWS_FOR_MPMATH.values(), ids=ROWS_FOR_MPMATH.keys())
@dtypes
@some_temperatures
def test_jacobian_against_fifty_digits(
    values: list[float], dtype: torch.dtype, temperature: float
) -> None:
    z = torch.tensor(values, dtype=dtype)
    expected = exact_jacobian(z, temperature)
    assert_within(
        softmax_jacobian(z, temperature=temperature),
        expected,
        jacobian_bound(z, temperature) + half_rounding(expected, dtype),
    )


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0.0, -20.0], torch.float32),
        ([0.0, -40.0], torch.float32),
        ([0.0, -40.0], torch.float64),
        ([0.0, -300.0], torch.float64),
        ([0.0, -20.0, -25.0], torch.float32),
    ],
)
def test_jacobian_keeps_its_digits_where_a_probability_rounds_to_one(
    values: list[float], dtype: torch.dtype
) -> None:
    z = torch.tensor(values, dtype=dtype)
    assert softmax(z)[0].item() == 1.0
    expected = exact_jacobian(z, 1.0)
    relative = ((softmax_jacobian(z).double() - expected) / expected).abs().max().item()
    # Two factors p, each with the relative error of the bound, plus their product and sum.
    gap = z[0].item() - z[-1].item()
    assert relative <= unit(dtype) * (2 * (3 * gap + 16) + 4)


@given(rows(2, 8), temperatures())
def test_jacobian_is_symmetric_positive_semidefinite_with_rows_summing_to_zero(
    z: Tensor, temperature: float
) -> None:
    jacobian = softmax_jacobian(z, temperature=temperature)
    assert torch.equal(jacobian, jacobian.mT)
    assert bool((jacobian.diagonal() >= 0).all())
    scale = 1 / temperature
    k = len(z)
    # Sums of K numbers of size 1/T; eigenvalues of a matrix of norm 1/(2T) move with its rounding.
    assert jacobian.sum(-1).abs().max().item() <= k * 2 * unit(z.dtype) * scale
    assert torch.linalg.eigvalsh(jacobian).min().item() >= -k * 4 * unit(z.dtype) * scale


def test_jacobian_of_masked_and_undefined_rows() -> None:
    masked = softmax_jacobian(torch.tensor([0.0, -INF, 0.0]))
    assert masked.tolist() == [[0.25, 0.0, -0.25], [0.0, 0.0, 0.0], [-0.25, 0.0, 0.25]]
    assert bool(softmax_jacobian(torch.tensor([-INF, -INF])).isnan().all())
    assert softmax_jacobian(torch.tensor([4.0])).tolist() == [[0.0]]


@pytest.mark.parametrize(
    ("shape", "dim"),
    [
        ((5,), 0),
        ((5,), -1),
        ((1, 5), -1),
        ((4, 5), 0),
        ((2, 5, 3), 1),
        ((2, 5, 3), -2),
        ((0, 5), 1),
    ],
)
@dtypes
def test_layer_is_softmax_along_its_dimension(
    shape: tuple[int, ...], dim: int, dtype: torch.dtype
) -> None:
    z = random_logits(*shape).to(dtype)
    p = Softmax(dim)(z)
    assert p.dtype is dtype
    assert_within(p, torch.nn.Softmax(dim)(z.double()), slack(dtype) * softmax_bound(z, 1.0, dim))
    assert Softmax(dim=dim).dim == dim


def test_layer_takes_the_last_dimension_by_default() -> None:
    z = random_logits(3, 4)
    assert torch.equal(Softmax()(z), softmax(z, -1))
    assert Softmax().dim == -1


@pytest.mark.parametrize(
    ("shape", "dim", "gradient_shape"),
    [
        ((5,), 0, (5, 5)),
        ((1, 5), -1, (1, 5, 5)),
        ((1, 5), 0, (5, 1, 1)),
        ((4, 5), 0, (5, 4, 4)),
        ((2, 5, 3), 1, (2, 3, 5, 5)),
        ((2, 5, 3), -2, (2, 3, 5, 5)),
        ((2, 5, 3), 0, (5, 3, 2, 2)),
    ],
)
def test_layer_gradient_puts_the_classes_last(
    shape: tuple[int, ...], dim: int, gradient_shape: tuple[int, ...]
) -> None:
    z = random_logits(*shape)
    gradient = Softmax(dim).gradient(z)
    assert gradient.shape == gradient_shape
    full = torch.func.jacrev(lambda x: torch.softmax(x, dim))(z)
    # full[a, b] = d p_a / d z_b over whole index tuples; what leaves a row is zero.
    # Autograd subtracts on the diagonal, p_i - p_i p_i.
    bound = 2 * jacobian_bound(z.movedim(dim, -1), 1.0) + 4 * unit(z.dtype)
    d = dim % len(shape)
    for index in np.ndindex(*shape):
        batch = index[:d] + index[d + 1 :]
        line = (*index[:d], slice(None), *index[d + 1 :])
        assert_within(gradient[batch][index[d]], full[index][line], bound[batch][index[d]])
