"""Sparse tensors are refused in one line, and numbers of eight bits are taken or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from omnivault.calibration import expected_calibration_error, fit_temperature, reliability_bins
from omnivault.distributions import Bernoulli
from omnivault.information import cross_entropy, entropy, kl_divergence, perplexity
from omnivault.sampling import apply_temperature, in_nucleus, sample
from omnivault.softmax import softmax, softmax_vjp

Z = torch.tensor([[1.0, 2.0, 0.5], [0.5, 0.0, 1.0]])
P = Z.softmax(-1)
LABELS = torch.tensor([1, 2])
CLAIMS, TRUE = torch.tensor([0.5, 0.25]), torch.tensor([True, False])
SPARSE: dict[str, tuple[str, Callable[[], Any]]] = {
    "weights": ("weights", lambda: softmax(Z, weights=P.to_sparse())),
    "a temperature": ("temperature", lambda: softmax(Z, temperature=CLAIMS.to_sparse())),
    "one of sample": ("temperature", lambda: sample(Z, temperature=CLAIMS.to_sparse())),
    "one of apply_temperature": (
        "temperature",
        lambda: apply_temperature(Z, CLAIMS.to_sparse()),
    ),
    "a vector": ("v", lambda: softmax_vjp(P, P.to_sparse())),
    "claims": ("claimed", lambda: reliability_bins(CLAIMS.to_sparse(), TRUE)),
    "what came true": ("came_true", lambda: reliability_bins(CLAIMS, TRUE.to_sparse())),
    "tokens of in_nucleus": ("tokens", lambda: in_nucleus(Z, LABELS.to_sparse(), 0.5)),
    "outcomes": ("outcomes", lambda: Bernoulli(CLAIMS).pmf(LABELS.to_sparse())),
    "labels": ("labels", lambda: expected_calibration_error(P, LABELS.to_sparse())),
    "labels of a fit": ("labels", lambda: fit_temperature(Z, LABELS.to_sparse())),
}


@pytest.mark.parametrize("case", SPARSE)
def test_what_is_sparse_is_refused(case: str) -> None:
    name, call = SPARSE[case]
    with pytest.raises(TypeError, match=f"^{name} must be a dense tensor, got layout ") as caught:
        call()
    assert len(str(caught.value)) < 120


EIGHT = pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)


@EIGHT
def test_eight_bits_are_taken_as_float32(dtype: torch.dtype) -> None:
    log_p = torch.tensor([-0.5, -0.25]).to(dtype)
    assert perplexity(log_p).dtype is dtype
    assert torch.equal(perplexity(log_p).float(), perplexity(log_p.float()).to(dtype).float())
    claims = CLAIMS.to(dtype)
    for found, expected in zip(
        reliability_bins(claims, TRUE, 4), reliability_bins(claims.float(), TRUE, 4), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    rows, labels = torch.tensor([[4.0, 0.0]] * 4).to(dtype), torch.tensor([0, 0, 0, 1])
    assert fit_temperature(rows, labels) == fit_temperature(rows.float(), labels)
    halves = torch.tensor([[0.5, 0.5], [0.75, 0.25]]).to(dtype)
    assert expected_calibration_error(halves, labels[:2]) == expected_calibration_error(
        halves.float(), labels[:2]
    )
    weights = torch.tensor([1.0, 2.0, 0.0]).to(dtype)
    assert torch.equal(softmax(Z, weights=weights), softmax(Z, weights=weights.float()))


@EIGHT
@pytest.mark.parametrize("f", [cross_entropy, kl_divergence])
def test_eight_bits_beside_others_give_the_others_format(
    f: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype
) -> None:
    p = torch.tensor([0.5, 0.25, 0.25]).to(dtype)
    for other in (torch.float32, torch.float64):
        q = torch.tensor([0.25, 0.25, 0.5], dtype=other)
        for pair in ((p, q), (q, p)):
            assert f(*pair).dtype is other
            torch.testing.assert_close(f(*pair), f(*(x.to(other) for x in pair)), rtol=0, atol=0)


@EIGHT
def test_a_row_of_eight_bits_that_is_none_is_shown(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=r"got a row \[0\.5, 1\.0\] with sum 1\.5"):
        entropy(torch.tensor([0.5, 1.0]).to(dtype))
    with pytest.raises(ValueError, match=r"^log-probabilities must be <= 0, got \[0\.5\]"):
        perplexity(torch.tensor([0.5, -1.0]).to(dtype))
    with pytest.raises(ValueError, match=r"^claims must lie in \[0, 1\], got \[1\.5\]"):
        reliability_bins(torch.tensor([0.5, 1.5]).to(dtype), TRUE)


def test_a_number_of_bins_too_long_to_print_is_shown_by_its_length() -> None:
    with pytest.raises(ValueError, match=r"^bins must be at least 1, got a negative int of some "):
        reliability_bins(CLAIMS, TRUE, bins=-(10**5000))
