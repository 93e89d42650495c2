"""Build the book beside the old one, and put it in its place when it is complete.

``python -m website.build.build_book`` does what ``jupyter-book build . -W -n --keep-going`` does,
with a bar instead of a line for each page. Warnings and failed cells are errors. Whatever goes
wrong, an interruption included, the site of the last build stays.

Pages that have not changed are not parsed again: a build that was complete had no warnings, so
nothing is hidden by what it has parsed. All pages are written anew, since any of them may show what
stands on another one.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib.metadata import distributions

from jupyter_book.sphinx import build_sphinx

from website import ROOT
from website.build.fingerprint import fingerprint

BUILD = ROOT / "_build"
SITE = BUILD / "html"

# What a parsed page depends on besides itself and what its cells import.
READERS = ("website/**/*.py", "_config.yml", "_toc.yml", "book/references.bib")

# Megabytes: the old site, the new one, parsed pages and outputs of cells are about 70.
NEEDED = 100


def parsed_by() -> str:
    """Name what has parsed the pages."""
    installed = sorted((x.metadata["Name"], x.version) for x in distributions())
    addresses = [os.environ.get(name) for name in ("BOOK_REPOSITORY", "BOOK_URL")]
    return repr((fingerprint(ROOT, READERS), installed, addresses))


def build() -> bool:
    """Return whether there is a new site."""
    new = BUILD / "new"
    complete, parser = new / "complete", parsed_by()
    if not complete.is_file() or complete.read_text(encoding="utf-8") != parser:
        shutil.rmtree(new, ignore_errors=True)
    complete.unlink(missing_ok=True)
    shutil.rmtree(new / "html", ignore_errors=True)
    result = build_sphinx(
        ROOT,
        new / "html",
        path_config=ROOT / "_config.yml",
        noconfig=True,
        confoverrides={
            "external_toc_path": str(ROOT / "_toc.yml"),
            "latex_individualpages": False,
            "nitpicky": True,
        },
        warningiserror=True,
        keep_going=True,
        quiet=True,
    )
    if result != 0:
        return False
    old = BUILD / "old"
    shutil.rmtree(old, ignore_errors=True)
    if SITE.exists():
        SITE.rename(old)
    (new / "html").rename(SITE)
    shutil.rmtree(old, ignore_errors=True)
    complete.write_text(parser, encoding="utf-8")
    return True


def main() -> int:
    try:
        free = shutil.disk_usage(ROOT).free // 10**6
        if free < NEEDED:
            raise OSError(f"{free} MB are free on the disk of {ROOT}, and {NEEDED} are needed")
        built = build()
    except OSError as error:
        print(f"The book is not built: {error}", file=sys.stderr)
        built = False
    if not built:
        if SITE.exists():
            print(f"The site in {SITE} is that of the last build.", file=sys.stderr)
        return 1
    print(f"The book is at {SITE / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
