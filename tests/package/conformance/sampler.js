// A sampler with two dials, as an engine in another language would offer it to the suite.

const { createInterface } = require("readline");

function probs(logits, settings) {
  const temperature = settings.temperature ?? 1;
  let z = logits.map((x) => (x === "-inf" ? -Infinity : x / temperature));
  if (settings.top_k) {
    const order = [...z.keys()].sort((i, j) => z[j] - z[i] || i - j);
    const kept = new Set(order.slice(0, settings.top_k));
    z = z.map((x, i) => (kept.has(i) ? x : -Infinity));
  }
  const largest = z.reduce((a, b) => Math.max(a, b));
  const weights = z.map((x) => Math.exp(x - largest));
  const total = weights.reduce((a, b) => a + b);
  return weights.map((w) => w / total);
}

// A counter, scrambled by the finalizer of MurmurHash3; two numbers of 32 bits make one of 53.
function uniforms(seed) {
  let count = 0;
  const next = () => {
    let h = Math.imul(seed, 0x27d4eb2f) + Math.imul(++count, 0x9e3779b1);
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    return (h ^ (h >>> 16)) >>> 0;
  };
  return () => (next() * 2 ** 21 + (next() >>> 11)) / 2 ** 53;
}

function draw(law, n, uniform) {
  let sum = 0;
  const sums = law.map((p) => (sum += p));
  return Array.from({ length: n }, () => {
    const u = uniform() * sum;
    let [low, high] = [0, sums.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sums[middle] > u) high = middle;
      else low = middle + 1;
    }
    return low;
  });
}

function answer({ do: what, logits, settings, n, seed }) {
  if (what === "hello") {
    return { name: "js", version: "1", dials: ["temperature", "top_k"], can: ["probs", "draw"] };
  }
  if ((settings.temperature ?? 1) <= 0) return { refused: "the temperature must be positive" };
  const law = probs(logits, settings);
  return what === "probs" ? { probs: law } : { tokens: draw(law, n, uniforms(seed)) };
}

createInterface({ input: process.stdin }).on("line", (line) => {
  console.log(JSON.stringify(answer(JSON.parse(line))));
});
