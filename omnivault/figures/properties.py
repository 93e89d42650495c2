"""Figures of the chapter ``properties``; each function takes and returns ``ax``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import torch
from matplotlib.axes import Axes
from torch import Tensor

from omnivault.figures.style import HEAT, INK, LINES, MARKERS, temperature_color
from omnivault.information import entropy
from omnivault.softmax import logsumexp, softmax

__all__ = ["entropy_objective", "level_sets", "lipschitz_ratios", "smooth_maximum"]


def level_sets(ax: Axes, temperature: float = 1.0, reach: float = 4.0) -> Axes:
    """Draw the level sets of softmax_T(z)_1 for two logits: lines along the direction (1, 1).

    Parameters
    ----------
    ax
        Where to draw.
    temperature
        T > 0.
    reach
        The logits run over [-reach, reach].
    """
    z = torch.linspace(-reach, reach, 101)
    first, second = torch.meshgrid(z, z, indexing="xy")
    p = softmax(torch.stack([first, second], dim=-1), temperature=temperature)[..., 0]
    levels = torch.tensor([0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95])
    drawn = ax.contour(first, second, p, levels=levels, cmap=HEAT)
    half_gap = temperature * levels.logit() / 2
    where = torch.stack([half_gap, -half_gap], dim=-1).tolist()  # a row across the lines
    ax.clabel(drawn, fmt="%.2f", fontsize=9, manual=where)
    ax.set_aspect("equal")
    ax.set_xlabel("$z_1$")
    ax.set_ylabel("$z_2$")
    return ax


def smooth_maximum(ax: Axes, temperatures: Sequence[float], reach: float = 4.0) -> Axes:
    """Draw LSE_T(x, 0) for several T over max(x, 0), which they approach from above.

    Parameters
    ----------
    ax
        Where to draw.
    temperatures
        The values of T.
    reach
        x runs over [-reach, reach].
    """
    x = torch.linspace(-reach, reach, 201)
    z = torch.stack([x, torch.zeros_like(x)], dim=-1)
    for temperature, line in zip(temperatures, cycle(LINES)):
        smooth = logsumexp(z, temperature=temperature)
        color = temperature_color(temperature)
        ax.plot(
            x, smooth, color=color, linestyle=line, label=f"$\\mathrm{{LSE}}_{{{temperature:g}}}$"
        )
    ax.plot(x, z.amax(-1), color=INK, linewidth=1.2, label="max")
    ax.set_xlabel("$x$")
    ax.set_ylabel("value at the logits $(x, 0)$")
    ax.legend()
    return ax


def entropy_objective(ax: Axes, logits: Tensor, temperatures: Sequence[float]) -> Axes:
    """Draw <p, z> + T H(p) over all distributions (p, 1 - p) on two classes, maximum marked.

    Parameters
    ----------
    ax
        Where to draw.
    logits
        Shape ``(2,)``.
    temperatures
        The values of T.
    """
    first = torch.linspace(0, 1, 401)
    p = torch.stack([first, 1 - first], dim=-1)
    for temperature, line, marker in zip(temperatures, cycle(LINES), cycle(MARKERS)):
        color = temperature_color(temperature)
        ax.plot(
            first,
            p @ logits + temperature * entropy(p),
            color=color,
            linestyle=line,
            label=f"$T = {temperature:g}$",
        )
        best = softmax(logits, temperature=temperature)[0]
        ax.plot(best, logsumexp(logits, temperature=temperature), marker, color=color)
    ax.set_xlabel("$p_1$")
    ax.set_ylabel(r"$\langle p, z\rangle + T\,H(p)$")
    ax.legend()
    return ax


def lipschitz_ratios(
    ax: Axes, distances: Mapping[str, Tensor], ratios: Mapping[str, Tensor]
) -> Axes:
    """Scatter how far softmax moves against how far its logits move, under the proved bound.

    Parameters
    ----------
    ax
        Where to draw.
    distances
        For each name, the lengths of u - v, shape ``(N,)``.
    ratios
        For each name, 2T times the stretch of softmax_T between u and v, at most 1.
    """
    for name, marker in zip(distances, cycle(MARKERS)):
        ax.plot(distances[name], ratios[name], marker, markersize=3, alpha=0.7, label=name)
    ax.axhline(1, color=INK, linewidth=1.2)
    ax.set_xscale("log")
    ax.set_xlabel(r"$\|u - v\|_2$")
    ax.set_ylabel(r"$2T\,\|\Delta p\|_2\,/\,\|u - v\|_2$")
    ax.legend(markerscale=2)
    return ax
