const LATE = 4, TOKEN_HEADS = 5;
const OURS = [["effect", "Effect on the text"], ["centred", "Effect, mean text removed"], ["attention", "Class token’s attention"]];
const LOCAL = ["scope", "show", "opacity", "outline"];

function build(api) {
  const hint = h("small", {});
  const put = (name, value) => { api.model.set(name, value); api.model.save_changes(); api.redraw(); };
  const [scopes, setScope] = segmented("Sum over", [
    ["all", "All heads"], ["late", "Late layers", "The last four layers"], ["layer", "Layer"], ["head", "Head"]], (v) => put("scope", v));
  const option = ([value, text]) => h("option", { value }, text);
  const rivalGroup = h("optgroup", { label: "Compare with (Table 2.4)" });
  const shows = h("select", { class: "pick", "aria-label": "What is shown" },
    h("optgroup", { label: "Token decomposition" }, ...OURS.map(option)), rivalGroup);
  const canvas = h("canvas", { class: "map", tabindex: 0, role: "img" });
  const tip = h("div", { class: "tip num", hidden: true });
  const box = h("div", { class: "box", hidden: true });
  const stage = h("div", { class: "stage" }, canvas, box, tip);
  const low = h("span", { class: "num" }), high = h("span", { class: "num" }), what = h("p", { class: "what" });
  const ramp = h("i", {});
  const slider = h("input", { type: "range", min: 0, max: 100, "aria-label": "Overlay opacity" });
  const outline = h("input", { type: "checkbox" });
  const outlined = h("label", { class: "overlay", title: "The true mask of what is shown" }, outline, "true mask");
  const truth = h("span", { class: "truth num", hidden: true });
  const strip = h("div", { class: "strip", role: "group", "aria-label": "Every method on this image", hidden: true });
  const token = h("div", { class: "part token" });
  const joint = h("div", { class: "part joint" });
  const empty = h("p", { class: "empty", hidden: true });
  const spoken = h("div", { class: "sr", role: "status" });
  const below = h("div", { class: "below" }, token, joint);
  api.body.append(h("h3", {}, "Heatmap", hint), h("div", { class: "controls" }, shows, scopes), empty, stage,
    h("div", { class: "legend" }, low, ramp, high, h("label", { class: "overlay" }, "overlay", slider), outlined, truth), what, strip, below, spoken);

  let picture = null, pictureOf = "", loading = 0, map = null, hover = null;

  const rivals = () => api.view.rivals ?? [];
  const isRival = () => Boolean(api.view.selection.text) && rivals().includes(api.model.get("show"));
  // What one head writes at one token: effect on A (less B, less the mean text), or attention where there is no text.
  const reader = () => {
    const { scores, scores_b: other, shared, attention } = api.arrays;
    const { n_heads: H, rows, cols } = api.view, T = rows * cols + 1, show = api.model.get("show");
    const plain = show === "attention" || !scores;
    const a = plain ? attention : scores, b = plain ? null : other ?? (show === "centred" ? shared : null);
    const at = (layer, head, i) => { const j = (layer * H + head) * T + i; return a[j] - (b ? b[j] : 0); };
    return { at, plain };
  };
  const summed = () => {
    const { n_layers: L, n_heads: H, rows, cols, selection } = api.view, scope = api.model.get("scope");
    const { at, plain } = reader();
    const values = new Float32Array(rows * cols);
    for (let layer = 0; layer < L; layer++)
      for (let head = 0; head < H; head++) {
        if (scope === "late" && layer < L - LATE) continue;
        if ((scope === "layer" || scope === "head") && selection.layer !== null && layer !== selection.layer) continue;
        if (scope === "head" && selection.head !== null && head !== selection.head) continue;
        for (let i = 0; i < values.length; i++) values[i] += at(layer, head, i + 1);
      }
    return finish(values, plain ? "plain" : "signed", plain ? "attention" : api.model.get("show"));
  };
  const finish = (values, kind, show) => ({
    values, kind, show, limit: values.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-12),
    floor: kind === "plain" ? Math.max(0, values.reduce((least, value) => Math.min(least, value), Infinity)) : 0 });
  // The map to show, or null while the kernel makes it.
  const shown = () => {
    const name = api.model.get("show"), { text, text_b: other } = api.view.selection;
    if (!text) return summed();
    if (isRival()) return api.arrays[name] ? finish(api.arrays[name], "plain", name) : null;
    return name === "centred" && !other && !api.arrays.shared ? null : summed();
  };

  // -- the stage ---------------------------------------------------------------------------------------------------
  const layerOf = (m) => mapLayer(m.values, api.view.rows, api.view.cols, m.limit, m.kind, m.floor);
  const paint = () => {
    if (!picture) return;
    const side = Math.max(64, Math.round(stage.clientWidth || 400));
    drawMap(canvas, picture, map && layerOf(map), api.model.get("opacity"), side, (side * picture.height) / picture.width);
    if (api.model.get("outline") && api.arrays.mask) drawOutline(canvas, api.arrays.mask, api.view.mask_size);
    place();
    if (map) publish();
  };
  const publish = () => {
    const { selection } = api.view;
    const total = map.values.reduce((sum, value) => sum + value, 0);
    Object.assign(api.root.dataset, { image: selection.image ?? "", layer: selection.layer ?? "", head: selection.head ?? "", token: selection.token ?? "", text: selection.text, textB: selection.text_b, scope: api.model.get("scope"), show: map.show, total: total.toFixed(5), peak: map.values.indexOf(Math.max(...map.values)), drawn: Number(api.root.dataset.drawn ?? 0) + 1 });
    canvas.setAttribute("aria-label", `${what.textContent}; highest at row ${Math.floor(api.root.dataset.peak / api.view.cols)}, column ${api.root.dataset.peak % api.view.cols}. Arrow keys move a token.`);
  };
  const place = () => {
    const { rows, cols, selection } = api.view;
    const chosen = selection.token ? selection.token - 1 : null;
    box.hidden = chosen === null;
    if (chosen === null) return;
    Object.assign(box.style, { left: `${(100 * (chosen % cols)) / cols}%`, top: `${(100 * Math.floor(chosen / cols)) / rows}%`, width: `${100 / cols}%`, height: `${100 / rows}%` });
  };
  const at = (event) => {
    const bounds = canvas.getBoundingClientRect(), { rows, cols } = api.view;
    const col = Math.floor(((event.clientX - bounds.left) / bounds.width) * cols);
    const row = Math.floor(((event.clientY - bounds.top) / bounds.height) * rows);
    return row >= 0 && col >= 0 && row < rows && col < cols ? row * cols + col : null;
  };
  const number = (value) => (map.kind === "signed" ? signed(value, 4) : Math.abs(value) >= 1e-3 ? value.toFixed(4) : value.toExponential(1));
  const point = (place) => {
    hover = place;
    tip.hidden = place === null || !map;
    if (tip.hidden) return;
    const { rows, cols } = api.view, row = Math.floor(place / cols), col = place % cols;
    tip.textContent = `token (${row}, ${col}) · ${number(map.values[place])}`;
    tip.style.left = `${Math.max(18, Math.min(82, (100 * (col + 0.5)) / cols))}%`;
    tip.style.top = row < 2 ? `${(100 * (row + 1)) / rows + 9}%` : `${(100 * row) / rows}%`;
    api.root.dataset.hover = place;
  };
  const choose = (place_) => {
    api.view.selection.token = place_ + 1;
    place();
    point(place_);
    drawToken();
    spoken.textContent = `${tip.textContent}. ${token.dataset.spoken ?? ""}`;
    api.ask({ token: place_ + 1 });
  };
  canvas.addEventListener("mousemove", (event) => api.view.seq && point(at(event)));
  canvas.addEventListener("mouseleave", () => point(null));
  canvas.addEventListener("click", (event) => map && at(event) !== null && choose(at(event)));
  canvas.addEventListener("keydown", (event) => {
    const { rows, cols, selection } = api.view;
    if (event.key === "Escape") { point(null); return api.ask({ token: null }); }
    const now = selection.token ? selection.token - 1 : Math.floor(rows / 2) * cols + Math.floor(cols / 2);
    const to = gridKeys(event, Math.floor(now / cols), now % cols, rows, cols);
    if (!to || !map) return;
    event.preventDefault();
    choose(to[0] * cols + to[1]);
  });

  // -- which heads write at the token --------------------------------------------------------------------------------
  const drawToken = () => {
    const { n_layers: L, n_heads: H, cols, selection } = api.view, chosen = selection.token;
    const { at: value, plain } = reader();
    token.dataset.heads = "";
    if (!chosen) return token.replaceChildren(h("h4", {}, "Who writes here"), h("p", { class: "note" }, "Click a token, or move over the image with the arrow keys, to see the heads that write there."));
    const all = [];
    for (let layer = 0; layer < L; layer++) for (let head = 0; head < H; head++) all.push([layer, head, value(layer, head, chosen)]);
    const total = all.reduce((sum, [, , v]) => sum + v, 0);
    const first = all.sort((a, b) => Math.abs(b[2]) - Math.abs(a[2])).slice(0, TOKEN_HEADS);
    const widest = Math.abs(first[0][2]) || 1;
    const where = `(${Math.floor((chosen - 1) / cols)}, ${(chosen - 1) % cols})`;
    const row = ([layer, head, v]) => h("button", { type: "button", class: "writer", "data-layer": layer, "data-head": head, "aria-pressed": String(layer === selection.layer && head === selection.head), title: `Select ${headName(layer, head)}`, onclick: () => api.ask({ layer, head }) },
      h("span", { class: "name" }, headName(layer, head)),
      h("span", { class: "bar" }, h("i", { class: v < 0 ? "neg" : plain ? "plain" : "pos", style: { width: `${(100 * Math.abs(v)) / widest}%` } })),
      h("span", { class: "num" }, plain ? v.toFixed(3) : signed(v, 4)));
    token.dataset.heads = first.map(([layer, head]) => `${layer},${head}`).join(" ");
    token.dataset.spoken = `Most is written by ${first.slice(0, 3).map(([layer, head]) => headName(layer, head)).join(", ")}`;
    token.replaceChildren(h("h4", {}, `Who writes at ${where}`, h("span", { class: "num" }, plain ? "attention" : `all heads ${signed(total, 4)}`)), h("div", { class: "writers" }, ...first.map(row)));
  };

  // -- a head's texts on this image (Fig. 2.6) -------------------------------------------------------------------------
  const drawJoint = () => {
    const { joint: about, rows, cols, selection } = api.view;
    joint.classList.toggle("pending", !about);
    if (!about || !picture) return;
    const name = selection.layer === null || selection.head === null ? "the head" : headName(selection.layer, selection.head);
    const title = h("h4", {}, `What ${name} says here`, h("span", {}, "most and least of its texts"));
    if (!about.texts.length) return joint.replaceChildren(title, h("p", { class: "note" }, about.message));
    const all = api.arrays.joint_maps, size = rows * cols, limit = all.reduce((most, v) => Math.max(most, Math.abs(v)), 1e-12);
    const tile = (text, i) => {
      const small = h("canvas", { "aria-hidden": "true" });
      drawMap(small, picture, mapLayer(all.subarray(i * size, (i + 1) * size), rows, cols, limit, "signed"), 0.8, 132, (132 * picture.height) / picture.width);
      const value = about.values[i];
      return h("button", { type: "button", class: "says", title: `Show “${text}” everywhere`, "aria-pressed": String(text === selection.text), "aria-label": `${text}, ${signed(value, 4)}`, onclick: () => api.ask({ text }) },
        small, h("b", { class: `num ${value < 0 ? "neg" : "pos"}` }, signed(value, 3)), h("span", { class: "words" }, text));
    };
    joint.dataset.texts = about.texts.join("\n");
    joint.replaceChildren(title, h("div", { class: "tiles" }, ...about.texts.map(tile)));
  };

  // -- every method beside the other -----------------------------------------------------------------------------------
  const drawStrip = () => {
    const { rows, cols, selection } = api.view, there = rivals().filter((name) => api.arrays[name]);
    strip.hidden = !there.length || !picture;
    if (strip.hidden) return;
    const mine = isRival() ? (selection.text_b ? "effect" : api.arrays.shared ? "centred" : "effect") : api.model.get("show");
    const one = (name) => {
      const ours = name === mine, m = ours ? summed() : finish(api.arrays[name], "plain", name);
      const small = h("canvas", { "aria-hidden": "true" });
      drawMap(small, picture, layerOf(m), 0.85, 96, (96 * picture.height) / picture.width);
      const score = api.arrays.mask ? maskScores(m.values, rows, cols, api.arrays.mask, api.view.mask_size).miou : null;
      return h("button", { type: "button", class: `method${ours ? " ours" : ""}`, "data-method": name, "aria-pressed": String(name === api.model.get("show")), title: ours ? "The token decomposition" : name, onclick: () => put("show", name) },
        small, h("span", { class: "name" }, ours ? "ours" : name), score === null ? null : h("span", { class: "num" }, `IoU ${score.toFixed(2)}`));
    };
    strip.replaceChildren(...[mine, ...there].map(one));
  };

  shows.addEventListener("change", () => {
    put("show", shows.value);
    if (!shown()) api.ask();
  });
  outline.addEventListener("change", () => put("outline", outline.checked));
  slider.addEventListener("input", () => { api.model.set("opacity", Number(slider.value) / 100); paint(); });
  slider.addEventListener("change", () => api.model.save_changes());
  const resized = new ResizeObserver(() => paint());
  resized.observe(stage);
  const again = () => api.redraw();
  LOCAL.forEach((name) => api.model.on(`change:${name}`, again));
  api.cleanups.push(() => resized.disconnect(), () => LOCAL.forEach((name) => api.model.off(`change:${name}`, again)));

  // -- controls and words ----------------------------------------------------------------------------------------------
  const setControls = ({ selection: { layer, head, text } }) => {
    setScope(api.model.get("scope"));
    const [, , layerButton, headButton] = scopes.children;
    layerButton.textContent = layer === null ? "Layer" : `Layer ${layer}`;
    headButton.textContent = layer === null || head === null ? "Head" : `Head ${headName(layer, head)}`;
    for (const button of scopes.children) button.disabled = isRival();
    layerButton.disabled ||= layer === null;
    headButton.disabled ||= layer === null || head === null;
    scopes.title = isRival() ? "The rivals explain the whole model" : "";
    if (rivalGroup.children.length !== rivals().length) rivalGroup.replaceChildren(...rivals().map((name) => option([name, name[0].toUpperCase() + name.slice(1)])));
    for (const entry of shows.querySelectorAll("option")) entry.disabled = !text && entry.value !== "attention";
    shows.value = text ? api.model.get("show") : "attention";
    slider.value = Math.round(100 * api.model.get("opacity"));
    outline.checked = api.model.get("outline");
    outlined.hidden = !api.arrays.mask;
  };
  const setWords = ({ selection: { text, text_b: other }, cosines, title }) => {
    const { kind, limit, floor, show } = map, size = (v) => (v === 0 || v >= 1e-3 ? v.toFixed(v ? 3 : 0) : v.toExponential(1)), { pos, neg } = DIVERGING.light, sign = kind === "signed";
    low.textContent = sign ? signed(-limit, 3) : size(floor);
    high.textContent = sign ? signed(limit, 3) : size(limit);
    ramp.style.background = sign ? `linear-gradient(90deg, ${rgb(neg)}, transparent, ${rgb(pos)})` : `linear-gradient(90deg, transparent, ${rgb(SUN)})`;
    const quoted = `“${text}”${other ? ` − “${other}”` : ""}`;
    const cosine = cosines.length === 2 ? ` · cosine ${signed(cosines[0])} − ${signed(cosines[1])}` : cosines.length ? ` · cosine ${signed(cosines[0])}` : "";
    what.textContent = rivals().includes(show) ? `${show} for ${quoted}` : show === "attention" ? (text ? "class token’s attention" : "no text yet: class token’s attention")
      : `effect on ${quoted}${show === "centred" ? ", the mean of all texts removed" : ""}${cosine}`;
    hint.textContent = hint.title = title;
    const found = api.arrays.mask ? maskScores(map.values, api.view.rows, api.view.cols, api.arrays.mask, api.view.mask_size) : null;
    truth.hidden = !found;
    truth.textContent = found ? `pixels ${percent(found.accuracy)} · IoU ${found.miou.toFixed(2)}` : "";
    truth.title = "Against the true mask: share of pixels right, and the mean IoU of object and background; the map is cut at its mean";
    Object.assign(api.root.dataset, { pixels: found ? found.accuracy.toFixed(5) : "", iou: found ? found.miou.toFixed(5) : "" });
  };
  const show = (view) => {
    const next = shown();
    setControls(view);
    api.root.dataset.pending = String(!next);
    if (next || !map || map.image !== view.selection.image) map = next && Object.assign(next, { image: view.selection.image }); // a map on its way: the last one stays
    if (map) setWords(view);
    if (hover !== null) point(hover);
    paint();
    drawStrip();
    drawToken();
    drawJoint();
  };

  return (view) => {
    empty.hidden = !view.message;
    empty.textContent = view.message;
    stage.hidden = below.hidden = Boolean(view.message);
    if (view.message) return;
    const wanted = JSON.stringify(view.picture);
    if (wanted === pictureOf) return show(view);
    const turn = ++loading; // a new image: draw once, when it is decoded, never the new map on the old image
    const url = bytesUrl(new Uint8Array(api.model.get("picture").buffer.slice(0)), "");
    const image = new Image();
    image.src = url;
    image.decode().then(() => {
      if (turn !== loading) return;
      picture = image;
      pictureOf = wanted;
      show(api.view);
    }).catch(() => turn === loading && api.showError({ message: "The image could not be decoded by the browser." }))
      .finally(() => URL.revokeObjectURL(url));
  };
}

export default { render: (context) => mount(context, "heatmap", build) };
