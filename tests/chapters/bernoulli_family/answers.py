"""Where the sigmoid comes from: the checks of its exercises tell right answers from wrong ones."""

import math
from typing import Any

RIGHT: dict[str, Any] = {
    "ex-spin": lambda eta: (1 - 2 / (1 + math.exp(2 * eta)), 1 / math.cosh(eta) ** 2),
    "ex-cumulants": lambda p: p * (1 - p) * (1 - 6 * p * (1 - p)),
    "ex-newton": lambda b: b - (math.exp(b) - math.exp(-b)) / 2,
}
WRONG: dict[str, dict[str, Any]] = {
    "ex-spin": {
        "faces 0 and 1": lambda eta: (1 / (1 + math.exp(-eta)), 1 / (2 + 2 * math.cosh(eta))),
        "the mean alone": math.tanh,
    },
    "ex-cumulants": {
        "the central moment": lambda p: p * (1 - p) ** 4 + (1 - p) * p**4,
        "one squared variance": lambda p: p * (1 - p) ** 4 + (1 - p) * p**4 - (p - p**2) ** 2,
    },
    "ex-newton": {
        "the step alone": math.sinh,
        "uphill": lambda b: b + math.sinh(b),
        "at half the point": lambda b: b - 2 * math.sinh(b / 2),
    },
}
