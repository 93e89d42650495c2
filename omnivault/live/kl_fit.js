// One bump fitted by hand to a target with two, under the two directions of the divergence.
//
// All is computed with log-probabilities: far from its center q underflows, where the divergence
// KL(p || q) is finite.
(() => {
  const { steps, sum, logsumexp, fixed, digits, decimals, scale, line, rect, path, text, below, beside } = omnivaultLive;
  const GRID = steps(0, 40, 41);
  const CENTERS = steps(0, 40, 81);
  const WIDTHS = [...steps(1, 5, 17), ...steps(5.5, 12, 14), ...steps(13, 20, 8)];
  const MIDDLE = 19; // of the two bumps, whose widths are 2 and 3
  const whole = (name) => name.replace(" || ", "\u00a0||\u2060\u00a0"); // not broken at the end of a line
  const [FORWARD, REVERSE] = ["KL(p || q)", "KL(q || p)"];

  const logBump = (m, s) => {
    const z = GRID.map((k) => -((k - m) ** 2) / (2 * s * s));
    let total = 0; // at least one z is nearly 0
    for (const zk of z) total += Math.exp(zk);
    const log = Math.log(total);
    return z.map((zk) => zk - log);
  };
  const logTarget = ({ distance, weight }) => {
    const left = logBump(MIDDLE - distance / 2, 2);
    const right = logBump(MIDDLE + distance / 2, 3);
    return GRID.map((k) => logsumexp([Math.log(weight) + left[k], Math.log(1 - weight) + right[k]]));
  };
  const divergence = (logP, logQ) => sum(logP.map((l, k) => Math.exp(l) * (l - logQ[k])));
  const moments = (p) => {
    const mean = sum(p.map((pk, k) => pk * k));
    return { mean, variance: sum(p.map((pk, k) => pk * (k - mean) ** 2)) };
  };

  const dot = (x, y) => {
    let total = 0;
    for (let k = 0; k < x.length; k++) total += x[k] * y[k];
    return total;
  };

  // Every q on offer, with its logarithm and its negative entropy: once, since no target changes it.
  let all;
  const offered = () =>
    (all ??= CENTERS.flatMap((center) =>
      WIDTHS.map((width) => {
        const logQ = logBump(center, width);
        const q = logQ.map(Math.exp);
        return { center, width, q, logQ, own: dot(q, logQ) };
      }),
    ));
  const least = (value) => {
    let best = { value: Infinity };
    for (const o of offered()) {
      const v = value(o);
      if (v < best.value) best = { center: o.center, width: o.width, value: v };
    }
    return best;
  };
  const bestForward = (state) => {
    const logP = logTarget(state);
    const p = logP.map(Math.exp);
    const own = dot(p, logP);
    return least((o) => own - dot(p, o.logQ));
  };
  const bestReverse = (state) => {
    const logP = logTarget(state);
    return least((o) => o.own - dot(o.q, logP));
  };
  const place = ({ center, width }) => ({ center, width });

  const plot = (width) => {
    const top = width < 480 ? 66 : 48; // the legend takes two lines, or one
    return { x: scale(-0.6, 40.6, 40, width - 12), top, base: top + 138 };
  };

  omnivaultLive.figures.kl_fit = {
    controls: () => [
      { type: "range", name: "distance", label: "distance of bumps", values: steps(0, 20, 21), value: 18 },
      { type: "range", name: "weight", label: "weight of left bump", values: steps(0, 1, 21), value: 0.65, show: (v) => fixed(v, 2) },
      { type: "range", name: "center", label: "center m of q", values: CENTERS, value: 20, show: (v) => fixed(v, 1) },
      { type: "range", name: "width", label: "width s of q", values: WIDTHS, value: 5, show: (v) => fixed(v, 2) },
      { type: "button", label: `least ${FORWARD}`, press: (s) => place(bestForward(s)) },
      { type: "button", label: `least ${REVERSE}`, press: (s) => place(bestReverse(s)) },
    ],

    compute(data, state) {
      const logP = logTarget(state);
      const logQ = logBump(state.center, state.width);
      const [p, q] = [logP, logQ].map((l) => l.map(Math.exp));
      return {
        p, q,
        forward: divergence(logP, logQ), reverse: divergence(logQ, logP),
        best_forward: bestForward(state), best_reverse: bestReverse(state),
        moments_p: moments(p), moments_q: moments(q),
      };
    },

    draw(data, state, v, width) {
      const { x, base, top } = plot(width);
      const high = Math.max(0.215, ...v.q); // p is never higher than 0.2
      const y = scale(0, high, base, top);
      const slot = x(1) - x(0);
      const levels = [0, 0.1, 0.2, 0.3, 0.4].filter((t) => t <= high);
      const bars = v.p.map((pk, k) => rect(x(k) - 0.45 * slot, y(pk), 0.9 * slot, base - y(pk), "ghost"));
      const narrow = width < 480;
      const legend = (at, line, name, { mean, variance }) =>
        text(at + 24, line, `${name}: mean ${decimals(mean, 1)}, variance ${decimals(variance, 1)}`, "start", "small");
      // 0 to 500 nats in one line: nearly linear below 0.1, logarithmic above
      const stretch = (d) => Math.log1p(10 * d);
      const left = 82;
      const d = scale(0, stretch(500), left, width - 56);
      const row = (line, name, value, { value: minimum }, kind) =>
        text(4, line + 15, name) +
        rect(left, line + 4, d(stretch(value)) - left, 14, kind) +
        rect(d(stretch(minimum)) - 1.5, line, 3, 22, "ink") +
        text(width - 4, line + 15, digits(value), "end", "small");
      const ticks = (narrow ? [0, 1, 10, 100] : [0, 0.1, 1, 10, 100]).map((t) => [stretch(t), String(t)]);
      const end = base + 114;
      const [at, second] = narrow ? [40, 32] : [300, 14]; // where the legend of q stands
      return {
        height: end + 40,
        svg:
          rect(40, 4, 16, 10, "ghost") + legend(40, 14, "target p", v.moments_p) +
          line(at, second - 4, at + 16, second - 4, "line c0") + legend(at, second, "q", v.moments_q) +
          bars.join("") + path(v.q.map((qk, k) => [x(k), y(qk)]), "c0") +
          beside(y, top, base, 40, levels.map((t) => [t, String(t)]), "probability") +
          below(x, 40, width - 12, base, [0, 10, 20, 30, 40].map((t) => [t, String(t)]), "outcome") +
          row(base + 52, FORWARD, v.forward, v.best_forward, "c1") +
          row(base + 82, REVERSE, v.reverse, v.best_reverse, "c2") +
          below(d, left, width - 56, end, ticks, "nats (mark: the least on offer)"),
      };
    },

    say(data, state, v) {
      const { distance, weight, center, width } = state;
      const at = [-1, 1].map((side) => digits(MIDDLE + (side * distance) / 2));
      const bumps = `bumps at ${at.join(" and ")} of weights ${decimals(weight, 2)} and ${decimals(1 - weight, 2)}`;
      const least = (b) => `least ${digits(b.value)} at center ${digits(b.center)} and width ${digits(b.width)}`;
      return (
        `The target has ${bumps}; q has center ${digits(center)} and width ${digits(width)}. ` +
        `${whole(FORWARD)} is ${digits(v.forward)} nats, ${least(v.best_forward)}. ` +
        `${whole(REVERSE)} is ${digits(v.reverse)} nats, ${least(v.best_reverse)}.`
      );
    },

    drag(data, state, x, y, width) {
      const at = plot(width);
      if (y < at.top - 8 || y > at.base + 20) return null;
      const k = -0.6 + ((x - at.x(-0.6)) * 41.2) / (at.x(40.6) - at.x(-0.6));
      return { center: Math.max(0, Math.min(40, Math.round(2 * k) / 2)) };
    },
  };
})();
