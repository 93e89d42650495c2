"""Figures of the chapter ``probability``; each function takes and returns ``ax``."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import torch
from matplotlib.axes import Axes
from torch import Tensor

from omnivault.calibration import reliability_bins
from omnivault.figures.common import simplex_points
from omnivault.figures.style import COLORS, INK, LINES, MARKERS
from omnivault.softmax import softmax

__all__ = ["reliability", "simplex_grid"]


def reliability(ax: Axes, claimed: Mapping[str, Tensor], came_true: Tensor, bins: int = 10) -> Axes:
    """Draw how often claims of each size came true; a calibrated model lies on the diagonal.

    Parameters
    ----------
    ax
        Where to draw.
    claimed
        For each name, probabilities claimed for an event, shape ``(N,)``.
    came_true
        Whether it happened, booleans of shape ``(N,)``.
    bins
        Number of equal bins of the claims.
    """
    ax.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":")
    for (name, claims), marker in zip(claimed.items(), cycle(MARKERS)):
        groups = reliability_bins(claims, came_true, bins)
        seen = groups.counts >= 30
        ax.plot(
            groups.claimed[seen], groups.frequency[seen], marker=marker, markersize=5, label=name
        )
    ax.set_xlabel("claimed probability")
    ax.set_ylabel("frequency")
    ax.legend()
    return ax


def simplex_grid(ax: Axes, lines: Tensor, reach: float = 8.0) -> Axes:
    """Draw on a simplex the images of the lines z_1 = c and z_2 = c of the plane z_3 = 0.

    Parameters
    ----------
    ax
        Where to draw; call :func:`simplex` first.
    lines
        The constants c, shape ``(N,)``.
    reach
        The other logit runs over [-reach, reach].
    """
    free = torch.linspace(-reach, reach, 201)
    for c in lines:
        fixed = torch.full_like(free, float(c))
        for k, pair in enumerate([(fixed, free), (free, fixed)]):
            z = torch.stack([*pair, torch.zeros_like(free)], dim=-1)
            ax.plot(*simplex_points(softmax(z)).T, color=COLORS[k], linestyle=LINES[k], linewidth=1)
    return ax
