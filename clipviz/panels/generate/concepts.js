// The strongest concepts of the picture; one or all of them are under the hand.

import { clickable, counted, h } from "../kit/dom.js";
import { markSelected, perRow, walk } from "../kit/grid.js";
import { glow } from "../kit/maps.js";

const SURE = 0.3; // above this correlation a concept's name is shown without a question mark

/** @param {ConceptListed} one */
const unitsOf = (one) => counted(one.units.length, "unit");

/** @param {ConceptListed} one */
const conceptHint = (one) =>
  `${unitsOf(one)} of the generator that are active together, shared with ${one.readers.join(" and ")}: ${one.units.map(([layer, unit]) => `${layer} · ${unit}`).join(", ")}. Named by the text whose CLIP heatmap correlates most with their maps (r ${one.similarity.toFixed(2)}).`;

/** The strongest concepts; one or all of them can be dragged. @param {GenerateApi} api */
export const concepts = (api) => {
  const list = h("div", { class: "concepts", role: "listbox", "aria-label": "Concepts" });
  /** @param {number} place */
  const choose = (place) => api.ask({}, { options: { concept: place } });
  walk(list, () => [...list.children], { columns: perRow });
  /**
   * @param {string} url
   * @param {number} place
   * @param {string} title
   * @param {string} under
   * @param {string} hint
   * @param {any} map
   */
  const tile = (url, place, title, under, hint, map, sure = true) =>
    clickable(
      { class: "one", role: "option", title: hint, "data-place": place, onclick: () => choose(place) },
      h("span", { class: "tile", style: { backgroundImage: `url(${url})`, backgroundSize: "cover" } }, map),
      h("span", { class: sure ? "name" : "name guess" }, title),
      h("span", { class: "units" }, under),
    );
  /** @param {GenerateView} view @param {GenerateArrays} arrays @param {string} url */
  const set = (view, arrays, url) => {
    const chosen = api.option("concept");
    const size = view.side * view.side;
    const maps = view.concepts.map((_, i) =>
      glow(arrays.tiles.subarray(i * size, (i + 1) * size), view.side, view.side, 255),
    );
    list.replaceChildren(
      tile(
        url,
        -1,
        "Everything",
        counted(view.n_units, "unit"),
        `All ${counted(view.n_concepts, "concept")} that other models share`,
        null,
      ),
      ...view.concepts.map((one, i) =>
        tile(url, one.place, one.name, unitsOf(one), conceptHint(one), maps[i], one.similarity >= SURE),
      ),
    );
    markSelected([...list.children], (item) => Number(item.dataset.place) === chosen);
  };
  return [list, set];
};
