"""Live figure: the path of softmax through the simplex of three classes, and samples around it."""

from __future__ import annotations

from collections.abc import Sequence

from omnivault.live.figure import LiveFigure, some_logits


def simplex(logits: Sequence[float] = (1.0, 0.5, -0.5)) -> LiveFigure:
    """Show softmax of three logits as a point that temperature moves along a path in a triangle.

    Parameters
    ----------
    logits
        Three numbers in [-3, 3] to start with, in steps of 0.1.

    Returns
    -------
    LiveFigure
        Its values: ``probs`` and their ``entropy`` in nats; the ``limit`` as T goes to 0; the
        ``path`` from there to the uniform distribution, a list of distributions; ``samples``, a
        list of frequencies; their ``mean``, and the ``spread``, the lowest and the highest
        frequency of the most probable class.

    Raises
    ------
    ValueError
        There are not three logits, or one is out of reach or between the steps of 0.1.

    Examples
    --------
    >>> values, = simplex((1.0, 1.0, -0.5)).values({"temperature": 0.05})
    >>> values["limit"], [round(p, 3) for p in values["probs"]]
    ([0.5, 0.5, 0], [0.5, 0.5, 0.0])
    """
    return LiveFigure(
        "simplex",
        "Softmax of three logits in the probability simplex",
        {"logits": some_logits(logits, 3, 3)},
    )
