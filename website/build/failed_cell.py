"""What to say about a cell that failed: where it is, its lines, and the values that it compared."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat import NotebookNode
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape

AROUND = 3
"""Lines of the cell shown on each side of the one that failed."""
AT_MOST = 12
"""Lines of the message: a screenful has to hold all of it."""


@dataclass(frozen=True)
class FailedCell:
    """A cell that failed, with what a reader of the build needs to mend it."""

    path: Path
    number: int
    """Which of the page's code cells, from 1."""
    line: int
    """In the file, from 1."""
    lines: tuple[tuple[int, str], ...]
    """The lines around that one, with their numbers."""
    message: str
    again: str
    """The command that runs this chapter alone."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield f"[bold red]{escape(str(self.path))}:{self.line}[/], code cell {self.number}"
        for number, text in self.lines:
            mark = "[bold red]>[/]" if number == self.line else " "
            yield f"  {mark} {number:>4} | {escape(text)}"
        lines = self.message.splitlines()
        more = [f"... and {len(lines) - AT_MOST} lines more"] if len(lines) > AT_MOST else []
        for text in [*lines[:AT_MOST], *more]:
            yield f"  {escape(text)}"
        yield f"  Run this chapter alone: [bold]{escape(self.again)}[/]"


def explain_in(
    path: Path,
    notebook: NotebookNode,
    index: int,
    error: BaseException,
    ask: Callable[[str], str],
) -> FailedCell:
    """Make the report of a cell; ``ask`` runs code in its process, which still has all values."""
    cell = notebook.cells[index]
    number = sum(cell.cell_type == "code" for cell in notebook.cells[: index + 1])
    text = path.read_text(encoding="utf-8")
    first = text[: max(0, text.find(cell.source))].count("\n") + 1
    within, message = 1, f"{type(error).__name__}: {error}".strip()
    if isinstance(error, CellTimeoutError):
        message = f"the cell did not end within its limit: {str(error).splitlines()[0]}"
    elif isinstance(error, CellExecutionError):
        line, _, told = ask(f"{inspect.getsource(values)}\nprint(*values())").partition(" ")
        within, message = int(line), told.strip()
    source = cell.source.splitlines()
    near = range(max(1, within - AROUND), min(len(source), within + AROUND) + 1)
    page = path.with_suffix("").as_posix().partition("/book/")[2] or path.stem
    return FailedCell(
        path=path,
        number=number,
        line=first + within - 1,
        lines=tuple((first + n - 1, source[n - 1]) for n in near),
        message=re.sub(r"\x1b\[[\d;]*m", "", message),
        again=f"make chapter PAGE={page}",
    )


def values() -> tuple[int, str]:
    """Say on which line of the last cell it failed, and why; runs where the cell ran.

    An ``assert`` that failed is evaluated once more, by pytest, which shows the values. Whatever
    cannot be evaluated twice is reported as it was.
    """
    import ast
    import linecache
    import sys
    import traceback

    error, trace = sys.last_value, sys.last_traceback
    line = getattr(error, "lineno", None) or 1  # of a SyntaxError
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if "ipykernel_" in name:
            line = trace.tb_lineno
        last, trace = trace, trace.tb_next
    message = "".join(traceback.format_exception_only(error)).strip()
    if not isinstance(error, AssertionError):
        return line, message
    frame, at = last.tb_frame, last.tb_lineno
    text = "".join(linecache.getlines(frame.f_code.co_filename))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Assert) and node.lineno <= at <= (node.end_lineno or node.lineno):
            from _pytest.assertion.rewrite import rewrite_asserts

            module = ast.Module([node], [])
            rewrite_asserts(module, text.encode())
            try:
                exec(compile(module, "<again>", "exec"), {**frame.f_globals, **frame.f_locals})
            except AssertionError as again:
                return line, f"AssertionError: {again}"
            except Exception:
                break
    return line, message
