import {
  closest,
  count,
  counted,
  h,
  headName,
  link,
  messageInstead,
  onEnter,
  percent,
  scaleEnds,
  signed,
} from "../kit/dom.js";
import { colourBar, diverging, divergingGradient, inkOn, lineBelow, rgb, signName } from "../kit/figure.js";
import { gridKeys, headGrid, headKey, headOf, roving, segmented } from "../kit/grid.js";
import { pictureUrl } from "../kit/gallery.js";
import { largest } from "../kit/maps.js";
import { followVisibility, mount, unpack } from "../kit/protocol.js";

/**
 * @typedef {ReturnType<typeof removedSet>} Removed
 * @typedef {ReturnType<typeof bench>} Bench
 */

const SHOWN_CLASSES = 8;
const SHOWN_GROUPS = 6;
const SETTLE = 140;

/**
 * The removed heads: shown here at once, and sent to the kernel after the last click.
 * @param {AblateApi} api
 * @param {() => void} paint
 */
const removedSet = (api, paint) => {
  const self = {
    heads: new Set(),
    mlps: new Set(),
    token: false,
    rest: false,
    how: "mean",
    waits: false,
    changed: () => {},
    /** @param {string} _at */
    toggle: (_at) => {},
    /** @param {string[]} _keys */
    toggleAll: (_keys) => {},
    clear: () => {},
    /** @param {AblateView} _view */
    adopt: (_view) => {},
    told: () => true,
  };
  let timer = 0;
  /** @type {number | null} */
  let adopted = null;
  const toDict = () => ({
    heads: [...self.heads].map(headOf).sort((a, b) => a[0] - b[0] || a[1] - b[1]),
    layers: self.rest ? api.view.rest.layers : [],
    mlps: self.rest ? api.view.rest.mlps : [],
    tokens: /** @type {number[]} */ ([]),
    how: self.how,
  });
  self.changed = () => {
    paint();
    clearTimeout(timer);
    if (api.standalone) return;
    self.waits = true;
    timer = setTimeout(() => {
      self.waits = false;
      api.ask(
        { ablation: toDict() },
        { options: { mlps: [...self.mlps].sort((a, b) => a - b), class_token: self.token } },
      );
    }, SETTLE);
  };
  self.toggle = (at) => {
    if (!self.heads.delete(at)) self.heads.add(at);
    self.changed();
  };
  self.toggleAll = (keys) => {
    const out = keys.every((/** @type {string} */ at) => self.heads.has(at));
    keys.forEach((/** @type {string} */ at) => (out ? self.heads.delete(at) : self.heads.add(at)));
    self.changed();
  };
  self.clear = () => {
    self.heads.clear();
    self.mlps.clear();
    self.rest = self.token = false;
    self.changed();
  };
  self.adopt = (view) => {
    if (self.waits || adopted === view.seq) return;
    adopted = view.seq;
    const { heads, layers, mlps, how } = view.selection.ablation;
    self.heads = new Set(heads.map((/** @type {[number, number]} */ [l, hd]) => headKey(l, hd)));
    for (const layer of layers.filter((/** @type {number} */ l) => view.kept.includes(l)))
      for (let head = 0; head < view.n_heads; head++) self.heads.add(headKey(layer, head));
    self.rest = mlps.length > 0 && mlps.length === view.rest.mlps.length;
    self.how = how;
    self.mlps = new Set(view.apart.mlps);
    self.token = view.apart.token;
  };
  self.told = () => {
    const {
      apart,
      selection: { ablation },
    } = api.view;
    if (
      apart.token !== self.token ||
      apart.mlps.length !== self.mlps.size ||
      apart.mlps.some((mlp) => !self.mlps.has(mlp))
    )
      return false;
    const told = new Set(ablation.heads.map(([l, hd]) => headKey(l, hd)));
    return (
      ablation.layers.length > 0 ||
      (told.size === self.heads.size &&
        [...told].every((at) => self.heads.has(at)) &&
        ablation.how === self.how &&
        ablation.mlps.length > 0 === self.rest)
    );
  };
  api.cleanups.push(() => clearTimeout(timer));
  return self;
};

/**
 * The image's class scores after any removal: sums of what the kernel sent once.
 * @param {AblateApi} api
 * @param {Removed} removed
 */
const bench = (api, removed) => {
  /** @type {any} */
  let D = null;
  /** @type {number | null} */
  let key = null;
  /** @param {Float64Array} values */
  const ranked = (values) => [...values.keys()].sort((a, b) => values[b] - values[a]);
  /**
   * @param {boolean[]} out
   * @param {Float32Array} logits
   * @param {Float32Array} norm
   */
  const after = (out, logits, norm) => {
    const { names, scale, bias } = D;
    const side = removed.how;
    const terms = D[`terms_${side}`];
    const gram = D[`gram_${side}`];
    const cross = D[`cross_${side}`];
    const n = cross.length;
    const C = names.length;
    const found = Float64Array.from(logits);
    const set = [];
    for (let j = 0; j < n; j++) if (out[j]) set.push(j);
    let squared = norm[0];
    for (const j of set) {
      for (let c = 0; c < C; c++) found[c] -= terms[j * C + c];
      squared -= 2 * cross[j];
      for (const k of set) squared += gram[j * n + k];
    }
    if (squared <= 1e-9 * norm[0]) return null;
    const cosines = found.map((value) => value / Math.sqrt(squared));
    if (bias !== null)
      return { cosines, probabilities: cosines.map((value) => 1 / (1 + Math.exp(-(scale * value + bias)))) };
    const top = cosines.reduce((a, b) => Math.max(a, b), -Infinity);
    const weights = cosines.map((value) => Math.exp(scale * (value - top)));
    const total = weights.reduce((a, b) => a + b, 0);
    return { cosines, probabilities: weights.map((w) => w / total) };
  };
  const now = () => {
    const singles = Array.from(
      { length: D.apart ? api.view.n_mlps : 0 },
      (_, mlp) => !removed.rest && removed.mlps.has(mlp),
    );
    return after(
      [
        ...D.heads.map((/** @type {[number, number]} */ [l, hd]) => removed.heads.has(headKey(l, hd))),
        removed.rest,
        ...singles,
      ],
      D[`logits_${removed.how}`],
      D[`squared_norm_${removed.how}`],
    );
  };
  // Whether something removed is not on screen yet because the kernel traces images for it.
  const lacks = () => removed.token !== D.token || (removed.mlps.size > 0 && !removed.rest && !D.apart);
  // What a term adds to the lead of the first class over the second, in units of the cosine.
  /** @param {number} j */
  const lead = (j) => {
    const terms = D[`terms_${removed.how}`];
    const C = D.names.length;
    return (terms[j * C + D.first] - terms[j * C + D.second]) / Math.sqrt(D.squared_norm[0]);
  };
  /** @param {AblateView} view */
  const load = (view) => {
    if (!view.desk) {
      D = key = null;
      return false;
    }
    if (key === view.desk.key) return false;
    key = view.desk.key;
    D = { ...view.desk, ...unpack(view.desk.arrays, api.model.get("desk")) };
    D.before = after([], D.logits, D.squared_norm);
    const order = ranked(D.before.cosines);
    [D.first, D.second] = [order[0], order[1] ?? order[0]];
    D.places = new Map(
      D.heads.map((/** @type {[number, number]} */ [l, hd], /** @type {number} */ i) => [headKey(l, hd), i]),
    );
    return true;
  };
  return {
    load,
    now,
    lacks,
    lead,
    ranked,
    get data() {
      return D;
    },
  };
};

/**
 * The positions of the terms, and a description of each.
 * @param {AblateApi} api
 * @param {Removed} removed
 * @param {Bench} desk
 */
const termNames = (api, removed, desk) => {
  /**
   * @param {number} mlp
   * @param {number} L
   */
  const place = (mlp, L) => (mlp === 0 ? L : mlp > L ? mlp : L - mlp); // its row, from above
  /**
   * @param {number} mlp
   * @param {number} L
   */
  const mlpName = (mlp, L) =>
    mlp === 0 ? "the input term" : mlp > L ? "the MLP of the pool" : `the MLP of layer ${mlp - 1}`;
  /** @param {number} mlp */
  const mlpWords = (mlp) => {
    const D = desk.data;
    const gone = removed.mlps.has(mlp) || removed.rest;
    return `${mlpName(mlp, api.view.n_layers)}${D.apart ? ` · ${signed(desk.lead(D.heads.length + 1 + mlp), 4)}` : ""}${gone ? " · removed" : ""}`;
  };
  /** @param {string} at */
  const words = (at) =>
    `${headName(...headOf(at))} · ${signed(desk.lead(desk.data.places.get(at)), 4)}${removed.heads.has(at) ? " · removed" : ""}`;
  return { place, mlpWords, words };
};

/**
 * The button that removes everything but the late heads.
 * @param {Removed} removed
 * @param {number} L
 * @param {number} H
 * @param {number} M
 * @param {AblationShown} others
 */
const restButton = (removed, L, H, M, others) =>
  h(
    "button",
    {
      type: "button",
      class: L < 6 ? "cell rest low" : "cell rest",
      role: "gridcell",
      tabindex: -1,
      "data-rest": "",
      style: { gridRow: `2 / span ${M}`, gridColumn: `${H + 4}` },
      onclick: () => {
        removed.rest = !removed.rest;
        removed.changed();
      },
    },
    h(
      "span",
      {},
      others.layers.length
        ? "MLPs and early layers"
        : others.mlps.length > L + 1
          ? "all MLPs, the pool’s too"
          : "all MLPs",
    ),
  );

/**
 * The grid of heads; a click removes one, a row's name a whole layer, the bar at the right the MLPs.
 * @param {AblateApi} api
 * @param {Removed} removed
 * @param {Bench} desk
 */
const removalGrid = (api, removed, desk) => {
  const grid = h("div", {
    class: "grid",
    role: "grid",
    "aria-multiselectable": "true",
    "aria-label": "Heads, layer by head; selected ones are removed",
  });
  const legend = h("div", { class: "legend" });
  /** @type {Map<string, any>} */
  let cells = new Map();
  /** @type {any} */
  let rest = null;
  /** @type {any[]} */
  const singles = []; // by MLP term: the input, every layer's, the pool's
  let shape = "";
  /** @type {any} */
  let focus = null;
  const { place, mlpWords, words } = termNames(api, removed, desk);
  const about = lineBelow(
    grid,
    (cell) =>
      !desk.data || cell.disabled
        ? null
        : cell === rest
          ? `${rest.textContent} · ${signed(desk.lead(desk.data.heads.length), 4)}`
          : cell.dataset.mlp
            ? mlpWords(Number(cell.dataset.mlp))
            : words(headKey(cell.dataset.layer, cell.dataset.head)),
    "Point at a head to read what it adds; click it to remove it.",
  );
  /**
   * @param {number} mlp
   * @param {number} L
   * @param {number} H
   */
  const single = (mlp, L, H) =>
    h("button", {
      type: "button",
      class: "cell mlp",
      role: "gridcell",
      tabindex: -1,
      "data-mlp": mlp,
      style: { gridRow: `${2 + place(mlp, L)}`, gridColumn: `${H + 3}` },
      onclick: () => {
        if (!removed.mlps.delete(mlp)) removed.mlps.add(mlp);
        removed.changed();
      },
    });
  /** @param {AblateView} given */
  const make = ({ n_layers: L, n_heads: H, n_mlps: M, kept, rest: others }) => {
    if (shape === `${L},${H},${kept}`) return;
    shape = `${L},${H},${kept}`;
    singles.length = 0;
    rest = restButton(removed, L, H, M, others);
    cells = headGrid(grid, L, H, {
      columns: `30px repeat(${H}, minmax(0, 1fr)) 4px minmax(12px, 1fr) minmax(22px, 1fr)`,
      heading: "MLP",
      disabled: (layer) => !kept.includes(layer),
      end: (layer) => (singles[layer + 1] = single(layer + 1, L, H)),
      rowHeader: (layer) =>
        h(
          "button",
          {
            type: "button",
            class: "axis side",
            role: "gridcell",
            tabindex: -1,
            title: kept.includes(layer)
              ? `Layer ${layer}: remove every head, or restore them`
              : `Layer ${layer} is not kept for this collection`,
            disabled: !kept.includes(layer),
            "data-row": layer,
            onclick: () => removed.toggleAll([...cells.keys()].filter((at) => headOf(at)[0] === layer)),
          },
          `L${layer}`,
        ),
    });
    for (const [at, cell] of cells) {
      if (cell.disabled) cells.delete(at);
      else cell.addEventListener("click", () => removed.toggle(at));
    }
    const below = [0, ...(M > L + 1 ? [L + 1] : [])].map((mlp) =>
      h(
        "div",
        { class: "row", role: "row" },
        h(
          "span",
          {
            class: "axis below",
            style: { gridRow: `${2 + place(mlp, L)}`, gridColumn: `1 / span ${H + 2}` },
          },
          mlp ? "the pool’s MLP" : "input",
        ),
        (singles[mlp] = single(mlp, L, H)),
      ),
    );
    grid.firstChild.append(h("span", { class: "axis", role: "columnheader" }, "all"));
    grid.append(...below, h("div", { class: "row", role: "row" }, rest));
    focus = cells.values().next().value;
    if (focus) focus.tabIndex = 0;
  };
  grid.addEventListener("keydown", (/** @type {On<KeyboardEvent>} */ event) => {
    const node = closest(event, "button");
    const { n_layers: L, n_heads: H, n_mlps: M } = api.view;
    if (!node) return;
    const { layer = node.dataset.row, head, mlp } = node.dataset;
    const from =
      node === rest
        ? [0, H + 2]
        : mlp !== undefined
          ? [place(Number(mlp), L), H + 1]
          : [L - 1 - Number(layer), Number(head ?? -1) + 1];
    const to = gridKeys(event, from[0], from[1], M, H + 3);
    if (!to) return;
    event.preventDefault();
    const row = L - 1 - to[0];
    const low = row < 0 && to[1] <= H; // below the layers there are single terms alone
    const target =
      to[1] === H + 2
        ? rest
        : to[1] === H + 1 || low
          ? singles.find((_, term) => place(term, L) === to[0])
          : to[1] === 0
            ? grid.querySelector(`[data-row="${row}"]`)
            : grid.querySelector(`[data-layer="${row}"][data-head="${to[1] - 1}"]`);
    if (!target || target.disabled) return;
    if (focus) focus.tabIndex = -1;
    focus = target;
    target.tabIndex = 0;
    target.focus();
  });
  const paint = () => {
    const D = desk.data;
    const leads = [...D.heads, ...(D.apart ? [null, ...singles] : [])].map((cell, j) =>
      cell === null ? 0 : desk.lead(j),
    );
    const limit = Math.max(1e-9, largest(leads));
    for (const [at, cell] of cells) {
      cell.style.background = rgb(diverging(leads[D.places.get(at)], limit, api.theme));
      cell.setAttribute("aria-selected", String(removed.heads.has(at)));
      cell.setAttribute("aria-label", words(at));
    }
    singles.forEach((cell, mlp) => {
      cell.disabled = (api.standalone || api.model.live) && !D.apart;
      cell.style.background = D.apart
        ? rgb(diverging(leads[D.heads.length + 1 + mlp], limit, api.theme))
        : "";
      cell.setAttribute("aria-selected", String(removed.mlps.has(mlp) || removed.rest));
      cell.setAttribute("aria-label", mlpWords(mlp));
    });
    const colour = diverging(desk.lead(D.heads.length), limit, api.theme);
    Object.assign(rest.style, { background: rgb(colour), color: inkOn(colour) });
    rest.setAttribute("aria-selected", String(removed.rest));
    legend.replaceChildren(
      ...colourBar(
        D.names[D.second],
        D.names[D.first],
        divergingGradient(api.theme),
        `what each head adds to either class, ${removed.how === "mean" ? "compared with its mean, " : ""}up to ${scaleEnds(limit)[1]}`,
      ),
    );
  };
  return {
    part: h("div", { class: "part heads" }, h("div", { class: "wrap" }, grid), about, legend),
    make,
    paint,
  };
};

/**
 * The image's classes before and now.
 * @param {AblateApi} api
 * @param {Bench} desk
 */
const classBars = (api, desk) => {
  const picture = h("span", { class: "tile picture" });
  const verdict = h("p", { class: "verdict", role: "status" });
  const note = h("p", { class: "note" });
  const address = pictureUrl(api);
  const bars = h("div", { class: "bars", role: "list", "aria-label": "Class probabilities" });
  /** @type {Map<number, any>} */
  let rows = new Map();
  const reset = () => {
    picture.style.backgroundImage = `url(${address(desk.data.thumbnail)})`;
    rows = new Map();
    bars.replaceChildren();
  };
  /** @param {number} c */
  const rowOf = (c) => {
    const D = desk.data;
    const length = h("i");
    const tick = h("b");
    const share = h("span", { class: "num" });
    const change = h("span", { class: "num change" });
    const name = h(
      "button",
      { type: "button", class: "name", title: D.prompts[c], onclick: () => api.ask({ text: D.prompts[c] }) },
      D.names[c],
    );
    if (c === D.label) name.append(h("em", { title: "the image's own class" }, "true"));
    return {
      node: h(
        "div",
        { class: "bar", role: "listitem" },
        name,
        h("span", { class: "track" }, length, tick),
        share,
        change,
      ),
      length,
      tick,
      share,
      change,
    };
  };
  /**
   * @param {Float64Array} p
   * @param {Float64Array} q
   */
  const chosen = (p, q) => {
    if (desk.data.names.length <= SHOWN_CLASSES) return desk.ranked(p);
    return [
      ...new Set([...desk.ranked(p).slice(0, SHOWN_CLASSES - 3), ...desk.ranked(q).slice(0, SHOWN_CLASSES)]),
    ]
      .slice(0, SHOWN_CLASSES)
      .sort((a, b) => p[b] - p[a]);
  };
  /**
   * @param {ReturnType<Bench["now"]>} now
   * @param {Float64Array} p
   * @param {Float64Array} q
   */
  const judge = (now, p, q) => {
    const D = desk.data;
    const first = desk.ranked(p)[0];
    /**
     * @param {number} c
     * @param {number} share
     */
    const strong = (c, share) => [h("strong", {}, D.names[c]), ` (${percent(share)})`];
    if (!now) return ["Nothing remains of the embedding."];
    if (first !== D.first)
      return ["Before: ", ...strong(D.first, q[D.first]), ". Now: ", ...strong(first, p[first]), "."];
    return [
      "Most probable: ",
      ...strong(first, p[first]),
      p[first] === q[first] ? "" : `, before ${percent(q[first])}`,
    ];
  };
  const paint = () => {
    const D = desk.data;
    const now = desk.now();
    const q = D.before.probabilities;
    const p = now?.probabilities ?? q.map(() => 0);
    const wanted = chosen(p, q);
    for (const [c, row] of rows)
      if (!wanted.includes(c)) {
        row.node.remove();
        rows.delete(c);
      }
    wanted.forEach((/** @type {number} */ c, /** @type {number} */ place) => {
      if (!rows.has(c)) rows.set(c, rowOf(c));
      const row = rows.get(c);
      const delta = p[c] - q[c];
      row.node.style.order = place;
      row.node.classList.toggle("first", place === 0);
      row.length.style.width = `${100 * p[c]}%`;
      row.tick.style.left = `${100 * q[c]}%`;
      row.share.textContent = percent(p[c]);
      row.change.textContent = Math.abs(delta) < 5e-4 ? "" : signed(100 * delta, 1);
      row.change.dataset.sign = signName(delta);
      row.node.title = `before ${percent(q[c])}, cosine ${D.before.cosines[c].toFixed(3)}${now ? ` · now ${percent(p[c])}, cosine ${now.cosines[c].toFixed(3)}` : ""}`;
      if (!row.node.isConnected) bars.append(row.node);
    });
    const first = desk.ranked(p)[0];
    verdict.replaceChildren(...judge(now, p, q));
    note.textContent =
      D.n_classes > D.names.length
        ? `${D.link}; the ${D.names.length} of ${count(D.n_classes)} nearest to the image`
        : D.link;
    Object.assign(api.root.dataset, {
      top: D.names[first],
      probability: p[first].toFixed(6),
      before: D.names[D.first],
      painted: Number(api.root.dataset.painted ?? 0) + 1,
    });
  };
  return {
    part: h("div", { class: "part image" }, h("div", { class: "top" }, picture, verdict), bars, note),
    reset,
    paint,
  };
};

/**
 * How much an accuracy changed, with its interval: in points, as the kernel found it.
 * @param {OutcomeRow} given
 */
const changeWords = ({ before, after, change: [low, high], differs }) =>
  `${differs ? `a change of ${signed(100 * (after - before), 1)} points` : "no difference"} (95% interval ${signed(100 * low, 1)} to ${signed(100 * high, 1)})`;

/**
 * One line of the plot: a group's accuracy before, after, and with as many other heads of the same layers
 * removed.
 * @param {OutcomeRow} row
 * @param {string} name
 * @param {boolean} strong
 * @param {boolean} removed
 */
const accuracyLine = (row, name, strong, removed) => {
  /** @param {number} share */
  const at = (share) => ({ left: `${100 * share}%` });
  const delta = row.after - row.before;
  const low = Math.min(...row.random);
  const high = Math.max(...row.random);
  const [from, to] = row.change.map((/** @type {number} */ end) =>
    Math.min(1, Math.max(0, row.before + end)),
  );
  const spread = row.random.length
    ? `; ${row.random.length} random draws ${percent(low)} to ${percent(high)}`
    : "";
  const track = h(
    "span",
    {
      class: "dots",
      role: "cell",
      title: `before ${percent(row.before)}, after ${percent(row.after)}${removed ? `, ${changeWords(row)}` : ""}${spread}`,
    },
    h("u", {
      style: { left: `${100 * Math.min(row.before, row.after)}%`, width: `${100 * Math.abs(delta)}%` },
    }),
    removed ? h("em", { style: { left: `${100 * from}%`, width: `${100 * (to - from)}%` } }) : null,
    ...row.random.map((/** @type {number} */ share) => h("s", { style: at(share) })),
    h("b", { style: at(row.before) }),
    h("i", { style: at(row.after) }),
  );
  return h(
    "div",
    { class: `line${strong ? " strong" : ""}`, role: "row" },
    h(
      "span",
      { class: "group", role: "rowheader", title: `${row.name}, ${counted(row.n_images, "image")}` },
      name,
    ),
    track,
    h("span", { class: "num", role: "cell" }, percent(row.after)),
    h(
      "span",
      {
        class: "num change",
        role: "cell",
        "data-sign": removed && row.differs ? signName(delta) : "",
        "data-differs": removed ? String(row.differs) : null,
      },
      !removed ? "" : row.differs ? signed(100 * delta, 1) : "no difference",
    ),
  );
};

/** The collection's accuracy. */
const collectionPlot = () => {
  const about = h("span", { class: "about" });
  const plot = h("div", { class: "plot", role: "table", "aria-label": "Accuracy over the collection" });
  const sentence = h("p", { class: "note", role: "status" });
  const kept = h(
    "p",
    { class: "kept", hidden: true },
    "The collection's numbers are for the heads that were removed when this page was saved.",
  );
  /**
   * @param {OutcomeShown} given
   * @param {number} shown
   */
  const say = ({ worst, everything, groups, by, n_heads: k, drawn_from: from, removed: out }, shown) => {
    const row = worst ?? everything;
    const draws = row.random;
    const layers = from.length === 1 ? `layer ${from[0]}` : `layers ${from[0]}–${from[from.length - 1]}`;
    const change = out
      ? `${worst ? "Worst group" : "Accuracy"}: ${percent(row.before)} before, ${percent(row.after)} after: ${changeWords(row)}.`
      : "No heads are removed. Click heads to remove them.";
    const chance = draws.length
      ? ` Removing ${counted(k, "other head")} instead, drawn at random from the same or the nearest layers (${layers}; ${counted(draws.length, "draw")}): ${percent(Math.min(...draws))} to ${percent(Math.max(...draws))}.`
      : "";
    return (
      change +
      chance +
      (groups.length > shown
        ? ` The groups differ by ${by}; these are the ${shown} worst of ${groups.length}.`
        : by
          ? ` The groups differ by ${by}.`
          : "")
    );
  };
  /** @param {AblateView} view */
  const paint = (view) => {
    const found = view.outcome;
    const read = view.complete ? "" : ` · ${count(view.n_read)} of ${count(view.n_images)} read`;
    about.textContent = found
      ? `${counted(found.everything.n_images, "image")} with a label${view.note && ` · classes ${view.note}`}${read}`
      : read;
    if (!found) {
      plot.replaceChildren();
      sentence.textContent =
        view.task === "typed"
          ? "No image of the collection has a label among these classes, so there are only bars for the image."
          : "Measuring…";
      return;
    }
    const groups = found.groups.slice(0, SHOWN_GROUPS);
    const keys = h(
      "div",
      { class: "keys" },
      h("span", {}, h("b"), "before"),
      h("span", {}, h("i"), "after"),
      h("span", {}, h("s"), "random heads"),
      found.removed ? h("span", {}, h("em"), "95% interval of the change") : null,
    );
    plot.replaceChildren(
      keys,
      accuracyLine(found.everything, "all images", true, found.removed),
      ...(found.worst ? [accuracyLine(found.worst, "worst group", true, found.removed)] : []),
      ...groups.map((row) => accuracyLine(row, row.name, false, found.removed)),
    );
    sentence.textContent = say(found, groups.length);
  };
  return {
    part: h("div", { class: "part all" }, h("h3", {}, "The collection", about), plot, sentence, kept),
    kept,
    paint,
  };
};

/**
 * The classes: those of the collection's tasks, or typed names.
 * @param {AblateApi} api
 */
const taskChooser = (api) => {
  const box = h("div", { class: "tasks" });
  const hint = h("small", { class: "typing", role: "status" });
  const typed = h("input", {
    type: "text",
    placeholder: "your classes: a swan, an owl, a dog",
    "aria-label": "Class names, separated by commas",
    spellcheck: "false",
    maxlength: 4000,
  });
  const form = h("div", { class: "field typed", hidden: true }, typed, hint);
  let mark = (/** @type {string} */ _task) => {};
  /** @param {string} task */
  const show = (task) => {
    mark(task);
    form.hidden = task !== "typed";
  };
  /** @param {string} task */
  const choose = (task) => {
    const few =
      task === "typed" &&
      typed.value.split(",").filter((/** @type {string} */ name) => name.trim()).length < 2;
    hint.textContent = few && typed.value.trim() ? "type at least two" : "";
    if (!few) return api.ask({}, { options: { task, classes: typed.value } });
    show("typed");
    typed.focus();
  };
  typed.addEventListener(
    "keydown",
    onEnter(() => choose("typed")),
  );
  /** @param {AblateView} view */
  const set = (view) => {
    if (box.dataset.of !== view.tasks.join()) {
      box.dataset.of = view.tasks.join();
      const options = view.tasks.map(([name, note]) => [name, name[0].toUpperCase() + name.slice(1), note]);
      const [control, chosen] = segmented(
        "Classes",
        [...options, ["typed", "Yours", "Type your own class names"]],
        choose,
      );
      box.replaceChildren(control);
      mark = chosen;
    }
    show(view.task);
    if (document.activeElement !== typed) typed.value = api.option("classes");
  };
  return { parts: [box, form], set };
};

/**
 * Sets of heads worth removing.
 * @param {AblateApi} api
 * @param {Removed} removed
 */
const presetButtons = (api, removed) => {
  const token = h(
    "button",
    {
      type: "button",
      class: "preset",
      "data-kind": "token",
      title: "The class token's attention to itself, in every layer (Table A.1)",
      onclick: () => {
        removed.token = !removed.token;
        removed.changed();
      },
    },
    "the class token on itself",
  );
  const presets = roving(
    h("div", { class: "presets", role: "group", "data-local": true, "aria-label": "Sets of heads" }),
  );
  const clear = link("clear", () => removed.clear());
  /** @type {Record<string, (name: string) => string>} */
  const names = {
    text: (name) => `towards “${name}”`,
    property: (name) => `${name} heads`,
    shortcut: (name) => `heads that tell ${name}`,
    role: (name) => `heads you called ${name}`,
  };
  const paint = () => {
    clear.disabled = !removed.heads.size && !removed.rest && !removed.mlps.size && !removed.token;
    token.setAttribute("aria-pressed", String(removed.token));
    token.hidden = !api.view.has_token;
    token.disabled = api.standalone;
    presets.replaceChildren(
      ...api.view.presets.map(({ kind, name, heads }) => {
        const keys = heads.map(([l, hd]) => headKey(l, hd));
        return h(
          "button",
          {
            type: "button",
            class: "preset",
            "data-kind": kind,
            "data-name": name,
            "aria-pressed": String(keys.length > 0 && keys.every((at) => removed.heads.has(at))),
            title: heads.map(([l, hd]) => headName(l, hd)).join(", "),
            onclick: () => removed.toggleAll(keys),
          },
          names[kind]?.(name) ?? name,
          h("span", { class: "num" }, keys.length),
        );
      }),
      api.view.complete
        ? ""
        : h("span", { class: "wait" }, "More sets appear once the collection has been read."),
      token,
    );
  };
  return { presets, clear, paint };
};

/** Two texts whose heads form a separate set: "heads that tell … from …". @param {AblateApi} api */
const shortcutForm = (api) => {
  /**
   * @param {string} placeholder
   * @param {string} label
   */
  const box = (placeholder, label) =>
    h("input", { type: "text", placeholder, "aria-label": label, spellcheck: "false", maxlength: 300 });
  const first = box("the sea", "First text of the shortcut");
  const second = box("a forest", "Second text of the shortcut");
  const hint = h("small", { role: "status" });
  const tell = () => {
    const shortcut = first.value.trim();
    const other = second.value.trim();
    const half = Boolean(shortcut) !== Boolean(other);
    hint.textContent = half
      ? "type both texts"
      : shortcut && shortcut === other
        ? "type two different texts"
        : "";
    if (half && document.activeElement !== second) second.focus();
    if (!hint.textContent) api.ask({}, { options: { shortcut, shortcut_b: other } });
  };
  for (const input of [first, second]) input.addEventListener("keydown", onEnter(tell));
  const part = h(
    "div",
    {
      class: "shortcut",
      role: "group",
      "aria-label": "Your own shortcut",
      title:
        "Name the shortcut: two texts that differ as the backgrounds do, such as “the sea” and “a forest”. Enter finds the late heads that vary along their difference.",
    },
    "heads that tell",
    h("span", { class: "field" }, first),
    "from",
    h("span", { class: "field" }, second),
    hint,
  );
  const draw = () => {
    if (part.contains(document.activeElement)) return;
    first.value = api.option("shortcut");
    second.value = api.option("shortcut_b");
  };
  return { part, draw };
};

/**
 * @param {AblateApi} api
 * @returns {Draw<AblateView, AblateArrays>}
 */
function build(api) {
  const hint = h("small", {});
  const task = taskChooser(api);
  const removed = removedSet(api, () => paint());
  const desk = bench(api, removed);
  const [hows, setHow] = segmented(
    "Replace a head's effect by",
    [
      ["mean", "Mean", "Replaced by its mean over the collection"],
      ["zero", "Zero", "Set to zero"],
    ],
    (how) => {
      removed.how = how;
      removed.changed();
    },
  );
  const sets = presetButtons(api, removed);
  const shortcut = shortcutForm(api);
  const grid = removalGrid(api, removed, desk);
  const bars = classBars(api, desk);
  const all = collectionPlot();
  for (const part of [hows, sets.clear, grid.part]) part.dataset.local = "";
  const parts = h("div", { class: "desk" }, grid.part, bars.part, all.part);
  const [empty, says] = messageInstead();
  api.body.append(
    h("h2", {}, "Ablation", hint),
    h("div", { class: "controls" }, ...task.parts, hows, sets.clear),
    sets.presets,
    shortcut.part,
    empty,
    parts,
  );
  followVisibility(api);
  const paint = () => {
    const n = removed.heads.size;
    setHow(removed.how);
    const m = removed.rest ? 0 : removed.mlps.size;
    const gone = [
      n ? counted(n, "head") : "",
      removed.rest ? "the MLPs" : m ? counted(m, "MLP term") : "",
      removed.token ? "the class token" : "",
    ].filter(Boolean);
    Object.assign(api.root.dataset, {
      heads: n,
      rest: String(removed.rest),
      how: removed.how,
      mlps: [...removed.mlps].sort((a, b) => a - b).join(),
      token: String(removed.token),
    });
    hint.textContent = gone.length
      ? `without ${gone.join(", ").replace(/, ([^,]*)$/, " and $1")}${m || removed.token ? "; the other panels leave the single MLPs and the class token in" : ""}`
      : "click heads or MLPs to remove them";
    if (!desk.data) return;
    parts.classList.toggle("lacking", desk.lacks());
    grid.paint();
    bars.paint();
    sets.paint();
    parts.classList.toggle("waiting", !removed.told());
    all.kept.hidden = !api.standalone || removed.told();
  };

  return (view) => {
    task.set(view);
    removed.adopt(view);
    says(view);
    parts.hidden = !view.desk;
    shortcut.part.hidden = !view.desk || !view.complete || api.standalone || Boolean(api.model.live);
    shortcut.draw();
    grid.make(view);
    if (desk.load(view)) bars.reset();
    paint();
    if (view.desk) all.paint(view);
    const { outcome } = view;
    Object.assign(api.root.dataset, {
      task: view.task,
      image: view.selection.image ?? "",
      complete: String(view.complete),
      presets: view.presets.length,
      classes: view.desk ? view.desk.n_classes : 0,
      measured: outcome ? outcome.n_heads : "",
      measuredHow: view.selection.ablation.how,
      apart: view.desk ? String(view.desk.apart) : "",
      measuredMlps: view.apart.mlps.join(),
      measuredToken: String(view.apart.token),
      accuracy: outcome ? outcome.everything.after.toFixed(6) : "",
      worst: outcome?.worst ? outcome.worst.after.toFixed(6) : "",
      draws: outcome ? outcome.everything.random.length : "",
    });
  };
}

export default {
  /** @param {Context} context */
  render: (context) => mount(context, "ablate", build),
};
