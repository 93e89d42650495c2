"""The other samplers of the benchmark: each draws a token for each row, with the same settings.

A peer is a function of the logits ``(B, V)``, the temperature and the dials. It returns what is
timed, a function without arguments, or None if it knows no such chain. What the peer does once for
a model and not for each token, such as compiling, it does before.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor

from omnivault.conformance.adapters.environments import adapters, requirements
from omnivault.experiments import llama_cpp

Turn = Callable[[], object]
Peer = Callable[[Tensor, float, Mapping[str, Any]], Turn | None]


def peers(folder: Path) -> tuple[dict[str, Peer], list[str]]:
    """Return the peers that are there, and a line for each that is not.

    Parameters
    ----------
    folder
        Where llama.cpp's library is, or is unpacked.

    Returns
    -------
    found
        By name.
    missing
        What is left out, why, and how to get it.
    """
    found: dict[str, Peer] = {"Transformers": by_transformers}
    missing = []
    try:
        found["llama.cpp"] = partial(llama_cpp.chain, ctypes.CDLL(str(llama_cpp.library(folder))))
    except (RuntimeError, OSError) as problem:
        missing.append(f"without llama.cpp: {problem}")
    found["NumPy"] = by_numpy
    if find_spec("jax"):
        found["JAX"] = by_jax
    else:
        (pinned,) = requirements(adapters()["jax"])
        missing.append(f"without JAX: it is not installed; .venv/bin/pip install {pinned}")
    return found, missing


def by_transformers(
    logits: Tensor, temperature: float, dials: Mapping[str, Any]
) -> Callable[[], Tensor]:
    """Apply the warpers of Transformers in its order, a softmax, and ``torch.multinomial``."""
    from transformers import (
        MinPLogitsWarper,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    every = {"top_k": TopKLogitsWarper, "top_p": TopPLogitsWarper, "min_p": MinPLogitsWarper}
    warpers: list[Any] = [TemperatureLogitsWarper(temperature)]
    warpers += [warper(dials[name]) for name, warper in every.items() if name in dials]

    def draw() -> Tensor:
        z = logits
        for warper in warpers:
            z = warper(None, z)  # the tokens before, which none of these looks at
        return z.softmax(-1).multinomial(1).squeeze(-1)

    return draw


def by_numpy(logits: Tensor, temperature: float, dials: Mapping[str, Any]) -> Turn | None:
    """Compute a softmax in float64, which ``Generator.choice`` asks for, and draw row by row."""
    if dials:
        return None
    import numpy as np

    rows, generator = logits.numpy(), np.random.default_rng(0)

    def draw() -> list[int]:
        z = rows.astype(np.float64) / temperature
        p = np.exp(z - z.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        return [int(generator.choice(len(row), p=row)) for row in p]

    return draw


def by_jax(logits: Tensor, temperature: float, dials: Mapping[str, Any]) -> Turn | None:
    """Call ``jax.random.categorical``, compiled together with the division and a fresh key."""
    if dials:
        return None
    from jax import Array, jit, random
    from jax.numpy import asarray

    rows = asarray(logits.numpy())
    key = random.key(0)

    def step(key: Array, rows: Array) -> tuple[Array, Array]:
        after, now = random.split(key)
        return after, random.categorical(now, rows / temperature)

    compiled = jit(step)

    def draw() -> Array:
        nonlocal key
        key, drawn = compiled(key, rows)
        return drawn.block_until_ready()

    return draw
