"""The cases, as they stand in ``cases.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Tokens = Sequence[Sequence[int]]
"""Sets of tokens: [first, last] or [first, last, step] each."""


def spread(ranges: Tokens) -> NDArray[np.int64]:
    """Write out a set of tokens.

    Examples
    --------
    >>> spread([[0, 2], [4, 8, 2]]).tolist()
    [0, 1, 2, 4, 6, 8]
    """
    parts = [np.arange(r[0], r[1] + 1, r[2] if len(r) > 2 else 1) for r in ranges]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


@dataclass(frozen=True)
class Answer:
    """One kept set with its law, and the conventions that give it."""

    kept: Tokens
    """Tokens that can be drawn for sure."""
    tied: Mapping[str, Any] | None
    """``of`` these tokens, so many more (``keep``)."""
    probs: Sequence[Mapping[str, Any]]
    """``p``, ``low`` and ``high`` of each of the ``tokens``."""
    conventions: Mapping[str, Sequence[str]]
    """By name of a convention, the ways that agree with this answer."""
    counts: Sequence[Mapping[str, Any]] | None
    """``low`` and ``high`` of how often some ``tokens`` are drawn; None if no draws are asked."""

    @cached_property
    def cells(self) -> list[tuple[NDArray[np.int64], int, int]]:
        """Tokens of each cell, and the interval of its count."""
        return [(spread(c["tokens"]), c["low"], c["high"]) for c in self.counts or ()]

    def bounds(self, size: int) -> tuple[Numbers, Numbers]:
        """Least and largest probability of each token."""
        low, high = np.zeros(size), np.zeros(size)
        for part in self.probs:
            tokens = spread(part["tokens"])
            low[tokens], high[tokens] = part["low"], part["high"]
        return low, high


@dataclass(frozen=True)
class Case:
    """One row under some settings, and what is right."""

    name: str
    why: str
    runs: Sequence[tuple[float, int]]
    """Logits, each with how often it stands there."""
    settings: Mapping[str, float]
    refusal: Mapping[str, Sequence[str]] | None
    """Conventions of a sampler that refuses these settings; None if it may not."""
    answers: Sequence[Answer]
    draws: Mapping[str, Any] | None
    """``n`` draws in each of some ``calls``, and the ``statistic`` if it is not the counts."""

    @property
    def size(self) -> int:
        """Number of tokens."""
        return sum(count for _, count in self.runs)

    @cached_property
    def logits(self) -> list[float]:
        """Logits of all tokens."""
        return [z for z, count in self.runs for _ in range(count)]

    @property
    def weight(self) -> tuple[int, int]:
        """Tokens and dials, to find the smallest of several cases."""
        return self.size, len(self.settings)


@dataclass(frozen=True)
class Batch:
    """Rows of cases that are asked at once."""

    name: str
    why: str
    cases: Sequence[Case]
    draws: Mapping[str, Any]

    @property
    def weight(self) -> tuple[int, int]:
        """As of a case, larger than each of its rows."""
        return sum(c.size for c in self.cases), sum(len(c.settings) for c in self.cases)


@dataclass(frozen=True)
class Suite:
    """Everything in the file."""

    cases: Sequence[Case]
    batches: Sequence[Batch]
    conventions: Mapping[str, Mapping[str, str]]
    """By name, the ways there are, in words."""
    false_alarm: float
    """Chance that a right sampler fails any case when it is asked to draw."""

    @property
    def all(self) -> list[Case | Batch]:
        """Cases, then batches."""
        return [*self.cases, *self.batches]

    def named(self, names: Sequence[str]) -> list[Case | Batch]:
        """Return the cases and batches of these names.

        Raises
        ------
        ValueError
            There is no case of a name.
        """
        known = {one.name for one in self.all}
        unknown = [name for name in names if name not in known]
        if unknown:
            every = [one.name for one in self.all]
            near = [name for name in every if str(unknown[0]).split("-")[0] in name] or every
            raise ValueError(
                f"there is no case {unknown[0]!r}; there are {', '.join(near[:5])} and others "
                "(python -m omnivault.conformance --list)"
            )
        return [one for one in self.all if one.name in names]


@cache
def read_cases() -> Suite:
    """Read the file.

    Examples
    --------
    >>> suite = read_cases()
    >>> case = next(case for case in suite.cases if case.name == "two-tokens")
    >>> case.logits, case.answers[0].probs[0]["p"][:22]
    ([0.0, 1.0], '0.73105857863000487925')
    >>> suite.false_alarm < 1e-3
    True
    """
    text = files("omnivault.conformance").joinpath("cases.json").read_text(encoding="utf-8")
    data = json.loads(text)
    cases = {case["name"]: _case(case) for case in data["cases"]}
    batches = [
        Batch(b["name"], b["why"], [cases[name] for name in b["cases"]], b["draws"])
        for b in data["batches"]
    ]
    return Suite(list(cases.values()), batches, data["conventions"], data["false_alarm"])


def _case(data: Mapping[str, Any]) -> Case:
    return Case(
        name=data["name"],
        why=data["why"],
        runs=[(-math.inf if z == "-inf" else float(z), n) for z, n in data["logits"]],
        settings=data["settings"],
        refusal=data.get("refusal"),
        answers=[
            Answer(a["kept"], a.get("tied"), a["probs"], a["conventions"], a.get("counts"))
            for a in data["answers"]
        ],
        draws=data.get("draws"),
    )
