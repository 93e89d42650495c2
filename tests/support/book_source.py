"""Checkers of the chapters' source: functions of a text that return the problems they find."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser
from myst_parser.parsers.options import options_to_items
from nbformat import NotebookNode
from pybtex.database import parse_string  # type: ignore[import-untyped]
from sphinx_external_toc.parsing import parse_toc_yaml

# The extensions that change where a directive begins and ends, as in _config.yml.
EXTENSIONS = {"attrs_inline", "colon_fence", "deflist", "dollarmath"}
PARSER = create_md_parser(MdParserConfig(enable_extensions=EXTENSIONS), RendererHTML)

# Directives whose body is not Markdown.
VERBATIM = {"code", "code-block", "code-cell", "literalinclude", "math", "raw"}

# Directives of sphinx-proof that claim nothing, and those that claim without a proof.
NOT_STATEMENTS = {"prf:example", "prf:proof", "prf:remark"}
UNPROVED = {"prf:algorithm", "prf:axiom", "prf:definition"}

LEFT_OVER = re.compile(
    r"\b(?:TODO|FIXME|XXX|TBD|to be continued|lorem ipsum|placeholder|coming soon)\b", re.IGNORECASE
)


def none(problems: list[str]) -> None:
    """Fail with the whole list: pytest shortens the two sides of a comparison."""
    assert not problems, "\n".join(["", *problems])


@dataclass(frozen=True)
class Directive:
    """A MyST directive; ``line`` counts from 1 in the file."""

    name: str
    argument: str
    options: Mapping[str, str]
    line: int

    @property
    def label(self) -> str:
        return self.options.get("label", "")

    def __str__(self) -> str:
        return f"line {self.line}: {self.name} {self.label or self.argument or 'without a title'}"


def parse(text: str, line: int = 0) -> Iterator[tuple[Token, Directive | None]]:
    """Every token of a page in reading order, those inside directives included."""
    for token in PARSER.parse(text):
        start = line + (token.map[0] if token.map else 0) + 1
        header = re.match(r"\{([^{}\s]+)\}\s*(.*)", token.info.strip())
        if token.type not in {"fence", "colon_fence"} or header is None:
            yield token, None
            continue
        name, argument = header.groups()
        options, body, skipped = split_options(token.content)
        yield token, Directive(name, argument, options, start)
        if name not in VERBATIM:
            yield from parse(argument, start - 1)
            yield from parse(body, start + skipped)


def split_options(content: str) -> tuple[dict[str, str], str, int]:
    """Split what a directive holds into options, body and the number of lines of the options."""
    lines = content.splitlines()
    if lines and lines[0].startswith("---"):
        end = next((i for i, line in enumerate(lines[1:], 1) if line.startswith("---")), len(lines))
        block, skipped = lines[1:end], end + 1
    else:
        skipped = next((i for i, x in enumerate(lines) if not x.startswith(":")), len(lines))
        block = [line[1:] for line in lines[:skipped]]
    # Only flat options are of use here; the nested ones of a code cell are read with jupytext.
    flat = "\n".join(line for line in block if re.match(r"\w[\w-]*:", line))
    options, _ = options_to_items(flat)
    return dict(options), "\n".join(lines[skipped:]), skipped


def directives(text: str) -> list[Directive]:
    return [directive for _, directive in parse(text) if directive is not None]


def roles(text: str) -> Iterator[tuple[str, str]]:
    """Name and content of every role, such as ``("prf:ref", "thm-order")``."""
    for token, _ in parse(text):
        for child in token.children or []:
            if child.type == "myst_role":
                yield child.meta["name"], child.content


def has_cells(text: str) -> bool:
    return any(directive.name == "code-cell" for directive in directives(text))


def statements(text: str) -> list[Directive]:
    """The numbered statements: every directive of sphinx-proof that claims something."""
    return [
        directive
        for directive in directives(text)
        if directive.name.startswith("prf:") and directive.name not in NOT_STATEMENTS
    ]


def toc_pages(path: Path) -> dict[str, bool]:
    """The pages that _toc.yml names, and whether each stands in a numbered part."""
    toc = parse_toc_yaml(path)
    pages = {toc.root.docname.removesuffix(".md"): False}
    for docname in toc:
        for tree in toc[docname].subtrees:
            pages |= {name.removesuffix(".md"): bool(tree.numbered) for name in tree.files()}
    return pages


def toc_problems(named: Collection[str], existing: Collection[str]) -> list[str]:
    return [
        *(f"_toc.yml names {page}, which does not exist" for page in named if page not in existing),
        *(f"{page} is not in _toc.yml" for page in existing if page not in named),
    ]


def front_matter_problems(text: str) -> list[str]:
    """A page with code cells opens as a notebook only with jupytext front matter."""
    if not has_cells(text):
        return []
    token = PARSER.parse(text)[0]
    header = token.content if token.type == "front_matter" else ""
    keys = ("jupytext", "kernelspec")
    return [
        f"no {key} in the front matter" for key in keys if not re.search(rf"^{key}:", header, re.M)
    ]


def statement_problems(text: str) -> list[str]:
    """A statement has a label; the next thing after a claim is its proof."""
    kept = [directive for directive in directives(text) if directive.name.startswith("prf:")]
    problems = []
    for this, following in zip_longest(kept, kept[1:]):
        if this.name in NOT_STATEMENTS:
            continue
        if not this.label:
            problems.append(f"{this} has no label")
        if this.name in UNPROVED:
            continue
        if following is None or following.name != "prf:proof":
            problems.append(f"{this} is not followed by its proof")
    return problems


def duplicates(labels: Iterable[str]) -> list[str]:
    return sorted(label for label, times in Counter(labels).items() if label and times > 1)


def exercise_problems(text: str, at_least: int = 4) -> list[str]:
    """A chapter has exercises; each has a solution, and each solution is folded."""
    found = directives(text)
    exercises = [d for d in found if d.name in {"exercise", "exercise-start"}]
    solutions = [d for d in found if d.name in {"solution", "solution-start"}]
    solved = {solution.argument for solution in solutions}
    labels = {exercise.label for exercise in exercises}
    problems = []
    if len(exercises) < at_least:
        problems.append(f"{len(exercises)} exercises; a chapter has at least {at_least}")
    problems += [f"{e} has no label" for e in exercises if not e.label]
    problems += [f"{e} has no solution" for e in exercises if e.label and e.label not in solved]
    problems += [f"{s} solves no exercise of this page" for s in solutions if not s.argument]
    problems += [
        f"{s} solves {s.argument}, which is not an exercise of this page"
        for s in solutions
        if s.argument and s.argument not in labels
    ]
    problems += [
        f"{s} is not folded (:class: dropdown)"
        for s in solutions
        if "dropdown" not in s.options.get("class", "").split()
    ]
    return problems


def left_over_problems(text: str) -> list[str]:
    return [
        f"line {number}: {match.group()!r}"
        for number, line in enumerate(text.splitlines(), 1)
        for match in LEFT_OVER.finditer(line)
    ]


def image_problems(text: str) -> list[str]:
    """Pictures that the text itself brings in say what they show."""
    problems = []
    for token, directive in parse(text):
        if directive is not None and directive.name in {"figure", "image"}:
            described = directive.options.get("alt", "").strip()
            problems += [] if described else [f"{directive} has no alternative text"]
        problems += [
            f"the image {child.attrs['src']} has no alternative text"
            for child in token.children or []
            if child.type == "image" and not child.content.strip()
        ]
    return problems


def figure_problems(notebook: NotebookNode) -> list[str]:
    """Every cell of an executed notebook that shows a picture names, captions and describes it."""
    problems = []
    for number, cell in enumerate(notebook.cells, 1):
        outputs = cell.outputs if cell.cell_type == "code" else []
        if not any(mime.startswith("image/") for out in outputs for mime in out.get("data", {})):
            continue
        mystnb = cell.metadata.get("mystnb", {})
        said = {
            "name": mystnb.get("figure", {}).get("name"),
            "caption": mystnb.get("figure", {}).get("caption"),
            "alternative text": mystnb.get("image", {}).get("alt"),
        }
        problems += [
            f"the figure of cell {number} ({cell.source.splitlines()[-1]}) has no {what}"
            for what, text in said.items()
            if not str(text or "").strip()
        ]
    return problems


def stderr_problems(notebook: NotebookNode) -> list[str]:
    return [
        f"cell {number} writes to stderr: {output.text.strip()}"
        for number, cell in enumerate(notebook.cells, 1)
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stderr"
    ]


def bibliography(source: str) -> dict[str, dict[str, str]]:
    """The fields of each entry, by key; the names of the fields in lower case."""
    entries = parse_string(source, "bibtex").entries
    return {key: {f.lower(): v for f, v in e.fields.items()} for key, e in entries.items()}


def bibliography_problems(source: str) -> list[str]:
    """A reader can find every source: a DOI, an arXiv number, an ISBN or an address."""
    return [
        f"{key} has no doi, eprint, isbn or url"
        for key, fields in bibliography(source).items()
        if not any(fields.get(name, "").strip() for name in ("doi", "eprint", "isbn", "url"))
    ]


def citation_problems(text: str, keys: Collection[str]) -> list[str]:
    return [
        f"{{{name}}}`{content}`: no {key.strip()} in the bibliography"
        for name, content in roles(text)
        if name.split(":")[0] == "cite"
        for key in content.split(",")
        if key.strip() not in keys
    ]
