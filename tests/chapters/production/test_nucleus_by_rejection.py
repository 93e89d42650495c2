"""The theorem `nucleus-by-rejection`: Draw first, ask afterwards."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import pytest
import torch
import transformers as hf
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from scipy.stats import chisquare, norm
from torch import Tensor

from omnivault import inverse_cdf
from omnivault.sampling import sample
from omnivault.sampling.nucleus import inside
from tests.chapters.production.common_drafts import (
    FALSE_ALARM,
    Choose,
    Law,
    Path,
    Shares,
    every_run,
    seeded,
    single_and_double,
)
from tests.support.strategies import (
    SINGLE_DOUBLE,
    assert_within,
    double,
    exactly,
    number,
    shares,
    total,
)


def size_of_nucleus(p: Sequence[Fraction], rho: Fraction) -> int:
    """The smallest n whose first n tokens have the mass rho."""
    return next(n for n in range(1, len(p) + 1) if total(p[:n]) >= rho)


def rejections(p: Sequence[Fraction], rho: Fraction) -> Law:
    """The law of all tokens drawn, in order, by their ranks; the last one is accepted."""
    law: Law = {}
    for k, own in enumerate(p, 1):
        chance = own / total(p)
        if total(p[: k - 1]) < rho:
            law[k,] = chance
        else:  # p is not renormalized, so the nucleus stays what it was
            law |= {(k, *path): chance * x for path, x in rejections(p[: k - 1], rho).items()}
    return law


def masses(p: Sequence[Fraction]) -> Iterator[Fraction]:
    """One mass that is reached exactly and one that is not, for each nucleus there is."""
    for n in range(len(p)):
        yield total(p[: n + 1])
        yield (total(p[:n]) + total(p[: n + 1])) / 2


def nuclei(p: Sequence[Fraction]) -> Iterator[tuple[Fraction, int, Law]]:
    """A mass, the size of its nucleus, and the law of the tokens drawn for it."""
    for rho in masses(p):
        yield rho, size_of_nucleus(p, rho), rejections(p, rho)


ranked = st.lists(st.integers(1, 20) | st.just(10**6), min_size=1, max_size=6).map(
    lambda weights: shares(*sorted(weights, reverse=True))
)


@pytest.mark.statement("nucleus-by-rejection", "exact")
@given(ranked)
def test_what_is_left_of_the_draws_is_the_nucleus_renormalized(p: Shares) -> None:
    for rho, n, law in nuclei(p):
        assert sum(law.values()) == 1
        assert max(len(path) for path in law) - 1 == len(p) - n
        assert all(a > b for path in law for a, b in itertools.pairwise(path))
        for k, own in enumerate(p, 1):
            chance = total(x for path, x in law.items() if path[-1] == k)
            assert chance == (own / total(p[:n]) if k <= n else 0)
            assert (k > n) == (total(p[: k - 1]) >= rho)


@pytest.mark.statement("nucleus-by-rejection", "exact")
@given(ranked)
def test_rejections_are_independent_and_few(p: Shares) -> None:
    for rho, n, law in nuclei(p):
        chance = {k: p[k - 1] / total(p[:k]) for k in range(n + 1, len(p) + 1)}
        together: Law = defaultdict(Fraction)
        for path, x in law.items():
            together[frozenset(path[:-1])] += x
        for kept in itertools.product([False, True], repeat=len(chance)):
            rejected = frozenset(k for k, keep in zip(chance, kept, strict=True) if not keep)
            factors = [x if k in rejected else 1 - x for k, x in chance.items()]
            assert together[rejected] == math.prod(factors, start=Fraction(1))
        mean = total((len(path) - 1) * x for path, x in law.items())
        assert mean == total(chance.values())
        reached = mp.log(1 / number(total(p[:n])))
        assert number(mean) <= reached <= mp.log(1 / number(rho))
        assert mean == 0 or number(mean) < reached


@pytest.mark.statement("nucleus-by-rejection", "exact")
def test_many_small_tokens_come_near_the_bound() -> None:
    for k, n in ((300, 150), (300, 10), (200, 199)):
        p = shares(*[1] * k)
        mean = number(total(p[i] / total(p[: i + 1]) for i in range(n, k)))
        assert_within(mean, mp.log(mp.mpf(k) / n), mp.mpf(1) / (2 * n))


def drawn_by_sample(logits: Tensor, **options: Any) -> tuple[Law, list[Fraction]]:
    """The law of all tokens that ``sample`` draws for a row, and the weights of its first draw."""
    weights: list[Fraction] = []

    def run(choose: Choose) -> Path:
        path: list[int] = []

        def draw(rows: Tensor, _: object) -> Tensor:
            [row] = rows
            assert len(path) <= len(row), "a token has come twice"
            if not path:
                weights[:] = exactly(row)
            path.append(choose(exactly(row)))
            return torch.tensor(path[-1:])

        patch.setattr("omnivault.sampling.rows.draw_rows", draw)
        result = sample(logits, **options)
        assert result.shape == ()
        assert int(result) == path[-1]
        return tuple(path)

    with pytest.MonkeyPatch.context() as patch:
        return every_run(run), weights


def check_every_path(logits: Tensor, place: int, middle: bool, **options: Any) -> int:
    """Compare ``sample`` with the exact paths for one nucleus; return the size of that."""
    _, weights = drawn_by_sample(logits, **options)
    z = logits.tolist()
    order = sorted((i for i, w in enumerate(weights) if w > 0), key=lambda i: (-z[i], -i))
    w = [weights[i] for i in order]
    p = [x / total(w) for x in w]
    rho = list(masses(p))[2 * min(place, len(p) - 1) + middle]
    law, _ = drawn_by_sample(logits, top_p=float(rho), **options)
    rank = {i: k for k, i in enumerate(order, 1)}
    assert {tuple(rank[i] for i in path): x for path, x in law.items()} == rejections(p, rho)
    return size_of_nucleus(p, rho)


@pytest.mark.statement("nucleus-by-rejection", "exact")
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=6),
    st.integers(0, 5),
    st.sampled_from(SINGLE_DOUBLE),
    st.sampled_from([0.5, 1.0, 3.0]),
)
def test_sample_takes_every_path_with_its_probability(
    weights: list[int], place: int, dtype: torch.dtype, temperature: float
) -> None:
    z = temperature * double(weights).log().to(dtype)
    check_every_path(z, place, middle=True, temperature=temperature)


@pytest.mark.statement("nucleus-by-rejection", "exact")
@single_and_double
def test_sample_where_ties_and_extremes_decide(dtype: torch.dtype) -> None:
    inf = math.inf
    for k in (1, 2, 4, 8):  # the mass reached exactly, by some of K equals, and by all
        for place in range(k):
            assert check_every_path(torch.zeros(k, dtype=dtype), place, middle=False) == place + 1
    tied = torch.tensor([0.0, 1.0, -inf, 1.0, 0.0, -inf, 1.0], dtype=dtype)
    assert [check_every_path(tied, n, middle=True) for n in range(9)] == [1, 2, 3, 4, 5, 5, 5, 5, 5]
    steps = torch.tensor([1.0, 3.0, 2.0], dtype=dtype)
    for temperature, sizes in ((1e-3, [1, 1, 1]), (1e3, [1, 2, 3]), (1e30, [1, 2, 3])):
        found = [check_every_path(steps, n, True, temperature=temperature) for n in range(3)]
        assert found == sizes


@pytest.mark.statement("nucleus-by-rejection", "transformers")
@single_and_double
def test_the_question_is_answered_as_transformers_does(dtype: torch.dtype) -> None:
    rows = 3 * torch.randn(40, 50, generator=seeded(1), dtype=dtype)
    for p in (0.01, 0.3, 0.7, 0.95, 0.999):
        kept = hf.TopPLogitsWarper(p)(None, rows).isfinite()
        z = (rows - rows.amax(-1, keepdim=True)).repeat_interleave(50, 0)
        found = inside(z, z.exp(), torch.arange(50).repeat(40), p)
        assert torch.equal(found.reshape(40, 50), kept)


@pytest.mark.statement("nucleus-by-rejection", "statistical", false_alarm=0.004)
@single_and_double
def test_sample_draws_and_rejects_as_often_as_it_should(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    draw = inverse_cdf.draw_rows

    def counted(rows: Tensor, generator: Any) -> Tensor:
        counts.append(len(rows))
        return draw(rows, generator)

    monkeypatch.setattr("omnivault.sampling.rows.draw_rows", counted)
    weights = [1, 5, 2, 3, 5, 1, 3]
    order = sorted(range(7), key=lambda i: (-weights[i], -i))
    p = shares(*(weights[i] for i in order))
    n = size_of_nucleus(p, Fraction(3, 5))
    rows = double(weights).log().to(dtype).expand(20_000, 7)
    seen = sample(rows, top_p=0.6, generator=seeded(2)).bincount(minlength=7)[order]
    assert not seen[n:].any()
    expected = [20_000 * float(x / total(p[:n])) for x in p[:n]]
    assert chisquare(seen[:n], expected).pvalue > FALSE_ALARM
    out = [float(p[k] / total(p[: k + 1])) for k in range(n, 7)]
    deviation = math.sqrt(20_000 * sum(x * (1 - x) for x in out))
    distance = abs(sum(counts) - 20_000 * (1 + sum(out))) / deviation
    assert 2 * norm.sf(distance) > FALSE_ALARM
