// A row of toggles: pressing one opens its desk below, pressing it again closes it.

import { clickable, h } from "../kit/dom.js";
import { walk } from "../kit/grid.js";
import { followTheme } from "../kit/protocol.js";

/** @param {Context} given */
const render = ({ model, el }) => {
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
  update();
  return () => {
    model.off("change:shown", update);
    unfollow();
  };
};

export default { render };
