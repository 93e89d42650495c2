"""Make one deliberate fault in a copy of the sources and see which tests fail.

Every mutant runs in a process of its own, forked from a server that has imported torch and the
other libraries once: what costs seconds a run is paid once.
"""

from __future__ import annotations

import compileall
import contextlib
import gc
import multiprocessing
import os
import shutil
import sys
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path

import pytest
from checks import ROOT, Mutant
from dependencies import Project

LIBRARIES = [
    *("torch", "scipy.stats", "sympy", "mpmath", "sklearn", "transformers"),
    *("hypothesis.extra.numpy", "hypothesis.extra._patching"),  # the latter when a test fails
]
SECONDS = 300

# They say that the fault is no fault of the formula, but text that does not run.
NOT_CAUGHT = (NameError, AttributeError, ImportError, SyntaxError)


class Faults:
    """A plugin for the run of the mutant: a test function that failed once need not go on."""

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


def replace_once(text: str, old: str, new: str) -> str:
    """Make the fault; the place has to be there, and to be the only one."""
    if (n := text.count(old)) != 1:
        raise ValueError(f"{old!r} occurs {n} times, not once: give more of its surroundings")
    return text.replace(old, new)


@cache
def compile_all() -> None:
    """Compile all sources once: a test file takes a process longer to compile than to run."""
    for folder in ("omnivault", "tests", "sphinx_extensions"):
        compileall.compile_dir(ROOT / folder, quiet=2)


@cache
def needed(tests: str) -> list[Path]:
    """Return the files that a test file imports, directly or not, byte code included."""
    compile_all()
    # pytest imports plugins by their names.
    plugins = [ROOT / "tests" / f"{name}.py" for name in ("conftest", "run_report", "unchanged")]
    files = Project(ROOT).files(ROOT / tests, Path(__file__).resolve(), *plugins)
    compiled = [Path(cache_from_source(str(path))) for path in files if path.suffix == ".py"]
    return [*files, *(path for path in compiled if path.is_file()), ROOT / "pyproject.toml"]


def copy_with(mutant: Mutant, where: Path) -> None:
    """Copy what the tests need, and make the fault in the copy."""
    for file in {*needed(mutant.tests), ROOT / mutant.file}:
        copy = where / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, copy)
    path = where / mutant.file
    path.write_text(
        replace_once(path.read_text(encoding="utf-8"), mutant.old, mutant.new), encoding="utf-8"
    )
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()


def run_in(where: Path, tests: str, expected: tuple[str, ...]) -> None:
    """Run the tests of the copy, in a process made for it; write to ``where`` what survived."""
    gc.freeze()  # all that the server has imported: no collection looks at it again
    os.chdir(where)
    sys.dont_write_bytecode = True
    # In a worker of pytest-xdist this process would take itself for one.
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        del os.environ[name]
    for path in (where / "sphinx_extensions", where / "tests", where):
        sys.path.insert(0, str(path))
    for name in ("checks", "mutation", "omnivault"):
        sys.modules.pop(name, None)
    faults = Faults(expected)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    options = [f"{tests}::{test}" for test in expected]
    options += ["-p", "_hypothesis_pytestplugin", "--hypothesis-profile=mutant"]
    # Nobody reads what pytest writes, and without what makes that helpful a run takes a fraction of
    # the time: assertions rewritten, sources quoted, patches proposed, doctests looked for, objects
    # that refer to one another collected.
    options += ["--assert=plain", "-o", "addopts=--strict-markers"]
    for plugin in ("terminal", "cacheprovider", "unraisableexception", "threadexception"):
        options += ["-p", f"no:{plugin}"]
    with (
        (where / "log").open("w") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        code = pytest.main(options, plugins=[faults])
    problems = [f"{name} passes all the same" for name in expected if name not in faults.failed]
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not faults.invalid:
        problems = [(where / "log").read_text()[-3000:]]
    problems += [f"this is no fault of the formula: {line}" for line in faults.invalid[:1]]
    (where / "problems").write_text("\n".join(problems), encoding="utf-8")


def problems_with(mutant: Mutant, where: Path) -> list[str]:
    """Say which of the tests that must catch this fault do not."""
    where.mkdir(parents=True, exist_ok=True)
    try:
        copy_with(mutant, where)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LIBRARIES)
        run = context.Process(target=run_in, args=(where, mutant.tests, mutant.caught_by))
        run.start()
        run.join(SECONDS)
        if run.is_alive():
            run.kill()
            return [f"did not end in {SECONDS} seconds"]
        if run.exitcode:
            return [f"the process ended with code {run.exitcode}"]
        return (where / "problems").read_text(encoding="utf-8").splitlines()
    except ValueError as wrong_place:
        return [f"{mutant.file}: {wrong_place}"]
    finally:
        shutil.rmtree(where, ignore_errors=True)
