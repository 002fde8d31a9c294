// The neuron on the selected image.

import { counted, h, link, percent, signed } from "../kit/dom.js";
import { pictureLoader } from "../kit/gallery.js";
import { drawMap, mapLayer } from "../kit/maps.js";
import { noun } from "./names.js";

const SIDE = 240;

/** The neuron's second-order effect on the image beside its indirect effect. @param {NeuronsApi} api */
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
  /** @param {string} role @param {any[]} cells */
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

/** The neuron on the selected image. @param {NeuronsApi} api @param {any} profile */
export const onThisImage = (api, profile) => {
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
  /** @param {NeuronsView} given @param {NeuronsArrays} arrays */
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
