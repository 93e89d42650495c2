// Five logits to drag: what changes the order, what changes nothing, what changes the sizes.
(() => {
  const { steps, ratios, softmax, logProbs, fixed, digits, decimals, probability } = omnivaultLive;
  const { scale, rect, line, text } = omnivaultLive;
  const NAMES = ["a", "b", "c", "d", "e"];
  const LOW = -8;
  const HIGH = 8;
  const ROW = 34;
  const TOP = 28;

  const logits = (state) => NAMES.map((n) => state[n]);
  const places = (width) => {
    const middle = width < 480 ? 0.52 * width : 0.5 * width;
    return { z: scale(LOW, HIGH, 24, middle - 44), p: scale(0, 1, middle + 6, width - 80) };
  };

  omnivaultLive.figures.order = {
    controls: (data) => [
      ...NAMES.map((name, i) => ({
        type: "range", name, label: `logit ${name}`, values: steps(-5, 5, 101),
        value: data.logits[i], show: (v) => fixed(v, 1),
      })),
      { type: "range", name: "shift", label: "add to all", values: steps(-3, 3, 61), value: 0, show: (v) => fixed(v, 1) },
      { type: "range", name: "scale", label: "multiply all by", values: ratios(0.1, 10, 41), value: 1, show: (v) => digits(v) },
      { type: "range", name: "temperature", label: "temperature T", values: ratios(0.1, 10, 41), value: 1, show: (v) => digits(v) },
    ],

    compute(data, state) {
      const z = logits(state).map((zi) => state.scale * zi + state.shift);
      const probs = softmax(z, state.temperature);
      const ranking = NAMES.map((_, i) => i).sort((i, j) => z[j] - z[i] || i - j);
      return { logits: z, probs, ranking };
    },

    draw(data, state, { logits: z, probs }, width) {
      const at = places(width);
      const chances = logProbs(z.map((zi) => zi / state.temperature));
      const rows = NAMES.map((name, i) => {
        const y = TOP + i * ROW;
        const shown = Math.max(LOW, Math.min(HIGH, z[i]));
        const [x0, x1] = [at.z(0), at.z(shown)];
        return (
          text(4, y + 17, name, "start", "bold") +
          rect(Math.min(x0, x1), y + 4, Math.abs(x1 - x0), ROW - 16, "c4") +
          rect(x1 - 3, y + 1, 6, ROW - 10, "ink") +
          text(at.z(HIGH) + 36, y + 17, decimals(z[i], 1), "end", "small") +
          rect(at.p(0), y + 4, at.p(probs[i]) - at.p(0), ROW - 16, "c0") +
          text(at.p(probs[i]) + 5, y + 17, probability(chances[i], 3), "start", "small")
        );
      });
      const end = TOP + NAMES.length * ROW;
      return {
        height: end + 6,
        svg:
          text(at.z(LOW), 14, width < 480 ? "logits (drag)" : "logits (drag the bars)") +
          text(at.p(0), 14, "probabilities") +
          rows.join("") +
          line(at.z(0), TOP, at.z(0), end) +
          line(at.p(0), TOP, at.p(0), end),
      };
    },

    say(data, state, { logits: z, ranking }) {
      const links = ranking.slice(1).map((i, k) => (z[i] === z[ranking[k]] ? " = " : " > ") + NAMES[i]);
      const chances = logProbs(z.map((zi) => zi / state.temperature));
      const [most, least] = [ranking[0], ranking.at(-1)].map((i) => probability(chances[i]));
      return (
        `By logits and by probabilities alike the order is ${NAMES[ranking[0]]}${links.join("")}. ` +
        `The largest probability is ${most}, the smallest ${least}.`
      );
    },

    drag(data, state, x, y, width) {
      const i = Math.floor((y - TOP) / ROW);
      const at = places(width).z;
      if (i < 0 || i >= NAMES.length || x > at(HIGH) + 12) return null;
      const z = LOW + ((x - at(LOW)) * (HIGH - LOW)) / (at(HIGH) - at(LOW));
      const own = (z - state.shift) / state.scale;
      return { [NAMES[i]]: +Math.max(-5, Math.min(5, own)).toFixed(1) };
    },
  };
})();
