import { closest, count, counted, h, messageInstead, onEnter, percent } from "../kit/dom.js";
import { markSelected, perRow, segmented, walk } from "../kit/grid.js";
import { pager, pictureLoader, pictureUrl, tileStyle } from "../kit/gallery.js";
import { glow } from "../kit/maps.js";
import { followVisibility, mount } from "../kit/protocol.js";
import { neuronLink, unitName } from "../kit/links.js";

const SORTS = [
  ["named", "Named", "Concepts with a name first, then by the mean correlation on held-out images"],
  ["heldout", "Held out", "Mean correlation on held-out images"],
  ["correlation", "Correlation", "Mean correlation on the images used for matching"],
  ["size", "Size", "Number of the pivot's units that share the concept"],
  ["layer", "Layer", "From the pivot's first layer to its last"],
];

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
const fixed = (value) => value.toFixed(2).replace("-", "−");
const MATCHED = "on the images used for matching";

/** The model whose units are the rows. @param {any} view */
const pivotOf = (view) => (view.columns[0].name === "clip" ? "CLIP" : `the ${view.columns[0].name}`);
/** @param {any} view */
const whatUnit = (view) => `${pivotOf(view)}’s unit`;
/** @param {ConceptShown} about */
const neuronName = (about) => about.unit || (about.neuron ? unitName(about.neuron) : "");
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
const unitLine = (about) =>
  h("span", { class: "unit" }, about.name === neuronName(about) ? null : neuronName(about), manyUnits(about));
/** @param {ConceptShown} about */
const called = (about) =>
  about.label || !about.hint
    ? h("b", { class: "name" }, about.name)
    : h("b", { class: "name guess", title: `A guess: ${guessed(about)}` }, about.hint);
/** @param {ConceptShown} given */
const guessed = ({ hint, hint_share: share }) =>
  `“${hint}” fits ${Math.round(100 * share)}% of the images where the unit is strongest, among images that were not used to choose the text`;
/** @param {CellShown} cell */
const unitPlace = (cell) =>
  h(
    "span",
    { class: "place", title: `${cell.layer}, unit ${cell.unit}` },
    `${layerName(cell.layer)} · ${cell.unit}`,
  );
/**
 * @param {CellShown} cell
 * @param {boolean} pivot
 */
const unitScore = (cell, pivot) =>
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

/**
 * The view, the model, the order, the filter.
 * @param {RosettaApi} api
 */
const chooser = (api) => {
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
  const every = h("input", { type: "checkbox", onchange: () => put({ every_unit: every.checked }) });
  const everyLabel = h(
    "label",
    {
      class: "every",
      title: "One row per unit of the pivot; otherwise units that are each other's best buddies share a row",
    },
    every,
    "every unit",
  );
  const slot = h("span", {});
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
  let setWhose = (/** @type {string} */ _name) => {};
  let key = "";
  /** @param {RosettaView} view */
  const setModel = (view) => {
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
  /** @param {RosettaView} view */
  const set = (view) => {
    setShow(view.show);
    setPivot(view.pivot);
    pivots.hidden = !view.pivots.length;
    setSort(api.option("sort"));
    every.checked = api.option("every_unit");
    if (document.activeElement !== words) words.value = api.option("words");
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
          models: must ? models.filter((/** @type {any} */ one) => one !== name) : [...models, name],
          page: 0,
        },
      },
    );
  return h(
    "div",
    { class: "cell", role: "columnheader" },
    h(
      "button",
      {
        type: "button",
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
 * One page of concepts by models.
 * @param {RosettaApi} api
 */
const conceptTable = (api) => {
  const head = h("div", { class: "row head", role: "row" });
  const rows = h("div", { class: "rows", role: "rowgroup" });
  const address = pictureUrl(api);
  const table = h(
    "div",
    { class: "table", role: "grid", "aria-label": "Concepts by models" },
    h("div", { role: "rowgroup" }, head),
    rows,
  );
  /**
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
    return h("button", {
      type: "button",
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
   * @param {RosettaView} view
   * @param {string} url
   * @param {any} maps
   * @param {number} row
   * @param {ConceptRow} about
   * @param {CellShown} cell
   * @param {number} model
   */
  const cellOf = (view, url, maps, row, about, cell, model) => {
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
    const shots = about.tiles.map((/** @type {number} */ tile, /** @type {number} */ i) =>
      shot(
        view,
        url,
        tile,
        maps ? glow(maps.subarray((start + i) * area, (start + i + 1) * area), side, side, 255) : h("i", {}),
      ),
    );
    return h("div", { class: "cell", role: "gridcell" }, h("div", { class: "shots" }, ...shots), under);
  };
  /**
   * @param {RosettaView} view
   * @param {RosettaArrays} arrays
   */
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
          ...about.cells.map((cell, model) => cellOf(view, url, arrays.maps, row, about, cell, model)),
        ),
      ),
    );
    table.style.setProperty("--models", view.at.length + 1);
    table.dataset.shots = view.show === "pair" ? "many" : "few";
  };
  return { table, rows, draw };
};

/** Every concept on the selected image. */
const conceptTiles = () => {
  const tiles = h("div", { class: "tiles", role: "listbox", "aria-label": "Concepts on this image" });
  /**
   * @param {RosettaView} view
   * @param {RosettaArrays} arrays
   * @param {string} url
   */
  const draw = (view, arrays, url) => {
    const side = view.tiles.length ? Math.sqrt(arrays.here.length / view.tiles.length) : 0;
    const area = side * side;
    tiles.replaceChildren(
      ...view.tiles.map((about, i) => {
        const title = `${about.label || about.hint || about.name}, ${neuronName(about)}, ${percent(about.strength)} of its usual peak`;
        return h(
          "button",
          {
            type: "button",
            class: "one",
            role: "option",
            "data-concept": about.concept,
            title,
            "aria-label": title,
          },
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
 * One concept on the selected image, through every model; its name can be typed.
 * @param {RosettaApi} api
 */
const conceptDetail = (api) => {
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
  /**
   * @param {RosettaView} view
   * @param {ConceptDetail} about
   */
  const say = (view, about) => {
    const known = about.cells.filter(Boolean).slice(1);
    const mean =
      known.reduce((/** @type {number} */ sum, /** @type {CellShown} */ cell) => sum + cell.heldout, 0) /
      Math.max(1, known.length);
    if (document.activeElement !== label || label.dataset.concept !== String(about.concept))
      label.value = about.label;
    label.dataset.concept = about.concept;
    label.placeholder = about.hint ? `name it… (like “${about.hint}”)` : "name it…";
    facts.replaceChildren(
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
    );
    missed.textContent = view.missed;
    missed.hidden = !view.missed;
  };
  /**
   * @param {RosettaView} view
   * @param {RosettaArrays} arrays
   * @param {ConceptDetail} about
   * @param {string} url
   */
  const figures = (view, about, arrays, url) => {
    const area = arrays.now.length / view.columns.length;
    const side = Math.sqrt(area);
    /**
     * @param {any} map
     * @param {Child} first
     * @param {Child} second
     */
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
    /**
     * @param {string} name
     * @param {string} text
     * @param {any} [more]
     */
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
   * @param {RosettaView} view
   * @param {RosettaArrays} arrays
   * @param {string} url
   */
  const draw = (view, arrays, url) => {
    const about = view.detail;
    element.hidden = !about;
    if (!about) return;
    say(view, about);
    stage.hidden = !url || about.image === undefined;
    if (stage.hidden) return;
    stage.replaceChildren(...figures(view, about, arrays, url));
    api.root.dataset.mapOf = String(about.image);
    api.root.dataset.lit = String(stage.querySelectorAll(".map").length);
  };
  return { element, draw };
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

/**
 * An explanation of names in italics, if there are any.
 * @param {RosettaView} view
 */
const italic = (view) =>
  (view.rows ?? view.tiles).some((one) => one.hint && !one.label)
    ? " Names in italics are guesses: the text fits most of the unit's strongest images, including held-out ones. A concept with a number has no such text."
    : "";

/**
 * The line below.
 * @param {RosettaApi} api
 * @param {RosettaView} view
 */
const noteOf = (api, view) => {
  const n = count(view.n_found);
  if (view.show !== "image")
    return view.n_found
      ? `${n} ${view.every_unit ? "units" : "concepts"}. Brightness ranges from the unit's mean to its usual peak. Numbers are correlations with ${whatUnit(view)} on held-out images.${italic(view)}`
      : "No concept matches the filter.";
  if (view.selection.image === null) return "Select an image to see every concept on it.";
  return `${n} concepts exceed their mean on this image, the strongest first; ${view.tiles.length} shown. Full brightness: as strong as on the unit's best images.${italic(view)}`;
};

/**
 * @param {RosettaApi} api
 * @returns {Draw<RosettaView, RosettaArrays>}
 */
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
    const focused =
      table.rows.contains(document.activeElement) || tiles.tiles.contains(document.activeElement);
    const image = view.show === "image";
    setControls(view);
    table.table.hidden = image;
    tiles.tiles.hidden = !image;
    if (!image) table.draw(view, arrays);
    const again = () => {
      markSelected(items(), (item) => view.chosen && Number(item.dataset.concept) === view.concept);
      if (focused && !items().includes(document.activeElement))
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
