from __future__ import annotations

import itertools
import math
import random
from bisect import bisect
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from scipy.integrate import quad
from scipy.stats import binomtest, chisquare, gumbel_r
from strategies import DTYPES, SINGLE_DOUBLE, as_double, exact_softmax, temperatures, whole_rows
from torch import Tensor

from omnivault.decoding import NextTokenLogits, beam_search, greedy_search, sample_sequence
from omnivault.information import entropy
from omnivault.sampling import apply_temperature, greedy, sample, top_k
from omnivault.softmax import log_softmax, softmax

FALSE_ALARM = 1e-3  # of another seed; with the one given a test passes for ever or fails for ever

pytestmark = pytest.mark.usefixtures("one_thread")

NOT_CONSTANT = [
    pytest.param([1.0, 0.0], id="two tokens"),
    pytest.param([0.0, -1e-6], id="two tokens, nearly tied"),
    pytest.param([1.0, 0.0, 0.0], id="the others tied"),
    pytest.param([1.0, 1.0, 0.0], id="two at the top"),
    pytest.param([3.0, -2.0, 3.0, 3.0], id="all but one at the top"),
    pytest.param([2.0, 1.0, 0.0, -3.0, 1.0], id="a tie in the middle"),
    pytest.param([5.0, 4.8, 0.0, 0.0, 0.0], id="two scales"),
]
not_constant = pytest.mark.parametrize("values", NOT_CONSTANT)

# Warm enough for the largest gap to leave exp(-64), far above 50 digits; steps down to 1 percent.
LADDER = [mp.mpf(x) / 1000 for x in (125, 500, 505, 1000, 1010, 3000, 10**5, 10**7)]
COLD, HOT = mp.mpf(1) / 10**9, mp.mpf(10) ** 9

Prefix = tuple[int, ...]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def row(values: Sequence[float], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


def ladder(values: Sequence[float]) -> list[list[Any]]:
    return [exact_softmax(row(values), t) for t in LADDER]


def falls(numbers: Sequence[Any]) -> bool:
    return all(a > b for a, b in pairwise(numbers))


def tops(values: Sequence[Any]) -> list[int]:
    return [i for i, x in enumerate(values) if x == max(values)]


def at(model: NextTokenLogits, temperature: float) -> NextTokenLogits:
    return lambda ids: apply_temperature(model(ids), temperature)


def hashed(vocabulary: int, seed: int, low: int = 0) -> Callable[[Prefix], list[float]]:
    """Whole logits from low to 3 that depend on all tokens before, never constant, often tied."""

    def logits(prefix: Prefix) -> list[float]:
        source = random.Random(f"{seed} {prefix}")
        while True:
            z = [float(source.randint(low, 3)) for _ in range(vocabulary)]
            if min(z) < max(z):
                return z

    return logits


def model_of(logits: Callable[[Prefix], Sequence[float]]) -> NextTokenLogits:
    return lambda ids: torch.stack([row(logits(tuple(prefix))) for prefix in ids.tolist()])


NOTHING = torch.zeros(0, dtype=torch.int64)

# order-rules --------------------------------------------------------------------------------------


def same_order(z: Sequence[Any], w: Sequence[Any]) -> bool:
    return all((z[i] < z[j]) == (w[i] < w[j]) for i in range(len(z)) for j in range(len(z)))


def through(z: Sequence[Fraction], w: Sequence[Fraction]) -> Callable[[Fraction], Fraction]:
    """The map of the proof: straight lines through the points (z_i, w_i), slope 1 outside."""
    x, y = sorted(set(z)), sorted(set(w))

    def f(t: Fraction) -> Fraction:
        k = bisect(x, t)
        if k in (0, len(x)):
            return t - x[max(k - 1, 0)] + y[max(k - 1, 0)]
        return y[k - 1] + (t - x[k - 1]) * (y[k] - y[k - 1]) / (x[k] - x[k - 1])

    return f


def by_rank(z: Sequence[Any]) -> tuple[Fraction, ...]:
    """A random rule as its distribution: 1/(number of logits at least as large), normalized."""
    weights = [Fraction(1, sum(other >= x for other in z)) for x in z]
    return tuple(w / sum(weights) for w in weights)


Rule = Callable[[Sequence[Any]], Any]
READS_ORDER: dict[str, Rule] = {
    "constant": lambda z: 7,
    "argmax": tops,
    "first of the largest": lambda z: tops(z)[0],
    "second best": lambda z: sorted(range(len(z)), key=lambda i: -z[i])[1:2],
    "rank of token 0": lambda z: sum(x > z[0] for x in z),
    "ties": lambda z: len(set(z)),
    "draw by rank": by_rank,
}
READS_SIZES: dict[str, Rule] = {
    "level": lambda z: max(z) > 1,
    "gap": lambda z: max(z) - min(z) >= 2,
    "number above the mean": lambda z: sum(len(z) * x > sum(z) for x in z),
    "softmax": lambda z: softmax(row([float(x) for x in z])).tolist(),
}
GRID = {k: list(itertools.product(map(Fraction, (-2, 0, 1, 5)), repeat=k)) for k in (1, 2, 3)}


@pytest.mark.statement("order-rules")
@pytest.mark.parametrize("k", GRID)
def test_a_rule_reads_the_order_if_and_only_if_no_increasing_map_touches_it(k: int) -> None:
    pairs = [(z, w) for z, w in itertools.product(GRID[k], repeat=2) if same_order(z, w)]
    increasing: list[Callable[[Fraction], Fraction]] = [
        lambda x: x**3,
        lambda x: x if x < 1 else x + 100,
        *(lambda x, t=t: x / t for t in (Fraction(1, 1000), 7, 10**9)),
    ]
    maps = {(z, w): through(z, w) for z, w in pairs}
    line = [Fraction(x, 3) for x in range(-12, 24)]
    for (z, w), f in maps.items():
        assert [f(x) for x in z] == list(w)
        assert all(f(x) < f(y) for x, y in pairwise(line))
    # An increasing map leaves the order alone, another need not.
    assert all(same_order(z, [f(x) for x in z]) for z in GRID[k] for f in increasing)
    assert k == 1 or not all(same_order(z, [-x for x in z]) for z in GRID[k])
    assert k == 1 or not all(same_order(z, [min(x, Fraction(0)) for x in z]) for z in GRID[k])
    for name, rule in {**READS_ORDER, **READS_SIZES}.items():
        first = all(rule(z) == rule(w) for z, w in pairs)
        second = all(rule([maps[z, w](x) for x in z]) == rule(z) for z, w in pairs)
        second &= all(rule([f(x) for x in z]) == rule(z) for z in GRID[k] for f in increasing)
        assert first == second
        # What has one token, or two of which both, one or none is above the mean, has no sizes.
        few = {"gap": 1, "number above the mean": 2, "softmax": 1}.get(name, 0)
        assert first == (name in READS_ORDER or k <= few), name


@pytest.mark.statement("order-rules")
def test_blindness_to_temperature_alone_is_weaker() -> None:
    above_mean = READS_SIZES["number above the mean"]
    for z in GRID[3]:
        for t in (Fraction(1, 9), Fraction(7)):
            assert above_mean([x / t for x in z]) == above_mean(z)
    assert same_order([0, 1, 5], [0, 4, 5])
    assert (above_mean([0, 1, 5]), above_mean([0, 4, 5])) == (1, 2)


@pytest.mark.statement("order-rules")
@given(whole_rows(3, 9, 30), temperatures(0.01, 1000.0))
def test_a_fair_draw_of_the_best_three_is_as_random_at_every_temperature(
    z: Tensor, t: float
) -> None:
    assert torch.equal(top_k(apply_temperature(z, t), 3).isfinite(), top_k(z, 3).isfinite())


# greedy-invariance --------------------------------------------------------------------------------


@pytest.mark.statement("greedy-invariance")
@given(whole_rows(1, 8, 6), temperatures(0.01, 1e4), st.sampled_from(SINGLE_DOUBLE))
def test_the_argmax_is_the_same_before_and_after(z: Tensor, t: float, dtype: torch.dtype) -> None:
    expected = tops(z.tolist())
    assert tops(exact_softmax(z, t)) == expected
    z = z.to(dtype)
    for seen in (apply_temperature(z, t), softmax(z, temperature=t), log_softmax(z, temperature=t)):
        assert tops(seen.tolist()) == expected
        assert greedy(seen).item() == expected[0]


@pytest.mark.statement("greedy-invariance")
@pytest.mark.parametrize("end", [None, 0])
@pytest.mark.parametrize("seed", range(5))
def test_greedy_writes_the_same_text_at_every_temperature(seed: int, end: int | None) -> None:
    logits = hashed(4, seed)
    model, prompts = model_of(logits), torch.tensor([[1], [2], [3]])
    expected = greedy_search(model, prompts, max_new_tokens=12, end_token=end)
    for text in expected.tolist():
        for n in range(1, len(text)):
            over = end is not None and end in text[1:n]
            assert text[n] == (end if over else tops(logits(tuple(text[:n])))[0])
    for t in (1e-300, 1e-3, 0.5, 1.0, 3.0, 1e5):
        found = greedy_search(at(model, t), prompts, max_new_tokens=12, end_token=end)
        assert torch.equal(found, expected)
    frozen = sample_sequence(model, prompts, max_new_tokens=12, end_token=end, temperature=0.0)
    assert torch.equal(frozen, expected)
    # A rule that reads sizes does not write the same text.
    drawn = sample_sequence(model, prompts, max_new_tokens=12, end_token=end, generator=seeded())
    assert drawn.shape != expected.shape or not torch.equal(drawn, expected)


@pytest.mark.statement("greedy-invariance")
def test_rounding_may_tie_what_is_kept_apart() -> None:
    z = torch.tensor([0.0, 1.0, 2.0])
    assert greedy(softmax(z, temperature=1e9)).item() == 0
    assert greedy(apply_temperature(z, 1e9)).item() == greedy(z).item() == 2
    # The quotients are closer than two neighbors in float32. They are never inverted.
    z = torch.arange(1.5, 1.75, 1e-3, dtype=torch.float64)
    z = torch.stack([z, z + 2**-23], -1).float()
    low, high = apply_temperature(z, 1.25).unbind(-1)
    assert (z[:, 0] < z[:, 1]).all()
    assert (low <= high).all()
    assert (low == high).any()


# draws-agree --------------------------------------------------------------------------------------


@pytest.mark.statement("draws-agree")
@not_constant
def test_agreement_falls_strictly_between_its_limits(values: list[float]) -> None:
    best, k = tops(values), len(values)
    m = len(best)
    greedys = [mp.fsum(p[i] for i in best) for p in ladder(values)]
    agree = [mp.fsum(x * x for x in p) for p in ladder(values)]
    assert falls([1, *greedys, mp.mpf(m) / k])
    assert falls([mp.mpf(1) / m, *agree, mp.mpf(1) / k])
    for t, one, two in ((COLD, 1, mp.mpf(1) / m), (HOT, mp.mpf(m) / k, mp.mpf(1) / k)):
        p = exact_softmax(row(values), t)
        assert abs(mp.fsum(p[i] for i in best) - one) < 1e-7
        assert abs(mp.fsum(x * x for x in p) - two) < 1e-7


@pytest.mark.statement("draws-agree")
@not_constant
def test_the_derivative_is_a_covariance(values: list[float]) -> None:
    z, k = [mp.mpf(x) for x in values], range(len(values))
    for t in LADDER[1:6]:
        p = exact_softmax(row(values), t)
        pairs = mp.fsum(p[i] * p[j] * (p[i] - p[j]) * (z[i] - z[j]) for i in k for j in k) / 2
        slope = mp.diff(lambda t: mp.fsum(x * x for x in exact_softmax(row(values), t)), t)
        assert abs(slope + 2 * pairs / t**2) < mp.mpf(10) ** -15
        assert pairs > 0


@pytest.mark.statement("draws-agree")
@pytest.mark.parametrize("t", [0.3, 1.0, 4.0])
def test_two_draws_of_sample_agree_that_often(t: float) -> None:
    z, n = row([2.0, 1.0, 2.0, -1.0]), 20_000
    first, second = sample(z.expand(2, n, 4), temperature=t, generator=seeded(1))
    p = exact_softmax(z, t)
    same, best = int((first == second).sum()), int((first % 2 == 0).logical_and(first < 3).sum())
    assert binomtest(same, n, float(mp.fsum(x * x for x in p))).pvalue > FALSE_ALARM
    assert binomtest(best, n, float(p[0] + p[2])).pvalue > FALSE_ALARM


# noise-view ---------------------------------------------------------------------------------------


@pytest.mark.statement("noise-view")
@pytest.mark.parametrize("values", [[3.0], [1.0, 1.0], [2.0, 0.0], [2.0, 2.0, 0.0, -3.0, 1.0]])
@pytest.mark.parametrize("t", [0.25, 1.0, 10.0])
def test_the_integral_over_the_winning_noise_is_softmax(values: list[float], t: float) -> None:
    for k, expected in enumerate(exact_softmax(row(values), t)):
        ahead = [(values[k] - z) / t for i, z in enumerate(values) if i != k]

        def wins(x: float, ahead: list[float] = ahead) -> float:
            """Density of G_k at x, and every other G_i below x + ahead_i."""
            return math.exp(-x - math.exp(-x) - sum(math.exp(-x - a) for a in ahead))

        total, _ = quad(wins, -5, 70, points=[0, 5, 10, 20, 30], epsabs=1e-14, epsrel=1e-12)
        assert total == pytest.approx(float(expected), rel=1e-9, abs=1e-13)


@pytest.mark.statement("noise-view")
def test_disturbed_greedy_decoding_samples_with_this_noise_and_this_size() -> None:
    z, t, n = row([2.0, 1.0, 1.0, -1.0]), 1.5, 100_000
    e = torch.empty(n, 4, dtype=torch.float64).exponential_(generator=seeded(3))
    g = -e.log()
    drawn = greedy(z + t * g)
    # The race of the weights, in logarithms.
    assert torch.equal(drawn, greedy((z / t).exp() / e))
    ranked = (z + t * g).sort(-1).values
    assert (ranked[:, -1] > ranked[:, -2]).all()

    def p_value(drawn: Tensor, t: float) -> float:
        expected = as_double(exact_softmax(z, t)) * n
        return float(chisquare(drawn.bincount(minlength=4), expected).pvalue)

    assert p_value(drawn, t) > FALSE_ALARM
    by_scipy = torch.from_numpy(gumbel_r.rvs(size=(n, 4), random_state=1))
    assert p_value(greedy(z + t * by_scipy), t) > FALSE_ALARM
    # Noise of another size, of another sign, of another law (with the same variance), or shared.
    normal = torch.randn(n, 4, dtype=torch.float64, generator=seeded()) * math.pi / math.sqrt(6)
    for wrong in (g, 1.6 * g, -t * g, t * normal, t * g[:, :1]):
        assert p_value(greedy(z + wrong), t) < 1e-6
    assert p_value(greedy(z + g), 1.0) > FALSE_ALARM


# noise-path ---------------------------------------------------------------------------------------


@pytest.mark.statement("noise-path")
def test_as_it_gets_warmer_the_logit_falls_and_the_noise_rises_whatever_ties_do() -> None:
    rows = list(itertools.product((0, 1, 3), repeat=3))
    grid = [Fraction(n, 6) for n in (1, 2, 3, 4, 6, 9, 12, 18, 24)]  # all crossings and between
    moved = 0
    for z, g in itertools.product(rows, rows):
        chosen = [tops([a + t * b for a, b in zip(z, g, strict=True)]) for t in grid]
        for i, j in itertools.combinations(chosen, 2):
            assert max(g[a] for a in i) <= min(g[b] for b in j)
            assert min(z[a] for a in i) >= max(z[b] for b in j)
        moved += chosen[0] != chosen[-1]
        # Where the proof says that it is cold, and hot, enough.
        spread_z, spread_g = max(z) - min(z), max(g) - min(g)
        gap_z = min((max(z) - a for a in z if a < max(z)), default=1)
        gap_g = min((max(g) - b for b in g if b < max(g)), default=1)
        cold = Fraction(99 * gap_z, 100 * max(spread_g, 1))
        hot = Fraction(101 * max(spread_z, 1), 100 * gap_g)
        assert set(tops([a + cold * b for a, b in zip(z, g, strict=True)])) <= set(tops(z))
        assert set(tops([a + hot * b for a, b in zip(z, g, strict=True)])) <= set(tops(g))
    assert moved > 200


@pytest.mark.statement("noise-path")
def test_below_zero_the_chosen_logit_may_rise() -> None:
    z = g = (0, 1)
    assert [tops([a + t * b for a, b in zip(z, g, strict=True)]) for t in (-2, -0.5)] == [[0], [1]]


# central-answer -----------------------------------------------------------------------------------


@pytest.mark.statement("central-answer")
@not_constant
def test_order_stays_odds_fall_draws_spread(values: list[float]) -> None:
    k, m, steps = len(values), len(tops(values)), ladder(values)
    assert all(same_order(p, values) and tops(p) == tops(values) for p in steps)
    for i, j in itertools.product(range(k), repeat=2):
        odds = [p[i] / p[j] for p in steps]
        for t, seen in zip(LADDER, odds, strict=True):
            assert mp.almosteq(seen, mp.exp((mp.mpf(values[i]) - values[j]) / t), 1e-40)
        if values[i] > values[j]:
            assert falls([*odds, 1])
            cold, hot = (mp.exp((mp.mpf(values[i]) - values[j]) / t) for t in (COLD, HOT))
            assert cold > 1e100
            assert hot < 1 + 1e-7

    def nats(p: list[Any]) -> Any:
        return -mp.fsum(x * mp.log(x) for x in p)

    assert falls([mp.log(k), *(nats(p) for p in reversed(steps)), mp.log(m)])
    for r in range(k + 1):
        best = [mp.fsum(sorted(p)[k - r :]) for p in steps]
        # None of the tokens and all of them have the same probability at every temperature.
        assert falls(best) == (0 < r < k)
    for t, p in zip(LADDER, steps, strict=True):
        ours = entropy(softmax(row(values), temperature=float(t)))
        assert ours.item() == pytest.approx(float(nats(p)), rel=1e-12, abs=1e-15)


@pytest.mark.statement("central-answer")
@not_constant
def test_the_limits_are_fair_choices(values: list[float]) -> None:
    k, best = len(values), tops(values)
    for i, (cold, hot) in enumerate(
        zip(*(exact_softmax(row(values), t) for t in (COLD, HOT)), strict=True)
    ):
        assert abs(cold - mp.mpf(i in best) / len(best)) < 1e-100
        assert abs(hot - mp.mpf(1) / k) < 1e-8


@pytest.mark.statement("central-answer")
@pytest.mark.parametrize("k", [1, 2, 5])
def test_constant_logits_notice_no_temperature(k: int) -> None:
    p = ladder([4.0] * k)
    assert all(all(mp.almosteq(x, mp.mpf(1) / k) for x in q) for q in p)


# greedy-text-odds ---------------------------------------------------------------------------------


def path_odds(logits: Callable[[Prefix], list[float]], text: Sequence[int], t: Any) -> Any:
    steps = (exact_softmax(row(logits(tuple(text[:n]))), t)[y] for n, y in enumerate(text))
    return mp.fprod(steps)


@pytest.mark.statement("greedy-text-odds")
@pytest.mark.parametrize(("k", "n"), [(2, 1), (2, 4), (3, 3), (4, 2), (5, 3)])
def test_the_chance_of_greedys_text_falls_strictly(k: int, n: int) -> None:
    for seed in range(6):
        logits = hashed(k, seed, low=-2)
        model = model_of(logits)
        text = greedy_search(model, NOTHING, max_new_tokens=n).tolist()
        ties = [len(tops(logits(tuple(text[:i])))) for i in range(n)]
        start, end = mp.mpf(1) / math.prod(ties), mp.mpf(k) ** -n
        assert falls([start, *(path_odds(logits, text, t) for t in LADDER), end])
        assert abs(path_odds(logits, text, COLD) - start) < 1e-7
        assert abs(path_odds(logits, text, HOT) - end) < 1e-7
        # Among the probabilities of all texts that sampling may write.
        for t in (0.5, 2.0):
            every = beam_search(at(model, t), NOTHING, width=k**n, max_new_tokens=n)
            assert every.log_probs.exp().sum().item() == pytest.approx(1, rel=1e-12)
            found = every.log_probs[every.ids.tolist().index(text)].exp().item()
            assert found == pytest.approx(float(path_odds(logits, text, t)), rel=1e-12)


@pytest.mark.statement("greedy-text-odds")
def test_constant_steps_and_other_texts_need_not_become_rarer() -> None:
    assert not falls([path_odds(lambda _: [1.0, 1.0], (0, 0), t) for t in LADDER])
    mixed = [path_odds(lambda y: [1.0, float(not y)], (0, 0), t) for t in LADDER]
    assert falls([0.5, *mixed, 0.25])  # one step that is not constant is enough
    assert falls([path_odds(lambda _: [1.0, 0.0], (1, 1), t) for t in LADDER][::-1])


# local-temperature --------------------------------------------------------------------------------

Conditionals = Callable[[Prefix], Sequence[Fraction]]


def normalized(weights: Sequence[Any]) -> list[Any]:
    return [w / sum(weights) for w in weights]


def shares(*weights: int) -> list[Fraction]:
    return normalized([Fraction(w) for w in weights])


def by_token(p: Conditionals, k: int, n: int, power: int) -> dict[Prefix, Fraction]:
    """What token-wise sampling at temperature 1/power draws from, exactly."""
    return {
        y: math.prod(
            (normalized([x**power for x in p(y[:i])])[y[i]] for i in range(n)), start=Fraction(1)
        )
        for y in itertools.product(range(k), repeat=n)
    }


def by_text(p: Conditionals, k: int, n: int, power: int) -> dict[Prefix, Fraction]:
    texts = by_token(p, k, n, 1)
    return dict(zip(texts, normalized([x**power for x in texts.values()]), strict=True))


def normalizers(p: Conditionals, y: Prefix, power: int) -> Fraction:
    return math.prod((sum(x**power for x in p(y[:i])) for i in range(len(y))), start=Fraction(1))


def random_conditionals(k: int, seed: int, weights: Sequence[int]) -> Conditionals:
    def p(prefix: Prefix) -> list[Fraction]:
        source = random.Random(f"{seed} {prefix}")
        first = [1 + source.choice(weights)]  # some weight is positive
        return shares(*first, *(source.choice(weights) for _ in range(k - 1)))

    return p


@pytest.mark.statement("local-temperature")
@pytest.mark.parametrize(("k", "n"), [(2, 1), (2, 2), (2, 3), (3, 2)])
@pytest.mark.parametrize("power", [1, 2, 3])
def test_the_two_are_equal_if_and_only_if_the_normalizers_are(k: int, n: int, power: int) -> None:
    outcomes = set()
    for seed in range(60):
        p = random_conditionals(k, seed, (0, 1, 1))
        texts, warm = by_token(p, k, n, 1), by_token(p, k, n, power)
        assert sum(warm.values()) == 1
        for y, chance in texts.items():
            assert warm[y] == chance**power / normalizers(p, y, power)
        possible = [y for y, chance in texts.items() if chance > 0]
        one_value = len({normalizers(p, y, power) for y in possible}) == 1
        assert (warm == by_text(p, k, n, power)) == one_value
        outcomes.add(one_value)
    # One token has one normalizer, and at temperature 1 all are one.
    assert outcomes == ({True} if n == 1 or power == 1 else {True, False})


@pytest.mark.statement("local-temperature")
@pytest.mark.parametrize(
    ("p", "equal"),
    [
        pytest.param(lambda y: shares(3, 1), True, id="independent tokens"),
        pytest.param(lambda y: shares(3, 1 + len(y)), True, id="independent, not identical"),
        pytest.param(lambda y: shares(3, 1) if sum(y) else shares(1, 3), True, id="permuted"),
        pytest.param(
            lambda y: shares(*[(1, 1), (3, 1)][(y[0] + len(y)) % 2] if y else (2, 1)),
            True,
            id="normalizers that change places",
        ),
        pytest.param(lambda y: shares(1, 1) if sum(y) else shares(1, 3), False, id="other shape"),
    ],
)
@pytest.mark.parametrize("power", [2, 5])
def test_the_product_counts_and_not_its_factors(p: Conditionals, equal: bool, power: int) -> None:
    assert (by_token(p, 2, 3, power) == by_text(p, 2, 3, power)) == equal


@pytest.mark.statement("local-temperature")
def test_the_most_probable_text_may_vanish_in_the_cold() -> None:
    def p(prefix: Prefix) -> list[Fraction]:
        if not prefix:
            return shares(6, 4, *[0] * 8)
        return shares(*[1] * 10) if prefix[0] == 0 else shares(1, *[0] * 9)

    texts = by_token(p, 10, 2, 1)
    assert (max(texts, key=texts.__getitem__), texts[1, 0], texts[0, 3]) == (
        (1, 0),
        Fraction(4, 10),
        Fraction(6, 100),
    )
    leads = []
    for power in range(1, 12):
        warm = by_token(p, 10, 2, power)
        assert warm[1, 0] == Fraction(4**power, 6**power + 4**power)
        assert warm[0, 0] == warm[0, 9] == (1 - warm[1, 0]) / 10
        assert by_text(p, 10, 2, power)[1, 0] >= Fraction(4, 10)
        leads.append(warm[1, 0] > warm[0, 0])
    # The odds 1.5^power pass ten between the powers 5 and 6.
    assert leads == [True] * 5 + [False] * 6
    assert warm[1, 0] < 0.02


@pytest.mark.statement("local-temperature")
@pytest.mark.parametrize("power", [1, 2, 3])
def test_that_is_what_the_decoder_draws_from(power: int) -> None:
    p, n = random_conditionals(3, 5, (0, 1, 2, 3)), 20_000
    known = {y: row([float(x) for x in p(y)]).log() for y in [(), (0,), (1,), (2,)]}

    def model(ids: Tensor) -> Tensor:
        if ids.shape[1] == 0:
            return known[()].expand(len(ids), 3)
        return torch.stack([known[i,] for i in range(3)])[ids[:, 0]]

    drawn = sample_sequence(
        model,
        NOTHING.expand(n, 0),
        max_new_tokens=2,
        temperature=1 / power,
        generator=seeded(8),
    )
    seen = (3 * drawn[:, 0] + drawn[:, 1]).bincount(minlength=9)
    warm, wrong = by_token(p, 3, 2, power), by_text(p, 3, 2, power)
    for texts, right in ((warm, True), (wrong, power == 1)):
        expected = as_double(list(texts.values())) * n
        possible = expected > 0
        assert seen[~possible].sum() == 0
        p_value = chisquare(seen[possible], expected[possible]).pvalue
        assert p_value > FALSE_ALARM if right else p_value < 1e-6
