"""Tables of values: what stands in them, at which side, as HTML and as text."""

from __future__ import annotations

import datetime
import math
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import numpy as np
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


def test_hyphens_of_texts_stay_beside_numbers_whose_minus_is_one() -> None:
    day = datetime.date(2020, 1, 2)
    rows: list[tuple[object]] = [("2020-01-02",), (day,), ("-",), (-1.5,), (np.float32(-2),), (2,)]
    minus = "\N{MINUS SIGN}"
    made = table({"x": ""}, rows)
    assert [cell for [cell] in Cells(made.to_html()).rows[1:]] == [
        "2020-01-02",
        "2020-01-02",
        "-",
        f"{minus}1.5",
        f"{minus}2.0",
        "2",
    ]
    assert Cells(table({"day": ""}, [(day,)]).to_html()).sides == [["left"]] * 2


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (-1e-9, ".3f", "0.000"),
        (-1e-9, "+.3f", "+0.000"),
        (-1e-9, "8.3f", "   0.000"),
        (-1e-9, ".1%", "0.0%"),
        (-0.0, "", "0.0"),
        (-0.0, ".1e", "0.0e+00"),
        (torch.tensor(-1e-9), ".3f", "0.000"),
        (np.float32(-1e-9), ".3f", "0.000"),
        (Decimal("-0.0001"), ".2f", "0.00"),
        (-1e-9, ".0e", "-1e-09"),
        (-0.0005001, ".3f", "-0.001"),
        (-1000.0, ",.0f", "-1,000"),
        (-160, "x", "-a0"),
        (-math.inf, ".1f", "-inf"),
        (-1e-9j, ".1f", "-0.0-0.0j"),
        ("-0", "", "-0"),
        ("-0.000", "", "-0.000"),
        ((-1e-9, -1.0, 1e-9), ".1f", "0.0 [-1.0,\N{NO-BREAK SPACE}0.0]"),
    ],
)
def test_no_zero_is_negative(value: object, form: str, text: str) -> None:
    assert table({"x": form}, [(value,)]).rows[0][0] == text


@pytest.mark.parametrize(
    "row",
    [0.5, 7, None, (x for x in (1, 2)), torch.tensor(1.0), object()],
    ids=lambda x: str(type(x)),
)
def test_what_is_no_row_is_told_from_one(row: Any) -> None:
    with pytest.raises(
        TypeError, match=r"^a row is a tuple or list with a value for each of the 2 "
    ):
        table({"a": "", "b": ""}, [row])
    goods: list[Any] = [(1, 2), [1, 2], range(2), torch.tensor([1, 2]), np.array([1, 2])]
    for good in goods:
        assert str(table({"a": "", "b": ""}, [good])).count("\n") == 2


@pytest.mark.parametrize(
    "end", ["\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x85", "\u2028"], ids=repr
)
def test_a_text_of_several_lines_is_one_line_of_the_text_form(end: str) -> None:
    made = table({"x": "", f"a{end}token": "", "p": ".1f"}, [(1, f"a{end}b", 0.5), (2, end, 1)])
    lines = str(made).splitlines()
    assert len(lines) == 4
    assert lines[0].split() == ["x", "a", "token", "p"]
    assert lines[2].split() == ["1", "a", "b", "0.5"]
    assert lines[3].split() == ["2", "1.0"]
    assert made.rows[0][1] == f"a{end}b"


@pytest.mark.parametrize("form", ["", "d", ".1f", ","])
def test_a_number_too_long_to_print_is_refused_briefly(form: str) -> None:
    for value in (10**5000, (0, 10**5000, 1)):
        with pytest.raises(
            ValueError, match=r"does not fit an int of some 5000 digits: "
        ) as caught:
            table({"x": form}, [(value,)])
        assert len(str(caught.value)) < 300
    with pytest.raises(ValueError, match=r"got 2: \(an int of some 5000 digits, 1\)$"):
        table({"x": form}, [(10**5000, 1)])
    assert str(table({"x": form}, [(10**300,)]))


def test_an_interval_stands_behind_its_estimate() -> None:
    made = table({"mean": ".2f"}, [((-0.5, torch.tensor(-0.75), -0.25),), (1,)])
    minus = "\N{MINUS SIGN}"
    assert Cells(made.to_html()).rows[1] == [
        f"{minus}0.50 [{minus}0.75,\N{NO-BREAK SPACE}{minus}0.25]"
    ]
    assert str(made).splitlines()[2:] == [
        "-0.50 [-0.75,\N{NO-BREAK SPACE}-0.25]",
        " " * 16 + "1.00",
    ]
    assert Cells(made.to_html()).sides == [["right"]] * 3


@pytest.mark.parametrize(
    ("columns", "row", "message"),
    [
        ({"T": ".1f"}, ((1, 2),), r"with the two ends of its interval, got \(1, 2\); give other"),
        ({"T": "", "p": ""}, (1.0,), r"each of the 2 columns \['T', 'p'\], got 1: \(1\.0,\)"),
        ({"T": ""}, (1, 2), r"each of the 1 columns \['T'\], got 2: \(1, 2\)"),
        ({"T": "d"}, (0.5,), r"the format 'd' of column 'T' does not fit 0\.5: Unknown format"),
        ({"T": ".1f"}, ([1.0],), r"the format '\.1f' of column 'T' does not fit \[1\.0\]: "),
        ({"T": "d"}, ([0] * 9999,), r"does not fit \[0, 0, .*\.\.\.\]: "),
    ],
)
def test_what_does_not_fit_is_refused(columns: dict[str, str], row: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        table(columns, [row])
    assert len(str(caught.value)) < 300


def test_a_tensor_of_several_elements_is_no_value() -> None:
    with pytest.raises(ValueError, match=r"column 'p' .*\(2,\)"):
        table({"p": ".1f"}, [(torch.ones(2),)])
