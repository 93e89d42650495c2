"""Live figure: order, common level and scale of five logits."""

from __future__ import annotations

from collections.abc import Sequence

from omnivault.explore.figure import LiveFigure


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
        There are not five logits, or one is out of reach.

    Examples
    --------
    >>> values, = order().values({"temperature": 2})
    >>> [round(p, 3) for p in values["probs"]]
    [0.096, 0.058, 0.158, 0.429, 0.26]
    """
    if len(logits) != 5 or not all(-5 <= z <= 5 for z in logits):
        raise ValueError(f"five logits in [-5, 5] are needed, got {list(logits)}")
    return LiveFigure("order", "Order, level and scale of five logits", {"logits": list(logits)})
