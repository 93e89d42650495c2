// The next token of a real language model: temperature, truncation, draws.
(() => {
  const { ratios, logsumexp, logProbs, random, draw, digits, probability, count } = omnivaultLive;
  const { scale, rect, circle, line, text, groups, chosen, named, truncate } = omnivaultLive;
  const ROWS = 10;
  const ROW = 25;
  const TOP = 26;
  const OFF = "off";

  const massOf = (kept, weights) => kept.reduce((s, n, i) => s + n * weights[i], 0);
  // In nats, of `kept` tokens of each group: beside the first of them, what is small is not lost.
  const entropyOf = (all, kept, T) => {
    const first = kept.findIndex((n) => n > 0);
    let [others, lost] = [0, 0];
    kept.forEach((n, i) => {
      if (!n) return;
      const gap = (all[first][0] - all[i][0]) / T;
      const weight = (i === first ? n - 1 : n) * Math.exp(-gap);
      others += weight;
      lost += weight * gap;
    });
    return Math.log1p(others) + lost / (1 + others);
  };
  // JSON has no -Infinity, the logarithm of what cannot come.
  const orNull = (log) => (log === -Infinity ? null : log);
  const orNever = (log) => log ?? -Infinity;
  const isOn = (dial, state) => state[dial.name] !== dial.off;

  omnivaultLive.figures.next_token = {
    controls: (data) => [
      { type: "choice", name: "prompt", label: "prompt", options: data.prompts.map((p) => p.text), value: data.prompts[0].text },
      { type: "range", name: "temperature", label: "temperature T", values: ratios(0.1, 10, 81), value: 1, show: (v) => digits(v) },
      ...data.dials.map(({ name, label, values, off }) => ({
        type: "range", name, label, values, value: off, show: (v) => (v === off ? OFF : Number.isInteger(v) ? count(v) : digits(v)),
      })),
      { type: "button", name: "draws", value: 0, label: "draw 1", press: (s) => ({ draws: s.draws + 1 }) },
      { type: "button", label: "draw 100", press: (s) => ({ draws: s.draws + 100 }) },
    ],

    // Temperature, then the truncations in their order, as omnivault.sampling.sample does it.
    compute(data, state) {
      const all = groups(chosen(data, state));
      const top = all[0][0];
      const weights = all.map(([z]) => Math.exp((z - top) / state.temperature));
      const total = all.reduce((s, [, n], i) => s + n * weights[i], 0);
      const kept = all.map(([, n]) => n);
      for (const dial of data.dials) {
        if (isOn(dial, state)) truncate(dial.name, state[dial.name], all, kept, state.temperature);
      }
      const mass = massOf(kept, weights);
      const size = kept.reduce((s, n) => s + n, 0);
      const groupProbs = kept.map((n, i) => (n * weights[i]) / mass);
      // As logarithms of n tokens of one weight: the numbers shown are neither 0 nor 1 by rounding.
      const logs = (sizes) => sizes.map((n, i) => Math.log(n) + (all[i][0] - top) / state.temperature);
      const cut = all.map(([, n], i) => n - kept[i]);
      const [log_kept, log_cut, log_all] = [kept, cut, all.map(([, n]) => n)].map((n) => logsumexp(logs(n)));
      const log_probs = logs(kept).map((log) => log - log_kept);
      const counts = draw(groupProbs, state.draws, random(1));
      return {
        probs: groupProbs.slice(0, ROWS), // after truncation
        full: weights.slice(0, ROWS).map((w) => w / total), // before
        rest: groupProbs.slice(ROWS).reduce((a, b) => a + b, 0),
        rest_full: all.slice(ROWS).reduce((s, [, n], i) => s + (n * weights[ROWS + i]) / total, 0),
        log_probs: [...log_probs.slice(0, ROWS), logsumexp(log_probs.slice(ROWS))].map(orNull),
        entropy: entropyOf(all, kept, state.temperature), kept: size,
        mass: mass / total, log_mass: [log_kept - log_all, log_cut - log_all].map(orNull),
        counts: counts.slice(0, ROWS),
        rest_count: counts.slice(ROWS).reduce((a, b) => a + b, 0),
      };
    },

    draw(data, state, v, width) {
      const prompt = chosen(data, state);
      const left = width < 480 ? 104 : 150;
      const at = scale(0, 1, left, width - 80);
      const chances = logProbs(v.log_probs.map(orNever));
      const others = data.vocabulary - ROWS;
      const row = (label, p, full, drawn, i) => {
        const y = TOP + i * ROW;
        return (
          text(left - 8, y + 15, label, "end", v.log_probs[i] === null ? "faint" : "") +
          rect(left, y + 3, at(full) - left, ROW - 8, "ghost") +
          rect(left, y + 3, at(p) - left, ROW - 8, "c0") +
          (state.draws ? circle(at(drawn / state.draws), y + ROW / 2 - 1, 4, "c1") : "") +
          text(width - 4, y + 15, v.log_probs[i] === null ? "\u2013" : probability(chances[i], 3), "end", "small")
        );
      };
      const height = TOP + (ROWS + 1) * ROW + 8;
      const rows = prompt.tokens.slice(0, ROWS).map((t, i) => row(named(t), v.probs[i], v.full[i], v.counts[i], i));
      const tail = row(`${count(others)} others`, v.rest, v.rest_full, v.rest_count, ROWS);
      const key = state.draws
        ? circle(width - 138, 10, 4, "c1") + text(width - 4, 14, `share of ${count(state.draws)} ${state.draws === 1 ? "draw" : "draws"}`, "end", "small")
        : "";
      return {
        height,
        svg: text(left, 14, "probability of the next token") .replace(/>.*</, width < 480 && state.draws ? ">probability<" : "$&") + key + rows.join("") + tail + line(left, TOP, left, height - 6),
      };
    },

    say(data, state, v) {
      const prompt = chosen(data, state);
      const all = v.kept === data.vocabulary;
      const effective = Math.exp(v.entropy);
      const drawn = state.draws
        ? ` Of ${count(state.draws)} ${state.draws === 1 ? "draw" : "draws"}, ${count(v.counts[0])} took ${named(prompt.tokens[0])}.`
        : "";
      return (
        `At T = ${digits(state.temperature)} the most probable token is ${named(prompt.tokens[0])}, with ${probability(logProbs(v.log_probs.map(orNever))[0])}. ` +
        (all
          ? `All ${count(data.vocabulary)} tokens can be drawn. `
          : `${count(v.kept)} of ${count(data.vocabulary)} tokens can be drawn; they held ${probability(v.log_mass.map(orNever))} of the probability. `) +
        `The entropy is ${digits(v.entropy)} nats, the effective number of tokens ${effective < 1000 ? digits(effective, 3, -Math.expm1(v.entropy)) : count(Math.round(effective))}.` +
        drawn
      );
    },
  };
})();
