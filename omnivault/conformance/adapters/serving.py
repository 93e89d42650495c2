"""Serve an adapter as a program: one JSON object a line in, one a line out.

The programs ``run_*.py`` beside this file run where one engine is installed and nothing else, so
neither they nor this file import anything of omnivault. An adapter is an object with ``name``,
``version``, ``dials`` and some of the methods ``probs``, ``kept`` and ``draw``. What it raises as a
``ValueError`` are the engine's own words of refusal; any other exception is a failure.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO

METHODS = ("probs", "kept", "draw")
WRITTEN = {"-inf": -math.inf, "inf": math.inf}


def respond(adapter: Any, line: str) -> dict[str, Any]:
    """Answer one request.

    Parameters
    ----------
    adapter
        What is asked.
    line
        The request, a JSON object: ``{"do": "hello"}``, or ``do`` one of ``probs``, ``kept`` and
        ``draw`` with ``logits`` and ``settings``; ``draw`` takes ``n`` and ``seed`` besides.

    Returns
    -------
    dict
        What was asked for under ``probs``, ``kept`` or ``tokens``; the engine's words under
        ``refused``; or what went wrong under ``error``.

    Examples
    --------
    >>> class Greedy:
    ...     name, version, dials = "greedy", "1", []
    ...     def kept(self, logits, settings):
    ...         return [logits.index(max(logits))]
    >>> respond(Greedy(), '{"do": "hello"}')
    {'name': 'greedy', 'version': '1', 'dials': [], 'can': ['kept'], 'seeded': True}
    >>> respond(Greedy(), '{"do": "kept", "logits": ["-inf", 1.5], "settings": {}}')
    {'kept': [1]}
    >>> respond(Greedy(), '{"do": "kept", "logits": [0], "settings": {"top_k": 2}}')
    {'error': 'greedy has no top_k; its dials are: none'}
    """
    try:
        request = json.loads(line)
    except ValueError as problem:
        return {"error": f"a request must be one JSON object on a line: {problem}"}
    try:
        return _answer(adapter, request)
    except ValueError as words:
        return {"refused": str(words)}
    except Exception as problem:  # an engine may raise anything, and the next request is answered
        return {"error": str(problem) or type(problem).__name__}


def serve(make: Callable[[], Any]) -> None:
    """Answer the requests on stdin until it ends.

    Parameters
    ----------
    make
        Makes the adapter. What the engine prints to stdout meanwhile, from any language, goes to
        stderr, so that nothing stands between the answers.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    converse(make(), sys.stdin, answers)


def converse(adapter: Any, requests: Iterable[str], answers: TextIO) -> None:
    """Write the answer to each request as a line of its own, at once."""
    for line in requests:
        answers.write(json.dumps(respond(adapter, line)) + "\n")
        answers.flush()


def _answer(adapter: Any, request: Any) -> dict[str, Any]:
    can = [method for method in METHODS if hasattr(adapter, method)]
    match request:
        case {"do": "hello"}:
            return {
                "name": adapter.name,
                "version": adapter.version,
                "dials": list(adapter.dials),
                "can": can,
                "seeded": getattr(adapter, "seeded", True),
            }
        case {"do": str(method), "logits": [_, *_] as row, "settings": dict(settings)}:
            _check(adapter, method, can, settings)
            logits = [_number(z) for z in row]
        case _:
            raise TypeError(f"no request of the protocol: {json.dumps(request)[:200]}")
    match request:
        case {"do": "probs"}:
            probs = [float(p) for p in adapter.probs(logits, settings)]
            if not all(map(math.isfinite, probs)):
                raise TypeError(f"{adapter.name} gives probabilities that are not finite: {probs}")
            return {"probs": probs}
        case {"do": "kept"}:
            return {"kept": [int(token) for token in adapter.kept(logits, settings)]}
        case {"n": int(n), "seed": int(seed)}:
            return {"tokens": [int(token) for token in adapter.draw(logits, settings, n, seed)]}
        case _:
            raise TypeError("a request for draws needs an integer n and an integer seed")


def _number(z: Any) -> float:
    if isinstance(z, str) and z not in WRITTEN:
        raise TypeError(f'a logit must be a number, "inf" or "-inf", got {json.dumps(z)}')
    return float(WRITTEN.get(z, z))


def _check(adapter: Any, method: str, can: list[str], settings: dict[str, Any]) -> None:
    """Raise unless the adapter has the method and the dials."""
    if method not in can:
        raise TypeError(f"{adapter.name} cannot {method}; it can: {', '.join(can)}")
    for dial in settings:
        if dial not in adapter.dials:
            dials = ", ".join(adapter.dials) or "none"
            raise TypeError(f"{adapter.name} has no {dial}; its dials are: {dials}")
