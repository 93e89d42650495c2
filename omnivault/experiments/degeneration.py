r"""Texts of one model under thirteen decoding methods, beside what people wrote.

An experiment after Holtzman, Buys, Du, Forbes and Choi (2020). The model reads the first 32 tokens
of a news article and writes the next 128; so did a journalist. ``make experiments`` runs all of it
in about half an hour and keeps token ids and log-probabilities, with the settings that made them,
in ``degeneration.safetensors``. Of the journalists' words it keeps the log-probabilities alone;
the words are in the package that :mod:`omnivault.model.news` reads.

Nine methods have settings that are usual. Four have the setting at which they are as random as
nucleus sampling with 0.9: the laws that they draw from have the same mean entropy over the
journalists' texts.

:func:`replay` runs a part of it again and raises if the file and the model disagree on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from omnivault import sampling
from omnivault._checks import check_integer, shown
from omnivault.decoding import beam_search, greedy_search
from omnivault.model.language_model import GGUF, LanguageModel, load_language_model
from omnivault.model.news import articles
from omnivault.sampling.temperature import scaled
from omnivault.sampling.truncation import in_order, truncate

__all__ = [
    "MATCHED",
    "METHODS",
    "continuations",
    "distinct_ngrams",
    "entropies",
    "human_texts",
    "law",
    "log_probs",
    "repeated_ngrams",
    "replay",
    "write",
]

PROMPTS, PROMPT, CONTINUATION = 100, 32, 128
WIDTH = 8
SPECIAL = torch.arange(17)  # end of text, roles of a chat, file names: no method may write them
RESULTS = Path(__file__).with_name("data") / "degeneration.safetensors"
# How far from the kept log-probabilities a new run may be. A logit is read after 30 layers of 7
# matrix products over at most 1,536 numbers; independent roundings add up like the root of their
# number, to sqrt(30 * 7 * 1536) u = 3.4e-5 of it. Six times that, of a logit of 30, and the root
# of 2 for two runs make 0.0086.
ROUNDING = 0.01
# How many of the tokens have to be the same. The winner of an exponential race is ahead by less
# than 2 e, on the scale of logarithms, with a probability of at most 2 e: for e = 0.01 more than a
# tenth of 128 draws differ less often than once in 10^5.
SAME = 0.9

METHODS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beam search": {},
    "pure sampling": {},
    "temperature 0.7": {"temperature": 0.7},
    "top-k 40": {"top_k": 40},
    "top-p 0.9": {"top_p": 0.9},
    "min-p 0.1": {"min_p": 0.1},
    "typical 0.95": {"typical_p": 0.95},
    "top-p 0.95": {"top_p": 0.95},
}
"""The decoding methods, with what each passes to the sampler."""

NUCLEUS = "top-p 0.9"
MATCHED: dict[str, dict[str, Any]] = {
    "top-n-sigma": {"top_n_sigma": 1.61},
    "p-less": {"temperature": 1.79, "p_less": 2},
    "eta": {"eta_cutoff": 0.0014},
    "XTC": {"min_p": 0.0062, "xtc": 0.1, "xtc_probability": 0.5},
}
"""Methods as random as top-p with 0.9 on the journalists' texts, to the digits of the dials.

P-less has no dial, so its temperature is set. XTC cuts nothing below, and is used behind a min-p; a
coin says at each token whether it acts.
"""

_ALL = METHODS | MATCHED
_COMPARED = (NUCLEUS, *MATCHED)
_SEARCHES = ("greedy", "beam search")


def human_texts(model: LanguageModel) -> Tensor:
    """First 160 tokens of 100 articles, int64 ``(100, 160)``.

    The first articles of the corpus that are long enough, none with the beginning of another.
    """
    texts: dict[tuple[int, ...], Tensor] = {}
    for article in articles():
        ids = model.encode(article)[: PROMPT + CONTINUATION]
        if len(ids) == PROMPT + CONTINUATION:
            texts.setdefault(tuple(ids[:PROMPT].tolist()), ids)
    return torch.stack(list(texts.values())[:PROMPTS])


def continuations(method: str) -> Tensor:
    """Tokens that a method wrote after each prompt, int64 ``(100, 128)``, from the kept file.

    Raises
    ------
    ValueError
        ``method`` is neither in :data:`METHODS` nor in :data:`MATCHED`.
    """
    _check_method(method)
    return load_file(RESULTS)[f"{method}/ids"].long()


def log_probs(writer: str) -> Tensor:
    """Log-probability of each token in nats, float32 ``(100, 128)``, from the kept file.

    ``writer`` is a method or ``"human"``. The probabilities are the model's own, whatever the
    method made of them.

    Raises
    ------
    ValueError
        ``writer`` is neither.
    """
    if writer not in _ALL and writer != "human":
        raise ValueError(f"writer must be human or one of {', '.join(_ALL)}, got {shown(writer)}")
    return load_file(RESULTS)[f"{writer}/log_probs"]


def entropies(method: str, writer: str) -> Tensor:
    """Entropy of what a method draws from, in nats, over a text: float32 ``(100,)``.

    The mean over the positions of each text, from the kept file.

    Parameters
    ----------
    method
        ``"top-p 0.9"`` or one of :data:`MATCHED`.
    writer
        Whose texts are read: ``"human"``, or those that the method wrote, under its name.

    Raises
    ------
    ValueError
        Either is something else.
    """
    if method not in _COMPARED or writer not in ("human", method):
        raise ValueError(
            f"method must be one of {', '.join(_COMPARED)}, and writer the same or human, got "
            f"{shown(method)} and {shown(writer)}"
        )
    return load_file(RESULTS)[f"{method}/entropies/{'human' if writer == 'human' else 'own'}"]


def law(logits: Tensor, method: str) -> Tensor:
    """Return the probabilities from which a method draws.

    Parameters
    ----------
    logits
        Shape ``(..., V)``, floating.
    method
        One of :data:`METHODS` or :data:`MATCHED` that draws.

    Returns
    -------
    Tensor
        Shape ``(..., V)``. Where a coin says whether XTC acts, its two laws are mixed.

    Raises
    ------
    ValueError
        ``method`` is none of them, or draws nothing.

    Examples
    --------
    >>> law(torch.tensor([0.5, 0.4, 0.1]).log(), "top-p 0.9")
    tensor([0.5556, 0.4444, 0.0000])
    >>> law(torch.tensor([0.5, 0.3, 0.2]).log(), "XTC")
    tensor([0.2500, 0.1500, 0.6000])
    """
    _check_method(method)
    if method in _SEARCHES:
        raise ValueError(f"{method} draws nothing; it has no probabilities")
    settings = dict(_ALL[method])
    chance = settings.pop("xtc_probability", 1.0)
    temperature = settings.pop("temperature", 1.0)

    def probs(dials: dict[str, Any]) -> Tensor:
        z, later, _ = scaled(logits, temperature, in_order(dials))
        return truncate(z, later).softmax(-1)

    if chance == 1:
        return probs(settings)
    return torch.lerp(probs(settings | {"xtc": None}), probs(settings), chance)


def repeated_ngrams(ids: Tensor, n: int) -> Tensor:
    """Share of the n-grams of each text that occurred in it before.

    Parameters
    ----------
    ids
        Token ids of shape ``(B, N)``, N >= n.
    n
        Length of the n-grams.

    Returns
    -------
    Tensor
        float64 of shape ``(B,)``: 1 - distinct / total (Welleck et al., 2020, call it seq-rep-n).

    Raises
    ------
    TypeError
        ``n`` is not an int.
    ValueError
        ``ids`` is no tensor of this shape or holds no tokens, or ``n`` is below 1 or above N.

    Examples
    --------
    >>> repeated_ngrams(torch.tensor([[1, 2, 1, 2, 1], [1, 2, 3, 4, 5]]), 2)
    tensor([0.5000, 0.0000], dtype=torch.float64)
    """
    _check_length(ids, n)
    distinct = [len({tuple(g) for g in row.unfold(0, n, 1).tolist()}) for row in ids]
    return 1 - torch.tensor(distinct, dtype=torch.float64) / (ids.shape[1] - n + 1)


def distinct_ngrams(ids: Tensor, n: int) -> float:
    """Distinct n-grams of all texts together, per n-gram.

    After the distinct-n of Li, Galley, Brockett, Gao and Dolan (2016), who divide by the number
    of words. ``ids`` and errors as in :func:`repeated_ngrams`.

    Examples
    --------
    >>> distinct_ngrams(torch.tensor([[1, 2, 1], [1, 2, 3]]), 2)  # 12, 21, 12, 23
    0.75
    """
    _check_length(ids, n)
    grams = ids.unfold(1, n, 1).flatten(0, 1)
    return len({tuple(gram) for gram in grams.tolist()}) / len(grams)


def _check_method(method: str) -> None:
    if method not in _ALL:
        raise ValueError(f"method must be one of {', '.join(_ALL)}, got {shown(method)}")


def _check_rows(rows: Sequence[int]) -> list[int]:
    rows = list(rows)
    if not rows or not all(0 <= row < PROMPTS for row in rows):
        raise ValueError(
            f"rows must be one or more numbers from 0 to {PROMPTS - 1}, got {shown(rows)}"
        )
    return rows


def _check_length(ids: Tensor, n: int) -> None:
    if not isinstance(ids, Tensor) or ids.ndim != 2:
        got = tuple(ids.shape) if isinstance(ids, Tensor) else shown(ids)
        raise ValueError(
            f"ids must be a tensor of the shape (B, N), got {got}; ids[None] is (1, N)"
        )
    if 0 in ids.shape:
        raise ValueError(
            f"there must be texts with tokens, got ids of the shape {tuple(ids.shape)}; an empty "
            "text has no n-gram"
        )
    if not 1 <= check_integer(n, "n", 4) <= ids.shape[1]:
        raise ValueError(
            f"n must lie in [1, {ids.shape[1]}], the length of the texts, got {shown(n)}"
        )


def write(model: LanguageModel, method: str, rows: Sequence[int]) -> Tensor:
    """Continue prompts anew, as the kept texts were written.

    Parameters
    ----------
    model
        The language model.
    method
        One of :data:`METHODS` or :data:`MATCHED`.
    rows
        Numbers of the prompts, 0 to 99.

    Returns
    -------
    Tensor
        Token ids, int64 of shape ``(len(rows), 160)``: the prompts with what follows. Where two
        tokens are nearly tied, another processor may write another text from there on.

    Raises
    ------
    ValueError
        ``method`` is none of them, or a number of ``rows`` is no prompt's.
    """
    _check_method(method)
    rows = _check_rows(rows)
    prompts = human_texts(model)[rows, :PROMPT]
    next_token_logits = model.cached()

    def ordinary(ids: Tensor) -> Tensor:
        return next_token_logits(ids).index_fill(-1, SPECIAL, -torch.inf)

    if method == "greedy":
        return greedy_search(ordinary, prompts, max_new_tokens=CONTINUATION)
    if method == "beam search":
        return beam_search(ordinary, prompts, width=WIDTH, max_new_tokens=CONTINUATION).ids[:, 0]
    # Not `sample`, whose draws change whenever it learns a faster way to the same distribution.
    generators = [_generator(method, row) for row in rows]
    ids = prompts
    for _ in range(CONTINUATION):
        ids = torch.cat([ids, _draw(ordinary(ids), method, generators).unsqueeze(-1)], dim=1)
    return ids


def _generator(method: str, row: int) -> torch.Generator:
    """One for each text: what a prompt gets does not depend on the prompts beside it."""
    return torch.Generator().manual_seed(1000 * list(_ALL).index(method) + row)


def _draw(logits: Tensor, method: str, generators: list[torch.Generator]) -> Tensor:
    """Draw a token for each row of logits, each with its own generator."""
    settings = dict(_ALL[method])
    if (chance := settings.pop("xtc_probability", None)) is not None:
        coins = torch.tensor([torch.rand((), generator=own) < chance for own in generators])
        settings["xtc"] = torch.where(coins, settings["xtc"], 1.0)
    return sampling.plain_sample(logits, generator=generators, **settings)


def replay(
    model: LanguageModel, rows: Sequence[int], report: Callable[[str], None] = print
) -> None:
    """Run the experiment again for some prompts and compare with the kept file.

    The model reads the kept text and, at each position, the choice or the draw is made again: a
    rounding error where two tokens are nearly tied then shows as one difference and not as another
    text from there on. Beam search does not choose token by token, so of its texts the
    log-probabilities are compared alone; :func:`write` writes one anew. Settings and the people's
    texts are compared for all prompts.

    PyTorch takes exponential numbers from Intel's library where it is built with it, and from its
    own generator elsewhere (on Arm, for one). The kept draws are of the first kind; where they
    cannot be made again, the log-probabilities of their texts are compared alone.

    Parameters
    ----------
    model
        The language model.
    rows
        Numbers of the prompts, 0 to 99.
    report
        Called with one line a writer.

    Raises
    ------
    ValueError
        A number of ``rows`` is no prompt's; the file was made with other settings or texts; or, on
        these prompts, more than 1 token in 10 differs, or a log-probability by more than 0.01,
        which is more than rounding explains.
    """
    rows = _check_rows(rows)
    human = human_texts(model)
    with safe_open(RESULTS, "pt") as file:
        kept_settings = {key: file.metadata().get(key) for key in _settings(human)}
    if kept_settings != _settings(human):
        raise ValueError(
            f"{RESULTS.name} was made with {kept_settings}, not with {_settings(human)}; "
            "make experiments writes it anew"
        )
    for writer in ["human", *_ALL]:
        written = human[:, PROMPT:] if writer == "human" else continuations(writer)
        read, errors, equal = log_probs(writer), [], []
        for row in rows:
            prompt, kept = human[row, :PROMPT], written[row]
            logits = model.logits(torch.cat([prompt, kept]))[PROMPT - 1 : -1]
            again = logits.log_softmax(-1).gather(-1, kept.unsqueeze(-1)).squeeze(-1)
            errors.append(again - read[row])
            drawn = writer in _ALL and writer not in _SEARCHES
            if writer == "greedy" or (drawn and torch.backends.mkl.is_available()):
                equal.append(_draws(logits, writer, row) == kept)
        error = torch.stack(errors).abs().max().item()
        share = torch.stack(equal).double().mean().item() if equal else None
        # Written so that nan fails.
        if not (error <= ROUNDING and (share is None or share >= SAME)):
            raise ValueError(
                f"{RESULTS.name} disagrees with a new run of {writer} on the prompts {rows}: "
                f"share of equal tokens {share}, log-probabilities differ by up to {error:.2g}; "
                "make experiments writes it anew"
            )
        tokens = "" if share is None else f"at least {SAME:.0%} of the tokens equal, "
        report(f"{writer}: {tokens}log-probabilities equal to {ROUNDING}")


def _settings(human: Tensor) -> dict[str, str]:
    """Return what the file must agree with for all prompts."""
    return {
        "methods": json.dumps(_ALL),
        "beam width": str(WIDTH),
        "tokens of a prompt and its continuation": f"{PROMPT}, {CONTINUATION}",
        "seed of a text": "1000 * number of the method + number of the prompt",
        "sha256 of the people's texts": hashlib.sha256(human.numpy().tobytes()).hexdigest(),
        "sha256 of the weights": GGUF.sha256,
    }


def _entropies(model: LanguageModel, text: Tensor, method: str) -> Tensor:
    """Return the entropy of what a method draws from, at each token of a continuation."""
    logits = model.logits(text)[PROMPT - 1 : -1].index_fill(-1, SPECIAL, -torch.inf)
    entropy: Tensor = torch.special.entr(law(logits, method)).sum(-1)
    return entropy


def _draws(logits: Tensor, method: str, row: int) -> Tensor:
    """Choose every token of a continuation again, each after the kept tokens before it."""
    logits = logits.index_fill(-1, SPECIAL, -torch.inf)
    if method == "greedy":
        return sampling.greedy(logits)
    generator = _generator(method, row)
    return torch.cat([_draw(z.unsqueeze(0), method, [generator]) for z in logits])


def main() -> None:
    """Run the whole experiment and write the file."""
    model = load_language_model()
    human = human_texts(model)
    kept = {"human/log_probs": model.log_probs(human)[:, PROMPT - 1 :].contiguous()}
    for method in _ALL:
        size = 20 if method == "beam search" else PROMPTS
        texts = torch.cat(
            [write(model, method, rows.tolist()) for rows in torch.arange(PROMPTS).split(size)]
        )
        kept[f"{method}/ids"] = texts[:, PROMPT:].to(torch.uint16).contiguous()
        kept[f"{method}/log_probs"] = model.log_probs(texts)[:, PROMPT - 1 :].contiguous()
        print(f"{method}: {kept[f'{method}/log_probs'].mean():.2f} nats a token")
    for method in _COMPARED:
        own = torch.cat([human[:, :PROMPT], kept[f"{method}/ids"].long()], dim=1)
        for whose, texts in (("human", human), ("own", own)):
            means = torch.stack([_entropies(model, text, method).mean() for text in texts])
            kept[f"{method}/entropies/{whose}"] = means
    versions = {name: version(name) for name in ("torch", "transformers")}
    metadata = {"command": "make experiments", **_settings(human), **versions}
    unfinished = RESULTS.with_suffix(".unfinished")
    save_file(kept, unfinished, metadata)
    unfinished.replace(RESULTS)


if __name__ == "__main__":
    main()
