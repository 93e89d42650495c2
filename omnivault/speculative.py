r"""Speculative sampling: a cheap draft proposes tokens, an expensive model disposes of them.

What comes out has exactly the distribution of the expensive model, the target, however bad the
draft is. That only decides how often a proposal is accepted (Leviathan, Kalman and Matias, 2023;
Chen, Borgeaud, Irving, Lespiau, Sifre and Jumper, 2023). A draft is a cheaper model, or a function
that proposes tokens without any, such as :func:`prompt_lookup`.

Logits in half precision are computed with in float32. How many tokens are kept is a matter of
values, so there is nothing here to compile or to vectorize but the models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from omnivault._checks import (
    Generator,
    at_least_float32,
    check_dense,
    check_end_token,
    check_generator,
    check_integer,
    check_rows,
    check_temperature,
    shown,
    some_values,
)
from omnivault.inverse_cdf import draw_rows, inverse_cdf, uniforms
from omnivault.sampling.dials import at_most, number_of_tokens
from omnivault.sampling.temperature import scaled
from omnivault.sampling.truncation import in_order, truncate

__all__ = ["SpeculativeText", "accept_or_redraw", "prompt_lookup", "speculative_sequence"]

Logits = Callable[[Tensor], Tensor]
"""From token ids (N,) to the logits (N, V) of the token after each of them, or to the last rows."""

Draft = Callable[[Tensor], Tensor]
"""From token ids (N,) to logits as of a model, or to the ids (n,) of tokens that may follow."""


@dataclass(frozen=True)
class SpeculativeText:
    """What :func:`speculative_sequence` wrote, and what it took."""

    ids: Tensor
    """Prompt and continuation, int64 of shape ``(N,)``."""
    proposed: int
    """Tokens of the draft that the target looked at, up to the first that it rejected."""
    accepted: int
    """How many of these were accepted."""
    rounds: int
    """How often the draft proposed and the target read. The target is called once in each, and in
    the first up to three times if it raises ``IndexError`` at what it does not know."""


def accept_or_redraw(
    p: Tensor, q: Tensor, drafted: Tensor, *, generator: Generator = None
) -> tuple[Tensor, Tensor]:
    r"""Turn draws from q into draws from p, and keep as many of them as possible.

    A draw x is accepted with probability :math:`\min(1, p_x/q_x)`. Instead of one that is not,
    a token is drawn with probabilities proportional to :math:`\max(0, p - q)`.

    Parameters
    ----------
    p, q
        Probabilities of target and draft, shape ``(..., V)``; in half precision they are converted
        to float32 and divided by their sum.
    drafted
        One draw from each row of q, int64 of shape ``(...)``.
    generator
        Source of randomness, or one for each row in order. None takes PyTorch's global one.

    Returns
    -------
    tokens
        Draws from p, int64 of shape ``(...)``, where p is.
    accepted
        Which of them are the drafted ones, bool of shape ``(...)``.

    Raises
    ------
    TypeError
        ``p`` or ``q`` is not floating or has but 8 bits, ``drafted`` is not int64, or one of them
        is sparse.
    ValueError
        The shapes do not match, a row is negative somewhere or does not sum to 1, or a drafted
        token is not in [0, V) or has the probability 0 under q.

    Examples
    --------
    >>> p, q = torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0])
    >>> drafted = torch.zeros(10_000, dtype=torch.int64)
    >>> rows = p.expand(10_000, 2), q.expand(10_000, 2)
    >>> tokens, accepted = accept_or_redraw(*rows, drafted, generator=torch.manual_seed(0))
    >>> bool((tokens[accepted] == 0).all()), bool((tokens[~accepted] == 1).all())
    (True, True)
    >>> round(tokens.double().mean().item(), 2)
    0.5
    """
    p, q = _distribution(p, "p"), _distribution(q, "q")
    _check_tokens(drafted, "drafted")
    if p.shape != q.shape or drafted.shape != p.shape[:-1]:
        raise ValueError(
            f"p, q and drafted must have the shapes (..., V), (..., V) and (...), got "
            f"{tuple(p.shape)}, {tuple(q.shape)} and {tuple(drafted.shape)}"
        )
    q, drafted = q.to(p.device), drafted.to(p.device)  # the models may be on two devices
    outside = (drafted < 0) | (drafted >= p.shape[-1])
    if bool(outside.any()):
        raise ValueError(
            f"drafted must lie in [0, {p.shape[-1]}), got {some_values(drafted[outside])}"
        )
    at = drafted.unsqueeze(-1)
    p_drafted, q_drafted = (x.gather(-1, at).squeeze(-1).double() for x in (p, q))
    if not bool((q_drafted > 0).all()):
        raise ValueError(
            f"the draft cannot have drawn {some_values(drafted[~(q_drafted > 0)])}, to which it "
            "gives probability 0; pass the probabilities that it was drawn from"
        )
    u = uniforms(drafted.numel(), 1, generator, p.device).reshape(drafted.shape)
    accepted = u * q_drafted < p_drafted
    rest = _residual(p, q)
    # Where nothing is left, p is q, and nothing is rejected: any weights will do.
    rest = torch.where(rest.sum(-1, keepdim=True) > 0, rest, p)
    redrawn = inverse_cdf(rest, generator=generator)
    return torch.where(accepted, drafted, redrawn), accepted


def _residual(p: Tensor, q: Tensor) -> Tensor:
    """Return what p has more than q, the weights of the second draw."""
    return (p - q).clamp_(min=0)


def _check_tokens(ids: Tensor, name: str) -> None:
    if not isinstance(ids, Tensor) or ids.dtype != torch.int64:
        raise TypeError(f"{name} must be an int64 tensor of token ids, got {shown(ids)}")
    check_dense(ids, name)


def _distribution(p: Tensor, name: str) -> Tensor:
    """Return rows of probabilities in float32 or float64; raise unless they are some."""
    if not isinstance(p, Tensor) or not p.is_floating_point() or p.dtype.itemsize < 2:
        raise TypeError(
            f"{name} must be a tensor of float16, bfloat16, float32 or float64, got "
            f"{p.dtype if isinstance(p, Tensor) else shown(p)}; softmax(z.float()) makes one of "
            "logits z"
        )
    check_dense(p, name)
    if p.ndim == 0:
        raise ValueError(f"{name} must have the shape (..., V), got ()")
    half = p.dtype.itemsize < 4
    wide = at_least_float32(p)
    total = wide.sum(-1, keepdim=True)
    # Written so that nan is wrong. Half precision rounds each by up to 1 in 256.
    right = ((total - 1).abs() <= (0.05 if half else 1e-3)) & (wide >= 0).all(-1, keepdim=True)
    if not bool(right.all()):
        row = wide[~right.squeeze(-1)][0]
        raise ValueError(
            f"{name} must have rows of probabilities, >= 0 and with the sum 1, got "
            f"{some_values(row)}, sum {row.sum().item():.6g}; x / x.sum(-1, keepdim=True) divides "
            "by it, softmax(z) takes logits"
        )
    return wide / total if half else wide


def prompt_lookup(ids: Tensor, ngram: int = 3) -> Tensor:
    """Propose what followed the last time: a draft without a model.

    Parameters
    ----------
    ids
        The text so far, int64 of shape ``(N,)``.
    ngram
        How many tokens at its end are looked up in what comes before.

    Returns
    -------
    Tensor
        What follows them where they stand last, up to the end of the text, int64 of shape ``(n,)``;
        nothing if they are new.

    Raises
    ------
    TypeError
        ``ids`` is not int64, or ``ngram`` is not an int.
    ValueError
        ``ids`` has not the shape ``(N,)``, or ``ngram`` is not positive.

    Notes
    -----
    Saxena (2023) looks up the prompt; Yang, Ge, Wang, Jiao, Jiang, Yang, Majumder and Wei (2023)
    any text that is at hand.

    Examples
    --------
    >>> prompt_lookup(torch.tensor([5, 1, 2, 3, 1, 2]), ngram=2)
    tensor([3, 1, 2])
    >>> prompt_lookup(torch.tensor([5, 1, 2, 3, 1, 2]), ngram=3)
    tensor([], dtype=torch.int64)
    """
    _check_tokens(ids, "ids")
    if ids.ndim != 1:
        raise ValueError(f"ids must have the shape (N,), got {tuple(ids.shape)}")
    ngram = check_integer(ngram, "ngram", 3)
    if ngram < 1:
        raise ValueError(f"ngram must be at least 1, got {shown(ngram)}")
    if len(ids) <= ngram:
        return ids[:0]
    at = ids.unfold(0, ngram, 1)  # the n-gram that begins at each place
    places = (at[:-1] == at[-1]).all(-1).nonzero()
    return ids[int(places[-1]) + ngram :] if len(places) else ids[:0]


def speculative_sequence(
    target: Logits,
    draft: Draft,
    ids: Tensor,
    *,
    max_new_tokens: int,
    lookahead: int = 4,
    verify: str = "tokens",
    end_token: int | Sequence[int] | None = None,
    temperature: float | Tensor = 1.0,
    generator: Generator = None,
    **dials: Any,
) -> SpeculativeText:
    """Write a text with the distribution of the target, several tokens for each of its calls.

    In each round the draft proposes ``lookahead`` tokens, one after the other. The target reads
    them all at once. They are accepted from left to right up to the first rejection, in whose place
    a token is drawn; if there is none, the target's last row of logits gives one more token.

    Parameters
    ----------
    target
        From token ids ``(N,)`` to logits ``(N, V)`` of the tokens after each of them, such as
        :meth:`omnivault.model.language_model.LanguageModel.logits`. The last rows will do, one more
        than there are proposals, as those of
        :meth:`omnivault.model.language_model.LanguageModel.cached_logits`.
    draft
        A model like the target, of whose logits the last row is read; it may return that row alone,
        ``(1, V)``. Or a function from token ids ``(N,)`` to those of shape ``(n,)`` that it
        proposes for certain, such as :func:`prompt_lookup`: it is called once in a round, of more
        than ``lookahead`` the first are taken, and there may be none.
    ids
        The prompt, int64 of shape ``(N,)``, N >= 1.
    max_new_tokens
        How many tokens to write at most.
    lookahead
        How many tokens the draft proposes in a round, at most.
    verify
        How the proposals of a model are judged: ``"tokens"``, one after the other, or ``"block"``,
        together, which keeps no fewer on average (Sun, Mendlovic, Leviathan, Aharoni, Ro, Beirami
        and Suresh, 2024). The text has the same distribution. Certain proposals are judged alike.
    end_token
        The token that ends the text, or a list of several, each in [0, V) of the target; None lets
        it grow to its full length.
    temperature
        T >= 0 of both models, a number, or a tensor with one for the only row; at 0 either takes
        its largest logit.
    generator
        Source of randomness, or a list of one for the only row. None takes PyTorch's global one.
    **dials
        Truncations of both models, as in :func:`omnivault.sampling.sample`: the text has the
        distribution of the truncated target. Of vocabularies of two sizes ``top_k`` may be up to
        the larger; the other model keeps all of its own.

    Returns
    -------
    SpeculativeText
        The text, and how many proposals and rounds it took.

    Raises
    ------
    TypeError
        ``ids`` is not int64, ``max_new_tokens``, ``lookahead`` or an end token is not an int, T is
        not a number, or a model returns no tensor.
    ValueError
        A model returns logits of another shape, a row of which holds nan or ``+inf`` or nothing but
        ``-inf``; the draft proposes something else than tokens; ``ids`` is not one row of tokens,
        ``max_new_tokens`` or ``lookahead`` is not positive, ``verify`` is none of the two, an end
        token is none of the target's, T is negative or not finite, or a truncation is out of its
        range.

    Notes
    -----
    Vocabularies may be padded to different sizes: beyond its own a model gives a token the
    probability 0. So the target rejects what it does not know, and is not asked to read it. In the
    first round, when its size is not known yet, it is asked, and if it raises ``IndexError`` asked
    again without; a model on a GPU may not survive that, so cut its draft to the target's size.

    Examples
    --------
    >>> always = lambda token: lambda ids: 50 * torch.eye(3)[token].expand(len(ids), 3)
    >>> prompt = torch.tensor([0])
    >>> good = speculative_sequence(always(1), always(1), prompt, max_new_tokens=10)
    >>> good.ids.tolist(), good.rounds
    ([0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], 2)
    >>> bad = speculative_sequence(always(1), always(2), prompt, max_new_tokens=10)
    >>> bad.ids.tolist(), bad.rounds
    ([0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], 10)

    A text that repeats itself, and no model to write ahead:

    >>> in_turn = lambda ids: 50 * torch.eye(3).roll(1, 1)[ids]
    >>> text = speculative_sequence(
    ...     in_turn, prompt_lookup, torch.tensor([0, 1, 2, 0, 1, 2]), max_new_tokens=12
    ... )
    >>> text.ids.tolist(), text.rounds
    ([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2], 3)
    """
    _check_tokens(ids, "ids")
    if ids.ndim != 1 or len(ids) == 0:
        raise ValueError(f"ids must have the shape (N,) with N >= 1, got {tuple(ids.shape)}")
    for name, number in (("max_new_tokens", max_new_tokens), ("lookahead", lookahead)):
        if check_integer(number, name, 4) < 1:
            raise ValueError(f"{name} must be at least 1, got {shown(number)}")
    if verify not in ("tokens", "block"):
        raise ValueError(f"verify must be 'tokens' or 'block', got {shown(verify)}")
    last_tokens = frozenset(check_end_token(end_token))
    one_row = torch.zeros(1, 1, dtype=torch.float64)
    # As a number it is looked at once for each row of logits, as a tensor each time anew.
    temperature = check_temperature(temperature, one_row, zero=True).item()
    generator = check_generator(generator, 1)
    dials = in_order(dials)
    # At T = 0 nobody else looks at them; k is compared with the vocabularies, once they are known.
    truncate(one_row, {name: value for name, value in dials.items() if name != "top_k"})
    law = _Law(temperature, dials, generator)
    end = len(ids) + max_new_tokens
    known: float = math.inf  # the size of the target's vocabulary, from its first answer on
    proposed = accepted = rounds = 0
    while len(ids) < end:
        start = len(ids)
        new = _propose(draft, ids, min(lookahead, end - start), law, last_tokens, known)
        ids = torch.cat([ids, new.tokens.to(ids.device)])
        read = ids[:-1] if int(ids[-1]) >= known else ids
        z = _read(target, read, start)
        rounds += 1
        known = z.shape[-1]
        if max(last_tokens, default=0) >= known:
            raise ValueError(
                f"end_token must lie in [0, {known}), the vocabulary, got {max(last_tokens)}"
            )
        if "top_k" in dials:  # either model keeps all of its own, but k is at most the larger size
            either = torch.empty(1, max(z.shape[-1], new.size), device="meta")
            number_of_tokens(dials["top_k"], either, "top_k")
        together = verify == "block" and len(new.rows) > 0
        kept, token = (_judge_block if together else _judge)(z, new, law)
        proposed += min(kept + 1, len(new.tokens))
        accepted += kept
        complete = kept == len(new.tokens) > 0 and (len(ids) == end or int(ids[-1]) in last_tokens)
        if not complete:
            ids = torch.cat([ids[: start + kept], token.to(ids.device)])
        if int(ids[-1]) in last_tokens:
            break
    return SpeculativeText(ids, proposed, accepted, rounds)


@dataclass(frozen=True)
class _Law:
    """What is made of logits, and how a token is drawn."""

    temperature: float
    dials: Mapping[str, Any]
    generator: Generator

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return rows of probabilities; T is not 0."""
        dials = self.dials
        if "top_k" in dials:
            dials = {**dials, "top_k": at_most(dials["top_k"], logits.shape[-1])}
        z, later, _ = scaled(logits, self.temperature, dials)
        return truncate(z, later).softmax(-1)

    def largest(self, logits: Tensor) -> Tensor:
        """Return the token of each row at T = 0, where truncations leave the largest."""
        check_rows(logits)
        return logits.argmax(-1)

    def draw(self, weights: Tensor) -> Tensor:
        """Draw one token, ``(1,)``, from weights ``(V,)``."""
        return draw_rows(weights.unsqueeze(0), self.generator)


@dataclass(frozen=True)
class _Proposals:
    """Tokens of the draft for one round."""

    tokens: Tensor
    """int64 of shape ``(n,)``; the last may end the text, or be none of the target's."""
    rows: Sequence[Tensor] = ()
    """The probabilities ``(V,)`` that each was drawn from; none if all are certain."""
    size: int = 0
    """V of the draft, if it is a model."""

    def row(self, n: int, size: int) -> Tensor:
        """Return what a proposal was drawn from: if it is certain, at least ``(size,)``."""
        if self.rows:
            return self.rows[n]
        x = int(self.tokens[n])
        certain = torch.zeros(max(size, x + 1), device=self.tokens.device)
        certain[x] = 1.0
        return certain


def _propose(
    draft: Draft, ids: Tensor, most: int, law: _Law, ends: Container[int], known: float
) -> _Proposals:
    """Ask the draft for a round, up to an end or to the first token that the target rules out."""
    answer = draft(ids)
    if isinstance(answer, Tensor) and answer.dtype == torch.int64:
        tokens = _proposed(answer)[:most]
        for n, token in enumerate(tokens.tolist()):
            if token in ends or token >= known:
                return _Proposals(tokens[: n + 1])
        return _Proposals(tokens)
    new: list[Tensor] = []
    rows: list[Tensor] = []
    while True:
        z = _logits("draft", answer, ids, f"({len(ids)}, V) or (1, V)", {len(ids), 1})[-1:]
        if law.temperature == 0:
            token = law.largest(z)
        else:
            rows.append(law.probabilities(z)[0])
            token = law.draw(rows[-1])
        new.append(token)
        # Nothing follows an end, and nothing a token that is rejected for certain.
        if len(new) == most or int(token) in ends or int(token) >= known:
            return _Proposals(torch.cat(new), rows, z.shape[-1])
        ids = torch.cat([ids, token.to(ids.device)])
        answer = draft(ids)


def _proposed(tokens: Tensor) -> Tensor:
    check_dense(tokens, "what the draft proposes")
    if tokens.ndim != 1 or bool((tokens < 0).any()):
        raise ValueError(
            "the draft must propose tokens of shape (n,), each >= 0, got "
            f"{shown(tokens)} of shape {tuple(tokens.shape)}"
        )
    return tokens


def _judge(z: Tensor, new: _Proposals, law: _Law) -> tuple[int, Tensor]:
    """Return how many proposals are accepted, and the token ``(1,)`` that follows them.

    Row by row: what comes behind the first rejection is not needed, and one row stays near the
    processor.
    """
    # As many as have a row of the target: behind one that it does not know it has read nothing.
    tokens = new.tokens[: len(z)].tolist()
    if law.temperature == 0:
        for n, x in enumerate(tokens):
            own = law.largest(z[n : n + 1])
            if int(own) != x:
                return n, own
        return len(tokens), law.largest(z[len(tokens) :])
    uniform = uniforms(1, len(tokens), law.generator, z.device)[0].tolist()
    for n, (x, u) in enumerate(zip(tokens, uniform, strict=True)):
        p, q = _in_one_vocabulary(law.probabilities(z[n : n + 1])[0], new.row(n, z.shape[-1]))
        if u * float(q[x]) < float(p[x]):
            continue
        rest = _residual(p, q.to(p.device))
        if float(rest.sum()) > 0:  # else p is q but for rounding, and nothing is rejected
            return n, law.draw(rest)
    return len(tokens), law.draw(law.probabilities(z[len(tokens) :])[0])


def _judge_block(z: Tensor, new: _Proposals, law: _Law) -> tuple[int, Tensor]:
    """As ``_judge``, for all proposals together; none is certain."""
    tokens = new.tokens[: len(z)].tolist()
    rows = []
    weights = [1.0]  # the chance that at least so many proposals are kept, given these
    for n, x in enumerate(tokens):
        p, q = _in_one_vocabulary(law.probabilities(z[n : n + 1])[0], new.row(n, z.shape[-1]))
        rows.append((p, q.to(p.device)))
        weights.append(min(1.0, weights[n] * float(p[x]) / float(q[x])))
    uniform = [0.0, *uniforms(1, len(tokens), law.generator, z.device)[0].tolist()]
    if uniform[-1] < weights[-1]:
        return len(tokens), law.draw(law.probabilities(z[len(tokens) :])[0])
    for n in reversed(range(len(tokens))):
        rest = _residual(weights[n] * rows[n][0], rows[n][1])
        rest[tokens[n]] = 0.0  # were any of it left, it would have been kept
        left = float(rest.sum())
        if uniform[n] * (1 - weights[n] + left) < left:
            return n, law.draw(rest)
    return _judge(z, new, law)  # nothing is left where p is q but for rounding


def _logits(name: str, logits: Any, ids: Tensor, shape: str, rows: Container[int]) -> Tensor:
    error = f"the {name} must return logits of the shape {shape} for {len(ids)} tokens, got"
    if not isinstance(logits, Tensor):
        raise TypeError(f"{error} {shown(logits)}")
    if logits.ndim != 2 or len(logits) not in rows:
        raise ValueError(f"{error} {tuple(logits.shape)}")
    return logits


def _read(target: Logits, ids: Tensor, start: int) -> Tensor:
    """Return logits from the last token before ``start`` on.

    The target is asked, if it must be, up to the first proposal that is no token of its own.
    """

    def rows(length: int, needed: int) -> Tensor:
        shape = f"({length}, V)" if needed == length else f"({length}, V) or the last {needed} rows"
        answer = target(ids[:length])
        return _logits("target", answer, ids[:length], shape, range(needed, length + 1))[-needed:]

    try:
        return rows(len(ids), len(ids) - start + 1)
    except IndexError:
        before = rows(start, 1)
        unknown = (ids[start:] >= before.shape[-1]).nonzero()
        if len(unknown) == 0:
            raise
        more = int(unknown[0])
        return torch.cat([before, rows(start + more, more)]) if more else before


def _in_one_vocabulary(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Give tokens that a model does not know the probability 0."""
    more = len(q) - len(p)
    if more == 0:
        return p, q
    pad = torch.nn.functional.pad
    return pad(p, (0, max(0, more))), pad(q, (0, max(0, -more)))
