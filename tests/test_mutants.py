"""Each check of a statement has been seen to fail: ``tests/mutants`` lists the faults.

Run all mutants of a chapter with ``pytest tests/test_mutants.py -k categorical-``.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from book_source import none
from checks import ROOT, Mutant, checks, mutants
from mutation import problems_with

CHECKS = checks(ROOT)
MUTANTS = mutants(ROOT)


def depends(item: pytest.Item) -> tuple[str, list[Path]] | None:
    """A fault depends on the tests and the faults of its chapter alone (unchanged.py)."""
    mutant = getattr(item, "callspec", None) and item.callspec.params.get("mutant")  # type: ignore[attr-defined]
    if not isinstance(mutant, Mutant):
        return None
    faults = ROOT / "tests" / "mutants" / f"{mutant.chapter}.toml"
    return mutant.chapter, [ROOT / mutant.tests, ROOT / mutant.file, faults]


@pytest.mark.mutant
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_the_checks_catch_the_fault(mutant: Mutant, tmp_path: Path) -> None:
    problems = problems_with(mutant, tmp_path / "copy")
    if problems:
        pytest.fail(
            f"{mutant.fault}, in {mutant.file}: a check of {', '.join(mutant.statements)} does "
            "not see it\n" + "\n".join(problems),
            pytrace=False,
        )


def test_every_check_catches_a_fault() -> None:
    caught = {(mutant.tests, test) for mutant in MUTANTS for test in mutant.caught_by}
    labels: dict[tuple[str, str], set[str]] = {}
    for check in CHECKS:
        labels.setdefault((check.file, check.test), set()).add(check.statement)
    problems = [
        f"{check.id}, a check of {check.statement}, catches no fault in tests/mutants"
        for check in CHECKS
        if (check.file, check.test) not in caught
    ]
    for mutant in MUTANTS:
        checked = set().union(*(labels.get((mutant.tests, t), set()) for t in mutant.caught_by))
        gone = [test for test in mutant.caught_by if (mutant.tests, test) not in labels]
        if gone or checked != set(mutant.statements):
            problems.append(
                f"{mutant.id}, {mutant.fault!r}, is a fault for {', '.join(mutant.statements)}; "
                f"its tests check {', '.join(sorted(checked)) or 'nothing'}"
                + (f" and {', '.join(gone)} is no check" if gone else "")
            )
    none(problems)


# What changes nothing, or cannot run, is no fault.
VARIANCE = "self.probs * (1 - self.probs)"
NO_FAULTS = {
    "(1 - self.probs) * self.probs": "passes all the same",
    "self.probs * (1 - probabilities)": "no fault of the formula: NameError",
    "self.probs * (1 - ": "SyntaxError",
}


@pytest.mark.parametrize("new", NO_FAULTS)
def test_what_is_no_fault_is_reported(new: str, tmp_path: Path) -> None:
    test = "test_mean_and_variance_of_an_event"
    mutant = Mutant("categorical", 0, "", (), "omnivault/distributions.py", VARIANCE, new, (test,))
    assert NO_FAULTS[new] in "\n".join(problems_with(mutant, tmp_path / "copy"))


@pytest.mark.parametrize(("old", "times"), [("no such line", "0"), ("import", "[1-9]")])
def test_a_place_that_is_not_one_place_is_reported(old: str, times: str, tmp_path: Path) -> None:
    mutant = Mutant("categorical", 0, "", (), "omnivault/sampling.py", old, "", ("test",))
    [problem] = problems_with(mutant, tmp_path / "copy")
    assert re.search(rf"occurs {times}\d* times", problem)
