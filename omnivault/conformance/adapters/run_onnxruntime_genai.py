# /// script
# requires-python = ">=3.11"
# dependencies = ["onnx==1.23.2", "onnxruntime==1.32.0", "onnxruntime-genai==0.18.0"]
# ///
"""onnxruntime-genai: ``Generator.generate_next_token`` on a model whose logits are the row.

The ONNX model repeats the row for every token of the input, beside a cache of zeros. The engine has
no top-k of "off" but 0, with which it samples only if top-p is set: 1 unless a request says more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

BATCH = 32  # as many as the engine takes
SEARCH = {"temperature": float, "top_k": int, "top_p": float}


class OnnxRuntimeGenAI:
    """Draws of the engine; it shows no probabilities after its dials."""

    name = "onnxruntime-genai"
    dials = tuple(SEARCH)

    def __init__(self) -> None:
        import onnxruntime_genai

        self.version = onnxruntime_genai.__version__

    def draw(
        self, logits: Sequence[float], settings: Mapping[str, Any], n: int, seed: int
    ) -> list[int]:
        """Draw n tokens in batches, with one generator of random numbers."""
        import numpy as np
        import onnxruntime_genai

        batch = min(n, BATCH)
        start = np.zeros((batch, 1), np.int32)
        steps = -(-n // batch)
        chosen = {dial: SEARCH[dial](value) for dial, value in settings.items()}
        with TemporaryDirectory() as folder:
            write_constant_logits(logits, Path(folder))
            model = onnxruntime_genai.Model(folder)
            params = onnxruntime_genai.GeneratorParams(model)
            try:
                params.set_search_options(
                    **{"do_sample": True, "top_k": 0, "top_p": 1.0, **chosen},
                    batch_size=batch,
                    max_length=2,
                    random_seed=seed,
                )
                generator = onnxruntime_genai.Generator(model, params)
                generator.append_tokens(start)
                tokens: list[int] = []
                for _ in range(steps):
                    generator.generate_next_token()
                    tokens += generator.get_next_tokens().tolist()
                    generator.rewind_to(0)  # a token of the row ends a text
                    generator.append_tokens(start)
            except RuntimeError as words:
                raise ValueError(str(words)) from words
        return tokens[:n]


def write_constant_logits(logits: Sequence[float], folder: Path) -> None:
    """Write a decoder whose logits are these, and the engine's description of it."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    size = len(logits)
    constants = {
        "row": np.array(logits, np.float32).reshape(1, 1, size),
        "zero": np.zeros((1, 1, 1, 1), np.float32),
        "first": np.array([0]),
        "second": np.array([1]),
        "one": np.array([1]),
        "size": np.array([size]),
    }
    float32, int64 = TensorProto.FLOAT, TensorProto.INT64
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        helper.make_node("Concat", ["shape", "size"], ["logits_shape"], axis=0),
        helper.make_node("Expand", ["row", "logits_shape"], ["logits"]),
        helper.make_node("Gather", ["shape", "first"], ["rows"]),
        helper.make_node("Gather", ["shape", "second"], ["length"]),
        helper.make_node("Concat", ["rows", "one", "length", "one"], ["cache_shape"], axis=0),
        helper.make_node("Expand", ["zero", "cache_shape"], ["new"]),
    ]
    inputs = [helper.make_tensor_value_info("input_ids", int64, ["rows", "length"])]
    outputs = [helper.make_tensor_value_info("logits", float32, ["rows", "length", size])]
    for kind in ("key", "value"):
        past, present = f"past_key_values.0.{kind}", f"present.0.{kind}"
        nodes.append(helper.make_node("Concat", [past, "new"], [present], axis=2))
        inputs.append(helper.make_tensor_value_info(past, float32, ["rows", 1, "past", 1]))
        outputs.append(helper.make_tensor_value_info(present, float32, ["rows", 1, "total", 1]))
    initial = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "constant logits", inputs, outputs, initial)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), folder / "model.onnx")
    described = {
        "model": {
            "type": "llama",
            "vocab_size": size,
            "context_length": 1 << 20,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": 0,
            "decoder": {
                "filename": "model.onnx",
                "head_size": 1,
                "hidden_size": 1,
                "num_attention_heads": 1,
                "num_hidden_layers": 1,
                "num_key_value_heads": 1,
                "session_options": {"intra_op_num_threads": 1},
                "inputs": {
                    "input_ids": "input_ids",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": {},
    }
    (folder / "genai_config.json").write_text(json.dumps(described), encoding="utf-8")


if __name__ == "__main__":
    from serving import serve

    serve(OnnxRuntimeGenAI)
