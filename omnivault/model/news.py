"""Text that people wrote: news articles of the Australian Broadcasting Corporation.

The background corpus of Lee, Pincombe and Welsh (2005), here 300 articles of 45 to 620 words,
comes inside the package ``gensim``, which is installed for this one file.
"""

from __future__ import annotations

from omnivault.model.installed_files import InstalledFile

__all__ = ["ARTICLES", "articles"]

ARTICLES = InstalledFile(
    distribution="gensim",
    version="4.4.0",
    path="gensim/test/test_data/lee_background.cor",
    sha256="5d78d6dafd953bbf65797bef09a9ffb9ec430583381be705f8fd460000f370fb",
)
"""The corpus, one article a line."""


def articles() -> list[str]:
    """Every article once, in the order of the file: seven of the 300 are there twice.

    Raises
    ------
    FileNotFoundError, ValueError
        The package with the file is not installed, or the file is damaged.

    Examples
    --------
    >>> len(articles())
    293
    """
    lines = ARTICLES.locate().read_text(encoding="utf-8").splitlines()
    return list(dict.fromkeys(line.strip() for line in lines if line.strip()))
