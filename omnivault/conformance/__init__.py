r"""Is a sampler right? Cases for the sampler of any engine, in any language.

A hundred rows of logits with dials, each with the answers that are right: which tokens can be
drawn, their probabilities to 50 digits with the numbers between which float32 brings them, and how
often they come up in so many draws. The cases are data, ``cases.json`` in this package with the
schema ``cases.schema.json``, and need no Python. Where engines differ and may, every way is
admitted, has a name, and is told back: that is the dialect the sampler speaks. Two answers that
contradict one another fail, and so does one that no way excuses.

The dials are ``temperature``, ``top_k``, ``top_p``, ``min_p``, ``typical_p`` and ``top_n_sigma``; a
sampler names those that it has, and a dial that a case does not set is off.

**A sampler in Python**: a function of the logits, with -inf for a token that is ruled out, and of
the dials that are set. It raises ``ValueError`` for what it refuses.

>>> import math
>>> def probs(logits, settings):
...     if not settings.get("temperature", 1.0) > 0:
...         raise ValueError("the temperature must be positive")
...     weights = [math.exp((z - max(logits)) / settings.get("temperature", 1.0)) for z in logits]
...     return [weight / sum(weights) for weight in weights]
>>> report = check(Sampler("mine", dials=["temperature"], probs=probs), cases=["plain", "permuted"])
>>> print(report)
mine: 2 passed.
>>> report.exit_code
0

One that only draws has ``draw(logits, settings, n, seed)``, which returns n tokens; one that only
knows its kept set has ``kept(logits, settings)``. ``probs_batch`` and ``draw_batch`` take lists of
rows and of settings, and return a list for each row. ``report.write_junit("conformance.xml")``
writes what systems of continuous integration read.

**In any other language**, a program that answers each line of its standard input by one on its
standard output, and that flushes it::

    {"do": "hello"}
    {"name": "mine", "version": "1.0", "dials": ["temperature", "top_k"], "can": ["draw"]}
    {"do": "draw", "logits": [1.5, "-inf", 0.0], "settings": {"top_k": 1}, "n": 3, "seed": 7}
    {"tokens": [0, 0, 0]}
    {"do": "probs", "logits": [0.0, 0.0], "settings": {"temperature": 2}}
    {"probs": [0.5, 0.5]}

It answers ``{"kept": [...]}`` to ``"kept"``, a list for each row to ``"probs_batch"`` and
``"draw_batch"``, ``{"refused": "why"}`` to settings that it refuses, and ``{"error": "what"}`` if
anything else goes wrong. Numbers have nine digits or more. Then
``python -m omnivault.conformance --junit conformance.xml PROGRAM ARGUMENTS`` prints the report and
exits with 0 if all pass, 1 if anything fails, 2 if it could not be asked. ``omnivault`` and
``torch`` in place of a program are samplers to look at first; ``--list`` lists the cases.

What the numbers promise: :mod:`omnivault.conformance.exact` says how far a probability may be off,
and proves it. A right sampler that draws fails with a chance of at most ``report.false_alarm``,
less than 1e-4 for all cases together.
"""

from omnivault.conformance.cases import Answer, Batch, Case, Suite, read_cases
from omnivault.conformance.check import KINDS, Sampler, check
from omnivault.conformance.programs import Program, ProtocolError
from omnivault.conformance.report import Report, Result, in_words
from omnivault.conformance.results import read_results
from omnivault.conformance.speakers import speakers

__all__ = [
    "KINDS",
    "Answer",
    "Batch",
    "Case",
    "Program",
    "ProtocolError",
    "Report",
    "Result",
    "Sampler",
    "Suite",
    "check",
    "in_words",
    "read_cases",
    "read_results",
    "speakers",
]
