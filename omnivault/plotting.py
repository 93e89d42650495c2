"""The figures of the book: one style, one palette, functions that take and return ``ax``.

Every figure is drawn at most :data:`WIDTH` inches wide, so that its text is still of reading size
on a phone, and on a transparent ground, so that it sits on a light and on a dark page.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import cycle

import matplotlib as mpl
import torch
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from torch import Tensor

from omnivault.calibration import ReliabilityBins, reliability_bins
from omnivault.information import entropy
from omnivault.softmax import logsumexp, softmax
from omnivault.utils.visualization.style import use_svg_display

__all__ = [
    "COLORS",
    "HEAT",
    "WIDTH",
    "bars",
    "entropy_levels",
    "entropy_objective",
    "exponent_ranges",
    "images",
    "level_sets",
    "lipschitz_ratios",
    "matrix",
    "paths",
    "regions",
    "reliability",
    "reliability_diagram",
    "search_tree",
    "share_under_shift",
    "simplex",
    "simplex_grid",
    "simplex_paths",
    "simplex_points",
    "smooth_maximum",
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
HEAT = LinearSegmentedColormap.from_list("heat", ["#1f3b73", "#1f7fa0", "#b9800f", "#c4502e"])
"""From cold to hot, the scale of temperatures."""

SIGNED = LinearSegmentedColormap.from_list("signed", ["#c4502e", "#ffffff", "#1f4e8c"])
"""Negative vermilion, zero white, positive blue."""

MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))


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


def share_under_shift(
    ax: Axes,
    scores: Tensor,
    weights: Mapping[str, Callable[[Tensor], Tensor]],
    shifts: Tensor,
) -> Axes:
    """Draw the share of the largest score while a constant is added to all scores.

    Parameters
    ----------
    ax
        Where to draw.
    scores
        Shape ``(K,)``.
    weights
        Name and function f of each candidate; the share is f(z_i + c) / sum_k f(z_k + c).
    shifts
        The constants c, shape ``(N,)``.
    """
    shifted = scores.double() + shifts.double().unsqueeze(-1)
    for (name, weight), line in zip(weights.items(), cycle(LINES)):
        w = weight(shifted)
        ax.plot(shifts, w[:, scores.argmax()] / w.sum(-1), linestyle=line, label=name)
    ax.set_xlabel("constant added to every score")
    ax.set_ylabel("share of the largest score")
    ax.legend()
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


def simplex_paths(ax: Axes, rows: Mapping[str, Tensor]) -> Axes:
    """Draw on a simplex the curves of softmax_T(z) for T from 0 to infinity.

    Parameters
    ----------
    ax
        Where to draw; call :func:`simplex` first.
    rows
        Name and logits, shape ``(3,)``, of each curve.
    """
    temperatures = torch.logspace(-3, 4, 701, dtype=torch.float64)
    for (name, z), line, marker in zip(rows.items(), cycle(LINES), cycle(MARKERS)):
        curve = simplex_points(softmax(z.double() / temperatures.unsqueeze(-1)))
        (drawn,) = ax.plot(*curve.T, linestyle=line, label=f"$z$ = {name}")
        color = drawn.get_color()
        ax.plot(*curve[0], marker, color=color, markersize=9, clip_on=False)
        ax.plot(*simplex_points(softmax(z.double())), marker, color=color, markersize=5)
    ax.legend(loc="upper left", bbox_to_anchor=(-0.12, 1))
    return ax


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


def search_tree(ax: Axes, probs: Mapping[str, float], kept: Collection[str]) -> Axes:
    """Draw a tree of texts from left to right, a level a token.

    Parameters
    ----------
    ax
        Where to draw.
    probs
        Probability of each text, by its name, one letter a token; the text without its last letter
        is its parent. Texts of one level are drawn from top to bottom in the order given.
    kept
        Names of the texts with a filled mark.
    """
    leaves = [name for name in probs if not any(o != name and o.startswith(name) for o in probs)]
    height = {name: -float(leaves.index(name)) for name in leaves}
    for name in sorted(probs, key=len, reverse=True):
        under = [height[o] for o in probs if len(o) == len(name) + 1 and o.startswith(name)]
        height.setdefault(name, sum(under) / len(under) if under else 0.0)
    first = [height[name] for name in probs if len(name) == 1]
    height[""] = sum(first) / len(first)
    for name, p in probs.items():
        ends = [height[name[:-1]], height[name]]
        color = COLORS[0] if name in kept else COLORS[4]
        ax.plot([len(name) - 1, len(name)], ends, color=color, lw=1.8 if name in kept else 1)
        face = color if name in kept else "white"
        ax.plot(len(name), height[name], "o", color=color, mfc=face, ms=8, zorder=3)
        # Where branches fan out to the right, the label stands to the left, off the line from the
        # parent.
        fans_out = sum(len(o) == len(name) + 1 and o.startswith(name) for o in probs) > 1
        rising = height[name] >= height[name[:-1]]
        ax.annotate(
            f"{name}  {p:.3g}",
            (len(name), height[name]),
            (-8, 8 if rising else -16) if fans_out else (8, 5),
            textcoords="offset points",
            horizontalalignment="right" if fans_out else "left",
        )
    ax.set_xlim(-0.1, max(map(len, probs)) + 0.8)
    ax.set_ylim(min(height.values()) - 0.5, max(height.values()) + 0.8)
    ax.set_axis_off()
    return ax
