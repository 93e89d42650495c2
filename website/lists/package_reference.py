"""A directive that documents every module of a folder of the package.

``{package-reference} omnivault.figures`` stands for an ``automodule`` of each module in it, in the
order of the alphabet, so that a new module needs no entry.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class PackageReference(SphinxDirective):
    """Documents the public names of the modules in a folder."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return what stands in the place of the directive."""
        package = importlib.import_module(self.arguments[0])
        names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
        for folder in package.__path__:  # a new module changes it
            self.env.note_dependency(str(Path(folder)))
        lines = ["```{eval-rst}"]
        for name in names:
            lines += [f".. automodule:: {package.__name__}.{name}", "   :members:", ""]
        lines.append("```")
        made: nodes.Element = nodes.Element()
        source, _ = self.get_source_info()
        self.state.nested_parse(StringList(lines, source), self.content_offset, made)
        return list(made.children)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("package-reference", PackageReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
