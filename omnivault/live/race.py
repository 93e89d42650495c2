"""Live figure: sampling from softmax as a race, with Gumbel noise."""

from __future__ import annotations

from collections.abc import Sequence

from omnivault.live.figure import LiveFigure, some_logits


def race(logits: Sequence[float] = (2.0, 1.0, 0.0, -1.0)) -> LiveFigure:
    """Draw from softmax as a race; the largest logit over T plus Gumbel noise wins.

    Parameters
    ----------
    logits
        Four numbers in [-3, 3] to start with, in steps of 0.1.

    Returns
    -------
    LiveFigure
        Its values: ``scaled``, the logits over T; the ``noise`` of the last race, the ``totals`` of
        both, and the ``winner``, an index; the ``wins`` of each class in all races so far, and the
        ``probs`` by softmax. The noise of a race does not depend on the logits or T.

    Raises
    ------
    ValueError
        There are not four logits, or one is out of reach or between the steps of 0.1.

    Examples
    --------
    >>> cold, hot = race().values({"temperature": 0.5}, {"temperature": 2})
    >>> cold["scaled"], hot["scaled"]
    ([4, 2, 0, -2], [1, 0.5, 0, -0.5])
    >>> cold["noise"] == hot["noise"]
    True
    """
    z = some_logits(logits, 4, 3)
    return LiveFigure("race", "Sampling from softmax as a race", {"logits": z})
