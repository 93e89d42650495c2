// Speculative sampling: a draft proposes, the target accepts or draws again, and what comes out is
// the target's distribution.
(() => {
  const { ratios, softmax, logProbs, logsumexp, sum, random, digits, decimals, probability } = omnivaultLive;
  const { count, scale, rect, line, text, below } = omnivaultLive;
  const ROW = 36;
  const TOP = 44;
  const MOST = 20000;

  const index = (ends, u) => {
    let i = 0;
    while (i < ends.length - 1 && ends[i] <= u) i++;
    return i;
  };
  const cumulated = (weights) => {
    let total = 0;
    return weights.map((w) => (total += w));
  };
  // p - q, where it is more than the rounding of both.
  const excessOf = (p, q) => (Math.abs(p - q) > 2 ** -48 * Math.max(p, q) ? p - q : 0);
  const chances = (logits, T) => logProbs(logits.map((z) => z / T));
  const chancesOf = (data, state) => [
    chances(data.target, state.target_temperature), chances(data.draft, state.draft_temperature),
  ];
  // The acceptance probability, sum(min(p, q)), and 1 minus it, the sum of p - q where p is larger:
  // of two classes that both have nearly all, in what the others have.
  const acceptance = ([p, q]) => {
    const apart = p.map(([logP, otherP], i) => {
      const [logQ, otherQ] = q[i];
      const [more, less] = Math.min(logP, logQ) > -Math.LN2 ? [otherQ, otherP] : [logP, logQ];
      const rounding = 2 ** -44 * Math.max(1, Math.abs(more));
      return more - less > rounding ? more + Math.log(-Math.expm1(less - more)) : -Infinity;
    });
    const least = p.map(([logP], i) => Math.min(logP, q[i][0]));
    return probability([logsumexp(least), logsumexp(apart)]);
  };
  const more = (n) => (s) => ({ draws: Math.min(MOST, s.draws + n) });
  const named = (token) => `\u201c${token.replace(/\n/g, "\u21b5")}\u201d`;
  const cut = (words, n) => (words.length > n ? `${words.slice(0, n - 1)}\u2026` : words);

  omnivaultLive.figures.speculative = {
    controls: () => [
      { type: "range", name: "target_temperature", label: "target temperature", values: ratios(0.25, 4, 41), value: 1, show: (v) => digits(v) },
      { type: "range", name: "draft_temperature", label: "draft temperature", values: ratios(0.25, 4, 41), value: 1, show: (v) => digits(v) },
      { type: "button", name: "draws", value: 0, label: "draw 1", press: more(1) },
      { type: "button", label: "draw 100", press: more(100) },
    ],

    compute(data, state) {
      const p = softmax(data.target, state.target_temperature);
      const q = softmax(data.draft, state.draft_temperature);
      const overlap = sum(p.map((pi, i) => Math.min(pi, q[i])));
      const excess = p.map((pi, i) => Math.max(0, excessOf(pi, q[i])));
      const left = sum(excess);
      const residual = excess.map((e) => (left > 0 ? e / left : 0)); // p = q: nothing is rejected
      const zeros = () => p.map(() => 0);
      const [accepted, rejected, redrawn] = [zeros(), zeros(), zeros()];
      const uniform = random(1);
      const [fromDraft, fromResidual] = [cumulated(q), cumulated(residual)];
      let last = null;
      for (let n = 0; n < state.draws; n++) {
        const x = index(fromDraft, uniform() * fromDraft[q.length - 1]);
        if (uniform() * q[x] < p[x]) { // with probability min(1, p / q)
          accepted[x]++;
          last = { proposed: x, emitted: x, accepted: true };
        } else {
          const y = index(fromResidual, uniform() * fromResidual[p.length - 1]);
          rejected[x]++;
          redrawn[y]++;
          last = { proposed: x, emitted: y, accepted: false };
        }
      }
      const emitted = p.map((_, i) => accepted[i] + redrawn[i]);
      return { p, q, overlap, residual, accepted, rejected, redrawn, emitted, last };
    },

    // In each row a bar of probabilities and a thinner one of draws. Both begin with what p and q
    // share; what p has beyond goes on in one color, what q has beyond in the other.
    draw(data, state, v, width) {
      const narrow = width < 480;
      const left = narrow ? 74 : 118;
      const right = width - (narrow ? 146 : 156);
      const columns = [width - (narrow ? 78 : 82), width - 4];
      const logs = chancesOf(data, state);
      const most = Math.max(...v.p, ...v.q);
      const end = [0.25, 0.5, 1].find((x) => x >= most) ?? 1;
      const at = scale(0, end, left, right);
      const n = state.draws;
      const bar = (y, height, shared, mine, theirs) =>
        rect(left, y, at(shared) - left, height, "c2") +
        rect(at(shared), y, at(mine + shared) - at(shared), height, "c0") +
        rect(at(shared), y, at(theirs + shared) - at(shared), height, "c1");
      const rows = data.tokens.map((token, i) => {
        const y = TOP + i * ROW;
        const [p, q] = [v.p[i], v.q[i]];
        const shared = Math.min(p, q);
        const share = (counts) => Math.min(end, counts[i] / n);
        const inside = (counts) => Math.min(share(counts), end - share(v.accepted));
        const drawn = n
          ? bar(y + 19, 8, share(v.accepted), inside(v.redrawn), inside(v.rejected)) +
            text(columns[0], y + 29, decimals(v.emitted[i] / n, 3), "end", "small faint") +
            text(columns[1], y + 29, decimals((v.accepted[i] + v.rejected[i]) / n, 3), "end", "small faint")
          : "";
        return (
          text(left - 8, y + 16, cut(named(token), narrow ? 9 : 15), "end") +
          bar(y + 3, 14, shared, p - shared, q - shared) + drawn +
          line(at(p), y, at(p), y + (n ? 30 : 20)) +
          logs.map((log, c) => text(columns[c], y + 15, probability(log[i], 3), "end", "small")).join("")
        );
      });
      const foot = TOP + data.tokens.length * ROW;
      const ticks = [0, end / 2, end].map((x) => [x, digits(x)]);
      const keys = [["c2", "both: accepted"], ["c0", "p alone: drawn again"], ["c1", "q alone: rejected"]];
      const step = narrow ? 0 : 158;
      const key = keys.map(([kind, words], i) => {
        const [x, y] = [narrow ? 4 : left + i * step, foot + 34 + (narrow ? i * 17 : 0)];
        return rect(x, y - 9, 10, 10, kind) + text(x + 15, y, words, "start", "small");
      });
      const rate = `acceptance probability ${acceptance(logs)}`;
      const met = `accepted ${count(sum(v.accepted))} of ${count(n)}`;
      return {
        height: foot + (narrow ? 74 : 42),
        svg:
          text(4, 14, n && !narrow ? `${rate}; ${met}` : rate) +
          text(columns[0], 34, "p", "end", "bold") + text(columns[1], 34, "q", "end", "bold") +
          (n ? text(narrow ? 4 : left, 34, narrow ? met : "below each bar: shares of the draws", "start", narrow ? "" : "small faint") : "") +
          rows.join("") + line(left, TOP, left, foot) + below(at, left, right, foot, ticks) + key.join(""),
      };
    },

    say(data, state, v) {
      const { last } = v;
      const n = state.draws;
      const top = v.p.indexOf(Math.max(...v.p));
      const name = (i) => named(data.tokens[i]);
      const logs = chancesOf(data, state);
      const [p, q] = logs.map((log) => probability(log[top]));
      const fate = (l) =>
        `In the last draw the draft's ${name(l.proposed)} was ` +
        (l.accepted ? "accepted." : `rejected, and ${name(l.emitted)} drawn from the residual.`);
      const accepted = sum(v.accepted);
      const times = v.emitted[top];
      const drawn = () =>
        `Of ${count(n)} ${n === 1 ? "draw" : "draws"}, ${count(accepted)} ${accepted === 1 ? "was" : "were"} accepted; ` +
        `${name(top)} came out ${count(times)} ${times === 1 ? "time" : "times"}, a share of ${digits(times / n)} ` +
        `where p is ${p}. ${fate(last)}`;
      return (
        `A token of the draft is accepted with probability ${acceptance(logs)}, ` +
        "one minus the total variation distance of p and q. " +
        (n ? drawn() : `The target's most probable token is ${name(top)}: p is ${p} and q ${q}.`)
      );
    },
  };
})();
