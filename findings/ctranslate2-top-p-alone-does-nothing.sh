#!/usr/bin/env bash
# ctranslate2 4.8.5 (CPU), Python 3.11
#
# generate_batch with sampling_temperature=2 and sampling_topp=.95, and nothing else set, always
# returns the most likely token: sampling_topk is 1 unless it is set, and cuts first. A caller who
# names only the two dials that other engines sample by gets greedy text, without a warning, and with
# any seed. sampling_topk=0 turns the cut off.
#
# The model here has one row of logits for every token: log of .4, .3, .2, .1.
#
# Seen, of 1,000 draws: {0: 1000}; with sampling_topk=0 {0: 298, 1: 310, 2: 246, 3: 146}, say.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet ctranslate2==4.8.5
"$folder/env/bin/python" - "$folder/model" <<'PYTHON'
import sys
from collections import Counter
from pathlib import Path

import ctranslate2
import numpy as np
from ctranslate2.specs import TransformerDecoderModelSpec

PROBS, WIDTH = [0.4, 0.3, 0.2, 0.1], 8


def zeros(*shape):
    return np.zeros(shape, np.float32)


model = TransformerDecoderModelSpec.from_config(num_layers=1, num_heads=1, no_final_norm=True)
decoder, layer = model.decoder, model.decoder.layer[0]
decoder.embeddings.weight, decoder.projection.weight = zeros(4, WIDTH), zeros(4, WIDTH)
decoder.projection.bias = np.log(PROBS).astype(np.float32)
decoder.position_encodings.encodings = zeros(4, WIDTH)
attention, ffn = layer.self_attention, layer.ffn
for norm in (attention.layer_norm, ffn.layer_norm):
    norm.gamma, norm.beta = zeros(WIDTH), zeros(WIDTH)
for linear in (*attention.linear, ffn.linear_0, ffn.linear_1):
    outputs = 3 * WIDTH if linear is attention.linear[0] else WIDTH
    linear.weight, linear.bias = zeros(outputs, WIDTH), zeros(outputs)
model.register_vocabulary(list("abcd"))
model.config.bos_token = model.config.eos_token = model.config.unk_token = "a"
model.validate()
folder = Path(sys.argv[1])
folder.mkdir()
model.save(str(folder))

generator = ctranslate2.Generator(str(folder))
drawn = {}
for options in ({}, {"sampling_topk": 0}):
    results = generator.generate_batch(
        [["a"]] * 1_000,
        max_length=1,
        include_prompt_in_result=False,
        return_end_token=True,
        sampling_temperature=2,
        sampling_topp=0.95,
        **options,
    )
    drawn[len(options)] = Counter(result.sequences_ids[0][0] for result in results)
    print(options, dict(sorted(drawn[len(options)].items())))
assert len(drawn[1]) == 4
assert set(drawn[0]) == {0}, "temperature and top-p act by themselves now"
PYTHON
