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

import argparse
import json
import math
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from types import TracebackType
from typing import Any

from omnivault.conformance.adapters.environments import adapters, command

__all__ = ["ROWS", "Program", "grid", "main", "observe"]

SAVED = Path(__file__).parents[2] / "engines" / "observations"
LARGE = {"vllm"}  # takes gigabytes, so it is asked only when it is named
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


class Program:
    """An adapter that runs as a program, asked a line at a time.

    Parameters
    ----------
    arguments
        The command that starts it. What it writes to stderr is thrown away.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Return the answer to a request.

        Raises
        ------
        RuntimeError
            If the program ends, says nothing for five minutes, or answers with an error.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        late = threading.Timer(PATIENCE, self.process.kill)
        late.start()
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            late.cancel()
        if not line:
            raise RuntimeError(f"the program ended with {self.process.wait()} when asked {request}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{answer['error']} (asked {request})")
        return answer

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.communicate()


def observe(program: Program) -> dict[str, Any]:
    """Ask an engine the whole grid.

    Returns
    -------
    dict
        ``engine``, ``version``, ``how``, ``rows`` and ``observations``, as saved.
    """
    hello = program.ask(do="hello")
    draws = "probs" not in hello["can"]
    seen = [
        {"row": row, "settings": settings, **_seen(program, ROWS[row], settings, draws)}
        for row, settings in _progress(hello["name"], list(grid(hello["dials"])))
    ]
    return {
        "engine": hello["name"],
        "version": hello["version"],
        "how": "counts of its draws" if draws else "its own probabilities after all dials",
        "rows": {row: [_written(z) for z in logits] for row, logits in ROWS.items()},
        "observations": seen,
    }


def _seen(
    program: Program, logits: Sequence[float], settings: Settings, draws: bool
) -> dict[str, Any]:
    asked = {"logits": [_written(z) for z in logits], "settings": settings}
    if not draws:
        answer = program.ask(do="probs", **asked)
        if "refused" in answer:
            return answer
        probs = answer["probs"]
        kept = [token for token, p in enumerate(probs) if p > 0]
        return {"kept": kept, "probs": [round(p, 6) for p in probs]}
    n = 4000 if sum(map(math.isfinite, logits)) <= 12 else 40_000
    answer = program.ask(do="draw", **asked, n=n, seed=SEED)
    if "refused" in answer:
        return answer
    counts = [0] * len(logits)
    for token in answer["tokens"]:
        counts[token] += 1
    kept = [token for token, count in enumerate(counts) if count]
    return {"kept": kept, "draws": n, "counts": counts}


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask the engines named on the command line, and say in a line how each went."""
    there = adapters()
    parser = argparse.ArgumentParser(description="Ask real engines, and save what they answer.")
    parser.add_argument(
        "name", nargs="*", help=f"of {', '.join(there)}; without, all but {', '.join(LARGE)}"
    )
    parser.add_argument("--into", type=Path, default=SAVED, help="folder of the observations")
    parser.add_argument(
        "--environments",
        type=Path,
        default=Path("_build/engines"),
        help="folder of the engines' environments, made where they are missing",
    )
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.name) - set(there)
    if unknown:
        parser.error(f"no adapter {', '.join(sorted(unknown))}; there are: {', '.join(there)}")
    failed = 0
    for name in chosen.name or [name for name in there if name not in LARGE]:
        start = time.monotonic()
        try:
            with Program(command(there[name], chosen.environments)) as program:
                observed = observe(program)
        except (RuntimeError, json.JSONDecodeError) as problem:
            failed += 1
            print(f"{name}: not observed: {' '.join(str(problem).split())[:400]}", flush=True)
            continue
        save(observed, chosen.into)
        seen = observed["observations"]
        refused = sum("refused" in observation for observation in seen)
        print(
            f"{observed['engine']} {observed['version']}: {len(seen)} observations, "
            f"{refused} refused, {time.monotonic() - start:.0f} s",
            flush=True,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
