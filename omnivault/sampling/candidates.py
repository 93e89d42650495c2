"""The few tokens behind a top-k, found without ranking a whole row."""

from __future__ import annotations

import torch
from torch import Tensor

from omnivault._checks import anywhere
from omnivault._parts import in_parts

HEIGHT = 64
"""How many rows the table has whose columns are searched."""


def kept_by_top_k(rows: Tensor, k: int | Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits that :func:`top_k` keeps, and where they stand.

    Parameters
    ----------
    rows
        Logits ``(B, V)``.
    k
        From 1 to V: an int, or int64 ``(B, 1)``.

    Returns
    -------
    values
        Falling, ``(B, n)`` with an n that holds all of any row; what is not kept is ``-inf``.
    tokens
        Their indices, int64 ``(B, n)``.

    Examples
    --------
    >>> values, tokens = kept_by_top_k(torch.tensor([[3.0, 1.0, 2.0, 2.0, 0.0]]), 2)
    >>> values, tokens[0, 1:3].sort().values
    (tensor([[3., 2., 2.]]), tensor([2, 3]))
    """
    size = rows.shape[-1]
    most = int(k.max()) if isinstance(k, Tensor) else k
    count = most + 1
    while True:
        values, tokens = largest(rows, min(count, size))
        kth = values.gather(1, k - 1) if isinstance(k, Tensor) else values[:, k - 1 : k]
        # One that is smaller than the k-th shows that all of its equals are here.
        if count >= size or not anywhere((values[:, -1:] == kth) & (kth > -torch.inf)):
            return values.masked_fill(values < kth, -torch.inf), tokens
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
    table = rows[:, : HEIGHT * width].unflatten(-1, (HEIGHT, width))
    columns = _column_maxima(table).topk(count).indices
    down = torch.arange(0, HEIGHT * width, width, device=rows.device)
    places = (columns.unsqueeze(1) + down.unsqueeze(1)).flatten(1)
    if size > HEIGHT * width:  # what the table leaves over
        over = torch.arange(HEIGHT * width, size, device=rows.device)
        places = torch.cat([places, over.expand(len(rows), -1)], 1)
    values, found = rows.gather(1, places).topk(count)
    return values, places.gather(1, found)


def _column_maxima(table: Tensor) -> Tensor:
    parts = in_parts(table, 1)
    if len(parts) == 1:
        return table.amax(1)
    return torch.stack([part.amax(1) for part in parts]).amax(0)
