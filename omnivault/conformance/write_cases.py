"""Write ``cases.json`` from the definitions of the cases: ``python -m ...conformance.write_cases``.

Every answer is computed here from the row and the settings by :mod:`omnivault.conformance.exact`;
what is written by hand is the row, the settings, and why they are asked. One case has numbers of a
model: ``python -m omnivault.conformance.write_cases --model`` prints them anew.
"""

from __future__ import annotations

import bisect
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from mpmath import mp

from omnivault.conformance import exact

TAIL = 1e-6
"""Of the counts of one case, the chance that any is outside, about."""
DRAWS, DRAWS_OF_MANY = 4000, 1000
"""Where a case does not say more; the second of rows of thousands of tokens."""
ALONE = 10
"""Up to so many equal tokens have a cell each."""
INF = math.inf

Row = list[tuple[float, int]]


def _row(*logits: float) -> Row:
    return [(z, 1) for z in logits]


def _logs(*probs: float) -> Row:
    return [(float(np.float32(math.log(p))), 1) for p in probs]


A = _logs(0.5, 0.25, 0.125, 0.0625, 0.0625)
B = _logs(0.4, 0.3, 0.2, 0.1)
D = _row(1.5, 1.25, 0.75, 0.0, -1.0)
STEPS = [-i / 8 for i in range(64)]
# The logits of SmolLM2-135M-Instruct after "The capital of France is", less the largest, rounded
# to sixteenths and sorted, so that they can be written in short.
MODEL_PROMPT = "The capital of France is"


def _model_row() -> Row:
    text = files("omnivault.conformance").joinpath("model_row.json").read_text(encoding="utf-8")
    return [(float(z), int(n)) for z, n in json.loads(text)]


def _far(mass: float, count: int) -> float:
    """Gap, in float32, at which each of ``count`` tokens has this mass behind one at 0."""
    return float(np.float32(math.log(mass / (1 - count * mass))))


def definitions() -> list[dict[str, Any]]:
    """Rows, settings and reasons, in the order of the file."""
    cases: list[dict[str, Any]] = []

    def case(name: str, why: str, row: Row, **settings: Any) -> dict[str, Any]:
        cases.append({"name": name, "why": why, "row": row, "settings": settings})
        return cases[-1]

    # The softmax.
    case("one-token", "One token is certain, whatever its logit.", _row(3.0))
    found = case(
        "one-token-all-dials",
        "One token stays certain under every cut.",
        _row(-7.5),
        temperature=0.5,
        top_k=1,
        top_p=0.5,
        min_p=0.5,
    )
    found["refusal"] = {"top-k above V": ["refused"]}  # as where top-k must be less than V
    case("two-tokens", "The smallest softmax that is not trivial: a logistic function.", _row(0, 1))
    case("plain", "A softmax of five tokens with no dial set.", D)
    case("equal-logits", "Equal logits are equally likely.", [(0.25, 8)])
    case(
        "far-above-zero",
        "exp(200) overflows in float32: the largest logit has to be subtracted first.",
        _row(200.0, 199.0, 197.5),
    )
    case(
        "far-below-zero",
        "exp(-200) vanishes in float32: the largest logit has to be subtracted first.",
        _row(-200.0, -201.0, -202.5),
    )
    case("translated", "Adding 64 to each logit of `plain` changes nothing.", _shift(D, 64))
    case(
        "permuted",
        "The logits of `plain` in another order: each token takes its probability along.",
        _row(0.0, 1.5, -1.0, 1.25, 0.75),
    )
    case(
        "far-behind",
        "Gaps of 17, 40 and 80: small probabilities are not zero, and 1 minus the others is.",
        _row(0.0, -17.0, -40.0, -80.0),
    )
    case(
        "huge-gaps",
        "Differences of logits that overflow in float32 leave one token, and no nan.",
        _row(2.0**127, 0.0, -(2.0**127)),
    )
    case(
        "leader-last",
        "The best token stands last; nothing may depend on the order of the row.",
        _row(-3.0, -2.0, -1.0, 2.0),
    )

    # Tokens that are ruled out.
    masked = _row(1.5, -INF, 0.75, 0.0, -1.0)
    case("one-masked", "One -inf rules out one token and leaves the others their law.", masked)
    case(
        "first-masked",
        "The first token is ruled out; a uniform number of 0 must not choose it.",
        _row(-INF, 0.5, 0.0, 0.25, -INF),
    )
    case(
        "one-left",
        "All tokens but one are ruled out, as by a grammar.",
        _row(-INF, -INF, -2.0, -INF),
    )
    case(
        "half-masked",
        "A mask of a vocabulary of 1,000: half of it is ruled out.",
        [(-INF, 250), (0.5, 125), (-INF, 125), (-0.5, 125), (-INF, 125), (0.0, 250)],
    )
    case("masked-temperature", "-inf divided by T is -inf.", masked, temperature=0.5)
    case("masked-top-k", "top-k counts no token that is ruled out.", masked, top_k=3)
    case(
        "masked-top-k-beyond",
        "top-k above the number of tokens that are left brings none back.",
        _row(1.0, -INF, 0.5, -INF, -INF),
        top_k=4,
    )
    case("masked-top-p", "top-p of a row with an -inf.", masked, top_p=0.75)
    case("masked-min-p", "min-p of a row with an -inf.", masked, min_p=0.25)
    case(
        "masked-typical-p",
        "0 log 0 is 0, so one -inf leaves the entropy alone, and the typical set with it.",
        _row(1.0, 0.25, -INF, -0.5, -1.5),
        typical_p=0.5,
    )
    case(
        "masked-top-n-sigma",
        "Mean and deviation are of the logits that are not ruled out.",
        _row(4.0, 3.0, -INF, 0.0, 1.0),
        top_n_sigma=1.0,
    )

    # The temperature alone.
    case("temperature-half", "T = 1/2 squares the odds.", D, temperature=0.5)
    case("temperature-two", "T = 2 takes their root.", D, temperature=2.0)
    case("temperature-seven-tenths", "A temperature that no float holds.", D, temperature=0.7)
    case(
        "temperature-translated",
        "Adding 64 to each logit changes nothing at T = 2 either.",
        _shift(D, 64),
        temperature=2.0,
    )
    for power in (-6, -3, 3, 6):
        found = case(
            f"temperature-1e{power}",
            f"T = 1e{power} of gaps of about the same size: no clamp, no overflow.",
            _row(0.0, *(-g * 2.0 ** round(power * math.log2(10)) for g in (1.0, 0.5, 2.0))),
            temperature=10.0**power,
        )
        found["refusal"] = {"extreme temperatures": ["refused"]}
    found = case(
        "temperature-1e-6-tie",
        "Two tokens tie: they share the probability at every temperature, also the smallest.",
        _row(1.0, 0.5, 1.0),
        temperature=1e-6,
    )
    found["refusal"] = {"extreme temperatures": ["refused"]}
    found = case(
        "temperature-1e6-flat",
        "T = 1e6 makes any row nearly uniform.",
        D,
        temperature=1e6,
    )
    found["refusal"] = {"extreme temperatures": ["refused"]}
    found = case("temperature-zero", "T = 0 is the largest logit, or refused.", D, temperature=0)
    found["by_hand"] = [([[0, 0]], {"zero temperature": ["greedy"]})]
    found["refusal"] = {"zero temperature": ["refused"]}
    found = case(
        "temperature-zero-tie",
        "T = 0 and two largest logits.",
        _row(0.5, 2.0, -1.0, 2.0),
        temperature=0,
    )
    zero = "ties at zero temperature"
    found["by_hand"] = [
        ([[1, 1]], {"zero temperature": ["greedy"], zero: ["first"]}),
        ([[3, 3]], {"zero temperature": ["greedy"], zero: ["last"]}),
        ([[1, 1], [3, 3]], {"zero temperature": ["greedy"], zero: ["all"]}),
    ]
    found["refusal"] = {"zero temperature": ["refused"]}
    found = case(
        "temperature-negative",
        "A negative temperature is refused; it must not prefer the worst token in silence.",
        D,
        temperature=-1.0,
    )
    found["by_hand"] = [([[0, 0]], {"negative temperature": ["greedy"]})]
    found["refusal"] = {"negative temperature": ["refused"]}

    # top-k.
    case("top-k-one", "top-k 1 is the best token.", D, top_k=1)
    case("top-k-two", "The two best, renormalized.", D, top_k=2)
    case(
        "top-k-permuted",
        "The two best, wherever they stand.",
        _row(0, 1.5, -1, 1.25, 0.75),
        top_k=2,
    )
    case(
        "top-k-temperature",
        "top-k commutes with T: the same three at any temperature, with the law of T.",
        D,
        temperature=2.0,
        top_k=3,
    )
    found = case("top-k-all", "top-k of the whole vocabulary is off.", D, top_k=5)
    found["refusal"] = {"top-k above V": ["refused"]}
    found = case("top-k-above", "top-k above the vocabulary is off, or refused.", D, top_k=9)
    found["by_hand"] = [([[0, 4]], {"top-k above V": ["off"]})]
    found["refusal"] = {"top-k above V": ["refused"]}
    case("top-k-tie", "Three tokens tie for the last two places.", _row(0, 2, 0, 1, 0), top_k=4)
    case("top-k-all-tie", "All four tokens tie for two places.", [(0.0, 4)], top_k=2)

    # top-p.
    case("top-p", "The nucleus: the token that crosses p is kept.", D, top_p=0.8)
    case(
        "top-p-permuted",
        "The nucleus, wherever it stands.",
        _row(0, 1.5, -1, 1.25, 0.75),
        top_p=0.8,
    )
    case("top-p-tiny", "However small p is, the best token stays.", D, top_p=1e-6)
    case("top-p-nearly-one", "p = 0.999 still keeps every token here.", D, top_p=0.999)
    case("top-p-one", "p = 1 is off.", D, top_p=1.0)
    found = case("top-p-zero", "p = 0 keeps the best token, is off, or refused.", D, top_p=0.0)
    found["by_hand"] = [
        ([[0, 0]], {"top-p zero": ["best"]}),
        ([[0, 4]], {"top-p zero": ["off"]}),
    ]
    found["refusal"] = {"top-p zero": ["refused"]}
    case(
        "top-p-exact", "Half of two equal tokens is reached exactly by one.", _row(0, 0), top_p=0.5
    )
    case(
        "top-p-exact-four",
        "Half of four equal tokens is reached exactly by two; two more are ruled out.",
        _row(0, 0, -INF, 0, 0, -INF),
        top_p=0.5,
    )
    case(
        "top-p-rounded-border",
        "float32 logarithms of 1/2, 1/4, ...: the border is reached up to rounding.",
        A,
        top_p=0.75,
    )
    case("top-p-tie", "p is crossed within three tokens that tie.", _row(0, 2, 0, 1, 0), top_p=0.9)
    case(
        "top-p-temperature",
        "The nucleus at T = 2 is wider than at T = 1: is it taken before the division or after?",
        B,
        temperature=2.0,
        top_p=0.65,
    )
    case(
        "top-p-temperature-cold",
        "At T = 1/2 it is narrower.",
        A,
        temperature=0.5,
        top_p=0.7,
    )
    case(
        "top-p-temperature-translated",
        "Far from zero, the same order of division and nucleus.",
        _shift(D, 16),
        temperature=2.0,
        top_p=0.8,
    )
    case("top-p-top-k", "p of what top-k leaves, or of the row?", B, top_k=3, top_p=0.75)
    case(
        "top-p-top-k-agree",
        "top-k leaves less than p: top-k decides.",
        B,
        top_k=2,
        top_p=0.95,
    )

    # min-p.
    case("min-p", "Tokens at least p times as likely as the best.", D, min_p=0.3)
    case("min-p-permuted", "Wherever they stand.", _row(0, 1.5, -1, 1.25, 0.75), min_p=0.3)
    case("min-p-zero", "min-p 0 is off.", D, min_p=0.0)
    found = case(
        "min-p-one", "min-p 1 keeps the best tokens, all that tie.", _row(1, 0, 1), min_p=1.0
    )
    found["refusal"] = {"min-p one": ["refused"]}
    case("min-p-rounded-border", "A ratio of 1/4, up to rounding, and min-p 1/4.", A, min_p=0.25)
    case(
        "min-p-temperature",
        "min-p before the division by T or after?",
        B,
        temperature=2.0,
        min_p=0.4,
    )
    case(
        "min-p-top-p",
        "min-p before top-p renormalizes; after it, it does not.",
        B,
        min_p=0.6,
        top_p=0.55,
    )
    case("min-p-top-k", "min-p and top-k: the smaller set.", D, top_k=4, min_p=0.7)

    # The others.
    case(
        "typical-p",
        "The tokens of most typical surprise.",
        _row(2.0, 0.5, 0.25, 0.0, -2.0),
        typical_p=0.3,
    )
    case(
        "top-n-sigma",
        "Logits at most one deviation below the best.",
        _row(4, 3, 0, 1),
        top_n_sigma=1.0,
    )
    case(
        "top-n-sigma-temperature",
        "No temperature changes what top-n-sigma keeps.",
        _row(4, 3, 0, 1),
        temperature=2.0,
        top_n_sigma=1.0,
    )

    # Sizes.
    steep = _row(*STEPS)
    for name, row in (("64", steep), ("65", [*steep, (-INF, 1)])):
        beside = " with one that is ruled out" if name == "65" else ""
        case(f"size-{name}", f"{name} tokens{beside}.", row)
        case(f"size-{name}-top-p", f"The nucleus of {name} tokens{beside}.", row, top_p=0.5)
        case(f"size-{name}-top-k", f"top-k of {name} tokens{beside}.", row, top_k=10)
    case("size-65-open", "The 65th token can be drawn.", [*steep, (-8.0, 1)], top_p=0.5)
    case("size-1000", "A thousand equal tokens.", [(1.0, 1000)])
    wide: Row = [(-4.0, 20000), (3.0, 4), (-INF, 1000), (5.0, 1), (-4.0, 28995)]
    case("size-50000", "50,000 tokens, a few of them likely.", wide)
    case("size-50000-top-k", "The five best of 50,000.", wide, top_k=5)
    case("size-50000-top-p", "The best of 50,000.", wide, top_p=0.1)
    case("size-50000-min-p", "Five of 50,000 are near the best.", wide, min_p=0.05)
    case("size-200000", "200,000 equal tokens but one.", [(0.0, 100000), (10.0, 1), (0.0, 99999)])
    case(
        "size-200000-top-k",
        "The best of 200,000 equal tokens but one.",
        [(0.0, 100000), (10.0, 1), (0.0, 99999)],
        top_k=1,
    )

    # Half precision.
    half: Row = [(float(np.float16(-(i**2) / 4096)), 1) for i in range(256)]
    case(
        "float16-logits",
        "Logits that float16 holds: their softmax has to be computed with more digits.",
        half,
    )
    case(
        "float16-logits-top-p",
        "A nucleus of 96 of them: half precision loses count.",
        half,
        top_p=0.9,
    )
    bfloat: Row = [(20.0 - i / 8, 1) for i in range(32)] + [(0.0, 2000)]
    case(
        "bfloat16-logits",
        "Logits that bfloat16 holds, with a tail of 2,000 tokens that half precision cannot add.",
        [(z, n) if z else (11.0, n) for z, n in bfloat],
    )
    case(
        "bfloat16-logits-temperature",
        "Divided by 0.7 they are on no grid of half precision.",
        [(z, n) if z else (8.0, n) for z, n in bfloat],
        temperature=0.7,
    )

    # A real row.
    real = _model_row()
    case("model", f"A real row: SmolLM2-135M-Instruct after {MODEL_PROMPT!r}.", real)
    case("model-temperature", "The real row at T = 0.7.", real, temperature=0.7)
    case("model-top-k", "The real row, top-k 4.", real, top_k=4)
    case("model-top-p", "The real row, p = 0.8.", real, top_p=0.8)
    case("model-min-p", "The real row, min-p 0.05.", real, min_p=0.05)
    case("model-all", "Three dials at once.", real, temperature=0.7, top_k=50, top_p=0.8)

    # What only draws can show.
    for found in cases:
        size = sum(n for _, n in found["row"])
        found["draws"] = {"n": DRAWS_OF_MANY if size > 5000 else DRAWS, "calls": 1}
    found = case(
        "far-tail",
        "100,000 tokens, each 17.375 behind a leader that stands first. A cumulative sum in "
        "float32 stays where it is after the leader; Gumbel noise of a 24-bit uniform reaches 16.6 "
        "at most.",
        [(17.375, 1), (0.0, 100000)],
    )
    found["draws"] = {"n": 1000, "calls": 20}
    # In halves: a search that runs past the last sum ends at the last token, each time.
    found["cells"] = [[[0, 0]], [[1, 50000]], [[50001, 100000]]]
    grid = 2.0**-25
    found = case(
        "fine-tail",
        "200,000 tokens of probability 2^-25 before the leader: a uniform number of 24 bits "
        "reaches every other one alone.",
        [(_far(grid, 200000), 200000), (0.0, 1)],
    )
    found["draws"] = {"n": 1000, "calls": 6}
    found["cells"] = [[[0, 199998, 2]], [[1, 199999, 2]], [[200000, 200000]]]
    flat: Row = [(0.0, 1024)]
    found = case("every-token", "1,024 equal tokens in 16 groups: none is preferred.", flat)
    found["draws"] = {"n": 2000, "calls": 4}
    found["cells"] = [[[i, i + 63]] for i in range(0, 1024, 64)]
    found = case(
        "every-residue",
        "The same tokens by their remainder mod 8.",
        flat,
    )
    found["draws"] = {"n": 2000, "calls": 4}
    found["cells"] = [[[i, 1016 + i, 8]] for i in range(8)]
    found = case(
        "numbers-suffice",
        "200,000 equal tokens: random numbers of 16 bits or fewer reach so few of them that draws "
        "repeat too often.",
        [(0.0, 200000)],
    )
    found["draws"] = {"n": 1000, "calls": 4, "statistic": "repeats"}
    found = case(
        "draws-differ", "Two draws in a row are no more often equal than chance has it.", flat
    )
    found["draws"] = {"n": 4000, "calls": 1, "statistic": "pairs"}
    found = case(
        "seeds-differ", "Draws of two seeds are no more often equal than chance has it.", flat
    )
    found["draws"] = {"n": 2000, "calls": 2, "statistic": "seeds"}
    return cases


BATCHES: list[dict[str, Any]] = [
    {
        "name": "batch-of-dials",
        "why": "Rows of one batch with dials of their own: each as if it were alone.",
        "cases": [
            "plain",
            "one-masked",
            "temperature-half",
            "top-k-two",
            "top-p",
            "min-p",
            "first-masked",
            "top-k-tie",
        ],
        "draws": {"n": DRAWS},
    },
    {
        "name": "batch-of-one",
        "why": "A batch of one row.",
        "cases": ["top-k-temperature"],
        "draws": {"n": DRAWS},
    },
    {
        "name": "rows-differ",
        "why": "Two equal rows of one batch are drawn independently.",
        "cases": ["draws-differ", "draws-differ"],
        "draws": {"n": 2000, "statistic": "rows"},
    },
]


def _shift(row: Row, by: float) -> Row:
    return [(z + by, n) for z, n in row]


def written() -> dict[str, Any]:
    """Compute everything that stands in the file."""
    cases = [_written(definition) for definition in definitions()]
    by_name = {case["name"]: case for case in cases}
    batches = [_batch(batch, by_name) for batch in BATCHES]
    chances = [_false_alarm(case) for case in cases]
    chances += [case["draws"].get("false_alarm", 0.0) for case in cases if "draws" in case]
    chances += [batch["draws"]["false_alarm"] for batch in batches]
    return {
        "about": (
            "Cases for samplers of language models. Logits are [value, how often], in order; "
            "sets of tokens are [first, last] or [first, last, step]. A sampler is right if it "
            "gives one of the answers: those tokens, with probabilities from low to high (p is "
            "exact), or with counts of so many draws from low to high."
        ),
        "false_alarm": _up(sum(chances)),
        "conventions": exact.CONVENTIONS,
        "cases": cases,
        "batches": batches,
    }


def _false_alarm(case: Mapping[str, Any]) -> float:
    """Of a sampler that gives any one of the answers."""
    return float(max(answer.get("false_alarm", 0.0) for answer in case["answers"]))


def _up(chance: float) -> float:
    """Three digits, rounded up."""
    if chance <= 0:
        return 0.0
    digits = 2 - math.floor(math.log10(chance))
    return float(f"{math.ceil(chance * 10**digits) / 10**digits:.3g}")


def _written(definition: Mapping[str, Any]) -> dict[str, Any]:
    row, settings = definition["row"], definition["settings"]
    grouped = exact.levels(row)
    case: dict[str, Any] = {
        "name": definition["name"],
        "why": definition["why"],
        "logits": [["-inf" if z == -INF else z, n] for z, n in row],
        "settings": settings,
    }
    if "refusal" in definition:
        case["refusal"] = definition["refusal"]
    if "by_hand" in definition:
        case["answers"] = [
            {**_of_hand(grouped, kept, settings), "conventions": conventions}
            for kept, conventions in definition["by_hand"]
        ]
    else:
        case["answers"] = exact.answers(row, settings)
    draws = dict(definition["draws"])
    if "statistic" in draws:
        if draws["statistic"] == "repeats":
            (level,) = grouped
            draws |= _repeats(draws["n"] * draws["calls"], level.count)
        else:
            comparisons = draws["n"] // 2 if draws["statistic"] == "pairs" else draws["n"]
            draws |= _matches(comparisons, case["answers"][0], case["answers"][0])
        case["draws"] = draws
    elif _draws_tell(case, grouped, draws["n"] * draws["calls"]):
        case["draws"] = draws
        for answer in case["answers"]:
            answer |= _counts(answer, draws["n"] * draws["calls"], definition.get("cells"))
    return case


def _of_hand(
    grouped: Sequence[exact.Level], kept: Sequence[Sequence[int]], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Answer with this kept set; greedy answers have the law of equal logits, at any T."""
    tokens = {t for first, last in kept for t in range(first, last + 1)}
    rows = [
        exact.Level(
            level.logit,
            tuple((t, t) for a, b in level.ranges for t in range(a, b + 1) if t in tokens),
        )
        for level in grouped
    ]
    chosen = [level for level in rows if level.ranges]
    temperature = settings.get("temperature", 1.0)
    return exact.answer(
        chosen,
        temperature if temperature > 0 else 1.0,
        exact.Kept(tuple(level.count for level in chosen), ""),
    )


def _probs(answer: Mapping[str, Any]) -> list[tuple[Any, Fraction, int]]:
    """Tokens, the probability of each, and how many of them are kept."""
    return [
        (
            part["tokens"],
            Fraction(part["p"]),
            answer["tied"]["keep"]
            if _is_tied(answer, part["tokens"])
            else sum(last - first + 1 for first, last in part["tokens"]),
        )
        for part in answer["probs"]
    ]


def _draws_tell(case: Mapping[str, Any], grouped: Sequence[exact.Level], n: int) -> bool:
    """Whether draws tell the answers from one another, and from what rounding makes of them.

    A token in which two answers differ is drawn, but for a chance of e^-40. And rounding in float32
    moves no count by more than its standard deviation: the odds of a cell by a factor within
    exp(±2δ), so a probability q by q (1 - q) (exp(2δ) - 1) at most. Sums are not counted here: one
    that loses tokens is what draws are asked for.
    """
    answers = case["answers"]
    if len(answers) > 1:
        return all(n * p > 40 for answer in answers for _, p, _ in _probs(answer))
    temperature = case["settings"].get("temperature", 1.0)
    if temperature <= 0:
        return True  # one token, or tokens that tie
    gap = {
        level.ranges[0][0]: d
        for level, d in zip(grouped, exact.margins(grouped, temperature), strict=True)
    }
    counted = [gap[tokens[0][0]] for tokens, p, count in _probs(answers[0]) if n * count * p >= 1]
    return math.sqrt(n / 4) * math.expm1(2 * max(counted)) <= 1


def _counts(answer: Mapping[str, Any], n: int, cells: Any) -> dict[str, Any]:
    parts: list[tuple[Any, Fraction]] = [
        part
        for tokens, p, count in _probs(answer)
        for part in (
            [([[t, t]], p) for a, b in tokens for t in range(a, b + 1)]
            if count <= ALONE and n * p >= 20 and not _is_tied(answer, tokens)
            else [(tokens, p * count)]
        )
    ]
    if cells:
        parts = [
            (
                cell,
                _mass(
                    p * _common(cell[0], [first, last])
                    for tokens, p, _ in _probs(answer)
                    for first, last in tokens
                ),
            )
            for cell in cells
        ]
    else:
        # Many rare levels make one cell.
        rare = [part for part in parts if n * part[1] < 20]
        if len(rare) > 1:
            parts = [part for part in parts if n * part[1] >= 20]
            parts.append(([r for tokens, _ in rare for r in tokens], _mass(p for _, p in rare)))
    total = _mass(p for _, p in parts)
    parts = [(tokens, p / total) for tokens, p in parts]
    if len(parts) == 1:
        intervals = [(n, n)]
    else:
        tail = TAIL / (2 * len(parts))
        intervals = [exact.count_interval(n, float(p), tail) for _, p in parts]
    probs = [mp.mpf(p.numerator) / p.denominator for _, p in parts]
    return {
        "counts": [
            {"tokens": tokens, "low": low, "high": high}
            for (tokens, _), (low, high) in zip(parts, intervals, strict=True)
        ],
        "false_alarm": _up(exact.chance_outside(n, probs, intervals)) if len(parts) > 1 else 0.0,
    }


def _mass(parts: Iterable[Fraction]) -> Fraction:
    return sum(parts, start=Fraction(0))


def _is_tied(answer: Mapping[str, Any], tokens: Any) -> bool:
    return "tied" in answer and bool(answer["tied"]["of"] == tokens)


def _common(cell: Sequence[int], tokens: Sequence[int]) -> int:
    first, last, step = [*cell, 1][:3]
    steps = range(first, last + 1, step)
    return bisect.bisect_right(steps, tokens[1]) - bisect.bisect_left(steps, tokens[0])


def _matches(n: int, one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """How often two draws may be the same token: each of ``n`` pairs with the same chance."""
    chance = sum(
        p * q * len({*range(a, b + 1)} & {*range(c, d + 1)})
        for tokens, p, _ in _probs(one)
        for a, b in tokens
        for others, q, _ in _probs(other)
        for c, d in others
    )
    low, high = exact.count_interval(n, float(chance), TAIL / 2)
    with mp.workdps(40):
        p = mp.mpf(chance.numerator) / chance.denominator
        outside = exact.chance_outside(n, [p, 1 - p], [(low, high), (n - high, n - low)])
    return {"matches": [low, high], "false_alarm": _up(outside)}


def _repeats(n: int, size: int) -> dict[str, Any]:
    """How many of ``n`` draws of equal tokens may have been drawn before."""
    chances = exact.chance_of_repeats(n, size)
    below, above = np.cumsum(chances), np.cumsum(chances[::-1])[::-1]
    low = int(np.argmax(below > TAIL / 2))
    high = len(chances) - 1 - int(np.argmax(above[::-1] > TAIL / 2))
    outside = chances[:low].sum() + chances[high + 1 :].sum()
    return {"matches": [low, high], "false_alarm": _up(outside)}


def _batch(batch: Mapping[str, Any], by_name: Mapping[str, Any]) -> dict[str, Any]:
    draws = dict(batch["draws"])
    cases = [by_name[name] for name in batch["cases"]]
    if draws.get("statistic") == "rows":
        draws |= _matches(draws["n"], *(case["answers"][0] for case in cases))
    else:
        draws["false_alarm"] = _up(sum(_false_alarm(case) for case in cases))
    return {**batch, "draws": draws}


def as_text(value: Any, indent: int = 0) -> str:
    """JSON in which what is short stands on one line."""
    line = json.dumps(value)
    if len(line) + indent <= 100 or not isinstance(value, dict | list):
        return line
    inner = " " * (indent + 1)
    if isinstance(value, dict):
        parts = [f"{json.dumps(k)}: {as_text(v, indent + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(inner + part for part in parts) + "\n" + " " * indent + "}"
    if all(not isinstance(v, dict) for v in value):
        lines: list[str] = [""]
        for v in value:
            item = json.dumps(v)
            if lines[-1] and len(lines[-1]) + len(item) + indent > 98:
                lines.append("")
            lines[-1] += f", {item}" if lines[-1] else item
        return "[\n" + ",\n".join(inner + text for text in lines) + "\n" + " " * indent + "]"
    return (
        "[\n"
        + ",\n".join(inner + as_text(v, indent + 1) for v in value)
        + "\n"
        + " " * indent
        + "]"
    )


def model_row() -> Row:
    """Take the row from the model, which the written file does not need."""
    from omnivault.model.language_model import load_language_model  # slow, and seldom wanted

    z = load_language_model().next_token_logits(MODEL_PROMPT)
    grid = ((z - z.max()) * 16).round().div(16).sort(descending=True).values
    values, counts = grid.unique_consecutive(return_counts=True)
    return list(zip(values.tolist(), counts.tolist(), strict=True))


def main(arguments: Sequence[str]) -> None:
    """Write the file into the package."""
    folder = Path(str(files("omnivault.conformance")))
    if "--model" in arguments:
        text = as_text([list(run) for run in model_row()]) + "\n"
        folder.joinpath("model_row.json").write_text(text, encoding="utf-8")
    folder.joinpath("cases.json").write_text(as_text(written()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
