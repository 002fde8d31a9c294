// The map on screen, summed here: over heads and layers, A minus B, minus the mean text.

import { largest, mapLayer, maskScores } from "../kit/maps.js";

export const OURS = [
  ["effect", "Effect on the text"],
  ["centred", "Effect, mean text subtracted"],
  ["attention", "Class token’s attention"],
];

export const OURS_POOLED = [
  ["effect", "Where heads read from"],
  ["centred", "… mean text subtracted"],
  ["pool", "Where the pool reads"],
  ["attention", "Attention of heads and pool"],
];

export const BY_NEURONS = [
  ["neurons", "Neurons that write the text"],
  ["neuron", "The selected neuron"],
];

/** Whether the selected head is among those that are removed. @param {SelectionShown} selection */
const isRemoved = ({ layer, head, ablation }) =>
  ablation.layers.includes(layer) || ablation.heads.some(([l, at]) => l === layer && at === head);

/**
 * @typedef {object} Drawn a map, and how it is drawn
 * @property {Float32Array} values
 * @property {"signed" | "plain"} kind
 * @property {string} show
 * @property {boolean} gone whether the head whose map it is is removed
 * @property {number} limit
 * @property {number} largest
 * @property {number} floor
 */

/** @type {Record<string, string>} */
const MADE_OF = { effect: "scores", centred: "shared" };

/** The arrays by any name. @param {HeatmapArrays} arrays */
export const named = (arrays) => /** @type {Record<string, Float32Array | undefined>} */ (arrays);

/** @param {HeatmapApi} api the map on screen, summed here: over heads and layers, A minus B, minus the mean text */
export const mapMaker = (api) => {
  /** @returns {HeatmapOptions["show"][]} */
  const baselines = () => /** @type {any} */ (api.view.baselines ?? []);
  const name = () =>
    api.option("show") === "neuron" && api.view.selection.neuron === null ? "effect" : api.option("show");
  const isBaseline = () => Boolean(api.view.selection.text) && baselines().includes(name());
  const isNeurons = () => name() === "neuron" || (name() === "neurons" && Boolean(api.view.selection.text));
  // What one head writes at one token: effect on A (minus B, minus the mean text), or attention where there
  // is no text.
  const reader = () => {
    const { scores, shared, attention } = api.arrays;
    const { n_heads: H, rows, cols } = api.view;
    const T = rows * cols + 1;
    const show = name();
    const plain = show === "attention" || !scores;
    const a = plain ? attention : scores;
    const b = !plain && show === "centred" && !api.view.selection.text_b ? shared : null;
    /** @param {number} layer @param {number} head @param {number} i */
    const at = (layer, head, i) => {
      const j = (layer * H + head) * T + i;
      return a[j] - (b ? b[j] : 0);
    };
    return { at, plain };
  };
  /** @param {Float32Array} values @param {Drawn["kind"]} kind @param {string} show */
  const finish = (values, kind, show, gone = false) => ({
    values,
    kind,
    show,
    gone,
    limit: api.option("scale") ?? largest(values),
    largest: largest(values),
    floor:
      kind === "plain"
        ? Math.max(
            0,
            values.reduce((a, b) => Math.min(a, b), Infinity),
          )
        : 0,
  });
  const summed = () => {
    const { n_layers: L, n_heads: H, rows, cols, selection } = api.view;
    const scope = api.option("scope");
    const { at, plain } = reader();
    const values = new Float32Array(rows * cols);
    for (let layer = 0; layer < L; layer++)
      for (let head = 0; head < H; head++) {
        if (scope === "late" && layer < L - api.view.n_late) continue;
        if ((scope === "layer" || scope === "head") && selection.layer !== null && layer !== selection.layer)
          continue;
        if (scope === "head" && selection.head !== null && head !== selection.head) continue;
        for (let i = 0; i < values.length; i++) values[i] += at(layer, head, i + 1);
      }
    return finish(
      values,
      plain ? "plain" : "signed",
      plain
        ? "attention"
        : BY_NEURONS.some(([value]) => value === name()) || isBaseline()
          ? "effect"
          : name(),
      !plain && scope === "head" && isRemoved(selection),
    );
  };
  /** @param {string} which */
  const baseline = (which) => finish(named(api.arrays)[which], "plain", which);
  const isPool = () => name() === "pool" && Boolean(api.arrays.pool);
  const pooled = () => finish(api.arrays.pool.subarray(1), "signed", "pool");
  // The map to show, or null while the kernel computes it.
  const shown = () => {
    const which = name();
    const { text, text_b: other } = api.view.selection;
    if (isNeurons()) return named(api.arrays)[which] ? baseline(which) : null;
    if (!text) return summed();
    if (isPool()) return pooled();
    if (isBaseline()) return named(api.arrays)[which] ? baseline(which) : null;
    return which === "centred" && !other && !api.arrays.shared ? null : summed();
  };
  // Whether a saved page has the data of a map.
  /** @param {string} which */
  const stored = (which) => Boolean(named(api.arrays)[MADE_OF[which] ?? which]);
  return { name, baselines, isBaseline, isNeurons, isPool, pooled, reader, summed, baseline, shown, stored };
};

export const passing = new OffscreenCanvas(1, 1); // for maps that are drawn at once

/** @param {HeatmapApi} api @param {Drawn} m */
export const layerOf = (api, m) =>
  mapLayer(m.values, api.view.rows, api.view.cols, m.limit, m.kind, m.floor, passing);

/** @param {HeatmapApi} api @param {Drawn} m */
export const scoreOf = (api, m) =>
  api.arrays.mask && api.view.fits !== false && !m.gone && m.largest > 1e-9
    ? maskScores(
        m.values,
        api.view.rows,
        api.view.cols,
        api.arrays.mask,
        api.view.mask_size,
        BY_NEURONS.some(([name]) => name === m.show) ? api.view.neuron_threshold : null,
      )
    : null;

/** @param {string} name */
export const capital = (name) => name[0].toUpperCase() + name.slice(1);

/** @typedef {ReturnType<typeof mapMaker>} Maker */
