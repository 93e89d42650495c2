"""Dials with one number for each row, as a server has them whose requests come together."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from omnivault.sampling import TRUNCATIONS, in_nucleus, plain_sample, sample
from tests.package.sampling.common import INF, KINDS, dtypes, generator, kept, logits_of

VALUES: dict[str, Tensor] = {
    "top_k": torch.tensor([1, 2, 3, 7, 12, 40]),
    "top_n_sigma": torch.tensor([0.1, 0.5, 1.0, 2.0, 1.5, INF], dtype=torch.float64),
    "top_p": torch.tensor([0.1, 0.3, 0.75, 0.9, 1 - 1e-9, 1.0], dtype=torch.float64),
    "min_p": torch.tensor([1.0, 0.5, 0.1, 0.01, 1e-30, 0.0], dtype=torch.float64),
    "typical_p": torch.tensor([0.1, 0.3, 0.75, 0.9, 1 - 1e-9, 1.0], dtype=torch.float64),
    "epsilon_cutoff": torch.tensor([1.0, 0.5, 0.1, 0.01, 1e-30, 0.0], dtype=torch.float64),
    "eta_cutoff": torch.tensor([1.0, 0.5, 0.1, 0.01, 1e-30, 0.0], dtype=torch.float64),
    "top_a": torch.tensor([1.0, 0.5, 0.1, 0.01, 1e-30, 0.0], dtype=torch.float64),
    "p_less": torch.tensor([INF, 3.0, 2.0, 1.0, 1.25, 0.1], dtype=torch.float64),
    "top_h": torch.tensor([0.1, 0.3, 0.75, 0.9, 1 - 1e-9, 1.0], dtype=torch.float64),
    "tail_free": torch.tensor([0.1, 0.3, 0.75, 0.9, 1 - 1e-9, 1.0], dtype=torch.float64),
    "xtc": torch.tensor([1e-30, 1e-3, 0.01, 0.05, 0.1, 1.0], dtype=torch.float64),
}
"""Six of each; the last keeps every token, where a value does."""

every_dial = pytest.mark.parametrize("name", TRUNCATIONS)
both = pytest.mark.parametrize("draw", [sample, plain_sample])


def test_each_truncation_has_values_here() -> None:
    assert set(VALUES) == set(TRUNCATIONS)


@every_dial
@dtypes
@pytest.mark.parametrize("kind", KINDS)
def test_each_row_is_cut_as_if_it_were_alone(name: str, dtype: torch.dtype, kind: str) -> None:
    function, values = TRUNCATIONS[name].function, VALUES[name]
    for z in logits_of(kind, 30, 40, dtype).reshape(5, 6, 40):
        alone = [function(row, value.item()) for row, value in zip(z, values, strict=True)]
        assert torch.equal(function(z, values), torch.stack(alone))
        if name != "p_less":
            assert torch.equal(function(z, values)[-1], z[-1])
        together = function(z.reshape(2, 3, 40), values.reshape(2, 3))
        assert torch.equal(together.reshape(6, 40), torch.stack(alone))
        # One for each column of the batch, and one for all.
        broad = function(z.reshape(2, 3, 40), values[:3])
        assert torch.equal(broad.reshape(6, 40), function(z, values[:3].repeat(2)))
        for one in (values[2:3], values[2]):
            assert torch.equal(function(z, one), function(z, values[2].item()))


@pytest.mark.parametrize(
    "dtype",
    [torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16, torch.uint32, torch.uint64],
    ids=str,
)
@pytest.mark.parametrize("vocabulary", [128, 256, 50_257])
def test_k_of_a_dtype_that_cannot_hold_the_size_of_the_vocabulary(
    dtype: torch.dtype, vocabulary: int
) -> None:
    z, k = logits_of("1", 2, vocabulary), torch.tensor([40, 50])
    function = TRUNCATIONS["top_k"].function
    assert torch.equal(function(z, k.to(dtype)), function(z, k))
    with pytest.raises(ValueError, match=rf"^top_k must lie in \[1, {vocabulary}\], .* got \[0\];"):
        function(z, torch.tensor([0, 50]).to(dtype))


@pytest.mark.parametrize("bad", [[1, 2], (1, 2), np.array([1, 2]), np.array(1.0)], ids=repr)
@every_dial
def test_a_list_is_refused_with_what_is_taken(name: str, bad: Any) -> None:
    z, advice = logits_of("1", 2, 40), "; a tensor may hold one for each row"
    function = TRUNCATIONS[name].function
    with pytest.raises(
        TypeError, match=rf"^{name} must be an? (int|number) such as \S+, got .*{advice}$"
    ):
        function(z, bad)
    function(z, torch.tensor([1, 1]))


@every_dial
def test_numbers_of_other_dtypes_and_an_empty_batch(name: str) -> None:
    function, values = TRUNCATIONS[name].function, VALUES[name]
    z = logits_of("1", 6, 40)
    other = values.int() if name == "top_k" else values.float()
    as_double = other.double() if name != "top_k" else other.long()
    assert torch.equal(function(z, other), function(z, as_double))
    assert function(z[:0], values[:0]).shape == (0, 40)
    assert function(z.reshape(6, 1, 40)[:, :0], values[:1]).shape == (6, 0, 40)
    assert function(z.to("meta"), values.to("meta")).shape == (6, 40)


@both
@every_dial
def test_what_a_row_draws_does_not_depend_on_the_rows_beside_it(name: str, draw: Any) -> None:
    z = logits_of("1", 60, 40).reshape(10, 6, 40)
    values, temperature = VALUES[name], torch.tensor([0.5, 1.0, 2.0, 0.0, 3.0, 1.0])
    for number, rows in enumerate(z):
        dials: dict[str, Any] = {name: values}
        seeds = [generator(10 * number + i) for i in range(6)]
        together = draw(rows, temperature=temperature, generator=seeds, **dials)
        alone = [
            draw(
                rows[i],
                temperature=temperature[i].item(),
                generator=generator(10 * number + i),
                **{name: values[i].item()},
            )
            for i in range(6)
        ]
        assert together.tolist() == [int(token) for token in alone]
        order = [5, 2, 0, 4, 1, 3]
        shuffled = draw(
            rows[order],
            temperature=temperature[order],
            generator=[generator(10 * number + i) for i in order],
            **{name: values[order]},
        )
        assert torch.equal(shuffled, together[order])


@both
def test_all_dials_together_each_with_its_numbers(draw: Any) -> None:
    z = logits_of("1", 4, 40)
    dials: dict[str, Any] = {
        "top_k": torch.tensor([40, 5, 40, 20]),
        "top_n_sigma": torch.tensor([INF, INF, 1.0, 2.0]),
        "top_p": torch.tensor([0.5, 1.0, 1.0, 0.9]),
        "min_p": torch.tensor([0.0, 0.1, 0.0, 0.05]),
        "typical_p": torch.tensor([1.0, 1.0, 0.5, 0.9]),
        "epsilon_cutoff": torch.tensor([0.0, 0.01, 0.0, 1e-3]),
        "eta_cutoff": torch.tensor([0.0, 0.0, 0.01, 1e-3]),
        "top_a": torch.tensor([0.1, 0.0, 0.0, 0.2]),
        "p_less": torch.tensor([0.1, 0.25, 0.25, 0.1]),
        "top_h": torch.tensor([1.0, 0.95, 1.0, 0.9]),
        "tail_free": torch.tensor([1.0, 1.0, 0.99, 0.98]),
        "xtc": torch.tensor([1.0, 1.0, 1.0, 0.15]),
    }
    temperature = torch.tensor([0.7, 1.0, 2.0, 1.5])
    n = 4000
    rows = z.expand(n, 4, 40)
    drawn = draw(rows, temperature=temperature.expand(n, 4), generator=generator(), **dials)
    for i in range(4):
        cut = z[i].double()
        for name, rule in TRUNCATIONS.items():
            if rule.commutes:
                cut = rule.function(cut, dials[name][i].item())
        cut = cut / temperature[i].double()
        for name, rule in TRUNCATIONS.items():
            if not rule.commutes:
                cut = rule.function(cut, dials[name][i].item())
        law = cut.softmax(-1)
        counts = drawn[:, i].bincount(minlength=40)
        assert not counts[law == 0].any()
        inside = law > 0
        if int(inside.sum()) > 1:
            # With the seed it passes or fails for ever; another would fail once in 10,000.
            seen, expected = counts[inside].double(), n * law[inside]
            few = expected < 5
            if bool(few.any()):
                seen = torch.cat([seen[~few], seen[few].sum().reshape(1)])
                expected = torch.cat([expected[~few], expected[few].sum().reshape(1)])
            assert scipy.stats.chisquare(seen, expected).pvalue > 1e-4


@pytest.mark.parametrize("vocabulary", [40, 128, 1000])
def test_a_nucleus_of_each_row(vocabulary: int) -> None:
    z = logits_of("1", 30, vocabulary).reshape(5, 6, vocabulary)
    p = VALUES["top_p"]
    inside = kept(TRUNCATIONS["top_p"].function(z, p.expand(5, 6)))
    for token in range(0, vocabulary, 7):
        found = in_nucleus(z, torch.full((5, 6), token), p)
        assert torch.equal(found, inside[..., token])


def message_of(name: str) -> tuple[str, str]:
    interval, every = {
        "top_k": ("[1, 40], the size of the vocabulary", "40"),
        "top_n_sigma": ("(0, inf]", "inf"),
        "p_less": ("(0, inf]", "inf"),
        **dict.fromkeys(("min_p", "epsilon_cutoff", "eta_cutoff", "top_a"), ("[0, 1]", "0")),
    }.get(name, ("(0, 1]", "1"))
    keeps = "the most probable tokens alone" if name == "p_less" else "every token"
    return interval, f"{every} keeps {keeps}"


@every_dial
def test_numbers_out_of_range_are_shown_and_those_in_range_are_not(name: str) -> None:
    z, values = logits_of("1", 6, 40), VALUES[name]
    bad = values.clone()
    bad[2], bad[4] = (0, 41) if name == "top_k" else (-0.5, torch.nan)
    interval, every = message_of(name)
    some = "[0, 41]" if name == "top_k" else "[-0.5, nan]"
    message = f"{name} must lie in {interval}, got {some}; {every}"

    def sampled(z: Tensor, value: Any) -> Tensor:
        return sample(z, **{name: value})

    for call in (TRUNCATIONS[name].function, sampled):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call(z, bad)
        call(z, values)


@every_dial
@pytest.mark.parametrize("shape", [(5,), (6, 1), (2, 3), (0,)])
def test_a_shape_that_is_not_that_of_the_rows_is_shown(name: str, shape: tuple[int, ...]) -> None:
    z = logits_of("1", 6, 40)
    values = VALUES[name][:1].expand(shape)
    message = (
        f"{name} must be a number or have the shape (6,) of the rows, got {shape}; "
        "give one number for each row"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        TRUNCATIONS[name].function(z, values)


@every_dial
def test_tensors_of_no_numbers_are_shown(name: str) -> None:
    z = logits_of("1", 2, 40)
    what = "integers" if name == "top_k" else "real numbers"
    for bad in (
        torch.tensor([True, False]),
        torch.tensor([1j, 1.0]),
        torch.tensor([1.0, 0.5]).to_sparse(),
        *([torch.tensor([2.0, 3.0])] if name == "top_k" else []),
    ):
        with pytest.raises(TypeError, match=rf"^{name} must hold {what} such as \S+, got tensor\("):
            TRUNCATIONS[name].function(z, bad)
