"""Settings of one engine in the dialect of another: the same law at every row, or the nearest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from omnivault._checks import check_rows
from omnivault.engines.dialect import Dialect, dialect
from omnivault.engines.law import acting, in_another_order, probs, read_settings

MASSES = ("top_p", "typical_p", "xtc")
"""Cuts that read probabilities, not their quotients: the temperature before them matters."""
QUOTIENTS = ("top_k", "min_p")
"""Cuts that keep the same tokens wherever they stand among cuts that keep the most probable one."""
TAKE_THE_BEST = ("typical_p", "xtc")
"""Cuts that may rule out the most probable token."""
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
    """What to send, under the engine's own names and with every other dial switched off."""
    conventions: tuple[str, ...]
    """Where the engines may still part, at ties, where a border is met exactly, at a fault."""
    total_variation: float | None
    """How far the two laws are apart on the row that was given; None without one."""


def translate(
    settings: Mapping[str, Any], source: str, target: str, *, logits: Tensor | None = None
) -> Translation:
    r"""Return settings with which the target draws from the law of the source.

    Without ``logits`` the laws are the same at every row in which no tokens tie at a border and no
    border is met exactly; there the conventions that are listed decide. Top-k and the temperature
    stay as they are. A min-p of m before the division by T is one of :math:`m^{1/T}` after it. For
    top-p on the other side of the division there is no such value; but where the target lets a call
    choose the order of the dials, its order becomes that of the source.

    Parameters
    ----------
    settings
        Dials by name, as for :func:`omnivault.engines.probs`, ``order`` among them. A dial that is
        not named is off; for a call that relies on defaults, give ``defaults(source) | settings``.
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
        A dial has no translation; the message says which, and why. With ``logits`` only if it is a
        temperature, a penalty or a mixture.
    TypeError, ValueError
        As :func:`omnivault.engines.probs`.

    Notes
    -----
    An error says that the engines part at some values of a dial, not that they part at these: with
    top-k 3 and top-p 0.45 a min-p of 0.09 changes nothing, wherever it stands.

    Examples
    --------
    >>> hot = {"temperature": 2.0, "min_p": 0.25}
    >>> translate(hot, "llama.cpp", "vllm").settings
    {'temperature': 2.0, 'min_p': 0.5}
    >>> hot = {"temperature": 2.0, "top_p": 0.65}
    >>> translate(hot, "llama.cpp", "exllamav3").settings
    {'temperature': 2.0, 'top_p': 0.65, 'temp_last': True}
    >>> translate(hot, "llama.cpp", "vllm")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    omnivault.engines.translation.NoTranslationError: top_p = 0.65 has no translation from ...
    >>> row = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    >>> found = translate(hot, "llama.cpp", "vllm", logits=row)
    >>> found.settings, found.total_variation < 1e-7
    ({'temperature': 2.0, 'top_p': 0.5}, True)
    """
    if logits is not None:
        check_rows(logits)
    size = ANY_SIZE if logits is None else logits.shape[-1]
    order = settings.get("order")
    spoken, dials = read_settings(
        source, False, {name: value for name, value in settings.items() if name != "order"}
    )
    if order is not None:
        spoken = in_another_order(spoken, order)
    into = dialect(target)
    penalty = dials.pop("repetition_penalty", 1.0)
    share = dials.pop("xtc_probability", 0.0)
    threshold = dials.pop("xtc_threshold", 1.0)
    done: dict[str, Any] = {"temperature": "greedy"}
    if not spoken.greedy:
        done = acting(spoken, dials | ({"xtc": threshold} if share else {}), size)
        if done.get("top_k", 0) >= size:
            del done["top_k"]
    if source == target:
        translated = dict(settings)
    else:
        translated = _penalty(penalty, spoken, into)
        if _is_greedy(done, spoken, into):
            translated |= _greedy(into)
        else:
            found = _exact(done, spoken, into, size)
            if isinstance(found, NoTranslationError):
                if logits is None or found.dial in ("temperature", "repetition_penalty"):
                    raise found
                law = probs(logits, source, **settings)
                found = _nearest(law, logits, done, spoken, into)
            translated |= found
        if 0 < share < 1 and "xtc_probability" in translated:
            translated["xtc_probability"] = share
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


def _is_greedy(done: Mapping[str, Any], spoken: Dialect, into: Dialect) -> bool:
    """Whether the most probable token is taken; raise if it is another one."""
    by = [name for name, value in done.items() if value in ("greedy", "best")]
    by += [name for name, value in (("top_k", 1), ("min_p", 1.0)) if done.get(name) == value]
    words = [value for value in done.values() if value in ("token 0", "last token")]
    removed = [
        name
        for name in TAKE_THE_BEST
        if by and name in done and spoken.order.index(name) < spoken.order.index(by[0])
    ]
    if words or removed:
        why = f"it takes {words[0]}" if words else f"{removed[0]} may have ruled out the best token"
        raise NoTranslationError(
            "temperature", f"{spoken.name} has no translation to {into.name}: {why}"
        )
    return bool(by)


def _greedy(into: Dialect) -> dict[str, Any]:
    if "do_sample" in into.options:
        return {"do_sample": False}
    cold = acting(into, {"temperature": 0.0}, ANY_SIZE)
    return {"temperature": 0.0} if cold == {"temperature": "greedy"} else {"top_k": 1}


def _exact(
    done: Mapping[str, Any], spoken: Dialect, into: Dialect, size: int
) -> dict[str, Any] | NoTranslationError:
    """Return settings with the same law at every row, in some order that the target has."""
    first: NoTranslationError | None = None
    for ordered, extra in _orders(done, spoken, into):
        try:
            _check_order(done, spoken, ordered, size)
            return _cuts(done, spoken, ordered, size) | extra
        except NoTranslationError as error:
            first = first or error
    assert first is not None
    return first


def _orders(
    done: Mapping[str, Any], spoken: Dialect, into: Dialect
) -> Iterator[tuple[Dialect, dict[str, Any]]]:
    yield into, {}
    for option, changes in into.options.items():
        if "order" in changes:
            yield dialect(into.name, **{option: changes["when"]}), {option: changes["when"]}
    if into.order_is_free:
        order = tuple(part for part in spoken.order if part in into.order and part in done)
        yield replace(into, order=order), {"order": order}


def _check_order(done: Mapping[str, Any], spoken: Dialect, into: Dialect, size: int) -> None:
    for name in done:
        if name not in into.order and name != "temperature":
            without = name in into.without_effect
            why = f"in {into.name} it has no effect" if without else f"{into.name} does not have it"
            raise _no_translation(name, done, spoken, into, why)
    faulty = spoken.rules.get("top_p", {}).get("fault") and size > 64
    if faulty and "top_p" in done and "top_k" not in done:
        why = f"what {spoken.name} {spoken.version} keeps without a top-k has no definition"
        raise _no_translation("top_p", done, spoken, into, why)
    divides = _temperature(done, spoken, into, size) != 1
    for name in [name for name in MASSES if name in done and divides]:
        last = _place(spoken, name) < _place(spoken, "temperature")
        if last != (_place(into, name) < _place(into, "temperature")):
            sides = ("after", "before") if last else ("before", "after")
            why = f"{spoken.name} divides by the temperature {sides[0]} it, {into.name} {sides[1]}"
            raise _no_translation(name, done, spoken, into, why)
    for one, other in combinations([name for name in done if name != "temperature"], 2):
        if one in QUOTIENTS and other in QUOTIENTS and not {*TAKE_THE_BEST} & set(done):
            continue
        first = _place(spoken, one) < _place(spoken, other)
        if first != (_place(into, one) < _place(into, other)):
            name, beside = (one, other) if one in MASSES else (other, one)
            first = _place(spoken, beside) < _place(spoken, name)
            sides = ("before", "after") if first else ("after", "before")
            why = f"{beside} cuts {sides[0]} it in {spoken.name}, {sides[1]} it in {into.name}"
            raise _no_translation(name, done, spoken, into, why)


def _temperature(done: Mapping[str, Any], spoken: Dialect, into: Dialect, size: int) -> float:
    value = done.get("temperature", 1.0)
    why = f"in {spoken.name} it is {value}"
    if not isinstance(value, str):
        try:
            if acting(into, {"temperature": value}, size).get("temperature", 1.0) == value:
                return float(value)
            why = f"{into.name} makes another one of it"
        except ValueError as refused:
            why = str(refused)
    raise NoTranslationError(
        "temperature", f"the temperature has no translation to {into.name}: {why}"
    )


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


def _cuts(done: Mapping[str, Any], spoken: Dialect, into: Dialect, size: int) -> dict[str, Any]:
    """Return what the target is to be told, for those cuts that it has."""
    temperature = _temperature(done, spoken, into, size)
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
    if "top_p" in made:
        made |= _behind_which_there_is_no_fault(made, done, spoken, into, size)
    return made


def _behind_which_there_is_no_fault(
    made: Mapping[str, Any], done: Mapping[str, Any], spoken: Dialect, into: Dialect, size: int
) -> dict[str, Any]:
    """Return the top-k that keeps everything, where a top-p of the target needs one."""
    if not into.rules["top_p"].get("fault") or "top_k" in made or size <= 64:
        return {}
    if size == ANY_SIZE:
        why = f"{into.name} {into.version} needs a top-k beside it, at most that of the vocabulary"
        raise _no_translation("top_p", done, spoken, into, why)
    return {"top_k": size}


def _nearest(
    law: Tensor, logits: Tensor, done: Mapping[str, Any], spoken: Dialect, into: Dialect
) -> dict[str, Any]:
    """Keep as many of the most probable tokens as bring the target nearest to the law."""
    size = len(logits)
    free = "top_p" if "top_p" in into.order else "top_k"
    others = {n: v for n, v in done.items() if n in (*QUOTIENTS, "temperature") and n != free}
    made = _cuts(others, spoken, into, size)
    if free == "top_p":
        with_top_p = made | {"top_p": 0.5}
        made |= _behind_which_there_is_no_fault(with_top_p, with_top_p, spoken, into, size)
    target = probs(logits, into.name, **made)
    order = target.sort(descending=True, stable=True)
    weights = order.values[: int((target > 0).sum())]
    best = _closest(law[order.indices[: len(weights)]], weights)
    # Tokens that tie may be kept together alone.
    tied = weights == weights[best - 1]
    counts = {best, int((weights > weights[best - 1]).sum()), best + int(tied[best:].sum())}
    candidates = [
        made | _keeping(count, logits, made, into, free, len(weights)) for count in counts if count
    ]
    distances = [
        (law - probs(logits, into.name, **settings)).abs().sum().item() for settings in candidates
    ]
    return candidates[distances.index(min(distances))]


def _closest(source: Tensor, weights: Tensor) -> int:
    """Return how many of the first weights, renormalized, are nearest to the source."""
    # Both are multiples of the weights, where they are not 0; of two multiples the smaller counts.
    shared = torch.where(source > 0, weights, 0.0)
    multiple = source.sum() / shared.sum()
    overlap = shared.cumsum(-1) * torch.minimum(multiple, 1 / weights.cumsum(-1))
    return int(overlap.nan_to_num().argmax()) + 1


def _keeping(
    count: int, logits: Tensor, made: Mapping[str, Any], into: Dialect, free: str, most: int
) -> dict[str, Any]:
    """Return the value of the free dial with which so many tokens are kept."""
    if free == "top_k":
        return {"top_k": count}
    if count == most:
        return {}
    before = into.order[: _place(into, "top_p")]
    seen = probs(logits, into.name, **{name: made[name] for name in before if name in made})
    sums = seen.sort(descending=True, stable=True).values.cumsum(-1)
    low = sums[count - 2].item() if count > 1 else 0.0
    return {"top_p": _short(low, sums[count - 1].item())}


def _short(low: float, high: float) -> float:
    """Return a number between the two with as few digits as can be."""
    middle = (low + high) / 2
    for digits in range(1, 17):
        if low < (short := round(middle, digits)) < high:
            return short
    return middle


def _call(settings: Mapping[str, Any], into: Dialect) -> dict[str, Any]:
    if settings.get("do_sample") is False:
        return dict(settings)
    made = {"do_sample": True} if "do_sample" in into.options else {}
    values = {"temperature": 1.0} | dict(into.off) | dict(settings)
    if "order" in settings:
        values["order"] = [into.order_names.get(part, part) for part in settings["order"]]
    return made | {into.names.get(name, name): value for name, value in values.items()}


def _conventions(done: Mapping[str, Any], spoken: Dialect, into: Dialect) -> tuple[str, ...]:
    found = []
    for name in done:
        for what, words in _WORDS.items():
            rules = [d.rules.get(name, {}).get(what) for d in (spoken, into)]
            if None not in rules and rules[0] != rules[1]:
                told = [f"{d.name} {words[r]}" for d, r in zip((spoken, into), rules, strict=True)]
                found.append(f"{name}: {', '.join(told)}")
    if "typical_p" in done:
        found += [
            f"typical_p: {d.name} computes a nan where a token is at -inf"
            for d in (spoken, into)
            if d.rules.get("typical_p", {}).get("fault") and "typical_p" in d.order
        ]
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
