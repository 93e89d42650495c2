"""The benchmark: what it compares, how, and the run that is kept. No time is measured against."""

from __future__ import annotations

import json
import platform
import re
import statistics
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.generation import logits_process as hf

from omnivault.experiments import benchmark
from omnivault.experiments.benchmark import compare, logits_like, saved, usual_pipeline
from omnivault.model.language_model import load_language_model
from omnivault.model.news import articles
from website import ROOT

pytestmark = pytest.mark.usefixtures("one_thread")


# What is compared ---------------------------------------------------------------------------------


@pytest.mark.parametrize("top_p", [None, 0.3, 0.9])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
def test_the_usual_pipeline_is_that_of_transformers(
    temperature: float, top_p: float | None
) -> None:
    z = 3 * torch.randn(50, 200, generator=torch.Generator().manual_seed(1))
    before = z.clone()
    scaled: Any = hf.TemperatureLogitsWarper(temperature)(None, z)
    if top_p is not None:
        scaled = hf.TopPLogitsWarper(top_p)(None, scaled)
    torch.manual_seed(2)
    expected = torch.multinomial(scaled.softmax(-1), 1).squeeze(-1)
    torch.manual_seed(2)
    drawn = usual_pipeline(z, temperature=temperature, top_p=top_p)
    assert torch.equal(drawn, expected)
    assert drawn.shape == (50,)
    assert torch.equal(z, before)


@pytest.mark.parametrize(("kind", "scale"), [("flat", 1.0), ("peaked", 5.0)])
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
    message = "kind must be 'flat', 'peaked' or 'real', got 'round'"
    with pytest.raises(ValueError, match=f"^{message}$"):
        logits_like("round", 10, 1)
    assert logits_like("flat", 10, 1).shape == (1, 10)


# How ----------------------------------------------------------------------------------------------


class Clock:
    """In place of the clock: gives chosen times, and notes what would have been measured."""

    def __init__(self, times: list[float]) -> None:
        self.times = list(times)
        self.drawn: list[Tensor] = []

    def __call__(self, function: Any) -> float:
        self.drawn.append(function())
        return self.times.pop(0)


@pytest.mark.parametrize("top_p", [None, 0.9])
def test_both_are_measured_in_turns_and_each_pair_gives_a_ratio(
    top_p: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual_times, our_times = [6.0, 8.0, 10.0, 90.0, 3.0], [2.0, 1.0, 5.0, 9.0, 3.0]
    clock = Clock([t for pair in zip(usual_times, our_times, strict=True) for t in pair])
    calls: list[tuple[str, float, float | None]] = []

    def spy(name: str) -> Any:
        def function(z: Tensor, *, temperature: float, top_p: float | None) -> str:
            assert z is logits
            calls.append((name, temperature, top_p))
            return name

        return function

    logits = torch.zeros(2, 5)
    monkeypatch.setattr(benchmark, "_milliseconds", clock)
    monkeypatch.setattr(benchmark, "usual_pipeline", spy("usual"))
    monkeypatch.setattr(benchmark, "sample", spy("ours"))
    found = compare(logits, top_p=top_p, pairs=5)
    # Ratios 3, 8, 2, 10, 1.
    assert found == {
        "usual": 8.0,
        "ours": 3.0,
        "ratio": 3.0,
        "low": 2.0,
        "high": 8.0,
    }
    assert clock.drawn == ["usual", "ours"] * 5
    # Before that, a few of each that do not count; always the same settings.
    assert calls == [("usual", 0.7, top_p), ("ours", 0.7, top_p)] * 8


def test_a_comparison_measures_something() -> None:
    found = compare(torch.randn(1, 300), top_p=0.9, pairs=5)
    assert found["usual"] > 0
    assert found["ours"] > 0
    assert found["low"] <= found["ratio"] <= found["high"]


@pytest.mark.parametrize("pairs", [1, 0, -1])
def test_fewer_than_two_pairs_are_rejected(pairs: int) -> None:
    message = f"quartiles need at least 2 pairs, got {pairs}"
    with pytest.raises(ValueError, match=f"^{message}$"):
        compare(torch.zeros(1, 5), top_p=None, pairs=pairs)
    compare(torch.zeros(1, 5), top_p=None, pairs=2)


def test_single_operations_are_measured() -> None:
    passes = benchmark._passes(2, 100)
    assert all(single["ms"] > 0 and single["logits"] == 200 for single in passes)
    names = [single["name"] for single in passes]
    assert len(set(names)) == len(names)
    assert {"copy", "softmax", "multinomial", "sort"} <= set(names)


def test_the_machine_has_no_name() -> None:
    machine = benchmark._machine()
    assert machine["torch"] == torch.__version__ == version("torch")
    assert machine["threads"] == "1"
    assert not any(platform.node() and platform.node() in value for value in machine.values())


# The run that is kept -----------------------------------------------------------------------------

CASES = [(*case, top_p) for case in benchmark._cases() for top_p in (None, 0.9)]


def test_the_kept_run_has_every_case_once() -> None:
    kept = [(c["table"], c["logits"], c["V"], c["B"], c["top_p"]) for c in saved()["comparisons"]]
    assert kept == CASES
    assert len(set(CASES)) == len(CASES)
    assert {case[0] for case in CASES} == {"main", "vocabulary", "batch"}
    assert {case[2] for case in CASES if case[0] == "main"} == {49_152, 151_936}


@pytest.mark.parametrize("number", [n for n, case in enumerate(CASES) if case[0] == "main"])
def test_in_the_kept_run_no_case_is_slower_and_most_are_much_faster(number: int) -> None:
    case = saved()["comparisons"][number]
    assert case["table"] == "main"
    assert case["ratio"] >= (10 if case["top_p"] is not None and case["B"] == 1 else 5)
    assert case["low"] > 1


@pytest.mark.parametrize("number", range(len(CASES)))
def test_the_numbers_of_the_kept_run_fit_together(number: int) -> None:
    case = saved()["comparisons"][number]
    assert 0 < case["low"] <= case["ratio"] <= case["high"]
    assert case["usual"] > 0
    assert case["ours"] > 0
    # The median of ratios is near to the ratio of medians, or the machine was busy.
    assert case["usual"] / case["ours"] == pytest.approx(case["ratio"], rel=0.3)
    assert case["pairs"] == max(15, min(101, 2_000_000 // (case["V"] * case["B"])))


def test_the_kept_run_is_of_the_versions_that_are_pinned() -> None:
    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    machine = saved()["machine"]
    for name in ("torch", "transformers"):
        (pinned,) = re.findall(rf"^{name}==([^\s;]+)", requirements, re.MULTILINE)
        assert machine[name].split("+")[0] == pinned.split("+")[0]
    assert set(machine) == set(benchmark._machine())


def test_the_kept_run_has_the_passes_of_one_size() -> None:
    passes = saved()["passes"]
    assert [single["name"] for single in passes] == [
        single["name"] for single in benchmark._passes(1, 10)
    ]
    assert all(single["ms"] > 0 for single in passes)
    assert {single["logits"] for single in passes} == {16 * 151_936}


# A run --------------------------------------------------------------------------------------------


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a run of two small cases is to be saved."""
    path = tmp_path / "build" / "benchmark.json"
    monkeypatch.setattr("sys.argv", ["benchmark", str(path)])
    monkeypatch.setattr(
        benchmark, "_cases", lambda: [("main", "flat", 50, 1), ("batch", "peaked", 40, 3)]
    )
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
    assert run["machine"] == benchmark._machine()
    assert run["passes"] == [{"name": "copy", "ms": 0.25, "logits": 9}]
    cases = [(c["table"], c["logits"], c["V"], c["B"], c["top_p"]) for c in run["comparisons"]]
    assert cases == [
        ("main", "flat", 50, 1, None),
        ("main", "flat", 50, 1, 0.9),
        ("batch", "peaked", 40, 3, None),
        ("batch", "peaked", 40, 3, 0.9),
    ]
    assert all(sorted(case) == sorted(saved()["comparisons"][0]) for case in run["comparisons"])
    assert {case["pairs"] for case in run["comparisons"]} == {101}

    out = capsys.readouterr().out
    for value in run["machine"].values():
        assert value in out
    lines = [line for line in out.splitlines() if line.startswith(("main ", "batch "))]
    for line, case in zip(lines, run["comparisons"], strict=True):
        ratio = f"{case['ratio']:.1f} ({case['low']:.1f} to {case['high']:.1f})"
        assert line.endswith(ratio)
        share = "-" if case["top_p"] is None else str(case["top_p"])
        assert line.split()[1:5] == [case["logits"], str(case["V"]), str(case["B"]), share]
    assert re.search(r"^copy +0\.250 ms for 9 logits$", out, re.MULTILINE)
    assert out.endswith(f"saved in {target}\n")

    # Another run takes its place at once.
    benchmark.main()
    assert states[1][0] == first


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
    usual, ours = [float(n % 7 + 3) for n in range(404)], [float(n % 5 + 1) for n in range(404)]
    clock = Clock([t for pair in zip(usual, ours, strict=True) for t in pair])
    monkeypatch.setattr(benchmark, "_milliseconds", clock)
    benchmark.main()
    run = json.loads(target.read_text(encoding="utf-8"))
    for number, case in enumerate(run["comparisons"]):
        part = slice(101 * number, 101 * (number + 1))
        ratios = [u / o for u, o in zip(usual[part], ours[part], strict=True)]
        assert case["ratio"] == statistics.median(ratios)
    assert clock.times == []
