"""Run the chapters a few at a time, before Sphinx reads them one by one.

Sphinx executes a chapter when it reads it, and it reads one after the other. Here those that have
changed run beside one another first, each in a process of its own, and their outputs go into the
cache where MyST-NB will find them. A chapter that fails is left to MyST-NB, which reports it.

Each chapter computes with one thread: its last digits are then the same however many cores there
are, and the cores have enough to do.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import ExecutionResult, single_nb_execution
from myst_nb.core.read import create_nb_reader
from nbformat import NotebookNode
from sphinx.application import Sphinx

AT_ONCE = min(4, os.cpu_count() or 1)


def run_chapters(app: Sphinx, env: Any, pages: list[str]) -> None:
    cache = get_cache(env.mystnb_config.execution_cache_path)
    chapters: list[tuple[Path, NotebookNode]] = []
    for page in pages:
        path = Path(env.doc2path(page))
        text = path.read_text(encoding="utf-8")
        reader = create_nb_reader(str(path), env.myst_config, env.mystnb_config, text)
        if reader is None:
            continue
        notebook = reader.read(text)
        if not any(cell.cell_type == "code" for cell in notebook.cells):
            continue
        try:
            cache.match_cache_notebook(notebook)
        except KeyError:
            chapters.append((path, notebook))

    def run(chapter: tuple[Path, NotebookNode]) -> ExecutionResult:
        path, notebook = chapter
        timeout = env.mystnb_config.execution_timeout
        return single_nb_execution(notebook, str(path.parent), timeout, allow_errors=False)

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for (path, _), result in zip(chapters, pool.map(run, chapters), strict=True):
            if result.err is None:
                for cell in result.nb.cells:
                    merge_streams(cell.get("outputs", []))
                bundle = CacheBundleIn(
                    result.nb, str(path), data={"execution_seconds": result.time}
                )
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def merge_streams(outputs: list[NotebookNode]) -> None:
    """Join what a cell printed in pieces: where it was cut is a matter of time alone."""
    for i in range(len(outputs) - 1, 0, -1):
        this, next_ = outputs[i - 1], outputs[i]
        if this.output_type == next_.output_type == "stream" and this.name == next_.name:
            this.text += outputs.pop(i).text


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("env-before-read-docs", run_chapters)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
