"""The report: in words, by conventions, and as JUnit reads it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from omnivault.conformance import Sampler, check, in_words, read_cases
from tests.package.conformance.faulty import DIALECT, RIGHT, Parts, changed, ties_kept

CONVENTIONS = read_cases().conventions
LAST = ("top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "temperature")


def row_of_top_p(z: Any, p: float) -> Any:
    return z


@pytest.mark.parametrize(
    ("parts", "name", "way"),
    [
        (RIGHT, "temperature", ["first"]),
        (changed(order=LAST), "temperature", ["last"]),
        (RIGHT, "top-k ties", ["first", "any"]),
        (changed(top_k=ties_kept), "top-k ties", ["all"]),
        (RIGHT, "top-p exactly", ["stops"]),
        (RIGHT, "min-p and top-p", ["top-p first"]),
        (RIGHT, "zero temperature", ["greedy"]),
        (RIGHT, "negative temperature", ["refused"]),
    ],
)
@pytest.mark.parametrize("kind", ["probs", "draw"])
def test_each_kind_of_sampler_tells_its_dialect(
    parts: Parts, name: str, way: list[str], kind: str
) -> None:
    small = [case.name for case in read_cases().cases if case.size < 10]
    report = check(parts.sampler(), kinds=[kind], cases=small)
    assert not report.failed, report
    assert report.dialect[name] == way


def test_kept_sets_tell_as_much_as_probabilities() -> None:
    def kept(logits: Any, settings: Any) -> Any:
        return np.flatnonzero(RIGHT.probs(logits, settings))

    right = Sampler("sets", dials=RIGHT.sampler().dials, kept=kept)
    by_sets, by_probs = check(right), check(RIGHT.sampler(), kinds=["probs"])
    assert not by_sets.failed, by_sets
    assert by_sets.dialect == by_probs.dialect


def test_the_dialect_is_said_in_words() -> None:
    report = check(RIGHT.sampler(), kinds=["probs"], dialect=DIALECT)
    said = str(report)
    for words in (
        "  divides by T before the cuts\n",
        "  of tokens that tie at top-k keeps the first, k tokens in all\n",
        "  stops where top-p is reached exactly\n",
        "  top-p of what top-k leaves, renormalized\n",
    ):
        assert words in said


def test_words_say_what_is_not_known() -> None:
    assert in_words({}, CONVENTIONS) == []
    assert in_words({"temperature": ["first", "last"]}, CONVENTIONS) == []
    assert in_words({"top-p zero": ["best", "off"]}, CONVENTIONS) == [
        "top-p 0 keeps the best token or top-p 0 is off"
    ]


def test_two_dialects_at_once_fail() -> None:
    """Before the cuts in a hot row, after them in a cold one."""
    last = changed(order=LAST)

    def probs(logits: Any, settings: Any) -> Any:
        parts = RIGHT if settings.get("temperature", 1.0) > 1 else last
        return parts.probs(logits, settings)

    report = check(
        Sampler("two", dials=RIGHT.sampler().dials, probs=probs),
        cases=["top-p-temperature", "top-p-temperature-cold", "plain"],
    )
    assert [result.case for result in report.failed] == ["top-p-temperature-cold"]
    assert report.failed[0].text == (
        "temperature: answers here as 'last', but in top-p-temperature as 'first'"
    )


def test_ties_broken_at_random_are_one_dialect() -> None:
    rng = np.random.default_rng(3)

    def some(z: Any, k: int) -> Any:
        order = np.lexsort((rng.random(len(z)), -z))
        kept = np.full_like(z, -np.inf)
        kept[order[:k]] = z[order[:k]]
        return kept

    parts = changed(top_k=some)
    for _ in range(20):
        report = check(parts.sampler(), kinds=["probs"], cases=["top-k-tie", "top-k-all-tie"])
        assert not report.failed, report
        assert "any" in report.dialect["top-k ties"]


def test_a_promise_that_is_broken_fails() -> None:
    report = check(
        RIGHT.sampler(),
        kinds=["probs"],
        cases=["top-p-temperature"],
        dialect={"temperature": "last"},
    )
    assert report.failed[0].text == (
        "temperature: answers here as 'first', but it was promised to answer as 'last'"
    )


def test_the_smallest_that_fails_comes_first() -> None:
    nothing = Sampler("flat", dials=[], probs=lambda z, settings: np.full(len(z), 1 / len(z)))
    report = check(nothing)
    weights = [(dials, tokens) for tokens, dials in (result.weight for result in report.failed)]
    assert weights == sorted(weights)
    assert report.failed[0].case == "two-tokens"
    assert "The smallest that fails: two-tokens (probs)\n" in str(report)
    assert "  logits    [0, 1] (2 tokens)\n  settings  none\n" in str(report)


def test_progress_is_told() -> None:
    told: list[Any] = []
    check(RIGHT.sampler(), cases=["plain", "two-tokens"], on_case=lambda *what: told.append(what))
    assert told == [(0, 4, "two-tokens"), (1, 4, "plain"), (2, 4, "two-tokens"), (3, 4, "plain")]


def test_junit_has_every_result(tmp_path: Path) -> None:
    def probs(logits: Any, settings: Any) -> Any:
        if len(logits) == 2:
            raise RuntimeError("broken <&> \x00")
        if settings.get("temperature", 1) < 0:
            raise ValueError("T < 0")
        return RIGHT.probs(logits, settings)

    report = check(
        Sampler("a \x07 name", dials=["temperature"], probs=probs),
        cases=["plain", "two-tokens", "top-p", "temperature-negative"],
    )
    report.write_junit(tmp_path / "out.xml")
    suite = ElementTree.parse(tmp_path / "out.xml").getroot()
    assert {key: suite.get(key) for key in ("name", "tests", "failures", "errors", "skipped")} == {
        "name": "conformance of a ? name",
        "tests": "4",
        "failures": "1",
        "errors": "0",
        "skipped": "1",
    }
    cases = {case.get("name"): case for case in suite}
    assert set(cases) == {"plain", "two-tokens", "top-p", "temperature-negative"}
    assert len(cases["plain"]) == 0
    failure = cases["two-tokens"].find("failure")
    assert failure is not None
    assert failure.get("message") == "RuntimeError: broken <&> ?"
    assert "logits    [0, 1] (2 tokens)" in (failure.text or "")
    skipped = cases["top-p"].find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "the sampler has no top_p"
    assert cases["temperature-negative"].findtext("system-out") == "refused, as it may: T < 0"
    assert all(math.isfinite(float(case.get("time", "nan"))) for case in suite)
