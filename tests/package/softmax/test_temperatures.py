"""One contract of temperature: a number, or a tensor with one for each row."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from omnivault.decoding import sample_sequence
from omnivault.sampling import apply_temperature, plain_sample, sample
from omnivault.softmax import (
    log_softmax,
    logsumexp,
    softmax,
    softmax_hessian,
    softmax_jacobian,
    softmax_vjp,
)
from omnivault.speculative import speculative_sequence
from tests.package.softmax.common_derivatives import function

TEMPERATURES = torch.tensor([[0.3, 1.0, 7.0], [0.5, 2.0, 0.1]])
MAPS: dict[str, Callable[..., Tensor]] = {
    "softmax": softmax,
    "log_softmax": log_softmax,
    "logsumexp": logsumexp,
    "softmax_jacobian": softmax_jacobian,
    "softmax_hessian": softmax_hessian,
    "softmax_vjp": lambda p, temperature: softmax_vjp(p, p.flip(-1), temperature=temperature),
    "apply_temperature": apply_temperature,
}
every_map = pytest.mark.parametrize("name", MAPS)


def logits() -> Tensor:
    return torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))


def softmaxes(z: Tensor) -> Tensor:
    return torch.softmax(z, -1)


@every_map
def test_each_row_is_computed_at_its_own_temperature(name: str) -> None:
    z = softmaxes(logits())  # so that the one that takes probabilities has some
    together = MAPS[name](z, temperature=TEMPERATURES)
    for i in range(2):
        for j in range(3):
            alone = MAPS[name](z[i, j], temperature=TEMPERATURES[i, j].item())
            assert torch.equal(together[i, j], alone)


@pytest.mark.parametrize("subject", [softmax, log_softmax, logsumexp])
@pytest.mark.parametrize("dim", [0, 1, -1, -2, -3])
def test_rows_are_those_of_the_dimension(subject: Callable[..., Tensor], dim: int) -> None:
    z = logits()
    moved = z.movedim(dim, -1)
    temperature = torch.linspace(0.2, 3.0, moved[..., 0].numel()).reshape(moved.shape[:-1])
    found = subject(z, dim, temperature=temperature)
    expected = subject(moved, -1, temperature=temperature)
    if subject is not logsumexp:
        expected = expected.movedim(-1, dim)
    # Sums of four along other strides: either within 6 u, of logarithms of size ten or less.
    torch.testing.assert_close(found, expected, rtol=12 * 2.0**-24, atol=120 * 2.0**-24)


@every_map
@pytest.mark.parametrize("shape", [(), (3,), (2, 1), (1, 3), (1, 1)])
def test_temperatures_broadcast_to_the_rows(name: str, shape: tuple[int, ...]) -> None:
    z = softmaxes(logits())
    temperature = torch.linspace(0.5, 2.0, 6)[: int(np.prod(shape))].reshape(shape)
    expected = MAPS[name](z, temperature=temperature.expand(2, 3).contiguous())
    assert torch.equal(MAPS[name](z, temperature=temperature), expected)


def one_token(logits: Tensor, temperature: Any) -> list[int]:
    rows = logits.reshape(-1, 4)
    drawn = sample(rows, temperature=temperature, generator=torch.Generator().manual_seed(0))
    return drawn.tolist()


def text(temperature: Any) -> list[int]:
    return sample_sequence(
        lambda ids: torch.arange(4.0).expand(len(ids), 4),
        torch.tensor([0]),
        max_new_tokens=10,
        temperature=temperature,
        generator=torch.Generator().manual_seed(0),
    ).tolist()


def speculated(temperature: Any) -> list[int]:
    return speculative_sequence(
        lambda ids: torch.arange(4.0).expand(len(ids), 4),
        lambda ids: torch.arange(4.0).flip(0).expand(len(ids), 4),
        torch.tensor([0]),
        max_new_tokens=10,
        temperature=temperature,
        generator=torch.Generator().manual_seed(0),
    ).ids.tolist()


NUMBERS = [2, np.float32(2.0), np.float64(2.0), np.int64(2), Fraction(2)]
TENSORS = [torch.tensor(2.0), torch.tensor(2), torch.tensor(2.0, dtype=torch.float16)]


@pytest.mark.parametrize("number", [*NUMBERS, *TENSORS], ids=repr)
def test_any_real_number_is_a_temperature_everywhere(number: Any) -> None:
    z = softmaxes(logits())
    for subject in MAPS.values():
        assert torch.equal(subject(z, temperature=number), subject(z, temperature=2.0))
    assert one_token(z, number) == one_token(z, 2.0)
    assert text(number) == text(2.0)
    assert speculated(number) == speculated(2.0)


@every_map
@pytest.mark.parametrize(
    "zero", [0, 0.0, torch.tensor(0.0), torch.tensor([[1.0, 0, 1], [1, 1, 1]])]
)
def test_zero_is_no_temperature_where_nothing_is_drawn(name: str, zero: Any) -> None:
    with pytest.raises(ValueError, match=r"^temperature must be > 0, got (0|0\.0|\[0\.0\]); for T"):
        MAPS[name](softmaxes(logits()), temperature=zero)


def test_zero_takes_the_largest_where_something_is_drawn() -> None:
    z = logits()
    for draw in (sample, plain_sample):
        assert torch.equal(draw(z, temperature=0), z.argmax(-1))
        mixed = draw(z, temperature=torch.tensor([0.0, 1.0, 0.0]))
        assert torch.equal(mixed[:, ::2], z.argmax(-1)[:, ::2])
    assert text(0) == [0] + 10 * [3]
    assert speculated(0) == [0] + 10 * [3]


def test_a_speculative_text_takes_a_number_or_one_for_its_only_row() -> None:
    assert speculated(torch.tensor([0.5])) == speculated(0.5) == speculated(torch.tensor(0.5))
    with pytest.raises(ValueError, match=r"have the shape \(1,\) of the rows, got \(2,\)"):
        speculated(torch.tensor([0.5, 0.5]))


def test_a_temperature_for_each_row_passes_gradients_on() -> None:
    z = logits().double().requires_grad_()
    each = TEMPERATURES.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *inputs: softmax(inputs[0], temperature=inputs[1]), (z, each)
    )
    ours = torch.autograd.grad(softmax(z, temperature=each)[..., 0].sum(), (z, each))
    written_out = torch.autograd.grad(function(z, each)[..., 0].sum(), (z, each))
    for one, other in zip(ours, written_out, strict=True):
        # Some dozen roundings of numbers of size a hundred or less.
        torch.testing.assert_close(one, other, rtol=64 * 2.0**-53, atol=6400 * 2.0**-53)


@every_map
def test_an_int_beyond_every_float_is_out_of_range(name: str) -> None:
    with pytest.raises(ValueError, match=r"^temperature must lie in \[.* got 10+\.\.\.0+; "):
        MAPS[name](softmaxes(logits()), temperature=10**400)
    with pytest.raises(ValueError, match=r"^temperature must be > 0, got -10+\.\.\.0+; "):
        MAPS[name](softmaxes(logits()), temperature=-(10**400))
