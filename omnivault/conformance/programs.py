"""A sampler in any language: a program that reads a JSON object a line and writes one a line."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any

from omnivault._checks import shown

HELLO = 60.0
"""Seconds that a program has to start and to say who it is."""

QUESTIONS = ("probs", "kept", "draw", "probs_batch", "draw_batch")


class ProtocolError(Exception):
    """The program did not start, ended, or wrote what the protocol does not know."""


class Program:
    """An adapter that asks a program.

    Its standard input gets one JSON object a line, and each is answered by one line on its
    standard output. ``{"do": "hello"}`` is answered by ``{"name": ..., "version": ...,
    "dials": [...], "can": [...]}``, and what it can do are some of ``probs``, ``kept``, ``draw``,
    ``probs_batch`` and ``draw_batch``. A logit of minus infinity is the string ``"-inf"``.

    It is started when it is first asked, and again after :meth:`stop`.

    Parameters
    ----------
    command
        The program and its arguments.

    Raises
    ------
    ProtocolError
        The program does not start, ends, or answers with what is not of the protocol.
    ValueError
        It refused the settings, in its own words.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = list(command)
        self.name = self.version = ""
        self.dials: list[str] = []
        self.can: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[str] | None = None
        self._lock = threading.Lock()

    def hello(self, seconds: float = HELLO) -> None:
        """Start the program and ask who it is; end it if it takes longer than that."""
        late = threading.Event()

        def end() -> None:  # then no answer comes, and whoever waits for it tidies up
            late.set()
            if (process := self._process) is not None:
                _kill(process)

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            self._introduced(self._ask({"do": "hello"}))
        except ProtocolError:
            self.stop()
            if not late.is_set():
                raise
            raise ProtocolError(
                f"{self.command[0]} did not answer to hello within {seconds:g} s"
            ) from None
        finally:
            timer.cancel()

    def _introduced(self, answer: Mapping[str, Any]) -> None:
        wrong = [key for key in ("name", "dials", "can") if key not in answer]
        if wrong:
            raise ProtocolError(
                f'the answer to {{"do": "hello"}} has no "{wrong[0]}": {shown(answer)}; it is '
                '{"name": ..., "version": ..., "dials": [...], "can": [...]}'
            )
        self.name, self.version = str(answer["name"]), str(answer.get("version", ""))
        self.dials, self.can = list(answer["dials"]), list(answer["can"])
        unknown = [what for what in self.can if what not in QUESTIONS]
        if unknown or not self.can:
            raise ProtocolError(
                f'"can" must name some of {", ".join(QUESTIONS)}, got {shown(self.can)}'
            )

    def __getattr__(self, name: str) -> Any:
        # Only what the program can: `check` looks for the methods that an adapter has.
        if name not in QUESTIONS or name not in self.__dict__.get("can", ()):
            raise AttributeError(name)
        key = {"draw": "tokens", "draw_batch": "tokens", "probs_batch": "probs"}.get(name, name)

        def ask(logits: Any, settings: Any, n: int = 0, seed: int = 0) -> Any:
            question = {"do": name, "logits": _written(logits), "settings": settings}
            if name.startswith("draw"):
                question |= {"n": n, "seed": seed}
            answer = self._ask(question)
            if key not in answer:
                raise ProtocolError(f'the answer to "{name}" has no "{key}": {shown(answer)}')
            return answer[key]

        return ask

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the program, whatever it does."""
        with self._lock:  # whoever waits for an answer may be at it too
            process, self._process = self._process, None
            errors, self._errors = self._errors, None
        if process is not None:
            _kill(process)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):  # what was not written yet is lost
                    if pipe is not None:
                        pipe.close()
        if errors is not None:
            errors.close()

    def _ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        process = self._process or self._start()
        errors = self._errors
        assert process.stdin is not None
        assert process.stdout is not None
        line = ""
        # A program that has ended is seen by the line that does not come.
        with contextlib.suppress(OSError, ValueError):
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        if not line:
            raise ProtocolError(
                f"the program ended without an answer{self._last_words(process, errors)}"
            )
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            self.stop()  # other lines may follow, and would answer other questions
            raise ProtocolError(
                f"an answer is one JSON object on one line, got {shown(line.strip())}; whatever "
                "else the program has to say belongs on stderr"
            )
        if "refused" in answer:
            raise ValueError(str(answer["refused"]))
        if "error" in answer:
            raise ProtocolError(f"the program says: {shown(answer['error'])}")
        return answer

    def _start(self) -> subprocess.Popen[str]:
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (see stop)
        try:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                encoding="utf-8",
                start_new_session=True,
            )
        except OSError as error:
            self.stop()
            raise ProtocolError(f"{self.command[0]} does not start: {error.strerror}") from None
        return self._process

    def _last_words(self, process: subprocess.Popen[str], errors: IO[str] | None) -> str:
        """How the program ended, and its last line on stderr; nothing if it was ended here."""
        if self._process is not process or errors is None:
            return ""
        try:
            ended = f"exit code {process.wait(1)}"
        except subprocess.TimeoutExpired:
            ended = "it closed its output and runs on"
        errors.seek(0)
        lines = errors.read().strip().splitlines()
        self.stop()
        said = f"; its last line on stderr: {shown(lines[-1])}" if lines else ""
        return f" ({ended}){said}"


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill a program and what it started, which would keep its pipes open."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def _written(logits: Any) -> Any:
    if isinstance(logits, list | tuple):
        return [_written(z) for z in logits]
    return "-inf" if logits == -math.inf else logits
