"""How long a draw takes: :func:`omnivault.sampling.sample` beside its peers.

The peers are the other samplers of ``omnivault.experiments.peers``. All run in this process, in
turns, on the same logits with the same settings, and each round gives a ratio for each peer.
Absolute times belong to the machine; ratios travel better. A softmax and ``torch.topk`` take turns
too: they say how many passes over the logits a draw is worth.

``make bench`` prints a table and saves the run in ``_build/benchmark.json``. The run that the book
shows is kept in ``data``.
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from omnivault.experiments import llama_cpp
from omnivault.experiments.peers import Peer, Turn, peers
from omnivault.experiments.saving import processor, save
from omnivault.figures.tables import Table, table
from omnivault.sampling import sample

__all__ = ["CHAINS", "Case", "ahead", "cases", "compare", "logits_like", "saved"]

SAVED = Path(__file__).with_name("data") / "benchmark.json"
TEMPERATURE = 0.8
CHAINS: dict[str, dict[str, Any]] = {
    "T alone": {},
    "top-p 0.9": {"top_p": 0.9},
    "defaults": {"top_k": 40, "top_p": 0.95, "min_p": 0.05},
    "top-k 50": {"top_k": 50},
    "min-p 0.05": {"min_p": 0.05},
}
"""The dials beside the temperature. The ``defaults`` are those of llama.cpp."""
SMALL, LARGE = 49_152, 151_936
"""The vocabularies of SmolLM2 and Qwen2.5."""
SCALES = {"flat": 1.0, "normal": 3.0, "peaked": 5.0}

LEAST, MOST = 7, 101
ENOUGH = 2000.0
"""Rounds of a case: so many at least and at most, and no more once they took so many ms."""


class Case(NamedTuple):
    """What is drawn from what."""

    chain: str
    """Of :data:`CHAINS`."""
    logits: str
    """The kind, as for :func:`logits_like`."""
    V: int
    """Tokens in the vocabulary."""
    B: int
    """Rows."""

    def __str__(self) -> str:
        return f"{self.chain}, {self.logits} logits, V = {self.V:,}, B = {self.B}"


def cases() -> list[Case]:
    """Return what is measured, each once.

    Every chain, for two vocabularies and three numbers of rows, and for other logits; two chains
    as the vocabulary grows, and as the rows do.

    Examples
    --------
    >>> cases()[0]
    Case(chain='T alone', logits='normal', V=49152, B=1)
    """
    found = [Case(c, "normal", V, B) for c in CHAINS for V in (SMALL, LARGE) for B in (1, 16, 64)]
    found += [Case(c, kind, SMALL, 1) for c in CHAINS for kind in ("flat", "peaked", "real")]
    for c in ("T alone", "top-p 0.9"):
        found += [Case(c, "normal", 2**k, 1) for k in range(10, 19)]
        found += [Case(c, "normal", SMALL, 2**k) for k in range(7)]
    return list(dict.fromkeys(found))


def logits_like(kind: str, vocabulary: int, rows: int) -> Tensor:
    """Make logits to draw from.

    Parameters
    ----------
    kind
        ``"flat"``, ``"normal"`` and ``"peaked"`` are normal with standard deviation 1, 3 and 5;
        ``"real"`` are those of the language model, at positions far apart in news articles.
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
    if kind not in SCALES:
        raise ValueError(f"kind must be 'flat', 'normal', 'peaked' or 'real', got {kind!r}")
    return SCALES[kind] * torch.randn(
        rows, vocabulary, generator=torch.Generator().manual_seed(vocabulary + rows)
    )


def compare(ours: Turn, others: Mapping[str, Turn]) -> dict[str, Any]:
    """Time all of them in rounds, in each round in another order.

    Parameters
    ----------
    ours
        What the others are compared with.
    others
        By name.

    Returns
    -------
    dict
        ``rounds``: how many; ``ours``: the median in milliseconds; ``others``: by name ``ms``, the
        median, ``ratio``, the median over the rounds of its time by ours, and the quartiles of
        these ratios, ``low`` and ``high``.

    Examples
    --------
    >>> found = compare(lambda: sum(range(99)), {"longer": lambda: sum(range(9999))})
    >>> found["others"]["longer"]["ratio"] > 1
    True
    """
    turns = {"ours": ours, **others}
    for turn in turns.values():
        turn(), turn()
    order, shuffle = list(turns), random.Random(0).shuffle
    rounds: list[dict[str, float]] = []
    spent = 0.0
    while len(rounds) < LEAST or (len(rounds) < MOST and spent < ENOUGH):
        shuffle(order)
        rounds.append({name: _milliseconds(turns[name]) for name in order})
        spent += sum(rounds[-1].values())
    found = {}
    for name in others:
        ratios = [times[name] / times["ours"] for times in rounds]
        low, ratio, high = statistics.quantiles(ratios, n=4, method="inclusive")
        ms = statistics.median(times[name] for times in rounds)
        found[name] = {"ms": ms, "ratio": ratio, "low": low, "high": high}
    own = statistics.median(times["ours"] for times in rounds)
    return {"rounds": len(rounds), "ours": own, "others": found}


def _milliseconds(turn: Turn) -> float:
    start = time.perf_counter()
    turn()
    return 1000 * (time.perf_counter() - start)


def saved() -> dict[str, Any]:
    """Return the run that the book shows.

    Returns
    -------
    dict
        ``machine``: what it ran on. ``comparisons``: one for each of :func:`cases`, with what
        :func:`compare` returns, the others as ``peers`` and ``operations``. ``passes``: single
        operations.

    Examples
    --------
    >>> sorted(saved())
    ['comparisons', 'machine', 'passes']
    """
    run: dict[str, Any] = json.loads(SAVED.read_text(encoding="utf-8"))
    return run


def ahead(comparisons: Iterable[Mapping[str, Any]]) -> list[tuple[str, Case, float]]:
    """Return where a peer is faster: who, in which case, and how many times as fast as ``sample``.

    Parameters
    ----------
    comparisons
        Those of a run, or some of them.

    Examples
    --------
    >>> case = {"chain": "top-k 50", "logits": "normal", "V": 1024, "B": 1}
    >>> ahead([{**case, "peers": {"A": {"ratio": 0.5}, "B": {"ratio": 3.0}}}])
    [('A', Case(chain='top-k 50', logits='normal', V=1024, B=1), 2.0)]
    """
    return [
        (name, Case(*(c[field] for field in Case._fields)), 1 / peer["ratio"])
        for c in comparisons
        for name, peer in c["peers"].items()
        if peer["ratio"] < 1
    ]


def _measure(case: Case, found: Mapping[str, Peer]) -> dict[str, Any]:
    """Compare with the peers that know the chain, and with single operations."""
    dials = CHAINS[case.chain]
    logits = logits_like(case.logits, case.V, case.B)
    probs = torch.empty_like(logits)
    turns = {name: peer(logits, TEMPERATURE, dials) for name, peer in found.items()}
    others = {name: turn for name, turn in turns.items() if turn is not None}
    operations: dict[str, Turn] = {
        "softmax": lambda: torch.softmax(logits, -1, out=probs),
        "topk 50": lambda: logits.topk(50),
    }
    compared = compare(
        lambda: sample(logits, temperature=TEMPERATURE, **dials), {**others, **operations}
    )
    every = compared.pop("others")
    return {
        **case._asdict(),
        **compared,
        "peers": {name: every[name] for name in others},
        "operations": {name: every[name] for name in operations},
    }


def _passes(rows: int = 16, vocabulary: int = LARGE) -> list[dict[str, Any]]:
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
        "topk 50": lambda: z.topk(50),
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


def _machine(found: Iterable[str]) -> dict[str, str]:
    """Describe the machine, without its name, and the versions of the peers."""
    versions = {"torch": version("torch")}
    for name in found:
        bundled = f"{llama_cpp.RELEASE} of {llama_cpp.PACKAGE}"
        versions[name] = bundled if name == "llama.cpp" else version(name.lower())
    return {
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "not set"),
        "system": platform.system(),
        "Python": platform.python_version(),
        **versions,
    }


def _table(comparisons: Iterable[Mapping[str, Any]], names: Iterable[str]) -> Table:
    """Make the table of a run: a row for each case, a column for each peer."""
    columns = {"chain": "", "logits": "", "V": ",", "B": "", "ours, ms": ".3f"}
    columns |= {"softmaxes": ".1f", "topks": ".1f"} | dict.fromkeys(names, ".1f")
    return table(
        columns,
        [
            [
                *(c[field] for field in Case._fields),
                c["ours"],
                *(1 / operation["ratio"] for operation in c["operations"].values()),
                *(_ratio(c["peers"].get(name)) for name in names),
            ]
            for c in comparisons
        ],
    )


def _ratio(peer: Mapping[str, float] | None) -> tuple[float, ...] | None:
    return None if peer is None else (peer["ratio"], peer["low"], peer["high"])


def main() -> None:
    """Measure, print, and save in the file that is named on the command line."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    target = Path(sys.argv[1])
    found, missing = peers(target.parent / "bench")
    for line in missing:
        print(line)
    machine = _machine(found)
    print(", ".join(f"{key} {value}" for key, value in machine.items()), flush=True)
    comparisons = []
    console = Console(stderr=True)
    bar = Progress(
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.description}"),
        console=console,
        disable=not console.is_terminal,
        transient=True,
        auto_refresh=False,  # a thread that redraws it would do so while something is timed
    )
    with bar:
        todo = cases()
        task = bar.add_task("", total=len(todo))
        for case in todo:
            bar.update(task, description=str(case), refresh=True)
            comparisons.append(_measure(case, found))
            bar.advance(task)
    passes = _passes()
    print(_table(comparisons, list(found)))
    print(
        f"T = {TEMPERATURE}; medians; ours in ms, in softmaxes and in topks of 50 of the same "
        "logits; for each peer its time by ours, with quartiles"
    )
    for single in passes:
        print(f"{single['name']:24} {single['ms']:8.3f} ms for {single['logits']:,} logits")
    leaders = ahead(comparisons)
    for name, case, times in leaders:
        print(f"{name} is ahead: {case}: {times:.1f} times as fast")
    if not leaders:
        print("no peer is ahead")
    run = {"machine": machine, "comparisons": comparisons, "passes": passes}
    save(run, target)


if __name__ == "__main__":
    main()
