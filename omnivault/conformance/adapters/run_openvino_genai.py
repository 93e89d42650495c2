# /// script
# requires-python = ">=3.11"
# dependencies = ["openvino-genai==2026.4.1.0"]
# ///
"""OpenVINO GenAI: ``LLMPipeline.generate`` on a model whose logits are the row.

The model repeats the row for every token of the input. The n draws are n sequences returned for
one prompt; n equal prompts in a batch would each start from the seed and all get one token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

DIALS = {"temperature": float, "top_k": int, "top_p": float, "min_p": float}


class OpenVinoGenAI:
    """Draws of the engine; it shows no probabilities after its dials."""

    name = "openvino-genai"
    dials = tuple(DIALS)

    def __init__(self) -> None:
        from importlib.metadata import version

        self.version = version("openvino-genai")

    def draw(
        self, logits: Sequence[float], settings: Mapping[str, Any], n: int, seed: int
    ) -> list[int]:
        """Draw n tokens for one prompt."""
        import numpy as np
        import openvino
        import openvino_genai

        config = openvino_genai.GenerationConfig()
        config.do_sample, config.max_new_tokens, config.num_return_sequences = True, 1, n
        config.rng_seed = seed
        # The engine asks for a token that ends a text.
        config.eos_token_id, config.stop_token_ids, config.ignore_eos = 0, {0}, True
        with TemporaryDirectory() as folder:
            write_constant_logits(logits, Path(folder))
            pipeline = openvino_genai.LLMPipeline(folder, "CPU", ATTENTION_BACKEND="SDPA")
            try:
                for dial, value in settings.items():
                    setattr(config, dial, DIALS[dial](value))
                results = pipeline.generate(openvino.Tensor(np.zeros((1, 1), np.int64)), config)
            except RuntimeError as words:  # the last line, after the place in the engine's source
                raise ValueError(str(words).strip().splitlines()[-1]) from words
        return [tokens[0] for tokens in results.tokens]


def write_constant_logits(logits: Sequence[float], folder: Path) -> None:
    """Write a decoder whose logits are these."""
    import numpy as np
    import openvino
    from openvino import opset13 as op

    def parameter(name: str, rank: int, dtype: Any) -> Any:
        made = op.parameter([-1] * rank, dtype, name=name)
        made.output(0).set_names({name})
        return made

    ids = parameter("input_ids", 2, np.int64)
    ignored = [
        parameter("attention_mask", 2, np.int64),
        parameter("position_ids", 2, np.int64),
        parameter("beam_idx", 1, np.int32),
    ]
    row = op.constant(np.array(logits, np.float32).reshape(1, 1, -1))
    shape = op.concat([op.shape_of(ids), op.constant(np.array([len(logits)]))], 0)
    repeated = op.broadcast(row, shape)
    repeated.output(0).set_names({"logits"})
    model = openvino.Model([op.result(repeated)], [ids, *ignored], "constant logits")
    openvino.save_model(model, folder / "openvino_model.xml", compress_to_fp16=False)
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")


if __name__ == "__main__":
    from serving import serve

    serve(OpenVinoGenAI)
