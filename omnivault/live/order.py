"""Live figure: order, common level and scale of five logits."""

from __future__ import annotations

from collections.abc import Sequence

from omnivault.live.figure import LiveFigure, some_logits


def order(logits: Sequence[float] = (2.0, 1.0, 3.0, 5.0, 4.0)) -> LiveFigure:
    """Five logits to drag, with a constant to add, a factor to multiply by, and a temperature.

    Parameters
    ----------
    logits
        Five numbers in [-5, 5] to start with, in steps of 0.1.

    Returns
    -------
    LiveFigure
        Its values: ``logits`` after scale and shift, ``probs``, and the ``ranking`` by logits.

    Raises
    ------
    ValueError
        There are not five logits, or one is out of reach or between the steps of 0.1.

    Examples
    --------
    >>> values, = order().values({"temperature": 2})
    >>> [round(p, 3) for p in values["probs"]]
    [0.096, 0.058, 0.158, 0.429, 0.26]
    """
    z = some_logits(logits, 5, 5)
    return LiveFigure("order", "Order, level and scale of five logits", {"logits": z})
