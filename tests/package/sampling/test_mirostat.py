"""Mirostat: the limits, the kept sets of llama.cpp, the mean surprise."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from omnivault.sampling import Mirostat
from omnivault.sampling import mirostat as module
from tests.package.sampling.common import INF, NAN, SEEN, dtypes, generator, logits_of, tokens
from tests.support.strategies import assert_within, unit

BIT = math.log(2)


@pytest.mark.parametrize("seen", SEEN["mirostat"], ids=lambda one: f"rate {one['rate']}")
def test_kept_sets_are_those_of_llama_cpp(
    seen: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the tokens that were drawn there: each limit follows from those before."""
    drawn: list[Tensor] = []

    def told(kept: Tensor, generator: None) -> Tensor:
        drawn.append(kept)
        return torch.tensor(step["drawn"])

    monkeypatch.setattr(module, "sample", told)
    mirostat = Mirostat(seen["target_bits"] * BIT, seen["rate"])
    for step in seen["steps"]:
        mirostat.draw(torch.tensor(SEEN["mirostat_rows"][step["row"]]))
        kept = drawn.pop()
        assert tokens(kept) == step["kept"]
        # Six digits were recorded.
        assert abs(float(kept.softmax(-1)[step["drawn"]]) - step["p"]) < 1e-6
    assert len(seen["steps"]) == 20
    # The sizes of the sets tell the limits apart: not all are of one size.
    assert len({len(step["kept"]) for step in seen["steps"]}) > 2


def test_of_64_equal_tokens_beyond_the_limit_all_are_kept_and_of_llama_cpp_one() -> None:
    seen = SEEN["mirostat_64_equal"]
    assert len(seen["kept"]) == 1
    mirostat = Mirostat(BIT, rate=1.0)  # limit 2 bits, surprise 6
    drawn = {int(Mirostat(BIT).draw(torch.zeros(64), generator(seed))) for seed in range(40)}
    assert len(drawn) > 20
    mirostat.draw(torch.zeros(64))
    # Of numbers below 8, some units of float32.
    assert_within(mirostat.limit, (2 - (6 - 1)) * BIT, 64 * unit(torch.float32))
    # Below 0 as at 0: the most probable alone.
    assert mirostat.draw(torch.tensor([0.0, 3.0, 2.9])) == 1
    assert_within(mirostat.limit, (-3 + 1) * BIT, 64 * unit(torch.float32))


@dtypes
def test_the_limit_moves_by_the_surprise_among_what_was_kept(dtype: torch.dtype) -> None:
    z = logits_of("1", 200, 12, dtype)
    mirostat = Mirostat(1.0, rate=0.25)
    assert mirostat.limit == 2.0
    token = mirostat.draw(z, generator())
    probs = z.double().softmax(-1)
    inside = probs >= math.exp(-2.0)  # 0.135: the most probable of 12 reach it, or none
    inside |= ~inside.any(-1, keepdim=True) & (z == z.amax(-1, keepdim=True))
    assert 200 < inside.sum() < 600
    law = torch.where(inside, probs, 0.0)
    law = law / law.sum(-1, keepdim=True)
    chosen = law.gather(-1, token.unsqueeze(-1)).squeeze(-1)
    assert bool((chosen > 0).all())
    # Logarithms of a softmax over logits below 8, in float32 at the least.
    assert_within(mirostat.limit, 2.0 - 0.25 * (-chosen.log() - 1.0), 64 * unit(torch.float32))
    assert token.dtype is torch.int64


def test_the_mean_surprise_is_the_target_up_to_how_far_the_limit_went() -> None:
    """Sums telescope, whatever the rows: here of 5 rows with limits of their own."""
    target, rate, steps = 1.2, 0.1, 400
    mirostat, source = Mirostat(target, rate), generator(3)
    z = 2 * torch.randn(steps, 5, 50, generator=generator(4))
    surprise = torch.zeros(5, dtype=torch.float64)
    for row in z:
        limit = mirostat.limit
        mirostat.draw(row, source)
        surprise += (limit - mirostat.limit) / rate + target
    gap = (2 * target - mirostat.limit) / (rate * steps)
    assert_within(surprise / steps - target, gap, 1e-12)
    assert float((surprise / steps - target).abs().max()) < 2 * target / (rate * steps)
    assert len(mirostat.limit.unique()) == 5


def test_each_row_has_its_limit_whatever_stands_beside_it() -> None:
    z = logits_of("1", 6, 30).reshape(2, 3, 30)
    together = Mirostat(0.7)
    alone = [Mirostat(0.7) for _ in range(6)]
    sources = [[generator(seed) for seed in range(6)] for _ in range(2)]
    for _ in range(10):
        drawn = together.draw(z, sources[0])
        assert drawn.shape == together.limit.shape == (2, 3)
        rows = zip(alone, z.reshape(6, 30), sources[1], strict=True)
        assert drawn.flatten().tolist() == [int(m.draw(row, own)) for m, row, own in rows]
    assert together.limit.flatten().tolist() == [m.limit.item() for m in alone]
    assert torch.equal(z, logits_of("1", 6, 30).reshape(2, 3, 30))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        *(
            ((t,), ValueError, f"target must be > 0 and finite, got {t}; 3.0 is usual")
            for t in (0, -1.0, INF, NAN)
        ),
        (("3",), TypeError, "target must be a number such as 3.0, got '3'"),
        *(
            ((1.0, rate), ValueError, f"rate must lie in (0, 1], got {rate}; 0.1 is usual")
            for rate in (0, 1.5, NAN)
        ),
        ((1.0, "1"), TypeError, "rate must be a number such as 0.1, got '1'"),
    ],
)
def test_what_is_no_setting_is_shown(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Mirostat(*arguments)
    Mirostat(1.0, 1)


def test_rows_that_have_no_limits_are_shown() -> None:
    mirostat = Mirostat(1.0)
    with pytest.raises(ValueError, match=r"^logits of a row hold nan: "):
        mirostat.draw(torch.tensor([1.0, NAN]))
    mirostat.draw(torch.zeros(2, 3))
    message = (
        "the limits have the shape (2,) of the rows before, got rows of shape (3,); begin each "
        "batch with a Mirostat of its own"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        mirostat.draw(torch.zeros(3, 3))
    assert mirostat.draw(torch.zeros(2, 7)).shape == (2,)
    alone = Mirostat(1.0)
    alone.draw(torch.zeros(1, 3))
    with pytest.raises(
        ValueError, match=r"shape \(1,\) of the rows before, got rows of shape \(2,\)"
    ):
        alone.draw(torch.zeros(2, 3))
