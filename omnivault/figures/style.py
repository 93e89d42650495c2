"""The look of the figures: one style, one palette.

Every figure is drawn at most :data:`WIDTH` inches wide, so that its text is still of reading size
on a phone, and on a transparent ground, so that it sits on a light and on a dark page.
"""

from __future__ import annotations

import matplotlib as mpl
import torch
from cycler import cycler
from matplotlib.colors import LinearSegmentedColormap

from omnivault.utils.visualization.style import use_svg_display

__all__ = [
    "COLORS",
    "HEAT",
    "INK",
    "LINES",
    "MARKERS",
    "SIGNED",
    "WIDTH",
    "temperature_color",
    "use_book_style",
]

WIDTH = 5.2
"""Inches. The widest figure that a 390-pixel screen still shows at reading size."""

COLORS = ("#1f4e8c", "#c4502e", "#1f8a7d", "#b9800f", "#6b6b6b", "#8a4f9e")
"""Blue, vermilion, teal, amber, gray, purple, each with a contrast of at least 3 to 1 against
white. Lines also differ in their dashes and points in their shape, so nothing depends on seeing
hue."""

INK = "#222222"
"""Nearly black; the website turns it light where the page is dark."""

HEAT = LinearSegmentedColormap.from_list("heat", ["#1f3b73", "#1f7fa0", "#b9800f", "#c4502e"])
"""From cold to hot, the scale of temperatures."""

SIGNED = LinearSegmentedColormap.from_list("signed", ["#c4502e", "#ffffff", "#1f4e8c"])
"""Negative vermilion, zero white, positive blue."""

MARKERS = ("o", "s", "^", "D", "v", "P")
"""Shapes of points, one for each color."""

LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
"""Dashes of lines, one for each color."""


def use_book_style() -> None:
    """Set Matplotlib's defaults to the book's style and show figures as SVG.

    Examples
    --------
    >>> use_book_style()
    """
    use_svg_display()
    mpl.rcParams.update(
        {
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.prop_cycle": cycler(color=COLORS),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "figure.constrained_layout.use": True,
            "figure.facecolor": "none",
            "figure.figsize": (WIDTH, 3.2),
            "font.size": 11,
            "axes.facecolor": "none",
            "axes.labelsize": 11,
            "legend.fontsize": 10,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "savefig.facecolor": "none",
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
        }
    )


def temperature_color(temperature: float, lowest: float = 0.1, highest: float = 10.0) -> str:
    """Color of a temperature, cold blue to hot red on a logarithmic scale.

    Examples
    --------
    >>> temperature_color(0.1), temperature_color(10.0)
    ('#1f3b73', '#c4502e')
    """
    low, high, value = torch.tensor([lowest, highest, temperature]).log().tolist()
    return mpl.colors.to_hex(HEAT(min(max((value - low) / (high - low), 0.0), 1.0)))
