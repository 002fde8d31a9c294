function build(api) {
  const hint = h("small", {}, "");
  const setQuantity = (value) => { api.model.set("quantity", value); api.model.save_changes(); choose(value); api.redraw(); };
  const [control, choose] = segmented("Colour heads by", [
    ["effect", "Effect", "Direct effect on the text, for this image"],
    ["variance", "Variance", "Share of the heads' variance over the collection"],
    ["property", "Property", "What the head's first texts have in common"]], setQuantity);
  const search = h("input", { type: "search", placeholder: "find heads…", "aria-label": "Find heads by what they describe", spellcheck: "false" });
  const found = h("span", { class: "found num" });
  const grid = h("div", { class: "grid", role: "grid", "aria-label": "Heads, layer by head" });
  const tip = h("div", { class: "tip", hidden: true });
  const legend = h("div", { class: "legend" });
  const describe = h("div", { class: "sr", role: "status" });
  api.body.append(h("h3", {}, "Heads", hint),
    h("div", { class: "controls" }, control, h("label", { class: "field find" }, search, found)),
    h("div", { class: "wrap" }, grid, tip), legend, describe);

  let cells = new Map();
  let shape = "";
  const key = (layer, head) => `${layer},${head}`;
  const ablated = () => new Set((api.view.selection?.ablation.heads ?? []).map(([l, hd]) => key(l, hd)));
  const summary = (layer, head) => api.view.summaries?.[key(layer, head)];

  const select = (layer, head) => { mark(layer, head); api.ask({ layer, head }); };
  const toggle = (layer, head) => {
    const { ablation } = api.view.selection;
    const off = ablation.heads.some(([l, hd]) => l === layer && hd === head);
    const heads = off ? ablation.heads.filter(([l, hd]) => l !== layer || hd !== head) : [...ablation.heads, [layer, head]];
    ablation.heads = heads; // shown at once; the kernel's answer confirms it
    cells.get(key(layer, head)).classList.toggle("ablated", !off);
    api.ask({ ablation: { ...ablation, heads } });
  };
  const mark = (layer, head) => {
    for (const cell of cells.values()) {
      const on = cell.dataset.layer === String(layer) && cell.dataset.head === String(head);
      cell.setAttribute("aria-selected", String(on));
      cell.tabIndex = on ? 0 : -1;
    }
    if (![...cells.values()].some((cell) => cell.tabIndex === 0)) cells.values().next().value.tabIndex = 0;
  };
  const make = (nLayers, nHeads) => {
    cells = new Map();
    const dense = nLayers > 12 || nHeads > 12;
    grid.style.gridTemplateColumns = `26px repeat(${nHeads}, minmax(0, 1fr)) 6px minmax(0, 1fr)`;
    grid.classList.toggle("dense", dense);
    const every = nHeads > 12 ? 2 : 1;
    const header = h("div", { class: "row", role: "row" }, h("span", {}),
      ...Array.from({ length: nHeads }, (_, head) => h("span", { class: "axis", role: "columnheader" }, head % every ? "" : `H${head}`)),
      h("span", {}), h("span", { class: "axis", role: "columnheader" }, "MLP"));
    const rows = [];
    if (api.view.has_tail) {
      const empty = Array.from({ length: nHeads }, () => h("span", {}));
      rows.push(h("div", { class: "row", role: "row" }, h("span", { class: "axis side", role: "rowheader" }, "pool"), ...empty, h("span", {}),
        h("span", { class: "cell mlp", "data-mlp": nLayers + 1, title: "" })));
    }
    for (let layer = nLayers - 1; layer >= 0; layer--) {
      const row = h("div", { class: "row", role: "row" }, h("span", { class: "axis side", role: "rowheader" }, dense && layer % 2 ? "" : `L${layer}`));
      for (let head = 0; head < nHeads; head++) {
        const cell = h("button", { type: "button", class: "cell", role: "gridcell", "data-layer": layer, "data-head": head, tabindex: -1 });
        cells.set(key(layer, head), cell);
        row.append(cell);
      }
      row.append(h("span", {}), h("span", { class: "cell mlp", "data-mlp": layer + 1, title: "" }));
      rows.push(row);
    }
    grid.replaceChildren(header, ...rows);
  };

  grid.addEventListener("click", (event) => {
    const cell = event.target.closest("button.cell");
    if (!cell) return;
    const layer = Number(cell.dataset.layer), head = Number(cell.dataset.head);
    if (event.ctrlKey || event.metaKey) toggle(layer, head);
    else select(layer, head);
  });
  grid.addEventListener("keydown", (event) => {
    const cell = event.target.closest("button.cell");
    if (!cell) return;
    const layer = Number(cell.dataset.layer), head = Number(cell.dataset.head);
    if (event.key === "a" || event.key === "A") return toggle(layer, head);
    const { n_layers: nLayers, n_heads: nHeads } = api.view;
    const to = gridKeys(event, nLayers - 1 - layer, head, nLayers, nHeads);
    if (!to) return;
    event.preventDefault();
    select(nLayers - 1 - to[0], to[1]);
    cells.get(key(nLayers - 1 - to[0], to[1])).focus();
  });
  const value = (layer, head) => {
    const quantity = api.model.get("quantity");
    if (quantity === "effect") return api.view.cosine === null ? null : api.arrays.heads[layer * api.view.n_heads + head];
    const at = api.view.kept.indexOf(layer);
    if (quantity === "variance") return api.arrays.variance && at >= 0 ? api.arrays.variance[at * api.view.n_heads + head] : null;
    return summary(layer, head)?.label ?? null;
  };
  const words = (layer, head) => {
    const v = value(layer, head), about = summary(layer, head);
    const number = v === null ? "" : typeof v === "string" ? "" : api.model.get("quantity") === "variance" ? percent(v) : signed(v, 4);
    return [headName(layer, head), number, about ? `${about.label}: ${about.texts.slice(0, 2).join(", ")}` : ""].filter(Boolean).join(" · ");
  };
  grid.addEventListener("mouseover", (event) => {
    const cell = event.target.closest(".cell");
    tip.hidden = !cell;
    if (!cell) return;
    tip.textContent = cell.dataset.mlp
      ? `${Number(cell.dataset.mlp) > api.view.n_layers ? "MLP after the pool" : `MLP ${cell.dataset.mlp - 1}`} · ${signed(api.arrays.mlps[Number(cell.dataset.mlp)], 4)}`
      : words(Number(cell.dataset.layer), Number(cell.dataset.head));
    const box = cell.getBoundingClientRect(), frame = tip.parentElement.getBoundingClientRect();
    tip.style.maxWidth = `${frame.width}px`;
    const half = tip.offsetWidth / 2;
    tip.style.left = `${Math.max(half, Math.min(frame.width - half, box.left - frame.left + box.width / 2))}px`;
    tip.style.top = `${box.top - frame.top}px`;
  });
  grid.addEventListener("mouseleave", () => (tip.hidden = true));

  const matches = () => {
    const wanted = search.value.trim().toLowerCase();
    if (!wanted) return null;
    return [...cells.keys()].filter((at) => {
      const about = api.view.summaries?.[at];
      return about && [about.label, ...about.texts].some((text) => text.toLowerCase().includes(wanted));
    });
  };
  const filter = () => {
    const hits = matches();
    for (const [at, cell] of cells) cell.classList.toggle("dim", hits !== null && !hits.includes(at));
    found.textContent = hits === null ? "" : api.view.summaries ? `${hits.length}` : "…";
    api.root.dataset.found = hits === null ? "" : hits.length;
    return hits;
  };
  search.addEventListener("input", filter);
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    const hits = filter();
    if (hits?.length) select(...hits[hits.length - 1].split(",").map(Number));
  });

  const bar = (left, right, gradient, label) => [
    h("span", { class: "num" }, left), h("i", { style: { background: gradient } }), h("span", { class: "num" }, right), h("span", { class: "what" }, label)];
  const paint = () => {
    const quantity = api.model.get("quantity");
    const { n_layers: nLayers, n_heads: nHeads, selection } = api.view;
    const numbers = quantity === "property" ? [] : [...cells.keys()].map((at) => value(...at.split(",").map(Number))).filter((v) => v !== null);
    const limit = Math.max(1e-9, ...numbers.map(Math.abs), ...(quantity === "effect" ? [...api.arrays.mlps].slice(1).map(Math.abs) : []));
    const labels = [...new Set(Object.values(api.view.summaries ?? {}).map((s) => s.label))].filter((l) => l !== "no clear role").sort();
    const accent = api.theme === "dark" ? [90, 169, 248] : [11, 107, 203];
    const zero = DIVERGING[api.theme].zero;
    const off = ablated();
    for (const [at, cell] of cells) {
      const [layer, head] = at.split(",").map(Number);
      const v = value(layer, head);
      let colour = null;
      if (quantity === "effect" && v !== null) colour = diverging(v, limit, api.theme);
      if (quantity === "variance" && v !== null) colour = mix(zero, accent, Math.sqrt(v / limit));
      cell.style.background = colour ? rgb(colour) : quantity === "property" && labels.includes(v) ? CATEGORIES[labels.indexOf(v) % CATEGORIES.length] : "";
      cell.classList.toggle("ablated", off.has(at));
      cell.setAttribute("aria-label", words(layer, head) + (off.has(at) ? " · ablated" : ""));
    }
    grid.querySelectorAll(".mlp").forEach((cell) => {
      const v = api.arrays.mlps[Number(cell.dataset.mlp)];
      cell.style.background = quantity === "effect" && api.view.cosine !== null ? rgb(diverging(v, limit, api.theme)) : "";
    });
    const gradient = (stops) => `linear-gradient(90deg, ${stops.map(rgb).join(",")})`;
    const { pos, neg } = DIVERGING[api.theme];
    if (quantity === "effect" && api.view.cosine === null) legend.replaceChildren(h("span", { class: "what" }, "type a text to see which heads write towards it"));
    else if (quantity === "effect") legend.replaceChildren(...bar(signed(-limit, 3), signed(limit, 3), gradient([neg, zero, pos]), "direct effect on the cosine"));
    else if (!api.view.summaries) legend.replaceChildren(h("span", { class: "what" }, "reading the collection…"));
    else if (quantity === "variance") legend.replaceChildren(...bar("0%", percent(limit), gradient([zero, accent]), "share of the heads' variance"));
    else legend.replaceChildren(...labels.map((label, i) => h("span", { class: "key" }, h("b", { style: { background: CATEGORIES[i % CATEGORIES.length] } }), label)), h("span", { class: "key" }, h("b", {}), "no clear role"));
    hint.textContent = quantity === "effect" ? (selection.text ? `${selection.text_b ? "A − B" : "A"} · ctrl-click ablates` : "ctrl-click ablates") : quantity === "variance" ? "over the collection" : "first TextSpan texts";
  };
  api.model.on("change:quantity", api.redraw);
  api.cleanups.push(() => api.model.off("change:quantity", api.redraw));

  return (view) => {
    if (shape !== `${view.n_layers},${view.n_heads}`) {
      shape = `${view.n_layers},${view.n_heads}`;
      make(view.n_layers, view.n_heads);
    }
    choose(api.model.get("quantity"));
    const { layer, head } = view.selection;
    mark(layer, head);
    paint();
    filter();
    Object.assign(api.root.dataset, { layer: layer ?? "", head: head ?? "", text: view.selection.text, quantity: api.model.get("quantity"), ablated: view.selection.ablation.heads.length, summaries: String(Boolean(view.summaries)) });
    describe.textContent = layer === null || head === null ? "no head selected" : `selected ${words(layer, head)}`;
  };
}

export default { render: (context) => mount(context, "heads", build) };
