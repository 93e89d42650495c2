from __future__ import annotations

import itertools
import math
import random
from bisect import bisect
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from scipy.integrate import quad
from scipy.stats import chisquare, gumbel_r
from strategies import (
    SINGLE_DOUBLE,
    as_double,
    assert_within,
    exact_softmax,
    number,
    temperatures,
    unit,
    whole_rows,
)
from torch import Tensor

from omnivault.decoding import beam_search, greedy_search
from omnivault.sampling import apply_temperature, greedy
from omnivault.softmax import log_softmax, softmax

FALSE_ALARM = 1e-3  # of another seed; with the one given a test passes for ever or fails for ever

pytestmark = pytest.mark.usefixtures("one_thread")
not_constant = pytest.mark.parametrize(
    "values",
    [[1, 0], [0, -1e-6], [1, 0, 0], [3, -2, 3, 3], [2, 1, 0, -3, 1], [5, 4.8, 0, 0, 0]],
    ids=str,
)
# Warm enough for the largest gap to leave exp(-64), far above 50 digits; steps down to 1 percent.
LADDER = [mp.mpf(x) / 1000 for x in (125, 500, 505, 1000, 1010, 3000, 10**5, 10**7)]
COLD, HOT = mp.mpf(1) / 10**9, mp.mpf(10) ** 9
NOTHING = torch.zeros(0, dtype=torch.int64)
U = unit(torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def row(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def tops(values: Sequence[Any]) -> list[int]:
    return [i for i, x in enumerate(values) if x == max(values)]


def falls(numbers: Sequence[Any]) -> bool:
    return all(a > b for a, b in pairwise(numbers))


def assert_falls(f: Callable[[Any], Any], cold: Any, hot: Any) -> None:
    """Strictly below the cold limit and above the hot one, and close to them at the ends."""
    assert falls([cold, *map(f, LADDER), hot])
    assert_within([f(COLD), f(HOT)], [cold, hot], 1e-8)


# order-rules --------------------------------------------------------------------------------------


def same_order(z: Sequence[Any], w: Sequence[Any]) -> bool:
    return all((z[i] < z[j]) == (w[i] < w[j]) for i, j in product(range(len(z)), repeat=2))


def through(z: Sequence[Fraction], w: Sequence[Fraction]) -> Callable[[Fraction], Fraction]:
    """The map of the proof: straight lines through the points (z_i, w_i), slope 1 outside."""
    x, y = sorted(set(z)), sorted(set(w))

    def f(t: Fraction) -> Fraction:
        k = bisect(x, t)
        if k in (0, len(x)):
            return t - x[max(k - 1, 0)] + y[max(k - 1, 0)]
        return y[k - 1] + (t - x[k - 1]) * (y[k] - y[k - 1]) / (x[k] - x[k - 1])

    return f


def above_mean(z: Sequence[Any]) -> int:
    return sum(len(z) * x > sum(z) for x in z)


READS_ORDER: dict[str, Callable[[Sequence[Any]], Any]] = {
    "constant": lambda z: 7,
    "argmax": tops,
    "first of the largest": lambda z: tops(z)[0],
    "second best": lambda z: sorted(range(len(z)), key=lambda i: -z[i])[1:2],
    "number of different values": lambda z: len(set(z)),
    # A random rule is its distribution.
    "draw by rank": lambda z: [Fraction(1, sum(other >= x for other in z)) for x in z],
}
READS_SIZES: dict[str, Callable[[Sequence[Any]], Any]] = {
    "level": lambda z: max(z) > 1,
    "gap": lambda z: max(z) - min(z) >= 2,
    "number above the mean": above_mean,
    "softmax": lambda z: softmax(row([float(x) for x in z])).tolist(),
}
INCREASING: list[Callable[[Fraction], Fraction]] = [
    lambda x: x**3,
    lambda x: x if x < 1 else x + 100,
    *(lambda x, t=t: x / t for t in (Fraction(1, 1000), 7, 10**9)),
]


@pytest.mark.statement("order-rules", "exact")
@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_rule_reads_the_order_if_and_only_if_no_increasing_map_touches_it(k: int) -> None:
    grid = list(product(map(Fraction, (-2, 0, 1, 5)), repeat=k))
    maps = {(z, w): through(z, w) for z, w in product(grid, repeat=2) if same_order(z, w)}
    for (z, w), f in maps.items():
        assert [f(x) for x in z] == list(w)
        assert all(f(Fraction(n, 3)) < f(Fraction(n + 1, 3)) for n in range(-12, 24))
    assert all(same_order(z, [f(x) for x in z]) for z in grid for f in INCREASING)
    for name, rule in {**READS_ORDER, **READS_SIZES}.items():
        reads_order = all(rule(z) == rule(w) for z, w in maps)
        untouched = all(rule([f(x) for x in z]) == rule(z) for (z, _), f in maps.items())
        untouched &= all(rule([f(x) for x in z]) == rule(z) for z in grid for f in INCREASING)
        assert reads_order == untouched
        # Of one token, and for the mean of two, no size is left to be read.
        few = {"gap": 1, "number above the mean": 2, "softmax": 1}.get(name, 0)
        assert reads_order == (name in READS_ORDER or k <= few), name


@pytest.mark.statement("order-rules", "exact")
def test_maps_that_are_not_increasing_and_rules_that_are_only_blind_to_temperature() -> None:
    assert not same_order([1, 0, 2], [-1, 0, -2])
    assert not same_order([1, 0, 2], [min(x, 1) for x in (1, 0, 2)])
    for z in product((-2, 0, 1, 5), repeat=3):
        assert above_mean([Fraction(x, 7) for x in z]) == above_mean(z)
    assert same_order([0, 1, 5], [0, 4, 5])
    assert above_mean([0, 1, 5]) != above_mean([0, 4, 5])


# greedy-invariance --------------------------------------------------------------------------------


@pytest.mark.statement("greedy-invariance", "exact")
@given(whole_rows(1, 8, 6), temperatures(0.01, 1e4), st.sampled_from(SINGLE_DOUBLE))
def test_the_argmax_is_the_same_before_and_after(z: Tensor, t: float, dtype: torch.dtype) -> None:
    expected = tops(z.tolist())
    assert tops(exact_softmax(z, t)) == expected
    z = z.to(dtype)
    for seen in (apply_temperature(z, t), softmax(z, temperature=t), log_softmax(z, temperature=t)):
        assert tops(seen.tolist()) == expected
        assert greedy(seen).item() == expected[0]


class Toy:
    """Whole logits that depend on all tokens before, often tied and never constant."""

    def __init__(self, vocabulary: int, seed: int, low: int = 0) -> None:
        self.vocabulary, self.seed, self.low, self.temperature = vocabulary, seed, low, 1.0

    def logits(self, *prefix: int) -> list[float]:
        source = random.Random(f"{self.seed} {prefix}")
        z = [0.0]
        while min(z) == max(z):
            z = [float(source.randint(self.low, 3)) for _ in range(self.vocabulary)]
        return z

    def __call__(self, ids: Tensor) -> Tensor:
        z = torch.stack([row(self.logits(*prefix)) for prefix in ids.tolist()])
        return apply_temperature(z, self.temperature)


@pytest.mark.statement("greedy-invariance")
@pytest.mark.parametrize("end", [None, 0])
def test_greedy_writes_the_same_text_at_every_temperature(end: int | None) -> None:
    for model in (Toy(4, seed) for seed in range(4)):
        prompts = torch.tensor([[1], [2], [3]])
        expected = greedy_search(model, prompts, max_new_tokens=9, end_token=end)
        for text in expected.tolist():
            for n in range(1, len(text)):
                over = end is not None and end in text[1:n]
                assert text[n] == (end if over else tops(model.logits(*text[:n]))[0])
        for model.temperature in (1e-300, 1e-3, 0.5, 3.0, 1e5):
            found = greedy_search(model, prompts, max_new_tokens=9, end_token=end)
            assert torch.equal(found, expected)


@pytest.mark.statement("greedy-invariance")
def test_rounding_may_tie_what_is_kept_apart() -> None:
    z = torch.tensor([0.0, 1.0, 2.0])
    assert greedy(softmax(z, temperature=1e9)).item() == 0
    assert greedy(apply_temperature(z, 1e9)).item() == greedy(z).item() == 2
    # Neighbors in float32, and their quotients: some are equal, none change places.
    below = torch.arange(1.5, 1.75, 1e-3)
    z = torch.stack([below, below.nextafter(torch.tensor(2.0))], -1)
    low, high = apply_temperature(z, 1.25).unbind(-1)
    assert (low <= high).all()
    assert (low == high).any()


# draws-agree, central-answer ----------------------------------------------------------------------


@pytest.mark.statement("draws-agree", "exact")
@not_constant
def test_agreement_falls_strictly_between_its_limits(values: list[float]) -> None:
    best, k = tops(values), len(values)
    m, z = mp.mpf(len(best)), row(values)

    def greedys(t: Any) -> Any:
        return mp.fsum(exact_softmax(z, t)[i] for i in best)

    def twice(t: Any) -> Any:
        return mp.fsum(x * x for x in exact_softmax(z, t))

    assert_falls(greedys, 1, m / k)
    assert_falls(twice, 1 / m, mp.mpf(1) / k)
    for t in LADDER[1:6]:  # the derivative is a covariance
        p, pairs = exact_softmax(z, t), list(product(range(k), repeat=2))
        terms = [p[i] * p[j] * (p[i] - p[j]) * (mp.mpf(values[i]) - values[j]) for i, j in pairs]
        assert_within(mp.diff(twice, t), -mp.fsum(terms) / t**2, 1e-24)
        assert min(terms) >= 0 < max(terms)


@pytest.mark.statement("central-answer", "exact")
@not_constant
def test_order_stays_odds_fall_and_draws_spread(values: list[float]) -> None:
    k, best, z = len(values), tops(values), row(values)
    for t in (*LADDER, HOT):
        p = exact_softmax(z, t)
        assert same_order(p, values)
        assert all(rule(p) == rule(values) for rule in READS_ORDER.values())
    for i, j in product(range(k), repeat=2):
        odds = [exact_softmax(z, t)[i] / exact_softmax(z, t)[j] for t in LADDER]
        formula = [mp.exp((mp.mpf(values[i]) - values[j]) / t) for t in (*LADDER, COLD, HOT)]
        assert_within(odds, formula[:-2], rel=1e-40)
        if values[i] > values[j]:
            assert falls([*odds, 1])
            assert formula[-2] > 1e100
            assert formula[-1] < 1 + 1e-7

    def order(t: Any) -> Any:  # minus entropy
        return mp.fsum(x * mp.log(x) for x in exact_softmax(z, t))

    assert_falls(order, -mp.log(len(best)), -mp.log(k))
    for r in range(k + 1):
        sums = [mp.fsum(sorted(exact_softmax(z, t))[k - r :]) for t in LADDER]
        # None of the tokens, and all of them, are as probable at every temperature.
        assert falls(sums) == (0 < r < k)
    fair = [mp.mpf(i in best) / len(best) for i in range(k)]
    assert_within(exact_softmax(z, COLD), fair, 1e-100)
    assert_within(exact_softmax(z, HOT), mp.mpf(1) / k, 1e-8)


@pytest.mark.statement("central-answer", "exact")
@pytest.mark.statement("draws-agree", "exact")
@pytest.mark.parametrize("k", [1, 2, 5])
def test_constant_logits_notice_no_temperature(k: int) -> None:
    for t in LADDER:
        assert_within(exact_softmax(row([4.0] * k), t), mp.mpf(1) / k, rel=8 * mp.eps)


# noise-view ---------------------------------------------------------------------------------------


@pytest.mark.statement("noise-view", "exact")
@pytest.mark.parametrize("values", [[3.0], [1.0, 1.0], [2.0, 0.0], [2.0, 2.0, 0.0, -3.0, 1.0]])
@pytest.mark.parametrize("t", [0.25, 1.0, 10.0])
def test_the_integral_over_the_winning_noise_is_softmax(values: list[float], t: float) -> None:
    for k, expected in enumerate(exact_softmax(row(values), t)):
        ahead = [(values[k] - z) / t for z in values]  # 0 for the winner: its own density

        def wins(x: float, ahead: list[float] = ahead) -> float:
            return math.exp(-x - sum(math.exp(-x - a) for a in ahead))

        total, error = quad(wins, -5, 70, points=[0, 5, 10, 20, 30], epsabs=1e-14, epsrel=1e-12)
        # quad's own bound; where the integrand counts, its exponents are a few units of rounding.
        assert error < 1e-11
        assert_within(total, expected, error + 64 * U)


@pytest.mark.statement("noise-view", "statistical", false_alarm=0.003)
def test_disturbed_greedy_decoding_samples_with_this_noise_and_this_size() -> None:
    z, t, n = row([2, 1, 1, -1]), 1.5, 100_000
    e = torch.empty(n, 4, dtype=torch.float64).exponential_(generator=seeded(3))
    g = -e.log()

    def p_value(noise: Tensor, t: float = t) -> float:
        seen = greedy(z + noise).bincount(minlength=4)
        return float(chisquare(seen, as_double(exact_softmax(z, t)) * n).pvalue)

    ranked = (z + t * g).sort(-1).values
    assert (ranked[:, -1] > ranked[:, -2]).all()
    assert torch.equal(greedy(z + t * g), greedy((z / t).exp() / e))  # the race
    by_scipy = torch.from_numpy(gumbel_r.rvs(size=(n, 4), random_state=1))
    assert min(p_value(t * g), p_value(g, 1.0), p_value(t * by_scipy)) > FALSE_ALARM
    # Of another size, of another sign, normal with the same variance, one for all tokens.
    normal = torch.randn(n, 4, dtype=torch.float64, generator=seeded()) * math.pi / math.sqrt(6)
    for wrong in (g, 1.6 * g, -t * g, t * normal, t * g[:, :1]):
        assert p_value(wrong) < 1e-6


# noise-path ---------------------------------------------------------------------------------------


@pytest.mark.statement("noise-path", "exact")
def test_as_it_gets_warmer_the_logit_falls_and_the_noise_rises_whatever_ties_do() -> None:
    grid = [Fraction(n, 6) for n in (1, 2, 3, 4, 6, 9, 12, 18, 24)]  # all crossings and between
    for z, g in product(product((0, 1, 3), repeat=3), repeat=2):

        def chosen(t: Any, z: Sequence[int] = z, g: Sequence[int] = g) -> set[int]:
            return set(tops([a + t * b for a, b in zip(z, g, strict=True)]))

        for i, j in itertools.combinations(map(chosen, grid), 2):
            assert max(g[a] for a in i) <= min(g[b] for b in j)
            assert min(z[a] for a in i) >= max(z[b] for b in j)
        # Where the proof says that it is cold, and hot, enough.
        gap_z = min((max(z) - a for a in z if a < max(z)), default=1)
        gap_g = min((max(g) - b for b in g if b < max(g)), default=1)
        assert chosen(Fraction(99 * gap_z, 100 * max(*g, 1))) <= set(tops(z))
        assert chosen(Fraction(101 * max(*z, 1), 100 * gap_g)) <= set(tops(g))


@pytest.mark.statement("noise-path", "exact")
def test_below_zero_the_chosen_logit_may_rise() -> None:
    z = g = (0, 1)
    assert [tops([a + t * b for a, b in zip(z, g, strict=True)]) for t in (-2, -0.5)] == [[0], [1]]


# greedy-text-odds ---------------------------------------------------------------------------------


@pytest.mark.statement("greedy-text-odds", "exact")
@pytest.mark.parametrize(("k", "n"), [(2, 1), (2, 4), (3, 3), (5, 2)])
def test_the_chance_of_greedys_text_falls_strictly(k: int, n: int) -> None:
    for model in (Toy(k, seed, low=-2) for seed in range(4)):
        text = greedy_search(model, NOTHING, max_new_tokens=n).tolist()
        steps = [model.logits(*text[:i]) for i in range(n)]

        def odds(t: Any, steps: list[list[float]] = steps, text: list[int] = text) -> Any:
            return mp.fprod(exact_softmax(row(z), t)[y] for z, y in zip(steps, text, strict=True))

        ties = math.prod(len(tops(z)) for z in steps)
        assert_falls(odds, mp.mpf(1) / ties, mp.mpf(k) ** -n)
        for model.temperature in (0.5, 2.0):  # among all texts that sampling may write
            every = beam_search(model, NOTHING, width=k**n, max_new_tokens=n)
            found = every.log_probs[every.ids.tolist().index(text)].exp()
            # Of each step log_softmax of at most 5 logits, at most 10 apart, and then the sums.
            assert_within(found, odds(model.temperature), rel=128 * n * U)


@pytest.mark.statement("greedy-text-odds", "exact")
def test_constant_steps_and_other_texts_need_not_become_rarer() -> None:
    p = [exact_softmax(row([1, 0]), t) for t in LADDER]
    assert falls([0.5, *(q[0] / 2 for q in p), 0.25])  # one step that is not constant is enough
    assert falls([q[1] ** 2 for q in reversed(p)])


# local-temperature --------------------------------------------------------------------------------

Prefix = tuple[int, ...]
Conditionals = Callable[[Prefix], Sequence[Fraction]]


def shares(*weights: Any) -> list[Fraction]:
    return [Fraction(w) / sum(weights) for w in weights]


def by_token(p: Conditionals, k: int, n: int, power: int) -> dict[Prefix, Fraction]:
    """What token-wise sampling at temperature 1/power draws from, exactly."""
    warm: dict[Prefix, Fraction] = {(): Fraction(1)}
    for _ in range(n):
        after = {y: shares(*(x**power for x in p(y))) for y in warm}
        warm = {(*y, i): q * after[y][i] for y, q in warm.items() for i in range(k)}
    return warm


def by_text(p: Conditionals, k: int, n: int, power: int) -> dict[Prefix, Fraction]:
    texts = by_token(p, k, n, 1)
    return dict(zip(texts, shares(*(x**power for x in texts.values())), strict=True))


@pytest.mark.statement("local-temperature", "exact")
@pytest.mark.parametrize(("k", "n"), [(2, 1), (2, 2), (2, 3), (3, 2)])
@pytest.mark.parametrize("power", [1, 2, 3])
def test_the_two_are_equal_if_and_only_if_the_normalizers_are(k: int, n: int, power: int) -> None:
    outcomes = set()
    for seed in range(60):

        def p(prefix: Prefix, seed: int = seed) -> list[Fraction]:  # some of them zero
            source = random.Random(f"{seed} {prefix}")
            return shares(
                1 + source.randint(0, 1), *(source.choice((0, 1, 1)) for _ in range(k - 1))
            )

        texts, warm = by_token(p, k, n, 1), by_token(p, k, n, power)
        normalizer = {
            y: math.prod(sum(x**power for x in p(y[:i])) for i in range(n)) for y in texts
        }
        assert all(warm[y] == texts[y] ** power / normalizer[y] for y in texts)
        one_value = len({normalizer[y] for y in texts if texts[y] > 0}) == 1
        assert (warm == by_text(p, k, n, power)) == one_value
        outcomes.add(one_value)
    # One token has one normalizer, and at temperature 1 all are one.
    assert outcomes == ({True} if n == 1 or power == 1 else {True, False})


AFTER: dict[str, tuple[bool, Conditionals]] = {
    "independent": (True, lambda y: shares(3, 1 + len(y))),
    "permuted": (True, lambda y: shares(3, 1) if sum(y) else shares(1, 3)),
    "normalizers that change places": (
        True,
        lambda y: shares(1, 3 if y and (y[0] + len(y)) % 2 else 1),
    ),
    "of another shape": (False, lambda y: shares(1, 1 if sum(y) else 3)),
}


@pytest.mark.statement("local-temperature", "exact")
@pytest.mark.parametrize("case", AFTER)
def test_the_product_counts_and_not_its_factors(case: str) -> None:
    equal, p = AFTER[case]
    assert all((by_token(p, 2, 3, n) == by_text(p, 2, 3, n)) == equal for n in (2, 5))


def ten_or_one(y: Prefix) -> list[Fraction]:
    if not y:
        return shares(6, 4, *[0] * 8)
    return shares(1, *[0] * 9) if y[0] else shares(*[1] * 10)


@pytest.mark.statement("local-temperature", "exact")
def test_the_most_probable_text_may_vanish_in_the_cold() -> None:
    for power in range(1, 12):
        warm, texts = by_token(ten_or_one, 10, 2, power), by_text(ten_or_one, 10, 2, power)
        assert warm[1, 0] == Fraction(4**power, 6**power + 4**power)
        assert warm[0, 0] == warm[0, 9] == (1 - warm[1, 0]) / 10
        assert max(texts.values()) == texts[1, 0] >= Fraction(4, 10) > texts[0, 0]
        # The odds 1.5^power pass ten between the powers 5 and 6.
        assert (warm[1, 0] > warm[0, 0]) == (power <= 5)
    assert warm[1, 0] < 0.02


@pytest.mark.statement("local-temperature", "exact")
def test_the_entropy_of_the_text_may_fall_as_it_gets_warmer() -> None:
    def with_first(q: Any) -> Any:
        return q * mp.log(10) - q * mp.log(q) - (1 - q) * mp.log(1 - q)

    values = []
    for power in (5, 4, 3, 2, 1):  # warmer and warmer
        text = [number(x) for x in by_token(ten_or_one, 10, 2, power).values() if x]
        values.append(-mp.fsum(x * mp.log(x) for x in text))
        assert_within(values[-1], with_first(1 / (1 + (mp.mpf(2) / 3) ** power)), 1e-45)
    cold, hot = (with_first(1 / (1 + (mp.mpf(2) / 3) ** power)) for power in (250, 1e-20))
    assert_within([cold, hot], [mp.log(10), mp.log(2) + mp.log(10) / 2], 1e-18)
    assert falls([*values, hot])
    assert cold > hot
