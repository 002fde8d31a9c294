// The canvases of the plane and what moves them.

import { h } from "../kit/dom.js";
import { PlaneCamera } from "../kit/plane.js";
import { canvasPainter, cardPainter, MANY, OTHER } from "../kit/points.js";
import { handle, keys } from "./hand.js";
import { hovering, overlay } from "./overlay.js";
import { SETTLED, thumbnails } from "./thumbnails.js";

const GRID = 66;

const ratio = () => window.devicePixelRatio || 1;

/** Gives the stage its height and its canvases their pixels. @param {any} stage @param {any[]} layers @param {Camera} camera */
const fit = (stage, layers, camera) => {
  const width = stage.clientWidth;
  const height = Math.round(Math.max(280, Math.min(620, width * 0.5)));
  camera.resize(width, height);
  stage.style.height = `${height}px`;
  const pixels = { width: Math.round(width * ratio()), height: Math.round(height * ratio()) };
  for (const layer of layers)
    if (layer.width !== pixels.width || layer.height !== pixels.height) Object.assign(layer, pixels);
};

/**
 * Paints what has moved, once a frame, and the rest when the hand rests; moved(false) paints only what is over the
 * points.
 * @param {AtlasApi} api
 * @param {ReturnType<typeof pointPainter>} painter
 * @param {() => void} over
 * @param {() => void} settled
 */
const inFrames = (api, painter, over, settled) => {
  let frame = 0;
  let settle = 0;
  let whole = false;
  const paint = () => {
    if (whole) {
      if (painter.cost() > 40) painter.slide();
      else painter.paint();
      api.root.dataset.frames = String(Number(api.root.dataset.frames ?? 0) + 1);
    }
    whole = false;
    over();
  };
  api.cleanups.push(() => {
    clearTimeout(settle);
    cancelAnimationFrame(frame);
  });
  return (all = true) => {
    cancelAnimationFrame(frame);
    whole ||= all;
    frame = requestAnimationFrame(paint);
    if (!all) return;
    clearTimeout(settle);
    settle = setTimeout(settled, SETTLED);
  };
};

/**
 * Paints the points; a painting that took long can be moved at once instead.
 * @param {AtlasApi} api
 * @param {Camera} camera
 * @param {any} points
 * @param {ReturnType<typeof cardPainter>} card
 */
const pointPainter = (api, camera, points, card) => {
  const few = canvasPainter(points, camera);
  let inks = ["#5f6976", "#c0c6ce"];
  let painted = { x: 0, y: 0, scale: 1, cost: 0 };
  /** @param {number} byte */
  const shade = (byte) =>
    api.view.groups.find(([known]) => known === byte)?.[3] ||
    (byte > OTHER && api.view.groups.length ? inks[1] : inks[0]);
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
  };
  // Where painting is slow, the old picture is moved at once and painted again after the last movement.
  const slide = () => {
    const k = camera.scale / painted.scale;
    const dx = (painted.x - camera.x) * camera.scale + (camera.width / 2) * (1 - k);
    const dy = (camera.y - painted.y) * camera.scale + (camera.height / 2) * (1 - k);
    for (const layer of [points, card.canvas])
      layer.style.transform = `translate(${dx}px,${dy}px) scale(${k})`;
  };
  return { shade, paint, slide, cost: () => painted.cost };
};

/** Writes the texts that the axes point to at their ends. @param {any[]} ends @param {string[][]} texts */
const nameEnds = (ends, texts) =>
  ["←", "→", "↓", "↑"].forEach((arrow, i) => {
    ends[i].hidden = !texts[i]?.length;
    ends[i].textContent = `${arrow} ${(texts[i] ?? []).join(" · ")}`;
  });

/**
 * The canvases of the plane and what moves them.
 * @param {AtlasApi} api
 * @param {(points: number[]) => void} choose
 */
export const planeStage = (api, choose) => {
  const points = h("canvas", { class: "points", "aria-hidden": "true" });
  const camera = new PlaneCamera();
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
  const painter = pointPainter(api, camera, points, card);
  let tiles = /** @type {number[]} */ ([]);
  let plane = "";
  const small = thumbnails(api, () => {
    over();
    hover.show();
  });
  const hover = hovering(api, camera, small, tip);
  const drawOver = overlay(api, canvas, camera, small, painter.shade);
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
  const settled = () => {
    if (painter.cost() > 40) painter.paint();
    tiles = camera.zoom > 1.05 ? camera.spread(GRID) : api.view.tiles;
    if (api.option("pictures")) small.ask(tiles.map((i) => api.arrays.ids[i]));
    over();
  };
  const moved = inFrames(api, painter, over, settled);
  const loop = handle(api, canvas, camera, hover, moved, choose);
  keys(api, canvas, camera, moved);
  /** @param {AtlasView} view @param {AtlasArrays} arrays */
  const draw = (view, arrays) => {
    const fresh = view.plane !== plane;
    plane = view.plane;
    fit(stage, [points, canvas], camera);
    if (fresh) {
      camera.look(arrays.places);
      tiles = view.tiles;
      small.give(
        tiles.map((i) => arrays.ids[i]),
        arrays.sprite,
        view.tile_columns,
        view.names,
      );
    } else camera.places = arrays.places;
    nameEnds(ends, view.ends);
    painter.paint();
    over();
  };
  const resized = new ResizeObserver(() => camera.width !== stage.clientWidth && api.redraw());
  resized.observe(stage);
  api.cleanups.push(() => resized.disconnect());
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

/** @typedef {ReturnType<typeof planeStage>} PlaneStage */
