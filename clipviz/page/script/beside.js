// What stands beside an image's maps: what its cosine is compared with, its texts for one head, and whether a
// text names what is outlined.

import { dot, norm, ranked } from "./numbers.js";
import { removes } from "./collection.js";
import { meanOf } from "./textspan.js";

/**
 * @typedef {import("./answers.js").Answers} Answers
 * @typedef {import("./answers.js").Selection} Selection
 */

const escaped = (/** @type {string} */ text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/**
 * What a cosine is compared with: the texts nearest to the image, percentiles, and whether the image is far from all.
 * @param {Answers} answers
 * @param {Selection} s
 */
export async function context(answers, s) {
  const { engine, about } = answers;
  const { collection, pool, texts } = engine;
  const { d_embed: E } = engine.tower.facts;
  const image = /** @type {number} */ (s.image);
  const against = (/** @type {any} */ embedding) => {
    const length = norm(embedding);
    return texts.map((_, j) => dot(pool, j * E, embedding, 0, E) / length);
  };
  const whole = against((await engine.trace(image)).embedding);
  const cosines = removes(s.ablation) ? against(collection.left(image, s.ablation).embedding) : whole;
  const nearest = ranked(cosines, 5).map((j) => [texts[j], cosines[j]]);
  const others = collection.published.filter((i) => i !== image);
  let percentiles = null;
  if (s.text) {
    const { cosine } = await answers.scores(s, s.ablation);
    const over = collection.cosines(await engine.contrast(s.text, s.text_b), s.ablation);
    const rank = s.text_b
      ? null
      : 1 + cosines.filter((value, j) => texts[j] !== s.text && value > cosine).length;
    percentiles = {
      cosine,
      rank,
      n_texts: texts.length,
      share: others.filter((i) => over[i] < cosine).length / (others.length || 1),
      n_images: others.length,
    };
  }
  const best = answers.once("best texts", () =>
    collection.published.map((i) => Math.max(...against(collection.one(i).embedding))),
  );
  const own = Math.max(...whole);
  const share = others.length ? others.filter((i) => best[i] < own).length / others.length : 1;
  const stranger = image >= collection.n_published;
  const far = about.own ? stranger : share < about.rules.far && others.length >= 1 / about.rules.far;
  const why = about.own
    ? `This picture is not from the collection that “${engine.said.model.name}” was made with. The model has only seen its own world. On other pictures its numbers mean little.`
    : `Its best text scores ${own.toFixed(3)}, lower than on all but ${(100 * share).toFixed(1)}% of this collection's images.`;
  return {
    nearest,
    percentiles,
    far: far ? { known: false, why, cosine: own, share, n_images: others.length } : null,
  };
}

/**
 * The head's first texts that agree most and least with the image, with their maps (Fig. 2.6).
 * @param {Answers} answers
 * @param {Selection} s
 * @param {number} n_texts
 */
export async function joint(answers, s, n_texts) {
  const about = /** @type {Record<string, any>} */ ({ message: "", texts: [], values: [], n_texts });
  const { engine } = answers;
  const { tower, texts, pool } = engine;
  const { layer, head } = s;
  if (layer === null || head === null)
    return {
      about: { ...about, message: "Select a head to see its texts for this image." },
      maps: /** @type {Float32Array | null} */ (null),
    };
  const {
    n_heads: H,
    n_tokens: T,
    prefix,
    d_embed: E,
    grid: [rows, cols],
  } = tower.facts;
  const mean = answers.once("mean text", () => meanOf(pool, E));
  const trace = await engine.trace(/** @type {number} */ (s.image));
  const length = norm(trace.embedding);
  const { order, varies } = answers.described(layer, head, [], n_texts, 0);
  if (!varies)
    return {
      about: { ...about, message: `L${layer}·H${head} writes the same on all of these images.` },
      maps: null,
    };
  const effect = tower.headEffect(trace, layer, head);
  const directions = order.map((j) =>
    Float64Array.from(pool.subarray(j * E, (j + 1) * E), (x, k) => x - mean[k]),
  );
  const values = directions.map((t) => dot(effect, 0, t, 0, E) / length);
  const falling = ranked(values);
  const k = Math.min(2, Math.max(1, Math.floor(order.length / 2)));
  const chosen = [...falling.slice(0, k), ...(order.length === 1 ? [] : falling.slice(-k))];
  const maps = new Float32Array(chosen.length * rows * cols);
  chosen.forEach((place, i) => {
    const scores = tower.tokenScores(trace, tower.reading(directions[place]));
    const at = (layer * H + head) * T + prefix;
    for (let q = 0; q < rows * cols; q++) maps[i * rows * cols + q] = scores[at + q] / length;
  });
  return {
    about: {
      ...about,
      texts: chosen.map((place) => texts[order[place]]),
      values: chosen.map((place) => values[place]),
    },
    maps,
  };
}

/**
 * Whether a text names what the image's true mask outlines; null if that is unknown.
 * @param {import("./answers.js").About} about
 * @param {string} text
 * @param {number} image
 */
export function named({ columns, rules }, text, image) {
  const said = text.toLowerCase();
  const wanted = rules.things
    .map((group) => group.map((column) => columns[column]?.[image]).filter(Boolean))
    .filter((words) => words.length);
  if (!wanted.length) return null;
  return wanted.every((words) =>
    words.some((word) =>
      new RegExp(
        `(?<![\\p{L}\\p{N}_])${escaped(/** @type {string} */ (word).toLowerCase())}(e?s)?(?![\\p{L}\\p{N}_])`,
        "u",
      ).test(said),
    ),
  );
}
