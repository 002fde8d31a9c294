const LARGEST = 40e6; // bytes of an uploaded file

function build(api) {
  const hint = h("small", {});
  const put = (value) => { api.model.set("order", value); api.model.set("page", 0); api.ask(); };
  const [orders, setOrder] = segmented("Order", [
    ["text", "Text", "Highest cosine with text A"],
    ["near", "Neighbours", "Nearest to the selected image: under the whole model, and under the selected head alone"],
    ["all", "All", "As they come"]], put);

  // -- a subset by attribute ---------------------------------------------------------------------------------------
  const filter = (column, value) => api.ask({}, { options: { column, value, page: 0 } });
  const column = h("select", { class: "pick", "aria-label": "Attribute", onchange: () => { fill(column.value); filter(column.value, ""); if (column.value) value.focus(); } });
  const value = h("select", { class: "pick", "aria-label": "Value of the attribute", onchange: () => filter(column.value, value.value) });
  const unfilter = h("button", { type: "button", class: "link", "aria-label": "All images again", onclick: () => filter("", "") }, "✕");
  const subset = h("div", { class: "subset" }, column, value, unfilter);
  const fill = (name) => value.replaceChildren(h("option", { value: "" }, name ? "any" : "–"), ...Object.entries(api.view.attributes[name] ?? {}).map(([word, n]) => h("option", { value: word }, `${word} (${n})`)));
  let columnsOf = "";
  const setSubset = ({ attributes, column: name, value: word }) => {
    const names = Object.keys(attributes);
    subset.hidden = !names.length;
    if (columnsOf !== names.join()) {
      columnsOf = names.join();
      column.replaceChildren(h("option", { value: "" }, "any attribute"), ...names.map((n) => h("option", { value: n }, n)));
    }
    if (document.activeElement !== column || name) column.value = name;
    if (column.dataset.filled !== column.value + names.join()) { fill(column.value); column.dataset.filled = column.value + names.join(); }
    value.value = word;
    value.disabled = !column.value;
    unfilter.hidden = !word;
  };

  const galleries = h("div", { class: "galleries" });
  const note = h("span", { class: "note" });
  const file = h("input", { type: "file", accept: "image/*", hidden: true });
  const turn = (step) => { api.model.set("page", Math.max(0, api.view.page + step)); api.ask(); };
  const previous = h("button", { type: "button", class: "square", "aria-label": "Previous page", onclick: () => turn(-1) }, "‹");
  const next = h("button", { type: "button", class: "square", "aria-label": "Next page", onclick: () => turn(1) }, "›");
  const pageText = h("span", { class: "num" });
  const describe = h("button", { type: "button", class: "link describe", title: "TextSpan of the selected head over these images alone", onclick: () => api.ask({}, { action: "describe" }) });
  const chosen = h("p", { class: "chosen-set", hidden: true });
  api.body.append(h("h3", {}, "Images", hint), orders, subset, galleries,
    h("div", { class: "foot" }, h("span", { class: "pages" }, previous, pageText, next), h("button", { type: "button", class: "link", onclick: () => file.click() }, "upload"), describe), chosen, note, file);
  let url = null;
  let set = new Set();
  api.cleanups.push(() => url && URL.revokeObjectURL(url));

  // -- thumbnails --------------------------------------------------------------------------------------------------
  const tiles = () => [...galleries.querySelectorAll(".tile")];
  const mark = (id) => {
    for (const gallery of galleries.querySelectorAll(".gallery")) {
      for (const tile of gallery.children) {
        const on = Number(tile.dataset.image) === id;
        tile.setAttribute("aria-selected", String(on));
        tile.tabIndex = on ? 0 : -1;
      }
      if (gallery.children.length && ![...gallery.children].some((t) => t.tabIndex === 0)) gallery.children[0].tabIndex = 0;
    }
  };
  galleries.addEventListener("click", (event) => {
    const tile = event.target.closest(".tile");
    if (!tile) return;
    const id = Number(tile.dataset.image);
    if (event.ctrlKey || event.metaKey) {
      if (!set.delete(id)) set.add(id);
      tiles().filter((t) => t.dataset.image === tile.dataset.image).forEach((t) => t.classList.toggle("chosen", set.has(id)));
      return api.ask({ images: [...set] });
    }
    mark(id);
    api.ask({ image: id });
  });
  galleries.addEventListener("keydown", (event) => {
    const gallery = event.target.closest(".gallery");
    if (!gallery) return;
    const shown = [...gallery.children], now = shown.indexOf(event.target);
    const n = Math.max(1, getComputedStyle(gallery).gridTemplateColumns.split(" ").length);
    const to = gridKeys(event, Math.floor(now / n), now % n, Math.ceil(shown.length / n), n);
    const tile = to && shown[to[0] * n + to[1]];
    if (!tile) return;
    event.preventDefault();
    tile.focus();
    if (api.view.order === "near") return; // a neighbour becomes the query when it is pressed, not when passed over
    mark(Number(tile.dataset.image));
    api.ask({ image: Number(tile.dataset.image) });
  });
  const tileOf = (view, i) => {
    const id = view.ids[i], score = view.scores[i];
    const about = `${view.names[i]}${score === null ? "" : ` · ${score.toFixed(3)}`}`;
    return h("button", { type: "button", class: `tile${set.has(id) ? " chosen" : ""}`, role: "gridcell", "data-image": id, title: about, "aria-label": about, style: tileStyle(url, i, view.columns, view.ids.length) });
  };
  const drawGalleries = (view) => {
    const focused = galleries.contains(document.activeElement) ? [document.activeElement.closest("[data-list]")?.dataset.list, document.activeElement.dataset.image] : null;
    let start = 0;
    galleries.classList.toggle("pair", view.lists.length > 1);
    galleries.replaceChildren(...view.lists.map(({ title, count }, k) => {
      const from = start;
      start += count;
      const name = title ? (k ? `Nearest by ${title}` : "Nearest by the whole model") : "Images";
      return h("div", { class: "list", "data-list": k }, title ? h("h4", { class: k ? "by-head" : "" }, title) : null,
        h("div", { class: "gallery", role: "grid", "aria-label": name }, ...Array.from({ length: count }, (_, i) => tileOf(view, from + i))),
        count ? null : h("p", { class: "empty" }, "No image."));
    }));
    mark(view.selection.image);
    if (focused) galleries.querySelector(`[data-list="${focused[0]}"] [data-image="${focused[1]}"]`)?.focus();
    api.root.dataset.nearModel = view.lists.length > 1 ? view.ids.slice(0, view.lists[0].count).join() : "";
    api.root.dataset.nearHead = view.lists.length > 1 ? view.ids.slice(view.lists[0].count).join() : "";
  };

  const upload = async (given) => {
    if (!given) return;
    if (given.size > LARGEST) return api.showError({ message: `expected a file under ${LARGEST / 1e6} MB, got ${(given.size / 1e6).toFixed(0)} MB; make the image smaller first` });
    const bytes = new Uint8Array(await given.arrayBuffer());
    let text = "";
    for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    api.ask({}, { action: "upload", name: given.name, content: btoa(text) });
  };
  file.addEventListener("change", () => { upload(file.files[0]); file.value = ""; });
  api.root.addEventListener("dragover", (event) => { event.preventDefault(); api.root.classList.add("drop"); });
  api.root.addEventListener("dragleave", () => api.root.classList.remove("drop"));
  api.root.addEventListener("drop", (event) => {
    event.preventDefault();
    api.root.classList.remove("drop");
    upload(event.dataTransfer.files[0]);
  });

  const describing = (view) => {
    if (view.order === "near" && view.lists.length > 1) return `describe the ${view.lists[1].count} near by ${view.lists[1].title}`;
    if (view.n_subset !== null && view.order !== "near") return `describe these ${view.n_subset}`;
    return `describe the ${view.ids.length} shown`;
  };
  return (view, arrays) => {
    if (url) URL.revokeObjectURL(url);
    url = arrays.sprite?.length ? bytesUrl(arrays.sprite, "image/jpeg") : null;
    set = new Set(view.selection.images);
    setOrder(view.order);
    setSubset(view);
    drawGalleries(view);
    pageText.textContent = `${view.page + 1} / ${view.pages}`;
    previous.disabled = view.page === 0;
    next.disabled = view.page + 1 >= view.pages;
    describe.textContent = describing(view);
    describe.disabled = !view.ids.length;
    chosen.hidden = !set.size;
    chosen.replaceChildren(`TextSpan reads ${set.size} chosen ${set.size === 1 ? "image" : "images"}`, h("button", { type: "button", class: "link", onclick: () => api.ask({ images: [] }) }, "clear"));
    hint.textContent = view.complete ? (view.n_subset === null ? "click, drop or upload" : `${view.n_subset} of ${view.n_images}`) : `reading ${view.n_read} of ${view.n_images}…`;
    note.hidden = !view.n_skipped;
    note.textContent = view.n_skipped ? `${view.n_skipped} skipped` : "";
    note.title = view.skipped.map(([name, reason]) => `${name}: ${reason}`).join("\n");
    Object.assign(api.root.dataset, { order: view.order, shown: view.ids.length, first: view.ids[0] ?? "", image: view.selection.image ?? "", set: set.size, subset: view.n_subset ?? "", nImages: view.n_images, complete: String(view.complete), skipped: view.n_skipped });
  };
}

export default { render: (context) => mount(context, "images", build) };
