// npm: @huggingface/transformers@4.3.2
//
// Transformers.js: `generate` on a model whose logits are the row. It draws, with a generator that
// can be seeded. The folder that holds node_modules is the argument. Errors that the engine throws
// are its refusals.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

// Nothing but answers goes to stdout.
const answer = (object) => process.stdout.write(JSON.stringify(object) + "\n");
console.log = console.info = console.debug = console.error;

const load = createRequire(process.argv[2] + "/");
const { PreTrainedModel, Tensor, env, random } = load("@huggingface/transformers");

const NAME = "transformers.js";
const DIALS = ["temperature", "top_k", "top_p", "min_p", "typical_p"];
const BATCH = 4000;

class ConstantLogits extends PreTrainedModel {
    constructor(row) {
        super({ model_type: "llama", is_encoder_decoder: false }, {}, {});
        this.row = row;
        this.can_generate = true;
    }
    prepare_inputs_for_generation(ids, inputs) {
        return inputs;
    }
    async forward({ input_ids }) {
        const rows = input_ids.dims[0];
        const logits = new Float32Array(rows * this.row.length);
        for (let i = 0; i < rows; i++) logits.set(this.row, i * this.row.length);
        return { logits: new Tensor("float32", logits, [rows, 1, this.row.length]) };
    }
}

async function draw(logits, settings, n, seed) {
    random.seed(seed);
    const model = new ConstantLogits(logits);
    const tokens = [];
    while (tokens.length < n) {
        const rows = Math.min(BATCH, n - tokens.length);
        const sequences = await model.generate({
            inputs: new Tensor("int64", new BigInt64Array(rows), [rows, 1]),
            do_sample: true,
            top_k: 0,
            ...settings,
            max_new_tokens: 1,
        });
        tokens.push(...sequences.tolist().map((ids) => Number(ids[1])));
    }
    return tokens;
}

async function respond(request) {
    if (request.do === "hello") return { name: NAME, version: env.version, dials: DIALS, can: ["draw"], seeded: true };
    if (request.do !== "draw") return { error: `${NAME} cannot ${request.do}; it can: draw` };
    for (const dial in request.settings) {
        if (!DIALS.includes(dial)) return { error: `${NAME} has no ${dial}; its dials are: ${DIALS.join(", ")}` };
    }
    const logits = request.logits.map((z) => (z === "-inf" ? -Infinity : z));
    return { tokens: await draw(logits, request.settings, request.n, request.seed) };
}

for await (const line of createInterface({ input: process.stdin })) {
    try {
        answer(await respond(JSON.parse(line)));
    } catch (problem) {
        answer(problem instanceof TypeError ? { error: String(problem) } : { refused: problem.message });
    }
}
