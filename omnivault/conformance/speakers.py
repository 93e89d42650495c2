"""Which engines speak the dialect that a sampler was found to speak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omnivault.engines import DIALECTS, Dialect, dialect


def ways_of(engine: str) -> dict[str, str]:
    """Return the ways of an engine, by the conventions of the cases, as far as they were seen.

    Examples
    --------
    >>> ways = ways_of("vllm")
    >>> ways["temperature"], ways["min-p and top-p"], ways["top-k ties"]
    ('first', 'min-p first', 'all')
    """
    spoken = dialect(engine)
    ways = {
        "top-k ties": _rule(spoken, "top_k", "ties"),
        "top-p ties": _rule(spoken, "top_p", "ties"),
        "top-p exactly": _rule(spoken, "top_p", "reached"),
        "zero temperature": _meaning(spoken, "temperature", 0.0),
        "negative temperature": _meaning(spoken, "temperature", -1.0),
        "top-p zero": _meaning(spoken, "top_p", 0.0),
    }
    for convention, one, other, names in (
        ("temperature", "temperature", "top_p", ("first", "last")),
        ("top-p of", "top_k", "top_p", ("the rest", "the row")),
        ("min-p and top-p", "min_p", "top_p", ("min-p first", "top-p first")),
    ):
        if one in spoken.order and other in spoken.order:
            before = spoken.order.index(one) < spoken.order.index(other)
            ways[convention] = names[0] if before else names[1]
    words = {"some": "any", "one more": "goes on"}
    return {name: words.get(way, way) for name, way in ways.items() if way is not None}


def _rule(spoken: Dialect, dial: str, what: str) -> Any:
    return spoken.rules.get(dial, {}).get(what) if dial in spoken.order else None


def _meaning(spoken: Dialect, dial: str, value: float) -> Any:
    """Return what the first case that fits says, if it is one of the ways."""
    for case in spoken.rules.get(dial, {}).get("meaning", ()):
        fits = (
            case.get("at") == value
            or value < case.get("below", -1e9)
            or value <= case.get("at_most", -1e9)
        )
        if fits and "with" not in case:
            return case["then"] if case["then"] in {"greedy", "refused", "best", "off"} else None
    return None


def speakers(ways: Mapping[str, Sequence[str]]) -> list[str]:
    """Name the engines with whose ways all of these agree.

    Parameters
    ----------
    ways
        By convention, the ways that a sampler may have: ``Report.dialect``.

    Examples
    --------
    >>> speakers({"temperature": ["last"], "top-p of": ["the row"]})
    ['mlx-lm']
    """
    own = {engine: ways_of(engine) for engine in DIALECTS}
    known = {name for ways_there in own.values() for name in ways_there}
    told = {name: there for name, there in ways.items() if name in known}
    return [
        engine
        for engine in DIALECTS
        if told and all(own[engine].get(name) in there for name, there in told.items())
    ]
