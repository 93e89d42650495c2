"""Figures that several chapters draw; each function takes and returns ``ax``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from torch import Tensor

from omnivault.figures.style import COLORS, INK, LINES, SIGNED

__all__ = ["bars", "images", "paths", "simplex", "simplex_points"]


def bars(
    ax: Axes,
    values: Tensor,
    labels: Sequence[str],
    *,
    color: str = COLORS[0],
    number_format: str = "{:.3g}",
) -> Axes:
    """Draw one horizontal bar a class, with its number at the end of the bar.

    Parameters
    ----------
    ax
        Where to draw.
    values
        Shape ``(K,)``.
    labels
        K names, drawn from top to bottom.
    color
        Of the bars.
    number_format
        Of the numbers.
    """
    heights = values.tolist()
    drawn = ax.barh(range(len(heights)), heights, color=color, height=0.7)
    ax.bar_label(drawn, [number_format.format(v) for v in heights], padding=3, fontsize=10)
    ax.set_yticks(range(len(heights)), labels)
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.margins(x=0.22)
    ax.xaxis.set_visible(False)
    ax.spines[["left", "bottom"]].set_visible(False)
    return ax


def paths(ax: Axes, x: Tensor, p: Tensor, labels: Sequence[str], *, xlabel: str) -> Axes:
    """Draw each class's probability along a logarithmic parameter, the largest class first.

    Parameters
    ----------
    ax
        Where to draw.
    x
        The parameter, shape ``(N,)``, positive.
    p
        Probabilities, shape ``(N, K)``.
    labels
        K names.
    xlabel
        Name of the parameter.
    """
    for rank, k in enumerate(p.sum(0).argsort(descending=True).tolist()):
        ax.plot(x, p[:, k], linestyle=LINES[rank % len(LINES)], label=labels[k])
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlabel(xlabel)
    ax.set_ylabel("probability")
    ax.legend()
    return ax


def simplex_points(p: Tensor) -> Tensor:
    """Map probabilities of three classes to the triangle (0, 0), (1, 0), (1/2, sqrt(3)/2).

    Parameters
    ----------
    p
        Shape ``(..., 3)``.

    Returns
    -------
    Tensor
        Shape ``(..., 2)``.

    Examples
    --------
    >>> simplex_points(torch.tensor([0.0, 0.0, 1.0]))
    tensor([0.5000, 0.8660])
    """
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]], dtype=p.dtype)
    return p @ corners


def simplex(ax: Axes, labels: Sequence[str] = ("$p_1$", "$p_2$", "$p_3$")) -> Axes:
    """Draw the triangle of all distributions on three classes; its dashed edge is never reached.

    Parameters
    ----------
    ax
        Where to draw.
    labels
        Names of the corners.
    """
    corners = simplex_points(torch.eye(3))
    ax.fill(*corners.T, facecolor="none", edgecolor=INK, linewidth=1.2, linestyle="--")
    offsets, alignments = [(-6, -12), (6, -12), (0, 6)], ["right", "left", "center"]
    for corner, label, offset, align in zip(corners, labels, offsets, alignments, strict=True):
        ax.annotate(label, corner.tolist(), offset, textcoords="offset points", ha=align)
    ax.set_aspect("equal")
    ax.axis("off")
    ax.margins(0.12)
    return ax


def images(
    ax: Axes, pixels: Tensor, labels: Sequence[str], *, columns: int = 10, signed: bool = False
) -> Axes:
    """Draw small images in rows, each with its label above.

    Parameters
    ----------
    ax
        Where to draw.
    pixels
        Shape ``(N, height, width)``.
    labels
        N names.
    columns
        Images a row.
    signed
        Draw zero white, positive blue and negative red; otherwise the largest value is black.
    """
    count, height, width = pixels.shape
    # A label's height in pixels of the images, if the row is as wide as a figure.
    label_height = 0.035 * columns * (width + 1)
    pitch = height + 1.3 * label_height
    reach = pixels.abs().max().item()
    for n, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        left, top = (n % columns) * (width + 1), (n // columns) * pitch
        ax.imshow(
            image.numpy(),
            cmap=SIGNED if signed else "Greys",
            vmin=-reach if signed else 0,
            vmax=reach,
            extent=(left, left + width, top + height, top),
        )
        ax.text(
            left + width / 2, top - 0.1 * label_height, label, ha="center", va="bottom", fontsize=10
        )
    rows = -(-count // columns)
    ax.set_xlim(-0.5, min(count, columns) * (width + 1) - 0.5)
    ax.set_ylim(rows * pitch - label_height, -1.1 * label_height)
    ax.set_aspect("equal")
    ax.axis("off")
    return ax
