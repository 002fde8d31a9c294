import { closest, count, counted, h, link, messageInstead, onEnter, percent, signed } from "../kit/dom.js";
import { fill, minusOrPlus, signedBar } from "../kit/figure.js";
import { markSelected, perRow, segmented, walk } from "../kit/grid.js";
import { layerChooser, pictureLoader, pictureUrl, sizeChooser, tileStyle } from "../kit/gallery.js";
import { drawMap, glow, mapLayer } from "../kit/maps.js";
import { followVisibility, mount, readingMeter } from "../kit/protocol.js";

const SIDE = 240;

/**
 * The fields of the selection that name a unit of those on show.
 * @param {NeuronsView} view
 * @param {number} neuron
 */
const named = ({ layer, dictionary }, neuron) => ({ layer, neuron, dictionary });

/** The name of a unit of the kind shown. @param {NeuronsView} view */
const noun = ({ dictionary }) => (dictionary ? "feature" : "neuron");

/**
 * Ways to find neurons: a text, the image, their strength, a layer, a number.
 * @param {NeuronsApi} api
 */
const finder = (api) => {
  /** @param {string} text */
  const lookFor = (text) => text && api.ask({ text, neuron: null }, { options: { find: "text" } });
  const text = h("input", {
    type: "text",
    autocomplete: "off",
    onkeydown: onEnter(lookFor),
    "aria-label": "Find neurons that write towards",
    placeholder: "which neurons write towards…",
    spellcheck: "false",
    maxlength: 300,
  });
  const [finds, setFind] = segmented(
    "List neurons by",
    [
      ["text", "Text", "Effect on the text's cosine, on each neuron's top images"],
      ["image", "Image", "Largest second-order effects on the selected image"],
      ["strength", "Strength", "Largest effects on their own top images"],
    ],
    (find) => api.ask({ neuron: null }, { options: { find } }),
  );
  const [layers, setLayer] = layerChooser((layer) => api.ask({ neuron: null }, { options: { layer } }));
  /** @param {string} value */
  const open = (value) => value !== "" && api.view.seq && api.ask(named(api.view, Number(value)));
  const number = h("input", {
    type: "number",
    min: 0,
    step: 1,
    onkeydown: onEnter(open),
    "aria-label": "Neuron number",
    placeholder: "number",
  });
  /** @param {NeuronsView} view */
  const set = (view) => {
    setLayer(view);
    setFind(view.found_by);
    if (document.activeElement !== text) text.value = view.selection.text;
    finds.children[1].disabled = view.selection.image === null;
    number.max = view.n_neurons - 1;
    number.title = `0 to ${view.n_neurons - 1}`;
  };
  const element = h(
    "div",
    { class: "controls" },
    h("span", { class: "field towards" }, h("b", {}, "→"), text),
    finds,
    layers,
    h("span", { class: "field jump" }, h("b", {}, "#"), number),
  );
  return { element, set, lookFor };
};

/**
 * The neurons found, with their first words.
 * @param {NeuronsApi} api
 */
const neuronList = (api) => {
  const title = h("h3", {});
  const list = h("div", { class: "list", role: "listbox", "aria-label": "Neurons" });
  /** @param {number} neuron */
  const pick = (neuron) => {
    markSelected([...list.children], (row) => Number(row.dataset.neuron) === neuron);
    api.ask(named(api.view, neuron));
  };
  list.addEventListener("click", (/** @type {On<MouseEvent>} */ event) => {
    const row = closest(event, "[data-neuron]");
    if (row) pick(Number(row.dataset.neuron));
  });
  walk(list, () => [...list.children], { moved: (row) => pick(Number(row.dataset.neuron)) });
  /** @param {[string, number][]} words */
  const said = (words) =>
    words.flatMap((/** @type {[string, number]} */ [word, weight], /** @type {number} */ i) => [
      i ? "  " : "",
      h("em", { class: minusOrPlus(weight) }, weight < 0 ? "−" : "+"),
      `\u00a0${word}`,
    ]);
  /**
   * @param {NeuronRow} given
   * @param {number} most
   */
  const row = ({ neuron, score, note, words }, most) =>
    h(
      "button",
      { type: "button", class: "item", role: "option", "data-neuron": neuron, title: note || null },
      h("b", { class: "num" }, neuron),
      h("span", { class: "words" }, ...said(words)),
      h("span", { class: "bar" }, fill(Math.abs(score) / most, minusOrPlus(score))),
      h("span", { class: "num score" }, score.toFixed(4)),
    );
  /** @param {NeuronsView} given */
  const draw = ({ list: found, found_by: by, unit, neuron, selection: { text, text_b: other } }) => {
    title.replaceChildren(
      {
        text: `Towards “${text}”${other ? ` − “${other}”` : ""}`,
        image: "Most active on this image",
        strength: "Strongest",
      }[by],
      h("small", {}, unit),
    );
    const focused = list.contains(document.activeElement);
    const most = Math.max(1e-12, ...found.map((/** @type {NeuronRow} */ { score }) => Math.abs(score)));
    list.replaceChildren(...found.map((/** @type {any} */ item) => row(item, most)));
    markSelected([...list.children], (item) => Number(item.dataset.neuron) === neuron.number);
    if (focused) list.querySelector('[tabindex="0"]')?.focus();
  };
  return { element: h("div", { class: "finding" }, title, list), draw };
};

/**
 * One neuron: how one-dimensional it is, and its sparse text code with signs.
 * @param {NeuronsApi} api
 * @param {(text: string) => void} lookFor
 */
const neuronAbout = (api, lookFor) => {
  const title = h("h3", { class: "title" });
  const facts = h("p", { class: "facts" });
  const measured = h("p", { class: "note", "data-reconstruction": "", hidden: true });
  const note = h("p", { class: "note" });
  const code = h("div", { class: "code", role: "list", "aria-label": "Sparse text code" });
  code.addEventListener("click", (/** @type {On<MouseEvent>} */ event) =>
    lookFor(closest(event, "[data-word]")?.dataset.word),
  );
  walk(code, () => [...code.querySelectorAll("button")]);
  const [sizes, setSize] = sizeChooser((m) => api.ask({}, { options: { m } }));
  /**
   * @param {[string, number]} given
   * @param {number} widest
   */
  const row = ([word, weight], widest) =>
    h(
      "div",
      { class: "pair", role: "listitem" },
      h(
        "button",
        { type: "button", "data-word": word, title: `Find neurons that write towards “${word}”` },
        word,
      ),
      signedBar(weight, widest),
      h("span", { class: "num weight" }, signed(weight, 2)),
    );
  /** @param {NeuronsView} view */
  const draw = (view) => {
    const { neuron, layer, dictionary, m } = view;
    setSize(view);
    title.replaceChildren(
      `${dictionary ? "Feature" : "Neuron"} ${neuron.number}`,
      h("small", {}, dictionary || `layer ${layer}`),
    );
    measured.textContent = view.reconstruction;
    measured.hidden = !view.reconstruction;
    facts.replaceChildren(
      "One direction explains ",
      h("b", { class: "num" }, percent(neuron.rank_one)),
      " of the variance of its effect over its top images.",
    );
    const widest = Math.max(1e-12, ...neuron.words.map(([, weight]) => Math.abs(weight)));
    code.replaceChildren(...neuron.words.map((pair) => row(pair, widest)));
    code.classList.toggle("weak", !neuron.differs);
    code.dataset.differs = String(neuron.differs);
    note.textContent = `${counted(m, "text rebuilds", "texts rebuild")} ${percent(neuron.code_share)} of that direction, and ${percent(neuron.random_share)} of random directions on average${neuron.differs ? "" : ", so these words are not evidence"}${neuron.words.length < m ? `; the ${neuron.words.length} largest are shown` : ""}. Click a text to search with it.`;
  };
  return { parts: [title, facts, sizes, code, note, measured], draw };
};

/**
 * The number of images by the size of the neuron's effect; a bar opens the images of every interval.
 * @param {NeuronsApi} api
 */
const profilePlot = (api) => {
  const bars = h("div", {
    class: "histogram",
    role: "group",
    "aria-label": "Images by the size of the effect",
  });
  const axis = h("div", { class: "ends num" });
  /** @param {number} value */
  const size = (value) => value.toFixed(value && value < 0.01 ? 4 : 3);
  /** @param {NeuronsView} view */
  const draw = (view) => {
    const { edges, counts } = api.arrays;
    const n = counts.length;
    const most = Math.max(1, ...counts);
    const norm = view.current?.norm ?? -1;
    const here =
      norm < 0
        ? -1
        : Math.max(
            0,
            Math.min(
              n - 1,
              [...edges].findIndex((edge) => edge > norm) < 0
                ? n - 1
                : [...edges].findIndex((edge) => edge > norm) - 1,
            ),
          );
    bars.replaceChildren(
      ...[...counts].map((found, i) => {
        const said = `Effect ${size(edges[i])} to ${size(edges[i + 1])}: ${counted(found, "image")}${i === here ? ", which includes the selected image" : ""}`;
        return h(
          "button",
          {
            type: "button",
            class: i === here ? "bin here" : "bin",
            title: said,
            "aria-label": said,
            "data-count": found,
            onclick: () => api.ask({}, { options: { show: "intervals" } }),
          },
          h("span", { class: "num" }, count(found)),
          h("i", { style: { height: `${(100 * found) / most}%` } }),
        );
      }),
    );
    axis.replaceChildren(h("span", {}, "0"), h("span", {}, size(edges[n])));
  };
  return {
    canvas: h(
      "div",
      { class: "profile" },
      bars,
      axis,
      h("p", { class: "note" }, "Images by the size of the effect"),
    ),
    draw,
  };
};

/**
 * The neuron's second-order effect on the image beside its indirect effect.
 * @param {NeuronsApi} api
 */
const effectTable = (api) => {
  const table = h("div", {
    class: "effects",
    role: "table",
    "aria-label": "Effects of the neuron on this image",
    hidden: true,
  });
  const note = h("p", { class: "note" });
  const ask = link("", () => api.ask({}, { options: { indirect: !api.option("indirect") } }), {
    title: "Run the model again with this neuron at its mean: the indirect effect (thesis 3.3)",
  });
  /**
   * @param {string} role
   * @param {any[]} cells
   */
  const line = (role, ...cells) =>
    h(
      "div",
      { class: "row", role: "row" },
      ...cells.map((text, i) => h("span", { class: i ? "num" : "", role: i ? role : "rowheader" }, text)),
    );
  /** @param {NeuronsView} given */
  const draw = ({ current: { effects }, selection: { text, text_b: other } }) => {
    ask.textContent = effects ? "without the indirect effect" : "compare with the indirect effect";
    ask.hidden = api.standalone;
    table.hidden = note.hidden = !effects;
    Object.assign(api.root.dataset, {
      indirect: effects ? effects.rows.indirect[0].toFixed(6) : "",
      alike: effects ? effects.cosine.toFixed(4) : "",
    });
    if (!effects) return;
    table.replaceChildren(
      line("columnheader", "", "size", text ? (other ? "on A − B" : `on “${text}”`) : ""),
      ...Object.entries(effects.rows).map(([name, [size, along]]) =>
        line("cell", name, size.toFixed(4), along === null ? "" : signed(along, 4)),
      ),
    );
    note.textContent = `All effects are relative to their means (over ${counted(effects.n_images, "image")}). The cosine of the second-order and the indirect effect is ${effects.cosine.toFixed(2)}. First order: directly on the embedding. Indirect: the model runs again with the ${noun(api.view)} at its mean, and later layers may compensate.`;
  };
  return { parts: [table, note, ask], draw };
};

/**
 * The neuron on the selected image.
 * @param {NeuronsApi} api
 * @param {any} profile
 */
const onThisImage = (api, profile) => {
  const effects = effectTable(api);
  const canvas = h("canvas", { role: "img" });
  const here = h("p", { class: "facts" });
  const load = pictureLoader(api);
  const element = h(
    "div",
    { class: "current" },
    h("div", { class: "stage" }, canvas),
    h("div", { class: "side" }, here),
    h("div", { class: "below" }, ...effects.parts),
    profile.canvas,
  );
  /** @type {any} */
  let picture = null;
  const paint = () => {
    const { current, grid, gallery } = api.view;
    if (!picture || !api.arrays.map || !current) return;
    drawMap(
      canvas,
      picture,
      mapLayer(api.arrays.map, grid[0], grid[1], gallery.limit, "glow"),
      api.option("opacity"),
      SIDE,
      SIDE,
    );
    api.root.dataset.mapOf = String(current.image);
  };
  /**
   * @param {NeuronsView} given
   * @param {NeuronsArrays} arrays
   */
  const draw = ({ current, neuron }, arrays) => {
    element.hidden = !current;
    if (!current) return;
    const { norm, along, rank, name } = current;
    here.replaceChildren(
      "Size of its effect on this image: ",
      h("b", { class: "num" }, norm.toFixed(4)),
      ", larger than on ",
      h("b", { class: "num" }, percent(rank)),
      ` of the images; ${signed(along, 4)} from its mean along the direction.`,
    );
    effects.draw(api.view);
    canvas.title = name;
    canvas.setAttribute("aria-label", `Activation map of ${noun(api.view)} ${neuron.number} on ${name}`);
    load(arrays.picture, (made) => {
      picture = made;
      paint();
    });
  };
  return { element, draw, paint };
};

/**
 * The gallery's tiles by interval, the largest effects first, without empty intervals.
 * @param {GalleryShown} given
 * @param {NeuronsArrays} given
 */
const intervals = ({ strips }, { edges, counts }) => {
  let first = 0;
  return strips
    .map((/** @type {any} */ shown, /** @type {number} */ i) => {
      const at = counts.length - 1 - i;
      const places = Array.from({ length: shown }, (_, k) => first + k);
      first += shown;
      return {
        places,
        texts: [`effect ${edges[at].toFixed(4)} to ${edges[at + 1].toFixed(4)}`],
        along: 0,
        n: counts[at],
      };
    })
    .filter((/** @type {any} */ { n }) => n);
};

/**
 * The neuron's images with their activation maps.
 * @param {NeuronsApi} api
 * @param {any} paint
 */
const neuronImages = (api, paint) => {
  const [shows, setShow] = segmented(
    "Images of the neuron",
    [
      ["top", "Top", "Largest second-order norms"],
      ["groups", "Groups", "The top images, grouped by what they show"],
      ["intervals", "Intervals", "A few images of every interval of the histogram"],
      ["quantiles", "Quantiles", "From the largest norm to the smallest, in even steps"],
      ["random", "Random", "Random images of the collection, strongest first"],
    ],
    (show) => api.ask({}, { options: { show } }),
  );
  const slider = h("input", {
    type: "range",
    min: 0,
    max: 100,
    "aria-label": "Opacity of the activation maps",
  });
  const gallery = h("div", { class: "gallery" });
  const note = h("p", { class: "note" });
  const address = pictureUrl(api);
  gallery.addEventListener("click", (/** @type {On<MouseEvent>} */ event) => {
    const tile = closest(event, "[data-image]");
    if (tile) api.ask({ image: Number(tile.dataset.image) });
  });
  walk(gallery, () => [...gallery.querySelectorAll(".tile")], { columns: perRow });
  slider.dataset.local = "";
  slider.addEventListener("input", () => {
    api.put({ opacity: slider.value / 100 }, false);
    gallery.style.setProperty("--map", String(slider.value / 100));
    paint();
  });
  slider.addEventListener("change", () => api.put({ opacity: slider.value / 100 }));
  /**
   * @param {number} place
   * @param {string} url
   * @param {number} widest
   */
  const tile = (place, url, widest) => {
    const {
      gallery: shown,
      grid: [rows, cols],
      selection,
    } = api.view;
    const id = shown.ids[place];
    const norm = shown.norms[place];
    const along = shown.along[place];
    const about = `${shown.names[place]} · effect ${norm.toFixed(4)}, ${signed(along, 4)} from its mean along the direction`;
    return h(
      "button",
      {
        type: "button",
        class: "tile",
        "data-image": id,
        title: about,
        "aria-label": about,
        "aria-pressed": String(id === selection.image),
        tabindex: -1,
        style: tileStyle(url, place, shown.columns, shown.ids.length),
      },
      glow(api.arrays.maps.subarray(place * rows * cols, (place + 1) * rows * cols), rows, cols, shown.limit),
      fill(norm / widest, minusOrPlus(along)),
    );
  };
  /**
   * @param {NeuronsView} view
   * @param {NeuronsArrays} arrays
   */
  const draw = (view, arrays) => {
    const { how, ids, norms, separation, one_group: chance } = view.gallery;
    const groups = how === "intervals" ? intervals(view.gallery, arrays) : view.gallery.groups;
    const widest = Math.max(1e-12, ...norms);
    const url = address(arrays.sprite);
    const many = groups.length > 1;
    setShow(how);
    slider.value = Math.round(100 * api.option("opacity"));
    gallery.style.setProperty("--map", api.option("opacity"));
    const sets = many ? groups : [{ places: ids.map((_, place) => place), texts: [], along: 0 }];
    gallery.replaceChildren(
      ...sets
        .flatMap((/** @type {any} */ { places, texts, along, n }, /** @type {number} */ i) => [
          many
            ? h(
                "p",
                { class: "group" },
                h("b", {}, texts.join(" · ") || "no text stands out"),
                n === undefined
                  ? ` ${counted(places.length, "image")}, ${signed(along, 4)} on average`
                  : ` ${counted(n, "image")}`,
              )
            : null,
          h(
            "div",
            {
              class: many ? "tiles small" : "tiles",
              role: "group",
              "aria-label": texts.join(", ") || "Images",
              "data-group": i,
            },
            ...places.map((/** @type {number} */ place) => tile(place, url, widest)),
          ),
        ])
        .filter(Boolean),
    );
    const first = gallery.querySelector(".tile");
    if (first) first.tabIndex = 0;
    note.textContent = {
      top: `The ${counted(ids.length, "image")} with the largest effects. Bars: size of the effect; orange above the ${noun(api.view)}'s mean along the direction, blue below.`,
      groups: many
        ? `The ${ids.length} top images form ${groups.length} groups: silhouette ${separation.toFixed(2)}, images without groups up to ${chance.toFixed(2)}.`
        : `The ${ids.length} top images form no groups that are better separated than images without groups (silhouette up to ${chance.toFixed(2)}).`,
      quantiles:
        "From the largest effect to the smallest in even steps; maps and bars on the scale of the top images.",
      intervals:
        "A few images of every interval of the histogram, the largest effects first; maps and bars on the scale of the top images.",
      random: "Random images of the collection, strongest first; maps on the scale of the top images.",
    }[how];
  };
  return {
    element: h(
      "div",
      { class: "images" },
      h(
        "div",
        { class: "head" },
        h("h3", {}, "Images"),
        shows,
        h("label", { class: "overlay" }, "map", slider),
      ),
      gallery,
      note,
    ),
    draw,
  };
};

/**
 * @param {NeuronsApi} api
 * @returns {Draw<NeuronsView, NeuronsArrays>}
 */
function build(api) {
  const hint = h("small", {});
  const [meter, tell] = readingMeter(api, hint);
  const finding = finder(api);
  const list = neuronList(api);
  const about = neuronAbout(api, finding.lookFor);
  const profile = profilePlot(api);
  const current = onThisImage(api, profile);
  const images = neuronImages(api, current.paint);
  const columns = h(
    "div",
    { class: "columns", hidden: true },
    list.element,
    h("div", { class: "about" }, ...about.parts, current.element),
    images.element,
  );
  const [empty, says] = messageInstead(columns);
  api.body.append(h("h2", {}, "Neurons", hint), meter, finding.element, empty, columns);
  followVisibility(api, () => api.arrays.counts && profile.draw(api.view));

  return (view, arrays) => {
    tell();
    if (says(view)) return;
    const { selection, neuron } = view;
    finding.set(view);
    list.draw(view);
    about.draw(view);
    current.draw(view, arrays);
    profile.draw(view);
    images.draw(view, arrays);
    Object.assign(api.root.dataset, {
      layer: view.layer,
      dictionary: view.dictionary,
      m: view.m,
      neuron: neuron.number,
      pinned: String(view.pinned),
      find: view.found_by,
      text: selection.text,
      image: selection.image ?? "",
      show: view.gallery.how,
      shown: view.gallery.ids.length,
      groups: view.gallery.groups.length,
      first: view.list[0]?.neuron ?? "",
      nRead: view.n_read,
      complete: String(view.complete),
    });
  };
}

export default {
  /** @param {Context} context */
  render: (context) => mount(context, "neurons", build),
};
