"""The slope in T where classes are ruled out is that of the classes that are left."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from omnivault.information import entropy_from_logits, kl_divergence_from_logits
from omnivault.sampling import apply_temperature
from omnivault.softmax import Softmax, log_softmax, logsumexp, softmax
from tests.support.strategies import assert_within, unit

INF = torch.inf
Function = Callable[[Tensor, Tensor], Tensor]


def plain_entropy(z: Tensor, t: Tensor) -> Tensor:
    log_p = torch.log_softmax(z / t, -1)
    return -(log_p.exp() * log_p).sum(-1)


def plain_divergence(z: Tensor, t: Tensor) -> Tensor:
    log_p, log_q = torch.log_softmax(z / t, -1), torch.log_softmax(z * z / t, -1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


# What the package computes of a row, and PyTorch of its classes alone.
PAIRS: dict[str, tuple[Function, Function]] = {
    "softmax": (
        lambda z, t: softmax(z, temperature=t)[..., 0],
        lambda z, t: torch.softmax(z / t, -1)[..., 0],
    ),
    "log_softmax": (
        lambda z, t: log_softmax(z, temperature=t)[..., 0],
        lambda z, t: torch.log_softmax(z / t, -1)[..., 0],
    ),
    "logsumexp": (
        lambda z, t: logsumexp(z, temperature=t),
        lambda z, t: t * torch.logsumexp(z / t, -1),
    ),
    "weights": (
        lambda z, t: softmax(
            z.nan_to_num(neginf=5.0), temperature=t, weights=z.isfinite().to(z.dtype)
        )[..., 0],
        lambda z, t: torch.softmax(z / t, -1)[..., 0],
    ),
    "entropy": (lambda z, t: entropy_from_logits(z, temperature=t), plain_entropy),
    "divergence": (
        lambda z, t: kl_divergence_from_logits(
            z, torch.where(z.isfinite(), z * z, -INF), temperature=t
        ),
        plain_divergence,
    ),
    "apply_temperature": (lambda z, t: apply_temperature(z, t)[..., 0], lambda z, t: z[..., 0] / t),
}
ROWS = [[1.0, -INF], [1.0, -INF, 2.5, 0.5, -INF], [0.25, 1.0, 2.0]]


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_first_and_second_slope(name: str, row: list[float]) -> None:
    ours, torchs = PAIRS[name]
    z = torch.tensor(row, dtype=torch.float64)
    found: list[Tensor] = []
    expected: list[Tensor] = []
    for f, logits, slopes in ((ours, z, found), (torchs, z[z.isfinite()], expected)):
        t = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(f(logits, t), t, create_graph=True)
        (second,) = torch.autograd.grad(slope, t) if slope.requires_grad else (0 * slope,)
        slopes += [slope.detach(), second]
    # A few dozen operations on numbers below 10.
    assert_within(torch.stack(found), torch.stack(expected), 2**10 * unit(torch.float64))


@pytest.mark.parametrize("name", PAIRS)
def test_a_row_with_a_class_ruled_out_leaves_its_neighbors_their_slope(name: str) -> None:
    f, _ = PAIRS[name]
    z = torch.tensor([[1.0, 2.0, 0.5], [0.0, -INF, 3.0]], dtype=torch.float64)
    slopes = []
    for rows in (z, z[:1]):
        t = torch.tensor(0.75, dtype=torch.float64, requires_grad=True)
        slopes.append(torch.autograd.grad(f(rows, t)[0], t)[0])
    assert_within(slopes[0], slopes[1], 2**10 * unit(torch.float64))


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_the_smallest_number_as_a_mask_leaves_a_slope(name: str) -> None:
    # Divided by T < 1 it is -inf.
    least = torch.finfo(torch.float32).min
    subject, _ = PAIRS[name]
    z = torch.tensor([[1.0, 0.5, least], [1.0, 0.5, -INF]], requires_grad=True)
    t = torch.tensor([0.5, 0.5], requires_grad=True)
    for found in torch.autograd.grad(subject(z, t).sum(), (z, t)):
        assert found.isfinite().all()
        assert torch.equal(found[0], found[1])


def test_a_layer_learns_its_temperature_with_classes_ruled_out() -> None:
    layer = Softmax(temperature=torch.nn.Parameter(torch.tensor(1.5)))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(torch.tensor([[1.0, 2.0, -INF]]))[0, 0].backward()
    optimizer.step()
    assert isinstance(layer.temperature, Tensor)
    # Warming raises the probability of the lower logit: its slope in T is positive.
    assert 1.0 < layer.temperature.item() < 1.5
