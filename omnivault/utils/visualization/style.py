"""How a notebook shows Matplotlib figures."""

from __future__ import annotations

from IPython.core.getipython import get_ipython
from matplotlib import rcParams
from matplotlib_inline.backend_inline import set_matplotlib_formats

__all__ = ["use_svg_display"]


def use_svg_display() -> None:
    """Show inline figures as SVG: sharp at any zoom, and the same bytes on every run.

    Outside IPython there is nothing to show, and the call does nothing.

    Examples
    --------
    >>> use_svg_display()
    """
    if get_ipython() is not None:
        # Clip paths are named by a hash, and by default the salt is drawn anew in every process.
        rcParams["svg.hashsalt"] = "omnivault"
        options = {"metadata": {"Date": None}, "bbox_inches": None}
        set_matplotlib_formats("svg", **options)  # type: ignore[no-untyped-call]
