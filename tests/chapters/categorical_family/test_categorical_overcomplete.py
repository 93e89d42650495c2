"""The theorem `categorical-overcomplete`: Overcomplete form of the categorical distribution."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

from omnivault.distributions import Categorical
from tests.chapters.categorical_family.common import (
    EXACT,
    U,
    lse,
    positive_weights,
    powers,
    shares,
    soft,
)
from tests.support.strategies import (
    as_double,
    assert_within,
    exact_softmax,
    inner,
    logsumexp_bound,
    number,
    rows,
    softmax_bound,
    whole_row_pairs,
)


@pytest.mark.statement("categorical-overcomplete", "exact")
@given(rows(min_size=2), st.floats(-30, 30))
def test_the_log_partition_is_log_sum_exp_and_the_law_is_softmax(z: Tensor, c: float) -> None:
    logits = [mp.mpf(x) for x in z.tolist()]
    one_hot = [[int(k == y) for k in range(len(z))] for y in range(len(z))]
    a = mp.log(mp.fsum(mp.exp(inner(logits, t)) for t in one_hot))
    law = [mp.exp(inner(logits, t) - a) for t in one_hot]
    assert_within(law, exact_softmax(z), EXACT)
    off = logsumexp_bound(z) + U * float(abs(a))
    assert_within(Categorical.log_partition(z), as_double([a])[0], off)
    assert_within(Categorical.from_natural(z).probs, as_double(law), softmax_bound(z))
    # Any natural parameter of the law is its logarithm and a constant, which is A.
    assert_within([x - mp.log(p) for x, p in zip(logits, law, strict=True)], a, EXACT)
    assert_within(soft([x + mp.mpf(c) for x in logits]), law, EXACT)


@pytest.mark.statement("categorical-overcomplete", "exact")
@given(positive_weights)
def test_it_contains_every_positive_distribution(weights: list[int]) -> None:
    pi = [number(p) for p in shares(weights)]
    z = [mp.log(p) for p in pi]
    assert_within(lse(z), 0, EXACT)
    assert_within(soft(z), pi, EXACT)
    probs = as_double(pi)
    again = Categorical.from_natural(Categorical(probs).to_natural()).probs
    # p log p, at most 1 / e, to 8 u, and the mean of log p with it.
    assert_within(again, probs, softmax_bound(probs.log()) + 16 * U)


@pytest.mark.statement("categorical-overcomplete", "exact")
@given(whole_row_pairs(min_size=2, bound=3), st.booleans(), st.integers(-5, 5))
def test_two_logit_rows_are_one_distribution_if_and_only_if_they_differ_by_a_constant(
    pair: tuple[Tensor, Tensor], shifted: bool, c: int
) -> None:
    u, v = ([int(x) for x in row.tolist()] for row in pair)
    if shifted:
        v = [x + c for x in u]
    constant = len({a - b for a, b in zip(u, v, strict=True)}) == 1
    assert (powers(u) == powers(v)) == constant
    # The minimal parameter does not see the constant, and sees everything else.
    minimal = [[x - row[-1] for x in row[:-1]] for row in (u, v)]
    assert (minimal[0] == minimal[1]) == constant
    assert powers([*minimal[0], 0]) == powers(u)
