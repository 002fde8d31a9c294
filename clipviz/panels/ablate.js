const SHOWN_CLASSES = 8, SHOWN_GROUPS = 6, SETTLE = 140;

function build(api) {
  const hint = h("small", {});
  const taskBox = h("div", { class: "tasks" });
  const typed = h("input", { type: "text", placeholder: "your classes: a swan, an owl, a dog", "aria-label": "Class names, with commas between them", spellcheck: "false", maxlength: 4000 });
  const typedForm = h("div", { class: "field typed", hidden: true }, typed);
  typed.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    chooseTask("typed");
  });
  const [hows, setHow] = segmented("Replace a head's effect by", [
    ["mean", "Mean", "Replaced by its mean over the collection"], ["zero", "Zero", "Taken out altogether"]], (value) => { state.how = value; changed(); });
  const presets = h("div", { class: "presets", "aria-label": "Sets of heads" });
  const clear = h("button", { type: "button", class: "link", onclick: () => { state.heads.clear(); state.rest = false; changed(); } }, "clear");
  const grid = h("div", { class: "grid", role: "grid", "aria-label": "Heads, layer by head; pressed ones are ablated" });
  const tip = h("div", { class: "tip", hidden: true });
  const legend = h("div", { class: "legend" });
  const picture = h("span", { class: "tile picture" });
  const verdict = h("p", { class: "verdict", role: "status" });
  const bars = h("div", { class: "bars", role: "list", "aria-label": "Class probabilities" });
  const imageNote = h("p", { class: "note" });
  const about = h("span", { class: "about" });
  const plot = h("div", { class: "plot", role: "table", "aria-label": "Accuracy over the collection" });
  const sentence = h("p", { class: "note", role: "status" });
  const kept = h("p", { class: "kept", hidden: true }, "The collection's numbers are those of the heads that were out when this page was saved.");
  const empty = h("p", { class: "empty", hidden: true });
  const desk = h("div", { class: "desk" },
    h("div", { class: "part heads" }, h("div", { class: "wrap" }, grid, tip), legend),
    h("div", { class: "part image" }, h("div", { class: "top" }, picture, verdict), bars, imageNote),
    h("div", { class: "part all" }, h("h4", {}, "The collection", about), plot, sentence, kept));
  api.body.append(h("h3", {}, "Ablation desk", hint),
    h("div", { class: "controls" }, taskBox, typedForm, hows), presets, empty, desk);

  const state = { heads: new Set(), rest: false, how: "mean" };
  let D = null, deskKey = null, cells = new Map(), shape = "", restCell = null, timer = null, url = null, focus = null, rows = new Map(), adopted = null;
  const key = (layer, head) => `${layer},${head}`;
  const pair = (at) => at.split(",").map(Number);
  api.cleanups.push(() => clearTimeout(timer), () => url && URL.revokeObjectURL(url));

  // -- what is out: shown here at once, told to the kernel once the hand rests ------------------------------------
  const toDict = () => ({
    heads: [...state.heads].map(pair).sort((a, b) => a[0] - b[0] || a[1] - b[1]),
    layers: state.rest ? api.view.rest.layers : [], mlps: state.rest ? api.view.rest.mlps : [], tokens: [], how: state.how });
  const changed = () => {
    paint();
    clearTimeout(timer);
    if (api.standalone) return;
    timer = setTimeout(() => { timer = null; api.ask({ ablation: toDict() }); }, SETTLE);
  };
  const adopt = ({ heads, layers, mlps, how }) => {
    state.heads = new Set(heads.map(([l, hd]) => key(l, hd)));
    for (const layer of layers.filter((l) => api.view.kept.includes(l)))
      for (let head = 0; head < api.view.n_heads; head++) state.heads.add(key(layer, head));
    state.rest = mlps.length > 0 && mlps.length === api.view.rest.mlps.length;
    state.how = how;
  };
  const toggle = (at) => { if (!state.heads.delete(at)) state.heads.add(at); changed(); };
  const toggleAll = (keys) => {
    const out = keys.every((at) => state.heads.has(at));
    keys.forEach((at) => (out ? state.heads.delete(at) : state.heads.add(at)));
    changed();
  };
  const chooseTask = (task) => {
    if (task === "typed" && typed.value.split(",").filter((name) => name.trim()).length < 2) {
      setTask("typed");
      return typed.focus();
    }
    api.ask({}, { options: { task, classes: typed.value } });
  };
  let setTask = () => {};

  // -- the image's classes: sums of what the kernel sent once -----------------------------------------------------
  const after = (out) => {
    const { logits, squared_norm: norm, names, scale, bias } = D, side = state.how;
    const terms = D[`terms_${side}`], gram = D[`gram_${side}`], cross = D[`cross_${side}`], n = cross.length, C = names.length;
    const found = Float64Array.from(logits);
    const set = [];
    for (let j = 0; j < n; j++) if (out[j]) set.push(j);
    let squared = norm[0];
    for (const j of set) {
      for (let c = 0; c < C; c++) found[c] -= terms[j * C + c];
      squared -= 2 * cross[j];
      for (const k of set) squared += gram[j * n + k];
    }
    if (squared <= 1e-9 * norm[0]) return null;
    const cosines = found.map((value) => value / Math.sqrt(squared));
    if (bias !== null) {
      return { cosines, probabilities: cosines.map((value) => 1 / (1 + Math.exp(-(scale * value + bias)))) };
    }
    const top = cosines.reduce((a, b) => Math.max(a, b), -Infinity);
    const weights = cosines.map((value) => Math.exp(scale * (value - top)));
    const total = weights.reduce((a, b) => a + b, 0);
    return { cosines, probabilities: weights.map((w) => w / total) };
  };
  const ranked = (values) => [...values.keys()].sort((a, b) => values[b] - values[a]);
  const indicator = () => [...D.heads.map(([l, hd]) => state.heads.has(key(l, hd))), state.rest];

  const loadDesk = (view) => {
    if (deskKey === view.desk.key) return;
    deskKey = view.desk.key;
    D = { ...view.desk, ...unpack(view.desk.arrays, api.model.get("desk")) };
    D.before = after(new Array(D.heads.length + 1).fill(false));
    const order = ranked(D.before.cosines);
    [D.first, D.second] = [order[0], order[1] ?? order[0]];
    D.places = new Map(D.heads.map(([l, hd], i) => [key(l, hd), i]));
    if (url) URL.revokeObjectURL(url);
    url = bytesUrl(D.thumbnail, "image/jpeg");
    picture.style.backgroundImage = `url(${url})`;
    rows = new Map();
    bars.replaceChildren();
  };
  // What a term adds to the lead of the first class over the second, in units of the cosine.
  const lead = (j) => {
    const terms = D[`terms_${state.how}`], C = D.names.length;
    return (terms[j * C + D.first] - terms[j * C + D.second]) / Math.sqrt(D.squared_norm[0]);
  };

  const paintBars = () => {
    const now = after(indicator());
    const p = now?.probabilities ?? D.before.probabilities.map(() => 0), q = D.before.probabilities;
    const few = D.names.length <= SHOWN_CLASSES;
    const wanted = few ? ranked(p) : [...new Set([...ranked(p).slice(0, SHOWN_CLASSES - 3), ...ranked(q).slice(0, SHOWN_CLASSES)])].slice(0, SHOWN_CLASSES).sort((a, b) => p[b] - p[a]);
    for (const [c, row] of rows) if (!wanted.includes(c)) { row.node.remove(); rows.delete(c); }
    wanted.forEach((c, place) => {
      if (!rows.has(c)) {
        const fill = h("i"), tick = h("b"), share = h("span", { class: "num" }), change = h("span", { class: "num change" });
        const name = h("button", { type: "button", class: "name", title: D.prompts[c], onclick: () => api.ask({ text: D.prompts[c] }) }, D.names[c]);
        if (c === D.label) name.append(h("em", { title: "the image's own class" }, "true"));
        rows.set(c, { node: h("div", { class: "bar", role: "listitem" }, name, h("span", { class: "track" }, fill, tick), share, change), fill, tick, share, change });
      }
      const row = rows.get(c), delta = p[c] - q[c];
      row.node.style.order = place;
      row.node.classList.toggle("first", place === 0);
      row.fill.style.width = `${100 * p[c]}%`;
      row.tick.style.left = `${100 * q[c]}%`;
      row.share.textContent = percent(p[c]);
      row.change.textContent = Math.abs(delta) < 5e-4 ? "" : signed(100 * delta, 1);
      row.change.dataset.sign = delta < 0 ? "neg" : "pos";
      row.node.title = `before ${percent(q[c])}, cosine ${D.before.cosines[c].toFixed(3)}${now ? ` · now ${percent(p[c])}, cosine ${now.cosines[c].toFixed(3)}` : ""}`;
      if (!row.node.isConnected) bars.append(row.node);
    });
    const first = ranked(p)[0];
    const strong = (c, share) => [h("strong", {}, D.names[c]), ` ${percent(share)}`];
    verdict.replaceChildren(...(!now ? ["Nothing is left of the embedding."] : first === D.first
      ? ["Read as ", ...strong(first, p[first]), ...(p[first] === q[first] ? [] : [`, before ${percent(q[first])}`])]
      : ["Read as ", ...strong(D.first, q[D.first]), " before, now as ", ...strong(first, p[first])]));
    imageNote.textContent = D.n_classes > D.names.length ? `of ${D.n_classes.toLocaleString("en")} classes, the ${D.names.length} nearest to the image` : "";
    Object.assign(api.root.dataset, { top: D.names[first], probability: p[first].toFixed(6), before: D.names[D.first], painted: Number(api.root.dataset.painted ?? 0) + 1 });
  };

  // -- the grid ---------------------------------------------------------------------------------------------------
  const make = () => {
    const { n_layers: L, n_heads: H, kept } = api.view;
    cells = new Map();
    const dense = L > 12 || H > 12, every = H > 12 ? 2 : 1;
    grid.style.gridTemplateColumns = `30px repeat(${H}, minmax(0, 1fr)) 4px minmax(22px, 1fr)`;
    grid.classList.toggle("dense", dense);
    restCell = h("button", { type: "button", class: "cell rest", role: "gridcell", tabindex: -1, "data-rest": "", style: { gridRow: `2 / span ${L}`, gridColumn: `${H + 3}` }, onclick: () => { state.rest = !state.rest; changed(); } },
      h("span", {}, api.view.rest.layers.length ? "MLPs and early layers" : "all MLPs"));
    const header = h("div", { class: "row", role: "row" }, h("span", {}),
      ...Array.from({ length: H }, (_, head) => h("span", { class: "axis", role: "columnheader" }, head % every ? "" : `H${head}`)), h("span", {}), h("span", { class: "axis", role: "columnheader" }, "MLP"));
    const lines = [];
    for (let layer = L - 1; layer >= 0; layer--) {
      const there = kept.includes(layer), title = there ? `Layer ${layer}: take every head out, or put them back` : `Layer ${layer} is not kept for this collection`;
      const line = h("div", { class: "row", role: "row" }, h("button", { type: "button", class: "axis side", role: "rowheader", tabindex: -1, title, disabled: !there, "data-row": layer, onclick: () => toggleAll([...cells.keys()].filter((at) => pair(at)[0] === layer)) }, `L${layer}`));
      for (let head = 0; head < H; head++) {
        const cell = h("button", { type: "button", class: "cell", role: "gridcell", "data-layer": layer, "data-head": head, tabindex: -1, disabled: !there, onclick: () => toggle(key(layer, head)) });
        if (there) cells.set(key(layer, head), cell);
        line.append(cell);
      }
      line.append(h("span", {}));
      lines.push(line);
    }
    grid.replaceChildren(header, ...lines, h("div", { class: "row", role: "row" }, restCell));
    focus = cells.values().next().value;
    if (focus) focus.tabIndex = 0;
  };
  const focusOn = (node) => {
    if (!node || node.disabled) return;
    if (focus) focus.tabIndex = -1;
    focus = node;
    node.tabIndex = 0;
    node.focus();
  };
  grid.addEventListener("keydown", (event) => {
    const node = event.target.closest("button");
    if (!node) return;
    const { n_layers: L, n_heads: H } = api.view;
    const layer = Number(node.dataset.layer ?? node.dataset.row ?? focus?.dataset.layer ?? L - 1);
    const col = node.dataset.row !== undefined ? 0 : node.dataset.rest !== undefined ? H + 1 : Number(node.dataset.head) + 1;
    const to = gridKeys(event, L - 1 - layer, col, L, H + 2);
    if (!to) return;
    event.preventDefault();
    const row = L - 1 - to[0];
    focusOn(to[1] === 0 ? grid.querySelector(`[data-row="${row}"]`) : to[1] === H + 1 ? restCell : grid.querySelector(`[data-layer="${row}"][data-head="${to[1] - 1}"]`));
  });
  const words = (at) => `${headName(...pair(at))} · ${signed(lead(D.places.get(at)), 4)}${state.heads.has(at) ? " · ablated" : ""}`;
  grid.addEventListener("mouseover", (event) => {
    const cell = event.target.closest(".cell");
    tip.hidden = !cell || !D || (cell !== restCell && cell.disabled);
    if (tip.hidden) return;
    tip.textContent = cell === restCell ? `${restCell.textContent} · ${signed(lead(D.heads.length), 4)}` : words(key(cell.dataset.layer, cell.dataset.head));
    const box = cell.getBoundingClientRect(), frame = tip.parentElement.getBoundingClientRect(), half = tip.offsetWidth / 2;
    tip.style.left = `${Math.max(half, Math.min(frame.width - half, box.left - frame.left + box.width / 2))}px`;
    tip.style.top = `${box.top - frame.top}px`;
  });
  grid.addEventListener("mouseleave", () => (tip.hidden = true));
  const paintGrid = () => {
    const leads = D.heads.map((_, j) => lead(j));
    const limit = leads.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-9);
    for (const [at, cell] of cells) {
      const out = state.heads.has(at);
      cell.style.background = rgb(diverging(leads[D.places.get(at)], limit, api.theme));
      cell.setAttribute("aria-pressed", String(out));
      cell.setAttribute("aria-label", words(at));
    }
    const rest = diverging(lead(D.heads.length), limit, api.theme);
    restCell.style.background = rgb(rest);
    restCell.style.color = inkOn(rest);
    restCell.setAttribute("aria-pressed", String(state.rest));
    const { pos, neg, zero } = DIVERGING[api.theme];
    legend.replaceChildren(h("span", {}, D.names[D.second]), h("i", { style: { background: `linear-gradient(90deg, ${[neg, zero, pos].map(rgb).join(",")})` } }), h("span", {}, D.names[D.first]),
      h("span", { class: "what" }, `what each head adds to either, ${state.how === "mean" ? "beyond its mean, " : ""}up to ${signed(limit, 3)}`));
  };

  // -- the collection ---------------------------------------------------------------------------------------------
  const line = (row, name, strong) => {
    const at = (share) => ({ left: `${100 * share}%` });
    const delta = row.after - row.before;
    const spread = row.random.length ? `; ${row.random.length} random draws ${percent(Math.min(...row.random))} to ${percent(Math.max(...row.random))}` : "";
    const track = h("span", { class: "dots", role: "cell", title: `before ${percent(row.before)}, after ${percent(row.after)}${spread}` },
      h("u", { style: { left: `${100 * Math.min(row.before, row.after)}%`, width: `${100 * Math.abs(delta)}%` } }),
      ...row.random.map((share) => h("s", { style: at(share) })), h("b", { style: at(row.before) }), h("i", { style: at(row.after) }));
    return h("div", { class: `line${strong ? " strong" : ""}`, role: "row" },
      h("span", { class: "group", role: "rowheader", title: `${row.name}, ${row.n_images} images` }, name), track, h("span", { class: "num", role: "cell" }, percent(row.after)),
      h("span", { class: "num change", role: "cell", "data-sign": delta < 0 ? "neg" : "pos" }, Math.abs(delta) < 5e-4 ? "" : signed(100 * delta, 1)));
  };
  const paintAll = (view) => {
    const found = view.outcome;
    const read = view.complete ? "" : ` · ${view.n_read.toLocaleString("en")} of ${view.n_images.toLocaleString("en")} read`;
    about.textContent = found ? `${found.everything.n_images.toLocaleString("en")} images with a label${view.note && ` · classes ${view.note}`}${read}` : read;
    if (!found) {
      plot.replaceChildren();
      sentence.textContent = view.task === "typed" ? "No image of the collection is labelled with these classes: the bars are for the image alone." : "Measuring…";
      return;
    }
    const groups = found.groups.slice(0, SHOWN_GROUPS);
    const keys = h("div", { class: "keys" }, h("span", {}, h("b"), "before"), h("span", {}, h("i"), "after"), h("span", {}, h("s"), "random heads"));
    plot.replaceChildren(keys, line(found.everything, "all images", true), ...(found.worst ? [line(found.worst, "worst group", true)] : []), ...groups.map((row) => line(row, row.name, false)));
    const { worst } = found, k = found.n_heads, draws = worst?.random ?? found.everything.random;
    const name = worst ? "The worst group" : "Accuracy", row = worst ?? found.everything;
    const more = found.groups.length > groups.length ? ` Groups: ${found.by}; the ${groups.length} worst of ${found.groups.length}.` : found.by ? ` Groups: ${found.by}.` : "";
    const from = found.drawn_from.length === 1 ? `layer ${found.drawn_from[0]}` : `layers ${found.drawn_from[0]}–${found.drawn_from[found.drawn_from.length - 1]}`;
    sentence.textContent = (k || state.rest ? `${name} goes from ${percent(row.before)} to ${percent(row.after)}.` : "Nothing is ablated: press heads to take them out.")
      + (draws.length ? ` ${draws.length} draws of ${k} random head${k > 1 ? "s" : ""} of ${from} leave ${percent(Math.min(...draws))} to ${percent(Math.max(...draws))}.` : "") + more;
  };

  const paintPresets = () => {
    const made = api.view.presets.map((preset) => {
      const keys = preset.heads.map(([l, hd]) => key(l, hd));
      const name = preset.kind === "text" ? `towards “${preset.name}”` : preset.kind === "property" ? `${preset.name} heads` : preset.kind === "cue" ? `heads that tell ${preset.name}` : preset.name;
      return h("button", { type: "button", class: "preset", "data-kind": preset.kind, "data-name": preset.name, "aria-pressed": String(keys.length > 0 && keys.every((at) => state.heads.has(at))), title: keys.map((at) => headName(...pair(at))).join(", "), onclick: () => toggleAll(keys) }, name, h("span", { class: "num" }, keys.length));
    });
    presets.replaceChildren(...made, ...(api.view.complete ? [] : [h("span", { class: "wait" }, "properties come when the collection is read")]), clear);
  };
  const paint = () => {
    setHow(state.how);
    clear.disabled = !state.heads.size && !state.rest;
    Object.assign(api.root.dataset, { heads: state.heads.size, rest: String(state.rest), how: state.how });
    hint.textContent = state.heads.size || state.rest ? `${state.heads.size} head${state.heads.size === 1 ? "" : "s"}${state.rest ? " and the MLPs" : ""} out` : "press heads to take them out";
    if (!D) return;
    paintGrid();
    paintBars();
    paintPresets();
    const { ablation } = api.view.selection, told = new Set(ablation.heads.map(([l, hd]) => key(l, hd)));
    const same = told.size === state.heads.size && [...told].every((at) => state.heads.has(at)) && ablation.how === state.how && (ablation.mlps.length > 0) === state.rest;
    desk.classList.toggle("waiting", !same && !ablation.layers.length);
    kept.hidden = !api.standalone || same;
  };

  followVisibility(api);

  return (view) => {
    const options = [...view.tasks.map(([name, note]) => [name, name[0].toUpperCase() + name.slice(1), note]), ["typed", "Yours", "Type class names of your own"]];
    if (taskBox.dataset.of !== view.tasks.join()) {
      taskBox.dataset.of = view.tasks.join();
      const [control, set] = segmented("Classes", options, chooseTask);
      taskBox.replaceChildren(control);
      setTask = (task) => { set(task); typedForm.hidden = task !== "typed"; };
    }
    setTask(view.task);
    if (document.activeElement !== typed) typed.value = view.classes;
    if (!timer && adopted !== view.seq) adopt(view.selection.ablation);
    adopted = view.seq;
    empty.hidden = !view.message;
    empty.textContent = view.message;
    desk.hidden = !view.desk;
    const wanted = `${view.n_layers},${view.n_heads},${view.kept}`;
    if (shape !== wanted) { shape = wanted; make(); }
    if (view.desk) loadDesk(view);
    else D = deskKey = null;
    paint();
    if (view.desk) paintAll(view);
    const { outcome } = view;
    Object.assign(api.root.dataset, { task: view.task, image: view.selection.image ?? "", complete: String(view.complete), presets: view.presets.length, classes: view.desk ? view.desk.n_classes : 0, measured: outcome ? outcome.n_heads : "", measuredHow: view.selection.ablation.how, accuracy: outcome ? outcome.everything.after.toFixed(6) : "", worst: outcome?.worst ? outcome.worst.after.toFixed(6) : "", draws: outcome ? outcome.everything.random.length : "" });
  };
}

export default { render: (context) => mount(context, "ablate", build) };
