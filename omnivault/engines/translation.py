"""Settings of one engine in the dialect of another: the same law at every row, or the nearest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from omnivault.engines.dialect import Dialect, dialect
from omnivault.engines.law import acting, probs, read_settings

__all__ = ["NoTranslationError", "Translation", "translate"]

MASSES = ("top_p", "typical_p", "xtc")
"""Cuts that read probabilities, not their quotients: the temperature before them matters."""
QUOTIENTS = ("top_k", "min_p")
"""Cuts that keep the same tokens wherever they stand among cuts that keep the most probable one."""
ANY_SIZE = 2**31


class NoTranslationError(ValueError):
    """No settings of the target give the same law at every row."""

    def __init__(self, dial: str, message: str) -> None:
        super().__init__(message)
        self.dial = dial
        """The dial that has no translation."""


@dataclass(frozen=True)
class Translation:
    """Settings in another dialect."""

    settings: Mapping[str, Any]
    """The dials that act, under the names that they have everywhere in this package."""
    call: Mapping[str, Any]
    """What to send: the engine's own names, with every other dial switched off."""
    conventions: tuple[str, ...]
    """Where the engines may still part: at ties, and where a border is met exactly."""
    total_variation: float | None
    """How far the two laws are apart on the row that was given; None without one."""


def translate(
    settings: Mapping[str, Any], source: str, target: str, *, logits: Tensor | None = None
) -> Translation:
    r"""Return settings with which the target draws from the law of the source.

    Without ``logits`` the laws are the same at every row in which no tokens tie at a border and no
    border is met exactly; there the conventions that are listed decide. Top-k and the temperature
    stay as they are. A min-p of m before the division by T is one of :math:`m^{1/T}` after it. For
    top-p on the other side of the division there is no such value.

    Parameters
    ----------
    settings
        Dials by name, as for :func:`omnivault.engines.probs`. A dial that is not named is off; for
        a call that relies on defaults, give ``defaults(source) | settings``.
    source, target
        Names of dialects.
    logits
        One row, floating, of shape ``(V,)``. If a dial has no translation, the target's top-p (its
        top-k, if it has no top-p) is chosen so that the two laws of this row are as near as they
        can be in total variation.

    Returns
    -------
    Translation
        The settings, the call to send, the conventions that differ, and the distance on the row.

    Raises
    ------
    NoTranslationError
        A dial has no translation; the message says which, and why. With ``logits`` only for a
        temperature or a penalty.
    ValueError
        As :func:`omnivault.engines.probs`, for the source.

    Notes
    -----
    An error says that the engines part at some values of a dial, not that they part at these: with
    top-k 3 and top-p 0.45 a min-p of 0.09 changes nothing, wherever it stands.

    Examples
    --------
    >>> hot = {"temperature": 2.0, "min_p": 0.25}
    >>> translate(hot, "llama.cpp", "vllm").settings
    {'temperature': 2.0, 'min_p': 0.5}
    >>> translate(
    ...     {"temperature": 2.0, "top_p": 0.65}, "llama.cpp", "vllm"
    ... )  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    omnivault.engines.translation.NoTranslationError: top_p = 0.65 has no translation from ...
    >>> row = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    >>> found = translate({"temperature": 2.0, "top_p": 0.65}, "llama.cpp", "vllm", logits=row)
    >>> found.settings, found.total_variation < 1e-7
    ({'temperature': 2.0, 'top_p': 0.5}, True)
    """
    size = ANY_SIZE if logits is None else logits.shape[-1]
    spoken, dials = read_settings(source, False, settings)
    into = dialect(target)
    penalty = dials.pop("repetition_penalty", 1.0)
    done = {"temperature": "greedy"} if spoken.greedy else acting(spoken, _xtc(dials), size)
    translated = _penalty(penalty, spoken, into)
    if _is_greedy(done):
        translated |= _greedy(into)
    else:
        temperature = _temperature(done, spoken, into, size)
        try:
            _check_order(done, spoken, into, temperature)
            translated |= _cuts(done, spoken, into, temperature, size)
        except NoTranslationError:
            if logits is None:
                raise
            law = probs(logits, source, **settings)
            translated |= _nearest(law, logits, done, spoken, into, temperature)
    distance = None
    if logits is not None:
        laws = probs(logits, source, **settings), probs(logits, target, **translated)
        distance = (laws[0] - laws[1]).abs().sum().item() / 2
    return Translation(
        settings=translated,
        call=_call(translated, into),
        conventions=_conventions(done, spoken, into),
        total_variation=distance,
    )


def _xtc(dials: Mapping[str, float]) -> dict[str, Any]:
    """Return the dials with XTC's two as one."""
    made = {name: value for name, value in dials.items() if not name.startswith("xtc")}
    if share := dials.get("xtc_probability", 0.0):
        made["xtc"] = dials.get("xtc_threshold", 1.0)
        if share < 1:
            raise NoTranslationError(
                "xtc_probability",
                f"xtc_probability = {share:g} mixes two laws; translate those of 0 and 1",
            )
    return made


def _penalty(penalty: float, spoken: Dialect, into: Dialect) -> dict[str, Any]:
    if penalty == 1:
        return {}
    before, after = (spoken.rules.get("repetition_penalty"), into.rules.get("repetition_penalty"))
    if before != after:
        raise NoTranslationError(
            "repetition_penalty",
            f"repetition_penalty = {penalty:g} has no translation from {spoken.name} to "
            f"{into.name}: {spoken.name} {_counts(before)}, {into.name} {_counts(after)}",
        )
    return {"repetition_penalty": penalty}


def _counts(rule: Mapping[str, Any] | None) -> str:
    if rule is None:
        return "was not seen with one"
    counted = f"counts the {' and the '.join(rule['counts'])}"
    return counted + (f", of both the last {rule['last']} tokens" if "last" in rule else "")


def _is_greedy(done: Mapping[str, Any]) -> bool:
    return "greedy" in done.values() or "best" in done.values() or done.get("top_k") == 1


def _greedy(into: Dialect) -> dict[str, Any]:
    if "do_sample" in into.options:
        return {"do_sample": False}
    cold = acting(into, {"temperature": 0.0}, ANY_SIZE)
    return {"temperature": 0.0} if cold == {"temperature": "greedy"} else {"top_k": 1}


def _temperature(done: Mapping[str, Any], spoken: Dialect, into: Dialect, size: int) -> float:
    value = done.get("temperature", 1.0)
    why = f"in {spoken.name} it is {value}"
    if not isinstance(value, str):
        try:
            if acting(into, {"temperature": value}, size) == {"temperature": value}:
                return float(value)
            why = f"{into.name} makes another one of it"
        except ValueError as refused:
            why = str(refused)
    raise NoTranslationError(
        "temperature", f"the temperature has no translation to {into.name}: {why}"
    )


def _check_order(
    done: Mapping[str, Any], spoken: Dialect, into: Dialect, temperature: float
) -> None:
    for name in done:
        if name not in into.order and name != "temperature":
            without = name in into.without_effect
            why = f"in {into.name} it has no effect" if without else f"{into.name} does not have it"
            raise _no_translation(name, done, spoken, into, why)
    for name in [name for name in MASSES if name in done and temperature != 1]:
        last = _place(spoken, name) < _place(spoken, "temperature")
        if last != (_place(into, name) < _place(into, "temperature")):
            sides = ("after", "before") if last else ("before", "after")
            why = f"{spoken.name} divides by the temperature {sides[0]} it, {into.name} {sides[1]}"
            raise _no_translation(name, done, spoken, into, why)
    for one, other in combinations([name for name in done if name != "temperature"], 2):
        if one in QUOTIENTS and other in QUOTIENTS and not {"typical_p", "xtc"} & set(done):
            continue
        first = _place(spoken, one) < _place(spoken, other)
        if first != (_place(into, one) < _place(into, other)):
            name, beside = (one, other) if one in MASSES else (other, one)
            first = _place(spoken, beside) < _place(spoken, name)
            sides = ("before", "after") if first else ("after", "before")
            why = f"{beside} cuts {sides[0]} it in {spoken.name}, {sides[1]} it in {into.name}"
            raise _no_translation(name, done, spoken, into, why)


def _no_translation(
    name: str, done: Mapping[str, Any], spoken: Dialect, into: Dialect, why: str
) -> NoTranslationError:
    return NoTranslationError(
        name,
        f"{name} = {done[name]:g} has no translation from {spoken.name} to {into.name}: {why}; "
        "give logits= for the value that is nearest on a row",
    )


def _place(spoken: Dialect, name: str) -> int:
    return spoken.order.index(name)


def _cuts(
    done: Mapping[str, Any], spoken: Dialect, into: Dialect, temperature: float, size: int
) -> dict[str, Any]:
    """Return what the target is to be told, for those cuts that it has."""
    made: dict[str, Any] = {} if temperature == 1 else {"temperature": temperature}
    for name in spoken.order:
        if name not in done or name == "temperature" or name not in into.order:
            continue
        value = done[name]
        if name == "xtc":
            made |= {"xtc_probability": 1.0, "xtc_threshold": value}
            continue
        if name == "min_p" and temperature != 1:
            # A gap of at most T log(1/m), where T divides before the cut.
            divided = [_place(d, "temperature") < _place(d, name) for d in (spoken, into)]
            value = value ** (temperature ** (divided[0] - divided[1]))
        try:
            if acting(into, {name: value}, size) != {name: value}:
                raise ValueError(f"{into.name} makes another one of it")
        except ValueError as refused:
            raise _no_translation(name, done, spoken, into, str(refused)) from None
        made[name] = value
    return made


def _nearest(
    law: Tensor,
    logits: Tensor,
    done: Mapping[str, Any],
    spoken: Dialect,
    into: Dialect,
    temperature: float,
) -> dict[str, Any]:
    """Keep as many of the most probable tokens as bring the target nearest to the law."""
    free = "top_p" if "top_p" in into.order else "top_k"
    others = {name: value for name, value in done.items() if name in QUOTIENTS and name != free}
    made = _cuts(others | {"temperature": temperature}, spoken, into, temperature, len(logits))
    target = probs(logits, into.name, **made)
    order = target.sort(descending=True, stable=True)
    weights = order.values[: int((target > 0).sum())]
    source = law[order.indices[: len(weights)]]
    counts = _closest(source, weights)
    if free == "top_k":
        return made | {"top_k": counts}
    if counts == len(weights):
        return made
    first = into.order[: _place(into, "top_p")]
    seen = probs(logits, into.name, **{name: made[name] for name in first if name in made})
    sums = seen.sort(descending=True, stable=True).values.cumsum(-1)
    low = sums[counts - 2].item() if counts > 1 else 0.0
    return made | {"top_p": _short(low, sums[counts - 1].item())}


def _closest(source: Tensor, weights: Tensor) -> int:
    """Return how many of the first weights, renormalized, are nearest to the source."""
    # Both are multiples of the weights, where they are not 0; of two multiples the smaller counts.
    shared = torch.where(source > 0, weights, 0.0)
    multiple = source.sum() / shared.sum()
    overlap = shared.cumsum(-1) * torch.minimum(multiple, 1 / weights.cumsum(-1))
    return int(overlap.argmax()) + 1


def _short(low: float, high: float) -> float:
    """Return a number between the two with as few digits as can be."""
    middle = (low + high) / 2
    for digits in range(1, 17):
        if low < (short := round(middle, digits)) < high:
            return short
    return middle


def _call(settings: Mapping[str, Any], into: Dialect) -> dict[str, Any]:
    sampled = "do_sample" in into.options and "do_sample" not in settings
    made = {"do_sample": True} if sampled else {}
    if settings.get("do_sample") is False:
        return {"do_sample": False}
    values = {"temperature": 1.0} | dict(into.off) | dict(settings)
    return made | {into.names.get(name, name): value for name, value in values.items()}


def _conventions(done: Mapping[str, Any], spoken: Dialect, into: Dialect) -> tuple[str, ...]:
    found = []
    for name in done:
        for what, words in _WORDS.items():
            rules = [d.rules.get(name, {}).get(what) for d in (spoken, into)]
            if None not in rules and rules[0] != rules[1]:
                told = [f"{d.name} {words[r]}" for d, r in zip((spoken, into), rules, strict=True)]
                found.append(f"{name}: {', '.join(told)}")
    return tuple(found)


_WORDS: dict[str, dict[Any, str]] = {
    "ties": {
        "all": "keeps all of the tokens that tie at the border",
        "some": "keeps as many of the tokens that tie at the border as are needed",
        "first": "keeps the first of the tokens that tie at the border",
        "last": "keeps the last of the tokens that tie at the border",
    },
    "reached": {
        "stops": "stops where the mass is reached exactly",
        "one more": "keeps one token more where the mass is reached exactly",
    },
    "border": {
        "kept": "keeps a token that just reaches the share",
        "dropped": "drops a token that just reaches the share",
    },
}
