"""Figures of the chapter ``derivatives``; each function takes and returns ``ax``."""

from __future__ import annotations

from matplotlib.axes import Axes
from torch import Tensor

from omnivault.figures.style import INK, SIGNED

__all__ = ["matrix"]


def matrix(ax: Axes, values: Tensor, number_format: str = "{:z.0f}") -> Axes:
    """Draw a square matrix as a map with its numbers: blue above zero, vermilion below.

    Parameters
    ----------
    ax
        Where to draw.
    values
        Shape ``(K, K)``.
    number_format
        Of the numbers.
    """
    reach = values.abs().max().item()
    ax.imshow(values.numpy(), cmap=SIGNED, vmin=-reach, vmax=reach)
    for i, row in enumerate(values.tolist()):
        for j, value in enumerate(row):
            color = "#ffffff" if abs(value) > 0.6 * reach else INK
            text = number_format.format(value)
            ax.text(j, i, text, ha="center", va="center", color=color, fontsize=10)
    names = [str(k) for k in range(1, len(values) + 1)]
    ax.set_xticks(range(len(values)), names)
    ax.set_yticks(range(len(values)), names)
    ax.tick_params(length=0)
    ax.spines[["left", "bottom"]].set_visible(False)
    return ax
