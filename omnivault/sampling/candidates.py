"""The few tokens behind a top-k, found without ranking a whole row."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from omnivault._parts import LONG, PART

HEIGHT = 64
"""How many rows the table has whose columns are searched."""


def largest_with_equals(rows: Tensor, k: int | Tensor, most: int) -> tuple[Tensor, Tensor] | None:
    """Return the k largest numbers of each row and all that equal the k-th, and where they stand.

    None if that is more than about ``most``.

    Parameters
    ----------
    rows
        Shape ``(B, V)``.
    k
        From 1 to V: an int, or int64 ``(B, 1)``.
    most
        At least k.

    Returns
    -------
    values
        In falling order, ``(B, n)``; others may follow.
    places
        Their indices, int64 ``(B, n)``.

    Examples
    --------
    >>> largest_with_equals(torch.tensor([[3.0, 1.0, 4.0, 0.0]]), 2, 4)
    (tensor([[4., 3., 1.]]), tensor([[2, 0, 1]]))
    """
    size = rows.shape[-1]
    count = 1 + (int(k.max()) if isinstance(k, Tensor) else k)
    while True:
        values, places = largest(rows, min(count, size))
        kth = values.gather(1, k - 1) if isinstance(k, Tensor) else values[:, k - 1]
        # A last one that is smaller than the k-th shows that all equals of the k-th are here.
        ends = zip(kth.flatten().tolist(), values[:, -1].tolist(), strict=True)
        if count >= size or not any(last == least > -math.inf for least, last in ends):
            return values, places
        if count > most:
            return None
        count *= 4


def largest(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the largest numbers of each row in falling order, and where they stand.

    Of equals at the end some. Written as a table, a row has them in those ``count`` columns whose
    largest numbers are the largest: these alone are ranked.

    Examples
    --------
    >>> largest(torch.tensor([[5.0, 1.0, 7.0]]), 2)
    (tensor([[7., 5.]]), tensor([[2, 0]]))
    """
    size = rows.shape[-1]
    width = size // HEIGHT
    if width < 4 * count:
        values, places = rows.topk(count)
        return values, places
    table = rows[:, : HEIGHT * width].view(len(rows), HEIGHT, width)
    columns = _column_maxima(table).topk(count).indices
    down = torch.arange(0, HEIGHT * width, width, device=rows.device)
    places = (columns.unsqueeze(1) + down.unsqueeze(1)).flatten(1)
    if size > HEIGHT * width:  # what the table leaves over
        over = torch.arange(HEIGHT * width, size, device=rows.device)
        places = torch.cat([places, over.expand(len(rows), -1)], 1)
    values, found = rows.gather(1, places).topk(count)
    return values, places.gather(1, found)


def _column_maxima(table: Tensor) -> Tensor:
    """Return the largest of each column, ``(B, width)``; of long rows in one thread."""
    _, height, width = table.shape
    if height * width < LONG or not table.is_cpu or torch.get_num_threads() == 1:
        return table.amax(1)
    some = max(1, PART // width)
    return torch.cat(
        [
            torch.stack([part.amax(1) for part in one.split(some, 1)]).amax(0)
            for one in table.split(1)
        ]
    )
