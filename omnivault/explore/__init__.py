"""Figures that answer the reader's hand.

Each function returns a :class:`LiveFigure`. It is computed in the reader's browser, in a notebook
as on a page of the book, and has a still picture for where no script runs.
"""

from omnivault.explore.figure import LiveFigure
from omnivault.explore.next_token import next_token
from omnivault.explore.order import order

__all__ = ["LiveFigure", "next_token", "order"]
