"""The file: as computed, by its schema, and against oracles that share no code with it."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from fractions import Fraction
from importlib.resources import files
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from mpmath import mp
from transformers.generation import logits_process as hf

from omnivault.conformance import read_cases
from omnivault.conformance.cases import spread
from omnivault.conformance.exact import (
    answers,
    bounds,
    chance_of_repeats,
    chance_outside,
    kept_sets,
    levels,
)
from omnivault.conformance.write_cases import as_text, written

FOLDER = files("omnivault.conformance")
TEXT = FOLDER.joinpath("cases.json").read_text(encoding="utf-8")
DATA = json.loads(TEXT)
CASES: dict[str, Mapping[str, Any]] = {case["name"]: case for case in DATA["cases"]}
SCHEMA = json.loads(FOLDER.joinpath("cases.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def anew() -> dict[str, Any]:
    return written()


def test_the_file_is_what_is_computed(anew: dict[str, Any]) -> None:
    assert as_text(anew) + "\n" == TEXT


def test_the_file_is_short_enough_to_be_read_and_sent() -> None:
    assert len(TEXT.encode()) < 1_000_000
    assert max(map(len, TEXT.splitlines())) <= 400


def test_the_file_is_of_its_schema() -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    validator.check_schema(SCHEMA)
    validator.validate(DATA)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda case: case.pop("why"), "'why' is a required property"),
        (lambda case: case["logits"].append(["inf", 1]), "is not valid under any"),
        (lambda case: case["settings"].update(top_q=1), "'top_q' was unexpected"),
        (lambda case: case.update(name="Plain"), "does not match"),
        (lambda case: case["answers"].clear(), "should be non-empty"),
        (lambda case: case["answers"][0].pop("false_alarm"), "is a dependency of 'counts'"),
    ],
)
def test_the_schema_refuses(break_it: Any, message: str) -> None:
    data = json.loads(TEXT)
    break_it(data["cases"][3])
    with pytest.raises(jsonschema.ValidationError, match=message):
        jsonschema.Draft202012Validator(SCHEMA).validate(data)


def test_names_are_unique_and_reasons_are_sentences() -> None:
    names = [one["name"] for one in (*DATA["cases"], *DATA["batches"])]
    assert len(set(names)) == len(names) >= 100
    assert all(one["why"].endswith((".", "?")) for one in (*DATA["cases"], *DATA["batches"]))


def test_all_that_was_asked_for_is_there() -> None:
    sizes = {case.size for case in read_cases().cases}
    assert {1, 2, 64, 65, 50_000, 200_000, 49_152} <= sizes
    temperatures = {case["settings"].get("temperature", 1) for case in CASES.values()}
    assert {1e-6, 1e-3, 0.5, 0.7, 2.0, 1e3, 1e6, 0, -1.0} <= temperatures
    dials = {dial for case in CASES.values() for dial in case["settings"]}
    assert dials == set(SCHEMA["$defs"]["case"]["properties"]["settings"]["properties"])


def test_float32_holds_every_logit() -> None:
    for case in CASES.values():
        for z, _ in case["logits"]:
            assert z == "-inf" or float(np.float32(z)) == z, case["name"]


@pytest.mark.parametrize(
    ("case", "dtype"), [("float16-logits", torch.float16), ("bfloat16-logits", torch.bfloat16)]
)
def test_half_precision_holds_the_logits_of_half(case: str, dtype: torch.dtype) -> None:
    for z, _ in CASES[case]["logits"]:
        assert torch.tensor(z, dtype=dtype).item() == z


def test_the_law_of_every_answer_is_the_softmax_of_what_is_kept() -> None:
    """Token by token, at 40 digits; the file was computed level by level."""
    with mp.workdps(40):
        for case in CASES.values():
            t = case["settings"].get("temperature", 1.0)
            if not t > 0:
                continue
            logits = [z for z, n in case["logits"] for _ in range(n)]
            for answer in case["answers"]:
                sizes: dict[str, int] = {}
                weights: dict[str, Any] = {}
                for part in answer["probs"]:
                    tokens = spread(part["tokens"])
                    kept = len(tokens)
                    if "tied" in answer and answer["tied"]["of"] == part["tokens"]:
                        kept = answer["tied"]["keep"]
                    assert len({logits[token] for token in tokens}) == 1
                    weights[part["p"]] = mp.exp(mp.mpf(logits[tokens[0]]) / mp.mpf(t))
                    sizes[part["p"]] = sizes.get(part["p"], 0) + kept
                total = mp.fsum(sizes[p] * weights[p] for p in sizes)
                for p, weight in weights.items():
                    assert abs(mp.mpf(p) - weight / total) <= mp.mpf("1e-38"), case["name"]


def test_every_probability_lies_within_its_limits() -> None:
    for case in CASES.values():
        for answer in case["answers"]:
            for part in answer["probs"]:
                assert part["low"] <= float(part["p"]) <= part["high"], case["name"]
                wide = 0.3 if case["settings"].get("temperature", 1) == 1e-6 else 0.03
                assert part["high"] - part["low"] < wide, case["name"]


def test_every_token_is_in_one_cell_or_ruled_out() -> None:
    for case in CASES.values():
        for answer in case["answers"]:
            if "counts" not in answer:
                continue
            tokens = np.concatenate([spread(cell["tokens"]) for cell in answer["counts"]])
            drawn = list(spread(answer["kept"]))
            drawn += list(spread(answer["tied"]["of"])) if "tied" in answer else []
            assert sorted(tokens.tolist()) == sorted(drawn), case["name"]


WARPERS = {
    "temperature": hf.TemperatureLogitsWarper,
    "top_k": hf.TopKLogitsWarper,
    "top_p": hf.TopPLogitsWarper,
    "min_p": hf.MinPLogitsWarper,
    "typical_p": hf.TypicalLogitsWarper,
}


def of_transformers(case: Mapping[str, Any]) -> list[int] | None:
    """What its processors keep, in its order; None for settings that it does not have."""
    settings = case["settings"]
    if not set(settings) <= set(WARPERS) or not settings.get("temperature", 1.0) > 0:
        return None
    if settings.get("top_p") == 0:
        return None
    logits = [float(z) for z, n in case["logits"] for _ in range(n)]
    scores = torch.tensor([logits])
    for dial, warper in WARPERS.items():
        if dial in settings:
            scores = warper(settings[dial])(None, scores)
    return torch.nonzero(scores[0] > -math.inf).flatten().tolist()


def test_transformers_gives_an_admitted_answer_everywhere() -> None:
    compared = 0
    for case in CASES.values():
        kept = of_transformers(case)
        if kept is None:
            continue
        compared += 1
        sets = []
        for answer in case["answers"]:
            tied = spread(answer["tied"]["of"]).tolist() if "tied" in answer else []
            sets.append(sorted({*spread(answer["kept"]).tolist(), *(set(kept) & set(tied))}))
        assert kept in sets, (case["name"], kept[:10], [s[:10] for s in sets])
    assert compared > 80


def by_definition(probs: list[Fraction], k: int, p: Fraction) -> dict[tuple[str, str], set[int]]:
    """Nuclei of what top-k leaves, without ties, in fractions: of the rest and of the row."""
    best = sorted(range(len(probs)), key=lambda i: -probs[i])[:k]
    found = {}
    for of, whole in (("the rest", sum(probs[i] for i in best)), ("the row", Fraction(1))):
        for border in ("stops", "goes on"):
            kept, mass = set(), Fraction(0)
            for i in best:
                if (mass >= p * whole) if border == "stops" else (mass > p * whole):
                    break
                kept.add(i)
                mass += probs[i]
            found[of, border] = kept
    return found


def test_kept_sets_follow_the_definitions_in_fractions() -> None:
    """Rows of ones and zeros have rational probabilities: with -inf, and no near border."""
    for n, k, eighths in itertools.product((1, 2, 4, 8), (8, 9), range(1, 8)):
        row = [(0.0, n), (-math.inf, 2)]
        expected = by_definition([Fraction(1, n)] * n, min(k, n), Fraction(eighths, 8))
        for choice, kept in kept_sets(levels(row), {"top_k": k, "top_p": eighths / 8}):
            if choice["top-p ties"] == "first":
                of = choice["top-p of"], choice["top-p exactly"]
                assert sum(kept.counts) == len(expected[of]), (n, k, eighths, choice)


def test_two_cuts_of_one_tie_are_not_guessed() -> None:
    with pytest.raises(ValueError, match="top-k and top-p cut the same level"):
        answers([(0.0, 4)], {"top_k": 3, "top_p": 0.3})


def test_conventions_say_which_answer_is_whose() -> None:
    # T = 4: 0.419, 0.327, 0.254, so three reach 0.8; T = 1: 0.665, 0.245, so two do.
    found = answers([(0.0, 1), (-1.0, 1), (-2.0, 1)], {"temperature": 4.0, "top_p": 0.8})
    assert [(answer["kept"], answer["conventions"]) for answer in found] == [
        ([[0, 2]], {"temperature": ["first"]}),
        ([[0, 1]], {"temperature": ["last"]}),
    ]


@pytest.mark.parametrize(
    ("dial", "probs"), [("top_p", (0.5, 0.3, 0.2)), ("min_p", (0.6, 0.3, 0.1))]
)
def test_a_near_border_admits_both_sides_and_tells_nothing(
    dial: str, probs: tuple[float, ...]
) -> None:
    first, second, third = (float(np.float32(math.log(p))) for p in probs)
    found = answers([(first, 1), (second, 1), (third, 1)], {dial: 0.5})
    assert [answer["kept"] for answer in found] == [[[0, 0]], [[0, 1]]]
    assert all(answer["conventions"] == {} for answer in found)


def brute_force(n: int, probs: list[Fraction], intervals: list[tuple[int, int]]) -> Fraction:
    inside = Fraction(0)
    for counts in itertools.product(*(range(low, high + 1) for low, high in intervals)):
        if sum(counts) == n:
            ways = math.factorial(n)
            for count in counts:
                ways //= math.factorial(count)
            inside += ways * math.prod(
                (p**count for p, count in zip(probs, counts, strict=True)), start=Fraction(1)
            )
    return 1 - inside


@pytest.mark.parametrize(
    ("n", "probs", "intervals"),
    [
        (1, ["1/2", "1/2"], [(0, 1), (0, 1)]),
        (5, ["1/3", "2/3"], [(1, 3), (2, 4)]),
        (12, ["1/2", "1/4", "1/4"], [(3, 9), (1, 6), (1, 6)]),
        (20, ["7/10", "1/10", "1/10", "1/10"], [(9, 19), (0, 5), (0, 5), (0, 5)]),
        (9, ["1/100", "99/100"], [(0, 1), (8, 9)]),
        (6, ["1/2", "1/2"], [(5, 6), (5, 6)]),
    ],
)
def test_the_chance_of_a_rectangle_is_that_of_all_its_points(
    n: int, probs: list[str], intervals: list[tuple[int, int]]
) -> None:
    fractions = [Fraction(p) for p in probs]
    exact = float(brute_force(n, fractions, intervals))
    found = chance_outside(n, [float(p) for p in fractions], intervals)
    # Products of float64 numbers, some hundred of them, and 1 minus their sum.
    assert found == pytest.approx(exact, rel=1e-12, abs=1e-13)


def test_the_sum_of_all_false_alarms_is_stated() -> None:
    total = 0.0
    for one in (*DATA["cases"], *DATA["batches"]):
        total += one.get("draws", {}).get("false_alarm", 0.0)
        total += max((a.get("false_alarm", 0.0) for a in one.get("answers", ())), default=0.0)
    assert total <= DATA["false_alarm"] <= total * 1.01
    assert DATA["false_alarm"] < 1e-4  # as the page says


def test_limits_hold_equal_logits_together() -> None:
    """At T = 1e-6 rounding moves a gap by more than one, but not one of 0."""
    row = levels([(20.0, 2), (19.0, 1)])
    (low, high), (_, small) = bounds(row, 1e-6, [2, 1])
    assert 0.4999 < low < high < 0.5001
    assert small < 1e-30


def test_repeats_are_counted_as_by_hand() -> None:
    """Every sequence of draws, in fractions; and the mean of many."""
    for size, n in ((1, 3), (2, 4), (3, 5), (5, 4)):
        counts = [0] * n
        for drawn in itertools.product(range(size), repeat=n):
            counts[n - len(set(drawn))] += 1
        expected = [Fraction(count, size**n) for count in counts]
        assert chance_of_repeats(n, size) == pytest.approx([float(x) for x in expected], abs=1e-15)
    chances = chance_of_repeats(4000, 200_000)
    assert chances.sum() == pytest.approx(1, abs=1e-10)
    mean = 4000 - 200_000 * (1 - (1 - 1 / 200_000) ** 4000)
    assert chances @ range(4000) == pytest.approx(mean, rel=1e-9)
