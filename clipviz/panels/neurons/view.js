import {
  clickable,
  closest,
  count,
  counted,
  focusedBy,
  h,
  messageInstead,
  onEnter,
  percent,
  signed,
} from "../kit/dom.js";
import { fill, minusOrPlus, signedBar } from "../kit/figure.js";
import { layerChooser, sizeChooser } from "../kit/gallery.js";
import { markSelected, segmented, walk } from "../kit/grid.js";
import { followVisibility, mount, readingMeter } from "../kit/protocol.js";
import { onThisImage } from "./image.js";
import { neuronImages } from "./images.js";
import { named } from "./names.js";

/** Ways to find neurons: a text, the image, their strength, a layer, a number. @param {NeuronsApi} api */
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
    if (focusedBy(text) !== text) text.value = view.selection.text;
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

/** The neurons found, with their first words. @param {NeuronsApi} api */
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
  /** @param {NeuronRow} given @param {number} most */
  const row = ({ neuron, score, note, words }, most) =>
    clickable(
      { class: "item", role: "option", "data-neuron": neuron, title: note || null },
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
    const focused = list.contains(focusedBy(list));
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
  /** @param {[string, number]} given @param {number} widest */
  const row = ([word, weight], widest) =>
    h(
      "div",
      { class: "pair", role: "listitem" },
      clickable({ "data-word": word, title: `Find neurons that write towards “${word}”` }, word),
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
        return clickable(
          {
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

/** @param {NeuronsApi} api @returns {Draw<NeuronsView, NeuronsArrays>} */
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
