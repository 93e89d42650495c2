// The Jacobian of softmax beside the covariance of draws: they are the same matrix, up to T.
(() => {
  const { steps, ratios, sum, softmax, logProbs, random, fixed, digits, decimals, probability } = omnivaultLive;
  const { count, rect, text } = omnivaultLive;
  const NAMES = ["a", "b", "c", "d"];
  const MOST = 100000;

  const logits = (state) => NAMES.map((n) => state[n]);
  const chances = (state) => logProbs(logits(state).map((z) => z / state.temperature));

  // Drawn once and kept: at MOST draws, drawing anew would take most of the time of a slider's step.
  let uniforms;
  const tally = (probs, n) => {
    if (!uniforms) {
      const uniform = random(1);
      uniforms = Float64Array.from({ length: MOST }, uniform);
    }
    // by inverse CDF: the class is how many of these ends u has passed
    const ends = [probs[0], probs[0] + probs[1], probs[0] + probs[1] + probs[2]];
    const counts = [0, 0, 0, 0];
    for (let k = 0; k < n; k++) {
      const u = uniforms[k];
      counts[(u >= ends[0]) + (u >= ends[1]) + (u >= ends[2])]++;
    }
    return counts;
  };
  // (diag(p) - p p^T) / T: of probabilities p the Jacobian, of shares of one-hot draws their
  // covariance over T, since the mean of the draws is their shares. 1 - p_i is the sum of the others.
  const matrix = (p, T) =>
    p.map((pi, i) => {
      const rest = sum(p.filter((_, j) => j !== i));
      return p.map((pj, j) => (pi * (i === j ? rest : -pj)) / T);
    });
  const entry = (x) => decimals(x, 3);
  // In whole thousandths, where the printed numbers are such.
  const sumsToZero = (row) =>
    row.every((x) => /^(\u2212?0\.\d{3}|0)$/.test(entry(x))) &&
    sum(row.map((x) => Math.round(1000 * x))) === 0;

  omnivaultLive.figures.jacobian = {
    controls: (data) => [
      ...NAMES.map((name, i) => ({
        type: "range", name, label: `logit ${name}`, values: steps(-4, 4, 81),
        value: data.logits[i], show: (v) => fixed(v, 1),
      })),
      { type: "range", name: "temperature", label: "temperature T", values: ratios(0.2, 5, 41), value: 1, show: (v) => digits(v) },
      { type: "button", name: "draws", value: 100, label: "draw 10", press: (s) => ({ draws: Math.min(MOST, s.draws + 10) }) },
      { type: "button", label: "draw 1,000", press: (s) => ({ draws: Math.min(MOST, s.draws + 1000) }) },
    ],

    compute(data, state) {
      const T = state.temperature;
      const probs = softmax(logits(state), T);
      const counts = tally(probs, state.draws);
      const shares = counts.map((c) => c / state.draws);
      const jacobian = matrix(probs, T);
      const covariance = matrix(shares, T);
      const gaps = jacobian.flatMap((row, i) => row.map((x, j) => Math.abs(x - covariance[i][j])));
      return { probs, jacobian, covariance, largest: Math.max(...gaps), counts, shares };
    },

    draw(data, state, v, width) {
      const narrow = width < 480;
      const row = narrow ? 27 : 38;
      const left = 20;
      const cell = narrow ? (width - left - 4) / 4 : Math.min(74, (width - 64) / 8);
      const one = (x0, y0, title, values, under, p) => {
        const x = (j) => x0 + left + (j + 0.5) * cell;
        const y = (i) => y0 + 36 + i * row;
        const box = (value, i, j) => {
          // No entry is above 0.25 / T in size; so much gets the full colour, at every T.
          const strength = (0.4 * Math.min(1, (Math.abs(value) * state.temperature) / 0.25)).toFixed(3);
          const at = [x(j) - cell / 2 + 1, y(i) + 1, cell - 2, row - 2];
          return (
            rect(...at, "ghost soft") +
            rect(...at, value < 0 ? "c1" : "c0").replace("/>", ` fill-opacity="${strength}"/>`) +
            text(x(j), y(i) + row / 2 + 4, entry(value), "middle")
          );
        };
        return (
          text(x0 + 4, y0 + 13, title) +
          NAMES.map((name, i) => text(x(i), y0 + 31, name, "middle", "bold")).join("") +
          NAMES.map((name, i) => text(x0 + 4, y(i) + row / 2 + 4, name, "start", "bold")).join("") +
          values.map((r, i) => r.map((value, j) => box(value, i, j)).join("")).join("") +
          text(x0 + left, y(4) + 16, under, "start", "small") +
          p.map((pi, i) => text(x(i), y(4) + 32, pi, "middle", "small")).join("")
        );
      };
      const size = 36 + 4 * row + 40;
      const probs = chances(state).map((chance) => probability(chance, 3));
      const draws = `${count(state.draws)} draws`;
      return {
        height: narrow ? 2 * size + 8 : size,
        svg:
          one(0, 0, "Jacobian (diag(p) \u2212 pp\u1d40) / T", v.jacobian, "probabilities p", probs) +
          one(
            narrow ? 0 : width - left - 4 * cell - 4, narrow ? size + 8 : 0, `covariance of ${draws} / T`,
            v.covariance, `shares of the ${draws}`, v.shares.map((share) => decimals(share, 3)),
          ),
      };
    },

    say(data, state, v) {
      const list = (x) => x.slice(0, -1).join(", ") + " and " + x.at(-1);
      const diagonal = (m) => list(m.map((row, i) => entry(row[i])));
      const zero = [...v.jacobian, ...v.covariance].every(sumsToZero);
      return (
        `At T = ${digits(state.temperature)} the probabilities of a to d are ` +
        `${list(chances(state).map((chance) => probability(chance, 3)))}. The Jacobian has ${diagonal(v.jacobian)} on its diagonal, ` +
        `the covariance of ${count(state.draws)} draws over T has ${diagonal(v.covariance)}; ` +
        `the largest difference of two entries in the same place is ${digits(v.largest)}.` +
        (zero ? " Every row, as printed, sums to 0." : "")
      );
    },
  };
})();
