"""The laws of dialects, against other code: the book's own cuts, Transformers, fractions."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.generation import logits_process as hf

from omnivault.engines import kept, probs
from omnivault.sampling import apply_temperature, min_p, top_k, top_p

SETTINGS: list[dict[str, Any]] = [
    {"temperature": t, "top_k": k, "top_p": p, "min_p": m}
    for t in (0.5, 1.0, 1.7)
    for k, p, m in ((5, 0.8, 0.03), (9, 0.6, 0.3), (3, 0.95, 0.02), (19, 0.7, 0.1))
]
MARGIN = 1e-4
"""No cut of a row below comes nearer to its border: far more than float32 rounds."""


def rows() -> list[Tensor]:
    g = torch.Generator().manual_seed(23)
    return [2 * torch.randn(20, generator=g) for _ in range(8)]


def joint(z: Tensor, t: float, k: int, p: float, m: float) -> Tensor:
    hot = apply_temperature(z, t)
    both = torch.minimum(top_k(hot, k), top_p(hot, p))
    return min_p(both, m)


ORDERS: dict[str, Callable[[Tensor, float, int, float, float], Tensor]] = {
    "llama.cpp": lambda z, t, k, p, m: apply_temperature(min_p(top_p(top_k(z, k), p), m), t),
    "mlx-lm": lambda z, t, k, p, m: apply_temperature(top_k(min_p(top_p(z, p), m), k), t),
    "vllm": lambda z, t, k, p, m: top_p(top_k(min_p(apply_temperature(z, t), m), k), p),
    "transformers": lambda z, t, k, p, m: min_p(top_p(top_k(apply_temperature(z, t), k), p), m),
    "lmdeploy": lambda z, t, k, p, m: min_p(top_p(top_k(apply_temperature(z, t), k), p), m),
    "sglang": joint,
}


@pytest.mark.parametrize("engine", ORDERS)
def test_orders_are_those_of_the_cuts_one_by_one(engine: str) -> None:
    sizes = set()
    for z in rows():
        for s in SETTINGS:
            law = probs(z, engine, **s)
            cut = ORDERS[engine](z.double(), s["temperature"], *list(s.values())[1:])
            assert torch.equal(law > 0, cut.isfinite())
            assert (law - cut.softmax(-1)).abs().max() < 1e-12
            sizes.add(int((law > 0).sum()))
    assert len(sizes) > 4  # the cuts do cut, here so and there otherwise


def test_each_order_is_another_law() -> None:
    laws: dict[str, list[list[int]]] = {
        engine: [kept(z, engine, **s).tolist() for z in rows() for s in SETTINGS]
        for engine in ORDERS
    }
    assert laws["transformers"] == laws["lmdeploy"]  # but for ties and exact borders
    rest = {engine: str(laws[engine]) for engine in ORDERS if engine != "lmdeploy"}
    assert len(set(rest.values())) == len(rest)


def test_the_dialect_of_transformers_is_that_of_its_processors() -> None:
    ids: Any = torch.zeros(1, 0, dtype=torch.long)
    for z in rows():
        for s in SETTINGS:
            scores: Any = z.unsqueeze(0)
            for warper in (
                hf.TemperatureLogitsWarper(s["temperature"]),
                hf.TopKLogitsWarper(s["top_k"]),
                hf.TopPLogitsWarper(s["top_p"]),
                hf.MinPLogitsWarper(s["min_p"]),
            ):
                scores = warper(ids, scores)
            assert kept(z, "transformers", **s).tolist() == (
                scores[0].isfinite().nonzero().flatten().tolist()
            )


def test_the_upper_bound_in_place_of_the_tail() -> None:
    """In fractions: the smallest k whose mass is p of itself and of V - k tokens like its last."""
    weights = [Fraction(1, 2 + i) for i in range(80)]
    z = torch.tensor([float(w) for w in weights]).log()
    for share in (Fraction(1, 10), Fraction(1, 4), Fraction(1, 2), Fraction(9, 10)):
        mass, expected = Fraction(0), len(weights)
        for k, w in enumerate(weights, 1):
            mass += w
            if mass >= share * (mass + (len(weights) - k) * w):
                expected = k
                break
        found = kept(z, "onnxruntime-genai", top_p=float(share))
        assert found.tolist() == list(range(expected))
        meant = kept(z, "onnxruntime-genai", top_p=float(share), intended=True)
        assert len(meant) < len(found)
        # In a vocabulary of 64 it is no fault.
        few = z[:64]
        assert torch.equal(
            kept(few, "onnxruntime-genai", top_p=float(share)),
            kept(few, "onnxruntime-genai", top_p=float(share), intended=True),
        )


def test_a_penalty_once_a_token_and_of_the_last_ones() -> None:
    z = torch.tensor([1.0, -1.0, 0.5, -0.5])

    def logits_after(engine: str, **before: Any) -> list[float]:
        law = probs(z, engine, repetition_penalty=2.0, **before).log()
        return (law - law[2] + 0.5).tolist()  # token 2 is never penalized

    once = pytest.approx([0.5, -2.0, 0.5, -0.5], abs=1e-12)
    none = pytest.approx(z.tolist(), abs=1e-12)
    assert logits_after("transformers", prompt=[0, 0, 1]) == once
    assert logits_after("sglang", prompt=[0, 0, 1]) == none
    assert logits_after("sglang", answer=[0, 0, 1]) == once
    assert logits_after("mlx-lm", prompt=[0, 1], answer=[0, 1] + [3] * 20) == pytest.approx(
        [1.0, -1.0, 0.5, -1.0], abs=1e-12
    )
    assert logits_after("ctranslate2", prompt=[0, 1], include_prompt_in_result=False) == none


def test_greedy_decoding_is_penalized_too() -> None:
    z = torch.tensor([1.0, 0.9, 0.0])
    for engine in ("transformers", "onnxruntime-genai", "openvino-genai"):
        assert kept(z, engine, do_sample=False, prompt=[0]).tolist() == [0]
        asked: dict[str, Any] = {"do_sample": False, "repetition_penalty": 2.0}
        assert kept(z, engine, prompt=[0], **asked).tolist() == [1]


def test_xtc_takes_from_the_top_and_a_chance_of_it_mixes_two_laws() -> None:
    z = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    cut = probs(z, "llama.cpp", xtc_probability=1.0, xtc_threshold=0.15)
    assert cut.tolist() == pytest.approx([0, 0, 2 / 3, 1 / 3], abs=1e-7)
    mixed = probs(z, "llama.cpp", xtc_probability=0.25, xtc_threshold=0.15)
    assert mixed.tolist() == pytest.approx(
        [0.3, 0.225, 0.2 * 0.75 + 1 / 6, 0.075 + 1 / 12], abs=1e-7
    )
    assert kept(z, "llama.cpp", xtc_probability=0.0, xtc_threshold=0.15).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [1, 2, 64, 65])
@pytest.mark.parametrize("engine", ["llama.cpp", "vllm", "onnxruntime-genai", "mlx-lm"])
def test_small_rows_ties_and_ruled_out_tokens(engine: str, size: int) -> None:
    z = torch.zeros(size)
    assert probs(z, engine).tolist() == pytest.approx([1 / size] * size)
    z[: size - 1] = -torch.inf
    assert kept(z, engine, temperature=0.5, top_p=0.9).tolist() == [size - 1]
    # Half precision is read as it stands.
    half = torch.linspace(0, 1, size).to(torch.bfloat16)
    assert torch.equal(probs(half, engine), probs(half.float(), engine))


@pytest.mark.parametrize("engine", ["llama.cpp", "vllm", "transformers", "exllamav3"])
def test_huge_and_tiny_temperatures(engine: str) -> None:
    z = torch.tensor([300.0, 299.0, -1e30])
    cold = probs(z, engine, temperature=0.011)
    assert cold[0] == 1
    if engine != "vllm":  # which raises it
        for tiny in (1e-308, 5e-324):
            assert probs(z, engine, temperature=tiny).tolist() == [1, 0, 0]
    if engine != "vllm":  # which refuses what is above 2
        assert probs(z, engine, temperature=1e6).tolist() == pytest.approx([0.5, 0.5, 0], abs=1e-6)
