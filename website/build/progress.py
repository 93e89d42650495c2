"""Show how far long work is: a bar on a terminal, a line for each thing done anywhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)


class Steps:
    """A number of things to do, some of them at a time.

    Parameters
    ----------
    title
        What is done, such as "Running chapters".
    total
        How many there are.
    """

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total = title, total
        # Lines of a log have no width that they would have to be broken at.
        console = Console(highlight=False, soft_wrap=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[now]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(title, total=total, now="")
        self.count = 0
        self._now: list[str] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Steps:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    @contextmanager
    def doing(self, name: str) -> Iterator[None]:
        """Show a name while its work goes on."""
        with self._lock:
            self._now.append(name)
            self.bar.update(self.task, now=", ".join(self._now))
        try:
            yield
        finally:
            with self._lock:
                self._now.remove(name)
                self.bar.update(self.task, now=", ".join(self._now))

    def step(self, name: str = "", advance: int = 1) -> None:
        """Count one thing as done, without a line for it."""
        self.count += advance
        self.bar.update(self.task, advance=advance, now=name)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.bar.console.print(f"{self.title}: {line}")

    def done(self, name: str, what: str) -> None:
        self._count(f"[green]done[/]    {name}, {what}")

    def failed(self, name: str, why: RenderableType) -> None:
        self._count(f"[bold red]FAILED[/]  {name}")
        self.bar.console.print(why)

    def _count(self, line: str) -> None:
        self.count += 1
        self.bar.update(self.task, advance=1)
        width = len(str(self.total))
        self.bar.console.print(f"{self.title} {self.count:>{width}}/{self.total}  {line}")
