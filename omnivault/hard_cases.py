"""Logits at which softmax and its kin are hard to compute, with answers to 50 digits.

The file ``hard_cases.csv`` in the package is for any program. A line holds the name of a case,
the function, the logits z (and w, where there are two rows) as decimal numbers that float64 holds
exactly, the temperature, and the exact result, one number or one for each class, to 50 significant
digits. The cases are of the kinds that the tests of SciPy, LogExpFunctions.jl and Boost.Math are
known for: equal logits far from zero, logarithms of tiny weights, results that are nearly zero,
classes that are ruled out; and of those that this book is about: temperatures at both ends, gaps
that no difference of two numbers holds, rows that are nearly equal.

At these cases the functions of the package are off by at most so many units in the last place of
the result (of ``logsumexp``: of the largest logit, if that is larger: where the two nearly cancel,
no more is known of their sum than of them):

============================= ======= ======== ======= =======
function                      float16 bfloat16 float32 float64
============================= ======= ======== ======= =======
``softmax``                   1       1        3       3
``log_softmax``               1       1        3       3
``logsumexp``                 1       1        3       3
``entropy_from_logits``       1       1        3       3
``kl_divergence_from_logits`` 1       1        3       3
============================= ======= ======== ======= =======

Two things are left out. A case counts for a format that holds its numbers, if the result is at
least the smallest normal number of it. And a gap between two logits that is no number of the format
is rounded first, by its shift and by the division, which moves a probability by up to twice as many
units as the gap is large.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files

__all__ = ["HardCase", "hard_cases"]


@dataclass(frozen=True)
class HardCase:
    """One line of the file."""

    case: str
    """What is hard about it."""
    function: str
    """Name of a function in :mod:`omnivault.softmax` or :mod:`omnivault.information`."""
    z: tuple[float, ...]
    """The logits."""
    w: tuple[float, ...]
    """The logits of the second row; empty for a function of one."""
    temperature: float
    """T."""
    result: tuple[str, ...]
    """The exact result to 50 significant digits."""


def hard_cases() -> list[HardCase]:
    """Read the file.

    Examples
    --------
    >>> near = next(c for c in hard_cases() if c.case == "near certainty")
    >>> near.function, near.z, near.result[1][:20]
    ('softmax', (0.0, -20.0), '0.000000002061153618')
    """
    text = files("omnivault").joinpath("hard_cases.csv").read_text(encoding="utf-8")
    return [
        HardCase(
            row["case"],
            row["function"],
            tuple(map(float, row["z"].split())),
            tuple(map(float, row["w"].split())),
            float(row["temperature"]),
            tuple(row["result"].split()),
        )
        for row in csv.DictReader(text.splitlines())
    ]
