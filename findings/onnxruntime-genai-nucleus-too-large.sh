#!/usr/bin/env bash
# onnxruntime-genai 0.18.0, onnxruntime 1.32.0 (CPU), Python 3.11
#
# do_sample with top_p .5 and top_k 0, on the same five tokens (.5, .25, .125, .0625, .0625) in
# vocabularies of two sizes, all other tokens ruled out. With 64 tokens only the best is drawn, which
# alone reaches .5. With 65 all five are drawn, though the probabilities are the same: above 64 tokens
# the nucleus is cut by another rule, which keeps far more. top_k 50, the default that acts unasked,
# hides it.
#
# The model here repeats one row of logits for every token of its input.
#
# Seen, draws of 2,000: V = 64: {0: 2000}; V = 65: {0: 979, 1: 526, 2: 245, 3: 129, 4: 121};
#       V = 65 with top_k 50: {0: 2000}.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet \
    onnxruntime-genai==0.18.0 onnxruntime==1.32.0 onnx==1.23.2
"$folder/env/bin/python" - "$folder" <<'PYTHON'
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime_genai
from onnx import TensorProto, helper, numpy_helper

PROBS = np.array([0.5, 0.25, 0.125, 0.0625, 0.0625])
BATCH, STEPS = 20, 100


def write_model(size, folder):
    logits = np.full((1, 1, size), -np.inf, np.float32)
    logits[..., : len(PROBS)] = np.log(PROBS)
    constants = {
        "row": logits,
        "zero": np.zeros((1, 1, 1, 1), np.float32),
        "size": np.array([size]),
        "one": np.array([1]),
        "first": np.array([0]),
    }
    info, node = helper.make_tensor_value_info, helper.make_node
    nodes = [
        node("Shape", ["input_ids"], ["shape"]),
        node("Concat", ["shape", "size"], ["logits_shape"], axis=0),
        node("Expand", ["row", "logits_shape"], ["logits"]),
        node("Gather", ["shape", "first"], ["rows"]),
        node("Gather", ["shape", "one"], ["length"]),
        node("Concat", ["rows", "one", "length", "one"], ["cache_shape"], axis=0),
        node("Expand", ["zero", "cache_shape"], ["new"]),
    ]
    inputs = [info("input_ids", TensorProto.INT64, ["rows", "length"])]
    outputs = [info("logits", TensorProto.FLOAT, ["rows", "length", size])]
    for kind in ("key", "value"):
        nodes.append(node("Concat", [f"past.0.{kind}", "new"], [f"present.0.{kind}"], axis=2))
        inputs.append(info(f"past.0.{kind}", TensorProto.FLOAT, ["rows", 1, "past", 1]))
        outputs.append(info(f"present.0.{kind}", TensorProto.FLOAT, ["rows", 1, "all", 1]))
    initial = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "constant", inputs, outputs, initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")
    ones = ("head_size", "hidden_size", "num_attention_heads", "num_hidden_layers")
    decoder = dict.fromkeys((*ones, "num_key_value_heads"), 1) | {
        "filename": "model.onnx",
        "inputs": {
            "input_ids": "input_ids",
            "past_key_names": "past.%d.key",
            "past_value_names": "past.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    }
    last = size - 1  # ends a text and is never drawn
    described = {"type": "llama", "vocab_size": size, "context_length": 1000, "decoder": decoder}
    described |= {"bos_token_id": last, "eos_token_id": last, "pad_token_id": last}
    config = {"model": described, "search": {}}
    (folder / "genai_config.json").write_text(json.dumps(config))


def drawn(size, **options):
    folder = Path(sys.argv[1]) / f"model{size}"
    if not folder.exists():
        write_model(size, folder)
    model = onnxruntime_genai.Model(str(folder))
    params = onnxruntime_genai.GeneratorParams(model)
    params.set_search_options(
        do_sample=True, max_length=STEPS + 1, batch_size=BATCH, random_seed=0, **options
    )
    generator = onnxruntime_genai.Generator(model, params)
    generator.append_tokens(np.zeros((BATCH, 1), np.int32))
    counts = Counter()
    for _ in range(STEPS):
        generator.generate_next_token()
        counts.update(generator.get_next_tokens().tolist())
    print(f"V = {size}, {options}: {dict(sorted(counts.items()))}")
    return set(counts)


assert drawn(64, top_p=0.5, top_k=0) == {0}
assert drawn(65, top_p=0.5, top_k=50) == {0}
assert drawn(65, top_p=0.5, top_k=0) == {0, 1, 2, 3, 4}, "the nucleus is as it should be now"
PYTHON
