from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from omnivault.decoding import beam_search, greedy_search, sample_sequence
from tests.package.decoding.common import INF, NAN, generator, markov, zeros

Decoder = Callable[..., Any]
DECODERS: dict[str, Decoder] = {
    "greedy_search": greedy_search,
    "sample_sequence": sample_sequence,
    "beam_search": lambda *args, **options: beam_search(*args, **{"width": 2, **options}),
}
decoders = pytest.mark.parametrize("decode", DECODERS.values(), ids=DECODERS.keys())
PROMPT = "prompt must have the shape (N,) or (B, N), B >= 1, got "
SEVERAL = "end_token must be an int such as 2 or a list of some, got "
REJECTED: list[tuple[str, Any, Any, type[Exception], str]] = [
    ("prompt", [0], zeros(1), TypeError, "prompt must be an int64 tensor of token ids, got [0]"),
    ("prompt", zeros(1).int(), zeros(1), TypeError, "got tensor([0], dtype=torch.int32)"),
    ("prompt", zeros(), zeros(1), ValueError, PROMPT + "()"),
    ("prompt", zeros(1, 1, 1), zeros(1, 1), ValueError, PROMPT + "(1, 1, 1)"),
    ("prompt", zeros(0, 1), zeros(1, 1), ValueError, PROMPT + "(0, 1)"),
    (
        "prompt",
        zeros(1).to_sparse(),
        zeros(1),
        TypeError,
        "prompt must be a dense tensor, got layout torch.sparse_coo; prompt.to_dense() makes one",
    ),
    ("max_new_tokens", 0, 1, ValueError, "max_new_tokens must be at least 1, got 0"),
    ("max_new_tokens", True, 1, TypeError, "max_new_tokens must be an int such as 20, got True"),
    ("max_new_tokens", 2.0, 2, TypeError, "max_new_tokens must be an int such as 20, got 2.0"),
    ("end_token", 1.0, 1, TypeError, "end_token"),
    ("end_token", True, 1, TypeError, "end_token"),
    ("end_token", -1, 0, ValueError, "end_token must lie in [0, V), the vocabulary, got -1"),
    ("end_token", [1, -2], [1], ValueError, "end_token must lie in [0, V), the vocabulary, got -2"),
    ("end_token", 3, 2, ValueError, "end_token must lie in [0, 3), the vocabulary, got 3"),
    ("end_token", [99, 1], [2, 1], ValueError, "must lie in [0, 3), the vocabulary, got 99"),
    ("end_token", 10**18, 2, ValueError, "must lie in [0, 3), the vocabulary, got 10000000000"),
    ("end_token", 2**63, 2, ValueError, "[0, V), the vocabulary, got 9223372036854775808"),
    ("end_token", [10**5000], [2], ValueError, "vocabulary, got an int of some 5000 digits"),
    ("end_token", [-(10**5000)], 2, ValueError, "got a negative int of some 5000 digits"),
    ("end_token", torch.tensor([1, 2]), [1, 2], TypeError, SEVERAL + "tensor([1, 2])"),
    ("end_token", torch.tensor([1]), torch.tensor(1), TypeError, SEVERAL + "tensor([1])"),
    ("end_token", np.array([1, 2]), np.int64(1), TypeError, SEVERAL + "array([1, 2])"),
    ("end_token", {1, 2}, (1, 2), TypeError, SEVERAL + "{1, 2}"),
    ("end_token", b"12", range(1, 3), TypeError, "end_token must be an int such as 2, got b'12'"),
]


@decoders
@pytest.mark.parametrize(("name", "bad", "good", "error", "message"), REJECTED)
def test_bad_arguments_are_rejected_next_to_good_ones(
    decode: Decoder, name: str, bad: Any, good: Any, error: type[Exception], message: str
) -> None:
    def call(value: Any) -> Any:
        arguments = {"prompt": zeros(1), "max_new_tokens": 2, name: value}
        return decode(markov(3), arguments.pop("prompt"), **arguments)

    call(good)
    with pytest.raises(error, match=re.escape(message)):
        call(bad)


@decoders
def test_an_end_that_no_token_can_be_is_seen_at_the_first_logits(decode: Decoder) -> None:
    asked = []

    def model(ids: Any) -> Any:
        asked.append(ids)
        return markov(3)(ids)

    for end, calls in ((-1, 0), (3, 1)):
        asked.clear()
        with pytest.raises(ValueError, match=r"^end_token must lie in"):
            decode(model, zeros(2, 1), max_new_tokens=4, end_token=end)
        assert len(asked) == calls


SHAPE = "next_token_logits must return logits of shape (2, V) for ids of shape (2, 1), got "


@decoders
@pytest.mark.parametrize(
    ("logits", "error", "message"),
    [
        (torch.zeros(3), ValueError, SHAPE + "(3,)"),
        (torch.zeros(1, 3), ValueError, SHAPE + "(1, 3)"),
        (torch.zeros(2, 1, 3), ValueError, SHAPE + "(2, 1, 3)"),
        ([0.5], ValueError, SHAPE + "[0.5]"),
        (zeros(2, 3), TypeError, "logits must have a floating dtype, got torch.int64"),
        (torch.full((2, 3), -INF), ValueError, "logits of a row are all -inf"),
        (torch.full((2, 3), NAN), ValueError, "logits of a row hold nan"),
        (torch.full((2, 3), INF), ValueError, "logits of a row hold +inf"),
    ],
)
def test_what_the_model_returns_is_checked(
    decode: Decoder, logits: Any, error: type[Exception], message: str
) -> None:
    decode(lambda _: torch.zeros(2, 3), zeros(2, 1), max_new_tokens=1)
    with pytest.raises(error, match=re.escape(message)):
        decode(lambda _: logits, zeros(2, 1), max_new_tokens=1)


@pytest.mark.parametrize(
    ("name", "bad", "good", "error", "message"),
    [
        ("width", 0, 1, ValueError, "width must be at least 1, got 0; 1 is greedy search"),
        ("width", True, 1, TypeError, "width must be an int such as 4, got True"),
        ("width", 2.0, 2, TypeError, "width must be an int such as 4, got 2.0"),
        ("length_penalty", INF, 9.0, ValueError, "length_penalty must lie in [-10, 10], got inf"),
        ("length_penalty", -INF, -9, ValueError, "must lie in [-10, 10], got -inf; 0 leaves"),
        ("length_penalty", NAN, 0, ValueError, "length_penalty must lie in [-10, 10], got nan"),
        ("length_penalty", 10.5, 10, ValueError, "length_penalty must lie in [-10, 10], got 10.5"),
        ("length_penalty", "a", 1, TypeError, "length_penalty must be a number such as 1.0, got"),
    ],
)
def test_beam_search_rejects(
    name: str, bad: Any, good: Any, error: type[Exception], message: str
) -> None:
    options = {"width": 2, "max_new_tokens": 2}
    beam_search(markov(3), zeros(1), **{**options, name: good})
    with pytest.raises(error, match=re.escape(message)):
        beam_search(markov(3), zeros(1), **{**options, name: bad})


FOR_EACH = "for 2 rows; give one for all rows, or one for each"


@pytest.mark.parametrize(
    ("name", "bad", "good", "message"),
    [
        ("generator", [generator()], [generator()] * 2, f"1 generators {FOR_EACH}"),
        ("generator", [], generator(), f"0 generators {FOR_EACH}"),
        (
            "temperature",
            torch.ones(3),
            torch.ones(2),
            "temperature must be a number or have the shape (2,) of the rows, got (3,)",
        ),
        ("temperature", -1.0, 0.5, "temperature must be >= 0, got -1.0"),
        ("top_k", 4, 3, "top_k must lie in [1, 3], the size of the vocabulary, got 4"),
        ("top_p", 0, 1, "top_p must lie in (0, 1], got 0"),
        ("min_p", 1.5, 0.5, "min_p must lie in [0, 1], got 1.5"),
    ],
)
def test_sample_sequence_rejects(name: str, bad: Any, good: Any, message: str) -> None:
    options: dict[str, Any] = {"max_new_tokens": 2}
    sample_sequence(markov(3), zeros(2, 1), **options, **{name: good})
    with pytest.raises(ValueError, match=re.escape(message)):
        sample_sequence(markov(3), zeros(2, 1), **options, **{name: bad})


@pytest.mark.parametrize(
    ("dtype", "limits"),
    [(torch.float32, "[1.175e-38, 3.403e+38]"), (torch.float64, "[2.225e-308, 1.798e+308]")],
    ids=str,
)
def test_a_temperature_is_refused_in_the_dtype_of_the_logits(
    dtype: torch.dtype, limits: str
) -> None:
    model = markov(3, dtype=dtype)
    for temperature in (1e-320, INF, torch.tensor([1.0, INF])):
        with pytest.raises(
            ValueError, match=re.escape(f"must lie in {limits} to be computed in {dtype}, got ")
        ):
            sample_sequence(model, zeros(2, 1), max_new_tokens=2, temperature=temperature)
    least = torch.finfo(dtype).tiny
    assert sample_sequence(model, zeros(2, 1), max_new_tokens=2, temperature=least).shape == (2, 3)


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
def test_sparse_numbers_for_rows_are_refused(name: str) -> None:
    options: dict[str, Any] = {"max_new_tokens": 2, name: torch.ones(2, dtype=torch.int64)}
    if name != "top_k":
        options[name] = torch.ones(2)
    sample_sequence(markov(3), zeros(2, 1), **options)
    with pytest.raises(TypeError, match=f"^{name} must be a dense tensor, got layout") as caught:
        sample_sequence(markov(3), zeros(2, 1), **{**options, name: options[name].to_sparse()})
    assert len(str(caught.value)) <= 300


def test_a_batch_of_one_prompt_stays_a_batch() -> None:
    alone = beam_search(markov(3), zeros(1), width=2, max_new_tokens=2)
    batch = beam_search(markov(3), zeros(1, 1), width=2, max_new_tokens=2)
    for one, row in zip(alone, batch, strict=True):
        assert torch.equal(row, one.unsqueeze(0))


def test_lengths_are_not_corrected_unless_asked_for() -> None:
    options: dict[str, Any] = {"width": 3, "max_new_tokens": 4, "end_token": 0}
    plain = beam_search(markov(3), zeros(1) + 1, **options)
    zero, one = (
        beam_search(markov(3), zeros(1) + 1, length_penalty=penalty, **options)
        for penalty in (0.0, 1.0)
    )
    assert torch.equal(plain.scores, zero.scores)
    assert not torch.equal(plain.scores, one.scores)


def test_a_wrong_prompt_is_named_whatever_else_is_given() -> None:
    options: dict[str, Any] = {"max_new_tokens": 2, "generator": [generator()]}
    sample_sequence(markov(3), zeros(1), **options)
    with pytest.raises(TypeError, match="prompt must be an int64 tensor"):
        sample_sequence(markov(3), [0], **options)  # type: ignore[list-item]
