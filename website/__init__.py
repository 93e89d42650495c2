"""What makes the website of the book, and the same book as notebooks and as one PDF file.

- ``website.build``: from a clone to a built book: install, run the chapters, call Sphinx
- ``website.theme``: how pages look: layout, style, script, formulas
- ``website.ledger``: what the tests say about the numbered statements, on the pages
- ``website.lists``: lists of what all pages hold
- ``website.notebooks``: the chapters as executed notebooks
- ``website.pdf``: all pages in one file
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The folder of the project."""
