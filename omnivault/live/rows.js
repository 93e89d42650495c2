// Rows of a language model's logits, whole vocabularies, and the truncations on them.
//
// A row is held as groups of equally likely tokens, [logit, size], in falling order: the first ones
// hold a single token each, the rest sums up the tail. What a truncation keeps of a group are its
// first tokens; their number says which.
(() => {
  const { sum } = omnivaultLive;

  const groups = (prompt) => (prompt.groups ??= [...prompt.logits.map((z) => [z, 1]), ...prompt.tail]);
  const chosen = (data, state) => data.prompts.find((p) => p.text === state.prompt);
  const named = (token) => `\u201c${token.replace(/\n/g, "\u21b5")}\u201d`;

  const total = ({ sizes }, each) => sum(sizes.map((n, i) => n * each(i)));
  const entropyOf = (row) => Math.log(row.mass) + total(row, (i) => row.weights[i] * row.gaps[i]) / row.mass;
  // The best stay, whatever rounding says.
  const those = ({ sizes, gaps }, keep) => sizes.map((n, i) => (gaps[i] <= 0 || keep(i) ? n : 0));
  const heavier = (row, weight) => those(row, (i) => row.weights[i] >= weight);

  // Each truncation of omnivault.sampling, from its dial and what is left of a row to the sizes
  // that stay. Of each group a row has the gap below the largest logit, after the temperature, the
  // size, and the weight of a token, exp(-gap); `mass` is the sum of the weights of all tokens, and
  // `gone` the number of those that are ruled out.
  const rules = {
    // Exactly k tokens, where omnivault keeps all that tie with the last of them.
    top_k(k, { sizes }) {
      let left = k;
      return sizes.map((n) => {
        const stay = Math.min(n, left);
        left -= stay;
        return stay;
      });
    },
    top_n_sigma(n, row) {
      const size = sum(row.sizes);
      const mean = total(row, (i) => row.gaps[i]) / size;
      const square = total(row, (i) => (row.gaps[i] - mean) ** 2) / size;
      return those(row, (i) => row.gaps[i] <= n * Math.sqrt(square));
    },
    top_p(p, { sizes, weights, mass }) {
      let before = 0; // a token stays while the weight before it is below the share
      return sizes.map((n, i) => {
        const room = Math.max(0, Math.ceil((p * mass - before) / weights[i]));
        const stay = Math.min(n, room);
        before = room < n ? Infinity : before + stay * weights[i];
        return stay;
      });
    },
    min_p: (p, row) => heavier(row, p),
    typical_p(p, row) {
      const mean = entropyOf(row);
      const far = row.gaps.map((gap) => Math.abs(gap + Math.log(row.mass) - mean));
      const order = [...far.keys()].sort((a, b) => far[a] - far[b]);
      const stay = row.sizes.map(() => 0);
      let [reached, last] = [0, 0];
      for (const i of order) {
        if (reached >= p * row.mass && far[i] > last) break;
        stay[i] = row.sizes[i];
        [reached, last] = [reached + stay[i] * row.weights[i], far[i]];
      }
      return stay;
    },
    epsilon_cutoff: (epsilon, row) => heavier(row, epsilon * row.mass),
    eta_cutoff: (epsilon, row) =>
      heavier(row, row.mass * Math.min(epsilon, Math.sqrt(epsilon) * Math.exp(-entropyOf(row)))),
    top_a: (a, row) => heavier(row, a / row.mass),
    p_less(order, row) {
      const log = Math.log(row.mass);
      const renyi =
        order === 1 ? entropyOf(row) : (Math.log(total(row, (i) => Math.exp(-order * row.gaps[i]))) - order * log) / (1 - order);
      return those(row, (i) => row.gaps[i] + log <= renyi);
    },
    // m tokens of a group, after those that hold the weight `before`, whose mean gap is `lost` over
    // it: their entropy increases with m. A weight of 0 keeps none.
    top_h(h, row) {
      const limit = h * entropyOf(row);
      let [before, lost, ended] = [0, 0, false];
      return row.sizes.map((n, i) => {
        const [weight, gap] = [row.weights[i], row.gaps[i]];
        const within = (m) => {
          const mass = before + m * weight;
          return Math.log(mass) + (lost + m * weight * gap) / mass <= limit;
        };
        let [stay, beyond] = ended || !weight ? [0, 1] : [i ? 0 : 1, n + 1];
        while (beyond - stay > 1) {
          const middle = (stay + beyond) >> 1;
          if (within(middle)) stay = middle;
          else beyond = middle;
        }
        ended ||= stay < n;
        [before, lost] = [before + n * weight, lost + n * weight * gap];
        return stay;
      });
    },
    // The curve turns at the first and at the last token of a group, where its neighbors differ:
    // by the step into the group and by the step out of it. Tokens that are ruled out, `gone`, end
    // the curve with the weight 0.
    tail_free(z, row) {
      const sizes = row.gone ? [...row.sizes, row.gone] : row.sizes;
      const weights = [...row.weights, 0];
      const end = sizes.length - 1;
      const turns = sizes.map((n, i) => {
        const into = i > 0 ? weights[i - 1] - weights[i] : 0;
        const out = i < end ? weights[i] - weights[i + 1] : 0;
        if (n > 1) return [into, out].map(Math.abs);
        return [i > 0 && i < end ? Math.abs(into - out) : 0, 0];
      });
      const whole = sum(turns.flat());
      if (!whole) return row.sizes;
      let reached = 0;
      return row.sizes.map((n, i) => {
        // The first token of all stays, the last does not.
        const first = i === 0 || ((reached += turns[i][0]) <= z * whole && (n > 1 || i < end));
        const last = (reached += turns[i][1]) <= z * whole && (n === 1 || i < end);
        if (!first) reached = Infinity;
        return first ? n - (last || n === 1 ? 0 : 1) : 0;
      });
    },
    xtc(threshold, { sizes, gaps, weights, mass }) {
      const last = weights.findLastIndex((w) => w >= threshold * mass);
      const kept = gaps.indexOf(gaps[last]); // of equals the first, as everywhere here
      return sizes.map((n, i) => (i > last ? n : i === kept ? 1 : 0));
    },
  };

  // Change `kept`, how many tokens of each of the groups `all` are left, at the temperature T.
  const truncate = (name, value, all, kept, T) => {
    const left = [...kept.keys()].filter((i) => kept[i]);
    const gaps = left.map((i) => (all[left[0]][0] - all[i][0]) / T);
    const row = { gaps, sizes: left.map((i) => kept[i]), weights: gaps.map((gap) => Math.exp(-gap)) };
    row.mass = total(row, (i) => row.weights[i]);
    row.gone = sum(all.map(([, n], i) => n - kept[i]));
    rules[name](value, row).forEach((n, j) => (kept[left[j]] = n));
  };

  Object.assign(omnivaultLive, { groups, chosen, named, truncate });
})();
