// What is drawn and how: the tools above the plane.

import { checkbox, count, h, square } from "../kit/dom.js";
import { segmented } from "../kit/grid.js";
import { OTHER } from "../kit/points.js";

/** @import { PlaneStage } from "./stage.js" */

/** What is drawn and how: the tools above the plane. @param {AtlasApi} api @param {PlaneStage} stage */
export const planeTools = (api, stage) => {
  const legend = h("div", { class: "legend", role: "list", "aria-label": "Groups" });
  const [ways, setWay] = segmented(
    "Seen by",
    [
      ["head", "One head", "The plane in which the selected head varies most"],
      ["model", "Whole model", "The plane in which the embeddings vary most"],
    ],
    (by) => api.ask({}, { options: { by } }),
  );
  const [drags, setDrag] = segmented(
    "A drag",
    [
      ["pan", "Move", "A drag moves the plane; with Shift it draws around images"],
      ["choose", "Draw around", "A drag draws around images; with Shift it moves the plane"],
    ],
    (drag) => api.put({ drag }),
  );
  const column = h("select", {
    "aria-label": "Colour by",
    onchange: () => api.ask({}, { options: { column: column.value } }),
  });
  const [pictured, pictures] = checkbox("pictures", { "data-local": true }, (on) =>
    api.put({ pictures: on }),
  );
  const [labelled, labels] = checkbox("labels", { "data-local": true }, (on) => api.put({ labels: on }));
  const zooms = h(
    "span",
    { class: "zooms", "data-local": true },
    square("−", "Zoom out", () => stage.zoom(1 / 1.5)),
    square("+", "Zoom in", () => stage.zoom(1.5)),
    square("Reset", "Reset: show the whole plane (double click, or 0)", stage.home),
  );
  const colouring = h("label", {}, "colour", column);
  const element = h("div", { class: "tools" }, ways, drags, colouring, pictured, labelled, zooms, legend);
  /** @param {[number, string, number, string]} given */
  const entry = ([byte, word, n, colour]) =>
    h(
      "span",
      { role: "listitem", "data-group": word, "data-colour": colour },
      h("b", { style: { background: colour || (byte > OTHER ? "var(--faint)" : "var(--ink3)") } }),
      word,
      h("small", { class: "num" }, count(n)),
      byte === OTHER ? h("span", { class: "sr" }, "all other values") : null,
    );
  /** @param {AtlasView} view */
  const set = (view) => {
    setWay(api.option("by"));
    setDrag(api.option("drag"));
    drags.hidden = api.standalone;
    pictures.checked = api.option("pictures");
    labels.checked = api.option("labels");
    if (column.dataset.names !== view.columns.join()) {
      column.dataset.names = view.columns.join();
      column.replaceChildren(
        h("option", { value: "" }, "none"),
        ...view.columns.map((name) => h("option", { value: name }, name)),
      );
    }
    colouring.hidden = !view.columns.length;
    column.value = view.column;
    legend.hidden = !view.groups.length;
    legend.replaceChildren(...view.groups.map(entry));
  };
  return { element, set };
};
