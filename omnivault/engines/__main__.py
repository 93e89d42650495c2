"""Compare engines, or translate settings from one to another, on the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from omnivault.engines import DIALECTS, DIALS, Line, Translation, compare, defaults, translate


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, or 1 with a line on stderr."""
    parsed = vars(_parser().parse_args(arguments))
    settings = {name: parsed[name] for name in DIALS if parsed.get(name) is not None}
    try:
        logits = _logits(parsed["prompt"], parsed["logits"])
        if parsed["command"] == "compare":
            if logits is None:
                logits = _logits("The capital of France is", None)
            assert logits is not None
            lines = compare(
                logits, settings, to=parsed["to"], with_defaults=parsed["with_defaults"]
            )
            _show_lines(lines, parsed["to"])
        else:
            if parsed["with_defaults"]:
                settings = defaults(parsed["source"]) | settings
            _show(translate(settings, parsed["source"], parsed["target"], logits=logits))
    except (ValueError, TypeError, ImportError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m omnivault.engines", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    comparison = commands.add_parser("compare", help="one row of logits in every dialect")
    translation = commands.add_parser("translate", help="settings of one engine for another")
    comparison.add_argument("prompt", nargs="?", help="text whose next token is asked for")
    comparison.add_argument("--to", default="transformers", choices=DIALECTS, metavar="ENGINE")
    translation.add_argument("source", choices=DIALECTS, metavar="source")
    translation.add_argument("target", choices=DIALECTS, metavar="target")
    translation.add_argument("--prompt", help="text whose next token is asked for")
    for command in (comparison, translation):
        command.add_argument("--logits", nargs="+", type=float, help="numbers, in place of a text")
        command.add_argument(
            "--with-defaults", action="store_true", help="let the engine's defaults act too"
        )
        for dial, values in DIALS.items():
            kind: Any = int if dial == "top_k" else float
            option = "--" + dial.replace("_", "-")
            command.add_argument(option, type=kind, help=f"in {values}", metavar="X")
    return parser


def _logits(prompt: str | None, numbers: Sequence[float] | None) -> Tensor | None:
    if numbers is not None:
        return torch.tensor(numbers)
    if prompt is None:
        return None
    # Only here: without a text nothing of the model needs to be installed.
    from omnivault.model.language_model import load_language_model

    return load_language_model().next_token_logits(prompt)


def _show_lines(lines: Sequence[Line], to: str) -> None:
    from rich.console import Console
    from rich.table import Table

    made = Table(box=None)
    made.add_column("engine", no_wrap=True)
    for name in ("kept", "entropy", f"to {to}"):
        made.add_column(name, justify="right")
    made.add_column("")
    for line in lines:
        numbers = [
            "" if line.kept is None else f"{line.kept:,}",
            "" if line.entropy is None else f"{line.entropy:.3f}",
            "" if line.total_variation is None else f"{line.total_variation:.3f}",
        ]
        remark = line.refused or (f"without {', '.join(line.lacks)}" if line.lacks else "")
        made.add_row(f"{line.engine} {line.version}", *numbers, remark)
    terminal = Console()
    (terminal if terminal.is_terminal else Console(width=10_000)).print(made)
    print("entropy in nats; the last number is the total variation between the two laws")


def _show(found: Translation) -> None:
    print(", ".join(f"{name}={value!r}" for name, value in found.call.items()))
    for convention in found.conventions:
        print(f"may differ, {convention}")
    if found.total_variation is not None:
        print(f"total variation on this row: {found.total_variation:.4f}")


if __name__ == "__main__":
    sys.exit(main())
