"""What code depends on, read from its imports."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from website import ROOT
from website.build.dependencies import Project, versions
from website.build.run_chapters import read

FILES = {
    "package/__init__.py": "",
    "package/low.py": "import math\n",
    "package/middle.py": "from package import low\n",
    "package/high.py": "def f():\n    from package.middle import anything\n",
    "package/other.py": "import json\n",
    "package/shown.py": 'SCRIPT = "runtime.js"\n',
    "package/shown.js": "",
    "package/runtime.js": "",
    "package/unused.js": "",
    "package/sub/__init__.py": "from package.sub.part import x\n",
    "package/sub/part.py": "from .. import other\n",
    "tests/helper.py": "import numpy\n",
    "tests/test_a.py": "import tests.helper\nimport package.high as h\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path.resolve()


CASES = {
    "import package": {"package/__init__.py"},
    "import os, json": set(),
    "from package import low": {"package/__init__.py", "package/low.py"},
    "from package.middle import anything": {
        *("package/__init__.py", "package/low.py", "package/middle.py"),
    },
    "if True:\n    import package.high": {
        *("package/__init__.py", "package/high.py", "package/low.py", "package/middle.py"),
    },
    "from package.shown import SCRIPT": {
        *("package/__init__.py", "package/shown.py", "package/shown.js", "package/runtime.js"),
    },
    "import package.sub": {
        *("package/__init__.py", "package/sub/__init__.py", "package/sub/part.py"),
        "package/other.py",
    },
    "import package.missing": {"package/__init__.py"},
}


@pytest.mark.parametrize("program", CASES)
def test_files_that_a_program_needs(program: str, root: Path) -> None:
    files = {path.relative_to(root).as_posix() for path in Project(root).files(program)}
    assert files == CASES[program]


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("package/low.py", True),
        ("tests/helper.py", True),
        ("tests/test_a.py", True),
        ("package/other.py", False),
        ("package/shown.js", False),
    ],
)
def test_a_key_changes_with_what_is_needed_alone(file: str, changes: bool, root: Path) -> None:
    test = root / "tests" / "test_a.py"
    before = Project(root).key(test)
    (root / file).write_text(FILES[file] + "# more\n", encoding="utf-8")
    assert (Project(root).key(test) != before) == changes


def test_a_key_depends_on_the_packages_with_all_that_they_require(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = dict(versions(["matplotlib"]))
    assert {"matplotlib", "numpy", "packaging"} <= set(names)
    assert "torch" not in names
    before = Project(root).key("import matplotlib")
    assert before == Project(root).key("import matplotlib")
    assert before != Project(root).key("import torch")
    monkeypatch.setattr("website.build.dependencies.metadata.version", lambda name: "0")
    assert before != Project(root).key("import matplotlib")
    monkeypatch.undo()
    monkeypatch.setattr(sys, "version_info", (3, 99))
    assert before != Project(root).key("import matplotlib")


def test_a_chapter_needs_the_checks_of_its_own_exercises_alone() -> None:
    chapter = read("book/softmax/numerics", ROOT / "book" / "softmax" / "numerics.md")
    assert chapter is not None
    files = {path.relative_to(ROOT).as_posix() for path in chapter.files(Project(ROOT))}
    assert "omnivault/exercises/numerics.py" in files
    assert "omnivault/exercises/cross_entropy_kl.py" not in files
    assert "omnivault/online_softmax.py" in files
    assert "omnivault/live/runtime.js" in files
    assert "omnivault/model/language_model.py" not in files
