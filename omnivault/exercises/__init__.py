"""Checks of the reader's answers to the exercises of the book.

A cell below an exercise leaves the answer open and ends in a call of :func:`check`, which says
whether the answer holds, or how it fails and what might help.
"""

import importlib
import pkgutil

from omnivault.exercises.checking import Verdict, check

__all__ = ["Verdict", "check"]

# The module of each chapter registers its checks when it is imported.
for module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{module.name}")
