"""What the runs of several experiments have in common: a processor, and a file."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def processor() -> str:
    """Name the kind of processor, as far as the system tells.

    Examples
    --------
    >>> len(processor()) > 0
    True
    """
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if "model name" in line:
                return line.split(":")[1].strip()
    return platform.machine()


def save(run: Mapping[str, Any], target: Path) -> None:
    """Write a run as JSON, whole or not at all.

    Parameters
    ----------
    run
        What JSON can hold.
    target
        The file; its folder is made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(target)
    print(f"saved in {target}")
