import { clickable, closest, count, counted, focusedBy, h, link } from "../kit/dom.js";
import { pager, pictureUrl, tileStyle } from "../kit/gallery.js";
import { markSelected, roving, segmented, walk } from "../kit/grid.js";
import { headLink } from "../kit/links.js";
import { mount } from "../kit/protocol.js";

const LARGEST = 40e6; // bytes of an uploaded file

/** A subset by attribute: two lists, and a button for all images. @param {ImagesApi} api */
const subsetChooser = (api) => {
  /** @param {string} column @param {string} value */
  const filter = (column, value) => api.ask({}, { options: { column, value, page: 0 } });
  const column = h("select", {
    class: "pick",
    "aria-label": "Attribute",
    onchange: () => {
      fillValues(column.value);
      filter(column.value, "");
      if (column.value) value.focus();
    },
  });
  const value = h("select", {
    class: "pick",
    "aria-label": "Value of the attribute",
    onchange: () => filter(column.value, value.value),
  });
  const all = link("✕", () => filter("", ""), { "aria-label": "Show all images" });
  const element = h("div", { class: "subset" }, column, value, all);
  /** @param {string} name */
  const fillValues = (name) =>
    value.replaceChildren(
      h("option", { value: "" }, name ? "any" : "–"),
      ...Object.entries(api.view.attributes[name] ?? {}).map(([word, n]) =>
        h("option", { value: word }, `${word} (${n})`),
      ),
    );
  let columnsOf = "";
  /** @param {ImagesView} given */
  const set = ({ attributes, column: name, value: word }) => {
    const names = Object.keys(attributes);
    element.hidden = !names.length;
    if (columnsOf !== names.join()) {
      columnsOf = names.join();
      column.replaceChildren(
        h("option", { value: "" }, "any attribute"),
        ...names.map((n) => h("option", { value: n }, n)),
      );
    }
    if (focusedBy(column) !== column || name) column.value = name;
    if (column.dataset.filled !== column.value + names.join()) {
      fillValues(column.value);
      column.dataset.filled = column.value + names.join();
    }
    value.value = word;
    value.disabled = !column.value;
    all.hidden = !word;
  };
  return [element, set];
};

/**
 * A thumbnail; set: the chosen images.
 * @param {ImagesView} view
 * @param {string} url
 * @param {number} i
 * @param {ReadonlySet<number>} set
 */
const thumbnail = (view, url, i, set) => {
  const id = view.ids[i];
  const score = view.scores[i];
  const about = `${view.names[i]}${score === null ? "" : ` · ${score.toFixed(3)}`}`;
  return clickable({
    class: `tile${set.has(id) ? " chosen" : ""}`,
    role: "option",
    "data-image": id,
    title: about,
    "aria-label": about,
    style: tileStyle(url, view.places?.[i] ?? i, view.columns, view.n_tiles ?? view.ids.length),
  });
};

/** A list with its title: the images, or the neighbours of one. @param {ImagesApi} api @param {number} k @param {any[]} tiles */
const imageList = (api, k, tiles) => {
  const { lists, order, selection } = api.view;
  const { title } = lists[k];
  const near = k ? `Nearest by ${title}` : "Nearest by the whole model";
  const label = order === "near" ? near : `Images ${title}`.trim();
  return h(
    "div",
    { class: "list", "data-list": k },
    title
      ? h("h3", { class: k ? "by-head" : "" }, k ? headLink(api, selection.layer, selection.head) : title)
      : null,
    h("div", { class: "gallery", role: "listbox", "aria-label": label }, ...tiles),
    tiles.length ? null : h("p", { class: "empty" }, "No images."),
  );
};

/** Thumbnails in one list or two. Ctrl-click gathers a set. @param {ImagesApi} api */
const thumbnails = (api) => {
  const galleries = h("div", { class: "galleries" });
  const address = pictureUrl(api);
  /** @type {Set<number>} */
  let set = new Set();
  /** @param {number} id */
  const mark = (id) => {
    for (const gallery of galleries.querySelectorAll(".gallery"))
      markSelected([...gallery.children], (tile) => Number(tile.dataset.image) === id);
  };
  galleries.addEventListener("click", (/** @type {On<MouseEvent>} */ event) => {
    const tile = closest(event, ".tile");
    if (!tile) return;
    const id = Number(tile.dataset.image);
    if ((event.ctrlKey || event.metaKey) && !api.standalone) {
      if (!set.delete(id)) set.add(id);
      galleries
        .querySelectorAll(`.tile[data-image="${id}"]`)
        .forEach((/** @type {any} */ t) => t.classList.toggle("chosen", set.has(id)));
      return api.ask({ images: [...set] });
    }
    mark(id);
    api.ask({ image: id });
  });
  /** @param {any[]} all */
  const columns = (all) => getComputedStyle(all[0].parentElement).gridTemplateColumns.split(" ").length;
  walk(galleries, () => [...(focusedBy(galleries)?.closest(".gallery")?.children ?? [])], {
    columns,
    moved: (tile) => {
      // A neighbour becomes the query when it is pressed, not when passed over.
      if (api.view.order === "near") return;
      mark(Number(tile.dataset.image));
      api.ask({ image: Number(tile.dataset.image) });
    },
  });
  /** @param {ImagesView} view @param {ImagesArrays} arrays */
  const draw = (view, arrays) => {
    const url = address(arrays.sprite);
    const held = focusedBy(galleries);
    const focused = galleries.contains(held)
      ? [held.closest("[data-list]")?.dataset.list, held.dataset.image]
      : null;
    set = new Set(view.selection.images);
    galleries.classList.toggle("pair", view.lists.length > 1);
    galleries.replaceChildren(
      ...view.lists.map(({ count: n }, k) => {
        const from = k ? view.lists[0].count : 0;
        return imageList(
          api,
          k,
          Array.from({ length: n }, (_, i) => thumbnail(view, url, from + i, set)),
        );
      }),
    );
    mark(view.selection.image);
    if (focused) galleries.querySelector(`[data-list="${focused[0]}"] [data-image="${focused[1]}"]`)?.focus();
    const pair = view.lists.length > 1;
    const n = view.lists[0].count;
    Object.assign(api.root.dataset, {
      nearModel: pair ? view.ids.slice(0, n).join() : "",
      nearHead: pair ? view.ids.slice(n).join() : "",
    });
  };
  return [galleries, draw];
};

/** A picture of the user's: a button, and dropping on the panel. @param {ImagesApi} api */
const uploader = (api) => {
  const file = h("input", { type: "file", accept: "image/*", hidden: true });
  /** @param {File} given */
  const upload = async (given) => {
    if (!given) return;
    if (given.size > LARGEST)
      return api.showError({
        message: `“${given.name}” has ${(given.size / 1e6).toFixed(0)} MB; the limit is ${LARGEST / 1e6} MB. Make the image smaller first.`,
      });
    const bytes = new Uint8Array(await given.arrayBuffer());
    let text = "";
    for (let i = 0; i < bytes.length; i += 32768)
      text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    api.ask({}, { action: "upload", name: given.name, content: btoa(text) });
  };
  file.addEventListener("change", () => {
    upload(file.files[0]);
    file.value = "";
  });
  if (api.standalone) return [file, link("upload", () => {}, { hidden: true })];
  api.root.addEventListener("dragover", (/** @type {On<DragEvent>} */ event) => {
    event.preventDefault();
    api.root.classList.add("drop");
  });
  api.root.addEventListener("dragleave", () => api.root.classList.remove("drop"));
  api.root.addEventListener("drop", (/** @type {On<DragEvent>} */ event) => {
    event.preventDefault();
    api.root.classList.remove("drop");
    upload(event.dataTransfer.files[0]);
  });
  return [file, link("upload", () => file.click())];
};

/** The label of the button at the bottom. @param {ImagesView} view */
const describing = (view) => {
  if (view.order === "near" && view.lists.length > 1)
    return `describe these ${view.lists[1].count} neighbours`;
  if (view.n_subset !== null && view.order !== "near") return `describe these ${view.n_subset}`;
  return `describe the ${view.ids.length} shown`;
};

/**
 * Which images come first, and how neighbours under a head are found.
 * @param {ImagesApi} api
 * @returns {[any, any, (view: ImagesView) => void]}
 */
const orderChooser = (api) => {
  const [orders, setOrder] = segmented(
    "Order",
    [
      [
        "text",
        "Text",
        "Images with the highest cosine with text A (or A minus B), computed without the removed heads",
      ],
      [
        "near",
        "Neighbours",
        "Nearest to the selected image, under the whole model and under the selected head alone",
      ],
      [
        "chosen",
        "Chosen",
        "The images that you chose by Ctrl-click, by “describe these” or in the Atlas, the nearest to the text first",
      ],
      ["all", "All", "In the order of the collection"],
    ],
    (order) => api.ask({}, { options: { order, page: 0 } }),
  );
  const [bys, setBy] = segmented(
    "Neighbours under the head by",
    [
      ["cosine", "Cosine", "By the cosine of the head's effects"],
      [
        "product",
        "Inner product",
        "By their inner product, as in the thesis: images on which the head writes much come first for every query",
      ],
    ],
    (by) => api.ask({}, { options: { by, page: 0 } }),
  );
  /** @param {ImagesView} view */
  const set = (view) => {
    setOrder(view.order);
    orders.querySelector('[data-value="chosen"]').disabled = !view.selection.images.length;
    setBy(view.by);
    bys.hidden = view.order !== "near" || view.lists.length < 2;
  };
  return [orders, bys, set];
};

/** @param {ImagesApi} api @returns {Draw<ImagesView, ImagesArrays>} */
function build(api) {
  const hint = h("small", {});
  const [orders, bys, setOrder] = orderChooser(api);
  const [subset, setSubset] = subsetChooser(api);
  const [galleries, drawGalleries] = thumbnails(api);
  const [file, upload] = uploader(api);
  const [pages, setPage] = pager((step) =>
    api.ask({}, { options: { page: Math.max(0, api.view.page + step) } }),
  );
  const describe = link("", () => api.ask({}, { action: "describe" }), {
    class: "describe",
    title: "TextSpan of the selected head over these images alone",
  });
  const chosen = h("p", { class: "chosen-set", hidden: true });
  const note = h("span", { class: "note" });
  api.body.append(
    h("h2", {}, "Images", hint),
    orders,
    bys,
    subset,
    galleries,
    roving(
      h(
        "div",
        { class: "foot", role: "group", "aria-label": "Pages, upload, describe" },
        pages,
        upload,
        describe,
      ),
    ),
    chosen,
    note,
    file,
  );

  return (view, arrays) => {
    const set = view.selection.images;
    setOrder(view);
    setSubset(view);
    drawGalleries(view, arrays);
    setPage(view.page, view.pages);
    for (const part of [orders, subset, pages, upload, describe]) part.hidden ||= api.standalone;
    describe.textContent = describing(view);
    describe.disabled = !view.ids.length;
    chosen.hidden = !set.length;
    chosen.replaceChildren(
      `TextSpan reads ${counted(set.length, "chosen image")} `,
      ...(view.order === "chosen" || api.standalone
        ? []
        : [link("show", () => api.ask({}, { options: { order: "chosen", page: 0 } })), " "]),
      api.standalone ? "" : link("clear", () => api.ask({ images: [] })),
    );
    hint.textContent = api.standalone
      ? `${counted(view.ids.length, "image")} of ${count(view.n_images)} in this page`
      : !view.complete
        ? view.waits
        : view.n_subset === null
          ? "click, drop or upload"
          : `${count(view.n_subset)} of ${count(view.n_images)}`;
    note.hidden = !view.n_skipped;
    note.textContent = view.n_skipped ? `${counted(view.n_skipped, "file")} skipped` : "";
    note.title = view.skipped.map(([name, reason]) => `${name}: ${reason}`).join("\n");
    Object.assign(api.root.dataset, {
      order: view.order,
      by: view.by,
      shown: view.ids.length,
      first: view.ids[0] ?? "",
      image: view.selection.image ?? "",
      set: set.length,
      subset: view.n_subset ?? "",
      nImages: view.n_images,
      complete: String(view.complete),
      skipped: view.n_skipped,
    });
  };
}

export default {
  /** @param {Context} context */
  render: (context) => mount(context, "images", build),
};
