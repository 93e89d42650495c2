r"""From the logits of one step to one token: temperature, truncation, and the draw.

Each truncation (:func:`top_k`, :func:`top_p`, :func:`min_p`, :func:`typical_p`) takes logits and
returns logits, with ``-inf`` where a token is ruled out, so truncations compose. At least one
token is kept; the probabilities of those that are kept are renormalized by the softmax that
follows. The last dimension is the vocabulary, every other one is a batch dimension, and
half-precision logits are compared in float32.

The kept sets are those of the logits processors of Hugging Face Transformers. Of ties it becomes:

============= ===================================================================================
``top_k``     every token whose logit equals the k-th largest is kept, so there may be more than k
``top_p``     of equal logits at the border, as many as are needed are kept, the highest indices
              (Transformers keeps as many, and leaves it to an unstable sort which)
``min_p``     equal probabilities are kept or ruled out together
``typical_p`` tokens equally far from the entropy are kept or ruled out together
============= ===================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

from omnivault.inverse_cdf import BLOCK, _draw, block_sums
from omnivault.softmax import _at_least_float32, _check, _some_values

__all__ = [
    "apply_temperature",
    "greedy",
    "in_nucleus",
    "min_p",
    "plain_sample",
    "sample",
    "top_k",
    "top_p",
    "typical_p",
]


def apply_temperature(logits: Tensor, temperature: float | Tensor) -> Tensor:
    r"""Divide logits by the temperature, :math:`z / T`.

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating; ``-inf`` marks a token that is ruled out.
    temperature
        T > 0: one number, or a tensor of shape ``(...)`` with one for each row.

    Returns
    -------
    Tensor
        Shape and dtype of ``logits``.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, or ``temperature`` is not a number.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``; T is not positive and
        finite; the shapes do not match; or the largest quotient of a row overflows.

    Examples
    --------
    >>> apply_temperature(torch.tensor([[1.0, 2.0], [1.0, 2.0]]), torch.tensor([0.5, 2.0]))
    tensor([[2.0000, 4.0000],
            [0.5000, 1.0000]])
    """
    _check_logits(logits)
    divisor = _temperatures(temperature, logits)
    if not bool((divisor > 0).all()):
        raise ValueError(
            f"temperature must be > 0, got {_some_values(divisor[~(divisor > 0)])}; "
            "for deterministic decoding (T -> 0) use greedy(logits)"
        )
    divided = (_at_least_float32(logits) / divisor).to(logits.dtype)
    lost = ~divided.amax(-1).isfinite()
    if bool(lost.any()):
        raise ValueError(
            f"logits {_some_values(logits[lost])} divided by the temperature overflow "
            f"{logits.dtype}; subtract the largest first: logits - logits.amax(-1, keepdim=True)"
        )
    return divided


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k largest logits (Fan, Lewis and Dauphin, 2018).

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    k
        How many to keep, from 1 to V.

    Returns
    -------
    Tensor
        ``logits`` with ``-inf`` at every token whose logit is below the k-th largest.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, or ``k`` is not an int.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``, or ``k`` is not in [1, V].

    Examples
    --------
    >>> top_k(torch.tensor([3.0, 1.0, 2.0, 2.0]), 2)  # the tie at the second place is kept whole
    tensor([3., -inf, 2., 2.])
    """
    _check_logits(logits)
    if isinstance(k, bool) or not isinstance(k, int):
        raise TypeError(f"k must be an int such as 50, got {k!r}")
    if not 1 <= k <= logits.shape[-1]:
        raise ValueError(
            f"k must lie in [1, {logits.shape[-1]}], the size of the vocabulary, got {k}; "
            "leave top-k out to keep every token"
        )
    smallest_kept = logits.topk(k).values[..., -1:]
    return logits.masked_fill(logits < smallest_kept, -torch.inf)


def top_p(logits: Tensor, p: float) -> Tensor:
    r"""Keep the nucleus: the most probable tokens, down to the one that brings the mass to p.

    Tokens are taken in falling order of probability while the mass before them is below p, so the
    one that crosses p is kept (Holtzman, Buys, Du, Forbes and Choi, 2020). Of equal tokens at the
    border those with the highest indices are kept.

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    p
        The mass to reach, in (0, 1].

    Returns
    -------
    Tensor
        ``logits`` with ``-inf`` outside the nucleus.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, or ``p`` is not a number.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``, or ``p`` is not in (0, 1].

    Notes
    -----
    Decided, as in Transformers, by the mass of a token and all those less probable than it, which
    must exceed 1 - p: the small numbers are added first. With p = 1 every token stays whose mass,
    so added, is not zero.

    Examples
    --------
    >>> probs = torch.tensor([0.5, 0.25, 0.125, 0.125])
    >>> top_p(probs.log(), 0.7).exp()  # reached by the second
    tensor([0.5000, 0.2500, 0.0000, 0.0000])
    >>> top_p(probs.log(), 0.76).exp()  # crossed by one of two equals
    tensor([0.5000, 0.2500, 0.0000, 0.1250])
    """
    _check_logits(logits)
    p = _check_share(p)
    ascending, order = _at_least_float32(logits).sort(dim=-1, stable=True)
    removed = ascending.softmax(-1).cumsum(-1) <= 1 - p
    removed[..., -1] = False
    return logits.masked_fill(removed.scatter(-1, order, removed), -torch.inf)


def in_nucleus(logits: Tensor, tokens: Tensor, p: float) -> Tensor:
    """Say of one token of each row whether :func:`top_p` keeps it, mostly without a sort.

    It does if this token and those after it in the ranking have more than the mass 1 - p.

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    tokens
        Token indices, int64 of shape ``(...)``.
    p
        The mass of the nucleus, in (0, 1].

    Returns
    -------
    Tensor
        bool of shape ``(...)``.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, or ``p`` is not a number.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``, ``p`` is not in (0, 1], or
        ``tokens`` is not int64 of its shape or holds what is not in [0, V).

    Examples
    --------
    >>> logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log().expand(4, 4)
    >>> in_nucleus(logits, torch.arange(4), 0.76)
    tensor([ True,  True, False,  True])
    """
    largest = _check_logits(logits)
    p = _check_share(p)
    size = logits.shape[-1]
    if tokens.shape != logits.shape[:-1] or tokens.dtype != torch.int64:
        raise ValueError(
            f"tokens must be int64 of shape {tuple(logits.shape[:-1])}, one for each row, got "
            f"{tokens.dtype} of shape {tuple(tokens.shape)}"
        )
    outside = (tokens < 0) | (tokens >= size)
    if bool(outside.any()):
        raise ValueError(f"tokens must lie in [0, {size}), got {_some_values(tokens[outside])}")
    z = _at_least_float32(logits)
    weights = (z - _at_least_float32(largest).unsqueeze(-1)).exp()
    rows = z.reshape(-1, size), weights.reshape(-1, size), tokens.reshape(-1)
    return _in_nucleus(*rows, p).reshape(tokens.shape)


def min_p(logits: Tensor, p: float) -> Tensor:
    r"""Keep tokens at least p times as probable as the most probable one.

    In logits: those at most log(1/p) below the largest (Nguyen et al., 2024).

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    p
        The share of the largest probability that a token must reach, in (0, 1].

    Returns
    -------
    Tensor
        ``logits`` with ``-inf`` at every token below the share.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, or ``p`` is not a number.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``, or ``p`` is not in (0, 1].

    Examples
    --------
    >>> min_p(torch.tensor([0.5, 0.25, 0.125, 0.125]).log(), 0.4).exp()
    tensor([0.5000, 0.2500, 0.0000, 0.0000])
    """
    _check_logits(logits)
    p = _check_share(p)
    probs = _at_least_float32(logits).softmax(-1)
    return logits.masked_fill(probs < p * probs.amax(-1, keepdim=True), -torch.inf)


def typical_p(logits: Tensor, p: float) -> Tensor:
    r"""Keep the locally typical tokens: those whose surprise is nearest to the entropy.

    Ordered by :math:`|-\log p_i - H|`, tokens are kept until their mass reaches p, together with
    any as near as the last of them (Meister, Pimentel, Wiher and Cotterell, 2023). The most
    probable token may be ruled out.

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    p
        The mass to reach, in (0, 1].

    Returns
    -------
    Tensor
        ``logits`` with ``-inf`` outside the typical set.

    Raises
    ------
    TypeError
        ``logits`` is not a floating tensor, or ``p`` is not a number.
    ValueError
        A row of logits holds nan or ``+inf`` or nothing but ``-inf``, or ``p`` is not in (0, 1].

    Examples
    --------
    >>> probs = torch.tensor([0.4, 0.3, 0.1, 0.1, 0.1])  # entropy 1.42, surprises .92, 1.20, 2.30
    >>> typical_p(probs.log(), 0.2).exp()  # the most probable token is not the most typical
    tensor([0.0000, 0.3000, 0.0000, 0.0000, 0.0000])
    """
    _check_logits(logits)
    p = _check_share(p)
    z = _at_least_float32(logits)
    log_probs = z.log_softmax(-1)
    entropy = -(log_probs.exp() * log_probs).nansum(-1, keepdim=True)
    distance, order = (-log_probs - entropy).abs().sort(dim=-1, stable=True)
    mass = z.gather(-1, order).softmax(-1).cumsum(-1)
    last = (mass < p).sum(-1, keepdim=True).clamp(max=z.shape[-1] - 1)
    removed = distance > distance.gather(-1, last)
    return logits.masked_fill(removed.scatter(-1, order, removed), -torch.inf)


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
    _check_logits(logits)
    return logits.argmax(-1)


# Inside `sample` these names are arguments.
_top_k, _top_p, _min_p = top_k, top_p, min_p


def sample(
    logits: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
) -> Tensor:
    """Draw one token for each row: temperature, then top-k, top-p, min-p, then a draw.

    The order is that of Transformers. Other truncations go around the logits, as in
    ``sample(typical_p(logits, 0.95))``.

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    temperature
        T >= 0: one number, or a tensor of shape ``(...)`` with one for each row. A row with
        T = 0 takes its largest logit, as in vLLM; no division is made.
    top_k, top_p, min_p
        Truncations of the same names; None leaves one out.
    generator
        Source of randomness, or one for each row in order, so that what a row draws does not
        depend on the rows beside it. None takes PyTorch's global one.

    Returns
    -------
    Tensor
        Token indices, int64 of shape ``(...)``.

    Raises
    ------
    TypeError, ValueError
        As the functions of the same names; T is negative or not finite, or the number of
        generators is not that of the rows.

    Notes
    -----
    Drawn by :func:`omnivault.inverse_cdf.inverse_cdf`. The nucleus of top-p is not looked for: a
    token is drawn, then asked whether it is in, which takes one pass and no sort; if not, the draw
    is repeated among those more probable than it, log(1/p) times on average at most.
    :func:`plain_sample` has the same distribution and follows the definitions line by line.

    Examples
    --------
    >>> logits = torch.tensor([1.0, 2.0, 0.5, 1.5]).expand(5, 4)
    >>> sample(logits, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([5])
    >>> sample(logits, temperature=0)
    tensor([1, 1, 1, 1, 1])
    """
    z, cold = _scaled(logits, temperature, top_k)
    z = z.reshape(-1, z.shape[-1])
    weights = z.exp()
    drawable = weights if min_p is None else _min_p(z, min_p).exp()
    if top_p is None:
        drawn = _draw(drawable, generator)
    else:
        drawn = _draw_from_nucleus(z, weights, drawable, _check_share(top_p), generator)
    drawn = drawn.reshape(logits.shape[:-1])
    return torch.where(cold, logits.argmax(-1), drawn) if bool(cold.any()) else drawn


def plain_sample(
    logits: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw as :func:`sample` does, one definition after the other: slower, and easier to believe.

    Parameters
    ----------
    logits, temperature, top_k, top_p, min_p
        As in :func:`sample`.
    generator
        Source of randomness for all rows. None takes PyTorch's global one. The same generator
        gives other tokens than :func:`sample`, of the same distribution.

    Returns
    -------
    Tensor
        Token indices, int64 of shape ``(...)``.

    Raises
    ------
    TypeError, ValueError
        As :func:`sample`.

    Examples
    --------
    >>> logits = torch.tensor([1.0, 2.0, 0.5, 1.5]).expand(5, 4)
    >>> plain_sample(logits, top_p=0.1)
    tensor([1, 1, 1, 1, 1])
    """
    z, cold = _scaled(logits, temperature, top_k)
    if top_p is not None:
        z = _top_p(z, top_p)
    if min_p is not None:
        z = _min_p(z, min_p)
    rows = z.softmax(-1).reshape(-1, z.shape[-1])
    drawn = torch.multinomial(rows, 1, generator=generator).reshape(z.shape[:-1])
    return torch.where(cold, logits.argmax(-1), drawn)


def _scaled(
    logits: Tensor, temperature: float | Tensor, top_k: int | None
) -> tuple[Tensor, Tensor]:
    """(z - max z) / T in the dtype of the arithmetic, and which rows have T = 0."""
    largest = _check_logits(logits)
    temperatures = _temperatures(temperature, logits)
    if not bool((temperatures >= 0).all()):
        raise ValueError(
            f"temperature must be >= 0, got {_some_values(temperatures[~(temperatures >= 0)])}; "
            "0 is greedy, 1 leaves the model's distribution as it is"
        )
    cold = temperatures == 0
    # Top-k commutes with temperature. It comes first here, since the shift may round to a tie.
    kept = logits if top_k is None else _top_k(logits, top_k)
    # Softmax does not see the shift, and a quotient of a number that is at most 0 cannot become
    # +inf, however small T is.
    shifted = _at_least_float32(kept) - _at_least_float32(largest).unsqueeze(-1)
    return shifted.div_(torch.where(cold, 1.0, temperatures)), cold.squeeze(-1)


def _draw_from_nucleus(
    z: Tensor,
    weights: Tensor,
    drawable: Tensor,
    p: float,
    generator: torch.Generator | Sequence[torch.Generator] | None,
) -> Tensor:
    """Draw a token of each row until it is in the nucleus of softmax(z); weights are exp(z)."""
    drawn = _draw(drawable, generator)
    (out,) = (~_in_nucleus(z, weights, drawn, p)).nonzero(as_tuple=True)
    if len(out):
        z, rejected = z[out], drawn[out].unsqueeze(-1)
        at = z.gather(-1, rejected)
        # What comes after a token that is out is out as well. Before it are the larger, and of
        # its equals those with a higher index.
        index = torch.arange(z.shape[-1], device=z.device)
        before = (z > at) | ((z == at) & (index > rejected))
        if isinstance(generator, Sequence):
            generator = [generator[row] for row in out.tolist()]
        drawn[out] = _draw_from_nucleus(z, weights[out], drawable[out] * before, p, generator)
    return drawn


def _in_nucleus(z: Tensor, weights: Tensor, tokens: Tensor, p: float) -> Tensor:
    """As :func:`in_nucleus`, for rows; weights are proportional to softmax(z), the largest is 1."""
    own, at = (x.gather(-1, tokens.unsqueeze(-1)) for x in (weights, z))
    own, total = own.squeeze(-1).double(), block_sums(weights).sum(-1)
    # A comparison in place gives 0 or 1 as floats, which is faster than a mask of booleans.
    smaller = block_sums(z.clone().lt_(at).mul_(weights)).sum(-1)
    # Whoever adds V positive numbers, in whatever order, is wrong by a factor of at most
    # 1 ± V u. `top_p` adds so; the sums here do in blocks, and exp adds a few u of its own.
    limits = torch.finfo(z.dtype)
    slack = (z.shape[-1] + 3 * BLOCK) * limits.eps / 2
    lost = z.shape[-1] * limits.tiny  # in a softmax whose small numbers underflow
    # Whichever place it has among equals.
    inside = smaller + own > ((1 - p) * (1 + slack) + lost) * total
    (asked,) = (~inside).nonzero(as_tuple=True)
    if len(asked):
        z, at, tokens = z[asked], at[asked], tokens[asked]
        with_equals = smaller[asked] + own[asked] * (z == at).sum(-1)
        close = with_equals > (1 - p) * (1 - slack) * total[asked]
        # Where rounding or the place among equals decides, the definition is asked.
        for row in close.nonzero(as_tuple=True)[0]:
            inside[asked[row]] = top_p(z[row], p)[tokens[row]].isfinite()
    return inside


def _temperatures(temperature: float | Tensor, logits: Tensor) -> Tensor:
    """T as a tensor of shape (..., 1) or (1,) in the dtype of the arithmetic, finite."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    limits = torch.finfo(dtype)
    # Zero passes here: it means greedy to `sample`. A subnormal number, which may be flushed to
    # zero, and one that rounds to infinity do not.
    if isinstance(temperature, Tensor):
        if temperature.ndim > 0 and temperature.shape != logits.shape[:-1]:
            raise ValueError(
                f"temperature must be a number or have the shape {tuple(logits.shape[:-1])} of the "
                f"rows, got shape {tuple(temperature.shape)}; give one number for each row"
            )
        wide = temperature.double()
        size = wide.abs()
        lost = wide[(wide != 0) & ~((size >= limits.tiny) & (size <= limits.max))]
        values = _some_values(lost) if lost.numel() else ""
    elif isinstance(temperature, bool) or not isinstance(temperature, Real):
        raise TypeError(f"temperature must be a number such as 0.7, got {temperature!r}")
    else:
        number = float(temperature)
        wide = torch.tensor(number, dtype=dtype)
        values = "" if number == 0 or limits.tiny <= abs(number) <= limits.max else f"[{number}]"
    if values:
        raise ValueError(
            f"temperature must be 0 or lie in [{limits.tiny:.4g}, {limits.max:.4g}] to be computed "
            f"in {dtype}, got {values}; for T -> 0 use greedy(logits)"
        )
    return wide.to(dtype).unsqueeze(-1)


def _check_logits(logits: Tensor) -> Tensor:
    """Return the largest of each row; raise unless every row of logits has a softmax."""
    _check(logits, -1, 1.0)
    # The largest of a row says it all: nan if there is one, +inf if there is one, -inf if
    # nothing else is there.
    largest = logits.amax(-1)
    if not bool(largest.isfinite().all()):
        row = logits[~largest.isfinite()][0]
        ailment, remedy = (
            ("hold nan", "look for the operation before that made it")
            if bool(row.isnan().any())
            else ("hold +inf", "subtract what overflowed, or compute the logits in float32")
            if bool((row == torch.inf).any())
            else ("are all -inf", "a mask must leave at least one token")
        )
        raise ValueError(f"logits of a row {ailment}: {_some_values(row)}; {remedy}")
    return largest


def _check_share(p: float) -> float:
    if isinstance(p, bool) or not isinstance(p, Real):
        raise TypeError(f"p must be a number such as 0.9, got {p!r}")
    if not 0 < p <= 1:
        raise ValueError(f"p must lie in (0, 1], got {p}; leave it out to keep every token")
    return float(p)
