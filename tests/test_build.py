"""What fails the build of the book, what executes again, and the pins."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest
from book_source import ROOT, none
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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

with open({counter!r}, "a", encoding="utf-8") as file:
    file.write("x")
print("package version:", omnivault.__version__)
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
    # A copy: fresh_outputs.py watches the package in the folder above its own.
    shutil.copytree(ROOT / "sphinx_extensions", root / "sphinx_extensions")
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
    """Run the command that `make book` runs."""
    recipe = re.search(
        r"^\t\$\(BIN\)/jupyter-book (build .+)$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    assert recipe is not None, "no `jupyter-book build` in the Makefile"
    done = subprocess.run(
        [Path(sys.executable).parent / "jupyter-book", *recipe[1].split()],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "NO_COLOR": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    return Build(done.returncode, re.sub(r"\x1b\[[\d;]*m", "", done.stdout))


class Stage(NamedTuple):
    """One build in the life of a book: how it went, executions so far, the page it left."""

    build: Build
    executions: int
    page: str


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> list[Stage]:
    """Build a book anew, unchanged, with another package, with other pins."""
    root = tmp_path_factory.mktemp("good")
    counter = root / "executions"
    make_book(root, GOOD + CELL.format(counter=str(counter)))
    package, pins = root / "omnivault" / "__init__.py", root / "requirements.txt"
    stages = []

    def record() -> None:
        result = build(root)
        executions = len(counter.read_text()) if counter.exists() else 0
        page = root / "_build" / "html" / "book" / "tiny.html"
        stages.append(Stage(result, executions, page.read_text() if page.exists() else ""))

    record()
    # As `make book` does: the page is read again, and its outputs have to come from the cache.
    shutil.rmtree(root / "_build" / ".doctrees")
    record()
    # From here on plain rebuilds, nothing deleted.
    package.write_text(re.sub(r'(__version__ = )".*"', r'\1"9.9.9"', package.read_text()))
    record()
    pins.write_text(pins.read_text() + "# another pin\n")
    record()
    return stages


def test_good_book_builds(history: list[Stage]) -> None:
    result, executions, page = history[0]
    assert (result.code, executions) == (0, 1), result.said
    assert 'href="#thm-order">Theorem' in page
    assert 'class="katex"' in page
    assert "package version: 9.9.9" not in page


def test_unchanged_chapter_is_not_executed_again(history: list[Stage]) -> None:
    result, executions, page = history[1]
    assert (result.code, executions) == (0, 1), result.said
    assert "package version: " in page


def test_change_in_the_package_executes_the_chapter(history: list[Stage]) -> None:
    result, executions, page = history[2]
    assert (result.code, executions) == (0, 2), result.said
    assert "package version: 9.9.9" in page


def test_change_in_the_pins_executes_the_chapter(history: list[Stage]) -> None:
    result, executions, _ = history[3]
    assert (result.code, executions) == (0, 3), result.said


def test_addresses_come_from_the_environment(tmp_path: Path) -> None:
    root = make_book(tmp_path, GOOD)
    url, repository = "https://book.example/logits/", "https://code.example/us/logits"
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
    "cell that raises": ("```{code-cell} ipython3\nraise ValueError('boom')\n```", "boom"),
    "cell that writes to stderr": (
        "```{code-cell} ipython3\nimport sys\nprint('boom', file=sys.stderr)\n```",
        "WARNING: stderr was found in the cell outputs",
    ),
    "ref": ("{ref}`nowhere`", "tiny.md:{line}: WARNING: undefined label: 'nowhere'"),
    "numref": ("{numref}`nowhere`", "tiny.md:{line}: WARNING: undefined label: 'nowhere'"),
    "eq": ("{eq}`nowhere`", "tiny.md:{line}: WARNING: equation not found: nowhere"),
    "prf:ref": (
        "{prf:ref}`nowhere`",
        "tiny.md:{line}: WARNING: prf:ref reference target not found",
    ),
    "link": ("[there](nowhere.md)", "tiny.md:{line}: WARNING: 'myst' cross-reference target"),
    "citation": (
        "{cite:t}`nobody1900`",
        'tiny.md:{line}: WARNING: could not find bibtex key "nobody1900"',
    ),
    "inline TeX": ("$\\frac{1}$", "tiny.md:{line}: WARNING: KaTeX parse error"),
    "displayed TeX": ("$$\n\\nosuchmacro\n$$", "tiny.md:{line}: WARNING: KaTeX parse error"),
    "directive": (":::{prf:theorm} Order\nSo.\n:::", "tiny.md:{line}: WARNING: Unknown directive"),
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Build]]]:
    """One build for each fault, two at a time."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield {
            name: pool.submit(
                build, make_book(tmp_path_factory.mktemp("faulty"), f"{GOOD}\n{text}\n")
            )
            for name, (text, _) in FAULTS.items()
        }


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_fails_the_build(fault: str, faulty: dict[str, Future[Build]]) -> None:
    result = faulty[fault].result()
    line = len(f"{FRONT_MATTER}{GOOD}\n".splitlines()) + 1
    assert result.code != 0, result.said
    assert FAULTS[fault][1].replace("{line}", str(line)) in result.said, result.said


# --- make


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
