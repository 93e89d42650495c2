"""The theorem `blocked-loss`: The loss of a last layer in blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor
from torch.nn.functional import cross_entropy

from omnivault.blocked_cross_entropy import blocked_cross_entropy
from tests.chapters.cross_entropy_kl.common import ZERO
from tests.support.last_layer import bounds
from tests.support.strategies import assert_within, double

Matrix = list[list[Fraction]]
Pair = tuple[Fraction, Fraction]


def product(a: Matrix, b: Matrix) -> Matrix:
    return [
        [sum((x * y for x, y in zip(r, c, strict=True)), ZERO) for c in zip(*b, strict=True)]
        for r in a
    ]


def transposed(a: Matrix) -> Matrix:
    return [list(column) for column in zip(*a, strict=True)]


def matrices(n: int, m: int, least: int = -5) -> st.SearchStrategy[Matrix]:
    entries = st.fractions(least, 5, max_denominator=7)
    return st.lists(st.lists(entries, min_size=m, max_size=m), min_size=n, max_size=n)


def combined(first: Pair, second: Pair) -> Pair:
    """Of pairs (e^m, d), which are fractions."""
    top = max(first[0], second[0])
    return top, first[1] * first[0] / top + second[1] * second[0] / top


def pair_of(row: Sequence[Fraction]) -> Pair:
    return max(row), sum((x / max(row) for x in row), ZERO)


@st.composite
def splittings(draw: DrawFn, v: int) -> list[list[int]]:
    """The classes in blocks, in any order."""
    order = draw(st.permutations(range(v)))
    size = draw(st.integers(1, v))
    return [list(order[i : i + size]) for i in range(0, v, size)]


@pytest.mark.statement("blocked-loss", "exact")
@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 3), st.data())
def test_pairs_and_gradients_of_blocks_are_those_of_the_whole(
    n: int, v: int, d: int, data: st.DataObject
) -> None:
    # Exponentials of logits, which in the theorem are of any kind: here they are fractions.
    e = [[1 + abs(x) for x in row] for row in data.draw(matrices(n, v))]
    x, w = data.draw(matrices(n, d)), data.draw(matrices(v, d))
    y = data.draw(st.lists(st.integers(0, v - 1), min_size=n, max_size=n))
    blocks = data.draw(splittings(v))
    whole = [
        [(a / sum(row) - (k == label)) / n for k, a in enumerate(row)]
        for row, label in zip(e, y, strict=True)
    ]
    pairs = []
    for row in e:
        pair = pair_of([row[k] for k in blocks[0]])
        for block in blocks[1:]:
            pair = combined(pair, pair_of([row[k] for k in block]))
        pairs.append(pair)
        assert pair[0] * pair[1] == sum(row)  # the exponential of LSE
    for_x = [[ZERO] * d for _ in range(n)]
    for_w: dict[int, list[Fraction]] = {}
    for block in blocks:
        g = [
            [(row[k] / m / total - (k == label)) / n for k in block]
            for row, (m, total), label in zip(e, pairs, y, strict=True)
        ]
        part = product(g, [w[k] for k in block])
        for_x = [
            [a + b for a, b in zip(*both, strict=True)] for both in zip(for_x, part, strict=True)
        ]
        for_w |= dict(zip(block, product(transposed(g), x), strict=True))
    assert for_x == product(whole, w)
    assert [for_w[k] for k in range(v)] == product(transposed(whole), x)


@st.composite
def layers(draw: DrawFn) -> tuple[Tensor, Tensor, Tensor, int]:
    n, v, d = (draw(st.integers(1, most)) for most in (6, 12, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    x = draw(st.sampled_from([0.1, 1.0, 3.0])) * torch.randn(n, d, generator=generator)
    w = torch.randn(v, d, generator=generator)
    y = torch.randint(v, (n,), generator=generator)
    return x.double(), w.double(), y, draw(st.integers(1, v + 2))


def by_torch(x: Tensor, w: Tensor, y: Tensor) -> list[Tensor]:
    x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
    loss = cross_entropy(x @ w.T, y)
    return [loss.detach(), *torch.autograd.grad(loss, (x, w))]


@pytest.mark.statement("blocked-loss", "torch")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@settings(max_examples=60)
@given(layer=layers())
def test_in_floating_point_they_are_those_of_torch(
    dtype: torch.dtype, layer: tuple[Tensor, Tensor, Tensor, int]
) -> None:
    x, w, y, block = layer
    a, b = x.to(dtype).requires_grad_(), w.to(dtype).requires_grad_()
    loss = blocked_cross_entropy(a, b, y, block=block)
    found = [loss.detach(), *torch.autograd.grad(loss, (a, b))]
    wide = a.detach().double(), b.detach().double()
    allowed = bounds(*wide, y, blocks=-(-len(w) // block), arithmetic=dtype, dtype=dtype)
    for ours, theirs, bound in zip(found, by_torch(*wide, y), allowed, strict=True):
        assert_within(ours, theirs, 2 * bound)  # float64 has its own errors


class Memory:
    """So many numbers, and no more."""

    def __init__(self, size: int) -> None:
        self.cells = [math.nan] * size
        self.used = 0

    def take(self, size: int) -> range:
        assert self.used + size <= len(self.cells), "there is no more memory"
        self.used += size
        return range(self.used - size, self.used)


def multiply(memory: Memory, z: range, x: Tensor, w: Tensor) -> None:
    """Write x w^T into the memory, row by row."""
    for place, value in zip(z, (x @ w.T).flatten().tolist(), strict=False):
        memory.cells[place] = value


def loss_in(memory: Memory, x: Tensor, w: Tensor, y: Tensor, b: int) -> float:
    """The loss; whatever is kept from one class or row to the next is in the memory."""
    n, cells = len(x), memory.cells
    m, d, of_label = memory.take(n), memory.take(n), memory.take(n)
    new_m, new_d, z = memory.take(n), memory.take(n), memory.take(n * b)
    for i in range(n):
        cells[m[i]], cells[d[i]] = -math.inf, 0.0
    for start in range(0, len(w), b):
        size = min(b, len(w) - start)
        multiply(memory, z, x, w[start : start + size])
        for i in range(n):
            row = z[i * size : (i + 1) * size]
            if 0 <= y[i] - start < size:
                cells[of_label[i]] = cells[row[int(y[i]) - start]]
            cells[new_m[i]] = max(cells[k] for k in row)
            cells[new_d[i]] = 0.0
            for k in row:
                cells[new_d[i]] += math.exp(cells[k] - cells[new_m[i]])
            largest = max(cells[m[i]], cells[new_m[i]])
            cells[d[i]] *= math.exp(cells[m[i]] - largest)
            cells[d[i]] += cells[new_d[i]] * math.exp(cells[new_m[i]] - largest)
            cells[m[i]] = largest
    return sum(cells[m[i]] + math.log(cells[d[i]]) - cells[of_label[i]] for i in range(n)) / n


def gradients_in(memory: Memory, x: Tensor, w: Tensor, y: Tensor, b: int) -> tuple[Tensor, Tensor]:
    """The gradients, from the pair of each row; the results are not counted."""
    n, cells = len(x), memory.cells
    z_of_all = x @ w.T  # what the loss has left: two numbers a row
    m, d, z = memory.take(n), memory.take(n), memory.take(n * b)
    for i in range(n):
        cells[m[i]] = z_of_all[i].max().item()
        cells[d[i]] = (z_of_all[i] - cells[m[i]]).exp().sum().item()
    for_x, for_w = torch.zeros_like(x), torch.empty_like(w)
    for start in range(0, len(w), b):
        block = w[start : start + b]
        multiply(memory, z, x, block)
        for i in range(n):
            for k in range(len(block)):
                place = z[i * len(block) + k]
                p = math.exp(cells[place] - cells[m[i]]) / cells[d[i]]
                cells[place] = (p - (start + k == int(y[i]))) / n
        g = double(cells[z.start : z.start + n * len(block)]).view(n, -1)
        for_x += g @ block
        for_w[start : start + b] = g.T @ x
    return for_x, for_w


@pytest.mark.statement("blocked-loss", "torch")
@settings(max_examples=60)
@given(layers())
def test_so_many_numbers_are_enough(layer: tuple[Tensor, Tensor, Tensor, int]) -> None:
    x, w, y, b = layer
    b = min(b, len(w))
    loss, *gradients = by_torch(x, w, y)
    allowed = bounds(x, w, y, blocks=-(-len(w) // b), arithmetic=torch.float64, dtype=torch.float64)
    found = loss_in(Memory(len(x) * (b + 5)), x, w, y, b)
    assert_within(found, loss.item(), 2 * allowed[0].item())
    pair = gradients_in(Memory(len(x) * (b + 2)), x, w, y, b)
    for ours, theirs, bound in zip(pair, gradients, allowed[1:], strict=True):
        assert_within(ours, theirs, 2 * bound)
