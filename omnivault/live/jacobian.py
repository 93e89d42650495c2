"""Live figure: the Jacobian of softmax and the covariance of draws."""

from __future__ import annotations

from collections.abc import Sequence

from omnivault.live.figure import LiveFigure, some_logits


def jacobian(logits: Sequence[float] = (2.0, 1.0, 0.0, -1.0)) -> LiveFigure:
    """Show the Jacobian of softmax beside the covariance of one-hot draws, divided by T.

    Parameters
    ----------
    logits
        Four numbers in [-4, 4] to start with, in steps of 0.1.

    Returns
    -------
    LiveFigure
        Its values: ``probs``; the ``jacobian``, four rows of four; the ``covariance`` of the draws,
        about their mean and with 1 / n, divided by T; the ``largest`` absolute difference of the
        two; ``counts`` and ``shares`` of the draws.

    Raises
    ------
    ValueError
        There are not four logits, or one is out of reach or between the steps of 0.1.

    Examples
    --------
    >>> values, = jacobian().values({"temperature": 2, "draws": 100_000})
    >>> [round(x, 3) for x in values["jacobian"][0]]
    [0.124, -0.063, -0.038, -0.023]
    >>> values["largest"] < 0.001
    True
    """
    return LiveFigure(
        "jacobian",
        "The Jacobian of softmax and the covariance of draws",
        {"logits": some_logits(logits, 4, 4)},
    )
