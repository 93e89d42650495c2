r"""The law of a sampler to 50 digits, under every convention that engines have.

The reference law is the softmax of z / T over a kept set. Which tokens are kept is a matter of
definition where engines differ legitimately; each difference is a *convention* with a name, and
:func:`answers` makes one answer of every kept set that some choice of conventions gives.

What ``omnivault.conformance.write_cases`` writes into the file is computed here, by the
definitions, in mpmath, one level of equal logits after the other. Needs mpmath and SciPy, which
the checks themselves do not.

Notes
-----
**How far a probability may be off.** With u = 2^-24, the rounding of float32, let m be the largest
logit, N the number of logits above -inf, and T the temperature. Engines scale and shift in any
order: z / T, then minus the largest; minus the largest, then / T; log-probabilities z - lse first,
then / T. Each of these steps rounds a number of size at most :math:`(|z| + |m| + \log N) / T`, or
rounds T itself, which moves the gap to the largest by as much. There are at most three steps for a
token, two of them also for the largest token, and the rounding of T, so the gap in the exponent is
off by

.. math:: \delta_i \le 6 u (|z_i| + |m| + \log N) / T

and by nothing if :math:`z_i = m`, since equal numbers are treated equally. A weight lies within
:math:`w_i e^{\pm \delta_i}`, and the probability between

.. math:: \frac{w_i e^{-\delta_i}}{w_i e^{-\delta_i} + \sum_{j \ne i} w_j e^{\delta_j}}
   \quad\text{and}\quad
   \frac{w_i e^{\delta_i}}{w_i e^{\delta_i} + \sum_{j \ne i} w_j e^{-\delta_j}},

where equal logits move together. Exponentials (4 u each), a sum of at most N terms in any order
(N u; Higham, 2002, chapter 4), a quotient, and a second normalization after the cuts are a factor
within 1 ± 1.01 (2 N + 16) u. Below 2^-125 a number may be flushed to zero.

**When a border is near.** A sum of probabilities that decides what top-p keeps is off by at most
(2 N + 16) u and what the δ make of it. A border closer to p than that, but not exactly there, is
one that float32 cannot decide, so both sides are admitted, and no convention is read from it.

References
----------
Levin, B. (1981), "A representation for multinomial cumulative distribution functions", Annals of
Statistics 9. Higham, N. J. (2002), "Accuracy and Stability of Numerical Algorithms", SIAM.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from mpmath import mp
from scipy import stats

__all__ = [
    "CONVENTIONS",
    "Kept",
    "Level",
    "answers",
    "chance_of_repeats",
    "chance_outside",
    "count_interval",
    "kept_sets",
    "law",
    "levels",
    "margins",
]

DIGITS = 50
"""Of a probability in the file."""
LEAST = mp.mpf(10) ** -1000
"""Smaller probabilities are written as 0: exp(-2^127) has an exponent of 38 digits."""
EXACT = mp.mpf(10) ** -45
"""Two numbers of 60 digits that are closer are equal."""
ROUNDING = 2.0**-24
"""Half a unit in the last place of float32, relative."""

Row = Sequence[tuple[float, int]]
"""Logits in order, each with how often it is repeated."""
Ranges = list[list[int]]
"""Tokens, as [first, last] or [first, last, step]; the last is one of them."""

CONVENTIONS: dict[str, dict[str, str]] = {
    "temperature": {
        "first": "divides by T before the cuts",
        "last": "divides by T after the cuts",
    },
    "top-k ties": {
        "all": "of tokens that tie at top-k keeps all",
        "first": "of tokens that tie at top-k keeps the first, k tokens in all",
        "last": "of tokens that tie at top-k keeps the last, k tokens in all",
        "any": "of tokens that tie at top-k keeps some, k tokens in all",
    },
    "top-p ties": {
        "all": "of tokens that tie at top-p keeps all",
        "first": "of tokens that tie at top-p keeps as many as needed, the first",
        "last": "of tokens that tie at top-p keeps as many as needed, the last",
        "any": "of tokens that tie at top-p keeps as many as needed, any of them",
    },
    "top-p exactly": {
        "stops": "stops where top-p is reached exactly",
        "goes on": "keeps one more token where top-p is reached exactly",
    },
    "top-p of": {
        "the rest": "top-p of what top-k leaves, renormalized",
        "the row": "top-p of the whole row, whatever top-k leaves",
    },
    "min-p and top-p": {
        "min-p first": "min-p before top-p, which renormalizes",
        "top-p first": "top-p of a row that min-p has not cut",
    },
    "zero temperature": {
        "greedy": "T = 0 takes the largest logit",
        "refused": "refuses T = 0",
    },
    "ties at zero temperature": {
        "first": "T = 0 takes the first of the largest logits",
        "last": "T = 0 takes the last of the largest logits",
        "all": "T = 0 draws among the largest logits",
    },
    "negative temperature": {
        "greedy": "T < 0 takes the largest logit",
        "refused": "refuses T < 0",
    },
    "extreme temperatures": {
        "taken": "takes temperatures from 1e-6 to 1e6",
        "refused": "refuses extreme temperatures",
    },
    "top-p zero": {
        "best": "top-p 0 keeps the best token",
        "off": "top-p 0 is off",
        "refused": "refuses top-p 0",
    },
    "top-k above V": {
        "off": "top-k beyond the vocabulary is off",
        "refused": "refuses top-k beyond the vocabulary",
    },
    "min-p one": {
        "best": "min-p 1 keeps the best tokens",
        "refused": "refuses min-p 1",
    },
}
"""Where engines differ, by name, and the ways there are, each in words."""


@dataclass(frozen=True)
class Level:
    """Tokens of one logit."""

    logit: float
    ranges: tuple[tuple[int, int], ...]
    """Where they are, [first, last] each, in order."""

    @cached_property
    def count(self) -> int:
        """How many there are."""
        return sum(last - first + 1 for first, last in self.ranges)


@dataclass(frozen=True)
class Kept:
    """How many tokens of each level are kept, from the largest logit down."""

    counts: tuple[int, ...]
    which: str
    """Which tokens of a level that is kept in part, ``first``, ``last`` or ``any``; else empty."""


def levels(row: Row) -> list[Level]:
    """Collect equal logits, the largest first, without those that are -inf.

    Examples
    --------
    >>> [(level.logit, level.ranges) for level in levels([(1.0, 2), (3.0, 1), (1.0, 1)])]
    [(3.0, ((2, 2),)), (1.0, ((0, 1), (3, 3)))]
    """
    where: dict[float, list[tuple[int, int]]] = {}
    start = 0
    for logit, count in row:
        runs = where.setdefault(logit, [])
        if runs and runs[-1][1] == start - 1:
            runs[-1] = (runs[-1][0], start + count - 1)
        else:
            runs.append((start, start + count - 1))
        start += count
    return [
        Level(logit, tuple(where[logit]))
        for logit in sorted(where, reverse=True)
        if logit != -math.inf
    ]


def law(row: Sequence[Level], temperature: float, counts: Sequence[int]) -> list[Any]:
    """Probability of one kept token of each level; 0 where none is kept.

    Examples
    --------
    >>> [float(p) for p in law(levels([(0.0, 2), (-5.0, 1), (0.0, 1)]), 1.0, [3, 0])]
    [0.3333333333333333, 0.0]
    """
    with mp.workdps(60):
        top = next(level.logit for level, n in zip(row, counts, strict=True) if n)
        weights = [
            mp.exp((mp.mpf(level.logit) - mp.mpf(top)) / mp.mpf(temperature)) if n else mp.mpf(0)
            for level, n in zip(row, counts, strict=True)
        ]
        total = mp.fsum(n * w for n, w in zip(counts, weights, strict=True))
        return [w / total for w in weights]


def margins(row: Sequence[Level], temperature: float) -> list[float]:
    """How far float32 may be off with the gap of each level in the exponent, δ above."""
    largest = row[0].logit
    size = math.log(sum(level.count for level in row))
    return [
        0.0
        if level.logit == largest
        else 6 * ROUNDING * (abs(level.logit) + abs(largest) + size) / temperature
        for level in row
    ]


def bounds(
    row: Sequence[Level], temperature: float, counts: Sequence[int]
) -> list[tuple[float, float]]:
    """Between which numbers float32 brings the probability of a kept token, level by level."""
    with mp.workdps(60):
        probs = law(row, temperature, counts)
        deltas = [mp.mpf(d) for d in margins(row, temperature)]
        factor = mp.mpf("1.01") * (2 * sum(level.count for level in row) + 16) * ROUNDING
        light = [n * p * mp.exp(-d) for n, p, d in zip(counts, probs, deltas, strict=True)]
        heavy = [n * p * mp.exp(d) for n, p, d in zip(counts, probs, deltas, strict=True)]
        least, most = mp.fsum(light), mp.fsum(heavy)
        found = []
        for n, p, d, a, b in zip(counts, probs, deltas, light, heavy, strict=True):
            if not n:
                found.append((0.0, 0.0))
                continue
            low, high = p * mp.exp(-d), p * mp.exp(d)
            low = low / (n * low + most - b) * (1 - factor) - mp.mpf(2) ** -125
            high = high / (n * high + least - a) * (1 + factor) + mp.mpf(2) ** -125
            found.append((_outward(low, -1), _outward(min(high, mp.mpf(1) / n), 1)))
        return found


def _outward(number: Any, sign: int) -> float:
    """Nine digits, rounded away from the interval; a sum of probabilities may exceed one a bit."""
    return max(0.0, float(f"{float(number * (1 + sign * mp.mpf('1e-6'))):.9g}"))


def kept_sets(
    row: Sequence[Level], settings: Mapping[str, float]
) -> Iterator[tuple[dict[str, str], Kept]]:
    """Kept sets, one for each choice of conventions that bear on the settings.

    Yields
    ------
    tuple[dict[str, str], Kept]
        The choice, by name of the convention, and the kept set.

    Raises
    ------
    ValueError
        So many borders are near that float32 cannot decide between two kept sets.
    """
    cuts = set(settings) - {"temperature"}
    names = {
        "temperature": settings.get("temperature", 1) != 1 and bool(cuts),
        "top-k ties": "top_k" in cuts,
        "top-p ties": "top_p" in cuts,
        "top-p exactly": "top_p" in cuts,
        "top-p of": {"top_k", "top_p"} <= cuts,
        "min-p and top-p": {"min_p", "top_p"} <= cuts,
        "near": bool(cuts),
    }
    options = {
        name: ("below", "above") if name == "near" else tuple(CONVENTIONS[name])
        for name, bears in names.items()
        if bears
    }
    warm = settings.get("temperature", 1.0)
    full = [level.count for level in row]
    laws = {t: law(row, t, full) for t in ({1.0, warm} if cuts else ())}
    for values in itertools.product(*options.values()):
        choice = dict(zip(options, values, strict=True))
        temperature = warm if choice.get("temperature", "first") == "first" else 1.0
        kept = _kept(row, settings, choice, temperature, laws.get(temperature, []))
        choice.pop("near", None)
        yield choice, kept


def _kept(
    row: Sequence[Level],
    settings: Mapping[str, float],
    choice: Mapping[str, str],
    temperature: float,
    probs: list[Any],
) -> Kept:
    full = [level.count for level in row]
    counts, which = list(full), ""
    above = choice.get("near") == "above"
    with mp.workdps(60):
        if "top_n_sigma" in settings:
            counts = _top_n_sigma(row, settings["top_n_sigma"], counts)
        if "top_k" in settings:
            counts, which = _top_k(counts, int(settings["top_k"]), choice["top-k ties"])
        # Where min-p stands among the cuts matters for top-p alone: the largest is never cut.
        survives = [True] * len(row)
        if "min_p" in settings:
            share, off = settings["min_p"], margins(row, temperature)
            survives = [
                _reaches(p / probs[0], share, 16 * ROUNDING + 2 * d, above)
                for p, d in zip(probs, off, strict=True)
            ]
        if "typical_p" in settings:
            counts = _typical(probs, counts, settings["typical_p"])
        if "top_p" in settings:
            base = list(full) if choice.get("top-p of") == "the row" else list(counts)
            if choice.get("min-p and top-p") == "min-p first":
                base = [n if stays else 0 for n, stays in zip(base, survives, strict=True)]
            nucleus = _top_p(row, probs, base, settings["top_p"], choice, above, temperature)
            part = [i for i, n in enumerate(nucleus) if 0 < n < base[i]]
            if part and which and counts[part[0]] < full[part[0]]:
                raise ValueError("top-k and top-p cut the same level; no convention says how")
            if part and nucleus[part[0]] < counts[part[0]]:
                which = choice["top-p ties"]
            counts = [min(n, m) for n, m in zip(counts, nucleus, strict=True)]
        counts = [n if stays else 0 for n, stays in zip(counts, survives, strict=True)]
    partly = any(0 < n < m for n, m in zip(counts, full, strict=True))
    return Kept(tuple(counts), which if partly else "")


def _top_n_sigma(row: Sequence[Level], n: float, counts: list[int]) -> list[int]:
    size = sum(counts)
    mean = mp.fsum(c * mp.mpf(level.logit) for c, level in zip(counts, row, strict=True)) / size
    squares = mp.fsum(c * (level.logit - mean) ** 2 for c, level in zip(counts, row, strict=True))
    limits = [row[0].logit - n * mp.sqrt(squares / m) for m in (size, max(size - 1, 1))]
    kept = [
        [c if level.logit >= limit else 0 for c, level in zip(counts, row, strict=True)]
        for limit in limits
    ]
    if kept[0] != kept[1] or min(abs(level.logit - limits[0]) for level in row) < 1e-3:
        raise ValueError("the definitions of the standard deviation differ here; choose another n")
    return kept[0]


def _top_k(counts: list[int], k: int, ties: str) -> tuple[list[int], str]:
    left, kept = k, []
    for n in counts:
        kept.append(min(n, max(left, 0)))
        left -= n
    part = [i for i, n in enumerate(kept) if 0 < n < counts[i]]
    if part and ties == "all":
        kept[part[0]] = counts[part[0]]
        return kept, ""
    return kept, ties if part else ""


def _reaches(ratio: Any, share: float, near: float, above: bool) -> bool:
    if share == 0 or abs(ratio - share) < EXACT:
        return True
    return above if abs(ratio / share - 1) < near else bool(ratio > share)


def _typical(probs: list[Any], counts: list[int], mass: float) -> list[int]:
    total = mp.fsum(n * p for n, p in zip(counts, probs, strict=True))
    probs = [p / total for p in probs]
    entropy = -mp.fsum(n * p * mp.log(p) for n, p in zip(counts, probs, strict=True) if n)
    order = sorted(
        (abs(-mp.log(p) - entropy), i)
        for i, (n, p) in enumerate(zip(counts, probs, strict=True))
        if n
    )
    kept, reached = [0] * len(counts), mp.mpf(0)
    for (distance, i), after in itertools.zip_longest(order, order[1:]):
        kept[i] = counts[i]
        reached += counts[i] * probs[i]
        if abs(reached - mass) < 1e-4 or (after and abs(after[0] - distance) < 1e-4):
            raise ValueError("typical-p is near a border here; choose another mass")
        if reached >= mass:
            break
    return kept


def _top_p(
    row: Sequence[Level],
    probs: list[Any],
    base: list[int],
    mass: float,
    choice: Mapping[str, str],
    above: bool,
    temperature: float,
) -> list[int]:
    if mass >= 1:
        return base
    total = mp.fsum(n * p for n, p in zip(base, probs, strict=True))
    target = mp.mpf(mass) * total
    size = sum(level.count for level in row)
    spread = mp.fsum(
        level.count * p * (2 * math.expm1(min(d, 700)))
        for level, p, d in zip(row, probs, margins(row, temperature), strict=True)
    )
    near = (2 * size + 16) * ROUNDING + spread
    kept, before = [0] * len(row), mp.mpf(0)
    for i, (n, p) in enumerate(zip(base, probs, strict=True)):
        if not n:
            continue
        # The border: `full` tokens of this level do not reach the target, `full + 1` do.
        needed = (target - before) / p
        full = int(mp.floor(needed + EXACT))
        exactly = abs(needed - full) < EXACT / p
        close = [j for j in range(full, full + 2) if abs(before + j * p - target) < near * total]
        if n > 1 and 2 * near * total > p and -1 < needed < n + 1:
            raise ValueError("top-p is near more than one border here; choose another mass")
        if exactly:
            wanted = full + (choice["top-p exactly"] == "goes on")
        elif close:
            wanted = close[0] + above
        else:
            wanted = full + 1
        # A row that rounds to a sum of one is never longer than it is.
        wanted = max(wanted, 1) if i == 0 else max(wanted, 0)
        kept[i] = min(n, wanted)
        before += n * p
        if wanted <= n:
            if 0 < kept[i] < n and choice["top-p ties"] == "all":
                kept[i] = n
            break
    return kept


def _ranges_of(level: Level, count: int, which: str) -> Ranges:
    """Take ``count`` tokens of a level from its start or its end."""
    taken: list[list[int]] = []
    runs = level.ranges if which != "last" else level.ranges[::-1]
    for first, last in runs:
        size = min(count, last - first + 1)
        if size <= 0:
            break
        taken.append([first, first + size - 1] if which != "last" else [last - size + 1, last])
        count -= size
    return sorted(taken)


def answer(row: Sequence[Level], temperature: float, kept: Kept) -> dict[str, Any]:
    """Write a kept set and its law as they stand in the file."""
    probs, limits = law(row, temperature, kept.counts), bounds(row, temperature, kept.counts)
    sure: Ranges = []
    found: dict[str, Any] = {"kept": sure, "probs": []}
    for level, n, p, (low, high) in zip(row, kept.counts, probs, limits, strict=True):
        if not n:
            continue
        any_of = n < level.count and kept.which == "any"
        tokens = _ranges_of(level, level.count if any_of else n, kept.which)
        if any_of:
            found["tied"] = {"of": tokens, "keep": n}
        else:
            sure += tokens
        with mp.workdps(60):
            text = "0" if p < LEAST else mp.nstr(p, DIGITS, min_fixed=-8, max_fixed=3)
        found["probs"].append({"p": text, "low": low, "high": high, "tokens": tokens})
    found["kept"] = _joined(sure)
    return found


def _joined(ranges: Ranges) -> Ranges:
    joined: Ranges = []
    for first, last in sorted(ranges):
        if joined and joined[-1][1] == first - 1:
            joined[-1][1] = last
        else:
            joined.append([first, last])
    return joined


def answers(row: Row, settings: Mapping[str, float]) -> list[dict[str, Any]]:
    """Every admitted answer, with the conventions that give it.

    A convention is named only where it matters, with the ways that agree with the answer. Which of
    several ties are kept may be chance, so the first of them are also "any".

    Examples
    --------
    >>> for found in answers([(1.0, 1), (0.0, 2)], {"top_k": 2}):
    ...     print(found["kept"], found["conventions"])
    [[0, 2]] {'top-k ties': ['all']}
    [[0, 1]] {'top-k ties': ['first', 'any']}
    [[0, 0], [2, 2]] {'top-k ties': ['last', 'any']}
    [[0, 0]] {'top-k ties': ['any']}
    """
    grouped = levels(row)
    by_set: dict[Kept, list[dict[str, str]]] = {}
    for choice, kept in kept_sets(grouped, settings):
        by_set.setdefault(kept, []).append(choice)
    order = sorted(by_set, key=lambda kept: kept.which == "any")
    names = list(next(iter(by_set.values()))[0])
    every = {n: {choice[n] for found in by_set.values() for choice in found} for n in names}
    written = []
    for kept in order:
        found = answer(grouped, settings.get("temperature", 1.0), kept)
        found["conventions"] = {}
        for name in names:
            ways = {choice[name] for choice in by_set[kept]}
            if ways & {"first", "last"} and name.endswith("ties"):
                ways.add("any")
            if ways != every[name]:
                found["conventions"][name] = [w for w in CONVENTIONS[name] if w in ways]
        written.append(found)
    return written


def count_interval(n: int, p: float, tail: float) -> tuple[int, int]:
    """Find the counts of a binomial outside of which lies at most ``tail`` on either side.

    Examples
    --------
    >>> count_interval(10, 0.5, 0.05)
    (2, 8)
    """
    p = min(1.0, float(p))
    return int(stats.binom.ppf(tail, n, p)) if tail < 1 else 0, int(stats.binom.isf(tail, n, p))


def chance_outside(n: int, probs: Sequence[Any], intervals: Sequence[tuple[int, int]]) -> float:
    r"""Chance that some count of a multinomial lies outside its interval.

    Counts of a multinomial are Poisson variables of means :math:`n p_i`, given their sum (Levin,
    1981). So the chance that all are inside is a convolution of truncated Poisson laws, taken at
    n, over the chance that the sum is n. Of the intervals only the widths cost, not n.

    Parameters
    ----------
    n
        Number of draws.
    probs
        Of the cells; they sum to one.
    intervals
        ``(low, high)`` of each, both admitted.

    Examples
    --------
    >>> chance_outside(2, [0.5, 0.5], [(1, 1), (0, 2)])  # two tosses that do not differ
    0.5
    """
    with mp.workdps(40):
        inside: Any = None
        offset = 0
        scale = mp.mpf(1)
        for p, (low, high) in zip(probs, intervals, strict=True):
            mean = n * mp.mpf(p)
            # Relative to the largest in the interval, by ratios: no logarithm of a large factorial.
            mode = min(max(int(mean), low), high)
            scale *= mp.exp(-mean) * mean**mode / mp.factorial(mode)
            below = np.cumprod([k / float(mean) for k in range(mode, low, -1)])[::-1]
            above = np.cumprod([float(mean) / k for k in range(mode + 1, high + 1)])
            pmf = np.concatenate([below, [1.0], above])
            inside = pmf if inside is None else np.convolve(inside, pmf)
            offset += low
        at = n - offset
        within = mp.mpf(float(inside[at])) if 0 <= at < len(inside) else mp.mpf(0)
        total = mp.exp(-n) * mp.mpf(n) ** n / mp.factorial(n)
        return max(0.0, float(1 - within * scale / total))


def chance_of_repeats(n: int, size: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    r"""Chance that r of n draws from equal tokens have been drawn before, for each r.

    After i draws with r repeats, i - r tokens of ``size`` are known, and the next draw repeats with
    the chance (i - r) / size. Every number is a sum of products of positive ones, so its relative
    error is at most 3 n units of rounding.

    Examples
    --------
    >>> chance_of_repeats(3, 2)  # of three tosses, two are alike or all
    array([0.  , 0.75, 0.25])
    """
    chances = np.zeros(n)
    chances[0] = 1.0
    for i in range(1, n):
        known = np.maximum(i - np.arange(n), 0) / size
        repeated = chances * known
        chances *= np.maximum(1 - known, 0)
        chances[1:] += repeated[:-1]
    return chances
