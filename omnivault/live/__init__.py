"""Figures that answer the reader's hand.

Each function returns a :class:`LiveFigure`. It is computed in the reader's browser, in a notebook
as on a page of the book, and has a still picture for where no script runs.
"""

from omnivault.live.cuts import cuts as cuts
from omnivault.live.entropy import entropy as entropy
from omnivault.live.figure import LiveFigure as LiveFigure
from omnivault.live.jacobian import jacobian as jacobian
from omnivault.live.kl_fit import kl_fit as kl_fit
from omnivault.live.next_token import next_token as next_token
from omnivault.live.one_problem import one_problem as one_problem
from omnivault.live.order import order as order
from omnivault.live.overflow import overflow as overflow
from omnivault.live.race import race as race
from omnivault.live.reliability import reliability as reliability
from omnivault.live.search_tree import search_tree as search_tree
from omnivault.live.simplex import simplex as simplex
from omnivault.live.speculative import speculative as speculative

__all__ = sorted(
    name
    for name, value in globals().items()
    if getattr(value, "__module__", "").startswith(__name__)
)
