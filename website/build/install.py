"""Install packages with pip, and show which and how much: ``python -m install ARGUMENTS OF PIP``.

While packages are being unpacked, a file ``.unfinished`` lies in the environment. If it stays,
something has stopped pip half-way, and packages may be in pieces: the Makefile then makes the
environment anew. A download that fails leaves the environment as it was.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

from packaging.markers import Marker

from website.build.progress import Steps

UNFINISHED = Path(sys.prefix) / ".unfinished"

PACKAGE = r"(?:Collecting|Requirement already satisfied:) ([\w.-]+)"
FILE = r"\s*(?:Downloading|Using cached) (\S+) \(([\d.]+) ([kMG])B\)"
LARGE = 20.0
"""Megabytes from which a download gets a line of its own."""


def pins(arguments: list[str]) -> int:
    """Count the packages that the files of requirements name for this system."""
    count = 0
    for name, file in pairwise(arguments):
        if name == "-r":
            for line in Path(file).read_text(encoding="utf-8").splitlines():
                pin, _, marker = line.partition("#")[0].partition(" ;")
                count += bool(re.match(r"[\w.-]+==", pin) and is_met(marker))
    return count


def is_met(marker: str) -> bool:
    return not marker.strip() or Marker(marker).evaluate()


def main(arguments: list[str]) -> int:
    start, megabytes, said = time.monotonic(), 0.0, []
    total = pins(arguments)
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    with (
        subprocess.Popen(
            [*command, "--progress-bar", "off", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as pip,
        Steps("Installing packages", total) as steps,
    ):
        assert pip.stdout is not None
        if total:
            steps.say(f"{total} packages")
        for line in pip.stdout:
            said.append(line)
            if found := re.match(PACKAGE, line):
                steps.step(found[1])
            elif found := re.match(FILE, line):
                size = float(found[2]) * {"k": 1e-3, "M": 1, "G": 1e3}[found[3]]
                megabytes += size
                if size >= LARGE:
                    steps.say(f"{found[1].partition('-')[0]}, {size:,.0f} MB")
            elif line.startswith("Installing collected packages"):
                UNFINISHED.touch()
                steps.step("unpacking", 0)
        code = pip.wait()
        if code:
            sys.stderr.write("".join(said[-20:]))
            print("Packages could not be installed; pip's last lines stand above.", file=sys.stderr)
        else:
            UNFINISHED.unlink(missing_ok=True)
            took = time.monotonic() - start
            if total:
                steps.say(f"{total} packages, {megabytes:,.0f} MB, {took:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
