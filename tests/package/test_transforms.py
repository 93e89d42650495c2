"""Functions under what PyTorch does to functions: vmap, derivatives, compilation, autocast, meta.

What looks at values, to refuse what it cannot answer or to choose a way, cannot be vectorized by
``vmap`` or compiled as one graph; everything else can.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import jacfwd, jacrev, vmap

from omnivault.distributions import Bernoulli, Categorical
from omnivault.information import (
    cross_entropy,
    entropy,
    entropy_from_logits,
    kl_divergence,
    kl_divergence_from_logits,
    perplexity,
)
from omnivault.online_softmax import block_statistics, chunked_softmax, combine
from omnivault.sampling import (
    TRUNCATIONS,
    apply_temperature,
    dry_penalty,
    frequency_penalty,
    greedy,
    plain_sample,
    presence_penalty,
    repetition_penalty,
    sample,
    top_k,
)
from omnivault.softmax import (
    Softmax,
    log_softmax,
    logsumexp,
    softmax,
    softmax_hessian,
    softmax_jacobian,
    softmax_vjp,
)
from omnivault.speculative import accept_or_redraw, speculative_sequence
from tests.package.test_any_device import CALLS, same

Z = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
Map = Callable[[Tensor], Tensor]


def text_of(z: Tensor) -> Tensor:
    """Token 0 four times for each row."""
    return torch.zeros_like(z[..., :4], dtype=torch.int64)


PURE: dict[str, Map] = {
    "softmax": lambda z: softmax(z, temperature=0.7),
    "log_softmax": log_softmax,
    "logsumexp": logsumexp,
    "softmax_jacobian": softmax_jacobian,
    "softmax_hessian": softmax_hessian,
    "softmax_vjp": lambda z: softmax_vjp(z, z.flip(-1)),
    "Softmax": Softmax(temperature=0.7),
    "entropy_from_logits": lambda z: entropy_from_logits(z, temperature=0.7),
    "kl_divergence_from_logits": lambda z: kl_divergence_from_logits(z, 2 * z),
    "chunked_softmax": lambda z: chunked_softmax(z, 5),
    "block_statistics": lambda z: block_statistics(z).total,
    "combine": lambda z: combine(block_statistics(z), block_statistics(z.flip(0))).total,
}
CHECKED: dict[str, Map] = {
    "entropy": lambda z: entropy(z.softmax(-1)),
    "cross_entropy": lambda z: cross_entropy(z.softmax(-1), (2 * z).softmax(-1)),
    "kl_divergence": lambda z: kl_divergence(z.softmax(-1), (2 * z).softmax(-1)),
    "perplexity": lambda z: perplexity(z.log_softmax(-1)),
    "Bernoulli": lambda z: Bernoulli.from_natural(z).variance,
    "Categorical": lambda z: Categorical.from_natural(z).log_pmf(
        torch.zeros_like(z[..., 0]).long()
    ),
}
"""What looks whether its rows are what they should be."""
VALUES: dict[str, Map] = {
    "apply_temperature": lambda z: apply_temperature(z, 0.7),
    "greedy": greedy,
    "top_k": lambda z: top_k(z, 3),
    **{
        name: lambda z, name=name: TRUNCATIONS[name].function(z, 0.5)  # type: ignore[misc]
        for name in TRUNCATIONS
        if name != "top_k"
    },
    "repetition_penalty": lambda z: repetition_penalty(z, text_of(z), 1.5),
    "presence_penalty": lambda z: presence_penalty(z, text_of(z), 1.5),
    "frequency_penalty": lambda z: frequency_penalty(z, text_of(z), 1.5),
    "dry_penalty": lambda z: dry_penalty(z, text_of(z), multiplier=1.5, breakers=[1]),
}
DRAWS: dict[str, Map] = {
    "sample": lambda z: sample(z, temperature=0.7),
    "sample, top_k": lambda z: sample(z, top_k=3),
    "plain_sample": lambda z: plain_sample(z, top_p=0.9),
}
pure = pytest.mark.parametrize("f", PURE.values(), ids=PURE.keys())


@pure
def test_what_does_not_look_at_values_is_vectorized(f: Map) -> None:
    rows = torch.stack([f(row) for row in Z])
    torch.testing.assert_close(vmap(f)(Z), rows)


@pure
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # PyTorch's own
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_derivatives_forward_are_those_backward_in_the_dtype(f: Map, dtype: torch.dtype) -> None:
    z = Z[0].to(dtype)
    forward, backward = jacfwd(f)(z), jacrev(f)(z)
    assert forward.dtype is backward.dtype is dtype
    torch.testing.assert_close(forward, backward)


@pure
def test_what_does_not_look_at_values_is_compiled_as_one_graph(f: Map) -> None:
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(f, fullgraph=True, backend="eager")(Z), f(Z))


@pytest.mark.parametrize("name", [*CHECKED, *VALUES, *DRAWS])
def test_what_looks_at_values_is_compiled_in_parts(name: str) -> None:
    f = (CHECKED | VALUES | DRAWS)[name]
    torch._dynamo.reset()
    torch.manual_seed(0)
    expected = f(Z)
    torch.manual_seed(0)
    assert torch.equal(torch.compile(f, backend="eager")(Z), expected)
    torch._dynamo.reset()
    with pytest.raises(Exception, match=r"[Dd]ata-dependent|\.item\(\)"):
        torch.compile(f, fullgraph=True, backend="eager")(Z)


def test_a_nucleus_is_drawn_in_parts_too() -> None:
    rows = Z.repeat(60, 1)
    torch._dynamo.reset()
    torch.manual_seed(0)
    expected = sample(rows, top_p=0.5)
    torch.manual_seed(0)
    assert torch.equal(
        torch.compile(lambda z: sample(z, top_p=0.5), backend="eager")(rows), expected
    )


@pytest.mark.parametrize("f", (CHECKED | VALUES).values(), ids=CHECKED | VALUES)
def test_instead_of_vmap_there_are_leading_dimensions(f: Map) -> None:
    with pytest.raises(RuntimeError, match=r"calling \.item\(\) on a Tensor|data-dependent"):
        vmap(f)(Z)
    rows = torch.stack([f(row) for row in Z])
    torch.testing.assert_close(f(Z.expand(2, 5, 12)), rows.expand(2, *rows.shape))


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_changes_nothing(name: str, dtype: torch.dtype) -> None:
    call, inputs = CALLS[name]
    torch.manual_seed(0)
    expected = call(*inputs)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype):
        found = call(*inputs)
    assert same(found, expected)


@pytest.mark.parametrize("name", [*PURE, *CHECKED, *VALUES, *DRAWS])
def test_shapes_and_dtypes_are_known_without_values(name: str) -> None:
    f = (PURE | CHECKED | VALUES | DRAWS)[name]
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        z = Z.to(dtype)
        expected, found = f(z), f(z.to("meta"))
        assert found.is_meta
        assert found.shape == expected.shape
        assert found.dtype is expected.dtype
    each = torch.ones(5, device="meta")
    assert sample(Z.to("meta"), temperature=each).shape == (5,)
    assert apply_temperature(Z.to("meta"), each).shape == (5, 12)


EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)


@pytest.mark.parametrize("dtype", EIGHT_BITS, ids=str)
@pytest.mark.parametrize("name", [*VALUES, *DRAWS])
def test_eight_bits_are_refused_where_logits_are_ruled_out(name: str, dtype: torch.dtype) -> None:
    f = (VALUES | DRAWS)[name]
    with pytest.raises(TypeError, match=rf"^logits in {dtype} have too few .* with z.float\(\)$"):
        f(Z.to(dtype))
    f(Z.to(dtype).float())


@pytest.mark.parametrize("dtype", EIGHT_BITS, ids=str)
def test_eight_bits_are_summed_up_in_float32(dtype: torch.dtype) -> None:
    z = Z.to(dtype)
    wide = block_statistics(z.float())
    assert all(torch.equal(*pair) for pair in zip(block_statistics(z), wide, strict=True))
    assert torch.equal(
        chunked_softmax(z, 5).float(), chunked_softmax(z.float(), 5).to(dtype).float()
    )


@pytest.mark.parametrize("dtype", EIGHT_BITS, ids=str)
def test_models_of_eight_bits_are_asked_for_float32(dtype: torch.dtype) -> None:
    def model(ids: Tensor) -> Any:
        return Z[:, :5].to(dtype)[ids]

    with pytest.raises(TypeError, match=r"convert them with z.float\(\)$"):
        speculative_sequence(model, model, torch.tensor([0]), max_new_tokens=2)
    p = Z.softmax(-1).to(dtype)
    with pytest.raises(TypeError, match=r"^p must be a tensor of float16, bfloat16, "):
        accept_or_redraw(p, p, torch.zeros(5, dtype=torch.int64))
