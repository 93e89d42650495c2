"""Checks of tokens drawn first and asked afterwards: the nucleus, and drafts of another model."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import pytest
import torch
import transformers as hf
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from scipy.stats import chisquare, norm
from strategies import SINGLE_DOUBLE, assert_within, double, events, exactly, number, shares, total
from torch import Tensor
from transformers.generation.utils import _speculative_sampling

from omnivault import inverse_cdf, sampling, speculative
from omnivault.sampling import sample
from omnivault.speculative import accept_or_redraw, speculative_sequence

FALSE_ALARM = 1e-3  # of another seed; with the one given a test passes for ever or fails for ever

Path = tuple[int, ...]
Law = dict[Any, Fraction]
Shares = tuple[Fraction, ...]
Choose = Callable[[Iterable[Any]], int]

single_and_double = pytest.mark.parametrize("dtype", SINGLE_DOUBLE, ids=str)
pytestmark = pytest.mark.usefixtures("one_thread")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def every_run(run: Callable[[Choose], Any]) -> Law:
    """The law of what ``run`` returns, from all runs; ``choose(weights)`` makes its choices."""
    law: Law = defaultdict(Fraction)
    script: list[int] = []
    while True:
        taken: list[tuple[int, list[int], Fraction]] = []

        def choose(weights: Iterable[Any]) -> int:
            w = [Fraction(x) for x in weights]
            possible = [i for i, x in enumerate(w) if x > 0]
            at = script[len(taken)] if len(taken) < len(script) else 0  # noqa: B023
            taken.append((at, possible, w[possible[at]] / sum(w)))  # noqa: B023
            return possible[at]

        result = run(choose)
        law[result] += math.prod((chance for *_, chance in taken), start=Fraction(1))
        while taken and taken[-1][0] == len(taken[-1][1]) - 1:
            taken.pop()
        if not taken:
            return dict(law)
        script = [at for at, *_ in taken]
        script[-1] += 1


# The nucleus --------------------------------------------------------------------------------------


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

        patch.setattr(sampling, "_draw", draw)
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
        inside = sampling._in_nucleus(z, z.exp(), torch.arange(50).repeat(40), p)
        assert torch.equal(inside.reshape(40, 50), kept)


@pytest.mark.statement("nucleus-by-rejection", "statistical", false_alarm=0.004)
@single_and_double
def test_sample_draws_and_rejects_as_often_as_it_should(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    draw = inverse_cdf._draw

    def counted(rows: Tensor, generator: Any) -> Tensor:
        counts.append(len(rows))
        return draw(rows, generator)

    monkeypatch.setattr(sampling, "_draw", counted)
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


# A draw from another distribution -----------------------------------------------------------------


def distributions(k: int) -> st.SearchStrategy[Shares]:
    whole = st.lists(st.integers(0, 6), min_size=k, max_size=k)
    return whole.filter(any).map(lambda weights: shares(*weights))


pairs = st.integers(1, 4).flatmap(lambda k: st.tuples(distributions(k), distributions(k)))


def tables(k: int) -> st.SearchStrategy[list[list[int]]]:
    row = st.lists(st.integers(0, 9), min_size=k, max_size=k)
    return st.lists(row, min_size=k, max_size=k)


def variation(p: Shares, q: Shares) -> Fraction:
    """The total variation distance, as the largest difference of two probabilities."""
    return max(total(p[i] - q[i] for i in event) for event in events(len(p)))


def acceptance(p: Shares, q: Shares, x: int) -> Fraction:
    return min(Fraction(1), p[x] / q[x])


def leftover(p: Shares, q: Shares) -> Shares:
    """What a token is drawn from after a rejection."""
    rest = [max(Fraction(0), a - b) for a, b in zip(p, q, strict=True)]
    return tuple(x / total(rest) for x in rest)


def repaired(p: Shares, q: Shares) -> Law:
    """The law of the drafted token, of the token that comes out, and of the acceptance."""
    law: Law = {}
    for x, drafted in enumerate(q):
        if drafted == 0:
            continue
        keep = acceptance(p, q, x)
        law[x, x, True] = drafted * keep
        if keep < 1:
            assert variation(p, q) > 0
            law |= {(x, y, False): drafted * (1 - keep) * r for y, r in enumerate(leftover(p, q))}
    return law


@pytest.mark.statement("speculative-token", "exact")
@given(pairs)
def test_the_repaired_token_has_the_other_distribution(pq: tuple[Shares, Shares]) -> None:
    p, q = pq
    law = repaired(p, q)
    assert [total(v for (_, y, _), v in law.items() if y == i) for i in range(len(p))] == [*p]
    accepted = total(v for (*_, kept), v in law.items() if kept)
    assert accepted == 1 - variation(p, q) == total(map(min, p, q))
    # A rejected token never comes back, so tokens are equal exactly if one is accepted.
    assert total(v for (x, y, _), v in law.items() if x == y) == accepted


@pytest.mark.statement("speculative-token", "exact")
@given(st.integers(1, 4).flatmap(tables).filter(lambda table: any(map(any, table))))
def test_no_joint_distribution_keeps_more(table: list[list[int]]) -> None:
    every = sum(map(sum, table))
    q = shares(*map(sum, table))
    p = shares(*map(sum, zip(*table, strict=True)))
    equal = Fraction(sum(table[i][i] for i in range(len(table))), every)
    assert equal <= 1 - variation(p, q)


def check_all_numbers(weights: Sequence[int], draft: Sequence[int], dtype: torch.dtype) -> None:
    """Feed ``accept_or_redraw`` with all uniform numbers that matter; both sums are one number."""
    p, q = shares(*weights), shares(*draft)
    fine = math.lcm(*(x for x in draft if x))
    rest = sum(max(0, a - b) for a, b in zip(weights, draft, strict=True)) or 1
    grid = list(itertools.product((x for x in range(len(q)) if q[x]), range(fine), range(rest)))
    x, accepts, redraws = torch.tensor(grid).T
    numbers = iter(
        [
            (accepts + 0.5).double() / fine,
            ((redraws + 0.5).double() / rest).unsqueeze(-1).expand(-1, 2),
        ]
    )
    wide = [torch.tensor([float(v) for v in row], dtype=dtype).expand(len(x), -1) for row in (p, q)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", lambda *_, **__: next(numbers))
        tokens, accepted = accept_or_redraw(wide[0], wide[1], x)
    law: Law = defaultdict(Fraction)
    for drafted, token, kept in zip(x.tolist(), tokens.tolist(), accepted.tolist(), strict=True):
        law[drafted, token, kept] += q[drafted] / (fine * rest)
    assert law == {key: chance for key, chance in repaired(p, q).items() if chance}


@st.composite
def weights_of_one_sum(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    a, b = (draw(st.lists(st.integers(0, 4), min_size=4, max_size=4).filter(any)) for _ in range(2))
    # One more token takes what is missing.
    size = max(sum(a), sum(b))
    return [*a, size - sum(a)], [*b, size - sum(b)]


@pytest.mark.statement("speculative-token", "exact")
@given(weights_of_one_sum(), st.sampled_from(SINGLE_DOUBLE))
def test_accept_or_redraw_makes_every_choice_as_often_as_it_should(
    pq: tuple[list[int], list[int]], dtype: torch.dtype
) -> None:
    check_all_numbers(*pq, dtype)


@pytest.mark.statement("speculative-token", "exact")
@single_and_double
def test_accept_or_redraw_at_the_edges(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    check_all_numbers([1], [1], dtype)
    for w, v in (([1, 0], [0, 1]), ([2, 3], [2, 3]), ([4, 0], [3, 1]), ([0, 3, 2], [2, 3, 0])):
        check_all_numbers(w, v, dtype)
    # The uniform numbers are k / n from 0 on: so many of them accept, and none a token that the
    # target rules out. In eighths nothing is rounded.
    for a, b in itertools.product(range(9), (1, 2, 4, 8)):
        p, q = (torch.tensor([x / 8, 1 - x / 8], dtype=dtype).expand(64, 2) for x in (a, b))
        u = torch.arange(64).double() / 64
        numbers = iter([u, torch.stack([u, u], -1)])
        with monkeypatch.context() as patch:
            patch.setattr(torch, "rand", lambda *_, numbers=numbers, **__: next(numbers))
            _, accepted = accept_or_redraw(p, q, torch.zeros(64, dtype=torch.int64))
        assert Fraction(int(accepted.sum()), 64) == min(Fraction(1), Fraction(a, b))


@pytest.mark.statement("speculative-token", "statistical", false_alarm=0.002)
@single_and_double
def test_repaired_draws_count_as_they_should(dtype: torch.dtype) -> None:
    p, q = shares(5, 1, 0, 2, 2), shares(1, 3, 3, 1, 2)
    rows = [torch.tensor([float(v) for v in row], dtype=dtype).expand(20_000, 5) for row in (p, q)]
    x = torch.multinomial(rows[1].contiguous(), 1, generator=seeded(3)).squeeze(-1)
    tokens, accepted = accept_or_redraw(rows[0], rows[1], x, generator=seeded(4))
    law = {key: chance for key, chance in repaired(p, q).items() if chance}
    found = list(zip(x.tolist(), tokens.tolist(), accepted.tolist(), strict=True))
    assert set(found) <= set(law)
    counts = [found.count(key) for key in law]
    assert chisquare(counts, [20_000 * float(v) for v in law.values()]).pvalue > FALSE_ALARM


# Texts --------------------------------------------------------------------------------------------

Model = Callable[[Path], Shares]


def after_a_round(target: Model, draft: Model, text: Path, ahead: int, end: int) -> Law:
    """The law of the text that one round makes of a text, as the algorithm goes."""
    law: Law = defaultdict(Fraction)
    proposed: dict[Path, Fraction] = {(): Fraction(1)}
    for _ in range(min(ahead, end - len(text))):
        proposed = {
            (*new, x): chance * q
            for new, chance in proposed.items()
            for x, q in enumerate(draft((*text, *new)))
            if q
        }
    for new, chance in proposed.items():
        reached = chance
        for n, x in enumerate(new):
            before = (*text, *new[:n])
            p, q = target(before), draft(before)
            keep = acceptance(p, q, x)
            if keep < 1:
                for y, r in enumerate(leftover(p, q)):
                    law[*before, y] += reached * (1 - keep) * r
            reached *= keep
        whole = (*text, *new)
        if len(whole) == end:
            law[whole] += reached
        elif reached:
            for y, r in enumerate(target(whole)):
                law[*whole, y] += reached * r
    return {new: chance for new, chance in law.items() if chance}


def written(target: Model, draft: Model, ahead: int, end: int) -> Law:
    """The law of the texts of ``end`` tokens."""
    texts: Law = {(): Fraction(1)}
    while any(len(text) < end for text in texts):
        after: Law = defaultdict(Fraction)
        for text, chance in texts.items():
            done = len(text) == end
            one = {text: Fraction(1)} if done else after_a_round(target, draft, text, ahead, end)
            for new, x in one.items():
                after[new] += chance * x
        texts = after
    return texts


def texts_of(target: Model, k: int, end: int) -> Law:
    """The law of the texts that the target gives, one token after the other."""
    law = {
        text: math.prod((target(text[:n])[x] for n, x in enumerate(text)), start=Fraction(1))
        for text in itertools.product(range(k), repeat=end)
    }
    return {text: chance for text, chance in law.items() if chance}


def from_table(k: int, rows: Sequence[Shares]) -> Model:
    """A model whose next token depends on the whole text before it."""

    def model(text: Path) -> Shares:
        shorter = sum(k**n for n in range(len(text)))
        place: int = shorter + sum(x * k**n for n, x in enumerate(text))
        return rows[place % len(rows)]

    return model


@st.composite
def two_models(draw: st.DrawFn) -> tuple[int, Model, Model]:
    k = draw(st.integers(1, 3))
    tables = [draw(st.lists(distributions(k), min_size=1, max_size=7)) for _ in range(2)]
    return k, from_table(k, tables[0]), from_table(k, tables[1])


@pytest.mark.statement("speculative-text", "exact")
@given(two_models(), st.integers(1, 4), st.integers(1, 3))
def test_texts_have_the_law_of_the_target_whatever_the_draft(
    models: tuple[int, Model, Model], ahead: int, end: int
) -> None:
    k, target, draft = models
    assert written(target, draft, ahead, end) == texts_of(target, k, end)


def series(a: Fraction, ahead: int) -> Fraction:
    """Tokens of one round, on average."""
    return Fraction(ahead + 1) if a == 1 else (1 - a ** (ahead + 1)) / (1 - a)


@pytest.mark.statement("speculative-text", "exact")
@given(pairs, st.integers(1, 4), st.lists(st.booleans(), min_size=1, max_size=5))
def test_tokens_of_a_round_are_a_geometric_series(
    pq: tuple[Shares, Shares], ahead: int, flips: list[bool]
) -> None:
    p, q = pq
    ahead = ahead if len(p) < 4 else min(ahead, 2)

    # Other distributions after other texts, the same acceptance.
    def of(row: Shares) -> Model:
        return from_table(len(row), [row[::-1] if flip else row for flip in flips])

    a = 1 - variation(p, q)
    law = after_a_round(of(p), of(q), (), ahead, ahead + 1)
    assert total(len(new) * chance for new, chance in law.items()) == series(a, ahead)
    # The end of the text takes the additional token away.
    cut = after_a_round(of(p), of(q), (), ahead, ahead)
    assert total(len(new) * chance for new, chance in cut.items()) == series(a, ahead) - a**ahead


def logits(row: Sequence[Fraction], temperature: float = 1.0) -> Tensor:
    return temperature * double([float(x) for x in row]).log()


def small_fractions(weights: Tensor) -> list[Fraction]:
    """Shares as they were before softmax rounded them."""
    found = [Fraction(w).limit_denominator(100) for w in (weights / weights.sum()).tolist()]
    return found if any(found) else [Fraction(1)] * len(found)


def texts_by_omnivault(
    target: Model, draft: Model, ahead: int, end: int, temperature: float
) -> Law:
    """The law of texts and of the length of the first round, from all runs."""
    prompt = 2  # tokens that are read, too

    def rows(model: Model, ids: Tensor) -> Tensor:
        text = ids.tolist()[prompt:]
        ends = [text[:n] for n in range(len(text) + 1)]
        first = logits(model(()), temperature).expand(prompt - 1, -1)
        return torch.cat([first, *(logits(model(tuple(t)), temperature)[None] for t in ends)])

    def run(choose: Choose) -> tuple[Path, int]:
        lengths: list[int] = []

        def drafted(ids: Tensor) -> Tensor:
            lengths.append(len(ids) - prompt)
            return rows(draft, ids)

        def uniform(*_: object, **__: object) -> Tensor:
            return double((choose([1] * 4) + 0.5) / 4)

        def inverse(weights: Tensor, **_: object) -> Tensor:
            return torch.tensor(choose(small_fractions(weights)))

        patch.setattr(torch, "rand", uniform)
        patch.setattr(speculative, "inverse_cdf", inverse)
        text = speculative_sequence(
            lambda ids: rows(target, ids),
            drafted,
            torch.zeros(prompt, dtype=torch.int64),
            max_new_tokens=end,
            lookahead=ahead,
            temperature=temperature,
        )
        first = lengths[ahead] if len(lengths) > ahead else end
        return tuple(text.ids.tolist()[prompt:]), first

    with pytest.MonkeyPatch.context() as patch:
        return every_run(run)


P2, Q2 = (shares(1, 3), shares(4, 0), shares(2, 2), shares(0, 4)), (shares(2, 2), shares(4, 0))
P3, Q3 = (shares(1, 0, 3), shares(2, 1, 1), shares(0, 2, 2)), (shares(2, 1, 1), shares(0, 2, 2))


@pytest.mark.statement("speculative-text", "exact")
@pytest.mark.parametrize(
    ("ps", "qs", "ahead", "end", "temperature"),
    [(P2, Q2, 1, 3, 1.0), (P2, Q2, 2, 3, 2.0), (P3, Q3, 1, 2, 0.5), (P3, Q3, 2, 2, 1.0)],
)
def test_omnivault_writes_every_text_as_often_as_the_target(
    ps: Sequence[Shares], qs: Sequence[Shares], ahead: int, end: int, temperature: float
) -> None:
    k = len(ps[0])
    target, draft = from_table(k, ps), from_table(k, qs)
    law: Law = defaultdict(Fraction)
    for (text, _), chance in texts_by_omnivault(target, draft, ahead, end, temperature).items():
        law[text] += chance
    assert law == texts_of(target, k, end)


@pytest.mark.statement("speculative-text", "exact")
@pytest.mark.parametrize(
    ("p", "q"),
    [
        ((1, 3), (2, 2)),
        ((4, 0), (2, 2)),
        ((4, 0), (0, 4)),
        ((2, 2), (2, 2)),
        ((0, 1, 3), (2, 1, 1)),
    ],
)
def test_rounds_of_omnivault_have_that_length(p: Path, q: Path) -> None:
    target, draft = (from_table(len(row), [shares(*row)]) for row in (p, q))
    a = 1 - variation(shares(*p), shares(*q))
    for ahead in (1, 2) if len(p) == 2 else (1,):
        law = texts_by_omnivault(target, draft, ahead, ahead + 1, 1.0)
        assert total(first * chance for (_, first), chance in law.items()) == series(a, ahead)


@pytest.mark.statement("speculative-token", "exact", "transformers")
@pytest.mark.statement("speculative-text", "exact", "transformers")
@pytest.mark.parametrize(
    ("p", "q"), [((1, 3), (2, 2)), ((4, 0), (2, 2)), ((2, 2), (2, 2)), ((1, 0, 3), (2, 1, 1))]
)
@pytest.mark.parametrize("ahead", [1, 2])
def test_a_round_of_transformers_is_the_same(p: Path, q: Path, ahead: int) -> None:
    target, draft = shares(*p), shares(*q)

    def run(choose: Choose) -> Path:
        ids = torch.tensor([[choose(draft) for _ in range(ahead)]])

        def uniform(ratio: Tensor) -> Tensor:
            return double([(choose([1] * 4) + 0.5) / 4 for _ in range(ratio.numel())])

        def draw(weights: Tensor, **_: object) -> Tensor:
            return torch.tensor([[choose(small_fractions(weights[0]))]])

        patch.setattr(torch, "rand_like", uniform)
        patch.setattr(torch, "multinomial", draw)
        tokens, _ = _speculative_sampling(
            ids,
            logits(draft).expand(1, ahead, -1),
            ahead,
            logits(target).expand(1, ahead + 1, -1),
        )
        return tuple(tokens[0].tolist())

    with pytest.MonkeyPatch.context() as patch:
        law = every_run(run)
    first = [total(v for text, v in law.items() if text[0] == i) for i in range(len(p))]
    assert first == [*target]
    same = after_a_round(lambda _: target, lambda _: draft, (), ahead, ahead + 1)
    assert law == same
    assert total(len(text) * v for text, v in law.items()) == series(
        1 - variation(target, draft), ahead
    )


@pytest.mark.statement("speculative-text", "statistical", false_alarm=0.002)
@pytest.mark.parametrize("ahead", [1, 3])
def test_texts_of_omnivault_count_as_they_should(ahead: int) -> None:
    # The next token depends on the last one.
    p = torch.tensor([[1.0, 2.0, 3.0], [3.0, 1.0, 0.5], [1.0, 1.0, 6.0]])
    q = torch.tensor([[1.0, 1.0, 1.0], [0.5, 4.0, 1.0], [2.0, 1.0, 1.0]])
    generator, n = seeded(5), 1000
    seen = [
        tuple(
            speculative_sequence(
                lambda ids: p[ids].log(),
                lambda ids: q[ids].log(),
                torch.tensor([0]),
                max_new_tokens=2,
                lookahead=ahead,
                generator=generator,
            ).ids.tolist()
        )
        for _ in range(n)
    ]
    p /= p.sum(-1, keepdim=True)
    texts = list(itertools.product(range(3), repeat=2))
    expected = [n * float(p[0, x] * p[x, y]) for x, y in texts]
    counts = [seen.count((0, x, y)) for x, y in texts]
    assert sum(counts) == n
    assert chisquare(counts, double(expected) / sum(expected) * n).pvalue > FALSE_ALARM
