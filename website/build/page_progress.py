"""Show how far Sphinx is with reading and writing, where it does not show that itself."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

from website.build.progress import Steps

running: list[Steps] = []  # at most one


def reading(app: Sphinx, env: Any, pages: list[str]) -> None:
    start(app, "Reading pages", len(pages))


def writing(app: Sphinx, env: Any) -> list[str]:
    start(app, "Writing pages", len(env.found_docs))
    return []


def start(app: Sphinx, title: str, total: int) -> None:
    end(app)
    if app.quiet:
        steps = Steps(title, total)
        steps.say(f"{total}")
        steps.bar.start()
        running.append(steps)


def step(app: Sphinx, *arguments: Any) -> None:
    for steps in running:
        page = next((x for x in arguments if isinstance(x, str)), "")
        steps.step(page.removeprefix("book/"))


def end(app: Sphinx, *arguments: Any) -> None:
    while running:
        running.pop().bar.stop()


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("env-before-read-docs", reading, priority=900)  # when the chapters have run
    app.connect("source-read", step)
    app.connect("env-updated", writing, priority=900)
    app.connect("doctree-resolved", step)
    app.connect("build-finished", end)
    # One bar cannot be moved by several processes, and a fork may hold its lock.
    return {"parallel_read_safe": False, "parallel_write_safe": False}
