import {
  closest,
  focusedBy,
  h,
  headName,
  labelled,
  link,
  NO_ROLE,
  onEnter,
  percent,
  scaleEnds,
  signed,
} from "../kit/dom.js";
import {
  CATEGORIES,
  colourBar,
  DIVERGING,
  diverging,
  divergingGradient,
  gradient,
  lineBelow,
  mix,
  rgb,
} from "../kit/figure.js";
import { headGrid, headKey, headOf, markSelected, segmented, walk } from "../kit/grid.js";
import { mount } from "../kit/protocol.js";
import { change, deskLink } from "../kit/links.js";

const SETTLED = 250; // ms after which a word counts as typed

/** @param {HeadsApi} api what one cell shows, in numbers and in words */
const reader = (api) => {
  /** @param {number} layer @param {number} head */
  const summary = (layer, head) => api.view.summaries?.[headKey(layer, head)];
  /** @param {number} layer @param {number} head */
  const value = (layer, head) => {
    const quantity = api.option("quantity");
    const { kept, n_heads: H, cosine } = api.view;
    if (quantity === "effect") return cosine === null ? null : api.arrays.heads[layer * H + head];
    const at = kept.indexOf(layer);
    if (quantity === "variance")
      return api.arrays.variance && at >= 0 ? api.arrays.variance[at * H + head] : null;
    return summary(layer, head)?.label ?? null;
  };
  /** @param {number} layer @param {number} head */
  const words = (layer, head) => {
    const v = value(layer, head);
    const about = summary(layer, head);
    const number =
      v === null || typeof v === "string"
        ? ""
        : api.option("quantity") === "variance"
          ? percent(v)
          : signed(v, 4);
    return [
      headName(layer, head),
      number,
      about?.role ? `yours: ${about.role}` : "",
      about ? `${labelled(about.label, about.p)}: ${about.texts.slice(0, 2).join(", ")}` : "",
    ]
      .filter(Boolean)
      .join(" · ");
  };
  return { value, words };
};

/**
 * The box that finds heads by meaning and by their texts: dims the others, Enter selects the best.
 * @param {HeadsApi} api
 * @param {() => Map<string, any>} cells
 * @param {(layer: number, head: number) => void} select
 */
const headSearch = (api, cells, select) => {
  const search = h("input", {
    type: "search",
    placeholder: "find heads…",
    "aria-label": "Find heads by what they vary with",
    spellcheck: "false",
    maxlength: 300,
  });
  const found = h("span", { class: "found num" });
  let timer = 0;
  let choose = false;
  const wanted = () => search.value.trim();
  const told = () => api.option("find").trim() === wanted();
  // First the heads that the kernel found by meaning, best first, then those whose label or texts contain the word.
  const matches = () => {
    if (!wanted()) return null;
    const word = wanted().toLowerCase();
    const meant = told() ? api.view.found.map(({ layer, head }) => headKey(layer, head)) : [];
    const said = [...cells().keys()].reverse().filter((at) => {
      const about = api.view.summaries?.[at];
      return (
        about && [about.label, about.role, ...about.texts].some((text) => text.toLowerCase().includes(word))
      );
    });
    return [...new Set([...meant, ...said])];
  };
  const filter = () => {
    const hits = matches();
    for (const [at, cell] of cells()) cell.classList.toggle("dim", hits !== null && !hits.includes(at));
    found.textContent = hits === null ? "" : api.view.summaries ? `${hits.length}` : "…";
    const byMeaning = hits !== null && told() ? api.view.found : [];
    found.title = byMeaning
      .map(
        ({ layer, head, share, above }) =>
          `${headName(layer, head)}: ${percent(share)} of its variance, more than along ${percent(above)} of the pool's texts`,
      )
      .join("\n");
    Object.assign(api.root.dataset, {
      found: String(hits === null ? "" : hits.length),
      meant: byMeaning.map(({ layer, head }) => headKey(layer, head)).join(" "),
    });
    return hits;
  };
  const drawn = () => {
    if (focusedBy(search) !== search) search.value = api.option("find");
    const hits = filter();
    if (choose && told()) {
      choose = false;
      if (hits?.length) select(...headOf(hits[0]));
    }
  };
  const tell = () => {
    clearTimeout(timer);
    if (!told() && !api.standalone) api.ask({}, { options: { find: wanted() } });
  };
  search.addEventListener("input", () => {
    filter();
    clearTimeout(timer);
    timer = setTimeout(tell, SETTLED);
  });
  search.addEventListener(
    "keydown",
    onEnter(() => {
      if (!wanted()) return;
      choose = true;
      if (told() || api.standalone) drawn();
      else tell();
    }),
  );
  api.cleanups.push(() => clearTimeout(timer));
  return [h("label", { class: "field find" }, search, found), drawn];
};

/**
 * Colours of the cells and the legend that explains them.
 * @param {HeadsApi} api
 * @param {HTMLElement} grid
 * @param {HTMLElement} legend
 * @param {ReturnType<typeof reader>} given
 */
const painter =
  (api, grid, legend, { value, words }) =>
  (/** @type {Map<string, any>} */ cells) => {
    const quantity = api.option("quantity");
    const { theme } = api;
    const { cosine, summaries } = api.view;
    const numbers =
      quantity === "property"
        ? []
        : [...cells.keys()].map((at) => value(...headOf(at))).filter((v) => v !== null);
    const limit = Math.max(
      1e-9,
      ...numbers.map(Math.abs),
      ...(quantity === "effect" ? [...api.arrays.mlps].slice(1).map(Math.abs) : []),
    );
    const labels = [...new Set(Object.values(summaries ?? {}).map((s) => s.label))]
      .filter((l) => l !== NO_ROLE)
      .sort();
    const accent = theme === "dark" ? [90, 169, 248] : [11, 107, 203];
    const { zero } = DIVERGING[theme];
    const off = new Set(api.view.selection.ablation.heads.map(([l, hd]) => headKey(l, hd)));
    /** @param {number} i */
    const category = (i) => CATEGORIES[i % CATEGORIES.length];
    /** @param {any} v */
    const colour = (v) => {
      if (v === null) return "";
      if (quantity === "property") return labels.includes(v) ? category(labels.indexOf(v)) : "";
      return rgb(
        quantity === "effect" ? diverging(v, limit, theme) : mix(zero, accent, Math.sqrt(v / limit)),
      );
    };
    for (const [at, cell] of cells) {
      const [layer, head] = headOf(at);
      cell.style.background = colour(value(layer, head));
      cell.classList.toggle("ablated", off.has(at));
      cell.setAttribute("aria-label", words(layer, head) + (off.has(at) ? " · removed" : ""));
    }
    for (const cell of /** @type {NodeListOf<HTMLElement>} */ (grid.querySelectorAll(".mlp")))
      cell.style.background =
        quantity === "effect" && cosine !== null
          ? rgb(diverging(api.arrays.mlps[Number(cell.dataset.mlp)], limit, theme))
          : "";
    /** @param {string} text */
    const what = (text) => [h("span", { class: "what" }, text)];
    /** @param {string} text @param {string} background */
    const key = (text, background) => h("span", { class: "key" }, h("b", { style: { background } }), text);
    legend.replaceChildren(
      ...(quantity === "effect"
        ? cosine === null
          ? what("Type a text to see which heads write towards it.")
          : colourBar(...scaleEnds(limit), divergingGradient(theme), "direct effect on the cosine")
        : !summaries
          ? what(api.view.waits || "Labelling the heads")
          : quantity === "variance"
            ? colourBar(
                "0%",
                percent(limit),
                gradient(rgb(zero), rgb(accent)),
                "share of the heads' variance",
              )
            : [...labels.map((label, i) => key(label, category(i))), key(NO_ROLE, "")]),
    );
  };

/**
 * What the removed heads do to the cosine, with a way back and the desk that says more.
 * @param {HeadsApi} api
 */
const removalLine = (api) => {
  const line = h("p", { class: "removed", role: "status", hidden: true });
  /** @param {HeadsView} given */
  const draw = ({ cosine, cosine_before: before, removed, selection: { ablation, text_b: other } }) => {
    line.hidden = !removed;
    if (!removed) return;
    const clear = link("clear", () => api.ask({ ablation: { how: ablation.how } }), {
      hidden: api.standalone,
      class: "to",
      "aria-label": "Restore every removed head",
    });
    const number =
      cosine === null
        ? []
        : [`cosine${other ? " A − B" : ""} `, h("b", { class: "num" }, change(cosine, before)), " "];
    line.replaceChildren(
      ...number,
      `${removed} · `,
      clear,
      ...[deskLink(api, "ablate", "Ablation desk")].filter(Boolean).flatMap((to) => [" · ", to]),
    );
  };
  return [line, draw];
};

/** The grid of the heads, with a cell for every MLP. */
const headCells = () => {
  const grid = h("div", { class: "grid", role: "grid", "aria-label": "Heads, layer by head" });
  /** @type {Map<string, any>} */
  let cells = new Map();
  let shape = "";
  /** @param {number} layer @param {number} head */
  const mark = (layer, head) =>
    markSelected(
      [...cells.values()],
      (cell) => cell.dataset.layer === String(layer) && cell.dataset.head === String(head),
    );
  /** @param {HeadsView} given */
  const make = ({ n_layers: L, n_heads: H, has_tail: tail }) => {
    if (shape === `${L},${H}`) return;
    shape = `${L},${H}`;
    cells = headGrid(grid, L, H, {
      columns: `26px repeat(${H}, minmax(0, 1fr)) 6px minmax(0, 1fr)`,
      heading: "MLP",
      rowHeader: (layer, dense) =>
        h("span", { class: "axis side", role: "rowheader" }, dense && layer % 2 ? "" : `L${layer}`),
      end: (layer) => h("span", { class: "cell mlp", "data-mlp": layer + 1, title: "" }),
      above: tail
        ? [
            h("span", { class: "axis side", role: "rowheader" }, "pool"),
            ...Array.from({ length: H + 1 }, () => h("span")),
            h("span", { class: "cell mlp", "data-mlp": L + 1, title: "" }),
          ]
        : null,
    });
  };
  return { grid, cells: () => cells, make, mark };
};

/**
 * What is said of the cell under the pointer.
 * @param {HeadsApi} api
 * @param {any} grid
 * @param {ReturnType<typeof reader>} said
 */
const cellLine = (api, grid, said) =>
  lineBelow(
    grid,
    ({ dataset: { layer, head, mlp } }) =>
      mlp
        ? `${Number(mlp) > api.view.n_layers ? "MLP after the pool" : `MLP ${mlp - 1}`} · ${signed(api.arrays.mlps[Number(mlp)], 4)}`
        : said.words(Number(layer), Number(head)),
    api.standalone
      ? "A click selects a head; removing heads needs the notebook."
      : "A click selects a head; Ctrl/⌘-click removes it.",
  );

/** Publishes what is drawn. @param {HeadsApi} api @param {HeadsView} view */
const publish = (
  api,
  { selection: { layer, head, text, ablation }, summaries, cosine, cosine_before: before },
) =>
  Object.assign(api.root.dataset, {
    layer: layer ?? "",
    head: head ?? "",
    text,
    quantity: api.option("quantity"),
    ablated: ablation.heads.length,
    summaries: String(Boolean(summaries)),
    cosine: cosine?.toFixed(6) ?? "",
    cosineBefore: before?.toFixed(6) ?? "",
  });

/** @param {HeadsApi} api @returns {Draw<HeadsView, HeadsArrays>} */
function build(api) {
  const hint = h("small", {});
  const [removed, drawRemoved] = removalLine(api);
  const legend = h("div", { class: "legend" });
  const describe = h("div", { class: "sr", role: "status" });
  const { grid, cells, make, mark } = headCells();
  const [control, choose] = segmented(
    "Colour heads by",
    [
      ["effect", "Effect", "Direct effect on the text, for this image"],
      ["variance", "Variance", "Share of the heads' variance over the collection"],
      ["property", "Property", "The property that the head's first texts share"],
    ],
    (quantity) => api.put({ quantity }),
  );
  /** @param {number} layer @param {number} head */
  const select = (layer, head) => {
    mark(layer, head);
    api.ask({ layer, head });
  };
  /** @param {number} layer @param {number} head */
  const toggle = (layer, head) => {
    if (api.standalone) return api.ask({ ablation: "toggle" }); // a saved page reports that it cannot
    const { ablation } = api.view.selection;
    const off = ablation.heads.some(([l, hd]) => l === layer && hd === head);
    ablation.heads = off
      ? ablation.heads.filter(([l, hd]) => l !== layer || hd !== head)
      : [...ablation.heads, [layer, head]];
    cells().get(headKey(layer, head)).classList.toggle("ablated", !off); // shown at once; the kernel's answer confirms it
    api.ask({ ablation });
  };
  const said = reader(api);
  const paint = painter(api, grid, legend, said);
  const [find, filter] = headSearch(api, cells, select);
  /** @param {any} cell @returns {[number, number]} */
  const place = (cell) => [Number(cell.dataset.layer), Number(cell.dataset.head)];
  api.body.append(
    h("h2", {}, "Heads", hint),
    h("div", { class: "controls" }, control, find),
    h("div", { class: "wrap" }, grid),
    legend,
    removed,
    cellLine(api, grid, said),
    describe,
  );

  grid.addEventListener("click", (/** @type {On<MouseEvent>} */ event) => {
    const cell = closest(event, "button.cell");
    if (cell) (event.ctrlKey || event.metaKey ? toggle : select)(...place(cell));
  });
  grid.addEventListener("keydown", (/** @type {On<KeyboardEvent>} */ event) => {
    const cell = closest(event, "button.cell");
    if (cell && event.key.toLowerCase() === "a") toggle(...place(cell));
  });
  walk(grid, () => [...cells().values()], {
    columns: () => api.view.n_heads,
    moved: (cell) => select(...place(cell)),
  });
  return (view) => {
    const { layer, head, text, text_b: other } = view.selection;
    const quantity = api.option("quantity");
    make(view);
    if (api.standalone)
      for (const [at, cell] of cells())
        cell.disabled = !api.offers({ layer: headOf(at)[0], head: headOf(at)[1] });
    choose(quantity);
    mark(layer, head);
    paint(cells());
    filter();
    drawRemoved(view);
    /** @type {Record<string, string>} */
    const hints = {
      effect: text ? `Effect on ${other ? "A − B" : "text A"}` : "",
      variance: "over the collection",
      property: "from the first TextSpan texts",
    };
    hint.textContent = hints[quantity];
    publish(api, view);
    describe.textContent =
      layer === null || head === null ? "no head selected" : `selected ${said.words(layer, head)}`;
  };
}

export default {
  /** @param {Context} context */
  render: (context) => mount(context, "heads", build),
};
