"""Exercises that can be checked: the cells in the chapters, the check itself, and its tests."""

from __future__ import annotations

import importlib
import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from omnivault import exercises
from omnivault.exercises.checking import CHECKS, agree, claim, exercise, load, returns, shown
from tests.support.book_source import directives, none, toc_pages
from tests.support.environments import NAMES, built, code
from website import ROOT

load()

PAGES = {page: (ROOT / f"{page}.md").read_text("utf-8") for page in toc_pages(ROOT / "_toc.yml")}

# --- the chapters


def checked(text: str, where: str) -> list[str]:
    """Labels of the checks in the cells of a page that stand in a solution, or do not."""
    labels, inside = [], False
    for directive, body in cells(text):
        if directive in {"solution-start", "solution-end"}:
            inside = directive == "solution-start"
        elif inside == (where == "solution"):
            labels += re.findall(r'exercises\.check\(\s*"([^"]+)"', body)
    return labels


def cells(text: str) -> list[tuple[str, str]]:
    """Name of each directive that matters here, and the text up to the next one."""
    found = [
        d for d in directives(text) if d.name in {"code-cell", "solution-start", "solution-end"}
    ]
    lines = text.splitlines()
    bodies = []
    for directive in found:
        end = next(i for i in range(directive.line, len(lines)) if re.match("(:::|```)$", lines[i]))
        bodies.append((directive.name, "\n".join(lines[directive.line : end])))
    return bodies


@pytest.mark.parametrize("page", PAGES)
def test_a_check_has_a_place_for_the_answer_and_a_solution(page: str) -> None:
    open_, solved = checked(PAGES[page], "exercise"), checked(PAGES[page], "solution")
    assert open_ == solved
    exercised = [d.label for d in directives(PAGES[page]) if d.name == "exercise"]
    assert [label for label in exercised if label in open_] == open_


def test_every_exercise_with_code_in_its_solution_is_checked() -> None:
    problems = []
    for page, text in PAGES.items():
        solved = set(checked(text, "solution"))
        starts = [d for d in directives(text) if d.name == "solution-start"]
        problems += [f"{page}: {d.argument}" for d in starts if d.argument not in solved]
    none(problems)


def test_the_chapters_use_every_check() -> None:
    assert sorted(CHECKS) == sorted(
        label for text in PAGES.values() for label in checked(text, "exercise")
    )


@pytest.mark.parametrize("name", NAMES)
def test_solutions_pass_and_open_answers_do_not(name: str) -> None:
    for cell in code(built(name)):
        if "exercises.check(" not in cell.source:
            continue
        [verdict] = [
            o.data["text/plain"] for o in cell.outputs if o.output_type == "execute_result"
        ]
        if cell.source.startswith("# @title Solution"):
            assert re.fullmatch(r"Right(, in all \d+ cases)?\.", verdict), cell.source
        else:
            assert verdict == "Not answered yet.", cell.source


# --- right and wrong answers, a file for each chapter

ANSWERS = [
    importlib.import_module(f"tests.chapters.{path.parent.name}.answers")
    for path in sorted((ROOT / "tests" / "chapters").glob("*/answers.py"))
]
RIGHT = [
    pair
    for module in ANSWERS
    for pair in (*module.RIGHT.items(), *getattr(module, "ALSO_RIGHT", ()))
]
WRONG = [
    pytest.param(label, answer, id=f"{label}: {name}")
    for module in ANSWERS
    for label, named in module.WRONG.items()
    for name, answer in named.items()
]


def verdicts(label: str, answer: Any) -> list[exercises.Verdict]:
    """Check an answer on twenty sets of cases."""
    return [
        exercises.check(label, answer, generator=torch.Generator().manual_seed(seed))
        for seed in range(20)
    ]


@pytest.mark.parametrize(("label", "answer"), RIGHT, ids=[label for label, _ in RIGHT])
def test_a_right_answer_holds(label: str, answer: Any) -> None:
    found = verdicts(label, answer)
    for verdict in found:
        assert verdict.holds is True, verdict
    # A number of cases that hangs on the random numbers may hang on how they are rounded, and the
    # page would show another one than a reader's notebook.
    assert len({verdict.text for verdict in found}) == 1


@pytest.mark.parametrize(("label", "answer"), WRONG)
def test_a_wrong_answer_is_told_so(label: str, answer: Any) -> None:
    for verdict in verdicts(label, answer):
        assert verdict.holds is False, verdict
        assert verdict.text.startswith("Not yet: ")
        assert "\nHint: " in verdict.text


def test_every_check_has_a_right_answer_and_two_wrong_ones() -> None:
    wrong = {label: len(named) for module in ANSWERS for label, named in module.WRONG.items()}
    assert {label for label, _ in RIGHT} == set(CHECKS) == set(wrong)
    assert min(wrong.values()) >= 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_right_answers_pass_in_either_default_dtype(dtype: torch.dtype) -> None:
    torch.set_default_dtype(dtype)
    try:
        for label, answer in RIGHT:
            generator = torch.Generator().manual_seed(1)
            assert exercises.check(label, answer, generator=generator), label
    finally:
        torch.set_default_dtype(torch.float32)


# --- the check

NEWTON = "ex-newton"


def newton(b: float) -> float:
    return b - math.sinh(b)


def test_cases_come_from_the_generator() -> None:
    def seen(seed: int) -> list[float]:
        arguments: list[float] = []

        def noting(b: float) -> float:
            arguments.append(b)
            return newton(b)

        assert exercises.check(NEWTON, noting, generator=torch.Generator().manual_seed(seed))
        return arguments

    assert seen(0) == seen(0) != seen(1)


def test_cases_are_new_each_time_and_leave_torch_alone() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    told = {repr(exercises.check(NEWTON, lambda b: b)) for _ in range(3)}
    assert len(told) > 1
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("answer", [None, ..., lambda b: None, lambda b: ..., lambda b: (1, ...)])
def test_no_answer_is_not_a_wrong_answer(answer: Any) -> None:
    verdict = exercises.check(NEWTON, answer)
    assert verdict.holds is None
    assert not verdict
    assert repr(verdict) == "Not answered yet."


def test_not_implemented_is_no_answer() -> None:
    def answer(b: float) -> float:
        raise NotImplementedError

    assert exercises.check(NEWTON, answer).holds is None


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (3, r"Not yet: a function of 1 argument is wanted, got 3\."),
        (math.sinh, r"Not yet: sinh\(.*\) gives .*, not .*\."),
        (lambda b: math.sinh(b), r"Not yet: your function\(.*\) gives .*, not .*\."),
        (lambda b: 1 / 0, r"Not yet: your function\(.*\) raises ZeroDivisionError: division by .*"),
        (lambda: 1, r"Not yet: your function\(.*\) raises TypeError: .*"),
        (lambda b: math.nan, r"Not yet: .* gives nan, not .*"),
        (lambda b: "0", r"Not yet: .* gives '0', not .*"),
        (lambda b: [newton(b)], r"Not yet: .* gives \[.*\], not .*"),
        (lambda b: torch.zeros(1000), r"Not yet: .* gives \[0, 0, .*\.\.\., not .*"),
    ],
)
def test_a_wrong_answer_is_shown_with_a_hint(answer: Any, told: str) -> None:
    verdict = exercises.check(NEWTON, answer)
    assert verdict.holds is False
    complaint, hint = verdict.text.split("\n")
    assert re.fullmatch(told, complaint)
    assert hint == f"Hint: {CHECKS[NEWTON][1]}"


@pytest.mark.parametrize(
    "made", [float, torch.tensor, np.float64, lambda x: torch.tensor(x).half()]
)
def test_numbers_of_any_kind_are_compared(made: Any) -> None:
    assert agree(made(0.5), 0.5)
    assert not agree(made(0.25), 0.5)


@pytest.mark.parametrize(
    ("got", "expected", "same"),
    [
        ([1, 2], torch.tensor([1.0, 2.0]), True),
        ((1, 2), [1.0, 2.0], True),
        (torch.tensor([[1.0]]), torch.tensor([1.0]), False),
        ((torch.ones(2), torch.ones(3)), (torch.ones(2), torch.ones(3)), True),
        ((torch.ones(2), torch.ones(2)), (torch.ones(2), torch.ones(3)), False),
        (torch.ones(2, 3), (torch.ones(3), torch.ones(3)), True),
        ((1.0,), (1.0, 2.0), False),
        (1.0, (1.0, 2.0), False),
        (math.inf, math.inf, True),
        (math.nan, math.nan, True),
        ("both", "both", True),
        ("Both", "both", False),
        (1, True, True),
        ({1, 2}, {2, 1}, True),
        (object(), 1.0, False),
        (1 + 1e-5, 1.0, True),
        (1 + 1e-3, 1.0, False),
    ],
)
def test_what_counts_as_equal(got: Any, expected: Any, same: bool) -> None:
    assert agree(got, expected) is same


def test_an_answer_cannot_change_the_check() -> None:
    z = torch.tensor([1.0, 2.0])

    def spoiling(z: torch.Tensor) -> torch.Tensor:
        return z.mul_(0)

    assert returns(spoiling, z, expected=torch.zeros(2)).holds
    assert z.tolist() == [1.0, 2.0]


def test_an_unknown_label_is_told() -> None:
    with pytest.raises(
        ValueError, match=r"no exercise .* label 'ex-newtn'; did you mean 'ex-newton'"
    ):
        exercises.check("ex-newtn", newton)
    with pytest.raises(ValueError, match=r"there are \['ex-"):
        exercises.check("zzz", newton)


def test_a_label_has_one_check() -> None:
    with pytest.raises(ValueError, match="'ex-newton' has two checks"):
        exercise(NEWTON, hint="none.")(lambda answer, generator: iter(()))


def test_one_case_is_not_counted() -> None:
    exercise("ex-for-this-test", hint="none.")(lambda a, g: iter([claim(a == 1, "it is not 1.")]))
    try:
        assert repr(exercises.check("ex-for-this-test", 1)) == "Right."
        assert repr(exercises.check("ex-for-this-test", 2)) == "Not yet: it is not 1.\nHint: none."
    finally:
        del CHECKS["ex-for-this-test"]


@pytest.mark.parametrize("label", CHECKS)
def test_hints_are_short_sentences(label: str) -> None:
    hint = CHECKS[label][1]
    assert hint.endswith((".", "?"))
    assert len(hint) <= 90


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1 / 3, "0.3333"),
        (torch.tensor([1.0, 2.5]), "[1, 2.5]"),
        ((1, "a"), "(1, 'a')"),
        (np.float64(0.5), "0.5"),
        (list(range(1000)), "..."),
    ],
)
def test_values_are_shown_short(value: Any, text: str) -> None:
    assert shown(value).endswith(text)
    assert len(shown(value)) <= 160


def test_numbers_that_differ_look_different() -> None:
    def third(x: float) -> float:
        return x / 3

    case = returns(third, 1.0, expected=0.3334, rel=1e-6)
    assert case.complaint == "third(1) gives 0.3333, not 0.3334."
    case = returns(third, 1.0, expected=0.33334, rel=1e-6)
    assert case.complaint == "third(1) gives 0.33333, not 0.33334."
    case = returns(third, 1.0, expected=[1 / 3], rel=1e-6)
    assert case.complaint == "third(1) gives 0.3333, not [0.3333]."
