"""The files of the dialects: what they may say, and that they say it of something."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
import torch

from omnivault.engines import DIALECTS, DIALS, defaults, dialect, kept, probs
from omnivault.engines.dialect import FOLDER

KEYS = {
    *(
        "name",
        "version",
        "driven",
        "order",
        "order_is_free",
        "order_names",
        "without_effect",
        "like",
    ),
    *("defaults", "off", "names", "options", "intended", "faults"),
}
RULES = {
    "ties": {"all", "some", "first", "last"},
    "reached": {"stops", "one more"},
    "border": {"kept", "dropped"},
    "sums": {"float32"},
    "fault": {"upper bound", "nan beside -inf", ""},
}
WORDS = {
    "inverted until it overflows",
    "greedy",
    "off",
    "best",
    "refused",
    "inverted",
    "unfiltered",
    "token 0",
    "last token",
}
CONDITIONS = {"at", "below", "above", "at_most", "at_least"}
ROW = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()


def files() -> dict[str, dict[str, Any]]:
    return {name: tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8")) for name in DIALECTS}


@pytest.mark.parametrize("name", DIALECTS)
def test_a_file_says_nothing_that_is_not_read(name: str) -> None:
    data = files()[name]
    assert data["name"] == name
    assert set(data) <= KEYS | set(DIALS)
    for dial in set(data) & set(DIALS) - {"repetition_penalty"}:
        rules = dict(data[dial])
        for case in rules.pop("meaning", ()):
            limits = case.keys() & CONDITIONS
            assert len(limits) == 1
            assert case.keys() - limits <= {"then", "says", "with", "without"}
            assert case["then"] in WORDS or isinstance(case["then"], float)
            assert ("says" in case) == (case["then"] == "refused")
        for what, value in rules.items():
            assert value in RULES[what]
    for fault in data.get("faults", ()):
        assert fault.keys() - {"right"} == {"dial", "what", "instead", "wrong"}
        assert fault["dial"] in dialect(name).dials


@pytest.mark.parametrize("name", DIALECTS)
def test_what_is_named_is_there(name: str) -> None:
    spoken = dialect(name)
    assert len(set(spoken.order)) == len(spoken.order)
    assert set(spoken.order) <= {*DIALS, "xtc"}
    assert set(spoken.names) <= {*spoken.dials, "order"}
    assert set(spoken.off) <= set(spoken.dials)
    assert set(spoken.defaults) <= {*spoken.dials, *spoken.options}
    # Of each cut it is known what happens at its border.
    for dial, what in (("top_k", "ties"), ("top_p", "reached"), ("min_p", "border")):
        assert dial not in spoken.order or what in spoken.rules[dial]


@pytest.mark.parametrize("name", DIALECTS)
def test_off_is_off_and_the_defaults_are_a_law(name: str) -> None:
    spoken = dialect(name)
    assert probs(ROW, name, **spoken.off).allclose(torch.tensor([0.4, 0.3, 0.2, 0.1]).double())
    assert probs(ROW, name, **defaults(name)).sum().item() == pytest.approx(1, abs=1e-12)


def test_a_version_that_was_right_speaks_the_intended_dialect() -> None:
    law: dict[str, Any] = {"top_p": 0.5}
    flat = torch.linspace(0, -6, 65)
    wide = [len(kept(flat, f"onnxruntime-genai==0.{v}", **law)) for v in ("13.0", "13.2", "18.0")]
    assert wide[0] < wide[1] == wide[2]
    assert wide[0] == len(kept(flat, "onnxruntime-genai", intended=True, **law))
    assert wide[0] == len(kept(flat, "transformers", **law))


REJECTED = {
    "no such engine": (
        lambda: dialect("vllm2"),
        r"^there is no dialect 'vllm2'; there are ctranslate2, exllamav3, ",
    ),
    "no name": (lambda: dialect(7), r"^there is no dialect 7; there are "),  # type: ignore[arg-type]
    "no such version": (
        lambda: dialect("onnxruntime-genai==0.10"),
        r"^onnxruntime-genai '0.10' was not run; versions that were: 0.18.0, 0.9.2, ",
    ),
    "no such option": (
        lambda: dialect("vllm", do_sample=True),
        r"^vllm has no option 'do_sample'; it has: none$",
    ),
    "an option that is neither": (
        lambda: kept(ROW, "transformers", do_sample="no"),
        r"^do_sample must be True or False, got 'no'$",
    ),
    "a mixture of more than everything": (
        lambda: probs(ROW, "llama.cpp", xtc_probability=1.5, xtc_threshold=0.1),
        r"^what llama.cpp v0.5.0 makes of xtc_probability = 1.5 was not seen; take .*\[0, 1\]$",
    ),
    "a penalty that is none": (
        lambda: probs(ROW, "vllm", repetition_penalty=0.0),
        r"^what vllm 0.33.0 makes of repetition_penalty = 0 was not seen; take .*\(0, inf\)$",
    ),
    "no temperature": (
        lambda: probs(ROW, "mlx-lm", temperature=-torch.inf),
        r"^temperature must be finite, got -inf; leave it out to switch it off$",
    ),
    "no such dial": (
        lambda: kept(ROW, "ctranslate2", min_p=0.1),
        r"^ctranslate2 has no dial 'min_p'; it has temperature, top_k, top_p, ",
    ),
    "a value that was not seen": (
        lambda: kept(ROW, "lmdeploy", top_p=1.5),
        r"^what lmdeploy 0.18.0 makes of top_p = 1.5 was not seen; take a value of \(0, 1\]$",
    ),
    "nan": (
        lambda: kept(ROW, "lmdeploy", top_p=float("nan")),
        r"makes of top_p = nan was not seen",
    ),
    "an order that is fixed": (
        lambda: kept(ROW, "vllm", order=["top_p", "temperature"]),
        r"^vllm has one order, temperature, min_p, top_k, top_p; leave order out$",
    ),
    "an order of something else": (
        lambda: kept(ROW, "llama.cpp", order=["top_a"]),
        r"^llama.cpp has no 'top_a' to order; it has top_n_sigma, ",
    ),
    "several rows": (
        lambda: kept(ROW.expand(2, 4), "vllm"),
        r"^logits must be one row of shape \(V,\), got \(2, 4\); ask row by row$",
    ),
    "nan in the row": (
        lambda: kept(torch.tensor([0.0, torch.nan]), "vllm"),
        r"nan",
    ),
    "a token that is not there": (
        lambda: kept(ROW, "vllm", repetition_penalty=2.0, prompt=[4]),
        r"^tokens must lie in \[0, 3\], got 4$",
    ),
    "a law that is not": (
        lambda: kept(torch.tensor([0.0, -torch.inf]), "mlx-lm", temperature=-1.0),
        r"^temperature -1 makes \+inf of a logit of -inf, and no law of the row; mlx-lm does not",
    ),
    "nan beside -inf": (
        lambda: kept(torch.tensor([0.0, -torch.inf]), "llama.cpp", typical_p=0.5),
        r"^llama.cpp v0.5.0 computes a nan for typical_p beside a token of -inf, .* intended=True",
    ),
}


@pytest.mark.parametrize(("call", "message"), REJECTED.values(), ids=REJECTED.keys())
def test_rejected(call: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_intended_is_without_faults_of_options_too() -> None:
    faulty = {"backend_sampling": True, "min_p": 1.0}
    assert kept(ROW, "llama.cpp", **faulty).tolist() == [3]
    assert kept(ROW, "llama.cpp", intended=True, **faulty).tolist() == [0]


def test_a_dialect_is_a_copy() -> None:
    rules: Any = dialect("llama.cpp").rules
    rules["top_p"].update(ties="all")
    assert dialect("llama.cpp").rules["top_p"]["ties"] == "some"


def test_a_dial_that_is_no_number() -> None:
    with pytest.raises(TypeError, match=r"^top_k must be an int such as 50"):
        kept(ROW, "vllm", top_k=2.5)
    with pytest.raises(TypeError, match=r"^top_p must be a number such as 0.9"):
        kept(ROW, "vllm", top_p="0.9")
    assert kept(ROW, "vllm", top_k=None, top_p=None).tolist() == [0, 1, 2, 3]
