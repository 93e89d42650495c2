// Where softmax of K numbers fails, in four number formats: one logit z_1, all others z_2.
(() => {
  const { steps, digits, decimals, probability, count } = omnivaultLive;
  const { scale, rect, circle, line, area, text, below, beside } = omnivaultLive;
  const CELLS = 80;
  const SIDE = 240;
  const SUB = ["\u2081", "\u2082"];
  // the letter of an outcome on the map, its colour, its name, and a short name
  const OUTCOMES = {
    r: ["c2", "finite, none is 0 or 1", "none is 0 or 1"],
    z: ["ghost", "some are exactly 0 or 1", "some are 0 or 1"],
    o: ["c1", "overflow: exp or sum is inf", "overflow to inf"],
    n: ["c0", "0/0: each exp is 0", "0/0"],
  };

  // To the nearest number with so many significant bits, ties to the even one; `low` is the exponent
  // of the smallest normal number, below which the spacing stays the same (subnormal numbers).
  const EVEN = 1.5 * 2 ** 52; // x + EVEN - EVEN is x rounded to an integer, half to even
  const double = new Float64Array(1);
  const words = new Int32Array(double.buffer); // the exponent of a float64 is in its second word
  const nearest = (bits, low, largest) => {
    const units = Array.from({ length: 2048 }, (_, e) => 2 ** (Math.max(e - 1023, low) - bits + 1));
    return (x) => {
      if (x === 0 || !Number.isFinite(x)) return x;
      double[0] = x;
      const unit = units[(words[1] >>> 20) & 2047];
      const y = (x / unit + EVEN - EVEN) * unit;
      return Math.abs(y) > largest ? Math.sign(y) * Infinity : y;
    };
  };
  // How a format rounds, and how far its map reaches.
  const FORMATS = {
    float16: [nearest(11, -14, 65504), 24],
    bfloat16: [nearest(8, -126, (2 - 2 ** -7) * 2 ** 127), 120],
    float32: [Math.fround, 120],
    float64: [(x) => x, 800],
  };
  const near = steps(0, 20, 41);
  const positive = [...near.slice(1), ...steps(22, 120, 50), ...steps(140, 800, 34)];
  const LOGITS = [...positive.map((z) => -z).reverse(), 0, ...positive];
  const snap = (z) => LOGITS.reduce((best, v) => (Math.abs(v - z) < Math.abs(best - z) ? v : best));

  // Each operation is that of float64, its result rounded to the format. The sum of the K - 1 equal
  // terms is one multiplication, (K - 1) e_2, to which e_1 is added.
  const inputsOf = (round, shift, z1, z2) => {
    const [a, b] = [round(z1), round(z2)];
    const top = shift ? Math.max(a, b) : 0;
    return [round(a - top), round(b - top)];
  };
  const sumOf = (round, K, e1, e2) => round(e1 + round((K - 1) * e2));
  const outcomeOf = (round, e1, e2, total) => {
    if (total === 0) return "n";
    if (total === Infinity) return "o";
    const edge = (e) => {
      const p = e && round(e / total);
      return p === 0 || p === 1;
    };
    return edge(e1) || edge(e2) ? "z" : "r";
  };
  // The outcomes at the centres of the cells, from the largest z_2 down. Kept, for a map does not
  // change when the point moves.
  const maps = {};
  const mapOf = ({ format, shift, k }) => (maps[[format, shift, k]] ??= survey(...FORMATS[format], shift, k));
  const survey = (round, reach, shift, K) => {
    const centres = Array.from({ length: CELLS }, (_, i) => round(((2 * i + 1 - CELLS) * reach) / CELLS));
    const exp = (z) => round(Math.exp(z));
    const exps = centres.map(exp);
    const cell = (i, j) => {
      let [e1, e2] = [exps[i], exps[j]];
      if (shift) {
        const gap = round(centres[i] - centres[j]); // the larger logit becomes 0, its exp 1
        [e1, e2] = gap < 0 ? [exp(gap), 1] : [1, exp(-gap)];
      }
      return outcomeOf(round, e1, e2, sumOf(round, K, e1, e2));
    };
    const map = [];
    for (let j = CELLS - 1; j >= 0; j--) {
      let row = "";
      for (let i = 0; i < CELLS; i++) row += cell(i, j);
      map.push(row);
    }
    return map;
  };

  const computed = (x) => (typeof x === "string" ? x : digits(x));
  const inJson = (x) => (Number.isFinite(x) ? x : x === Infinity ? "inf" : "nan");
  // what is true of the second probability holds for K - 1 classes
  const exact = (v) => v.log_probs.map((log, i) => probability([log, v.log_rest[i]]));
  const places = (width) => {
    const narrow = width < 480;
    const left = narrow ? Math.max(40, (width - SIDE - 14) / 2) : 44 + Math.min(70, (width - 480) / 3);
    const panel = narrow ? 4 : left + SIDE + 26;
    return { left, top: 24, panel, room: narrow ? width - 8 : Math.min(216, width - panel - 4) };
  };

  omnivaultLive.figures.overflow = {
    controls: () => [
      { type: "choice", name: "format", label: "number format", options: Object.keys(FORMATS), value: "float32" },
      { type: "range", name: "k", label: "classes K", values: [2, 10, 1000, 50000], value: 10, show: count },
      { type: "range", name: "z1", label: "logit z\u2081", values: LOGITS, value: 100, show: (v) => digits(v) },
      { type: "range", name: "z2", label: "all other logits z\u2082", values: LOGITS, value: 0, show: (v) => digits(v) },
      { type: "check", name: "shift", label: "subtract the maximum", value: false },
    ],

    compute(data, state) {
      const [round, reach] = FORMATS[state.format];
      const { k, z1, z2 } = state;
      const inputs = inputsOf(round, state.shift, z1, z2);
      const exps = inputs.map((z) => round(Math.exp(z)));
      const total = sumOf(round, k, ...exps);
      const probs = exps.map((e) => round(e / total));
      const outcome = outcomeOf(round, ...exps, total);
      // exact, in logarithms: log p of both, and log(1 - p)
      const others = z2 + Math.log(k - 1);
      const log_total = Math.max(z1, others) + Math.log1p(Math.exp(-Math.abs(z1 - others)));
      const log_probs = [z1 - log_total, z2 - log_total];
      const log_rest = [others - log_total, k === 2 ? log_probs[0] : Math.log1p(-Math.exp(log_probs[1]))];
      const map = mapOf(state);
      const shares = {};
      for (const o of Object.keys(OUTCOMES)) {
        shares[o] = map.reduce((s, row) => s + row.split(o).length - 1, 0) / CELLS ** 2;
      }
      return {
        inputs, exps: exps.map(inJson), sum: inJson(total), probs: probs.map(inJson), outcome,
        log_probs, log_rest, reach, map, shares,
      };
    },

    draw(data, state, v, width) {
      const narrow = width < 480;
      const { left, top, panel, room } = places(width);
      const bottom = top + SIDE;
      const x = scale(-v.reach, v.reach, left, left + SIDE);
      const y = scale(-v.reach, v.reach, bottom, top);
      const size = SIDE / CELLS;
      // one path for each outcome, a rectangle for each run of cells in a row
      const runs = { r: "", z: "", o: "", n: "" };
      v.map.forEach((row, j) => {
        for (const run of row.matchAll(/(.)\1*/g)) {
          const w = run[0].length * size;
          runs[run[1]] += `M${left + run.index * size} ${top + j * size}h${w}v${size}h${-w}z`;
        }
      });
      const map = Object.entries(runs).map(([o, d]) => (d ? `<path class="${OUTCOMES[o][0]}" d="${d}"/>` : ""));
      const inside = (z) => Math.max(-v.reach, Math.min(v.reach, z));
      const [px, py] = [x(inside(state.z1)), y(inside(state.z2))];
      const out = inside(state.z1) !== state.z1 || inside(state.z2) !== state.z2;
      const diamond = (r) => [[px - r, py], [px, py - r], [px + r, py], [px, py + r]];
      const point = out
        ? area(diamond(10), "ghost") + area(diamond(7), "ink")
        : circle(px, py, 7, "ghost") + circle(px, py, 5, "ink");
      const ticks = [-1, -0.5, 0, 0.5, 1].map((t) => [t * v.reach, digits(t * v.reach)]);

      const less = narrow ? "\u2212max" : " \u2212 max";
      const of = (i) => `exp(z${SUB[i]}${state.shift ? less : ""})`;
      const [p1, p2] = exact(v);
      const sums = [
        [of(0), computed(v.exps[0])], [of(1), computed(v.exps[1])],
        [narrow ? "sum" : `sum of ${count(state.k)}`, computed(v.sum)],
      ];
      const ratios = [
        [`p${SUB[0]}`, computed(v.probs[0])], [`p${SUB[1]}`, computed(v.probs[1])],
        [`exact p${SUB[0]}`, p1], [`exact p${SUB[1]}`, p2],
      ];
      const table = (rows, x0, y0, w, step) =>
        rows
          .map(([label, value], i) => [label, value, y0 + i * step])
          .map(([label, value, y]) => text(x0, y, label, "start", "small") + text(x0 + w, y, value, "end", "small"))
          .join("");
      const key = (o, x0, y0) =>
        rect(x0, y0 - 10, 12, 12, OUTCOMES[o][0]) +
        text(x0 + 17, y0, OUTCOMES[o][width < 600 ? 2 : 1], "start", o === v.outcome ? "small bold" : "small");
      const keys = (one) => Object.keys(OUTCOMES).map(one).join("");
      const half = room / 2;
      const low = bottom + 52;
      return {
        height: narrow ? low + 86 : bottom + 40,
        svg:
          map.join("") +
          line(px, py, px, bottom, "dashed") + line(left, py, px, py, "dashed") +
          below(x, left, left + SIDE, bottom, ticks, narrow ? "" : `z${SUB[0]}`) +
          beside(y, bottom, top, left, ticks, `z${SUB[1]}`) + point +
          (narrow
            ? text(left + SIDE + 4, bottom + 4, `z${SUB[0]}`) +
              keys((o, i) => key(o, panel + (i % 2) * half, bottom + 36 + 17 * (i >> 1))) +
              table(sums, panel, low + 24, half - 6, 17) + table(ratios, panel + half + 4, low + 24, half - 4, 17)
            : text(panel, top + 8, `in ${state.format}`, "start", "bold") +
              table([...sums, ...ratios], panel, top + 30, room, 19) +
              keys((o, i) => key(o, panel, top + 180 + 19 * i))),
      };
    },

    say(data, state, v) {
      const [p1, p2] = exact(v);
      const out = Math.max(Math.abs(state.z1), Math.abs(state.z2)) > v.reach;
      const others = state.k === 2 ? "the other class" : `the ${count(state.k - 1)} others`;
      const shares = Object.entries(v.shares).filter(([, s]) => s > 0);
      return (
        `In ${state.format}, ${state.shift ? "the maximum" : "nothing"} subtracted, ` +
        `with z\u2081 = ${digits(state.z1)} and z\u2082 = ${digits(state.z2)} for ${others}, ` +
        `exp gives ${computed(v.exps[0])} and ${computed(v.exps[1])}, the sum is ${computed(v.sum)}, ` +
        `the probabilities are ${computed(v.probs[0])} and ${computed(v.probs[1])}; exact are ${p1} and ${p2}. ` +
        `On the map ${shares.map(([o, s]) => `${OUTCOMES[o][2]} in ${decimals(100 * s, 1)}%`).join(", ")}.` +
        (out ? " The point lies beyond the map and is drawn at its edge." : "")
      );
    },

    drag(data, state, x, y, width) {
      const { left, top } = places(width);
      const reach = FORMATS[state.format][1];
      if (x < left - 8 || x > left + SIDE + 8 || y < top - 8 || y > top + SIDE + 8) return null;
      const z = (share) => snap(reach * Math.max(-1, Math.min(1, 2 * share - 1)));
      return { z1: z((x - left) / SIDE), z2: z((top + SIDE - y) / SIDE) };
    },
  };
})();
