import { clickable, closest, count, counted, focusedBy, h, messageInstead, percent } from "../kit/dom.js";
import { pager, pictureLoader } from "../kit/gallery.js";
import { markSelected, perRow, walk } from "../kit/grid.js";
import { glow } from "../kit/maps.js";
import { followVisibility, mount } from "../kit/protocol.js";
import { chooser } from "./chooser.js";
import { conceptDetail } from "./detail.js";
import { conceptTable } from "./table.js";
import { called, neuronName, pivotOf, unitLine, whatUnit } from "./words.js";

/** Every concept on the selected image. */
const conceptTiles = () => {
  const tiles = h("div", { class: "tiles", role: "listbox", "aria-label": "Concepts on this image" });
  /** @param {RosettaView} view @param {RosettaArrays} arrays @param {string} url */
  const draw = (view, arrays, url) => {
    const side = view.tiles.length ? Math.sqrt(arrays.here.length / view.tiles.length) : 0;
    const area = side * side;
    tiles.replaceChildren(
      ...view.tiles.map((about, i) => {
        const title = `${about.label || about.hint || about.name}, ${neuronName(about)}, ${percent(about.strength)} of its usual peak`;
        return clickable(
          { class: "one", role: "option", "data-concept": about.concept, title, "aria-label": title },
          h(
            "span",
            { class: "tile lit", style: { backgroundImage: `url(${url})`, backgroundSize: "cover" } },
            glow(arrays.here.subarray(i * area, (i + 1) * area), side, side, 255),
          ),
          called(about),
          unitLine(about),
        );
      }),
    );
  };
  return { tiles, draw };
};

/**
 * Clicks and arrow keys in the rows and tiles.
 * @param {RosettaApi} api
 * @param {any} lists
 * @param {any} items
 */
const pickConcepts = (api, lists, items) => {
  /** @param {any} item */
  const pick = (item) => {
    markSelected(items(), (other) => other === item);
    // The selected head stays; the neuron's own link goes to it.
    api.ask({ concept: Number(item.dataset.concept), neuron: null });
  };
  for (const list of lists) {
    list.addEventListener("click", (/** @type {On<MouseEvent>} */ event) => {
      if (closest(event, "[data-neuron-link]")) return;
      const picture = closest(event, "button[data-image]");
      const item = closest(event, ".row, .one");
      if (picture && api.view.linked) api.ask({ image: Number(picture.dataset.image) });
      else if (item) pick(item);
    });
    list.addEventListener("keydown", (/** @type {On<KeyboardEvent>} */ event) => {
      if (![" ", "Enter"].includes(event.key) || !items().includes(event.target)) return;
      event.preventDefault();
      pick(event.target);
    });
    walk(list, items, { columns: (all) => (api.view.show === "image" ? perRow(all) : 1), moved: pick });
  }
};

/** An explanation of names in italics, if there are any. @param {RosettaView} view */
const italic = (view) =>
  (view.rows ?? view.tiles).some((one) => one.hint && !one.label)
    ? " Names in italics are guesses: the text fits most of the unit's strongest images, including held-out ones. A concept with a number has no such text."
    : "";

/** The line below. @param {RosettaApi} api @param {RosettaView} view */
const noteOf = (api, view) => {
  const n = count(view.n_found);
  if (view.show !== "image")
    return view.n_found
      ? `${n} ${view.every_unit ? "units" : "concepts"}. Brightness ranges from the unit's mean to its usual peak. Numbers are correlations with ${whatUnit(view)} on held-out images.${italic(view)}`
      : "No concept matches the filter.";
  if (view.selection.image === null) return "Select an image to see every concept on it.";
  return `${n} concepts exceed their mean on this image, the strongest first; ${view.tiles.length} shown. Full brightness: as strong as on the unit's best images.${italic(view)}`;
};

/** @param {RosettaApi} api @returns {Draw<RosettaView, RosettaArrays>} */
function build(api) {
  const hint = h("small", {});
  const note = h("p", { class: "note" });
  const advice = h("p", { class: "advice" });
  const [controls, setControls] = chooser(api);
  const table = conceptTable(api);
  const tiles = conceptTiles();
  const detail = conceptDetail(api);
  const load = pictureLoader(api);
  const [pages, setPage] = pager((step) => api.ask({}, { options: { page: api.view.page + step } }));
  const all = h(
    "div",
    { class: "all" },
    controls,
    detail.element,
    table.table,
    tiles.tiles,
    h("div", { class: "foot" }, note, pages),
  );
  const [empty, says] = messageInstead(all);
  api.body.append(h("h2", {}, "Rosetta neurons", hint), empty, advice, all);
  const items = () => [...(api.view.show === "image" ? tiles.tiles : table.rows).children];
  pickConcepts(api, [table.rows, tiles.tiles], items);
  followVisibility(api);

  return (view, arrays) => {
    advice.hidden = !view.message || !view.advice;
    advice.textContent = view.advice ?? "";
    hint.textContent = view.message
      ? ""
      : `${counted(view.n_units, "unit")} that ${pivotOf(view)} shares with ${counted(view.columns.length - 1, "other model")}, ${counted(view.n_concepts, "concept")}${view.n_untrained === null ? "" : `; with an untrained copy of CLIP instead: ${counted(view.n_untrained, "unit")}`}`;
    if (says(view)) return Object.assign(api.root.dataset, { message: view.message, rows: 0 });
    const held = focusedBy(api.root);
    const focused = table.rows.contains(held) || tiles.tiles.contains(held);
    const image = view.show === "image";
    setControls(view);
    table.table.hidden = image;
    tiles.tiles.hidden = !image;
    if (!image) table.draw(view, arrays);
    const again = () => {
      markSelected(items(), (item) => view.chosen && Number(item.dataset.concept) === view.concept);
      if (focused && !items().includes(focusedBy(api.root)))
        items()
          .find((item) => item.tabIndex === 0)
          ?.focus();
    };
    /** @param {string} url */
    const rest = (url) => {
      detail.draw(view, arrays, url);
      if (image) tiles.draw(view, arrays, url);
      again();
    };
    if (arrays.picture?.length) load(arrays.picture, (_, url) => rest(url));
    else rest("");
    again();
    note.textContent = noteOf(api, view);
    pages.hidden = view.n_pages < 2;
    setPage(view.page, view.n_pages);
    const listed = image ? view.tiles : view.rows;
    Object.assign(api.root.dataset, {
      show: view.show,
      pivot: view.pivot,
      sort: view.sort,
      page: view.page,
      rows: listed.length,
      found: view.n_found,
      first: listed[0]?.concept ?? "",
      concept: view.concept ?? "",
      chosen: String(view.chosen),
      image: view.selection.image ?? "",
      named: view.detail?.label ?? "",
      models: view.models.join(" "),
      other: view.other,
      whose: view.whose,
      message: "",
    });
  };
}

export default {
  /** @param {Context} context */
  render: (context) => mount(context, "rosetta", build),
};
