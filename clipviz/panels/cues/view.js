import {
  clickable,
  closest,
  counted,
  focusedBy,
  h,
  link,
  messageInstead,
  onEnter,
  signed,
  square,
} from "../kit/dom.js";
import { fill } from "../kit/figure.js";
import { layersChooser, pictureLoader, pictureUrl, sizeChooser, tileStyle } from "../kit/gallery.js";
import { markSelected, perRow, walk } from "../kit/grid.js";
import { drawMap, largest, mapLayer } from "../kit/maps.js";
import { followVisibility, mount, readingMeter } from "../kit/protocol.js";

const SIDE = 240;
/** @type {Record<string, string[]>} */
const TITLES = {
  "no words": ["The class alone", "How the model classifies pictures of the class alone, without words"],
  "similar words": [
    "Words without neurons",
    "The texts nearest to the direction from one class to the other",
  ],
  "second order": ["Words from neurons", "The texts with the highest contribution score"],
};

/** The two classes, and a button that swaps them. @param {CuesApi} api */
const pairChooser = (api) => {
  const names = h("datalist", { id: `cv-cues-${Math.random().toString(36).slice(2)}` });
  const choose = () => {
    const [a, b] = [drawn.value.trim(), mistaken.value.trim()];
    if (a && b && (a !== api.view.drawn || b !== api.view.mistaken))
      api.ask({}, { options: { drawn: a, mistaken: b } });
  };
  /** @param {string} label @param {string} placeholder */
  const field = (label, placeholder) =>
    h("input", {
      type: "text",
      autocomplete: "off",
      spellcheck: "false",
      maxlength: 80,
      list: names.id,
      placeholder,
      "aria-label": label,
      onkeydown: onEnter(choose),
      onchange: choose,
      /** @param {On<FocusEvent>} event */
      onfocus: (event) => event.target.select(),
    });
  const drawn = field("Class in the pictures", "a class");
  const mistaken = field("Class that the model should see", "another class");
  const swap = () => api.ask({}, { options: { drawn: mistaken.value.trim(), mistaken: drawn.value.trim() } });
  /** @param {CuesView} view */
  const set = (view) => {
    if (names.children.length !== view.classes.length)
      names.replaceChildren(...view.classes.map((name) => h("option", { value: name })));
    for (const [input, value] of [
      [drawn, view.drawn],
      [mistaken, view.mistaken],
    ])
      if (focusedBy(input) !== input) input.value = value;
  };
  const element = h(
    "div",
    { class: "pair" },
    h("span", {}, "Pictures of"),
    h("span", { class: "field" }, drawn),
    h("span", {}, "taken for"),
    h("span", { class: "field" }, mistaken),
    square("⇄", "Swap the classes", swap),
    names,
  );
  return [element, set];
};

/**
 * A word, its score beside that of random rotations, and the neurons behind it.
 * @param {CuesApi} api
 * @param {CueShown} given
 * @param {number} most
 * @param {CuesView} given
 */
const wordRow = (
  api,
  { text, score, null: chance, differs, drawable, neurons },
  most,
  { selection, layers },
) =>
  h(
    "div",
    { class: differs ? "word" : "word weak", role: "listitem", "data-differs": String(differs) },
    clickable(
      {
        class: drawable ? "text" : "text undrawn",
        "data-word": text,
        "aria-pressed": String(selection.text === text),
        title: `Select “${text}” everywhere${drawable || !api.view.classes.length ? "" : ". It cannot be drawn beside the class"}`,
      },
      text,
    ),
    h(
      "span",
      {
        class: "bar",
        title: `score ${score.toFixed(3)}; in 40 random rotations of the neurons the word of this rank has at most ${chance.toFixed(3)} (the tick)${differs ? "" : ": no difference"}`,
      },
      fill(score / most),
      h("b", { style: { left: `${(100 * chance) / most}%` } }),
    ),
    h("span", { class: "num score" }, score.toFixed(2)),
    h(
      "span",
      { class: "behind" },
      ...neurons.map((/** @type {NeuronBehind} */ { layer, neuron, part, weight, along }) =>
        clickable(
          {
            class: "neuron num",
            "data-layer": layer,
            "data-neuron": neuron,
            "aria-pressed": String(selection.layer === layer && selection.neuron === neuron),
            "aria-label": `Neuron ${neuron} of layer ${layer}`,
            title: `Open neuron ${neuron} of layer ${layer}: ${signed(part, 3)} of the score = weight of the text ${signed(weight, 2)} × direction along the pair ${signed(along, 2)}`,
          },
          layers.length > 1 ? `L${layer}#${neuron}` : `#${neuron}`,
        ),
      ),
    ),
  );

/** The words, their scores, and the neurons behind each. @param {CuesApi} api */
const wordList = (api) => {
  const list = h("div", { class: "words", role: "list", "aria-label": "Spurious words" });
  const note = h("p", { class: "note" });
  list.addEventListener("click", (/** @type {On<MouseEvent>} */ event) => {
    const word = closest(event, "[data-word]");
    const neuron = closest(event, "[data-neuron]");
    if (word) api.ask({ text: word.dataset.word });
    if (neuron)
      api.ask({}, { action: "visit", neuron: [Number(neuron.dataset.layer), Number(neuron.dataset.neuron)] });
  });
  /** @param {HTMLElement} row */
  const buttonsOf = (row) => [...row.querySelectorAll("button")];
  /** @param {any} button @returns {[number, number]} */
  const placeOf = (button) => {
    const row = button.closest(".word");
    return [[...list.children].indexOf(row), buttonsOf(row).indexOf(button)];
  };
  /** @param {[number, number]} given */
  const focusAt = ([row, place]) => {
    const buttons = list.children[row] && buttonsOf(list.children[row]);
    buttons?.[Math.min(place, buttons.length - 1)]?.focus();
  };
  list.addEventListener("keydown", (/** @type {On<KeyboardEvent>} */ event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !closest(event, ".word button")) return;
    event.preventDefault();
    const [row, place] = placeOf(event.target);
    focusAt([row + step, place]);
  });
  /** @param {CuesView} view */
  const draw = (view) => {
    const most = Math.max(1e-12, ...view.words.flatMap((word) => [word.score, word.null]));
    const chance = view.words.filter((word) => !word.differs).length;
    const held = focusedBy(list);
    const at = list.contains(held) ? placeOf(held) : null;
    list.replaceChildren(...view.words.map((word) => wordRow(api, word, most, view)));
    if (at) focusAt(at);
    note.textContent = view.words.length
      ? `From ${counted(view.n_texts, "text")}, except those that mean ${view.mistaken}. Ticks: the largest score of that rank in 40 random rotations of the neurons' directions; ${chance ? `grey, no difference: ${chance} of ${view.words.length}` : "every word exceeds its tick"}. Pale: cannot be drawn beside the class.`
      : "No text has a positive score for this pair.";
  };
  return {
    element: h(
      "div",
      { class: "finding" },
      h("h3", {}, "Words", h("small", {}, "contribution score, and the neurons behind it")),
      list,
      note,
    ),
    draw,
  };
};

/**
 * One picture of an attempt.
 * @param {CuesView} view
 * @param {string} url
 * @param {AttemptShown} given
 * @param {number} place
 */
const attemptTile = (view, url, { method, first, margins, sentences }, place) => {
  const fooled = margins[place] > 0;
  const label = `${sentences[place]}: ${fooled ? `taken for ${view.mistaken}` : "recognised"}, margin ${signed(margins[place])}`;
  return clickable({
    class: fooled ? "tile fooled" : "tile",
    "data-method": method,
    "data-place": place,
    title: label,
    "aria-label": label,
    style: tileStyle(url, first + place, view.columns, view.n_tiles),
  });
};
/**
 * The pictures of one method, those that are mistaken most first.
 * @param {CuesView} view
 * @param {string} url
 * @param {AttemptShown} one
 */
const attemptStrip = (view, url, one) => {
  const { method, fooled, interval, mean, margins, words } = one;
  const [title, what] = TITLES[method];
  const [low, high] = interval.map((end) => `${(100 * end).toFixed(0)}%`);
  const order = margins.map((_, place) => place).sort((a, b) => margins[b] - margins[a]);
  return h(
    "section",
    {
      class: method === "second order" ? "strip ours" : "strip",
      "data-method": method,
      "data-fooled": fooled,
    },
    h(
      "p",
      { class: "caption" },
      h("b", { title: words.length ? `${what}: ${words.join(", ")}…` : what }, title),
      h(
        "span",
        { class: "share", title: `mean margin ${signed(mean)}` },
        fill(fooled / Math.max(1, margins.length)),
        h("b", { style: { left: low, right: `calc(100% - ${high})` } }),
      ),
      h(
        "span",
        { class: "num", title: "95% interval (Wilson)" },
        `${fooled} of ${margins.length}`,
        h("small", {}, ` ${low}–${high}`),
      ),
    ),
    h(
      "div",
      { class: "tiles", role: "group", "aria-label": title },
      ...order.map((place) => attemptTile(view, url, one, place)),
    ),
  );
};
/** Why a method has no pictures. @param {LeftOut} given */
const missingStrip = ({ method, reason }) =>
  h(
    "section",
    { class: "strip", "data-method": method, "data-missing": "true" },
    h("p", { class: "caption" }, h("b", { title: TITLES[method][1] }, TITLES[method][0])),
    h("p", { class: "note" }, `No sentence to draw: ${reason}.`),
  );

/**
 * A strip of pictures for every method.
 * @param {CuesApi} api
 * @param {(action: string, method: string, place: number) => void} look
 */
const pictureStrips = (api, look) => {
  const strips = h("div", { class: "strips" });
  const address = pictureUrl(api);
  strips.addEventListener("click", (/** @type {On<MouseEvent>} */ event) => {
    const tile = closest(event, "[data-place]");
    if (tile) look("look", tile.dataset.method, Number(tile.dataset.place));
  });
  walk(strips, () => [...strips.querySelectorAll(".tile")], { columns: perRow });
  /** @param {CuesView} view @param {CuesArrays} arrays */
  const draw = (view, arrays) => {
    const url = address(arrays.sprite);
    const seen = view.look;
    const held = focusedBy(strips);
    const focused = strips.contains(held) ? held.dataset : null;
    const all = [...view.attempts, ...(view.left_out ?? [])];
    const ordered = ["second order", "similar words", "no words"]
      .map((method) => all.find((one) => one.method === method))
      .filter(Boolean);
    strips.replaceChildren(
      ...ordered.map((one) => ("reason" in one ? missingStrip(one) : attemptStrip(view, url, one))),
    );
    markSelected(
      [...strips.querySelectorAll(".tile")],
      (t) => t.dataset.method === seen?.method && Number(t.dataset.place) === seen?.place,
    );
    if (focused)
      strips.querySelector(`[data-method="${focused.method}"][data-place="${focused.place}"]`)?.focus();
  };
  return { strips, draw };
};

/**
 * One enlarged picture, with the tokens that write towards either class.
 * @param {CuesApi} api
 * @param {(action: string, method: string, place: number) => void} look
 */
const closeLook = (api, look) => {
  const canvas = h("canvas", { role: "img" });
  const sentence = h("p", { class: "sentence" });
  const about = h("p", { class: "note" });
  const load = pictureLoader(api);
  const open = link("Open in every panel →", () => look("open", api.view.look.method, api.view.look.place), {
    title: "Add the picture to the session, with both classes as texts",
  });
  const element = h(
    "div",
    { class: "closely" },
    h("div", { class: "stage" }, canvas),
    h("div", { class: "side" }, sentence, about, open),
  );
  /** @param {HTMLImageElement} picture */
  const paint = (picture) => {
    const { look: seen } = api.view;
    const { map } = api.arrays;
    if (!seen || !map) return;
    drawMap(
      canvas,
      picture,
      mapLayer(map, seen.grid[0], seen.grid[1], largest(map), "signed"),
      0.85,
      SIDE,
      SIDE,
    );
    api.root.dataset.looked = `${seen.method}/${seen.place}`;
  };
  /** @param {CuesView} given @param {CuesArrays} arrays */
  const draw = ({ look: seen, drawn, mistaken }, arrays) => {
    element.hidden = !seen;
    if (!seen) return;
    sentence.textContent = seen.sentence;
    about.replaceChildren(
      "The cosine with ",
      h("b", {}, mistaken),
      ` is ${seen.margin > 0 ? "larger" : "smaller"} than with ${drawn}, by `,
      h("b", { class: "num" }, Math.abs(seen.margin).toFixed(3)),
      ". ",
      h("i", { class: "key pos" }),
      " tokens that write towards ",
      mistaken,
      ", ",
      h("i", { class: "key neg" }),
      ` towards ${drawn}.`,
    );
    canvas.setAttribute("aria-label", `${seen.sentence}, with the tokens that write towards either class`);
    load(arrays.picture, paint);
  };
  return { element, draw };
};

/** @param {CuesApi} api @returns {Draw<CuesView, CuesArrays>} */
function build(api) {
  const hint = h("small", {});
  const [meter, tell] = readingMeter(api, hint);
  const [pair, setPair] = pairChooser(api);
  const [layers, setLayers] = layersChooser((chosen) => api.ask({}, { options: { layers: chosen } }));
  const [sizes, setSize] = sizeChooser((m) => api.ask({}, { options: { m } }));
  /** @param {string} action @param {string} method @param {number} place */
  const look = (action, method, place) => api.ask({}, { action, method, place });
  const words = wordList(api);
  const strips = pictureStrips(api, look);
  const closely = closeLook(api, look);
  const again = clickable(
    { class: "square again", onclick: () => api.ask({}, { action: "draw" }) },
    "Draw again",
  );
  const verdict = h("p", { class: "verdict", role: "status" });
  const why = h("p", { class: "note why" });
  const columns = h(
    "div",
    { class: "columns", hidden: true },
    words.element,
    h(
      "div",
      { class: "pictures" },
      h("div", { class: "head" }, h("h3", {}, "Pictures"), again),
      verdict,
      why,
      strips.strips,
      closely.element,
    ),
  );
  const [empty, says] = messageInstead(columns);
  api.body.append(
    h("h2", {}, "Spurious cues", hint),
    meter,
    h("div", { class: "controls" }, pair, layers, sizes),
    empty,
    columns,
  );
  followVisibility(api);
  /** @param {CuesView} given */
  const drawState = ({ attempts, drawing, note, draws, verdict: said }) => {
    why.textContent = note;
    why.hidden = !note;
    again.hidden = !draws;
    again.disabled = Boolean(drawing);
    again.textContent = attempts.length ? "Draw again" : "Draw now";
    verdict.textContent = said || (drawing ? "Drawing…" : "");
    verdict.hidden = !verdict.textContent;
  };

  return (view, arrays) => {
    setPair(view);
    if (view.layers.length) setLayers(view.layers, view.n_layers);
    setSize(view);
    tell();
    Object.assign(api.root.dataset, {
      drawn: view.drawn,
      mistaken: view.mistaken,
      layers: view.layers.join(),
      m: view.m,
      words: view.words.length,
      methods: view.attempts.length,
      done: String(Boolean(view.look)),
      complete: String(Boolean(view.complete)),
      neuron: view.selection.neuron ?? "",
      text: view.selection.text,
    });
    if (says(view)) return;
    words.draw(view);
    drawState(view);
    strips.draw(view, arrays);
    closely.draw(view, arrays);
  };
}

export default {
  /** @param {Context} context */
  render: (context) => mount(context, "cues", build),
};
