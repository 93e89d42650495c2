"""Figures of the chapter ``categorical_family``; each function takes and returns ``ax``."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from torch import Tensor

from omnivault.figures.common import simplex_points
from omnivault.figures.style import COLORS
from omnivault.information import entropy

__all__ = ["entropy_levels"]


def entropy_levels(ax: Axes, levels: Tensor) -> Axes:
    """Draw on a simplex the lines of equal entropy.

    Parameters
    ----------
    ax
        Where to draw; call :func:`simplex` first.
    levels
        Entropies in nats, increasing, between 0 and log 3.
    """
    step = torch.linspace(0, 1, 201)
    first, second = torch.meshgrid(step, step, indexing="xy")
    # Fans from the first corner to the opposite edge, so that the grid ends where the simplex does.
    p = torch.stack([1 - first, first * (1 - second), first * second], dim=-1)
    x, y = simplex_points(p).unbind(-1)
    ax.contour(x, y, entropy(p), levels=levels, colors=COLORS[4], linewidths=0.8)
    return ax
