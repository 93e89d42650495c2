// Sampling as a race: the class with the largest z_i / T + Gumbel noise wins, with probability
// softmax_T(z)_i.
(() => {
  const { steps, ratios, softmax, logProbs, random, fixed, digits, decimals, probability } = omnivaultLive;
  const { count, scale, rect, circle, line, text, below } = omnivaultLive;
  const NAMES = ["a", "b", "c", "d"];
  const K = NAMES.length;
  const MOST = 20000;
  const TOP = 28;
  const ENDS = [2, 5, 10, 20, 40];

  const logits = (state) => NAMES.map((n) => state[n]);

  // The noise of race r is numbers K r to K r + K - 1, whatever logits and T are. Made once and kept:
  // 80,000 of them, anew at each step of a slider, would be too slow.
  let noise;
  const gumbel = (race) => {
    if (!noise) {
      const uniform = random(1);
      noise = Float64Array.from({ length: K * MOST }, () => -Math.log(-Math.log(uniform())));
    }
    return noise.subarray(K * race, K * race + K);
  };
  const first = (x) => x.indexOf(Math.max(...x));
  const tally = (scaled, races) => {
    const wins = NAMES.map(() => 0);
    gumbel(0);
    for (let k = 0; k < K * races; k += K) {
      let best = 0;
      for (let i = 1; i < K; i++) if (scaled[i] + noise[k + i] > scaled[best] + noise[k + best]) best = i;
      wins[best]++;
    }
    return wins;
  };

  omnivaultLive.figures.race = {
    controls: (data) => [
      ...NAMES.map((name, i) => ({
        type: "range", name, label: `logit ${name}`, values: steps(-3, 3, 61),
        value: data.logits[i], show: (v) => fixed(v, 1),
      })),
      { type: "range", name: "temperature", label: "temperature T", values: ratios(0.1, 10, 41), value: 1, show: (v) => digits(v) },
      { type: "button", name: "races", value: 1, label: "race", press: (s) => ({ races: Math.min(MOST, s.races + 1) }) },
      { type: "button", label: "1,000 races", press: (s) => ({ races: Math.min(MOST, s.races + 1000) }) },
    ],

    compute(data, state) {
      const scaled = logits(state).map((z) => z / state.temperature);
      const last = [...gumbel(state.races - 1)];
      const totals = scaled.map((s, i) => s + last[i]);
      return {
        scaled, noise: last, totals, winner: first(totals),
        wins: tally(scaled, state.races), probs: softmax(scaled),
      };
    },

    draw(data, state, v, width) {
      const narrow = width < 480;
      const row = narrow ? 34 : 42;
      // where the race ends, and where the shares begin
      const right = narrow ? width - 92 : 0.6 * width - 92;
      const ends = [Math.min(...v.scaled, ...v.totals), Math.max(...v.scaled, ...v.totals)];
      const reach = (x) => ENDS.find((e) => e >= x) ?? Math.ceil(x);
      const [low, high] = [-reach(-Math.min(ends[0], -1)), reach(Math.max(ends[1], 1))];
      const at = scale(low, high, 26, right);
      const bar = (x0, x1, y, kind) => rect(Math.min(at(x0), at(x1)), y, Math.abs(at(x1) - at(x0)), row / 2 - 6, kind);
      const lanes = NAMES.map((name, i) => {
        const y = TOP + i * row;
        const won = i === v.winner;
        return (
          text(4, y + row / 2 + 5, name, "start", "bold") +
          bar(0, v.scaled[i], y + 4, "c0") +
          bar(v.scaled[i], v.totals[i], y + row / 2, "c1 soft") +
          line(at(v.scaled[i]), y + 4, at(v.scaled[i]), y + row - 4) +
          rect(at(v.totals[i]) - 1.5, y + row / 2 - 2, 3, row / 2 - 2, "ink") +
          text(right + 44, y + row / 2 + 5, decimals(v.totals[i], 2), "end", won ? "bold" : "small") +
          (won ? text(right + 50, y + row / 2 + 5, "wins", "start", "bold") : "")
        );
      });
      const bottom = TOP + K * row;
      const ticks = [low, 0, high / 2, high, ...(at(0) - at(low) > 70 ? [low / 2] : [])];
      const [x0, y0, step] = narrow ? [26, bottom + 58, 25] : [0.6 * width + 32, TOP, row];
      const p = scale(0, 1, x0, width - 78);
      const chances = logProbs(v.scaled);
      const shares = NAMES.map((name, i) => {
        const y = y0 + i * step + step / 2;
        return (
          text(x0 - 8, y + 5, name, "end", "bold") +
          rect(x0, y - 9, p(v.probs[i]) - x0, 18, "c0") +
          circle(p(v.wins[i] / state.races), y, 4, "c1") +
          text(width - 4, y + 5, probability(chances[i], 3), "end", "small")
        );
      });
      const of = `share of ${count(state.races)} ${state.races === 1 ? "race" : "races"}`;
      const end = y0 + K * step;
      const key = narrow ? [x0 + 96, y0 - 10] : [x0, end + 18];
      return {
        height: narrow ? end + 6 : bottom + 26,
        svg:
          rect(26, 5, 10, 10, "c0") + text(41, 14, "z / T") +
          rect(86, 5, 10, 10, "c1 soft") + text(101, 14, "noise") +
          rect(149, 4, 3, 12, "ink") + text(157, 14, "sum") +
          lanes.join("") + line(at(0), TOP, at(0), bottom) +
          below(at, 26, right, bottom, ticks.map((t) => [t, digits(t)])) +
          text(x0, narrow ? y0 - 10 : 14, narrow ? "softmax" : "softmax of z / T") +
          shares.join("") + line(x0, y0, x0, end) +
          circle(key[0] + 5, key[1] - 4, 4, "c1") + text(key[0] + 15, key[1], of, "start", "small"),
      };
    },

    say(data, state, v) {
      const list = (x) => x.slice(0, -1).join(", ") + " and " + x.at(-1);
      const two = (x) => list(x.map((xi) => decimals(xi, 2)));
      const races = `${count(state.races)} ${state.races === 1 ? "race" : "races"}`;
      return (
        `Race ${count(state.races)} at T = ${digits(state.temperature)}: z / T is ${two(v.scaled)} for a to d, ` +
        `the noise makes it ${two(v.totals)}; ${NAMES[v.winner]} is largest and wins. Of ${races} so far ` +
        `a to d won ${list(v.wins.map(count))}; ` +
        `their probabilities are ${list(logProbs(v.scaled).map((chance) => probability(chance)))}.`
      );
    },
  };
})();
