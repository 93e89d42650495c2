from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from omnivault.sampling import plain_sample, sample, top_p
from omnivault.sampling.nucleus import outside
from tests.package.sampling.common import (
    INF,
    KINDS,
    TRUNCATIONS,
    dtypes,
    generator,
    kept,
    logits_of,
)
from tests.support.strategies import SINGLE_DOUBLE


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collects how many rows are asked in each round of a draw from a nucleus."""
    rows: list[int] = []

    def spy(z: Tensor, *rest: Any) -> list[int]:
        rows.append(len(z))
        return outside(z, *rest)

    monkeypatch.setattr("omnivault.sampling.rows.outside", spy)
    return rows


@pytest.mark.parametrize("vocabulary", [100, 128, 300])
@pytest.mark.parametrize("collect", [list, tuple])
def test_a_row_that_is_rejected_does_not_see_the_others(
    vocabulary: int, collect: Callable[[Any], Any], rounds: list[int]
) -> None:
    z = logits_of("1", 40, vocabulary)
    temperature = torch.linspace(0.2, 3.0, 40)
    temperature[5] = 0
    settings: dict[str, Any] = {"top_p": 0.2, "min_p": 0.01}
    together = sample(
        z, temperature=temperature, **settings, generator=collect(generator(i) for i in range(40))
    )
    # Rejected again and again, fewer and fewer.
    assert len(rounds) > 2
    assert rounds == sorted(rounds, reverse=True)
    alone = [
        sample(row, temperature=t, **settings, generator=generator(i))
        for i, (row, t) in enumerate(zip(z, temperature, strict=True))
    ]
    assert torch.equal(together, torch.stack(alone))
    assert together[5] == z[5].argmax()
    backwards = sample(
        z.flip(0),
        temperature=temperature.flip(0),
        **settings,
        generator=collect(generator(i) for i in reversed(range(40))),
    )
    assert torch.equal(backwards.flip(0), together)


def test_a_shared_generator_goes_on_and_that_of_each_row_too() -> None:
    z = torch.zeros(50, 1000)
    shared, each = generator(1), [generator(i) for i in range(50)]
    for source in (shared, each):
        first, second = (sample(z, top_p=0.5, generator=source) for _ in range(2))
        assert int((first == second).sum()) < 5
    # The same one for every row is read in their order.
    again = sample(z, generator=[generator(1)] * 50)
    g = generator(1)
    assert again.tolist() == [int(sample(row, generator=g)) for row in z]


def test_without_a_generator_the_global_one_is_read_and_with_one_it_is_left_alone() -> None:
    z = logits_of("1", 50, 1000)
    both: list[dict[str, Any]] = [{}, {"top_p": 0.3}]
    for settings in both:
        torch.manual_seed(9)
        before = torch.get_rng_state()
        expected = sample(z, **settings, generator=generator(9))
        sample(z, **settings, generator=[generator(i) for i in range(50)])
        plain_sample(z, **settings, generator=generator(9))
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(sample(z, **settings), expected)
        assert not torch.equal(torch.get_rng_state(), before)


ALL: dict[str, Any] = {"top_k": 60, "top_p": 0.7, "min_p": 0.02}


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.7}, {"top_p": 0.3}, ALL], ids=str)
@pytest.mark.parametrize("vocabulary", [100, 256])
@dtypes
def test_logits_in_any_layout_are_drawn_alike_and_left_alone(
    dtype: torch.dtype, vocabulary: int, settings: dict[str, Any]
) -> None:
    # With a largest logit of 0 and T = 1 neither the shift nor the division changes a number.
    z = logits_of("1", 24, vocabulary, dtype)
    z = z - z.amax(-1, keepdim=True)
    expected = sample(z, **settings, generator=generator(2))
    wide = z.to(torch.promote_types(dtype, torch.float32))
    assert torch.equal(sample(wide, **settings, generator=generator(2)), expected)
    layouts = [z, z.T.contiguous().T, torch.stack([z, z], -1)[..., 0], z.flip(0).flip(0)]
    layouts += [z.clone().requires_grad_(), 1 * z.clone().requires_grad_()]
    for layout in layouts:
        before = layout.detach().clone()
        assert torch.equal(sample(layout, **settings, generator=generator(2)), expected)
        assert torch.equal(layout.detach(), before)
    cube = z.reshape(2, 3, 4, vocabulary)
    for layout in (cube, cube.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)):
        drawn = sample(layout, **settings, generator=generator(2))
        assert torch.equal(drawn, expected.reshape(2, 3, 4))
    row = z[:1].clone()
    repeated = sample(row.repeat(24, 1), **settings, generator=generator(3))
    assert torch.equal(sample(row.expand(24, -1), **settings, generator=generator(3)), repeated)
    assert torch.equal(row, z[:1])


def test_a_draw_has_no_gradient_and_the_logits_keep_theirs() -> None:
    z = logits_of("1", 3, 200).requires_grad_()
    scaled = 2 * z
    for settings in ({}, ALL):
        assert not sample(scaled, **settings, generator=generator()).requires_grad
    scaled.sum().backward()
    assert z.grad is not None
    assert bool((z.grad == 2).all())


@pytest.mark.parametrize("settings", [{}, {"top_k": 1}, {"top_p": 0.5}, {"min_p": 1.0}, ALL])
def test_a_vocabulary_of_one_and_a_batch_of_none(settings: dict[str, Any]) -> None:
    if settings is ALL:
        settings = {**ALL, "top_k": 1}
    for shape in ((), (5,), (2, 3)):
        z = torch.full((*shape, 1), -7.0)
        for temperature in (0, 0.5, torch.ones(shape)):
            drawn = sample(z, temperature=temperature, **settings, generator=generator())
            assert torch.equal(drawn, torch.zeros(shape, dtype=torch.int64))
    for shape in ((0,), (2, 0), (0, 3)):
        sources: list[Any] = [None, generator(), []]
        for source in sources:
            drawn = sample(torch.zeros(*shape, 200), **settings, generator=source)
            assert drawn.shape == shape
            assert drawn.dtype is torch.int64
        cold = torch.zeros(shape)
        assert sample(torch.zeros(*shape, 200), temperature=cold, top_p=0.5).shape == shape


def test_rows_at_zero_are_greedy_among_others_with_a_nucleus() -> None:
    z = logits_of("0.1", 30, 200)
    temperature = torch.ones(30)
    temperature[::3] = 0
    nucleus_of = kept(top_p(z, 0.4))
    for seed in range(10):
        drawn = sample(z, temperature=temperature, top_p=0.4, generator=generator(seed))
        assert torch.equal(drawn[::3], z[::3].argmax(-1))
        assert bool(nucleus_of.gather(1, drawn.unsqueeze(1)).all())
        assert not torch.equal(drawn[1::3], z[1::3].argmax(-1))


@pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
def test_a_tiny_share_keeps_the_largest_alone(dtype: torch.dtype) -> None:
    for vocabulary in (1, 2, 200, 1000):
        z = logits_of("1", 50, vocabulary, dtype)
        for p in (1e-300, 1e-12, 1e-6):
            drawn = sample(z, top_p=p, generator=generator())
            assert torch.equal(drawn, z.argmax(-1))
        # Of equals the one with the highest index.
        equals = sample(torch.zeros_like(z), top_p=1e-6, generator=generator())
        assert equals.unique().tolist() == [vocabulary - 1]


def test_nothing_outside_the_kept_set_is_drawn() -> None:
    for kind in KINDS:
        for vocabulary in (7, 300):
            z = logits_of(kind, 2000, vocabulary)
            for settings in ({"top_k": 3}, {"top_p": 0.6}, {"min_p": 0.2}):
                name, setting = next(iter(settings.items()))
                inside = kept(TRUNCATIONS[name][0](z, setting))
                for draw in (sample, plain_sample):
                    drawn = draw(z, **settings, generator=generator(1))
                    assert bool(inside.gather(1, drawn.unsqueeze(1)).all())


def test_what_was_rejected_is_not_drawn_again(
    rounds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Zero draws the first of those that are left: one equal after the other.
    monkeypatch.setattr(
        "omnivault.inverse_cdf.uniforms",
        lambda rows, numbers, *_: torch.zeros(rows, numbers, dtype=torch.float64),
    )
    z = torch.tensor([[0.0, 0.0, 0.0, 0.0], [-0.5, -1.0, -1.0, 0.0], [0.0, -9.0, 0.0, -9.0]])
    assert sample(z, top_p=1e-6).tolist() == [3, 3, 2]
    assert rounds == [3, 3, 1, 1]
    # Two of the first row are in, indices 0 and 3 of the second, and 2 alone of the third.
    assert sample(z, top_p=0.45).tolist() == [2, 0, 2]


def test_the_largest_uniform_numbers_draw_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    z = torch.cat([torch.zeros(300), torch.full((100,), -INF)]).expand(5, 400)
    for value, first, last in ((0.0, 0, 0), (1 - 2**-53, 299, 299)):
        monkeypatch.setattr(
            "omnivault.inverse_cdf.uniforms",
            lambda *shape, value=value: torch.full(shape[:2], value, dtype=torch.float64),
        )
        assert sample(z).tolist() == [first] * 5
        assert sample(z, temperature=3.0, min_p=0.5).tolist() == [last] * 5
