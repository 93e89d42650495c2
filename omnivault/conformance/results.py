"""How real engines did in the cases: what ``make engines`` saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omnivault.conformance.report import Report, in_words

RESULTS = Path(__file__).parent / "results.json"


def read_results(path: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Return what was saved of each engine.

    Returns
    -------
    dict
        By the name of the engine: ``version``; how many cases ``passed``, were ``refused`` (as they
        may be) and ``not asked`` (for want of a dial); those that ``failed``, each with what was
        wrong; and in words the ``dialect`` that it speaks.

    Examples
    --------
    >>> read_results()["llama.cpp"]["dialect"][0]
    'divides by T after the cuts'
    """
    results: dict[str, dict[str, Any]] = json.loads(path.read_text("utf-8"))
    return results


def save_result(report: Report, path: Path = RESULTS) -> None:
    """Write one engine's outcome in the place of an earlier one."""
    results = read_results(path) if path.exists() else {}
    results[report.name] = {
        "version": report.version,
        "passed": len(report.of("passed")),
        "failed": {f"{one.case} ({one.kind})": one.text for one in report.failed},
        "refused": len(report.of("refused")),
        "not asked": len(report.of("not asked")),
        "dialect": in_words(report.dialect, report.conventions),
    }
    ordered = dict(sorted(results.items()))
    path.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", "utf-8")
