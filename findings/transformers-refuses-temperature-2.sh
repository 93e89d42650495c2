#!/usr/bin/env bash
# transformers 5.24.0, torch 2.13.0 (CPU), Python 3.11
#
# generate(do_sample=True, temperature=2) raises, because 2 is an int: the message says that it must
# be "a strictly positive float". 2.0 is taken. repetition_penalty=2 raises too, while top_p=1 is taken.
# A setting that comes from JSON, where a client may write 2 for 2.0, fails for whole numbers only.
# top_p=1.2, which means nothing, is taken and does nothing.
#
# Seen: temperature=2 and repetition_penalty=2 raise ValueError; 2.0, top_p=1 and top_p=1.2 generate.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet torch==2.13.0 transformers==5.24.0
"$folder/env/bin/python" - <<'PYTHON'
import torch
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
sizes = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
heads = {"num_attention_heads": 1, "num_key_value_heads": 1}
model = LlamaForCausalLM(LlamaConfig(**sizes, **heads))
prompt = torch.ones(1, 1, dtype=torch.long)


def works(**setting):
    try:
        model.generate(prompt, do_sample=True, max_new_tokens=1, **setting)
    except ValueError as error:
        print(f"{setting}: {error}")
        return False
    print(f"{setting}: generates")
    return True


assert works(temperature=2.0) and works(repetition_penalty=2.0) and works(top_p=1)
assert not works(temperature=2), "an integer temperature is taken now"
assert not works(repetition_penalty=2), "an integer penalty is taken now"
assert works(top_p=1.2), "a top_p above 1 is refused now"
PYTHON
