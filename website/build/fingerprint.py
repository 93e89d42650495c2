"""One short name for the content of many files, which changes when any of them does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def fingerprint(root: Path, patterns: Iterable[str]) -> str:
    """Hash the files that match, by name and content."""
    digest = hashlib.sha256()
    found = {path for pattern in patterns for path in root.glob(pattern) if path.is_file()}
    for path in sorted(path.relative_to(root) for path in found):
        if not any(part.startswith(".") for part in path.parts):
            digest.update(path.as_posix().encode() + b"\0")
            digest.update((root / path).read_bytes() + b"\0")
    return digest.hexdigest()[:16]
