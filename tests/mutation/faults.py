"""Make one deliberate fault in a copy of the sources and see which tests fail.

Every fault is made and tried in a process of its own, forked from a server that has imported torch
and the other libraries once: what costs seconds a run is paid once.
"""

from __future__ import annotations

import compileall
import contextlib
import gc
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterable
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from tests.mutation.syntax import replaced
from website import ROOT
from website.build.dependencies import Project
from website.ledger.marks import Fault

LIBRARIES = [
    *("torch", "scipy.stats", "sympy", "mpmath", "sklearn", "transformers"),
    *("hypothesis.extra.numpy", "hypothesis.extra._patching"),  # the latter when a test fails
]
SECONDS = 300

OURS = ("omnivault", "tests", "website")

# They say that the fault is no fault of the formula, but text that does not run.
NOT_CAUGHT = (NameError, AttributeError, ImportError, SyntaxError)


class Failures:
    """A plugin for the run: a test function that failed once need not go on."""

    def __init__(self, expected: tuple[str, ...]) -> None:
        self.expected = set(expected)
        self.failed: set[str] = set()
        self.invalid: list[str] = []

    def pytest_configure(self, config: pytest.Config) -> None:
        config.option.tbstyle = "native"  # the others quote sources, which takes long

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if item.name.partition("[")[0] in self.failed:
            pytest.skip("failed already")

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        if call.excinfo is None or call.excinfo.errisinstance(pytest.skip.Exception):
            return
        if call.excinfo.errisinstance(NOT_CAUGHT):
            self.invalid.append(call.excinfo.exconly())
        self.failed.add(item.name.partition("[")[0])
        if self.failed >= self.expected:
            item.session.shouldfail = "all have failed"

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.invalid.append(str(report.longrepr).strip().splitlines()[-1])


@cache
def compile_all() -> None:
    """Compile all sources once: a test file takes a process longer to compile than to run."""
    for folder in ("omnivault", "tests", "website"):
        compileall.compile_dir(ROOT / folder, quiet=2)


@cache
def needed(file: str) -> list[Path]:
    """Return the files that a test file imports, directly or not, byte code included."""
    compile_all()
    conftests = [folder / "conftest.py" for folder in (ROOT / file).parents]
    starts = [path for path in conftests if path.is_file() and path.is_relative_to(ROOT)]
    # pytest imports plugins by their names.
    starts += [ROOT / "tests" / "support" / f"{name}.py" for name in ("run_report", "unchanged")]
    files = Project(ROOT).files(ROOT / file, Path(__file__).resolve(), *starts)
    compiled = [Path(cache_from_source(str(path))) for path in files if path.suffix == ".py"]
    return [*files, *(path for path in compiled if path.is_file()), ROOT / "pyproject.toml"]


def copy_with(fault: Fault, tests: Iterable[str], where: Path) -> None:
    """Copy what the tests need, and make the fault in the copy."""
    for file in {ROOT / fault.file, *(path for test in tests for path in needed(test))}:
        copy = where / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, copy)
    path = where / fault.file
    text = path.read_text(encoding="utf-8")
    text = replaced(text, fault.function, fault.old, fault.new)
    path.write_text(text, encoding="utf-8")
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()


def run_in(where: Path, tests: dict[str, str]) -> None:
    """Run the tests of the copy, in a process made for it; write to ``where`` what survived.

    ``tests`` are their files by their names.
    """
    gc.freeze()  # all that the server has imported: no collection looks at it again
    os.chdir(where)
    sys.dont_write_bytecode = True
    # In a worker of pytest-xdist this process would take itself for one.
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        del os.environ[name]
    sys.path.insert(0, str(where))
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    failures = Failures(tuple(tests))
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    options = [f"{file}::{test}" for test, file in tests.items()]
    options += ["-p", "_hypothesis_pytestplugin", "--hypothesis-profile=mutant"]
    # Nobody reads what pytest writes, and without what makes that helpful a run takes a fraction of
    # the time: assertions rewritten, sources quoted, patches proposed, doctests looked for, objects
    # that refer to one another collected.
    options += ["--assert=plain", "-o", "addopts=--strict-markers --import-mode=importlib"]
    for plugin in ("terminal", "cacheprovider", "unraisableexception", "threadexception"):
        options += ["-p", f"no:{plugin}"]
    with (
        (where / "log").open("w") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        code = pytest.main(options, plugins=[failures])
    problems = [f"{name} passes all the same" for name in tests if name not in failures.failed]
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not failures.invalid:
        problems = [(where / "log").read_text()[-3000:]]
    problems += [f"this is no fault of the formula: {line}" for line in failures.invalid[:1]]
    (where / "problems").write_text("\n".join(problems), encoding="utf-8")


def problems_with(fault: Fault, tests: dict[str, str], where: Path) -> list[str]:
    """Say which of the tests that must notice this fault do not.

    ``tests`` are their files by their names, from ``files_by_test``.
    """
    where.mkdir(parents=True, exist_ok=True)
    try:
        copy_with(fault, tests.values(), where)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LIBRARIES)
        run = context.Process(target=run_in, args=(where, tests))
        run.start()
        run.join(SECONDS)
        if run.is_alive():
            run.kill()
            return [f"did not end in {SECONDS} seconds"]
        if run.exitcode:
            return [f"the process ended with code {run.exitcode}"]
        return (where / "problems").read_text(encoding="utf-8").splitlines()
    except ValueError as wrong_place:
        return [f"{fault.file}: {wrong_place}"]
    finally:
        shutil.rmtree(where, ignore_errors=True)
