"""Where logits come from: the checks of its exercises tell right answers from wrong ones."""

from typing import Any

import torch
from torch import Tensor


def fitted(
    x: Tensor,
    y: Tensor,
    half: float = 0.5,
    ridge: float = 0.01,
    prior: float = 1,
    common: bool = False,
) -> tuple[Tensor, Tensor]:
    """Fit Gaussians class by class, with dials for what may go wrong."""
    k = int(y.max()) + 1
    member = torch.nn.functional.one_hot(y, k).to(x)
    mu = member.T @ x / member.sum(0)[:, None]
    second = x.T @ x / len(x)
    covariance = second - (mu.T * member.mean(0)) @ mu
    if common:
        covariance = second - torch.outer(x.mean(0), x.mean(0))
    w = mu @ torch.linalg.inv(covariance + ridge * torch.eye(len(covariance)))
    return w, prior * member.mean(0).log() - half * (w * mu).sum(1)


def in_another_gauge(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    w, b = fitted(x, y)
    return w - w.mean(0), b - b[0]


def own_covariances(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    parts = []
    for k in range(int(y.max()) + 1):
        inputs = x[y == k]
        w, b = fitted(inputs, torch.zeros(len(inputs), dtype=torch.long))
        parts.append((w[0], b[0] + (y == k).double().mean().log()))
    rows, biases = zip(*parts, strict=True)
    return torch.stack(rows), torch.stack(biases)


RIGHT: dict[str, Any] = {
    "ex-parameters": lambda k, d, bias: ((d + 1) * k if bias else d * k, (k - 1) * (d + bias)),
    "ex-two-classes": lambda w, lam: lam * w.norm() ** 2 / 4,
    "ex-priors": lambda z, pi, new: (torch.softmax(z, 0) * new / pi).log(),
    "ex-generative": in_another_gauge,
    "ex-gauge": lambda w: -w.sum(0) / len(w),
}
WRONG: dict[str, dict[str, Any]] = {
    "ex-parameters": {
        "a bias in any case": lambda k, d, bias: (k * (d + 1), (k - 1) * (d + 1)),
        "no bias": lambda k, d, bias: (k * d, (k - 1) * d),
        "one number free": lambda k, d, bias: (k * (d + bias), k * (d + bias) - 1),
        "all determined": lambda k, d, bias: (k * (d + bias), k * (d + bias)),
        "one count": lambda k, d, bias: k * (d + bias),
    },
    "ex-two-classes": {
        "as in logistic regression": lambda w, lam: lam / 2 * (w**2).sum(),
        "one row alone": lambda w, lam: lam / 8 * (w**2).sum(),
        "each row as large as w": lambda w, lam: lam * (w**2).sum(),
        "not squared": lambda w, lam: lam / 4 * w.norm(),
    },
    "ex-priors": {
        "upside down": lambda z, pi, new: z + (pi / new).log(),
        "the new prior alone": lambda z, pi, new: z + new.log(),
        "no logarithm": lambda z, pi, new: z + new / pi,
        "logits multiplied": lambda z, pi, new: z * new / pi,
        "probabilities": lambda z, pi, new: torch.softmax(z + (new / pi).log(), 0),
        "a number": lambda z, pi, new: (new / pi).log().sum(),
        "an error": lambda z, pi, new: z[len(z)],
    },
    "ex-generative": {
        "priors forgotten": lambda x, y: fitted(x, y, prior=0),
        "the half forgotten": lambda x, y: fitted(x, y, half=1),
        "the wrong sign": lambda x, y: fitted(x, y, half=-0.5),
        "the covariance around one mean": lambda x, y: fitted(x, y, common=True),
        "nothing on the diagonal": lambda x, y: fitted(x, y, ridge=0),
        "a covariance for each class": own_covariances,
        "W transposed": lambda x, y: (fitted(x, y)[0].T, fitted(x, y)[1]),
        "W alone": lambda x, y: fitted(x, y)[0],
        "an error": lambda x, y: x @ x,
    },
    "ex-gauge": {
        "the wrong sign": lambda w: w.mean(0),
        "the sum": lambda w: -w.sum(0),
        "the wrong axis": lambda w: -w.mean(1),
        "one number": lambda w: -w.mean(),
        "nothing": lambda w: torch.zeros(w.shape[1]),
    },
}
