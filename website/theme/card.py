"""The picture that other sites show beside a link to the book, drawn when the book is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

LOGITS = np.array([2.0, 1.0, 3.0, 5.0, 4.0])  # those of the first page

# As in the figures (a test compares them). Their module would load PyTorch, for five bars.
INK = "#222222"
COLORS = {0.5: "#267f99", 1.0: "#6d8057", 3.0: "#bb7516"}


def draw_card(title: str, path: Path) -> None:
    """Write a PNG of 1200 x 630 pixels: the title, and one order at three temperatures."""
    figure = Figure(figsize=(12, 6.3), dpi=100, facecolor="#fdfcf9")
    FigureCanvasAgg(figure)
    text: dict[str, Any] = {"color": INK, "family": "DejaVu Serif"}
    figure.text(0.07, 0.8, title, fontsize=46, **text)
    figure.text(0.07, 0.69, "Softmax, temperature and sampling", fontsize=25, **text)
    for i, (temperature, color) in enumerate(COLORS.items()):
        ax = figure.add_axes((0.07 + 0.3 * i, 0.14, 0.26, 0.4))
        weights = np.exp((LOGITS - LOGITS.max()) / temperature)
        ax.bar(range(5), weights / weights.sum(), color=color, width=0.7)
        ax.set_ylim(0, 0.9)
        ax.set_title(f"T = {temperature:g}", fontsize=22, loc="left", **text)
        ax.set_xticks(range(5), list("abcde"), fontsize=18, **text)
        ax.tick_params(length=0)
        ax.set_yticks([])
        ax.set_facecolor("none")
        for side in ("left", "right", "top"):
            ax.spines[side].set_visible(False)
    figure.savefig(path, metadata={"Software": None})
