"""The book as one PDF: what is in it, and where its links and bookmarks lead."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from book_source import ROOT
from browser import PAGES, chromium_path
from bs4 import BeautifulSoup
from pdf import join, mark, place, print_book
from pypdf import PdfReader
from pypdf.generic import Destination

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def book(site: Path, tmp_path_factory: pytest.TempPathFactory) -> PdfReader:
    chromium_path()  # or skip
    file = tmp_path_factory.mktemp("pdf") / "book.pdf"
    # A process of its own: one cannot hold two drivers of browsers.
    environment = os.environ | {"PYTHONPATH": str(ROOT / "sphinx_extensions")}
    command = [sys.executable, "-m", "pdf", str(site), str(file)]
    subprocess.run(command, check=True, env=environment)
    return PdfReader(file)


@pytest.fixture(scope="module")
def text(book: PdfReader) -> str:
    return "\n".join(page.extract_text() for page in book.pages)


def title(site: Path, page: str) -> str:
    html = BeautifulSoup((site / f"{page}.html").read_text(encoding="utf-8"), "html.parser")
    [heading] = html.select("h1")
    for link in heading.select(".headerlink"):
        link.decompose()
    return " ".join(heading.get_text().split())


def test_bookmarks_are_the_pages_in_order(book: PdfReader, site: Path) -> None:
    chapters = [entry for entry in book.outline if isinstance(entry, Destination)]
    bookmarks = [" ".join(str(entry.title).split()) for entry in chapters]
    assert bookmarks == [title(site, page) for page in PAGES]
    numbers = [book.get_destination_page_number(entry) or 0 for entry in chapters]
    assert numbers == sorted(set(numbers))  # each on a page of its own


def links(book: PdfReader) -> Iterator[dict[str, Any]]:
    for page in book.pages:
        for annotation in page.get("/Annots", []):
            link = annotation.get_object()
            if link["/Subtype"] == "/Link":
                yield link


def test_links_lead_to_places_in_the_book(book: PdfReader) -> None:
    places = book.named_destinations
    inside = 0
    for link in links(book):
        if "/Dest" in link:
            assert isinstance(link["/Dest"], list) or str(link["/Dest"]).lstrip("/") in {
                name.lstrip("/") for name in places
            }
            inside += 1
        else:
            assert re.match(r"https?://", link["/A"]["/URI"]), link["/A"]
    assert inside > 1000


def test_every_number_of_the_site_is_there(text: str, site: Path) -> None:
    together = "".join(text.split())
    for page in PAGES:
        html = (site / f"{page}.html").read_text(encoding="utf-8")
        article = BeautifulSoup(html, "html.parser").select("article")[0]
        for number in article.select(".caption-number, .admonition-title > .caption-number"):
            assert "".join(number.get_text().split()) in together, (page, number)


def test_solutions_are_open_and_controls_are_gone(text: str) -> None:
    assert "The weights are" in " ".join(text.split())  # the first solution of the book
    assert "Download notebook" not in text


# --- joining the pages


@pytest.mark.parametrize(
    ("page", "address", "expected"),
    [
        ("book/a/b.html", "../c.html", "book/c.html"),
        ("book/a/b.html", "d.html", "book/a/d.html"),
        ("book/a/b.html", "../../_images/x%20y.svg", "_images/x y.svg"),
    ],
)
def test_addresses_are_read_from_the_page_they_are_on(
    page: str, address: str, expected: str
) -> None:
    assert place(page, address) == expected


def test_links_of_the_joined_pages_have_a_goal(site: Path) -> None:
    soup = BeautifulSoup(join(site, "book/intro.html"), "html.parser")
    ids = {str(element["id"]) for element in soup.select("[id]")}
    goals = {str(a["href"])[1:] for a in soup.select("a[href^='#']")}
    assert goals <= ids
    assert {mark(f"{page}.html") for page in PAGES} <= goals | {"book-intro"}
    assert not soup.select("script, a[href^='..'], .run")
    missing = [
        image["src"] for image in soup.select("img") if not (site / str(image["src"])).is_file()
    ]
    assert not missing


def test_without_a_browser_it_says_what_is_missing(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="none of chromium"):
        print_book(site, tmp_path / "book.pdf")
    assert not list(tmp_path.iterdir())
