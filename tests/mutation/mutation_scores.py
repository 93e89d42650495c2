"""Save what `mutmut run` found, for the ledger of the book: `make mutants` runs both.

A fault that survives is equivalent if equivalent_mutants.toml says so, by the function and the
lines before and after; any other is printed, and counts as not caught.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from website import ROOT
from website.build.fingerprint import fingerprint
from website.ledger.marks import SCORES, equivalents, score_sources

Fault = tuple[str, tuple[str, ...], tuple[str, ...]]
"""The function, the lines taken away, the lines put in their place."""


def mutmut(*arguments: str) -> str:
    command = [str(Path(sys.executable).parent / "mutmut"), *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    ).stdout


def fault(name: str, diff: str) -> Fault:
    """The fault that mutmut calls so, from its diff, in lines without their indentation."""
    function = re.sub(r"\.x[_ǁ](\w+)__mutmut_\d+$", r".\1", name).replace("ǁ", ".")
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    before, after = (
        tuple(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+"
    )
    return function, before, after


def module_of(name: str) -> str:
    """The file that holds the function of a fault: omnivault/sampling/draw.py."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        path = "/".join(parts[:n]) + ".py"
        if (ROOT / path).is_file():
            return path
    raise ValueError(f"no module holds {name}")


def known_equivalents() -> set[Fault]:
    return {
        (function, tuple(old.splitlines()), tuple(new.splitlines()))
        for group in equivalents(ROOT)
        for function, old, new in group["faults"]
    }


def main() -> None:
    known, used = known_equivalents(), set()
    counts: dict[str, Counter[str]] = {}
    for line in mutmut("results", "--all", "true").splitlines():
        name, _, status = line.strip().partition(": ")
        module = module_of(name)
        count = counts.setdefault(module, Counter())
        count["made"] += 1
        if status in ("killed", "timeout", "segfault"):
            count["caught"] += 1
            continue
        this = fault(name, mutmut("show", name))
        if this in known:
            used.add(this)
            count["equivalent"] += 1
        else:
            print(status, name, *this, sep="\n    ")
    scores = [
        {"module": module, "made_from": fingerprint(ROOT, score_sources(module)), **count}
        for module, count in sorted(counts.items())
    ]
    for score in scores:
        score.setdefault("caught", 0)
        score.setdefault("equivalent", 0)
    (ROOT / SCORES).write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    for stale in sorted(known - used):
        print("no such fault survives:", *stale, sep="\n    ")


if __name__ == "__main__":
    main()
