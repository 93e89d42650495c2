"""The theorem `local-temperature`: A temperature of tokens is not a temperature of texts."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import pytest
from mpmath import mp

from tests.chapters.greedy_and_sampling.common import falls
from tests.support.strategies import assert_within, number

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
