// Grids and lists of buttons: one is in the tab order, arrow keys move.

import { clickable, focusedBy, h } from "./dom.js";

/**
 * The position that a key moves to in a grid, as [row, column], or null.
 * @param {KeyboardEvent} event
 * @param {number} row
 * @param {number} col
 * @param {number} nRows
 * @param {number} nCols
 */
export const gridKeys = (event, row, col, nRows, nCols) => {
  /** @type {Record<string, number[]>} */
  const ends =
    nCols === 1 ? { Home: [0, 0], End: [nRows - 1, 0] } : { Home: [row, 0], End: [row, nCols - 1] };
  if (ends[event.key]) return ends[event.key];
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (!step) return null;
  const to = [row + step[0], col + step[1]];
  return to[0] >= 0 && to[0] < nRows && to[1] >= 0 && to[1] < nCols ? to : null;
};

/** How many items stand in the first row. @param {any[]} items */
export const perRow = (items) =>
  Math.max(1, items.filter((item) => item.offsetTop === items[0].offsetTop).length);

/**
 * Arrow keys walk through `items`, which may stand in rows; moved(item) is called for the one that has the focus then.
 * @param {any} root @param {() => any[]} items
 * @param {{columns?: (items: any[]) => number, moved?: (item: any) => void}} [how]
 */
export const walk = (root, items, { columns = () => 1, moved = () => {} } = {}) =>
  root.addEventListener("keydown", (/** @type {On<KeyboardEvent>} */ event) => {
    const all = items();
    const now = all.indexOf(event.target);
    if (now < 0) return;
    const n = columns(all);
    const to = gridKeys(event, Math.floor(now / n), now % n, Math.ceil(all.length / n), n);
    const target = to && all[Math.min(all.length - 1, to[0] * n + to[1])];
    if (!target) return;
    event.preventDefault();
    if (all.some((item) => item.tabIndex < 0))
      all.forEach((item) => (item.tabIndex = item === target ? 0 : -1));
    target.focus();
    moved(target);
  });

/**
 * Makes the buttons within `root` a single stop of the Tab key, with arrow keys between them: the pressed one, else
 * the first. What is drawn, hidden or disabled later keeps a stop.
 * @param {any} root
 * @param {string} [selector]
 * @returns {any} root
 */
export const roving = (root, selector = "button") => {
  const all = () => [...root.querySelectorAll(selector)];
  const enabled = () => all().filter((item) => !item.disabled && !item.hidden);
  const settle = () => {
    const items = enabled();
    const focused = focusedBy(root);
    const now = items.includes(focused)
      ? focused
      : (items.find((item) => item.getAttribute("aria-pressed") === "true") ?? items[0]);
    for (const item of all())
      if (item.tabIndex !== (item === now ? 0 : -1)) item.tabIndex = item === now ? 0 : -1;
  };
  new MutationObserver(settle).observe(root, {
    childList: true,
    subtree: true,
    attributeFilter: ["disabled", "hidden", "aria-pressed"],
  });
  root.addEventListener("focusin", settle);
  walk(root, enabled, { columns: (items) => items.length });
  settle();
  return root;
};

/**
 * A segmented control. Returns the element and set(value).
 * @param {string} label @param {any[][]} options value, text and perhaps a tooltip of each
 * @param {(value: any) => void} choose @returns {[any, (value: any) => void]}
 */
export const segmented = (label, options, choose) => {
  const buttons = options.map(([value, text, title]) =>
    clickable(
      { "data-value": value, title, "aria-pressed": "false", onclick: () => choose(String(value)) },
      text,
    ),
  );
  /** @param {any} value */
  const set = (value) =>
    buttons.forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.value === String(value))));
  return [roving(h("div", { class: "seg", role: "group", "aria-label": label }, ...buttons)), set];
};

/**
 * Marks the items that are selected, or pressed where they are plain buttons; one of them, else the first, is
 * in the tab order.
 * @param {any[]} items
 * @param {(item: any) => boolean} isOn
 */
export const markSelected = (items, isOn) => {
  /** @param {HTMLElement} item @param {string} name @param {string} value */
  const put = (item, name, value) => {
    if (item.getAttribute(name) !== value) item.setAttribute(name, value);
  }; // writing styles an item anew
  for (const item of items) {
    const on = isOn(item);
    put(item, item.hasAttribute("role") ? "aria-selected" : "aria-pressed", String(on));
    put(item, "tabindex", on ? "0" : "-1");
  }
  if (items.length && !items.some((item) => item.tabIndex === 0)) items[0].tabIndex = 0;
};

/** @param {number} layer @param {number} head */
export const headKey = (layer, head) => `${layer},${head}`;
/** @param {string} key @returns {[number, number]} */
export const headOf = (key) => /** @type {[number, number]} */ (key.split(",").map(Number));

/**
 * Layers by heads as a grid of buttons, the last layer on top, with a column for the MLPs.
 * rowHeader(layer) and end(layer) make a row's first and last cell. Returns the buttons by "layer,head".
 * @param {any} grid
 * @param {number} nLayers
 * @param {number} nHeads
 * @param {{columns: string, heading: any, rowHeader: (layer: number, dense: boolean) => any,
 *   end: (layer: number) => any, disabled?: (layer: number) => boolean, above?: any[] | null}} how
 *   above: cells of a row above the last layer
 * @returns {Map<string, any>}
 */
export const headGrid = (
  grid,
  nLayers,
  nHeads,
  { columns, heading, rowHeader, end, disabled = () => false, above = null },
) => {
  const cells = new Map();
  const dense = nLayers > 12 || nHeads > 12;
  const every = nHeads > 12 ? 2 : 1;
  grid.style.gridTemplateColumns = columns;
  grid.classList.toggle("dense", dense);
  /** @param {Child} text */
  const axis = (text) => h("span", { class: "axis", role: "columnheader" }, text);
  const lines = [
    h(
      "div",
      { class: "row", role: "row" },
      h("span"),
      ...Array.from({ length: nHeads }, (_, head) => axis(head % every ? "" : `H${head}`)),
      h("span"),
      axis(heading),
    ),
  ];
  if (above) lines.push(h("div", { class: "row", role: "row" }, ...above));
  for (let layer = nLayers - 1; layer >= 0; layer--) {
    const row = h("div", { class: "row", role: "row" }, rowHeader(layer, dense));
    for (let head = 0; head < nHeads; head++) {
      const cell = clickable({
        class: "cell",
        role: "gridcell",
        "data-layer": layer,
        "data-head": head,
        tabindex: -1,
        disabled: disabled(layer),
      });
      cells.set(headKey(layer, head), cell);
      row.append(cell);
    }
    row.append(...[h("span"), end(layer)].filter(Boolean));
    lines.push(row);
  }
  grid.replaceChildren(...lines);
  return cells;
};
