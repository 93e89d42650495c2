// The entropy law: H rises with slope Var_p(z) / T^3, while some probabilities rise and some fall.
(() => {
  const { steps, sum, softmax, logProbs, entropy, fixed, digits, probability } = omnivaultLive;
  const { scale, line, circle, path, area, text, below, beside } = omnivaultLive;
  const END = 6;
  const CURVE = steps(0, END, 121);
  const ROW = 19;
  const TICKS = CURVE.filter((T) => T % 2 === 0).map((T) => [T, String(T)]);
  const ARROWS = { 1: "\u2191", 0: "\u2192", "-1": "\u2193" };

  // At T = 0 softmax is its limit, uniform on the largest logits: as at T = 1 without the others.
  const at = (z, T) => {
    const top = Math.max(...z);
    return T > 0 ? [z, T] : [z.map((zi) => (zi === top ? zi : -Infinity)), 1];
  };

  // Two plots over the same T: side by side, or one below the other and narrower, with the words
  // to the right of each.
  const places = (width) => {
    const stacked = width < 560;
    const [left, right] = stacked ? [34, width - 146] : [34, 0.4 * width];
    const upper = { left, right, top: 28, bottom: stacked ? 150 : 280 };
    const lower = stacked
      ? { left, right, top: 206, bottom: 346 }
      : { left: right + 52, right: width - 216, top: 28, bottom: 280 };
    return [upper, lower].map((box, i) => ({
      ...box, stacked,
      t: scale(0, END, box.left, box.right),
      y: scale(0, i ? 1 : 1.75, box.bottom, box.top),
    }));
  };

  omnivaultLive.figures.entropy = {
    controls: (data) => [
      {
        type: "choice", name: "logits", label: "logits", options: Object.keys(data.choices),
        value: "five steps",
      },
      {
        type: "range", name: "temperature", label: "temperature T", values: steps(0.1, END, 119),
        value: 1, show: (v) => fixed(v),
      },
    ],

    compute(data, state) {
      const z = data.choices[state.logits];
      const T = state.temperature;
      const probs = softmax(z, T);
      const top = Math.max(...z);
      // Differences first: equal logits have a variance and rates of exactly 0.
      const mean = top + sum(z.map((zi, i) => probs[i] * (zi - top)));
      const variance = sum(z.map((zi, i) => probs[i] * (zi - mean) ** 2));
      const rates = z.map((zi, i) => (probs[i] * sum(z.map((zj, j) => probs[j] * (zj - zi)))) / T ** 2);
      const curve = CURVE.map((t) => at(z, t));
      return {
        logits: z, probs, entropy: entropy(z, T), mean, variance, slope: variance / T ** 3, rates,
        bound: Math.log(z.length),
        curves: {
          temperatures: CURVE,
          entropy: curve.map((x) => entropy(...x)), probs: curve.map((x) => softmax(...x)),
        },
      };
    },

    draw(data, state, v, width) {
      const T = state.temperature;
      const [upper, lower] = places(width);
      const frame = (box, ticks, label, x) =>
        below(box.t, box.left, box.right, box.bottom, TICKS, x) +
        beside(box.y, box.bottom, box.top, box.left, ticks, label) +
        line(box.t(T), box.bottom, box.t(T), box.top, "dashed");

      // The tangent, as long on the screen at every slope, but not outside the plot.
      const [x, y] = [upper.t(T), upper.y(v.entropy)];
      const rise = (v.slope * (upper.y(1) - upper.y(0))) / (upper.t(1) - upper.t(0));
      const ends = [-1, 1].map((side) => {
        const room = [side > 0 ? upper.right - x : x - upper.left];
        if (rise) room.push((side > 0 ? y - upper.top : upper.bottom - y) / -rise);
        const step = Math.min(60 / Math.hypot(1, rise), ...room);
        return [x + side * step, y + side * step * rise];
      });
      const bound = `log ${v.logits.length} = ${digits(v.bound)}`;
      const [wordsX, wordsY, anchor] = upper.stacked
        ? [upper.right + 10, upper.bottom - 24, "start"]
        : [upper.right, upper.bottom - 32, "end"];
      const ticks = (list) => list.map((value) => [value, String(value)]);
      const axis = "temperature T";
      const entropies =
        frame(upper, ticks([0, 0.5, 1, 1.5]), "entropy H in nats", upper.stacked ? "" : axis) +
        line(upper.left, upper.y(v.bound), upper.right, upper.y(v.bound), "dashed") +
        (upper.stacked
          ? text(wordsX, upper.y(v.bound) + 4, bound, "start", "small")
          : text(wordsX, upper.y(v.bound) - 5, bound, "end", "small")) +
        path(v.curves.temperatures.map((t, i) => [upper.t(t), upper.y(v.curves.entropy[i])]), "ink") +
        path(ends, "c5") + circle(+x.toFixed(1), +y.toFixed(1), 5, "c5") +
        text(wordsX, wordsY, `H = ${digits(v.entropy)}`, anchor, "small") +
        text(wordsX, wordsY + 17, `slope ${digits(v.slope)}`, anchor, "small c5");

      // A row for each token at the end of its curve, the most probable one first.
      const last = v.curves.probs[v.curves.probs.length - 1];
      const order = v.logits.map((_, i) => i).sort((i, j) => last[j] - last[i] || i - j);
      const middle = Math.min(lower.y(sum(last) / last.length), lower.bottom - 2 * ROW);
      const [logit, prob, arrow] = [37, 110, 124].map((dx) => lower.right + dx);
      const chances = logProbs(v.logits.map((z) => z / T));
      const row = (k) => middle + (k - (order.length - 1) / 2) * ROW;
      const curves = order.map((i, k) => {
        const [px, py] = [lower.t(T), lower.y(v.probs[i])];
        const sign = Math.sign(v.rates[i]);
        const tip = py - 6 * sign;
        const base = py + 4 * sign;
        const { right } = lower;
        const link = [[right, lower.y(last[i])], [right + 5, row(k)], [right + 9, row(k)]];
        return (
          path(v.curves.temperatures.map((t, j) => [lower.t(t), lower.y(v.curves.probs[j][i])]), `c${i}`) +
          path(link, `thin c${i}`) +
          (sign
            ? area([[px, tip], [px - 6, base], [px + 6, base]], `c${i}`)
            : circle(+px.toFixed(1), +py.toFixed(1), 5, `c${i}`)) +
          text(logit, row(k) + 4, digits(v.logits[i]), "end", `small bold c${i}`) +
          text(prob, row(k) + 4, probability(chances[i], 3), "end", "small") +
          text(arrow, row(k) + 4, ARROWS[sign], "middle", "small") +
          (lower.stacked ? "" : text(width - 2, row(k) + 4, digits(v.rates[i]), "end", "small"))
        );
      });
      const heads =
        text(logit, row(-1) + 2, "logit", "end", "small") + text(prob, row(-1) + 2, "p", "end", "small") +
        (lower.stacked ? "" : text(width - 2, row(-1) + 2, "dp/dT", "end", "small"));
      return {
        height: lower.bottom + 40,
        svg:
          entropies + frame(lower, ticks([0, 0.5, 1]), "probability p of each token", axis) +
          heads + curves.join(""),
      };
    },

    say(data, state, v) {
      const named = (sign) => {
        const list = v.logits.filter((_, i) => Math.sign(v.rates[i]) === sign).sort((a, b) => b - a);
        return `${list.length > 1 ? "logits" : "logit"} ${list.map((z) => digits(z)).join(", ")}`;
      };
      const n = v.logits.length;
      const bound = `log ${n} = ${digits(v.bound)}`;
      if (v.variance === 0) {
        return `All logits are equal: the entropy is ${bound} nats at every T, and no probability moves.`;
      }
      return (
        `At T = ${digits(state.temperature)} the entropy is ${digits(v.entropy)} nats, at most ${bound}; ` +
        `its slope is Var_p(z)/T\u00b3 = ${digits(v.slope)}. ` +
        `Probabilities that rise: ${named(1)}; that fall: ${named(-1)}.`
      );
    },

    drag(data, state, x, y, width) {
      const inside = (b) => x >= b.left - 8 && x <= b.right + 8 && y >= b.top && y <= b.bottom;
      const box = places(width).find(inside);
      if (!box) return null;
      const T = ((x - box.left) / (box.right - box.left)) * END;
      return { temperature: +Math.max(0.1, Math.min(END, Math.round(20 * T) / 20)).toFixed(2) };
    },
  };
})();
