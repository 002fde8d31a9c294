// What units and concepts are called.

import { counted, h } from "../kit/dom.js";
import { unitName } from "../kit/links.js";

// "encoder.blocks.3.mlp.act" reads "blocks.3"; the whole name is in the tooltip.
const DULL = new Set(["transformer", "encoder", "mlp", "act", "gelu"]);

/** @param {string} layer */
const layerName = (layer) =>
  layer
    .split(".")
    .filter((/** @type {string} */ part) => !DULL.has(part))
    .join(".")
    .replace("resblocks.", "L")
    .replace("relu_out", "out");

/** @param {any} value */
export const fixed = (value) => value.toFixed(2).replace("-", "−");

const MATCHED = "on the images used for matching";

/** The model whose units are the rows. @param {any} view */
export const pivotOf = (view) => (view.columns[0].name === "clip" ? "CLIP" : `the ${view.columns[0].name}`);

/** @param {any} view */
export const whatUnit = (view) => `${pivotOf(view)}’s unit`;

/** @param {ConceptShown} about */
export const neuronName = (about) => about.unit || (about.neuron ? unitName(about.neuron) : "");

/** @param {ConceptShown} about */
const manyUnits = (about) =>
  about.size > 1
    ? h(
        "span",
        { class: "size", title: `${about.size} units are each other's best buddies` },
        counted(about.size, "unit"),
      )
    : null;

/** @param {ConceptShown} about */
export const unitLine = (about) =>
  h("span", { class: "unit" }, about.name === neuronName(about) ? null : neuronName(about), manyUnits(about));

/** @param {ConceptShown} about */
export const called = (about) =>
  about.label || !about.hint
    ? h("b", { class: "name" }, about.name)
    : h("b", { class: "name guess", title: `A guess: ${guessed(about)}` }, about.hint);

/** @param {ConceptShown} given */
const guessed = ({ hint, hint_share: share }) =>
  `“${hint}” fits ${Math.round(100 * share)}% of the images where the unit is strongest, among images that were not used to choose the text`;

/** @param {CellShown} cell */
export const unitPlace = (cell) =>
  h(
    "span",
    { class: "place", title: `${cell.layer}, unit ${cell.unit}` },
    `${layerName(cell.layer)} · ${cell.unit}`,
  );

/** @param {CellShown} cell @param {boolean} pivot */
export const unitScore = (cell, pivot) =>
  pivot
    ? null
    : h(
        "span",
        {
          class: "num r",
          title: `correlation ${cell.correlation.toFixed(3)} ${MATCHED}, ${cell.heldout.toFixed(3)} on held-out images`,
        },
        fixed(cell.heldout),
      );
