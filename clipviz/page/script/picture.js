// From a picture's pixels to the network's input: resized as Pillow resizes, cropped at the centre,
// normalised.

const BITS = 22; // bits of the integers to which weights are rounded

/** @type {Record<string, [number, (x: number) => number]>} a filter's reach and its weight at a distance */
const FILTERS = {
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  bicubic: [
    2,
    (x) => {
      const far = Math.abs(x);
      const a = -0.5;
      return far < 1
        ? ((a + 2) * far - (a + 3)) * far * far + 1
        : far < 2
          ? (((far - 5) * far + 8) * far - 4) * a
          : 0;
    },
  ],
};

/**
 * For every position of the result: the start of its window, and the weights in it.
 * @param {number} from
 * @param {number} to
 * @param {string} filter
 */
const windows = (from, to, filter) => {
  const [reach, weigh] = FILTERS[filter];
  const scale = from / to;
  const wide = Math.max(scale, 1);
  const support = reach * wide;
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(from, Math.trunc(centre + support + 0.5));
    const weights = Array.from({ length: last - first }, (_empty, k) =>
      weigh((k + first - centre + 0.5) / wide),
    );
    const total = weights.reduce((a, b) => a + b, 0);
    return {
      first,
      weights: weights.map((w) => {
        const share = (w / total) * 2 ** BITS;
        return Math.trunc(share + (share < 0 ? -0.5 : 0.5));
      }),
    };
  });
};

const clip = (/** @type {number} */ sum) => Math.max(0, Math.min(255, Math.floor(sum / 2 ** BITS)));

/** @typedef {{ rows: number, cols: number, data: Uint8Array }} Picture red, green and blue, row by row */

/**
 * @param {Picture} picture
 * @param {number} rows
 * @param {number} cols
 * @param {string} filter
 * @returns {Picture}
 */
export const resized = (picture, rows, cols, filter) => {
  let { data } = picture;
  let width = picture.cols;
  if (cols !== picture.cols) {
    const across = windows(picture.cols, cols, filter);
    const next = new Uint8Array(picture.rows * cols * 3);
    for (let row = 0; row < picture.rows; row++)
      for (let col = 0; col < cols; col++) {
        const { first, weights } = across[col];
        for (let c = 0; c < 3; c++) {
          let sum = 2 ** (BITS - 1);
          for (let k = 0; k < weights.length; k++)
            sum += data[(row * picture.cols + first + k) * 3 + c] * weights[k];
          next[(row * cols + col) * 3 + c] = clip(sum);
        }
      }
    [data, width] = [next, cols];
  }
  if (rows === picture.rows) return { rows, cols: width, data };
  const down = windows(picture.rows, rows, filter);
  const next = new Uint8Array(rows * width * 3);
  const line = width * 3;
  for (let row = 0; row < rows; row++) {
    const { first, weights } = down[row];
    for (let at = 0; at < line; at++) {
      let sum = 2 ** (BITS - 1);
      for (let k = 0; k < weights.length; k++) sum += data[(first + k) * line + at] * weights[k];
      next[row * line + at] = clip(sum);
    }
  }
  return { rows, cols: width, data: next };
};

/** Half a number to the nearest even one, as Python rounds. @param {number} twice */
const halved = (twice) => {
  const half = Math.floor(twice / 2);
  return twice % 2 === 0 ? half : half + (half % 2 === 0 ? 0 : 1);
};

/**
 * @typedef {{ resize: { short: number } | { size: [number, number] } | null, crop: [number, number] | null,
 *   filter: string, mean: number[], std: number[], odd: "even" | "below" }} Steps
 */

/**
 * The picture as the network sees it, in integers.
 * @param {Picture} picture
 * @param {Steps} steps
 * @returns {Picture}
 */
export const fitted = (picture, { resize, crop, filter, odd }) => {
  let made = picture;
  if (resize) {
    let rows;
    let cols;
    if ("short" in resize) {
      const { short } = resize;
      const [h, w] = [picture.rows, picture.cols];
      [rows, cols] = h <= w ? [short, Math.trunc((short * w) / h)] : [Math.trunc((short * h) / w), short];
    } else [rows, cols] = resize.size;
    made = resized(picture, rows, cols, filter);
  }
  if (!crop || (crop[0] === made.rows && crop[1] === made.cols)) return made;
  const [rows, cols] = crop;
  const half = odd === "below" ? (/** @type {number} */ twice) => Math.floor(twice / 2) : halved;
  const top = half(made.rows - rows);
  const left = half(made.cols - cols);
  const data = new Uint8Array(rows * cols * 3);
  for (let row = 0; row < rows; row++)
    data.set(
      made.data.subarray(((top + row) * made.cols + left) * 3, ((top + row) * made.cols + left + cols) * 3),
      row * cols * 3,
    );
  return { rows, cols, data };
};

/** Pixels [3, rows, cols]. @param {Picture} picture @param {Steps} steps */
export const pixels = ({ rows, cols, data }, { mean, std }) => {
  const found = new Float32Array(3 * rows * cols);
  const size = rows * cols;
  for (let at = 0; at < size; at++)
    for (let c = 0; c < 3; c++)
      found[c * size + at] = Math.fround(
        Math.fround(Math.fround(data[at * 3 + c] / 255) - Math.fround(mean[c])) / Math.fround(std[c]),
      );
  return found;
};

/**
 * A picture's content, stored as differences from the left neighbour, which compress better.
 * @param {Uint8Array} kept
 * @param {number} rows
 * @param {number} cols
 * @returns {Picture}
 */
export const restored = (kept, rows, cols) => {
  const data = Uint8Array.from(kept);
  const line = cols * 3;
  for (let row = 0; row < rows; row++)
    for (let at = 3; at < line; at++)
      data[row * line + at] = (data[row * line + at] + data[row * line + at - 3]) & 255;
  return { rows, cols, data };
};
