#!/usr/bin/env bash
# openvino-genai 2026.4.1.0, Python 3.11
#
# Beside one token at 0 stand 100,000 at -18: each is rare, together they have a probability of
# 0.0015. Where the likely token comes first in the vocabulary, sampling never leaves it; the same
# row with that token last is sampled as it should be. So which token has which number decides what
# can be drawn. (A sum of float32 numbers behaves so: past 0.9985 a summand of 1.5e-8 is lost.)
#
# Seen, of 20,000 draws among the 100,000: 0 with the likely token first, 35 with it last; due 30.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet openvino-genai==2026.4.1.0
"$folder/env/bin/python" - "$folder" <<'PYTHON'
import math
import sys
from pathlib import Path

import numpy as np
import openvino
import openvino_genai
from openvino import opset13 as op

TAIL, DRAWS = 100_000, 20_000


def drawn_from_the_tail(name, likely):
    """Draw from a model that repeats one row of logits; count what is not the likely token."""
    row = np.full((1, 1, TAIL + 1), -18.0, np.float32)
    row[..., likely] = 0
    inputs = []
    for label, rank, dtype in (
        ("input_ids", 2, np.int64),
        ("attention_mask", 2, np.int64),
        ("position_ids", 2, np.int64),
        ("beam_idx", 1, np.int32),
    ):
        inputs.append(op.parameter([-1] * rank, dtype, name=label))
        inputs[-1].output(0).set_names({label})
    shape = op.concat([op.shape_of(inputs[0]), op.constant(np.array([TAIL + 1]))], 0)
    logits = op.broadcast(op.constant(row), shape)
    logits.output(0).set_names({"logits"})
    folder = Path(sys.argv[1]) / name
    folder.mkdir()
    model = openvino.Model([op.result(logits)], inputs)
    openvino.save_model(model, folder / "openvino_model.xml", compress_to_fp16=False)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    config = openvino_genai.GenerationConfig()
    config.do_sample, config.max_new_tokens, config.rng_seed = True, 1, 0
    config.num_return_sequences = DRAWS // 10
    config.eos_token_id, config.stop_token_ids, config.ignore_eos = 0, {0}, True
    pipeline = openvino_genai.LLMPipeline(folder, "CPU", ATTENTION_BACKEND="SDPA")
    found = 0
    for seed in range(10):
        config.rng_seed = seed
        drawn = pipeline.generate(openvino.Tensor(np.zeros((1, 1), np.int64)), config).tokens
        found += sum(tokens[0] != likely for tokens in drawn)
    return found


due = DRAWS * TAIL * math.exp(-18) / (1 + TAIL * math.exp(-18))
first, last = drawn_from_the_tail("first", 0), drawn_from_the_tail("last", TAIL)
print(f"of {DRAWS} draws {first} with the likely token first, {last} with it last; due {due:.0f}")
assert first == 0, "the tail is drawn from now"
assert abs(last - due) < 6 * due**0.5, "the row with the likely token last is drawn wrong too"
PYTHON
