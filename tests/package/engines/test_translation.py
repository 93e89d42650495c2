"""Translations: the same law at every row, or a reason why not and the nearest one."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from omnivault.engines import (
    DIALECTS,
    NoTranslationError,
    dialect,
    kept,
    probs,
    translate,
)


def rows() -> list[Tensor]:
    """Normal ones without ties, of another spread each."""
    g = torch.Generator().manual_seed(5)
    return [spread * torch.randn(24, generator=g) for spread in (0.3, 1.0, 2.0, 4.0)]


def settings_of(engine: str) -> list[dict[str, Any]]:
    drawn = random.Random(engine)
    dials = [name for name in dialect(engine).dials if "xtc" not in name and "pen" not in name]
    values: dict[str, tuple[Any, ...]] = {
        "temperature": (0.6, 1.0, 1.8),
        "top_k": (3, 8, 15),
        "top_p": (0.45, 0.77, 0.93),
        "min_p": (0.013, 0.09, 0.27),
        "typical_p": (0.33, 0.81),
        "top_n_sigma": (0.7, 1.3),
    }
    return [
        {name: drawn.choice(values[name]) for name in drawn.sample(dials, k=min(n, len(dials)))}
        for n in (1, 1, 2, 2, 2, 3, 3, 4)
    ]


@pytest.mark.parametrize("source", DIALECTS)
def test_where_there_is_a_translation_the_laws_are_the_same(source: str) -> None:
    found = 0
    for settings in settings_of(source):
        for target in DIALECTS:
            try:
                translated = translate(settings, source, target)
            except NoTranslationError:
                continue
            found += 1
            for z in rows():
                laws = probs(z, source, **settings), probs(z, target, **translated.settings)
                assert (laws[0] - laws[1]).abs().max() < 1e-9
    assert found > 20


def test_the_nearest_is_nearest() -> None:
    """No other top-p comes nearer, of all that keep another number of tokens."""
    settings: dict[str, Any] = {"temperature": 1.6, "top_p": 0.8, "min_p": 0.04}
    for z in rows():
        law = probs(z, "llama.cpp", **settings)
        for target in ("vllm", "transformers", "sglang", "keras-hub", "ctranslate2"):
            found = translate(settings, "llama.cpp", target, logits=z)
            others = {k: v for k, v in found.settings.items() if k != "top_p"}
            ladder = torch.linspace(0.002, 1, 500).tolist()
            best = min(
                (law - probs(z, target, **others, top_p=p)).abs().sum().item() / 2 for p in ladder
            )
            assert found.total_variation is not None
            assert found.total_variation <= best + 1e-12
            exact = probs(z, target, **found.settings)
            assert found.total_variation == (law - exact).abs().sum().item() / 2


def test_a_law_that_is_no_beginning_of_the_ranking_keeps_a_distance() -> None:
    z = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    law: dict[str, Any] = {"typical_p": 0.29}  # keeps the second token alone
    found = translate(law, "transformers", "vllm", logits=z)
    assert kept(z, "transformers", **law).tolist() == [1]
    # Of the n first tokens the law of the second is 0, 3/7, 3/9, 3/10: two are nearest.
    assert kept(z, "vllm", **found.settings).tolist() == [0, 1]
    assert found.total_variation == pytest.approx(4 / 7, abs=1e-7)


def test_top_k_in_place_of_what_is_missing() -> None:
    z = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    found = translate({"min_p": 0.45}, "vllm", "transformers.js", logits=z)
    assert found.settings == {"top_k": 3}
    assert found.total_variation == pytest.approx(0, abs=1e-7)


def test_what_is_sent_switches_everything_else_off() -> None:
    call = translate({"temperature": 0.7}, "vllm", "ctranslate2").call
    assert call == {"sampling_temperature": 0.7, "sampling_topk": 0, "sampling_topp": 1.0}
    call = translate({"temperature": 0.7, "top_k": 40}, "vllm", "transformers").call
    assert call == {"do_sample": True, "temperature": 0.7, "top_k": 40, "top_p": 1.0}
    for target in DIALECTS:
        for settings in ({"temperature": 0.0}, {"top_k": 1}):
            greedy = translate(settings, "vllm", target)
            assert all(kept(z, target, **greedy.settings).tolist() == [z.argmax()] for z in rows())


def test_conventions_that_differ_are_named() -> None:
    found = translate({"top_k": 2, "top_p": 0.5}, "transformers", "lmdeploy")
    assert found.conventions == (
        "top_k: transformers keeps all of the tokens that tie at the border, "
        "lmdeploy keeps the first of the tokens that tie at the border",
        "top_p: transformers keeps the last of the tokens that tie at the border, "
        "lmdeploy keeps the first of the tokens that tie at the border",
        "top_p: transformers stops where the mass is reached exactly, "
        "lmdeploy keeps one token more where the mass is reached exactly",
    )
    assert translate({"min_p": 0.5}, "vllm", "sglang").conventions == ()


REFUSED: dict[str, tuple[tuple[Any, ...], str, str]] = {
    "another side of the temperature": (
        ({"temperature": 2.0, "top_p": 0.9}, "llama.cpp", "vllm"),
        "top_p",
        "llama.cpp divides by the temperature after it, vllm before; give logits=",
    ),
    "another order of cuts": (
        ({"min_p": 0.6, "top_p": 0.55}, "vllm", "sglang"),
        "top_p",
        "min_p cuts before it in vllm, after it in sglang",
    ),
    "top-k before or after": (
        ({"top_k": 3, "top_p": 0.75}, "sglang", "lmdeploy"),
        "top_p",
        "top_k cuts after it in sglang, before it in lmdeploy",
    ),
    "a dial that is missing": (
        ({"min_p": 0.1}, "vllm", "ctranslate2"),
        "min_p",
        "ctranslate2 does not have it",
    ),
    "a dial without effect": (
        ({"top_p": 0.9}, "transformers", "transformers.js"),
        "top_p",
        "in transformers.js it has no effect",
    ),
    "a temperature that is refused": (
        ({"temperature": 2.5}, "transformers", "vllm"),
        "temperature",
        "vllm 0.33.0 refuses temperature = 2.5: ",
    ),
    "a temperature that is raised": (
        ({"temperature": 0.001}, "transformers", "vllm"),
        "temperature",
        "vllm makes another one of it",
    ),
    "a temperature that inverts": (
        ({"temperature": -1.0}, "mlx-lm", "vllm"),
        "temperature",
        "in mlx-lm it is inverted",
    ),
    "a penalty that counts the prompt": (
        ({"repetition_penalty": 1.1}, "transformers", "sglang"),
        "repetition_penalty",
        "transformers counts the prompt and the answer, sglang counts the answer",
    ),
    "a penalty of another reach": (
        ({"repetition_penalty": 1.1}, "transformers", "mlx-lm"),
        "repetition_penalty",
        "mlx-lm counts the prompt and the answer, of both the last 20 tokens",
    ),
    "a draw of token 0": (
        ({"temperature": 0.0}, "keras-hub", "vllm"),
        "temperature",
        "it takes token 0",
    ),
    "the best of what is left": (
        ({"temperature": 0.0, "typical_p": 0.2}, "llama.cpp", "vllm"),
        "temperature",
        "typical_p may have ruled out the best token",
    ),
    "the first without the best": (
        ({"top_k": 1, "xtc_probability": 1.0, "xtc_threshold": 0.2}, "mlx-lm", "vllm"),
        "temperature",
        "xtc may have ruled out the best token",
    ),
    "a fault of the target": (
        ({"top_p": 0.5}, "vllm", "onnxruntime-genai"),
        "top_p",
        "onnxruntime-genai 0.18.0 needs a top-k beside it, at most that of the vocabulary",
    ),
    "a fault of the source": (
        ({"top_p": 0.5}, "onnxruntime-genai", "vllm"),
        "top_p",
        "what onnxruntime-genai 0.18.0 keeps without a top-k has no definition",
    ),
}


@pytest.mark.parametrize(("call", "dial", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_no_translation(call: tuple[Any, ...], dial: str, words: str) -> None:
    with pytest.raises(NoTranslationError) as caught:
        translate(*call)
    assert caught.value.dial == dial
    assert words in str(caught.value)


ORDERS = [call for call, dial, words in REFUSED.values() if "before" in words or "after" in words]


@pytest.mark.parametrize(("settings", "source", "target"), ORDERS)
def test_another_order_is_another_law_at_some_row(
    settings: dict[str, Any], source: str, target: str
) -> None:
    g = torch.Generator().manual_seed(9)
    assert len(ORDERS) == 3
    assert any(
        kept(z, source, **settings).tolist() != kept(z, target, **settings).tolist()
        for z in torch.randn(100, 24, generator=g)
    )


def test_an_order_may_differ_and_the_laws_not() -> None:
    """Of three tokens, one below 0.09 of the best leaves the nucleus of 0.45 alone."""
    settings: dict[str, Any] = {"top_k": 3, "min_p": 0.09, "top_p": 0.45}
    with pytest.raises(NoTranslationError, match="min_p cuts before it in vllm, after it in lmd"):
        translate(settings, "vllm", "lmdeploy")
    for spread in (0.5, 1.0, 2.0, 4.0):
        for z in spread * torch.randn(100, 24, generator=torch.Generator().manual_seed(9)):
            laws = [kept(z, engine, **settings).tolist() for engine in ("vllm", "lmdeploy")]
            assert laws[0] == laws[1]


@pytest.mark.parametrize("source", DIALECTS)
def test_what_is_off_is_not_in_the_way(source: str) -> None:
    """Dials that are sent to switch them off change no translation."""
    hot = {"temperature": 0.7}
    for target in (name for name in DIALECTS if name != source):
        off = {**dialect(source).off, **hot}
        assert translate(off, source, target).settings == translate(hot, source, target).settings


def test_a_call_switches_off_what_the_defaults_switch_on() -> None:
    z = 2 * torch.randn(100, generator=torch.Generator().manual_seed(1))
    for target in DIALECTS:
        found = translate({"temperature": 0.7}, "vllm", target)
        back = {own: name for name, own in dialect(target).names.items()}
        call = {back.get(own, own): value for own, value in found.call.items()}
        law = probs(z, target, **{**dialect(target).defaults, **call})
        assert (law - probs(z, "vllm", temperature=0.7)).abs().max() < 1e-12


def test_an_order_that_can_be_chosen_is_chosen() -> None:
    hot: dict[str, Any] = {"temperature": 1.5, "top_p": 0.8, "min_p": 0.02}
    for source, target in (("vllm", "llama.cpp"), ("transformers", "llama.cpp")):
        found = translate(hot, source, target)
        assert found.call["samplers"] == list(found.settings["order"])
        for z in rows():
            laws = probs(z, source, **hot), probs(z, target, **found.settings)
            assert (laws[0] - laws[1]).abs().max() < 1e-9
    typical = {"temperature": 1.5, "typical_p": 0.5}
    assert translate(typical, "transformers", "llama.cpp").call["samplers"] == [
        "temperature",
        "typ_p",
    ]
    last = translate({"temperature": 1.5, "top_p": 0.8}, "llama.cpp", "exllamav3").settings
    assert last["temp_last"] is True
    for z in rows():
        law = probs(z, "llama.cpp", temperature=1.5, top_p=0.8)
        assert (law - probs(z, "exllamav3", **last)).abs().max() < 1e-9
    again = {"order": ("temperature", "top_p"), "temperature": 1.5, "top_p": 0.8}
    assert translate(again, "llama.cpp", "vllm").settings == {"temperature": 1.5, "top_p": 0.8}


def test_a_fault_is_stepped_around_where_the_row_is_known() -> None:
    z = 3 * torch.randn(300, generator=torch.Generator().manual_seed(0))
    found = translate({"top_p": 0.5}, "vllm", "onnxruntime-genai", logits=z)
    assert found.settings == {"top_p": 0.5, "top_k": 300}
    assert found.total_variation == pytest.approx(0, abs=1e-9)
    hot = translate({"temperature": 1.5, "top_p": 0.5}, "llama.cpp", "onnxruntime-genai", logits=z)
    assert hot.settings["top_k"] == 300
    assert hot.total_variation == pytest.approx(0, abs=1e-9)
    assert translate({"typical_p": 0.5}, "transformers", "llama.cpp").conventions[-1] == (
        "typical_p: llama.cpp computes a nan where a token is at -inf"
    )


def test_the_same_engine_needs_no_translation() -> None:
    for settings in ({"temperature": -1.0}, {"xtc_probability": 0.5, "xtc_threshold": 0.1}):
        assert translate(settings, "mlx-lm", "mlx-lm").settings == settings
    half = {"xtc_probability": 0.5, "xtc_threshold": 0.1}
    assert translate(half, "llama.cpp", "mlx-lm").settings == half


@pytest.mark.parametrize("target", ["vllm", "mlx-lm", "lmdeploy", "keras-hub"])
def test_the_nearest_is_nearest_where_tokens_tie(target: str) -> None:
    g = torch.Generator().manual_seed(3)
    for _ in range(20):
        z = torch.randint(0, 4, (8,), generator=g).float()
        hot = {"temperature": 2.0, "top_p": 0.6}
        found = translate(hot, "llama.cpp", target, logits=z)
        law = probs(z, "llama.cpp", **hot)  # type: ignore[arg-type]
        best = min(
            (law - probs(z, target, temperature=2.0, top_p=p)).abs().sum().item() / 2
            for p in torch.linspace(0.005, 1, 200).tolist()
        )
        assert found.total_variation is not None
        assert found.total_variation <= best + 1e-9
