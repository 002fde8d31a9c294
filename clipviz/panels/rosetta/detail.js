// One concept on the selected image, through every model.

import { counted, focusedBy, h, onEnter } from "../kit/dom.js";
import { neuronLink } from "../kit/links.js";
import { glow } from "../kit/maps.js";
import { fixed, neuronName, unitPlace, unitScore } from "./words.js";

/**
 * The image, and every model's map of the concept on it.
 * @param {RosettaView} view
 * @param {ConceptDetail} about
 * @param {RosettaArrays} arrays
 * @param {string} url
 */
const modelFigures = (view, about, arrays, url) => {
  const area = arrays.now.length / view.columns.length;
  const side = Math.sqrt(area);
  /** @param {any} map @param {Child} first @param {Child} second */
  const shown = (map, first, second) =>
    h(
      "figure",
      {},
      h(
        "span",
        {
          class: map ? "tile lit" : "tile",
          style: { backgroundImage: `url(${url})`, backgroundSize: "cover" },
        },
        map ?? "",
      ),
      h("figcaption", {}, h("b", {}, first), second),
    );
  /** @param {string} name @param {string} text @param {any} [more] */
  const none = (name, text, more = null) =>
    h(
      "figure",
      { class: "none" },
      h("span", { class: "tile" }, text),
      h("figcaption", {}, h("b", {}, name), more),
    );
  return [
    shown(null, "this image", h("span", { class: "place", title: about.caption }, about.caption)),
    ...view.columns.map((column, i) => {
      const cell = about.cells[i];
      if (!cell) return none(column.name, "no partner");
      if (about.shows && !about.shows[i])
        return none(column.name, "no map: it generates images", unitPlace(cell));
      if (!column.at_hand) return none(column.name, "not loaded", unitPlace(cell));
      return shown(
        glow(arrays.now.subarray(i * area, (i + 1) * area), side, side, 255),
        column.name,
        h("span", { class: "both" }, unitPlace(cell), unitScore(cell, i === 0)),
      );
    }),
  ];
};

/**
 * What is known of a concept, in words.
 * @param {RosettaApi} api
 * @param {RosettaView} view
 * @param {ConceptDetail} about
 */
const conceptFacts = (api, view, about) => {
  const known = about.cells.filter(Boolean).slice(1);
  const mean = known.reduce((sum, cell) => sum + cell.heldout, 0) / Math.max(1, known.length);
  return [
    view.chosen ? "" : "First in the list. ",
    view.columns[0].name === "clip" ? "CLIP’s " : `The ${view.columns[0].name}’s `,
    view.columns[0].name === "clip" && about.neuron
      ? neuronLink(
          api,
          about.neuron[0],
          about.neuron[1],
          typeof about.neuron[0] === "string"
            ? `${about.neuron[0]}, feature ${about.neuron[1]}`
            : `layer ${about.neuron[0]}, neuron ${about.neuron[1]}`,
        )
      : h("b", {}, `unit ${neuronName(about)}`),
    ` and ${counted(known.length, "partner")}: correlation `,
    h("b", { class: "num" }, fixed(mean)),
    " on held-out images.",
    ...(about.hint
      ? [
          " Possible content: ",
          h("b", {}, about.hint),
          `, which fits ${Math.round(100 * about.hint_share)}% of its strongest held-out images.`,
        ]
      : about.label
        ? []
        : [
            " No text fits its strongest held-out images better than chance, so it has a number instead of a name.",
          ]),
    ...(about.size > 1 ? [` ${about.size} of the pivot's units share this concept.`] : []),
  ];
};

/** One concept on the selected image, through every model; its name can be typed. @param {RosettaApi} api */
export const conceptDetail = (api) => {
  const label = h("input", {
    type: "text",
    class: "label",
    "aria-label": "Name of the concept",
    spellcheck: "false",
    autocomplete: "off",
    maxlength: 80,
  });
  label.addEventListener(
    "keydown",
    onEnter(() => label.blur()),
  );
  label.addEventListener("keydown", (/** @type {On<KeyboardEvent>} */ event) => {
    if (event.key === "Escape") {
      label.value = api.view.detail?.label ?? "";
      label.blur();
    }
  });
  label.addEventListener("blur", () => {
    const about = api.view.detail;
    if (about && label.value.trim() !== about.label)
      api.ask({}, { action: "name", concept: about.concept, label: label.value });
  });
  const facts = h("p", { class: "facts" });
  const missed = h("p", { class: "missed", role: "status" });
  const stage = h("div", {
    class: "stage",
    role: "group",
    "aria-label": "The concept on the selected image",
  });
  const element = h("div", { class: "detail" }, h("div", { class: "about" }, label, facts, missed), stage);
  /** @param {RosettaView} view @param {ConceptDetail} about */
  const say = (view, about) => {
    if (focusedBy(label) !== label || label.dataset.concept !== String(about.concept))
      label.value = about.label;
    label.dataset.concept = about.concept;
    label.placeholder = about.hint ? `name it… (like “${about.hint}”)` : "name it…";
    facts.replaceChildren(...conceptFacts(api, view, about));
    missed.textContent = view.missed;
    missed.hidden = !view.missed;
  };
  /** @param {RosettaView} view @param {RosettaArrays} arrays @param {string} url */
  const draw = (view, arrays, url) => {
    const about = view.detail;
    element.hidden = !about;
    if (!about) return;
    say(view, about);
    stage.hidden = !url || about.image === undefined;
    if (stage.hidden) return;
    stage.replaceChildren(...modelFigures(view, about, arrays, url));
    api.root.dataset.mapOf = String(about.image);
    api.root.dataset.lit = String(stage.querySelectorAll(".map").length);
  };
  return { element, draw };
};
