"""Answers to exercises, right and wrong, and how a test takes them one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from omnivault import exercises

SEEDS = range(20)


def each_right(answers: Mapping[str, Any]) -> pytest.MarkDecorator:
    """Give a test every label with its right answer."""
    return pytest.mark.parametrize(
        ("label", "answer"), [pytest.param(label, a, id=label) for label, a in answers.items()]
    )


def each_wrong(answers: Mapping[str, Mapping[str, Any]]) -> pytest.MarkDecorator:
    """Give a test every label with each of its wrong answers, which have names."""
    return pytest.mark.parametrize(
        ("label", "answer"),
        [
            pytest.param(label, answer, id=f"{label}: {name}")
            for label, named in answers.items()
            for name, answer in named.items()
        ],
    )


def assert_right(label: str, answer: Any) -> None:
    """The check lets a right answer pass, whatever cases it draws."""
    for verdict in verdicts(label, answer):
        assert verdict.holds is True, verdict


def assert_wrong(label: str, answer: Any) -> None:
    """The check notices a wrong answer, whatever cases it draws, and says what is wrong."""
    for verdict in verdicts(label, answer):
        assert verdict.holds is False, verdict
        assert verdict.text.startswith("Not yet: ")
        assert "\nHint: " in verdict.text


def verdicts(label: str, answer: Any) -> list[exercises.Verdict]:
    """Check an answer once for each seed."""
    return [
        exercises.check(label, answer, generator=torch.Generator().manual_seed(seed))
        for seed in SEEDS
    ]
