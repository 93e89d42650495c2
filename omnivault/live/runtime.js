// The mechanism that all live figures share. A figure is an object of pure functions, registered
// under its name:
//
//   controls(data)                    the controls, a list (see `field` below)
//   compute(data, state)              every number the figure shows, an object
//   draw(data, state, values, width)  { height, svg }, the picture as text, `width` pixels wide
//   say(data, state, values)          what it shows, in a few sentences
//   drag(data, state, x, y, width)    optional: what the state becomes where the reader points
//
// `state` holds one value for each control. Since nothing but these functions makes the figure, a
// page and a build without a browser draw the same picture from the same state.
(() => {
  "use strict";
  const ours = (globalThis.omnivaultLive ??= { figures: {} });

  // --- numbers

  // n values from low to high at equal steps, or at equal ratios; free of rounding dust, so that
  // the number that is shown is the number that is used.
  const steps = (low, high, n) =>
    Array.from({ length: n }, (_, i) => +(low + ((high - low) * i) / (n - 1)).toFixed(10));
  const ratios = (low, high, n) =>
    Array.from({ length: n }, (_, i) => +(low * (high / low) ** (i / (n - 1))).toPrecision(3));

  const sum = (x) => x.reduce((a, b) => a + b, 0);
  const softmax = (z, T = 1) => {
    const top = Math.max(...z);
    const e = z.map((zi) => Math.exp((zi - top) / T));
    const total = sum(e);
    return e.map((ei) => ei / total);
  };
  // The largest term is left out of the sum and comes back as the 1 of log(1 + x): beside it, what
  // is small would be lost.
  const others = (z, T) => {
    const first = z.indexOf(Math.max(...z));
    return z.map((zi, i) => (i === first ? 0 : Math.exp((zi - z[first]) / T)));
  };
  const logsumexp = (z, T = 1) => {
    const top = Math.max(...z);
    return top === -Infinity ? top : top + T * Math.log1p(sum(others(z, T)));
  };
  // Of softmax at T, in nats; -Infinity is a class that cannot come.
  const entropy = (z, T = 1) => {
    const top = Math.max(...z);
    const e = others(z, T);
    const rest = sum(e);
    return Math.log1p(rest) + sum(e.map((ei, i) => (ei ? (ei * (top - z[i])) / T : 0))) / (1 + rest);
  };
  // Of softmax of w: log p and log(1 - p) of each class, however near p is to 0 or 1.
  const logProbs = (w) => {
    const all = logsumexp(w);
    return w.map((wi, i) => [wi - all, logsumexp(w.filter((_, j) => j !== i)) - all]);
  };

  // Uniform numbers in (0, 1), the same for the same seed on every machine (mulberry32).
  const random = (seed) => () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
  // How often each of the weights p is drawn in n draws by inverse CDF.
  const draw = (p, n, uniform) => {
    const ends = [];
    let total = 0;
    for (const pi of p) ends.push((total += pi));
    const counts = p.map(() => 0);
    for (let k = 0; k < n; k++) {
      const u = uniform() * total;
      let low = 0;
      let high = p.length - 1;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (ends[middle] > u) high = middle;
        else low = middle + 1;
      }
      counts[low]++;
    }
    return counts;
  };

  // --- text

  const minus = (text) => text.replaceAll("-", "\u2212");
  // For the values of sliders, which have no more decimals than these.
  const fixed = (x, decimals = 2) => minus((Object.is(x, -0) ? 0 : x).toFixed(decimals));

  // Every other number is written by these. 0 and 1 stand for 0 and 1 alone: what would be rounded
  // to one of them gets the digits that tell it apart, and next to 1 its distance, as 1 - 4e-12.
  // `rest` is 1 - x, by default as far as x itself still knows it.
  const exponential = (size, n) => {
    const [mantissa, exponent] = size.toExponential(n - 1).split("e");
    return `${+mantissa}e${+exponent}`;
  };
  const significant = (size, n) =>
    size >= 1e-3 && size < 1e6 ? String(+size.toPrecision(n)) : exponential(size, n);
  const written = (x, round, n, rest) => {
    const size = Math.abs(x);
    if (size === 0 || rest === 0) return minus(String(+(Object.is(x, -0) ? 0 : x).toFixed(0)));
    let text = round(size);
    if (+text === 0) text = significant(size, 2);
    if (+text === 1) {
      const far = Math.abs(rest);
      for (let d = 1; far >= 9.5e-5 && +text === 1; d++) text = size.toFixed(d);
      if (+text === 1) text = `1\u00a0${(rest > 0) === (x > 0) ? "-" : "+"}\u00a0${significant(far, n)}`;
    }
    return minus(x < 0 ? `-${text}` : text);
  };
  const distance = (x) => 1 - Math.abs(x);
  // A few significant digits, without an exponent where people would not write one.
  const digits = (x, n = 3, rest = distance(x)) => written(x, (size) => significant(size, n), n, rest);
  // So many decimals, for columns; whole numbers have none.
  const decimals = (x, d = 2, rest = distance(x)) =>
    written(x, (size) => (Number.isInteger(size) ? String(size) : size.toFixed(d)), 1, rest);
  // e^log, also where no number is so small.
  const power = (log, n = 3) => {
    if (log > -700) return digits(Math.exp(log), n);
    const exponent = Math.floor(log / Math.LN10);
    const [mantissa, carry] = exponential(Math.exp(log - exponent * Math.LN10), n).split("e");
    return minus(`${mantissa}e${exponent + +carry}`);
  };
  // A probability from log p and log(1 - p): significant digits, or `d` decimals.
  const probability = ([log, other], d) => {
    if (log === -Infinity) return "0";
    if (other === -Infinity) return "1";
    if (log < -700) return power(log, d ? 2 : 3);
    if (other < -700) return `1\u00a0\u2212\u00a0${power(other, d ? 1 : 3)}`;
    const [p, rest] = [Math.exp(log), Math.exp(other)];
    return d ? decimals(p, d, rest) : digits(p, 3, rest);
  };
  const count = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");
  const escape = (text) =>
    String(text)
      .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, "\ufffd") // no XML can hold these
      .replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

  // --- pictures, as SVG text; classes c0 to c5 are the palette, `ink`, `faint` and `ghost` gray

  const pixel = (x) => +x.toFixed(1);
  const scale = (a, b, c, d) => (x) => c + ((x - a) * (d - c)) / (b - a);
  const line = (x1, y1, x2, y2, kind = "axis") =>
    `<line class="${kind}" x1="${pixel(x1)}" y1="${pixel(y1)}" x2="${pixel(x2)}" y2="${pixel(y2)}"/>`;
  const rect = (x, y, width, height, kind) =>
    `<rect class="${kind}" x="${pixel(x)}" y="${pixel(y)}" width="${pixel(Math.max(width, 0))}" height="${pixel(Math.max(height, 0))}"/>`;
  const circle = (x, y, r, kind) =>
    `<circle class="${kind}" cx="${pixel(x)}" cy="${pixel(y)}" r="${r}"/>`;
  const path = (points, kind) =>
    `<path class="line ${kind}" d="${points.map(([x, y], i) => `${i ? "L" : "M"}${pixel(x)} ${pixel(y)}`).join("")}"/>`;
  const area = (points, kind) =>
    `<path class="${kind}" d="${points.map(([x, y], i) => `${i ? "L" : "M"}${pixel(x)} ${pixel(y)}`).join("")}Z"/>`;
  // `anchor` is start, middle or end; `kind` adds classes: bold, small, c0 ... c5
  const text = (x, y, words, anchor = "start", kind = "") =>
    `<text class="${kind}" x="${pixel(x)}" y="${pixel(y)}" text-anchor="${anchor}">${escape(words)}</text>`;
  // An axis below, or left of, a plot. `at` is a scale, `ticks` a list of [value, label].
  const below = (at, from, to, y, ticks, label = "") =>
    line(from, y, to, y) +
    ticks.map(([v, t]) => line(at(v), y, at(v), y + 4) + text(at(v), y + 17, t, "middle", "small")).join("") +
    (label ? text((from + to) / 2, y + 35, label, "middle") : "");
  const beside = (at, from, to, x, ticks, label = "") =>
    line(x, from, x, to) +
    ticks.map(([v, t]) => line(x - 4, at(v), x, at(v)) + text(x - 7, at(v) + 4, t, "end", "small")).join("") +
    (label ? text(x - 4, Math.min(from, to) - 10, label, "start") : "");

  // --- controls
  //
  //   { type: "range", name, label, values, value, show }   steps through `values`; show(v) is text
  //   { type: "choice", name, label, options, value }       one of the strings `options`
  //   { type: "check", name, label, value }                 true or false
  //   { type: "button", label, press }                      press(state) gives what changes
  //   { type: "order", name, label, options, value }        an order of other controls, by name:
  //                                                         their fields become cards of a list

  // Nothing else is state, except what buttons change: a button may name a counter of its own,
  // { type: "button", name: "draws", value: 0, label, press }.

  const nearest = (values, v) =>
    values.reduce((best, value, i) => (Math.abs(value - v) < Math.abs(values[best] - v) ? i : best), 0);
  const start = (figure, data) =>
    Object.fromEntries(figure.controls(data).filter((c) => c.name).map((c) => [c.name, c.value]));
  const shown = (control, v) => (control.show ?? ((x) => digits(x)))(v);

  const field = (control, state, id) => {
    const { type, name, label } = control;
    const value = state[name];
    if (type === "range") {
      const i = nearest(control.values, value);
      return (
        `<label for="${id}-${name}">${escape(label)}</label>` +
        // JupyterLab would take the arrow keys away from a slider without this attribute.
        `<input id="${id}-${name}" name="${name}" type="range" min="0" max="${control.values.length - 1}" ` +
        `value="${i}" aria-valuetext="${escape(shown(control, value))}" data-lm-suppress-shortcuts="true">` +
        // Not announced: the slider says its value itself.
        `<output for="${id}-${name}" aria-live="off">${escape(shown(control, value))}</output>`
      );
    }
    if (type === "choice") {
      const options = control.options
        .map((o) => `<option${o === value ? " selected" : ""}>${escape(o)}</option>`)
        .join("");
      return (
        `<label for="${id}-${name}">${escape(label)}</label>` +
        `<select id="${id}-${name}" name="${name}" data-lm-suppress-shortcuts="true">${options}</select>`
      );
    }
    if (type === "check") {
      return (
        `<label class="check"><input name="${name}" type="checkbox"${value ? " checked" : ""} ` +
        `data-lm-suppress-shortcuts="true"> ${escape(label)}</label>`
      );
    }
    return `<button type="button" data-lm-suppress-shortcuts="true">${escape(label)}</button>`;
  };
  const stuck = (place, step, cards) => !(place + step in cards);
  const list = ({ name, label }, controls, state, id) => {
    const cards = state[name].map((card, place) => {
      const control = controls.find((c) => c.name === card);
      const move = (step, arrow, where) =>
        `<button type="button" value="${step}" aria-label="${escape(`${control.label} ${where}`)}" ` +
        `aria-disabled="${stuck(place, step, state[name])}" data-lm-suppress-shortcuts="true">${arrow}</button>`;
      const moves = move(-1, "\u2191", "earlier") + move(1, "\u2193", "later");
      return `<li data-card="${card}">${field(control, state, id)}${moves}</li>`;
    });
    return `<ol data-order="${name}" aria-label="${escape(label)}">${cards.join("")}</ol>`;
  };
  const form = (figure, data, state, id) => {
    const controls = figure.controls(data);
    const cards = controls.flatMap((c) => (c.type === "order" ? c.options : []));
    const pick = (types, html) =>
      controls.filter((c) => types.includes(c.type) && !cards.includes(c.name)).map(html);
    const rows = pick(["range", "choice", "order"], (c) =>
      c.type === "order" ? list(c, controls, state, id) : `<div>${field(c, state, id)}</div>`);
    const others = pick(["check", "button"], (c) => field(c, state, id));
    const reset = '<button type="button" data-lm-suppress-shortcuts="true">reset</button>';
    return `<form>${rows.join("")}<div class="buttons">${others.join("")}${reset}</div></form>`;
  };

  const picture = (figure, data, state, values, width) => {
    const { height, svg } = figure.draw(data, state, values, width);
    return (
      // Hidden from screen readers, which have the sentences below.
      `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" ` +
      `viewBox="0 0 ${width} ${height}" aria-hidden="true" focusable="false">${svg}</svg>`
    );
  };

  // --- in a page

  const NARROW = 280;
  const WIDE = 680;

  // Make `old` like `now`, touching only what differs: text that stays is not laid out again, and
  // of a step's time nearly all goes into the layout of text.
  const patch = (old, now) => {
    for (const { name, value } of now.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) if (!now.hasAttribute(name)) old.removeAttribute(name);
    const before = [...old.childNodes];
    const after = [...now.childNodes];
    const alike = before.length === after.length && before.every((x, i) => x.nodeName === after[i].nodeName);
    if (!alike) old.replaceChildren(...after);
    else {
      before.forEach((x, i) => {
        if (x.nodeType !== Node.TEXT_NODE) patch(x, after[i]);
        else if (x.data !== after[i].data) x.data = after[i].data;
      });
    }
  };

  const live = (root) => {
    const figure = ours.figures[root.dataset.figure];
    const { data, state: first } = JSON.parse(root.querySelector("script").textContent);
    const controls = figure.controls(data);
    const frame = root.querySelector(".picture");
    const says = root.querySelector(".says");
    const draft = document.createElement("template");
    let pause;
    let state = { ...start(figure, data), ...first };

    // One figure may stand in two places; its labels have to lead to their own sliders.
    root.id += `-${(ours.shown = (ours.shown ?? 0) + 1)}`;
    root.querySelector("form").outerHTML = form(figure, data, state, root.id);
    const inputs = root.querySelector("form");
    // Asked for only when it may have changed: asking makes the browser lay out the page.
    const measure = () => {
      const room = Math.floor(frame.clientWidth) || WIDE; // 0 where it is not shown yet
      return Math.max(NARROW, Math.min(WIDE, room));
    };
    let width = measure();
    const show = () => {
      const values = figure.compute(data, state);
      draft.innerHTML = picture(figure, data, state, values, width);
      const now = draft.content.firstChild;
      if (frame.childElementCount === 1) patch(frame.firstChild, now);
      else frame.replaceChildren(now);
      // With a height of its own the picture is laid out alone, without the page around it.
      const height = `${frame.firstChild.getAttribute("height")}px`;
      if (frame.style.height !== height) frame.style.height = height;
      // Said when the hand pauses: a screen reader would not get to the end of a sentence before.
      clearTimeout(pause);
      pause = setTimeout(() => {
        says.textContent = figure.say(data, state, values);
      }, 150);
      root.values = values; // for tests, and for the curious
      root.state = state;
    };
    const arrange = (name) => {
      const cards = state[name];
      const items = inputs.querySelector(`[data-order=${name}]`);
      items.append(...cards.map((card) => items.querySelector(`[data-card=${card}]`)));
      for (const [place, item] of [...items.children].entries()) {
        for (const b of item.querySelectorAll("button")) b.ariaDisabled = stuck(place, +b.value, cards);
      }
    };
    const set = (changes) => {
      state = { ...state, ...changes };
      for (const control of controls) {
        if (control.type === "order" && control.name in changes) arrange(control.name);
        const input = control.name && inputs.elements[control.name];
        if (!input) continue;
        if (!(control.name in changes)) continue;
        const value = state[control.name];
        if (control.type === "range") {
          input.value = nearest(control.values, value);
          input.setAttribute("aria-valuetext", shown(control, value));
          input.nextElementSibling.textContent = shown(control, value);
        } else if (control.type === "check") input.checked = value;
        else input.value = value;
      }
      show();
    };

    inputs.addEventListener("submit", (event) => event.preventDefault());
    inputs.addEventListener("input", (event) => {
      const control = controls.find((c) => c.name === event.target.name);
      const { value, checked } = event.target;
      const read = { range: () => control.values[+value], check: () => checked, choice: () => value };
      set({ [control.name]: read[control.type]() });
    });
    const actions = [
      ...controls.filter((c) => c.type === "button").map((c) => () => set(c.press(state))),
      () => set({ ...start(figure, data), ...first }),
    ];
    inputs.querySelectorAll(".buttons button").forEach((b, i) => b.addEventListener("click", actions[i]));
    for (const items of inputs.querySelectorAll("[data-order]")) {
      items.addEventListener("click", ({ target }) => {
        if (target.localName !== "button") return;
        const name = items.dataset.order;
        const cards = [...state[name]];
        const place = cards.indexOf(target.parentElement.dataset.card);
        if (stuck(place, +target.value, cards)) return;
        cards.splice(place + +target.value, 0, ...cards.splice(place, 1));
        set({ [name]: cards });
        target.focus(); // which a card that moves in the page loses
      });
    }

    if (figure.drag) {
      const drag = (event) => {
        const box = frame.querySelector("svg").getBoundingClientRect();
        const size = width / box.width; // a very narrow window shows it smaller
        const [x, y] = [(event.clientX - box.left) * size, (event.clientY - box.top) * size];
        const changes = figure.drag(data, state, x, y, width);
        if (changes) set(changes);
        return Boolean(changes);
      };
      frame.classList.add("draggable");
      frame.addEventListener("pointerdown", (event) => {
        if (event.button === 0 && drag(event)) frame.setPointerCapture(event.pointerId);
      });
      frame.addEventListener("pointermove", (event) => {
        if (frame.hasPointerCapture(event.pointerId)) drag(event);
      });
    }
    root.classList.add("live");
    show();
    new ResizeObserver(() => {
      const before = width;
      width = measure();
      if (width !== before) show();
    }).observe(frame);
  };

  ours.start = () => {
    for (const root of document.querySelectorAll(".live-figure:not(.live)")) {
      if (ours.figures[root.dataset.figure]) live(root);
    }
  };

  // --- outside a page: what figure.py asks

  ours.answer = ({ name, data, state, states, id }) => {
    const figure = ours.figures[name];
    const first = { ...start(figure, data), ...state };
    const values = figure.compute(data, first);
    return {
      controls: figure.controls(data),
      start: first,
      values: (states ?? []).map((s) => figure.compute(data, { ...first, ...s })),
      form: form(figure, data, first, id),
      wide: picture(figure, data, first, values, WIDE),
      narrow: picture(figure, data, first, values, 342),
      says: figure.say(data, first, values),
    };
  };

  Object.assign(ours, {
    steps, ratios, sum, softmax, logsumexp, logProbs, entropy, random, draw,
    fixed, digits, decimals, power, probability, count, escape,
    scale, line, rect, circle, path, area, text, below, beside,
  });
})();
