// The simplex of three tokens and the problem whose solutions are softmax, entmax and sparsemax:
// maximize <p, z> - T B(p, q), with B the Bregman divergence of Omega_alpha (KL for alpha = 1).
//
// With m = alpha - 1 > 0 the solution is p_i = max(v_i - tau, 0)^(1/m), v_i = m z_i / T + q_i^m:
// the reference q only moves the logits (one_problem.py has the proof). For m = 0 it is softmax of
// z / T + log q.
(() => {
  const { steps, ratios, sum, logsumexp, logProbs, fixed, digits, probability } = omnivaultLive;
  const { scale, line, rect, circle, path, area, text } = omnivaultLive;
  const NAMES = ["a", "b", "c"];
  const REFERENCES = {
    uniform: [1 / 3, 1 / 3, 1 / 3],
    "leans to a: 0.6, 0.2, 0.2": [0.6, 0.2, 0.2],
    "leans to b: 0.2, 0.6, 0.2": [0.2, 0.6, 0.2],
    "leans to c: 0.2, 0.2, 0.6": [0.2, 0.2, 0.6],
  };
  // Wide enough that the ends are the limits to the eye.
  const ALONG = ratios(0.01, 1000, 121);
  // Where the contours lie between the maximum and the minimum: squares, so that rings around a
  // smooth maximum are equally far apart.
  const DEPTHS = [1, 2, 3, 4, 5].map((k) => (k / 6) ** 2);
  // Points along the border of the triangle, its corners included.
  const PER_EDGE = 18;
  const BORDER = Array.from({ length: 3 * PER_EDGE }, (_, k) => {
    const [edge, t] = [Math.floor(k / PER_EDGE), (k % PER_EDGE) / PER_EDGE];
    return NAMES.map((_, i) => (i === edge ? 1 - t : i === (edge + 1) % 3 ? t : 0));
  });
  // A token that is at the border of being ruled out, but for rounding, is ruled out.
  const DUST = 2 ** -40;
  const ROW = 25;

  const logits = (state) => NAMES.map((n) => state[n]);
  const exponent = (state) => +(state.alpha - 1).toFixed(10);

  // Newton's method for x = max v - tau, from the right: sum of max(x - gap, 0)^(1/m) - 1 is convex
  // and rising in x, and at x = 1 it is not negative.
  const entmax = (v, m) => {
    const top = Math.max(...v);
    const gaps = v.map((vi) => top - vi);
    let x = 1;
    let step;
    do {
      const kept = gaps.filter((gap) => gap < x).map((gap) => x - gap);
      step = (m * (sum(kept.map((k) => k ** (1 / m))) - 1)) / sum(kept.map((k) => k ** (1 / m - 1)));
      x -= step;
    } while (step > 1e-14);
    return gaps.map((gap) => (x - gap > DUST ? x - gap : 0)).map((k) => [k ** (1 / m), Math.log(k) / m]);
  };
  // Probabilities and their logarithms, from z / T; -Infinity is out.
  const solve = (scaled, q, m) => {
    if (scaled.every((u) => u === scaled[0])) return q.map((p) => [p, Math.log(p)]);
    if (m) return entmax(scaled.map((u, i) => m * u + q[i] ** m), m);
    const w = scaled.map((u, i) => u + Math.log(q[i]));
    const all = logsumexp(w);
    return w.map((wi) => [Math.exp(wi - all), wi - all]);
  };
  const probsOf = (solution) => solution.map(([p]) => p);
  // log p and log(1 - p) of each token, as `probability` takes them.
  const chances = (state) => {
    const [q, m] = [REFERENCES[state.q], exponent(state)];
    const scaled = logits(state).map((z) => z / state.temperature);
    if (!m) return logProbs(scaled.map((u, i) => u + Math.log(q[i])));
    const solution = solve(scaled, q, m);
    return solution.map(([, log], i) => [log, Math.log(sum(probsOf(solution).filter((_, j) => j !== i)))]);
  };

  // Each term of the Bregman divergence is 0 or more, and 0 for p_i = q_i.
  const divergence = (p, q, m) =>
    sum(
      p.map((pi, i) =>
        m
          ? (pi * (pi ** m - q[i] ** m) - m * q[i] ** m * (pi - q[i])) / (m * (1 + m))
          : (pi && pi * Math.log(pi / q[i])) - pi + q[i],
      ),
    );

  // The T at and below which token i is ruled out, or null. In 1/T the sum is convex and starts
  // below 1; it has reached 1 where the term of the largest logit alone has.
  const leaving = (z, q, m, i) => {
    const top = z.indexOf(Math.max(...z));
    if (!m || z[i] === z[top]) return null;
    const lead = (j, s) => Math.max(0, m * (z[j] - z[i]) * s + q[j] ** m - q[i] ** m);
    let [low, high] = [0, (1 + q[i] ** m - q[top] ** m) / (m * (z[top] - z[i]))];
    for (let k = 0; k < 60; k++) {
      const s = (low + high) / 2;
      if (sum(z.map((_, j) => lead(j, s) ** (1 / m))) < 1) low = s;
      else high = s;
    }
    return +(1 / high).toPrecision(12); // free of rounding dust, as the values of sliders
  };

  // Where the objective has fallen to `level` on the way from the solution to each point of the
  // border; the border itself where it stays above. The set within is convex.
  const contour = (objective, probs, level) => {
    const above = objective(probs) - level;
    return BORDER.map((b) => {
      const at = (r) => probs.map((pi, i) => pi + r * (b[i] - pi));
      let [low, high, over, under, last] = [0, 1, above, objective(b) - level, 0];
      if (under >= 0) return b;
      // Regula falsi, with the value at an end that stays halved (Illinois).
      for (let k = 0; k < 60 && high - low > 1e-15; k++) {
        const r = (low * under - high * over) / (under - over);
        const value = objective(at(r)) - level;
        if (Math.abs(value) < 1e-13) return at(r);
        if (value > 0) {
          if (last > 0) under /= 2;
          [low, over, last] = [r, value, 1];
        } else {
          if (last < 0) over /= 2;
          [high, under, last] = [r, value, -1];
        }
      }
      return at(low);
    });
  };

  // The corners a, b and c, and where a distribution lies between them.
  const places = (width) => {
    const side = width < 480 ? Math.min(width - 72, 264) : Math.min(width - 274, 320);
    const left = width < 480 ? (width - side) / 2 : 36;
    const bottom = Math.round(28 + (side * Math.sqrt(3)) / 2);
    const corners = [[left, bottom], [left + side, bottom], [left + side / 2, 28]];
    const at = (p) => [0, 1].map((k) => sum(p.map((pi, i) => pi * corners[i][k])));
    return { corners, at, right: left + side, bottom };
  };
  // Where "T → 0" stands, from the place of the limit: outside the triangle, clear of the letters.
  const OUTSIDE = {
    a: [14, 22, "start"], b: [-14, 22, "end"], c: [14, -8, "start"],
    ab: [0, 22, "middle"], ac: [-13, 0, "end"], bc: [13, 0, "start"],
  };

  const within = (p) => NAMES.filter((_, i) => p[i] > 0);
  // The mean logit. Near 1 or -1, if the largest logit is that, the loss says how near; elsewhere
  // only rounding would tell 0 or 1 from numbers so close to them.
  const score = (state, v) => {
    const top = Math.max(...logits(state));
    if (Math.abs(top) === 1 && v.loss < 0.5) return digits(v.score, 3, Math.sign(top) * v.loss);
    return digits(top ? +v.score.toFixed(12) : v.score);
  };
  const penalty = (v) => digits(+v.penalty.toPrecision(12));
  const called = ({ alpha }) => ({ 1: "softmax", 2: "sparsemax" })[alpha] ?? "entmax";

  omnivaultLive.figures.one_problem = {
    controls: (data) => [
      ...NAMES.map((name, i) => ({
        type: "range", name, label: `logit ${name}`, values: steps(-3, 3, 61),
        value: data.logits[i], show: (v) => fixed(v, 1),
      })),
      {
        type: "range", name: "temperature", label: "temperature T", values: ratios(0.05, 20, 81),
        value: 1, show: (v) => digits(v),
      },
      {
        type: "range", name: "alpha", label: "softmax to sparsemax, \u03b1", values: steps(1, 2, 21),
        value: 2, show: (v) => fixed(v, 2),
      },
      { type: "choice", name: "q", label: "reference q", options: Object.keys(REFERENCES), value: "uniform" },
      {
        type: "button", label: "tie the two largest",
        press: (s) => {
          const [first, second] = [...NAMES].sort((i, j) => s[j] - s[i]);
          return { [second]: s[first] };
        },
      },
    ],

    compute(data, state) {
      const [z, T, q, m] = [logits(state), state.temperature, REFERENCES[state.q], exponent(state)];
      const at = (t) => probsOf(solve(z.map((zi) => zi / t), q, m));
      const top = Math.max(...z);
      const probs = at(T);
      const limit = probsOf(solve(z.map((zi) => (zi === top ? 0 : -Infinity)), q, m));
      const leaves = NAMES.map((_, i) => leaving(z, q, m, i));
      const left = leaves.filter((t) => t !== null);
      // With the places where the path bends.
      const along = [...ALONG, ...left].sort((s, t) => s - t);
      // What is lost to the largest logit is small where the mean logit is near it.
      const loss = (p) => sum(p.map((pi, i) => pi * (top - z[i])));
      const objective = (p) => top - loss(p) - T * divergence(p, q, m);
      const most = objective(probs);
      // A concave function is lowest in a corner.
      const least = Math.min(...NAMES.map((_, i) => objective(BORDER[i * PER_EDGE])));
      return {
        probs, support: within(probs).length, q, limit, leaves,
        corner_temperature: left.length === 2 ? Math.min(...left) : null,
        path: [limit, ...along.map(at), q],
        score: top - loss(probs), loss: loss(probs), penalty: T * divergence(probs, q, m), objective: most,
        contours: DEPTHS.map((depth) => {
          const level = most - depth * (most - least);
          return [level, contour(objective, probs, level)];
        }),
      };
    },

    draw(data, state, v, width) {
      const narrow = width < 480;
      const { corners, at, right, bottom } = places(width);
      const letters = NAMES.map((name, i) => {
        const [x, y] = corners[i];
        return text(x, i === 2 ? y - 12 : y + 22, name, "middle", "bold");
      });
      const rings = v.contours.map(([, points]) => area(points.map(at), "line thin ghost"));
      const names = within(v.limit).join("");
      const constant = names === "abc";
      const [cold, hot, now] = [v.limit, v.q, v.probs].map(at);
      const [ox, oy, side] = OUTSIDE[names] ?? [];
      // "q" stands on the side from which the path does not come.
      const [x, y] = at(v.path[v.path.length - 30]);
      const far = Math.hypot(hot[0] - x, hot[1] - y);
      const [dx, dy] = constant ? [0, -1] : [(hot[0] - x) / far, (hot[1] - y) / far];
      const ends =
        circle(...hot, 6, "outline") +
        text(hot[0] + 16 * dx, hot[1] + 16 * dy + 4, "q", "middle", "halo") +
        (constant ? "" : circle(...cold, 6, "outline")) +
        (constant ? "" : text(cold[0] + ox, cold[1] + oy, "T \u2192 0", side));

      const left = narrow ? 8 : right + 46;
      const top = narrow ? bottom + 48 : 64;
      const bar = scale(0, 1, left + 18, width - 78);
      const shown = chances(state);
      const bars = NAMES.map((name, i) => {
        const row = top + 8 + i * ROW;
        return (
          text(left, row + 15, name, "start", v.probs[i] ? "bold" : "bold faint") +
          rect(bar(0), row + 3, bar(v.probs[i]) - bar(0), ROW - 8, "c0") +
          rect(bar(v.q[i]) - 1, row, 2, ROW - 2, "ink") +
          text(width - 4, row + 15, probability(shown[i], 3), "end", "small")
        );
      });
      const end = top + 8 + NAMES.length * ROW;
      const terms = [
        ["mean logit", score(state, v)], ["T \u00d7 divergence from q", penalty(v)],
        ["gray lines: equal difference of the two", ""],
      ];
      const gap = narrow ? 18 : 20;
      return {
        height: narrow ? end + 3 * gap + 10 : bottom + 34,
        svg:
          rings.join("") + area(corners, "outline thin") + path(v.path.map(at), "c0") + ends +
          circle(...now, 6, "c0") + letters.join("") +
          circle(left + 6, top - 4, 6, "c0") +
          text(left + 20, top, `${called(state)}, T = ${digits(state.temperature)}`, "start", "small") +
          rect(width - 70, top - 13, 2, 13, "ink") + text(width - 62, top, "q", "start", "small") +
          bars.join("") + line(bar(0), top + 8, bar(0), end) +
          terms
            .map(([words, value], i) => {
              const row = end + gap * (i + 1) + (narrow ? 0 : 6);
              return text(left, row, words, "start", "small") + text(width - 4, row, value, "end", "small");
            })
            .join(""),
      };
    },

    say(data, state, v) {
      const listed = (words) => (words.length > 1 ? `${words.slice(0, -1).join(", ")} and ${words.at(-1)}` : words[0]);
      const ruledOut = (names) => `${listed(names)} ${names.length > 1 ? "are" : "is"} ruled out`;
      const out = NAMES.filter((_, i) => v.probs[i] === 0);
      const end = within(v.limit);
      const goal = end.length === 1 ? `corner ${end[0]}` : v.limit.map((p) => digits(p)).join(", ");
      // Who leaves at which T, the first to leave first.
      const order = [0, 1, 2].filter((i) => v.leaves[i]).sort((i, j) => v.leaves[j] - v.leaves[i]);
      const times = [...new Set(order.map((i) => digits(v.leaves[i])))];
      const groups = times.map((t) => order.filter((i) => digits(v.leaves[i]) === t).map((i) => NAMES[i]));
      const leave = () => listed(times.map((t, k) => `${k ? listed(groups[k]) : ruledOut(groups[k])} at T = ${t}`));
      return (
        `At \u03b1 = ${digits(state.alpha)} and T = ${digits(state.temperature)} the probabilities of a, b and c are ` +
        `${chances(state).map((chance) => probability(chance)).join(", ")}: ` +
        `${out.length ? ruledOut(out) : "no token is ruled out"}. ` +
        `The mean logit, ${score(state, v)}, less T \u00d7 divergence from q, ${penalty(v)}, is as large as can be. ` +
        (end.length === 3
          ? "All logits are equal: the point is q at every T."
          : times.length
            ? `As T falls, ${leave()}; from there on the point is ${end.length === 1 ? "in " : ""}${goal}.`
            : `As T \u2192 0, the point comes near ${goal}, but softmax rules out no token at any T.`)
      );
    },
  };
})();
