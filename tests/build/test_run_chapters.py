"""Chapters that run and chapters that fail, what is said of them, and the memory they take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.build.test_build import FRONT_MATTER
from tests.support.book_source import none
from tests.support.portable import code, differences, listed, text
from website import ROOT
from website.build.run_chapters import PEAKS, Chapter, Run, main, names, read, run
from website.notebooks.cells import memory

GOOD = "x = 3\nprint('one'); print('two')\nx"


def chapter(folder: Path, *cells: str) -> Chapter:
    """A chapter of these cells."""
    path = folder / "tiny.md"
    body = "\n".join(f"Words.\n\n```{{code-cell}} ipython3\n{cell}\n```\n" for cell in cells)
    path.write_text(FRONT_MATTER + body, encoding="utf-8")
    found = read("book/tiny", path)
    assert found is not None
    return found


def failure(folder: Path, *cells: str, limit: int = 60) -> str:
    """What is said about the cell that fails."""
    done = run(chapter(folder, *cells), limit)
    assert done.failed is not None
    console = Console(width=200, no_color=True)
    with console.capture() as capture:
        console.print(done.failed)
    return capture.get()


def test_a_run_gives_outputs_and_the_memory_they_took(tmp_path: Path) -> None:
    this = chapter(tmp_path, GOOD)
    done = run(this, 60)
    assert isinstance(done, Run)
    assert done.failed is None
    assert 2**24 < done.peak < 2**30
    assert text(code(this.notebook)[0]) == "one\ntwo\n3\n"
    assert len(this.notebook.cells) == 2  # as before: words, cell, and nothing more
    assert "execution" not in code(this.notebook)[0].metadata  # no times: the same every time


def test_settings_reach_the_kernel(tmp_path: Path) -> None:
    this = chapter(tmp_path, "import os\nprint(os.environ['OMP_NUM_THREADS'])")
    run(this, 60, {"OMP_NUM_THREADS": "3"})
    assert text(code(this.notebook)[0]) == "3\n"


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("assert x < 2 + 1e-5, 'too large'", "AssertionError: too large"),
        ("assert x < 2 + 1e-5, 'too large'", "assert 3 < (2 + 1e-05)"),
        ("assert [x, 1] == [2, 1]", "assert [3, 1] == [2, 1]"),
        ("values = iter([1, 0])\nassert next(values) == 0", "AssertionError"),  # true the next time
        ("def f(y):\n    assert y < 0\nf(x)", "assert 3 < 0"),
        ("raise ValueError('got 3')", "ValueError: got 3"),
        ("y = = 1", "SyntaxError: invalid syntax"),
        ("import os\nos._exit(1)", "Kernel died"),
    ],
)
def test_a_cell_that_fails_is_shown_with_its_values(cell: str, said: str, tmp_path: Path) -> None:
    report = failure(tmp_path, GOOD, cell, "print('never')")
    assert said in report, report
    assert "code cell 2" in report
    assert "make chapter PAGE=tiny" in report
    assert "never" not in report
    marked = [line for line in report.splitlines() if line.startswith("  > ")]
    line = tmp_path.joinpath("tiny.md").read_text("utf-8").splitlines().index(cell.split("\n")[0])
    [place] = [int(x.partition("|")[0].strip(" >")) for x in marked]
    assert line + 1 <= place <= line + 1 + cell.count("\n")
    assert f"tiny.md:{place}" in report


def test_a_cell_that_does_not_end_is_stopped(tmp_path: Path) -> None:
    report = failure(tmp_path, "import time\ntime.sleep(60)", limit=1)
    assert "the cell did not end within its limit" in report


def test_a_long_message_leaves_room_for_the_rest(tmp_path: Path) -> None:
    report = failure(tmp_path, "raise ValueError('\\n'.join(map(str, range(100))))")
    assert len(report.splitlines()) <= 24
    assert "88 lines more" in report or "89 lines more" in report


def test_a_page_that_is_no_chapter_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["softmax/numeric"]) == 2
    assert "softmax/numerics" in capsys.readouterr().err
    assert main([]) == 2
    assert "make chapter PAGE=" in capsys.readouterr().err


# --- memory


def test_no_chapter_takes_more_memory_than_it_may(site: Path) -> None:
    peaks = json.loads((ROOT / PEAKS).read_text(encoding="utf-8"))
    problems = []
    for page, peak in peaks.items():
        found = read(page, ROOT / f"{page}.md")
        assert found is not None
        allowed = {"2 GB": 1.5e9, "1 GB": 1e9}[memory(found.code())]
        if peak > allowed:
            problems.append(f"{page} took {peak / 1e9:.2f} GB, more than {allowed / 1e9} GB")
    none(problems)
    assert len(peaks) >= 20


# --- portable


def test_differences_are_found_in_text_alone(tmp_path: Path) -> None:
    one, other = chapter(tmp_path, GOOD, "1 / 3"), chapter(tmp_path, GOOD, "1 / 3")
    for this in (one, other):
        run(this, 60)
    assert differences("book/tiny", one.notebook, other.notebook) == []
    code(other.notebook)[1].outputs[0].data["text/plain"] = "0.3333"
    [found] = differences("book/tiny", one.notebook, other.notebook)
    assert found.startswith("book/tiny, code cell 2:")
    assert "-0.3333333333333333\n+0.3333" in found


def test_cells_that_may_differ_are_there_and_have_a_reason() -> None:
    problems = []
    for entry in listed():
        found = (
            read(entry.page, ROOT / "book" / f"{entry.page}.md") if entry.page in names() else None
        )
        cells = [source for source in found.code() if entry.cell in source] if found else []
        if len(cells) != 1:
            problems.append(f"{entry.page} has {len(cells)} cells with {entry.cell!r}")
        if len(entry.reason) < 20:
            problems.append(f"{entry.page}: why may {entry.cell!r} differ?")
    none(problems)
