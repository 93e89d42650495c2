"""Which tests are left out: those that have passed and cannot come out otherwise."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.website.test_verification import run_of_tests, run_tests
from website import ROOT

TESTS = {
    "test_alone.py": "def test_alone(): pass\n",
    "test_imports.py": "from package import number\ndef test_number(): assert number == 1\n",
    "test_reads.py": """\
        from pathlib import Path
        from tests import helper
        def test_text(): assert helper.text() == "a"
        def test_folder(): assert list((Path(__file__).parent / "folder").iterdir())
        """,
    "test_fails.py": "def test_passes(): pass\ndef test_fails(): assert False\n",
    "test_declared.py": """\
        from pathlib import Path
        import pytest
        HERE = Path(__file__).parent
        def depends(item):
            name = item.name[-2]
            return name, [HERE / f"{name}.txt"]
        @pytest.mark.parametrize("name", ["x", "y"])
        def test_declared(name): (HERE / ("other" + ".txt")).read_text()
        """,
    "test_site.py": """\
        import pytest
        def test_site(site): assert site.is_dir()
        @pytest.mark.parametrize("page", ["book/a", "book/b"])
        def test_page(page, site): assert (site / f"{page}.html").is_file()
        """,
    "conftest.py": """\
        from pathlib import Path
        import pytest
        pytest_plugins = ["tests.support.unchanged"]
        @pytest.fixture
        def site(): return Path(__file__).parent.parent / "_build" / "html"
        """,
    "helper.py": """\
        from pathlib import Path
        def text(): return (Path(__file__).parent / "data.txt").read_text()
        """,
    "data.txt": "a",
    "x.txt": "",
    "y.txt": "",
    "other.txt": "",
    "folder/file.txt": "",
    "../_build/html/book/a.html": "",
    "../_build/html/book/b.html": "",
    "../_build/html/_static/book.css": "",
}
ALL = 11


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project, whose tests have run once; one of them fails."""
    root = tmp_path_factory.mktemp("once").resolve()
    shutil.copytree(ROOT / "website", root / "website")
    (root / "tests" / "support").mkdir(parents=True)
    for name in ("__init__", "support/unchanged"):
        shutil.copy(ROOT / "tests" / f"{name}.py", root / "tests" / f"{name}.py")
    shutil.copy(ROOT / "pyproject.toml", root)
    shutil.copy(ROOT / "package-lock.json", root)
    (root / "package").mkdir()
    (root / "package" / "__init__.py").write_text("number = 1\n")
    for name, text in TESTS.items():
        path = root / "tests" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(re.sub("^        ", "", text, flags=re.MULTILINE))
    assert ran(root) == ALL
    return root


@pytest.fixture
def root(once: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(once, tmp_path / "copy")
    return (tmp_path / "copy").resolve()


def said(root: Path, *options: str) -> str:
    return run_tests(root, "--affected", *options)


def ran(root: Path, *options: str) -> int:
    """How many tests a run does not leave out."""
    last = said(root, *options).splitlines()[-1]
    counts = re.findall(r"(\d+) (?:passed|failed)", last)
    assert counts or "deselected" in last, last
    return sum(map(int, counts))


def test_what_has_passed_is_left_out_and_what_failed_is_not(root: Path) -> None:
    assert f"{ALL - 1} tests left out" in said(root)
    assert ran(root, "-n", "2") == 1


@pytest.mark.parametrize(
    ("file", "again"),
    [
        ("tests/test_alone.py", 2),
        ("package/__init__.py", 2),
        ("tests/data.txt", 3),  # the whole file whose test reads it
        ("tests/folder/new.txt", 3),
        ("tests/helper.py", 3),
        ("tests/x.txt", 2),
        ("tests/other.txt", 1),  # the file says what it depends on
        ("_build/html/book/a.html", 3),  # the tests of that page, and of the whole site
        ("_build/html/_static/book.css", 4),
        ("tests/conftest.py", ALL),
        ("tests/unrelated.py", 1),
    ],
)
def test_a_change_repeats_what_depends_on_it(file: str, again: int, root: Path) -> None:
    path = root / file
    before = path.read_text() if path.exists() else ""
    path.write_text(before + "\n# changed\n")
    assert ran(root) == again


def test_two_runs_add_up(root: Path) -> None:
    (root / "_build" / "passed.json").unlink()
    assert ran(root, "-k", "alone or number", "-n", "2") == 2
    assert ran(root, "-k", "not fails") == ALL - 4
    assert ran(root) == 2
    record = json.loads((root / "_build" / "passed.json").read_text())
    assert "tests/test_declared.py x" in record


def test_a_run_of_nothing_but_what_has_passed_succeeds(root: Path) -> None:
    options = ("--affected", "-k", "alone")
    for more in ((), ("-n", "2")):
        assert run_of_tests(root, *options, *more).returncode == 0
    assert run_of_tests(root, "-k", "no_such_test").returncode == pytest.ExitCode.NO_TESTS_COLLECTED
