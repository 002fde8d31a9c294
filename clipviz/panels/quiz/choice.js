// Options to choose from: words, galleries, or maps over a picture.

import { h } from "../kit/dom.js";
import { drawMap, drawOutline, largest, mapLayer } from "../kit/maps.js";
import { gallery, letter } from "../kit/questions.js";

const MAP_SIDE = 224;

/** What an option is marked with once the question has been answered. @param {QuizView} view @param {number} at */
const mark = ({ answer }, at) => {
  if (!answer) return null;
  const own = answer.chosen[0] === at;
  if (answer.best[0] === at) return h("b", { class: "mark" }, own ? "✓ your answer" : "✓ measured");
  return own ? h("b", { class: "mark" }, "✗ your answer") : null;
};

/**
 * An option as a radio button.
 * @param {QuizView} view @param {number} at @param {Node} shown
 * @param {(answer: number[]) => void} choose
 */
const option = (view, at, shown, choose) => {
  const { answer } = view;
  const own = answer?.chosen[0] === at;
  return h(
    "label",
    { class: `choice ${answer?.best[0] === at ? "right" : own ? "wrong" : ""}`.trim() },
    h("input", {
      type: "radio",
      name: "answer",
      value: at,
      checked: own,
      disabled: Boolean(answer),
      onchange: () => choose([at]),
    }),
    h("b", { class: "letter" }, letter(at)),
    shown,
    mark(view, at),
  );
};

/**
 * Paints the maps over the picture, with the outline of what is truly there once the question has been answered.
 * @param {QuestionShown} asked
 * @param {HTMLCanvasElement[]} canvases
 * @param {QuestionTools} tools
 */
const paintMaps = ({ root, view, arrays }, canvases, { load }) => {
  const { picture, maps, outline } = arrays;
  if (!picture || !maps || !view.map) return;
  const [rows, cols] = view.map;
  const limit = largest(maps);
  load(picture, (decoded) => {
    canvases.forEach((canvas, at) => {
      const values = maps.subarray(at * rows * cols, (at + 1) * rows * cols);
      drawMap(canvas, decoded, mapLayer(values, rows, cols, limit, "signed"), 0.85, MAP_SIDE);
      if (view.answer?.mask && outline) drawOutline(canvas, outline, view.answer.mask);
    });
    root.dataset.painted = String(view.at);
  });
};

/** @type {QuestionKind} */
export const byChoice = {
  role: "radiogroup",
  look: ({ map, options }) =>
    map?.length || options?.some(({ tiles }) => tiles.length) ? "pictures" : "texts",
  parts: (asked, tools) => {
    const { view } = asked;
    const url = tools.url("sprite");
    const shown = (view.options ?? []).map(({ words, tiles }, at) =>
      view.map?.length
        ? h("canvas", { class: "map", role: "img", "aria-label": `Map ${letter(at)} over the picture` })
        : tiles.length
          ? gallery(view, url, tiles)
          : h("span", { class: "said" }, words),
    );
    paintMaps(asked, shown, tools);
    return shown.map((node, at) => option(view, at, node, tools.choose));
  },
};
