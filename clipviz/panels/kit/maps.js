// Token maps over pictures: drawing, growing to pixels, and how well they find the true mask.

import { h } from "./dom.js";
import { DIVERGING } from "./figure.js";

export const SUN = [250, 204, 21]; // attention, activations and baselines: no sign
export const MAP_COLOURS = {
  signed: [DIVERGING.light.pos, DIVERGING.light.neg],
  plain: [SUN, DIVERGING.light.neg],
  glow: [SUN, SUN],
};

/**
 * A map as a picture of one pixel per token. limit: the size drawn at full strength; floor: the size not
 * drawn at all.
 * @param {ArrayLike<number>} values @param {number} rows @param {number} cols @param {number} limit
 * @param {"signed" | "plain" | "glow"} kind glow: what is negative is not drawn
 * @param {number} [floor] @param {any} [layer] the canvas to draw on
 */
export const mapLayer = (
  values,
  rows,
  cols,
  limit,
  kind,
  floor = 0,
  layer = new OffscreenCanvas(cols, rows),
) => {
  if (layer.width !== cols || layer.height !== rows) [layer.width, layer.height] = [cols, rows];
  const context = layer.getContext("2d");
  const pixels = context.createImageData(cols, rows);
  const [up, down] = MAP_COLOURS[kind];
  for (let i = 0; i < rows * cols; i++) {
    const size = kind === "glow" ? values[i] : Math.abs(values[i]);
    const t = limit > floor ? Math.min(1, Math.max(0, size - floor) / (limit - floor)) : 0;
    pixels.data.set([...(values[i] < 0 ? down : up), Math.round(255 * Math.pow(t, 0.75))], 4 * i);
  }
  context.putImageData(pixels, 0, 0);
  return layer;
};

/**
 * An activation map as a canvas to lay over a tile.
 * @param {any} values
 * @param {number} rows
 * @param {number} cols
 * @param {number} limit
 */
export const glow = (values, rows, cols, limit) =>
  mapLayer(values, rows, cols, limit, "glow", 0, h("canvas", { class: "map", "aria-hidden": "true" }));

/** The largest size of a map's values. @param {ArrayLike<number>} values */
export const largest = (values) =>
  Array.prototype.reduce.call(
    values,
    (/** @type {number} */ most, /** @type {number} */ value) => Math.max(most, Math.abs(value)),
    1e-12,
  );

/**
 * The picture in muted colours, and the map over it, smoothed to the canvas.
 * @param {any} canvas
 * @param {HTMLImageElement | OffscreenCanvas} picture
 * @param {any} layer
 * @param {number} opacity
 * @param {number} width @param {number} [height]
 */
export const drawMap = (
  canvas,
  picture,
  layer,
  opacity,
  width,
  height = (width * picture.height) / picture.width,
) => {
  const scale = Math.min(2, devicePixelRatio || 1);
  const size = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  const context = canvas.getContext("2d");
  // A canvas of the same size is used again, which is cheaper than another.
  context.clearRect(0, 0, size[0], size[1]);
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  if (!layer) return;
  /** @param {string} mode @param {string} colour @param {number} alpha */
  const cover = (mode, colour, alpha) => {
    context.globalCompositeOperation = mode;
    context.globalAlpha = alpha;
    context.fillStyle = colour;
    context.fillRect(0, 0, canvas.width, canvas.height);
  };
  cover("saturation", "#808080", Math.min(1, 1.15 * opacity)); // grey, so that only the map has colour
  cover("source-over", "#11181f", 0.28 * opacity);
  context.globalAlpha = opacity;
  context.drawImage(layer, 0, 0, canvas.width, canvas.height);
  context.globalAlpha = 1;
};

/**
 * The border of a mask, as one path in canvas units.
 * @param {any} canvas
 * @param {Uint8Array} mask
 * @param {number[]} size rows and columns
 */
export const drawOutline = (canvas, mask, [rows, cols]) => {
  const context = canvas.getContext("2d");
  const [dx, dy] = [canvas.width / cols, canvas.height / rows];
  /** @param {number} row @param {number} col */
  const inside = (row, col) => row >= 0 && col >= 0 && row < rows && col < cols && mask[row * cols + col] > 0;
  const path = new Path2D();
  for (let row = 0; row <= rows; row++)
    for (let col = 0; col <= cols; col++) {
      if (inside(row, col) !== inside(row - 1, col)) {
        path.moveTo(col * dx, row * dy);
        path.lineTo((col + 1) * dx, row * dy);
      }
      if (inside(row, col) !== inside(row, col - 1)) {
        path.moveTo(col * dx, row * dy);
        path.lineTo(col * dx, (row + 1) * dy);
      }
    }
  context.lineCap = "round";
  for (const { colour, width } of [
    { colour: "rgba(0,0,0,.55)", width: 4 },
    { colour: "#fff", width: 1.8 },
  ]) {
    context.strokeStyle = colour;
    context.lineWidth = width * Math.min(2, devicePixelRatio || 1);
    context.stroke(path);
  }
};

/**
 * Bilinear to height x width pixels (pixel centres aligned), clipped below 0.
 * @param {ArrayLike<number>} values
 * @param {number} rows
 * @param {number} cols
 * @param {number} height
 * @param {number} width
 */
export const growMap = (values, rows, cols, height, width) => {
  const out = new Float32Array(height * width);
  /** @param {number} n @param {number} size @returns {number[][]} */
  const places = (n, size) =>
    Array.from({ length: size }, (_, i) => {
      const at = Math.max(0, ((i + 0.5) * n) / size - 0.5);
      const low = Math.min(n - 1, Math.floor(at));
      return [low, Math.min(n - 1, low + 1), at - low];
    });
  const down = places(rows, height);
  const across = places(cols, width);
  down.forEach(([top, bottom, v], y) =>
    across.forEach(([left, right, u], x) => {
      const upper = values[top * cols + left] * (1 - u) + values[top * cols + right] * u;
      const lower = values[bottom * cols + left] * (1 - u) + values[bottom * cols + right] * u;
      out[y * width + x] = Math.max(0, upper * (1 - v) + lower * v);
    }),
  );
  return out;
};

/**
 * Pixel accuracy and mean IoU of the map against a mask: thresholded at its mean (the protocol of Table 2.4),
 * or at a share of the way from its lowest to its highest value (Table 3.4).
 * @param {ArrayLike<number>} values
 * @param {number} rows
 * @param {number} cols
 * @param {Uint8Array} mask
 * @param {number[]} size
 * @param {number | null} [share]
 */
export const maskScores = (values, rows, cols, mask, [height, width], share = null) => {
  const grown = growMap(values, rows, cols, height, width);
  const [low, high] = grown.reduce(
    ([a, b], value) => [Math.min(a, value), Math.max(b, value)],
    [Infinity, -Infinity],
  );
  const cut =
    share === null ? grown.reduce((sum, value) => sum + value, 0) / grown.length : low + share * (high - low);
  const counts = [
    [0, 0],
    [0, 0],
  ];
  grown.forEach((value, i) => {
    counts[mask[i] > 0 ? 1 : 0][value > cut ? 1 : 0] += 1;
  });
  const [[tn, fp], [fn, tp]] = counts;
  /** @param {number} part @param {number} whole */
  const ratio = (part, whole) => (whole ? part / whole : 0);
  return {
    accuracy: (tn + tp) / grown.length,
    miou: (ratio(tn, tn + fp + fn) + ratio(tp, tp + fp + fn)) / 2,
  };
};
