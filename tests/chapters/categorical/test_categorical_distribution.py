"""The definition `categorical-distribution`: Categorical distribution."""

from __future__ import annotations

import pytest
import torch

from omnivault.distributions import Categorical
from tests.chapters.categorical.common import Row, on_the_simplex, product
from tests.support.strategies import DTYPES, as_double


@pytest.mark.statement("categorical-distribution", "exact")
@on_the_simplex
def test_the_product_picks_the_probability_of_the_outcome(pi: Row) -> None:
    y = range(len(pi))
    assert tuple(product(p ** int(i == k) for i, p in enumerate(pi)) for k in y) == pi
    for dtype in DTYPES:
        probs = as_double(pi).to(dtype)
        assert torch.equal(Categorical(probs).pmf(torch.tensor(y)), probs)
