r"""Penalties: logits of tokens that the text so far holds are made smaller.

A text is given by its tokens, ``ids`` of shape ``(..., N)``, and N may be 0. What counts, the
prompt or only what was written, is what is passed. No token is ruled out that was not: a penalized
logit stays finite, at the limits of its dtype.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from omnivault._checks import (
    anywhere,
    at_least_float32,
    check_dense,
    check_integer,
    check_number,
    check_rows,
    shown,
    some_values,
)
from omnivault.sampling.dials import for_each_row


def repetition_penalty(logits: Tensor, ids: Tensor, penalty: float | Tensor) -> Tensor:
    r"""Divide the positive logits of tokens of the text by the penalty, and multiply the negative.

    Each token counts once, however often it occurs (Keskar, McCann, Varshney, Xiong and Socher,
    2019, who divide; that negative logits are multiplied has become the definition since).

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    ids
        The text so far, int64 of shape ``(..., N)`` with tokens of [0, V); N may be 0.
    penalty
        Positive: a number, or a tensor of shape ``(...)`` with one for each row. 1 changes
        nothing, less than 1 is a reward.

    Returns
    -------
    Tensor
        Shape and dtype of ``logits``.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, ``ids`` not of int64, or ``penalty`` holds no numbers.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``; there is no token of an id;
        ``penalty`` is not positive and finite; or the shapes do not match.

    Notes
    -----
    What a penalty does depends on where the logits have their zero, of which softmax knows
    nothing: add a number to all of them and the same penalty gives other probabilities.

    Examples
    --------
    >>> repetition_penalty(torch.tensor([4.0, 2.0, -1.0]), torch.tensor([0, 2, 2]), 2.0)
    tensor([ 2.,  2., -2.])
    """
    counts = _counts(logits, ids)
    theta = _numbers(penalty, logits, interval="(0, inf)", neutral=1)
    z = at_least_float32(logits)
    return _finite(torch.where(counts > 0, torch.where(z > 0, z / theta, z * theta), z), logits)


def presence_penalty(logits: Tensor, ids: Tensor, penalty: float | Tensor) -> Tensor:
    r"""Subtract the penalty from the logit of each token of the text (OpenAI's API).

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    ids
        The text so far, int64 of shape ``(..., N)`` with tokens of [0, V); N may be 0.
    penalty
        A number, or a tensor of shape ``(...)`` with one for each row. 0 changes nothing, a
        negative one is a reward.

    Returns
    -------
    Tensor
        Shape and dtype of ``logits``.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, ``ids`` not of int64, or ``penalty`` holds no numbers.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``; there is no token of an id;
        ``penalty`` is not finite; or the shapes do not match.

    Examples
    --------
    >>> presence_penalty(torch.tensor([4.0, 2.0, -1.0]), torch.tensor([0, 2, 2]), 0.5)
    tensor([ 3.5000,  2.0000, -1.5000])
    """
    counts = _counts(logits, ids)
    z = at_least_float32(logits)
    return _finite(z - _numbers(penalty, logits) * (counts > 0), logits)


def frequency_penalty(logits: Tensor, ids: Tensor, penalty: float | Tensor) -> Tensor:
    r"""Subtract the penalty from the logit of a token as often as the text has it (OpenAI's API).

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    ids
        The text so far, int64 of shape ``(..., N)`` with tokens of [0, V); N may be 0.
    penalty
        A number, or a tensor of shape ``(...)`` with one for each row. 0 changes nothing, a
        negative one is a reward.

    Returns
    -------
    Tensor
        Shape and dtype of ``logits``.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, ``ids`` not of int64, or ``penalty`` holds no numbers.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``; there is no token of an id;
        ``penalty`` is not finite; or the shapes do not match.

    Examples
    --------
    >>> frequency_penalty(torch.tensor([4.0, 2.0, -1.0]), torch.tensor([0, 2, 2]), 0.5)
    tensor([ 3.5000,  2.0000, -2.0000])
    """
    counts = _counts(logits, ids)
    z = at_least_float32(logits)
    return _finite(z - _numbers(penalty, logits) * counts, logits)


def dry_penalty(
    logits: Tensor,
    ids: Tensor,
    *,
    multiplier: float | Tensor,
    base: float = 1.75,
    allowed_length: int = 2,
    breakers: Sequence[int] = (),
) -> Tensor:
    r"""Subtract from each token that would go on with a repetition, the more the longer it is.

    If the last n tokens of the text stand in it before, and there is no longer match before the
    same next token, this token loses
    :math:`\text{multiplier} \cdot \text{base}^{\,n - \text{allowed length}}`, once n is at least
    the allowed length (Weidmann, 2024: "don't repeat yourself", DRY). The two may overlap.

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    ids
        The text so far, int64 of shape ``(..., N)`` with tokens of [0, V); N may be 0.
    multiplier
        At least 0: a number, or a tensor of shape ``(...)`` with one for each row. 0 changes
        nothing.
    base
        At least 1.
    allowed_length
        The shortest match that counts, at least 1.
    breakers
        Tokens over which no match reaches, such as those of a line's end or of a name; they
        themselves are not penalized.

    Returns
    -------
    Tensor
        Shape and dtype of ``logits``.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, ``ids`` not of int64, or a setting is no number.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``; there is no token of an id
        or of a breaker; a setting is out of its range; or the shapes do not match.

    Examples
    --------
    >>> logits, ids = torch.zeros(4), torch.tensor([0, 1, 2, 3, 0, 1])
    >>> dry_penalty(logits, ids, multiplier=0.5)  # 0, 1 stood before 2
    tensor([ 0.0000,  0.0000, -0.5000,  0.0000])
    >>> dry_penalty(logits, ids, multiplier=0.5, allowed_length=1)
    tensor([ 0.0000,  0.0000, -0.8750,  0.0000])
    """
    _check_text(logits, ids)
    factor = _numbers(multiplier, logits, name="multiplier", interval="[0, inf)")
    growth = check_number(base, "base", 1.75)
    if not 1 <= growth < math.inf:
        raise ValueError(f"base must lie in [1, inf), got {shown(base)}; 1.75 is usual")
    allowed = check_integer(allowed_length, "allowed_length", 2)
    if allowed < 1:
        raise ValueError(f"allowed_length must be >= 1, got {shown(allowed_length)}; 2 is usual")
    none_over = torch.tensor(_tokens(breakers, logits), dtype=torch.int64, device=ids.device)
    matches = _matches(ids, none_over)
    longest = torch.zeros(logits.shape, dtype=torch.int64, device=ids.device)
    longest.scatter_reduce_(-1, ids[..., 1:], matches, "amax")
    longest[..., none_over] = 0
    beyond = longest.to(logits.device) - min(allowed, ids.shape[-1] + 1)
    z = at_least_float32(logits)
    # A power that overflows is the largest number, so that 0 times it is 0.
    most = torch.finfo(z.dtype).max
    power = torch.full_like(z, min(growth, most)).pow(beyond).clamp(max=most)
    return _finite(torch.where(beyond >= 0, z - factor * power, z), logits)


def _matches(ids: Tensor, breakers: Tensor) -> Tensor:
    """Return how many tokens up to each but the last are those at the end, ``(..., N - 1)``."""
    size = ids.shape[-1]
    length = torch.zeros_like(ids[..., 1:])
    alive = torch.ones_like(length, dtype=torch.bool)
    whole = torch.isin(ids, breakers)
    for n in range(size - 1):
        end = slice(size - 1 - n, size - n)
        alive[..., :n] = False  # nothing stands there
        alive[..., n:] &= (ids[..., : size - 1 - n] == ids[..., end]) & ~whole[..., end]
        if not anywhere(alive):
            break
        length += alive
    return length


def _counts(logits: Tensor, ids: Tensor) -> Tensor:
    """Return how often each token occurs, int64 of shape ``(..., V)``, where the logits are."""
    _check_text(logits, ids)
    counts = torch.zeros(logits.shape, dtype=torch.int64, device=ids.device)
    return counts.scatter_add_(-1, ids, torch.ones_like(ids)).to(logits.device)


def _check_text(logits: Tensor, ids: Tensor) -> None:
    check_rows(logits)
    if not isinstance(ids, Tensor) or ids.dtype is not torch.int64:
        remedy = "ids.long() makes one"
        if not isinstance(ids, Tensor):
            remedy = "torch.tensor(ids) makes one of a list"
        raise TypeError(f"ids must be a tensor of dtype torch.int64, got {shown(ids)}; {remedy}")
    check_dense(ids, "ids")
    rows, size = logits.shape[:-1], logits.shape[-1]
    if ids.ndim == 0 or ids.shape[:-1] != rows:
        shape = str((*rows, "N")).replace("'", "")
        raise ValueError(
            f"ids must have the shape {shape} of a text for each row of logits, got "
            f"{tuple(ids.shape)}"
        )
    wrong = (ids < 0) | (ids >= size)
    if anywhere(wrong):
        raise ValueError(
            f"ids must lie in [0, {size - 1}], got {some_values(ids[wrong])}; pass texts of "
            "different lengths one by one, without padding"
        )


def _tokens(breakers: Sequence[int], logits: Tensor) -> list[int]:
    if isinstance(breakers, str) or not isinstance(breakers, Sequence):
        raise TypeError(f"breakers must be a list of tokens such as [13], got {shown(breakers)}")
    tokens = [check_integer(token, "a breaker", 13) for token in breakers]
    for token in tokens:
        if not 0 <= token < logits.shape[-1]:
            raise ValueError(
                f"breakers must lie in [0, {logits.shape[-1] - 1}], the vocabulary, got "
                f"{shown(token)}"
            )
    return tokens


def _numbers(
    value: float | Tensor,
    logits: Tensor,
    *,
    name: str = "penalty",
    interval: str = "(-inf, inf)",
    neutral: int = 0,
) -> Tensor:
    """Return a number ``()``, or of a tensor ``(..., 1)``, in the dtype of the arithmetic."""
    if isinstance(value, Tensor):
        if value.dtype is torch.bool or value.is_complex():
            raise TypeError(f"{name} must hold real numbers such as 1.5, got {shown(value)}")
        numbers = for_each_row(value, logits, name).unsqueeze(-1)
    else:
        numbers = torch.tensor(check_number(value, name, 1.5), dtype=torch.float64)
    exact = numbers.to(dtype=at_least_float32(logits[..., :0]).dtype).to(logits.device)
    wrong = ~_inside(interval, exact)
    if anywhere(wrong):
        bad = numbers[wrong.to(numbers.device)]
        got = some_values(bad) if isinstance(value, Tensor) and value.ndim else shown(value)
        rounded = f" in {exact.dtype}" if bool(_inside(interval, bad).all()) else ""
        raise ValueError(
            f"{name} must lie in {interval}{rounded}, got {got}; {neutral} changes nothing"
        )
    return exact


def _inside(interval: str, x: Tensor) -> Tensor:
    least = {"(-inf, inf)": x > -torch.inf, "[0, inf)": x >= 0, "(0, inf)": x > 0}
    return least[interval] & (x < torch.inf)


def _finite(penalized: Tensor, logits: Tensor) -> Tensor:
    """Return it in the dtype of the logits, ``-inf`` where they are and nowhere else."""
    limits = torch.finfo(logits.dtype)
    bounded = penalized.clamp(limits.min, limits.max).to(logits.dtype)
    return bounded.masked_fill(logits == -torch.inf, -torch.inf)
