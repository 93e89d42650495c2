# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "transformers==5.24.0"]
# ///
"""Hugging Face Transformers: ``generate`` on a model whose logits are the row.

Probabilities are the softmax of the scores that ``generate`` returns; it draws from the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DIALS = {"temperature": float, "top_k": int, "top_p": float, "min_p": float, "typical_p": float}


class Transformers:
    """The engine's ``generate`` with ``do_sample=True``."""

    name = "transformers"
    dials = tuple(DIALS)

    def __init__(self) -> None:
        import torch
        import transformers

        self.version = (
            f"{transformers.__version__} (torch {torch.__version__.partition('+')[0]}, CPU)"
        )

    def probs(self, logits: Sequence[float], settings: Mapping[str, Any]) -> list[float]:
        """Return the softmax of the processed scores of one step."""
        generated = self.generate(logits, settings, 1)
        return generated.scores[0][0].softmax(-1).tolist()  # type: ignore[no-any-return]

    def draw(
        self, logits: Sequence[float], settings: Mapping[str, Any], n: int, seed: int
    ) -> list[int]:
        """Draw n tokens as one batch, with PyTorch's global generator, whose state is restored."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.generate(logits, settings, n).sequences[:, 1].tolist()  # type: ignore[no-any-return]

    @staticmethod
    def generate(logits: Sequence[float], settings: Mapping[str, Any], batch: int) -> Any:
        """Generate one token for each of the batch; top-k is off at 0, its own default is 50."""
        import torch

        chosen = {dial: DIALS[dial](value) for dial, value in settings.items()}
        return constant_logits(logits).generate(
            torch.zeros(batch, 1, dtype=torch.long),
            **{"do_sample": True, "top_k": 0, **chosen},
            max_new_tokens=1,
            use_cache=False,
            return_dict_in_generate=True,
            output_scores=True,
        )


def constant_logits(logits: Sequence[float]) -> Any:
    """Return a model that ``generate`` can run, whose logits are these."""
    import torch
    from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
    from transformers.modeling_outputs import CausalLMOutput

    class ConstantLogits(PreTrainedModel, GenerationMixin):
        config_class = PretrainedConfig

        def __init__(self, row: torch.Tensor) -> None:
            super().__init__(PretrainedConfig())
            self.row = torch.nn.Parameter(row, requires_grad=False)

        def prepare_inputs_for_generation(self, input_ids: torch.Tensor, **_: Any) -> Any:
            return {"input_ids": input_ids}

        def forward(self, input_ids: torch.Tensor, **_: Any) -> CausalLMOutput:
            return CausalLMOutput(logits=self.row.expand(*input_ids.shape, -1))

    return ConstantLogits(torch.tensor(logits, dtype=torch.float32))


if __name__ == "__main__":
    from serving import serve

    serve(Transformers)
