"""Check a program: ``python -m omnivault.conformance PROGRAM [ARG ...]``."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from omnivault.conformance.cases import read_cases
from omnivault.conformance.check import DIALS, KINDS, check
from omnivault.conformance.own import OWN
from omnivault.conformance.programs import HELLO, Program, ProtocolError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0 if all pass, 1 if any case fails, 2 if nothing could be asked."""
    options = _parser().parse_args(arguments)
    if options.list:
        suite = read_cases()
        for one in suite.all:
            print(f"{one.name:28} {one.why}")
        print("\nConventions, and the ways there are (--way CONVENTION=WAY):")
        for name, ways in suite.conventions.items():
            print(f"{name:28} {', '.join(ways)}")
        return 0
    if not options.program:
        print("name a program, or one of " + ", ".join(OWN), file=sys.stderr)
        return 2
    sampler: Any = OWN.get(options.program[0]) or Program(options.program)
    try:
        if isinstance(sampler, Program):
            sampler.hello(max(HELLO, options.seconds))  # it may have a model to load
        dialect = dict(pair.split("=", 1) for pair in options.way)
        with _bar() as on_case:
            report = check(
                sampler,
                kinds=options.kind or None,
                cases=options.case or None,
                dialect=dialect,
                seconds=options.seconds,
                on_case=on_case,
            )
    except (ProtocolError, ValueError) as error:
        print(f"could not check: {error}", file=sys.stderr)
        return 2
    finally:
        if isinstance(sampler, Program):
            sampler.stop()
    print(report)
    if options.junit:
        try:
            report.write_junit(options.junit)
        except OSError as error:
            print(f"could not write {options.junit}: {error.strerror}", file=sys.stderr)
            return 2
    return report.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m omnivault.conformance",
        description="Check a sampler: a program that reads one JSON object a line on its standard "
        f"input and writes one on its standard output, or one of {', '.join(OWN)}. Options come "
        "before it.",
        epilog=f"The dials are {', '.join(DIALS)}; --list lists the cases and the ways.",
    )
    parser.add_argument(
        "--list", action="store_true", help="list the cases, and why they are there"
    )
    parser.add_argument("--case", action="append", default=[], help="only this case; repeatable")
    parser.add_argument("--kind", action="append", default=[], choices=KINDS, help="only this kind")
    parser.add_argument(
        "--way",
        action="append",
        default=[],
        metavar="CONVENTION=WAY",
        type=_pair,
        help="a way that the sampler promises, such as temperature=first; any other fails",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        help="time limit of one question (default 10), and of the start, if more than 60",
    )
    parser.add_argument("--junit", metavar="FILE", help="write a JUnit file too")
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="PROGRAM [ARG ...]")
    return parser


def _pair(text: str) -> str:
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"CONVENTION=WAY is wanted, got {text!r}")
    return text


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[int, int, str], None]]:
    """Show on stderr how far it is, if somebody looks."""
    columns = (MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"))
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True
    ) as bar:
        task = bar.add_task("")

        def on_case(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, description=name)

        yield on_case


if __name__ == "__main__":
    sys.exit(main())
