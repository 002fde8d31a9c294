// Links to heads, neurons and desks, and numbers before and after a removal.

import { clickable, headName, link, signed } from "./dom.js";

/** A head's name as a link that selects it. @param {Api} api @param {number} layer @param {number} head */
export const headLink = (api, layer, head) =>
  link(headName(layer, head), () => api.ask({}, { action: "visit", head: [layer, head] }), {
    class: "to num",
    "data-head-link": `${layer},${head}`,
    disabled: !api.offers({}, { action: "visit", head: [layer, head] }),
    title: `Select ${headName(layer, head)}`,
  });

/**
 * A unit's name: "L3 · 288" for a neuron, "L3 features · 17" for a feature of a dictionary.
 * @param {[number | string, number]} place
 */
export const unitName = ([whose, number]) => `${typeof whose === "string" ? whose : `L${whose}`} · ${number}`;

/**
 * A neuron's number as a link that opens the Neurons desk on it, or a feature's.
 * @param {Api} api
 * @param {number | string} layer or the name of a dictionary
 * @param {number} neuron
 * @param {string} [text]
 * @param {number} [tabindex]
 */
export const neuronLink = (api, layer, neuron, text = `#${neuron}`, tabindex = 0) =>
  link(text, () => api.ask({}, { action: "visit", neuron: [layer, neuron] }), {
    class: "to num",
    "data-neuron-link": `${layer},${neuron}`,
    tabindex,
    disabled: api.standalone,
    title:
      typeof layer === "string"
        ? `Open feature ${neuron} of ${layer}`
        : `Open neuron ${neuron} of layer ${layer}`,
  });

/**
 * A button that shows a text everywhere, pressed where it is selected.
 * @param {Api} api
 * @param {string} text
 * @param {Attributes} attributes
 * @param {...Child} children
 */
export const textButton = (api, text, attributes, ...children) =>
  clickable(
    {
      title: `Show “${text}” everywhere`,
      "aria-pressed": String(text === api.view.selection.text),
      disabled: !api.offers({ text }),
      onclick: () => api.ask({ text }),
      ...attributes,
    },
    ...children,
  );

/**
 * A link that opens a desk; saved pages only have their own desks (model.desks).
 * @param {Api} api
 * @param {string} desk
 * @param {string} text
 */
export const deskLink = (api, desk, text) =>
  api.standalone || api.model.desks?.includes(desk) === false
    ? null
    : link(text, () => api.ask({}, { action: "visit", desk }), { class: "to", "data-desk-link": desk });

/**
 * A number before a removal and after it; one number where nothing is removed.
 * @param {number} after
 * @param {number | null | undefined} before
 * @param {number} [digits]
 */
export const change = (after, before, digits = 3) =>
  before === null || before === undefined
    ? signed(after, digits)
    : `${signed(before, digits)} → ${signed(after, digits)}`;
