"""Penalties: against Transformers, against llama.cpp, and by their definitions."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation import logits_process as hf

from omnivault.sampling import (
    dry_penalty,
    frequency_penalty,
    presence_penalty,
    repetition_penalty,
)
from tests.package.sampling.common import INF, KINDS, NAN, SEEN, dtypes, generator, logits_of
from tests.support.strategies import SINGLE_DOUBLE, assert_within, unit

NOTHING = torch.zeros(0, dtype=torch.int64)


def texts(rows: int, length: int, vocabulary: int) -> Tensor:
    return torch.randint(vocabulary, (rows, length), generator=generator(length))


def ids(*tokens: int) -> Tensor:
    return torch.tensor(tokens, dtype=torch.int64)


ONE_NUMBER: dict[str, Callable[[Tensor, Tensor, Any], Tensor]] = {
    "repetition": repetition_penalty,
    "presence": presence_penalty,
    "frequency": frequency_penalty,
}
ALL: dict[str, Callable[[Tensor, Tensor, Any], Tensor]] = {
    **ONE_NUMBER,
    "dry": lambda z, x, m: dry_penalty(z, x, multiplier=m, allowed_length=1, breakers=[2]),
}
every_penalty = pytest.mark.parametrize("name", ALL)


@pytest.mark.parametrize("length", [0, 1, 5, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_the_repetition_penalty_is_that_of_transformers(kind: str, length: int) -> None:
    for dtype in SINGLE_DOUBLE:
        z, text = logits_of(kind, 50, 40, dtype), texts(50, length, 40)
        for penalty in (0.5, 1.0, 1.3, 7.0):
            theirs: Any = hf.RepetitionPenaltyLogitsProcessor(penalty)
            assert torch.equal(repetition_penalty(z, text, penalty), theirs(text, z.clone()))


def test_penalties_are_those_of_llama_cpp() -> None:
    for one in SEEN["penalties"]:
        z, text = torch.tensor(one["logits"]), ids(*one["text"])
        z = repetition_penalty(z, text, one["repetition"])
        z = frequency_penalty(z, text, one["frequency"])
        z = presence_penalty(z, text, one["presence"])
        # One product or quotient, two differences; there the two penalties are added first.
        size = 2 * (torch.tensor(one["logits"]).abs() + 12 * 0.5 + 1)
        bound = 4 * unit(torch.float32) * size.double()
        assert_within(z, torch.tensor(one["penalized"]), bound)
    assert len(SEEN["penalties"]) == 12


def test_dry_is_that_of_llama_cpp() -> None:
    nothing = 0
    for one in SEEN["dry"]:
        settings = {key: one[key] for key in ("multiplier", "base", "allowed_length", "breakers")}
        penalized = torch.tensor(one["penalized"])
        z = dry_penalty(torch.zeros(len(penalized)), ids(*one["text"]), **settings)
        # A power of up to 11 factors.
        assert_within(z, penalized, rel=16 * unit(torch.float32))
        nothing += not penalized.any()
    assert nothing < len(SEEN["dry"]) == 29


def longest_matches(text: list[int], vocabulary: int, breakers: list[int]) -> list[int]:
    """Of each token, how long a repetition it would go on with: each place is looked at."""
    longest = [0] * vocabulary
    for place in range(1, len(text)):
        n = 0
        while n < place and text[place - 1 - n] == text[-1 - n] not in breakers:
            n += 1
        if text[place] not in breakers:
            longest[text[place]] = max(longest[text[place]], n)
    return longest


@given(
    st.lists(st.integers(0, 3), max_size=16),
    st.lists(st.integers(0, 3), max_size=2),
    st.integers(1, 4),
)
def test_dry_by_its_definition(text: list[int], breakers: list[int], allowed: int) -> None:
    z = torch.tensor([0.25, -3.0, 5.0, 0.0], dtype=torch.float64)
    penalized = dry_penalty(
        z, ids(*text), multiplier=0.5, base=2, allowed_length=allowed, breakers=breakers
    )
    lost = [0.5 * 2.0 ** (n - allowed) * (n >= allowed) for n in longest_matches(text, 4, breakers)]
    # Powers of two and short numbers: nothing is rounded.
    assert penalized.tolist() == [x - y for x, y in zip(z.tolist(), lost, strict=True)]


def test_a_token_counts_once_and_as_often_as_it_occurs() -> None:
    z = torch.tensor([4.0, -1.0, 0.0, 2.0, -INF])
    text = ids(0, 1, 1, 2, 4, 1)
    assert repetition_penalty(z, text, 2).tolist() == [2.0, -2.0, 0.0, 2.0, -INF]
    assert repetition_penalty(z, text, 0.5).tolist() == [8.0, -0.5, 0.0, 2.0, -INF]
    assert presence_penalty(z, text, 0.5).tolist() == [3.5, -1.5, -0.5, 2.0, -INF]
    assert frequency_penalty(z, text, 0.5).tolist() == [3.5, -2.5, -0.5, 2.0, -INF]
    assert frequency_penalty(z, text, -1).tolist() == [5.0, 2.0, 1.0, 2.0, -INF]


@every_penalty
@dtypes
def test_rows_layouts_and_dtypes(name: str, dtype: torch.dtype) -> None:
    penalty = ALL[name]
    z, text = logits_of("1", 24, 5, dtype), texts(24, 9, 5)
    before, text_before = z.clone(), text.clone()
    each = torch.linspace(0.5, 2.0, 24)
    result = penalty(z, text, each)
    assert torch.equal(z, before)
    assert torch.equal(text, text_before)
    assert result.dtype is dtype
    assert not torch.equal(result, z)
    alone = [penalty(*row) for row in zip(z, text, each.tolist(), strict=True)]
    assert torch.equal(result, torch.stack(alone))
    wide = penalty(z.to(torch.promote_types(dtype, torch.float32)), text, each)
    assert torch.equal(result, wide.to(dtype))
    shaped = penalty(z.reshape(2, 12, 5), text.reshape(2, 12, 9), each.reshape(2, 12))
    assert torch.equal(shaped.reshape(24, 5), result)
    assert torch.equal(penalty(z.T.contiguous().T, text.T.contiguous().T, each), result)
    assert torch.equal(penalty(z, text, each[3]), penalty(z, text, each[3].item()))
    assert torch.equal(penalty(z, text[:, :0], each), z)
    assert penalty(z[:0], text[:0], each[:0]).shape == (0, 5)
    neutral = 1 if name == "repetition" else 0
    assert torch.equal(penalty(z, text, neutral), z)


@every_penalty
@dtypes
def test_what_can_be_drawn_can_be_drawn_afterwards(name: str, dtype: torch.dtype) -> None:
    most = torch.finfo(dtype).max
    text = ids(*[0] * 300, *[1] * 300, *[3] * 300, 0, 0)
    for row in ([most, -most, 1.0, -INF], [-most, -most, -most, -INF], [0.0, -1.0, 1.0, -INF]):
        z = torch.tensor(row, dtype=dtype)
        for size in (1e-38, 1e30):
            penalized = ALL[name](z, text, size)
            assert penalized.isneginf().tolist() == [False, False, False, True]
            assert bool((penalized < INF).all())
    alone = ALL[name](torch.tensor([-1.0, -1.0, -1.0], dtype=dtype), ids(0, 0, 0), 1e30)
    assert bool(alone.softmax(-1).isfinite().all())


def test_dry_with_settings_beyond_every_text_and_every_float() -> None:
    ids, z = torch.zeros(5, dtype=torch.int64), torch.zeros(3)
    assert torch.equal(dry_penalty(z, ids, multiplier=1, allowed_length=10**30), z)
    least = torch.finfo(torch.float32).min
    assert dry_penalty(z, ids, multiplier=1, base=1e300).tolist() == [least, 0, 0]
    assert torch.equal(dry_penalty(z, ids, multiplier=0, base=1e300), z)
    # The power 0 of it is 1.
    assert dry_penalty(z, ids, multiplier=1, base=1e300, allowed_length=4).tolist() == [-1, 0, 0]


@pytest.mark.parametrize("length", [2, 300])
def test_dry_of_one_token_again_and_again(length: int) -> None:
    z = dry_penalty(torch.zeros(2), ids(*[1] * length), multiplier=1, base=2, allowed_length=1)
    # All but the last of them stand before the last: 2^0, and 2^298, which float32 has not.
    assert z.tolist() == [0.0, -1.0 if length == 2 else torch.finfo(torch.float32).min]
    off = dry_penalty(torch.zeros(2), ids(*[1] * length), multiplier=0, base=2)
    assert not off.any()


def test_gradients_go_through() -> None:
    text = texts(3, 7, 5)
    for penalty in ALL.values():
        z = logits_of("1", 3, 5, torch.float64).requires_grad_()
        each = torch.tensor([0.7, 1.2, 1.5], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda z, t, f=penalty: f(z, text, t), (z, each))
        one = torch.tensor(1.2, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda z, t, f=penalty: f(z, text, t), (z, one))


Z = torch.tensor([[0.5, 1.5, 0.0], [1.0, 2.0, 3.0]])
TEXT = torch.tensor([[0, 1, 0, 1], [2, 2, 2, 2]])
LONG = "; ids.long() makes one"
LIST = "; torch.tensor(ids) makes one of a list"


@pytest.mark.parametrize("name", ONE_NUMBER)
@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ([0, 1], TypeError, f"ids must be a tensor of dtype torch.int64, got [0, 1]{LIST}"),
        (
            TEXT.int(),
            TypeError,
            "ids must be a tensor of dtype torch.int64, got tensor([0, 1, 0, 1, 2, 2, ...], "
            f"dtype=torch.int32){LONG}",
        ),
        (
            TEXT[0],
            ValueError,
            "ids must have the shape (2, N) of a text for each row of logits, got (4,)",
        ),
        (
            TEXT + 1,
            ValueError,
            "ids must lie in [0, 2], got [3, 3, 3, 3]; pass texts of different lengths one by one, "
            "without padding",
        ),
        (
            TEXT - 1,
            ValueError,
            "ids must lie in [0, 2], got [-1, -1]; pass texts of different lengths one by one, "
            "without padding",
        ),
    ],
)
def test_a_text_of_no_tokens_is_shown(
    name: str, bad: Any, error: type[Exception], message: str
) -> None:
    for call in (ONE_NUMBER[name], lambda z, x, m: dry_penalty(z, x, multiplier=m)):
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            call(Z, bad, 1.5)
        call(Z, TEXT, 1.5)


RANGES = {
    "repetition": ("penalty", "(0, inf)", 1, (0, -1.0, INF, NAN)),
    "presence": ("penalty", "(-inf, inf)", 0, (INF, NAN)),
    "frequency": ("penalty", "(-inf, inf)", 0, (-INF, NAN)),
    "dry": ("multiplier", "[0, inf)", 0, (-0.5, INF, NAN)),
}


@pytest.mark.parametrize("name", RANGES)
def test_a_penalty_out_of_range_is_shown_beside_one_in_it(name: str) -> None:
    what, interval, neutral, wrong = RANGES[name]
    for bad in wrong:
        message = f"{what} must lie in {interval}, got {{}}; {neutral} changes nothing"
        with pytest.raises(ValueError, match=f"^{re.escape(message.format(bad))}$"):
            ALL[name](Z, TEXT, bad)
        with pytest.raises(ValueError, match=f"^{re.escape(message.format([float(bad)]))}$"):
            ALL[name](Z, TEXT, torch.tensor([1.5, bad]))
        ALL[name](Z, TEXT, torch.tensor([1.5, neutral]))
    vast = f"{what} must lie in {interval} in torch.float32, got {{}}; {neutral} changes nothing"
    for much, text in ((1e39, 1e39), (torch.tensor([1.5, 1e39], dtype=torch.float64), [1e39])):
        with pytest.raises(ValueError, match=f"^{re.escape(vast.format(text))}$"):
            ALL[name](Z, TEXT, much)
        ALL[name](Z.double(), TEXT, much)
    for odd in ("1", True, 1j, [1.5], None):
        with pytest.raises(TypeError, match=f"^{what} must be a number such as 1.5, got "):
            ALL[name](Z, TEXT, odd)
    for tensor in (torch.tensor([True, True]), torch.tensor([1j, 1j]), torch.tensor(True)):
        with pytest.raises(TypeError, match=f"^{what} must hold real numbers such as 1.5, got ten"):
            ALL[name](Z, TEXT, tensor)
    with pytest.raises(
        ValueError, match=rf"^{what} must be a number or have the shape \(2,\) of the rows, got "
    ):
        ALL[name](Z, TEXT, torch.ones(3))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"base": 0.5}, ValueError, "base must lie in [1, inf), got 0.5; 1.75 is usual"),
        ({"base": INF}, ValueError, "base must lie in [1, inf), got inf; 1.75 is usual"),
        ({"base": "2"}, TypeError, "base must be a number such as 1.75, got '2'"),
        ({"allowed_length": 0}, ValueError, "allowed_length must be >= 1, got 0; 2 is usual"),
        ({"allowed_length": 2.0}, TypeError, "allowed_length must be an int such as 2, got 2.0"),
        ({"breakers": "ab"}, TypeError, "breakers must be a list of tokens such as [13], got 'ab'"),
        ({"breakers": 1}, TypeError, "breakers must be a list of tokens such as [13], got 1"),
        ({"breakers": ["a"]}, TypeError, "a breaker must be an int such as 13, got 'a'"),
        ({"breakers": [3]}, ValueError, "breakers must lie in [0, 2], the vocabulary, got 3"),
        ({"breakers": [-1]}, ValueError, "breakers must lie in [0, 2], the vocabulary, got -1"),
    ],
)
def test_settings_of_dry_that_are_none_are_shown(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        dry_penalty(Z, TEXT, multiplier=1, **settings)
    dry_penalty(Z, TEXT, multiplier=1, base=1, allowed_length=1, breakers=[2])
