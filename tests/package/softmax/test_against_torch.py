from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from omnivault.softmax import log_softmax, logsumexp, softmax, softmax_jacobian
from tests.package.softmax.common import (
    Map,
    backward,
    dtypes,
    half_rounding,
    random_logits,
    slack,
    some_temperatures,
)
from tests.support.strategies import (
    arithmetic,
    assert_within,
    log_softmax_bound,
    logsumexp_bound,
    softmax_bound,
    unit,
)

# Each row: name, logits in float64, the dimension of the classes.
INPUTS: list[tuple[str, Callable[[], Tensor], int]] = [
    ("one class", lambda: random_logits(1), 0),
    ("two classes", lambda: random_logits(2), -1),
    ("a row", lambda: random_logits(7), -1),
    ("a row, dim 0", lambda: random_logits(7), 0),
    ("batch of one", lambda: random_logits(1, 5), -1),
    ("one class in a batch", lambda: random_logits(3, 1), 1),
    ("a batch dimension of one inside", lambda: random_logits(2, 1, 3), -1),
    ("classes down the columns", lambda: random_logits(4, 6), 0),
    ("classes down the columns, -2", lambda: random_logits(4, 6), -2),
    ("empty batch", lambda: random_logits(0, 5), -1),
    ("empty batch behind the classes", lambda: random_logits(5, 0), 0),
    *[
        (f"four dimensions, dim {dim}", lambda: random_logits(2, 3, 4, 5), dim)
        for dim in (0, 1, 2, 3, -1, -2, -3, -4)
    ],
    ("a vocabulary", lambda: random_logits(2, 50257), -1),
    ("transposed", lambda: random_logits(6, 4).T, -1),
    ("transposed, dim 0", lambda: random_logits(6, 4).T, 0),
    ("every other column", lambda: random_logits(3, 10)[:, ::2], -1),
    ("expanded", lambda: random_logits(5).expand(3, 5), -1),
    ("expanded over the classes", lambda: random_logits(3, 1).expand(3, 4), -1),
    ("all tied", lambda: torch.full((2, 4), 3.0, dtype=torch.float64), -1),
    ("two tied at the top", lambda: torch.tensor([[2.0, 1.0, 2.0]], dtype=torch.float64), -1),
]
inputs = pytest.mark.parametrize(
    ("make", "dim"), [pytest.param(make, dim, id=name) for name, make, dim in INPUTS]
)


def in_dtype(z: Tensor, dtype: torch.dtype) -> Tensor:
    """Round to ``dtype`` and keep the strides, which Tensor.to does not where there are gaps."""
    once = z[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in z.stride())]
    rounded = torch.empty_strided(once.shape, once.stride(), dtype=dtype).copy_(once)
    return rounded.expand(z.shape)


def test_the_table_of_inputs_has_strides_of_every_kind() -> None:
    made = {name: in_dtype(make(), torch.float16) for name, make, _ in INPUTS}
    assert made["transposed"].stride() == (1, 4)
    assert made["every other column"].stride() == (10, 2)
    assert made["expanded"].stride() == (0, 1)
    assert made["expanded over the classes"].stride() == (1, 0)


def in_any_order(z: Tensor, dim: int) -> float:
    """Relative error of a float64 sum of the classes.

    The maps of torch do not add them in a cascade, as the bounds have it, but one by one.
    """
    return z.shape[dim] * unit(torch.float64)


@inputs
@dtypes
@some_temperatures
def test_softmax_is_torch_softmax_of_z_over_t(
    make: Callable[[], Tensor], dim: int, dtype: torch.dtype, temperature: float
) -> None:
    z = in_dtype(make(), dtype)
    p = softmax(z, dim, temperature=temperature)
    assert p.dtype is dtype
    expected = torch.softmax(z.double() / temperature, dim)
    oracle = in_any_order(z, dim) * expected
    assert_within(p, expected, slack(dtype) * softmax_bound(z, temperature, dim) + oracle)


@inputs
@dtypes
@some_temperatures
def test_log_softmax_is_torch_log_softmax_of_z_over_t(
    make: Callable[[], Tensor], dim: int, dtype: torch.dtype, temperature: float
) -> None:
    z = in_dtype(make(), dtype)
    log_p = log_softmax(z, dim, temperature=temperature)
    assert log_p.dtype is dtype
    expected = torch.log_softmax(z.double() / temperature, dim)
    oracle = in_any_order(z, dim)
    assert_within(log_p, expected, slack(dtype) * log_softmax_bound(z, temperature, dim) + oracle)


@inputs
@dtypes
@some_temperatures
def test_logsumexp_is_t_times_torch_logsumexp_of_z_over_t(
    make: Callable[[], Tensor], dim: int, dtype: torch.dtype, temperature: float
) -> None:
    z = in_dtype(make(), dtype)
    value = logsumexp(z, dim, temperature=temperature)
    assert value.dtype is dtype
    expected = temperature * torch.logsumexp(z.double() / temperature, dim)
    oracle = temperature * in_any_order(z, dim)
    assert_within(value, expected, slack(dtype) * logsumexp_bound(z, temperature, dim) + oracle)


@pytest.mark.parametrize("subject", [softmax, log_softmax, logsumexp])
def test_last_dimension_and_unit_temperature_are_the_defaults(subject: Map) -> None:
    z = random_logits(3, 4)
    assert torch.equal(subject(z), subject(z, -1, temperature=1.0))
    assert not torch.equal(subject(z), subject(z, -1, temperature=2.0))


@pytest.mark.parametrize("subject", [softmax, log_softmax, logsumexp, softmax_jacobian])
@dtypes
def test_the_logits_are_left_as_they_were(subject: Map, dtype: torch.dtype) -> None:
    z = random_logits(3, 4).to(dtype)
    before = z.clone()
    subject(z, temperature=0.5)
    assert torch.equal(z, before)


@dtypes
@pytest.mark.parametrize("temperature", [1.0, 0.01, 1e30])
def test_ties_share_one_float(dtype: torch.dtype, temperature: float) -> None:
    # 19 entries: past the widest vector of any processor, so that some are computed in a tail.
    p = softmax(torch.full((19,), -7.0, dtype=dtype), temperature=temperature)
    assert torch.equal(p, torch.full((19,), 1 / 19, dtype=arithmetic(dtype)).to(dtype))


def upstream_like(z: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(z.shape, generator=generator, dtype=torch.float64).to(z.dtype)


@inputs
@dtypes
@some_temperatures
def test_softmax_backward_is_torch(
    make: Callable[[], Tensor], dim: int, dtype: torch.dtype, temperature: float
) -> None:
    z = in_dtype(make(), dtype)
    v = upstream_like(z)
    gradient = backward(softmax, z, v, dim, temperature=temperature)
    assert gradient.dtype is dtype
    zd, vd = z.double(), v.double()
    expected = backward(lambda x, d: torch.softmax(x / temperature, d), zd, vd, dim)
    # p_i (v_i - <p, v>) / T: every factor carries the error of p, times the largest |v|. The
    # bound of p counts its half-precision rounding, but the saved p is not rounded: float(z).
    wide = z.to(arithmetic(dtype))
    largest = vd.abs().amax(dim, keepdim=True) if z.numel() else vd.abs()
    bound = 4 * softmax_bound(wide, temperature, dim) * largest / temperature
    # Of p, and of <p, v>.
    oracle = 3 * in_any_order(z, dim) * torch.softmax(zd / temperature, dim) * largest / temperature
    assert_within(
        gradient, expected, slack(dtype) * bound + oracle + half_rounding(expected, dtype)
    )


@inputs
@dtypes
@some_temperatures
def test_log_softmax_backward_is_torch(
    make: Callable[[], Tensor], dim: int, dtype: torch.dtype, temperature: float
) -> None:
    z = in_dtype(make(), dtype)
    v = upstream_like(z)
    gradient = backward(log_softmax, z, v, dim, temperature=temperature)
    assert gradient.dtype is dtype
    zd, vd = z.double(), v.double()
    expected = backward(lambda x, d: torch.log_softmax(x / temperature, d), zd, vd, dim)
    # (v_i - p_i sum v) / T: the error of p times sum |v|, the cascade's in sum v, and three more
    # roundings of the terms.
    wide = z.to(arithmetic(dtype))
    total = vd.abs().sum(dim, keepdim=True)
    u = unit(arithmetic(dtype))
    p = torch.softmax(zd / temperature, dim)
    bound = softmax_bound(wide, temperature, dim) * total + 4 * u * (vd.abs() + 3 * p * total)
    bound = bound / temperature
    # Of p, and of sum v.
    oracle = 2 * in_any_order(z, dim) * p * total / temperature
    assert_within(
        gradient, expected, slack(dtype) * bound + oracle + half_rounding(expected, dtype)
    )


@inputs
@dtypes
@some_temperatures
def test_logsumexp_backward_is_torch(
    make: Callable[[], Tensor], dim: int, dtype: torch.dtype, temperature: float
) -> None:
    z = in_dtype(make(), dtype)
    gradient = backward(logsumexp, z, None, dim, temperature=temperature)
    assert gradient.dtype is dtype
    expected = torch.softmax(z.double() / temperature, dim)
    # Times T, then over T: two roundings more than softmax.
    bound = 2 * softmax_bound(z, temperature, dim)
    oracle = in_any_order(z, dim) * expected
    assert_within(gradient, expected, slack(dtype) * bound + oracle)


GRADCHECK_ROWS = {
    "modest": [[0.3, -1.2, 2.0], [1.0, 0.0, -1.0]],
    "tie at the top": [[2.0, 2.0, -1.0], [0.0, 1.0, 1.0]],
    "all tied": [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]],
    "two classes": [[1.0, 1.0], [0.0, 3.0]],
    "one class": [[1.0], [-2.0]],
}


@pytest.mark.parametrize("subject", [softmax, log_softmax, logsumexp, softmax_jacobian])
@pytest.mark.parametrize("values", GRADCHECK_ROWS.values(), ids=GRADCHECK_ROWS.keys())
@pytest.mark.parametrize("temperature", [1.0, 0.7, 3.0])
def test_first_and_second_derivatives_are_difference_quotients(
    subject: Map, values: list[list[float]], temperature: float
) -> None:
    z = torch.tensor(values, dtype=torch.float64, requires_grad=True)

    def at_temperature(x: Tensor) -> Tensor:
        return subject(x, temperature=temperature)

    assert torch.autograd.gradcheck(at_temperature, (z,))
    assert torch.autograd.gradgradcheck(at_temperature, (z,))


@pytest.mark.parametrize("dim", [0, 1, -2])
def test_derivatives_along_any_dimension(dim: int) -> None:
    z = random_logits(3, 4).requires_grad_()
    for subject in (softmax, log_softmax, logsumexp):
        assert torch.autograd.gradcheck(lambda x, f=subject: f(x, dim), (z,))
