#!/usr/bin/env bash
# openvino-genai 2026.4.1.0, Python 3.11
#
# LLMPipeline.generate with do_sample on a batch of equal prompts (backend SDPA): every row starts
# from the same rng_seed, so all rows get the same token, whatever the size of the batch, and a batch
# of samples is one sample. As many sequences asked of one prompt (num_return_sequences) differ.
#
# The model here repeats one row of logits, four equal tokens, for every token of its input.
#
# Seen, 1,000 prompts: 1,000 times the same token, for the seeds 0 to 7 the tokens 2 1 1 2 3 0 3 0;
#       1,000 sequences of one prompt: 244, 260, 255 and 241 times.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet openvino-genai==2026.4.1.0
"$folder/env/bin/python" - "$folder" <<'PYTHON'
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import openvino
import openvino_genai
from openvino import opset13 as op

folder = Path(sys.argv[1]) / "model"
folder.mkdir()
inputs = []
for name, rank, dtype in (
    ("input_ids", 2, np.int64),
    ("attention_mask", 2, np.int64),
    ("position_ids", 2, np.int64),
    ("beam_idx", 1, np.int32),
):
    inputs.append(op.parameter([-1] * rank, dtype, name=name))
    inputs[-1].output(0).set_names({name})
shape = op.concat([op.shape_of(inputs[0]), op.constant(np.array([4]))], 0)
logits = op.broadcast(op.constant(np.zeros((1, 1, 4), np.float32)), shape)
logits.output(0).set_names({"logits"})
openvino.save_model(openvino.Model([op.result(logits)], inputs), folder / "openvino_model.xml")
(folder / "config.json").write_text('{"model_type": "llama"}')
pipeline = openvino_genai.LLMPipeline(folder, "CPU", ATTENTION_BACKEND="SDPA")


def drawn(prompts, sequences, seed):
    config = openvino_genai.GenerationConfig()
    config.do_sample, config.max_new_tokens, config.rng_seed = True, 1, seed
    config.num_return_sequences = sequences
    config.eos_token_id, config.stop_token_ids, config.ignore_eos = 0, {0}, True
    ids = openvino.Tensor(np.zeros((prompts, 1), np.int64))
    return Counter(tokens[0] for tokens in pipeline.generate(ids, config).tokens)


batches = [drawn(1_000, 1, seed) for seed in range(8)]
apart = drawn(1, 1_000, 0)
print("1,000 equal prompts, by seed:", [dict(batch) for batch in batches])
print("1,000 sequences of one prompt:", dict(sorted(apart.items())))
assert len(apart) == 4
assert len(set().union(*batches)) > 1, "the seed changes nothing"
assert all(len(batch) == 1 for batch in batches), "the rows of a batch are drawn apart now"
PYTHON
