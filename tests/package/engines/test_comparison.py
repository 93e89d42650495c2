"""One row in every dialect, as a list and on the command line."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from omnivault.engines import DIALECTS, compare, kept, probs
from omnivault.engines.__main__ import main

B = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
NUMBERS = "--logits=" + ",".join(str(x) for x in B.tolist())


def test_lines_say_what_the_laws_are() -> None:
    settings: dict[str, Any] = {"temperature": 2.0, "top_p": 0.65}
    lines = {line.engine: line for line in compare(B, settings, to="vllm")}
    assert tuple(lines) == DIALECTS
    law = probs(B, "vllm", **settings)
    for engine, line in lines.items():
        own = probs(B, engine, **settings)
        assert line.kept == len(kept(B, engine, **settings))
        assert line.entropy == pytest.approx(-sum(p * math.log(p) for p in own.tolist() if p))
        assert line.total_variation == pytest.approx((own - law).clamp(min=0).sum().item())
    assert lines["transformers.js"].lacks == ("top_p",)
    assert lines["vllm"].lacks == ()


def test_a_refusal_is_a_line_and_a_missing_dial_is_named() -> None:
    lines = {line.engine: line for line in compare(B, {"temperature": 0.0, "min_p": 0.1})}
    assert lines["transformers"].refused.startswith("transformers 5.24.0 refuses temperature = 0: ")
    assert lines["transformers"].kept is lines["transformers"].entropy is None
    assert lines["vllm"].kept == 1
    assert lines["vllm"].total_variation is None  # to one that refuses
    assert lines["ctranslate2"].lacks == ("min_p",)


def test_the_defaults_of_an_engine_act_if_asked_for() -> None:
    row = torch.tensor([0.5, 0.46, 0.03, 0.01]).log()
    plain = {line.engine: line.kept for line in compare(row, {"temperature": 0.7})}
    assert set(plain.values()) == {4}
    real = {
        line.engine: line.kept
        for line in compare(row, {"temperature": 0.7}, to="vllm", with_defaults=True)
    }
    assert real["transformers"] == real["ctranslate2"] == real["keras-hub"] == 1
    assert real["llama.cpp"] == 2  # whose top-p is 0.95
    assert real["vllm"] == 4


def test_intended_is_without_faults() -> None:
    row = torch.linspace(0, -6, 65)
    lines = {
        wrong: {x.engine: x.kept for x in compare(row, {"top_p": 0.5}, intended=not wrong)}
        for wrong in (True, False)
    }
    assert lines[False]["onnxruntime-genai"] == lines[True]["vllm"]
    assert lines[True]["onnxruntime-genai"] != lines[True]["vllm"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_a": 0.1}, r"^no engine has a dial 'top_a'; there are backend_sampling, do_sample, "),
        ({"top_k": 2, "order": 1}, r"^no engine has a dial 'order'"),
    ],
)
def test_rejected(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(B, settings)
    with pytest.raises(ValueError, match=r"^there is no dialect 'x'"):
        compare(B, {}, to="x")
    with pytest.raises(ValueError, match=r"one row of shape \(V,\)"):
        compare(B.expand(2, 4), {})


def test_the_command_compares(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", NUMBERS, "--temperature", "2", "--top-p", "0.65"]) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert ["llama.cpp", "v0.5.0", "2", "0.691", "0.275"] in lines
    assert ["transformers.js", "4.3.2", "4", "1.356", "0.163", "without", "top_p"] in lines
    assert len(lines) == len(DIALECTS) + 2


def test_the_command_translates(capsys: pytest.CaptureFixture[str]) -> None:
    hot = ["--temperature", "2", "--min-p", "0.25"]
    assert main(["translate", "llama.cpp", "mlx-lm", *hot]) == 0
    assert capsys.readouterr().out == "temp=2.0, top_k=0, top_p=0.0, min_p=0.25\n"
    asked = ["translate", "llama.cpp", "vllm", "--with-defaults", "--top-k", "2"]
    assert main([*asked, NUMBERS]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("temperature=0.8, top_k=2, top_p=")
    assert out[1].startswith("may differ, top_k: llama.cpp keeps as many ")
    assert out[-1] == "total variation on this row: 0.0000"
    # Without a row one dial has no translation, and the others have.
    assert main(asked) == 1
    caught = capsys.readouterr()
    assert caught.out.startswith(
        "without top_p: temperature=0.8, top_k=2, top_p=1.0, min_p=0.02364"
    )
    assert caught.err.endswith("give --prompt or --logits for the value that is nearest on a row\n")
    assert main(["translate", "transformers", "vllm", "--with-defaults"]) == 0
    assert "transformers is greedy unless do_sample is set" in capsys.readouterr().out


def test_a_penalty_reads_the_prompt_and_a_row_may_rule_out_tokens(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = compare(B, {"repetition_penalty": 2.0}, to="sglang", prompt=[0])
    apart = {line.engine for line in lines if (line.total_variation or 0) > 0.1}
    assert apart == {
        *("ctranslate2", "llama.cpp", "mlx-lm", "node-llama-cpp", "onnxruntime-genai"),
        *("openvino-genai", "transformers", "transformers.js", "vllm"),
    }
    assert main(["compare", "--logits=1,-inf,0.5", "--to", "vllm==0.33.0"]) == 0
    assert ["vllm", "0.33.0", "2", "0.663", "0.000"] in [
        line.split() for line in capsys.readouterr().out.splitlines()
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["translate", "llama.cpp", "vllm2"], "ValueError: there is no dialect 'vllm2'; "),
        (["translate", "vllm", "vllm==1"], "ValueError: vllm '1' was not run; "),
        (["compare", "--logits=nan"], "ValueError: "),
        (["compare", "--logits=one"], "ValueError: "),
        (["compare", ""], "ValueError: "),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    caught = capsys.readouterr()
    assert caught.out == ""
    assert caught.err.startswith(message)
    assert caught.err.count("\n") == 1


def test_the_command_asks_the_model_for_a_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    prompt = "The capital of France is"
    arguments = ["--temperature", "1.5", "--top-k", "40", "--top-p", "0.95", "--min-p", "0.05"]
    assert main(["compare", prompt, *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    sizes = {line.split()[0]: line.split()[2] for line in lines[1 : 1 + len(DIALECTS)]}
    assert sizes["transformers"] == sizes["lmdeploy"] == sizes["sglang"]
    assert int(sizes["llama.cpp"]) < int(sizes["vllm"]) < int(sizes["transformers"])
