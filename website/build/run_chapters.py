"""Run the chapters a few at a time, before Sphinx reads them one by one.

MyST-NB would execute a chapter when Sphinx reads it, one after the other, and look at nothing but
the text of its cells. Here those whose outputs are not in the cache run beside one another first,
each in a process of its own, and the cache remembers what they depend on: a chapter runs again when
its cells change, or something that it imports (dependencies.py), and not when anything else does.

A chapter that fails is reported at once and stops the build when all others have run; those are
then in the cache, and the next build runs the failed ones alone.

Each chapter computes with one thread: its last digits are then the same however many cores there
are, and the cores have enough to do.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import yaml
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract
from jupyter_client.manager import AsyncKernelManager
from myst_nb.core.config import NbParserConfig
from myst_nb.core.read import create_nb_reader
from myst_parser.config.main import MdParserConfig
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import SphinxError

from website import ROOT
from website.build.dependencies import Project
from website.build.failed_cell import FailedCell, explain_in
from website.build.kernels import server
from website.build.progress import Steps

CACHE = Path("_build", ".jupyter_cache")
PEAKS = Path("_build", "chapters.json")
"""By page, the most memory that the process of the chapter held at a time, in bytes."""

AT_ONCE = min(4, os.cpu_count() or 1)

# What every chapter runs in, besides what it imports itself.
KERNEL = "import ipykernel, matplotlib_inline, myst_nb"

# Linux counts in ru_maxrss what the process that started this one held, so its own is read there.
PEAK = """
import pathlib, re, resource, sys
if (status := pathlib.Path("/proc/self/status")).exists():
    print(int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1]) * 1024)
else:
    unit = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
"""


@dataclass(frozen=True)
class Chapter:
    """A page with cells."""

    page: str
    """Its name, such as "book/softmax/numerics"."""
    path: Path
    notebook: NotebookNode
    """Its cells; a run puts the outputs into them."""

    def code(self) -> list[str]:
        return [cell.source for cell in self.notebook.cells if cell.cell_type == "code"]

    def key(self, project: Project) -> str:
        """Name what the outputs depend on besides the cells."""
        return project.key(KERNEL, *self._programs(project.root))

    def files(self, project: Project) -> set[Path]:
        return project.files(*self._programs(project.root))

    def _programs(self, root: Path) -> Iterator[Path | str]:
        for source in self.code():
            try:
                compile(source, self.page, "exec")
            except SyntaxError:
                continue  # the run will say so
            yield source
        # `exercises.check` finds by the label which module to import.
        labels = set(re.findall(r'exercises\.check\(\s*"([^"]+)"', "\n".join(self.code())))
        for path in sorted(root.glob("omnivault/exercises/*.py")) if labels else ():
            text = path.read_text(encoding="utf-8")
            if any(re.search(rf'@exercise\(\s*"{label}"', text) for label in labels):
                yield path


@dataclass(frozen=True)
class Run:
    """How one run of a chapter ended."""

    seconds: float
    peak: int
    """The most memory that its process held at a time, in bytes; 0 if it failed."""
    failed: FailedCell | None = None


class FailedChaptersError(SphinxError):
    """Chapters that failed; each has been reported."""

    category = "The book is not built"


def run(
    chapter: Chapter,
    limit: int,
    settings: Mapping[str, str] = MappingProxyType({}),
    command: Sequence[str] | None = None,
) -> Run:
    """Run all cells in a new process.

    Parameters
    ----------
    chapter
        Its notebook receives the outputs.
    limit
        Of a cell, in seconds of the clock.
    settings
        Environment variables besides those of this process.
    command
        The command of a kernel without its file, from ``kernels.server``; or that of Jupyter.
    """
    start = time.monotonic()
    # Connected by files: no port is opened, and no kernel warns that others could listen. Their
    # names are short, as those of sockets must be.
    with TemporaryDirectory(prefix="k") as folder:
        manager = AsyncKernelManager(
            kernel_name="python3", transport="ipc", connection_file=f"{folder}/k"
        )
        if command is not None and manager.kernel_spec is not None:
            manager.kernel_spec.argv = [*command, "-f", "{connection_file}"]
        place = {"metadata": {"path": str(chapter.path.parent)}}
        client = NotebookClient(
            chapter.notebook, km=manager, timeout=limit, resources=place, record_timing=False
        )
        with client.setup_kernel(cleanup_kc=True, env=environment(settings)):
            for index, cell in enumerate(chapter.notebook.cells):
                try:
                    client.execute_cell(cell, index)
                except (CellControlSignal, DeadKernelError) as error:
                    failed = explain_in(
                        chapter.path, chapter.notebook, index, error, lambda code: ask(client, code)
                    )
                    return Run(time.monotonic() - start, 0, failed)
            peak = int(ask(client, PEAK))
    for cell in chapter.notebook.cells:
        merge_streams(cell.get("outputs", []))
    return Run(time.monotonic() - start, peak)


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a kernel, which computes with one thread unless something is said.

    Large tensors that are freed go back to the system at once (glibc; elsewhere it does nothing),
    so that chapters that run beside one another take what they need and no reserves.
    """
    ours = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(8 * 2**20)}
    return {**ours, **os.environ, **settings}


def ask(client: NotebookClient, code: str) -> str:
    """Run code after the cells, and return what it printed."""
    cells = client.nb.cells
    cells.append(new_code_cell(code))
    try:
        client.execute_cell(cells[-1], len(cells) - 1, store_history=False)
        return "".join(output.get("text", "") for output in cells[-1].outputs)
    finally:
        cells.pop()


def merge_streams(outputs: list[NotebookNode]) -> None:
    """Join what a cell printed in pieces: where it was cut is a matter of time alone."""
    for i in range(len(outputs) - 1, 0, -1):
        this, next_ = outputs[i - 1], outputs[i]
        if this.output_type == next_.output_type == "stream" and this.name == next_.name:
            this.text += outputs.pop(i).text


def run_all(
    chapters: Iterable[Chapter],
    limit: int,
    ran: Callable[[Chapter, Run], None],
    settings: Mapping[str, str] = MappingProxyType({}),
) -> list[Chapter]:
    """Run chapters beside one another; call ``ran`` for each that succeeded, return the others."""
    todo, failed = list(chapters), []

    def run_one(chapter: Chapter) -> Run:
        with steps.doing(chapter.page.removeprefix("book/")):
            return run(chapter, limit, settings, command)

    with (
        Steps("Running chapters", len(todo)) as steps,
        # One chapter alone starts sooner with what it needs itself.
        server(environment(settings)) if len(todo) > 1 else nullcontext() as command,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        runs = {pool.submit(run_one, chapter): chapter for chapter in todo}
        try:
            for future in as_completed(runs):
                chapter, done = runs[future], future.result()
                name = chapter.page.removeprefix("book/")
                if done.failed is None:
                    steps.done(name, f"{done.seconds:.1f} s")
                    ran(chapter, done)
                else:
                    steps.failed(name, done.failed)
                    failed.append(chapter)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # an interrupted build starts no more of them
            raise
    return failed


def read(page: str, path: Path, settings: Any = None) -> Chapter | None:
    """Return a page as a chapter if it has cells; ``settings`` are those of MyST-NB."""
    text = path.read_text(encoding="utf-8")
    reader = create_nb_reader(
        str(path),
        MdParserConfig() if settings is None else settings.myst_config,
        NbParserConfig() if settings is None else settings.mystnb_config,
        text,
    )
    notebook = reader.read(text) if reader is not None else None
    if notebook is None or not any(cell.cell_type == "code" for cell in notebook.cells):
        return None
    return Chapter(page, path, notebook)


def main(pages: Sequence[str]) -> int:
    """Run chapters alone, by the names of their pages; nothing is kept."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    chapters = []
    for page in pages:
        path = ROOT / "book" / f"{page}.md"
        chapter = read(f"book/{page}", path) if path.is_file() else None
        if chapter is None:
            near = difflib.get_close_matches(page, names(), n=3) or names()
            print(f"there is no chapter {page!r}; there is {', '.join(near)}", file=sys.stderr)
            return 2
        chapters.append(chapter)
    if not chapters:
        print(f"say which: make chapter PAGE={names()[0]}", file=sys.stderr)
        return 2
    return bool(run_all(chapters, config["execute"]["timeout"], lambda chapter, run: None))


def names() -> list[str]:
    """Name all pages, as ``main`` takes them."""
    book = ROOT / "book"
    return sorted(path.relative_to(book).with_suffix("").as_posix() for path in book.rglob("*.md"))


# Sphinx -------------------------------------------------------------------------------------------


@cache
def project() -> Project:
    return Project(ROOT)


def chapter_of(app: Sphinx, page: str) -> Chapter | None:
    return read(page, Path(app.env.doc2path(page)), app.env)


def is_cached(cache: JupyterCacheAbstract, chapter: Chapter, key: str) -> bool:
    try:
        return bool(cache.match_cache_notebook(chapter.notebook).data.get("key") == key)
    except KeyError:
        return False


def run_chapters(app: Sphinx, env: Any, pages: list[str]) -> None:
    """Put the outputs of all pages that are about to be read into the cache."""
    kept = get_cache(env.mystnb_config.execution_cache_path)
    project.cache_clear()
    found = [chapter for page in pages if (chapter := chapter_of(app, page)) is not None]
    keys = {chapter.page: chapter.key(project()) for chapter in found}
    todo = [chapter for chapter in found if not is_cached(kept, chapter, keys[chapter.page])]

    def keep(chapter: Chapter, done: Run) -> None:
        facts = {
            "execution_seconds": done.seconds,
            "key": keys[chapter.page],
            "peak": done.peak,
            "page": chapter.page,
        }
        bundle = CacheBundleIn(chapter.notebook, str(chapter.path), data=facts)
        kept.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)

    failed = run_all(todo, env.mystnb_config.execution_timeout, keep) if todo else []
    if failed:
        names = ", ".join(chapter.page for chapter in failed)
        raise FailedChaptersError(
            f"{len(failed)} of {len(found)} chapters failed: {names}. The others are kept; after "
            "a change, the same command runs these alone."
        )
    known = (ROOT / PEAKS).read_text(encoding="utf-8") if (ROOT / PEAKS).is_file() else "{}"
    peaks = {x.page: kept.match_cache_notebook(x.notebook).data["peak"] for x in found}
    there = {page: x for page, x in json.loads(known).items() if (ROOT / f"{page}.md").is_file()}
    text = json.dumps(there | peaks, indent=1, sort_keys=True) + "\n"
    (ROOT / PEAKS).write_text(text, encoding="utf-8")


def note_imports(app: Sphinx, page: str, content: list[str]) -> None:
    """Have Sphinx read a page again when something changes that its cells import."""
    chapter = chapter_of(app, page)
    for path in chapter.files(project()) if chapter is not None else ():
        app.env.note_dependency(str(path))


def choose_cache(app: Sphinx, config: Config) -> None:
    """Keep the outputs beside the site, wherever a build writes to."""
    config.nb_execution_cache_path = str(ROOT / CACHE)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("config-inited", choose_cache)
    app.connect("env-before-read-docs", run_chapters)
    app.connect("source-read", note_imports)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
