"""The book as one PDF: what is in it, and where its links and bookmarks lead."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from pypdf import PdfReader
from pypdf.generic import Destination

from tests.support.browser import PAGES, chromium_path
from website import ROOT
from website.pdf import mark, place, print_book

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def book(site: Path, tmp_path_factory: pytest.TempPathFactory) -> PdfReader:
    chromium_path()  # or skip
    file = tmp_path_factory.mktemp("pdf") / "book.pdf"
    # A process of its own: one cannot hold two drivers of browsers.
    command = [sys.executable, "-m", "website.pdf", str(site), str(file)]
    subprocess.run(command, check=True, cwd=ROOT)
    return PdfReader(file)


@pytest.fixture(scope="module")
def joined(book: PdfReader, site: Path) -> BeautifulSoup:
    """The document that was printed."""
    source = site.parent / "pdf" / "book.html"
    return BeautifulSoup(source.read_text(encoding="utf-8"), "html.parser")


CHAPTER = "book/softmax/probability"


@pytest.fixture(scope="module")
def text(book: PdfReader, site: Path) -> str:
    """All that stands on the pages of one chapter."""
    starts = {
        " ".join(str(entry.title).split()): book.get_destination_page_number(entry) or 0
        for entry in book.outline
        if isinstance(entry, Destination)
    }
    start = starts[title(site, CHAPTER)]
    end = min(number for number in starts.values() if number > start)
    return "".join(page.extract_text() for page in book.pages[start:end])


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


def test_a_chapter_has_the_numbers_of_its_page(text: str, site: Path) -> None:
    html = BeautifulSoup((site / f"{CHAPTER}.html").read_text(encoding="utf-8"), "html.parser")
    numbers = [number.get_text() for number in html.select("article .caption-number")]
    assert len(numbers) > 10
    together = "".join(text.split())
    assert not [number for number in numbers if "".join(number.split()) not in together]


def test_solutions_are_open_and_controls_are_gone(text: str, site: Path) -> None:
    html = BeautifulSoup((site / f"{CHAPTER}.html").read_text(encoding="utf-8"), "html.parser")
    together = "".join(text.split())
    for code in html.select("details.solution .cell_input pre"):
        lost = [
            line for line in code.get_text().splitlines() if "".join(line.split()) not in together
        ]
        assert not lost
    assert "Downloadnotebook" not in together


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


def test_links_of_the_joined_pages_have_a_goal(joined: BeautifulSoup, site: Path) -> None:
    ids = {str(element["id"]) for element in joined.find_all(id=True)}
    links = [str(link["href"]) for link in joined.find_all("a", href=True)]
    goals = {link[1:] for link in links if link.startswith("#")}
    assert goals <= ids
    assert {mark(f"{page}.html") for page in PAGES} <= goals | {"book-intro"}
    assert not [link for link in links if not link.startswith(("#", "http"))]
    assert not joined.find_all("script")
    images = [str(image["src"]) for image in joined.find_all("img")]
    assert not [image for image in images if not (site / image).is_file()]


def test_without_a_browser_it_says_what_is_missing(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="none of chromium"):
        print_book(site, tmp_path / "book.pdf")
    assert not list(tmp_path.iterdir())
