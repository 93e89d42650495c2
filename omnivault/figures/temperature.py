"""Figures of the chapter ``temperature``; each function takes and returns ``ax``."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import torch
from matplotlib.axes import Axes
from torch import Tensor

from omnivault.figures.common import simplex_points
from omnivault.figures.style import LINES, MARKERS
from omnivault.softmax import softmax

__all__ = ["simplex_paths"]


def simplex_paths(ax: Axes, rows: Mapping[str, Tensor]) -> Axes:
    """Draw on a simplex the curves of softmax_T(z) for T from 0 to infinity.

    Parameters
    ----------
    ax
        Where to draw; call :func:`simplex` first.
    rows
        Name and logits, shape ``(3,)``, of each curve.
    """
    temperatures = torch.logspace(-3, 4, 701, dtype=torch.float64)
    for (name, z), line, marker in zip(rows.items(), cycle(LINES), cycle(MARKERS)):
        curve = simplex_points(softmax(z.double() / temperatures.unsqueeze(-1)))
        (drawn,) = ax.plot(*curve.T, linestyle=line, label=f"$z$ = {name}")
        color = drawn.get_color()
        ax.plot(*curve[0], marker, color=color, markersize=9, clip_on=False)
        ax.plot(*simplex_points(softmax(z.double())), marker, color=color, markersize=5)
    ax.legend(loc="upper left", bbox_to_anchor=(-0.12, 1))
    return ax
