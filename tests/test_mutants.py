"""Each check of a statement has been seen to fail: ``tests/mutants`` lists the faults.

Run all mutants of a chapter with ``pytest tests/test_mutants.py -k categorical-``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from book_source import none
from checks import ROOT, Mutant, checks, mutants
from mutation import problems_with

CHECKS = checks(ROOT)
MUTANTS = mutants(ROOT)


@pytest.mark.mutant
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_the_checks_catch_the_fault(mutant: Mutant, tmp_path: Path) -> None:
    labels = {c.statement for c in CHECKS if c.file == mutant.tests and c.test in mutant.caught_by}
    problems = problems_with(mutant, tmp_path / "copy")
    if problems:
        pytest.fail(
            f"{mutant.fault}, in {mutant.file}: a check of {', '.join(sorted(labels))} does not "
            "see it\n" + "\n".join(problems),
            pytrace=False,
        )


def test_every_check_catches_a_fault() -> None:
    caught = {(mutant.tests, test) for mutant in MUTANTS for test in mutant.caught_by}
    exist = {(check.file, check.test) for check in CHECKS}
    none(
        [
            f"{check.id}, a check of {check.statement}, catches no fault in tests/mutants"
            for check in CHECKS
            if (check.file, check.test) not in caught
        ]
        + [f"{file} has no check {test}" for file, test in sorted(caught - exist)]
    )
