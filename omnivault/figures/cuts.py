"""Figures of the chapter ``cuts``; each function takes and returns ``ax``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Circle, Rectangle

from omnivault.figures.style import COLORS

__all__ = ["commutation"]


def commutation(
    ax: Axes,
    names: Sequence[str],
    sizes: Mapping[tuple[str, str], int],
    ring: tuple[str, str],
) -> Axes:
    """Draw a triangle of all pairs of maps, filled where they commute.

    Parameters
    ----------
    ax
        Where to draw.
    names
        Of the maps, in the order of rows and columns.
    sizes
        Of pairs that do not commute, the number that stands in their square.
    ring
        A pair that gets a ring.
    """
    for row, below in enumerate(names):
        for column, above in enumerate(names[: row + 1]):
            pair = (above, below)
            face = "none" if pair in sizes else COLORS[0]
            square = Rectangle(
                (column - 0.42, row - 0.42), 0.84, 0.84, facecolor=face, edgecolor=COLORS[4], lw=0.5
            )
            ax.add_patch(square)
            if pair in sizes:
                text = str(sizes[pair])
                ax.text(column, row, text, ha="center", va="center", fontsize=8)
            if pair == ring:
                ax.add_patch(Circle((column, row), 0.36, fill=False, edgecolor=COLORS[1], lw=1.6))
    places = range(len(names))
    ax.set_xticks(places, names, rotation=60, ha="right", rotation_mode="anchor", fontsize=9)
    ax.set_yticks(places, names, fontsize=9)
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_aspect("equal")
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax
