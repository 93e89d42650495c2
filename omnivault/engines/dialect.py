"""A dialect: what the dials of one engine mean, read from its file in ``dialects/``.

The files are data, which any program can read. Of each dial they say what sets it apart: how ties
at the border are broken, whether a mass that is reached exactly ends the set, what values outside
the usual interval mean. What stands there was run, with the version and the way named.
"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omnivault._checks import shown

FOLDER = Path(__file__).parent / "dialects"

DIALS: dict[str, str] = {
    "temperature": "(0, inf)",
    "top_k": "[1, V]",
    "top_p": "(0, 1]",
    "min_p": "[0, 1]",
    "typical_p": "(0, 1]",
    "top_n_sigma": "(0, inf)",
    "xtc_probability": "[0, 1]",
    "xtc_threshold": "[0, 1]",
    "repetition_penalty": "(0, inf)",
}
"""Every dial that some dialect has, with the values that mean the same wherever it is."""

DIALECTS: tuple[str, ...] = tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))
"""The names of all dialects, each that of its package."""


@dataclass(frozen=True)
class Dialect:
    """What one engine makes of its dials; :func:`dialect` finds it by name."""

    name: str
    version: str
    """The version that was run."""
    driven: str
    """How it was run."""
    order: tuple[str, ...]
    """Temperature and cuts, in the order in which they act."""
    rules: Mapping[str, Mapping[str, Any]]
    """Ties, border, and the ``meaning`` of values outside the usual ones, by dial."""
    defaults: Mapping[str, Any]
    """What acts when a call says nothing."""
    off: Mapping[str, Any]
    """The value of each dial that switches it off, in a call of the engine."""
    names: Mapping[str, str]
    """The engine's own names of dials that it calls otherwise."""
    order_names: Mapping[str, str]
    """The engine's own names of dials in an order, where they are others again."""
    options: Mapping[str, Mapping[str, Any]]
    """Settings that change the dialect itself, such as ``do_sample``."""
    faults: tuple[Mapping[str, Any], ...]
    """Where the engine is wrong, with the dial, what happens, what to set instead, the versions."""
    without_effect: tuple[str, ...] = ()
    """Dials that a call may name, and that change nothing."""
    greedy: bool = False
    """Whether temperature and cuts are ignored, and the largest logit taken."""
    order_is_free: bool = False
    """Whether a call may name another order."""

    @property
    def dials(self) -> tuple[str, ...]:
        """The names of the dials that it takes."""
        cuts = [part for part in self.order if part != "xtc"]
        xtc = ["xtc_probability", "xtc_threshold"] if "xtc" in self.order else []
        penalty = ["repetition_penalty"] if "repetition_penalty" in self.rules else []
        return tuple(sorted([*cuts, *xtc, *penalty, *self.without_effect], key=list(DIALS).index))


def dialect(name: str, *, intended: bool = False, **options: Any) -> Dialect:
    """Return the dialect of an engine.

    Parameters
    ----------
    name
        One of :data:`DIALECTS`; a version may follow, as in ``"onnxruntime-genai==0.13.0"``, if
        it is the one that was run or one of those in which a fault was looked for.
    intended
        Without the engine's faults: as it documents itself.
    **options
        Settings that change the dialect itself, such as ``do_sample=False``.

    Raises
    ------
    TypeError
        An option is neither True nor False.
    ValueError
        There is no such engine, version or option.

    Examples
    --------
    >>> dialect("vllm").order
    ('temperature', 'min_p', 'top_k', 'top_p')
    >>> dialect("exllamav3", temp_last=True).order
    ('min_p', 'top_k', 'top_p', 'temperature')
    """
    name, _, version = name.partition("==") if isinstance(name, str) else (name, "", "")
    if name not in DIALECTS:
        raise ValueError(f"there is no dialect {shown(name)}; there are {', '.join(DIALECTS)}")
    data = copy.deepcopy(_read(name))
    faults = data.get("faults", [])
    if version:
        right = [v for fault in faults for v in fault.get("right", [])]
        tried = [data["version"], *right, *(v for fault in faults for v in fault["wrong"])]
        if version not in tried:
            raise ValueError(
                f"{name} {shown(version)} was not run; versions that were: "
                f"{', '.join(dict.fromkeys(tried))}"
            )
        data = data | {"version": version}
        intended = intended or version in right
    for option, value in options.items():
        if option not in data.get("options", {}):
            known = ", ".join(data.get("options", {})) or "none"
            raise ValueError(f"{name} has no option {shown(option)}; it has: {known}")
        if not isinstance(value, bool):
            raise TypeError(f"{option} must be True or False, got {shown(value)}")
        changes = dict(data["options"][option])
        if value == changes.pop("when"):
            data = _merged(data, changes)
    if intended:
        data = _merged(data, data.get("intended", {}))
    return Dialect(
        name=name,
        version=data["version"],
        driven=data["driven"],
        order=tuple(data["order"]),
        rules={dial: data[dial] for dial in DIALS if dial in data},
        defaults=data.get("defaults", {}),
        off=data.get("off", {}),
        names=data.get("names", {}),
        order_names=data.get("order_names", {}),
        options=data.get("options", {}),
        faults=tuple(faults),
        without_effect=tuple(data.get("without_effect", ())),
        greedy=data.get("greedy", False),
        order_is_free=data.get("order_is_free", False),
    )


def defaults(name: str) -> dict[str, Any]:
    """Return the settings that act in an engine when a call says nothing.

    Examples
    --------
    >>> defaults("llama.cpp")
    {'temperature': 0.8, 'top_k': 40, 'top_p': 0.95, 'min_p': 0.05}
    >>> defaults("transformers")
    {'do_sample': False, 'temperature': 1.0, 'top_k': 50, 'top_p': 1.0}
    """
    return dict(dialect(name).defaults)


@cache
def _read(name: str) -> dict[str, Any]:
    data = tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8"))
    if base := data.pop("like", None):
        # A table of its own stands in place of the other one's, so that none of it is left.
        data = _read(base) | {"names": {}, "faults": []} | data
    return data


def _merged(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data with other values; tables are merged, everything else is replaced."""
    made = dict(data)
    for key, value in changes.items():
        inside = isinstance(value, Mapping) and isinstance(made.get(key), Mapping)
        made[key] = _merged(made[key], value) if inside else value
    return made
