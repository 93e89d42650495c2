"""Live figure: one bump fitted to two, under the two directions of the divergence."""

from __future__ import annotations

from omnivault.live.figure import LiveFigure


def kl_fit(distance: int = 18, weight: float = 0.65) -> LiveFigure:
    """Fit a single bump q by hand to a target p with two, by KL(p || q) or KL(q || p).

    The outcomes are 0 to 40. The target is a mixture of two bumps, of the widths 2 and 3, around
    19; a bump with the center m and the width s is the softmax of -(k - m)^2 / (2 s^2).

    Parameters
    ----------
    distance
        Distance of the two bumps to start with, an integer from 0 to 20.
    weight
        Weight of the left bump to start with, a multiple of 0.05 in [0, 1].

    Returns
    -------
    LiveFigure
        Its values: ``p`` and ``q``; the divergences ``forward``, KL(p || q), and ``reverse``,
        KL(q || p), in nats; ``best_forward`` and ``best_reverse``, the ``center`` and ``width`` on
        offer where each is least, and that ``value``; ``moments_p`` and ``moments_q``, ``mean``
        and ``variance``.

    Raises
    ------
    ValueError
        A slider does not offer the distance or the weight.

    Examples
    --------
    >>> values, = kl_fit().values({"center": 10, "width": 2})
    >>> round(values["forward"], 2), round(values["reverse"], 2)
    (13.6, 0.43)
    """
    return LiveFigure(
        "kl_fit",
        "One bump fitted to two, by either direction of the divergence",
        {},
        {"distance": distance, "weight": weight},
    )
