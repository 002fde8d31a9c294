// The picture with its map.

import { h, signed } from "../kit/dom.js";
import { gridKeys } from "../kit/grid.js";
import { drawMap, drawOutline } from "../kit/maps.js";
import { layerOf } from "./map.js";

/** @import { Drawn } from "./map.js" */

/** Puts a frame around the selected token. @param {HeatmapApi} api @param {any} box */
const frameToken = (api, box) => {
  const { rows, cols, selection } = api.view;
  const token = selection.token ? selection.token - 1 : null;
  box.hidden = token === null;
  if (token !== null)
    Object.assign(box.style, {
      left: `${(100 * (token % cols)) / cols}%`,
      top: `${(100 * Math.floor(token / cols)) / rows}%`,
      width: `${100 / cols}%`,
      height: `${100 / rows}%`,
    });
};

/** Says what is drawn. @param {HeatmapApi} api @param {any} canvas @param {Drawn} map */
const publish = (api, canvas, { values, show }) => {
  const { selection, cols } = api.view;
  const peak = values.indexOf(Math.max(...values));
  Object.assign(api.root.dataset, {
    image: selection.image ?? "",
    layer: selection.layer ?? "",
    head: selection.head ?? "",
    token: selection.token ?? "",
    text: selection.text,
    textB: selection.text_b,
    scope: api.option("scope"),
    show,
    scale: api.option("scale")?.toFixed(6) ?? "",
    cosine: api.view.cosine?.toFixed(6) ?? "",
    total: values.reduce((sum, value) => sum + value, 0).toFixed(5),
    peak,
    drawn: Number(api.root.dataset.drawn ?? 0) + 1,
  });
  const place = `row ${Math.floor(peak / cols)}, column ${peak % cols}`;
  canvas.setAttribute("aria-label", `${show} map; highest at ${place}. Arrow keys move between patches.`);
};

/** The patch under the pointer. @param {HeatmapApi} api @param {any} canvas @param {On<MouseEvent>} event */
const patchAt = (api, canvas, event) => {
  const bounds = canvas.getBoundingClientRect();
  const { rows, cols } = api.view;
  const col = Math.floor(((event.clientX - bounds.left) / bounds.width) * cols);
  const row = Math.floor(((event.clientY - bounds.top) / bounds.height) * rows);
  return row >= 0 && col >= 0 && row < rows && col < cols ? row * cols + col : null;
};

/** A value of a map. @param {Drawn} map @param {number} value */
const inDigits = ({ kind }, value) =>
  kind === "signed" ? signed(value, 4) : Math.abs(value) >= 1e-3 ? value.toFixed(4) : value.toExponential(1);

/**
 * The picture with its map; hover reads a token, a click or the arrows choose one.
 * @param {HeatmapApi} api
 * @param {any} chosen
 */
export const mapStage = (api, chosen) => {
  const canvas = h("canvas", { class: "map", tabindex: 0, role: "img" });
  const tip = h("div", { class: "tip num", hidden: true });
  const box = h("div", { class: "box", hidden: true });
  const stage = h("div", { class: "stage" }, canvas, box, tip);
  const self = {
    stage,
    canvas,
    tip,
    picture: /** @type {any} */ (null),
    map: /** @type {(Drawn & { image?: number }) | null} */ (null),
    paint: () => {},
    hovered: () => {},
  };
  /** @type {number | null} */
  let hover = null;
  let width = 0; // set by the observer, since reading it here would force another layout
  self.paint = () => {
    if (!self.picture) return;
    drawMap(
      canvas,
      self.picture,
      self.map && layerOf(api, self.map),
      api.option("opacity"),
      Math.max(64, Math.round((width ||= stage.clientWidth) || 400)),
    );
    if (api.option("outline") && api.arrays.mask) drawOutline(canvas, api.arrays.mask, api.view.mask_size);
    frameToken(api, box);
    if (self.map) publish(api, canvas, self.map);
  };
  /** @param {number} place */
  const point = (place) => {
    hover = place;
    tip.hidden = place === null || !self.map;
    if (tip.hidden) return;
    const { rows, cols } = api.view;
    const row = Math.floor(place / cols);
    const col = place % cols;
    tip.textContent = `patch (${row}, ${col}) · ${inDigits(self.map, self.map.values[place])}`;
    tip.style.left = `${Math.max(18, Math.min(82, (100 * (col + 0.5)) / cols))}%`;
    tip.style.top = row < 2 ? `${(100 * (row + 1)) / rows + 9}%` : `${(100 * row) / rows}%`;
    api.root.dataset.hover = String(place);
  };
  self.hovered = () => hover !== null && point(hover);
  /** @param {number} place */
  const choose = (place) => {
    api.view.selection.token = place + 1;
    frameToken(api, box);
    point(place);
    chosen();
    api.ask({ token: place + 1 });
  };
  canvas.addEventListener(
    "mousemove",
    (/** @type {On<MouseEvent>} */ event) => api.view.seq && point(patchAt(api, canvas, event)),
  );
  canvas.addEventListener("mouseleave", () => point(null));
  canvas.addEventListener(
    "click",
    (/** @type {On<MouseEvent>} */ event) =>
      self.map && patchAt(api, canvas, event) !== null && choose(patchAt(api, canvas, event)),
  );
  canvas.addEventListener("keydown", (/** @type {On<KeyboardEvent>} */ event) => {
    const { rows, cols, selection } = api.view;
    if (event.key === "Escape") {
      point(null);
      return api.ask({ token: null });
    }
    const now = selection.token ? selection.token - 1 : Math.floor(rows / 2) * cols + Math.floor(cols / 2);
    const to = gridKeys(event, Math.floor(now / cols), now % cols, rows, cols);
    if (!to || !self.map) return;
    event.preventDefault();
    choose(to[0] * cols + to[1]);
  });
  const resized = new ResizeObserver(() => {
    if (width && width === stage.clientWidth) return;
    width = stage.clientWidth;
    self.paint();
  });
  resized.observe(stage);
  api.cleanups.push(() => resized.disconnect());
  return self;
};

/** @typedef {ReturnType<typeof mapStage>} Stage */
