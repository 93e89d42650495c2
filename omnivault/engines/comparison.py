"""One row of logits and one set of settings, in every dialect side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from omnivault._checks import shown
from omnivault.engines.dialect import DIALECTS, dialect
from omnivault.engines.law import probs


@dataclass(frozen=True)
class Line:
    """What one engine does with the settings."""

    engine: str
    version: str
    settings: Mapping[str, Any]
    """Those that the engine has, with its defaults if they were asked for."""
    kept: int | None
    """How many tokens can be drawn; None if the engine refuses the settings."""
    entropy: float | None
    """Of its law, in nats."""
    total_variation: float | None
    """Distance of its law to that of the engine that was chosen; None if one of the two refuses."""
    lacks: tuple[str, ...]
    """Dials that it does not have, or that change nothing in it."""
    refused: str
    """Why it refuses, in words; empty if it does not."""


def compare(
    logits: Tensor,
    settings: Mapping[str, Any],
    *,
    to: str = "transformers",
    with_defaults: bool = False,
    intended: bool = False,
    prompt: Sequence[int] = (),
) -> list[Line]:
    """Say for every dialect which law it draws a row's next token from.

    Parameters
    ----------
    logits
        Shape ``(V,)``, floating.
    settings
        Dials by name, as for :func:`omnivault.engines.probs`; an engine that does not have one is
        asked without it.
    to
        The dialect to which distances are measured.
    with_defaults
        Also let the defaults of each engine act, as in a call that says no more than the settings.
    intended
        As the engines document themselves, without their faults.
    prompt
        Token indices that stand before, for ``repetition_penalty``.

    Returns
    -------
    list of Line
        In the order of :data:`omnivault.engines.DIALECTS`. ``python -m omnivault.engines compare``
        shows them as a table.

    Raises
    ------
    TypeError, ValueError
        ``logits`` are not one row with a softmax, there is no dialect ``to``, or a dial is none of
        any dialect.

    Examples
    --------
    >>> row = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    >>> lines = compare(row, {"temperature": 2.0, "top_p": 0.65})
    >>> {line.engine: line.kept for line in lines if line.total_variation}
    {'llama-cpp-python': 2, 'llama.cpp': 2, 'mlx-lm': 2, 'node-llama-cpp': 2, 'transformers.js': 4}
    """
    chosen = dialect(to).name
    known = sorted({name for engine in DIALECTS for name in _names(engine)})
    for name in settings:
        if name not in known:
            raise ValueError(f"no engine has a dial {shown(name)}; there are {', '.join(known)}")
    probs(logits, to)  # a row that has no law is nobody's fault but the caller's
    how: dict[str, Any] = {"intended": intended, "prompt": prompt}
    laws = {engine: _law(logits, engine, settings, with_defaults, how) for engine in DIALECTS}
    other = laws[chosen][1] if to == chosen else _law(logits, to, settings, with_defaults, how)[1]
    return [_line(engine, settings, *laws[engine], other) for engine in DIALECTS]


def _names(engine: str) -> tuple[str, ...]:
    spoken = dialect(engine)
    return (*spoken.dials, *spoken.options)


def _law(
    logits: Tensor,
    engine: str,
    settings: Mapping[str, Any],
    with_defaults: bool,
    how: Mapping[str, Any],
) -> tuple[dict[str, Any], Tensor | str]:
    names = _names(engine)
    asked = dict(dialect(engine).defaults) if with_defaults else {}
    asked |= {name: value for name, value in settings.items() if name in names}
    try:
        return asked, probs(logits, engine, **how, **asked)
    except ValueError as refused:
        return asked, str(refused)


def _line(
    engine: str,
    settings: Mapping[str, Any],
    asked: dict[str, Any],
    law: Tensor | str,
    other: Tensor | str,
) -> Line:
    spoken = dialect(engine)
    in_vain = {*settings} - {*asked} | {*spoken.without_effect} & {*settings}
    kept = entropy = distance = None
    if isinstance(law, Tensor):
        kept, entropy = int((law > 0).sum()), torch.special.entr(law).sum().item()
        if isinstance(other, Tensor):
            distance = (law - other).abs().sum().item() / 2
    return Line(
        engine=engine,
        version=spoken.version,
        settings=asked,
        kept=kept,
        entropy=entropy,
        total_variation=distance,
        lacks=tuple(name for name in settings if name in in_vain),
        refused=law if isinstance(law, str) else "",
    )
