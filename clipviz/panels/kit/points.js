// Points of a plane, painted: a few as dots, many as pixels or by the graphics card.

import { h } from "./dom.js";

export const MANY = 50000; // more points than this count as many
export const OTHER = 254; // the byte of values without a colour of their own; of images without a value: one more

/**
 * Paints every point in its group's colour: dots, or pixels where there are many. Says how.
 * @param {HTMLCanvasElement} canvas
 * @param {Camera} camera
 */
export const canvasPainter = (canvas, camera) => {
  const g = canvas.getContext("2d");
  /** @param {number[]} indices @param {Scene} given */
  const dots = (indices, { colours, shade, ringed }) => {
    const few = indices.length < 4000;
    const groups = new Map();
    for (const i of indices) {
      const of = groups.get(colours[i]);
      if (of) of.push(i);
      else groups.set(colours[i], [i]);
    }
    for (const [byte, members] of [...groups].sort(([a], [b]) => b - a)) {
      g.fillStyle = shade(byte);
      g.globalAlpha = byte >= OTHER ? 0.6 : 0.9;
      for (const i of members) {
        const [left, top] = camera.point(i);
        if (!few) {
          g.fillRect(left - 1.5, top - 1.5, 3, 3);
          continue;
        }
        g.beginPath();
        g.arc(left, top, 2.8, 0, 7);
        g.fill();
        if (ringed) g.stroke();
      }
    }
  };
  /** @param {Scene} given @param {number} ratio */
  const pixels = ({ colours, shade }, ratio) => {
    const wide = canvas.width;
    const tall = canvas.height;
    const n = camera.places.length / 2;
    const seen = [];
    const counts = new Uint16Array(wide * tall);
    const last = new Uint8Array(wide * tall);
    const k = camera.scale * ratio;
    const left = wide / 2 - camera.x * k;
    const top = tall / 2 + camera.y * k;
    for (let i = 0; i < n; i++) {
      const column = Math.floor(left + camera.places[2 * i] * k);
      const row = Math.floor(top - camera.places[2 * i + 1] * k);
      if (column < 0 || row < 0 || column >= wide || row >= tall) continue;
      const at = row * wide + column;
      counts[at] += counts[at] < 65535 ? 1 : 0;
      last[at] = colours[i];
      if (seen.length <= MANY / 2) seen.push(i);
    }
    if (seen.length <= MANY / 2) return seen; // zoomed in: few enough for dots
    const image = g.createImageData(wide, tall);
    const table = new Map();
    for (let at = 0; at < counts.length; at++) {
      if (!counts[at]) continue;
      if (!table.has(last[at])) table.set(last[at], hexColour(shade(last[at])));
      image.data.set(table.get(last[at]), 4 * at);
      image.data[4 * at + 3] = Math.min(255, 80 + 48 * Math.log2(counts[at]));
    }
    g.putImageData(image, 0, 0);
    return null;
  };
  return (/** @type {Scene} */ scene, /** @type {number} */ ratio) => {
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, camera.width, camera.height);
    g.lineWidth = 0.6;
    g.strokeStyle = scene.ink;
    const many = camera.places.length / 2 > MANY;
    const few = many ? pixels(scene, ratio) : Array.from({ length: camera.places.length / 2 }, (_, i) => i);
    if (few) dots(few, scene);
    g.globalAlpha = 1;
    return many ? "density" : "dots";
  };
};

/** @param {string} hex @returns {number[]} */
export const hexColour = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** Whether WebGL is there; real: drawn by a graphics card, not by the processor. @param {boolean} real */
export const hasCard = (real) => {
  const gl = h("canvas").getContext("webgl", { failIfMajorPerformanceCaveat: real });
  if (!gl) return false;
  const named = gl.getExtension("WEBGL_debug_renderer_info");
  const by = String(gl.getParameter(named ? named.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return !real || !/swiftshader|llvmpipe|softpipe|software|basic render/i.test(by);
};

/** What the camera sees, as the library's matrix; its plane reaches from −1 to 1. @param {Camera} camera */
const lookOf = (camera) => {
  const look = new Array(16).fill(0);
  const side = camera.height / 2;
  look[0] = look[5] = (camera.scale * camera.half) / side;
  look[10] = look[15] = 1;
  look[12] = ((camera.middle[0] - camera.x) * camera.scale) / side;
  look[13] = ((camera.middle[1] - camera.y) * camera.scale) / side;
  return look;
};

/**
 * The library that draws many points with the graphics card; null where there is none or it is not wanted.
 * @param {Api} api
 * @param {Camera} camera
 */
export const cardPainter = (api, camera) => {
  const canvas = h("canvas", { class: "card", "aria-hidden": "true", hidden: true });
  /** @type {any} */
  let made = null;
  let state = "none";
  let drawn = "";
  /** @type {Record<string, boolean>} */
  const probed = {};
  // A saved page runs no code that is made while it runs, as the library does; "auto" wants a real graphics
  // card.
  const able = () => {
    const wanted = api.option("engine");
    if (!api.model.get("webgl") || wanted === "canvas" || api.standalone || state === "failed") return false;
    return (probed[wanted] ??= hasCard(wanted === "auto"));
  };
  const load = async () => {
    state = "loading";
    const url = URL.createObjectURL(new Blob([api.model.get("webgl")], { type: "text/javascript" }));
    try {
      const { default: create } = await import(url);
      made = create({
        canvas,
        width: camera.width,
        height: camera.height,
        cameraIsFixed: true,
        performanceMode: true,
        pointSize: 2.5,
        pointScaleMode: "constant",
        colorBy: "valueA",
      });
      state = "ready";
    } catch (error) {
      state = "failed";
      api.root.dataset.failed = String(error);
    }
    URL.revokeObjectURL(url);
    api.redraw();
  };
  /** Draws and tells whether it could. @param {Scene} given */
  const paint = ({ colours, shade, bytes, key }) => {
    const on = camera.places.length / 2 > MANY && able();
    if (on && state === "none") load();
    canvas.hidden = !(on && state === "ready");
    if (canvas.hidden) return false;
    const view = lookOf(camera);
    const shown = `${key}/${camera.width}/${camera.height}`;
    if (drawn === shown) {
      made.view(view);
      return true;
    }
    drawn = shown;
    const n = camera.places.length / 2;
    const x = new Float32Array(n);
    const y = new Float32Array(n);
    const z = new Float32Array(n);
    const order = new Map(bytes.map((/** @type {number} */ byte, /** @type {number} */ i) => [byte, i]));
    for (let i = 0; i < n; i++) {
      x[i] = (camera.places[2 * i] - camera.middle[0]) / camera.half;
      y[i] = (camera.places[2 * i + 1] - camera.middle[1]) / camera.half;
      z[i] = order.get(colours[i]) ?? 0;
    }
    made
      .set({ width: camera.width, height: camera.height, pointColor: bytes.map(shade) })
      .then(() => made.draw({ x, y, z }, { zDataType: "categorical" }))
      .then(() => {
        made.view(view);
        api.root.dataset.card = shown;
      });
    return true;
  };
  api.cleanups.push(() => made?.destroy());
  return { canvas, paint };
};
