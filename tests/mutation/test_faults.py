"""Each check of a statement has been seen to fail: ``faults.toml`` of a chapter lists the faults.

Make all faults of a chapter with ``pytest tests/mutation -k categorical-``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.faults import problems_with
from tests.mutation.syntax import replaced
from tests.support.book_source import none
from website import ROOT
from website.ledger.marks import Fault, checks, faults, files_by_test

CHECKS = checks(ROOT)
FAULTS = faults(ROOT)


def depends(item: pytest.Item) -> tuple[str, list[Path]] | None:
    """A fault depends on the tests and the faults of its chapter alone (unchanged.py)."""
    fault = getattr(item, "callspec", None) and item.callspec.params.get("fault")  # type: ignore[attr-defined]
    if not isinstance(fault, Fault):
        return None
    list_of_faults = ROOT / "tests" / "chapters" / fault.chapter / "faults.toml"
    tests = {ROOT / file for file in files_by_test(fault, CHECKS).values()}
    return fault.id, [*sorted(tests), ROOT / fault.file, list_of_faults]


@pytest.mark.fault
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_the_checks_notice_the_fault(fault: Fault, tmp_path: Path) -> None:
    problems = problems_with(fault, files_by_test(fault, CHECKS), tmp_path / "copy")
    if problems:
        pytest.fail(
            f"{fault.what}, in {fault.function} of {fault.file}: a check of "
            f"{', '.join(fault.statements)} does not see it\n" + "\n".join(problems),
            pytrace=False,
        )


def test_every_check_notices_a_fault() -> None:
    noticed = {(fault.chapter, test) for fault in FAULTS for test in fault.caught_by}
    labels: dict[tuple[str, str], set[str]] = {}
    for check in CHECKS:
        labels.setdefault((check.chapter, check.test), set()).add(check.statement)
    problems = [
        f"{check.id}, a check of {check.statement}, notices no fault in faults.toml"
        for check in CHECKS
        if (check.chapter, check.test) not in noticed
    ]
    for fault in FAULTS:
        its = {test: labels.get((fault.chapter, test)) for test in fault.caught_by}
        gone = [test for test, checked in its.items() if checked is None]
        checked = set().union(*(known for known in its.values() if known is not None))
        if gone or checked != set(fault.statements):
            problems.append(
                f"{fault.id}, {fault.what!r}, is a fault for {', '.join(fault.statements)}; "
                f"its tests check {', '.join(sorted(checked)) or 'nothing'}"
                + (f" and {', '.join(gone)} is no check" if gone else "")
            )
    none(problems)


# What changes nothing, or cannot run, is no fault.
VARIANCE = "self.probs * self._complement()"
NO_FAULTS = {
    "self._complement() * self.probs": "passes all the same",
    "self.probs * (1 - probabilities)": "no fault of the formula: NameError",
    "self.probs * (1 - ": "SyntaxError",
}


def a_fault(function: str, old: str, new: str) -> Fault:
    test = "test_mean_and_variance_of_an_event"
    file = "omnivault/distributions.py"
    return Fault("categorical", 0, "", (), file, function, old, new, (test,))


@pytest.mark.parametrize("new", NO_FAULTS)
def test_what_is_no_fault_is_reported(new: str, tmp_path: Path) -> None:
    fault = a_fault("Bernoulli.variance", VARIANCE, new)
    problems = problems_with(fault, files_by_test(fault, CHECKS), tmp_path / "copy")
    assert NO_FAULTS[new] in "\n".join(problems)


@pytest.mark.parametrize(
    ("function", "old", "message"),
    [
        ("Bernoulli.gone", VARIANCE, "0 functions or values are called Bernoulli.gone"),
        ("Bernoulli.variance", "self.gone", "holds 'self.gone' 0 times, not once"),
        ("Bernoulli.log_pmf", "y == 1", "holds 'y == 1' 3 times, not once"),
    ],
)
def test_a_fault_whose_place_is_gone_is_an_error_that_says_so(
    function: str, old: str, message: str, tmp_path: Path
) -> None:
    fault = a_fault(function, old, "0")
    [problem] = problems_with(fault, files_by_test(fault, CHECKS), tmp_path / "copy")
    assert message in problem


PROGRAM = '''
LIMIT = 2 ** 10


class Box:
    def area(self, a, b=1):  # a comment
        if a < 0:
            a = -a
        """Words — not only ASCII."""
        return a * (b
                    + 1)


def area(a):
    return a * (a + 1)
'''


@pytest.mark.parametrize(
    ("function", "old", "new", "seen"),
    [
        ("Box.area", "a * (b + 1)", "a + b", "return (a + b)\n"),
        ("Box.area", "b+1", "b", "a * ((b))\n"),
        ("area", "a + 1", "a", "return a * ((a))\n"),
        ("Box.area", "if a < 0:\n    a = -a", "a = abs(a)", "        a = abs(a)\n"),
        ("Box.area", "a = -a", "a = -a\na += 1", "            a = -a\n            a += 1\n"),
        ("LIMIT", "2**10", "2**9", "LIMIT = (2**9)\n"),
        ("Box.area", "1", "2", None),
    ],
)
def test_a_place_is_found_by_syntax(function: str, old: str, new: str, seen: str | None) -> None:
    if seen is None:
        with pytest.raises(ValueError, match="2 times, not once"):
            replaced(PROGRAM, function, old, new)
        return
    changed = replaced(PROGRAM, function, old, new)
    assert seen in changed
    lines = set(PROGRAM.splitlines())
    assert len(lines - set(changed.splitlines())) <= 2  # the rest is as it was
