"""The loss of a last layer in blocks: against PyTorch's, forward and backward, and its memory."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from omnivault.blocked_cross_entropy import blocked_cross_entropy
from tests.support.last_layer import bounds
from tests.support.strategies import DTYPES, HALF, arithmetic, assert_within

N, D, V = 7, 5, 23


def problem(seed: int = 0, n: int = N, d: int = D, v: int = V) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.randn(n, d, generator=generator)
    w = torch.randn(v, d, generator=generator)
    return x, w, torch.randint(v, (n,), generator=generator)


def with_gradients(loss: Any, x: Tensor, w: Tensor, *rest: Any, **options: Any) -> list[Tensor]:
    x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
    value = loss(x, w, *rest, **options)
    return [value.detach(), *torch.autograd.grad(value, (x, w))]


def usual(x: Tensor, w: Tensor, y: Tensor, ignore_index: int = -100) -> Tensor:
    return F.cross_entropy((x @ w.T).flatten(0, -2), y.flatten(), ignore_index=ignore_index)


def exact(x: Tensor, w: Tensor, y: Tensor, **options: Any) -> list[Tensor]:
    """What float64 makes of the very numbers."""
    return with_gradients(usual, x.double(), w.double(), y, **options)


def assert_all_within(found: list[Tensor], x: Tensor, w: Tensor, y: Tensor, block: int) -> None:
    """Assert that loss and gradients are those of float64 up to rounding."""
    wide = torch.promote_types(arithmetic(x.dtype), arithmetic(w.dtype))
    result = torch.promote_types(x.dtype, w.dtype)
    blocks = -(-len(w) // block)
    expected = exact(x, w, y)
    assert [t.dtype for t in found] == [result, x.dtype, w.dtype]
    for n, dtype in enumerate((result, x.dtype, w.dtype)):
        allowed = bounds(x.double(), w.double(), y, blocks=blocks, arithmetic=wide, dtype=dtype)[n]
        # The float64 reference has its own errors, and they are no larger.
        assert_within(found[n], expected[n], 2 * allowed)


@pytest.mark.parametrize("block", [1, 4, 22, 23, 24, 1000])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_loss_and_gradients_are_those_of_all_logits(block: int, dtype: torch.dtype) -> None:
    for seed in range(5):
        x, w, y = problem(seed)
        x, w = x.to(dtype), w.to(dtype)
        found = with_gradients(blocked_cross_entropy, x, w, y, block=block)
        assert_all_within(found, x, w, y, block)


def test_larger_sizes_and_the_block_that_is_taken_by_default() -> None:
    x, w, y = problem(n=50, d=64, v=5000)
    found = with_gradients(blocked_cross_entropy, x / 8, w, y)
    assert_all_within(found, x / 8, w, y, 1024)
    named = with_gradients(blocked_cross_entropy, x / 8, w, y, block=1024)
    assert all(torch.equal(*pair) for pair in zip(found, named, strict=True))


@pytest.mark.parametrize(("first", "second"), [HALF, (HALF[1], torch.float32), HALF[::-1]])
def test_two_dtypes_are_promoted(first: torch.dtype, second: torch.dtype) -> None:
    x, w, y = problem()
    x, w = x.to(first), w.to(second)
    assert_all_within(with_gradients(blocked_cross_entropy, x, w, y, block=4), x, w, y, 4)


def test_logits_in_half_precision_are_never_rounded() -> None:
    # Logits near 100, half a unit apart in bfloat16, whose differences are what counts.
    x = torch.tensor([[100.0, 1.0]], dtype=torch.bfloat16)
    w = torch.tensor([[1.0, 0.0], [1.0, 0.125]], dtype=torch.bfloat16)
    y = torch.tensor([1])
    # log(1 + exp(-1/8)), to which bfloat16 is near.
    assert abs(blocked_cross_entropy(x, w, y).item() - 0.6326) < 0.002
    assert abs(usual(x, w, y).item() - 0.6931) < 0.002


@pytest.mark.parametrize("shape", [(), (1,), (6,), (2, 3), (3, 1, 2)])
def test_any_leading_dimensions(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(*shape, D, generator=generator, dtype=torch.float64)
    w = torch.randn(V, D, generator=generator, dtype=torch.float64)
    y = torch.randint(V, shape, generator=generator)
    found = with_gradients(blocked_cross_entropy, x, w, y, block=5)
    flat = x.reshape(-1, D)
    expected = with_gradients(blocked_cross_entropy, flat, w, y.flatten(), block=5)
    assert found[1].shape == x.shape
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1].reshape(-1, D), expected[1])
    assert torch.equal(found[2], expected[2])


def test_the_layout_in_memory_does_not_matter() -> None:
    x, w, y = problem()
    plain = with_gradients(blocked_cross_entropy, x, w, y, block=4)
    found = with_gradients(
        blocked_cross_entropy,
        x.T.contiguous().T,
        torch.cat([w, w], 1)[:, :D],
        torch.stack([y, y], 1)[:, 0],
        block=4,
    )
    for dtype_of, other in zip(found, plain, strict=True):
        # Another layout may take another order of the same sums.
        torch.testing.assert_close(dtype_of, other)
    assert_all_within(found, x, w, y, 4)


@pytest.mark.parametrize("ignore", [-100, 3, -1])
def test_rows_to_be_ignored_count_nowhere(ignore: int) -> None:
    x, w, y = problem()
    y[y == 3] = 4
    y[[1, 4, 6]] = ignore
    found = with_gradients(blocked_cross_entropy, x, w, y, block=4, ignore_index=ignore)
    kept = y != ignore
    assert_all_within([found[0], found[1][kept], found[2]], x[kept], w, y[kept], 4)
    assert not found[1][~kept].any()
    expected = with_gradients(usual, x, w, y, ignore_index=ignore)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_what_is_ignored_may_be_nan_and_what_counts_spreads_it() -> None:
    x, w, y = problem()
    x[2] = torch.nan
    assert blocked_cross_entropy(x, w, y).isnan()
    y[2] = -100
    assert all(t.isfinite().all() for t in with_gradients(blocked_cross_entropy, x, w, y))


def test_one_class_costs_nothing() -> None:
    found = with_gradients(
        blocked_cross_entropy, torch.ones(3, 2), torch.ones(1, 2), torch.zeros(3).long()
    )
    assert not any(t.any() for t in found)


def test_without_inputs_all_classes_are_alike() -> None:
    x, w, y = problem(d=0)
    found = with_gradients(blocked_cross_entropy, x, w, y, block=4)
    assert_all_within(found, x, w, y, 4)


def test_a_level_that_is_high_does_not_cost_digits() -> None:
    # All logits are multiples of 1/8 near 2^20, exact in float32.
    x = torch.tensor([[2.0**20, 1.0]])
    w = torch.tensor([[1.0, 0.125 * v] for v in range(9)])
    y = torch.tensor([8])
    found = with_gradients(blocked_cross_entropy, x, w, y, block=2)
    expected = exact(torch.tensor([[0.0, 1.0]]), w, y)
    assert_within(found[0], expected[0], 1e-5 * expected[0].item())
    assert_within(found[1][0, 1], expected[1][0, 1], 1e-5)


def test_only_what_needs_a_gradient_gets_one() -> None:
    x, w, y = problem()
    both = with_gradients(blocked_cross_entropy, x, w, y)
    for which in (0, 1):
        a, b = (t.clone().requires_grad_(n == which) for n, t in enumerate((x, w)))
        blocked_cross_entropy(a, b, y).backward()
        grads = [a.grad, b.grad]
        assert torch.equal(grads[which], both[1 + which])  # type: ignore[arg-type]
        assert grads[1 - which] is None
    with torch.no_grad():
        assert not blocked_cross_entropy(x.clone().requires_grad_(), w, y).requires_grad


def test_the_gradient_from_above_is_a_factor_and_a_second_pass_gives_the_same() -> None:
    x, w, y = problem()
    plain = with_gradients(blocked_cross_entropy, x, w, y)
    scaled = with_gradients(lambda *a: 4 * blocked_cross_entropy(*a), x, w, y)
    for a, b in zip(plain, scaled, strict=True):
        assert torch.equal(4 * a, b)  # a power of two is exact
    x = x.requires_grad_()
    loss = blocked_cross_entropy(x, w, y)
    first, again = (torch.autograd.grad(loss, x, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, again)


def test_the_derivatives_are_those_of_differences() -> None:
    x, w, y = problem()
    inputs = [t.double().requires_grad_() for t in (x, w)]
    assert torch.autograd.gradcheck(lambda a, b: blocked_cross_entropy(a, b, y, block=4), inputs)


def test_arguments_are_left_as_they_were() -> None:
    x, w, y = problem()
    before = [t.clone() for t in (x, w, y)]
    with_gradients(blocked_cross_entropy, x, w, y, block=4)
    assert all(torch.equal(*pair) for pair in zip((x, w, y), before, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_shape_and_dtype_are_known_without_values(dtype: torch.dtype) -> None:
    x, w, y = problem()
    empty = [t.to("meta") for t in (x.to(dtype), w.to(dtype))]
    found = with_gradients(blocked_cross_entropy, *empty, y.to("meta"), block=4)
    for a, b in zip(found, [x[0, 0], x, w], strict=True):
        assert a.is_meta
        assert a.shape == b.shape
        assert a.dtype is dtype


def most_bytes(loss: Any, x: Tensor, w: Tensor, y: Tensor) -> int:
    """Return what PyTorch's allocator has given out at most, the two gradients included.

    Its own events, and not the size of the process, which depends on the machine.
    """
    with_gradients(loss, x[:1], w, y[:1])
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        with_gradients(loss, x, w, y)
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def test_a_third_of_the_memory_and_as_much_as_was_counted() -> None:
    # A quarter of each size of SmolLM2's last layer with 1,024 rows, so the same proportions.
    n, d, v, block = 256, 144, 12_288, 256
    x, w, y = problem(n=n, d=d, v=v)
    ours = most_bytes(lambda *a: blocked_cross_entropy(*a, block=block), x, w, y)
    theirs = most_bytes(usual, x, w, y)
    assert ours < theirs / 3
    assert theirs >= 3 * n * v * 4
    backward = n * d + v * d + n * block + block * d
    assert backward * 4 <= ours <= (backward + 16 * n) * 4


def test_the_loss_alone_holds_a_few_blocks() -> None:
    n, block = 256, 256
    x, w, y = problem(n=n, d=16, v=4096)

    def alone(x: Tensor, w: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            blocked_cross_entropy(x, w, y, block=block)
        return (x * 0).sum() + (w[0] * 0).sum()

    # The block, two copies of it, and a mask; what the stand-in for a gradient takes is less.
    assert most_bytes(alone, x, w, y) <= 4 * 3.5 * n * block


X, W, Y = problem()
SHAPES = (
    "needed are hidden rows (..., D), a weight (V, D) with V >= 1 and labels (...), got shapes {}, "
    "{} and {}; weight is that of torch.nn.Linear(D, V)"
)
BAD: dict[str, tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = {
    "a list": (
        ([[1.0]], W, Y),
        {},
        TypeError,
        "hidden must be a tensor of a floating dtype, got [[1.0]]; ",
    ),
    "integers": (
        (X, W.long(), Y),
        {},
        TypeError,
        "weight must be a tensor of a floating dtype, got tensor(",
    ),
    "sparse rows": (
        (X.to_sparse(), W, Y),
        {},
        TypeError,
        "hidden must be a dense tensor, got layout torch.sparse_coo; hidden.to_dense() makes one",
    ),
    "labels in int32": (
        (X, W, Y.int()),
        {},
        TypeError,
        "labels must be a tensor of dtype torch.int64, got tensor(",
    ),
    "labels in a list": (
        (X, W, [1, 2]),
        {},
        TypeError,
        "labels must be a tensor of dtype torch.int64, got [1, 2]; one class index for each row",
    ),
    "a label fewer": ((X, W, Y[1:]), {}, ValueError, SHAPES.format((7, 5), (23, 5), (6,))),
    "a weight transposed": ((X, W.T, Y), {}, ValueError, SHAPES.format((7, 5), (5, 23), (7,))),
    "no class": ((X, W[:0], Y), {}, ValueError, SHAPES.format((7, 5), (0, 5), (7,))),
    "a weight in three dimensions": (
        (X, W[None], Y),
        {},
        ValueError,
        SHAPES.format((7, 5), (1, 23, 5), (7,)),
    ),
    "a scalar": ((X[0, 0], W, Y[0]), {}, ValueError, SHAPES.format((), (23, 5), ())),
    "no row": (
        (X[:0], W, Y[:0]),
        {},
        ValueError,
        "no row is left to average, got 0 labels, each of them ignore_index = -100; leave such a "
        "batch out",
    ),
    "no row that counts": (
        (X, W, torch.full((7,), 5)),
        {"ignore_index": 5},
        ValueError,
        "no row is left to average, got 7 labels, each of them ignore_index = 5; leave such a ",
    ),
    "a label too large": (
        (X, W, torch.full((7,), 23)),
        {},
        ValueError,
        "labels must lie in [0, 22] or be ignore_index = -100, got [23, 23, 23, 23, 23, 23, ...]; "
        "classes count from 0",
    ),
    "a negative label": (
        (X, W, Y.index_fill(0, torch.tensor([1]), -1)),
        {},
        ValueError,
        "labels must lie in [0, 22] or be ignore_index = -100, got [-1]; classes count from 0",
    ),
    "no block": (
        (X, W, Y),
        {"block": 0},
        ValueError,
        "block must be at least 1, got 0; 1024 is common",
    ),
    "half a block": (
        (X, W, Y),
        {"block": 0.5},
        TypeError,
        "block must be an int such as 1024, got 0.5",
    ),
    "an index beyond int64": (
        (X, W, Y),
        {"ignore_index": -(2**63) - 1},
        ValueError,
        "ignore_index must lie in [-2**63, 2**63), as labels do, got -9223372036854775809; -100 is "
        "usual",
    ),
    "an index that is none": (
        (X, W, Y),
        {"ignore_index": None},
        TypeError,
        "ignore_index must be an int such as -100, got None",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused_and_how(name: str) -> None:
    arguments, options, error, message = BAD[name]
    with pytest.raises(error, match="^" + re.escape(message)) as raised:
        blocked_cross_entropy(*arguments, **options)
    assert len(str(raised.value)) <= 300
    blocked_cross_entropy(X, W, Y, block=1, ignore_index=23)


def test_other_derivatives_are_refused() -> None:
    x = X.clone().requires_grad_()
    with pytest.raises(RuntimeError, match=r"^blocked_cross_entropy has first derivatives"):
        torch.autograd.grad(blocked_cross_entropy(x, W, Y), x, create_graph=True)
    with pytest.raises(RuntimeError, match="setup_context"):
        torch.func.grad(lambda x: blocked_cross_entropy(x, W, Y))(X)
