"""Beam search with several end tokens, against Transformers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from omnivault.decoding import NextTokenLogits, beam_search
from tests.package.decoding.common import TEXT, hashed, new_tokens, table
from tests.support.strategies import unit

# Transformers adds five log-probabilities in float32, each of at most 16 and off by a few units.
OFF = 64 * 16 * unit(torch.float32)


class Model(PreTrainedModel, GenerationMixin):
    """A function from ids to next-token logits as a model that Transformers can search with."""

    config_class = PretrainedConfig

    def __init__(self, function: NextTokenLogits) -> None:
        options: dict[str, Any] = {"vocab_size": 7}
        super().__init__(PretrainedConfig(**options))
        self.function = function
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def forward(self, input_ids: Tensor, **_: Any) -> CausalLMOutput:
        return CausalLMOutput(logits=self.function(input_ids).unsqueeze(1))


def theirs(
    model: NextTokenLogits, width: int, ends: list[int], alpha: float, steps: int
) -> tuple[list[tuple[int, ...]], list[float]]:
    found: Any = Model(model).generate(
        torch.tensor([[0]]),
        attention_mask=torch.ones(1, 1, dtype=torch.int64),
        num_beams=width,
        num_return_sequences=width,
        max_new_tokens=steps,
        do_sample=False,
        early_stopping="never",
        eos_token_id=ends,
        pad_token_id=ends[0],
        length_penalty=alpha,
        use_cache=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    return [new_tokens(row, 1, ends) for row in found.sequences], found.sequences_scores.tolist()


def ours(
    model: NextTokenLogits, width: int, ends: list[int], alpha: float, steps: int
) -> tuple[list[tuple[int, ...]], list[float]]:
    found = beam_search(
        model,
        torch.tensor([0]),
        width=width,
        max_new_tokens=steps,
        end_token=ends,
        length_penalty=alpha,
    )
    return [new_tokens(row, 1, ends) for row in found.ids], found.scores.tolist()


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("ends", [[1], [1, 2], [1, 2, 3], [3, 1, 4, 2, 1]], ids=str)
@pytest.mark.parametrize("width", [2, 3, 4])
def test_texts_and_scores_are_those_of_transformers(
    width: int, ends: list[int], alpha: float
) -> None:
    for seed in range(5):
        model = hashed(7, seed)

        def likely_to_end(ids: Tensor, model: NextTokenLogits = model) -> Tensor:
            return model(ids) + torch.tensor([0, 1.5, 1.5, 1.5, 0, 0, 0])

        texts, scores = ours(likely_to_end, width, ends, alpha, 5)
        expected, near = theirs(likely_to_end, width, ends, alpha, 5)
        assert texts == expected
        # A negative exponent multiplies, by five at most.
        assert scores == pytest.approx(near, rel=0, abs=5 * OFF)


def test_three_ends_of_one_beginning_leave_room_for_two_that_go_on() -> None:
    """0 may end in three ways, each more probable than to go on with 4 or with 5."""
    probs = [[0.0, 1.0, 0, 0, 0, 0, 0] for _ in range(7)]
    probs[0] = [0, 0.22, 0.21, 0.20, 0.19, 0.18, 0]
    probs[4] = [0, 0.25, 0.25, 0.25, 0, 0, 0.25]
    texts, scores = ours(table(probs), 2, [1, 2, 3], 1.0, 3)
    assert texts == [(5, 1), (4, 6, 1)]
    expected = [math.log(0.18) / 2, math.log(0.19 * 0.25) / 3]
    assert scores == pytest.approx(expected, rel=0, abs=TEXT)
