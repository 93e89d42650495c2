// Temperature and cuts, in the order of the reader's hand, beside another order of the same cards.
(() => {
  const { ratios, sum, logsumexp, logProbs, digits, probability, count } = omnivaultLive;
  const { scale, rect, line, text, below, groups, chosen, named, truncate } = omnivaultLive;
  const ROWS = 8;
  const ROW = 32;
  const START = { temperature: 2, top_p: 0.9, min_p: 0.1 };

  const cardsOf = (data) => [
    { name: "temperature", label: "temperature", values: ratios(0.1, 10, 81), off: 1 }, ...data.cards,
  ];
  const others = (order) => order.filter((name) => name !== "temperature");
  // What the reader's order is compared with.
  const SECOND = {
    reversed: (order) => [...order].reverse(),
    "temperature first": (order) => ["temperature", ...others(order)],
    "temperature last": (order) => [...others(order), "temperature"],
  };

  // Each card acts on what those before it left, the temperature included: [card, tokens left].
  const play = (data, state, order) => {
    const all = groups(chosen(data, state));
    const kept = all.map(([, n]) => n);
    let T = 1;
    const steps = [];
    for (const name of order) {
      const card = cardsOf(data).find((c) => c.name === name);
      if (state[name] === card.off) continue;
      if (name === "temperature") T = state.temperature;
      else truncate(name, state[name], all, kept, T);
      steps.push([card.label, sum(kept)]);
    }
    return { order, kept, steps };
  };
  // Ranks that are kept, from 0, as half-open intervals.
  const intervals = (all, kept) => {
    const found = [];
    let rank = 0;
    all.forEach(([, n], i) => {
      if (kept[i] && found.at(-1)?.[1] === rank) found.at(-1)[1] += kept[i];
      else if (kept[i]) found.push([rank, rank + kept[i]]);
      rank += n;
    });
    return found;
  };
  // JSON has no -Infinity, the logarithm of what cannot come.
  const orNull = (log) => (log === -Infinity ? null : log);
  const orNever = (log) => log ?? -Infinity;
  const chances = (law) => logProbs(law.log_probs.map(orNever));

  omnivaultLive.figures.cuts = {
    controls: (data) => [
      { type: "choice", name: "prompt", label: "prompt", options: data.prompts.map((p) => p.text), value: data.prompts[0].text },
      { type: "choice", name: "second", label: "beside yours", options: Object.keys(SECOND), value: "reversed" },
      ...cardsOf(data).map(({ name, label, values, off }) => ({
        type: "range", name, label, values, value: START[name] ?? off,
        show: (v) => (v === off && name !== "temperature" ? "off" : Number.isInteger(v) ? count(v) : digits(v)),
      })),
      { type: "order", name: "order", label: "your order", options: cardsOf(data).map((c) => c.name), value: cardsOf(data).map((c) => c.name) },
    ],

    compute(data, state) {
      const all = groups(chosen(data, state));
      // In the end the temperature has acted, in every order, and the laws are parts of one.
      const log = (sizes) => sizes.map((n, i) => Math.log(n) + (all[i][0] - all[0][0]) / state.temperature);
      const [own, other] = [state.order, SECOND[state.second](state.order)].map((order) => {
        const { kept, steps } = play(data, state, order);
        const logs = log(kept);
        const whole = logsumexp(logs);
        const log_probs = [...logs.slice(0, ROWS), logsumexp(logs.slice(ROWS))].map((l) => l - whole);
        const probs = log_probs.map(Math.exp);
        return {
          law: {
            order, steps, probs: probs.slice(0, ROWS), rest: probs[ROWS], log_probs: log_probs.map(orNull),
            kept: sum(kept), ranks: intervals(all, kept),
          },
          kept,
        };
      });
      // Of the two sets one has more mass. The share of it that lies outside the other set is the
      // distance, since where both have a token the larger set gives it less.
      const both = logsumexp(log(own.kept.map((n, i) => Math.min(n, other.kept[i]))));
      const beyond = (a, b) => logsumexp(log(a.map((n, i) => Math.max(0, n - b[i]))));
      const outside = Math.max(beyond(own.kept, other.kept), beyond(other.kept, own.kept));
      const whole = logsumexp([both, outside]);
      return {
        own: own.law, other: other.law,
        distance: Math.exp(outside - whole), log_distance: [outside - whole, both - whole].map(orNull),
      };
    },

    draw(data, state, v, width) {
      const prompt = chosen(data, state);
      const laws = [v.own, v.other];
      const left = width < 480 ? 104 : 150;
      const right = width - 80;
      const keys = [["c0", "yours"], ["c1", state.second]];
      const key = keys.map(([kind, words], i) => rect(left + i * 66, 26, 10, 10, kind) + text(left + i * 66 + 15, 36, words, "start", "small"));

      // The ranking from the first token to the last, each order of magnitude equally long.
      const along = scale(0, Math.log(data.vocabulary + 1), left, right);
      const band = (law, y, kind) =>
        rect(left, y, right - left, 10, "ghost") +
        law.ranks.map(([a, b]) => rect(along(Math.log(a + 1)), y, along(Math.log(b + 1)) - along(Math.log(a + 1)), 10, kind)).join("") +
        text(width - 4, y + 10, count(law.kept), "end", "small");
      const decades = Array.from({ length: Math.floor(Math.log10(data.vocabulary)) + 1 }, (_, i) => 10 ** i);
      const ticks = decades.map((rank) => [Math.log(rank), rank < 1000 ? String(rank) : `${rank / 1000}k`]);
      const ranking =
        text(left - 8, 64, "kept", "end") + band(v.own, 48, "c0") + band(v.other, 62, "c1") +
        below(along, left, right, 76, ticks) + text(left - 8, 93, "rank", "end", "small");

      const at = scale(0, 1, left, right);
      const top = 122;
      const logs = laws.map(chances);
      const row = (label, i) => {
        const y = top + i * ROW;
        const gone = (law) => law.log_probs[i] === null;
        const bars = laws.map((law, k) => {
          const p = i < ROWS ? law.probs[i] : law.rest;
          return (
            rect(left, y + 4 + 13 * k, at(p) - left, 11, `c${k}`) +
            text(width - 4, y + 13 + 13 * k, gone(law) ? "\u2013" : probability(logs[k][i], 3), "end", "small")
          );
        });
        return text(left - 8, y + 20, label, "end", laws.every(gone) ? "faint" : "") + bars.join("");
      };
      const rows = prompt.tokens.slice(0, ROWS).map((t, i) => row(named(t), i));
      const rest = row(`${count(data.vocabulary - ROWS)} others`, ROWS);
      const height = top + (ROWS + 1) * ROW + 6;
      return {
        height,
        svg:
          text(width < 480 ? 8 : left, 14, `total variation distance ${probability(v.log_distance.map(orNever))}`, "start", "bold") +
          key.join("") + ranking + text(left, top - 6, "probability") + rows.join("") + rest +
          line(left, top, left, height - 4),
      };
    },

    say(data, state, v) {
      const first = chosen(data, state).tokens[0];
      const { own, other } = v;
      const joined = (words) => (words.length > 1 ? `${words.slice(0, -1).join(", ")} and ${words.at(-1)}` : words[0]);
      const left = ({ steps }) => joined(steps.map(([label, n], i) => `${count(n)}${i ? "" : n === 1 ? " token" : " tokens"} after ${label}`));
      const [p, q] = [own, other].map((law) => probability(chances(law)[0]));
      const distance = probability(v.log_distance.map(orNever));
      if (!own.steps.length) return `No card is on: every order leaves all ${count(data.vocabulary)} tokens.`;
      return (
        `Your order leaves ${left(own)}; ${state.second === "reversed" ? "reversed, it" : `with the ${state.second} it`} leaves ${left(other)}. ` +
        (distance === "0"
          ? `The two laws are the same: ${named(first)} has ${p}.`
          : `The total variation distance of the two laws is ${distance}: ${named(first)} has ${p === q ? `${p} in both` : `${p} in yours and ${q} in the other`}.`)
      );
    },
  };
})();
