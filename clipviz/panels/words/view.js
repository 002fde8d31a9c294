import { clickable, h, messageInstead } from "../kit/dom.js";
import { fill, signedBar } from "../kit/figure.js";
import { layerChooser, sizeChooser } from "../kit/gallery.js";
import { walk } from "../kit/grid.js";
import { followVisibility, mount, readingMeter } from "../kit/protocol.js";

/**
 * One list of texts with bars; texts that are also in the other list are marked.
 * @param {WordsApi} api
 * @param {TextColumn} given
 * @param {Set<string>} others
 */
const textColumn = (api, { title, unit, rows, most }, others) => {
  const below = rows.some((/** @type {Scored} */ { score }) => score < 0); // if so, bars start in the middle
  /** @param {Scored} given */
  const row = ({ text, score }) =>
    clickable(
      {
        class: `bar-row${others.has(text) ? " both" : ""}`,
        title: others.has(text) ? "in both lists" : null,
        "aria-pressed": String(text === api.view.selection.text),
        onclick: () => api.ask({ text }),
      },
      h("span", { class: "text" }, text),
      below ? signedBar(score, most) : h("span", { class: "bar" }, fill(score / most)),
      h("span", { class: "num" }, score.toFixed(most < 0.02 ? 5 : 3).replace("-", "−")),
    );
  const list = h("div", { class: "bar-list", role: "group", "aria-label": title }, ...rows.map(row));
  walk(list, () => [...list.children]);
  return h("div", { class: "column" }, h("h3", {}, title, h("small", {}, unit)), list);
};

/** @param {WordsApi} api @returns {Draw<WordsView, WordsArrays>} */
function build(api) {
  const hint = h("small", {});
  const [meter, tell] = readingMeter(api, hint);
  const columns = h("div", { class: "bar-lists" });
  const note = h("p", { class: "bar-note" });
  const [layers, setLayer] = layerChooser((layer) => api.ask({}, { options: { layer } }));
  const [sizes, setSize] = sizeChooser((m) => api.ask({}, { options: { m } }));
  const [empty, says] = messageInstead(columns, note);
  api.body.append(
    h("h2", {}, "Words of this image", hint),
    meter,
    h("div", { class: "controls" }, layers, sizes),
    empty,
    columns,
    note,
  );
  followVisibility(api);
  return (view) => {
    tell();
    if (view.layer !== null) setLayer(view);
    setSize(view);
    const texts = view.columns.map(({ rows }) => new Set(rows.map(({ text }) => text)));
    columns.replaceChildren(
      ...view.columns.map((column, i) => textColumn(api, column, texts[1 - i] ?? new Set())),
    );
    note.textContent = view.complete
      ? `Bold: in both lists. Click a text to see it in every panel.${view.reconstruction ? ` ${view.reconstruction}` : ""}`
      : api.standalone
        ? "The neurons' list was not complete when this page was saved."
        : "The neurons' list appears once the images have been read.";
    says(view);
    Object.assign(api.root.dataset, {
      layer: view.layer ?? "",
      m: view.m,
      image: view.selection.image ?? "",
      lists: view.columns.length,
      first: view.columns[0]?.rows[0]?.text ?? "",
      complete: String(Boolean(view.complete)),
    });
  };
}

export default {
  /** @param {Context} context */
  render: (context) => mount(context, "words", build),
};
