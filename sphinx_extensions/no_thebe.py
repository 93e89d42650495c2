"""Leave out sphinx-thebe, which Jupyter Book loads whether or not a book asks for it.

It adds its script to every page twice, and the second copy throws: a constant is declared anew.
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    for listeners in app.events.listeners.values():
        listeners[:] = [x for x in listeners if x.handler.__module__ != "sphinx_thebe"]
    css = app.registry.css_files
    css[:] = [file for file in css if file[0] != "sphinx-thebe.css"]
    return {"parallel_read_safe": True, "parallel_write_safe": True}
