#!/usr/bin/env bash
# @huggingface/transformers 4.3.2 (transformers.js), Node.js 20
#
# generate takes top_p, min_p and typical_p, which its GenerationConfig documents, and draws as if they
# were not there: of (.5, .25, .125, .0625, .0625) at top_p .5, where one token may be drawn, all five
# are, and from one seed the very same ones as without it. top_k and temperature act. Nothing is said.
#
# The model here has one row of logits for every token.
#
# Seen, counts of 2,000 draws: 999 489 253 130 129 without a setting, with top_p .5, with min_p .9 and
#       with typical_p .1; with top_k 2 1322 678 0 0 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --ignore-scripts --no-audit --no-fund @huggingface/transformers@4.3.2
cat > ask.mjs <<'JAVASCRIPT'
import assert from "node:assert";
import { PreTrainedModel, Tensor, random } from "@huggingface/transformers";

const LOGITS = Float32Array.from([0.5, 0.25, 0.125, 0.0625, 0.0625], Math.log);
const DRAWS = 2000;

class Constant extends PreTrainedModel {
    can_generate = true;
    constructor() {
        super({ model_type: "llama", is_encoder_decoder: false }, {}, {});
    }
    prepare_inputs_for_generation(ids, inputs) {
        return inputs;
    }
    async forward() {
        const rows = new Float32Array(DRAWS * LOGITS.length).map((_, i) => LOGITS[i % LOGITS.length]);
        return { logits: new Tensor("float32", rows, [DRAWS, 1, LOGITS.length]) };
    }
}

async function counts(setting) {
    random.seed(0);
    const inputs = new Tensor("int64", new BigInt64Array(DRAWS), [DRAWS, 1]);
    const options = { inputs, do_sample: true, top_k: 0, max_new_tokens: 1, ...setting };
    const sequences = (await new Constant().generate(options)).tolist();
    const found = LOGITS.map(() => 0);
    for (const [, token] of sequences) found[Number(token)]++;
    console.log(JSON.stringify(setting), ...found);
    return found.join();
}

const plain = await counts({});
assert.match(await counts({ top_k: 2 }), /,0,0,0$/);
assert.notEqual(await counts({ temperature: 2 }), plain);
for (const ignored of [{ top_p: 0.5 }, { min_p: 0.9 }, { typical_p: 0.1 }]) {
    assert.equal(await counts(ignored), plain, "the setting acts now");
}
JAVASCRIPT
node ask.mjs
