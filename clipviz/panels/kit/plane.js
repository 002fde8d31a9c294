// A plane of points on the screen: a camera with one scale for both axes, the nearest point, loops, labels
// that fit.

export const PLANE_MARGIN = 50; // half a picture beyond the names of the axes
export const CLOSEST = 2000;
export const FARTHEST = 0.5;

/**
 * Where points are on the screen. x, y: what lies in the middle; scale: pixels per unit; `places` holds x and
 * y in turn.
 */
export class PlaneCamera {
  places = /** @type {any} */ (new Float32Array(0));
  width = 0;
  height = 0;
  x = 0;
  y = 0;
  scale = 1;
  fit = 1;
  middle = [0, 0];
  spans = [1, 1];
  half = 1;

  /** @param {Float32Array} places */
  look(places) {
    const low = [Infinity, Infinity];
    const high = [-Infinity, -Infinity];
    for (let i = 0; i < places.length; i++) {
      const value = places[i];
      const k = i % 2;
      if (value < low[k]) low[k] = value;
      if (value > high[k]) high[k] = value;
    }
    this.places = places;
    this.middle = [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2];
    this.spans = [Math.max(high[0] - low[0], 1e-9), Math.max(high[1] - low[1], 1e-9)];
    this.half = Math.max(...this.spans) / 2;
    this.home();
  }

  /** @param {number} width @param {number} height */
  resize(width, height) {
    const zoom = this.zoom;
    Object.assign(this, { width, height });
    this.fit = Math.max(
      1e-9,
      Math.min((width - 2 * PLANE_MARGIN) / this.spans[0], (height - 2 * PLANE_MARGIN) / this.spans[1]),
    );
    this.scale = zoom * this.fit;
  }

  home() {
    [this.x, this.y] = this.middle;
    this.scale = this.fit;
    this.resize(this.width, this.height);
  }

  get zoom() {
    return this.scale / this.fit;
  }

  /** @param {number} i */
  point(i) {
    return this.at(this.places[2 * i], this.places[2 * i + 1]);
  }
  /** @param {number} x @param {number} y */
  at(x, y) {
    return [this.width / 2 + (x - this.x) * this.scale, this.height / 2 - (y - this.y) * this.scale];
  }
  /** @param {number} dx @param {number} dy */
  pan(dx, dy) {
    this.x -= dx / this.scale;
    this.y += dy / this.scale;
  }

  /**
   * Zooms so that what is under (left, top) stays there.
   * @param {number} factor
   * @param {number} left
   * @param {number} top
   */
  zoomAt(factor, left, top) {
    const to = Math.min(CLOSEST, Math.max(FARTHEST, this.zoom * factor)) * this.fit;
    this.x += (left - this.width / 2) * (1 / this.scale - 1 / to);
    this.y -= (top - this.height / 2) * (1 / this.scale - 1 / to);
    this.scale = to;
  }

  /**
   * The nearest point that is accepted, and how far it is in pixels; -1 where there is none.
   * @param {number} left
   * @param {number} top
   */
  nearest(left, top, accept = (/** @type {number} */ _i) => true) {
    const x = this.x + (left - this.width / 2) / this.scale;
    const y = this.y - (top - this.height / 2) / this.scale;
    let best = -1;
    let least = Infinity;
    for (let i = 0; i < this.places.length / 2; i++) {
      const distance = (this.places[2 * i] - x) ** 2 + (this.places[2 * i + 1] - y) ** 2;
      if (distance < least && accept(i)) {
        best = i;
        least = distance;
      }
    }
    return [best, Math.sqrt(least) * this.scale];
  }

  /** The points inside a loop on the screen. @param {number[][]} loop @returns {number[]} */
  inside(loop) {
    const found = [];
    const lefts = loop.map(([left]) => left);
    const tops = loop.map(([, top]) => top);
    const [west, east, north, south] = [
      Math.min(...lefts),
      Math.max(...lefts),
      Math.min(...tops),
      Math.max(...tops),
    ];
    for (let i = 0; i < this.places.length / 2; i++) {
      const [left, top] = this.point(i);
      if (left >= west && left <= east && top >= north && top <= south && insideLoop(loop, left, top))
        found.push(i);
    }
    return found;
  }

  /** One point for each cell of the screen, the nearest to its middle. @param {number} side pixels */
  spread(side) {
    const across = Math.ceil(this.width / side);
    const best = new Map();
    for (let i = 0; i < this.places.length / 2; i++) {
      const [left, top] = this.point(i);
      if (left < 0 || top < 0 || left >= this.width || top >= this.height) continue;
      const column = Math.floor(left / side);
      const row = Math.floor(top / side);
      const cell = row * across + column;
      const distance = (left - (column + 0.5) * side) ** 2 + (top - (row + 0.5) * side) ** 2;
      const known = best.get(cell);
      if (!known || distance < known[1]) best.set(cell, [i, distance]);
    }
    return [...best.values()].map(([i]) => i);
  }
}

/**
 * Whether a place lies inside a loop (an odd number of crossings).
 * @param {number[][]} loop
 * @param {number} x
 * @param {number} y
 */
export const insideLoop = (loop, x, y) => {
  let odd = false;
  for (let a = 0, b = loop.length - 1; a < loop.length; b = a++) {
    const [xa, ya] = loop[a];
    const [xb, yb] = loop[b];
    if (ya > y !== yb > y && x < ((xb - xa) * (y - ya)) / (yb - ya) + xa) odd = !odd;
  }
  return odd;
};

/**
 * The boxes without those that overlap an earlier one or reach out of the frame.
 * @param {any[]} boxes each with left, top, width, height
 * @param {number} width
 * @param {number} height
 */
export const thinned = (boxes, width, height) => {
  /** @type {any[]} */
  const kept = [];
  for (const box of boxes) {
    const out = box.left < 0 || box.top < 0 || box.left + box.width > width || box.top + box.height > height;
    /** @param {any} other */
    const meets = (other) =>
      box.left < other.left + other.width &&
      other.left < box.left + box.width &&
      box.top < other.top + other.height &&
      other.top < box.top + box.height;
    if (!out && !kept.some(meets)) kept.push(box);
  }
  return kept;
};
