"""The search in the figure against omnivault.decoding and against enumeration."""

from __future__ import annotations

import math
import random
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from omnivault.decoding import NextTokenLogits, beam_search, greedy_search
from omnivault.live.figure import LiveFigure
from omnivault.live.search_tree import search_tree
from omnivault.model.language_model import load_language_model
from tests.support.live import State, assert_near

pytestmark = pytest.mark.usefixtures("one_thread")

NINE_DIGITS = 4 * 4 * 0.5e-9 + 2.0**-40
"""Up to four log-probabilities, rounded to nine decimals, are added, and multiplied by up to 4."""

END = 0
NOTHING = torch.zeros(0, dtype=torch.int64)


def hashed(vocabulary: int, seed: int, spread: float = 1.5) -> NextTokenLogits:
    """The next token depends on all before it."""

    def row(prefix: list[int]) -> Tensor:
        key = seed
        for token in prefix:
            key = (key * 1_000_003 + token + 1) % 2**31
        generator = torch.Generator().manual_seed(key)
        return spread * torch.randn(vocabulary, generator=generator, dtype=torch.float64)

    return lambda ids: torch.stack([row(prefix) for prefix in ids.tolist()])


def names(vocabulary: int) -> list[str]:
    return [f" t{i}" for i in range(vocabulary)]


def few(vocabulary: int, allowed: int, seed: int) -> NextTokenLogits:
    """As `hashed`, but with all except some tokens ruled out: a tree is the whole model."""
    whole = hashed(vocabulary, seed)

    def logits(ids: Tensor) -> Tensor:
        z = whole(ids)
        return z.masked_fill(z < z.topk(allowed).values[:, -1:], -torch.inf)

    return logits


def cut_at_end(ids: list[int], end: int | None) -> list[int]:
    return ids[: ids.index(end) + 1] if end is not None and end in ids else ids


def agrees(
    values: dict[str, Any],
    model: NextTokenLogits,
    prompt: Tensor,
    tokens: list[str],
    depth: int,
    end: int | None,
    state: State,
) -> None:
    """Compare with beam_search, down to the number of beginnings that go through the model."""
    rows = 0

    def counted(ids: Tensor) -> Tensor:
        nonlocal rows
        rows += len(ids)
        return model(ids)

    beams = beam_search(
        counted,
        prompt,
        width=state["beams"],
        max_new_tokens=depth,
        end_token=end,
        length_penalty=state.get("exponent", 0.0),
    )
    assert values["expanded"] == rows
    found = values["hypotheses"]
    assert len(found) == len(beams.ids) <= state["beams"]
    for h, ids, log_prob, score in zip(
        found, beams.ids.tolist(), beams.log_probs.tolist(), beams.scores.tolist(), strict=True
    ):
        text = cut_at_end(ids[len(prompt) :], end)
        assert h["tokens"] == [tokens[i] for i in text]
        assert h["length"] == len(text)
        assert_near([h["log_prob"], h["score"]], [log_prob, score], within=NINE_DIGITS)


def all_states(figure: LiveFigure) -> list[State]:
    ranges = {c["name"]: c.get("values", [True, False]) for c in figure.controls}
    return [dict(zip(ranges, values, strict=True)) for values in product(*ranges.values())]


SHAPES = [(d, b, end) for d in (2, 3, 4) for b in (2, 3, 4) for end in (None, END)]


@pytest.mark.parametrize(("depth", "branch", "end"), SHAPES)
def test_beam_search_in_the_tree_is_that_of_the_library(
    depth: int, branch: int, end: int | None
) -> None:
    tokens = names(6)
    for seed in range(4):
        model = few(6, branch, seed)
        figure = search_tree(model, NOTHING, tokens, depth=depth, branch=branch, end_token=end)
        states = all_states(figure)
        states = random.Random(seed).sample(states, k=min(40, len(states)))
        for state, values in zip(states, figure.values(*states), strict=True):
            ends = end if state.get("ends", True) else None
            agrees(values, model, NOTHING, tokens, depth, ends, state)


@pytest.mark.parametrize("end", [None, END])
def test_with_enough_branches_it_is_the_search_in_the_whole_model(end: int | None) -> None:
    tokens = names(9)
    for seed in range(12):
        whole = hashed(9, seed)
        figure = search_tree(whole, NOTHING, tokens, depth=3, branch=4, end_token=end)
        states = [
            s for s in all_states(figure) if s.get("ends", True) and s["beams"] <= 4 - (end == END)
        ]
        states = random.Random(seed).sample(states, k=min(20, len(states)))
        for state, values in zip(states, figure.values(*states), strict=True):
            agrees(values, whole, NOTHING, tokens, 3, end, state)


def texts(figure: LiveFigure, ends: bool) -> list[tuple[int, float, int]]:
    """All complete texts of the tree: node, log-probability, length."""
    nodes, depth = figure.data["nodes"], figure.data["depth"]
    found = []
    for i in range(1, len(nodes)):
        path = [i]
        while nodes[path[0]][0] > 0:
            path.insert(0, nodes[path[0]][0])
        stops = [ends and bool(nodes[j][3]) for j in path]
        if not any(stops[:-1]) and (stops[-1] or len(path) == depth):
            found.append((i, sum(nodes[j][2] for j in path), len(path)))
    return found


@pytest.mark.parametrize("end", [None, END])
def test_best_is_that_of_enumeration_and_greedy_that_of_greedy_search(end: int | None) -> None:
    tokens = names(7)
    checked = missed = 0
    for seed in range(8 if end is not None else 50):
        whole = hashed(7, seed)
        figure = search_tree(whole, NOTHING, tokens, depth=3, branch=3, end_token=end)
        states = all_states(figure)
        states = random.Random(seed).sample(states, k=min(40, len(states)))
        for state, values in zip(states, figure.values(*states), strict=True):
            ends = state.get("ends", True) and end is not None
            alpha = state.get("exponent", 0)
            everything = texts(figure, ends)
            assert values["texts"] == len(everything)
            node, log_prob, length = max(everything, key=lambda t: t[1] / t[2] ** alpha)
            best = values["best"]
            assert (best["node"], best["length"]) == (node, length)
            assert_near([best["log_prob"], best["score"]], [log_prob, log_prob / length**alpha])

            token = END if ends else None
            ids = greedy_search(whole, NOTHING, max_new_tokens=3, end_token=token).tolist()
            assert values["greedy"]["tokens"] == [tokens[i] for i in cut_at_end(ids, token)]
            assert (values["lost"] == 0) == (best["node"] == values["hypotheses"][0]["node"])
            if values["lost"]:
                missed += 1
                ancestor, step = node, length
                while step > values["lost"]:
                    ancestor, step = figure.data["nodes"][ancestor][0], step - 1
                i = values["lost"] - 1
                assert ancestor not in values["kept"][i] + values["ended"][i]
                if i:
                    assert figure.data["nodes"][ancestor][0] in values["kept"][i - 1]
            assert values["expanded"] == 1 + sum(map(len, values["kept"]))
            assert all(len(kept) <= state["beams"] for kept in values["kept"])
            checked += 1
    assert checked >= 200
    assert missed >= 5


def test_one_beam_without_exponent_is_greedy_search() -> None:
    for seed in range(10):
        figure = search_tree(hashed(7, seed), NOTHING, names(7), end_token=END)
        for values in figure.values(*({"beams": 1, "ends": e} for e in (True, False))):
            assert values["hypotheses"] == [values["greedy"]]


def test_the_exponent_favors_length_and_needs_texts_that_end() -> None:
    for seed in range(10):
        figure = search_tree(hashed(7, seed), NOTHING, names(7), end_token=END)
        alphas = next(c["values"] for c in figure.controls if c["name"] == "exponent")
        lengths = [v["best"]["length"] for v in figure.values(*({"exponent": a} for a in alphas))]
        assert lengths == sorted(lengths)
        full = figure.values(*({"exponent": a, "ends": False} for a in alphas))
        assert len({v["best"]["node"] for v in full}) == 1
    figure = search_tree(hashed(7, 0), NOTHING, names(7))
    assert [c["name"] for c in figure.controls] == ["beams"]


def test_the_trap_of_the_chapter() -> None:
    """A wider beam finds a worse text: the model of the proof, its ten tokens cut to four."""

    def trap(ids: Tensor) -> Tensor:
        rows = torch.full((len(ids), 10), -torch.inf).double()
        for row, text in zip(rows, ids.tolist(), strict=True):
            if not text:
                row[:2] = torch.tensor([0.51, 0.49], dtype=torch.float64).log()
            elif len(text) == 1 and text[0] == 0:
                row[:4] = torch.tensor([0.34, 0.22, 0.22, 0.22], dtype=torch.float64).log()
            elif len(text) == 1:
                row[:2] = math.log(0.5)
            else:
                row[: 1 if text[0] == 0 else 10] = 0.0
        return rows

    figure = search_tree(trap, NOTHING, list("ABcdefghij"))
    one, two, three = figure.values(*({"beams": b} for b in (1, 2, 3)))
    found = [math.exp(v["hypotheses"][0]["log_prob"]) for v in (one, two, three)]
    assert_near(found, [0.1734, 0.0245, 0.1734], within=NINE_DIGITS)
    assert (one["lost"], two["lost"], three["lost"]) == (0, 2, 0)
    assert one["texts"] == 4 + 2 * 4


def test_a_certain_text_scores_zero() -> None:
    sure = torch.full((3, 3), -torch.inf).fill_diagonal_(0.0)
    figure = search_tree(lambda ids: sure[ids[:, -1]], torch.tensor([1]), list("abc"), end_token=1)
    for values in figure.values(*all_states(figure)):
        assert [h["log_prob"] for h in values["hypotheses"]] == [0]
        assert values["lost"] == 0


def test_a_real_tree() -> None:
    """Greedy, two beams and the best differ; the search is that in the whole model."""
    model = load_language_model()
    prompt, end = model.encode("We went to the"), int(model.encode(".").item())
    seen: set[int] = set()

    def watched(ids: Tensor) -> Tensor:
        logits = model.logits(ids)[:, -1]
        seen.update(logits.topk(4).indices.flatten().tolist())
        return logits

    search_tree(watched, prompt, ["?"] * 49_152)
    tokens = ["?"] * 49_152
    for token in seen | {end, *prompt.tolist()}:
        tokens[token] = model.decode([token])
    figure = search_tree(model.cached(), prompt, tokens, end_token=end)
    assert figure.data["prompt"] == "We went to the"
    assert figure.data["end"] == "."
    states = [{"beams": b, "exponent": a} for b in (1, 2, 3) for a in (-1, 0, 0.5, 2)]
    results = figure.values(*states)
    for state, values in zip(states, results, strict=True):
        beams = beam_search(
            model.cached(),
            prompt,
            width=int(state["beams"]),
            max_new_tokens=3,
            end_token=end,
            length_penalty=state["exponent"],
        )
        found = [h["score"] for h in values["hypotheses"]]
        assert found == pytest.approx(beams.scores.tolist(), abs=1e-3)  # float32 in other batches
        ids = cut_at_end(beams.ids[0, len(prompt) :].tolist(), end)
        assert values["hypotheses"][0]["tokens"] == [tokens[i] for i in ids]
    two = results[states.index({"beams": 2, "exponent": 0})]
    assert "".join(two["greedy"]["tokens"]) == " gym to work"
    assert "".join(two["hypotheses"][0]["tokens"]) == " gym once,"
    assert "".join(two["best"]["tokens"]) == " movies."
    assert two["lost"] == 2
    assert "dropped at step 2" in LiveFigure("search_tree", "", figure.data, {"beams": 2}).says


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"depth": 5}, ValueError, "depth must be 2, 3 or 4, got 5"),
        ({"branch": 1}, ValueError, "branch must be 2, 3 or 4, got 1"),
        ({"branch": True}, TypeError, "branch must be an int such as 3, got True"),
        ({"end_token": 7}, ValueError, "one of the 7 tokens, 0 to 6, or None, got 7"),
        ({"prompt": [1]}, TypeError, r"prompt must be an int64 tensor .* got \[1\]"),
        ({"prompt": torch.ones(1, 2).long()}, TypeError, r"shape \(N,\), got .*\(1, 2\)"),
        ({"tokens": ["a"]}, ValueError, r"shape \(1, 1\), one for each .* got \(1, 7\)"),
        (
            {"next_token_logits": lambda ids: torch.full((len(ids), 7), torch.nan)},
            ValueError,
            "no softmax",
        ),
    ],
)
def test_errors(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    usual = {"next_token_logits": hashed(7, 0), "prompt": NOTHING, "tokens": names(7)}
    with pytest.raises(error, match=message):
        search_tree(**{**usual, **arguments})
