"""Figures of the chapter ``first_principles``; each function takes and returns ``ax``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import cycle

from matplotlib.axes import Axes
from torch import Tensor

from omnivault.figures.style import LINES

__all__ = ["share_under_shift"]


def share_under_shift(
    ax: Axes,
    scores: Tensor,
    weights: Mapping[str, Callable[[Tensor], Tensor]],
    shifts: Tensor,
) -> Axes:
    """Draw the share of the largest score while a constant is added to all scores.

    Parameters
    ----------
    ax
        Where to draw.
    scores
        Shape ``(K,)``.
    weights
        Name and function f of each candidate; the share is f(z_i + c) / sum_k f(z_k + c).
    shifts
        The constants c, shape ``(N,)``.
    """
    shifted = scores.double() + shifts.double().unsqueeze(-1)
    for (name, weight), line in zip(weights.items(), cycle(LINES)):
        w = weight(shifted)
        ax.plot(shifts, w[:, scores.argmax()] / w.sum(-1), linestyle=line, label=name)
    ax.set_xlabel("constant added to every score")
    ax.set_ylabel("share of the largest score")
    ax.legend()
    return ax
