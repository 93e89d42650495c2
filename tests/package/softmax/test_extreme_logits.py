from __future__ import annotations

import math

import pytest
import torch

from omnivault.softmax import log_softmax, logsumexp, softmax, softmax_jacobian
from tests.package.softmax.common import INF, NAN, Map, backward, dtypes, random_logits, slack
from tests.support.strategies import (
    HALF,
    arithmetic,
    as_double,
    assert_within,
    exact_logsumexp,
    exact_softmax,
    log_softmax_bound,
    logsumexp_bound,
    smallest,
    softmax_bound,
    unit,
)

NOT_FINITE = {
    "some -inf": ([1.0, -INF, 2.0], False),
    "all but one -inf": ([-INF, 0.5, -INF], False),
    "all -inf": ([-INF, -INF], True),
    "one class, -inf": ([-INF], True),
    "+inf": ([1.0, INF], True),
    "two +inf": ([INF, INF, 0.0], True),
    "both infinities": ([INF, -INF, 0.0], True),
    "one class, +inf": ([INF], True),
    "nan": ([1.0, NAN, 2.0], True),
    "nan and -inf": ([NAN, -INF], True),
    "nan and +inf": ([NAN, INF], True),
    "all nan": ([NAN, NAN], True),
}
not_finite = pytest.mark.parametrize(
    ("values", "undefined"), NOT_FINITE.values(), ids=NOT_FINITE.keys()
)


@not_finite
@dtypes
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_infinities_and_nan_are_treated_as_torch_treats_them(
    values: list[float], undefined: bool, dtype: torch.dtype, temperature: float
) -> None:
    z = torch.tensor(values, dtype=dtype)
    scaled = z.double() / temperature
    p, log_p = softmax(z, temperature=temperature), log_softmax(z, temperature=temperature)
    value = logsumexp(z, temperature=temperature)
    for actual, expected, bound in (
        (p, torch.softmax(scaled, -1), softmax_bound),
        (log_p, torch.log_softmax(scaled, -1), log_softmax_bound),
        (value, temperature * torch.logsumexp(scaled, -1), logsumexp_bound),
    ):
        if undefined:
            # Nothing but nan and infinities, and nothing to round.
            assert not expected.isfinite().any()
            torch.testing.assert_close(actual.double(), expected, rtol=0, atol=0, equal_nan=True)
        else:
            assert_within(actual, expected, slack(dtype) * bound(z, temperature))
    assert bool(p.isnan().all()) == bool(log_p.isnan().all()) == undefined


def test_the_table_of_the_module() -> None:
    some, none = torch.tensor([0.0, -INF, 0.0]), torch.tensor([-INF, -INF])
    above, nan = torch.tensor([0.0, INF]), torch.tensor([0.0, NAN])
    half = torch.tensor(0.5).log().item()
    assert softmax(some).tolist() == [0.5, 0.0, 0.5]
    # Two logarithms, off by 8 u each.
    relative = 16 * unit(torch.float32)
    assert log_softmax(some).tolist() == pytest.approx([half, -INF, half], rel=relative)
    assert logsumexp(some).item() == pytest.approx(-half, rel=relative)
    assert logsumexp(none).item() == -INF
    assert logsumexp(above).item() == INF
    assert math.isnan(logsumexp(nan).item())
    for z in (none, above, nan):
        assert bool(softmax(z).isnan().all())
        assert bool(log_softmax(z).isnan().all())


def test_an_undefined_row_leaves_its_neighbors_alone() -> None:
    z = torch.tensor([[1.0, 2.0], [-INF, -INF], [NAN, 0.0], [INF, 0.0], [2.0, 1.0]])
    for subject in (softmax, log_softmax, logsumexp, softmax_jacobian):
        together = subject(z)
        for row, alone in zip((0, 4), (subject(z[0]), subject(z[4])), strict=True):
            # Gaps of one: either is off by 32 u of itself at most.
            rtol = 64 * unit(z.dtype)
            torch.testing.assert_close(together[row], alone, rtol=rtol, atol=0)
            assert not alone.isnan().any()


@pytest.mark.parametrize("subject", [softmax, log_softmax, logsumexp])
@not_finite
def test_gradients_of_infinities_and_nan_are_those_of_torch(
    subject: Map, values: list[float], undefined: bool
) -> None:
    z = torch.tensor(values)
    v = None if subject is logsumexp else torch.arange(1.0, len(values) + 1)
    gradient = backward(subject, z, v, -1)
    wide = None if v is None else v.double()
    expected = backward(getattr(torch, subject.__name__), z.double(), wide, -1)
    # p is off by 20 u at gaps up to 1, four times in p (v - <p, v>), and v is 3 at most.
    atol = 4 * 20 * 3 * unit(z.dtype)
    torch.testing.assert_close(gradient.double(), expected, rtol=0, atol=atol, equal_nan=True)
    assert undefined == bool(gradient.isnan().any())


HUGE = {
    "float32, near the largest": ([3e38, 3e38], 1.0, torch.float32, [0.5, 0.5]),
    "float32, as far apart as can be": ([3e38, -3e38], 1.0, torch.float32, [1.0, 0.0]),
    "float32, all near the smallest": ([-3e38, -3e38, -3e38], 1.0, torch.float32, [1 / 3] * 3),
    "float32, tie and rest": ([1e30, 1e30, -1e30], 1.0, torch.float32, [0.5, 0.5, 0.0]),
    "float16, whose exp overflows at 11.1": ([1e4, 1e4], 1.0, torch.float16, [0.5, 0.5]),
    "float16, the largest": ([65504.0, -65504.0], 1.0, torch.float16, [1.0, 0.0]),
    "bfloat16, near the largest": ([3e38, 3e38, -3e38], 1.0, torch.bfloat16, [0.5, 0.5, 0.0]),
    "float64, near the largest": ([1e308, 1e308, -1e308], 1.0, torch.float64, [0.5, 0.5, 0.0]),
    "tiny T, z / T would overflow": ([1e10, 1e10, 0.0], 1e-30, torch.float32, [0.5, 0.5, 0.0]),
    "tiny T, (z - max z) / T overflows": ([0.0, -1e10], 1e-30, torch.float32, [1.0, 0.0]),
    "tiny T, a gap of the same size": ([1e-30, 0.0], 1e-30, torch.float32, None),
    "the smallest T": ([1.0, 1.0, 0.0], 1.1754943508222875e-38, torch.float32, [0.5, 0.5, 0.0]),
    "tiny T, float64": ([5.0, 5.0, 0.0], 1e-300, torch.float64, [0.5, 0.5, 0.0]),
    "tiny T, float16": ([5.0, 5.0, 0.0], 1e-30, torch.float16, [0.5, 0.5, 0.0]),
    "huge T": ([5.0, -70.0, 3.0, 1.0], 1e38, torch.float32, [0.25] * 4),
    "huge T, float16": ([5.0, -70.0, 3.0, 1.0], 1e30, torch.float16, [0.25] * 4),
    "huge T and huge logits": ([1e38, -1e38], 1e38, torch.float32, None),
    "huge T, float64": ([5.0, -70.0, 3.0, 1.0], 1e300, torch.float64, [0.25] * 4),
}


@pytest.mark.parametrize(
    ("values", "temperature", "dtype", "limit"), HUGE.values(), ids=HUGE.keys()
)
def test_huge_logits_and_extreme_temperatures(
    values: list[float], temperature: float, dtype: torch.dtype, limit: list[float] | None
) -> None:
    z = torch.tensor(values, dtype=dtype)
    p = softmax(z, temperature=temperature)
    assert_within(p, as_double(exact_softmax(z, temperature)), softmax_bound(z, temperature))
    if limit is not None:
        assert p.tolist() == torch.tensor(limit, dtype=dtype).tolist()
    expected = as_double([exact_logsumexp(z, temperature)])[0]
    held = torch.where(expected.abs() <= torch.finfo(dtype).max, expected, expected * INF)
    # A logarithm, 8 u, the sum under it, T, its product and the sum with the largest logit.
    bound = 16 * unit(dtype) * expected.abs() + smallest(dtype)
    assert_within(logsumexp(z, temperature=temperature), held, bound)


@pytest.mark.parametrize(
    ("values", "temperature", "dtype"),
    [
        ([3e38, -3e38], 1e38, torch.float32),
        ([2e38, -2e38, 0.0], 1.5e38, torch.float32),
        ([3e38, -3e38], 1e38, torch.bfloat16),
        ([1.5e308, -1.5e308], 1e308, torch.float64),
    ],
)
def test_a_gap_that_overflows_while_gap_over_t_does_not(
    values: list[float], temperature: float, dtype: torch.dtype
) -> None:
    z = torch.tensor(values, dtype=dtype)
    scaled = z.double() / temperature
    for actual, expected in (
        (softmax(z, temperature=temperature), torch.softmax(scaled, -1)),
        (log_softmax(z, temperature=temperature), torch.log_softmax(scaled, -1)),
        (logsumexp(z, temperature=temperature), temperature * torch.logsumexp(scaled, -1)),
    ):
        # gap / T is below 8, so exp amplifies three roundings 24 times; log p may be near zero.
        u = unit(arithmetic(dtype))
        torch.testing.assert_close(
            actual.double(), expected, rtol=unit(dtype) + 32 * u, atol=2 * u + smallest(dtype)
        )


@pytest.mark.parametrize(
    ("values", "expected", "dtype"),
    [
        ([0.0, -1e10], [0.0, -INF], torch.float32),  # -1e40
        ([0.0, -1e8], [0.0, -1e38], torch.float32),
        (
            [0.0, -1e-29],
            [-math.log1p(math.exp(-10)), -10 - math.log1p(math.exp(-10))],
            torch.float32,
        ),
    ],
)
def test_log_softmax_at_a_tiny_temperature(
    values: list[float], expected: list[float], dtype: torch.dtype
) -> None:
    log_p = log_softmax(torch.tensor(values, dtype=dtype), temperature=1e-30)
    # The logit, T, the quotient and the difference are rounded; the sum, which is near 1, too,
    # and where its logarithm is all there is, that counts.
    u = unit(dtype)
    torch.testing.assert_close(
        log_p.double(), torch.tensor(expected, dtype=torch.float64), rtol=6 * u, atol=2 * u
    )


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    z = (random_logits(64, 1000) / 2).to(dtype)
    wide = z.float()
    for subject in (softmax, log_softmax, logsumexp):
        assert torch.equal(subject(z), subject(wide).to(dtype))
    assert torch.equal(softmax_jacobian(z[:4, :50]), softmax_jacobian(wide[:4, :50]).to(dtype))


def test_a_half_precision_vocabulary_still_sums() -> None:
    # Added up in float16, 70,000 equal weights of 1 would stop at infinity.
    z = torch.zeros(70_000, dtype=torch.float16)
    assert logsumexp(z).item() == torch.tensor(math.log(70_000)).half().item()
    # Each probability is subnormal, and rounded by half of 2^-24 at most.
    assert softmax(z).double().sum().item() == pytest.approx(1.0, abs=70_000 * 2.0**-25)
