"""What temperature does: the checks of its exercises tell right answers from wrong ones."""

import math
from collections.abc import Callable
from typing import Any

import torch
from scipy.optimize import brentq


def entropy(z: torch.Tensor, temperature: float) -> float:
    x = z.double() / temperature
    return float(torch.logsumexp(x, 0) - torch.softmax(x, 0) @ x)


def temperature_for(z: torch.Tensor, h: float) -> float:
    log_t = brentq(lambda log_t: entropy(z, math.exp(log_t)) - h, -4, 6)
    return math.exp(log_t)


def variance(z: torch.Tensor, temperature: float) -> torch.Tensor:
    p = torch.softmax(z / temperature, 0)
    return p @ z**2 - (p @ z) ** 2


def divergence_slope(
    z: torch.Tensor, temperature: float, *, backwards: bool = False
) -> torch.Tensor:
    warmth = torch.tensor(temperature, requires_grad=True)
    log_p, log_q = torch.log_softmax(z / warmth, 0), torch.log_softmax(z, 0)
    if backwards:
        log_p, log_q = log_q, log_p
    return torch.autograd.grad((log_p.exp() * (log_p - log_q)).sum(), warmth)[0]


def excess(z: torch.Tensor, temperature: float) -> float:
    return float(temperature * torch.logsumexp(z / temperature, 0) - z.max())


def by_quadrature(z: torch.Tensor, temperature: float) -> tuple[float, float]:
    grid = torch.linspace(1e-4, temperature, 2001)
    heights = torch.tensor([entropy(z, t) for t in grid[::20].tolist()])
    return entropy(z, temperature), float(torch.trapezoid(heights, grid[::20]))


def endpoint(z: torch.Tensor, h: float) -> float:
    low, high = 1e-3, 1e3
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if entropy(z, middle) < h else (middle, high)
    return low


def bits(solve: Callable[[torch.Tensor, float], float]) -> Callable[[torch.Tensor, float], float]:
    return lambda z, h: solve(z, h * math.log(2))


RIGHT: dict[str, Any] = {
    "ex-odds-by-hand": lambda p, t: p ** (1 / t) / (p ** (1 / t) + (1 - p) ** (1 / t)),
    "ex-cold-enough": lambda k, g, delta: g / (math.log(k - 1) - math.log(delta)),
    "ex-target-entropy": temperature_for,
    "ex-divergence": lambda z, t: (t - 1) * variance(z, t) / t**3,
    "ex-zipf": lambda a, t: [a * (1 / t), a],
    "ex-free-energy": lambda z, t: (entropy(z, t), excess(z, t)),
}
WRONG: dict[str, dict[str, Any]] = {
    "ex-odds-by-hand": {
        "hot for cold": lambda p, t: p**t / (p**t + (1 - p) ** t),
        "not renormalized": lambda p, t: p ** (1 / t),
        "the odds": lambda p, t: (p / (1 - p)) ** (1 / t),
        "the odds divided": lambda p, t: p / t / (p / t + 1 - p),
        "the other token": lambda p, t: 1 / (1 + (p / (1 - p)) ** (1 / t)),
    },
    "ex-cold-enough": {
        "one rival": lambda k, g, delta: g / math.log(1 / delta - 1),
        "base 10": lambda k, g, delta: g / math.log10((k - 1) / delta),
        "K for K - 1": lambda k, g, delta: g / math.log(k / delta),
        "upside down": lambda k, g, delta: math.log((k - 1) / delta) / g,
        "colder than needed": lambda k, g, delta: 0.9 * g / math.log((k - 1) / delta),
        "negative": lambda k, g, delta: g / math.log(delta / (k - 1)),
    },
    "ex-target-entropy": {
        "bits": bits(temperature_for),
        "the inverse temperature": lambda z, h: 1 / temperature_for(z, h),
        "the wrong half": endpoint,
        "negative": lambda z, h: -temperature_for(z, h),
        "a row of temperatures": lambda z, h: temperature_for(z, h) * torch.ones(1),
        "one argument": lambda z: 1.0,
    },
    "ex-divergence": {
        "in beta": lambda z, t: (1 / t - 1) * variance(z, t),
        "the wrong sign": lambda z, t: (1 / t - 1) * variance(z, t) / t**2,
        "the slope of the entropy": lambda z, t: variance(z, t) / t**3,
        "the model first": lambda z, t: divergence_slope(z, t, backwards=True),
        "the variance at T = 1": lambda z, t: (t - 1) * variance(z, 1) / t**3,
    },
    "ex-zipf": {
        "the exponent multiplied": lambda a, t: (a * t, a),
        "the end at T = 1": lambda a, t: (a / t, 1),
        "the end at T = 1/a": lambda a, t: (a / t, 1 / a),
        "the exponent alone": lambda a, t: a / t,
    },
    "ex-free-energy": {
        "no tie": lambda z, t: (
            entropy(z, t),
            float(t * torch.logsumexp(z.unique() / t, 0) - z.max()),
        ),
        "LSE itself": lambda z, t: (entropy(z, t), excess(z, t) + z.max()),
        "from T = 1": lambda z, t: (entropy(z, t), excess(z, t) - excess(z, 1)),
        "bits": lambda z, t: (entropy(z, t) / math.log(2), excess(z, t)),
        "without the factor T": lambda z, t: (
            -(torch.softmax(z / t, 0) @ z) / t**2,
            excess(z, t),
        ),
    },
}
ALSO_RIGHT: list[tuple[str, Any]] = [
    ("ex-divergence", divergence_slope),
    ("ex-free-energy", by_quadrature),
    ("ex-cold-enough", lambda k, g, d: g / math.log((k - 1) * (1 / d - 1))),
]
