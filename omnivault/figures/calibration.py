"""Figures of the chapter ``calibration``; each function takes and returns ``ax``."""

from __future__ import annotations

from matplotlib.axes import Axes

from omnivault.calibration import ReliabilityBins
from omnivault.figures.style import COLORS, INK

__all__ = ["reliability_diagram"]


def reliability_diagram(ax: Axes, groups: ReliabilityBins, *, least: int = 1) -> Axes:
    """Draw the share of claims that came true against their size, with standard errors.

    Parameters
    ----------
    ax
        Where to draw.
    groups
        What :func:`omnivault.calibration.reliability_bins` returns.
    least
        Groups with fewer claims are left out.
    """
    seen = groups.counts >= least
    count, claimed, frequency = (field[seen] for field in groups)
    # The spread that a calibrated model would have: a share of 0 or 1 has an error too.
    error = (claimed * (1 - claimed) / count).sqrt()
    ax.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":")
    ax.errorbar(
        claimed, frequency, error, fmt="o", color=COLORS[0], markersize=4, capsize=2, clip_on=False
    )
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.02)
    return ax
