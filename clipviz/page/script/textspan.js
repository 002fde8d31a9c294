// TextSpan (thesis Alg. 1, Eq. 2.7) in a head's own span, from the covariance of its codes, and the same
// search under
// random rotations of the data inside that span.

import { dot, eigen, factored, gaussian, orthonormal, random, unit } from "./numbers.js";

const NOTHING_LEFT = 1e-5; // a residual below this share of its text's length is only rounding
const TOLERANCE = 1e-8; // variances below this share of the largest are rounding

/**
 * A head's span [rank, d_embed], its axes the principal ones, and the variance along each.
 * @param {import("./collection.js").Collection} collection
 * @param {number} layer
 * @param {number} head
 * @param {number[]} [images]
 */
export const headSpan = (collection, layer, head, images) => {
  const { tower } = collection;
  const { d_code, d_embed: E } = tower.facts;
  const width = d_code + 2;
  const map = tower.linear(layer, head);
  const { covariance } = collection.moments(layer, head, images);
  const weights = Float64Array.from({ length: width }, (_, i) => dot(map, i * E, map, i * E, E));
  const factors = factored(covariance, width, weights);
  const n = factors.length;
  if (!n)
    return {
      rank: 1,
      span: orthonormal(map.subarray(0, E), 1, E),
      variances: Float64Array.of(0),
      varies: false,
    };
  const written = new Float64Array(n * E); // the covariance of what is written is written^T written
  for (let i = 0; i < n; i++)
    for (let j = 0; j < width; j++) {
      const x = factors[i][j];
      if (x !== 0) for (let k = 0; k < E; k++) written[i * E + k] += x * map[j * E + k];
    }
  const within = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++)
      within[i * n + j] = within[j * n + i] = dot(written, i * E, written, j * E, E);
  const { values, vectors } = eigen(within, n);
  const floor = TOLERANCE * Math.max(values[0], 1e-24);
  let kept = 0;
  while (kept < Math.min(n, E) && values[kept] > floor) kept++;
  kept = Math.max(1, kept);
  const span = new Float64Array(kept * E);
  for (let i = 0; i < kept; i++)
    for (let j = 0; j < n; j++) {
      const x = vectors[i * n + j];
      for (let k = 0; k < E; k++) span[i * E + k] += x * written[j * E + k];
    }
  return {
    rank: kept,
    span: orthonormal(span, kept, E),
    variances: values.slice(0, kept),
    varies: values[0] > floor,
  };
};

/**
 * Texts in a span's coordinates [text, rank], and their lengths.
 * @param {Float32Array} pool [text, d_embed]
 * @param {Float64Array} span
 * @param {number} rank
 */
export const inSpan = (pool, span, rank) => {
  const E = span.length / rank;
  const n = pool.length / E;
  const found = new Float64Array(n * rank);
  const lengths = new Float64Array(n);
  for (let j = 0; j < n; j++) {
    lengths[j] = Math.sqrt(dot(pool, j * E, pool, j * E, E));
    for (let i = 0; i < rank; i++) found[j * rank + i] = dot(pool, j * E, span, i * E, E);
  }
  return { texts: found, lengths };
};

/** M @ x. @param {Float64Array} matrix @param {Float64Array} x @param {number} n */
const times = (matrix, x, n) => Float64Array.from({ length: n }, (_, i) => dot(matrix, i * n, x, 0, n));

/**
 * The greedy search: order [n_texts], and the share of the variance that each text adds.
 * With q the unit residual chosen and t = S q - (q.S q) q / 2, the score of text x falls by 2 (x.q)(x.t).
 * @param {Float64Array} texts [text, rank]
 * @param {Float64Array} lengths
 * @param {Float64Array} covariance [rank, rank]
 * @param {number} n_texts
 */
export const greedy = (texts, lengths, covariance, n_texts) => {
  const rank = Math.sqrt(covariance.length);
  const n = lengths.length;
  const left = Float64Array.from(covariance);
  const scores = new Float64Array(n);
  /** @type {Float64Array[]} */
  const directions = [];
  const gone = new Uint8Array(n);
  const used = new Uint8Array(n);
  const order = [];
  const gains = [];
  const floor = lengths.map((length) => NOTHING_LEFT * length);
  let total = 0;
  for (let i = 0; i < rank; i++) total += covariance[i * rank + i];
  const residual = (/** @type {number} */ j) => {
    const x = texts.slice(j * rank, (j + 1) * rank);
    for (let pass = 0; pass < 2; pass++)
      for (const q of directions) {
        const along = dot(x, 0, q, 0, rank);
        for (let k = 0; k < rank; k++) x[k] -= along * q[k];
      }
    return x;
  };
  for (let j = 0; j < n; j++) {
    const x = texts.subarray(j * rank, (j + 1) * rank);
    for (let i = 0; i < rank; i++) scores[j] += x[i] * dot(left, i * rank, x, 0, rank);
    if (Math.sqrt(dot(x, 0, x, 0, rank)) <= floor[j]) used[j] = 1;
  }
  while (order.length < n_texts) {
    let best = -1;
    let x = new Float64Array(rank);
    let length = 0;
    for (;;) {
      best = -1;
      for (let j = 0; j < n; j++)
        if (!gone[j] && !used[j] && (best < 0 || scores[j] > scores[best])) best = j;
      if (best < 0) break;
      x = residual(best);
      length = Math.sqrt(dot(x, 0, x, 0, rank));
      if (length > floor[best]) break;
      used[best] = 1;
    }
    if (best < 0) {
      // all texts are used up: take the first of the others
      best = gone.indexOf(0);
      gone[best] = 1;
      order.push(best);
      gains.push(0);
      continue;
    }
    const q = x.map((value) => value / length);
    const seen = times(left, q, rank);
    const along = dot(q, 0, seen, 0, rank);
    const t = seen.map((value, k) => value - (along * q[k]) / 2);
    for (let j = 0; j < n; j++)
      scores[j] -= 2 * dot(texts, j * rank, q, 0, rank) * dot(texts, j * rank, t, 0, rank);
    for (let i = 0; i < rank; i++)
      for (let k = 0; k < rank; k++) left[i * rank + k] -= q[i] * t[k] + t[i] * q[k];
    gains.push(dot(q, 0, times(covariance, q, rank), 0, rank) / total);
    directions.push(q);
    gone[best] = 1;
    order.push(best);
  }
  let usedUp = 0;
  for (let j = 0; j < n; j++)
    if (!gone[j]) {
      const x = residual(j);
      usedUp += Number(Math.sqrt(dot(x, 0, x, 0, rank)) <= floor[j]);
    }
  return { order, gains, usedUp };
};

/** A random rotation of a space. @param {number} rank @param {() => number} normal */
const rotation = (rank, normal) =>
  orthonormal(Float64Array.from({ length: rank * rank }, normal), rank, rank);

/**
 * TextSpan of one head over images, with its null: the same search when the data are rotated at random in the span.
 * @param {import("./collection.js").Collection} collection
 * @param {Float32Array} pool [text, d_embed]
 * @param {number} layer
 * @param {number} head
 * @param {{ n_texts?: number, n_draws?: number, images?: number[], seed?: number }} [asked]
 */
export const textspan = (
  collection,
  pool,
  layer,
  head,
  { n_texts = 10, n_draws = 20, images, seed = 0 } = {},
) => {
  const { rank, span, variances, varies } = headSpan(collection, layer, head, images);
  const { texts, lengths } = inSpan(pool, span, rank);
  const wanted = Math.min(n_texts, lengths.length, rank, collection.tower.facts.d_code);
  const diagonal = new Float64Array(rank * rank);
  for (let i = 0; i < rank; i++) diagonal[i * rank + i] = variances[i];
  const found = greedy(texts, lengths, diagonal, wanted);
  const normal = gaussian(random(seed));
  const nulls = [];
  for (let draw = 0; draw < n_draws; draw++) {
    const turn = rotation(rank, normal);
    const rotated = new Float64Array(rank * rank); // R^T S R with orthonormal rows R
    for (let k = 0; k < rank; k++)
      for (let i = 0; i < rank; i++) {
        const x = variances[k] * turn[k * rank + i];
        for (let j = 0; j < rank; j++) rotated[i * rank + j] += x * turn[k * rank + j];
      }
    nulls.push(greedy(texts, lengths, rotated, wanted).gains);
  }
  return { ...found, nulls, rank, varies };
};

/**
 * Share of a head's variance that lies along each unit direction.
 * @param {import("./collection.js").Collection} collection
 * @param {number} layer
 * @param {number} head
 * @param {Float64Array[]} directions
 */
export const varianceAlong = (collection, layer, head, directions) => {
  const { tower } = collection;
  const { d_code, d_embed: E } = tower.facts;
  const width = d_code + 2;
  const map = tower.linear(layer, head);
  const { covariance } = collection.moments(layer, head);
  const along = (/** @type {Float64Array} */ x) => dot(x, 0, times(covariance, x, width), 0, width);
  let total = 0; // tr A^T C A
  for (let i = 0; i < width; i++)
    for (let j = 0; j < width; j++) {
      const c = covariance[i * width + j];
      if (c !== 0) total += c * dot(map, i * E, map, j * E, E);
    }
  return directions.map(
    (t) =>
      along(Float64Array.from({ length: width }, (_, row) => dot(map, row * E, t, 0, E))) /
      Math.max(total, 1e-30),
  );
};

/**
 * A text's unit direction after subtracting the mean of the pool.
 * @param {ArrayLike<number>} direction
 * @param {Float64Array} mean
 */
export const apart = (direction, mean) => unit(Float64Array.from(direction, (x, k) => x - mean[k]));

/** The mean of a pool's directions. @param {Float32Array} pool @param {number} d_embed */
export const meanOf = (pool, d_embed) => {
  const mean = new Float64Array(d_embed);
  const n = pool.length / d_embed;
  for (let at = 0; at < pool.length; at++) mean[at % d_embed] += pool[at] / n;
  return mean;
};
