// A reliability diagram under a temperature: how sure a classifier is, and how often it is right.
(() => {
  const { ratios, sum, digits, decimals, count, scale, line, rect, circle, path, text, below, beside } =
    omnivaultLive;
  const TEMPERATURES = ratios(0.1, 10, 81);

  // Of each row what no temperature changes: the other logits less the largest, and whether the
  // choice, the first class of the largest logit, is the label.
  const rows = (data) =>
    (data.rows ??= data.logits.map((z, i) => {
      const top = Math.max(...z);
      const y = data.labels[i];
      const choice = z.indexOf(top);
      const gaps = z.filter((_, k) => k !== choice).map((zk) => zk - top);
      return { gaps, label: z[y] - top, right: choice === y };
    }));
  const predict = (data, T) => {
    let nll = 0;
    const doubt = []; // 1 - confidence, which is lost where the confidence is rounded to 1
    const confidence = rows(data).map(({ gaps, label }) => {
      let others = 0;
      for (const gap of gaps) others += Math.exp(gap / T);
      nll += Math.log1p(others) - label / T;
      doubt.push(others / (1 + others));
      return 1 / (1 + others); // the largest logit has the weight 1
    });
    return { confidence, doubt, nll: nll / data.labels.length };
  };
  // All that is offered, computed once.
  const offered = (data) => (data.offered ??= TEMPERATURES.map((T) => predict(data, T)));
  const best = (data) => {
    const nll = offered(data).map((o) => o.nll);
    return TEMPERATURES[nll.indexOf(Math.min(...nll))];
  };

  // As omnivault.calibration.reliability_bins: a bin holds its lower edge, the last one both.
  const group = (data, { confidence, doubt }, bins) => {
    const [counts, claimed, doubted, accurate, gap] = [0, 0, 0, 0, 0].map(() => Array(bins).fill(0));
    rows(data).forEach(({ right }, i) => {
      const b = Math.min(Math.floor(confidence[i] * bins), bins - 1);
      counts[b]++;
      claimed[b] += confidence[i];
      doubted[b] += doubt[i];
      accurate[b] += right;
      gap[b] += right ? doubt[i] : -confidence[i];
    });
    const ece = sum(gap.map(Math.abs)) / confidence.length;
    const mean = (totals) => totals.map((total, b) => (counts[b] ? total / counts[b] : null));
    return { counts, claimed: mean(claimed), doubted: mean(doubted), accurate: mean(accurate), ece };
  };

  const eceCurve = (data, bins) =>
    ((data.ece ??= {})[bins] ??= offered(data).map((o) => group(data, o, bins).ece));

  omnivaultLive.figures.reliability = {
    controls: (data) => [
      { type: "range", name: "temperature", label: "temperature T", values: TEMPERATURES, value: 1, show: (v) => digits(v) },
      { type: "choice", name: "bins", label: "number of bins", options: ["5", "10", "15"], value: "10" },
      { type: "button", label: "best temperature", press: () => ({ temperature: best(data) }) },
    ],

    compute(data, state) {
      const predicted = predict(data, state.temperature);
      const { confidence, doubt, nll } = predicted;
      const groups = group(data, predicted, +state.bins);
      return {
        ...groups, nll,
        // the standard error of the share that is right, if the claim were true
        errors: groups.claimed.map((c, b) => c && Math.sqrt((c * (1 - c)) / groups.counts[b])),
        accuracy: sum(rows(data).map(({ right }) => +right)) / confidence.length,
        confidence: sum(confidence) / confidence.length,
        doubt: sum(doubt) / doubt.length,
        best: best(data),
        nll_curve: offered(data).map((o) => o.nll),
        ece_curve: eceCurve(data, +state.bins),
      };
    },

    draw(data, state, v, width) {
      const narrow = width < 480;
      const right = narrow ? width - 12 : 370;
      const [top, base, low, floor] = narrow ? [74, 258, 284, 334] : [48, 236, 262, 304];
      const x = scale(0, 1, 48, right);
      const y = scale(0, 1, base, top);
      const n = +state.bins;
      const quarters = [0, 0.25, 0.5, 0.75, 1].map((t) => [t, t === 0.5 ? "0.5" : String(t)]);
      const most = Math.log10(data.labels.length);
      const h = scale(-0.3, Math.max(most, 1), floor, low); // a bar for a single prediction too
      const powers = [0, 1, 2].filter((e) => e <= most).map((e) => [e, String(10 ** e)]);
      const points = v.counts.map((m, b) => {
        if (!m) return "";
        const [c, a] = [x(v.claimed[b]), y(v.accurate[b])];
        const [up, down] = [1, -1].map((s) => y(Math.max(0, Math.min(1, v.claimed[b] + s * v.errors[b]))));
        const gap = y(v.claimed[b]);
        return (
          rect(c - 5, up, 10, down - up, "ghost") +
          rect(c - 1.5, Math.min(a, gap), 3, Math.abs(a - gap), "c1") +
          circle(c, a, 4.5, "c0")
        );
      });
      const bars = v.counts.map((m, b) =>
        m ? rect(x(b / n) + 1, h(Math.log10(m)), x(1 / n) - x(0) - 2, floor - h(Math.log10(m)), "c4") : "");
      const numbers = [["accuracy", decimals(v.accuracy, 3)], ["NLL", digits(v.nll)], ["ECE", digits(v.ece)]];
      const key = (at, line) =>
        circle(at + 5, line - 4, 4.5, "c0") + text(at + 16, line, "bin", "start", "small") +
        rect(at + 42, line - 6, 14, 3, "c1") + text(at + 61, line, "gap", "start", "small") +
        rect(at + 93, line - 9, 10, 10, "ghost") +
        text(at + 108, line, narrow ? "standard error" : "standard error if calibrated", "start", "small");
      const diagram =
        [0.25, 0.5, 0.75, 1].map((t) => line(x(0), y(t), right, y(t), "grid")).join("") +
        line(x(0), y(0), x(1), y(1), "dashed") + points.join("") +
        beside(y, top, base, x(0), quarters, "share that is right") + line(x(0), base, right, base) +
        bars.join("") + beside(h, low, floor, x(0), powers, "predictions") +
        below(x, x(0), right, floor, quarters, "confidence");
      const height = floor + 40;
      if (narrow) {
        const at = [4, width * 0.55, width - 4];
        const words = numbers.map(([name, value], i) =>
          text(at[i], 14, `${name} ${value}`, ["start", "middle", "end"][i], "bold small"));
        return { height, svg: words.join("") + key(44, 36) + diagram };
      }
      // Beside the diagram: both measures over the temperature, cut off where they are large.
      const t = scale(Math.log(0.1), Math.log(10), 436, width - 14);
      const now = t(Math.log(state.temperature));
      const panel = (name, value, curve, from, to) => {
        const limit = Math.min(curve[0], curve.at(-1)) || Math.max(...curve) || 1;
        const u = scale(0, 1.15 * limit, to, from);
        const inside = curve.map((c, i) => [t(Math.log(TEMPERATURES[i])), u(c)]).filter((p) => p[1] >= from);
        return (
          text(t(Math.log(0.1)), from - 8, `${name} ${digits(value)}`, "start", "bold") +
          line(now, from, now, to, "dashed") + path(inside, "c0") +
          (u(value) >= from ? circle(now, u(value), 4.5, "c1") : "") +
          beside(u, from, to, t(Math.log(0.1)), [[0, "0"], [limit, digits(limit, 2)]])
        );
      };
      const ticks = [0.1, 1, 10].map((T) => [Math.log(T), String(T)]);
      return {
        height,
        svg:
          diagram + key(44, 14) +
          text(436, 14, `accuracy ${numbers[0][1]}`, "start", "bold") +
          panel("NLL", v.nll, v.nll_curve, 54, 154) + line(436, 154, width - 14, 154) +
          panel("ECE", v.ece, v.ece_curve, 204, 304) +
          below(t, 436, width - 14, 304, ticks, "temperature T"),
      };
    },

    say(data, state, v) {
      const [sure, right] = [decimals(v.confidence, 3, v.doubt), decimals(v.accuracy, 3)];
      const often = sure === right ? "as often as" : v.confidence > v.accuracy ? "less often than" : "more often than";
      const n = data.labels.length;
      const b = v.counts.indexOf(Math.max(...v.counts));
      return (
        `At T = ${digits(state.temperature)} the share ${right} of ${count(n)} ${n === 1 ? "prediction" : "predictions"} ` +
        `is right, ${often} the mean confidence ${sure} claims. ` +
        `The NLL is ${digits(v.nll)} nats, smallest at T = ${digits(v.best)}; ` +
        `the ECE is ${digits(v.ece)} with ${state.bins} bins. ` +
        `The fullest bin, with ${count(v.counts[b])}, claims ${decimals(v.claimed[b], 3, v.doubted[b])} ` +
        `and is right in ${decimals(v.accurate[b], 3)}.`
      );
    },
  };
})();
