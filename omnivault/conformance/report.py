"""What a sampler got right, which dialect it speaks, and how others read it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from omnivault.conformance.speakers import speakers

# Not in an XML file, whatever an engine says.
UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Verdict:
    """On one answer."""

    outcome: str
    """``passed``, ``failed``, ``refused`` (as it may) or ``not asked``."""
    text: str = ""
    conventions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The ways in which it answered."""
    expected: str = ""
    got: str = ""


@dataclass(frozen=True)
class Result:
    """One case, asked in one kind."""

    case: str
    why: str
    kind: str
    outcome: str
    """``passed``, ``failed``, ``refused`` (as it may) or ``not asked``."""
    text: str
    """What is wrong, or why it was not asked, in one line."""
    expected: str
    got: str
    logits: str
    settings: Mapping[str, Any]
    weight: tuple[int, int]
    """Tokens and dials."""
    conventions: Mapping[str, Sequence[str]]
    """The ways in which it answered."""
    seconds: float


@dataclass(frozen=True)
class Report:
    """What :func:`omnivault.conformance.check` found; printed, it says so in words."""

    name: str
    version: str
    results: Sequence[Result]
    dialect: Mapping[str, Sequence[str]]
    """By convention, the ways that agree with all answers; one, where the cases tell."""
    conventions: Mapping[str, Mapping[str, str]]
    """All ways there are, in words."""
    false_alarm: float
    """Chance that a right sampler fails anything; 0 where nothing was drawn."""

    @property
    def failed(self) -> list[Result]:
        """Those that failed, the smallest first."""
        return sorted(self.of("failed"), key=lambda result: result.weight[::-1])

    def of(self, outcome: str) -> list[Result]:
        """Return results with this outcome."""
        return [result for result in self.results if result.outcome == outcome]

    @property
    def exit_code(self) -> int:
        """0 if all pass, 1 if any fails, 2 if nothing could be asked."""
        if self.of("failed"):
            return 1
        return 0 if self.of("passed") else 2

    def __str__(self) -> str:
        counts = Counter(result.outcome for result in self.results)
        said = ", ".join(
            f"{counts[outcome]} {outcome}"
            for outcome in ("passed", "failed", "refused", "not asked")
            if counts[outcome]
        )
        lines = [f"{self.name} {self.version}".strip() + f": {said or 'nothing asked'}."]
        if self.false_alarm:
            lines.append(f"A right sampler fails with a chance of {self.false_alarm:.2g} at most.")
        if self.failed:
            lines += ["", *_smallest(self.failed[0])]
            if len(self.failed) > 1:
                width = max(len(result.case) for result in self.failed)
                lines += ["", "All that fail:"]
                lines += [
                    f"  {result.case:{width}}  {result.kind:5}  {result.text}"
                    for result in self.failed
                ]
        if refused := self.of("refused"):
            lines += ["", "Refused, as it may:"]
            lines += [f"  {result.case}: {result.text}" for result in refused]
        if reasons := Counter(result.text for result in self.of("not asked")):
            lines += ["", "Not asked:"]
            lines += [f"  {count}: {reason}" for reason, count in reasons.items()]
        if words := in_words(self.dialect, self.conventions):
            told = "The dialect it speaks" + ", so far as its right answers tell" * bool(
                self.failed
            )
            lines += ["", f"{told}:", *(f"  {sentence}" for sentence in words)]
            engines = speakers(self.dialect)
            if engines and not self.failed:
                lines.append(f"Engines that speak it: {', '.join(engines)}.")
        return "\n".join(lines)

    def write_junit(self, path: str | Path) -> None:
        """Write the results as a JUnit file, which systems of continuous integration show.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        suite = ElementTree.Element(
            "testsuite",
            name=f"conformance of {_writable(self.name)}",
            tests=str(len(self.results)),
            failures=str(len(self.of("failed"))),
            errors="0",
            skipped=str(len(self.of("not asked"))),
            time=f"{sum(result.seconds for result in self.results):.3f}",
        )
        for result in self.results:
            case = ElementTree.SubElement(
                suite,
                "testcase",
                classname=f"conformance.{result.kind}",
                name=result.case,
                time=f"{result.seconds:.3f}",
            )
            if result.outcome == "failed":
                failure = ElementTree.SubElement(case, "failure", message=_writable(result.text))
                failure.text = _writable("\n".join(_asked(result)))
            elif result.outcome == "not asked":
                ElementTree.SubElement(case, "skipped", message=_writable(result.text))
            elif result.outcome == "refused":
                ElementTree.SubElement(case, "system-out").text = _writable(
                    f"refused, as it may: {result.text}"
                )
        ElementTree.indent(suite)
        ElementTree.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)


def in_words(
    dialect: Mapping[str, Sequence[str]], conventions: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Say which dialect a sampler speaks, one sentence for each convention that the cases told.

    Examples
    --------
    >>> ways = {"first": "divides by T before the cuts", "last": "divides by T after the cuts"}
    >>> in_words({"temperature": ["last"]}, {"temperature": ways})
    ['divides by T after the cuts']
    """
    sentences = []
    for name, every in conventions.items():
        ways = list(dialect.get(name, ()))
        if {"first", "any"} == set(ways) or {"last", "any"} == set(ways):
            ways.remove("any")  # it did so each time
        if ways and len(ways) < len(every):
            sentences.append(" or ".join(every[way] for way in ways))
        elif len(every) == 1 and ways:
            sentences.append(every[ways[0]])
    return sentences


def _smallest(result: Result) -> list[str]:
    return [f"The smallest that fails: {result.case} ({result.kind})", *_asked(result)]


def _asked(result: Result) -> list[str]:
    tokens = result.weight[0]
    told = [
        ("why", result.why),
        (
            "logits",
            f"{result.logits} ({tokens} token{'s' * (tokens != 1)})" if result.logits else "",
        ),
        ("settings", ", ".join(f"{k} = {v}" for k, v in result.settings.items()) or "none"),
        ("expected", result.expected),
        ("got", result.got),
        ("wrong", result.text),
    ]
    return [f"  {name:8}  {text}" for name, text in told if text]


def _writable(text: str) -> str:
    return UNWRITABLE.sub("?", text)
