"""Checks of the reader's answers to the exercises of the book.

A cell below an exercise leaves the answer open and ends in a call of :func:`check`, which says
whether the answer holds, or how it fails and what might help.
"""

from omnivault.exercises.checking import Verdict, check

__all__ = ["Verdict", "check"]
