const LARGEST = 40e6; // bytes of an uploaded file

function build(api) {
  const hint = h("small", {});
  const put = (value) => { api.model.set("order", value); api.model.set("page", 0); api.ask(); };
  const [orders, setOrder] = segmented("Order", [
    ["text", "Text", "Highest cosine with text A"], ["model", "Near", "Nearest to the selected image, whole model"], ["head", "Near by head", "Nearest to the selected image under the selected head alone"], ["all", "All", "As they come"]], put);
  const gallery = h("div", { class: "gallery", role: "grid", "aria-label": "Images" });
  const note = h("span", { class: "note" });
  const file = h("input", { type: "file", accept: "image/*", hidden: true });
  const turn = (step) => { api.model.set("page", Math.max(0, api.view.page + step)); api.ask(); };
  const previous = h("button", { type: "button", class: "square", "aria-label": "Previous page", onclick: () => turn(-1) }, "‹");
  const next = h("button", { type: "button", class: "square", "aria-label": "Next page", onclick: () => turn(1) }, "›");
  const pageText = h("span", { class: "num" });
  const describe = h("button", { type: "button", class: "link", onclick: () => api.ask({ images: api.view.selection.images.length ? api.view.selection.images : api.view.ids }) });
  const clear = h("button", { type: "button", class: "link", onclick: () => api.ask({ images: [] }) }, "clear");
  api.body.append(h("h3", {}, "Images", hint), orders, gallery,
    h("div", { class: "foot" }, h("span", { class: "pages" }, previous, pageText, next), h("button", { type: "button", class: "link", onclick: () => file.click() }, "upload"), describe, clear), note, file);
  let url = null;
  let set = new Set();
  api.cleanups.push(() => url && URL.revokeObjectURL(url));

  const columns = () => Math.max(1, getComputedStyle(gallery).gridTemplateColumns.split(" ").length);
  gallery.addEventListener("click", (event) => {
    const tile = event.target.closest(".tile");
    if (!tile) return;
    const id = Number(tile.dataset.image);
    if (event.ctrlKey || event.metaKey) {
      if (!set.delete(id)) set.add(id);
      tile.classList.toggle("chosen", set.has(id));
      return api.ask({ images: [...set] });
    }
    mark(id);
    api.ask({ image: id });
  });
  gallery.addEventListener("keydown", (event) => {
    const tiles = [...gallery.children], now = tiles.indexOf(event.target), n = columns();
    if (now < 0) return;
    const to = gridKeys(event, Math.floor(now / n), now % n, Math.ceil(tiles.length / n), n);
    if (!to || !tiles[to[0] * n + to[1]]) return;
    event.preventDefault();
    const tile = tiles[to[0] * n + to[1]];
    mark(Number(tile.dataset.image));
    tile.focus();
    api.ask({ image: Number(tile.dataset.image) });
  });
  const mark = (id) => {
    for (const tile of gallery.children) {
      const on = Number(tile.dataset.image) === id;
      tile.setAttribute("aria-selected", String(on));
      tile.tabIndex = on ? 0 : -1;
    }
    if (gallery.children.length && ![...gallery.children].some((t) => t.tabIndex === 0)) gallery.children[0].tabIndex = 0;
  };

  const upload = async (chosen) => {
    if (!chosen) return;
    if (chosen.size > LARGEST) return api.showError({ message: `expected a file under ${LARGEST / 1e6} MB, got ${(chosen.size / 1e6).toFixed(0)} MB; make the image smaller first` });
    const bytes = new Uint8Array(await chosen.arrayBuffer());
    let text = "";
    for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    api.ask({}, { action: "upload", name: chosen.name, content: btoa(text) });
  };
  file.addEventListener("change", () => { upload(file.files[0]); file.value = ""; });
  api.root.addEventListener("dragover", (event) => { event.preventDefault(); api.root.classList.add("drop"); });
  api.root.addEventListener("dragleave", () => api.root.classList.remove("drop"));
  api.root.addEventListener("drop", (event) => {
    event.preventDefault();
    api.root.classList.remove("drop");
    upload(event.dataTransfer.files[0]);
  });

  return (view, arrays) => {
    if (url) URL.revokeObjectURL(url);
    url = arrays.sprite?.length ? bytesUrl(arrays.sprite, "image/jpeg") : null;
    set = new Set(view.selection.images);
    setOrder(view.order);
    const focused = gallery.contains(document.activeElement) ? document.activeElement.dataset.image : null;
    gallery.replaceChildren(...view.ids.map((id, i) => {
      const score = view.scores[i];
      const about = `${view.names[i]}${score === null ? "" : ` · ${score.toFixed(3)}`}`;
      return h("button", { type: "button", class: `tile${set.has(id) ? " chosen" : ""}`, role: "gridcell", "data-image": id, title: about, "aria-label": about, style: tileStyle(url, i, view.columns, view.ids.length) });
    }));
    mark(view.selection.image);
    if (focused !== null) gallery.querySelector(`[data-image="${focused}"]`)?.focus();
    pageText.textContent = `${view.page + 1} / ${view.pages}`;
    previous.disabled = view.page === 0;
    next.disabled = view.page + 1 >= view.pages;
    const head = view.selection.layer === null || view.selection.head === null ? "head" : headName(view.selection.layer, view.selection.head);
    orders.children[2].textContent = `Near by ${head}`;
    describe.textContent = set.size ? `describe these ${set.size}` : `describe the ${view.ids.length} shown`;
    describe.title = "TextSpan of the selected head over this set of images";
    clear.hidden = !set.size;
    hint.textContent = view.complete ? "click, drop or upload" : `reading ${view.n_read} of ${view.n_images}…`;
    note.hidden = !view.n_skipped;
    note.textContent = view.n_skipped ? `${view.n_skipped} skipped` : "";
    note.title = view.skipped.map(([name, reason]) => `${name}: ${reason}`).join("\n");
    Object.assign(api.root.dataset, { order: view.order, shown: view.ids.length, first: view.ids[0] ?? "", image: view.selection.image ?? "", set: set.size, nImages: view.n_images, complete: String(view.complete), skipped: view.n_skipped });
  };
}

export default { render: (context) => mount(context, "images", build) };
