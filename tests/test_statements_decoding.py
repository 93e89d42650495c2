from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from itertools import combinations, pairwise, product
from typing import Any

import pytest
import torch
import transformers as hf
from hypothesis import assume, given
from hypothesis import strategies as st
from mpmath import mp
from scipy.stats import chisquare
from strategies import (
    as_double,
    assert_within,
    events,
    exact_softmax,
    number,
    temperatures,
    total,
    unit,
    whole_rows,
)
from torch import Tensor

from omnivault.decoding import Beams, beam_search, greedy_search, sample_sequence
from omnivault.information import entropy, kl_divergence
from omnivault.sampling import apply_temperature, min_p, top_k, top_p, typical_p
from omnivault.softmax import softmax

FALSE_ALARM = 1e-3  # of another seed; with the one given a test passes for ever or fails for ever

pytestmark = pytest.mark.usefixtures("one_thread")
NOTHING = torch.zeros(0, dtype=torch.int64)
U = unit(torch.float64)
Text = tuple[int, ...]


def row(values: Sequence[Any]) -> Tensor:
    return torch.tensor([float(x) for x in values], dtype=torch.float64)


def shares(*weights: Any) -> list[Fraction]:
    return [Fraction(w) / sum(weights) for w in weights]


class Toy:
    """A model of exact conditionals; omnivault sees their logarithms, divided by T."""

    def __init__(self, k: int, conditionals: Callable[[Text], Sequence[Fraction]]) -> None:
        self.k, self.after, self.temperature, self.rows = k, cache(conditionals), 1.0, 0

    def __call__(self, ids: Tensor) -> Tensor:
        self.rows += len(ids)
        known = {y: row(self.after(y)).log() for y in set(map(tuple, ids.tolist()))}
        return torch.stack([known[tuple(y)] for y in ids.tolist()]) / self.temperature

    def probability(self, y: Sequence[int]) -> Fraction:
        return math.prod((self.after(tuple(y[:i]))[t] for i, t in enumerate(y)), start=Fraction(1))

    def texts(self, n: int) -> dict[Text, Fraction]:
        return {y: self.probability(y) for y in product(range(self.k), repeat=n)}

    def greedy(self, n: int) -> Text:
        return tuple(greedy_search(self, NOTHING, max_new_tokens=n).tolist())

    def beams(self, width: int, n: int) -> Beams:
        return beam_search(self, NOTHING, width=width, max_new_tokens=n)

    def best(self, width: int, n: int) -> Text:
        return tuple(self.beams(width, n).ids[0].tolist())


def chance(k: int, seed: int, low: int = 0, high: int = 10**6) -> Toy:
    def after(y: Text) -> list[Fraction]:
        source = random.Random(f"{seed} {y}")
        weights = [source.randint(low, high) for _ in range(k)]
        return shares(*weights) if any(weights) else shares(*[1] * k)

    return Toy(k, after)


def padded(k: int, *weights: float) -> list[Fraction]:
    return shares(*(Fraction(str(w)) for w in weights), *[0] * (k - len(weights)))


def two_steps(k: int) -> Toy:
    """Token 0 with .6 or 1 with .4; after 0 k equally likely ones, after 1 a certain one."""
    v = max(k, 2)
    return Toy(v, lambda y: padded(v, *([1] if y[0] else [1] * k)) if y else padded(v, 0.6, 0.4))


# sequence-measure ---------------------------------------------------------------------------------


@pytest.mark.statement("sequence-measure", "exact")
@pytest.mark.parametrize(("k", "n"), [(1, 3), (2, 1), (2, 4), (3, 3)])
def test_products_of_conditionals_are_a_measure_and_its_beginnings(k: int, n: int) -> None:
    for model in (chance(k, seed, 0, 2) for seed in range(5)):
        texts = model.texts(n)
        assert len(texts) == k**n
        assert min(texts.values()) >= 0
        assert sum(texts.values()) == 1
        for m in range(n + 1):
            for start, p in model.texts(m).items():
                assert sum(q for y, q in texts.items() if y[:m] == start) == p
        found = model.beams(k**n, n)
        seen = {tuple(y): q for y, q in zip(found.ids.tolist(), found.log_probs.exp(), strict=True)}
        possible = {y: q for y, q in texts.items() if q}
        assert seen.keys() == possible.keys()
        # Of each step log, to 4 ulp, and log_softmax of a few shares, then the sums and exp.
        assert_within([seen[y] for y in possible], list(possible.values()), rel=64 * n * U)


@pytest.mark.statement("sequence-measure", "statistical", false_alarm=1e-3)
def test_drawing_token_by_token_draws_a_text_from_it() -> None:
    model, n = chance(3, 1, 0, 4), 20_000
    drawn = sample_sequence(
        model,
        NOTHING.expand(n, 0),
        max_new_tokens=3,
        generator=torch.Generator().manual_seed(1),
    )
    seen = (drawn * torch.tensor([9, 3, 1])).sum(-1).bincount(minlength=27)
    expected = as_double(list(model.texts(3).values())) * n
    assert seen[expected == 0].sum() == 0
    assert (expected == 0).any()
    possible = expected > 0
    assert chisquare(seen[possible], expected[possible]).pvalue > FALSE_ALARM


# greedy-ratio -------------------------------------------------------------------------------------


@pytest.mark.statement("greedy-ratio", "exact")
@pytest.mark.parametrize(("k", "n"), [(1, 2), (2, 1), (2, 5), (5, 3)])
def test_greedys_text_has_at_least_the_probability_of_a_uniform_one(k: int, n: int) -> None:
    bound = Fraction(1, k**n)
    for seed in range(10):
        model = chance(k, seed)
        assert model.probability(model.greedy(n)) >= bound
    uniform = Toy(k, lambda y: shares(*[1] * k))
    assert uniform.probability(uniform.greedy(n)) == bound


@pytest.mark.statement("greedy-ratio", "exact")
@pytest.mark.parametrize("epsilon", [2.0, 1.0, 0.1, 0.02])
def test_greedys_text_may_be_less_than_any_share_of_the_best(epsilon: float) -> None:
    k = max(2, math.floor(3 / (2 * epsilon)) + 1)
    model = two_steps(k)
    found = model.probability(model.greedy(2))
    assert found == Fraction(6, 10 * k) < epsilon * max(model.texts(2).values())
    assert max(model.texts(2).values()) == Fraction(4, 10) == model.probability(model.best(2, 2))


# beam-exact, beam-worse, beam-temperature ---------------------------------------------------------


@pytest.mark.statement("beam-exact", "exact")
@pytest.mark.parametrize(("k", "n"), [(1, 3), (2, 1), (2, 2), (2, 4), (3, 3), (4, 2)])
def test_a_beam_as_wide_as_all_beginnings_is_exact_and_width_one_is_greedy(k: int, n: int) -> None:
    for seed in range(10):
        model = chance(k, seed)
        texts = model.texts(n)
        greedys = model.greedy(n)
        for width in (1, 2, k ** (n - 1), k**n):
            model.rows = 0
            found = model.best(width, n)
            assert model.rows <= width * n
            assert width < k ** (n - 1) or texts[found] == max(texts.values())
            assert width > 1 or found == greedys


@pytest.mark.statement("beam-exact", "exact")
@pytest.mark.parametrize(("k", "n"), [(2, 2), (3, 2), (2, 4), (3, 3)])
def test_one_beginning_less_is_not_enough(k: int, n: int) -> None:
    """All beginnings are nearly as probable; only after the least probable one a token is sure."""

    def after(y: Text) -> list[Fraction]:
        if len(y) < n - 1:
            return shares(*[1001] * (k - 1), 1000)
        return shares(1, *[0] * (k - 1)) if min(y) == k - 1 else shares(*[1] * k)

    model = Toy(k, after)
    best = max(model.texts(n).values())
    assert model.probability(model.best(k ** (n - 1), n)) == best
    for width in range(1, k ** (n - 1)):
        assert model.probability(model.best(width, n)) < best


@pytest.mark.statement("beam-exact", "exact")
def test_ties_may_part_width_one_from_greedy_search_in_the_text_alone() -> None:
    for model in (chance(3, seed, 1, 2) for seed in range(20)):
        found = model.best(1, 4)
        assert all(
            model.after(found[:i])[t] == max(model.after(found[:i])) for i, t in enumerate(found)
        )


def trap(y: Text) -> list[Fraction]:
    if len(y) < 2:
        return padded(10, *({(): [0.51, 0.49], (0,): [0.34, 0.22, 0.22, 0.22]}.get(y, [0.5, 0.5])))
    return padded(10, *[1] * (10 if y[0] else 1))


@pytest.mark.statement("beam-worse", "exact")
def test_width_two_finds_less_than_a_seventh_of_greedys_text() -> None:
    model = Toy(10, trap)
    wide, narrow = model.probability(model.best(2, 3)), model.probability(model.greedy(3))
    assert (narrow, wide) == (Fraction("0.1734"), Fraction("0.0245"))
    assert 7 * wide < narrow == max(model.texts(3).values())
    # The beginnings of the proof: what is kept, and what is dropped.
    second = sorted(model.texts(2).items(), key=lambda item: -item[1])[:6]
    assert [y for y, _ in second[:3]] == [(1, 0), (1, 1), (0, 0)]
    assert [float(p) for _, p in second] == [0.245, 0.245, 0.1734, 0.1122, 0.1122, 0.1122]
    assert model.best(1, 3) == model.best(4, 3) == (0, 0, 0)


@pytest.mark.statement("beam-worse", "exact")
def test_two_steps_are_no_trap_and_a_wider_beam_is_mostly_better() -> None:
    for model in (chance(4, seed) for seed in range(30)):
        narrow, wide = (model.probability(model.best(width, 2)) for width in (1, 2))
        assert narrow <= wide  # greedy's first token is kept, with all that follows


@pytest.mark.statement("beam-temperature", "exact")
def test_beam_search_turns_where_the_odds_pass_ten_and_greedy_search_does_not() -> None:
    model = two_steps(10)
    turn = math.log(1.5) / math.log(10)
    for t in (0.01, 0.1, 0.99 * turn, 1.01 * turn, 1.0, 100.0):
        model.temperature = t
        found = model.beams(2, 2)
        assert found.ids[0, 0].item() == (t > turn)
        assert model.greedy(2)[0] == 0
        a, b = exact_softmax(row([0.6, 0.4]).log(), t)
        # Logarithms of .6 and .4 divided by T, and log_softmax of that and of ten equals.
        rel = (16 / t + 64) * U
        assert_within(found.log_probs[0].exp().item(), max(a / 10, b), rel=rel)
        text = [round(float(x), digits) for x, digits in ((a, 3), (b, 3), (a / 10, 4))]
        assert t != 0.1 or text == [0.983, 0.017, 0.0983]


# length-penalty -----------------------------------------------------------------------------------


@pytest.mark.statement("length-penalty", "exact")
@pytest.mark.parametrize("p", [1e-9, 0.25, 1 - 1e-9, 1.0])
@pytest.mark.parametrize("alpha", [-2.0, -0.01, 0.0, 0.01, 1.0, 3.0])
def test_of_two_texts_as_probable_a_positive_exponent_prefers_the_longer(
    p: float, alpha: float
) -> None:
    score = {n: mp.log(p) / mp.mpf(n) ** alpha for n in (1, 2, 3, 40)}
    for short, long in combinations(score, 2):
        assert (score[long] > score[short]) == (alpha > 0 and p < 1)
        assert (score[long] < score[short]) == (alpha < 0 and p < 1)


@pytest.mark.statement("length-penalty")
@pytest.mark.parametrize("alpha", [-1.0, 0.0, 1.0, 2.0])
def test_the_decoder_scores_so(alpha: float) -> None:
    """Token 0 ends. (0) and (1, 1, 0) have 1/4, (1, 2, 0) a half."""

    def after(y: Text) -> list[Fraction]:
        return {(): shares(1, 3, 0), (1,): shares(0, 1, 2)}.get(y, shares(1, 0, 0))

    found = beam_search(
        Toy(3, after), NOTHING, width=5, max_new_tokens=4, end_token=0, length_penalty=alpha
    )
    texts = {(0, 0, 0): (0.25, 1), (1, 1, 0): (0.25, 3), (1, 2, 0): (0.5, 3)}
    ranked = [tuple(y) for y in found.ids.tolist()]
    assert set(ranked) == set(texts)
    for y, log_p, score in zip(ranked, found.log_probs, found.scores, strict=True):
        p, length = texts[y]
        # Three steps of about 40 u, in all log 2 or more.
        assert_within(log_p.item(), math.log(p), rel=192 * U)
        # For 1 the mean of the tokens, for 0 the log-probability, which no further token raises.
        assert_within(score.item(), math.log(p) / length**alpha, rel=196 * U)
    if alpha:
        assert (ranked.index((1, 1, 0)) < ranked.index((0, 0, 0))) == (alpha > 0)


@pytest.mark.statement("length-penalty")
@pytest.mark.parametrize("seed", range(20))
def test_a_larger_exponent_never_prefers_a_shorter_text(seed: int) -> None:
    source = random.Random(seed)
    texts = [(source.randint(1, 9), -source.uniform(0.01, 20)) for _ in range(6)]
    lengths = [
        {n for n, log_p in texts if log_p / n**a == max(q / m**a for m, q in texts)}
        for a in (-2, -1, -0.5, 0, 0.3, 0.5, 1, 1.5, 2, 4)
    ]
    assert all(max(colder) <= min(warmer) for colder, warmer in pairwise(lengths))


@pytest.mark.statement("length-penalty", "exact")
def test_without_a_penalty_no_text_beats_its_beginning_and_with_one_it_may() -> None:
    for y, p in chance(3, 0).texts(4).items():
        assert all(p <= chance(3, 0).probability(y[:n]) for n in range(5))
    assert math.log(0.5) / 1 < (math.log(0.5) + math.log(0.9)) / 2


# truncation-closest -------------------------------------------------------------------------------


@pytest.mark.statement("truncation-closest", "exact")
@pytest.mark.parametrize("weights", [(1,), (3, 1), (2, 2), (5, 3, 1, 1), (40, 1, 7, 2, 2)])
def test_the_renormalized_set_is_closest_and_the_only_one(weights: list[int]) -> None:
    p, k = shares(*weights), len(weights)
    for kept in events(k)[1:]:
        mass = total(p[i] for i in kept)
        best = [p[i] / mass if i in kept else Fraction(0) for i in range(k)]
        assert sum(abs(a - b) for a, b in zip(best, p, strict=True)) / 2 == 1 - mass
        masked = row(p).log().masked_fill(~torch.tensor([i in kept for i in range(k)]), -torch.inf)
        # Logarithms, to 4 ulp, of at most 4: in the logits, and in each of five terms.
        assert_within(softmax(masked), row(best), rel=96 * U)
        cost = -mp.log(number(mass))
        assert_within(kl_divergence(row(best), row(p)).item(), cost, 96 * U)
        assert kl_divergence(row(p), row(best)).isinf() == (len(kept) < k)
        # Every other distribution on a grid of the set costs more, by its divergence from the best.
        for counts in product(range(4), repeat=len(kept)):
            if sum(counts) == 3:
                q = dict(zip(sorted(kept), shares(*counts), strict=True))
                own, extra = (
                    mp.fsum(x * mp.log(number(x / r[i])) for i, x in q.items() if x)
                    for r in (p, best)
                )
                assert_within(own - extra, cost, mp.mpf("1e-45"))
                assert (extra > 1e-9) == any(best[i] != x for i, x in q.items())


@pytest.mark.statement("truncation-closest")
def test_by_other_distances_or_off_the_set_it_is_not_the_only_one() -> None:
    p, best, other = row([0.5, 0.25, 0.25]), row([2 / 3, 1 / 3, 0]), row([0.75, 0.25, 0])
    assert (other - p).abs().sum() == (best - p).abs().sum().round(decimals=12)
    assert kl_divergence(p, best) == kl_divergence(p, other) == torch.inf
    assert kl_divergence(row([0.6, 0.3, 0.1]), p) < kl_divergence(best, p)


# truncations, top-p-smallest, typical-tokens ------------------------------------------------------


def tokens(z: Tensor) -> list[int]:
    return [i for i, kept in enumerate(z.isfinite().tolist()) if kept]


def ranked(p: Sequence[Any]) -> list[int]:
    """Most probable first; of equals the last, which is omnivault's choice."""
    return sorted(range(len(p)), key=lambda i: (-p[i], -i))


weight_rows = st.lists(st.integers(1, 9), min_size=1, max_size=7)


@pytest.mark.statement("truncations", "exact", "transformers")
@pytest.mark.statement("top-p-smallest", "exact", "transformers")
@given(weight_rows, st.data())
def test_sets_are_those_of_the_definitions_and_of_transformers(
    weights: list[int], data: st.DataObject
) -> None:
    p, k, z = shares(*weights), len(weights), row(shares(*weights)).log()
    count = data.draw(st.integers(1, k))
    assert tokens(top_k(z, count)) == [
        i for i in range(k) if weights[i] >= sorted(weights)[k - count]
    ]
    # Between two of the masses that can be reached, in exact numbers: no border.
    mass = Fraction(2 * data.draw(st.integers(0, sum(weights) - 1)) + 1, 2 * sum(weights))
    order = ranked(p)
    size = min(r for r in range(1, k + 1) if sum(p[i] for i in order[:r]) >= mass)
    nucleus = sorted(order[:size])
    assert tokens(top_p(z, float(mass))) == nucleus
    for r, token in enumerate(order):
        assert (token in nucleus) == (sum(p[i] for i in order[:r]) < mass)
    reach = [s for s in events(k) if sum(p[i] for i in s) >= mass]
    assert min(map(len, reach)) == size == len(nucleus)
    assert frozenset(nucleus) in reach
    share = Fraction(2 * data.draw(st.integers(0, 8)) + 1, 18)
    assume(all(x != share * max(p) for x in p))
    assert tokens(min_p(z, float(share))) == [i for i in range(k) if p[i] >= share * max(p)]
    surprise = [-mp.log(number(x)) for x in p]
    mean = mp.fsum(w * s for w, s in zip(weights, surprise, strict=True)) / sum(weights)
    distance = [mp.nstr(abs(s - mean), 12) for s in surprise]
    near = sorted(range(k), key=lambda i: mp.mpf(distance[i]))
    last = next(i for r, i in enumerate(near) if sum(p[j] for j in near[: r + 1]) >= mass)
    inside = [i for i in range(k) if mp.mpf(distance[i]) <= mp.mpf(distance[last])]
    assert tokens(typical_p(z, float(mass))) == inside
    processors: dict[Any, Tensor] = {
        hf.TopKLogitsWarper(count): top_k(z, count),
        hf.TopPLogitsWarper(float(mass)): top_p(z, float(mass)),
        hf.MinPLogitsWarper(float(share)): min_p(z, float(share)),
        hf.TypicalLogitsWarper(float(mass)): typical_p(z, float(mass)),
    }
    assert all(torch.equal(ours, theirs(None, z[None])[0]) for theirs, ours in processors.items())


@pytest.mark.statement("truncations")
@pytest.mark.statement("top-p-smallest")
def test_borders_of_exact_numbers_belong_to_the_set() -> None:
    z = row([0.5, 0.25, 0.125, 0.125]).log()
    assert tokens(top_k(z, 3)) == [0, 1, 2, 3]  # two are third
    # Log and softmax may lose the last digit of a border, but not of four equal logits.
    assert [len(tokens(top_p(z, q))) for q in (0.49, 0.51, 0.74, 0.76, 1.0)] == [1, 2, 2, 3, 4]
    for equal in (row([0] * 4), row([0] * 4).float()):
        assert [tokens(top_p(equal, q)) for q in (0.25, 0.5, 0.75)] == [[3], [2, 3], [1, 2, 3]]
    assert [len(tokens(min_p(z, m))) for m in (0.24, 0.26, 0.49, 0.51, 1.0)] == [4, 2, 2, 1, 1]
    for rule in (top_p, min_p, typical_p):
        assert tokens(rule(row([0]), 0.5)) == [0]
    # Ruled out before: not among 1, and outside the nucleus of mass 1.
    assert tokens(top_p(row([0, 0, -math.inf]), 1.0)) == [0, 1]


@pytest.mark.statement("typical-tokens")
@given(weight_rows)
def test_the_mean_surprise_is_the_entropy_and_the_leader_surprises_less(weights: list[int]) -> None:
    p = row(shares(*weights))
    surprise = -p.log()
    # Either sum: log to 8 u, a product, and six additions, of terms that are all positive.
    assert_within(entropy(p), (p * surprise).sum(), rel=32 * U)
    gap = entropy(p) - surprise.min()
    assert (gap > 0.01) == (len(set(weights)) > 1)
    assert abs(gap) < 64 * U or len(set(weights)) > 1


@pytest.mark.statement("typical-tokens")
def test_the_leader_may_be_ruled_out_and_a_zero_changes_nothing() -> None:
    p = row([0.4, 0.3, 0.1, 0.1, 0.1])
    assert [round(x, 2) for x in (-p.log()).tolist()] == [0.92, 1.2, 2.3, 2.3, 2.3]
    assert round(entropy(p).item(), 2) == 1.42
    for mass in (0.01, 0.29, 0.3 * (1 - 100 * U)):  # less what rounding may take from 0.3
        assert tokens(typical_p(p.log(), mass)) == [1]
    assert tokens(typical_p(p.log(), 0.31)) == [0, 1]
    # On the border of the simplex a fair choice among two of three is as surprising as its mean.
    assert_within(entropy(row([0.5, 0.5, 0.0])), -row([0.5]).log().squeeze(), rel=16 * U)


# temperature-and-cut ------------------------------------------------------------------------------


@pytest.mark.statement("temperature-and-cut")
@given(whole_rows(1, 8, 6), temperatures(0.1, 10.0), st.floats(0.02, 1.0), st.data())
def test_top_k_commutes_top_p_grows_and_min_p_takes_a_power(
    z: Tensor, t: float, q: float, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(z)))
    hot = apply_temperature(z, t)
    assert torch.equal(top_k(hot, k), apply_temperature(top_k(z, k), t))
    masses = [mp.fsum(sorted(exact_softmax(z, s))[-r:]) for s in (1, t) for r in range(1, len(z))]
    gaps = [x - z.max().item() + t * math.log(1 / q) for x in z.tolist()]
    assume(all(abs(x) > 1e-6 for x in (*gaps, *(m - q for m in masses))) and q < 1 - 1e-6)
    first, last = len(tokens(top_p(hot, q))), len(tokens(top_p(z, q)))
    assert first <= last if t <= 1 else first >= last
    expected = [i for i, gap in enumerate(gaps) if gap >= 0]
    assert tokens(min_p(hot, q)) == tokens(min_p(z, q**t)) == expected


@pytest.mark.statement("temperature-and-cut")
def test_typical_sampling_does_not_commute_either() -> None:
    z = row([0.4, 0.3, 0.1, 0.1, 0.1]).log()
    assert tokens(typical_p(z, 0.29)) == [1]
    assert tokens(typical_p(z / 2, 0.29)) == [0, 1]


@pytest.mark.statement("temperature-and-cut")
@pytest.mark.parametrize(
    ("temperature", "mass", "before", "after"), [(2.0, 0.58, 1, 2), (0.5, 0.65, 2, 1)]
)
def test_the_nucleus_grows_and_shrinks_in_the_example(
    temperature: float, mass: float, before: int, after: int
) -> None:
    z = row([0.6, 0.4]).log()
    assert len(tokens(top_p(z, mass))) == before
    assert len(tokens(top_p(z / temperature, mass))) == after


@pytest.mark.statement("temperature-and-cut")
def test_top_p_and_min_p_do_not_commute() -> None:
    z = row([4, 3, 2, 1, 0])
    for rule, q in ((top_p, 0.9), (min_p, 0.1)):
        sizes = [len(tokens(rule(z / t, q))) for t in (0.25, 1.0, 4.0)]
        assert sizes[0] < sizes[1] < sizes[2]
    # For m = 1 only the maximum is left, at any temperature.
    assert all(tokens(min_p(z / t, 1.0)) == [0] for t in (0.1, 1.0, 10.0))


# repetition-penalty -------------------------------------------------------------------------------


def penalized(z: Sequence[Any], seen: Sequence[int], theta: Any) -> list[Any]:
    return [(x / theta if x > 0 else x * theta) if i in seen else x for i, x in enumerate(z)]


@pytest.mark.statement("repetition-penalty", "transformers")
def test_the_penalty_is_that_of_transformers_and_reads_the_level() -> None:
    theirs, leads = hf.RepetitionPenaltyLogitsProcessor(2.0), []
    for shift in (10, 0, -1, -1.5, -3, -4):
        expected = penalized([3.0 + shift, 2.0 + shift], [0], 2.0)
        assert (
            theirs(torch.tensor([[0]]), row([3 + shift, 2 + shift])[None])[0].tolist() == expected
        )
        leads.append(expected[0] - expected[1])
    assert leads == [-5.5, -0.5, 0.0, 0.25, 1.0, 0.0]


@pytest.mark.statement("repetition-penalty", "exact")
@given(whole_rows(2, 6, 9), st.integers(1, 9), st.sampled_from([1, 2]), st.data())
def test_above_zero_a_penalized_logit_moves_by_a_part_of_the_shift(
    z: Tensor, shift: int, theta: int, data: st.DataObject
) -> None:
    seen = data.draw(st.lists(st.integers(0, len(z) - 1)))
    values = [Fraction(x) for x in z.tolist()]
    low, high = (penalized([x + c for x in values], seen, theta) for c in (100, 100 + shift))
    moved = [b - a for a, b in zip(low, high, strict=True)]
    # Above zero a logit that was penalized moves by a part of the shift.
    assert moved == [Fraction(shift, theta if i in seen else 1) for i in range(len(z))]


@pytest.mark.statement("repetition-penalty")
@pytest.mark.parametrize("theta", [1.01, 1.2, 2.0, 10.0])
@pytest.mark.parametrize("z", [(3.0, 2.0), (0.5, -4.0), (-1.0, -1.5)])
def test_for_every_penalty_a_shift_changes_the_argmax(theta: float, z: tuple[float, float]) -> None:
    def leader(c: float) -> int:
        first, second = penalized([z[0] + c, z[1] + c], [0], theta)
        return 0 if first > second else 1

    assert leader(-z[1]) == 0
    assert leader(1000.0 * theta / (theta - 1)) == 1
