"""The derivatives of softmax: the checks of its exercises tell right answers from wrong ones."""

from typing import Any

import torch
from torch.nn import functional


def by_autograd(beta: float, z: torch.Tensor, c: int) -> tuple[torch.Tensor, torch.Tensor]:
    b = torch.tensor(beta, requires_grad=True)
    loss = -torch.log_softmax(b * z, 0)[c]
    (first,) = torch.autograd.grad(loss, b, create_graph=True)
    (second,) = torch.autograd.grad(first, b)
    return first, second


def hessian_times(z: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    z.requires_grad_()
    loss = functional.cross_entropy(z, torch.tensor(0))
    (slope,) = torch.autograd.grad(loss, z, create_graph=True)
    return torch.autograd.grad(slope @ v, z)[0]


def loss_derivatives(z: torch.Tensor, p: torch.Tensor, c: int) -> list[torch.Tensor]:
    return [p @ z - z[c], p @ (z - p @ z) ** 2]


def softmax(z: torch.Tensor) -> torch.Tensor:
    return torch.softmax(z, 0)


RIGHT: dict[str, Any] = {
    "ex-log-jacobian": lambda p, v: [(p * v).sum() * torch.ones(len(v)), v - (p * v).sum()],
    "ex-inverse": by_autograd,
    "ex-hvp": hessian_times,
    "ex-third-moment": lambda draws, p: -((draws.T[1] - p[1]) ** 3).mean(),
}
WRONG: dict[str, dict[str, Any]] = {
    "ex-log-jacobian": {
        "an orthogonal projection": lambda p, v: (v.mean().expand(len(v)), v - v.mean()),
        "the image first": lambda p, v: (v - p @ v, (p @ v).expand(len(v))),
        "the transpose of A": lambda p, v: (p * v.sum(), v - p * v.sum()),
        "a number for a vector": lambda p, v: (p @ v, v - p @ v),
    },
    "ex-inverse": {
        "uphill": lambda b, z, c: [
            sign * d
            for sign, d in zip((-1, 1), loss_derivatives(z, softmax(b * z), c), strict=True)
        ],
        "p at T = 1": lambda b, z, c: loss_derivatives(z, softmax(z), c),
        "p at T = beta": lambda b, z, c: loss_derivatives(z, softmax(z / b), c),
        "the second moment": lambda b, z, c: (
            softmax(b * z) @ z - z[c],
            softmax(b * z) @ z**2,
        ),
        "the first alone": lambda b, z, c: softmax(b * z) @ z - z[c],
    },
    "ex-hvp": {
        "the diagonal of J": lambda z, v: softmax(z) * (1 - softmax(z)) * v,
        "without the mean": lambda z, v: softmax(z) * v,
        "the mean without weights": lambda z, v: softmax(z) * (v - v.mean()),
        "minus J": lambda z, v: softmax(z) * (softmax(z) @ v - v),
        "the variance": lambda z, v: v @ hessian_times(z, v),
    },
    "ex-third-moment": {
        "class 2": lambda draws, p: ((draws[:, 1] - p[1]) ** 3).mean(),
        "not centered": lambda draws, p: (draws[:, 0] ** 3).mean(),
        "the variance": lambda draws, p: ((draws[:, 0] - p[0]) ** 2).mean(),
        "the exact value": lambda draws, p: p[0] * p[1] * (p[1] - p[0]),
        "the absolute value": lambda draws, p: ((draws[:, 0] - p[0]) ** 3).mean().abs(),
    },
}
