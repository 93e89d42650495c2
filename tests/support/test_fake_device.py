"""The device that is none refuses what a device refuses, and computes what the CPU computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.fake_device import DEVICE, back, fake_device, on_device

ONES = torch.ones(3)


@pytest.fixture(autouse=True)
def _on_it() -> Iterator[None]:
    with fake_device():
        yield


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: x + ONES,
        lambda x: ONES * x,
        lambda x: torch.cat([x, ONES]),
        lambda x: torch.where(ONES > 0, x, x),
        lambda x: x.gather(0, torch.tensor([0])),
        lambda x: torch.isin(x, ONES),
        lambda x: x.clone().add_(ONES),
        lambda x: torch.searchsorted(x, ONES),
        lambda x: torch.ones(3)[x.long()],
        lambda x: x.clone().index_put_((torch.tensor([0]),), ONES[:1]),
        lambda x: x @ ONES,
        lambda x: x + torch.ones(1),
    ],
)
def test_a_tensor_of_the_cpu_that_has_a_dimension_is_refused(mix: Callable[[Any], Any]) -> None:
    with pytest.raises(RuntimeError, match="found at least two devices, meta and cpu"):
        mix(on_device(ONES))


def test_a_generator_of_the_cpu_is_refused_and_its_own_is_the_global_one() -> None:
    with pytest.raises(RuntimeError, match="device type for generator but found 'cpu'"):
        torch.rand(3, generator=torch.Generator(), device=DEVICE)
    with pytest.raises(RuntimeError, match="device type for generator but found 'cpu'"):
        torch.multinomial(on_device(ONES), 1, generator=torch.Generator())
    torch.manual_seed(1)
    one = torch.rand(3, device=DEVICE)
    torch.manual_seed(1)
    assert torch.equal(back(one), torch.rand(3))


def test_numpy_is_refused() -> None:
    with pytest.raises(RuntimeError, match="not supported"):
        on_device(ONES).numpy()


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x + torch.tensor(2.0),
        lambda x: x.softmax(-1).cumsum(-1).sort(dim=-1, stable=True).values,
        lambda x: torch.tensor(0.5, dtype=torch.float64, device=x.device) * x,
        lambda x: torch.full((2,), 7, device=x.device),
        lambda x: torch.arange(3, device=x.device) + x,
        lambda x: torch.as_tensor([1.0, 2.0], device=x.device),
        lambda x: x[torch.tensor([2, 0])],
        lambda x: x[[2, 0]],
        lambda x: x[..., 1:],
        lambda x: x[x > 0.5],
        lambda x: x.double().to(torch.float16),
        lambda x: torch.ones(3).to(x.device) - x,
        lambda x: torch.where(x > 0.5, 1.0, x),
        lambda x: x.new_zeros(2),
        lambda x: torch.nn.functional.pad(x, (0, 2)),
        lambda x: x.topk(2).indices,
    ],
)
def test_results_are_those_of_the_cpu_and_on_the_device(compute: Callable[[Any], Any]) -> None:
    x = torch.tensor([0.25, 1.0, 0.75])
    result = compute(on_device(x))
    assert result.device == DEVICE
    expected: Tensor = compute(x)
    assert torch.equal(back(result), expected)
    assert result.dtype is expected.dtype
    assert result.tolist() == result.cpu().tolist() == expected.tolist()


def test_changes_in_place_reach_views_and_gradients_flow() -> None:
    x = on_device(torch.zeros(2, 3))
    view = x[:, 1]
    x.add_(1)
    view.mul_(3)
    x[..., -1] = 7
    x[0] = on_device(torch.tensor([4.0, 5.0, 6.0]))
    x[torch.tensor([1]), 0] = 2.0
    assert back(x).tolist() == [[4, 5, 6], [2, 3, 7]]
    y = on_device(torch.tensor([1.0, 2.0], requires_grad=True))
    (y * y)[1].backward()
    assert back(y.grad).tolist() == [0, 4]


def test_what_is_on_the_cpu_after_all_is_told() -> None:
    with pytest.raises(AssertionError, match="found on the CPU"):
        back({"a": [ONES]})
    assert not on_device(ONES).is_meta
    assert bool(on_device(ONES).sum() == 3)
