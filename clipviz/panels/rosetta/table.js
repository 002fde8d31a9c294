// One page of concepts by models.

import { clickable, count, h } from "../kit/dom.js";
import { pictureUrl, tileStyle } from "../kit/gallery.js";
import { neuronLink, unitName } from "../kit/links.js";
import { glow } from "../kit/maps.js";
import { called, fixed, unitLine, unitPlace, unitScore, whatUnit } from "./words.js";

/**
 * The header: models, the number of pairs, and the number expected by chance.
 * @param {RosettaApi} api
 * @param {RosettaView} view
 * @param {number} at
 */
const columnHead = (api, view, at) => {
  const { name, loss, n_pairs: pairs, n_chance: chance, threshold, heldout } = view.columns[at];
  const text = [h("b", {}, name), loss ? h("span", { class: "loss" }, loss) : null];
  if (at === 0) return h("div", { class: "cell", role: "columnheader" }, ...text);
  const title = `${count(pairs)} best-buddy pairs correlate more than ${threshold.toFixed(2)} above their own correlation on shuffled images; ${count(chance)} of the pairs found on shuffled images do. Held-out mean: ${heldout.toFixed(2)}.`;
  const models = api.option("models");
  const must = models.includes(name);
  const choose = () =>
    api.ask(
      {},
      {
        options: {
          models: must ? models.filter((one) => one !== name) : [...models, name],
          page: 0,
        },
      },
    );
  return h(
    "div",
    { class: "cell", role: "columnheader" },
    clickable(
      {
        class: "must",
        "aria-pressed": String(must),
        title: `${title} Click to show only concepts that ${name} has`,
        "data-model": name,
        onclick: choose,
      },
      ...text,
    ),
    h("span", { class: "chance num", title }, `${count(pairs)} pairs, ${count(chance)} by chance`),
    h("span", { class: "chance num", title }, "held out ", h("b", {}, fixed(heldout))),
  );
};

/**
 * One of the images, or its map by a unit.
 * @param {RosettaView} view
 * @param {string} url
 * @param {number} tile
 * @param {any} map
 */
const shot = (view, url, tile, map) => {
  const image = view.pictures[tile];
  const caption = view.captions[tile];
  const style = tileStyle(url, tile, view.sprite_columns, view.n_pictures);
  if (map) return h("span", { class: "tile lit", style }, map);
  if (!view.linked) return h("span", { class: "tile", style, title: caption });
  return clickable({
    class: "tile",
    style,
    "data-image": image,
    title: caption,
    "aria-label": caption,
    "aria-pressed": String(image === view.selection.image),
    tabindex: -1,
  });
};

/**
 * A model's unit of a concept: its maps on the images, its place and its correlation.
 * @param {RosettaApi} api
 * @param {RosettaView} view
 * @param {string} url
 * @param {any} maps
 * @param {number} row
 * @param {ConceptRow} about
 * @param {CellShown} cell
 * @param {number} model
 */
const unitCell = (api, view, url, maps, row, about, cell, model) => {
  if (!cell)
    return h(
      "div",
      {
        class: "cell none",
        role: "gridcell",
        "aria-label": `${view.columns[view.at[model]].name} has none`,
      },
      "–",
    );
  const column = view.columns[view.at[model]];
  const own = view.at[model] === 0 && column.name === "clip" && about.neuron;
  const place = own
    ? neuronLink(api, about.neuron[0], about.neuron[1], unitName(about.neuron), -1)
    : unitPlace(cell);
  const under = h("div", { class: "under" }, place, unitScore(cell, view.at[model] === 0));
  if (column.paints)
    return h(
      "div",
      {
        class: "cell paints",
        role: "gridcell",
        title:
          "This model generates images and cannot read them, so it has no map here. Its units were matched on its own images; the pivot “Generator” shows them.",
      },
      h("span", { class: "loss" }, "generates images"),
      under,
    );
  const n = about.tiles.length;
  const side = view.side ?? 0;
  const area = side * side;
  const start = (row * view.at.length + model) * n;
  const shots = about.tiles.map((tile, i) =>
    shot(
      view,
      url,
      tile,
      maps ? glow(maps.subarray((start + i) * area, (start + i + 1) * area), side, side, 255) : h("i", {}),
    ),
  );
  return h("div", { class: "cell", role: "gridcell" }, h("div", { class: "shots" }, ...shots), under);
};

/** One page of concepts by models. @param {RosettaApi} api */
export const conceptTable = (api) => {
  const head = h("div", { class: "row head", role: "row" });
  const rows = h("div", { class: "rows", role: "rowgroup" });
  const address = pictureUrl(api);
  const table = h(
    "div",
    { class: "table", role: "grid", "aria-label": "Concepts by models" },
    h("div", { role: "rowgroup" }, head),
    rows,
  );
  /** @param {RosettaView} view @param {RosettaArrays} arrays */
  const draw = (view, arrays) => {
    const url = address(arrays.sprite);
    /** @param {any[]} children */
    const column = (...children) => h("div", { class: "cell", role: "gridcell" }, ...children);
    head.replaceChildren(
      h(
        "div",
        { class: "what", role: "columnheader" },
        h("b", {}, "Concept"),
        h("span", { class: "loss" }, `on the images where ${whatUnit(view)} is strongest`),
      ),
      h("div", { class: "cell shots", role: "columnheader" }, h("b", {}, "Image")),
      ...view.at.map((at) => columnHead(api, view, at)),
    );
    rows.replaceChildren(
      ...view.rows.map((about, row) =>
        h(
          "div",
          { class: "row", role: "row", "data-concept": about.concept },
          h("div", { class: "what", role: "rowheader" }, called(about), unitLine(about)),
          column(h("div", { class: "shots" }, ...about.tiles.map((tile) => shot(view, url, tile, null)))),
          ...about.cells.map((cell, model) => unitCell(api, view, url, arrays.maps, row, about, cell, model)),
        ),
      ),
    );
    table.style.setProperty("--models", view.at.length + 1);
    table.dataset.shots = view.show === "pair" ? "many" : "few";
  };
  return { table, rows, draw };
};
