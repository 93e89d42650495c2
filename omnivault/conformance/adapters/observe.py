"""Ask real engines, and save what they answer: what they keep and how likely it is.

``python -m omnivault.conformance.adapters.observe [NAME ...]`` asks the engines named, or all but
the largest, and writes ``omnivault/engines/observations/<engine>.json``. The same packages write
the same file. A file holds the rows of logits and, a line each, what was seen:

- ``probs`` (rounded to six places) and ``kept``, of an engine that shows its probabilities;
- ``counts`` of ``draws`` tokens and ``kept``, those drawn at least once, of one that only draws;
- ``refused``, the engine's own words.

A token of probability q is missed by n draws with probability (1 - q)^n. In the short rows every
token that may be kept has .01 or more, and 4,000 draws miss such a one once in 10^17 times. In the
wide rows, "65" and "1000", 40,000 draws miss one of .0009 once in 10^15 times, and no definition of
the dials that is in use keeps one below that; where an engine keeps more than it should, tokens may
have been kept that are not seen here.
"""

from __future__ import annotations

import json
import math
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

from omnivault.conformance.programs import Program

SAVED = Path(__file__).parents[2] / "engines" / "observations"
PATIENCE = 300  # seconds for one answer
SEED = 0
"""The draws of every question start from it."""

Settings = Mapping[str, float]


def _float32(z: float) -> float:
    """Round to float32, and write with the nine digits that tell all of them apart."""
    return float(f"{struct.unpack('f', struct.pack('f', z))[0]:.9g}")


def _logs(*probs: float) -> list[float]:
    return [_float32(math.log(p)) if p else -math.inf for p in probs]


def _normal(size: int, deviation: float) -> list[float]:
    """Quantiles of a normal distribution, in an order that is neither up nor down."""
    bell = NormalDist(0, deviation)
    ordered = [round(bell.inv_cdf((i + 0.5) / size), 3) for i in range(size)]
    return [_float32(ordered[(i * 7 + 3) % size]) for i in range(size)]


ROWS = {
    "A": _logs(0.5, 0.25, 0.125, 0.0625, 0.0625),
    "B": _logs(0.4, 0.3, 0.2, 0.1),
    "equal": [0.0] * 4,
    "masked": _logs(0.5, 0, 0.25, 0, 0.125, 0.125),
    "A of 65": _logs(0.5, 0.25, 0.125, 0.0625, 0.0625, *[0] * 60),
    "12": _normal(12, 0.9),
    "65": _normal(65, 2.0),
    "1000": _normal(1000, 2.5),
}
"""Logits by the name of their row. 7 and the sizes have no common factor."""

SHORT: list[Settings] = [
    {},
    *({"temperature": t} for t in (2.0, 0.5, 1e-6, 0.0, -1.0)),
    *({"top_k": k} for k in (0, 1, 2, 3, 4, 40)),
    *({"top_p": p} for p in (0.0, 0.5, 0.7, 0.75, 0.9, 1.0)),
    *({"min_p": p} for p in (0.125, 0.25, 0.5, 1.0)),
    *({"typical_p": p} for p in (0.2, 0.5, 0.9, 1.0)),
    *({"top_n_sigma": n} for n in (0.5, 1.0, 1.5)),
    *({"temperature": 2.0, "top_p": p} for p in (0.65, 0.75, 0.85)),
    {"temperature": 0.5, "top_p": 0.7},
    *({"temperature": 2.0, "min_p": p} for p in (0.4, 0.5)),
    {"temperature": 2.0, "top_k": 2},
    {"temperature": 2.0, "typical_p": 0.5},
    {"temperature": 2.0, "top_n_sigma": 1.0},
    {"top_k": 3, "top_p": 0.75},
    {"temperature": 2.0, "top_k": 3, "top_p": 0.65},
    {"min_p": 0.6, "top_p": 0.55},
    {"top_k": 3, "min_p": 0.4},
]
FEW: list[Settings] = [
    {},
    {"temperature": 2.0},
    {"temperature": 0.0},
    {"top_k": 2},
    {"top_k": 3},
    {"top_p": 0.5},
    {"top_p": 0.75},
    {"min_p": 0.3},
    {"typical_p": 0.5},
    {"top_n_sigma": 1.0},
    {"temperature": 2.0, "top_p": 0.65},
    {"temperature": 2.0, "min_p": 0.5},
]
WIDE: list[Settings] = [
    {"top_k": 40},
    {"top_p": 0.5},
    {"top_p": 0.9},
    {"min_p": 0.1},
    {"typical_p": 0.5},
    {"top_n_sigma": 1.0},
    {"temperature": 0.8, "top_p": 0.8},
    {"temperature": 1.5, "top_k": 40, "top_p": 0.95},
    {"temperature": 1.5, "top_k": 40, "top_p": 0.95, "min_p": 0.05},
]


def grid(dials: Sequence[str]) -> Iterator[tuple[str, Settings]]:
    """Yield each row's name with the settings that an engine of these dials is asked.

    Examples
    --------
    >>> [settings for row, settings in grid(["top_k"]) if row == "1000"]
    [{'top_k': 40}]
    """
    for row in ROWS:
        asked = WIDE if row in ("65", "1000") else SHORT if row in ("A", "B") else FEW
        for settings in asked:
            if set(settings) <= set(dials):
                yield row, settings


def observe(program: Program) -> dict[str, Any]:
    """Ask an engine the whole grid.

    Returns
    -------
    dict
        ``engine``, ``version``, ``how``, ``rows`` and ``observations``, as saved.
    """
    program.hello(PATIENCE)
    draws = "probs" not in program.can
    seen = [
        {"row": row, "settings": settings, **_seen(program, ROWS[row], settings, draws)}
        for row, settings in _progress(program.name, list(grid(program.dials)))
    ]
    return {
        "engine": program.name,
        "version": program.version,
        "how": "counts of its draws" if draws else "its own probabilities after all dials",
        "rows": {row: [_written(z) for z in logits] for row, logits in ROWS.items()},
        "observations": seen,
    }


def _seen(
    program: Program, logits: Sequence[float], settings: Settings, draws: bool
) -> dict[str, Any]:
    n = 4000 if sum(map(math.isfinite, logits)) <= 12 else 40_000
    try:
        if draws:
            tokens = _patiently(program, program.draw, logits, settings, n, SEED)
        else:
            probs = _patiently(program, program.probs, logits, settings)
    except ValueError as words:
        return {"refused": str(words)}
    if not draws:
        kept = [token for token, p in enumerate(probs) if p > 0]
        return {"kept": kept, "probs": [round(p, 6) for p in probs]}
    counts = [0] * len(logits)
    for token in tokens:
        counts[token] += 1
    kept = [token for token, count in enumerate(counts) if count]
    return {"kept": kept, "draws": n, "counts": counts}


def _patiently(program: Program, method: Callable[..., Any], *question: Any) -> Any:
    """Ask, and end a program that says nothing."""
    late = threading.Timer(PATIENCE, program.stop)
    late.start()
    try:
        return method(list(question[0]), *question[1:])
    finally:
        late.cancel()


def _written(z: float) -> float | str:
    return z if math.isfinite(z) else str(z)


def _progress(name: str, questions: Sequence[Any]) -> Iterator[Any]:
    """Yield the questions; a terminal shows how many have been asked."""
    shown = sys.stderr.isatty()
    for number, question in enumerate(questions, 1):
        if shown:
            print(f"\r{name}: {number} of {len(questions)}", end="", file=sys.stderr, flush=True)
        yield question
    if shown:
        print("\r\033[K", end="", file=sys.stderr)


def save(observed: Mapping[str, Any], folder: Path) -> None:
    """Write one file, a line for each row and each observation."""
    lines = [f'"{key}": {json.dumps(observed[key])}' for key in ("engine", "version", "how")]
    rows = [f"{json.dumps(row)}: {json.dumps(logits)}" for row, logits in observed["rows"].items()]
    lines.append('"rows": {\n' + ",\n".join(rows) + "\n}")
    seen = [json.dumps(observation) for observation in observed["observations"]]
    lines.append('"observations": [\n' + ",\n".join(seen) + "\n]")
    folder.mkdir(parents=True, exist_ok=True)
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    (folder / f"{observed['engine']}.json").write_text(text, encoding="utf-8")
