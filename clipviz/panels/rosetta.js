const GLOW = [250, 204, 21];
const SORTS = [
  ["heldout", "Held out", "Mean correlation on images that were not mined"], ["correlation", "Correlation", "Mean correlation on the mined images"],
  ["size", "Size", "CLIP units that share the concept"], ["layer", "Layer", "From CLIP's first layer to its last"]];

// "encoder.blocks.3.mlp.act" reads "blocks.3"; the whole name is in the tooltip.
const DULL = new Set(["transformer", "encoder", "vae", "mlp", "act", "gelu"]);
const layerName = (layer) => layer.split(".").filter((part) => !DULL.has(part)).join(".").replace("resblocks.", "L").replace("relu_out", "out");
const fixed = (value) => value.toFixed(2).replace("-", "−");

function build(api) {
  const set = (name, value) => api.model.set(name, value);
  const hint = h("small", {});

  // -- choosing -------------------------------------------------------------------------------------------------
  const [shows, setShow] = segmented("View", [
    ["grid", "Dictionary", "Concepts by models, on the images where CLIP's unit is strongest"],
    ["image", "This image", "Every concept on the selected image"],
    ["pair", "Pairs", "CLIP's unit beside one model's"]], (value) => { set("show", value); set("page", 0); api.ask(); });
  const [sorts, setSort] = segmented("Sort by", SORTS, (value) => { set("sort", value); set("page", 0); api.ask(); });
  const words = h("input", { type: "search", "aria-label": "Find a concept", placeholder: "find a concept…", spellcheck: "false", autocomplete: "off", maxlength: 100 });
  const look = (value) => { if (value === api.model.get("words")) return; set("words", value); set("page", 0); api.ask(); };
  words.addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.isComposing) look(words.value.trim()); });
  words.addEventListener("search", () => look(words.value.trim()));
  const search = h("span", { class: "field find" }, h("b", { "aria-hidden": "true" }, "⌕"), words);
  const every = h("input", { type: "checkbox", onchange: () => { set("every_unit", every.checked); set("page", 0); api.ask(); } });
  const everyLabel = h("label", { class: "every", title: "A row for every CLIP unit; otherwise units that are each other's best buddies share a row" }, every, "every unit");
  const whoseSlot = h("span", {});
  let setWhose = () => {}, whoseKey = "";
  const chooseModel = (value) => {
    if (api.view.show === "pair") set("other", value);
    else set("whose", value);
    set("page", 0);
    api.ask();
  };

  // -- the concept on this image --------------------------------------------------------------------------------
  const label = h("input", { type: "text", class: "label", "aria-label": "Name of the concept", spellcheck: "false", autocomplete: "off", maxlength: 80 });
  const giveName = () => {
    const about = api.view.detail;
    if (about && label.value.trim() !== about.label) api.ask({}, { action: "name", concept: about.concept, label: label.value });
  };
  label.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.isComposing) label.blur();
    if (event.key === "Escape") { label.value = api.view.detail?.label ?? ""; label.blur(); }
  });
  label.addEventListener("blur", giveName);
  const facts = h("p", { class: "facts" });
  const missed = h("p", { class: "missed", role: "status" });
  const stage = h("div", { class: "stage", role: "group", "aria-label": "The concept on the selected image" });
  const detail = h("div", { class: "detail" }, h("div", { class: "about" }, label, facts, missed), stage);

  // -- rows, tiles, pages ---------------------------------------------------------------------------------------
  const head = h("div", { class: "row head", role: "row" });
  const rows = h("div", { class: "rows", role: "rowgroup" });
  const table = h("div", { class: "table", role: "grid", "aria-label": "Concepts by models" }, h("div", { role: "rowgroup" }, head), rows);
  const tiles = h("div", { class: "tiles", role: "listbox", "aria-label": "Concepts on this image" });
  const note = h("p", { class: "note" });
  const turn = (step) => { set("page", api.view.page + step); api.ask(); };
  const back = h("button", { type: "button", class: "square", "aria-label": "Previous page", onclick: () => turn(-1) }, "‹");
  const on = h("button", { type: "button", class: "square", "aria-label": "Next page", onclick: () => turn(1) }, "›");
  const where = h("span", { class: "num" });
  const pager = h("div", { class: "pager" }, back, where, on);

  const empty = h("div", { class: "empty", hidden: true });
  const all = h("div", { class: "all" },
    h("div", { class: "controls" }, shows, whoseSlot, sorts, everyLabel, search), detail, table, tiles, h("div", { class: "foot" }, note, pager));
  api.body.append(h("h3", {}, "Rosetta neurons", hint), empty, all);

  const mark = (item, yes) => { item.setAttribute("aria-selected", String(yes)); item.tabIndex = yes ? 0 : -1; };
  const items = () => [...(api.view.show === "image" ? tiles : rows).children];
  const pick = (item) => {
    for (const other of items()) mark(other, other === item);
    const concept = Number(item.dataset.concept);
    const found = (api.view.rows ?? []).concat(api.view.tiles ?? []).find((one) => one.concept === concept);
    const [layer, neuron] = found?.neuron ?? [null, null];
    api.ask(neuron === null ? { concept, neuron: null } : { concept, layer, neuron });
  };
  const onPick = (event) => {
    const picture = event.target.closest("button[data-image]");
    if (picture && api.view.linked) return api.ask({ image: Number(picture.dataset.image) });
    const item = event.target.closest(".row, .one");
    if (item) pick(item);
  };
  const onKey = (event) => {
    const list = items(), now = list.indexOf(event.target);
    if (now < 0) return;
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); return pick(list[now]); }
    const wide = api.view.show === "image" ? list.filter((item) => item.offsetTop === list[0].offsetTop).length : 1;
    const to = { ArrowDown: now + wide, ArrowUp: now - wide, ArrowRight: wide > 1 ? now + 1 : NaN, ArrowLeft: wide > 1 ? now - 1 : NaN, Home: 0, End: list.length - 1 }[event.key];
    if (to === undefined || !list[to]) return;
    event.preventDefault();
    list[to].focus();
    pick(list[to]);
  };
  for (const list of [rows, tiles]) {
    list.addEventListener("click", onPick);
    list.addEventListener("keydown", onKey);
  }

  // -- drawing --------------------------------------------------------------------------------------------------
  let url = null, picture = null, pictureUrl = null, turns = 0;
  api.cleanups.push(() => url && URL.revokeObjectURL(url), () => pictureUrl && URL.revokeObjectURL(pictureUrl));
  const glow = (maps, start, side) => {
    const canvas = h("canvas", { class: "map", "aria-hidden": "true", width: side, height: side });
    const context = canvas.getContext("2d"), pixels = context.createImageData(side, side);
    for (let i = 0; i < side * side; i++) {
      const t = maps[start + i] / 255;
      pixels.data.set([...GLOW, Math.round(240 * t ** 0.85)], 4 * i);
    }
    context.putImageData(pixels, 0, 0);
    return canvas;
  };
  const neuronName = (about) => (about.neuron ? `L${about.neuron[0]} · ${about.neuron[1]}` : "");
  const unitLine = (about) => h("span", { class: "unit" }, about.name === neuronName(about) ? null : neuronName(about), many(about));
  const called = (about) => (about.label || !about.hint ? h("b", { class: "name" }, about.name) : h("b", { class: "name guess", title: `No one has named it; of the texts, the heatmap of “${about.hint}” is most like it (r ${fixed(about.hint_r)})` }, about.hint));
  const many = (about) => (about.size > 1 ? h("span", { class: "size", title: `${about.size} CLIP units are each other's best buddies` }, `×${about.size}`) : null);
  const place = (cell) => h("span", { class: "place", title: `${cell.layer}, unit ${cell.unit}` }, `${layerName(cell.layer)} · ${cell.unit}`);
  const score = (cell, pivot) => (pivot ? null : h("span", { class: "num r", title: `correlation ${cell.correlation.toFixed(3)} on the mined images, ${cell.heldout.toFixed(3)} on others` }, fixed(cell.heldout)));

  const drawHead = (view) => {
    const cells = view.at.map((at, place) => {
      const { name, loss, n_pairs, n_chance, threshold, heldout } = view.columns[at];
      const text = [h("b", {}, name), loss ? h("span", { class: "loss" }, loss) : null];
      if (at === 0) return h("div", { class: "cell", role: "columnheader" }, ...text);
      const chance = `${n_pairs.toLocaleString("en")} best-buddy pairs correlate more than ${threshold.toFixed(2)} above their own correlation on shuffled images; of those that arise from shuffled images ${n_chance.toLocaleString("en")} do. Held-out mean ${heldout.toFixed(2)}.`;
      const must = api.model.get("models").includes(name);
      const filter = h("button", { type: "button", class: "must", "aria-pressed": String(must), title: `${chance} Click for concepts that ${name} has`, "data-model": name, onclick: () => { set("models", must ? api.model.get("models").filter((one) => one !== name) : [...api.model.get("models"), name]); set("page", 0); api.ask(); } }, ...text);
      return h("div", { class: "cell", role: "columnheader" }, filter,
        h("span", { class: "chance num", title: chance }, `${n_pairs.toLocaleString("en")} pairs, ${n_chance.toLocaleString("en")} by chance`),
        h("span", { class: "chance num", title: chance }, "held out ", h("b", {}, fixed(heldout))));
    });
    head.replaceChildren(h("div", { class: "what", role: "columnheader" }, h("b", {}, "Concept"), h("span", { class: "loss" }, "on the images where CLIP's unit is strongest")), h("div", { class: "cell shots", role: "columnheader" }, h("b", {}, "Image")), ...cells);
  };
  const shot = (view, tile, map) => {
    const image = view.pictures[tile], caption = view.captions[tile];
    const style = tileStyle(url, tile, view.sprite_columns, view.n_pictures);
    if (map) return h("span", { class: "tile lit", style }, map);
    if (!view.linked) return h("span", { class: "tile", style, title: caption });
    return h("button", { type: "button", class: "tile", style, "data-image": image, title: caption, "aria-label": caption, "aria-selected": String(image === view.selection.image), tabindex: -1 });
  };
  const drawRows = (view, arrays) => {
    const nModels = view.at.length, side = view.side ?? 0;
    const made = view.rows.map((about, row) => {
      const n = about.tiles.length;
      const cells = about.cells.map((cell, model) => {
        if (!cell) return h("div", { class: "cell none", role: "gridcell", "aria-label": `${view.columns[view.at[model]].name} has none` }, "–");
        const maps = about.tiles.map((tile, i) => shot(view, tile, arrays.maps ? glow(arrays.maps, ((row * nModels + model) * n + i) * side * side, side) : h("i", {})));
        return h("div", { class: "cell", role: "gridcell" }, h("div", { class: "shots" }, ...maps), h("div", { class: "under" }, place(cell), score(cell, view.at[model] === 0)));
      });
      const chosen = about.concept === view.concept && view.chosen;
      const item = h("div", { class: "row", role: "row", "data-concept": about.concept },
        h("div", { class: "what", role: "rowheader" }, called(about), unitLine(about)),
        h("div", { class: "cell", role: "gridcell" }, h("div", { class: "shots" }, ...about.tiles.map((tile) => shot(view, tile, null)))), ...cells);
      mark(item, chosen);
      return item;
    });
    table.style.setProperty("--models", nModels + 1);
    table.dataset.shots = view.show === "pair" ? "many" : "few";
    rows.replaceChildren(...made);
  };
  const drawTiles = (view, arrays) => {
    const side = view.tiles.length ? Math.sqrt(arrays.here.length / view.tiles.length) : 0;
    tiles.replaceChildren(...view.tiles.map((about, i) => {
      const title = `${about.label || about.hint || about.name}, ${neuronName(about)}, ${percent(about.strength)} of its usual peak`;
      const item = h("button", { type: "button", class: "one", role: "option", "data-concept": about.concept, title, "aria-label": title },
        h("span", { class: "tile lit", style: { backgroundImage: `url(${pictureUrl})`, backgroundSize: "cover" } }, glow(arrays.here, i * side * side, side)),
        called(about), unitLine(about));
      mark(item, about.concept === view.concept && view.chosen);
      return item;
    }));
  };
  const drawDetail = (view, arrays) => {
    const about = view.detail;
    detail.hidden = !about;
    if (!about) return;
    if (document.activeElement !== label || label.dataset.concept !== String(about.concept)) label.value = about.label;
    label.dataset.concept = about.concept;
    label.placeholder = about.hint ? `name it… (like “${about.hint}”)` : "name it…";
    const known = about.cells.filter(Boolean).slice(1);
    const mean = known.reduce((sum, cell) => sum + cell.heldout, 0) / Math.max(1, known.length);
    facts.replaceChildren(
      view.chosen ? "" : "First of the list. ", "CLIP’s ", h("b", {}, about.neuron ? `layer ${about.neuron[0]}, neuron ${about.neuron[1]}` : "unit"), ` and ${known.length} partner${known.length === 1 ? "" : "s"}: correlation `,
      h("b", { class: "num" }, fixed(mean)), " on images that were not mined.",
      ...(about.hint ? [" Most like the heatmap of “", h("b", {}, about.hint), `” (r ${fixed(about.hint_r)}).`] : []),
      ...(about.size > 1 ? [` ${about.size} CLIP units share it.`] : []));
    missed.textContent = view.missed;
    missed.hidden = !view.missed;
    stage.hidden = !picture || about.image === undefined;
    if (stage.hidden) return;
    const side = Math.sqrt(arrays.now.length / view.columns.length);
    const shown = (map, first, second) => h("figure", {}, h("span", { class: map ? "tile lit" : "tile", style: { backgroundImage: `url(${pictureUrl})`, backgroundSize: "cover" } }, map ?? ""), h("figcaption", {}, h("b", {}, first), second));
    stage.replaceChildren(shown(null, "this image", h("span", { class: "place", title: about.caption }, about.caption)), ...view.columns.map((column, i) => {
      const cell = about.cells[i];
      if (!cell) return h("figure", { class: "none" }, h("span", { class: "tile" }, "no partner"), h("figcaption", {}, h("b", {}, column.name)));
      if (!column.at_hand) return h("figure", { class: "none" }, h("span", { class: "tile" }, "not at hand"), h("figcaption", {}, h("b", {}, column.name), place(cell)));
      return shown(glow(arrays.now, i * side * side, side), column.name, h("span", { class: "both" }, place(cell), score(cell, i === 0)));
    }));
    api.root.dataset.mapOf = about.image;
    api.root.dataset.lit = [...stage.querySelectorAll(".map")].length;
  };
  const loadPicture = async (bytes, then) => {
    const mine = ++turns, source = bytesUrl(bytes, "image/jpeg"), image = new Image();
    image.src = source;
    try {
      await image.decode();
    } catch {
      URL.revokeObjectURL(source);
      if (mine === turns) api.showError({ message: "The image could not be decoded by the browser." });
      return;
    }
    if (mine !== turns) return URL.revokeObjectURL(source);
    if (pictureUrl) URL.revokeObjectURL(pictureUrl);
    [picture, pictureUrl] = [image, source];
    then();
  };
  const chooser = (view) => {
    const names = view.columns.map(({ name }) => name).slice(view.show === "pair" ? 1 : 0);
    const key = `${view.show} ${names.join(" ")}`;
    whoseSlot.hidden = view.show === "grid";
    if (key !== whoseKey) {
      whoseKey = key;
      const [element, choose] = segmented(view.show === "pair" ? "CLIP beside" : "Units of", names.map((name) => [name, name]), chooseModel);
      setWhose = choose;
      whoseSlot.replaceChildren(element);
    }
    setWhose(view.show === "pair" ? view.other : view.whose);
  };

  followVisibility(api);

  return (view, arrays) => {
    empty.hidden = !view.message;
    all.hidden = Boolean(view.message);
    if (view.message) {
      empty.replaceChildren(h("p", {}, view.message), view.advice ? h("p", { class: "advice" }, view.advice) : "");
      hint.textContent = "";
      Object.assign(api.root.dataset, { message: view.message, rows: 0 });
      return;
    }
    const focused = rows.contains(document.activeElement) || tiles.contains(document.activeElement);
    const others = view.columns.length - 1;
    hint.textContent = `${view.n_units.toLocaleString("en")} units that CLIP shares with ${others} other model${others === 1 ? "" : "s"}, ${view.n_concepts.toLocaleString("en")} concepts`;
    setShow(view.show);
    setSort(api.model.get("sort"));
    every.checked = api.model.get("every_unit");
    if (document.activeElement !== words) words.value = api.model.get("words");
    sorts.hidden = view.show === "image";
    chooser(view);
    const image = view.show === "image";
    table.hidden = image;
    tiles.hidden = !image;
    if (!image) {
      if (url) URL.revokeObjectURL(url);
      url = arrays.sprite?.length ? bytesUrl(arrays.sprite, "image/jpeg") : null;
      drawHead(view);
      drawRows(view, arrays);
    }
    const rest = () => { drawDetail(view, arrays); if (image) { drawTiles(view, arrays); again(); } };
    const again = () => {
      const list = items();
      if (list.length && !list.some((item) => item.tabIndex === 0)) list[0].tabIndex = 0;
      if (focused && !list.includes(document.activeElement)) list.find((item) => item.tabIndex === 0)?.focus();
    };
    if (arrays.picture?.length) loadPicture(arrays.picture, rest);
    else { picture = null; rest(); }
    again();
    const n = view.n_found.toLocaleString("en");
    note.textContent = image
      ? view.selection.image === null ? "Select an image to see every concept on it." : `${n} concepts are above their mean here, the strongest first; ${view.tiles.length} shown. Full glow: as strong as on the unit's best images.`
      : view.n_found ? `${n} ${api.model.get("every_unit") ? "units" : "concepts"}. Glow: from the unit's mean to its usual peak. Numbers: correlation with CLIP's unit on images that were not mined.` : "No concept fits the filter.";
    pager.hidden = view.n_pages < 2;
    where.textContent = `${view.page + 1} / ${view.n_pages}`;
    back.disabled = view.page <= 0;
    on.disabled = view.page + 1 >= view.n_pages;
    const listed = image ? view.tiles : view.rows;
    Object.assign(api.root.dataset, { show: view.show, sort: api.model.get("sort"), page: view.page, rows: listed.length, found: view.n_found, first: listed[0]?.concept ?? "", concept: view.concept ?? "", chosen: String(view.chosen), image: view.selection.image ?? "", named: view.detail?.label ?? "", models: api.model.get("models").join(" "), other: view.other, whose: view.whose, message: "" });
  };
}

export default { render: (context) => mount(context, "rosetta", build) };
