"""What fails the build of the book, what executes again, and the pins."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from xml.etree import ElementTree

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import omnivault
from tests.support.book_source import none
from website import ROOT
from website.build import build_book

# --- builds of a tiny book under the real configuration

FRONT_MATTER = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# Tiny

"""
GOOD = """\
:::{prf:theorem} Order
:label: thm-order

$a > b$ and, by {eq}`eq-order` and {cite:t}`luce1959`, not less.
:::

$$
a = \\frac{b}{2}
$$ (eq-order)

See {prf:ref}`thm-order`.
"""
# How often the chapter was executed stands in a file; what it prints comes from the package.
CELL = """
```{{code-cell}} ipython3
import omnivault
from omnivault import exercises

with open({counter!r}, "a", encoding="utf-8") as file:
    file.write("x")
print("package version:", omnivault.__version__)
exercises.check("ex-newton", ...)
```
"""
BIBLIOGRAPHY = """\
@book{luce1959,
  author = {Luce, R. Duncan},
  title = {Individual Choice Behavior},
  publisher = {Wiley},
  year = {1959},
}
"""


@dataclass(frozen=True)
class Build:
    """How a build ended and what it said."""

    code: int
    said: str


def make_book(root: Path, page: str) -> Path:
    """A book of one page under the configuration, the extensions and the package of the project."""
    shutil.copytree(ROOT / "omnivault", root / "omnivault")
    shutil.copytree(ROOT / "website", root / "website")
    (root / "book").mkdir()
    for name in ("_config.yml", "requirements.txt", "requirements-data.txt"):
        shutil.copy(ROOT / name, root)
    (root / "node_modules").symlink_to(ROOT / "node_modules")
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/tiny\n", encoding="utf-8")
    (root / "book" / "references.bib").write_text(BIBLIOGRAPHY, encoding="utf-8")
    (root / "book" / "tiny.md").write_text(
        f"{FRONT_MATTER}{page}\n```{{bibliography}}\n```\n", encoding="utf-8"
    )
    return root


def build(root: Path, **environment: str) -> Build:
    """Run the program that `make book` runs."""
    done = subprocess.run(
        [sys.executable, "-m", "website.build.build_book"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "NO_COLOR": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    return Build(done.returncode, re.sub(r"\x1b\[[\d;]*m", "", done.stdout))


def test_make_runs_that_program() -> None:
    said = subprocess.run(
        ["make", "-n", "-B", "book"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    ).stdout
    assert "python -m website.build.build_book" in said


class Stage(NamedTuple):
    """One build in the life of a book: how it went, executions so far, the page it left."""

    build: Build
    executions: int
    page: str


class History:
    """The builds of one book, each after a change."""

    def __init__(self, root: Path) -> None:
        self.root, self.counter = root, root / "executions"
        make_book(root, GOOD + CELL.format(counter=str(self.counter)))
        self.page = root / "book" / "tiny.md"
        self.site = root / "_build" / "html" / "book" / "tiny.html"

    def change(self, file: str, old: str, new: str) -> None:
        path = self.root / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    def build(self) -> Stage:
        result = build(self.root)
        executions = len(self.counter.read_text()) if self.counter.exists() else 0
        return Stage(result, executions, self.site.read_text() if self.site.exists() else "")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stage]:
    """Build a book anew, and after changes that concern its chapter or do not."""
    book = History(tmp_path_factory.mktemp("good"))
    stages = {"new": book.build(), "unchanged": book.build()}
    version = f'__version__ = "{omnivault.__version__}"'
    book.change("omnivault/__init__.py", version, '__version__ = "9.9.9"')
    stages["the package"] = book.build()
    book.change("omnivault/exercises/properties.py", 'hint="', 'hint="Think: ')
    stages["another chapter's exercises"] = book.build()
    book.change("omnivault/exercises/bernoulli_family.py", 'hint="', 'hint="Think: ')
    stages["the chapter's exercises"] = book.build()
    book.change("book/tiny.md", "See {prf:ref}", "Now see {prf:ref}")
    stages["a sentence"] = book.build()
    cell = "```{code-cell} ipython3\nbound = 1.0\nassert 2 * bound < bound + 0.5\n```\n"
    book.page.write_text(book.page.read_text() + cell)
    stages["a cell that fails"] = book.build()
    return stages


def test_good_book_builds(history: dict[str, Stage]) -> None:
    result, executions, page = history["new"]
    assert (result.code, executions) == (0, 1), result.said
    assert 'href="#thm-order">Theorem' in page
    assert 'class="katex"' in page
    assert f"package version: {omnivault.__version__}" in page


APPENDIX = """\
# {title}

:::{{prf:definition}} Name
:label: def-{name}

A name.
:::

## Section

$$
a = b
$$ (eq-{name})

See {{prf:ref}}`def-{name}`, {{eq}}`eq-{name}`, {{prf:ref}}`def-first` and {{prf:ref}}`def-second`.
"""
PARTS = """\
format: jb-book
root: book/tiny
parts:
  - caption: Part
    numbered: true
    chapters:
      - file: book/chapter
  - caption: Appendices
    chapters:
      - file: book/first
      - file: book/plain
      - file: book/second
"""


def test_appendices_have_letters_in_every_build(tmp_path: Path) -> None:
    make_book(tmp_path, "Text.")
    (tmp_path / "_toc.yml").write_text(PARTS, encoding="utf-8")
    book = tmp_path / "book"
    for name in ("chapter", "first", "second"):
        (book / f"{name}.md").write_text(APPENDIX.format(title=name.title(), name=name))
    (book / "plain.md").write_text("# Plain\n\n## Section\n\nText.\n")
    pages = []
    for _ in range(2):
        result = build(tmp_path)
        assert result.code == 0, result.said
        site = tmp_path / "_build" / "html" / "book"
        pages.append([(site / f"{x}.html").read_text() for x in ("chapter", "second", "plain")])
        with (book / "first.md").open("a") as file:
            file.write("\nMore.\n")
    assert pages[0] == pages[1]
    chapter, second, plain = (re.sub(r"<[^>]*>", "", page) for page in pages[0])
    none(
        [
            f"{text} in {second}"
            for text in ("B. Second", "B.1. Section", "Definition B.1", "(B.1)")
            if text not in second
        ]
    )
    assert "Definition A.1 and Definition B.1." in chapter
    assert "See Definition 1.1, (1.1)" in chapter
    assert not re.search(r"[A-Z\d]\. *Plain", plain)


def test_a_build_says_what_it_does_and_nothing_else(history: dict[str, Stage]) -> None:
    lines = history["new"].build.said.splitlines()
    expected = [
        r"Running chapters 1/1  done    tiny, \d+\.\d s",
        "Reading pages: 1",
        "Writing pages: 1",
        "The book is at .*index.html",
    ]
    assert len(lines) == len(expected), lines
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, line), lines


@pytest.mark.parametrize(
    ("change", "executions"),
    [
        ("unchanged", 1),
        ("the package", 2),
        ("another chapter's exercises", 2),
        ("the chapter's exercises", 3),
        ("a sentence", 3),
    ],
)
def test_a_chapter_runs_when_something_changes_that_it_needs(
    change: str, executions: int, history: dict[str, Stage]
) -> None:
    result, ran, page = history[change]
    assert (result.code, ran) == (0, executions), result.said
    assert "package version: " in page
    assert ("package version: 9.9.9" in page) == (change != "unchanged")
    assert ("Now see" in page) == (change == "a sentence")


def test_a_cell_that_fails_is_reported_once_with_its_values(history: dict[str, Stage]) -> None:
    result, executions, page = history["a cell that fails"]
    assert result.code != 0
    assert executions == 4  # once
    assert result.said.count("FAILED") == 1
    marked = re.search(r"> +(\d+) \| assert 2 \* bound < bound \+ 0\.5\n", result.said)
    assert marked is not None, result.said
    assert f"tiny.md:{marked[1]}, code cell 2" in result.said
    assert "assert (2 * 1.0) < (1.0 + 0.5)" in result.said
    assert "make chapter PAGE=tiny" in result.said
    assert "Traceback" not in result.said
    assert len(result.said.splitlines()) < 24, result.said
    assert page == history["a sentence"].page  # the site of the last build


def test_addresses_come_from_the_environment(tmp_path: Path) -> None:
    root = make_book(tmp_path, f"{GOOD}\n```{{code-cell}} ipython3\n1 + 1\n```\n")
    url, repository = "https://book.example/logits/", "https://code.example/us/logits"
    unknown_commit = build(root, BOOK_URL=url, BOOK_REPOSITORY=repository)
    assert unknown_commit.code != 0
    assert "the sources are no checkout of it" in unknown_commit.said
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.example"]
    for words in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "-m", "All"]):
        subprocess.run([*git, *words], cwd=root, check=True)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, encoding="utf-8", check=True
    ).stdout.strip()
    pages = []
    for environment in (
        {"BOOK_URL": url.rstrip("/"), "BOOK_REPOSITORY": repository},
        {"BOOK_URL": "", "BOOK_REPOSITORY": ""},
    ):
        shutil.rmtree(root / "_build", ignore_errors=True)
        result = build(root, **environment)
        assert result.code == 0, result.said
        html = root / "_build" / "html"
        pages.append((html / "book" / "tiny.html").read_text(encoding="utf-8"))
        found = {path.name for path in html.iterdir()}
        lost = (html / "404.html").read_text(encoding="utf-8")
        notebook = (html / "notebooks" / "tiny.ipynb").read_text(encoding="utf-8")
        assert (f"git+{repository}@{head}" in notebook) == bool(environment["BOOK_URL"])
        if environment["BOOK_URL"]:
            sitemap = ElementTree.parse(html / "sitemap.xml").getroot()
            assert [place.text for place in sitemap.iter() if place.tag.endswith("loc")] == [
                f"{url}book/tiny.html"
            ]
            assert f"Sitemap: {url}sitemap.xml" in (html / "robots.txt").read_text()
            assert f'<base href="{url}">' in lost
        else:
            assert not found & {"sitemap.xml", "robots.txt"}
            assert "<base" not in lost
    known, unknown = pages
    assert f'<link rel="canonical" href="{url}book/tiny.html">' in known
    assert f'<meta property="og:image" content="{url}_static/card.png">' in known
    assert f'href="{repository}/edit/main/book/tiny.md"' in known
    assert f'href="{repository}/issues/new?title=' in known
    for absent in ("canonical", "og:image", "og:url", "/edit/", "/issues/"):
        assert absent not in unknown


# What is wrong, and what the build says about it; {line} is the first line of the fault.
FAULTS = {
    "cell that writes to stderr": (
        "```{code-cell} ipython3\nimport sys\nprint('boom', file=sys.stderr)\n```",
        "WARNING: stderr was found in the cell outputs",
    ),
    "ref": ("{ref}`nowhere`", "{page}:{line}: WARNING: undefined label: 'nowhere'"),
    "numref": ("{numref}`nowhere`", "{page}:{line}: WARNING: undefined label: 'nowhere'"),
    "eq": ("{eq}`nowhere`", "{page}:{line}: WARNING: equation not found: nowhere"),
    "prf:ref": (
        "{prf:ref}`nowhere`",
        "{page}:{line}: WARNING: prf:ref reference target not found",
    ),
    "link": ("[there](nowhere.md)", "{page}:{line}: WARNING: 'myst' cross-reference target"),
    "citation": (
        "{cite:t}`nobody1900`",
        '{page}:{line}: WARNING: could not find bibtex key "nobody1900"',
    ),
    "inline TeX": ("$\\frac{1}$", "{page}:{line}: WARNING: KaTeX parse error"),
    "displayed TeX": ("$$\n\\nosuchmacro\n$$", "{page}:{line}: WARNING: KaTeX parse error"),
    "directive": (":::{prf:theorm} Order\nSo.\n:::", "{page}:{line}: WARNING: Unknown directive"),
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A book with one page for each fault."""
    root = make_book(tmp_path_factory.mktemp("faulty"), GOOD)
    chapters = []
    for number, text in enumerate(text for text, _ in FAULTS.values()):
        start = FRONT_MATTER if "code-cell" in text else "# Tiny\n\n"
        (root / "book" / f"fault{number}.md").write_text(f"{start}{text}\n", "utf-8")
        chapters.append(f"  - file: book/fault{number}\n")
    toc = root / "_toc.yml"
    toc.write_text(toc.read_text() + "chapters:\n" + "".join(chapters), encoding="utf-8")
    return build(root)


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_fails_the_build(fault: str, faulty: Build) -> None:
    page = f"fault{list(FAULTS).index(fault)}.md"
    assert faulty.code != 0, faulty.said
    warning = FAULTS[fault][1].format(page=page, line=3)
    assert warning in faulty.said, faulty.said


def test_one_warning_is_enough(tmp_path: Path) -> None:
    root = make_book(tmp_path, f"{GOOD}\n{{ref}}`nowhere`\n")
    result = build(root)
    assert result.code != 0, result.said
    assert "undefined label: 'nowhere'" in result.said
    assert not (root / "_build" / "html").exists()


# --- make


def test_a_full_disk_is_named_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build_book, "build", lambda: pytest.fail("it has begun"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=12_345_678))
    assert build_book.main() == 1
    said = capsys.readouterr().err
    assert f"The book is not built: 12 MB are free on the disk of {ROOT}, and 100 are" in said


def test_help_lists_the_commands() -> None:
    said = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout
    commands = {line.split()[1] for line in said.splitlines()}
    assert commands >= {"book", "test", "serve", "lab", "lint", "clean", "help"}


# --- the pins


def requirements(text: str) -> list[Requirement]:
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
    return [Requirement(line) for line in lines if line]


def pin_problems(direct: str, pinned: str) -> list[str]:
    """Every pin is one version, and everything asked for directly is pinned within its range."""
    pins = requirements(pinned)
    problems = [f"{pin} is no exact pin" for pin in pins if exact(pin) is None]
    for wanted in requirements(direct):
        found = [p for p in pins if canonicalize_name(p.name) == canonicalize_name(wanted.name)]
        if not found:
            problems.append(f"{wanted} is not pinned")
        problems += [
            f"{pin} is outside {wanted}"
            for pin in found
            if not wanted.specifier.contains(exact(pin) or "0", prereleases=True)
        ]
    return problems


def exact(pin: Requirement) -> str | None:
    """The version of ``name==version``, None for anything else."""
    clauses = list(pin.specifier)
    only = len(clauses) == 1 and clauses[0].operator == "==" and "*" not in clauses[0].version
    return clauses[0].version if only else None


def test_everything_asked_for_is_pinned() -> None:
    direct, pinned = ((ROOT / f"requirements.{suffix}").read_text() for suffix in ("in", "txt"))
    none(pin_problems(direct, pinned))


def test_package_admits_the_pins() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    none(pin_problems("\n".join(project["dependencies"]), (ROOT / "requirements.txt").read_text()))


def test_pin_checker() -> None:
    pinned = "my-package==1.2 ; python_version < '4'\n    # via other\nother==3.0\n"
    assert pin_problems("My_Package>=1  # needed\nother==3.0\n", pinned) == []
    assert pin_problems("third\n", pinned) == ["third is not pinned"]
    assert pin_problems("other<3\n", pinned) == ["other==3.0 is outside other<3"]
    assert pin_problems("", "other>=3\n") == ["other>=3 is no exact pin"]
    assert pin_problems("", "other==3.*\n") == ["other==3.* is no exact pin"]
