"""Each faulty sampler is caught by the case that is there for it; right ones pass."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from scipy import stats

from omnivault.conformance import Sampler, check, read_cases
from omnivault.conformance.cases import Case
from omnivault.conformance.check import judge_counts
from omnivault.conformance.exact import chance_outside
from omnivault.conformance.own import OWN
from tests.package.conformance.faulty import DIALECT, FAULTS, RIGHT, inversion

SUITE = read_cases()
FILE = json.loads(files("omnivault.conformance").joinpath("cases.json").read_text())
CHANCES = {
    case["name"]: max(
        case.get("draws", {}).get("false_alarm", 0.0),
        *(answer.get("false_alarm", 0.0) for answer in case.get("answers", ())),
        0.0,
    )
    for case in (*FILE["cases"], *FILE["batches"])
}


@pytest.fixture(autouse=True)
def no_warnings_of_faults() -> Iterator[None]:
    with np.errstate(all="ignore"):
        yield


def test_there_are_enough_faults() -> None:
    assert len(FAULTS) >= 25


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught_by_its_case(name: str) -> None:
    fault = FAULTS[name]
    report = check(fault.parts.sampler(), kinds=[fault.kind], cases=[fault.case], dialect=DIALECT)
    assert [result.outcome for result in report.results] == ["failed"], report
    assert report.exit_code == 1
    # By the case and not by chance: the same sampler without the fault passes.
    right = check(RIGHT.sampler(), kinds=[fault.kind], cases=[fault.case], dialect=DIALECT)
    assert [result.outcome for result in right.results] != ["failed"], right


@pytest.mark.parametrize("name", [n for n, fault in FAULTS.items() if fault.kind == "draw"])
def test_draws_catch_a_fault_with_nearly_every_seed(name: str) -> None:
    fault = FAULTS[name]
    n = 3 if fault.case in ("fine-tail", "far-tail") else 10
    caught = [
        check(fault.parts.sampler(), kinds=["draw"], cases=[fault.case], seed=1000 * i).exit_code
        for i in range(n)
    ]
    assert sum(caught) == n


def test_a_right_sampler_passes_everything_it_is_asked() -> None:
    report = check(RIGHT.sampler(), dialect=DIALECT)
    assert not report.failed, report
    assert report.exit_code == 0
    assert {result.case for result in report.of("passed")} | {
        result.case for result in report.of("refused")
    } == {one.name for one in SUITE.all}
    assert {result.case for result in report.of("refused")} == {"temperature-negative"}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("route", ["shifted first", "divided first", "log-probabilities"])
def test_float32_passes_by_every_route(dtype: str, route: str) -> None:
    """Naive sums, one after the other, are the worst that the bound admits."""

    def one_by_one(weights: Any) -> Any:
        return weights.cumsum(dtype=dtype)[-1]

    def probs(logits: Any, settings: Any) -> Any:
        z = np.array(logits, dtype)
        t = z.dtype.type(settings.get("temperature", 1.0))
        if not t > 0:
            raise ValueError("T <= 0")
        with np.errstate(over="ignore"):
            if route == "divided first":
                y = z / t
                y = y - y.max()
            elif route == "shifted first":
                y = (z - z.max()) / t
            else:
                y = (z - z.max()) - np.log(one_by_one(np.exp(z - z.max())))
                y = y / t
                y = y - y.max()
            weights = np.exp(y)
        return weights / one_by_one(weights)

    report = check(Sampler("route", dials=["temperature"], probs=probs))
    assert not report.failed, report


def test_the_sampler_of_the_package_passes_where_rows_are_short() -> None:
    short = [case.name for case in SUITE.cases if case.size < 10_000]
    names = [*short, *(batch.name for batch in SUITE.batches)]
    report = check(OWN["omnivault"], cases=names)
    assert not report.failed, report
    ways = {name: ways for name, ways in report.dialect.items() if ways}
    assert ways["temperature"] == ["first"]
    assert ways["top-k ties"] == ["all"]
    assert ways["top-p ties"] == ["last", "any"]
    assert ways["top-p of"] == ["the rest"]


def test_the_sampler_of_the_package_has_the_law_of_long_rows() -> None:
    long = [case.name for case in SUITE.cases if case.size >= 10_000]
    report = check(OWN["omnivault"], kinds=["probs"], cases=long)
    assert {result.outcome for result in report.results} == {"passed"}, report


def test_multinomial_passes_where_rows_are_short() -> None:
    """Not with a far tail: its cumulative sums are of the dtype of the probabilities."""
    short = [case.name for case in SUITE.cases if case.size < 10_000]
    report = check(OWN["torch"], cases=short)
    assert not report.failed, report
    assert len(report.of("passed")) > 50


def laws() -> Iterator[tuple[Case, int, float, Any]]:
    """Cases that count: how many draws, the chance of an alarm, and the law."""
    for case in SUITE.cases:
        if case.draws is None or "statistic" in case.draws or "negative" in case.name:
            continue
        n = case.draws["n"] * case.draws["calls"]
        yield case, n, CHANCES[case.name], RIGHT.probs(case.logits, case.settings)


def test_a_thousand_seeds_raise_alarms_at_the_promised_rate() -> None:
    """Counts of a right sampler with a thousand seeds, all cases below 10,000 tokens.

    The number of alarms is a sum of independent Bernoulli variables, one for each case and seed,
    with chances that the file states. A Poisson variable of that mean exceeds its quantile at 1e-6
    no less often; the number of runs with any alarm is at most binomial.
    """
    seeds = 1000
    expected, runs = 0.0, []
    for number, (case, n, chance, law) in enumerate(laws()):
        if case.size > 10_000:
            continue
        expected += chance * seeds
        for seed in range(seeds):
            counts = np.random.default_rng([seed, number]).multinomial(n, law)
            if judge_counts(case, counts).outcome == "failed":
                runs.append(seed)
    assert len(runs) <= stats.poisson.isf(1e-6, expected)
    assert len(set(runs)) <= stats.binom.isf(1e-6, seeds, SUITE.false_alarm)


def test_draws_one_by_one_raise_no_more() -> None:
    """Tokens drawn by inversion, all cases: 50 seeds, 10 of rows with 10,000 tokens or more."""
    expected, alarms = 0.0, 0
    for number, (case, n, chance, law) in enumerate(laws()):
        seeds = 50 if case.size < 10_000 else 10
        expected += chance * seeds
        for seed in range(seeds):
            drawn = inversion(law, n, np.random.default_rng([seed, number]))
            counts = np.bincount(drawn, minlength=case.size)
            alarms += judge_counts(case, counts).outcome == "failed"
    assert alarms <= stats.poisson.isf(1e-6, expected)


def test_draws_that_are_compared_raise_no_more() -> None:
    """Pairs of draws, of seeds and of rows: a thousand seeds."""
    names = ["draws-differ", "seeds-differ", "rows-differ"]
    seeds, alarms = 1000, 0
    for seed in range(seeds):
        report = check(RIGHT.sampler(), kinds=["draw"], cases=names, seed=2 * seed)
        assert len(report.results) == 3
        alarms += len(report.failed)
    assert alarms <= stats.poisson.isf(1e-6, seeds * sum(CHANCES[name] for name in names))


def test_narrow_intervals_raise_alarms_as_often_as_computed() -> None:
    """The chances of the file are too small to be seen; of narrower intervals they are seen."""
    case = next(case for case in SUITE.cases if case.name == "plain")
    answer = case.answers[0]
    probs = [float(part["p"]) for part in answer.probs]  # the row of `plain` is sorted
    n = 4000
    narrow = []
    for p in probs:
        spread = 1.5 * math.sqrt(n * p * (1 - p))
        narrow.append((round(n * p - spread), round(n * p + spread)))
    cells = [
        {"tokens": part["tokens"], "low": low, "high": high}
        for part, (low, high) in zip(answer.probs, narrow, strict=True)
    ]
    case = replace(case, answers=[replace(answer, counts=cells)])
    seeds = 2000
    counts = np.random.default_rng(0).multinomial(n, probs, size=seeds)
    alarms = sum(judge_counts(case, row).outcome == "failed" for row in counts)
    chance = chance_outside(n, probs, narrow)
    low, high = stats.binom.interval(1 - 1e-6, seeds, chance)
    assert low <= alarms <= high
    assert 0.2 < chance < 0.6
