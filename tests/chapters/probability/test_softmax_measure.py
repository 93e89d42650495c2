"""The theorem `softmax-measure`: Softmax induces a probability measure."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from mpmath import mp
from torch import Tensor

from omnivault.softmax import softmax
from tests.chapters.probability.common import U
from tests.support.strategies import (
    as_double,
    assert_within,
    events,
    exact_softmax,
    rows,
    softmax_bound,
    temperatures,
)


@pytest.mark.statement("softmax-measure", "exact")
@settings(max_examples=10)
@given(rows(1, 4, bound=5.0), temperatures(0.5))
def test_the_shares_determine_the_measure(z: Tensor, temperature: float) -> None:
    # Additivity over disjoint events and the single outcomes: linear equations for the 2^K values.
    everything = events(len(z))
    column = {event: i for i, event in enumerate(everything)}
    p = softmax(z, temperature=temperature)
    equations: list[Tensor] = []
    right: list[float] = []
    unit_row = torch.eye(len(everything), dtype=torch.float64)
    for a in everything:
        for b in everything:
            if not a & b:
                equations.append(
                    unit_row[column[a | b]] - unit_row[column[a]] - unit_row[column[b]]
                )
                right.append(0.0)
    for j in range(len(z)):
        equations.append(unit_row[column[frozenset({j})]])
        right.append(p[j].item())
    matrix = torch.stack(equations)
    assert int(torch.linalg.matrix_rank(matrix)) == len(everything)
    solution = torch.linalg.lstsq(matrix, torch.tensor(right, dtype=torch.float64)).solution
    exact = exact_softmax(z, temperature)
    sums = as_double([mp.fsum(exact[j] for j in event) for event in everything])
    # The shares' errors, and those of a least-squares solution of norm 4 at most: a few times 2^K
    # roundings, which the condition number magnifies.
    condition = torch.linalg.cond(matrix).item()
    allowed = softmax_bound(z, temperature).sum().item() + 16 * len(everything) * condition * U
    assert_within(solution, sums, allowed)
