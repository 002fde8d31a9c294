// Pictures sorted into two piles, by pointer or keys.

import { clickable, closest, counted, focusedBy, h } from "../kit/dom.js";
import { tileStyle } from "../kit/gallery.js";
import { walk } from "../kit/grid.js";

const LETTERS = ["A", "B"];
const KEYS = /** @type {Record<string, number>} */ ({ a: 0, 1: 0, b: 1, 2: 1 });
const FAR = 6; // pixels from which on a press is a drag
const MOVES = 160; // milliseconds

/** A picture of the sheet with its number. @param {QuizView} view @param {string} url @param {number} at */
const face = ({ columns, names }, url, at) =>
  h(
    "span",
    { class: "tile", style: tileStyle(url, at, columns, names.length) },
    h("b", { class: "number num", "aria-hidden": "true" }, at + 1),
  );

/** A labelled area with tiles. @param {string} name @param {Child} letter @param {string} words */
const area = (name, letter, words) => {
  const total = h("span", { class: "total num" });
  const tiles = h("div", { class: "tiles" });
  const head = h(
    "div",
    { class: "head" },
    letter && h("b", { class: "letter" }, letter),
    h("span", {}, words),
    total,
  );
  return { tiles, total, node: h("div", { class: `pile ${name}`.trim(), role: "group" }, head, tiles) };
};

/** Moves a tile and keeps the focus on it. @param {any} tile @param {any} to */
const move = (tile, to) => {
  const focused = focusedBy(tile) === tile;
  const from = tile.getBoundingClientRect();
  tile.style.transform = "";
  to.append(tile);
  if (focused) tile.focus({ preventScroll: true });
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const now = tile.getBoundingClientRect();
  const zoom = tile.currentCSSZoom || 1;
  const start = `translate(${(from.left - now.left) / zoom}px, ${(from.top - now.top) / zoom}px)`;
  tile.animate([{ transform: start }, { transform: "none" }], { duration: MOVES, easing: "ease-out" });
};

/**
 * A drag with a mouse or a pen; a finger scrolls the page, and taps. Returns whether a click ends a drag.
 * @param {any} root @param {any[]} piles @param {(tile: any, pile: number) => void} put
 */
const dragging = (root, piles, put) => {
  /** @type {{ tile: any, x: number, y: number } | null} */
  let held = null;
  let far = false;
  /** @param {On<PointerEvent>} event */
  const over = ({ clientX, clientY }) =>
    piles.findIndex((pile) => {
      const { left, right, top, bottom } = pile.getBoundingClientRect();
      return left <= clientX && clientX <= right && top <= clientY && clientY <= bottom;
    });
  /** @param {number} pile */
  const mark = (pile) => piles.forEach((node, at) => node.classList.toggle("under", at === pile));
  const end = () => {
    held?.tile.classList.remove("held");
    if (held) held.tile.style.transform = "";
    held = null;
    mark(-1);
  };
  root.addEventListener("pointerdown", (/** @type {On<PointerEvent>} */ event) => {
    const tile = closest(event, "button");
    far = false;
    if (tile && !event.button && event.pointerType !== "touch")
      held = { tile, x: event.clientX, y: event.clientY };
  });
  root.addEventListener("pointermove", (/** @type {On<PointerEvent>} */ event) => {
    if (!held) return;
    const { tile, x, y } = held;
    const by = [event.clientX - x, event.clientY - y];
    if (!far && Math.hypot(by[0], by[1]) < FAR) return;
    if (!far) tile.setPointerCapture(event.pointerId);
    far = true;
    tile.classList.add("held");
    const zoom = tile.currentCSSZoom || 1;
    tile.style.transform = `translate(${by[0] / zoom}px, ${by[1] / zoom}px)`;
    mark(over(event));
  });
  root.addEventListener("pointerup", (/** @type {On<PointerEvent>} */ event) => {
    const pile = far ? over(event) : -1;
    if (held && pile >= 0) put(held.tile, pile);
    end();
  });
  root.addEventListener("pointercancel", end);
  return (/** @type {On<MouseEvent>} */ event) => far && event.detail > 0;
};

/** The pictures to sort. @param {QuizView} view @param {QuestionTools} tools */
const toSort = (view, { choose, url }) => {
  const { piles = [], tiles: shown, names } = view;
  const n = shown.length;
  /** @type {number[]} */
  const sorted = Array(n).fill(-1);
  const tray = area("tray", null, "Not sorted yet");
  const areas = piles.map((name, pile) => area("", LETTERS[pile], name));
  const slots = shown.map((at) => h("span", { class: "slot" }, h("b", { class: "number num" }, at + 1)));
  const said = h("output", { class: "num" });
  /** @param {number} pile */
  const named = (pile) => `pile ${LETTERS[pile]}, ${piles[pile]}`;
  const label = () => {
    const left = sorted.filter((pile) => pile < 0).length;
    areas.forEach(({ node, total }, pile) => {
      const held = sorted.filter((one) => one === pile).length;
      total.textContent = held;
      node.setAttribute("aria-label", `Pile ${LETTERS[pile]}, ${piles[pile]}: ${counted(held, "picture")}`);
    });
    tray.total.textContent = left;
    tray.node.setAttribute("aria-label", `Not sorted yet: ${counted(left, "picture")}`);
    buttons.forEach((tile, at) => {
      tile.dataset.pile = sorted[at] < 0 ? "" : LETTERS[sorted[at]];
      const where = sorted[at] < 0 ? "not sorted yet" : named(sorted[at]);
      tile.setAttribute("aria-label", `Picture ${at + 1}, ${names[at]}: ${where}`);
    });
    return left;
  };
  /** @param {any} tile @param {number} pile */
  const put = (tile, pile) => {
    const at = buttons.indexOf(tile);
    if (sorted[at] === pile) return;
    sorted[at] = pile;
    move(tile, areas[pile].tiles);
    const left = label();
    const rest = left ? `${counted(left, "picture")} left to sort.` : "All pictures are sorted.";
    said.textContent = `Picture ${at + 1} is in ${named(pile)}. ${rest}`;
    if (!left) choose([...sorted]);
  };
  const root = h("div", { class: "sorting" });
  const endsDrag = dragging(
    root,
    areas.map(({ node }) => node),
    put,
  );
  const buttons = shown.map((at) =>
    clickable(
      {
        class: "sort",
        tabindex: at ? -1 : 0,
        onclick: (event) => {
          if (!endsDrag(event)) put(buttons[at], sorted[at] === 0 ? 1 : 0);
        },
      },
      face(view, url("sprite"), at),
    ),
  );
  root.addEventListener("keydown", (/** @type {On<KeyboardEvent>} */ event) => {
    const pile = KEYS[event.key.toLowerCase()];
    if (pile === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    put(event.target, pile);
  });
  root.addEventListener("focusin", (/** @type {On<FocusEvent>} */ { target }) =>
    buttons.forEach((tile) => (tile.tabIndex = tile === target ? 0 : -1)),
  );
  walk(root, () => buttons, { columns: ({ length }) => length });
  slots.forEach((slot, at) => slot.append(buttons[at]));
  tray.tiles.append(...slots);
  label();
  said.textContent = "Put each picture into a pile.";
  const keys = h(
    "p",
    { class: "keys" },
    "Click a picture to put it into pile A, and again to move it to pile B, or drag it. With keys: arrows move between " +
      "pictures, A and B put a picture into that pile.",
  );
  root.append(tray.node, h("div", { class: "piles" }, ...areas.map(({ node }) => node)), said, keys);
  return [root];
};

/** A picture where it was put, and where it belongs. @param {QuizView} view @param {QuizAnswer} answer @param {string} url @param {number} at */
const judged = (view, { chosen, best }, url, at) => {
  const [put, own] = [chosen[at], best[at]];
  const { piles = [], names } = view;
  const fits = put === own;
  const said =
    `Picture ${at + 1}, ${names[at]}: you put it into pile ${LETTERS[put]}, ${piles[put]}. ` +
    (fits ? "It was measured there." : `It was measured in pile ${LETTERS[own]}, ${piles[own]}.`);
  return h(
    "div",
    { class: `sort ${fits ? "right" : "wrong"}`, role: "img", "aria-label": said },
    face(view, url, at),
    h("b", { class: "mark" }, fits ? "✓" : "✗"),
    fits ? null : h("span", { class: "measured" }, `measured ${LETTERS[own]}`),
  );
};

/** The piles of an answer. @param {QuizView} view @param {QuizAnswer} answer @param {string} url */
const asSorted = (view, answer, url) => {
  const { piles = [], tiles } = view;
  const areas = piles.map((name, pile) => {
    const { node, tiles: inside, total } = area("", LETTERS[pile], name);
    const held = tiles.filter((at) => answer.chosen[at] === pile);
    const right = held.filter((at) => answer.best[at] === pile).length;
    total.textContent = held.length ? `${right} of ${held.length} right` : "empty";
    node.setAttribute("aria-label", `Your pile ${LETTERS[pile]}, ${name}: ${total.textContent}`);
    inside.append(...held.map((at) => judged(view, answer, url, at)));
    return node;
  });
  return [h("div", { class: "sorting" }, h("div", { class: "piles" }, ...areas))];
};

/** @type {QuestionKind} */
export const byPiles = {
  role: "group",
  look: () => "",
  parts: ({ view }, tools) =>
    view.answer ? asSorted(view, view.answer, tools.url("sprite")) : toSort(view, tools),
};
