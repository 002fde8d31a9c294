// Points and pictures on a canvas. A loop drawn around points chooses their images; a click selects the nearest one.
const MARGIN = 26;

/** Where every point is on the canvas, in pixels, and which is nearest or inside a loop. */
const layout = () => {
  let at = new Float32Array(0);
  const place = (places, width, height) => {
    const n = places.length / 2, low = [Infinity, Infinity], high = [-Infinity, -Infinity];
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
  const nearest = (x, y, accept = (/** @type {number} */ _i) => true) => {
    let best = -1, least = Infinity;
    for (let i = 0; i < at.length / 2; i++) {
      const distance = (at[2 * i] - x) ** 2 + (at[2 * i + 1] - y) ** 2;
      if (distance < least && accept(i)) { best = i; least = distance; }
    }
    return [best, Math.sqrt(least)];
  };
  const inside = (loop, i) => {
    const x = at[2 * i], y = at[2 * i + 1];
    let odd = false;
    for (let a = 0, b = loop.length - 1; a < loop.length; b = a++) {
      const [xa, ya] = loop[a], [xb, yb] = loop[b];
      if (ya > y !== yb > y && x < ((xb - xa) * (y - ya)) / (yb - ya) + xa) odd = !odd;
    }
    return odd;
  };
  return { place, nearest, inside, point: (i) => [at[2 * i], at[2 * i + 1]], get size() { return at.length / 2; } };
};

/** Draws points, pictures, the selected image and the loop. */
const draw = (api, canvas, sheet, spots, loop, pictures, width, height) => {
  const { view } = api, { ids, colours } = api.arrays, ratio = window.devicePixelRatio || 1, g = canvas.getContext("2d");
  const style = getComputedStyle(api.root), ink = (name) => style.getPropertyValue(name).trim();
  const shade = (i, none) => (colours[i] === 255 ? ink(none) : CATEGORIES[colours[i] % CATEGORIES.length]);
  const set = new Set(view.selection.images), dim = set.size > 0;
  const circle = (i, radius) => { const [x, y] = spots.point(i); g.beginPath(); g.arc(x, y, radius, 0, 7); };
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, width, height);
  for (let i = 0; i < ids.length; i++) {
    g.globalAlpha = dim && !set.has(ids[i]) ? 0.18 : colours[i] === 255 ? 0.55 : 0.85;
    g.fillStyle = shade(i, "--ink3");
    circle(i, dim && set.has(ids[i]) ? 3.4 : 2.5);
    g.fill();
  }
  if (pictures && sheet.complete && sheet.naturalWidth) {
    const size = sheet.naturalWidth / view.tile_columns, side = Math.max(20, Math.min(34, width / 26));
    view.tiles.forEach((i, n) => {
      const [x, y] = spots.point(i);
      g.globalAlpha = dim && !set.has(ids[i]) ? 0.25 : 1;
      g.drawImage(sheet, (n % view.tile_columns) * size, Math.floor(n / view.tile_columns) * size, size, size, x - side / 2, y - side / 2, side, side);
      g.lineWidth = 2;
      g.strokeStyle = shade(i, "--bg");
      g.strokeRect(x - side / 2, y - side / 2, side, side);
    });
  }
  g.globalAlpha = 1;
  g.strokeStyle = g.fillStyle = ink("--accent");
  const own = ids.indexOf(view.selection.image);
  g.lineWidth = 3;
  if (own >= 0) { circle(own, 9); g.stroke(); }
  if (loop.length < 2) return;
  g.beginPath();
  loop.forEach(([x, y], i) => (i ? g.lineTo(x, y) : g.moveTo(x, y)));
  g.closePath();
  g.globalAlpha = 0.12;
  g.fill();
  g.globalAlpha = 1;
  g.lineWidth = 1.5;
  g.stroke();
};

/** Pointer and keys: choose by a loop, select by a click or by arrows. Returns the loop being drawn. */
const handle = (api, canvas, tip, chosen, spots, paint) => {
  /** @type {number[][]} */
  const loop = [];
  const pointer = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  const select = (i) => api.ask({ image: api.arrays.ids[i] });
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); loop.splice(0, Infinity, pointer(event)); tip.hidden = true; });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = pointer(event);
    if (loop.length) { loop.push([x, y]); return paint(); }
    const [i, distance] = spots.nearest(x, y), value = i >= 0 && api.view.values[api.arrays.colours[i]];
    tip.hidden = !(distance < 14);
    if (tip.hidden) return;
    tip.textContent = `image ${api.arrays.ids[i]}${value ? ` · ${value}` : ""}`;
    const [left, top] = spots.point(i);
    Object.assign(tip.style, { left: `${left}px`, top: `${top}px` });
  });
  canvas.addEventListener("pointerleave", () => (tip.hidden = true));
  canvas.addEventListener("pointercancel", () => { loop.length = 0; paint(); });
  canvas.addEventListener("pointerup", (event) => {
    const around = loop.length > 6 && Math.max(...loop.map(([x, y]) => Math.hypot(x - loop[0][0], y - loop[0][1]))) > 10;
    const [i, distance] = spots.nearest(...pointer(event));
    if (around) {
      const found = [...api.arrays.ids].filter((_, k) => spots.inside(loop, k));
      if (found.length > 1) api.ask({ images: found });
      else chosen.textContent = found.length ? "One image is not enough to describe: draw around more." : "No image inside: draw around some.";
    } else if (i >= 0 && distance < 30) select(i);
    loop.length = 0;
    paint();
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
    if (event.key === "Escape") api.ask({ images: [] });
    if (!step || !spots.size) return;
    event.preventDefault();
    const [x, y] = spots.point(Math.max(0, api.arrays.ids.indexOf(api.view.selection.image)));
    const [i] = spots.nearest(x, y, (k) => {
      const [px, py] = spots.point(k), along = (px - x) * step[0] + (py - y) * step[1];
      return along > 1 && Math.abs((px - x) * step[1]) + Math.abs((py - y) * step[0]) <= along;
    });
    if (i >= 0) select(i);
  });
  return loop;
};

function build(api) {
  const legend = h("div", { class: "legend" }), told = h("span", {}), chosen = h("span", { role: "status" });
  const [ways, setWay] = segmented("Seen by", [
    ["head", "One head", "The plane in which the selected head varies most"],
    ["model", "Whole model", "The plane in which the embeddings vary most"]], (by) => api.ask({}, { options: { by } }));
  const column = h("select", { "aria-label": "Colour by", onchange: () => api.ask({}, { options: { column: column.value } }) });
  const pictures = h("input", { type: "checkbox", checked: true, onchange: () => api.redraw() });
  const canvas = h("canvas", { tabindex: "0", role: "application", "aria-label": "Images in the plane. Arrow keys go to the nearest image in that direction; drag around images to choose them." });
  const tip = h("div", { class: "tip", hidden: true }), stage = h("div", { class: "stage" }, canvas, tip);
  const clear = link("back to the whole collection", () => api.ask({ images: [] }));
  const tools = h("div", { class: "tools" }, ways, h("label", {}, "colour", column), h("label", {}, pictures, "pictures"), legend);
  const foot = h("p", { class: "foot" }, told, chosen, clear), [empty, says] = messageInstead(stage, tools, foot);
  api.body.append(h("h3", {}, "Atlas", h("small", {}, "draw around images to describe them")), tools, stage, empty, foot);
  followVisibility(api);

  const sheet = new Image(), address = pictureUrl(api), spots = layout();
  let drawn = null, width = 0, height = 0;
  sheet.onload = () => api.redraw();
  const paint = () => draw(api, canvas, sheet, spots, loop, pictures.checked, width, height);
  const loop = handle(api, canvas, tip, chosen, spots, paint);
  const fit = new ResizeObserver(() => width !== stage.clientWidth && api.redraw());
  fit.observe(stage);
  api.cleanups.push(() => fit.disconnect());
  const resize = () => {
    const ratio = window.devicePixelRatio || 1;
    width = stage.clientWidth;
    height = Math.round(Math.max(260, Math.min(560, width * 0.5)));
    if (canvas.width === Math.round(width * ratio) && canvas.height === Math.round(height * ratio)) return;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.height = `${height}px`;
  };
  const setTools = (view) => {
    setWay(api.option("by"));
    if (column.dataset.names !== view.columns.join()) {
      column.dataset.names = view.columns.join();
      column.replaceChildren(h("option", { value: "" }, "none"), ...view.columns.map((name) => h("option", { value: name }, name)));
      column.parentElement.hidden = !view.columns.length;
    }
    column.value = view.column;
    legend.replaceChildren(...view.values.map((value, i) => h("span", {}, h("b", { style: { background: CATEGORIES[i % CATEGORIES.length] } }), value)));
  };

  return (view, arrays) => {
    const { layer, head, image, images } = view.selection;
    Object.assign(api.root.dataset, { points: view.n_points ?? 0, by: view.by, layer: layer ?? "", head: head ?? "", image: image ?? "", images: images.length, column: view.column ?? "" });
    if (says(view)) return;
    setTools(view);
    const who = view.by === "head" ? headName(layer, head) : "the whole model", all = counted(view.n_images, "image");
    told.textContent = `These two axes show ${percent(view.share)} of the variance of ${who} · ${view.n_points < view.n_images ? `an even sample of ${count(view.n_points)} of ${all}` : all}`;
    chosen.textContent = images.length ? `${count(images.length)} chosen: TextSpan reads only these` : "";
    clear.hidden = !images.length;
    resize();
    if (drawn !== arrays.sprite) {
      drawn = arrays.sprite;
      sheet.src = address(arrays.sprite);
    }
    spots.place(arrays.places, width, height);
    paint();
  };
}

export default { render: (context) => mount(context, "atlas", build) };
