from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import scipy.stats
import torch

from omnivault.distributions import Bernoulli, Categorical, Multinomial
from tests.package.distributions.common import FALSE_ALARM, INF, NAN, P3, generator

DTYPE = (
    "probs must be a tensor of a floating dtype, got {}; torch.tensor(...) or p.float() makes one"
)
OUTSIDE = (
    "probs must lie in [0, 1], got {}; turn logits into probabilities with torch.sigmoid first"
)
SUM = (
    "probabilities must be >= 0 and sum to 1, got a row {} with sum {}; turn logits into "
    "probabilities with softmax(z) first"
)
EMPTY = "probs need a last dimension that holds at least one outcome, got shape {}"
MANY = "must be below 2^63, got {}; counts are int64, so take fewer draws at a time"
HALVES = torch.tensor([0.5, 0.5])
categorical: list[tuple[Any, type[Exception], str, Any]] = [
    ([0.5, 0.5], TypeError, DTYPE.format([0.5, 0.5]), HALVES),
    (torch.tensor([0, 1]), TypeError, DTYPE.format("tensor([0, 1])"), torch.tensor([0.0, 1.0])),
    (torch.tensor(1.0), ValueError, EMPTY.format(()), torch.tensor([1.0])),
    (torch.zeros(2, 0), ValueError, EMPTY.format((2, 0)), torch.ones(2, 1)),
    (torch.tensor([NAN, 1.0]), ValueError, "probs hold nan: [nan, 1.0]", HALVES),
    (torch.tensor([1.5, -0.5]), ValueError, SUM.format([1.5, -0.5], 1), HALVES),
    (
        torch.tensor([[0.5, 0.5], [0.5, 0.502]]),
        ValueError,
        SUM.format([0.5, 0.5019999742507935], 1.002),
        torch.tensor([[0.5, 0.5], [0.5, 0.5005]]),
    ),
    (
        torch.tensor([0.5, 0.5625], dtype=torch.bfloat16),
        ValueError,
        SUM.format([0.5, 0.5625], 1.0625),
        torch.tensor([0.5, 0.53125], dtype=torch.bfloat16),
    ),
    (torch.tensor([INF, 0.0]), ValueError, SUM.format([INF, 0.0], "inf"), HALVES),
]
BAD: list[tuple[Callable[[Any], Any], Any, type[Exception], str, Any]] = [
    (Bernoulli, 0.5, TypeError, DTYPE.format(0.5), torch.tensor(0.5)),
    (Bernoulli, torch.tensor(1), TypeError, DTYPE.format("tensor(1)"), torch.tensor(1.0)),
    (Bernoulli, torch.tensor([0.5, 1.5]), ValueError, OUTSIDE.format([1.5]), HALVES),
    (Bernoulli, torch.tensor([-0.5, 1.0]), ValueError, OUTSIDE.format([-0.5]), HALVES),
    (Bernoulli, torch.tensor(NAN), ValueError, OUTSIDE.format("[nan]"), torch.tensor(0.0)),
    *((Categorical, *row) for row in categorical),
    *((lambda p: Multinomial(2, p), *row) for row in categorical),
    (
        Categorical(P3).pmf,
        torch.tensor([0.0, 1.0]),
        TypeError,
        "y must hold integer indices, got torch.float32: [0.0, 1.0]",
        torch.tensor([0, 1]),
    ),
    (
        Categorical(P3).pmf,
        torch.tensor([True]),
        TypeError,
        "y must hold integer indices, got torch.bool: [True]",
        torch.tensor([1]),
    ),
    *(
        (
            Multinomial(2, P3).pmf,
            torch.zeros(shape),
            ValueError,
            f"y must hold 3 counts in its last dimension, got shape {shape}",
            torch.zeros(3),
        )
        for shape in ((), (2,), (3, 1))
    ),
    *(
        (function, bad, error, f"{name} {message}", 1)
        for name, function in (
            ("n", lambda n: Multinomial(n, P3)),
            ("draws", Bernoulli(HALVES).sample),
            ("draws", Categorical(P3).sample),
            ("draws", Multinomial(2, P3).sample),
        )
        for bad, error, message in (
            (0, ValueError, "must be at least 1, got 0"),
            (-2, ValueError, "must be at least 1, got -2"),
            (2.0, TypeError, "must be an int such as 10, got 2.0"),
            (True, TypeError, "must be an int such as 10, got True"),
            (-(10**5000), ValueError, "must be at least 1, got a negative int of some 5000 digits"),
            (2**63, ValueError, MANY.format(2**63)),
            (10**30, ValueError, MANY.format(10**30)),
            (10**5000, ValueError, MANY.format("an int of some 5000 digits")),
        )
    ),
]


# Numbered, as pytest would write out an integer that is too long for it.
@pytest.mark.parametrize(
    ("function", "bad", "error", "message", "good"), BAD, ids=map(str, range(len(BAD)))
)
def test_what_is_rejected_is_shown_beside_what_is_not(
    function: Callable[[Any], Any], bad: Any, error: type[Exception], message: str, good: Any
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        function(bad)
    function(good)


def test_a_tail_of_small_probabilities_is_drawn() -> None:
    """In float32 a running sum swallows each of them: torch.multinomial then draws none."""
    weights = torch.full((500_001,), 2e-8)
    weights[0] = 1.0
    probs = weights / weights.double().sum().float()
    tail = probs[1:].double().sum().item()
    n = 20_000
    swallowed = torch.multinomial(probs, n, replacement=True, generator=generator())
    assert (swallowed == 0).all()
    drawn = Categorical(probs).sample(n, generator=generator())
    hits = int((drawn > 0).sum())
    assert scipy.stats.binomtest(hits, n, tail).pvalue > FALSE_ALARM
    counts = Multinomial(n, probs).sample(1, generator=generator())[0]
    assert scipy.stats.binomtest(int(counts[1:].sum()), n, tail).pvalue > FALSE_ALARM


BATCH = torch.tensor([[0.5, 0.5], [0.3, 0.7], [0.9, 0.1]])
FUNCTIONS_OF_OUTCOMES = {
    "Bernoulli.pmf": (Bernoulli(BATCH[:, 0]).pmf, torch.zeros(3)),
    "Bernoulli.log_pmf": (Bernoulli(BATCH[:, 0]).log_pmf, torch.zeros(3)),
    "Bernoulli.sufficient_statistic": (Bernoulli(BATCH[:, 0]).sufficient_statistic, torch.zeros(3)),
    "Categorical.pmf": (Categorical(BATCH).pmf, torch.tensor([0, 1, 1])),
    "Categorical.log_pmf": (Categorical(BATCH).log_pmf, torch.tensor([0, 1, 1])),
    "Categorical.sufficient_statistic": (Categorical(BATCH).sufficient_statistic, torch.tensor(1)),
    "Multinomial.pmf": (Multinomial(2, BATCH).pmf, torch.tensor([[1, 1]] * 3)),
    "Multinomial.log_pmf": (Multinomial(2, BATCH).log_pmf, torch.tensor([[1, 1]] * 3)),
    "Multinomial.sufficient_statistic": (
        Multinomial(2, BATCH).sufficient_statistic,
        torch.tensor([1, 1]),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS_OF_OUTCOMES)
def test_outcomes_must_be_a_tensor(name: str) -> None:
    function, good = FUNCTIONS_OF_OUTCOMES[name]
    function(good)
    with pytest.raises(
        TypeError, match=r"^outcomes must be a tensor, got .*; torch.tensor\(\.\.\.\)"
    ):
        function(good.tolist())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FUNCTIONS_OF_OUTCOMES)
def test_outcomes_must_be_dense_and_real(name: str) -> None:
    function, good = FUNCTIONS_OF_OUTCOMES[name]
    sparse = good.to_sparse()
    message = (
        "outcomes must be a dense tensor, got layout torch.sparse_coo; outcomes.to_dense() makes "
        "one"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        function(sparse)
    function(sparse.to_dense())
    message = "outcomes must be real numbers, got torch.complex64; y.real takes their part"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        function(good.to(torch.complex64))


MADE_OF: dict[str, list[Callable[[torch.Tensor], Any]]] = {
    "probs": [Bernoulli, Categorical, lambda p: Multinomial(2, p)],
    "eta": [
        Bernoulli.from_natural,
        Bernoulli.log_partition,
        Categorical.from_natural,
        Categorical.log_partition,
        lambda eta: Multinomial.from_natural(2, eta),
        lambda eta: Multinomial.log_partition(2, eta),
    ],
}


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
@pytest.mark.parametrize("name", MADE_OF)
def test_eight_bits_are_too_few(name: str, dtype: torch.dtype) -> None:
    message = (
        f"{name} must be a tensor of float16, bfloat16, float32 or float64, got {dtype}; "
        f"{name}.float() makes one"
    )
    for make in MADE_OF[name]:
        # A row that sums to one, and one that does not.
        for row in ([0.5, 0.5], [0.5, 0.75]):
            with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
                make(torch.tensor(row).to(dtype))
        make(HALVES.to(dtype).float())


@pytest.mark.parametrize("name", [n for n in FUNCTIONS_OF_OUTCOMES if n.endswith("pmf")])
def test_outcomes_must_broadcast_with_the_batch(name: str) -> None:
    function, good = FUNCTIONS_OF_OUTCOMES[name]
    message = (
        r"^outcomes of shape \(2.* do not broadcast with \(3.*, the shape that probs give them$"
    )
    with pytest.raises(ValueError, match=message):
        function(good[:2])
    assert torch.equal(function(good[:1]), function(good[:1].expand_as(good)))


def test_one_outcome_has_no_other() -> None:
    certain = Categorical(torch.ones(1, dtype=torch.float64))
    assert certain.pmf(torch.tensor([0, 1, -1])).tolist() == [1, 0, 0]
