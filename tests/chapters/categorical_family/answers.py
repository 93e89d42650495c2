"""Where softmax comes from: the checks of its exercises tell right answers from wrong ones."""

import math
from typing import Any

import torch
from scipy.optimize import root

Tensor = torch.Tensor


def divergence(theta: Tensor, eta: Tensor) -> Tensor:
    p, q = theta.log_softmax(0), eta.log_softmax(0)
    return (p.exp() * (p - q)).sum()


def slope_forgotten(theta: Tensor, eta: Tensor) -> Tensor:
    return eta.logsumexp(0) - theta.logsumexp(0)


def slope_reversed(theta: Tensor, eta: Tensor) -> Tensor:
    return eta.logsumexp(0) - theta.logsumexp(0) + theta.softmax(0) @ (eta - theta)


def joint(pairs: Tensor) -> Any:
    return torch.special.entr(pairs / pairs.sum()).sum()


def right_loss(pairs: Tensor) -> Any:
    return joint(pairs) - torch.special.entr(pairs.sum(1) / pairs.sum()).sum()


def mean_of_rows(pairs: Tensor) -> Any:
    return torch.special.entr(pairs / pairs.sum(1, keepdim=True)).sum(1).mean()


def zeros_not_cared_for(pairs: Tensor) -> Any:
    rows = pairs / pairs.sum(1, keepdim=True)
    return -(pairs / pairs.sum() * rows.log()).sum()


def add_one(pairs: Tensor) -> Any:
    rows = (pairs + 1) / (pairs + 1).sum(1, keepdim=True)
    return -(pairs / pairs.sum() * rows.log()).sum()


GRID = torch.arange(21).double()


def bell(mean: float, variance: float) -> Tensor:
    return (-((GRID - mean) ** 2) / (2 * variance)).softmax(0)


def right_bell(mean: float, variance: float) -> Tensor:
    def off(at: Any) -> list[float]:
        p = bell(*at)
        center = float(p @ GRID)
        return [center - mean, float(p @ (GRID - center) ** 2) - variance]

    return bell(*root(off, [mean, variance]).x)


def mean_alone(mean: float, variance: float) -> Any:
    found = root(lambda beta: float((beta.item() * GRID).softmax(0) @ GRID) - mean, 0.0).x
    return torch.softmax(found.item() * GRID, 0)


RIGHT: dict[str, Any] = {
    "ex-bregman": divergence,
    "ex-bigram": right_loss,
    "ex-two-constraints": right_bell,
}
WRONG: dict[str, dict[str, Any]] = {
    "ex-bregman": {
        "the other way around": lambda theta, eta: divergence(eta, theta),
        "no slope": slope_forgotten,
        "the slope with the wrong sign": slope_reversed,
        "in bits": lambda theta, eta: divergence(theta, eta) / math.log(2),
        "negative": lambda theta, eta: -divergence(theta, eta),
    },
    "ex-bigram": {
        "rows not weighted": mean_of_rows,
        "the entropy of the pair": joint,
        "half of it": lambda pairs: joint(pairs) / 2,
        "the present letter given the next": lambda pairs: right_loss(pairs.t),
        "nan for the pairs never seen": zeros_not_cared_for,
        "with invented pairs": add_one,
        "in bits": lambda pairs: right_loss(pairs) / math.log(2),
    },
    "ex-two-constraints": {
        "the normal distribution": bell,
        "the standard deviation for the variance": lambda mean, variance: right_bell(
            mean, variance**0.5
        ),
        "the mean alone": mean_alone,
        "from 1 on": lambda mean, variance: right_bell(mean, variance)[1:],
        "moments instead": lambda mean, variance: (mean, variance),
    },
}
