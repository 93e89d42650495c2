"""Chapters as notebooks that run and read well wherever they are opened.

Each page with code becomes an executed notebook, ``notebooks/<part>/<chapter>.ipynb`` in the site:
its text is Markdown (``markdown.py``), its cells are those that the build has run (``cells.py``).
The page offers it for download and, where the address of the repository is known, to open it in
Colab and on Binder; the workflow publishes the notebooks where these links point.
"""

from __future__ import annotations

import posixpath
import subprocess
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import nbformat
from docutils import nodes
from jupyter_cache import get_cache
from myst_nb.sphinx_ import NbMetadataCollector
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from website import ROOT
from website.notebooks.cells import first_cell, reader_cell
from website.notebooks.markdown import Page

BRANCH = "published"
"""The branch of the repository that holds the notebooks besides the sources."""


def place(page: str) -> str:
    """Where the notebook of a page is, in the site and on the branch."""
    return f"notebooks/{page.removeprefix('book/')}.ipynb"


def has_code(app: Sphinx, page: str) -> bool:
    return NbMetadataCollector.get_exec_data(app.env, page) is not None


def executed(app: Sphinx, page: str) -> NotebookNode:
    """Return the cells of a page with their outputs."""
    folder = Path(app.outdir).parent / "jupyter_execute"
    notebook: NotebookNode = nbformat.read(folder / f"{page}.ipynb", as_version=4)
    if any(cell.get("outputs") for cell in notebook.cells):
        return notebook
    # Cells that were not run anew are written without their outputs, which are in the cache.
    settings: Any = app.env  # to which MyST-NB adds its own
    cache = get_cache(settings.mystnb_config.execution_cache_path)
    _, notebook = cache.merge_match_into_notebook(notebook)
    return notebook


def linker(app: Sphinx, page: str) -> Any:
    """Say where a link of a notebook leads.

    Inside the notebook itself it is text alone, since not every program can follow it there.
    """

    def target(link: nodes.reference) -> str:
        if not link.get("internal"):
            return str(link.get("refuri", ""))  # none where a link leads nowhere: a warning says so
        address, _, anchor = link.get("refuri", "").partition("#")
        if not address:
            return ""
        there = urljoin(f"/{page}.html", address).removeprefix("/").removesuffix(".html")
        if app.config.html_baseurl:
            return f"{app.config.html_baseurl}{there}.html{'#' * bool(anchor)}{anchor}"
        if there not in app.env.found_docs or not has_code(app, there):
            return ""
        return relative(place(page), place(there))

    return target


def relative(start: str, end: str) -> str:
    """Lead from one file of the site to another."""
    return posixpath.relpath(end, posixpath.dirname(start))


def write_notebook(app: Sphinx, page: str, doctree: nodes.document) -> None:
    cells = executed(app, page).cells
    text = Page(app.env, page, linker(app, page))
    made: list[NotebookNode] = []
    open_text: list[str] = []

    def close_text() -> None:
        if open_text:
            made.append(nbformat.v4.new_markdown_cell("\n\n".join(open_text)))
            open_text.clear()

    for kind, part in text.parts(doctree):
        if kind == "code":
            close_text()
            index, solution = part
            made.append(reader_cell(cells[index], solution))
        else:
            if kind == "heading":
                close_text()
            open_text.append(part)
    close_text()
    made[0].source += f"\n\n{about(app, page)}"
    code = [cell.source for cell in made if cell.cell_type == "code"]
    repository = app.config.html_theme_options["repository_url"]
    made.insert(1, first_cell(code, f"git+{repository}@{commit()}" if repository else ""))
    count = 0
    for number, cell in enumerate(made):
        cell.id = f"cell-{number}"  # the same in every build
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = count
    notebook = nbformat.v4.new_notebook(cells=made)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.validate(notebook)
    path = Path(app.outdir, place(page))
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


@cache
def commit() -> str:
    """Return the commit that the notebooks are made of: they install the package from there."""
    asked = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )
    if asked.returncode:
        raise ExtensionError(
            "the address of the repository is set, but the sources are no checkout of it, so that "
            f"notebooks cannot say which commit they belong to: {asked.stderr.strip()}"
        )
    return asked.stdout.strip()


def about(app: Sphinx, page: str) -> str:
    """Say where the notebook comes from."""
    book, url = app.config.html_title, app.config.html_baseurl
    here = f"[*{book}*]({url}{page}.html)" if url else f"*{book}*"
    return f"A page of {here} as a notebook: run it from top to bottom, then change it."


def links(repository: str, page: str) -> dict[str, str]:
    """Where a page can be opened as a notebook, by name; nothing where that cannot be known."""
    host, path = urlsplit(repository).netloc, urlsplit(repository).path.strip("/")
    if host != "github.com":
        return {}
    return {
        "Colab": f"https://colab.research.google.com/github/{path}/blob/{BRANCH}/{place(page)}",
        "Binder": f"https://mybinder.org/v2/gh/{path}/{BRANCH}?urlpath=lab/tree/{place(page)}",
    }


def offer(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    if doctree is None or not has_code(app, page):
        return
    write_notebook(app, page, doctree)
    context["notebook"] = relative(page, place(page))
    context["open_in"] = links(app.config.html_theme_options["repository_url"], page)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-page-context", offer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
