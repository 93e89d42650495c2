"""One token from the logits of a row: the largest, or a draw."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from omnivault._checks import Generator, check_generator, check_row_dtype, check_rows
from omnivault.sampling.rows import draw_tokens
from omnivault.sampling.settings import Settings
from omnivault.sampling.truncation import in_order


def greedy(logits: Tensor) -> Tensor:
    """Index of the largest logit, the first of several.

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.

    Returns
    -------
    Tensor
        int64 of shape ``(...)``.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``.

    Examples
    --------
    >>> greedy(torch.tensor([[1.0, 3.0, 2.0], [0.0, 0.0, 0.0]]))
    tensor([1, 0])
    """
    check_rows(logits)
    return logits.argmax(-1)


def sample(
    logits: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    generator: Generator = None,
    **dials: Any,
) -> Tensor:
    """Draw one token for each row: temperature, then truncations, then a draw.

    Truncations come in the order of :data:`omnivault.sampling.TRUNCATIONS`, in which top-k, top-p
    and min-p stand as in Transformers. In another order they go around the logits, as in
    ``sample(typical_p(logits, 0.95), top_p=0.9)``.

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    temperature
        T >= 0: one number, or a tensor of shape ``(...)`` with one for each row. A row with
        T = 0 takes its largest logit, as in vLLM; no division is made.
    generator
        Source of randomness, or one for each row in order, so that what a row draws does not
        depend on the rows beside it. None takes PyTorch's global one.
    **dials
        Truncations by name, such as ``top_k=40, top_p=0.9``: each a number, or a tensor of shape
        ``(...)`` with one for each row. None leaves one out, for all rows. In a tensor this value
        leaves its row alone: ``top_k`` V; ``top_n_sigma`` infinity; ``top_p``, ``typical_p``,
        ``top_h``, ``tail_free`` and ``xtc`` 1; ``min_p``, ``epsilon_cutoff``, ``eta_cutoff`` and
        ``top_a`` 0. No order of ``p_less`` does.

    Returns
    -------
    Tensor
        Token indices, int64 of shape ``(...)``.

    Raises
    ------
    TypeError, ValueError
        As the functions of the same names; there is no truncation of a name; T is negative or not
        finite; or the number of generators is not that of the rows.

    Notes
    -----
    Drawn by :func:`omnivault.inverse_cdf.inverse_cdf`. The nucleus of top-p is not looked for: a
    token is drawn, then asked whether it is in, which takes one pass and no sort; if not, the draw
    is repeated among those more probable than it, log(1/p) times on average at most. Behind a
    top-k everything happens among the tokens that it keeps, which are found without ranking the
    others. Long rows are taken one by one, in one thread, so a large batch takes little memory
    besides its logits. :func:`plain_sample` has the same distribution and follows the definitions
    line by line; where rounding decides whether a token is kept, they are asked.

    Examples
    --------
    >>> logits = torch.tensor([1.0, 2.0, 0.5, 1.5]).expand(5, 4)
    >>> sample(logits, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([5])
    >>> sample(logits, temperature=0)
    tensor([1, 1, 1, 1, 1])
    >>> sample(logits, top_k=1, temperature=2.0)
    tensor([1, 1, 1, 1, 1])
    """
    dials = in_order(dials)
    check_row_dtype(logits)
    settings = Settings.of(logits, temperature, dials)
    rows = logits.detach() if logits.requires_grad else logits
    if logits.ndim != 2:
        rows = rows.reshape(-1, logits.shape[-1])
    own = check_generator(generator, len(rows))
    if rows.is_meta or len(rows) == 0:
        return rows.new_empty(logits.shape[:-1], dtype=torch.int64)
    drawn = draw_tokens(rows, settings, own)
    return drawn if logits.ndim == 2 else drawn.view(logits.shape[:-1])
