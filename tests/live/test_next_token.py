from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from omnivault import information, sampling
from omnivault.live.figure import LiveFigure
from omnivault.live.next_token import next_token
from omnivault.live.rows import SINGLE
from omnivault.model.language_model import load_language_model
from omnivault.softmax import softmax
from tests.support.live import State, assert_near, sentences, shown, some_states, uniforms

pytestmark = pytest.mark.usefixtures("one_thread")

DRAWS = (0, 1, 2, 101, 1000, 4321)
EDGES: list[State] = [
    {},
    *({"temperature": t, "draws": 1000} for t in (0.1, 10)),
    *({"temperature": t, "top_k": 1, "draws": 3} for t in (0.1, 10)),
    *({"temperature": t, "top_p": 0.1} for t in (0.1, 10)),
    *({"temperature": t, "top_k": 1000, "top_p": 0.99, "min_p": 0.01} for t in (0.1, 1, 10)),
    *({"temperature": t, "top_k": 5, "top_p": 0.5, "min_p": 0.5} for t in (0.1, 1, 10)),
    {"temperature": 10, "top_k": 100, "top_p": 0.5, "min_p": 0.1, "draws": 4321},
]


def logits() -> dict[str, Tensor]:
    """Prompts of 3,000 tokens: like a model's, flat, with ties, and far apart."""
    generator = torch.Generator().manual_seed(0)
    z = 3 * torch.randn(3000, generator=generator, dtype=torch.float64)
    steps = z.mul(2).round().div(2)  # many equal ones, at the top too
    steps[:7] = 12.0
    flat = torch.zeros(3000, dtype=torch.float64)
    return {"usual": z, "flat": flat, "ties": steps, "far apart": 40 * z}


@pytest.fixture(scope="module")
def figure() -> LiveFigure:
    return next_token(logits(), [f"t{i}" for i in range(3000)])


def whole(figure: LiveFigure, prompt: str) -> Tensor:
    """All logits in falling order, as the groups of the figure stand for them."""
    data = next(p for p in figure.data["prompts"] if p["text"] == prompt)
    values, sizes = zip(*data["tail"], strict=True)
    single = torch.tensor(data["logits"], dtype=torch.float64)
    tail = torch.tensor(values, dtype=torch.float64).repeat_interleave(torch.tensor(sizes))
    assert len(single) == SINGLE
    assert len(tail) + SINGLE == figure.data["vocabulary"]
    z = torch.cat([single, tail])
    assert bool((z.diff() <= 1e-4).all())  # means are rounded to four digits
    return z


def kept(z: Tensor, state: State, shown: int) -> Tensor:
    """Return the probabilities after the truncations of `sampling.sample`, in falling order.

    Of equal logits the figure keeps as many as top-k says, the first ones, where omnivault keeps
    all: those of a bin only stand for different ones. Hence the nudge, for top-k alone. Whether a
    token at the border of top-p or min-p stays may be a matter of rounding, and then the figure is
    right: if the weight before it is within 1e-9 of the share, its own within 1e-9 of the least.
    """
    if state["top_k"]:
        nudged = z - 1e-9 * torch.arange(len(z))
        z = z.where(sampling.top_k(nudged, min(state["top_k"], len(z))).isfinite(), -torch.inf)
    z = (z - z[0]) / state["temperature"]
    weights = z.exp()
    if state["top_p"] < 1:
        z = sampling.top_p(z, state["top_p"])
    if state["min_p"]:
        z = sampling.min_p(z, state["min_p"])
    n = int(z.isfinite().sum())
    if n != shown:
        assert abs(n - shown) == 1, (state, n, shown)
        border = max(n, shown) - 1
        before, share = weights[:border].sum(), state["top_p"] * weights.sum()
        at_share = state["top_p"] < 1 and abs(before - share) <= 1e-9 * share
        at_least = abs(weights[border] - state["min_p"]) <= 1e-9 * state["min_p"]
        assert at_share or at_least, (state, n, shown)
    weights[shown:] = 0
    return weights / weights.sum()


def check(figure: LiveFigure, states: list[State]) -> None:
    vectors = {p["text"]: whole(figure, p["text"]) for p in figure.data["prompts"]}
    u = uniforms(max(DRAWS))
    for state, values in shown(figure, states):
        z = vectors[state["prompt"]]
        full = softmax(z, temperature=state["temperature"])
        assert_near(values["full"], full[:10])
        assert_near(values["rest_full"], full[10:].sum())
        p = kept(z, state, values["kept"])
        assert values["kept"] >= 1
        assert_near(values["probs"], p[:10])
        assert_near(values["rest"], p[10:].sum())
        assert_near(values["mass"], full[: values["kept"]].sum())
        assert_near(values["entropy"], information.entropy(p))
        # Draws by inverse CDF, so that those of the groups are those of the tokens.
        ends = p.cumsum(0)[:10].numpy()
        n = state["draws"]
        classes = np.searchsorted(ends / float(p.sum()), u[:n], side="right")
        counts = [*values["counts"], values["rest_count"]]
        assert sum(counts) == n
        assert counts == np.bincount(np.minimum(classes, 10), minlength=11).tolist(), state


def test_values_are_those_of_omnivault(figure: LiveFigure) -> None:
    states = [s | {"prompt": p["text"]} for s in EDGES for p in figure.data["prompts"]]
    check(figure, states + some_states(figure, 260, draws=DRAWS))


def test_the_smallest_vocabulary() -> None:
    figure = next_token({"": logits()["usual"][:101]}, [str(i) for i in range(101)])
    check(figure, EDGES + some_states(figure, 40, draws=DRAWS))


@pytest.mark.parametrize("name", sampling.TRUNCATIONS)
def test_every_truncation_can_have_a_slider(name: str) -> None:
    rule = sampling.TRUNCATIONS[name]
    figure = next_token({"": logits()["usual"]}, [str(i) for i in range(3000)], dials=[name])
    z = whole(figure, "")
    values = [value for value in rule.values if value != rule.off]
    states: list[State] = [{"temperature": t, name: v} for t in (0.3, 1, 4) for v in values]
    for state, seen in shown(figure, states):
        t = state["temperature"]
        # Of the equal logits of a bin the figure keeps as many as top-k says: see `kept`.
        ranked = z - 1e-9 * torch.arange(len(z)) if name == "top_k" else z
        cut = rule.function(ranked if rule.commutes else ranked / t, state[name]).isfinite()
        assert seen["kept"] == int(cut.sum()), state
        p = softmax(z.where(cut, -torch.inf), temperature=t)
        assert_near(seen["probs"], p[:10])
        assert_near(seen["entropy"], information.entropy(p))
        assert_near(seen["mass"], softmax(z, temperature=t)[cut].sum())


def test_a_slider_that_is_no_truncation_is_shown_with_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"^there is no truncation 'top_q'; there are top_k, "):
        next_token({"": logits()["usual"]}, [str(i) for i in range(3000)], dials=["top_q"])


def test_of_distinct_logits_it_keeps_what_sample_can_draw(figure: LiveFigure) -> None:
    """The count alone, without the nudge, where no truncation reaches the bins."""
    z = whole(figure, "usual")
    states: list[State] = [
        {"top_k": k, "top_p": p, "min_p": m}
        for k in (1, 2, 3, 5, 10, 20, 40, 100)
        for p in (0.1, 0.5, 0.9, 1)
        for m in (0, 0.05, 0.5)
    ]
    for state, values in shown(figure, states):
        cut = sampling.top_k(z, state["top_k"])
        cut = sampling.top_p(cut, state["top_p"])
        if state["min_p"]:
            cut = sampling.min_p(cut, state["min_p"])
        assert values["kept"] == int(cut.isfinite().sum()), state


@pytest.mark.parametrize("temperature", [0.1, 1, 10])
def test_a_share_reached_exactly_takes_no_further_token(
    figure: LiveFigure, temperature: float
) -> None:
    """Where weights are 1, no rounding excuses one token more, or one less."""
    states = [(10, p, 10 * p) for p in (0.1, 0.3, 0.5, 0.7, 0.8, 0.9)]
    states += [(10, 0.95, 10), (0, 0.5, 1500), (0, 0.1, 300), (1000, 0.3, 300), (3, 0.5, 2)]
    all_values = figure.values(
        *(
            {"prompt": "flat", "temperature": temperature, "top_k": k, "top_p": p, "min_p": 0.5}
            for k, p, _ in states
        )
    )
    assert [v["kept"] for v in all_values] == [n for _, _, n in states]


def test_weights_that_underflow_are_left_out() -> None:
    """Behind a share reached exactly, in 0 / 0 tokens of no weight."""
    z = torch.full((200,), -100.0)
    z[:10] = 0.0
    figure = next_token({"": z}, ["?"] * 200)
    for n, values in ((5, {"top_p": 0.5}), (9, {"top_p": 0.9}), (1, {"top_k": 1}), (200, {})):
        (shown_values,) = figure.values(values | {"temperature": 0.1})
        assert shown_values["kept"] == n
        assert_near(shown_values["probs"], [1 / min(n, 10) * (i < n) for i in range(10)])
        assert_near(shown_values["entropy"], math.log(min(n, 10)))


def test_draws_follow_the_probabilities(figure: LiveFigure) -> None:
    """Chi-square of 4,321 draws in eight states; false alarms at a rate of at most 8e-4.

    The states share their uniform numbers. The seed is fixed, so the result does not change.
    """
    states: list[State] = [
        {"prompt": prompt, "temperature": t, "top_p": p, "draws": 4321}
        for prompt, t in (("usual", 1), ("usual", 10), ("ties", 1), ("ties", 0.501))
        for p in (0.9, 1)
    ]
    for _, values in shown(figure, states):
        observed = np.array([*values["counts"], values["rest_count"]])
        expected = 4321 * np.array([*values["probs"], values["rest"]])
        assert observed[expected == 0].sum() == 0
        few = expected < 5
        observed = np.append(observed[~few], observed[few].sum())
        expected = np.append(expected[~few], expected[few].sum())
        if expected[-1] < 5:  # put to the largest
            observed[0] += observed[-1]
            expected[0] += expected[-1]
            observed, expected = observed[:-1], expected[:-1]
        assert len(expected) >= 2
        statistic = ((observed - expected) ** 2 / expected).sum()
        assert statistic < chi2.isf(1e-4, len(expected) - 1)


def test_more_draws_keep_the_earlier_ones(figure: LiveFigure) -> None:
    before, after = figure.values({"draws": 1000}, {"draws": 1001})
    more = [j - i for i, j in zip(before["counts"], after["counts"], strict=True)]
    assert sorted([*more, after["rest_count"] - before["rest_count"]]) == [0] * 10 + [1]


def test_tokens_stand_in_falling_order_of_logits(figure: LiveFigure) -> None:
    for prompt in figure.data["prompts"]:
        order = logits()[prompt["text"]].argsort(descending=True, stable=True)
        assert prompt["tokens"] == [f"t{i}" for i in order[:SINGLE].tolist()]
        six_digits = 0.5e-6 + 2.0**-40
        assert_near(prompt["logits"], logits()[prompt["text"]][order[:SINGLE]], within=six_digits)


PROMPTS = ("The capital of France is", "Once upon a time, there was a")


@pytest.fixture(scope="module")
def real() -> tuple[LiveFigure, dict[str, Tensor]]:
    model = load_language_model()
    z = {prompt: model.next_token_logits(prompt) for prompt in PROMPTS}
    tokens = ["?"] * 49_152
    for row in z.values():
        for i in row.topk(SINGLE).indices.tolist():
            tokens[i] = model.decode([i])
    return next_token(z, tokens), z


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_bins_stand_for_the_whole_vocabulary(
    prompt: str, real: tuple[LiveFigure, dict[str, Tensor]]
) -> None:
    figure, all_logits = real
    z = all_logits[prompt].double()
    temperatures = next(c["values"] for c in figure.controls if c["name"] == "temperature")
    assert (temperatures[0], len(temperatures), temperatures[-1]) == (0.1, 81, 10)
    states: list[State] = [{"prompt": prompt, "temperature": t} for t in temperatures]
    for state, values in shown(figure, states):
        p = softmax(z, temperature=state["temperature"])
        top = p.topk(10).values
        assert values["kept"] == len(z) == 49_152
        for name in ("probs", "full"):
            assert values[name] == pytest.approx(top.tolist(), rel=5e-4, abs=0), state
        for name in ("rest", "rest_full"):  # small where T is: its rounding is that of 1
            assert values[name] == pytest.approx(1 - top.sum().item(), rel=5e-4, abs=1e-12), state
        assert values["entropy"] == pytest.approx(information.entropy(p).item(), abs=1e-3, rel=0), (
            state
        )


def test_the_real_figure_is_small_and_says_what_it_shows(
    real: tuple[LiveFigure, dict[str, Tensor]],
) -> None:
    figure, all_logits = real
    p = softmax(all_logits[PROMPTS[0]].double())
    assert f"most probable token is “ Paris”, with {p.max().item():.3g}." in figure.says
    assert "All 49,152 tokens can be drawn." in figure.says
    assert len(json.dumps(figure.data)) < 20_000


def test_sentence(figure: LiveFigure) -> None:
    states: list[State] = [
        {"prompt": "flat"},
        {"prompt": "ties", "top_k": 2, "draws": 1},
        {"prompt": "ties", "top_k": 1, "draws": 100},
    ]
    flat, two, one = sentences(figure, states)
    assert flat == (
        "At T = 1 the most probable token is “t0”, with 3.33e−4. All 3,000 tokens can be drawn. "
        "The entropy is 8.01 nats, the effective number of tokens 3,000."
    )
    assert "“t0”, with 0.5. 2 of 3,000 tokens can be drawn; they held" in two
    assert "The entropy is 0.693 nats, the effective number of tokens 2. Of 1 draw, " in two
    assert one.endswith(
        "The entropy is 0 nats, the effective number of tokens 1. Of 100 draws, 100 took “t0”."
    )


def test_errors() -> None:
    names = [str(i) for i in range(101)]
    z = torch.linspace(1, -1, 101)
    next_token({"a": z, "b": z.double(), "c": z.half()}, names)
    with pytest.raises(ValueError, match="at least one prompt is needed, got none"):
        next_token({}, names)
    for wrong, tokens, got in (
        (z[:100], names, r"shape \(101,\) of the tokens.*more than 100; those after 'b'.*\(100,\)"),
        (z[None], names, r"shape \(101,\).*those after 'b' have \(1, 101\)"),
        (z, [*names, "more"], r"shape \(102,\).*those after 'a' have \(101,\)"),
    ):
        with pytest.raises(ValueError, match=got):
            next_token({"a": z, "b": wrong}, tokens)
    with pytest.raises(ValueError, match=r"must be more than 100; those after 'a' have \(100,\)"):
        next_token({"a": z[:100]}, names[:100])
    for bad in (math.nan, math.inf, -math.inf):
        spoilt: Any = z.index_fill(0, torch.tensor([50]), bad)
        with pytest.raises(ValueError, match="logits must be finite; those after 'b' are not"):
            next_token({"a": z, "b": spoilt}, names)
