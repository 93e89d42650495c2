"""Figures of the chapter ``classification``; each function takes and returns ``ax``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from matplotlib.axes import Axes
from torch import Tensor

from omnivault.figures.style import COLORS, MARKERS

__all__ = ["regions"]


def regions(
    ax: Axes, probabilities: Callable[[Tensor], Tensor], draws: Tensor, reach: float = 3.5
) -> Axes:
    """Draw where each of a few classes is the most probable one, and points of each class.

    Parameters
    ----------
    ax
        Where to draw.
    probabilities
        Maps points of shape ``(N, 2)`` to probabilities of shape ``(N, K)``.
    draws
        Points of each class, shape ``(N, K, 2)``.
    reach
        Both coordinates run over [-reach, reach].
    """
    grid = torch.linspace(-reach, reach, 241, dtype=draws.dtype)
    points = torch.stack(torch.meshgrid(grid, grid, indexing="xy"), dim=-1)
    most_probable = probabilities(points.reshape(-1, 2)).argmax(-1).reshape(241, 241)
    classes = draws.shape[1]
    ax.contourf(
        grid,
        grid,
        most_probable,
        levels=[k - 0.5 for k in range(classes + 1)],
        colors=COLORS[:classes],
        alpha=0.25,
    )
    for k in range(classes):
        ax.plot(*draws[:, k].T, MARKERS[k], color=COLORS[k], markersize=3)
    ax.set_xlim(-reach, reach)
    ax.set_ylim(-reach, reach)
    ax.set_aspect("equal")
    return ax
