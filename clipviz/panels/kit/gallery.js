// Pictures: sheets of thumbnails, pictures that are decoded before they are drawn, pages, layers to choose
// from.

import { clickable, h, square } from "./dom.js";
import { segmented } from "./grid.js";

/**
 * A tile of a sheet (square thumbnails, row by row) as a background.
 * @param {string} url
 * @param {number} place
 * @param {number} columns
 * @param {number} n
 */
export const tileStyle = (url, place, columns, n) => {
  const rows = Math.ceil(n / columns);
  /** @param {number} i @param {number} all */
  const at = (i, all) => (all > 1 ? `${(100 * i) / (all - 1)}%` : "0%");
  return {
    backgroundImage: `url(${url})`,
    backgroundSize: `${columns * 100}% ${rows * 100}%`,
    backgroundPosition: `${at(place % columns, columns)} ${at(Math.floor(place / columns), rows)}`,
  };
};

/**
 * Bytes of a picture as an address, one at a time; the same array keeps its address, so that nothing is
 * decoded twice. The one before stays valid for a while: the browser may still be fetching it, and reports an
 * error for an address that is gone. @param {Api} api @returns {(bytes: Uint8Array | undefined) => string}
 */
export const pictureUrl = (api) => {
  /** @type {Uint8Array | undefined} */
  let known;
  let url = "";
  const drop = () => {
    const old = url;
    if (old) setTimeout(() => URL.revokeObjectURL(old), 10000);
  };
  api.cleanups.push(drop);
  return (bytes) => {
    if (bytes === known) return url;
    drop();
    known = bytes;
    url = bytes?.length ? URL.createObjectURL(new Blob([/** @type {BlobPart} */ (bytes)])) : "";
    return url;
  };
};

/**
 * Decodes a picture, then calls `then` with it and its address, unless a newer one was asked for meanwhile: a
 * new map is never drawn on the old picture.
 * @param {Api} api
 * @returns {(bytes: Uint8Array, then: (picture: HTMLImageElement, url: string) => void) => void}
 */
export const pictureLoader = (api) => {
  const address = pictureUrl(api);
  let turn = 0;
  return (bytes, then) => {
    const mine = ++turn;
    const picture = new Image();
    const url = address(bytes);
    picture.src = url;
    picture
      .decode()
      .then(() => mine === turn && then(picture, url))
      .catch(() => mine === turn && api.showError({ message: "The browser could not decode the picture." }));
  };
};

/**
 * Buttons for the pages. Returns the element and set(page, pages).
 * @param {(step: number) => void} turn
 * @returns {[any, (page: number, pages: number) => void]}
 */
export const pager = (turn) => {
  const back = square("‹", "Previous page", () => turn(-1));
  const on = square("›", "Next page", () => turn(1));
  const where = h("span", { class: "num" });
  return [
    h("span", { class: "pager" }, back, where, on),
    (page, pages) => {
      where.textContent = `${page + 1} / ${pages}`;
      back.disabled = page <= 0;
      on.disabled = page + 1 >= pages;
    },
  ];
};

/**
 * The number of texts in a sparse code; impossible numbers are disabled. Returns the
 * element and set(view).
 * @param {(m: number) => void} choose @returns {[any, (view: any) => void]}
 */
export const sizeChooser = (choose) => {
  const slot = h("span", { class: "sizes" });
  let mark = (/** @type {any} */ _m) => {};
  return [
    slot,
    ({ sizes, m }) => {
      if (!slot.children.length) {
        const [element, set] = segmented(
          "Texts in a code",
          sizes.map((/** @type {[number, boolean]} */ [size]) => [size, size, `Codes of ${size} texts`]),
          (value) => choose(Number(value)),
        );
        mark = set;
        slot.append("Texts in a code", element);
      }
      sizes.forEach(
        (/** @type {[number, boolean]} */ [, fits], /** @type {number} */ i) =>
          (slot.querySelectorAll("button")[i].disabled = !fits),
      );
      mark(m);
    },
  ];
};

/**
 * Several layers whose MLPs have later attention, each a button; without any the late ones are taken. Returns
 * the element and set(layers, number of layers).
 * @param {(layers: number[]) => void} choose @returns {[any, (layers: number[], nLayers: number) => void]}
 */
export const layersChooser = (choose) => {
  const slot = h("span", { class: "layers" });
  /** @type {number[]} */
  let chosen = [];
  let n = 0;
  /** @type {any[]} */
  let buttons = [];
  /** @param {number} layer */
  const toggle = (layer) =>
    choose(
      chosen.includes(layer)
        ? chosen.filter((one) => one !== layer)
        : [...chosen, layer].sort((a, b) => a - b),
    );
  return [
    slot,
    (layers, nLayers) => {
      chosen = layers;
      if (n !== nLayers) {
        n = nLayers;
        buttons = Array.from({ length: n - 1 }, (_, layer) =>
          clickable(
            {
              "data-value": layer,
              title: `Neurons of the MLP of layer ${layer}; without any layer, the late ones`,
              onclick: () => toggle(layer),
            },
            `L${layer}`,
          ),
        );
        slot.replaceChildren(h("div", { class: "seg", role: "group", "aria-label": "Layers" }, ...buttons));
      }
      buttons.forEach((button, layer) => button.setAttribute("aria-pressed", String(layers.includes(layer))));
    },
  ];
};

export const FEW_LAYERS = 8;
/**
 * Chooses units: of layers whose MLPs have later attention, or of dictionaries in use. There are buttons if they are
 * few, a list where not. Returns the element and set(view).
 * @param {(layer: number | string) => void} choose
 * @returns {[any, (view: UnitsShown) => void]}
 */
export const layerChooser = (choose) => {
  const slot = h("span", { class: "layers" });
  let mark = (/** @type {any} */ _layer) => {};
  let made = "";
  /** @param {string} value "layer:3", or "dictionary:" and its name */
  const chosen = (value) =>
    choose(value.startsWith("layer:") ? Number(value.slice(6)) : value.slice("dictionary:".length));
  /** @param {number} n @param {string[]} names */
  const make = (n, names) => {
    const layers = Array.from({ length: n - 1 }, (_, layer) => layer);
    const options = [
      ...layers.map((layer) => [`layer:${layer}`, `L${layer}`, `Neurons of the MLP of layer ${layer}`]),
      ...names.map((name) => [`dictionary:${name}`, name, `Features of the dictionary “${name}”`]),
    ];
    if (options.length <= FEW_LAYERS) {
      const [element, set] = segmented("Layer", options, chosen);
      mark = set;
      return slot.replaceChildren(element);
    }
    const list = h(
      "select",
      { "aria-label": "Layer", onchange: () => chosen(list.value) },
      ...options.map(([value, text]) =>
        h("option", { value }, value.startsWith("layer:") ? `Layer ${text.slice(1)}` : text),
      ),
    );
    mark = (value) => (list.value = value);
    return slot.replaceChildren(list);
  };
  return [
    slot,
    ({ layer, n_layers: nLayers, dictionary, dictionaries }) => {
      const wanted = JSON.stringify([nLayers, dictionaries]);
      if (made !== wanted) {
        made = wanted;
        make(nLayers, dictionaries);
      }
      mark(dictionary ? `dictionary:${dictionary}` : `layer:${layer}`);
    },
  ];
};
