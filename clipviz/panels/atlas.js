// Points and pictures on a canvas. A loop drawn around points chooses their images; a click selects the nearest one.
function build(api) {
  const hint = h("small", {}, "draw around images to describe them");
  const [ways, setWay] = segmented("Seen by", [
    ["head", "One head", "The plane in which the selected head varies most"],
    ["model", "Whole model", "The plane in which the embeddings vary most"]],
    (value) => { api.model.set("by", value); api.ask(); });
  const column = h("select", { "aria-label": "Colour by", onchange: () => { api.model.set("column", column.value); api.ask(); } });
  const pictures = h("input", { type: "checkbox", checked: true, onchange: () => api.redraw() });
  const legend = h("div", { class: "legend" });
  const canvas = h("canvas", { tabindex: "0", role: "application", "aria-label": "Images in the plane. Arrow keys go to the nearest image in that direction; drag to choose images." });
  const tip = h("div", { class: "tip", hidden: true });
  const stage = h("div", { class: "stage" }, canvas, tip);
  const empty = h("p", { class: "empty", hidden: true });
  const told = h("span", {});
  const chosen = h("span", { role: "status" });
  const clear = h("button", { type: "button", class: "link", onclick: () => api.ask({ images: [] }) }, "back to the whole collection");
  const tools = h("div", { class: "tools" }, ways, h("label", {}, "colour", column), h("label", {}, pictures, "pictures"), legend);
  const foot = h("p", { class: "foot" }, told, chosen, clear);
  api.body.append(h("h3", {}, "Atlas", hint), tools, stage, empty, foot);

  const sheet = new Image();
  let url = null, loop = [], drawn = null, width = 0, height = 0;
  sheet.onload = () => api.redraw();
  api.cleanups.push(() => url && URL.revokeObjectURL(url));
  const fit = new ResizeObserver(() => width !== stage.clientWidth && api.redraw());
  fit.observe(stage);
  api.cleanups.push(() => fit.disconnect());

  followVisibility(api);

  const MARGIN = 26;
  let at = new Float32Array(0); // pixels of every point
  const place = () => {
    const { places } = api.arrays;
    const n = places.length / 2;
    const low = [Infinity, Infinity], high = [-Infinity, -Infinity];
    for (let i = 0; i < n; i++) for (let k = 0; k < 2; k++) {
      low[k] = Math.min(low[k], places[2 * i + k]);
      high[k] = Math.max(high[k], places[2 * i + k]);
    }
    at = new Float32Array(2 * n);
    for (let i = 0; i < n; i++) {
      at[2 * i] = MARGIN + ((places[2 * i] - low[0]) / Math.max(high[0] - low[0], 1e-9)) * (width - 2 * MARGIN);
      at[2 * i + 1] = height - MARGIN - ((places[2 * i + 1] - low[1]) / Math.max(high[1] - low[1], 1e-9)) * (height - 2 * MARGIN);
    }
  };
  const nearest = (x, y, accept = () => true) => {
    let best = -1, least = Infinity;
    for (let i = 0; i < at.length / 2; i++) {
      const distance = (at[2 * i] - x) ** 2 + (at[2 * i + 1] - y) ** 2;
      if (distance < least && accept(i)) { best = i; least = distance; }
    }
    return [best, Math.sqrt(least)];
  };
  const inside = (x, y) => {
    let odd = false;
    for (let i = 0, j = loop.length - 1; i < loop.length; j = i++) {
      const [xi, yi] = loop[i], [xj, yj] = loop[j];
      if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) odd = !odd;
    }
    return odd;
  };

  const paint = () => {
    const { view } = api;
    const ratio = window.devicePixelRatio || 1;
    const g = canvas.getContext("2d");
    const ink = getComputedStyle(api.root);
    const colour = (name) => ink.getPropertyValue(name).trim();
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, width, height);
    const set = new Set(view.selection.images);
    const { ids, colours } = api.arrays;
    const dim = set.size > 0;
    for (let i = 0; i < ids.length; i++) {
      g.globalAlpha = dim && !set.has(ids[i]) ? 0.18 : colours[i] === 255 ? 0.55 : 0.85;
      g.fillStyle = colours[i] === 255 ? colour("--ink3") : CATEGORIES[colours[i] % CATEGORIES.length];
      g.beginPath();
      g.arc(at[2 * i], at[2 * i + 1], dim && set.has(ids[i]) ? 3.4 : 2.5, 0, 7);
      g.fill();
    }
    if (pictures.checked && sheet.complete && sheet.naturalWidth) {
      const size = sheet.naturalWidth / view.tile_columns;
      const side = Math.max(20, Math.min(34, width / 26));
      view.tiles.forEach((i, n) => {
        g.globalAlpha = dim && !set.has(ids[i]) ? 0.25 : 1;
        const x = at[2 * i] - side / 2, y = at[2 * i + 1] - side / 2;
        g.drawImage(sheet, (n % view.tile_columns) * size, Math.floor(n / view.tile_columns) * size, size, size, x, y, side, side);
        g.lineWidth = 2;
        g.strokeStyle = colours[i] === 255 ? colour("--bg") : CATEGORIES[colours[i] % CATEGORIES.length];
        g.strokeRect(x, y, side, side);
      });
    }
    g.globalAlpha = 1;
    const own = ids.indexOf(view.selection.image);
    if (own >= 0) {
      g.lineWidth = 3;
      g.strokeStyle = colour("--accent");
      g.beginPath();
      g.arc(at[2 * own], at[2 * own + 1], 9, 0, 7);
      g.stroke();
    }
    if (loop.length > 1) {
      g.beginPath();
      loop.forEach(([x, y], i) => (i ? g.lineTo(x, y) : g.moveTo(x, y)));
      g.closePath();
      g.fillStyle = colour("--accent");
      g.globalAlpha = 0.12;
      g.fill();
      g.globalAlpha = 1;
      g.lineWidth = 1.5;
      g.strokeStyle = colour("--accent");
      g.stroke();
    }
  };

  // -- pointer and keys ----------------------------------------------------------------------------------------------
  const point = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); loop = [point(event)]; tip.hidden = true; });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = point(event);
    if (loop.length) { loop.push([x, y]); paint(); return; }
    const [i, distance] = nearest(x, y);
    const value = i >= 0 && api.view.values[api.arrays.colours[i]];
    tip.hidden = !(distance < 14);
    if (tip.hidden) return;
    tip.textContent = `image ${api.arrays.ids[i]}${value ? ` · ${value}` : ""}`;
    Object.assign(tip.style, { left: `${at[2 * i]}px`, top: `${at[2 * i + 1]}px` });
  });
  canvas.addEventListener("pointerleave", () => (tip.hidden = true));
  canvas.addEventListener("pointercancel", () => { loop = []; paint(); });
  canvas.addEventListener("pointerup", (event) => {
    const drawnLoop = loop.length > 6 && Math.max(...loop.map(([x, y]) => Math.hypot(x - loop[0][0], y - loop[0][1]))) > 10;
    if (drawnLoop) {
      const found = [...api.arrays.ids].filter((_, i) => inside(at[2 * i], at[2 * i + 1]));
      if (found.length > 1) api.ask({ images: found });
      else chosen.textContent = found.length ? "one image is not enough to describe: draw around more" : "no image inside: draw around some";
    } else {
      const [i, distance] = nearest(...point(event));
      if (i >= 0 && distance < 30) api.ask({ image: api.arrays.ids[i] });
    }
    loop = [];
    paint();
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
    if (event.key === "Escape") api.ask({ images: [] });
    if (!step || !at.length) return;
    event.preventDefault();
    const own = Math.max(0, api.arrays.ids.indexOf(api.view.selection.image));
    const [x, y] = [at[2 * own], at[2 * own + 1]];
    const ahead = (i) => { const along = (at[2 * i] - x) * step[0] + (at[2 * i + 1] - y) * step[1]; const across = Math.abs((at[2 * i] - x) * step[1]) + Math.abs((at[2 * i + 1] - y) * step[0]); return along > 1 && across <= along; };
    const [i] = nearest(x, y, ahead);
    if (i >= 0) api.ask({ image: api.arrays.ids[i] });
  });

  return (view, arrays) => {
    const { layer, head, image, images } = view.selection;
    empty.hidden = !view.message;
    stage.hidden = tools.hidden = foot.hidden = Boolean(view.message);
    empty.textContent = view.message;
    Object.assign(api.root.dataset, { points: view.n_points ?? 0, by: view.by, layer: layer ?? "", head: head ?? "", image: image ?? "", images: images.length, column: view.column ?? "" });
    if (view.message) return;
    setWay(api.model.get("by"));
    if (column.dataset.names !== view.columns.join()) {
      column.dataset.names = view.columns.join();
      column.replaceChildren(h("option", { value: "" }, "none"), ...view.columns.map((name) => h("option", { value: name }, name)));
      column.parentElement.hidden = !view.columns.length;
    }
    column.value = view.column;
    legend.replaceChildren(...view.values.map((value, i) => h("span", {}, h("b", { style: { background: CATEGORIES[i % CATEGORIES.length] } }), value)));
    const who = view.by === "head" ? headName(layer, head) : "the whole model";
    told.textContent = `two directions hold ${percent(view.share)} of what ${who} varies by · ${view.n_points < view.n_images ? `${view.n_points.toLocaleString("en")} of ${view.n_images.toLocaleString("en")} images, evenly taken` : `${view.n_points.toLocaleString("en")} images`}`;
    chosen.textContent = images.length ? `${images.length.toLocaleString("en")} chosen: TextSpan reads those alone` : "";
    clear.hidden = !images.length;
    width = stage.clientWidth;
    height = Math.round(Math.max(260, Math.min(560, width * 0.5)));
    const ratio = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.height = `${height}px`;
    }
    if (drawn !== arrays.sprite) {
      drawn = arrays.sprite;
      if (url) URL.revokeObjectURL(url);
      url = bytesUrl(arrays.sprite, "image/jpeg");
      sheet.src = url;
    }
    place();
    paint();
  };
}

export default { render: (context) => mount(context, "atlas", build) };
