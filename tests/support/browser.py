"""The built book in a real browser: a server, windows of several kinds, what goes wrong in them."""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from tests.support.book_source import toc_pages
from website import ROOT
from website.pdf import installed_browser

SITE = ROOT / "_build" / "html"
PAGES = list(toc_pages(ROOT / "_toc.yml"))
WIDTHS = (1280, 390)
Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")

every_width = pytest.mark.parametrize("width", WIDTHS)
every_theme = pytest.mark.parametrize("theme", THEMES)
# One of the pages that show tests stands for them all.
every_page = pytest.mark.parametrize("page", [*PAGES, "checks/derivatives"])

# Sections out of sight are not laid out, and their places are guesses. This lays out everything.
LAY_OUT = "section { content-visibility: visible !important }"


# What a page costs a browser, on a small scale: elements made, styled and laid out. Gives the
# milliseconds it took.
WORK = """
() => {
  const times = [];
  for (let round = 0; round < 15; round++) {
    const start = performance.now();
    const box = document.createElement("div");
    box.innerHTML = "<p>some <b>words</b> to <i>lay out</i></p>".repeat(1500);
    document.body.append(box);
    box.getBoundingClientRect();
    box.remove();
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[7];
}
"""
# The milliseconds that it takes on a slow phone: four times those of a desktop computer.
PHONE = 120.0


def slowdown(browser: Browser) -> float:
    """How much slower than this processor a phone's is, now: less than 4 where it is busy."""
    page = browser.new_page()
    took = float(page.evaluate(WORK))
    page.close()
    return max(1.0, min(4.0, PHONE / took))


class Gzip(SimpleHTTPRequestHandler):
    """Serves files as hosts of static pages do: text compressed, kept for a while."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            self.send_error(404)
            return
        body = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Cache-Control", "max-age=600")
        if is_text(path):
            body = gzip.compress(body, mtime=0)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def is_text(path: Path) -> bool:
    return path.suffix in {".html", ".css", ".js", ".svg", ".json", ".xml", ".txt", ".md"}


def weight(path: Path) -> int:
    """Bytes that a file takes on the way to the reader."""
    body = path.read_bytes()
    return len(gzip.compress(body, mtime=0)) if is_text(path) else len(body)


@contextmanager
def serve(site: Path) -> Iterator[str]:
    """The address of the site while it is served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Gzip, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def chromium_path() -> str:
    """A Chromium that is installed. Without one, tests are skipped, or fail where they must run."""
    path = installed_browser()
    if path is None and os.environ.get("REQUIRE_BROWSER"):
        pytest.fail("no Chromium found, and REQUIRE_BROWSER is set", pytrace=False)
    if path is None:
        # Not in a fixture: pytest reports those skips in one line a test.
        pytest.skip("no Chromium found: browser tests skipped")
    return path


class Reader:
    """One window of the browser, and the trouble that the last page made in it.

    Parameters
    ----------
    browser
        The window's browser.
    address
        What stands before a page's name: of a server, or of the folder on the disk.
    width
        In pixels.
    theme
        Light or dark, as the reader has chosen before, or None on a first visit.
    scripts
        Whether JavaScript runs. Where it does not, the theme is that of the system.
    """

    def __init__(
        self,
        browser: Browser,
        address: str,
        width: int,
        theme: Theme | None = None,
        scripts: bool = True,
    ) -> None:
        self.address = address
        self.trouble: list[str] = []
        self.requested: list[str] = []
        context = browser.new_context(
            viewport={"width": width, "height": 800},
            java_script_enabled=scripts,
            color_scheme=theme or "light",
        )
        context.set_default_timeout(5000)
        if theme is not None:  # what the page's own switch leaves behind for the next visit
            context.add_init_script(f"try {{ localStorage.theme = {theme!r} }} catch {{}}")
        self.page = context.new_page()
        self.page.on("request", self.note)
        self.page.on("console", self.listen)
        self.page.on("pageerror", lambda error: self.trouble.append(f"script error: {error}"))
        self.page.on("requestfailed", self.lose)

    def note(self, request: Request) -> None:
        self.requested.append(request.url)
        if not request.url.startswith((f"{self.address}/", "data:", "blob:")):
            self.trouble.append(f"leaves the host: {request.url}")

    def lose(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # by a page that forwards to another one
            self.trouble.append(f"lost: {request.url}")

    def listen(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.trouble.append(f"console: {message.text} ({message.location['url']})")

    def open(self, name: str) -> Page:
        self.trouble.clear()
        self.requested.clear()
        self.page.goto(f"{self.address}/{name}.html")
        return self.page

    def files(self, site: Path) -> list[Path]:
        """The files of the site that the last page asked for, once each."""
        own = [url for url in self.requested if url.startswith(self.address)]
        paths = [unquote(urlsplit(url.removeprefix(self.address)).path) for url in own]
        return [site / path.lstrip("/") for path in dict.fromkeys(paths)]


Kind = Literal["served", "from disk", "without scripts"]


class Readers:
    """Windows on the site, one of a kind, in a browser that starts when it is first needed."""

    def __init__(self, site: Path, address: str, stack: ExitStack) -> None:
        self.site = site
        self.address = address
        self._stack = stack
        self._windows: dict[tuple[object, ...], Reader] = {}

    @cached_property
    def browser(self) -> Browser:
        path = chromium_path()
        playwright = self._stack.enter_context(sync_playwright())
        arguments = [
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            # Nothing leaves this host. Routing the requests would do that too, without a cache.
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
        ]
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        self._stack.callback(browser.close)
        return browser

    def __call__(self, width: int, theme: Theme | None, kind: Kind = "served") -> Reader:
        key = (width, theme, kind)
        if key not in self._windows:
            self._windows[key] = self.new(width, theme, kind)
        return self._windows[key]

    def new(self, width: int, theme: Theme | None, kind: Kind = "served") -> Reader:
        """Open a window that has seen nothing yet."""
        address = self.site.as_uri() if kind == "from disk" else self.address
        return Reader(self.browser, address, width, theme, scripts=kind != "without scripts")
