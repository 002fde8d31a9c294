const TITLES = {
  "no words": ["The class alone", "No words: what the model makes of the class by itself"],
  "similar words": ["Words without neurons", "The texts nearest to the direction from one class to the other"],
  "second order": ["Words from neurons", "The texts with the highest contribution score"],
};

function build(api) {
  const hint = h("small", {});
  const bar = h("i", {});
  const meter = h("span", { class: "meter", role: "progressbar", "aria-label": "Images read", hidden: true }, bar);

  // -- the classes --------------------------------------------------------------------------------------------
  const names = h("datalist", { id: `cv-cues-${Math.random().toString(36).slice(2)}` });
  const choose = () => {
    const [a, b] = [drawn.value.trim(), mistaken.value.trim()];
    if (!a || !b || (a === api.view.drawn && b === api.view.mistaken)) return;
    api.ask({}, { options: { drawn: a, mistaken: b } });
  };
  const field = (label, placeholder) => h("input", {
    type: "text", autocomplete: "off", spellcheck: "false", maxlength: 80, list: names.id, placeholder, "aria-label": label,
    onkeydown: (event) => { if (event.key === "Enter" && !event.isComposing) choose(); },
    onchange: choose,
    onfocus: (event) => event.target.select(),
  });
  const drawn = field("Class in the pictures", "a class"), mistaken = field("Class they should be taken for", "another class");
  const swap = () => api.ask({}, { options: { drawn: mistaken.value.trim(), mistaken: drawn.value.trim() } });
  const pair = h("div", { class: "pair" }, h("span", {}, "Pictures of"), h("span", { class: "field" }, drawn),
    h("span", {}, "taken for"), h("span", { class: "field" }, mistaken),
    h("button", { type: "button", class: "square", title: "Swap the classes", "aria-label": "Swap the classes", onclick: swap }, "⇄"), names);
  const [layerSlot, setLayer] = layerChooser((layer) => { api.model.set("layer", layer); api.ask(); });

  // -- the words ----------------------------------------------------------------------------------------------
  const list = h("div", { class: "words", role: "list", "aria-label": "Spurious words" });
  const wordsNote = h("p", { class: "note" });
  list.addEventListener("click", (event) => {
    const word = event.target.closest("[data-word]"), neuron = event.target.closest("[data-neuron]");
    if (word) api.ask({ text: word.dataset.word });
    if (neuron) api.ask({ layer: api.view.layer, neuron: Number(neuron.dataset.neuron) });
  });
  list.addEventListener("keydown", (event) => {
    const at = event.target.closest(".word"), step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!at || !step) return;
    const rows = [...list.children], to = rows[rows.indexOf(at) + step];
    if (!to) return;
    event.preventDefault();
    const place = [...at.querySelectorAll("button")].indexOf(event.target);
    const buttons = to.querySelectorAll("button");
    buttons[Math.min(place, buttons.length - 1)].focus();
  });
  const row = ({ text, score, drawable, neurons }, most, { selection, layer }) => h("div", { class: "word", role: "listitem" },
    h("button", { type: "button", class: drawable ? "text" : "text undrawn", "data-word": text, "aria-pressed": String(selection.text === text), title: `Select “${text}” everywhere${drawable || !api.view.classes.length ? "" : ". The demo world cannot put it beside the class"}` }, text),
    h("span", { class: "bar" }, h("i", { style: { width: `${(100 * score) / most}%` } })),
    h("span", { class: "num score" }, score.toFixed(2)),
    h("span", { class: "behind" }, ...neurons.map(({ neuron, part, weight, along }) => h("button", {
      type: "button", class: "neuron num", "data-neuron": neuron, "aria-pressed": String(selection.layer === layer && selection.neuron === neuron),
      "aria-label": `Neuron ${neuron}`, title: `Neuron ${neuron}: ${signed(part, 3)} of the score = weight of the text ${signed(weight, 2)} × direction along the pair ${signed(along, 2)}`,
    }, `#${neuron}`))));

  // -- the pictures -------------------------------------------------------------------------------------------
  const again = h("button", { type: "button", class: "square again", onclick: () => api.ask({}, { action: "draw" }) }, "Draw again");
  const verdict = h("p", { class: "verdict", role: "status" });
  const strips = h("div", { class: "strips" });
  const canvas = h("canvas", { role: "img" });
  const sentence = h("p", { class: "sentence" });
  const about = h("p", { class: "note" });
  const open = h("button", { type: "button", class: "link", title: "Add the picture to the session, with both classes as texts", onclick: () => look("open", api.view.look.method, api.view.look.place) }, "Open in every panel →");
  const closely = h("div", { class: "closely" }, h("div", { class: "stage" }, canvas), h("div", { class: "side" }, sentence, about, open));
  const look = (action, method, place) => api.ask({}, { action, method, place });
  strips.addEventListener("click", (event) => {
    const tile = event.target.closest("[data-place]");
    if (tile) look("look", tile.dataset.method, Number(tile.dataset.place));
  });
  strips.addEventListener("keydown", (event) => {
    const tiles = [...strips.querySelectorAll(".tile")], now = tiles.indexOf(event.target);
    if (now < 0) return;
    const first = tiles[0].offsetTop, n = Math.max(1, tiles.filter((tile) => tile.offsetTop === first).length);
    const to = tiles[now + ({ ArrowRight: 1, ArrowLeft: -1, ArrowDown: n, ArrowUp: -n }[event.key] ?? NaN)];
    if (!to) return;
    event.preventDefault();
    tiles.forEach((tile) => (tile.tabIndex = -1));
    to.tabIndex = 0;
    to.focus();
  });
  const note = h("p", { class: "note why" });

  const empty = h("p", { class: "empty", hidden: true });
  const columns = h("div", { class: "columns", hidden: true },
    h("div", { class: "finding" }, h("h4", {}, "Words", h("small", {}, "contribution score, and the neurons behind it")), list, wordsNote),
    h("div", { class: "pictures" }, h("div", { class: "head" }, h("h4", {}, "Pictures"), again), verdict, note, strips, closely));
  api.body.append(h("h3", {}, "Spurious cues", hint), meter, h("div", { class: "controls" }, pair, layerSlot), empty, columns);

  let url = null, picture = null, turn = 0;
  api.cleanups.push(() => url && URL.revokeObjectURL(url));

  // -- drawing ------------------------------------------------------------------------------------------------
  const tile = (method, first, place, margin, said, { columns: wide, n_tiles, look: seen, mistaken: wrong }) => {
    const fooled = margin > 0, label = `${said}: ${fooled ? `taken for ${wrong}` : "recognised"}, margin ${signed(margin, 3)}`;
    return h("button", { type: "button", class: fooled ? "tile fooled" : "tile", "data-method": method, "data-place": place, title: label, "aria-label": label, tabindex: -1,
      "aria-selected": String(seen?.method === method && seen?.place === place), style: tileStyle(url, first + place, wide, n_tiles) });
  };
  const strip = (view, { method, fooled, mean, margins, sentences, first, words }) => {
    const [title, what] = TITLES[method], share = fooled / Math.max(1, margins.length);
    const order = margins.map((_, place) => place).sort((a, b) => margins[b] - margins[a]);
    return h("section", { class: method === "second order" ? "strip ours" : "strip", "data-method": method, "data-fooled": fooled },
      h("p", { class: "caption" }, h("b", { title: words.length ? `${what}: ${words.join(", ")}…` : what }, title),
        h("span", { class: "share", title: `mean margin ${signed(mean, 3)}` }, h("i", { style: { width: `${100 * share}%` } })),
        h("span", { class: "num" }, `${fooled} of ${margins.length}`)),
      h("div", { class: "tiles", role: "group", "aria-label": title }, ...order.map((place) => tile(method, first, place, margins[place], sentences[place], view))));
  };
  const paint = () => {
    const { look: seen } = api.view, map = api.arrays.map;
    if (!picture || !seen || !map) return;
    const side = 240, [rows, cols] = seen.grid;
    canvas.width = canvas.height = side;
    const context = canvas.getContext("2d"), small = document.createElement("canvas");
    small.width = cols;
    small.height = rows;
    const inner = small.getContext("2d"), pixels = inner.createImageData(cols, rows);
    const limit = Math.max(1e-12, ...map.map(Math.abs));
    for (let i = 0; i < rows * cols; i++) pixels.data.set([...(map[i] < 0 ? [59, 130, 246] : [249, 115, 22]), Math.round(215 * Math.pow(Math.abs(map[i]) / limit, 0.8))], 4 * i);
    inner.putImageData(pixels, 0, 0);
    context.filter = "grayscale(1)";
    context.drawImage(picture, 0, 0, side, side);
    context.filter = "none";
    context.fillStyle = "rgba(255,255,255,.25)";
    context.fillRect(0, 0, side, side);
    context.imageSmoothingQuality = "high";
    context.drawImage(small, 0, 0, side, side);
    api.root.dataset.looked = `${seen.method}/${seen.place}`;
  };
  const loadPicture = async (bytes) => {
    const mine = ++turn, source = bytesUrl(bytes, "image/jpeg"), image = new Image();
    image.src = source;
    try {
      await image.decode();
      if (mine === turn) { picture = image; paint(); }
    } catch {
      if (mine === turn) api.showError({ message: "The picture could not be decoded by the browser." });
    } finally {
      URL.revokeObjectURL(source);
    }
  };
  const tell = () => {
    const [read, all] = api.model.get("progress") ?? [0, 0], reading = all > 0 && read < all;
    meter.hidden = !reading;
    bar.style.width = `${all ? (100 * read) / all : 0}%`;
    meter.setAttribute("aria-valuenow", read);
    meter.setAttribute("aria-valuemax", all);
    const known = api.view.n_read ?? 0;
    hint.textContent = reading ? `reading ${read.toLocaleString("en")} of ${all.toLocaleString("en")} images…` : known ? `from ${known.toLocaleString("en")} images` : "";
    api.root.dataset.read = read;
  };
  const drawPictures = (view) => {
    const { attempts, drawing, note: why, look: seen, classes } = view;
    note.textContent = why;
    note.hidden = !why;
    again.hidden = !classes.includes(view.drawn);
    again.disabled = Boolean(drawing);
    again.textContent = attempts.length ? "Draw again" : "Draw now";
    verdict.textContent = view.verdict || (drawing ? "Drawing…" : "");
    verdict.hidden = !verdict.textContent;
    const ordered = ["second order", "similar words", "no words"].map((method) => attempts.find((one) => one.method === method)).filter(Boolean);
    const focused = strips.contains(document.activeElement) ? document.activeElement.dataset : null;
    strips.replaceChildren(...ordered.map((one) => strip(view, one)));
    const current = strips.querySelector('[aria-selected="true"]') ?? strips.querySelector(".tile");
    if (current) current.tabIndex = 0;
    if (focused) strips.querySelector(`[data-method="${focused.method}"][data-place="${focused.place}"]`)?.focus();
    closely.hidden = !seen;
    if (!seen) return;
    sentence.textContent = seen.sentence;
    const fooled = seen.margin > 0;
    about.replaceChildren("The cosine with ", h("b", {}, view.mistaken), ` is ${fooled ? "larger" : "smaller"} by `, h("b", { class: "num" }, Math.abs(seen.margin).toFixed(3)),
      ` than with ${view.drawn}. `, h("i", { class: "key pos" }), " tokens that write towards ", view.mistaken, ", ", h("i", { class: "key neg" }), ` towards ${view.drawn}.`);
    canvas.setAttribute("aria-label", `${seen.sentence}, with the tokens that write towards either class`);
    loadPicture(api.arrays.picture);
  };

  followVisibility(api);
  api.model.on("change:progress", tell);
  api.cleanups.push(() => api.model.off("change:progress", tell));

  return (view, arrays) => {
    empty.hidden = !view.message;
    empty.textContent = view.message;
    columns.hidden = Boolean(view.message);
    if (names.children.length !== view.classes.length) names.replaceChildren(...view.classes.map((name) => h("option", { value: name })));
    for (const [input, value] of [[drawn, view.drawn], [mistaken, view.mistaken]]) if (document.activeElement !== input) input.value = value;
    if (view.layer !== null) setLayer(view.layer, view.n_layers);
    tell();
    Object.assign(api.root.dataset, { drawn: view.drawn, mistaken: view.mistaken, layer: view.layer ?? "", words: view.words.length, methods: view.attempts.length, done: String(Boolean(view.look)), complete: String(Boolean(view.complete)), neuron: view.selection.neuron ?? "", text: view.selection.text });
    if (view.message) return;
    if (url) URL.revokeObjectURL(url);
    url = arrays.sprite?.length ? bytesUrl(arrays.sprite, "image/jpeg") : null;
    const most = Math.max(1e-12, ...view.words.map(({ score }) => score));
    const focused = list.contains(document.activeElement) ? document.activeElement : null;
    const at = focused && [[...list.children].indexOf(focused.closest(".word")), [...focused.closest(".word").querySelectorAll("button")].indexOf(focused)];
    list.replaceChildren(...view.words.map((word) => row(word, most, view)));
    if (at) list.children[at[0]]?.querySelectorAll("button")[at[1]]?.focus();
    wordsNote.textContent = view.words.length
      ? `${view.n_texts.toLocaleString("en")} texts, without those that mean ${view.mistaken}. Pale: cannot be drawn beside the class.`
      : "No text has a positive score for this pair.";
    drawPictures(view);
  };
}

export default { render: (context) => mount(context, "cues", build) };
