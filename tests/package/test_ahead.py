"""Texts written ahead beside plain ones: what is compared, and the run that is kept."""

from __future__ import annotations

import json
import platform
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from omnivault.experiments import ahead
from omnivault.experiments.ahead import compare, prompts, saved, without_layers
from omnivault.model.language_model import load_language_model
from website import ROOT

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS = ("copy", "records", "news")


def test_a_passage_is_there_to_be_repeated_and_news_are_not() -> None:
    assert tuple(prompts()) == KINDS
    for texts in prompts().values():
        assert len(set(texts)) == 3
    for text in prompts()["copy"]:
        passage, _, again = text.split("\n\n")
        assert 50 < len(passage.split()) <= 90  # an article may be shorter
        assert passage.startswith(again)
    for text in prompts()["records"]:
        for person in (
            ("Alice", "31", "Paris"),
            ("Bruno", "27", "Rome"),
            ("Clara", "45", "Berlin"),
        ):
            assert all(text.count(word) == 1 for word in person)
    assert all(50 < len(text.split()) <= 60 for text in prompts()["news"])


def test_the_draft_has_six_layers_fewer_and_no_weight_of_its_own() -> None:
    model = load_language_model()
    draft = without_layers(model)
    whole, fewer = (m.network.model.layers for m in (model, draft))
    assert len(whole) == 30
    kept = [*range(12), *range(18, 30)]
    for n, layer in zip(kept, fewer, strict=True):
        for one, other in zip(whole[n].parameters(), layer.parameters(), strict=True):
            assert one is other
    ids = model.encode("One, two, three")
    assert not torch.equal(model.logits(ids), draft.logits(ids))


def test_a_text_is_written_three_ways() -> None:
    ids = load_language_model().encode("one two three four one two three four one two three")
    found = compare(ids, 0.0, seed=1, length=12)
    assert all(found[how]["seconds"] > 0 for how in ("plain", "lookup", "layers"))
    for how, lookahead in (("lookup", 10), ("layers", 4)):
        text = found[how]
        assert 0 <= text["accepted"] <= text["proposed"] <= lookahead * text["rounds"]
        assert text["accepted"] + text["rounds"] in (12, 13)
    assert found["lookup"]["rounds"] < 12


# The run that is kept -----------------------------------------------------------------------------


def test_the_kept_run_has_every_text_once() -> None:
    run = saved()
    assert run["length"] == ahead.LENGTH
    texts = [(text["T"], text["kind"], text["prompt"]) for text in run["texts"]]
    assert texts == list(product(ahead.TEMPERATURES, KINDS, range(3)))
    assert ahead.TEMPERATURES == (0.0, 0.7, 1.0)


def test_the_numbers_of_the_kept_run_fit_together() -> None:
    run = saved()
    for text in run["texts"]:
        assert sorted(text) == ["T", "kind", "layers", "lookup", "plain", "prompt"]
        for how, lookahead in ahead.LOOKAHEAD.items():
            one = text[how]
            assert 0 <= one["accepted"] <= one["proposed"] <= lookahead * one["rounds"]
            # Each round writes what it accepts and one token, but for the last.
            assert one["accepted"] + one["rounds"] - run["length"] in (0, 1)
        assert all(text[how]["seconds"] > 0 for how in ("plain", "lookup", "layers"))


def test_reading_is_timed_for_each_number_of_tokens() -> None:
    run = saved()["reading"]
    assert list(run) == ["1", "2", "5", "11"]
    assert all(0 < run["1"] < run[number] for number in ("2", "5", "11"))
    assert all(ms > 0 for ms in ahead.reading((1, 3), times=1).values())


def test_in_the_kept_run_a_passage_is_repeated_much_faster() -> None:
    texts = [t for t in saved()["texts"] if (t["kind"], t["T"]) == ("copy", 0.0)]
    assert len(texts) == 3
    assert all(t["plain"]["seconds"] >= 1.3 * t["lookup"]["seconds"] for t in texts)


def test_the_kept_run_is_of_the_versions_that_are_pinned() -> None:
    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    machine = saved()["machine"]
    for name in ("torch", "transformers"):
        (pinned,) = re.findall(rf"^{name}==([^\s;]+)", requirements, re.MULTILINE)
        assert machine[name].split("+")[0] == pinned.split("+")[0]
    assert set(machine) == set(ahead._machine())
    assert not any(platform.node() and platform.node() in value for value in machine.values())


def test_a_run_is_printed_and_saved_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "build" / "ahead.json"
    seen: list[tuple[int, float, int]] = []

    def spy(ids: Any, temperature: float, seed: int, length: int = 96) -> dict[str, Any]:
        seen.append((len(ids), temperature, seed))
        text = {"seconds": 2.0, "rounds": 90, "proposed": 7, "accepted": 6}
        return {"plain": {"seconds": 4.0}, "lookup": text, "layers": {**text, "seconds": 8.0}}

    monkeypatch.setattr("sys.argv", ["ahead", str(target)])
    monkeypatch.setattr(ahead, "compare", spy)
    monkeypatch.setattr(ahead, "reading", lambda: {"1": 40.0})
    ahead.main()
    run = json.loads(target.read_text(encoding="utf-8"))
    assert [path.name for path in target.parent.iterdir()] == ["ahead.json"]
    assert sorted(run) == sorted(saved())
    assert [(t["T"], t["kind"], t["prompt"]) for t in run["texts"]] == [
        (t["T"], t["kind"], t["prompt"]) for t in saved()["texts"]
    ]
    model = load_language_model()
    assert [(n, T) for n, T, _ in seen[1:]] == [
        (len(model.encode(text)), T)
        for T in ahead.TEMPERATURES
        for texts in prompts().values()
        for text in texts
    ]
    out = capsys.readouterr().out
    assert out.count("   24.0   48.0   12.0\n") == 9
    assert out.endswith(f"saved in {target}\n")
