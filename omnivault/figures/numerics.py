"""Figures of the chapter ``numerics``; each function takes and returns ``ax``."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes

from omnivault.figures.style import COLORS, INK

__all__ = ["exponent_ranges"]


def exponent_ranges(ax: Axes, borders: Mapping[str, tuple[float, float, float]]) -> Axes:
    """Draw for each floating-point format where exp(x) is zero, subnormal, normal and infinite.

    Parameters
    ----------
    ax
        Where to draw.
    borders
        For each format, the three x at which exp(x) stops being zero, subnormal and finite.
    """
    reach = 1000.0
    zones = (
        ("zero", "#d8d8d8", ""),
        ("subnormal", COLORS[3], ""),
        ("normal", COLORS[0], ""),
        ("infinite", COLORS[1], "////"),
    )
    for row, edges in enumerate(borders.values()):
        ends = (-reach, *edges, reach)
        for (name, color, hatch), left, right in zip(zones, ends[:-1], ends[1:], strict=True):
            ax.barh(
                row,
                right - left,
                left=left,
                height=0.6,
                color=color,
                hatch=hatch,
                edgecolor="#ffffff",
                linewidth=0,
                label=name if row == 0 else None,
            )
    ax.axvline(0, color=INK, linewidth=1.2)
    ax.set_xscale("symlog", linthresh=10)
    ax.set_xlim(-reach, reach)
    ax.set_xticks(
        [-700, -100, -10, 0, 10, 100, 700], ["−700", "−100", "−10", "0", "10", "100", "700"]
    )
    ax.set_yticks(range(len(borders)), list(borders))
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.set_xlabel("$x$")
    ax.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.4, 1), handlelength=1, columnspacing=1)
    return ax
