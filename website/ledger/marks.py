"""What the tests say about the numbered statements of the book.

A test names the statement that it checks, and how, in a mark:

    @pytest.mark.statement("order-preservation", "exact")

``checks`` reads the marks from the source files, without running anything; ``Report`` reads what
runs of the tests wrote, as far as they saw these very sources: a test, all that it imports, and the
fault that it has to notice. Prose is none of it.
"""

from __future__ import annotations

import ast
import hashlib
import json
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from website.build.dependencies import Project
from website.build.fingerprint import fingerprint

REPORT = Path("_build/checks.json")
EQUIVALENT = "tests/mutation/equivalent_mutants.toml"
SCORES = Path("tests/mutation/mutation_scores.json")

# How a test can check a statement. "property" is nothing to declare: a test that Hypothesis feeds
# is one, and the number of its cases is counted.
PEERS = {
    "torch": "PyTorch",
    "scipy": "SciPy",
    "numpy": "NumPy",
    "sklearn": "scikit-learn",
    "transformers": "Transformers",
}
DECLARED = ("symbolic", "exact", "statistical", *PEERS)

# What a deliberate fault is made in: the package; a formula that the tests of a chapter compare
# with; or what all tests share.
PLACES = ("omnivault", "formula", "helper")

# They decide how any test runs. What they import for other tests does not count.
HOW = ("pyproject.toml", "tests/conftest.py", "tests/chapters/conftest.py")
MAKER = "tests/mutation/faults.py"


@dataclass(frozen=True)
class Check:
    """One test of one statement."""

    statement: str
    file: str
    test: str
    line: int
    methods: tuple[str, ...]
    """Of ``DECLARED``, and "property" for a test that Hypothesis feeds; may be empty."""
    false_alarm: float | None = None
    """Of a statistical test: how often it would fail a true statement, with seeds drawn anew."""

    @property
    def id(self) -> str:
        return f"{self.file}::{self.test}"

    @property
    def chapter(self) -> str:
        return Path(self.file).parent.name

    @property
    def page(self) -> str:
        """Name of the page of the site that shows the tests of the chapter."""
        return f"checks/{self.chapter}"


@dataclass(frozen=True)
class Fault:
    """One deliberate fault, and the tests that must fail when it is made."""

    chapter: str
    number: int
    what: str
    statements: tuple[str, ...]
    """Labels of all statements that the tests in ``caught_by`` check."""
    file: str
    function: str
    """Name of a function of the file, such as "Categorical.sample", or of a value."""
    old: str
    """Python that occurs in it once, however it is formatted: an expression, or statements."""
    new: str
    caught_by: tuple[str, ...]
    """Names of tests of the chapter."""

    @property
    def id(self) -> str:
        return f"{self.chapter}-{self.number}"

    @property
    def made_in(self) -> str:
        """Say what it is made in, one of ``PLACES``."""
        if self.file.startswith("omnivault/"):
            return "omnivault"
        return "formula" if self.file.startswith("tests/chapters/") else "helper"


@dataclass(frozen=True)
class Outcome:
    """What a run measured in one test, over all its parameters."""

    outcome: str
    cases: int
    error: float | None = None
    """The error that came nearest to what was allowed, and what was allowed there."""
    allowed: float | None = None

    def share(self) -> float:
        """Return the error as a share of what was allowed."""
        return self.error / self.allowed if self.error and self.allowed else 0.0


@dataclass(frozen=True)
class Report:
    """One run of the tests; empty if there is none of these sources."""

    tests: dict[str, Outcome] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """Everything that the tests say about one statement."""

    checks: list[Check]
    outcomes: dict[str, Outcome]
    """Of those checks that the run held, by their ids."""
    faults: list[Fault]
    caught: int

    @property
    def result(self) -> str:
        """Say "passed" if all checks passed, "failed" if one failed, and otherwise "not run"."""
        results = [outcome.outcome for outcome in self.outcomes.values()]
        if "failed" in results:
            return "failed"
        return "passed" if results.count("passed") == len(self.checks) > 0 else "not run"

    @property
    def ran(self) -> bool:
        return self.result != "not run"

    def cases(self, checks: Iterable[Check]) -> int:
        return sum(self.outcomes[c.id].cases for c in checks if c.id in self.outcomes)

    @property
    def worst(self) -> Outcome | None:
        """The outcome whose error came nearest to what was allowed."""
        measured = [x for x in self.outcomes.values() if x.error is not None]
        return max(measured, key=Outcome.share, default=None)

    def by(self, method: str) -> list[Check]:
        return [check for check in self.checks if method in check.methods]


@dataclass(frozen=True)
class Score:
    """How many of the faults that a tool makes in a module its tests notice (`make mutants`)."""

    module: str
    made_from: str
    """Fingerprint of the module and its tests."""
    made: int
    caught: int
    equivalent: int
    """Faults that change nothing; equivalent_mutants.toml says why."""

    @property
    def survived(self) -> int:
        return self.made - self.caught - self.equivalent

    def is_current(self, root: Path) -> bool:
        return self.made_from == fingerprint(root, score_sources(self.module))


def score_sources(module: str) -> tuple[str, ...]:
    """Name what the score of a module depends on."""
    path = Path(module)
    # Tests stand in a folder, or in a file, of the module's name, or of that of its folder.
    names = {path.stem, *path.parent.parts[1:]}
    return (
        module,
        *(f"tests/package/{name}/*.py" for name in sorted(names)),
        *(f"tests/package/test_{name}.py" for name in sorted(names)),
        "tests/support/strategies.py",
        EQUIVALENT,
    )


def marks(source: str, file: str = "") -> Iterator[Check]:
    """Every ``@pytest.mark.statement(...)`` above a test function of a Python file."""
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef) or not function.name.startswith("test"):
            continue
        calls = [x for x in function.decorator_list if isinstance(x, ast.Call)]
        generated = any(ast.unparse(call.func) == "given" for call in calls)
        for mark in calls:
            if ast.unparse(mark.func) != "pytest.mark.statement":
                continue
            label, *methods = [ast.literal_eval(argument) for argument in mark.args]
            options = {str(k.arg): ast.literal_eval(k.value) for k in mark.keywords}
            if generated:
                methods.insert(0, "property")
            yield Check(label, file, function.name, function.lineno, tuple(methods), **options)


def checks(root: Path) -> list[Check]:
    """Every check of every statement, in the order of the files."""
    return [
        check
        for path in sorted(root.glob("tests/chapters/*/test_*.py"))
        for check in marks(path.read_text(encoding="utf-8"), path.relative_to(root).as_posix())
    ]


def faults(root: Path) -> list[Fault]:
    """Every fault in the ``faults.toml`` of a chapter."""
    found = []
    for path in sorted(root.glob("tests/chapters/*/faults.toml")):
        table = tomllib.loads(path.read_text(encoding="utf-8"))["fault"]
        for number, entry in enumerate(table, 1):
            entry |= {name: tuple(entry[name]) for name in ("statements", "caught_by")}
            found.append(Fault(path.parent.name, number, **entry))
    return found


def files_by_test(fault: Fault, its: Iterable[Check]) -> dict[str, str]:
    """Find the files of the tests that have to notice a fault, by the tests' names."""
    return {
        check.test: check.file
        for check in its
        if check.chapter == fault.chapter and check.test in fault.caught_by
    }


class Keys:
    """Names for what the outcomes of tests depend on, in the sources as they are now."""

    def __init__(self, root: Path) -> None:
        self.root, self.project = root, Project(root)
        self._of_file: dict[str, str] = {}
        maker = root / MAKER
        self._maker = self.project.key(maker) if maker.is_file() else ""
        self._checks = checks(root)

    def of_test(self, id: str) -> str:
        """Of a test, by its id; empty if it is gone."""
        file = id.partition("::")[0]
        if file not in self._of_file:
            path = self.root / file
            also = [how for name in HOW if (how := self.root / name).is_file()]
            self._of_file[file] = self.project.key(path, also=also) if path.is_file() else ""
        return self._of_file[file]

    def of_fault(self, fault: Fault) -> str:
        tests = sorted(map(self.of_test, files_by_test(fault, self._checks).values()))
        words = repr((tests, self._maker, fault))
        return hashlib.sha256(words.encode()).hexdigest()[:16]


def read_report(root: Path) -> Report:
    """Read of the report what is of these sources; nothing if there is no report."""
    try:
        saved: dict[str, Any] = json.loads((root / REPORT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Report()
    keys = Keys(root)
    current = {fault.id: keys.of_fault(fault) for fault in faults(root)}
    return Report(
        {
            id: Outcome(**{name: x for name, x in entry.items() if name != "key"})
            for id, entry in saved.get("tests", {}).items()
            if entry["key"] == keys.of_test(id)
        },
        {
            id: entry["outcome"]
            for id, entry in saved.get("faults", {}).items()
            if entry["key"] == current.get(id)
        },
    )


def evidence(root: Path, report: Report | None = None) -> dict[str, Evidence]:
    """Gather the evidence for every statement that has a check."""
    report, known = report or read_report(root), faults(root)
    gathered: dict[str, list[Check]] = {}
    for check in checks(root):
        gathered.setdefault(check.statement, []).append(check)
    found = {}
    for statement, its in gathered.items():
        tests = {(check.chapter, check.test) for check in its}
        seen = [f for f in known if any((f.chapter, test) in tests for test in f.caught_by)]
        found[statement] = Evidence(
            checks=its,
            outcomes={c.id: report.tests[c.id] for c in its if c.id in report.tests},
            faults=seen,
            caught=sum(report.faults.get(fault.id) == "passed" for fault in seen),
        )
    return found


def equivalents(root: Path) -> list[dict[str, Any]]:
    """Faults in the package that change nothing: groups of them, each with its reason.

    Each fault is a list of three: the function, its lines, and the lines put in their place.
    """
    path = root / EQUIVALENT
    if not path.is_file():
        return []
    groups: list[dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))["equivalent"]
    return groups


def saved_scores(root: Path) -> list[Score]:
    """Read what `make mutants` saved of modules that are still there."""
    if not (root / SCORES).is_file():
        return []
    saved = json.loads((root / SCORES).read_text(encoding="utf-8"))
    return [Score(**entry) for entry in saved if (root / entry["module"]).is_file()]
