"""What `sample` leaves out: it draws from the very tokens that the definitions keep."""

from __future__ import annotations

from typing import Any

import pytest
import scipy.stats
import torch
from torch import Tensor

from omnivault.inverse_cdf import draw_rows
from omnivault.sampling import plain_sample, ranked, rows, sample
from omnivault.sampling.candidates import HEIGHT, largest, largest_with_equals
from omnivault.sampling.settings import Settings, kept
from omnivault.sampling.truncation import in_order
from tests.package.sampling.common import INF, KINDS, dtypes, generator, logits_of
from tests.support.strategies import DTYPES

FALSE_ALARM = 1e-4


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a top-k small vocabularies are ranked too."""
    monkeypatch.setattr("omnivault.sampling.rows._few", lambda size: size)


def drawable(z: Tensor, temperature: float | Tensor, dials: dict[str, Any]) -> Tensor:
    """Which tokens `sample` can draw from each row, bool ``(B, V)``."""
    size, found = z.shape[1], torch.zeros(z.shape, dtype=torch.bool)
    for row in range(len(z)):

        def of_row(value: Any, times: int, row: int = row) -> Any:
            return value[row].expand(times) if isinstance(value, Tensor) else value

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ranked, "_kept", ranked_spy := Spy(ranked._kept))
            patch.setattr(ranked, "_by_definition", defined := Spy(ranked._by_definition))
            patch.setattr(rows, "draw_rows", every := Every(size))
            patch.setattr(rows._Rows, "_not_kept", out := Rejected(rows._Rows._not_kept))
            # As many times as there are tokens: each is drawn once.
            sample(
                z[row].expand(size, -1),
                temperature=of_row(temperature, size),
                **{name: of_row(value, size) for name, value in dials.items()},
            )
        if ranked_spy.seen:
            (_, _, names, *_), n = ranked_spy.seen[0]
            names = names[:n] if n is not None else defined.seen[0][1][0]
            found[row, names] = True
            found[row] &= z[row] > -INF
        else:
            assert every.weights is not None
            found[row] = every.weights.diagonal() > 0
            found[row, out.rows] = False
    return found


class Spy:
    def __init__(self, function: Any) -> None:
        self.function = function
        self.seen: list[Any] = []

    def __call__(self, *arguments: Any) -> Any:
        result = self.function(*arguments)
        self.seen.append((arguments, result))
        return result


class Every:
    """Draws token i from row i."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.weights: Tensor | None = None

    def __call__(self, weights: Tensor, _: Any) -> Tensor:
        assert self.weights is None
        self.weights = weights.clone()
        return torch.arange(self.size)


class Rejected:
    """Notes the rows whose token is rejected, and lets them pass."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.rows: list[int] = []

    def __get__(self, instance: Any, _: Any) -> Any:
        def asked(drawn: Tensor) -> list[int]:
            self.rows = self.function(instance, drawn)
            return []

        return asked


def defined(z: Tensor, temperature: float | Tensor, dials: dict[str, Any]) -> Tensor:
    stay = kept(z, Settings.of(z, temperature, in_order(dials)))
    return stay.softmax(-1) > 0


SETTINGS: list[dict[str, Any]] = [
    {"top_p": 0.9},
    {"top_p": 0.5, "min_p": 0.1},
    {"min_p": 0.3},
    {"min_p": 0.5},
    {"top_k": 3},
    {"top_k": 7, "top_p": 0.75, "min_p": 0.05},
    {"top_k": 5, "top_p": 0.5},
    {"top_k": 4, "min_p": 0.5},
    {"top_k": 20, "top_p": 0.999999},
]


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("kind", KINDS)
@dtypes
def test_the_tokens_drawn_are_those_that_the_definitions_keep(
    dtype: torch.dtype, kind: str
) -> None:
    for size in (20, 41):
        z = logits_of(kind, 12, size, dtype)
        for temperature in (1.0, 0.7, 1.6):
            for dials in SETTINGS:
                expected = defined(z, temperature, dials)
                assert torch.equal(drawable(z, temperature, dials), expected), dials
        each = {
            "top_k": torch.arange(1, 13),
            "top_p": torch.linspace(0.1, 1, 12),
            "min_p": torch.linspace(0, 1, 12),
        }
        warmer = torch.linspace(0.2, 2, 12)
        assert torch.equal(drawable(z, warmer, each), defined(z, warmer, each))


def test_borders_that_are_reached_exactly_are_decided_as_defined(few: None) -> None:
    """Probabilities of 1/4 and 1/8: sums without rounding, and ratios."""
    probs = torch.tensor([0.25, 0.125, 0.25, 0.125, 0.125, 0.125])
    z = probs.log().expand(1, -1)
    for p in (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875):
        for dials in ({"top_p": p}, {"min_p": p}, {"top_p": p, "min_p": 0.5}):
            assert torch.equal(drawable(z, 1.0, dials), defined(z, 1.0, dials))
            dials = {"top_k": 6, **dials}
            assert torch.equal(drawable(z, 1.0, dials), defined(z, 1.0, dials))
            dials["top_k"] = 3  # and three that equal the third
            assert torch.equal(drawable(z, 1.0, dials), defined(z, 1.0, dials))


# The candidates


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [7, 1000, 4 * HEIGHT * 5, 20_000, 20_001, 40_063])
def test_the_largest_are_the_largest(size: int, dtype: torch.dtype) -> None:
    for kind in ("1", "ties", "masked"):
        z = logits_of(kind, 5, size, dtype)
        for count in (1, 5, 40):
            count = min(count, size)
            values, places = largest(z, count)
            assert torch.equal(values, z.topk(count).values)
            assert torch.equal(values, z.gather(1, places))
            assert all(len(set(row)) == count for row in places.tolist())


@pytest.mark.parametrize("threads", [1, 2])
def test_all_equals_of_the_last_come_with_it(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        z = torch.zeros(2, 40_000)
        z[0, :3] = 2.0
        z[1, 100:160] = 1.0
        for k in (2, 5, torch.tensor([[2], [5]])):
            found = largest_with_equals(z, k, 40_000)
            assert found is not None
            values, places = found
            assert largest_with_equals(z, 5, 100) is None  # far too many zeros
            for row, equal in ((0, z[0] == 2), (1, z[1] == 1)):
                assert set(equal.nonzero().flatten().tolist()) <= set(places[row].tolist())
            assert torch.equal(values, z.gather(1, places))
        masked = torch.full((1, 40_000), -INF)
        masked[0, 7] = 0.0
        found = largest_with_equals(masked, 5, 5)
        assert found is not None
        assert found[0].shape == (1, 6)  # what is ruled out is no equal that has to come along
    finally:
        torch.set_num_threads(before)


# Laws


@pytest.mark.parametrize(
    "dials",
    [{}, {"top_k": 30}, {"top_k": 30, "top_p": 0.8, "min_p": 0.02}, {"min_p": 0.02}],
    ids=str,
)
@pytest.mark.parametrize("size", [3000, 40_000])
def test_draws_of_large_vocabularies_have_the_law_of_the_definitions(
    size: int, dials: dict[str, Any]
) -> None:
    z = 4 * torch.randn(1, size, generator=generator(size))
    law = kept(z, Settings.of(z, 0.8, in_order(dials))).double().softmax(-1)[0]
    g = generator(1)
    times = 4000
    drawn = torch.cat(
        [
            sample(z.expand(50, -1), temperature=0.8, **dials, generator=g)
            for _ in range(times // 50)
        ]
    )
    assert bool((law[drawn] > 0).all())
    often = law * times >= 5
    seen = drawn.bincount(minlength=size).double()
    counts = torch.cat([seen[often], seen[~often].sum().reshape(1)])
    due = torch.cat([law[often], law[~often].sum().reshape(1)]) * times
    if due[-1] < 5:
        counts, due = counts[:-1], due[:-1] * counts[:-1].sum() / due[:-1].sum()
    assert scipy.stats.chisquare(counts, due * counts.sum() / due.sum()).pvalue > FALSE_ALARM


@pytest.mark.parametrize("dials", [{}, {"top_p": 0.6}, {"top_k": 40, "top_p": 0.9}, {"min_p": 0.1}])
@pytest.mark.parametrize("size", [1500, 40_000])
def test_a_row_draws_the_same_in_any_batch_and_with_any_number_of_threads(
    size: int, dials: dict[str, Any]
) -> None:
    z = 3 * torch.randn(20, size, generator=generator(size))
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            own = [generator(i) for i in range(20)]
            found.append(sample(z, **dials, generator=own))
            alone = [sample(row, **dials, generator=generator(i)) for i, row in enumerate(z)]
            found.append(torch.stack(alone))
            found.append(sample(z, **dials, generator=generator(5)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[3])
    assert torch.equal(found[1], found[4])
    assert torch.equal(found[2], found[5])


def test_rows_that_keep_few_and_rows_that_keep_all_are_drawn_together() -> None:
    z = 2 * torch.randn(6, 5000, generator=generator(3))
    k = torch.tensor([1, 5000, 3, 4000, 1, 5000])
    temperature = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    for seed in range(20):
        own = [generator(seed + i) for i in range(6)]
        drawn = sample(z, temperature=temperature, top_k=k, generator=own)
        assert torch.equal(drawn[[0, 4, 5]], z[[0, 4, 5]].argmax(-1))
        assert drawn[2] in z[2].topk(3).indices
        for row in (1, 3):
            alone = sample(z[row], top_k=int(k[row]), generator=generator(seed + row))
            assert drawn[row] == alone


def test_the_first_of_equals_is_taken_at_zero_behind_a_top_k() -> None:
    z = torch.zeros(2, 5000)
    z[:, [17, 40, 4000]] = 1.0
    assert sample(z, temperature=0, top_k=2).tolist() == [17, 17]
    assert sample(z, temperature=torch.tensor([0.0, 0.0]), top_k=2).tolist() == [17, 17]


def test_rows_of_equals_behind_a_top_k_are_all_kept() -> None:
    z = torch.zeros(3, 5000)
    z[1, 7] = 1.0
    drawn = torch.cat(
        [sample(z, top_k=2, generator=generator(seed)).unsqueeze(0) for seed in range(200)]
    )
    assert (drawn[:, 0] > 2500).float().mean() > 0.3
    assert len(drawn[:, 2].unique()) > 150


@pytest.mark.parametrize("dials", [{}, {"top_p": 0.9}, {"min_p": 0.01}, {"top_k": 40}], ids=str)
@pytest.mark.parametrize("size", [200, 5000, 40_000])
def test_a_row_draws_the_same_however_its_numbers_lie(size: int, dials: dict[str, Any]) -> None:
    z = 3 * torch.randn(6, size, generator=generator(size))
    across = z.T.contiguous().T
    for seed in range(5):
        expected = sample(z, **dials, generator=generator(seed))
        assert torch.equal(sample(across, **dials, generator=generator(seed)), expected)


def test_sums_are_those_of_a_row_that_lies_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(draw_rows)
    monkeypatch.setattr(rows, "draw_rows", spy)
    z = torch.randn(6, 5000, generator=generator())
    sample(z.T.contiguous().T)
    assert spy.seen
    assert all(weights.stride(-1) == 1 for (weights, _), _ in spy.seen)


@pytest.mark.parametrize("dials", [{}, {"top_p": 0.9}, {"min_p": 0.1}, {"top_k": 5}], ids=str)
@pytest.mark.parametrize("size", [10, 2000, 40_000])
def test_a_temperature_that_is_learned_is_taken_as_a_number(
    size: int, dials: dict[str, Any]
) -> None:
    z = torch.randn(3, size, generator=generator())
    for shape in ((), (3,)):
        learned = torch.full(shape, 0.7, requires_grad=True)
        drawn = sample(z, temperature=learned, **dials, generator=generator())
        expected = sample(z, temperature=learned.detach(), **dials, generator=generator())
        assert torch.equal(drawn, expected)


@pytest.mark.parametrize("dials", [{}, {"top_p": 0.9}, {"top_k": 40}], ids=str)
def test_nothing_is_drawn_where_a_row_is_refused(dials: dict[str, Any]) -> None:
    several: list[tuple[Tensor, dict[str, Any]]] = [
        (torch.randn(8, 50_000), dials),
        (torch.randn(4, 2000), {**dials, "top_k": torch.tensor([5, 5, 5, 2000])}),
    ]
    for z, settings in several:
        z[-1, 7] = float("nan")
        g, before = generator(), generator().get_state()
        with pytest.raises(ValueError, match="hold nan"):
            sample(z, **settings, generator=g)
        assert torch.equal(g.get_state(), before)


@pytest.mark.parametrize("dials", [{}, {"top_p": 0.9}, {"top_k": 40, "top_p": 0.9, "min_p": 0.05}])
@pytest.mark.parametrize("bad", [float("nan"), INF])
@pytest.mark.parametrize("size", [50, 5000, 40_000])
def test_logits_that_have_no_softmax_are_refused_by_every_way(
    size: int, bad: float, dials: dict[str, Any]
) -> None:
    z = torch.randn(3, size, generator=generator())
    for place in (0, size // 2, size - 1):
        wrong = z.clone()
        wrong[2, place] = bad
        with pytest.raises(ValueError, match="logits of a row hold"):
            sample(wrong, **dials)
    with pytest.raises(ValueError, match="logits of a row are all -inf"):
        sample(torch.full((2, size), -INF), **dials)


def test_a_batch_takes_less_memory_than_its_logits() -> None:
    """What is held besides the logits, at any time, for each kind of draw."""
    z = torch.randn(64, 50_000, generator=generator())
    both: list[dict[str, Any]] = [
        {},
        {"top_p": 0.9},
        {"top_p": 0.9, "min_p": 0.01},
        {"top_k": 50, "top_p": 0.9},
    ]
    for dials in both:
        sample(z[:1], **dials)
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profile:
            sample(z, temperature=0.8, **dials, generator=generator())
        held = most = 0
        for event in profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                held += event.nbytes()
                most = max(most, held)
        assert 0 < most < z.nbytes, dials


def test_the_plain_sampler_draws_from_the_same_tokens() -> None:
    z = 3 * torch.randn(40, 2000, generator=generator(8))
    dials: dict[str, Any] = {"top_k": 12, "top_p": 0.8, "min_p": 0.05}
    stay = defined(z, 0.7, dials)
    for draw in (sample, plain_sample):
        for seed in range(5):
            drawn = draw(z, temperature=0.7, **dials, generator=generator(seed))
            assert bool(stay.gather(1, drawn.unsqueeze(1)).all())


def test_a_row_of_one_block_is_searched_once() -> None:
    weights = torch.tensor([[0.0, 3.0, 0.0, 1.0]]).repeat(2, 200)
    own = [generator(4), generator(4)]
    drawn = draw_rows(weights, own)
    u = torch.rand((), dtype=torch.float64, generator=generator(4))
    sums = weights[0].double().cumsum(0)
    assert drawn.tolist() == [int(torch.searchsorted(sums, u * sums[-1], right=True))] * 2
