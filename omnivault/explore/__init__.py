"""Figures that answer the reader's hand.

Each function returns a :class:`LiveFigure`. It is computed in the reader's browser, in a notebook
as on a page of the book, and has a still picture for where no script runs.
"""

from omnivault.explore.entropy import entropy
from omnivault.explore.figure import LiveFigure
from omnivault.explore.jacobian import jacobian
from omnivault.explore.kl_fit import kl_fit
from omnivault.explore.next_token import next_token
from omnivault.explore.order import order
from omnivault.explore.overflow import overflow
from omnivault.explore.race import race
from omnivault.explore.reliability import reliability
from omnivault.explore.search_tree import search_tree
from omnivault.explore.simplex import simplex
from omnivault.explore.speculative import speculative

__all__ = [
    "LiveFigure",
    "entropy",
    "jacobian",
    "kl_fit",
    "next_token",
    "order",
    "overflow",
    "race",
    "reliability",
    "search_tree",
    "simplex",
    "speculative",
]
