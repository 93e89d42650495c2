"""What the tests of several statements of this chapter share."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional

from omnivault.softmax import log_softmax, softmax
from tests.support.strategies import double, unit

U = unit(torch.float64)
Model = tuple[Tensor, Tensor]
Dataset = tuple[Tensor, Tensor]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


@cache
def digits(n: int = 300) -> Dataset:
    data = load_digits()
    order = torch.randperm(len(data.target), generator=generator())[:n]
    return torch.tensor(data.data)[order] / 16, torch.tensor(data.target)[order]


def whole(*shape: int, bound: int = 4) -> SearchStrategy[Tensor]:
    """Integer-valued tensors: their products and sums are exact."""
    size = math.prod(shape)
    return st.lists(st.integers(-bound, bound), min_size=size, max_size=size).map(
        lambda values: double(values).reshape(shape)
    )


@st.composite
def models(
    draw: DrawFn, min_classes: int = 1, max_classes: int = 4, max_features: int = 3
) -> Model:
    k, d = draw(st.integers(min_classes, max_classes)), draw(st.integers(1, max_features))
    return draw(whole(k, d)), draw(whole(k))


@st.composite
def datasets(draw: DrawFn, classes: int, features: int, max_size: int = 6) -> Dataset:
    """Any labels: classes may be missing."""
    n = draw(st.integers(1, max_size))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n))
    return draw(whole(n, features)), torch.tensor(labels)


def logits(model: Model, x: Tensor) -> Tensor:
    weight, bias = model
    return x @ weight.T + bias


def loss(model: Model, data: Dataset) -> Tensor:
    """L by its definition."""
    x, y = data
    return -log_softmax(logits(model, x))[torch.arange(len(y)), y].mean()


def layer_of(model: Model) -> torch.nn.Linear:
    """The same model as torch has it."""
    weight, bias = model
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def is_constant(row: Tensor) -> bool:
    return bool((row == row[0]).all())


def gradients(value: Callable[[Model, Dataset], Tensor], model: Model, data: Dataset) -> Model:
    weight, bias = (part.clone().requires_grad_() for part in model)
    by_weight, by_bias = torch.autograd.grad(value((weight, bias), data), (weight, bias))
    return by_weight, by_bias


def sum_error(n: int) -> float:
    """How far the sum over ten classes of the gradients of n pairs, |x| <= 1, may be from zero.

    The errors of a pair, which are below 2 together, are added to those of n others in any order;
    its probabilities add up to one within 128 u, whatever the logits are.
    """
    return (2 * n + 128) * U


def second_derivatives(model: Model, data: Dataset, penalty: float) -> Tensor:
    """Of L with the penalty, written out; the weights of a class and its bias are neighbors."""
    x, _ = data
    k, d = model[0].shape
    extended = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], -1)
    p = torch.softmax(logits(model, x), -1)
    jacobians = torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)
    curvature = torch.einsum("nij,na,nb->iajb", jacobians, extended, extended) / len(x)
    weighing = torch.cat([torch.full((d,), penalty, dtype=x.dtype), torch.zeros(1, dtype=x.dtype)])
    return curvature.reshape(k * (d + 1), -1) + torch.diag(weighing.repeat(k))


# Newton's method goes on until no slope is larger. A gradient of a dozen small pairs, computed in
# another way, differs by a few hundred u, which is less.
STOP = 1e-13
AT_MINIMUM = 2 * STOP


def newton(start: Model, data: Dataset, penalty: float, steps: int = 60) -> Model:
    """Minimize it by Newton's method with the second derivatives written out.

    On the way of a step that moves the logits of a point by amounts up to r apart, the second
    derivative grows at most by the factor e^r (the third cumulant of a distribution is at most its
    variance times its range). So the share log(1 + r) / r of a step always goes down: however flat
    the start is, no step is too long. Near the minimum it is all but the whole step.
    """
    x, y = data
    k, d = start[0].shape
    extended = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], -1)
    one_hot = functional.one_hot(y, k).double()
    weighing = torch.cat([torch.full((d,), penalty, dtype=x.dtype), torch.zeros(1, dtype=x.dtype)])
    theta = torch.cat([start[0], start[1].unsqueeze(-1)], -1)
    for _ in range(steps):
        p = torch.softmax(extended @ theta.T, -1)
        gradient = (p - one_hot).T @ extended / len(y) + weighing * theta
        if gradient.abs().max() < STOP:
            break
        matrix = second_derivatives((theta[:, :d], theta[:, d]), data, penalty)
        # The common bias has no curvature; the pseudoinverse does not move it, but for rounding.
        step = torch.linalg.pinv(matrix, hermitian=True, rtol=1e-13) @ gradient.flatten()
        step = step.reshape(k, d + 1)
        step[:, d] -= step[:, d].mean()
        change = extended @ step.T
        r = (change.amax(-1) - change.amin(-1)).max().item()
        theta = theta - (math.log1p(r) / r if r else 1.0) * step
    return theta[:, :d], theta[:, d]


def heavy_ball(start: Model, data: Dataset, penalty: float, steps: int) -> Model:
    """Gradient descent with momentum and the gradient written out."""
    x, y = data
    weight, bias = start
    one_hot = functional.one_hot(y, len(bias)).double()
    weight_step, bias_step = torch.zeros_like(weight), torch.zeros_like(bias)
    for _ in range(steps):
        error = softmax(logits((weight, bias), x)) - one_hot
        weight_step = 0.9 * weight_step - (error.T @ x / len(y) + penalty * weight)
        bias_step = 0.9 * bias_step - error.mean(0)
        weight, bias = weight + weight_step, bias + bias_step
    return weight, bias
