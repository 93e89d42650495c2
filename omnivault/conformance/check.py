"""Ask a sampler every case that it has the dials for, and judge what it answers."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivault._checks import shown
from omnivault.conformance.cases import Answer, Batch, Case, read_cases, spread
from omnivault.conformance.programs import ProtocolError
from omnivault.conformance.report import Report, Result, Verdict

DIALS = ("temperature", "top_k", "top_p", "min_p", "typical_p", "top_n_sigma")
"""The dials of the cases."""
KINDS = ("probs", "kept", "draw")
"""What a sampler can be asked for: all probabilities, the kept set, or draws."""


@dataclass(frozen=True)
class Sampler:
    """An adapter made of functions: give those that there are.

    Any object with these attributes does as well.
    """

    name: str
    dials: Sequence[str]
    """Those it has of ``temperature, top_k, top_p, min_p, typical_p, top_n_sigma``."""
    probs: Callable[..., Any] | None = None
    """From logits and settings to the probability of each token."""
    kept: Callable[..., Any] | None = None
    """From logits and settings to the tokens that can be drawn."""
    draw: Callable[..., Any] | None = None
    """From logits, settings, n and a seed to n tokens."""
    probs_batch: Callable[..., Any] | None = None
    """From rows of logits and the settings of each to rows of probabilities."""
    draw_batch: Callable[..., Any] | None = None
    """From rows of logits, the settings of each, n and a seed to n tokens for each row."""
    version: str = ""


class _HangsError(Exception):
    pass


def check(
    sampler: Any,
    *,
    kinds: Iterable[str] | None = None,
    cases: Iterable[str] | None = None,
    dialect: Mapping[str, str] | None = None,
    seconds: float = 10.0,
    seed: int = 0,
    on_case: Callable[[int, int, str], None] | None = None,
) -> Report:
    """Ask a sampler every case, and report what it got right and which dialect it speaks.

    Parameters
    ----------
    sampler
        An adapter: a :class:`Sampler`, a :class:`omnivault.conformance.Program`, or any object
        with ``name``, ``dials`` and at least one of the methods. A ``ValueError`` that a method
        raises says that the settings are refused.
    kinds
        Of ``probs``, ``kept`` and ``draw``, what to ask for. None asks for probabilities, or for
        kept sets where there are none, and for draws.
    cases
        Names of cases; None takes all.
    dialect
        Ways that the sampler promises, by convention, such as ``{"temperature": "first"}``: an
        answer in another way fails. None admits all ways, if they do not contradict one another.
    seconds
        Time limit of one question; a case of many draws asks up to twenty.
    seed
        The first of the seeds that draws are asked with.
    on_case
        Called before each case with how many are done, how many there are, and its name.

    Returns
    -------
    Report
        One result for each case and kind.

    Raises
    ------
    TypeError, ValueError
        The sampler has no name, no dials or no method; there is no case, kind, convention or way
        of a name; or the time limit is not positive.

    Notes
    -----
    A question runs in a thread of its own. One that takes too long is abandoned, and the adapter's
    method ``stop``, if it has one, is called, which for a program ends the process. Python cannot
    end a thread: an adapter in this process that hangs goes on using a core, and one that holds
    the interpreter's lock cannot be stopped at all; make a program of such a one.

    Examples
    --------
    >>> import numpy as np
    >>> def softmax(logits, settings):
    ...     z = np.array(logits) / settings.get("temperature", 1.0)
    ...     weights = np.exp(z - z.max())
    ...     return weights / weights.sum()
    >>> mine = Sampler("mine", dials=["temperature"], probs=softmax)
    >>> report = check(mine, cases=["plain", "temperature-half", "temperature-zero", "top-k-one"])
    >>> for result in report.results:
    ...     print(result.case, result.outcome)
    plain passed
    temperature-half passed
    temperature-zero failed
    top-k-one not asked
    """
    suite = read_cases()
    asked = _kinds(sampler, kinds)
    chosen = suite.all if cases is None else suite.named(list(cases))
    promised = _promised(dialect or {}, suite.conventions)
    if not seconds > 0:
        raise ValueError(f"seconds must be > 0, got {shown(seconds)}; 10 is the default")
    questions = [(one, kind) for kind in asked for one in chosen]
    results = []
    for done, (one, kind) in enumerate(questions):
        if on_case is not None:
            on_case(done, len(questions), one.name)
        started = time.perf_counter()
        limit = _Limit(sampler, seconds)
        verdict = _verdict(sampler, one, kind, seed, limit)
        results.append(_result(one, kind, verdict, time.perf_counter() - started))
    results, spoken = _one_dialect(results, promised)
    return Report(
        name=str(sampler.name),
        version=str(getattr(sampler, "version", "")),
        results=results,
        dialect=spoken,
        conventions=suite.conventions,
        false_alarm=suite.false_alarm if "draw" in asked else 0.0,
    )


def _kinds(sampler: Any, kinds: Iterable[str] | None) -> list[str]:
    for attribute in ("name", "dials"):
        if not hasattr(sampler, attribute):
            raise TypeError(
                f"a sampler has a name, dials, and probs, kept or draw; {shown(sampler)} has no "
                f"{attribute}; conformance.Sampler makes one of functions"
            )
    dials = sampler.dials
    if isinstance(dials, str) or not all(isinstance(dial, str) for dial in dials):
        raise TypeError(f"dials must be a list of names, got {shown(dials)}")
    for dial in dials:
        if dial not in DIALS:
            raise ValueError(
                f"the sampler {sampler.name} has a dial {shown(dial)}; the cases have "
                f"{', '.join(DIALS)}"
            )
    there = [kind for kind in KINDS if getattr(sampler, kind, None) is not None]
    if not there:
        raise TypeError(
            f"the sampler {sampler.name} has none of {', '.join(KINDS)}, so nothing can be asked"
        )
    if kinds is None:
        return [kind for kind in there if kind != "kept" or "probs" not in there]
    wanted = [kinds] if isinstance(kinds, str) else list(kinds)
    for kind in wanted:
        if kind not in there:
            raise ValueError(f"the sampler {sampler.name} has no {kind!r}; it has {there}")
    return wanted


def _promised(
    dialect: Mapping[str, str], conventions: Mapping[str, Mapping[str, str]]
) -> dict[str, list[str]]:
    for name, way in dialect.items():
        if name not in conventions:
            raise ValueError(f"there is no convention {name!r}; there are {', '.join(conventions)}")
        if way not in conventions[name]:
            raise ValueError(
                f"{name!r} has no way {way!r}; there are {', '.join(conventions[name])}"
            )
    return {name: [way] for name, way in dialect.items()}


class _Limit:
    """Calls with a time limit each."""

    def __init__(self, sampler: Any, seconds: float) -> None:
        self.sampler, self.seconds = sampler, seconds

    def __call__(self, method: str, *arguments: Any) -> Any:
        answers: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put((True, getattr(self.sampler, method)(*arguments)))
            except BaseException as error:  # also an adapter that calls exit()
                answers.put((False, error))

        threading.Thread(target=ask, daemon=True).start()
        try:
            right, answer = answers.get(timeout=self.seconds)
        except queue.Empty:
            if (stop := getattr(self.sampler, "stop", None)) is not None:
                stop()
            raise _HangsError from None
        if not right:
            raise answer
        return answer


def _verdict(sampler: Any, one: Case | Batch, kind: str, seed: int, ask: _Limit) -> Verdict:
    """Ask one case, whatever may happen."""
    try:
        if isinstance(one, Batch):
            return _ask_batch(sampler, one, kind, seed, ask)
        missing = [dial for dial in one.settings if dial not in sampler.dials]
        if missing:
            return Verdict("not asked", f"the sampler has no {missing[0]}")
        if kind == "draw":
            return _ask_draws(one, seed, ask)
        got = ask(kind, list(one.logits), dict(one.settings))
        return _judge_probs(one, got) if kind == "probs" else _judge_kept(one, got)
    except _HangsError:
        return Verdict("failed", f"no answer within {ask.seconds:g} s; the question was abandoned")
    except ProtocolError as error:
        return Verdict("failed", str(error))
    except ValueError as error:
        words = " ".join(str(error).split()) or "no reason given"
        if isinstance(one, Case) and one.refusal is not None:
            return Verdict("refused", words, conventions=one.refusal)
        return Verdict("failed", f"refused: {words}")
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Verdict("failed", f"{type(error).__name__}: {' '.join(str(error).split())}")


def _judge_probs(case: Case, got: Any) -> Verdict:
    try:
        probs = np.asarray(got, dtype=np.float64)
    except (TypeError, ValueError):
        return Verdict("failed", f"probabilities are numbers, got {shown(got)}")
    if probs.shape != (case.size,):
        return Verdict(
            "failed", f"{case.size} tokens need as many probabilities, got shape {probs.shape}"
        )
    for wrong, what in (
        (np.isnan(probs), "nan"),
        (np.isinf(probs), "infinite"),
        (probs < 0, "negative"),
    ):
        if wrong.any():
            first = int(wrong.argmax())
            return Verdict(
                "failed",
                f"the probability of token {first} is {what}: {probs[first]}; in all "
                f"{int(wrong.sum())} of {case.size}",
            )
    best: tuple[float, str] = (np.inf, "")
    for answer in case.answers:
        low, high = answer.bounds(case.size)
        wrong = (probs < low) | (probs > high)
        problem = ""
        if answer.tied is not None:
            tied = spread(answer.tied["of"])
            wrong[tied] &= probs[tied] != 0
            if np.count_nonzero(probs[tied]) != answer.tied["keep"]:
                problem = f"not {answer.tied['keep']} of the tokens that tie"
        if not wrong.any() and not problem:
            return Verdict("passed", conventions=answer.conventions)
        distance = float(np.maximum(low - probs, probs - high).clip(0).sum())
        if distance < best[0] and wrong.any():
            best = distance, _off(probs, low, high, wrong)
    return Verdict("failed", best[1], expected=_expected(case), got=_some(probs))


def _off(probs: NDArray[Any], low: NDArray[Any], high: NDArray[Any], wrong: NDArray[Any]) -> str:
    worst = int(np.where(wrong, np.maximum(low - probs, probs - high), -1.0).argmax())
    between = (
        "0, as it is ruled out" if high[worst] == 0 else f"in [{low[worst]:.9g}, {high[worst]:.9g}]"
    )
    others = int(wrong.sum()) - 1
    return f"token {worst} has probability {probs[worst]:.9g}, expected {between}" + (
        f"; {others} other{'s are' if others > 1 else ' is'} off too" if others else ""
    )


def _judge_kept(case: Case, got: Any) -> Verdict:
    tokens, problem = _tokens(got, case.size)
    if problem:
        return Verdict("failed", problem)
    kept = np.zeros(case.size, bool)
    kept[tokens] = True
    if kept.sum() != len(tokens):
        return Verdict("failed", f"a token is named twice in the kept set {shown(tokens.tolist())}")
    for answer in case.answers:
        low, high = answer.bounds(case.size)
        wrong = (kept & (high == 0)) | (~kept & (low > 0))
        if answer.tied is not None:
            tied = spread(answer.tied["of"])
            wrong[tied] = kept[tied].sum() != answer.tied["keep"]
        if not wrong.any():
            return Verdict("passed", conventions=answer.conventions)
    return Verdict(
        "failed",
        f"kept {_in_words(_ranges(tokens))}, expected "
        + " or ".join(dict.fromkeys(_kept_in_words(answer) for answer in case.answers)),
        expected=_expected(case),
        got=_in_words(_ranges(tokens)),
    )


def _tokens(got: Any, size: int, n: int | None = None) -> tuple[NDArray[np.int64], str]:
    """Token indices, or what is wrong with them."""
    none = np.zeros(0, np.int64)
    try:
        tokens = np.asarray(got)
        numbers = tokens.astype(np.float64)
    except (TypeError, ValueError):
        return none, f"tokens are indices, got {shown(got)}"
    if tokens.ndim != 1 or (n is not None and len(tokens) != n):
        wanted = f"{n} tokens" if n is not None else "a list of tokens"
        return none, f"{wanted} were asked for, got shape {tokens.shape}"
    if not (np.isfinite(numbers) & (numbers == np.floor(numbers))).all():
        return none, f"tokens are indices, got {shown(got)}"
    outside = (numbers < 0) | (numbers >= size)
    if outside.any():
        first = numbers[outside][0]
        return none, f"token {first:.0f} is not in [0, {size - 1}]; there are {size} tokens"
    return tokens.astype(np.int64), ""


def _ask_draws(case: Case, seed: int, ask: _Limit) -> Verdict:
    if case.draws is None:
        return Verdict("not asked", "draws would not tell the answers apart")
    n, calls = case.draws["n"], case.draws["calls"]
    drawn = []
    for call in range(calls):
        got = ask("draw", list(case.logits), dict(case.settings), n, seed + call)
        tokens, problem = _tokens(got, case.size, n)
        if problem:
            return Verdict("failed", problem)
        drawn.append(tokens)
    statistic = case.draws.get("statistic")
    if statistic == "pairs":
        one, other = drawn[0][::2], drawn[0][1::2]
        return _judge_matches(one, other, case.draws["matches"], "draws that follow one another")
    if statistic == "seeds":
        return _judge_matches(drawn[0], drawn[1], case.draws["matches"], "draws of two seeds")
    together = np.concatenate(drawn)
    if statistic == "repeats":
        return _judge_repeats(together, case.draws["matches"])
    return judge_counts(case, np.bincount(together, minlength=case.size))


def _judge_repeats(tokens: NDArray[Any], limits: Sequence[int]) -> Verdict:
    repeats = len(tokens) - len(np.unique(tokens))
    if limits[0] <= repeats <= limits[1]:
        return Verdict("passed")
    return Verdict(
        "failed",
        f"{repeats} of {len(tokens)} draws had been drawn before, expected {limits[0]} to "
        f"{limits[1]}",
    )


def _judge_matches(
    one: NDArray[Any], other: NDArray[Any], limits: Sequence[int], what: str
) -> Verdict:
    matches = int((one == other).sum())
    if limits[0] <= matches <= limits[1]:
        return Verdict("passed")
    return Verdict(
        "failed",
        f"{what} are the same token {matches} times of {len(one)}, expected {limits[0]} to "
        f"{limits[1]}",
    )


def judge_counts(case: Case, counts: NDArray[Any]) -> Verdict:
    """Compare how often each token was drawn with the intervals of the answers."""
    problems = []
    for answer in case.answers:
        problem, distance = _count_problem(answer, counts)
        if not problem:
            return Verdict("passed", conventions=answer.conventions)
        problems.append((distance, problem))
    return Verdict("failed", min(problems)[1], expected=_expected(case), got=_some(counts))


def _count_problem(answer: Answer, counts: NDArray[Any]) -> tuple[str, float]:
    allowed = np.zeros(len(counts), bool)
    allowed[spread(answer.kept)] = True
    total = counts.sum()
    if answer.tied is not None:
        tied = spread(answer.tied["of"])
        allowed[tied] = True
        if np.count_nonzero(counts[tied]) != answer.tied["keep"]:
            return f"not {answer.tied['keep']} of the tokens that tie were drawn", total
    wrong = counts * ~allowed
    if wrong.any():
        first = int(wrong.argmax())
        return f"token {first}, which is ruled out, was drawn {counts[first]} times", wrong.sum()
    worst = ("", 0.0)
    for cell, (tokens, low, high) in zip(answer.counts or (), answer.cells, strict=True):
        found = int(counts[tokens].sum())
        distance = max(low - found, found - high)
        if distance > worst[1]:
            words = _in_words(cell["tokens"])
            worst = f"{words}: drawn {found} times of {total}, expected {low} to {high}", distance
    return worst


def _ask_batch(sampler: Any, batch: Batch, kind: str, seed: int, ask: _Limit) -> Verdict:
    method = f"{kind}_batch"
    if getattr(sampler, method, None) is None:
        return Verdict("not asked", f"the sampler has no {method}")
    statistic = batch.draws.get("statistic")
    if statistic and kind == "probs":
        return Verdict("not asked", "only draws show it")
    missing = [d for case in batch.cases for d in case.settings if d not in sampler.dials]
    if missing:
        return Verdict("not asked", f"the sampler has no {missing[0]}")
    arguments: list[Any] = [
        [list(case.logits) for case in batch.cases],
        [dict(case.settings) for case in batch.cases],
    ]
    n = batch.draws["n"]
    rows = ask(method, *arguments, *((n, seed) if kind == "draw" else ()))
    if len(rows) != len(batch.cases):
        return Verdict("failed", f"a batch of {len(batch.cases)} rows got {len(rows)} answers")
    if kind == "probs":
        verdicts = [_judge_probs(case, row) for case, row in zip(batch.cases, rows, strict=True)]
    else:
        drawn = []
        for case, row in zip(batch.cases, rows, strict=True):
            tokens, problem = _tokens(row, case.size, n)
            if problem:
                return Verdict("failed", problem)
            drawn.append(tokens)
        if statistic:
            return _judge_matches(drawn[0], drawn[1], batch.draws["matches"], "draws of two rows")
        verdicts = [
            judge_counts(case, np.bincount(tokens, minlength=case.size))
            for case, tokens in zip(batch.cases, drawn, strict=True)
        ]
    ways: dict[str, Sequence[str]] = {}
    for case, verdict in zip(batch.cases, verdicts, strict=True):
        if verdict.outcome == "failed":
            return replace(verdict, text=f"the row of {case.name}: {verdict.text}")
        ways |= verdict.conventions
    return Verdict("passed", conventions=ways)


def _result(one: Case | Batch, kind: str, verdict: Verdict, seconds: float) -> Result:
    single = isinstance(one, Case)
    return Result(
        case=one.name,
        why=one.why,
        kind=kind,
        outcome=verdict.outcome,
        text=verdict.text,
        expected=verdict.expected,
        got=verdict.got,
        logits=_runs(one) if isinstance(one, Case) else "",
        settings=dict(one.settings) if isinstance(one, Case) else {},
        weight=one.weight,
        conventions=verdict.conventions,
        seconds=seconds if single or verdict.outcome != "not asked" else 0.0,
    )


def _one_dialect(
    results: list[Result], promised: dict[str, list[str]]
) -> tuple[list[Result], dict[str, list[str]]]:
    """Find what all answers have in common; one that contradicts those before it fails."""
    spoken, first = dict(promised), dict.fromkeys(promised, "")
    judged = []
    for result in results:
        for name, ways in result.conventions.items():
            if result.outcome == "failed":
                break
            common = [way for way in spoken.get(name, ways) if way in ways]
            if common:
                spoken[name] = common
                first[name] = first.get(name) or result.case
                continue
            before = f"in {first[name]}" if first[name] else "it was promised to answer"
            result = replace(
                result,
                outcome="failed",
                text=f"{name}: answers here as {' or '.join(repr(w) for w in ways)}, "
                f"but {before} as {' or '.join(repr(w) for w in spoken[name])}",
            )
        judged.append(result)
    # A promise that nothing was asked of is not told back.
    return judged, {name: ways for name, ways in spoken.items() if first.get(name)}


def _expected(case: Case) -> str:
    ways = []
    for answer in case.answers[:3]:
        probs = ", ".join(
            f"{float(part['p']):.6g} each for {_in_words(part['tokens'])}"
            for part in answer.probs[:4]
        )
        more = ", ..." if len(answer.probs) > 4 else ""
        some = f" ({answer.tied['keep']} of those that tie)" if answer.tied else ""
        ways.append(f"{probs}{more}{some}")
    return "; or ".join(dict.fromkeys(ways)) + ("; or ..." if len(case.answers) > 3 else "")


def _kept_in_words(answer: Answer) -> str:
    words = [_in_words(answer.kept)] if answer.kept else []
    if answer.tied is not None:
        words.append(f"{answer.tied['keep']} of {_in_words(answer.tied['of'])}")
    return " and ".join(words)


def _ranges(tokens: NDArray[Any]) -> list[list[int]]:
    ranges: list[list[int]] = []
    for token in sorted(tokens.tolist()):
        if ranges and ranges[-1][1] == token - 1:
            ranges[-1][1] = token
        else:
            ranges.append([token, token])
    return ranges


def _in_words(ranges: Sequence[Sequence[int]]) -> str:
    """Name a set of tokens, such as "tokens 0, 2-5"."""
    parts = [
        f"{r[0]}"
        if r[0] == r[1]
        else f"{r[0]}-{r[1]}" + (f" in steps of {r[2]}" if len(r) > 2 else "")
        for r in ranges[:6]
    ]
    alone = len(ranges) == 1 and ranges[0][0] == ranges[0][1]
    return (
        ("token " if alone else "tokens ")
        + (", ".join(parts) or "none")
        + (", ..." if len(ranges) > 6 else "")
    )


def _some(numbers: NDArray[Any]) -> str:
    values = ", ".join(f"{float(x):.6g}" for x in numbers[:8])
    return f"[{values}{', ...' if len(numbers) > 8 else ''}]"


def _runs(case: Case) -> str:
    parts = [f"{z:g}" + (f" ({n} times)" if n > 1 else "") for z, n in case.runs[:8]]
    out = sum(n for z, n in case.runs[8:] if z == -np.inf)
    more = f", ... and {out} of -inf" if out else ", ..."
    return f"[{', '.join(parts)}{more if len(case.runs) > 8 else ''}]"
