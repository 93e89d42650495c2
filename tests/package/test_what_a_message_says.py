"""Messages about arguments: in the caller's words, with its values, at most 300 characters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from omnivault.decoding import beam_search, greedy_search, sample_sequence
from omnivault.experiments.degeneration import continuations, distinct_ngrams, repeated_ngrams
from omnivault.inverse_cdf import inverse_cdf
from omnivault.online_softmax import block_statistics, chunked_softmax
from omnivault.sampling import (
    apply_temperature,
    greedy,
    in_nucleus,
    plain_sample,
    sample,
    top_k,
    top_n_sigma,
    top_p,
)
from omnivault.speculative import accept_or_redraw, speculative_sequence

Z = torch.tensor([[1.0, 2.0, 0.5], [0.5, 0.0, 1.0]])
P = Z.softmax(-1)
PROMPT = torch.tensor([0])
TOKENS = torch.tensor([0, 1])
HUGE = 10**400
MISSPELT: dict[str, Any] = {"top_" + 1000 * "q": 1}
LONG: Any = list(range(100_000))


def rows(ids: Tensor) -> Tensor:
    return Z[ids % 2]


def next_row(ids: Tensor) -> Tensor:
    return Z[ids[:, -1] % 2]


def speculate(**settings: Any) -> Any:
    return speculative_sequence(
        **{"target": rows, "draft": rows, "ids": PROMPT, "max_new_tokens": 3, **settings}
    )


SEED = (
    "generator must be a torch.Generator, a list with one for each row, or None, got 42; "
    "torch.Generator().manual_seed(42) makes one of a seed"
)
CASES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "an array for weights": (
        lambda: inverse_cdf(np.ones((2, 3))),  # type: ignore[arg-type]
        TypeError,
        "weights must be a tensor, got array([[1., 1., 1.], [1., 1., 1.]]); "
        "torch.as_tensor(...) makes one",
    ),
    "a long list for weights": (
        lambda: inverse_cdf(LONG),
        TypeError,
        "got [0, 1, 2, 3, 4, 5, ...]",
    ),
    "sparse weights": (
        lambda: inverse_cdf(torch.eye(2).to_sparse()),
        TypeError,
        "weights must be a dense tensor, got layout torch.sparse_coo; weights.to_dense() makes one",
    ),
    "complex weights": (
        lambda: inverse_cdf(torch.ones(2) * 1j),
        TypeError,
        "weights must be float32 or float64, got torch.complex64; try weights.float()",
    ),
    **{
        f"a seed for {name}": (call, TypeError, SEED)
        for name, call in {
            "inverse_cdf": lambda: inverse_cdf(P, generator=42),  # type: ignore[arg-type]
            "sample": lambda: sample(Z, generator=42),  # type: ignore[arg-type]
            "plain_sample": lambda: plain_sample(Z, generator=42),  # type: ignore[arg-type]
            "sample_sequence": lambda: sample_sequence(  # type: ignore[call-overload]
                next_row, PROMPT, max_new_tokens=2, generator=42
            ),
            "accept_or_redraw": lambda: accept_or_redraw(P, P, TOKENS, generator=42),  # type: ignore[arg-type]
            "speculative_sequence": lambda: speculate(generator=42),
        }.items()
    },
    "sparse logits": (lambda: sample(Z.to_sparse()), TypeError, "got layout torch.sparse_coo"),
    "sparse logits to cut": (lambda: top_k(Z.to_sparse(), 1), TypeError, "logits must be a dense"),
    "sparse logits in blocks": (lambda: block_statistics(Z.to_sparse()), TypeError, "a dense"),
    "complex logits": (
        lambda: greedy(Z * 1j),
        TypeError,
        "logits must have a floating dtype, got torch.complex64 with values [1j, 2j, 0.5j",
    ),
    "a complex temperature": (
        lambda: apply_temperature(Z, torch.tensor([1j, 1.0])),
        TypeError,
        "temperature must hold real numbers, got tensor([1j, (1+0j)], dtype=torch.complex64)",
    ),
    "an enormous temperature": (
        lambda: sample(Z, temperature=HUGE),
        ValueError,
        "to be computed in",
    ),
    "an enormous k": (lambda: top_k(Z, HUGE), ValueError, "top_k must lie in [1, 3], the size of"),
    "an enormous n": (
        lambda: top_n_sigma(Z, -HUGE),
        ValueError,
        "top_n_sigma must lie in (0, inf]",
    ),
    "an enormous p": (lambda: top_p(Z, HUGE), ValueError, "top_p must lie in (0, 1], got 1000000"),
    "a list for p": (
        lambda: top_p(Z, LONG),
        TypeError,
        "top_p must be a number such as 0.9, got [0,",
    ),
    "a long list for k": (
        lambda: top_k(Z, LONG),
        TypeError,
        "be an int such as 50, got [0, 1, 2, 3, 4, 5, ...]; a tensor may hold one for each row",
    ),
    "a truncation of a long name": (
        lambda: sample(Z, **MISSPELT),
        TypeError,
        "there is no truncation 'top_qqq",
    ),
    "a list of tokens": (
        lambda: in_nucleus(Z, LONG, 0.9),
        TypeError,
        "tokens must be an int64 tensor, got [0, 1, 2, 3, 4, 5, ...]",
    ),
    "a large chunk, negative": (
        lambda: chunked_softmax(Z, -HUGE),
        ValueError,
        "chunk_size must be at least 1, got -1000000",
    ),
    "a width": (
        lambda: beam_search(next_row, PROMPT, width=-HUGE, max_new_tokens=1),
        ValueError,
        "width must be at least 1, got -1000",
    ),
    "a length penalty": (
        lambda: beam_search(next_row, PROMPT, width=1, max_new_tokens=1, length_penalty=HUGE),
        ValueError,
        "length_penalty must lie in [-10, 10], got inf; 0",
    ),
    "a number of tokens": (
        lambda: greedy_search(next_row, PROMPT, max_new_tokens=-HUGE),
        ValueError,
        "max_new_tokens must be at least 1, got -1000",
    ),
    "a model that returns a list": (
        lambda: greedy_search(lambda ids: LONG, PROMPT, max_new_tokens=1),
        ValueError,
        "next_token_logits must return logits of shape (1, V) for ids of shape (1, 1), got [0, 1,",
    ),
    "ids in a list": (
        lambda: speculate(ids=[0, 1]),
        TypeError,
        "ids must be an int64 tensor of token ids, got [0, 1]",
    ),
    "ids in float": (lambda: speculate(ids=torch.ones(2)), TypeError, "got tensor([1.0, 1.0])"),
    "a lookahead": (lambda: speculate(lookahead=-HUGE), ValueError, "lookahead must be at least 1"),
    "sparse ids": (
        lambda: speculate(ids=torch.ones(1, dtype=torch.int64).to_sparse()),
        TypeError,
        "ids must be a dense tensor, got layout torch.sparse_coo; ids.to_dense() makes one",
    ),
    "a set of ends": (
        lambda: greedy_search(
            next_row,
            PROMPT,
            max_new_tokens=1,
            end_token=set(LONG),  # type: ignore[call-overload]
        ),
        TypeError,
        "end_token must be an int such as 2 or a list of some, got {0, 1, 2, 3, 4, 5, ...}",
    ),
    "an enormous end": (
        lambda: greedy_search(next_row, PROMPT, max_new_tokens=1, end_token=10**5000),
        ValueError,
        "end_token must lie in [0, V), the vocabulary, got an int of some 5000 digits",
    ),
    "a target that returns a list": (
        lambda: speculate(target=lambda ids: LONG),
        TypeError,
        "the target must return logits of the shape (4, V) for 4 tokens, got [0, 1, 2, 3, 4, 5,",
    ),
    "a draft that returns one row": (
        lambda: speculate(draft=lambda ids: Z[0]),
        ValueError,
        "the draft must return logits of the shape (1, V) or (1, V) for 1 tokens, got (3,)",
    ),
    "sparse probabilities": (
        lambda: accept_or_redraw(P.to_sparse(), P, TOKENS),
        TypeError,
        "p must be a dense tensor, got layout torch.sparse_coo; p.to_dense() makes one",
    ),
    "no texts": (
        lambda: distinct_ngrams(torch.zeros(0, 5, dtype=torch.int64), 2),
        ValueError,
        "there must be texts with tokens, got ids of the shape (0, 5); an empty text has no n-gram",
    ),
    "empty texts": (
        lambda: distinct_ngrams(torch.zeros(2, 0, dtype=torch.int64), 1),
        ValueError,
        "got ids of the shape (2, 0)",
    ),
    "no texts, repeated": (
        lambda: repeated_ngrams(torch.zeros(0, 5, dtype=torch.int64), 2),
        ValueError,
        "got ids of the shape (0, 5)",
    ),
    "one text alone": (
        lambda: distinct_ngrams(torch.zeros(5, dtype=torch.int64), 2),
        ValueError,
        "ids must be a tensor of the shape (B, N), got (5,); ids[None] is (1, N)",
    ),
    "texts in a list": (
        lambda: repeated_ngrams([LONG], 2),  # type: ignore[arg-type]
        ValueError,
        "ids must be a tensor of the shape (B, N), got [[0, 1, 2, 3, 4, 5, ...]]",
    ),
    "n-grams of half a token": (
        lambda: distinct_ngrams(torch.zeros(2, 5, dtype=torch.int64), 1.5),  # type: ignore[arg-type]
        TypeError,
        "n must be an int such as 4, got 1.5",
    ),
    "a method of a long name": (lambda: continuations(1000 * "q"), ValueError, "got 'qqq"),
}


@pytest.mark.parametrize(("call", "error", "words"), CASES.values(), ids=CASES.keys())
def test_the_message(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert words in message
    assert len(message) <= 300
    assert "\n" not in message


def test_beside_them_stand_calls_that_work() -> None:
    assert inverse_cdf(torch.as_tensor(np.ones((2, 3)))).shape == (2,)
    assert sample(Z, generator=torch.Generator().manual_seed(42)).shape == (2,)
    assert distinct_ngrams(torch.zeros(2, 5, dtype=torch.int64), 2) == 1 / 8
    assert len(speculate().ids) == 4
