"""Speculative sampling: its draws by enumeration, and what it counts against a replay by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from typing import Any

import pytest
import scipy.stats
import torch
from torch import Tensor

from omnivault.speculative import accept_or_redraw
from tests.package.speculative.common import FALSE_ALARM, generator
from tests.support.strategies import SINGLE_DOUBLE, exactly, shares, total

dtypes = pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
Supply = Callable[..., None]
LARGEST = 1 - 2.0**-53


@pytest.fixture
def supply(monkeypatch: pytest.MonkeyPatch) -> Supply:
    """Sets what the next calls of ``torch.rand`` return."""

    def supply(*numbers: Tensor) -> None:
        queue = list(numbers)

        def rand(*shape: Any, **_: Any) -> Tensor:
            values = queue.pop(0)
            assert math.prod(torch.Size(shape[0] if len(shape) == 1 else shape)) == values.numel()
            return values

        monkeypatch.setattr(torch, "rand", rand)

    return supply


# Target and draft, in whole shares. Every p/q and every share of what is left is a whole number of
# eighths, or the draft never draws the token.
PAIRS = [
    pytest.param((1, 1, 2, 4), (4, 2, 1, 1), id="another order"),
    pytest.param((1, 1, 1, 5), (2, 4, 1, 1), id="one left"),
    pytest.param((4, 1, 1, 2), (8, 0, 0, 0), id="a certain draft"),
    pytest.param((0, 0, 0, 8), (2, 2, 2, 2), id="a certain target"),
    pytest.param((4, 4, 0, 0), (0, 0, 4, 4), id="disjoint"),
    pytest.param((1, 3, 4, 0), (1, 3, 4, 0), id="equal"),
    pytest.param((4, 0, 4, 0), (4, 4, 0, 0), id="half in common"),
]


@pytest.mark.parametrize(("target", "draft"), PAIRS)
@dtypes
def test_over_all_numbers_the_draws_have_exactly_the_distribution_of_the_target(
    target: tuple[int, ...], draft: tuple[int, ...], dtype: torch.dtype, supply: Supply
) -> None:
    p, q = shares(*target), shares(*draft)
    drafts = [x for x in range(4) if q[x] > 0]
    # Each drafted token with eight numbers that accept and, for each, eight that redraw.
    grid = list(product(drafts, range(8), range(8)))
    x, u, v = (torch.tensor(column) for column in zip(*grid, strict=True))
    rows = [
        torch.tensor([float(w) for w in row], dtype=dtype).expand(len(grid), 4) for row in (p, q)
    ]
    supply(u.double() / 8, (v / 8).unsqueeze(-1).double())
    tokens, accepted = accept_or_redraw(rows[0], rows[1], x)
    assert tokens.dtype is torch.int64
    assert accepted.dtype is torch.bool

    chance = [Fraction(0)] * 4
    kept = Fraction(0)
    for (drafted, _, _), token, stays in zip(grid, tokens.tolist(), accepted.tolist(), strict=True):
        chance[token] += q[drafted] / 64
        kept += stays * q[drafted] / 64
        assert not stays or token == drafted
    assert tuple(chance) == p
    # No coupling of the two distributions keeps more.
    assert kept == total(min(a, b) for a, b in zip(p, q, strict=True))


def accept_by_definition(
    p: list[Fraction], q: list[Fraction], drafted: int, u: float, v: float
) -> tuple[int, bool]:
    if Fraction(u) * q[drafted] < p[drafted]:
        return drafted, True
    rest = [max(Fraction(0), a - b) for a, b in zip(p, q, strict=True)]
    if not any(rest):
        rest = p
    so_far = Fraction(0)
    for i, weight in enumerate(rest):
        so_far += weight
        if so_far > Fraction(v) * total(rest):
            return i, False
    raise AssertionError("no cumulative sum exceeds the product")


@dtypes
def test_chosen_numbers_give_the_token_of_the_definition(
    dtype: torch.dtype, supply: Supply
) -> None:
    g = generator(1)
    for vocabulary in (1, 2, 7, 100):
        weights = torch.randint(0, 5, (2, 200, vocabulary), generator=g).double()
        weights[..., 0] += 1
        # Multiples of 2^-10, of which differences and sums are exact.
        p, q = (
            torch.floor(1024 * w / w.sum(-1, keepdim=True)).div(1024).to(dtype) for w in weights
        )
        for rows in (p, q):  # what the rounding took away
            rows[..., 0] += 1 - rows.sum(-1)
        drafted = torch.multinomial(q, 1, generator=g).squeeze(-1)
        u = torch.randint(0, 2**20, (200, 2), generator=g).double() / 2**20
        u[0], u[1] = 0.0, LARGEST
        supply(u[:, 0], u[:, 1:])
        tokens, accepted = accept_or_redraw(p, q, drafted)
        expected = [
            accept_by_definition(exactly(p[n]), exactly(q[n]), int(drafted[n]), *u[n].tolist())
            for n in range(200)
        ]
        assert list(zip(tokens.tolist(), accepted.tolist(), strict=True)) == expected


@dtypes
def test_equal_distributions_accept_whatever_the_numbers(
    dtype: torch.dtype, supply: Supply
) -> None:
    p = torch.randn(64, 300, generator=generator(), dtype=dtype).mul(3).softmax(-1)
    p[:, 7] = 0
    p /= p.sum(-1, keepdim=True)
    drafted = p.argmax(-1)
    drafted[::2] = 8
    supply(torch.full((64,), LARGEST).double().fill_(LARGEST), torch.full((64, 1), 0.5).double())
    tokens, accepted = accept_or_redraw(p, p.clone(), drafted)
    assert bool(accepted.all())
    assert torch.equal(tokens, drafted)


@dtypes
def test_disjoint_distributions_reject_whatever_the_numbers(
    dtype: torch.dtype, supply: Supply
) -> None:
    p = torch.rand(64, 300, generator=generator(), dtype=dtype) + 0.1
    q = p.flip(-1).clone()
    p[:, 150:] = 0
    q[:, :150] = 0
    p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    drafted = q.argmax(-1)
    v = torch.rand(64, 1, generator=generator(), dtype=torch.float64)
    supply(torch.zeros(64, dtype=torch.float64), v)
    tokens, accepted = accept_or_redraw(p, q, drafted)
    assert not bool(accepted.any())
    assert bool((tokens < 150).all())
    assert bool((p.gather(1, tokens.unsqueeze(1)) > 0).all())


def test_a_token_that_the_target_rules_out_is_rejected_even_with_zero(supply: Supply) -> None:
    p, q = torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.5])
    supply(torch.tensor(0.0, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64))
    token, accepted = accept_or_redraw(p, q, torch.tensor(0))
    assert (int(token), bool(accepted)) == (1, False)


def test_a_rejection_that_leaves_nothing_by_rounding_is_drawn_from_the_target(
    supply: Supply,
) -> None:
    # Sums of rounded numbers need not be 1: nowhere is p above q, and somewhere below.
    q = torch.tensor([0.5, 0.5], dtype=torch.float64)
    p = torch.tensor([0.5, 0.5 - 2**-40], dtype=torch.float64)
    supply(torch.tensor([LARGEST, 0.5], dtype=torch.float64), torch.zeros(2, 1).double())
    tokens, accepted = accept_or_redraw(p.expand(2, 2), q.expand(2, 2), torch.tensor([1, 1]))
    assert tokens.tolist() == [0, 1]
    assert accepted.tolist() == [False, True]


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (0,), (2, 0)])
def test_the_shapes_of_what_is_returned(shape: tuple[int, ...]) -> None:
    p, q = torch.rand(2, *shape, 10, generator=generator()).softmax(-1)
    tokens, accepted = accept_or_redraw(
        p, q, torch.zeros(shape, dtype=torch.int64), generator=generator()
    )
    assert tokens.shape == accepted.shape == shape


def test_inputs_are_left_alone_and_the_global_generator_too() -> None:
    p, q = torch.randn(2, 50, 20, generator=generator()).softmax(-1)
    drafted = torch.multinomial(q, 1, generator=generator()).squeeze(-1)
    before = [x.clone() for x in (p, q, drafted)]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = accept_or_redraw(p, q, drafted, generator=generator(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(*pair) for pair in zip(before, (p, q, drafted), strict=True))
    again = accept_or_redraw(p, q, drafted)
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert not torch.equal(torch.get_rng_state(), state)


@dtypes
def test_draws_have_the_distribution_of_the_target(dtype: torch.dtype) -> None:
    p, q = torch.randn(2, 20, generator=generator(4), dtype=dtype).mul(2).softmax(-1)
    g, n = generator(5), 100_000
    drafted = torch.multinomial(q, n, replacement=True, generator=g)
    tokens, accepted = accept_or_redraw(p.expand(n, 20), q.expand(n, 20), drafted, generator=g)
    counts = tokens.bincount(minlength=20)
    expected = n * p.double() / p.double().sum()
    assert expected.min() >= 5
    assert scipy.stats.chisquare(counts, expected).pvalue > FALSE_ALARM
    overlap = float(torch.minimum(p, q).double().sum())
    assert scipy.stats.binomtest(int(accepted.sum()), n, overlap).pvalue > FALSE_ALARM


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("which", ["target", "draft", "both"])
def test_half_precision_is_computed_in_float32(half: torch.dtype, which: str) -> None:
    p, q = torch.randn(2, 200, generator=generator(6)).mul(2).softmax(-1)
    p = p.to(half) if which != "draft" else p
    q = q.to(half) if which != "target" else q
    # Rounded to 8 or 11 bits they sum to one within as much.
    wide = [x.float() / x.float().sum() if x.dtype is half else x for x in (p, q)]
    n = 20_000
    drafted = torch.multinomial(wide[1], n, replacement=True, generator=generator(7))
    results = [
        accept_or_redraw(a.expand(n, 200), b.expand(n, 200), drafted, generator=generator(8))
        for a, b in ((p, q), wide)
    ]
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
    assert 0 < int(results[0][1].sum()) < n
    # A double beside it is not rounded to float32.
    doubles = p.expand(n, 200), q.double().expand(n, 200)
    assert accept_or_redraw(*doubles, drafted, generator=generator(8))[0].shape == (n,)


ROWS = torch.tensor([[0.5, 0.5], [1.0, 0.0]])


def shapes(*three: str) -> str:
    return (
        "p, q and drafted must have the shapes (..., V), (..., V) and (...), got "
        f"{three[0]}, {three[1]} and {three[2]}"
    )


@pytest.mark.parametrize(
    ("p", "q", "drafted", "message"),
    [
        (ROWS, ROWS[0], torch.tensor([0, 0]), shapes("(2, 2)", "(2,)", "(2,)")),
        (ROWS, ROWS, torch.tensor(0), shapes("(2, 2)", "(2, 2)", "()")),
        (ROWS, ROWS, torch.tensor([[0, 0]]), shapes("(2, 2)", "(2, 2)", "(1, 2)")),
        (ROWS, torch.ones(2, 3) / 3, torch.tensor([0, 0]), shapes("(2, 2)", "(2, 3)", "(2,)")),
        (
            ROWS,
            ROWS,
            torch.tensor([0, 1]),
            "the draft cannot have drawn [1], to which it gives probability 0; pass the "
            "probabilities that it was drawn from",
        ),
    ],
)
def test_what_cannot_be_is_shown_beside_what_can(
    p: Tensor, q: Tensor, drafted: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        accept_or_redraw(p, q, drafted)
    tokens, _ = accept_or_redraw(ROWS, ROWS, torch.tensor([1, 0]))
    assert tokens.tolist() == [1, 0]


SUM = "have rows of probabilities, >= 0 and with the sum 1, got "
REMEDY = "; x / x.sum(-1, keepdim=True) divides by it, softmax(z) takes logits"
NO_ROWS: list[tuple[Any, type[Exception], str]] = [
    (torch.tensor([[0.5, 0.5], [0.5, 0.25]]), ValueError, SUM + "[0.5, 0.25], sum 0.75" + REMEDY),
    (torch.tensor([[0.5, 0.5], [2.0, 0.0]]), ValueError, SUM + "[2.0, 0.0], sum 2" + REMEDY),
    (torch.tensor([[0.5, 0.5], [1.5, -0.5]]), ValueError, SUM + "[1.5, -0.5], sum 1" + REMEDY),
    (torch.tensor([[0.5, 0.5], [0.0, 0.0]]), ValueError, SUM + "[0.0, 0.0], sum 0" + REMEDY),
    (torch.tensor([[0.5, math.nan]] * 2), ValueError, SUM + "[0.5, nan], sum nan" + REMEDY),
    (torch.tensor([[0.5, 0.5], [0.75, 0.5]]).half(), ValueError, ", sum 1.25" + REMEDY),
    ([[0.5, 0.5], [1.0, 0.0]], TypeError, "a tensor of float16, bfloat16, float32 or float64, got"),
    (ROWS.long(), TypeError, "got torch.int64; softmax(z.float()) makes one of logits z"),
    (ROWS.to(torch.float8_e4m3fn), TypeError, "got torch.float8_e4m3fn; softmax(z.float()) makes"),
    (ROWS.to(torch.complex64), TypeError, "got torch.complex64; softmax(z.float()) makes one of"),
]


@pytest.mark.parametrize("name", ["p", "q"])
@pytest.mark.parametrize(("bad", "error", "message"), NO_ROWS)
def test_what_is_no_distribution_is_shown(
    name: str, bad: Any, error: type[Exception], message: str
) -> None:
    arguments: dict[str, Any] = {"p": ROWS, "q": ROWS, "drafted": torch.tensor([1, 0])}
    with pytest.raises(error, match=rf"^{name} must .*{re.escape(message)}") as caught:
        accept_or_redraw(**{**arguments, name: bad})
    assert len(str(caught.value)) <= 300
    accept_or_redraw(**arguments)


def test_a_long_row_makes_no_long_message() -> None:
    masked = torch.rand(2, 100_000, generator=generator()).softmax(-1)
    good = masked.clone()
    masked[1, 50_000:] = 0
    drafted = torch.tensor([0, 0])
    with pytest.raises(
        ValueError, match=r"^p must have rows of .*, \.\.\.\], sum 0\.[45]"
    ) as caught:
        accept_or_redraw(masked, good, drafted)
    assert len(str(caught.value)) <= 300
    accept_or_redraw(good, good, drafted)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (torch.tensor([0, 2]), ValueError, "drafted must lie in [0, 2), got [2]"),
        (torch.tensor([-1, 0]), ValueError, "drafted must lie in [0, 2), got [-1]"),
        (
            torch.tensor([0.0, 1.0]),
            TypeError,
            "drafted must be an int64 tensor of token ids, got tensor([0.0, 1.0])",
        ),
        (
            torch.tensor([0, 1]).to_sparse(),
            TypeError,
            "drafted must be a dense tensor, got layout torch.sparse_coo; drafted.to_dense() makes "
            "one",
        ),
        ([0, 1], TypeError, "drafted must be an int64 tensor of token ids, got [0, 1]"),
    ],
)
def test_a_draft_that_is_no_token_is_shown(bad: Any, error: type[Exception], message: str) -> None:
    rows = torch.tensor([[0.5, 0.5], [0.25, 0.75]])
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        accept_or_redraw(rows, rows, bad)
    accept_or_redraw(rows, rows, torch.tensor([0, 1]))


def test_numbers_without_a_row_are_shown() -> None:
    one, row = torch.tensor(1.0), torch.tensor([1.0])
    for p, q, name in ((one, one, "p"), (one, row, "p"), (row, one, "q"), (one * 0.5, row, "p")):
        message = f"{name} must have the shape (..., V), got ()"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            accept_or_redraw(p, q, torch.tensor(0))
    assert accept_or_redraw(row, row, torch.tensor(0))[0] == 0
