"""Do not repeat what cannot come out otherwise.

A pytest plugin: with ``--affected``, tests that have passed before are left out if nothing has
changed that they depend on. What that is stands in ``_build/passed.json``, by test file:

- the code that the file imports, directly or not, and the versions of packages (dependencies.py);
- every file of the project that was read, and every folder that was listed, while its tests ran;
- the whole site, for tests that are given the site; tests of one ``page`` of it depend on that
  page and on what is no page;
- all that is not prose or a test, for files that start other programs, which nobody watches.

A test file that knows better defines ``depends``, which takes a test and returns a name for all
tests that depend on the same, and the files that they depend on, besides the code.

Whoever wants all tests removes ``_build/passed.json``, or calls pytest without the option.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Generator, Iterable
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from website import ROOT
from website.build.dependencies import Project
from website.ledger.marks import HOW

PASSED = ROOT / "_build" / "passed.json"
SITE = ROOT / "_build" / "html"

# Not of the project, and what counts of that which the project makes.
OUTSIDE = (".git", ".venv", "node_modules", ".hypothesis", ".pytest_cache", ".mypy_cache")
BUILT = (["html"], ["chapters.json"], ["checks.json"])

# What a program that a test starts may read.
PROGRAMS = (
    *("Makefile", "*.toml", "*.yml", "*.json", "*.txt", "*.in", "README.md", ".binder/*"),
    *("omnivault/**/*", "website/**/*", "findings/*"),
)

# A change of these changes what any test sees.
SETTINGS = ("ATEN_CPU_CAPABILITY", "BOOK_REPOSITORY", "BOOK_URL", "NEWER_TORCH", "TORCH_INDEX")

Record = dict[str, dict[str, Any]]
"""By group of tests: "code", a key; "data", digests by path; "passed", ids of tests."""

read: dict[str, set[str]] = {}
"""By group: what was read or listed while it was collected or its tests ran."""
current = ""
COLLECTING = "collecting "
"""Stands before the name of a file in whose place its tests are only being found."""


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Note what is read, for the tests whose turn it is; called by Python itself."""
    if not current or event not in ("open", "os.listdir", "os.scandir"):
        return
    path = arguments[0]
    if isinstance(path, int) or (event == "open" and "r" not in str(arguments[1] or "r")):
        return
    name = os.path.abspath(os.fsdecode(path) if path is not None else ".")
    if not name.startswith(f"{ROOT}{os.sep}") or name.endswith((".pyc", f"{os.sep}__pycache__")):
        return
    first, *others = name[len(str(ROOT)) + 1 :].split(os.sep)
    if first in OUTSIDE or (first == "_build" and others[:1] not in BUILT):
        return
    if name.endswith(".py") and imported():
        return  # by whichever test came first; "code" has what each imports
    read.setdefault(current, set()).add(relative(name))


def imported() -> bool:
    """Whether a module is being imported."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib") or name.endswith("assertion/rewrite.py"):
            return True
        frame = frame.f_back
    return False


def relative(path: Path | str) -> str:
    return Path(path).relative_to(ROOT).as_posix()


@cache
def digest(name: str) -> str:
    """Name what a file holds, or the names in a folder; empty if it is gone."""
    path = ROOT / name
    if path.is_dir():
        names = [x.name for x in path.iterdir() if x.name[0] != "." and x.name != "__pycache__"]
        found = "\n".join(sorted(names)).encode()
    elif path.is_file():
        found = path.read_bytes()
    else:
        return ""
    return hashlib.sha256(found).hexdigest()[:16]


def files(folder: Path, patterns: Iterable[str]) -> set[str]:
    return {
        relative(path)
        for pattern in patterns
        for path in folder.glob(pattern)
        if path.is_file() and path.suffix != ".pyc"
    }


@cache
def project() -> Project:
    return Project(ROOT)


@cache
def settings() -> str:
    """What any test may depend on besides files of the project."""
    from website.pdf import installed_browser  # with what a run of all tests alone needs

    browser = installed_browser()
    known = [os.environ.get(name, "") for name in SETTINGS]
    known += [platform.platform(), digest("package-lock.json")]
    known += [browser or "", str(os.stat(browser).st_mtime_ns) if browser else ""]
    return repr(known)


@cache
def code(file: str, *also: Path) -> str:
    """Name the code of a test file, and how any test runs."""
    how = [path for name in HOW if (path := ROOT / name).is_file()]
    fixtures = [path for x in Path(file).parents if (path := ROOT / x / "conftest.py").is_file()]
    key = project().key(ROOT / file, *also, *fixtures, also=how)
    return hashlib.sha256((key + settings()).encode()).hexdigest()[:16]


@cache
def starts_programs(file: str) -> bool:
    return any(
        "import subprocess" in path.read_text(encoding="utf-8")
        for path in project().files(ROOT / file)
        if path.is_relative_to(ROOT / "tests") and path.suffix == ".py"
    )


def group_of(item: pytest.Item) -> tuple[str, str, bool]:
    """Name the tests that depend on the same; their code; and whether they have to be watched."""
    file = file_of(item)
    depends = getattr(getattr(item, "module", None), "depends", None)
    declared = depends(item) if depends is not None else None
    if declared is None:
        page = page_of(item) if sees_site(item) else ""
        return f"{file} {page}".rstrip(), code(file), True
    name, also = declared
    return f"{file} {name}", code(file, *also), False


def file_of(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def sees_site(item: pytest.Item) -> bool:
    return bool({"site", "reader"} & set(getattr(item, "fixturenames", ())))


def page_of(item: pytest.Item) -> str:
    """Name the page that a test is about, if it is one."""
    callspec = getattr(item, "callspec", None)
    return str(callspec.params.get("page", "")) if callspec else ""


def load() -> Record:
    try:
        record: Record = json.loads(PASSED.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return record


def is_current(entry: dict[str, Any] | None, code: str) -> bool:
    return (
        entry is not None
        and entry["code"] == code
        and all(digest(name) == was for name, was in entry["data"].items())
    )


# pytest -------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--affected",
        action="store_true",
        help="leave out tests that have passed and depend on nothing that has changed since",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("affected"):
        sys.addaudithook(watch)
        config.pluginmanager.register(Unchanged(config))


class Unchanged:
    """Leaves tests out, and keeps what those that passed have read."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.left_out = 0
        self.start = time.time()
        self.codes: dict[str, str] = {}
        self.passed: dict[str, set[str]] = {}
        self.failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, Any, Any]:
        global current
        outside = current
        if isinstance(collector, pytest.Module):
            current = COLLECTING + collector.nodeid
        try:
            return (yield)
        finally:
            current = outside

    @pytest.hookimpl(trylast=True)  # when marks and names have selected
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        record = load()
        current_ones: dict[str, set[str]] = {}
        kept: list[pytest.Item] = []
        left_out: list[pytest.Item] = []
        for item in items:
            group, key, _ = group_of(item)
            if group not in current_ones:
                entry = record.get(group)
                fresh = entry is not None and is_current(entry, key)
                current_ones[group] = set(entry["passed"]) if entry and fresh else set()
            (left_out if item.nodeid in current_ones[group] else kept).append(item)
        items[:] = kept
        if left_out:
            self.config.hook.pytest_deselected(items=left_out)
        self.left_out = len(left_out)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        global current
        group, self.codes[group], watched = group_of(item)
        item.user_properties.append(("group", group))
        if watched:
            current = group
            found = read.setdefault(group, set())
            found |= read.get(COLLECTING + file_of(item), set())
            if sees_site(item):
                found |= site_of(page_of(item))
            if starts_programs(file_of(item)):
                found |= programs()
        try:
            return (yield)
        finally:
            current = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        group = str(dict(report.user_properties).get("group", ""))
        if report.failed:
            self.failed.add(report.nodeid)
        elif report.when == "call" and report.passed and group:
            self.passed.setdefault(group, set()).add(report.nodeid)

    # A worker of pytest-xdist knows what was read, and tells the process that started it.
    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        output = getattr(node, "workeroutput", {})
        for group, names in output.get("read", {}).items():
            read.setdefault(group, set()).update(names)
        self.codes |= output.get("codes", {})
        self.left_out = max(self.left_out, output.get("left_out", 0))

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        global current
        current = ""
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self.left_out:
            session.exitstatus = pytest.ExitCode.OK
        if hasattr(self.config, "workeroutput"):
            told = {"codes": self.codes, "left_out": self.left_out}
            told["read"] = {group: sorted(names) for group, names in read.items()}
            self.config.workeroutput |= told
            return
        record = load()
        for group, passed in self.passed.items():
            names = read.get(group, set())
            if any(changed_since(name, self.start) for name in names):
                continue  # while the tests ran: nobody knows which of the two they saw
            entry = record.get(group)
            if entry is None or not is_current(entry, self.codes[group]):
                entry = {"code": self.codes[group], "data": {}, "passed": []}
            entry["data"] |= {name: digest(name) for name in sorted(names)}
            entry["passed"] = sorted({*entry["passed"], *passed} - self.failed)
            record[group] = entry
        PASSED.parent.mkdir(exist_ok=True)
        unfinished = PASSED.with_suffix(".part")
        unfinished.write_text(json.dumps(record, indent=0), encoding="utf-8")
        unfinished.replace(PASSED)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.left_out:
            terminalreporter.write_line(
                f"{self.left_out:,} tests left out: they have passed, and nothing has changed that "
                f"they depend on (to repeat them, remove {PASSED.relative_to(ROOT)})"
            )


@cache
def site_of(page: str) -> frozenset[str]:
    """The files of the site that a test of this page may see; all for a test of no page."""
    own = [f"{page}.html", "_static/**/*", "_images/**/*"] if page else ["**/*"]
    return frozenset(files(SITE, own))


@cache
def programs() -> frozenset[str]:
    return frozenset(files(ROOT, PROGRAMS))


def changed_since(name: str, start: float) -> bool:
    path = ROOT / name
    return path.is_file() and path.stat().st_mtime > start
