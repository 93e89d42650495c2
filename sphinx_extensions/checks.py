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

from dependencies import Project
from fingerprint import fingerprint

ROOT = Path(__file__).resolve().parent.parent
REPORT = Path("_build/checks.json")
SCORES = Path("tests/mutation_scores.json")

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

# They decide how any test runs. What they import for other tests does not count.
HOW = ("pyproject.toml", "tests/conftest.py")


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
    def page(self) -> str:
        """Name of the page of the site that shows the file."""
        return f"checks/{Path(self.file).stem}"


@dataclass(frozen=True)
class Mutant:
    """One deliberate fault, and the tests that must fail when it is made."""

    chapter: str
    number: int
    fault: str
    statements: tuple[str, ...]
    """Labels of all statements that the tests in ``caught_by`` check."""
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]

    @property
    def id(self) -> str:
        return f"{self.chapter}-{self.number}"

    @property
    def tests(self) -> str:
        """Name of the file with the tests."""
        return f"tests/test_statements_{self.chapter}.py"


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
    mutants: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """Everything that the tests say about one statement."""

    checks: list[Check]
    outcomes: dict[str, Outcome]
    """Of those checks that the run held, by their ids."""
    faults: list[Mutant]
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
    """Faults that change nothing; tests/equivalent_mutants.toml says why."""

    @property
    def survived(self) -> int:
        return self.made - self.caught - self.equivalent

    def is_current(self, root: Path) -> bool:
        return self.made_from == fingerprint(root, score_sources(self.module))


def score_sources(module: str) -> tuple[str, ...]:
    """Name what the score of a module depends on."""
    stem = Path(module).stem
    return (
        module,
        f"tests/test_{stem}*.py",
        "tests/strategies.py",
        "tests/equivalent_mutants.toml",
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
        for path in sorted(root.glob("tests/test_*.py"))
        for check in marks(path.read_text(encoding="utf-8"), path.relative_to(root).as_posix())
    ]


def mutants(root: Path) -> list[Mutant]:
    """Every fault in ``tests/mutants``."""
    found = []
    for path in sorted(root.glob("tests/mutants/*.toml")):
        table = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
        for number, entry in enumerate(table, 1):
            entry |= {name: tuple(entry[name]) for name in ("statements", "caught_by")}
            found.append(Mutant(path.stem, number, **entry))
    return found


class Keys:
    """Names for what the outcomes of tests depend on, in the sources as they are now."""

    def __init__(self, root: Path) -> None:
        self.root, self.project = root, Project(root)
        self._of_file: dict[str, str] = {}
        maker = root / "tests" / "mutation.py"
        self._maker = self.project.key(maker) if maker.is_file() else ""

    def of_test(self, id: str) -> str:
        """Of a test, by its id; empty if it is gone."""
        file = id.partition("::")[0]
        if file not in self._of_file:
            path = self.root / file
            also = [self.root / name for name in HOW]
            self._of_file[file] = self.project.key(path, also=also) if path.is_file() else ""
        return self._of_file[file]

    def of_mutant(self, mutant: Mutant) -> str:
        words = repr((self.of_test(mutant.tests), self._maker, mutant))
        return hashlib.sha256(words.encode()).hexdigest()[:16]


def read_report(root: Path) -> Report:
    """Read of the report what is of these sources; nothing if there is no report."""
    try:
        saved: dict[str, Any] = json.loads((root / REPORT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Report()
    keys = Keys(root)
    current = {mutant.id: keys.of_mutant(mutant) for mutant in mutants(root)}
    return Report(
        {
            id: Outcome(**{name: x for name, x in entry.items() if name != "key"})
            for id, entry in saved["tests"].items()
            if entry["key"] == keys.of_test(id)
        },
        {
            id: entry["outcome"]
            for id, entry in saved["mutants"].items()
            if entry["key"] == current.get(id)
        },
    )


def evidence(root: Path, report: Report | None = None) -> dict[str, Evidence]:
    """Gather the evidence for every statement that has a check."""
    report, faults = report or read_report(root), mutants(root)
    gathered: dict[str, list[Check]] = {}
    for check in checks(root):
        gathered.setdefault(check.statement, []).append(check)
    found = {}
    for statement, its in gathered.items():
        tests = {(check.file, check.test) for check in its}
        seen = [m for m in faults if any((m.tests, test) in tests for test in m.caught_by)]
        found[statement] = Evidence(
            checks=its,
            outcomes={c.id: report.tests[c.id] for c in its if c.id in report.tests},
            faults=seen,
            caught=sum(report.mutants.get(mutant.id) == "passed" for mutant in seen),
        )
    return found


def equivalents(root: Path) -> list[dict[str, Any]]:
    """Faults in the package that change nothing: groups of them, each with its reason.

    Each fault is a list of three: the function, its lines, and the lines put in their place.
    """
    path = root / "tests/equivalent_mutants.toml"
    if not path.is_file():
        return []
    groups: list[dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))["equivalent"]
    return groups


def read_scores(root: Path) -> list[Score]:
    """Read the scores that `make mutants` saved."""
    if not (root / SCORES).is_file():
        return []
    return [Score(**entry) for entry in json.loads((root / SCORES).read_text(encoding="utf-8"))]
