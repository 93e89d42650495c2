// Beam search in a small tree of real continuations: what it keeps, drops, finds and misses.
//
// A node of the data is [parent, token, log-probability given its parent, whether it is the end
// token]. Node 0 is the prompt; every level follows the one before, siblings in falling order.
(() => {
  const { steps, fixed, digits, decimals, count, circle, rect, line, path, area, text } = omnivaultLive;
  const BEAMS = [1, 2, 3, 4];
  const ROW = 18; // at most
  const TOP = 24;
  const LINE = 17; // of the list
  const BOLD = 1.1; // so much wider is bold text

  const grow = (data) => {
    if (data.grown) return data.grown;
    const tree = [];
    data.nodes.forEach(([parent, token, step, end], id) => {
      const above = tree[parent] ?? { logProb: 0, depth: -1, tokens: [] };
      const tokens = id ? [...above.tokens, token] : [];
      const [logProb, depth] = [above.logProb + step, above.depth + 1];
      tree.push({ id, parent, token, p: Math.exp(step), rest: -Math.expm1(step), end, logProb, depth, tokens, children: [] });
      if (id) above.children.push(tree[id]);
    });
    return (data.grown = tree);
  };
  const over = (data, state, node) => node.depth === data.depth || Boolean(state.ends && node.end);
  const path_to = (tree, id) => (id ? [...path_to(tree, tree[id].parent), id] : []);

  // Widths of text by estimate, with room to spare: no script can measure where nothing is shown.
  const WIDTHS = [[/[iljtfr.,:;'|!()[\] ]/, 0.37], [/[mwMW@%\u2026\u21b5]/, 0.95], [/[A-Z]/, 0.72]];
  const long = (words) => 12 * [...words].reduce((s, c) => s + (WIDTHS.find(([of]) => of.test(c))?.[1] ?? 0.59), 0);
  const cut = (words, room) => {
    let n = words.length;
    while (n > 1 && long(words.slice(0, n) + "\u2026") > room) n--;
    return long(words) <= room ? words : words.slice(0, n) + "\u2026";
  };
  // Without the space that most tokens begin with; a full stop alone would be lost in a picture.
  const shown = (token) => {
    const words = token.replace(/\n/g, "\u21b5").replace(/^ (?=.)/, "");
    return /[\p{L}\p{N}]/u.test(words) ? words : `\u201c${words}\u201d`;
  };
  const quoted = (tokens) => `\u201c${tokens.join("").replace(/\n/g, "\u21b5").trim()}\u201d`;
  // In little room (`tight`) tokens that are dropped go without their probability.
  const label = (node, room, tight, strong) => {
    const p = digits(node.p, tight ? 1 : 2, node.rest);
    const more = !tight ? `\u2002${p}` : strong ? `\u2002${p.replace(/^0(?=\.)/, "")}` : "";
    return cut(shown(node.token), room - long(more)) + more;
  };
  const missed = (v) => v.lost > 0;

  omnivaultLive.figures.search_tree = {
    controls: (data) => [
      { type: "range", name: "beams", label: "beams B", values: BEAMS, value: 2, show: count },
      ...(data.end === null
        ? [] // all texts have the same length
        : [
            { type: "range", name: "exponent", label: "length exponent \u03b1", values: steps(-1, 2, 31), value: 0, show: (v) => fixed(v, 1) },
            { type: "check", name: "ends", label: `a text ends with \u201c${data.end}\u201d`, value: true },
          ]),
    ],

    // The rules are those of omnivault.decoding.beam_search.
    compute(data, state) {
      const tree = grow(data);
      const { beams, exponent = 0 } = state;
      const score = (logProb, length) => logProb / length ** exponent;
      const text_of = ({ id, tokens, depth, logProb }) => ({
        node: id, tokens, length: depth, log_prob: logProb, score: score(logProb, depth),
      });
      const kept = [];
      const ended = [];
      let found = [];
      let expanded = 0;
      let running = [tree[0]];
      while (running.length) {
        expanded += running.length;
        const length = running[0].depth + 1;
        // Twice as many: if all of the best end here, as many are left to go on.
        const best = running.flatMap((n) => n.children).sort((a, b) => b.logProb - a.logProb).slice(0, 2 * beams);
        const aside = best.slice(0, beams).filter((n) => over(data, state, n));
        found = [...found, ...aside.map(text_of)].sort((a, b) => b.score - a.score).slice(0, beams);
        running = best.filter((n) => !over(data, state, n)).slice(0, beams);
        // More tokens only lower the log-probability: can the best beginning still overtake?
        const kindest = exponent > 0 ? data.depth : length + 1;
        const full = running.length > 0 && found.length === beams;
        if (full && !(score(running[0].logProb, kindest) > found[beams - 1].score)) running = [];
        kept.push(running.map((n) => n.id));
        ended.push(aside.map((n) => n.id));
      }
      const texts = [];
      const walk = (n) => (over(data, state, n) ? texts.push(text_of(n)) : n.children.forEach(walk));
      walk(tree[0]);
      const best = texts.reduce((a, b) => (b.score > a.score ? b : a));
      let greedy = tree[0];
      while (!over(data, state, greedy)) greedy = greedy.children[0];
      // The step that dropped the best text, 0 if it was found.
      const gone = (id, i) => !kept[i]?.includes(id) && !ended[i]?.includes(id);
      const lost = best.score > found[0].score ? path_to(tree, best.node).findIndex(gone) + 1 : 0;
      return { kept, ended, expanded, hypotheses: found, best, greedy: text_of(greedy), texts: texts.length, lost };
    },

    draw(data, state, v, width) {
      const tree = grow(data);
      const narrow = width < 480;
      const winner = new Set(path_to(tree, v.hypotheses[0].node));
      const best = new Set(missed(v) ? path_to(tree, v.best.node) : []);
      const kept = new Set([...v.kept.flat(), ...v.ended.flat()]);
      const grown = new Set([0, ...v.kept.flat()]);
      const levels = Array.from({ length: data.depth }, (_, d) => tree.filter((n) => n.depth === d + 1));

      // Columns as wide as their longest label, or cut to what there is room for.
      const tight = narrow && data.depth > 3;
      const gutter = narrow ? (tight ? 11 : 16) : 26;
      const room = width - 12 - data.depth * (gutter + 9);
      const natural = levels.map((level) => Math.max(...level.map((n) => long(label(n, Infinity, tight, true)) * BOLD)));
      let most = 150;
      const total = () => natural.reduce((s, w) => s + Math.min(w, most), 0);
      while (total() > room && most > 30) most -= 1;
      const spare = Math.max(0, Math.min(60, (room - total()) / data.depth));
      const rows = data.branch * Math.min(BEAMS.at(-1), data.branch ** (data.depth - 1)) + 1;
      const high = Math.min(250, rows * ROW);
      const middle = TOP + high / 2;
      const at = { 0: [8, middle, 12] }; // where a node is: x, y, where its label ends
      let x = 8;
      let drawn = "";
      let strong = "";
      levels.forEach((level, d) => {
        x += 9 + gutter + spare + (d ? Math.min(natural[d - 1], most) : -9);
        const column = level.filter((n) => grown.has(n.parent) || best.has(n.id));
        const pitch = Math.min(30, high / column.length);
        column.forEach((n, i) => {
          const y = middle + (i - (column.length - 1) / 2) * pitch;
          const won = winner.has(n.id);
          const lost = best.has(n.id) && !kept.has(n.id);
          const fits = Math.min(natural[d], most) / BOLD + 0.01; // the longest fits itself, rounding or not
          const words = label(n, fits, tight, lost || kept.has(n.id));
          const kind = kept.has(n.id) ? "c0" : lost ? "c1" : "faint";
          at[n.id] = [x, y, x + 12 + long(words) * (won ? BOLD : 1)];
          const [x0, y0, from] = at[n.parent];
          const turn = Math.max(from, x - gutter - spare + 2);
          const edge = [[from, y0], [turn, y0], [x, y]];
          const band = [...edge.map(([a, b]) => [a, b - 2]), ...edge.reverse().map(([a, b]) => [a, b + 2])];
          if (won) strong += area(band, "c0");
          else drawn += path(edge, kept.has(n.id) ? "c0" : lost ? "c1 dot" : "faint thin dash");
          const set_aside = v.ended[d]?.includes(n.id);
          strong += set_aside ? rect(x - 4, y - 4, 8, 8, kind) : circle(x, y, kind === "faint" ? 2.5 : 4, kind);
          strong += text(x + 8, y + 4, words, "start", `small${won ? " bold" : kind === "c0" ? "" : ` ${kind}`}`);
        });
      });

      // Lists of texts: [title, texts, sample of their lines].
      const scored = data.end !== null;
      const list = (left, right, top, title, found, sample) => {
        const [logProb, score] = scored ? [right - 54, right] : [right, 0];
        const entry = (h, i) => {
          const y = top + LINE * (i + 1);
          const words = cut(quoted(h.tokens), logProb - 42 - (left + 28));
          const won = sample === "won" && i === 0;
          const kind = won ? "small bold" : "small";
          const thin = `line ${sample === "won" ? "c0" : sample}`;
          return (
            (won ? rect(left, y - 6, 20, 4, "c0") : line(left, y - 4, left + 20, y - 4, thin)) +
            text(left + 27, y, words, "start", kind) +
            text(logProb, y, decimals(h.log_prob, 2), "end", kind) +
            (scored ? text(score, y, decimals(h.score, 2), "end", kind) : "")
          );
        };
        const heads = text(logProb, top, "log p", "end", "small faint") + (scored ? text(score, top, "score", "end", "small faint") : "");
        return text(left, top, title, "start", "small faint") + heads + found.map(entry).join("");
      };
      const top = TOP + high + 20;
      const half = narrow ? width - 4 : width / 2 - 14;
      const [left, next] = narrow ? [4, top + 5 * LINE + 4] : [width / 2 + 14, top];
      const over_all = `best of all ${count(v.texts)}${missed(v) ? ", missed" : ", found"}`;
      const prompt = data.prompt ? `after ${quoted([data.prompt])}` : "";
      let start = 0;
      while (long(prompt) - long(prompt.slice(7, 7 + start)) > width - 30) start++;
      return {
        height: next + (narrow ? 4 : 5) * LINE,
        svg:
          text(4, 13, start ? `after \u201c\u2026${prompt.slice(7 + start)}` : prompt) +
          drawn + circle(8, middle, 4, "ink") + strong +
          list(4, half, top, "texts found", v.hypotheses, "won") +
          list(left, width - 4, next, over_all, [v.best], missed(v) ? "c1 dot" : "c0") +
          list(left, width - 4, next + 2 * LINE + 4, "greedy search", [v.greedy], "faint thin"),
      };
    },

    say(data, state, v) {
      const size = (h) =>
        `log-probability ${decimals(h.log_prob, 2)}` + (state.exponent ? ` and score ${decimals(h.score, 2)}` : "");
      const found = v.hypotheses[0];
      const same = v.greedy.node === found.node;
      const b = state.beams;
      return (
        `Beam search with ${b} ${b === 1 ? "beam" : "beams"} finds ${quoted(found.tokens)}, ${size(found)}, ` +
        `${same ? "as greedy search does" : `greedy search ${quoted(v.greedy.tokens)}, ${size(v.greedy)}`}. ` +
        (missed(v)
          ? `The best of all ${count(v.texts)} texts in the tree is ${quoted(v.best.tokens)}, ${size(v.best)}; ${v.lost === v.best.tokens.length ? "it" : "its beginning"} was dropped at step ${v.lost}.`
          : `None of the ${count(v.texts)} texts in the tree has a better score.`)
      );
    },
  };
})();
