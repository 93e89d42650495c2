"""Ask real engines all that there is to ask, and save it: ``make engines``.

Each engine is installed, pinned, in an environment of its own. It is asked the grid of
:mod:`~omnivault.conformance.adapters.observe`, to which the dialects are held, and then the cases
of the conformance suite, whose outcome the chapter on engines shows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from omnivault.conformance.adapters.environments import adapters, command
from omnivault.conformance.adapters.observe import SAVED, observe, save
from omnivault.conformance.check import check
from omnivault.conformance.programs import Program, ProtocolError
from omnivault.conformance.results import RESULTS, save_result

LARGE = {"transformers_js", "vllm"}
"""The first draws slowly, the second takes gigabytes: they are asked only when they are named."""
SECONDS = 60.0
"""Time limit of one question of a case."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask the engines named on the command line, and say in a line how each went."""
    there = adapters()
    usual = [name for name in there if name not in LARGE]
    parser = argparse.ArgumentParser(description="Ask real engines, and save what they answer.")
    parser.add_argument(
        "name", nargs="*", help=f"of {', '.join(there)}; without, {', '.join(usual)}"
    )
    parser.add_argument("--into", type=Path, default=SAVED, help="folder of the observations")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the outcomes")
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
    for name in chosen.name or usual:
        start = time.monotonic()
        try:
            with Program(command(there[name], chosen.environments)) as program:
                observed = observe(program)
                save(observed, chosen.into)
                report = check(program, seconds=SECONDS)
                save_result(report, chosen.results)
        except (RuntimeError, ProtocolError) as problem:
            failed += 1
            print(f"{name}: not asked: {' '.join(str(problem).split())[:400]}", flush=True)
            continue
        print(
            f"{report.name} {report.version}: {len(observed['observations'])} observations; "
            f"cases: {len(report.of('passed'))} passed, {len(report.of('failed'))} failed, "
            f"{len(report.of('refused'))} refused, {len(report.of('not asked'))} not asked; "
            f"{time.monotonic() - start:.0f} s",
            flush=True,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
