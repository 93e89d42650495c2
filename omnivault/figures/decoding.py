"""Figures of the chapter ``decoding``; each function takes and returns ``ax``."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from matplotlib.axes import Axes

from omnivault.figures.style import COLORS

__all__ = ["search_tree"]


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
