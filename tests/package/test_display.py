from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from textwrap import dedent

import nbformat
import pytest
from nbclient import NotebookClient

import omnivault

PACKAGE = Path(inspect.getfile(omnivault)).parent


def run_python(code: str, folder: Path, *options: str) -> str:
    """Run ``code`` in a new interpreter in ``folder``; return what it prints."""
    result = subprocess.run(
        [sys.executable, *options, "-c", dedent(code)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def shown_svg(setup: str, folder: Path = PACKAGE.parent) -> dict[str, str]:
    """Run a notebook that shows one figure in its own kernel; return the figure's formats."""
    source = (
        f"{setup}\n"
        "import matplotlib.pyplot as plt\n"
        "figure, ax = plt.subplots(figsize=(3, 2))\n"
        "ax.plot([0, 1], [1, 2])\n"
        "plt.show()"
    )
    cell = nbformat.v4.new_code_cell(source)
    notebook = nbformat.v4.new_notebook(cells=[cell])
    client = NotebookClient(notebook, kernel_name="python3", timeout=120)
    client.resources = {"metadata": {"path": str(folder)}}
    client.execute()
    (output,) = notebook.cells[0].outputs
    assert output.output_type == "display_data"
    return dict(output.data)


CALL = "from omnivault.utils.visualization.style import use_svg_display\nuse_svg_display()"


@pytest.fixture(scope="module")
def figure() -> dict[str, str]:
    return shown_svg(CALL)


def test_a_notebook_shows_figures_as_svg(figure: dict[str, str]) -> None:
    assert set(figure) == {"image/svg+xml", "text/plain"}
    svg = figure["image/svg+xml"]
    assert "<svg" in svg
    # Not cropped to the ink: 3 by 2 inches of 72 points.
    assert 'width="216pt" height="144pt"' in svg


def test_without_the_call_the_figure_is_no_svg() -> None:
    assert "image/svg+xml" not in shown_svg("")


def test_the_svg_carries_no_date(figure: dict[str, str]) -> None:
    svg = figure["image/svg+xml"]
    assert "dc:creator" in svg  # the metadata is there
    assert "dc:date" not in svg


def test_the_svg_is_the_same_on_every_run(figure: dict[str, str]) -> None:
    assert shown_svg(CALL) == figure


def test_nothing_happens_outside_ipython() -> None:
    printed = run_python(
        """
        import matplotlib
        from IPython.core.interactiveshell import InteractiveShell
        from omnivault.utils.visualization.style import use_svg_display

        before = dict(matplotlib.rcParams)
        print(use_svg_display(), InteractiveShell.initialized())
        print(dict(matplotlib.rcParams) == before)
        """,
        PACKAGE.parent,
    )
    assert printed.split() == ["None", "False", "True"]


WALK_UP = """
from pathlib import Path

root = next(p for p in [Path.cwd(), *Path.cwd().parents] if (p / "omnivault").is_dir())
sys.path.append(str(root))
from omnivault.utils.visualization.style import use_svg_display

use_svg_display()
print(use_svg_display.__code__.co_filename)
"""


def test_a_notebook_that_walks_up_to_the_folder_needs_no_installation(tmp_path: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__")
    copied = Path(shutil.copytree(PACKAGE, tmp_path / "omnivault", ignore=ignore))
    nested = tmp_path / "notebooks" / "one" / "two"
    nested.mkdir(parents=True)
    # -I and -S leave the standard library alone; the dependencies come back as a plain folder,
    # whose .pth files, an editable installation's included, are not read.
    libraries = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    printed = run_python(
        f"""
        import importlib.util, sys

        sys.path += {libraries!r}
        installed = importlib.util.find_spec("omnivault")
        assert installed is None, installed
        """
        + WALK_UP.replace("\n", "\n        "),
        nested,
        "-I",
        "-S",
    )
    assert Path(printed.strip()) == copied / "utils" / "visualization" / "style.py"
