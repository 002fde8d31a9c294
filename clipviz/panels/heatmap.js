const LATE = 4;

function build(api) {
  const hint = h("small", {});
  const put = (name, value) => { api.model.set(name, value); api.model.save_changes(); api.redraw(); };
  const [scopes, setScope] = segmented("Sum over", [
    ["all", "All heads"], ["late", "Late layers", "The last four layers"], ["layer", "Layer"], ["head", "Head"]], (v) => put("scope", v));
  const [shows, setShow] = segmented("Show", [["effect", "Effect", "Direct effect on the text"], ["attention", "Attention", "The class token's attention, for comparison"]], (v) => put("show", v));
  const canvas = h("canvas", { class: "map", tabindex: 0, role: "img" });
  const tip = h("div", { class: "tip num", hidden: true });
  const box = h("div", { class: "box", hidden: true });
  const stage = h("div", { class: "stage" }, canvas, box, tip);
  const low = h("span", { class: "num" }), high = h("span", { class: "num" }), what = h("span", { class: "what" });
  const ramp = h("i", {});
  const slider = h("input", { type: "range", min: 0, max: 100, "aria-label": "Overlay opacity" });
  const empty = h("p", { class: "empty", hidden: true });
  const spoken = h("div", { class: "sr", role: "status" });
  api.body.append(h("h3", {}, "Heatmap", hint), h("div", { class: "controls" }, scopes, shows), empty, stage,
    h("div", { class: "legend" }, low, ramp, high, what, h("label", { class: "overlay" }, "overlay", slider)), spoken);

  let picture = null, pictureOf = "", loading = 0, map = null, limit = 1, hover = null;

  const summed = () => {
    const { n_layers: L, n_heads: H, rows, cols, selection } = api.view;
    const T = rows * cols + 1;
    const attention = api.model.get("show") === "attention" || !api.arrays.scores;
    const a = attention ? api.arrays.attention : api.arrays.scores;
    const b = attention ? null : api.arrays.scores_b;
    const scope = api.model.get("scope");
    const out = new Float32Array(rows * cols);
    const add = (layer, head) => {
      const start = (layer * H + head) * T + 1;
      for (let i = 0; i < out.length; i++) out[i] += a[start + i] - (b ? b[start + i] : 0);
    };
    for (let layer = 0; layer < L; layer++)
      for (let head = 0; head < H; head++) {
        if (scope === "late" && layer < L - LATE) continue;
        if ((scope === "layer" || scope === "head") && selection.layer !== null && layer !== selection.layer) continue;
        if (scope === "head" && selection.head !== null && head !== selection.head) continue;
        add(layer, head);
      }
    return { values: out, attention };
  };
  const overlay = ({ values, attention }) => {
    const { rows, cols } = api.view;
    const layer = new OffscreenCanvas(cols, rows);
    const context = layer.getContext("2d");
    const pixels = context.createImageData(cols, rows);
    const { pos, neg } = DIVERGING.light;
    const sun = [250, 204, 21];
    values.forEach((value, i) => {
      const t = limit > 0 ? Math.min(1, Math.abs(value) / limit) : 0;
      const colour = attention ? sun : value < 0 ? neg : pos;
      pixels.data.set([...colour, Math.round(255 * Math.pow(t, 0.85))], 4 * i);
    });
    context.putImageData(pixels, 0, 0);
    return layer;
  };
  const paint = () => {
    if (!picture || !map) return;
    const side = Math.max(64, Math.round(stage.clientWidth || 400));
    const ratio = picture.height / picture.width;
    const scale = Math.min(2, devicePixelRatio || 1);
    canvas.width = side * scale;
    canvas.height = Math.round(side * ratio * scale);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    const opacity = api.model.get("opacity");
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    context.fillStyle = `rgba(17,24,39,${0.2 * opacity})`; // quiet the image so that the map is read
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.globalAlpha = opacity;
    context.drawImage(overlay(map), 0, 0, canvas.width, canvas.height);
    context.globalAlpha = 1;
    place();
    publish();
  };
  const publish = () => {
    const { selection } = api.view;
    const total = map.values.reduce((sum, value) => sum + value, 0);
    Object.assign(api.root.dataset, { image: selection.image ?? "", layer: selection.layer ?? "", head: selection.head ?? "", token: selection.token ?? "", text: selection.text, textB: selection.text_b, scope: api.model.get("scope"), show: map.attention ? "attention" : "effect", total: total.toFixed(5), peak: map.values.indexOf(Math.max(...map.values)), drawn: Number(api.root.dataset.drawn ?? 0) + 1 });
    canvas.setAttribute("aria-label", `${what.textContent}; highest at row ${Math.floor(api.root.dataset.peak / api.view.cols)}, column ${api.root.dataset.peak % api.view.cols}`);
  };
  const place = () => {
    const { rows, cols, selection } = api.view;
    const token = selection.token === null || selection.token === 0 ? null : selection.token - 1;
    box.hidden = token === null;
    if (token === null) return;
    Object.assign(box.style, { left: `${(100 * (token % cols)) / cols}%`, top: `${(100 * Math.floor(token / cols)) / rows}%`, width: `${100 / cols}%`, height: `${100 / rows}%` });
  };
  const at = (event) => {
    const bounds = canvas.getBoundingClientRect();
    const { rows, cols } = api.view;
    const col = Math.floor(((event.clientX - bounds.left) / bounds.width) * cols);
    const row = Math.floor(((event.clientY - bounds.top) / bounds.height) * rows);
    return row >= 0 && col >= 0 && row < rows && col < cols ? row * cols + col : null;
  };
  const point = (token) => {
    hover = token;
    tip.hidden = token === null || !map;
    if (tip.hidden) return;
    const { rows, cols } = api.view;
    const row = Math.floor(token / cols), col = token % cols;
    tip.textContent = `token (${row}, ${col}) · ${map.attention ? map.values[token].toFixed(4) : signed(map.values[token], 4)}`;
    tip.style.left = `${Math.max(18, Math.min(82, (100 * (col + 0.5)) / cols))}%`;
    tip.style.top = `${(100 * row) / rows}%`;
    if (row < 2) tip.style.top = `${(100 * (row + 1)) / rows + 9}%`;
    api.root.dataset.hover = token;
  };
  const choose = (token) => {
    api.view.selection.token = token + 1;
    place();
    point(token);
    spoken.textContent = tip.textContent;
    api.ask({ token: token + 1 });
  };
  canvas.addEventListener("mousemove", (event) => api.view.seq && point(at(event)));
  canvas.addEventListener("mouseleave", () => point(null));
  canvas.addEventListener("click", (event) => at(event) !== null && choose(at(event)));
  canvas.addEventListener("keydown", (event) => {
    const { rows, cols, selection } = api.view;
    if (event.key === "Escape") { point(null); return api.ask({ token: null }); }
    const now = selection.token ? selection.token - 1 : Math.floor(rows / 2) * cols + Math.floor(cols / 2);
    const to = gridKeys(event, Math.floor(now / cols), now % cols, rows, cols);
    if (!to) return;
    event.preventDefault();
    choose(to[0] * cols + to[1]);
  });
  slider.addEventListener("input", () => { api.model.set("opacity", Number(slider.value) / 100); paint(); });
  slider.addEventListener("change", () => api.model.save_changes());
  const resized = new ResizeObserver(() => paint());
  resized.observe(stage);
  const again = () => api.redraw();
  ["scope", "show", "opacity"].forEach((name) => api.model.on(`change:${name}`, again));
  api.cleanups.push(() => resized.disconnect(), () => ["scope", "show", "opacity"].forEach((name) => api.model.off(`change:${name}`, again)));

  const show = (view) => {
    map = summed();
    limit = Math.max(1e-12, ...map.values.map(Math.abs));
    setScope(api.model.get("scope"));
    setShow(map.attention ? "attention" : "effect");
    slider.value = Math.round(100 * api.model.get("opacity"));
    const { layer, head, text, text_b: other } = view.selection;
    const [, , layerButton, headButton] = scopes.children;
    layerButton.textContent = layer === null ? "Layer" : `Layer ${layer}`;
    headButton.textContent = layer === null || head === null ? "Head" : `Head ${headName(layer, head)}`;
    layerButton.disabled = layer === null;
    headButton.disabled = layer === null || head === null;
    shows.children[0].disabled = !view.cosines.length;
    const { pos, neg } = DIVERGING.light;
    low.textContent = map.attention ? "0" : signed(-limit, 3);
    high.textContent = map.attention ? limit.toFixed(3) : signed(limit, 3);
    ramp.style.background = map.attention ? "linear-gradient(90deg, transparent, rgb(250,204,21))" : `linear-gradient(90deg, ${rgb(neg)}, transparent, ${rgb(pos)})`;
    const cosine = view.cosines.length === 2 ? `cosine ${signed(view.cosines[0])} − ${signed(view.cosines[1])}` : view.cosines.length ? `cosine ${signed(view.cosines[0])}` : "";
    what.textContent = map.attention ? (text ? "class token's attention" : "no text yet: class token's attention") : `effect on “${text}”${other ? ` − “${other}”` : ""} · ${cosine}`;
    hint.textContent = view.title;
    hint.title = view.title;
    if (hover !== null) point(hover);
    paint();
  };

  return (view) => {
    empty.hidden = !view.message;
    empty.textContent = view.message;
    stage.hidden = Boolean(view.message);
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
