"""Write what the tests of the statements measured, for the ledger of the book.

A pytest plugin: with ``--report`` it adds the outcome of every test that carries a statement's mark
to ``_build/checks.json``, with the number of cases tried, the largest error that
``strategies.assert_within`` saw, and a key for the sources of the test. What the report says of
other sources is dropped.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Generator
from typing import Any

import pytest

from website import ROOT
from website.ledger.marks import REPORT, Keys, faults

worst: tuple[float, float] | None = None
"""In the running test: the error that came nearest to its bound, and that bound."""


def note_error(error: float, allowed: float) -> None:
    global worst
    if worst is None or _share(error, allowed) > _share(*worst):
        worst = error, allowed


def _share(error: float, allowed: float) -> float:
    return error / allowed if error else 0.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--report", action="store_true", help=f"add the outcomes to {REPORT}")


def pytest_configure(config: pytest.Config) -> None:
    # With xdist the workers run the tests and the controller hears of all of them.
    if config.getoption("report") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Writer())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Count the cases that Hypothesis tries, and keep the largest error."""
    global worst
    if item.get_closest_marker("fault"):
        item.user_properties.append(("fault", item.name.partition("[")[2].removesuffix("]")))
        return (yield)
    if not item.get_closest_marker("statement"):
        return (yield)
    worst, cases = None, 0
    hypothesis = getattr(getattr(item, "obj", None), "hypothesis", None)
    if hypothesis:
        inner = hypothesis.inner_test

        @functools.wraps(inner)  # by name and text Hypothesis chooses the examples
        def count(*args: Any, **kwargs: Any) -> None:
            nonlocal cases
            inner(*args, **kwargs)  # leaves here if the example does not meet an assumption
            cases += 1

        hypothesis.inner_test = count
    try:
        return (yield)
    finally:
        if hypothesis:
            hypothesis.inner_test = inner
        measured = {"cases": cases if hypothesis else 1, "worst": worst}
        item.user_properties.append(("measured", measured))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, Any]:
    """Say which statement of the book is in doubt when a test fails."""
    report = yield
    labels = [mark.args[0] for mark in item.iter_markers("statement")]
    if report.failed and labels:
        report.sections.append(("a check of the book failed", f"statement: {', '.join(labels)}"))
    return report


class Writer:
    def __init__(self) -> None:
        self.tests: dict[str, dict[str, Any]] = {}
        self.faults: dict[str, dict[str, str]] = {}
        # Of the sources as they were when the run began.
        self.keys = Keys(ROOT)
        self.keys_of_faults = {fault.id: self.keys.of_fault(fault) for fault in faults(ROOT)}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        properties = dict(report.user_properties)
        if "fault" in properties:
            id = str(properties["fault"])
            self.faults[id] = {"outcome": report.outcome, "key": self.keys_of_faults[id]}
        if not isinstance(measured := properties.get("measured"), dict):
            return
        file, _, test = report.nodeid.partition("::")
        key = self.keys.of_test(report.nodeid)
        new = {"outcome": report.outcome, "cases": measured["cases"], "key": key}
        if measured["worst"]:
            new["error"], new["allowed"] = measured["worst"]
        seen = self.tests.setdefault(f"{file}::{test.partition('[')[0]}", new)
        if seen is not new:
            seen["cases"] += new["cases"]
            if "failed" in (seen["outcome"], new["outcome"]):
                seen["outcome"] = "failed"
            if "error" in new and (
                "error" not in seen
                or _share(new["error"], new["allowed"]) > _share(seen["error"], seen["allowed"])
            ):
                seen["error"], seen["allowed"] = new["error"], new["allowed"]

    def pytest_sessionfinish(self) -> None:
        path = ROOT / REPORT
        before = path.read_text(encoding="utf-8") if path.is_file() else "{}"
        saved = json.loads(before)
        tests = {
            id: entry
            for id, entry in saved.get("tests", {}).items()
            if entry["key"] == self.keys.of_test(id)
        }
        kept = {
            id: entry
            for id, entry in saved.get("faults", {}).items()
            if entry["key"] == self.keys_of_faults.get(id)
        }
        saved = {"tests": tests | self.tests, "faults": kept | self.faults}
        text = json.dumps(saved, indent=1, sort_keys=True) + "\n"
        if text == before:
            return  # a book that was built with it is not out of date
        path.parent.mkdir(exist_ok=True)
        unfinished = path.with_suffix(".part")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
