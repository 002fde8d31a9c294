// The images of the neuron with their activation maps.

import { clickable, closest, counted, h, signed } from "../kit/dom.js";
import { fill, minusOrPlus } from "../kit/figure.js";
import { pictureUrl, tileStyle } from "../kit/gallery.js";
import { perRow, segmented, walk } from "../kit/grid.js";
import { glow } from "../kit/maps.js";
import { noun } from "./names.js";

/**
 * The gallery's tiles by interval, the largest effects first, without empty intervals.
 * @param {GalleryShown} given
 * @param {NeuronsArrays} given
 */
export const intervals = ({ strips }, { edges, counts }) => {
  let first = 0;
  return strips
    .map((shown, i) => {
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
    .filter(({ n }) => n);
};

/**
 * An image with its map, and the size of the effect below.
 * @param {NeuronsApi} api
 * @param {number} place
 * @param {string} url
 * @param {number} widest
 */
const neuronTile = (api, place, url, widest) => {
  const {
    gallery: shown,
    grid: [rows, cols],
    selection,
  } = api.view;
  const id = shown.ids[place];
  const norm = shown.norms[place];
  const along = shown.along[place];
  const about = `${shown.names[place]} · effect ${norm.toFixed(4)}, ${signed(along, 4)} from its mean along the direction`;
  return clickable(
    {
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
 * A group of images, with its texts where there are several.
 * @param {NeuronsApi} api
 * @param {{ places: number[], texts: string[], along: number, n?: number }} group
 * @param {number} i
 * @param {boolean} many
 * @param {string} url
 * @param {number} widest
 */
const imageGroup = (api, { places, texts, along, n }, i, many, url, widest) => {
  const size =
    n === undefined
      ? `${counted(places.length, "image")}, ${signed(along, 4)} on average`
      : counted(n, "image");
  const title = h("p", { class: "group" }, h("b", {}, texts.join(" · ") || "no text stands out"), ` ${size}`);
  const tiles = h(
    "div",
    {
      class: many ? "tiles small" : "tiles",
      role: "group",
      "aria-label": texts.join(", ") || "Images",
      "data-group": i,
    },
    ...places.map((place) => neuronTile(api, place, url, widest)),
  );
  return many ? [title, tiles] : [tiles];
};

/** What the gallery shows. @param {NeuronsView} view @param {number} n_groups */
const galleryNote = (view, n_groups) => {
  const { how, ids, separation, one_group: chance } = view.gallery;
  const n = ids.length;
  return {
    top: `The ${counted(n, "image")} with the largest effects. Bars: size of the effect; orange above the ${noun(view)}'s mean along the direction, blue below.`,
    groups:
      n_groups > 1
        ? `The ${n} top images form ${n_groups} groups: silhouette ${separation.toFixed(2)}, images without groups up to ${chance.toFixed(2)}.`
        : `The ${n} top images form no groups that are better separated than images without groups (silhouette up to ${chance.toFixed(2)}).`,
    quantiles:
      "From the largest effect to the smallest in even steps; maps and bars on the scale of the top images.",
    intervals:
      "A few images of every interval of the histogram, the largest effects first; maps and bars on the scale of the top images.",
    random: "Random images of the collection, strongest first; maps on the scale of the top images.",
  }[how];
};

/** The neuron's images with their activation maps. @param {NeuronsApi} api @param {any} paint */
export const neuronImages = (api, paint) => {
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
  /** @param {NeuronsView} view @param {NeuronsArrays} arrays */
  const draw = (view, arrays) => {
    const { how, ids, norms } = view.gallery;
    const groups = how === "intervals" ? intervals(view.gallery, arrays) : view.gallery.groups;
    const widest = Math.max(1e-12, ...norms);
    const url = address(arrays.sprite);
    const many = groups.length > 1;
    setShow(how);
    slider.value = Math.round(100 * api.option("opacity"));
    gallery.style.setProperty("--map", api.option("opacity"));
    /** @type {{ places: number[], texts: string[], along: number, n?: number }[]} */
    const sets = many ? groups : [{ places: ids.map((_, place) => place), texts: [], along: 0 }];
    gallery.replaceChildren(...sets.flatMap((set, i) => imageGroup(api, set, i, many, url, widest)));
    const first = gallery.querySelector(".tile");
    if (first) first.tabIndex = 0;
    note.textContent = galleryNote(view, groups.length);
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
