"""Print the built book as one PDF: ``python -m pdf SITE FILE``.

The pages become one document, whose links lead from place to place inside it, and a Chromium that
is installed prints it. So the PDF has the formulas, the figures and the numbers of the site; live
figures stand as they are before anyone moves them.
"""

from __future__ import annotations

import posixpath
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag
from playwright.sync_api import sync_playwright

BROWSERS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    # macOS has its programs here, and not on the path.
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)

STYLE = """
  :root { --paper: white; }
  @page { size: A4; margin: 22mm 20mm 20mm; }
  article { break-before: page; }
  article, figcaption { max-width: none; }
  h1, h2, h3 { white-space: pre-wrap; } /* or else bookmarks lose the space where a line ends */
  a[href] { color: var(--link); text-decoration: none; }
  .part { margin: 0; color: var(--soft); font: 600 0.9rem var(--sans); }
  .title { padding-top: 9rem; }
  .title > p { margin: 0 0 3rem; font: 600 3rem/1.2 var(--serif); }
  .contents p { margin: 1.2rem 0 0.3rem; color: var(--soft); font: 600 0.9rem var(--sans); }
  .contents ul { list-style: none; margin: 0; padding: 0; }
  .contents { columns: 2; column-gap: 2rem; font-size: 0.95rem; }
  .contents ul, .contents p { break-inside: avoid; }
  .rights { margin-top: 3rem; color: var(--soft); font: 0.8rem var(--sans); }
"""

FOOTER = """
<p style="width: 100%; margin: 0; text-align: center; font: 8px sans-serif">
  <span class="pageNumber"></span>
</p>
"""


def installed_browser() -> str | None:
    """Return the path of a Chromium that is installed, if there is one."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def read(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def the(soup: BeautifulSoup | Tag, selector: str) -> Tag:
    """Return the one element that a selector finds."""
    [found] = soup.select(selector)
    return found


def chapters(site: Path, first: str) -> Iterator[tuple[str, str]]:
    """Yield every page in reading order, each with the name of the part that it opens, or ""."""
    yield first, ""
    part = ""
    for entry in the(read(site / first), "#contents").select("p.caption, a.reference"):
        if entry.name == "p":
            part = entry.get_text(strip=True)
        else:
            yield place(first, str(entry["href"])), part
            part = ""


def place(page: str, address: str) -> str:
    """Where a relative address on a page leads, from the top of the site."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(address)))


def mark(page: str, anchor: str = "") -> str:
    """Name a place in the joined document."""
    return f"{page.removesuffix('.html').replace('/', '-')}{'--' * bool(anchor)}{anchor}"


def join(site: Path, first: str) -> str:
    """Make one document of the pages, for a file one folder beside the site."""
    order = list(chapters(site, first))
    pages = {page for page, _ in order}
    soup = read(site / first)
    title = the(soup, "title").get_text().partition(" · ")[0]
    rights = the(soup, "footer").get_text().partition(" · source")[0]
    body = []
    for page, part in order:
        article = read(site / page).article
        assert article is not None
        for extra in article.select(".run, .headerlink, script, noscript"):
            extra.decompose()
        for solution in article.find_all("details", class_="solution"):
            solution["open"] = ""
        # Only places that links lead to are renamed: drawings refer to others inside themselves.
        for element in article.find_all(id=True):
            if element.find_parent("svg") is None:
                element["id"] = mark(page, str(element["id"]))
        for image in article.find_all("img"):
            del image["loading"]  # nobody scrolls
            image["src"] = f"../{site.name}/{place(page, str(image['src']))}"
        for link in article.find_all("a", href=True):
            where = urlsplit(str(link["href"]))
            if where.scheme:
                continue
            there = place(page, where.path) if where.path else page
            if there in pages:
                link["href"] = f"#{mark(there, where.fragment)}"
            else:  # to what only the site has, such as the pages of the tests
                link.unwrap()
        heading = f'<p class="part">{part}</p>' if part else ""
        body.append(f'<article id="{mark(page)}">{heading}{article.decode_contents()}</article>')
    return f"""<!doctype html>
<html lang="en" data-theme="light">
<head>
<meta charset="utf-8">
<title>{title}</title>
<link rel="stylesheet" href="../{site.name}/_static/book.css">
<style>{STYLE}</style>
</head>
<body>
<main>
<div class="title"><p>{title}</p>{contents(site, first)}</div>
<p class="rights">{rights}</p>
{"".join(body)}
</main>
</body>
</html>"""


def contents(site: Path, first: str) -> str:
    """Make the table of contents, with links into the document."""
    lines = []
    for entry in the(read(site / first), "#contents").select("p.caption, a.reference"):
        if entry.name == "p":
            lines.append(f"<p>{entry.decode_contents()}</p>")
        else:
            goal = mark(place(first, str(entry["href"])))
            lines.append(f'<ul><li><a href="#{goal}">{entry.decode_contents()}</a></li></ul>')
    return f'<nav class="contents">{"".join(lines)}</nav>'


def print_book(site: Path, file: Path) -> None:
    chromium = installed_browser()
    if chromium is None:
        sys.exit(f"a Chromium prints the PDF, and none of {', '.join(BROWSERS)} is installed")
    source = site.resolve().parent / "pdf" / "book.html"
    source.parent.mkdir(exist_ok=True)
    source.write_text(join(site, "book/intro.html"), encoding="utf-8")
    with sync_playwright() as playwright:
        window = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = window.new_page()
        page.goto(source.as_uri(), timeout=120_000)
        page.evaluate("document.fonts.ready")
        page.pdf(
            path=file,
            prefer_css_page_size=True,
            print_background=True,
            display_header_footer=True,
            header_template="<p></p>",
            footer_template=FOOTER,
            outline=True,
            tagged=True,
        )
        window.close()


if __name__ == "__main__":
    print_book(Path(sys.argv[1]), Path(sys.argv[2]))
