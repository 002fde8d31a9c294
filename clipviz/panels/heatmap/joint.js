// The texts of a head on this image (Fig. 2.6).

import { h, signed } from "../kit/dom.js";
import { signName } from "../kit/figure.js";
import { roving, segmented } from "../kit/grid.js";
import { headLink, textButton } from "../kit/links.js";
import { drawMap, largest, mapLayer } from "../kit/maps.js";
import { passing } from "./map.js";

/** @import { Stage } from "./stage.js" */

/** A head's texts on this image (Fig. 2.6). @param {HeatmapApi} api @param {Stage} stage */
export const headTexts = (api, stage) => {
  const part = h("div", { class: "part joint" });
  const [counts, setCount] = segmented(
    "How many of the head's texts",
    [
      [10, "10", "Of the head's first 10 texts"],
      [60, "60", "Of its first 60 texts, as many as in the thesis"],
    ],
    (n) => api.ask({}, { options: { joint_texts: Number(n) } }),
  );
  const draw = () => {
    const { joint: about, rows, cols, selection } = api.view;
    part.classList.toggle("pending", !about);
    if (!about || !stage.picture) return;
    const name =
      selection.layer === null || selection.head === null
        ? "the head"
        : headLink(api, selection.layer, selection.head);
    const title = h(
      "h3",
      {},
      h("b", {}, "How ", name, " reads this image"),
      api.standalone ? null : h("span", { class: "sizes" }, "Texts considered", counts),
      h(
        "span",
        {},
        `The strongest and weakest of its ${api.standalone ? `first ${about.n_texts} texts` : "texts"}${api.view.removed && ", before the removal"}`,
      ),
    );
    setCount(about.n_texts);
    if (!about.texts.length) return part.replaceChildren(title, h("p", { class: "note" }, about.message));
    const all = api.arrays.joint_maps;
    const size = rows * cols;
    const limit = largest(all);
    /** @param {string} text @param {number} i */
    const tile = (text, i) => {
      const small = h("canvas", { "aria-hidden": "true" });
      const value = about.values[i];
      drawMap(
        small,
        stage.picture,
        mapLayer(all.subarray(i * size, (i + 1) * size), rows, cols, limit, "signed", 0, passing),
        0.8,
        132,
      );
      return textButton(
        api,
        text,
        { class: "says", "aria-label": `${text}, ${signed(value, 4)}` },
        small,
        h("b", { class: `num ${signName(value)}` }, signed(value)),
        h("span", { class: "words" }, text),
      );
    };
    part.dataset.texts = about.texts.join("\n");
    part.replaceChildren(title, roving(h("div", { class: "tiles" }, ...about.texts.map(tile))));
  };
  return { part, draw };
};
