"""Tables that end a cell: HTML where it can be shown, and text by rich elsewhere."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from html import escape
from numbers import Integral, Number, Real
from typing import Literal

from torch import Tensor

from omnivault._checks import shown

__all__ = ["Table", "table"]

MINUS = "\N{MINUS SIGN}"
LINE_END = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
"""What ``str.splitlines`` splits at."""


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
        Of each text, whether it was made from numbers: a hyphen in it is a minus sign, and its
        column stands at the right.
    """

    def __init__(
        self,
        names: Sequence[str],
        rows: Sequence[Sequence[str]],
        numbers: Sequence[Sequence[bool]],
    ) -> None:
        self.names, self.rows, self.numbers = names, rows, numbers
        columns = list(zip(*numbers, strict=True)) or [()] * len(names)
        self.sides: list[Literal["left", "right"]] = [
            "right" if any(column) else "left" for column in columns
        ]

    def to_html(self) -> str:
        """Return it as an HTML table, which takes font and colors from the page."""
        rows = [
            [
                text.replace("-", MINUS) if number else text
                for text, number in zip(*row, strict=True)
            ]
            for row in zip(self.rows, self.numbers, strict=True)
        ]
        return (
            '<div class="table" tabindex="0"><table class="values">'
            f"<thead>{self._line('th', self.names)}</thead>"
            f"<tbody>{''.join(self._line('td', row) for row in rows)}</tbody></table></div>"
        )

    def _line(self, tag: str, texts: Sequence[str]) -> str:
        # On the cell itself: notebook programs have styles of their own for tables.
        cells = [
            f'<{tag} style="text-align: {side}">{escape(text)}</{tag}>'
            for text, side in zip(texts, self.sides, strict=True)
        ]
        return f"<tr>{''.join(cells)}</tr>"

    def __str__(self) -> str:
        """Return it as lines of text, a row in each; where a text has a new line it has a space."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        made = RichTable(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for name, side in zip(self.names, self.sides, strict=True):
            made.add_column(Text(LINE_END.sub(" ", name)), justify=side, no_wrap=True)
        for row in self.rows:
            made.add_row(*(Text(LINE_END.sub(" ", text)) for text in row))
        file = io.StringIO()
        wide = Console(file=file, width=10_000, color_system=None, force_jupyter=False)
        wide.print(made)
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines()).strip("\n")

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, str]:
        return {"text/html": self.to_html(), "text/plain": str(self)}


def table(columns: Mapping[str, str], rows: Iterable[Sequence[object]]) -> Table:
    """Show values as a table.

    Parameters
    ----------
    columns
        The format of each column, such as ``".3f"`` or ``""``, by its name.
    rows
        Of each row, a value for each column. Numbers, tensors with one element among them, are
        written in the format of their column, and so are an estimate and the ends of its interval
        as a tuple of three; text stays as it is, and None leaves a place empty. What is rounded to
        zero has no minus.

    Returns
    -------
    Table
        It shows itself at the end of a cell; ``print`` writes it as text. A column with a number in
        it stands at the right.

    Raises
    ------
    TypeError
        A row has no length, as a number or a generator has none.
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
    made, numbers = [], []
    for row in rows:
        try:
            length = len(row)
        except TypeError:
            raise TypeError(
                f"a row is a tuple or list with a value for each of the {len(columns)} columns, "
                f"got {shown(row)}"
            ) from None
        if length != len(columns):
            raise ValueError(
                f"a row has a value for each of the {len(columns)} columns {list(columns)}, "
                f"got {length}: {shown(row)}"
            )
        texts = []
        for value, (name, form) in zip(row, columns.items(), strict=True):
            if isinstance(value, tuple):
                if len(value) != 3:
                    raise ValueError(
                        f"column {name!r} takes an estimate with the two ends of its interval, got "
                        f"{shown(value)}; give other numbers a column each"
                    )
                estimate, low, high = (_written(x, name, form) for x in value)
                texts.append(f"{estimate} [{low},\N{NO-BREAK SPACE}{high}]")
            else:
                texts.append(_written(value, name, form))
        made.append(texts)
        numbers.append([_is_number(value) for value in row])
    return Table(list(columns), made, numbers)


def _is_number(value: object) -> bool:
    return isinstance(value, Number | Tensor | tuple) and not isinstance(value, bool)


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
    if isinstance(value, bool):
        return str(value)
    try:
        text = format(value, form)
        # A whole number is never rounded to zero; in base 16 it may have no digit of 1 to 9.
        fraction = isinstance(value, Real | Decimal) and not isinstance(value, Integral)
        if fraction and "0" in text and not re.search("[1-9]", text):
            text = format(abs(value), form)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"the format {form!r} of column {name!r} does not fit {shown(value)}: {error}"
        ) from None
    return text
