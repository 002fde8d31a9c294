// The grid of heads: a click removes one, a row's name a whole layer, the bar at the right the MLPs.

import { clickable, closest, h, headName, scaleEnds, signed } from "../kit/dom.js";
import { colourBar, diverging, divergingGradient, inkOn, lineBelow, rgb } from "../kit/figure.js";
import { gridKeys, headGrid, headKey, headOf } from "../kit/grid.js";
import { largest } from "../kit/maps.js";

/** @import { Bench } from "./bench.js" */
/** @import { Removed } from "./removed.js" */

/**
 * The grid's cells: MLP terms by number (the input, every layer's, the pool's), and everything else.
 * @typedef {{ singles: any[], rest: any }} Cells
 */

/** The row of an MLP term, from above. @param {number} mlp @param {number} L */
const rowOfTerm = (mlp, L) => (mlp === 0 ? L : mlp > L ? mlp : L - mlp);

/** What is said of each term. @param {AblateApi} api @param {Removed} removed @param {Bench} desk */
const termNames = (api, removed, desk) => {
  /** @param {number} mlp @param {number} L */
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
  return { mlpWords, words };
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
  clickable(
    {
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
 * A term that is an MLP, or the input.
 * @param {Removed} removed
 * @param {number} mlp
 * @param {number} row
 * @param {number} column
 */
const termCell = (removed, mlp, row, column) =>
  clickable({
    class: "cell mlp",
    role: "gridcell",
    tabindex: -1,
    "data-mlp": mlp,
    style: { gridRow: `${row}`, gridColumn: `${column}` },
    onclick: () => removed.toggleMlp(mlp),
  });

/** A row below the layers. @param {number} mlp @param {number} L @param {number} H @param {any} cell */
const rowBelow = (mlp, L, H, cell) => {
  const style = { gridRow: `${2 + rowOfTerm(mlp, L)}`, gridColumn: `1 / span ${H + 2}` };
  const name = h("span", { class: "axis below", style }, mlp ? "the pool’s MLP" : "input");
  return h("div", { class: "row", role: "row" }, name, cell);
};

/**
 * The name of a row, which removes every head of a layer.
 * @param {number} layer
 * @param {boolean} kept
 * @param {() => void} act
 */
const layerButton = (layer, kept, act) =>
  clickable(
    {
      class: "axis side",
      role: "gridcell",
      tabindex: -1,
      title: kept
        ? `Layer ${layer}: remove every head, or restore them`
        : `Layer ${layer} is not kept for this collection`,
      disabled: !kept,
      "data-row": layer,
      onclick: act,
    },
    `L${layer}`,
  );

/**
 * Where a key leads from a cell, in rows from above: the layers' names, heads, MLPs, everything else.
 * @param {AblateView} view
 * @param {any} grid
 * @param {Cells} cells
 * @param {On<KeyboardEvent>} event
 */
const cellAfter = ({ n_layers: L, n_heads: H, n_mlps: M }, grid, { singles, rest }, event) => {
  const node = closest(event, "button");
  if (!node) return null;
  const { layer = node.dataset.row, head, mlp } = node.dataset;
  const from =
    node === rest
      ? [0, H + 2]
      : mlp !== undefined
        ? [rowOfTerm(Number(mlp), L), H + 1]
        : [L - 1 - Number(layer), Number(head ?? -1) + 1];
  const to = gridKeys(event, from[0], from[1], M, H + 3);
  if (!to) return null;
  event.preventDefault();
  const row = L - 1 - to[0];
  if (to[1] === H + 2) return rest;
  if (to[1] === H + 1 || (row < 0 && to[1] <= H))
    return singles.find((_, term) => rowOfTerm(term, L) === to[0]); // below the layers there are single terms alone
  return grid.querySelector(
    to[1] === 0 ? `[data-row="${row}"]` : `[data-layer="${row}"][data-head="${to[1] - 1}"]`,
  );
};

/**
 * Paints the MLP terms and everything else, up to the limit of the heads' colours.
 * @param {AblateApi} api
 * @param {Removed} removed
 * @param {Bench} desk
 * @param {Cells} cells
 * @param {number} limit
 * @param {(mlp: number) => string} words
 */
const paintOthers = (api, removed, desk, { singles, rest }, limit, words) => {
  const { apart, heads } = desk.data;
  /** @param {number} j */
  const colourOf = (j) => diverging(desk.lead(j), limit, api.theme);
  singles.forEach((cell, mlp) => {
    cell.disabled = (api.standalone || api.model.live) && !apart;
    cell.style.background = apart ? rgb(colourOf(heads.length + 1 + mlp)) : "";
    cell.setAttribute("aria-selected", String(removed.mlps.has(mlp) || removed.rest));
    cell.setAttribute("aria-label", words(mlp));
  });
  const colour = colourOf(heads.length);
  Object.assign(rest.style, { background: rgb(colour), color: inkOn(colour) });
  rest.setAttribute("aria-selected", String(removed.rest));
};

/**
 * The grid of heads; a click removes one, a row's name a whole layer, the bar at the right the MLPs.
 * @param {AblateApi} api
 * @param {Removed} removed
 * @param {Bench} desk
 */
export const removalGrid = (api, removed, desk) => {
  const grid = h("div", {
    class: "grid",
    role: "grid",
    "aria-multiselectable": "true",
    "aria-label": "Heads, layer by head; selected ones are removed",
  });
  const legend = h("div", { class: "legend" });
  /** @type {Map<string, any>} */
  let cells = new Map();
  /** @type {Cells} */
  const others = { singles: [], rest: null };
  let shape = "";
  /** @type {any} */
  let focus = null;
  const { mlpWords, words } = termNames(api, removed, desk);
  /** @param {any} cell */
  const aboutCell = (cell) => {
    if (!desk.data || cell.disabled) return null;
    if (cell === others.rest) return `${cell.textContent} · ${signed(desk.lead(desk.data.heads.length), 4)}`;
    const { layer, head, mlp } = cell.dataset;
    return mlp ? mlpWords(Number(mlp)) : words(headKey(layer, head));
  };
  const about = lineBelow(grid, aboutCell, "Point at a head to read what it adds; click it to remove it.");
  /** @param {AblateView} given */
  const make = ({ n_layers: L, n_heads: H, n_mlps: M, kept, rest }) => {
    if (shape === `${L},${H},${kept}`) return;
    shape = `${L},${H},${kept}`;
    others.singles = [];
    others.rest = restButton(removed, L, H, M, rest);
    /** @param {number} mlp */
    const term = (mlp) => (others.singles[mlp] = termCell(removed, mlp, 2 + rowOfTerm(mlp, L), H + 3));
    cells = headGrid(grid, L, H, {
      columns: `30px repeat(${H}, minmax(0, 1fr)) 4px minmax(12px, 1fr) minmax(22px, 1fr)`,
      heading: "MLP",
      disabled: (layer) => !kept.includes(layer),
      end: (layer) => term(layer + 1),
      rowHeader: (layer) =>
        layerButton(layer, kept.includes(layer), () =>
          removed.toggleAll([...cells.keys()].filter((at) => headOf(at)[0] === layer)),
        ),
    });
    for (const [at, cell] of cells) {
      if (cell.disabled) cells.delete(at);
      else cell.addEventListener("click", () => removed.toggle(at));
    }
    const below = [0, ...(M > L + 1 ? [L + 1] : [])].map((mlp) => rowBelow(mlp, L, H, term(mlp)));
    grid.firstChild.append(h("span", { class: "axis", role: "columnheader" }, "all"));
    grid.append(...below, h("div", { class: "row", role: "row" }, others.rest));
    focus = cells.values().next().value;
    if (focus) focus.tabIndex = 0;
  };
  grid.addEventListener("keydown", (/** @type {On<KeyboardEvent>} */ event) => {
    const target = cellAfter(api.view, grid, others, event);
    if (!target || target.disabled) return;
    if (focus) focus.tabIndex = -1;
    focus = Object.assign(target, { tabIndex: 0 });
    focus.focus();
  });
  const paint = () => {
    const D = desk.data;
    const leads = [...D.heads, ...(D.apart ? [null, ...others.singles] : [])].map((cell, j) =>
      cell === null ? 0 : desk.lead(j),
    );
    const limit = Math.max(1e-9, largest(leads));
    for (const [at, cell] of cells) {
      cell.style.background = rgb(diverging(leads[D.places.get(at)], limit, api.theme));
      cell.setAttribute("aria-selected", String(removed.heads.has(at)));
      cell.setAttribute("aria-label", words(at));
    }
    paintOthers(api, removed, desk, others, limit, mlpWords);
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
