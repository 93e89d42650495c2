# /// script
# requires-python = ">=3.11"
# dependencies = ["ctranslate2==4.8.5"]
# ///
"""CTranslate2: ``Generator.generate_batch`` on a model whose logits are the row.

The output layer of the model has zero weights and the row as its bias, so every batch entry gets
exactly these logits. The generator of a worker takes the seed at its first draw only, so each
request for draws gets a new ``Generator``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import Any

BATCH = 2048


class CTranslate2:
    """Draws of the engine; it shows no probabilities after its dials."""

    name = "ctranslate2"
    dials = ("temperature", "top_k", "top_p")

    def __init__(self) -> None:
        import ctranslate2

        self.version = ctranslate2.__version__

    def draw(
        self, logits: Sequence[float], settings: Mapping[str, Any], n: int, seed: int
    ) -> list[int]:
        """Draw n tokens; top-k is off at 0, while the engine's own default is 1."""
        import ctranslate2

        with TemporaryDirectory() as folder:
            constant_logits(logits).save(folder)
            ctranslate2.set_random_seed(seed)
            generator = ctranslate2.Generator(folder, inter_threads=1, intra_threads=1)
            results = generator.generate_batch(
                [["0"]] * n,
                max_batch_size=BATCH,
                max_length=1,
                include_prompt_in_result=False,
                return_end_token=True,
                sampling_temperature=float(settings.get("temperature", 1.0)),
                sampling_topk=int(settings.get("top_k", 0)),
                sampling_topp=float(settings.get("top_p", 1.0)),
            )
        return [result.sequences_ids[0][0] for result in results]


def constant_logits(logits: Sequence[float]) -> Any:
    """Describe a decoder of one layer, all zeros, to which the output adds the logits."""
    import numpy as np
    from ctranslate2.specs import TransformerDecoderModelSpec

    def zeros(layer: Any, outputs: int, inputs: int) -> None:
        layer.weight = np.zeros((outputs, inputs), np.float32)
        layer.bias = np.zeros(outputs, np.float32)

    size, width = len(logits), 8
    model = TransformerDecoderModelSpec.from_config(num_layers=1, num_heads=1, no_final_norm=True)
    decoder, layer = model.decoder, model.decoder.layer[0]
    decoder.embeddings.weight = np.zeros((size, width), np.float32)
    decoder.position_encodings.encodings = np.zeros((8, width), np.float32)
    for norm in (layer.self_attention.layer_norm, layer.ffn.layer_norm):
        norm.gamma = norm.beta = np.zeros(width, np.float32)
    zeros(layer.self_attention.linear[0], 3 * width, width)
    for linear in (layer.self_attention.linear[1], layer.ffn.linear_0, layer.ffn.linear_1):
        zeros(linear, width, width)
    zeros(decoder.projection, size, width)
    decoder.projection.bias = np.array(logits, np.float32)
    model.register_vocabulary([str(token) for token in range(size)])
    # No token is special: those that the engine asks for are tokens of the row.
    model.config.bos_token = model.config.eos_token = model.config.unk_token = "0"
    model.validate()
    return model


if __name__ == "__main__":
    from serving import serve

    serve(CTranslate2)
