"""Live figure: entropy against temperature, and which probabilities rise and fall with it."""

from __future__ import annotations

from collections.abc import Sequence

from omnivault.live.figure import LiveFigure, some_logits


def entropy(logits: Sequence[float] = (2.0, 1.0, 3.0, 5.0, 4.0)) -> LiveFigure:
    """Show the entropy law and, for each token, whether it gains or loses with temperature.

    The reader can change to the same logits with a tie at the top (the second largest is set to
    the largest), with one far ahead (the largest plus 5), and to five equal ones.

    Parameters
    ----------
    logits
        Five numbers in [-5, 5], in steps of 0.1.

    Returns
    -------
    LiveFigure
        Its values: the chosen ``logits`` and their ``probs`` at T; ``entropy`` in nats, ``mean``
        and ``variance`` of the logits under ``probs``; the ``slope`` of the entropy, dH/dT, and
        ``rates``, dp_i/dT; the ``bound`` log 5; and ``curves``, with ``entropy`` and ``probs`` at
        each of ``temperatures``, the limit T = 0 included.

    Raises
    ------
    ValueError
        There are not five logits, or one is out of reach or between the steps of 0.1.

    Examples
    --------
    >>> values, = entropy().values({"temperature": 2})
    >>> round(values["entropy"], 3), round(values["slope"], 3)
    (1.394, 0.185)
    """
    z = some_logits(logits, 5, 5)
    first, second = sorted(range(5), key=lambda i: -z[i])[:2]
    choices = {
        "five steps": z,
        "a tie at the top": [z[first] if i == second else zi for i, zi in enumerate(z)],
        "one far ahead": [round(zi + 5, 1) if i == first else zi for i, zi in enumerate(z)],
        "all equal": [z[first]] * 5,
    }
    return LiveFigure(
        "entropy", "Entropy and probabilities against temperature", {"choices": choices}
    )
