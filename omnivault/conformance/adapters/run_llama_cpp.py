# /// script
# requires-python = ">=3.11"
# dependencies = ["xllamacpp==2026.10.11549"]
# ///
"""llama.cpp: the samplers of its C library, in its own default order.

The package xllamacpp says the order, contains the library, and exports its C functions, which are
called through ctypes. Probabilities are read from the candidates after the last sampler, the one
that draws.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import POINTER, byref, c_bool, c_float, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from typing import Any

# Name in the order, the library's function, the types of its arguments, the dial, and its value
# where it is off. The other samplers of the order (penalties, DRY, XTC) are off by default.
SAMPLERS: dict[str, tuple[str, list[Any], str, float]] = {
    "top_n_sigma": ("top_n_sigma", [c_float], "top_n_sigma", -1.0),
    "top_k": ("top_k", [c_int32], "top_k", 0),
    "typ_p": ("typical", [c_float, c_size_t], "typical_p", 1.0),
    "top_p": ("top_p", [c_float, c_size_t], "top_p", 1.0),
    "min_p": ("min_p", [c_float, c_size_t], "min_p", 0.0),
    "temperature": ("temp", [c_float], "temperature", 1.0),
}
MIN_KEEP = 1


class Candidate(ctypes.Structure):
    """``llama_token_data``."""

    _fields_ = (("id", c_int32), ("logit", c_float), ("p", c_float))


class Candidates(ctypes.Structure):
    """``llama_token_data_array``."""

    _fields_ = (
        ("data", POINTER(Candidate)),
        ("size", c_size_t),
        ("selected", c_int64),
        ("sorted", c_bool),
    )


class ChainParams(ctypes.Structure):
    """``llama_sampler_chain_params``."""

    _fields_ = (("no_perf", c_bool),)


class LlamaCpp:
    """The library's sampler chain."""

    name = "llama.cpp"
    dials = ("temperature", "top_k", "top_p", "min_p", "typical_p", "top_n_sigma")

    def __init__(self) -> None:
        import xllamacpp.xllamacpp

        order = xllamacpp.CommonParams().sampling.samplers.split(";")
        self.samplers = [SAMPLERS[name] for name in order if name in SAMPLERS]
        self.version = f"xllamacpp {xllamacpp.__version__}"
        self.library = ctypes.CDLL(xllamacpp.xllamacpp.__file__)

    def probs(self, logits: Sequence[float], settings: Mapping[str, Any]) -> list[float]:
        """Read the probabilities from the candidates that are left."""
        probs = [0.0] * len(logits)
        with self.chain(settings, seed=0) as chain:
            row, candidates = self.candidates(logits)
            self.call("apply", [c_void_p, POINTER(Candidates)], chain, byref(candidates))
            for candidate in row[: candidates.size]:
                probs[candidate.id] = candidate.p
        return probs

    def draw(
        self, logits: Sequence[float], settings: Mapping[str, Any], n: int, seed: int
    ) -> list[int]:
        """Draw n tokens with one chain, whose generator goes on from draw to draw."""
        fresh, _ = self.candidates(logits)
        row, candidates = self.candidates(logits)
        tokens = []
        with self.chain(settings, seed) as chain:
            apply = self.function("apply", [c_void_p, POINTER(Candidates)])
            for _ in range(n):
                ctypes.memmove(row, fresh, ctypes.sizeof(fresh))
                candidates.size, candidates.selected, candidates.sorted = len(row), -1, False
                apply(chain, byref(candidates))
                tokens.append(row[candidates.selected].id)
        return tokens

    @contextmanager
    def chain(self, settings: Mapping[str, Any], seed: int) -> Iterator[int]:
        """Make the default chain, and free it."""
        chain = self.call("chain_init", [ChainParams], ChainParams(True), result=c_void_p)
        samplers = [
            (sampler, types, [settings.get(dial, off), MIN_KEEP][: len(types)])
            for sampler, types, dial, off in self.samplers
        ]
        for sampler, types, values in [*samplers, ("dist", [c_uint32], [seed])]:
            made = self.call(f"init_{sampler}", types, *values, result=c_void_p)
            self.call("chain_add", [c_void_p, c_void_p], chain, made)
        try:
            yield chain
        finally:
            self.call("free", [c_void_p], chain)

    @staticmethod
    def candidates(logits: Sequence[float]) -> tuple[Any, Candidates]:
        """Return the row of candidates, and the header that points to it."""
        row = (Candidate * len(logits))(*[Candidate(i, z, 0.0) for i, z in enumerate(logits)])
        return row, Candidates(row, len(row), -1, False)

    def function(self, name: str, types: list[Any], result: Any = None) -> Any:
        """Return the C function ``llama_sampler_<name>``."""
        function = getattr(self.library, f"llama_sampler_{name}")
        function.argtypes, function.restype = types, result
        return function

    def call(self, name: str, types: list[Any], *values: Any, result: Any = None) -> Any:
        """Call the C function ``llama_sampler_<name>``."""
        return self.function(name, types, result)(*values)


if __name__ == "__main__":
    from serving import serve

    serve(LlamaCpp)
