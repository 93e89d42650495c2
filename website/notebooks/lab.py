"""Copy the built notebooks into a folder of the reader's own: ``python -m notebooks.lab FROM TO``.

What a reader has changed is never overwritten, and nothing in the folder is part of the book.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import nbformat
from nbformat.sign import NotebookNotary

# Beside each notebook a text with the same cells and no outputs, to compare and to keep.
JUPYTEXT = 'formats = "ipynb,md:myst"\n'


def fill(built: Path, folder: Path) -> list[Path]:
    """Copy what is missing or unchanged; return the notebooks that were kept as the reader's."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jupytext.toml").write_text(JUPYTEXT, encoding="utf-8")
    record = folder / ".copied.json"
    copied = json.loads(record.read_text("utf-8")) if record.is_file() else {}
    kept = []
    for source in sorted(built.rglob("*.ipynb")):
        name = source.relative_to(built).as_posix()
        target = folder / name
        if target.exists() and digest(target) != copied.get(name):
            kept.append(target)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        copied[name] = digest(target)
        # The build made its outputs, live figures among them: JupyterLab may show them at once.
        NotebookNotary().sign(nbformat.read(target, as_version=4))
    record.write_text(json.dumps(copied, indent=1), encoding="utf-8")
    return kept


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    for path in fill(Path(sys.argv[1]), Path(sys.argv[2])):
        print(f"{path} has changes of yours and was left alone")
