"""What requests ask for: several tokens that end a text, prompts of several lengths, own dials."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from omnivault.decoding import (
    Beams,
    NextTokenLogits,
    beam_search,
    greedy_search,
    sample_sequence,
)
from omnivault.model.language_model import CachedLogits
from tests.package.decoding.common import MODELS, TEXT, generator, hashed, models, table, zeros

PROMPTS = [torch.tensor(ids) for ids in ([1, 2], [3], [2, 2, 4], [4, 1], [0], [3, 3, 3], [1])]
ends = pytest.mark.parametrize("end", [None, 0, [0, 3], (2,)], ids=str)
SETTINGS: dict[str, Any] = {
    "temperature": torch.tensor([0.0, 0.5, 1.0, 2.0, 10.0, 1.0, 0.7]),
    "top_k": torch.tensor([5, 2, 5, 5, 3, 4, 1]),
    "top_p": torch.tensor([1.0, 1.0, 0.6, 0.9, 1.0, 0.5, 1.0]),
    "min_p": torch.tensor([0.0, 0.1, 0.0, 0.0, 0.2, 0.0, 0.0]),
}


def of_row(settings: dict[str, Any], row: int) -> dict[str, Any]:
    return {name: values[row].item() for name, values in settings.items()}


@ends
@models
def test_prompts_of_several_lengths_give_what_each_gives_alone(kind: str, end: Any) -> None:
    model = MODELS[kind](5, 3)
    limits: dict[str, Any] = {"max_new_tokens": 8, "end_token": end}
    found = greedy_search(model, PROMPTS, **limits)
    alone = [greedy_search(model, row, **limits) for row in PROMPTS]
    assert [text.tolist() for text in found] == [text.tolist() for text in alone]

    sources = [generator(seed) for seed in range(7)]
    drawn = sample_sequence(model, PROMPTS, generator=sources, **SETTINGS, **limits)
    alone = [
        sample_sequence(model, row, generator=generator(i), **of_row(SETTINGS, i), **limits)
        for i, row in enumerate(PROMPTS)
    ]
    assert [text.tolist() for text in drawn] == [text.tolist() for text in alone]
    assert drawn[0].tolist() == found[0].tolist()  # T = 0

    beams = beam_search(model, PROMPTS, width=3, length_penalty=0.5, **limits)
    for ours, row in zip(beams, PROMPTS, strict=True):
        one = beam_search(model, row, width=3, length_penalty=0.5, **limits)
        assert isinstance(ours, Beams)
        assert torch.equal(ours.ids, one.ids)
        assert ours.log_probs.tolist() == pytest.approx(one.log_probs.tolist(), abs=TEXT, rel=0)
        assert ours.scores.tolist() == pytest.approx(one.scores.tolist(), abs=TEXT, rel=0)


def test_the_order_of_the_prompts_and_the_form_of_the_list_do_not_matter() -> None:
    model, order = hashed(5, 3), [4, 2, 6, 0, 1, 5, 3]
    whole: list[list[Tensor]] = []
    for rows in (range(7), order):
        prompts = [PROMPTS[row] for row in rows]
        settings = {name: values[list(rows)] for name, values in SETTINGS.items()}
        sources = [generator(row) for row in rows]
        whole.append(
            sample_sequence(model, prompts, max_new_tokens=6, generator=sources, **settings)
        )
    assert [text.tolist() for text in whole[1]] == [whole[0][row].tolist() for row in order]
    one = greedy_search(model, tuple(PROMPTS[:1]), max_new_tokens=3)
    assert [text.tolist() for text in one] == [
        greedy_search(model, PROMPTS[0], max_new_tokens=3).tolist()
    ]
    empty = greedy_search(model, [zeros(0), PROMPTS[0]], max_new_tokens=3)
    assert [len(text) for text in empty] == [3, 5]


def test_prompts_of_one_length_go_through_the_model_together_and_others_alone() -> None:
    asked: list[tuple[int, int]] = []

    def model(ids: Tensor) -> Tensor:
        asked.append((ids.shape[0], ids.shape[1]))
        return hashed(5, 3)(ids)

    greedy_search(model, PROMPTS, max_new_tokens=2)
    assert asked == [(2, 2), (2, 3), (3, 1), (3, 2), (2, 3), (2, 4)]


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
        initializer_range=0.4,
    )
    return LlamaForCausalLM(config).eval()


def test_keys_and_values_are_kept_within_a_length(tiny: Any) -> None:
    tokens: list[int] = []
    hook = tiny.get_input_embeddings().register_forward_pre_hook(
        lambda _, args: tokens.append(args[0].numel())
    )
    found = greedy_search(CachedLogits(tiny), PROMPTS, max_new_tokens=4, end_token=[19])
    hook.remove()
    # All of a prompt at first, and then one token for each that has not ended.
    alone = [
        greedy_search(CachedLogits(tiny), row, max_new_tokens=4, end_token=[19]) for row in PROMPTS
    ]
    assert [text.tolist() for text in found] == [text.tolist() for text in alone]
    new = sum(len(text) - len(own) for text, own in zip(found, PROMPTS, strict=True))
    assert sum(tokens) == sum(len(own) for own in PROMPTS) + new - len(PROMPTS)


def test_any_of_several_tokens_ends_a_text_and_the_first_fills_up() -> None:
    follows = table([[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]])
    prompt = torch.tensor([[0], [1], [2]])
    numbers: Any = (torch.tensor(3), 2)
    for decode in (greedy_search, sample_sequence):
        ids = decode(follows, prompt, max_new_tokens=9, end_token=[3, 2])
        assert ids.tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 3]]
        as_numbers = decode(follows, prompt, max_new_tokens=9, end_token=numbers)
        assert torch.equal(as_numbers, ids)
    beams = beam_search(follows, prompt, width=1, max_new_tokens=9, end_token=[3, 2])
    assert beams.ids.squeeze(1).tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 3]]


class Counted(TorchDispatchMode):
    """How many operations of PyTorch were made."""

    operations = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.operations += 1
        return function(*args, **(kwargs or {}))


def test_ends_by_the_thousand_are_ends_at_no_more_operations() -> None:
    ends = [*range(1000, 3000), 7]
    follows = torch.arange(3000) + 1
    follows[5] = 2999

    def model(ids: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(follows[ids[:, -1]], 3000).double().log()

    prompt = torch.tensor([[0], [6], [1]])
    expected = [[0, 1, 2, 3, 4, 5, 2999], [6, *[7], *[1000] * 5], [1, 2, 3, 4, 5, 2999, 1000]]
    for decode in (greedy_search, sample_sequence):
        operations = []
        for some in (ends, [1000, 2999, 7]):
            with Counted() as counted:  # type: ignore[no-untyped-call]
                found = decode(model, prompt, max_new_tokens=9, end_token=some)
            assert found.tolist() == expected
            operations.append(counted.operations)
        assert operations[0] == operations[1]
        texts = decode(model, list(prompt), max_new_tokens=9, end_token=ends)
        assert [text.tolist() for text in texts] == [expected[0], [6, 7], expected[2][:-1]]
    beams = beam_search(model, prompt, width=2, max_new_tokens=9, end_token=ends)
    assert beams.ids[:, 0].tolist() == expected


@pytest.mark.parametrize("width", [1, 2, 5, 27])
def test_beams_with_two_ends_are_those_of_a_model_with_one(width: int) -> None:
    """Both ends made one token that has the sum of their probabilities, where nothing follows."""
    model = hashed(4, 5)

    def merged(ids: Tensor) -> Tensor:
        log_probs = model(ids).log_softmax(-1)
        both = log_probs[:, [2, 3]].logsumexp(-1, keepdim=True)
        return torch.cat([log_probs[:, :2], both], dim=-1)

    two = beam_search(model, torch.tensor([0]), width=64, max_new_tokens=3, end_token=[2, 3])
    one = beam_search(merged, torch.tensor([0]), width=27, max_new_tokens=3, end_token=2)
    found: dict[tuple[int, ...], float] = {}
    for ids, log_prob in zip(two.ids.tolist(), two.log_probs.exp().tolist(), strict=True):
        text = tuple(2 if token == 3 else token for token in ids)
        end = text.index(2) + 1 if 2 in text else len(text)
        found[text[:end]] = found.get(text[:end], 0.0) + log_prob
    for ids, log_prob in zip(one.ids.tolist(), one.log_probs.exp().tolist(), strict=True):
        end = ids.index(2) + 1 if 2 in ids else len(ids)
        assert found[tuple(ids[:end])] == pytest.approx(log_prob, rel=TEXT)
    few = beam_search(model, torch.tensor([0]), width=width, max_new_tokens=3, end_token=[2, 3])
    assert len(few.ids) == min(width, len(two.ids))


def test_each_row_of_a_batch_has_its_own_dials() -> None:
    model, batch = hashed(5, 3), torch.tensor([[1, 2], [3, 4], [2, 2]])
    dials = {name: values[[0, 2, 5]] for name, values in SETTINGS.items()}
    drawn = sample_sequence(
        model,
        batch,
        max_new_tokens=8,
        end_token=[0],
        generator=[generator(seed) for seed in range(3)],
        **dials,
    )
    for i, row in enumerate(batch):
        alone = sample_sequence(
            model, row, max_new_tokens=8, end_token=0, generator=generator(i), **of_row(dials, i)
        )
        assert drawn[i, : len(alone)].tolist() == alone.tolist()
        assert set(drawn[i, len(alone) :].tolist()) <= {0}


FOR_EACH = "top_p must be a number or have the shape (3,) of the rows, got (2,); give one number"
Decoder = Callable[..., Any]
DECODERS: dict[str, Decoder] = {
    "greedy_search": greedy_search,
    "sample_sequence": sample_sequence,
    "beam_search": lambda *args, **options: beam_search(*args, width=2, **options),
}


@pytest.mark.parametrize("decode", DECODERS.values(), ids=DECODERS.keys())
@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"end_token": []}, ValueError, "end_token must name a token, got []; None lets no token"),
        ({"end_token": [1, 2.0]}, TypeError, "end_token must be an int such as 2, got 2.0"),
        ({"end_token": "2"}, TypeError, "end_token must be an int such as 2, got '2'"),
        ({"prompt": []}, ValueError, "must have the shapes (N,), and there must be one, got []"),
        (
            {"prompt": [zeros(2), zeros(1, 2)]},
            ValueError,
            "must have the shapes (N,), and there must be one, got [(2,), (1, 2)]",
        ),
        ({"prompt": [zeros(2), zeros(2).int()]}, TypeError, "prompt must be an int64 tensor of"),
        ({"prompt": [[0, 1], [2]]}, TypeError, "token ids, got [[0, 1], [2]]; prompts of several"),
        ({"prompt": "ab"}, TypeError, "prompt must be an int64 tensor of token ids, got 'ab'; "),
    ],
)
def test_what_cannot_be_asked_for_is_shown(
    decode: Decoder, bad: dict[str, Any], error: type[Exception], message: str
) -> None:
    options = {"prompt": [zeros(2), zeros(1)], "max_new_tokens": 1, "end_token": [1, 2]}
    decode(hashed(3), options.pop("prompt"), **options)
    options = {"prompt": [zeros(2), zeros(1)], "max_new_tokens": 1, "end_token": [1, 2], **bad}
    with pytest.raises(error, match=re.escape(message)) as caught:
        decode(hashed(3), options.pop("prompt"), **options)
    assert len(str(caught.value)) <= 300


def test_dials_of_another_number_of_rows_are_shown() -> None:
    model: NextTokenLogits = hashed(3)
    prompts = [zeros(2), zeros(1), zeros(1)]
    with pytest.raises(ValueError, match=re.escape(FOR_EACH)):
        sample_sequence(model, prompts, max_new_tokens=1, top_p=torch.ones(2))
    assert len(sample_sequence(model, prompts, max_new_tokens=1, top_p=torch.ones(3))) == 3
