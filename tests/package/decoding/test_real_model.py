from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from omnivault.decoding import beam_search, greedy_search
from omnivault.experiments.degeneration import ROUNDING
from omnivault.model.language_model import CachedLogits, LanguageModel
from tests.package.decoding.common import generator, new_tokens, zeros


class Counted:
    """A network's kept logits, and how many tokens went through the network."""

    def __init__(self, network: Any) -> None:
        self.tokens = 0
        embeddings = network.get_input_embeddings()
        self._hook = embeddings.register_forward_pre_hook(self._count)
        self.call = CachedLogits(network)

    def _count(self, _: Any, args: tuple[Tensor, ...]) -> None:
        self.tokens += args[0].numel()

    def __call__(self, ids: Tensor) -> tuple[Tensor, int]:
        self.tokens = 0
        return self.call(ids), self.tokens

    def close(self) -> None:
        self._hook.remove()


@pytest.fixture(scope="module")
def tiny() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=20,
        initializer_range=0.4,  # so that the logits of two contexts differ by far
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def counted_tiny(tiny: Any) -> Iterator[Counted]:
    counted = Counted(tiny)
    yield counted
    counted.close()


@pytest.mark.parametrize("seed", range(8))
def test_kept_keys_and_values_change_no_logits(counted_tiny: Counted, tiny: Any, seed: int) -> None:
    """A random walk: rows are reordered, dropped, repeated, extended, or replaced by others."""
    source = generator(seed)
    ids, stepped = torch.randint(20, (3, 4), generator=source), 0
    counted_tiny(ids)
    for _ in range(40):
        kind = int(torch.randint(5, (), generator=source))
        rows = torch.randint(len(ids), (int(torch.randint(1, 5, (), generator=source)),))
        longer = [ids[rows], torch.randint(20, (len(rows), 1), generator=source)]
        if kind < 4 and ids.shape[1] < 12:
            ids, expected = torch.cat(longer, dim=1), len(rows)
            stepped += 1
        else:
            shape = (len(rows), int(torch.randint(2, 6, (), generator=source)))
            known = {tuple(row) for row in ids.tolist()}
            ids = torch.randint(20, shape, generator=source)
            assert not {tuple(row[:-1]) for row in ids.tolist()} & known
            expected = ids.numel()
        logits, tokens = counted_tiny(ids)
        with torch.no_grad():
            whole = tiny(ids, use_cache=False).logits[:, -1]
        torch.testing.assert_close(logits, whole, rtol=0, atol=1e-4)
        assert tokens == expected
    assert stepped > 20


def test_one_row_that_extends_nothing_sends_all_through_the_network(counted_tiny: Counted) -> None:
    ids = torch.arange(8).reshape(2, 4)
    assert counted_tiny(ids)[1] == 8
    assert counted_tiny(ids)[1] == 8  # the same again is no step
    more = torch.cat([ids, ids[:, :1]], dim=1)
    more[1, 0] = 19
    assert counted_tiny(more)[1] == 10
    assert counted_tiny(torch.cat([more, more], dim=1))[1] == 20
    assert counted_tiny(more[:, :2])[1] == 4


def test_a_call_that_fails_leaves_nothing_wrong_behind(counted_tiny: Counted, tiny: Any) -> None:
    ids = torch.tensor([[1, 2, 3]])
    counted_tiny(ids)
    with pytest.raises(IndexError):  # a token that is not in the vocabulary
        counted_tiny(torch.tensor([[20]]))
    longer = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        whole = tiny(longer, use_cache=False).logits[:, -1]
    torch.testing.assert_close(counted_tiny(longer)[0], whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ([[1]], TypeError, "ids must be an int64 tensor of token ids, got [[1]]"),
        (torch.ones(1, 1), TypeError, "ids must be an int64 tensor of token ids"),
        (zeros(1, 0), ValueError, "(N,) or (B, N) with N >= 1, got (1, 0)"),
        (zeros(0, 1), ValueError, "(N,) or (B, N) with N >= 1, got (0, 1)"),
        (zeros(1, 1, 1), ValueError, "(N,) or (B, N) with N >= 1, got (1, 1, 1)"),
    ],
)
def test_kept_logits_reject(tiny: Any, bad: Any, error: type[Exception], message: str) -> None:
    CachedLogits(tiny)(zeros(1, 1))
    with pytest.raises(error, match=re.escape(message)):
        CachedLogits(tiny)(bad)


def test_the_real_model_steps_and_gives_the_logits_of_the_whole(model: LanguageModel) -> None:
    counted = Counted(model.network)
    ids = torch.stack([model.encode(t) for t in ("One, two, three,", "Red, green, blue,")])
    columns = torch.tensor([[28], [198], [260]])
    try:
        for rows, new in ([0, 1], 12), ([1, 0], 2), ([1, 0, 1], 3), ([2], 1), ([0, 0], 2):
            if new < 12:
                ids = torch.cat([ids[rows], columns[: len(rows)]], dim=1)
            logits, tokens = counted(ids)
            assert tokens == new
            torch.testing.assert_close(logits, model.logits(ids)[:, -1], rtol=0, atol=ROUNDING)
    finally:
        counted.close()


CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("texts", "end", "alpha"),
    [
        (("The capital of France is", "Once upon a time there"), None, 0.0),
        ((CHAT.format("Is water wet? Yes or no?"), CHAT.format("Is fire hot? Yes or no?")), 2, 1.0),
    ],
    ids=["no end token", "end token"],
)
def test_decoding_is_that_of_transformers(
    model: LanguageModel, texts: tuple[str, str], end: int | None, alpha: float
) -> None:
    prompt = torch.stack([model.encode(text) for text in texts])
    options: dict[str, Any] = {
        "attention_mask": torch.ones_like(prompt),
        "max_new_tokens": 16,
        "do_sample": False,
        "eos_token_id": end,
        "pad_token_id": 2,
    }
    greedy = greedy_search(model.cached(), prompt, max_new_tokens=16, end_token=end)
    assert greedy.tolist() == model.network.generate(prompt, **options).tolist()

    theirs = model.network.generate(
        prompt,
        num_beams=4,
        num_return_sequences=4,
        early_stopping="never",
        length_penalty=alpha,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )
    ours = beam_search(
        model.cached(), prompt, width=4, max_new_tokens=16, end_token=end, length_penalty=alpha
    )
    assert ours.ids.flatten(0, 1).tolist() == theirs.sequences.tolist()
    # Errors of 16 log-probabilities add up like the root of their number.
    near = partial(torch.testing.assert_close, rtol=0, atol=4 * ROUNDING)
    near(ours.scores.flatten(), theirs.sequences_scores.double())
    for row, log_prob in zip(ours.ids[:, 0], ours.log_probs[:, 0], strict=True):
        start = prompt.shape[1]
        length = start + len(new_tokens(row, start, end))
        total = model.log_probs(row[:length])[start - 1 :].double().sum()
        near(log_prob, total)
    if end is not None:
        assert int((ours.ids[:, :, prompt.shape[1] :] == end).sum()) > 0
