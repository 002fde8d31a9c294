// The view, the model, the order, the filter.

import { checkbox, focusedBy, h, onEnter } from "../kit/dom.js";
import { segmented } from "../kit/grid.js";

const SORTS = [
  ["named", "Named", "Concepts with a name first, then by the mean correlation on held-out images"],
  ["heldout", "Held out", "Mean correlation on held-out images"],
  ["correlation", "Correlation", "Mean correlation on the images used for matching"],
  ["size", "Size", "Number of the pivot's units that share the concept"],
  ["layer", "Layer", "From the pivot's first layer to its last"],
];

/**
 * The model beside the pivot, or the one whose units are drawn on the image.
 * @param {(options: Partial<RosettaOptions>) => void} put
 * @returns {[any, (view: RosettaView) => void]}
 */
const modelChoice = (put) => {
  const slot = h("span", {});
  let setWhose = (/** @type {string} */ _name) => {};
  let key = "";
  /** @param {RosettaView} view */
  const set = (view) => {
    const pair = view.show === "pair";
    const names = view.columns.map(({ name }) => name).slice(pair ? 1 : 0);
    slot.hidden = view.show === "grid";
    if (key !== `${view.show} ${names.join(" ")}`) {
      key = `${view.show} ${names.join(" ")}`;
      const [element, choose] = segmented(
        pair ? "The pivot beside" : "Units of",
        names.map((name) => [name, name]),
        (name) => put(pair ? { other: name } : { whose: name }),
      );
      setWhose = choose;
      slot.replaceChildren(element);
    }
    setWhose(pair ? view.other : view.whose);
  };
  return [slot, set];
};

/** The view, the model, the order, the filter. @param {RosettaApi} api */
export const chooser = (api) => {
  /** @param {Record<string, any>} options */
  const put = (options) => api.ask({}, { options: { ...options, page: 0 } });
  const [shows, setShow] = segmented(
    "View",
    [
      ["grid", "Dictionary", "Concepts by models, on the images where the pivot's unit is strongest"],
      ["image", "This image", "Every concept on the selected image"],
      ["pair", "Pairs", "The pivot's unit beside one model's"],
    ],
    (show) => put({ show }),
  );
  const [sorts, setSort] = segmented("Sort by", SORTS, (sort) => put({ sort }));
  const words = h("input", {
    type: "search",
    "aria-label": "Find a concept",
    placeholder: "find a concept…",
    spellcheck: "false",
    autocomplete: "off",
    maxlength: 100,
  });
  /** @param {any} value */
  const look = (value) => value !== api.model.get("words") && put({ words: value });
  words.addEventListener("keydown", onEnter(look));
  words.addEventListener("search", () => look(words.value.trim()));
  const [everyLabel, every] = checkbox(
    "every unit",
    {
      class: "every",
      title: "One row per unit of the pivot; otherwise units that are each other's best buddies share a row",
    },
    (on) => put({ every_unit: on }),
  );
  const [slot, setModel] = modelChoice(put);
  const [pivots, setPivot] = segmented(
    "Pivot",
    [
      ["clip", "CLIP", "Units of CLIP that other models share, on the images"],
      [
        "generator",
        "Generator",
        "Units of the generator that CLIP and every other model share, on its own samples (Eq. 4.4)",
      ],
    ],
    (pivot) => put({ pivot, models: [], other: "", whose: "" }),
  );
  /** @param {RosettaView} view */
  const set = (view) => {
    setShow(view.show);
    setPivot(view.pivot);
    pivots.hidden = !view.pivots.length;
    setSort(api.option("sort"));
    every.checked = api.option("every_unit");
    if (focusedBy(words) !== words) words.value = api.option("words");
    sorts.hidden = view.show === "image";
    setModel(view);
  };
  return [
    h(
      "div",
      { class: "controls" },
      shows,
      pivots,
      slot,
      sorts,
      everyLabel,
      h("span", { class: "field find" }, h("b", { "aria-hidden": "true" }, "⌕"), words),
    ),
    set,
  ];
};
