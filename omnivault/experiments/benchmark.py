"""How long a draw takes: :func:`omnivault.sampling.sample` beside the usual pipeline.

The usual pipeline is that of Hugging Face Transformers: its logits processors for temperature and
top-p, a softmax, ``torch.multinomial``. Both run in this process, in turns, on the same logits, and
each pair of turns gives one ratio. Absolute times belong to the machine; ratios travel better.

``make bench`` prints the tables and saves them in ``_build/benchmark.json``. The run that the book
shows is kept in ``data``.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from omnivault.sampling import sample

__all__ = ["compare", "logits_like", "saved", "usual_pipeline"]

SAVED = Path(__file__).with_name("data") / "benchmark.json"
TEMPERATURE = 0.7
VOCABULARIES = {49_152: "SmolLM2", 151_936: "Qwen2.5"}


def usual_pipeline(logits: Tensor, *, temperature: float, top_p: float | None = None) -> Tensor:
    """Draw one token for each row as Transformers does in ``generate``.

    Parameters
    ----------
    logits
        Shape ``(B, V)``, float32.
    temperature, top_p
        As in :func:`omnivault.sampling.sample`.

    Returns
    -------
    Tensor
        Token indices, int64 of shape ``(B,)``.

    Examples
    --------
    >>> usual_pipeline(torch.tensor([[0.0, 5.0, 0.0]]), temperature=1.0, top_p=0.9)
    tensor([1])
    """
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    logits = TemperatureLogitsWarper(temperature)(logits, logits)  # of the first nothing is read
    if top_p is not None:
        logits = TopPLogitsWarper(top_p)(logits, logits)
    return torch.multinomial(logits.softmax(-1), 1).squeeze(-1)


def logits_like(kind: str, vocabulary: int, rows: int) -> Tensor:
    """Make logits to draw from.

    Parameters
    ----------
    kind
        ``"flat"`` and ``"peaked"`` are normal with standard deviation 1 and 5; ``"real"`` are those
        of the language model, at positions far apart in news articles.
    vocabulary, rows
        V and B. The language model has V = 49,152.

    Returns
    -------
    Tensor
        float32 of shape ``(B, V)``.

    Raises
    ------
    ValueError
        No such kind, or real logits of another vocabulary.

    Examples
    --------
    >>> logits_like("flat", 1000, 2).shape
    torch.Size([2, 1000])
    """
    if kind == "real":
        from omnivault.model.language_model import load_language_model
        from omnivault.model.news import articles

        model = load_language_model()
        z = torch.cat([model.logits(model.encode(a)[:200])[19::20] for a in articles()[:8]])
        if z.shape[-1] != vocabulary or len(z) < rows:
            raise ValueError(
                f"real logits have the shape {tuple(z.shape)}, got {rows} rows of {vocabulary}"
            )
        return z[torch.linspace(0, len(z) - 1, rows).long()].contiguous()
    scales = {"flat": 1.0, "peaked": 5.0}
    if kind not in scales:
        raise ValueError(f"kind must be 'flat', 'peaked' or 'real', got {kind!r}")
    return scales[kind] * torch.randn(
        rows, vocabulary, generator=torch.Generator().manual_seed(vocabulary + rows)
    )


def compare(logits: Tensor, *, top_p: float | None, pairs: int) -> dict[str, float]:
    """Time both, in turns.

    Parameters
    ----------
    logits
        Shape ``(B, V)``, float32.
    top_p
        As in :func:`omnivault.sampling.sample`; the temperature is 0.7.
    pairs
        How many pairs of turns to take.

    Returns
    -------
    dict
        Medians in milliseconds, ``usual`` and ``ours``; the median ``ratio`` of a pair and its
        quartiles ``low`` and ``high``.

    Raises
    ------
    ValueError
        Fewer than two pairs.

    Examples
    --------
    >>> sorted(compare(torch.randn(1, 100), top_p=0.9, pairs=4))
    ['high', 'low', 'ours', 'ratio', 'usual']
    """
    if pairs < 2:
        raise ValueError(f"quartiles need at least 2 pairs, got {pairs}")

    def usual() -> Tensor:
        return usual_pipeline(logits, temperature=TEMPERATURE, top_p=top_p)

    def ours() -> Tensor:
        return sample(logits, temperature=TEMPERATURE, top_p=top_p)

    for _ in range(3):
        usual(), ours()
    times = [(_milliseconds(usual), _milliseconds(ours)) for _ in range(pairs)]
    ratios = [u / o for u, o in times]
    low, ratio, high = statistics.quantiles(ratios, n=4, method="inclusive")
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    return {"usual": medians[0], "ours": medians[1], "ratio": ratio, "low": low, "high": high}


def _milliseconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return 1000 * (time.perf_counter() - start)


def saved() -> dict[str, Any]:
    """Return the run that the book shows.

    Returns
    -------
    dict
        ``machine``: what it ran on. ``comparisons``: one for each table and size, with what
        :func:`compare` returns. ``passes``: single operations.

    Examples
    --------
    >>> sorted(saved())
    ['comparisons', 'machine', 'passes']
    """
    run: dict[str, Any] = json.loads(SAVED.read_text(encoding="utf-8"))
    return run


def _cases() -> list[tuple[str, str, int, int]]:
    """Table, kind of logits, V and B."""
    main = [
        ("main", kind, V, B) for V in VOCABULARIES for B in (1, 16) for kind in ("flat", "peaked")
    ]
    real = [("main", "real", 49_152, B) for B in (1, 16)]
    sizes = [("vocabulary", "peaked", 2**k, 1) for k in range(10, 19)]
    batches = [("batch", "peaked", 49_152, 2**k) for k in range(7)]
    return main + real + sizes + batches


def _passes(rows: int = 16, vocabulary: int = 151_936) -> list[dict[str, Any]]:
    """Time single operations on logits that do not fit into the caches next to a core."""
    z = logits_like("flat", vocabulary, rows)
    copied, p = torch.empty_like(z), z.softmax(-1)
    operations: dict[str, Callable[[], object]] = {
        "copy": lambda: copied.copy_(z),
        "largest": lambda: z.amax(-1),
        "sum": lambda: z.sum(-1),
        "divide by T, in place": lambda: copied.div_(1.0),
        "exp, in place": lambda: copied.copy_(z).exp_(),
        "softmax": lambda: torch.softmax(z, -1, out=copied),
        "V exponentials": lambda: copied.exponential_(),
        "multinomial": lambda: torch.multinomial(p, 1),
        "sort": lambda: z.sort(-1),
    }
    passes = []
    for name, operation in operations.items():
        operation()
        median = statistics.median(_milliseconds(operation) for _ in range(11))
        passes.append({"name": name, "ms": median, "logits": rows * vocabulary})
    return passes


def _machine() -> dict[str, str]:
    """Describe the machine, without its name."""
    cpu = platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), cpu)
    packages = {name: version(name) for name in ("torch", "transformers")}
    return {
        "processor": cpu,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "system": platform.system(),
        "python": platform.python_version(),
        **packages,
    }


def main() -> None:
    """Measure, print, and save in the file that is named on the command line."""
    target = Path(sys.argv[1])
    machine = _machine()
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(f"medians in ms; T = {TEMPERATURE}, top-p 0.9 where it is on; ratio with its quartiles")
    print("table       logits       V   B  top-p     usual     ours  ratio")
    comparisons = []
    for table, kind, vocabulary, rows in _cases():
        logits = logits_like(kind, vocabulary, rows)
        for top_p in (None, 0.9):
            pairs = max(15, min(101, 2_000_000 // (vocabulary * rows)))
            found = compare(logits, top_p=top_p, pairs=pairs)
            case = {"table": table, "logits": kind, "V": vocabulary, "B": rows, "top_p": top_p}
            comparisons.append({**case, "pairs": pairs, **found})
            print(
                f"{table:10}  {kind:6} {vocabulary:7,} {rows:3}  {top_p or '-':>5} "
                f"{found['usual']:9.3f} {found['ours']:8.3f}  {found['ratio']:5.1f} "
                f"({found['low']:.1f} to {found['high']:.1f})"
            )
    passes = _passes()
    for single in passes:
        print(f"{single['name']:24} {single['ms']:8.3f} ms for {single['logits']:,} logits")
    run = {"machine": machine, "comparisons": comparisons, "passes": passes}
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(target)
    print(f"saved in {target}")


if __name__ == "__main__":
    main()
