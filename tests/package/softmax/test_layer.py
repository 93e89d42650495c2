"""Softmax as a layer of a model."""

from __future__ import annotations

import pytest
import torch

from omnivault.softmax import Softmax, softmax, softmax_jacobian
from tests.package.softmax.common import random_logits
from tests.support.strategies import DTYPES


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_probabilities_and_jacobian_at_its_temperature(dim: int, dtype: torch.dtype) -> None:
    z = random_logits(2, 3, 4).to(dtype)
    layer = Softmax(dim, temperature=0.5)
    assert torch.equal(layer(z), softmax(z, dim, temperature=0.5))
    expected = softmax_jacobian(z.movedim(dim, -1), temperature=0.5)
    assert torch.equal(layer.jacobian(z), expected)
    assert torch.equal(layer.gradient(z), expected)
    assert torch.equal(Softmax(dim)(z), softmax(z, dim))


def test_it_is_a_module() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), Softmax(temperature=2.0))
    assert repr(model[1]) == "Softmax(dim=-1, temperature=2.0)"
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias"]
    assert torch.equal(model(torch.ones(2, 3)).argmax(-1), model[0](torch.ones(2, 3)).argmax(-1))


def test_a_parameter_is_learned() -> None:
    layer = Softmax(temperature=torch.nn.Parameter(torch.tensor(2.0)))
    assert [name for name, _ in layer.named_parameters()] == ["temperature"]
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    z = torch.tensor([2.0, 0.0])
    before = layer(z)[0].item()
    (-layer(z)[0].log()).backward()
    optimizer.step()
    assert layer(z)[0].item() > before  # colder


def test_another_tensor_goes_where_the_layer_goes() -> None:
    layer = Softmax(temperature=torch.tensor([0.5, 2.0]))
    assert not list(layer.parameters())
    assert list(layer.state_dict()) == ["temperature"]
    copy = Softmax(temperature=torch.tensor([1.0, 1.0]))
    copy.load_state_dict(layer.state_dict())
    z = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    assert torch.equal(copy(z), softmax(z, temperature=torch.tensor([0.5, 2.0])))
    (moved,) = layer.to("meta").buffers()
    assert moved.is_meta
