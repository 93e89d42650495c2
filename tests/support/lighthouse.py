"""Lighthouse on the pages of the built book; as a program, it prints a table of all pages.

The settings are Lighthouse's own for a phone: a slow fourth-generation network and a processor
four times slower than this one, both simulated from what one visit to the page took here. Tests
may ask for another factor, where this processor is slow itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.support.browser import PAGES, SITE, chromium_path, serve
from website import ROOT

PROGRAM = ROOT / "node_modules" / "lighthouse" / "cli" / "index.js"
FLAGS = "--headless=new --no-sandbox --disable-gpu --disable-background-networking"

CATEGORIES = ("performance", "accessibility", "best-practices", "seo")
TIMES = (
    "first-contentful-paint",
    "largest-contentful-paint",
    "interactive",
    "total-blocking-time",
    "cumulative-layout-shift",
)


class Scores(NamedTuple):
    """Scores from 0 to 1; times in milliseconds, from the first request."""

    performance: float
    accessibility: float
    best_practices: float
    seo: float
    first_paint: float
    largest_paint: float
    interactive: float
    blocking: float
    shift: float
    kibibytes: float
    requests: float


def visit(url: str, slowdown: float = 4) -> Scores:
    """Run Lighthouse once."""
    done = subprocess.run(
        [
            "node",
            PROGRAM,
            url,
            "--quiet",
            "--output=json",
            f"--chrome-flags={FLAGS}",
            f"--throttling.cpuSlowdownMultiplier={slowdown}",
        ],
        env={**os.environ, "CHROME_PATH": chromium_path(), "PATH": search_path()},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"Lighthouse failed on {url}:\n{done.stderr}")
    report = json.loads(done.stdout)
    audits = report["audits"]
    return Scores._make(
        [
            *(report["categories"][name]["score"] for name in CATEGORIES),
            *(audits[name]["numericValue"] for name in TIMES),
            audits["total-byte-weight"]["numericValue"] / 1024,
            len(audits["network-requests"]["details"]["items"]),
        ]
    )


def search_path() -> str:
    """Node.js comes with the virtual environment."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def scores(url: str) -> Scores:
    """Return the median of each number over three visits."""
    return Scores._make(map(median, zip(*(visit(url) for _ in range(3)), strict=True)))


def main() -> None:
    """Print a table in Markdown."""
    print("| page |", " | ".join(name.replace("_", " ") for name in Scores._fields), "|")
    print("|---" * (len(Scores._fields) + 1) + "|")
    with serve(SITE) as address:
        for page in PAGES:
            row = scores(f"{address}/{page}.html")
            cells = [f"{x:.2f}" for x in row[:4]] + [f"{x:.0f}" for x in row[4:8]]
            cells += [f"{row.shift:.3f}", f"{row.kibibytes:.0f}", f"{row.requests:.0f}"]
            print(f"| {page} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
