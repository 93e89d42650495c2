"""Lists that the build derives: the index of terms and the reference of the package."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup, Tag

import omnivault
from tests.support.book_source import duplicates, none
from tests.support.browser import PAGES
from website import ROOT


@pytest.fixture(scope="module")
def index(site: Path) -> Tag:
    page = (site / "book" / "appendix" / "index_of_terms.html").read_text(encoding="utf-8")
    section = BeautifulSoup(page, "html.parser").select_one("#terms")
    assert section is not None
    return section


def terms(index: Tag) -> dict[str, list[str]]:
    """The lines of the index below their letters."""
    found: dict[str, list[str]] = {}
    for heading in index.select("p > strong"):
        entries = heading.find_parent("p").find_next_sibling("ul")  # type: ignore[union-attr]
        assert isinstance(entries, Tag)
        found[heading.get_text()] = [" ".join(li.get_text().split()) for li in entries("li")]
    return found


def test_terms_stand_below_their_letters_in_alphabetical_order(index: Tag) -> None:
    found = terms(index)
    assert list(found) == sorted(found)
    lines = [line for entries in found.values() for line in entries]
    names = [line.partition(":")[0].casefold() for line in lines]
    assert names == sorted(names)
    assert not duplicates(names)
    none([f"{x} below {k}" for k, v in found.items() for x in v if x[0].upper() != k])


def test_every_line_of_every_page_is_in_the_index(index: Tag) -> None:
    linked = {str(link["href"]).rpartition("#")[2] for link in index.select("a[href]")}
    asked = {
        label
        for page in PAGES
        for block in re.findall(
            r"^:::\{terms\}\n(.*?)^:::$", (ROOT / f"{page}.md").read_text("utf-8"), re.M | re.S
        )
        for label in re.findall(r"\{(?:prf:)?ref\}`([\w-]+)`", block)
    }
    assert len(asked) > 100
    assert asked <= linked


def test_a_term_of_two_pages_has_one_line(index: Tag) -> None:
    [line] = [li for li in index("li") if li.get_text().startswith("entropy:")]
    pages = {str(link["href"]).partition("#")[0] for link in line.select("a[href]")}
    assert len(pages) == 3
    assert "; and temperature: " in line.get_text()
    [other] = [li for li in index("li") if li.get_text().startswith("nucleus:")]
    assert other.get_text() == "nucleus: see top-p"


def test_the_lines_are_not_shown_where_they_were_written(site: Path) -> None:
    page = (site / "book" / "temperature" / "temperature.html").read_text(encoding="utf-8")
    assert "limits of temperature:" not in page


def test_the_reference_holds_every_public_name_once(site: Path) -> None:
    page = (site / "book" / "appendix" / "omnivault.html").read_text(encoding="utf-8")
    shown = re.findall(r'<dt [^>]*id="(omnivault[\w.]+)"', page)
    public = {
        f"{module.name}.{name}"
        for module in pkgutil.walk_packages(omnivault.__path__, "omnivault.")
        for name in getattr(importlib.import_module(module.name), "__all__", [])
    }
    assert {"omnivault.softmax.softmax", "omnivault.figures.numerics.exponent_ranges"} <= public
    none([f"{name} is not in the reference" for name in sorted(public - set(shown))])
    none([f"the reference names {name} twice" for name in duplicates(shown)])
