"""Every public function on a device that is not the CPU: the same results, on the device.

There is no GPU here: the device is that of ``tests.support.fake_device``, which refuses what
PyTorch refuses on one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from omnivault import calibration as cal
from omnivault import decoding as dec
from omnivault import information as info
from omnivault import online_softmax as online
from omnivault import sampling, speculative
from omnivault import softmax as sm
from omnivault.blocked_cross_entropy import blocked_cross_entropy
from omnivault.distributions import Bernoulli, Categorical, Multinomial
from omnivault.entmax import entmax, sparsemax
from omnivault.inverse_cdf import block_sums, draw_rows, inverse_cdf, uniforms
from tests.support.fake_device import OnDevice, back, fake_device, on_device

Z = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
Z[1, 3] = -torch.inf
P, Q = Z.softmax(-1), Z.flip(0).softmax(-1)
EACH = torch.tensor([0.5, 1.0, 2.0, 3.0])
TOKENS = torch.tensor([3, 0, 8, 5])
TEXTS = torch.tensor([[1, 2, 3, 1, 2], [7, 8, 0, 7, 8], [4, 4, 4, 4, 4], [8, 0, 1, 8, 0]])

MANY = torch.randn(300, 9, generator=torch.Generator().manual_seed(2))
LABELS = torch.multinomial(MANY.softmax(-1), 1, generator=torch.Generator().manual_seed(1))[:, 0]
TABLE = torch.randn(9, 9, generator=torch.Generator().manual_seed(3))
PROMPT = torch.tensor([[1, 2], [3, 4], [0, 0]])


def follows(table: Tensor) -> dec.NextTokenLogits:
    return lambda ids: table[ids[:, -1]]


def drawn_twice(z: Tensor) -> list[Tensor]:
    mirostat = sampling.Mirostat(1.0)
    return [mirostat.draw(z), mirostat.draw(z)]


def one_sequence(table: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda ids: table[ids]


def gradients(f: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    leaves = [x.detach().requires_grad_() for x in inputs]
    return torch.autograd.grad(f(*leaves)[..., 0].sum(), leaves)


# Each takes tensors and returns tensors, in any structure.
CALLS: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "softmax.softmax": (lambda z: sm.softmax(z, temperature=0.7), (Z,)),
    "softmax.softmax, one T a row": (lambda z, t: sm.softmax(z, temperature=t), (Z, EACH)),
    "softmax.softmax, weights": (lambda z, w: sm.softmax(z, weights=w), (Z, P)),
    "softmax.log_softmax": (sm.log_softmax, (Z,)),
    "softmax.logsumexp": (lambda z, t: sm.logsumexp(z, temperature=t), (Z, EACH)),
    "softmax.softmax_jacobian": (lambda z: sm.softmax_jacobian(z, temperature=0.7), (Z,)),
    "softmax.softmax_hessian": (lambda z, t: sm.softmax_hessian(z, temperature=t), (Z, EACH)),
    "softmax.softmax_vjp": (sm.softmax_vjp, (P, Q)),
    "softmax.SoftmaxFunction": (lambda z, t: gradients(sm.SoftmaxFunction.apply, z, t), (Z, EACH)),
    "softmax.Softmax": (lambda z: sm.Softmax()(z), (Z,)),
    "softmax, gradient": (lambda z: gradients(sm.log_softmax, z), (Z.clamp(min=-9),)),
    "entmax.sparsemax": (lambda z, t: gradients(sparsemax, z, t), (Z, EACH)),
    "entmax.entmax": (
        lambda z, t: [entmax(z, 1.5, t), entmax(z, 1), entmax(z.half(), 3)],
        (Z, EACH),
    ),
    "information.entropy": (info.entropy, (P,)),
    "information.entropy_from_logits": (info.entropy_from_logits, (Z,)),
    "information.cross_entropy": (info.cross_entropy, (P, Q)),
    "information.kl_divergence": (info.kl_divergence, (P, Q)),
    "information.kl_divergence_from_logits": (info.kl_divergence_from_logits, (Z, Z.flip(0))),
    "information.perplexity": (info.perplexity, (P.clamp(min=1e-3).log(),)),
    "calibration.reliability_bins": (
        lambda p, y: cal.reliability_bins(p.amax(-1), p.argmax(-1) == y),
        (MANY.softmax(-1), LABELS),
    ),
    "calibration.expected_calibration_error": (
        cal.expected_calibration_error,
        (MANY.softmax(-1), LABELS),
    ),
    "calibration.fit_temperature": (cal.fit_temperature, (MANY, LABELS)),
    "distributions.Bernoulli": (
        lambda p: [
            Bernoulli(p).pmf(torch.ones_like(p).long()),
            Bernoulli(p).log_pmf(torch.zeros_like(p).long()),
            Bernoulli(p).mean,
            Bernoulli(p).variance,
            Bernoulli(p).sample(20),
            Bernoulli(p).to_natural(),
            Bernoulli.from_natural(p).log_pmf(torch.ones_like(p).long()),
            Bernoulli.log_partition(p),
        ],
        (EACH / 4,),
    ),
    "distributions.Categorical": (
        lambda p, y: [
            Categorical(p).pmf(y),
            Categorical(p).log_pmf(y),
            Categorical(p).mean,
            Categorical(p).covariance,
            Categorical(p).sample(20),
            Categorical(p).to_natural(),
            Categorical(p).sufficient_statistic(y),
            Categorical.log_partition(p, minimal=True),
            Categorical.from_natural(p, minimal=True).covariance,
        ],
        (Q, TOKENS),
    ),
    "distributions.Multinomial": (
        lambda p, y: [
            Multinomial(6, p).pmf(y),
            Multinomial(6, p).log_pmf(y),
            Multinomial(6, p).mean,
            Multinomial(6, p).covariance,
            Multinomial(6, p).sample(20),
            Multinomial(6, p).to_natural(),
            Multinomial.log_partition(6, p),
        ],
        (torch.tensor([0.5, 0.25, 0.25]), torch.tensor([3, 1, 2])),
    ),
    "sampling.apply_temperature": (lambda z: sampling.apply_temperature(z, 0.7), (Z,)),
    "sampling.apply_temperature, one a row": (sampling.apply_temperature, (Z, EACH)),
    "sampling.greedy": (sampling.greedy, (Z,)),
    "sampling.top_k": (lambda z: sampling.top_k(z, 3), (Z,)),
    "sampling.top_n_sigma": (lambda z: sampling.top_n_sigma(z, 1.0), (Z,)),
    "sampling.top_p": (lambda z: sampling.top_p(z, 0.8), (Z,)),
    "sampling.min_p": (lambda z: sampling.min_p(z, 0.1), (Z,)),
    "sampling.min_p, tiny": (lambda z: sampling.min_p(z, 1e-30), (Z,)),
    "sampling.typical_p": (lambda z: sampling.typical_p(z, 0.8), (Z,)),
    "sampling.epsilon_cutoff": (lambda z: sampling.epsilon_cutoff(z, 0.1), (Z,)),
    "sampling.eta_cutoff": (lambda z: sampling.eta_cutoff(z, 0.1), (Z,)),
    "sampling.eta_cutoff, one a row": (sampling.eta_cutoff, (Z, EACH / 3)),
    "sampling.top_a": (lambda z: sampling.top_a(z, 0.4), (Z,)),
    "sampling.p_less": (sampling.p_less, (Z,)),
    "sampling.p_less, one a row": (sampling.p_less, (Z, EACH)),
    "sampling.top_h": (lambda z: sampling.top_h(z, 0.7), (Z,)),
    "sampling.tail_free": (lambda z: sampling.tail_free(z, 0.9), (Z,)),
    "sampling.xtc": (lambda z: sampling.xtc(z, 0.1), (Z,)),
    "sampling.repetition_penalty": (sampling.repetition_penalty, (Z, TEXTS, EACH)),
    "sampling.presence_penalty": (lambda z, x: sampling.presence_penalty(z, x, 0.5), (Z, TEXTS)),
    "sampling.frequency_penalty": (sampling.frequency_penalty, (Z, TEXTS, EACH)),
    "sampling.dry_penalty": (
        lambda z, x, m: sampling.dry_penalty(z, x, multiplier=m, breakers=[7]),
        (Z, TEXTS, EACH),
    ),
    "sampling.Mirostat": (drawn_twice, (MANY,)),
    "sampling.in_nucleus": (lambda z, x: sampling.in_nucleus(z, x, 0.8), (Z, TOKENS)),
    "sampling.sample": (lambda z: sampling.sample(z, temperature=0.7), (MANY,)),
    "sampling.sample, one T a row": (
        lambda z, t: sampling.sample(z, temperature=t),
        (MANY, LABELS.float()),
    ),
    "sampling.sample, truncated": (
        lambda z: sampling.sample(z, top_k=8, top_p=0.5, min_p=0.01, typical_p=0.9),
        (MANY,),
    ),
    "sampling.sample, nucleus": (lambda z: sampling.sample(z, top_p=0.5), (MANY,)),
    "sampling.sample, far apart": (
        lambda z: sampling.sample(z, temperature=1e38, top_n_sigma=9.0),
        (1e38 * MANY.clamp(-3, 3),),
    ),
    "sampling.plain_sample": (
        lambda z, t: sampling.plain_sample(z, temperature=t, top_p=0.5),
        (MANY, LABELS.float()),
    ),
    "inverse_cdf.inverse_cdf": (inverse_cdf, (MANY.exp(),)),
    "inverse_cdf.block_sums": (block_sums, (MANY.exp(),)),
    "inverse_cdf.draw_rows": (lambda w: draw_rows(w, None), (MANY.exp(),)),
    "inverse_cdf.uniforms": (lambda z: uniforms(3, 2, None, z.device), (Z,)),
    "online_softmax.block_statistics": (online.block_statistics, (Z,)),
    "online_softmax.combine": (
        lambda a, b: online.combine(online.block_statistics(a), online.block_statistics(b)),
        (Z, MANY[:4]),
    ),
    "online_softmax.chunked_softmax": (lambda z: online.chunked_softmax(z, 4), (Z,)),
    "blocked_cross_entropy.blocked_cross_entropy": (
        lambda x, w, y: [
            blocked_cross_entropy(x, w, y, block=4),
            *gradients(lambda x, w: blocked_cross_entropy(x, w, y, block=4)[None], x, w),
        ],
        (MANY, TABLE, LABELS),
    ),
    "decoding.greedy_search": (
        lambda table, ids: dec.greedy_search(follows(table), ids, max_new_tokens=6, end_token=3),
        (TABLE, PROMPT),
    ),
    "decoding.sample_sequence": (
        lambda table, ids: dec.sample_sequence(
            follows(table), ids, max_new_tokens=6, end_token=3, temperature=0.7, top_p=0.9
        ),
        (TABLE, PROMPT),
    ),
    "decoding.sample_sequence, one T a row": (
        lambda table, ids, t: dec.sample_sequence(
            follows(table), ids, max_new_tokens=6, end_token=3, temperature=t
        ),
        (TABLE, PROMPT, EACH[:3]),
    ),
    "decoding.beam_search": (
        lambda table, ids: dec.beam_search(
            follows(table), ids, width=3, max_new_tokens=5, end_token=3, length_penalty=1.0
        ),
        (TABLE, PROMPT),
    ),
    "speculative.accept_or_redraw": (
        lambda p, q, x: speculative.accept_or_redraw(p, q, x),
        (P, Q, torch.zeros(4, dtype=torch.int64)),
    ),
    "speculative.speculative_sequence": (
        lambda table, ids: (
            speculative.speculative_sequence(
                one_sequence(table), one_sequence(table.flip(0)), ids, max_new_tokens=30
            ).ids
        ),
        (TABLE, PROMPT[1]),
    ),
    "speculative.speculative_sequence, T in a tensor": (
        lambda table, ids, t: (
            speculative.speculative_sequence(
                one_sequence(table),
                one_sequence(table.flip(0)),
                ids,
                max_new_tokens=30,
                temperature=t,
            ).ids
        ),
        (TABLE, PROMPT[1], EACH[:1]),
    ),
    "speculative.speculative_sequence, by blocks": (
        lambda table, ids: (
            speculative.speculative_sequence(
                one_sequence(table),
                one_sequence(table.flip(0)),
                ids,
                max_new_tokens=30,
                verify="block",
            ).ids
        ),
        (TABLE, PROMPT[1]),
    ),
    "speculative.speculative_sequence, with a lookup": (
        lambda table, ids: (
            speculative.speculative_sequence(
                one_sequence(table),
                lambda text: speculative.prompt_lookup(text, 1),
                ids,
                max_new_tokens=30,
            ).ids
        ),
        (TABLE, PROMPT[1]),
    ),
    "speculative.prompt_lookup": (
        lambda ids: speculative.prompt_lookup(ids, 1),
        (torch.tensor([1, 2, 1]),),
    ),
}
every_call = pytest.mark.parametrize("name", CALLS)
MODULES = (
    *("softmax", "information", "calibration", "distributions", "sampling", "inverse_cdf"),
    *("online_softmax", "blocked_cross_entropy", "decoding", "entmax", "speculative"),
)


def same(one: Any, other: Any) -> bool:
    """Whether two structures hold the same numbers; nan is nan."""
    flat = [torch.utils._pytree.tree_leaves(x) for x in (one, other)]
    return all(
        torch.equal(a.nan_to_num(nan=7.0), b.nan_to_num(nan=7.0)) and a.dtype is b.dtype
        if isinstance(a, Tensor)
        else a == b
        for a, b in zip(*flat, strict=True)
    )


@every_call
def test_results_on_a_device_are_those_on_the_cpu(name: str) -> None:
    call, inputs = CALLS[name]
    torch.manual_seed(0)
    expected = call(*inputs)
    torch.manual_seed(0)
    with fake_device():
        found = call(*on_device(inputs))
    # Numbers that are returned as such are on no device.
    assert same(back(found), expected)


def test_every_public_function_is_called() -> None:
    for module in MODULES:
        public = importlib.import_module(f"omnivault.{module}").__all__
        called = {name.split(",")[0] for name in CALLS}
        functions = {
            f"{module}.{f}"
            for f in public
            if callable(getattr(importlib.import_module(f"omnivault.{module}"), f))
            and f not in ("NextTokenLogits", "Truncation", "SoftmaxStatistics", "Beams")
            and f not in ("ReliabilityBins", "SpeculativeText")
        }
        assert functions <= called, functions - called


DRAWS: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "sample": lambda z, g: sampling.sample(z, top_p=0.5, generator=g),
    "plain_sample": lambda z, g: sampling.plain_sample(z, top_p=0.5, generator=g),
    "inverse_cdf": lambda z, g: inverse_cdf(z.exp(), generator=g),
    "accept_or_redraw": lambda z, g: speculative.accept_or_redraw(
        z.softmax(-1), z.flip(-1).softmax(-1), (0 * z[:, 0]).long(), generator=g
    )[0],
    "Bernoulli": lambda z, g: Bernoulli(z[:, 0].sigmoid()).sample(20, generator=g),
    "Categorical": lambda z, g: Categorical(z.softmax(-1)).sample(20, generator=g),
    "Multinomial": lambda z, g: Multinomial(3, z.softmax(-1)).sample(20, generator=g),
    "sample_sequence": lambda z, g: dec.sample_sequence(
        lambda ids: z, (0 * z[:, :1]).long(), max_new_tokens=4, generator=g
    ),
    "speculative_sequence": lambda z, g: (
        speculative.speculative_sequence(
            lambda ids: z[ids],
            lambda ids: z[ids + 5],
            (0 * z[0, :1]).long(),
            max_new_tokens=9,
            generator=g[0] if isinstance(g, list) else g,
        ).ids
    ),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("each", [False, True], ids=["one generator", "one for each row"])
def test_a_generator_of_the_cpu_gives_the_same_tokens_on_every_device(
    name: str, each: bool
) -> None:
    draw = DRAWS[name]

    def source() -> Any:
        seeded = [torch.Generator().manual_seed(seed) for seed in range(30)]
        return seeded if each else seeded[3]

    expected = draw(MANY[:30], source())
    with fake_device():
        found = draw(on_device(MANY[:30]), source())
    assert torch.equal(back(found), expected)


@pytest.mark.parametrize(
    "call",
    [
        lambda z, t: sm.softmax(z, temperature=t),
        lambda z, t: sampling.apply_temperature(z, t),
        lambda z, t: sampling.sample(z, temperature=t, top_k=1),
        lambda z, t: sampling.plain_sample(z, temperature=t, top_k=1),
    ],
)
def test_a_temperature_may_be_on_another_device(call: Callable[..., Tensor]) -> None:
    for t in (EACH, EACH.double(), torch.tensor([2.0]), torch.tensor(0.5)):
        with fake_device():
            beside = [call(on_device(Z), t), call(on_device(Z), on_device(t))]
        for found in beside:
            assert torch.equal(back(found), call(Z, t))
    with fake_device():
        assert not isinstance(call(Z, on_device(EACH)), OnDevice)


@pytest.mark.parametrize("where", ["target", "draft", "both"])
def test_models_may_be_on_two_devices_and_the_text_is_where_the_prompt_is(where: str) -> None:
    def model(table: Tensor, device: bool) -> Callable[[Tensor], Tensor]:
        rows = on_device(table) if device else table
        return lambda ids: rows[ids.tolist()]

    def write(target: bool, draft: bool, prompt: Tensor) -> Tensor:
        return speculative.speculative_sequence(
            model(TABLE, target),
            model(TABLE.flip(0), draft),
            prompt,
            max_new_tokens=20,
            generator=torch.Generator().manual_seed(5),
        ).ids

    expected = write(False, False, PROMPT[1])
    with fake_device():
        on = where in ("target", "both"), where in ("draft", "both")
        found = write(*on, PROMPT[1])
        beside = write(*on, on_device(PROMPT[1]))
    assert torch.equal(found, expected)
    assert torch.equal(back(beside), expected)


@pytest.mark.parametrize("decode", ["greedy", "sample", "beam"])
def test_sequences_are_where_the_prompt_is(decode: str) -> None:
    decoders: dict[str, Callable[..., Tensor]] = {
        "greedy": dec.greedy_search,
        "sample": lambda *a, **k: dec.sample_sequence(
            *a, generator=torch.Generator().manual_seed(5), **k
        ),
        "beam": lambda *a, **k: dec.beam_search(*a, width=3, **k).ids,
    }
    write = decoders[decode]
    expected = write(follows(TABLE), PROMPT, max_new_tokens=5)
    with fake_device():
        elsewhere = on_device(TABLE)
        found = write(lambda ids: elsewhere[ids[:, -1].tolist()], PROMPT, max_new_tokens=5)
        other = write(lambda ids: TABLE[ids[:, -1].tolist()], on_device(PROMPT), max_new_tokens=5)
    assert torch.equal(found, expected)
    assert torch.equal(back(other), expected)
