"""The marks of the statements' tests, the report of a run, and what the book makes of them."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from tests.build.test_build import GOOD, build, make_book
from tests.support.book_source import directives, none, statements
from tests.support.browser import PAGES
from website import ROOT
from website.build.fingerprint import fingerprint
from website.ledger.marks import (
    DECLARED,
    REPORT,
    SCORES,
    Check,
    Outcome,
    checks,
    evidence,
    marks,
    read_report,
    saved_scores,
    score_sources,
)

CHECKS = checks(ROOT)

# --- marks


def test_marks_are_read_from_test_functions_alone() -> None:
    source = """
@pytest.mark.statement("order", "exact", "scipy")
@pytest.mark.statement("level", false_alarm=0.001)
@given(st.integers())
def test_order(x): ...

@pytest.mark.statement("helper")
def helper(): ...

def test_plain():
    # @pytest.mark.statement("comment")
    "pytest.mark.statement('string')"
"""
    assert list(marks(source, SMALL)) == [
        Check("order", SMALL, "test_order", 5, ("property", "exact", "scipy")),
        Check("level", SMALL, "test_order", 5, ("property",), 0.001),
    ]


def roots(module: ast.Module) -> dict[str, str]:
    """The package that each imported name comes from."""
    found = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for name in node.names:
                found[name.asname or name.name.partition(".")[0]] = name.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                found[name.asname or name.name] = node.module.partition(".")[0]
    return found


@cache
def parsed(file: str) -> ast.Module:
    """A file of tests, before it what it imports from the files that they share."""
    module = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    shared = {
        node.module
        for node in module.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests.chapters.")
    }
    for name in sorted(filter(None, shared)):
        module.body = [*parsed(f"{name.replace('.', '/')}.py").body, *module.body]
    return module


def reached(module: ast.Module, test: str) -> set[str]:
    """Packages that a test uses, by itself or in functions and constants of its files."""
    named: dict[str, ast.stmt] = {}
    for node in module.body:
        targets = getattr(node, "targets", [getattr(node, "target", node)])
        named |= {getattr(t, "id", getattr(t, "name", "")): node for t in targets}
    imported, seen, todo = roots(module), set(), [test]
    packages = set()
    for name in todo:  # grows while it is read
        for part in ast.walk(named[name]):
            if isinstance(part, ast.Name) and part.id not in seen:
                seen.add(part.id)
                packages.add(imported.get(part.id, ""))
                todo += [part.id] if part.id in named else []
    return packages


@pytest.mark.parametrize("chapter", sorted({check.chapter for check in CHECKS}))
def test_marks_say_what_the_tests_do(chapter: str) -> None:
    problems = []
    for check in (check for check in CHECKS if check.chapter == chapter):
        module = parsed(check.file)
        methods = set(check.methods) - {"property"}
        needed = {"sympy" if m == "symbolic" else m for m in methods - {"exact", "statistical"}}
        if unknown := methods - set(DECLARED):
            problems.append(f"{check.id}: there is no method {unknown}")
        elif missing := needed - reached(module, check.test):
            problems.append(f"{check.id} does not use {missing}")
        if ("statistical" in methods) != (check.false_alarm is not None):
            problems.append(f"{check.id}: a false-alarm rate belongs to a statistical test")
        if not 0 < (check.false_alarm or 1e-6) <= 0.05:
            problems.append(f"{check.id}: false alarms in {check.false_alarm} of the runs")
    none(problems)


def test_every_statement_has_a_check_and_every_check_a_statement() -> None:
    stated = {
        statement.label
        for page in PAGES
        for statement in statements((ROOT / f"{page}.md").read_text(encoding="utf-8"))
    }
    checked = {check.statement for check in CHECKS}
    none(
        [f"no test is marked with the statement {label}" for label in sorted(stated - checked)]
        + [f"a test is marked with {label}, no statement" for label in sorted(checked - stated)]
    )


# --- the report of a run

SMALL_TESTS = """\
import pytest
from fractions import Fraction
from hypothesis import assume, given, strategies as st
from tests.support.strategies import assert_within


@pytest.mark.statement("thm-order", "exact")
@given(st.integers(0, 1000))
def test_generated(x):
    assume(x % 2)
    assert_within(Fraction(1, 3), 1 / 3, 1e-15)


@pytest.mark.statement("thm-order")
@pytest.mark.statement("thm-level")
@pytest.mark.parametrize("x", [1.0, 2.0, 4.0])
def test_chosen(x):
    assert_within(x + 1e-3, x, rel=1e-2)


@pytest.mark.statement("thm-level", "statistical", false_alarm=0.002)
def test_broken():
    assert_within(1.0, 2.0, 0.5)


@pytest.mark.statement("thm-scale")
def test_another(): ...
"""


SMALL = "tests/chapters/small/test_order.py"
SUPPORT = ("run_report", "strategies", "unchanged")


def small_project(root: Path) -> Path:
    """The files that measure and read, and a test file of its own."""
    shutil.copytree(ROOT / "website", root / "website")
    (root / "tests" / "support").mkdir(parents=True)
    (root / SMALL).parent.mkdir(parents=True)
    for name in ("__init__", "conftest", *(f"support/{x}" for x in SUPPORT)):
        shutil.copy(ROOT / "tests" / f"{name}.py", root / "tests" / f"{name}.py")
    shutil.copy(ROOT / "pyproject.toml", root)
    (root / SMALL).write_text(SMALL_TESTS, encoding="utf-8")
    return root


def run_tests(root: Path, *options: str) -> str:
    return run_of_tests(root, *options).stdout


def run_of_tests(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, "tests"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, encoding="utf-8", check=False
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project after a run of most of its tests, two at a time."""
    root = small_project(tmp_path_factory.mktemp("small"))
    said = run_tests(root, "--report", "-n", "2", "-k", "not another")
    assert "1 failed, 4 passed" in said, said
    assert "statement: thm-level" in said, said
    return root


def test_the_report_counts_cases_and_keeps_the_worst_error(small: Path) -> None:
    tests = {name.partition("::")[2]: x for name, x in read_report(small).tests.items()}
    generated, chosen, broken = (tests.pop(f"test_{x}") for x in ("generated", "chosen", "broken"))
    assert tests == {}
    assert (generated.outcome, generated.cases) == ("passed", 100)  # those that were assumed away
    assert generated.error == pytest.approx(1.85e-17, rel=0.01)
    assert (chosen.outcome, chosen.cases) == ("passed", 3)
    assert chosen.error == pytest.approx(1e-3)
    assert chosen.allowed == pytest.approx(1e-2)  # of 1, the smallest
    assert broken == Outcome("failed", 1)


def test_a_report_of_other_sources_is_no_report(small: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(small, root)
    assert read_report(root) == read_report(small)
    run_tests(root, "-k", "another")  # without --report
    assert read_report(root) == read_report(small)
    run_tests(root, "--report", "-k", "another")  # adds to the report
    assert len(read_report(root).tests) == 4
    test = root / SMALL
    test.write_text(SMALL_TESTS.replace("0.5", "0.6"), encoding="utf-8")
    assert read_report(root).tests == {}
    run_tests(root, "--report", "-k", "another")  # the other outcomes are of the past
    assert len(read_report(root).tests) == 1
    (root / REPORT).unlink()
    assert read_report(root).tests == {}


def test_evidence(small: Path) -> None:
    found = evidence(small)
    results = {label: x.result for label, x in found.items()}
    assert results == {"thm-order": "passed", "thm-level": "failed", "thm-scale": "not run"}
    order = found["thm-order"]
    assert order.cases(order.checks) == 103
    assert order.worst == order.outcomes[f"{SMALL}::test_chosen"]


# --- a book


@pytest.fixture(scope="module")
def page(small: Path) -> str:
    """A book of four statements, built with that report: what stands below each of them."""
    text = GOOD
    for label in ("level", "scale", "nothing"):
        text += f"\n:::{{prf:theorem}} {label}\n:label: thm-{label}\n\nSo.\n:::\n"
        text += "\n:::{prf:proof}\nBecause.\n:::\n" if label == "level" else ""
    (small / "website").rename(small / "before")
    make_book(small, text + "\n:::{prf:remark}\n:label: rem-all\n\nNo claim.\n:::\n")
    shutil.rmtree(small / "before")
    result = build(small)
    assert result.code == 0, result.said
    return (small / "_build" / "html" / "book" / "tiny.html").read_text(encoding="utf-8")


def lines(page: str) -> list[str]:
    found = re.findall(r'<p class="checks">(.*?)</p>', page, re.DOTALL)
    return [re.sub(r"<.*?>", "", line).replace("\xa0", " ") for line in found]


def test_a_line_below_each_statement(page: str) -> None:
    assert lines(page) == [
        "Verified: exact arithmetic · 1 property test with 100 cases · 1 test of examples · ledger",
        "A check failed in this build: proof · 1 statistical test (false alarm 1 in 500)"
        " · 1 test of examples · ledger",
        "Checks, not run in this build: 1 test of examples · ledger",
        "Nothing checks this statement.",
    ]


def test_the_line_leads_to_the_test(page: str, small: Path) -> None:
    assert 'href="../checks/small.html#test_generated"' in page
    html = small / "_build" / "html" / "checks" / "small.html"
    shown = html.read_text(encoding="utf-8")
    test = shown.partition('id="test_chosen"')[2].partition("</section>")[0]
    assert '<a href="../book/tiny.html#thm-level">Theorem 2</a>' in test
    assert "1e-3" in test
    assert "1, 3" not in re.sub(r"<.*?>", "", test)  # of another test


# --- faults in the package


def test_scores_of_other_sources_are_known(tmp_path: Path) -> None:
    (tmp_path / "omnivault").mkdir()
    (tmp_path / "tests" / "mutation").mkdir(parents=True)
    for name in ("good", "old"):
        (tmp_path / f"omnivault/{name}.py").write_text("def f():\n    return 1\n")
    saved = [
        {
            "module": f"omnivault/{name}.py",
            "made_from": fingerprint(tmp_path, score_sources(f"omnivault/{name}.py")),
            "made": 7,
            "caught": 5,
            "equivalent": 2,
        }
        for name in ("good", "old", "gone")
    ]
    (tmp_path / SCORES).write_text(json.dumps(saved))
    (tmp_path / "omnivault" / "old.py").write_text("def f():\n    return 2\n")
    assert [(score.module, score.is_current(tmp_path)) for score in saved_scores(tmp_path)] == [
        ("omnivault/good.py", True),
        ("omnivault/old.py", False),
    ]


def test_the_page_has_numbers_of_these_sources_alone(site: Path) -> None:
    html = (site / "book" / "appendix" / "verification.html").read_text(encoding="utf-8")
    assert "earlier sources" not in html
    section = BeautifulSoup(html, "html.parser").select_one("#faults-in-the-package")
    assert section is not None
    saved = saved_scores(ROOT)
    current = {score.module for score in saved if score.is_current(ROOT)}
    assert {str(row["id"]) for row in section.select("tr[id]")} == {f"scores-{x}" for x in current}
    waiting = [p for p in section.select("p") if "Changed since the last run" in p.get_text()]
    assert len(waiting) == (len(current) < len(saved))
    for paragraph in waiting:
        names = {code.get_text().replace(".", "/") for code in paragraph.select("code")}
        changed = {score.module for score in saved} - current
        assert {f"omnivault/{name}.py" for name in names} == changed


def test_faults_are_counted_by_what_they_are_made_in(site: Path) -> None:
    files = [
        fault["file"]
        for path in ROOT.glob("tests/chapters/*/faults.toml")
        for fault in tomllib.loads(path.read_text(encoding="utf-8"))["fault"]
    ]
    package, formulas = (sum(f.startswith(x) for f in files) for x in ("omnivault/", "tests/chap"))
    shared = len(files) - package - formulas
    assert min(package, formulas, shared) > 0
    html = (site / "book" / "appendix" / "verification.html").read_text(encoding="utf-8")
    totals = html.partition('id="ledger-totals"')[2].partition("</p>")[0]
    assert (
        f"{len(files):,} deliberate faults: {package:,} in the package, {formulas:,} in formulas "
        f"that the tests compare with and {shared:,} in what all tests share."
    ) in totals


def test_a_page_of_tests_says_what_each_fault_is_made_in(site: Path) -> None:
    html = (site / "checks" / "properties.html").read_text(encoding="utf-8")
    shown = [" ".join(li.get_text().split()) for li in BeautifulSoup(html, "html.parser")("li")]
    what = "the sign of the logits lost: the smallest gets the most"
    assert f"{what} (in softmax of omnivault/softmax.py)" in shown
    faults = [item for item in shown if re.search(r" \(in [^()]*\)$", item)]
    assert any("(in the formula " in item for item in faults)
    assert len({*faults}) == len(
        tomllib.loads((ROOT / "tests/chapters/properties/faults.toml").read_text())["fault"]
    )


# --- the book


def below(page: str, label: str) -> str:
    """The line below one statement of a built page."""
    inside = page.partition(f'id="{label}"')[2]
    return (lines(inside) or [""])[0]


def test_each_statement_of_the_book_has_its_line(site: Path) -> None:
    found, problems = evidence(ROOT), []
    for name in PAGES:
        text = (ROOT / f"{name}.md").read_text(encoding="utf-8")
        html = (site / f"{name}.html").read_text(encoding="utf-8")
        stated = statements(text)
        if len(lines(html)) != len(stated):
            problems.append(f"{name} has {len(lines(html))} lines, {len(stated)} statements")
        for statement in stated:
            start = {
                "passed": "Verified: ",
                "failed": "A check failed in this build: ",
                "not run": "Checks, not run in this build: ",
            }[found[statement.label].result]
            if not (line := below(html, statement.label)).startswith(start):
                problems.append(f"{statement.label}: {line}")
            if ("proof · " in line) != any(
                following.name == "prf:proof"
                for this, following in zip(directives(text), directives(text)[1:], strict=False)
                if this.label == statement.label
            ):
                problems.append(f"{statement.label}: does it have a proof? {line}")
    none(problems)


def test_the_ledger_lists_each_statement_with_the_figures_of_the_report(site: Path) -> None:
    html = (site / "book" / "appendix" / "verification.html").read_text(encoding="utf-8")
    rows = dict(re.findall(r'<tr class="[^"]*" id="ledger-([\w-]+)">(.*?)</tr>', html, re.DOTALL))
    found = evidence(ROOT)
    assert set(rows) == set(found)
    for label, row in rows.items():
        cells = re.findall(r"<td>(.*?)</td>", row, re.DOTALL)
        shown = [re.sub(r"<.*?>", "", cell).strip() for cell in cells[1:]]
        this = found[label]
        if this.ran:
            assert shown[0] == f"{this.cases(this.checks):,}"
            assert shown[2] == f"{this.caught} of {len(this.faults)}"
        assert shown[3] == this.result


def test_totals_stand_on_the_first_page(site: Path) -> None:
    html = (site / "book" / "intro.html").read_text(encoding="utf-8")
    totals = html.partition('id="verification-totals"')[2].partition("</p>")[0]
    tests = {check.id for check in CHECKS}
    found = evidence(ROOT)
    assert f"{len(found)} statements have {len(tests)} tests" in totals
    ran = all(x.ran for x in found.values())
    assert ("None of it was run for this build." in totals) != ran
