"""How an answer is checked: a verdict, and the cases that it rests on."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Check = Callable[[Any, torch.Generator], Iterator["Case"]]

CHECKS: dict[str, tuple[Check, str]] = {}  # by label: the check and its hint


@dataclass(frozen=True)
class Case:
    """One thing that an answer has to get right, and what to say if it does not."""

    holds: bool
    complaint: str


@dataclass(frozen=True)
class Verdict:
    """What :func:`check` found; it is true if, and only if, the answer holds."""

    holds: bool | None
    """Whether the answer held in every case, or ``None`` if there is no answer yet."""
    text: str
    """The same in words, with a hint where it did not hold."""

    def __bool__(self) -> bool:
        return self.holds is True

    def __repr__(self) -> str:
        return self.text


class NoAnswerError(Exception):
    """The answer is still what the book left open."""


class WrongAnswerError(Exception):
    """The answer cannot even be compared; the message says why."""


def exercise(label: str, *, hint: str) -> Callable[[Check], Check]:
    """Register the check of the exercise with this label."""

    def register(cases: Check) -> Check:
        if label in CHECKS:
            raise ValueError(f"the exercise {label!r} has two checks")
        CHECKS[label] = (cases, hint)
        return cases

    return register


def load(label: str | None = None) -> None:
    """Import the modules of the chapters, whose checks register themselves.

    With a label, only until its check is there: a chapter then needs no other chapter's checks.
    """
    package = importlib.import_module("omnivault.exercises")
    for module in pkgutil.iter_modules(package.__path__):
        if label in CHECKS:
            return
        importlib.import_module(f"{package.__name__}.{module.name}")


def check(label: str, answer: Any, *, generator: torch.Generator | None = None) -> Verdict:
    """Tell whether an answer to an exercise of the book holds.

    Where the exercise asks for a function, the function is called with random arguments, new ones
    every time.

    Parameters
    ----------
    label
        The label of the exercise, as in the cell below it.
    answer
        What the exercise asks for. No answer yet is ``...`` or ``None``, a list that holds one of
        them, and a function that returns either or raises ``NotImplementedError``.
    generator
        Where the random cases come from; without one they are new in every call.

    Returns
    -------
    Verdict
        True if the answer holds. It shows itself: as the number of cases that held, or as the
        first that did not, with a hint.

    Raises
    ------
    ValueError
        No exercise with a check has this label.

    Examples
    --------
    >>> import math
    >>> from omnivault import exercises
    >>> exercises.check("ex-newton", lambda b: b - math.sinh(b))
    Right, in all 20 cases.
    >>> bool(exercises.check("ex-newton", lambda b: b - math.tanh(b)))
    False
    >>> exercises.check("ex-newton", ...)
    Not answered yet.
    """
    load(label)
    if label not in CHECKS:
        close = difflib.get_close_matches(str(label), CHECKS, n=1)
        meant = f"; did you mean {close[0]!r}?" if close else f"; there are {sorted(CHECKS)}"
        raise ValueError(f"no exercise with a check has the label {label!r}{meant}")
    cases, hint = CHECKS[label]
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    held = 0
    try:
        if is_open(answer):
            raise NoAnswerError
        for case in cases(answer, generator):
            if not case.holds:
                return Verdict(False, f"Not yet: {case.complaint}\nHint: {hint}")
            held += 1
    except WrongAnswerError as error:
        return Verdict(False, f"Not yet: {error}\nHint: {hint}")
    except NoAnswerError:
        return Verdict(None, "Not answered yet.")
    return Verdict(True, "Right." if held == 1 else f"Right, in all {held} cases.")


def claim(condition: object, complaint: str) -> Case:
    """Make a case of a condition; the complaint says what is wrong where it does not hold."""
    return Case(bool(condition), complaint)


def returns(
    function: Any, *arguments: Any, expected: Any, rel: float = 1e-4, abs: float = 1e-6
) -> Case:
    """Call the reader's function and compare what it returns.

    Numbers, tensors and lists of numbers are equal within the relative and the absolute tolerance,
    and have to have the same shape; tuples, part by part; anything else has to be equal. Readers
    may compute in float32, where 1e-4 is over 1,600 roundings, and 1e-6 those of 16 numbers of
    size one; where more of them cancel, the check asks for less.
    """
    got, told = called(function, *arguments)
    digits = 4
    # What differs has to look different: "gives 0.5, not 0.5" helps nobody.
    while digits < 17 and shown(got, digits) == shown(expected, digits):
        digits += 1
    return Case(
        agree(got, expected, rel=rel, abs=abs),
        f"{told} {shown(got, digits)}, not {shown(expected, digits)}.",
    )


def called(
    function: Any, *arguments: Any, may_raise: type[Exception] | tuple[()] = ()
) -> tuple[Any, str]:
    """Call the reader's function.

    Returns what it returned, or what it raised if it may, and the beginning of a sentence about
    that.
    """
    if not callable(function):
        wanted = f"a function of {len(arguments)} argument{'s' * (len(arguments) > 1)}"
        raise WrongAnswerError(f"{wanted} is wanted, got {shown(function)}.")
    name = getattr(function, "__name__", "<lambda>")
    call = f"{'your function' if name == '<lambda>' else name}" + (
        f"({', '.join(shown(argument) for argument in arguments)})"
    )
    try:
        # A copy: an answer that changes its arguments in place must not change the check.
        got = function(*(a.clone() if isinstance(a, torch.Tensor) else a for a in arguments))
    except NotImplementedError:
        raise NoAnswerError from None
    except may_raise as error:
        return error, f"{call} raises {type(error).__name__}: {error}"
    except Exception as error:
        raise WrongAnswerError(f"{call} raises {type(error).__name__}: {error}") from error
    if is_open(got):
        raise NoAnswerError
    return got, f"{call} gives"


def is_open(answer: Any) -> bool:
    """Whether this is what the book wrote where the answer belongs."""
    if isinstance(answer, (list, tuple)):
        return any(is_open(part) for part in answer)
    return answer is None or answer is ...


def agree(got: Any, expected: Any, *, rel: float = 1e-4, abs: float = 1e-6) -> bool:
    """Whether an answer agrees with what is expected, as :func:`returns` says."""
    if isinstance(expected, (bool, str, set, frozenset, dict)):
        return bool(got == expected)
    if isinstance(expected, tuple):  # parts of a result, of any shapes
        parts = list(got) if isinstance(got, (list, tuple)) or getattr(got, "ndim", None) else []
        return len(parts) == len(expected) and all(
            agree(part, wanted, rel=rel, abs=abs)
            for part, wanted in zip(parts, expected, strict=True)
        )
    one, other = tensor_of(got), tensor_of(expected)
    if one is None or other is None or one.shape != other.shape:
        return False
    return torch.allclose(one, other, rtol=rel, atol=abs, equal_nan=True)


def tensor_of(value: Any) -> torch.Tensor | None:
    """Return numbers as a float64 tensor, and anything else as ``None``."""
    try:
        if isinstance(value, Sequence) and not isinstance(value, str):
            value = torch.stack([torch.as_tensor(v, dtype=torch.float64) for v in value])
        if isinstance(value, torch.Tensor) and value.is_complex():
            return None
        return torch.as_tensor(value, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


def shown(value: Any, digits: int = 4) -> str:
    """Write a value as a person would: few digits, and not more than fits a line or two."""
    if isinstance(value, torch.Tensor):
        value = value.detach().tolist()
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    if isinstance(value, (list, tuple)):
        inner = ", ".join(shown(v, digits) for v in value)
        text = f"[{inner}]" if isinstance(value, list) else f"({inner})"
    else:
        text = repr(value)
    return text if len(text) <= 160 else f"{text[:157]}..."
