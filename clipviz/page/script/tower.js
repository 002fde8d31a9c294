// Direct effects of heads, MLPs and tokens from the taps of one forward pass. The equations are those of the
// Python
// lenses (thesis Eq. 2.4-2.6), factored: a text goes back through the readout once, and no token has a vector
// of its own.

import { dot, norm } from "./numbers.js";

/**
 * @typedef {object} Facts sizes and shares of a tower
 * @property {number} n_layers
 * @property {number} n_heads
 * @property {number} d_head
 * @property {number} d_model
 * @property {number} d_embed
 * @property {number} d_code
 * @property {number} n_readout readout heads
 * @property {number} n_tallies
 * @property {number} n_tokens
 * @property {number} prefix tokens without a place
 * @property {[number, number]} grid
 * @property {number} n_terms
 * @property {number} mlp_share
 * @property {boolean} post_norm
 * @property {string} kind
 * @property {boolean} pools
 * @property {boolean} has_tail
 * @property {[number, number]} image_size
 *
 * @typedef {Record<string, Float32Array>} Trace the network's outputs for one picture, by the name of the tap
 *
 * @typedef {object} Reading a direction, brought back through the readout
 * @property {Float64Array} direction
 * @property {Float64Array} back [readout_head, d_model]
 * @property {Float64Array} readers [layer, head, readout_head, d_head]
 * @property {Float64Array} told [layer, tally] what one unit of a tally writes along the direction, of a
 *   whole layer
 * @property {Float64Array} plain [layer] the output bias along it, of a whole layer, where no tally reads it
 * @property {number} mean
 * @property {number} bias
 * @property {number} constant
 */

export class Tower {
  /** @param {Facts} facts @param {Record<string, Float32Array>} arrays */
  constructor(facts, arrays) {
    this.facts = facts;
    this.arrays = arrays;
    this.n_values = facts.d_code - facts.n_tallies; // of a head code, before its tallies
    this.shares = facts.n_terms * facts.n_heads;
    this.meanMatrix = this.#columnSums();
    /** @type {Map<number, Float32Array>} */
    this.maps = new Map();
  }

  /** The vector by which the readout's mean is multiplied, [d_embed]. */
  #columnSums() {
    const { d_embed: E } = this.facts;
    const { matrices } = this.arrays;
    const sums = new Float64Array(E);
    for (let at = 0; at < matrices.length; at += E) for (let k = 0; k < E; k++) sums[k] += matrices[at + k];
    return sums;
  }

  /** @param {ArrayLike<number>} direction [d_embed] @returns {Reading} */
  reading(direction) {
    const {
      n_layers: L,
      n_heads: H,
      d_head: e,
      d_model: D,
      d_embed: E,
      n_readout: P,
      n_tallies,
      post_norm,
    } = this.facts;
    const { matrices, output, output_bias: own, scaled_bias: scaled, bias, constant } = this.arrays;
    const t = Float64Array.from(direction);
    const back = new Float64Array(P * D);
    const readers = new Float64Array(L * H * P * e);
    for (let row = 0; row < P * D; row++) back[row] = dot(matrices, row * E, t, 0, E);
    for (let head = 0; head < L * H; head++)
      for (let p = 0; p < P; p++)
        for (let k = 0; k < e; k++)
          readers[(head * P + p) * e + k] = dot(output, (head * e + k) * D, back, p * D, D);
    const told = new Float64Array(L * n_tallies);
    const plain = new Float64Array(L);
    for (let layer = 0; layer < L; layer++) {
      const biases = [...(P > 1 ? [own] : []), ...(post_norm ? [scaled] : [])];
      biases.forEach((array, i) => {
        for (let p = 0; p < P; p++)
          told[layer * n_tallies + i * P + p] = dot(array, layer * D, back, p * D, D);
      });
      if (P === 1) plain[layer] = dot(own, layer * D, back, 0, D);
    }
    return {
      direction: t,
      back,
      readers,
      told,
      plain,
      mean: dot(this.meanMatrix, 0, t, 0, E),
      bias: dot(bias, 0, t, 0, E),
      constant: dot(constant, 0, t, 0, E),
    };
  }

  /**
   * Direct effect of every head on a direction, [layer, head], unnormalised.
   * @param {Trace} trace
   * @param {Reading} reading
   */
  headEffects(trace, reading) {
    const { n_layers: L, n_heads: H, n_tallies, d_code } = this.facts;
    const n = this.n_values;
    const [mean, std] = [trace.mean[0], trace.std[0]];
    const found = new Float64Array(L * H);
    for (let layer = 0; layer < L; layer++)
      for (let head = 0; head < H; head++) {
        const one = layer * H + head;
        const at = one * d_code;
        const told = n_tallies ? dot(trace.codes, at + n, reading.told, layer * n_tallies, n_tallies) : 0;
        const write = dot(trace.codes, at, reading.readers, one * n, n) + (told + reading.plain[layer]) / H;
        found[one] =
          (write + (reading.bias - mean * reading.mean) / this.shares) / std + reading.constant / this.shares;
      }
    return found;
  }

  /**
   * Direct effect of the input term, of each MLP, and of the tail where there is one.
   * @param {Trace} trace
   * @param {Reading} reading
   */
  mlpEffects(trace, reading) {
    const { n_layers: L, n_readout: P, d_model: D, d_embed: E, mlp_share: share, has_tail } = this.facts;
    const [mean, std] = [trace.mean[0], trace.std[0]];
    const found = new Float64Array(1 + L + Number(has_tail));
    for (let term = 0; term <= L; term++) {
      const write = dot(trace.writes, term * P * D, reading.back, 0, P * D);
      found[term] = (write + share * (reading.bias - mean * reading.mean)) / std + share * reading.constant;
    }
    if (has_tail) found[1 + L] = dot(trace.tail, 0, reading.direction, 0, E);
    return found;
  }

  /**
   * Direct effect of every token through every head, [layer, head, token], unnormalised.
   * @param {Trace} trace
   * @param {Reading} reading
   */
  tokenScores(trace, reading) {
    const { n_layers: L, n_heads: H, d_head: e, n_readout: P, n_tokens: T, n_tallies, d_code } = this.facts;
    const { values, paths, codes } = trace;
    const [mean, std] = [trace.mean[0], trace.std[0]];
    const found = new Float64Array(L * H * T);
    const n = this.n_values;
    const share = (reading.bias - mean * reading.mean) / (this.shares * T);
    const constant = reading.constant / (this.shares * T);
    for (let layer = 0; layer < L; layer++)
      for (let head = 0; head < H; head++) {
        const one = layer * H + head;
        const told = n_tallies ? dot(codes, one * d_code + n, reading.told, layer * n_tallies, n_tallies) : 0;
        const even = (told + reading.plain[layer]) / (H * T) + share;
        for (let s = 0; s < T; s++) {
          const at = ((layer * T + s) * H + head) * e;
          let sum = 0;
          for (let p = 0; p < P; p++)
            sum += paths[(one * P + p) * T + s] * dot(values, at, reading.readers, (one * P + p) * e, e);
          found[one * T + s] = (sum + even) / std + constant;
        }
      }
    return found;
  }

  /**
   * Effect of each final token as the pool reads it, [token], unnormalised.
   * @param {Trace} trace
   * @param {Reading} reading
   */
  poolScores(trace, reading) {
    const { n_readout: P, n_tokens: T, d_model: D } = this.facts;
    const { final, reads } = trace;
    const std = trace.std[0];
    const found = new Float64Array(T);
    const sums = Float64Array.from({ length: P }, (_, p) => {
      let sum = 0;
      for (let k = 0; k < D; k++) sum += reading.back[p * D + k];
      return sum;
    });
    for (let q = 0; q < T; q++) {
      let mean = 0;
      let sum = 0;
      for (let k = 0; k < D; k++) mean += final[q * D + k] / D;
      for (let p = 0; p < P; p++)
        sum += reads[p * T + q] * (dot(final, q * D, reading.back, p * D, D) - mean * sums[p]);
      found[q] = (sum + reading.bias / T) / std + reading.constant / T;
    }
    return found;
  }

  /** The share of each token in what is read through a head, [layer, head, token]. @param {Trace} trace */
  attention({ paths }) {
    const { n_layers: L, n_heads: H, n_readout: P, n_tokens: T } = this.facts;
    const found = new Float64Array(L * H * T);
    for (let one = 0; one < L * H; one++) {
      let total = 0;
      for (let p = 0; p < P; p++)
        for (let s = 0; s < T; s++) {
          const path = paths[(one * P + p) * T + s];
          found[one * T + s] += path;
          total += path;
        }
      for (let s = 0; s < T; s++) found[one * T + s] /= total;
    }
    return found;
  }

  /**
   * Scores with one entry, the first, for all tokens without a place, and those of the grid.
   * @param {Float64Array} scores [rows, token]
   */
  onePlaceless(scores) {
    const { prefix, n_tokens: T } = this.facts;
    const shown = T - prefix + 1;
    const rows = scores.length / T;
    const found = new Float32Array(rows * shown);
    for (let row = 0; row < rows; row++) {
      let sum = 0;
      for (let s = 0; s < prefix; s++) sum += scores[row * T + s];
      found[row * shown] = sum;
      for (let s = prefix; s < T; s++) found[row * shown + s - prefix + 1] = scores[row * T + s];
    }
    return found;
  }

  /**
   * A head effect is v @ A + k with v = [code / std, 1 / std, mean / std] and k the head's share of the
   * constant: A
   * [d_code + 2, d_embed], made once a head. @param {number} layer @param {number} head
   */
  linear(layer, head) {
    const one = layer * this.facts.n_heads + head;
    const known = this.maps.get(one);
    if (known) return known;
    const { n_heads: H, d_head: e, d_model: D, d_embed: E, n_readout: P, d_code, post_norm } = this.facts;
    const { matrices, output, output_bias: own, scaled_bias: scaled, bias } = this.arrays;
    const made = new Float64Array((d_code + 2) * E);
    /**
     * adds vector @ matrices[p], times a factor, to a row
     * @param {number} row
     * @param {Float32Array} vector
     * @param {number} at
     * @param {number} p
     * @param {number} factor
     */
    const write = (row, vector, at, p, factor) => {
      for (let d = 0; d < D; d++) {
        const x = factor * vector[at + d];
        const from = (p * D + d) * E;
        const to = row * E;
        if (x !== 0) for (let k = 0; k < E; k++) made[to + k] += x * matrices[from + k];
      }
    };
    for (let p = 0; p < P; p++) for (let k = 0; k < e; k++) write(p * e + k, output, (one * e + k) * D, p, 1);
    const biases = [...(P > 1 ? [own] : []), ...(post_norm ? [scaled] : [])];
    biases.forEach((array, i) => {
      for (let p = 0; p < P; p++) write(this.n_values + i * P + p, array, layer * D, p, 1 / H);
    });
    if (P === 1) write(d_code, own, layer * D, 0, 1 / H);
    for (let k = 0; k < E; k++) {
      made[d_code * E + k] += bias[k] / this.shares;
      made[(d_code + 1) * E + k] = -this.meanMatrix[k] / this.shares;
    }
    const kept = Float32Array.from(made);
    this.maps.set(one, kept);
    return kept;
  }

  /**
   * A head's effect on one image as a vector [d_embed], unnormalised; codes as in a trace.
   * @param {Trace} trace
   * @param {number} layer
   * @param {number} head
   */
  headEffect(trace, layer, head) {
    const { n_heads: H, d_code } = this.facts;
    const v = new Float64Array(d_code + 2);
    this.augmented(v, 0, trace.codes, (layer * H + head) * d_code, trace.mean[0], trace.std[0]);
    return this.effectOf(v, 0, layer, head);
  }

  /**
   * v of one head of one image.
   * @param {Float64Array} v
   * @param {number} at
   * @param {Float32Array} codes
   * @param {number} from
   * @param {number} mean
   * @param {number} std
   */
  augmented(v, at, codes, from, mean, std) {
    const { d_code } = this.facts;
    for (let k = 0; k < d_code; k++) v[at + k] = codes[from + k] / std;
    v[at + d_code] = 1 / std;
    v[at + d_code + 1] = mean / std;
  }

  /** v @ A + k. @param {Float64Array} v @param {number} at @param {number} layer @param {number} head */
  effectOf(v, at, layer, head) {
    const { d_code, d_embed: E } = this.facts;
    const map = this.linear(layer, head);
    const { constant } = this.arrays;
    const found = Float64Array.from({ length: E }, (_, k) => constant[k] / this.shares);
    for (let row = 0; row < d_code + 2; row++) {
      const x = v[at + row];
      if (x !== 0) for (let k = 0; k < E; k++) found[k] += x * map[row * E + k];
    }
    return found;
  }

  /**
   * Largest relative difference between the summed effects and the network's own embedding, along axes.
   * @param {Trace} trace
   */
  sumCheck(trace) {
    const {
      n_layers: L,
      n_heads: H,
      d_embed: E,
      n_readout: P,
      d_model: D,
      mlp_share: share,
      has_tail,
    } = this.facts;
    const { matrices, bias, constant } = this.arrays;
    const [mean, std] = [trace.mean[0], trace.std[0]];
    const total = new Float64Array(E);
    const { output, output_bias: own, scaled_bias: scaled } = this.arrays;
    const written = new Float64Array(P * D);
    for (let term = 0; term <= L; term++)
      for (let k = 0; k < P * D; k++) written[k] += trace.writes[term * P * D + k];
    for (let layer = 0; layer < L; layer++)
      for (let head = 0; head < H; head++) this.#write(written, trace, layer, head, output, own, scaled);
    for (let row = 0; row < P * D; row++)
      for (let k = 0; k < E; k++) total[k] += written[row] * matrices[row * E + k];
    const whole = (L * H) / this.shares + (1 + L) * share; // 1, whichever terms the shares are taken by
    let difference = 0;
    for (let k = 0; k < E; k++) {
      const sum =
        (total[k] + whole * (bias[k] - mean * this.meanMatrix[k])) / std +
        whole * constant[k] +
        (has_tail ? trace.tail[k] : 0);
      difference += (sum - trace.embedding[k]) ** 2;
    }
    return Math.sqrt(difference) / norm(trace.embedding);
  }

  /**
   * Adds what a head writes to the residual stream as the readout reads it.
   * @param {any} written
   * @param {any} trace
   * @param {number} layer
   * @param {number} head
   * @param {any} output
   * @param {any} own
   * @param {any} scaled
   */
  #write(written, trace, layer, head, output, own, scaled) {
    const { n_heads: H, d_head: e, d_model: D, n_readout: P, d_code, post_norm } = this.facts;
    const one = layer * H + head;
    const at = one * d_code;
    for (let p = 0; p < P; p++) {
      for (let k = 0; k < e; k++) {
        const u = trace.codes[at + p * e + k];
        const from = (one * e + k) * D;
        for (let d = 0; d < D; d++) written[p * D + d] += u * output[from + d];
      }
      const read = P > 1 ? trace.codes[at + this.n_values + p] : 1;
      const wide = post_norm ? trace.codes[at + this.n_values + (P > 1 ? P : 0) + p] : 0;
      for (let d = 0; d < D; d++)
        written[p * D + d] +=
          (read * own[layer * D + d] + (post_norm ? wide * scaled[layer * D + d] : 0)) / H;
    }
  }
}
