// Small linear algebra in double precision, on flat arrays row by row.

/** @typedef {Float32Array | Float64Array} Numbers */

/**
 * The product of a part of two arrays.
 * @param {Numbers} a
 * @param {number} i
 * @param {Numbers} b
 * @param {number} j
 * @param {number} n
 */
export const dot = (a, i, b, j, n) => {
  let sum = 0;
  for (let k = 0; k < n; k++) sum += a[i + k] * b[j + k];
  return sum;
};

/** @param {Numbers} a */
export const norm = (a) => Math.sqrt(dot(a, 0, a, 0, a.length));

/** A copy of unit length. @param {Numbers} a */
export const unit = (a) => {
  const length = norm(a) || 1;
  return Float64Array.from(a, (x) => x / length);
};

/**
 * Indices by falling value; equal ones as they come.
 * @param {ArrayLike<number>} values
 * @param {number} [k]
 */
export const ranked = (values, k = values.length) =>
  Array.from({ length: values.length }, (_, i) => i)
    .sort((a, b) => values[b] - values[a] || a - b)
    .slice(0, k);

/** Half precision to float32. @param {Uint16Array} halves */
export const fromHalves = (halves) => {
  const found = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) {
    const h = halves[i];
    const sign = h & 0x8000 ? -1 : 1;
    const exponent = (h >> 10) & 31;
    const fraction = h & 1023;
    found[i] =
      sign *
      (exponent === 31
        ? fraction
          ? NaN
          : Infinity
        : exponent
          ? (1 + fraction / 1024) * 2 ** (exponent - 15)
          : fraction * 2 ** -24);
  }
  return found;
};

/** Numbers that look random and are the same for a seed. @param {number} seed */
export const random = (seed) => {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let mixed = state;
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
  };
};

/** Normally distributed numbers. @param {() => number} uniform */
export const gaussian = (uniform) => () =>
  Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());

/**
 * Orthonormal rows that span those given, in order: rows = lower @ kept. A row that lies in the span of those
 * before it
 * becomes zero. Every row is made orthogonal twice, which is enough for double precision.
 * @param {Numbers} rows @param {number} n @param {number} width @returns {Float64Array}
 */
export const orthonormal = (rows, n, width) => {
  const kept = Float64Array.from(rows);
  for (let i = 0; i < n; i++) {
    const at = i * width;
    const before = Math.sqrt(dot(kept, at, kept, at, width));
    for (let pass = 0; pass < 2; pass++)
      for (let j = 0; j < i; j++) {
        const along = dot(kept, at, kept, j * width, width);
        for (let k = 0; k < width; k++) kept[at + k] -= along * kept[j * width + k];
      }
    const length = Math.sqrt(dot(kept, at, kept, at, width));
    const scale = length > 1e-13 * before && length > 0 ? 1 / length : 0;
    for (let k = 0; k < width; k++) kept[at + k] *= scale;
  }
  return kept;
};

/**
 * As few rows as it takes for rows^T rows to be a positive semidefinite matrix up to rounding, by Cholesky's method
 * with the largest remaining weight first: a covariance over few images has few.
 * @param {Numbers} matrix @param {number} n @param {Numbers} weights by which the remaining variances are compared
 */
export const factored = (matrix, n, weights) => {
  const left = Float64Array.from({ length: n }, (_, i) => matrix[i * n + i]);
  /** @type {Float64Array[]} */
  const rows = [];
  let first = 0;
  while (rows.length < n) {
    let at = 0;
    for (let i = 1; i < n; i++) if (left[i] * weights[i] > left[at] * weights[at]) at = i;
    first ||= left[at] * weights[at];
    if (!(left[at] * weights[at] > 1e-15 * first)) break;
    const row = Float64Array.from(matrix.subarray(at * n, (at + 1) * n));
    for (const before of rows) {
      const x = before[at];
      if (x !== 0) for (let k = 0; k < n; k++) row[k] -= x * before[k];
    }
    const scale = 1 / Math.sqrt(left[at]);
    for (let k = 0; k < n; k++) {
      row[k] *= scale;
      left[k] -= row[k] ** 2;
    }
    left[at] = 0;
    rows.push(row);
  }
  return rows;
};

/**
 * Eigenvalues, largest first, and eigenvectors as rows, of a symmetric matrix: Jacobi's rotations, sweep by
 * sweep, until what is off the diagonal has no weight. @param {Numbers} matrix @param {number} n
 */
export const eigen = (matrix, n) => {
  const a = Float64Array.from(matrix);
  const vectors = new Float64Array(n * n);
  for (let i = 0; i < n; i++) vectors[i * n + i] = 1;
  const total = dot(a, 0, a, 0, n * n);
  for (let sweep = 0; sweep < 60; sweep++) {
    let off = 0;
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) off += a[p * n + q] ** 2;
    if (off <= 1e-30 * total) break;
    for (let p = 0; p < n; p++)
      for (let q = p + 1; q < n; q++) {
        const apq = a[p * n + q];
        if (apq === 0) continue;
        const theta = (a[q * n + q] - a[p * n + p]) / (2 * apq);
        const t = Math.sign(theta || 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
        const c = 1 / Math.sqrt(t * t + 1);
        const s = t * c;
        for (let k = 0; k < n; k++) {
          const kp = a[k * n + p];
          const kq = a[k * n + q];
          a[k * n + p] = c * kp - s * kq;
          a[k * n + q] = s * kp + c * kq;
        }
        for (let k = 0; k < n; k++) {
          const pk = a[p * n + k];
          const qk = a[q * n + k];
          const vp = vectors[p * n + k];
          const vq = vectors[q * n + k];
          a[p * n + k] = c * pk - s * qk;
          a[q * n + k] = s * pk + c * qk;
          vectors[p * n + k] = c * vp - s * vq;
          vectors[q * n + k] = s * vp + c * vq;
        }
      }
  }
  const values = Float64Array.from({ length: n }, (_, i) => a[i * n + i]);
  const order = ranked(values);
  const rows = new Float64Array(n * n);
  order.forEach((from, to) => rows.set(vectors.subarray(from * n, (from + 1) * n), to * n));
  return { values: Float64Array.from(order, (i) => values[i]), vectors: rows };
};
