"""Softmax from first principles: the checks of its exercises tell right answers from wrong ones."""

import math
from typing import Any

RIGHT: dict[str, Any] = {
    "ex-base-two": lambda t: math.exp(1 / t),
    "ex-power-law": lambda x, doubled: doubled ** math.log2(x),
    "ex-factor-ten": lambda t: t * math.log(10),
}
WRONG: dict[str, dict[str, Any]] = {
    "ex-base-two": {
        "the temperature in the numerator": math.exp,
        "the temperature of a base": lambda t: 1 / math.log(t),
        "a power of two": lambda t: 2 ** (1 / t),
        "upside down": lambda t: math.exp(-1 / t),
    },
    "ex-power-law": {
        "still the exponential": lambda x, doubled: doubled ** (x - 1),
        "affine": lambda x, doubled: 1 + (doubled - 1) * (x - 1),
        "the number as the exponent": lambda x, doubled: x**doubled,
        "natural logarithm": lambda x, doubled: x ** math.log(doubled),
        "without f(1)": lambda x, doubled: doubled * x ** math.log2(doubled),
    },
    "ex-factor-ten": {
        "without T": lambda t: math.log(10),
        "divided by T": lambda t: math.log(10) / t,
        "common logarithm": lambda t: t,
        "logarithm to base 2": lambda t: t * math.log2(10),
    },
}
