"""Calibration: the checks of the exercises tell right answers from wrong ones."""

import math
from typing import Any

import torch
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import mse_loss, one_hot

from omnivault.calibration import fit_temperature


def regression(z: Tensor, y: Tensor, **settings: Any) -> float:
    """Return the weight of z_1 - z_2 for the first class."""
    x = (z[:, :1] - z[:, 1:]).double().numpy()
    settings = {"C": 1e12, "fit_intercept": False, "tol": 1e-8} | settings
    return float(LogisticRegression(**settings).fit(x, (y == 0).numpy()).coef_[0, 0])


def smallest(loss: Any) -> Any:
    """Return the function that finds the temperature of the smallest loss of p and y."""

    def temperature(z: Tensor, y: Tensor) -> float:
        def at(log_t: float) -> float:
            return float(loss((z.double() / math.exp(log_t)).softmax(-1), y))

        return math.exp(minimize_scalar(at, bounds=(-2, 4), method="bounded").x)

    return temperature


def squared_distance(p: Tensor, y: Tensor) -> Tensor:
    return mse_loss(p, one_hot(y, p.shape[-1]).double())


def of_label(p: Tensor, y: Tensor) -> Tensor:
    return p[torch.arange(len(y)), y]


def sums_of_texts(s: Tensor, text: Tensor) -> Tensor:
    return torch.stack([s[text == n].sum() for n in range(int(text.max()) + 1)])


RIGHT: dict[str, Any] = {
    "ex-null": lambda measured, by_chance: (1 - (by_chance < measured).float()).mean(),
    "ex-slope-only": lambda z, y: 1 / regression(z, y),
    "ex-brier": smallest(squared_distance),
    "ex-bins": lambda c, n, bins: math.sqrt(2 * c * (1 - c) * bins / (math.pi * n)),
    "ex-whole-texts": lambda s, variance, text: sums_of_texts(s, text).norm() / variance.sum(),
}
WRONG: dict[str, dict[str, Any]] = {
    "ex-null": {
        "the smaller ones": lambda measured, by_chance: (by_chance < measured).float().mean(),
        "ties left out": lambda measured, by_chance: (by_chance > measured).float().mean(),
        "their number": lambda measured, by_chance: (by_chance >= measured).sum(),
        "above the mean": lambda measured, by_chance: measured > by_chance.mean(),
    },
    "ex-slope-only": {
        "the weight": regression,
        "the other class": lambda z, y: 1 / regression(z, 1 - y),
        "with an intercept": lambda z, y: 1 / regression(z, y, fit_intercept=True),
        "with a penalty": lambda z, y: 1 / regression(z, y, C=1.0),
    },
    "ex-brier": {
        "of the log-loss": fit_temperature,
        "1 / T": lambda z, y: 1 / smallest(squared_distance)(z, y),
        "of the label alone": smallest(lambda p, y: ((1 - of_label(p, y)) ** 2).mean()),
        "of the mean probability": smallest(lambda p, y: -of_label(p, y).mean()),
        "none": lambda z, y: 1.0,
        "the score": lambda z, y: squared_distance(z.softmax(-1), y),
        "a list": lambda z, y: [1.0, 2.0],
        "two results": lambda z, y: (2.0, 0.3),
        "not a function": 2.5,
    },
    "ex-bins": {
        "the standard deviation": lambda c, n, bins: math.sqrt(c * (1 - c) * bins / n),
        "no bins": lambda c, n, bins: math.sqrt(2 / math.pi * c * (1 - c) / n),
        "in proportion to the bins": lambda c, n, bins: (
            math.sqrt(2 / math.pi * c * (1 - c) / n) * bins
        ),
        "the factor inverted": lambda c, n, bins: math.sqrt(math.pi / 2 * c * (1 - c) * bins / n),
        "for 0.8 alone": lambda c, n, bins: 0.32 * math.sqrt(bins / n),
    },
    "ex-whole-texts": {
        "from tokens": lambda s, variance, text: s.norm() / variance.sum(),
        "if the model were true": lambda s, variance, text: 1 / variance.sum().sqrt(),
        "squared before the sum": lambda s, variance, text: (
            sums_of_texts(s**2, text).norm() / variance.sum()
        ),
        "the mean of the variances": lambda s, variance, text: (
            sums_of_texts(s, text).norm() / variance.mean()
        ),
        "the variance of the error": lambda s, variance, text: (
            (sums_of_texts(s, text).norm() / variance.sum()) ** 2
        ),
    },
}
