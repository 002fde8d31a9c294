// Beside the stage: before and after, how far the work is, the tools and the kept pictures.

import { clickable, h, link, percent } from "../kit/dom.js";
import { tileStyle } from "../kit/gallery.js";

/** What the model says before and after. @param {GenerateView} view */
const verdicts = (view) =>
  view.before.map((before, i) => {
    const after = view.after[i] ?? before;
    const same = before.answer === after.answer;
    /** @param {SaidShown} said @param {boolean} [other] */
    const cell = (said, other) =>
      h(
        "td",
        {
          class: other && !same ? "changed" : null,
          title:
            said.probability === null
              ? "There is no object, according to the true scene or, if that is unknown, to a locator"
              : null,
        },
        said.answer,
        " ",
        said.probability === null ? null : h("span", { class: "num" }, percent(said.probability)),
      );
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, before.question),
      cell(before),
      cell(after, true),
      view.scene ? h("td", { class: "true" }, view.scene[before.question] ?? "") : null,
    );
  });

/**
 * How far the maps came towards the requested ones, and whether the edit succeeded; during a search, how
 * far the search is.
 * @param {any} view
 * @returns {[number, string]}
 */
const progressOf = (view) => {
  if (!view.settled) return [view.of ? view.step / view.of : 0, view.work];
  if (!view.verdict) return [0, "Drag the picture, or press a button"];
  return [Math.max(0, view.reached), view.verdict];
};

/** Copy, remove, amplify; reset, keep, add. @param {GenerateApi} api */
const tools = (api) => {
  /** @param {string} name @param {string} text @param {string} hint */
  const change = (name, text, hint) =>
    link(text, () => api.ask({}, { action: "change", change: name }), { title: hint, "data-change": name });
  /** @param {string} name @param {string} text @param {string} hint */
  const act = (name, text, hint) =>
    link(text, () => api.ask({}, { action: name }), { title: hint, "data-action": name });
  return h(
    "div",
    { class: "tools", role: "toolbar", "aria-label": "Changes" },
    change("copy", "Copy", "Copy the concept's region beside it, where there is room"),
    change("remove", "Remove", "Fill the concept's region with its surroundings"),
    change("amplify", "Amplify", "Multiply each map by 1.6"),
    h("span", { class: "gap" }),
    act("reset", "Reset", "Return to the first picture"),
    act("keep", "Keep", "Store this picture below"),
    act("add", "Add to images", "Add it to the images, so that every panel can show it"),
  );
};

/** Pictures that were put aside. @param {GenerateApi} api @param {string} sheet @param {number} n */
const keptPictures = (api, sheet, n) =>
  Array.from({ length: n }, (_, i) =>
    clickable({
      class: "tile",
      title: "Continue from this picture",
      "aria-label": `Kept picture ${i + 1}`,
      style: tileStyle(sheet, i, n, n),
      onclick: () => api.ask({}, { action: "back", place: i }),
    }),
  );

/**
 * Where one works: the stage, and beside it before and after.
 * @param {GenerateApi} api
 * @param {any} stage
 * @param {any} list
 */
export const benchOf = (api, stage, list) => {
  const table = h("tbody", {});
  const formula = h("caption", {});
  const first = h("img", { class: "first", alt: "The first picture" });
  const way = h("i");
  const says = h("span", {});
  const opacity = h("input", {
    type: "range",
    min: 0,
    max: 1,
    step: 0.05,
    "aria-label": "Opacity of the map",
    "data-local": true,
    oninput: () => api.put({ opacity: Number(opacity.value) }),
  });
  const kept = h("div", { class: "kept", role: "group", "aria-label": "Kept pictures" });
  const truth = h(
    "th",
    { scope: "col", title: "The scene that the latent of this picture determines" },
    "true scene now",
  );
  const heads = [...["CLIP says", "before", "now"].map((text) => h("th", { scope: "col" }, text)), truth];
  const side = h(
    "div",
    { class: "side" },
    h(
      "div",
      { class: "beside" },
      h("figure", {}, first, h("figcaption", {}, "Before")),
      h("table", {}, formula, h("thead", {}, h("tr", {}, ...heads)), table),
    ),
    h(
      "p",
      {
        class: "status",
        role: "status",
        title:
          "Searches here take 40 steps to follow a drag and 120 to start from an image; session.generator.edit and .invert take the thesis's 500 steps unless given a schedule",
      },
      h("span", { class: "way", role: "presentation" }, way),
      says,
    ),
    tools(api),
    kept,
  );
  const element = h(
    "div",
    { class: "bench" },
    h(
      "div",
      { class: "hold" },
      stage,
      h("label", { class: "opacity" }, "Map ", opacity),
      h("p", { class: "hint" }, "Drag to move · wheel to zoom · click a concept to move it alone"),
    ),
    side,
    list,
  );
  /** @param {GenerateView} view @param {GenerateArrays} arrays @param {any} addresses */
  const set = (view, arrays, addresses) => {
    const [share, text] = progressOf(view);
    way.style.width = percent(share);
    if (says.textContent !== text) says.textContent = text;
    says.classList.toggle("failed", view.settled && view.done === false);
    if (!view.settled) return;
    says.title = view.asked
      ? `The maps are ${view.distance.toFixed(3)} from those asked; before the edit, ${view.asked.toFixed(3)}`
      : "";
    truth.hidden = !view.scene;
    first.src = addresses[0](arrays.first);
    table.replaceChildren(...verdicts(view));
    formula.textContent = view.link;
    const sheet = arrays.kept ? addresses[1](arrays.kept) : "";
    kept.replaceChildren(...keptPictures(api, sheet, view.n_kept));
  };
  return [element, set, () => (opacity.value = api.option("opacity"))];
};
