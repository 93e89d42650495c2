"""Re-execute the chapters when the code that they import has changed.

MyST-NB keeps executed cells in a cache whose key is the text of the cells. An edit in
``omnivault`` or a new pin changes what the cells print but not the cells, so the cache would
serve stale output. This extension names the cache folder after a hash of that code. The folder
is a setting that invalidates parsed pages when it changes, so Sphinx re-reads every chapter by
itself, under ``make book`` and under a plain ``jupyter-book build .`` alike.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from fingerprint import PACKAGE, fingerprint
from sphinx.application import Sphinx
from sphinx.config import Config

ROOT = Path(__file__).resolve().parent.parent


def choose_cache(app: Sphinx, config: Config) -> None:
    caches = Path(app.outdir).parent / ".jupyter_cache"
    current = caches / fingerprint(ROOT, PACKAGE)
    for stale in set(caches.glob("*")) - {current}:
        shutil.rmtree(stale, ignore_errors=True)
    config.nb_execution_cache_path = str(current)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("config-inited", choose_cache)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
