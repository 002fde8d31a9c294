// Class scores of the image after any removal: sums of what the kernel sent once.

import { headKey } from "../kit/grid.js";
import { unpack } from "../kit/protocol.js";

/** @import { Removed } from "./removed.js" */

/**
 * The image's class scores after any removal: sums of what the kernel sent once.
 * @param {AblateApi} api
 * @param {Removed} removed
 */
export const bench = (api, removed) => {
  /** @type {any} */
  let D = null;
  /** @type {number | null} */
  let key = null;
  /** @param {Float64Array} values */
  const ranked = (values) => [...values.keys()].sort((a, b) => values[b] - values[a]);
  /** @param {boolean[]} out @param {Float32Array} logits @param {Float32Array} norm */
  const after = (out, logits, norm) => {
    const { names, scale, bias } = D;
    const side = removed.how;
    const terms = D[`terms_${side}`];
    const gram = D[`gram_${side}`];
    const cross = D[`cross_${side}`];
    const n = cross.length;
    const C = names.length;
    const found = Float64Array.from(logits);
    const set = [];
    for (let j = 0; j < n; j++) if (out[j]) set.push(j);
    let squared = norm[0];
    for (const j of set) {
      for (let c = 0; c < C; c++) found[c] -= terms[j * C + c];
      squared -= 2 * cross[j];
      for (const k of set) squared += gram[j * n + k];
    }
    if (squared <= 1e-9 * norm[0]) return null;
    const cosines = found.map((value) => value / Math.sqrt(squared));
    if (bias !== null)
      return { cosines, probabilities: cosines.map((value) => 1 / (1 + Math.exp(-(scale * value + bias)))) };
    const top = cosines.reduce((a, b) => Math.max(a, b), -Infinity);
    const weights = cosines.map((value) => Math.exp(scale * (value - top)));
    const total = weights.reduce((a, b) => a + b, 0);
    return { cosines, probabilities: weights.map((w) => w / total) };
  };
  const now = () => {
    const singles = Array.from(
      { length: D.apart ? api.view.n_mlps : 0 },
      (_, mlp) => !removed.rest && removed.mlps.has(mlp),
    );
    return after(
      [
        ...D.heads.map((/** @type {[number, number]} */ [l, hd]) => removed.heads.has(headKey(l, hd))),
        removed.rest,
        ...singles,
      ],
      D[`logits_${removed.how}`],
      D[`squared_norm_${removed.how}`],
    );
  };
  // Whether something removed is not on screen yet because the kernel traces images for it.
  const lacks = () => removed.token !== D.token || (removed.mlps.size > 0 && !removed.rest && !D.apart);
  // What a term adds to the lead of the first class over the second, in units of the cosine.
  /** @param {number} j */
  const lead = (j) => {
    const terms = D[`terms_${removed.how}`];
    const C = D.names.length;
    return (terms[j * C + D.first] - terms[j * C + D.second]) / Math.sqrt(D.squared_norm[0]);
  };
  /** @param {AblateView} view */
  const load = (view) => {
    if (!view.desk) {
      D = key = null;
      return false;
    }
    if (key === view.desk.key) return false;
    key = view.desk.key;
    D = { ...view.desk, ...unpack(view.desk.arrays, api.model.get("desk")) };
    D.before = after([], D.logits, D.squared_norm);
    const order = ranked(D.before.cosines);
    [D.first, D.second] = [order[0], order[1] ?? order[0]];
    D.places = new Map(
      D.heads.map((/** @type {[number, number]} */ [l, hd], /** @type {number} */ i) => [headKey(l, hd), i]),
    );
    return true;
  };
  return {
    load,
    now,
    lacks,
    lead,
    ranked,
    get data() {
      return D;
    },
  };
};

/** @typedef {ReturnType<typeof bench>} Bench */
