"""The corollary `greedy-invariance`: Greedy decoding is blind to temperature."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from omnivault.decoding import greedy_search
from omnivault.sampling import apply_temperature, greedy
from omnivault.softmax import log_softmax, softmax
from tests.chapters.greedy_and_sampling.common import Toy, tops
from tests.support.strategies import SINGLE_DOUBLE, exact_softmax, temperatures, whole_rows


@pytest.mark.statement("greedy-invariance", "exact")
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
