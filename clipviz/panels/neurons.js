const GLOW = [250, 204, 21];

function build(api) {
  const set = (name, value) => { api.model.set(name, value); };
  const hint = h("small", {});
  const bar = h("i", {});
  const meter = h("span", { class: "meter", role: "progressbar", "aria-label": "Images read", hidden: true }, bar);

  // -- finding ------------------------------------------------------------------------------------------------
  const onEnter = (act) => (event) => { if (event.key === "Enter" && !event.isComposing) act(event.target.value.trim()); };
  const lookFor = (value) => { if (!value) return; set("find", "text"); api.ask({ text: value, neuron: null }); };
  const text = h("input", { type: "text", autocomplete: "off", onkeydown: onEnter(lookFor), "aria-label": "Find neurons that write towards", placeholder: "which neurons write towards…", spellcheck: "false", maxlength: 300 });
  const search = h("span", { class: "field towards" }, h("b", {}, "→"), text);
  const [finds, setFind] = segmented("List neurons by", [
    ["text", "Text", "Effect on the text's cosine, on each neuron's top images"],
    ["image", "Image", "Largest second-order effects on the selected image"],
    ["strength", "Strength", "Largest effects on their own top images"]], (value) => { set("find", value); api.ask({ neuron: null }); });
  const [layerSlot, setLayer] = layerChooser((layer) => { set("layer", layer); api.ask({ neuron: null }); });
  const open = (value) => { if (value !== "" && api.view.seq) api.ask({ layer: api.view.layer, neuron: Number(value) }); };
  const number = h("input", { type: "number", min: 0, step: 1, onkeydown: onEnter(open), "aria-label": "Neuron number", placeholder: "number" });
  const jump = h("span", { class: "field jump" }, h("b", {}, "#"), number);

  // -- the list -----------------------------------------------------------------------------------------------
  const listTitle = h("h4", {});
  const list = h("div", { class: "list", role: "listbox", "aria-label": "Neurons" });
  const pick = (neuron) => {
    for (const row of list.children) mark(row, Number(row.dataset.neuron) === neuron);
    api.ask({ layer: api.view.layer, neuron });
  };
  const mark = (row, on) => { row.setAttribute("aria-selected", String(on)); row.tabIndex = on ? 0 : -1; };
  list.addEventListener("click", (event) => {
    const row = event.target.closest("[data-neuron]");
    if (row) pick(Number(row.dataset.neuron));
  });
  list.addEventListener("keydown", (event) => {
    const rows = [...list.children], now = rows.indexOf(event.target);
    const to = { ArrowDown: now + 1, ArrowUp: now - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (now < 0 || to === undefined || !rows[to]) return;
    event.preventDefault();
    rows[to].focus();
    pick(Number(rows[to].dataset.neuron));
  });
  const said = (words) => words.flatMap(([word, weight], i) => [i ? "  " : "", h("em", { class: weight < 0 ? "minus" : "plus" }, weight < 0 ? "−" : "+"), `\u00a0${word}`]);
  const row = ({ neuron, score, note, words }, most, chosen) => {
    const made = h("button", { type: "button", class: "item", role: "option", "data-neuron": neuron, title: note || null },
      h("b", { class: "num" }, neuron), h("span", { class: "words" }, ...said(words)),
      h("span", { class: "bar" }, h("i", { class: score < 0 ? "minus" : "plus", style: { width: `${(100 * Math.abs(score)) / most}%` } })),
      h("span", { class: "num score" }, score.toFixed(4)));
    mark(made, neuron === chosen);
    return made;
  };

  // -- one neuron ---------------------------------------------------------------------------------------------
  const title = h("h4", { class: "title" });
  const facts = h("p", { class: "facts" });
  const code = h("div", { class: "code", role: "list", "aria-label": "Sparse text code" });
  const codeNote = h("p", { class: "note" });
  const canvas = h("canvas", { role: "img" });
  const profile = h("canvas", { class: "profile", role: "img" });
  const here = h("p", { class: "facts" });
  const current = h("div", { class: "current" }, h("div", { class: "stage" }, canvas), h("div", { class: "side" }, here, profile));
  code.addEventListener("click", (event) => {
    const word = event.target.closest("[data-word]");
    if (word) lookFor(word.dataset.word);
  });
  code.addEventListener("keydown", (event) => {
    const words = [...code.querySelectorAll("button")];
    const to = words[words.indexOf(event.target) + ({ ArrowDown: 1, ArrowUp: -1 }[event.key] ?? NaN)];
    if (to) { event.preventDefault(); to.focus(); }
  });
  const codeRow = ([word, weight], widest) => h("div", { class: "pair", role: "listitem" },
    h("button", { type: "button", "data-word": word, title: `Find neurons that write towards “${word}”` }, word),
    h("span", { class: "signed" }, h("i", { class: weight < 0 ? "minus" : "plus", style: { width: `${(50 * Math.abs(weight)) / widest}%` } })),
    h("span", { class: "num weight" }, signed(weight, 2)));

  // -- its images ---------------------------------------------------------------------------------------------
  const [shows, setShow] = segmented("Images of the neuron", [
    ["top", "Top", "Largest second-order norms"], ["groups", "Groups", "The top images, parted by what they show"],
    ["quantiles", "Quantiles", "From the largest norm to the smallest, evenly"], ["random", "Random", "Any images of the collection, strongest first"]],
    (value) => { set("show", value); api.ask(); });
  const slider = h("input", { type: "range", min: 0, max: 100, "aria-label": "Opacity of the activation maps" });
  const gallery = h("div", { class: "gallery" });
  const galleryNote = h("p", { class: "note" });
  gallery.addEventListener("click", (event) => {
    const tile = event.target.closest("[data-image]");
    if (tile) api.ask({ image: Number(tile.dataset.image) });
  });
  gallery.addEventListener("keydown", (event) => {
    const tiles = [...gallery.querySelectorAll(".tile")], now = tiles.indexOf(event.target);
    if (now < 0) return;
    const first = tiles[0].offsetTop, n = Math.max(1, tiles.filter((tile) => tile.offsetTop === first).length);
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: n, ArrowUp: -n }[event.key];
    if (!step || !tiles[now + step]) return;
    event.preventDefault();
    tiles.forEach((tile) => (tile.tabIndex = -1));
    tiles[now + step].tabIndex = 0;
    tiles[now + step].focus();
  });
  slider.addEventListener("input", () => { set("opacity", Number(slider.value) / 100); gallery.style.setProperty("--map", slider.value / 100); paint(); });
  slider.addEventListener("change", () => api.model.save_changes());

  const empty = h("p", { class: "empty", hidden: true });
  const columns = h("div", { class: "columns", hidden: true },
    h("div", { class: "finding" }, listTitle, list),
    h("div", { class: "about" }, title, facts, code, codeNote, current),
    h("div", { class: "images" }, h("div", { class: "head" }, h("h4", {}, "Images"), shows, h("label", { class: "overlay" }, "map", slider)), gallery, galleryNote));
  api.body.append(h("h3", {}, "Neurons", hint), meter,
    h("div", { class: "controls" }, search, finds, layerSlot, jump), empty, columns);

  let url = null, picture = null, turn = 0;
  api.cleanups.push(() => url && URL.revokeObjectURL(url));

  // -- drawing ------------------------------------------------------------------------------------------------
  const glow = (canvas, map, start, limit) => {
    const [rows, cols] = api.view.grid;
    canvas.width = cols;
    canvas.height = rows;
    const context = canvas.getContext("2d"), pixels = context.createImageData(cols, rows);
    for (let i = 0; i < rows * cols; i++) {
      const t = limit > 0 ? Math.min(1, Math.max(0, map[start + i] / limit)) : 0;
      pixels.data.set([...GLOW, Math.round(235 * Math.pow(t, 0.9))], 4 * i);
    }
    context.putImageData(pixels, 0, 0);
    return canvas;
  };
  const tile = (place, largest) => {
    const { gallery: shown, grid, selection } = api.view;
    const id = shown.ids[place], norm = shown.norms[place], along = shown.along[place];
    const about = `${shown.names[place]} · effect ${norm.toFixed(4)}, ${signed(along, 4)} from its mean along the direction`;
    return h("button", { type: "button", class: "tile", "data-image": id, title: about, "aria-label": about, "aria-selected": String(id === selection.image), tabindex: -1, style: tileStyle(url, place, shown.columns, shown.ids.length) },
      glow(h("canvas", { class: "map", "aria-hidden": "true" }), api.arrays.maps, place * grid[0] * grid[1], shown.limit),
      h("i", { class: along < 0 ? "minus" : "plus", style: { width: `${(100 * norm) / largest}%` } }));
  };
  const drawGallery = (view) => {
    const { how, ids, groups, norms, separation } = view.gallery;
    const largest = Math.max(1e-12, ...norms);
    const sets = groups.length > 1 ? groups : [{ places: ids.map((_, place) => place), texts: [], along: 0 }];
    gallery.replaceChildren(...sets.flatMap(({ places, texts, along }, i) => [
      groups.length > 1 ? h("p", { class: "group" }, h("b", {}, texts.join(" · ")), ` ${places.length} images, ${signed(along, 4)} on average`) : null,
      h("div", { class: groups.length > 1 ? "tiles small" : "tiles", role: "group", "aria-label": texts.join(", ") || "Images", "data-group": i }, ...places.map((place) => tile(place, largest)))]).filter(Boolean));
    const first = gallery.querySelector(".tile");
    if (first) first.tabIndex = 0;
    galleryNote.textContent = {
      top: `The ${ids.length} images with the largest effects. Bars: its size; orange above the neuron's mean along the direction, blue below.`,
      groups: groups.length > 1 ? `The ${ids.length} top images fall into ${groups.length} groups (silhouette ${separation.toFixed(2)}).` : `The ${ids.length} top images do not part into groups.`,
      quantiles: "From the largest effect to the smallest in even steps; maps and bars on the scale of the top images.",
      random: "Drawn at random from the collection, strongest first; maps on the scale of the top images.",
    }[how];
  };
  const paint = () => {
    if (!picture || !api.arrays.map || !api.view.current) return;
    const side = 240;
    canvas.width = side;
    canvas.height = side;
    const context = canvas.getContext("2d"), opacity = api.model.get("opacity");
    context.drawImage(picture, 0, 0, side, side);
    context.fillStyle = `rgba(17,24,39,${0.38 * opacity})`;
    context.fillRect(0, 0, side, side);
    context.globalAlpha = opacity;
    context.imageSmoothingQuality = "high";
    context.drawImage(glow(document.createElement("canvas"), api.arrays.map, 0, api.view.gallery.limit), 0, 0, side, side);
    context.globalAlpha = 1;
    api.root.dataset.mapOf = api.view.current.image;
  };
  const loadPicture = async (bytes) => {
    const mine = ++turn, source = bytesUrl(bytes, "image/jpeg"), image = new Image();
    image.src = source;
    try {
      await image.decode();
      if (mine === turn) { picture = image; paint(); }
    } catch {
      if (mine === turn) api.showError({ message: "The image could not be decoded by the browser." });
    } finally {
      URL.revokeObjectURL(source);
    }
  };
  const drawProfile = (view) => {
    const values = api.arrays.profile;
    const width = (profile.width = 2 * (profile.clientWidth || 140)), height = (profile.height = 84);
    const context = profile.getContext("2d");
    const colours = getComputedStyle(api.root);
    const pad = 4, floor = height - pad, top = Math.max(1e-12, values[values.length - 1]);
    const x = (share) => pad + share * (width - 2 * pad), y = (value) => floor - (value / top) * (floor - pad);
    context.clearRect(0, 0, width, height);
    context.beginPath();
    context.moveTo(x(0), floor);
    values.forEach((value, i) => context.lineTo(x(i / (values.length - 1)), y(value)));
    context.lineTo(x(1), floor);
    context.closePath();
    context.fillStyle = colours.getPropertyValue("--area");
    context.fill();
    if (view.current) {
      const { rank, norm } = view.current;
      context.beginPath();
      context.arc(x(rank), Math.max(pad + 2, y(Math.min(norm, top))), 6, 0, 7);
      context.fillStyle = colours.getPropertyValue("--accent");
      context.fill();
    }
    profile.setAttribute("aria-label", `Size of the effect over the images read, smallest to largest; the largest is ${top.toFixed(4)}`);
  };
  const tell = () => {
    const [read, all] = api.model.get("progress") ?? [0, 0];
    meter.hidden = !all || read >= all;
    bar.style.width = `${all ? (100 * read) / all : 0}%`;
    meter.setAttribute("aria-valuenow", read);
    meter.setAttribute("aria-valuemax", all);
    const known = api.view.n_read ?? 0;
    hint.textContent = !all || read >= all ? (known ? `from ${known.toLocaleString("en")} images` : "") : `reading ${read.toLocaleString("en")} of ${all.toLocaleString("en")} images…`;
    api.root.dataset.read = read;
  };
  followVisibility(api, () => api.arrays.profile && drawProfile(api.view));
  api.model.on("change:progress", tell);
  api.cleanups.push(() => api.model.off("change:progress", tell));

  return (view, arrays) => {
    empty.hidden = !view.message;
    empty.textContent = view.message;
    columns.hidden = Boolean(view.message);
    tell();
    if (view.message) return;
    if (url) URL.revokeObjectURL(url);
    url = arrays.sprite?.length ? bytesUrl(arrays.sprite, "image/jpeg") : null;
    setLayer(view.layer, view.n_layers);
    setFind(view.found_by);
    setShow(view.gallery.how);
    const { selection, neuron } = view;
    if (document.activeElement !== text) text.value = selection.text;
    finds.children[1].disabled = selection.image === null;
    number.max = view.n_neurons - 1;
    number.title = `0 to ${view.n_neurons - 1}`;
    const minus = selection.text_b ? ` − “${selection.text_b}”` : "";
    listTitle.replaceChildren({ text: `Towards “${selection.text}”${minus}`, image: "Most active on this image", strength: "Strongest" }[view.found_by], h("small", {}, view.unit));
    const focused = list.contains(document.activeElement);
    const most = Math.max(1e-12, ...view.list.map(({ score }) => Math.abs(score)));
    list.replaceChildren(...view.list.map((item) => row(item, most, neuron.number)));
    if (![...list.children].some((item) => item.tabIndex === 0) && list.firstChild) list.firstChild.tabIndex = 0;
    if (focused) list.querySelector('[tabindex="0"]')?.focus();
    title.replaceChildren(`Neuron ${neuron.number}`, h("small", {}, `layer ${view.layer}`));
    facts.replaceChildren(h("b", { class: "num" }, percent(neuron.rank_one)), " of its effect's variance over its top images lies on one direction");
    const widest = Math.max(1e-12, ...neuron.words.map(([, weight]) => Math.abs(weight)));
    code.replaceChildren(...neuron.words.map((pair) => codeRow(pair, widest)));
    codeNote.textContent = `${neuron.words.length} texts rebuild ${percent(neuron.code_share)} of that direction. Click one to search with it.`;
    current.hidden = !view.current;
    if (view.current) {
      const { norm, along, rank, name } = view.current;
      here.replaceChildren("On this image its effect has size ", h("b", { class: "num" }, norm.toFixed(4)), ", larger than on ", h("b", { class: "num" }, percent(rank)), ` of the images; ${signed(along, 4)} from its mean along the direction.`);
      canvas.title = name;
      canvas.setAttribute("aria-label", `Activation map of neuron ${neuron.number} on ${name}`);
      loadPicture(arrays.picture);
    }
    drawProfile(view);
    slider.value = Math.round(100 * api.model.get("opacity"));
    gallery.style.setProperty("--map", api.model.get("opacity"));
    drawGallery(view);
    Object.assign(api.root.dataset, { layer: view.layer, neuron: neuron.number, pinned: String(view.pinned), find: view.found_by, text: selection.text, image: selection.image ?? "", show: view.gallery.how, shown: view.gallery.ids.length, groups: view.gallery.groups.length, first: view.list[0]?.neuron ?? "", nRead: view.n_read, complete: String(view.complete) });
  };
}

export default { render: (context) => mount(context, "neurons", build) };
