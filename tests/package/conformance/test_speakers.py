"""Which engines speak the dialect that a sampler speaks."""

from __future__ import annotations

import torch

from omnivault.conformance import Sampler, check
from omnivault.conformance.exact import CONVENTIONS
from omnivault.conformance.own import OWN
from omnivault.conformance.speakers import speakers, ways_of
from omnivault.engines import DIALECTS, dialect, probs

TELLING = [
    *("top-p-temperature", "top-k-tie", "top-p-tie", "top-p-exact-four", "top-p-top-k"),
    *("min-p-top-p", "temperature-zero", "top-p-zero"),
]
"""Cases that tell dialects apart."""


def test_the_ways_of_engines_are_ways_of_the_cases() -> None:
    for engine in DIALECTS:
        for name, way in ways_of(engine).items():
            assert way in CONVENTIONS[name]


def test_a_sampler_in_an_engines_dialect_is_recognized() -> None:
    """The package's own laws, asked as if they were a sampler, are told back by name."""
    for engine in ("llama.cpp", "vllm", "transformers", "sglang", "lmdeploy", "mlx-lm"):
        sampler = Sampler(
            "pretended",
            dials=[dial for dial in dialect(engine).dials if dial in ("temperature", *CUTS)],
            probs=lambda logits, settings, engine=engine: probs(
                torch.tensor(logits), engine, **settings
            ),
        )
        report = check(sampler, cases=TELLING)
        assert not report.failed, str(report)
        assert engine in speakers(report.dialect)
        engines = ", ".join(speakers(report.dialect))
        assert f"Engines that speak it: {engines}." in str(report)


CUTS = ("top_k", "top_p", "min_p")


def test_the_package_samples_as_transformers_does_but_for_what_it_refuses() -> None:
    report = check(OWN["omnivault"], kinds="probs", cases=TELLING[:6])
    assert speakers(report.dialect) == ["transformers"]


def test_nothing_told_is_nobodys_dialect() -> None:
    assert speakers({}) == []
    assert speakers({"ties at zero temperature": ["first"]}) == []
