// A row of toggles: pressing one opens its desk below, pressing it again closes it.

import { drawWidget } from "../kit/board.js";
import { clickable, h } from "../kit/dom.js";
import { walk } from "../kit/grid.js";
import { followTheme } from "../kit/protocol.js";

/**
 * Keeps the desk that is open in the place below the row. A page without widgets draws its desks by itself.
 * @param {Context} context
 */
const openDesk = ({ model, el, host, signal }) => {
  /** @type {HTMLElement | null} */
  let place = null;
  let drawn = new AbortController();
  const open = () => {
    const reference = model.get("panel");
    drawn.abort();
    place?.remove();
    place = null;
    if (!reference) return;
    drawn = new AbortController();
    place = el.appendChild(h("div", { class: `cv-at-${model.get("shown")}` }));
    void drawWidget(host, reference, place, AbortSignal.any([signal, drawn.signal]));
  };
  model.on("change:panel", open);
  open();
  return () => {
    model.off("change:panel", open);
    drawn.abort();
  };
};

/** @param {Context} context */
const render = (context) => {
  const { model, el } = context;
  const root = h("section", {
    class: "cv cv-desks-bar",
    "data-panel": "desks",
    "data-lm-suppress-shortcuts": "true",
  });
  /** @param {string} name */
  const choose = (name) => {
    model.set("shown", model.get("shown") === name ? "" : name);
    model.save_changes();
  };
  const buttons = model
    .get("desks")
    .map((/** @type {[string, string, string]} */ [name, title, question]) =>
      clickable(
        { class: "desk", "data-name": name, "aria-expanded": "false", onclick: () => choose(name) },
        h("b", {}, title),
        h("span", {}, question),
      ),
    );
  const row = h("div", { class: "row", role: "toolbar", "aria-label": "More panels" }, ...buttons);
  root.append(row);
  el.append(root);
  const update = () => {
    const open = model.get("shown");
    root.dataset.open = open;
    buttons.forEach((/** @type {any} */ button) =>
      button.setAttribute("aria-expanded", String(button.dataset.name === open)),
    );
  };
  walk(row, () => buttons, { columns: (all) => all.length });
  model.on("change:shown", update);
  const unfollow = followTheme(root);
  const close = context.host ? openDesk(context) : () => {};
  update();
  return () => {
    model.off("change:shown", update);
    unfollow();
    close();
  };
};

export default { render };
