"""Tables of values: what stands in them, at which side, as HTML and as text."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
import torch
from IPython.core.formatters import DisplayFormatter

from omnivault.figures.tables import Table, table

COLUMNS = {"T": ".1f", "largest": ".3f", "draws": ",", "token": "", "kept": ""}
ROWS = [
    (0.5, torch.tensor(0.8668), 1200, " sea", True),
    (10, -0.25, torch.tensor([7]), "<b> & [i]", False),
    (torch.tensor(2.0), None, 31, "", None),
]


class Cells(HTMLParser):
    """The texts of a table, row by row, and the side of each."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.sides: list[list[str]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
            self.sides.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")
            self.sides[-1].append((dict(attrs)["style"] or "").removeprefix("text-align: "))

    def handle_data(self, data: str) -> None:
        self.rows[-1][-1] += data


def test_html_holds_every_value_in_its_format() -> None:
    cells = Cells(table(COLUMNS, ROWS).to_html())
    assert cells.rows == [
        ["T", "largest", "draws", "token", "kept"],
        ["0.5", "0.867", "1,200", " sea", "True"],
        ["10.0", "\N{MINUS SIGN}0.250", "7", "<b> & [i]", "False"],
        ["2.0", "", "31", "", ""],
    ]
    assert cells.sides == [["right", "right", "right", "left", "left"]] * 4
    assert [tag for tag, _ in cells.tags].count("th") == 5


def test_html_can_be_reached_by_keyboard_and_takes_no_colors_along() -> None:
    html = table(COLUMNS, ROWS).to_html()
    assert html.startswith('<div class="table" tabindex="0"><table class="values">')
    assert "color" not in html
    assert "font" not in html
    assert "<script" not in html


def test_text_is_aligned() -> None:
    assert str(table(COLUMNS, ROWS)).splitlines() == [
        "   T   largest   draws   token       kept",
        "──────────────────────────────────────────",
        " 0.5     0.867   1,200    sea        True",
        "10.0    -0.250       7   <b> & [i]   False",
        " 2.0                31",
    ]


def test_a_notebook_gets_both_forms() -> None:
    made = table(COLUMNS, ROWS)
    data, _ = DisplayFormatter().format(made)
    assert data == {"text/html": made.to_html(), "text/plain": str(made)}


def test_a_table_may_be_long_wide_or_empty() -> None:
    long = table({f"column {i}": "d" for i in range(60)}, [range(60)] * 500)
    assert len(Cells(long.to_html()).rows) == 501
    lines = str(long).splitlines()
    assert len(lines) == 502
    assert len({len(line) for line in lines}) == 1  # none is cut or broken
    assert Cells(table({"T": ".1f"}, []).to_html()).rows == [["T"]]
    assert str(table({"T": ".1f"}, [])).splitlines()[0] == "T"


def test_a_column_with_one_number_stands_at_the_right() -> None:
    made = table({"p": ".2f"}, [("none",), (None,), (0.25,)])
    assert isinstance(made, Table)
    assert Cells(made.to_html()).sides == [["right"]] * 4
    assert Cells(made.to_html()).rows[1] == ["none"]


def test_a_minus_in_words_is_left_alone() -> None:
    [_, row] = Cells(table({"name": "", "x": ".0e"}, [("top-k", -1e-5)]).to_html()).rows
    assert row == ["top-k", "\N{MINUS SIGN}1e\N{MINUS SIGN}05"]


def test_an_interval_stands_behind_its_estimate() -> None:
    made = table({"mean": ".2f"}, [((-0.5, torch.tensor(-0.75), -0.25),), (1,)])
    minus = "\N{MINUS SIGN}"
    assert Cells(made.to_html()).rows[1] == [f"{minus}0.50 [{minus}0.75,\N{NO-BREAK SPACE}{minus}0.25]"]
    assert str(made).splitlines()[2:] == ["-0.50 [-0.75,\N{NO-BREAK SPACE}-0.25]", " " * 16 + "1.00"]
    assert Cells(made.to_html()).sides == [["right"]] * 3


@pytest.mark.parametrize(
    ("columns", "row", "message"),
    [
        ({"T": ".1f"}, ((1, 2),), r"with the two ends of its interval, got \(1, 2\); give other"),
        ({"T": "", "p": ""}, (1.0,), r"each of the 2 columns \['T', 'p'\], got 1: \(1\.0,\)"),
        ({"T": ""}, (1, 2), r"each of the 1 columns \['T'\], got 2: \(1, 2\)"),
        ({"T": "d"}, (0.5,), r"the format 'd' of column 'T' does not fit 0\.5: Unknown format"),
        ({"T": ".1f"}, ([1.0],), r"the format '\.1f' of column 'T' does not fit \[1\.0\]: "),
        ({"T": "d"}, ([0] * 9999,), r"does not fit \[0, 0, .*\.\.\.: "),
    ],
)
def test_what_does_not_fit_is_refused(columns: dict[str, str], row: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        table(columns, [row])
    assert len(str(caught.value)) < 300


def test_a_tensor_of_several_elements_is_no_value() -> None:
    with pytest.raises(ValueError, match=r"column 'p' .*\(2,\)"):
        table({"p": ".1f"}, [(torch.ones(2),)])
