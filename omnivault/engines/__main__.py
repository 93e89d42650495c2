"""Compare engines, or translate settings from one to another."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from omnivault.engines import (
    DIALECTS,
    DIALS,
    Line,
    NoTranslationError,
    Translation,
    compare,
    defaults,
    dialect,
    translate,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, or 1 with a line on stderr."""
    parsed = vars(_parser().parse_args(arguments))
    settings = {name: parsed[name] for name in DIALS if parsed.get(name) is not None}
    try:
        logits, prompt = _row(parsed["prompt"], parsed["logits"])
        if parsed["command"] == "compare":
            to, with_defaults = parsed["to"], parsed["with_defaults"]
            assert logits is not None
            lines = compare(logits, settings, to=to, with_defaults=with_defaults, prompt=prompt)
            _show_lines(lines, to)
        else:
            source, target = parsed["source"], parsed["target"]
            if parsed["with_defaults"]:
                settings = defaults(source) | settings
            _translate(settings, source, target, logits)
    except (ValueError, TypeError, ImportError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    engines = f"one of {', '.join(DIALECTS)}; a version may follow, as in vllm==0.33.0"
    parser = argparse.ArgumentParser(
        prog="python -m omnivault.engines", description=__doc__, epilog=f"An engine is {engines}."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    comparison = commands.add_parser(
        "compare", help="one row of logits in every dialect", epilog=f"An engine is {engines}."
    )
    translation = commands.add_parser(
        "translate", help="settings of one engine for another", epilog=f"An engine is {engines}."
    )
    comparison.add_argument(
        "prompt",
        nargs="?",
        default="The capital of France is",
        help="text whose next token is asked for (%(default)s)",
    )
    comparison.add_argument(
        "--to",
        default="transformers",
        metavar="ENGINE",
        help="the engine to which distances are measured (%(default)s)",
    )
    translation.add_argument("source", help="the engine that the settings are for")
    translation.add_argument("target", help="the engine that is to do the same")
    translation.add_argument("--prompt", help="a text, for the values nearest on its next token")
    for command in (comparison, translation):
        command.add_argument(
            "--logits", help="numbers in place of a text, as in --logits=-0.5,2,-inf"
        )
        command.add_argument(
            "--with-defaults", action="store_true", help="let the engine's defaults act too"
        )
        for dial, values in DIALS.items():
            kind: Any = int if dial == "top_k" else float
            option = "--" + dial.replace("_", "-")
            usual = f"usually in {values}; engines differ outside"
            command.add_argument(option, type=kind, help=usual, metavar="X")
    return parser


def _row(prompt: str | None, numbers: str | None) -> tuple[Tensor | None, list[int]]:
    """Return logits, and the tokens that stand before them."""
    if numbers is not None:
        return torch.tensor([float(x) for x in numbers.replace(",", " ").split()]), []
    if prompt is None:
        return None, []
    # Only here: without a text nothing of the model needs to be installed.
    from omnivault.model.language_model import load_language_model

    model = load_language_model()
    return model.next_token_logits(prompt), model.encode(prompt).tolist()


def _translate(settings: dict[str, Any], source: str, target: str, logits: Tensor | None) -> None:
    try:
        _show(translate(settings, source, target, logits=logits))
    except NoTranslationError as error:
        rest = {name: value for name, value in settings.items() if name != error.dial}
        if error.dial in settings and error.dial != "temperature":
            print(f"without {error.dial}: {_written(translate(rest, source, target).call)}")
        more = str(error).replace("give logits=", "give --prompt or --logits")
        raise NoTranslationError(error.dial, more) from None
    if settings.get("do_sample") is False:
        print(f"{dialect(source).name} is greedy unless do_sample is set")


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
    print(_written(found.call))
    for convention in found.conventions:
        print(f"may differ, {convention}")
    if found.total_variation is not None:
        print(f"total variation on this row: {found.total_variation:.4f}")


def _written(call: Any) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in call.items())


if __name__ == "__main__":
    sys.exit(main())
