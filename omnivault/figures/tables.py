"""Tables that end a cell: HTML where it can be shown, and text by rich elsewhere."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Literal

from torch import Tensor

__all__ = ["Table", "table"]

MINUS = "\N{MINUS SIGN}"


class Table:
    """Rows of text below the names of their columns; :func:`table` makes it of values.

    Rich could draw it as HTML too, but of boxes of characters, as wide on a phone as on a screen.

    Parameters
    ----------
    names
        Of the columns.
    rows
        The texts of each row.
    numbers
        Of each column, whether it holds numbers: they stand at the right.
    """

    def __init__(
        self, names: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[bool]
    ) -> None:
        self.names, self.rows, self.numbers = names, rows, numbers

    def to_html(self) -> str:
        """Return it as an HTML table, which takes font and colors from the page."""
        return (
            '<div class="table" tabindex="0"><table class="values">'
            f"<thead>{self._line('th', self.names)}</thead>"
            f"<tbody>{''.join(self._line('td', row) for row in self.rows)}</tbody></table></div>"
        )

    def _line(self, tag: str, texts: Sequence[str]) -> str:
        cells = []
        for text, number in zip(texts, self.numbers, strict=True):
            shown = escape(text.replace("-", MINUS) if number and tag == "td" else text)
            # On the cell itself: notebook programs have styles of their own for tables.
            cells.append(f'<{tag} style="text-align: {_side(number)}">{shown}</{tag}>')
        return f"<tr>{''.join(cells)}</tr>"

    def __str__(self) -> str:
        """Return it as lines of text."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        made = RichTable(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for name, number in zip(self.names, self.numbers, strict=True):
            made.add_column(Text(name), justify=_side(number), no_wrap=True)
        for row in self.rows:
            made.add_row(*map(Text, row))
        file = io.StringIO()
        wide = Console(file=file, width=10_000, color_system=None, force_jupyter=False)
        wide.print(made)
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines()).strip("\n")

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, str]:
        return {"text/html": self.to_html(), "text/plain": str(self)}


def _side(number: bool) -> Literal["left", "right"]:
    return "right" if number else "left"


def table(columns: Mapping[str, str], rows: Iterable[Sequence[object]]) -> Table:
    """Show values as a table.

    Parameters
    ----------
    columns
        The format of each column, such as ``".3f"`` or ``""``, by its name.
    rows
        Of each row, a value for each column. Numbers, tensors with one element among them, are
        written in the format of their column, and so are an estimate and the ends of its interval
        as a tuple of three; text stays as it is, and None leaves a place empty.

    Returns
    -------
    Table
        It shows itself at the end of a cell; ``print`` writes it as text. A column with a number in
        it stands at the right.

    Raises
    ------
    ValueError
        A row has more or fewer values than there are columns, a format does not fit a value, or a
        tensor has not one element.

    Examples
    --------
    >>> print(table({"T": ".1f", "largest": ".3f", "token": ""}, [(0.5, 0.8668, " sea")]))
      T   largest   token
    ─────────────────────
    0.5     0.867    sea
    """
    made = []
    numbers = [False] * len(columns)
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(
                f"a row has a value for each of the {len(columns)} columns {list(columns)}, "
                f"got {len(row)}: {_cut(row)}"
            )
        texts = []
        for place, (value, (name, form)) in enumerate(zip(row, columns.items(), strict=True)):
            numbers[place] |= not isinstance(value, str | bool | None)
            if isinstance(value, tuple):
                if len(value) != 3:
                    raise ValueError(
                        f"column {name!r} takes an estimate with the two ends of its interval, got "
                        f"{_cut(value)}; give other numbers a column each"
                    )
                estimate, low, high = (_written(x, name, form) for x in value)
                texts.append(f"{estimate} [{low},\N{NO-BREAK SPACE}{high}]")
            else:
                texts.append(_written(value, name, form))
        made.append(texts)
    return Table(list(columns), made, numbers)


def _written(value: object, name: str, form: str) -> str:
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ValueError(
                f"column {name!r} takes tensors with one element, got the shape "
                f"{tuple(value.shape)}; give each element a row or a column"
            )
        value = value.item()
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return str(value) if isinstance(value, bool) else format(value, form)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the format {form!r} of column {name!r} does not fit {_cut(value)}: {error}"
        ) from None


def _cut(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
