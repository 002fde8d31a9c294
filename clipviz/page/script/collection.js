// The published images as head codes, and the linear questions that they answer: likeness, search, ablation,
// accuracy.

import { dot, norm, ranked, unit } from "./numbers.js";

/** @typedef {import("./tower.js").Tower} Tower @typedef {import("./tower.js").Trace} Trace */
/**
 * @typedef {{ heads: number[][], layers: number[], mlps: number[], tokens: number[], how: "mean" | "zero" }}
 *   Ablation
 */

/** Whether an ablation removes heads or MLPs. @param {Ablation} ablation */
export const removes = ({ heads, layers, mlps }) => Boolean(heads.length || layers.length || mlps.length);

export class Collection {
  /**
   * @param {Tower} tower
   * @param {{ codes: Float32Array, mean: Float32Array, std: Float32Array, embedding: Float32Array }} arrays
   *   codes [image, layer, head, d_code]
   */
  constructor(tower, arrays) {
    this.tower = tower;
    this.codes = arrays.codes;
    this.mean = arrays.mean;
    this.std = arrays.std;
    this.embedding = arrays.embedding;
    this.n_published = this.std.length;
    // Every statistic is taken over these.
    this.published = Array.from({ length: this.n_published }, (_, i) => i);
    /** @type {Trace[]} pictures that were added here, after the published ones */
    this.added = [];
    /** @type {Map<string, any>} */
    this.known = new Map();
  }

  get n() {
    return this.n_published + this.added.length;
  }

  /** One more image at the end; its place. @param {Trace} trace */
  add(trace) {
    this.added.push(trace);
    return this.n - 1;
  }

  /**
   * What is linear of one image: its codes and statistics, as a trace has them.
   * @param {number} image
   * @returns {Trace}
   */
  one(image) {
    if (image >= this.n_published) return this.added[image - this.n_published];
    const { n_layers: L, n_heads: H, d_code, d_embed: E } = this.tower.facts;
    const size = L * H * d_code;
    return {
      codes: this.codes.subarray(image * size, (image + 1) * size),
      embedding: this.embedding.subarray(image * E, (image + 1) * E),
      mean: this.mean.subarray(image, image + 1),
      std: this.std.subarray(image, image + 1),
    };
  }

  /**
   * v of one head for some images, [image, d_code + 2].
   * @param {number} layer
   * @param {number} head
   * @param {number[]} images
   */
  augmented(layer, head, images) {
    const { n_heads: H, d_code } = this.tower.facts;
    const width = d_code + 2;
    const found = new Float64Array(images.length * width);
    images.forEach((image, row) => {
      const one = this.one(image);
      this.tower.augmented(
        found,
        row * width,
        one.codes,
        (layer * H + head) * d_code,
        one.mean[0],
        one.std[0],
      );
    });
    return found;
  }

  /**
   * Mean and population covariance of v of one head.
   * @param {number} layer
   * @param {number} head
   * @param {number[]} [images]
   */
  moments(layer, head, images = this.published) {
    const width = this.tower.facts.d_code + 2;
    const v = this.augmented(layer, head, images);
    const n = images.length;
    const mean = new Float64Array(width);
    const covariance = new Float64Array(width * width);
    for (let row = 0; row < n; row++) for (let k = 0; k < width; k++) mean[k] += v[row * width + k] / n;
    const centred = new Float64Array(width);
    for (let row = 0; row < n; row++) {
      for (let k = 0; k < width; k++) centred[k] = v[row * width + k] - mean[k];
      for (let i = 0; i < width; i++) {
        const x = centred[i] / n;
        if (x !== 0) for (let j = 0; j < width; j++) covariance[i * width + j] += x * centred[j];
      }
    }
    return { mean, covariance };
  }

  /** A head's mean effect, [d_embed]. @param {number} layer @param {number} head */
  meanEffect(layer, head) {
    const key = `mean ${layer},${head}`;
    if (!this.known.has(key))
      this.known.set(key, this.tower.effectOf(this.moments(layer, head).mean, 0, layer, head));
    return /** @type {Float64Array} */ (this.known.get(key));
  }

  /** The mean of all that is not a head's: the embedding minus every head effect. */
  meanRest() {
    if (!this.known.has("rest")) {
      const { n_layers: L, n_heads: H, d_embed: E } = this.tower.facts;
      const found = new Float64Array(E);
      for (let i = 0; i < this.n_published; i++)
        for (let k = 0; k < E; k++) found[k] += this.embedding[i * E + k] / this.n_published;
      for (let layer = 0; layer < L; layer++)
        for (let head = 0; head < H; head++) this.meanEffect(layer, head).forEach((x, k) => (found[k] -= x));
      this.known.set("rest", found);
    }
    return /** @type {Float64Array} */ (this.known.get("rest"));
  }

  /** The heads that an ablation removes, in order. @param {Ablation} ablation @returns {number[][]} */
  removed(ablation) {
    const { n_layers: L, n_heads: H } = this.tower.facts;
    const gone = new Set(ablation.heads.map(String));
    const found = [];
    for (let layer = 0; layer < L; layer++)
      for (let head = 0; head < H; head++)
        if (ablation.layers.includes(layer) || gone.has(`${layer},${head}`)) found.push([layer, head]);
    return found;
  }

  /**
   * One image after an ablation: its embedding, the replacement of each removed head, and of all else (null: it
   * stays).
   * @param {number} image
   * @param {Ablation} ablation
   */
  left(image, ablation) {
    const one = this.one(image);
    const { n_layers: L, n_heads: H, d_embed: E } = this.tower.facts;
    const zero = ablation.how === "zero";
    const heads = this.removed(ablation);
    const embedding = Float64Array.from(one.embedding);
    const rest = ablation.mlps.length ? (zero ? new Float64Array(E) : this.meanRest()) : null;
    const instead = heads.map(([layer, head]) => (zero ? new Float64Array(E) : this.meanEffect(layer, head)));
    heads.forEach(([layer, head], i) =>
      this.tower.headEffect(one, layer, head).forEach((x, k) => (embedding[k] += instead[i][k] - x)),
    );
    if (rest) {
      const own = Float64Array.from(one.embedding);
      for (let layer = 0; layer < L; layer++)
        for (let head = 0; head < H; head++)
          this.tower.headEffect(one, layer, head).forEach((x, k) => (own[k] -= x));
      for (let k = 0; k < E; k++) embedding[k] += rest[k] - own[k];
    }
    return { embedding, norm: Math.max(norm(embedding), 1e-12), heads, instead, rest };
  }

  /**
   * Embeddings of every image after an ablation, [image][d_embed]; the newest ablation's are kept.
   * @param {Ablation} ablation
   * @returns {Float64Array[]}
   */
  after(ablation) {
    const key = JSON.stringify([ablation, this.n]);
    if (this.known.get("after")?.key !== key)
      this.known.set("after", {
        key,
        found: Array.from({ length: this.n }, (_, i) => this.afterOne(i, ablation)),
      });
    return this.known.get("after").found;
  }

  /** One image's embedding after an ablation. @param {number} image @param {Ablation} ablation */
  afterOne(image, ablation) {
    const any = ablation.heads.length || ablation.layers.length || ablation.mlps.length;
    return any ? this.left(image, ablation).embedding : Float64Array.from(this.one(image).embedding);
  }

  /**
   * Cosine of every image with a direction.
   * @param {ArrayLike<number>} direction
   * @param {Ablation} ablation
   */
  cosines(direction, ablation) {
    const t = Float64Array.from(direction);
    return this.after(ablation).map(
      (embedding) => dot(embedding, 0, t, 0, t.length) / (norm(embedding) || 1),
    );
  }

  /** Similarity of every image to one under the whole model. @param {number} image */
  likeness(image) {
    const own = unit(this.one(image).embedding);
    return Array.from({ length: this.n }, (_, i) => {
      const { embedding } = this.one(i);
      return dot(embedding, 0, own, 0, own.length) / (norm(embedding) || 1);
    });
  }

  /**
   * Similarity to one image under one head: the cosine of its effects, or their product.
   * @param {number} image
   * @param {number} layer
   * @param {number} head
   * @param {"cosine" | "product"} by
   */
  likenessUnder(image, layer, head, by) {
    const effects = Array.from({ length: this.n }, (_, i) => this.tower.headEffect(this.one(i), layer, head));
    const own = effects[image];
    return effects.map(
      (effect) => dot(effect, 0, own, 0, own.length) / (by === "cosine" ? norm(effect) * norm(own) || 1 : 1),
    );
  }

  /**
   * Effect of one head on a direction for every image.
   * @param {ArrayLike<number>} direction
   * @param {number} layer
   * @param {number} head
   */
  headScores(direction, layer, head) {
    const { d_code, d_embed: E } = this.tower.facts;
    const map = this.tower.linear(layer, head);
    const t = Float64Array.from(direction);
    const width = d_code + 2;
    const reader = Float64Array.from({ length: width }, (_, row) => dot(map, row * E, t, 0, E));
    const constant = dot(this.tower.arrays.constant, 0, t, 0, E) / this.tower.shares;
    const images = Array.from({ length: this.n }, (_, i) => i);
    const v = this.augmented(layer, head, images);
    return images.map((_, row) => dot(v, row * width, reader, 0, width) + constant);
  }

  /** Images by falling score. @param {number[]} scores @param {number} [k] @returns {[number, number][]} */
  best(scores, k = scores.length) {
    return ranked(scores, k).map((i) => [i, scores[i]]);
  }
}

/**
 * The class of highest cosine for each embedding.
 * @param {Float64Array[]} embeddings
 * @param {Float32Array} classes [class, d_embed]
 */
export const predictions = (embeddings, classes) =>
  embeddings.map((embedding) => {
    const E = embedding.length;
    const logits = Array.from({ length: classes.length / E }, (_, c) => dot(embedding, 0, classes, c * E, E));
    return ranked(logits, 1)[0];
  });

/**
 * Top-1 accuracy of embeddings, in all and by group; images labelled -1 do not count.
 * @param {Float64Array[]} embeddings
 * @param {Float32Array} classes [class, d_embed]
 * @param {number[]} labels
 * @param {string[]} groups
 */
export const accuracy = (embeddings, classes, labels, groups) => {
  const found = predictions(embeddings, classes);
  /** @type {Map<string, [number, number]>} */
  const byGroup = new Map();
  let right = 0;
  let n = 0;
  labels.forEach((label, i) => {
    if (label < 0) return;
    const hit = Number(found[i] === label);
    const group = byGroup.get(groups[i] ?? "") ?? [0, 0];
    byGroup.set(groups[i] ?? "", [group[0] + hit, group[1] + 1]);
    right += hit;
    n += 1;
  });
  return {
    top1: n ? right / n : 0,
    n,
    groups: Object.fromEntries([...byGroup].map(([name, [hits, all]]) => [name, [hits / all, all]])),
  };
};
