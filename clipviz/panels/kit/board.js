// Where the panels of a board are: a grid (dashboard/style.css) with the row of desks in it.

import { h } from "./dom.js";

/**
 * The frame of a board: `root` to be shown, its `grid`, and `desks`, the place of the open desk.
 * @param {boolean} [large] for a lecture
 */
export const boardFrame = (large = false) => {
  const desks = h("div", { class: "cv-desks" });
  const grid = h("div", { class: "cv-board" });
  return { root: h("div", { class: large ? "cv-dashboard cv-lecture" : "cv-dashboard" }, grid), grid, desks };
};

/** The place of a panel in the grid. @param {string} name */
export const boardPlace = (name) => h("div", { class: `cv-at-${name}` });

const TRIES = 30; // a page that is opened again may restore a panel after the board that refers to it

/**
 * Draws another widget in an element, until the signal ends it.
 * @param {Host} host
 * @param {string} reference as Python's `reference` writes it
 * @param {HTMLElement} el
 * @param {AbortSignal} signal
 */
export const drawWidget = async (host, reference, el, signal) => {
  for (let tries = 0; !signal.aborted; tries++) {
    try {
      const widget = await host.getWidget(reference);
      return await widget.render({ el, signal });
    } catch (error) {
      if (tries === TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
};
