// Points and pictures in a plane. The wheel zooms, a drag pans or draws a loop that chooses images, a click
// selects one.

import { count, counted, h, link, messageInstead, percent, square } from "../kit/dom.js";
import { segmented } from "../kit/grid.js";
import { pictureLoader } from "../kit/gallery.js";
import { planeCamera, thinned } from "../kit/plane.js";
import { canvasPainter, cardPainter, MANY, OTHER } from "../kit/points.js";
import { followVisibility, mount } from "../kit/protocol.js";
import { headLink } from "../kit/links.js";

const MOST_CHOSEN = 5000;
const SETTLED = 160;
const LARGE = 34;
const GRID = 66;
const ASKED = 64;

/**
 * Small pictures by image: those sent with the plane, others asked for a few at a time, one message under
 * way.
 * @param {AtlasApi} api
 * @param {() => void} changed
 */
const thumbnails = (api, changed) => {
  const known = new Map();
  const load = pictureLoader(api);
  let wanted = /** @type {number[]} */ ([]);
  let waiting = 0;
  let timer = 0;
  /**
   * @param {number[]} ids
   * @param {any} sheet
   * @param {number} columns
   * @param {string[]} [names]
   */
  const keep = (ids, sheet, columns, names = []) => {
    const side = sheet.width / columns;
    ids.forEach((/** @type {number} */ id, /** @type {number} */ i) =>
      known.set(id, {
        sheet,
        left: (i % columns) * side,
        top: Math.floor(i / columns) * side,
        side,
        name: names[i] ?? known.get(id)?.name,
      }),
    );
    changed();
  };
  const send = () => {
    const now = performance.now();
    const ids = wanted.slice(0, ASKED);
    if (!ids.length || now - waiting < 4000) return;
    wanted = wanted.slice(ASKED);
    waiting = now;
    api.model.send({ thumbnails: ids });
  };
  /**
   * @param {any} message
   * @param {DataView[]} buffers
   */
  const heard = async (message, buffers) => {
    if (!message?.thumbnails) return;
    waiting = 0;
    const bytes = buffers[0];
    keep(
      message.thumbnails,
      await createImageBitmap(new Blob([/** @type {BlobPart} */ (bytes)])),
      message.columns,
      message.names,
    );
    send();
  };
  api.model.on("msg:custom", heard);
  api.cleanups.push(() => {
    clearTimeout(timer);
    api.model.off("msg:custom", heard);
  });
  return {
    /** @param {number} id */
    get: (id) => known.get(id),
    /**
     * @param {number[]} ids
     * @param {Uint8Array} bytes
     * @param {number} columns
     * @param {string[]} names
     */
    give: (ids, bytes, columns, names) => load(bytes, (sheet) => keep(ids, sheet, columns, names)),
    /**
     * Requests pictures after the last movement.
     * @param {number[]} ids
     */
    ask: (ids) => {
      const missing = ids.filter((/** @type {number} */ id) => !known.has(id));
      clearTimeout(timer);
      if (api.standalone || !missing.length) return;
      wanted = missing;
      timer = setTimeout(send, SETTLED);
    },
  };
};

/**
 * Pictures, labels, the chosen images, the selected one and the loop, over the points.
 * @param {AtlasApi} api
 * @param {HTMLCanvasElement} canvas
 * @param {Camera} camera
 * @param {ReturnType<typeof thumbnails>} small
 * @param {(byte: number) => string} shade
 */
const overlay = (api, canvas, camera, small, shade) => {
  const g = canvas.getContext("2d");
  /** @param {string} name */
  const ink = (name) => getComputedStyle(api.root).getPropertyValue(name).trim();
  /**
   * @param {number} i
   * @param {number} radius
   */
  const dot = (i, radius) => {
    const [left, top] = camera.point(i);
    g.beginPath();
    g.arc(left, top, radius, 0, 7);
  };
  /**
   * @param {number[]} tiles
   * @param {ReadonlySet<number>} set
   */
  const pictures = (tiles, set) => {
    const { ids, colours } = api.arrays;
    const side = Math.max(20, Math.min(LARGE, camera.width / 26));
    for (const i of tiles) {
      const picture = small.get(ids[i]);
      const [left, top] = camera.point(i);
      if (!picture || left < -side || top < -side || left > camera.width + side || top > camera.height + side)
        continue;
      g.globalAlpha = set.size && !set.has(ids[i]) ? 0.25 : 1;
      g.drawImage(
        picture.sheet,
        picture.left,
        picture.top,
        picture.side,
        picture.side,
        left - side / 2,
        top - side / 2,
        side,
        side,
      );
      g.lineWidth = 2;
      g.strokeStyle = colours[i] < OTHER ? shade(colours[i]) : ink("--bg");
      g.strokeRect(left - side / 2, top - side / 2, side, side);
    }
    g.globalAlpha = 1;
  };
  const labels = () => {
    g.font = `600 12px ${getComputedStyle(api.root).fontFamily}`;
    const boxes = api.view.regions.map(([text, x, y]) => {
      const [left, top] = camera.at(x, y);
      const width = g.measureText(text).width + 12;
      return { text, left: left - width / 2, top: top - 10, width, height: 20 };
    });
    const frame = canvas.getBoundingClientRect();
    const ends = [...canvas.parentElement.querySelectorAll(".end")]
      .filter((end) => end.textContent)
      .map((end) => {
        const { left, top, width, height } = end.getBoundingClientRect();
        return { left: left - frame.left, top: top - frame.top, width, height };
      });
    const kept = thinned([...ends, ...boxes], camera.width, camera.height).filter(({ text }) => text);
    for (const { text, left, top, width, height } of kept) {
      g.fillStyle = ink("--bg");
      g.globalAlpha = 0.86;
      g.beginPath();
      g.roundRect(left, top, width, height, 5);
      g.fill();
      g.globalAlpha = 1;
      g.fillStyle = ink("--ink");
      g.fillText(text, left + 6, top + 14);
    }
    return kept.map(({ text }) => text);
  };
  return (/** @type {number[]} */ tiles, /** @type {number[][]} */ loop, /** @type {number} */ ratio) => {
    const { ids } = api.arrays;
    const set = new Set(api.view.selection.images);
    const own = ids.indexOf(api.view.selection.image);
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, camera.width, camera.height);
    if (set.size)
      ids.forEach((id, i) => {
        if (set.has(id)) {
          dot(i, 3.4);
          g.fillStyle = shade(api.arrays.colours[i]);
          g.fill();
        }
      });
    if (api.option("pictures")) pictures(tiles, set);
    const said = api.option("labels") ? labels() : [];
    g.strokeStyle = g.fillStyle = ink("--accent");
    g.lineWidth = 3;
    if (own >= 0) {
      dot(own, 9);
      g.stroke();
    }
    if (loop.length > 1) {
      g.beginPath();
      loop.forEach((/** @type {number[]} */ [left, top], /** @type {number} */ i) =>
        i ? g.lineTo(left, top) : g.moveTo(left, top),
      );
      g.closePath();
      g.globalAlpha = 0.12;
      g.fill();
      g.globalAlpha = 1;
      g.lineWidth = 1.5;
      g.stroke();
    }
    return said;
  };
};

/**
 * What is under the pointer: its picture and name.
 * @param {AtlasApi} api
 * @param {Camera} camera
 * @param {ReturnType<typeof thumbnails>} small
 * @param {any} tip
 */
const hovering = (api, camera, small, tip) => {
  /**
   * @param {number} left
   * @param {number} top
   */
  const around = (left, top) =>
    camera
      .spread(24)
      .filter((/** @type {number} */ i) => {
        const [x, y] = camera.point(i);
        return Math.hypot(x - left, y - top) < 110;
      })
      .slice(0, 40);
  let now = -1;
  const show = () => {
    tip.hidden = now < 0;
    if (tip.hidden) return;
    const id = api.arrays.ids[now];
    const group = api.view.groups.find(([byte]) => byte === api.arrays.colours[now]);
    const picture = small.get(id);
    const [left, top] = camera.point(now);
    const said = [`image ${id}`, picture?.name, group?.[0] < OTHER ? group[1] : ""]
      .filter(Boolean)
      .join(" · ");
    const face = h("canvas", { width: 88, height: 88, "aria-hidden": "true" });
    if (picture)
      face
        .getContext("2d")
        .drawImage(picture.sheet, picture.left, picture.top, picture.side, picture.side, 0, 0, 88, 88);
    tip.replaceChildren(...(picture ? [face] : []), h("span", {}, said));
    tip.dataset.pictured = String(Boolean(picture));
    Object.assign(tip.style, {
      left: `${Math.max(90, Math.min(camera.width - 90, left))}px`,
      top: `${top}px`,
    });
    tip.classList.toggle("below", top < 140);
  };
  /**
   * @param {number} left
   * @param {number} top
   */
  const point = (left, top) => {
    const [i, distance] = camera.nearest(left, top);
    const next = distance < 12 ? i : -1;
    if (next === now) return;
    now = next;
    show();
    if (now >= 0) small.ask([now, ...around(left, top)].map((k) => api.arrays.ids[k]));
  };
  return {
    point,
    show,
    leave: () => {
      now = -1;
      show();
    },
  };
};

/**
 * Pointer and wheel: pan, zoom, draw a loop, select. Returns the loop being drawn.
 * @param {AtlasApi} api
 * @param {HTMLCanvasElement} canvas
 * @param {Camera} camera
 * @param {ReturnType<typeof hovering>} hover
 * @param {(over?: boolean) => void} moved
 * @param {(points: number[]) => void} choose
 */
const handle = (api, canvas, camera, hover, moved, choose) => {
  /** @type {number[][]} */
  const loop = [];
  /** @param {number} i */
  const select = (i) => api.offers({ image: api.arrays.ids[i] }) && api.ask({ image: api.arrays.ids[i] });
  let from = /** @type {number[] | null} */ (null);
  let far = 0;
  let panning = false;
  let still = false;
  /** @param {MouseEvent} event */
  const pointer = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener(
    "wheel",
    (/** @type {On<WheelEvent>} */ event) => {
      if (!api.view.plane) return;
      event.preventDefault();
      const [left, top] = pointer(event);
      camera.zoomAt(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0018)), left, top);
      hover.leave();
      moved();
    },
    { passive: false },
  );
  canvas.addEventListener("pointerdown", (/** @type {On<PointerEvent>} */ event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    from = pointer(event);
    far = 0;
    panning = api.standalone || (api.option("drag") === "pan") !== event.shiftKey;
    if (!panning) loop.splice(0, Infinity, from);
    hover.leave();
  });
  canvas.addEventListener("pointermove", (/** @type {On<PointerEvent>} */ event) => {
    const [left, top] = pointer(event);
    if (!from) return hover.point(left, top);
    far = Math.max(far, Math.hypot(left - from[0], top - from[1]));
    if (!panning) {
      loop.push([left, top]);
      return moved(false);
    }
    camera.pan(left - from[0], top - from[1]);
    from = [left, top];
    far += 1;
    canvas.dataset.grabbed = "true";
    moved();
  });
  const end = () => {
    from = null;
    loop.length = 0;
    delete canvas.dataset.grabbed;
    moved(false);
  };
  canvas.addEventListener("pointerleave", hover.leave);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerup", () => {
    if (!from) return;
    still = far < 6;
    if (!panning && loop.length > 6 && far > 10) choose(camera.inside(loop));
    end();
  });
  canvas.addEventListener("click", (/** @type {On<MouseEvent>} */ event) => {
    const [left, top] = pointer(event);
    const [i, distance] = camera.nearest(left, top);
    if (still && event.detail < 2 && i >= 0 && distance < 20) select(i);
  });
  canvas.addEventListener("dblclick", () => {
    camera.home();
    moved();
  });
  return loop;
};

/**
 * Keys: arrows pan, with Shift they go to the next image; + and − zoom, 0 goes home, Enter selects what is in
 * the middle.
 * @param {AtlasApi} api
 * @param {HTMLCanvasElement} canvas
 * @param {Camera} camera
 * @param {(over?: boolean) => void} moved
 */
const keys = (api, canvas, camera, moved) =>
  canvas.addEventListener("keydown", (/** @type {On<KeyboardEvent>} */ event) => {
    const step = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
    const zoom = { "+": 1.4, "=": 1.4, "-": 1 / 1.4, "−": 1 / 1.4 }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || !api.view.plane) return;
    if (event.key === "Escape") api.ask({ images: [] });
    else if (event.key === "0" || event.key === "Home") camera.home();
    else if (zoom) camera.zoomAt(zoom, camera.width / 2, camera.height / 2);
    else if (event.key === "Enter") {
      const [i] = camera.nearest(camera.width / 2, camera.height / 2);
      if (i >= 0) api.ask({ image: api.arrays.ids[i] });
    } else if (step && event.shiftKey) {
      const [x, y] = camera.point(Math.max(0, api.arrays.ids.indexOf(api.view.selection.image)));
      const [i] = camera.nearest(x, y, (/** @type {number} */ k) => {
        const [px, py] = camera.point(k);
        const along = (px - x) * step[0] + (py - y) * step[1];
        return along > 1 && Math.abs((px - x) * step[1]) + Math.abs((py - y) * step[0]) <= along;
      });
      if (i >= 0) api.ask({ image: api.arrays.ids[i] });
    } else if (step) camera.pan(-60 * step[0], -60 * step[1]);
    else return;
    event.preventDefault();
    moved();
  });

/**
 * The canvases of the plane and what moves them.
 * @param {AtlasApi} api
 * @param {(points: number[]) => void} choose
 */
const planeStage = (api, choose) => {
  const points = h("canvas", { class: "points", "aria-hidden": "true" });
  const camera = planeCamera();
  const card = cardPainter(api, camera);
  const canvas = h("canvas", {
    class: "over",
    tabindex: "0",
    role: "application",
    "aria-label":
      "Images in the plane. Arrow keys move it, plus and minus zoom, 0 shows all, Enter selects the image in the middle, Shift with an arrow key the next image in that direction. Drag with Shift around images to choose them.",
  });
  const tip = h("div", { class: "tip", hidden: true });
  const ends = ["west", "east", "south", "north"].map((side) => h("span", { class: `end ${side}` }));
  const stage = h("div", { class: "stage" }, points, card.canvas, canvas, ...ends, tip);
  const few = canvasPainter(points, camera);
  /** @param {number} byte */
  const shade = (byte) =>
    api.view.groups.find(([known]) => known === byte)?.[3] ||
    (byte > OTHER && api.view.groups.length ? inks[1] : inks[0]);
  let inks = ["#5f6976", "#c0c6ce"];
  let tiles = /** @type {number[]} */ ([]);
  let frame = 0;
  let settle = 0;
  let painted = { x: 0, y: 0, scale: 1, cost: 0 };
  let plane = "";
  let whole = false;
  const small = thumbnails(api, () => {
    over();
    hover.show();
  });
  const hover = hovering(api, camera, small, tip);
  const drawOver = overlay(api, canvas, camera, small, shade);
  const ratio = () => window.devicePixelRatio || 1;
  const over = () => {
    if (api.view.plane)
      Object.assign(api.root.dataset, {
        labels: drawOver(tiles, loop, ratio()).join("\n"),
        zoom: camera.zoom.toFixed(4),
        x: camera.x.toFixed(6),
        y: camera.y.toFixed(6),
        scale: camera.fit.toFixed(6),
        ownAt: camera.point(Math.max(0, api.arrays.ids.indexOf(api.view.selection.image))).join(),
      });
  };
  const paint = () => {
    if (!api.view.plane) return;
    const started = performance.now();
    const { ids, colours } = api.arrays;
    const dim = api.view.selection.images.length > 0;
    inks = ["--ink3", "--faint"].map((name) => getComputedStyle(api.root).getPropertyValue(name).trim());
    const bytes = api.view.groups.length ? api.view.groups.map(([byte]) => byte) : [255];
    const key = `${api.view.plane}/${api.view.column}/${api.theme}`;
    const scene = { colours, shade, bytes, key, ringed: api.view.ringed, ink: inks[0] };
    const byCard = card.paint(scene);
    points.hidden = byCard;
    const how = byCard ? "webgl" : few(scene, ratio());
    for (const layer of [points, card.canvas])
      Object.assign(layer.style, { transform: "", opacity: dim ? 0.22 : 1 });
    painted = {
      x: camera.x,
      y: camera.y,
      scale: camera.scale,
      cost:
        byCard && api.option("engine") === "webgl" && ids.length > MANY
          ? Infinity
          : performance.now() - started,
    };
    Object.assign(api.root.dataset, { painter: how, cost: painted.cost.toFixed(1) });
    over();
  };
  // Where painting is slow, the old picture is moved at once and painted again after the last movement.
  const slide = () => {
    const k = camera.scale / painted.scale;
    const dx = (painted.x - camera.x) * camera.scale + (camera.width / 2) * (1 - k);
    const dy = (camera.y - painted.y) * camera.scale + (camera.height / 2) * (1 - k);
    for (const layer of [points, card.canvas])
      layer.style.transform = `translate(${dx}px,${dy}px) scale(${k})`;
    over();
  };
  const settled = () => {
    if (painted.cost > 40) paint();
    tiles = camera.zoom > 1.05 ? camera.spread(GRID) : api.view.tiles;
    if (api.option("pictures")) small.ask(tiles.map((i) => api.arrays.ids[i]));
    over();
  };
  const moved = (all = true) => {
    cancelAnimationFrame(frame);
    whole ||= all;
    frame = requestAnimationFrame(() => {
      if (!whole) return over();
      whole = false;
      if (painted.cost > 40) slide();
      else paint();
      api.root.dataset.frames = String(Number(api.root.dataset.frames ?? 0) + 1);
    });
    if (!all) return;
    clearTimeout(settle);
    settle = setTimeout(settled, SETTLED);
  };
  const loop = handle(api, canvas, camera, hover, moved, choose);
  keys(api, canvas, camera, moved);
  const resize = () => {
    const width = stage.clientWidth;
    const height = Math.round(Math.max(280, Math.min(620, width * 0.5)));
    camera.resize(width, height);
    stage.style.height = `${height}px`;
    for (const layer of [points, canvas])
      if (layer.width !== Math.round(width * ratio()) || layer.height !== Math.round(height * ratio())) {
        layer.width = Math.round(width * ratio());
        layer.height = Math.round(height * ratio());
      }
  };
  /**
   * @param {AtlasView} view
   * @param {AtlasArrays} arrays
   */
  const draw = (view, arrays) => {
    const fresh = view.plane !== plane;
    plane = view.plane;
    resize();
    if (fresh) {
      camera.look(arrays.places);
      tiles = view.tiles;
    } else camera.places = arrays.places;
    if (fresh)
      small.give(
        tiles.map((i) => arrays.ids[i]),
        arrays.sprite,
        view.tile_columns,
        view.names,
      );
    const [west, east, south, north] = view.ends.length ? view.ends : [[], [], [], []];
    const arrows = ["←", "→", "↓", "↑"];
    [west, east, south, north].forEach((texts, i) => {
      ends[i].hidden = !texts.length;
      ends[i].textContent = `${arrows[i]} ${texts.join(" · ")}`;
    });
    paint();
  };
  const fit = new ResizeObserver(() => camera.width !== stage.clientWidth && api.redraw());
  fit.observe(stage);
  api.cleanups.push(() => {
    fit.disconnect();
    clearTimeout(settle);
    cancelAnimationFrame(frame);
  });
  return {
    stage,
    camera,
    draw,
    home: () => {
      camera.home();
      moved();
    },
    /** @param {number} factor */
    zoom: (factor) => {
      camera.zoomAt(factor, camera.width / 2, camera.height / 2);
      moved();
    },
  };
};

/**
 * What is drawn and how: the tools above the plane.
 * @param {AtlasApi} api
 * @param {ReturnType<typeof planeStage>} stage
 */
const planeTools = (api, stage) => {
  const legend = h("div", { class: "legend", role: "list", "aria-label": "Groups" });
  const [ways, setWay] = segmented(
    "Seen by",
    [
      ["head", "One head", "The plane in which the selected head varies most"],
      ["model", "Whole model", "The plane in which the embeddings vary most"],
    ],
    (by) => api.ask({}, { options: { by } }),
  );
  const [drags, setDrag] = segmented(
    "A drag",
    [
      ["pan", "Move", "A drag moves the plane; with Shift it draws around images"],
      ["choose", "Draw around", "A drag draws around images; with Shift it moves the plane"],
    ],
    (drag) => api.put({ drag }),
  );
  const column = h("select", {
    "aria-label": "Colour by",
    onchange: () => api.ask({}, { options: { column: column.value } }),
  });
  /** @param {string} name */
  const box = (name) =>
    h("input", { type: "checkbox", onchange: (event) => api.put({ [name]: event.target.checked }) });
  const pictures = box("pictures");
  const labels = box("labels");
  const zooms = h(
    "span",
    { class: "zooms", "data-local": true },
    square("−", "Zoom out", () => stage.zoom(1 / 1.5)),
    square("+", "Zoom in", () => stage.zoom(1.5)),
    square("Reset", "Reset: show the whole plane (double click, or 0)", stage.home),
  );
  const colouring = h("label", {}, "colour", column);
  const element = h(
    "div",
    { class: "tools" },
    ways,
    drags,
    colouring,
    h("label", { "data-local": true }, pictures, "pictures"),
    h("label", { "data-local": true }, labels, "labels"),
    zooms,
    legend,
  );
  /** @param {[number, string, number, string]} given */
  const entry = ([byte, word, n, colour]) =>
    h(
      "span",
      { role: "listitem", "data-group": word, "data-colour": colour },
      h("b", { style: { background: colour || (byte > OTHER ? "var(--faint)" : "var(--ink3)") } }),
      word,
      h("small", { class: "num" }, count(n)),
      byte === OTHER ? h("span", { class: "sr" }, "all other values") : null,
    );
  /** @param {AtlasView} view */
  const set = (view) => {
    setWay(api.option("by"));
    setDrag(api.option("drag"));
    drags.hidden = api.standalone;
    pictures.checked = api.option("pictures");
    labels.checked = api.option("labels");
    if (column.dataset.names !== view.columns.join()) {
      column.dataset.names = view.columns.join();
      column.replaceChildren(
        h("option", { value: "" }, "none"),
        ...view.columns.map((name) => h("option", { value: name }, name)),
      );
    }
    colouring.hidden = !view.columns.length;
    column.value = view.column;
    legend.hidden = !view.groups.length;
    legend.replaceChildren(...view.groups.map(entry));
  };
  return { element, set };
};

/**
 * @param {AtlasApi} api
 * @returns {Draw<AtlasView, AtlasArrays>}
 */
function build(api) {
  const told = h("span", {});
  const chosen = h("span", { role: "status" });
  /**
   * @param {number[]} found
   * @returns {void}
   */
  const choose = (found) => {
    if (found.length < 2)
      return void (chosen.textContent = found.length
        ? "A description needs more than one image. Draw the loop around more."
        : "There is no image in the loop. Draw it around some images.");
    const most = Math.min(found.length, MOST_CHOSEN);
    const even = Array.from({ length: most }, (_, i) => found[Math.floor((i * found.length) / most)]);
    inside = found.length;
    api.ask({ images: even.map((i) => api.arrays.ids[i]) });
  };
  let inside = 0;
  const stage = planeStage(api, choose);
  const tools = planeTools(api, stage);
  const see = link("see them in the gallery", () => api.ask({}, { action: "gallery" }), { hidden: true });
  const clear = link("back to the whole collection", () => api.ask({ images: [] }));
  const foot = h("p", { class: "foot" }, told, chosen, see, clear);
  const [empty, says] = messageInstead(stage.stage, tools.element, foot);
  api.body.append(
    h(
      "h2",
      {},
      "Atlas",
      h(
        "small",
        {},
        `scroll to zoom, drag to move${api.standalone ? "" : ", Shift-drag around images to describe them"}`,
      ),
    ),
    tools.element,
    stage.stage,
    empty,
    foot,
  );
  followVisibility(api);

  return (view, arrays) => {
    const { layer, head, image, images } = view.selection;
    Object.assign(api.root.dataset, {
      points: view.n_points ?? 0,
      by: view.by,
      layer: layer ?? "",
      head: head ?? "",
      image: image ?? "",
      images: images.length,
      column: view.column ?? "",
      groups: (view.groups ?? []).length,
      ends: (view.ends ?? []).flat().join("\n"),
    });
    if (says(view)) return;
    tools.set(view);
    stage.draw(view, arrays);
    const who = view.by === "head" ? headLink(api, layer, head) : "the whole model";
    const all = counted(view.n_images, "image");
    const how = api.root.dataset.painter;
    told.replaceChildren(
      `These two axes show ${percent(view.share)} of the variance of `,
      who,
      ` · ${view.n_points < view.n_images ? `an even sample of ${count(view.n_points)} of ${all}` : all}${how === "density" ? " · drawn without a graphics card: brighter where images lie denser" : ""}`,
    );
    const thinner =
      inside > images.length && images.length === MOST_CHOSEN
        ? ` (an even sample of the ${count(inside)} inside)`
        : "";
    chosen.textContent = images.length
      ? `${count(images.length)} chosen${thinner}: TextSpan reads only these`
      : "";
    see.hidden = !images.length || api.standalone || !api.root.closest(".cv-dashboard");
    clear.hidden = !images.length;
  };
}

export default {
  /** @param {Context} context */
  render: (context) => mount(context, "atlas", build),
};
