// The simplex of three classes: the path of softmax from T = 0 to infinity, and samples around it.
(() => {
  const { steps, ratios, sum, softmax, logProbs, entropy, random, draw } = omnivaultLive;
  const { fixed, digits, probability, count } = omnivaultLive;
  const { scale, line, rect, circle, path, area, text } = omnivaultLive;
  const NAMES = ["a", "b", "c"];
  const SAMPLES = 100;
  const CENTER = [1 / 3, 1 / 3, 1 / 3];
  // Wide enough for the smallest gap, 0.1, and the largest, 6: the ends are the limits to the eye.
  const ALONG = ratios(0.01, 1000, 121);
  const ROW = 25;

  const logits = (state) => NAMES.map((n) => state[n]);
  const chances = (state) => logProbs(logits(state).map((z) => z / state.temperature));
  const atTop = (limit) => NAMES.filter((_, i) => limit[i] > 0);

  const inWords = (n) => (n === 1 ? "1 draw" : `${count(n)} draws`);

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

  omnivaultLive.figures.simplex = {
    controls: (data) => [
      ...NAMES.map((name, i) => ({
        type: "range", name, label: `logit ${name}`, values: steps(-3, 3, 61),
        value: data.logits[i], show: (v) => fixed(v, 1),
      })),
      {
        type: "range", name: "temperature", label: "temperature T", values: ratios(0.05, 20, 81),
        value: 1, show: (v) => digits(v),
      },
      { type: "range", name: "n", label: "draws per sample", values: [1, 5, 20, 100], value: 20, show: count },
      { type: "button", name: "batch", value: 0, label: "new samples", press: (s) => ({ batch: s.batch + 1 }) },
      {
        type: "button", label: "tie the two largest",
        press: (s) => {
          const [first, second] = [...NAMES].sort((i, j) => s[j] - s[i]);
          return { [second]: s[first] };
        },
      },
    ],

    compute(data, state) {
      const z = logits(state);
      const probs = softmax(z, state.temperature);
      const top = Math.max(...z);
      const m = z.filter((zi) => zi === top).length;
      const limit = z.map((zi) => (zi === top ? 1 / m : 0));
      const uniform = random(state.batch);
      const samples = Array.from({ length: SAMPLES }, () =>
        draw(probs, state.n, uniform).map((k) => k / state.n),
      );
      const first = samples.map((f) => f[z.indexOf(top)]);
      return {
        probs, entropy: entropy(z, state.temperature), limit, samples,
        path: [limit, ...ALONG.map((T) => softmax(z, T)), CENTER],
        mean: NAMES.map((_, i) => sum(samples.map((f) => f[i])) / SAMPLES),
        spread: [Math.min(...first), Math.max(...first)],
      };
    },

    draw(data, state, v, width) {
      const narrow = width < 480;
      const { corners, at, right, bottom } = places(width);
      const letters = NAMES.map((name, i) => {
        const [x, y] = corners[i];
        return text(x, i === 2 ? y - 12 : y + 22, name, "middle", "bold");
      });
      const round = (p) => at(p).map((u) => +u.toFixed(1));
      // Samples at one place are one disk, its area their number.
      const disk = (x, y, r) => circle(x, y, r, "c1 soft") + circle(x, y, r, "line thin c1");
      const numbers = new Map();
      for (const f of v.samples) numbers.set(`${f}`, [f, (numbers.get(`${f}`)?.[1] ?? 0) + 1]);
      const radius = (k) => +(2.3 * Math.sqrt(k)).toFixed(1);
      const disks = [...numbers.values()].map(([f, k]) => disk(...round(f), radius(k)));

      const names = atTop(v.limit).join("");
      const constant = names === "abc";
      const [cold, hot, now] = [v.limit, CENTER, v.probs].map(round);
      const [ox, oy, side] = OUTSIDE[names] ?? [];
      // "T → ∞" stands on the side of the center from which the path does not come.
      const [x, y] = at(v.path[v.path.length - 30]);
      const far = Math.hypot(hot[0] - x, hot[1] - y);
      const [dx, dy] = constant ? [0, -1] : [(hot[0] - x) / far, (hot[1] - y) / far];
      const anchor = dx > 0.4 ? "start" : dx < -0.4 ? "end" : "middle";
      const limits =
        circle(...hot, 6, "outline") +
        text(hot[0] + 12 * dx, hot[1] + 18 * dy + 4, constant ? "every T" : "T \u2192 \u221e", anchor) +
        (constant ? "" : circle(...cold, 6, "outline")) +
        (constant ? "" : text(cold[0] + ox, cold[1] + oy, "T \u2192 0", side));

      const left = narrow ? 8 : right + 46;
      const top = narrow ? bottom + 48 : 64;
      const bar = scale(0, 1, left + 18, width - 78);
      const shown = chances(state);
      const bars = NAMES.map((name, i) => {
        const row = top + 8 + i * ROW;
        return (
          text(left, row + 15, name, "start", "bold") +
          rect(bar(0), row + 3, bar(v.probs[i]) - bar(0), ROW - 8, "c0") +
          text(width - 4, row + 15, probability(shown[i], 3), "end", "small")
        );
      });
      const end = top + 8 + NAMES.length * ROW;
      const key = narrow ? end + 20 : end + 46;
      const heading = `p at T = ${digits(state.temperature)}`;
      const inNats = `entropy ${digits(v.entropy)} nats`;
      return {
        height: narrow ? key + 10 : bottom + 34,
        svg:
          area(corners, "outline thin") + disks.join("") + path(v.path.map(at), "c0") +
          limits + circle(...now, 6, "c0") + letters.join("") +
          circle(left + 6, top - 4, 6, "c0") +
          text(left + 20, top, narrow ? `${heading}, ${inNats}` : heading, "start", "small") +
          bars.join("") + line(bar(0), top + 8, bar(0), end) +
          (narrow ? "" : text(left, end + 20, inNats, "start", "small")) +
          disk(left + 6, key - 4, 5) +
          text(left + 20, key, `${SAMPLES} samples of ${inWords(state.n)}`, "start", "small"),
      };
    },

    say(data, state, v) {
      const { limit, mean, spread } = v;
      const names = atTop(limit);
      const first = NAMES.indexOf(names[0]);
      const where =
        names.length === 1 ? `corner ${names[0]}` : `the middle of the edge from ${names[0]} to ${names[1]}`;
      const draws = `${SAMPLES} samples of ${inWords(state.n)}`;
      return (
        `At T = ${digits(state.temperature)} the probabilities of a, b and c are ` +
        `${chances(state).map((chance) => probability(chance)).join(", ")}; the entropy is ${digits(v.entropy)} nats. ` +
        (names.length === NAMES.length
          ? "All logits are equal: the point is in the center at every T. "
          : `The path leads from ${where}, as T \u2192 0, to the center, as T \u2192 \u221e. `) +
        (state.n === 1
          ? `Of ${draws}, ${count(Math.round(SAMPLES * mean[first]))} lie in corner ${names[0]}.`
          : `In ${draws}, the frequency of ${names[0]} ranges from ${digits(spread[0])} to ${digits(spread[1])}.`)
      );
    },
  };
})();
