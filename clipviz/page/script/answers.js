// What each panel shows for a selection: the dict and arrays that Python's panels compute, from the engine
// alone.

import { context, joint, named } from "./beside.js";
import { removes } from "./collection.js";
import { gallery } from "./gallery.js";
import { packed } from "./packing.js";
import { dot, norm } from "./numbers.js";
import { apart, meanOf, textspan, varianceAlong } from "./textspan.js";

/**
 * @typedef {{ image: number | null, images: number[], layer: number | null, head: number | null, token:
 *   number | null, neuron: number | null, dictionary: string, text: string, text_b: string, concept: number |
 *   null, ablation:
 *   import("./collection.js").Ablation }} Selection
 * @typedef {{ view: Record<string, any>, arrays: Record<string, any>, traits?: Record<string, any> }} Answer
 * @typedef {object} About what the page knows about the published session besides its model
 * @property {string[]} titles
 * @property {string[]} keys
 * @property {Record<string, (string | null)[]>} columns
 * @property {Record<string, Record<string, number>>} attributes
 * @property {boolean[]} masked
 * @property {Record<string, any>} labels
 * @property {Record<string, { kind: string, name: string, heads: number[][] }[]>} presets
 * @property {boolean} own whether the model knows only pictures of its own world
 * @property {{ n_late: number, far: number, things: string[][], found: number }} rules
 */

/** @type {AblationShown} */
const NOTHING = { heads: [], layers: [], mlps: [], tokens: [], how: "mean" };
const floats = (/** @type {ArrayLike<number>} */ values) => Float32Array.from(values);

export class Answers {
  /**
   * @param {import("./engine.js").Engine} engine
   * @param {About} about
   * @param {Uint8Array | null} masks
   * @param {any} tiles the sheet of thumbnails, see thumbnails.js
   * @param {import("./desk.js").Bench} bench
   */
  constructor(engine, about, masks, tiles, bench) {
    this.bench = bench;
    this.engine = engine;
    this.about = about;
    this.masks = masks;
    this.tiles = tiles;
    /** @type {Map<string, any>} */
    this.known = new Map();
  }

  /** @template T @param {string} key @param {() => T} make @returns {T} */
  once(key, make) {
    if (!this.known.has(key)) {
      this.known.set(key, make());
      if (this.known.size > 400) this.known.delete(/** @type {string} */ (this.known.keys().next().value));
    }
    return this.known.get(key);
  }

  /**
   * Effects of an image on a text, or on one minus another, after an ablation.
   * @param {Selection} s
   * @param {import("./collection.js").Ablation} ablation
   */
  async scores(s, ablation) {
    const { engine } = this;
    const { tower, collection } = engine;
    const { n_tokens: T, prefix, n_heads: H } = tower.facts;
    const image = /** @type {number} */ (s.image);
    const trace = await engine.trace(image);
    const direction = await engine.contrast(s.text, s.text_b);
    const reading = engine.reading(`${s.text}\u0001${s.text_b}`, direction);
    const scores = tower.onePlaceless(tower.tokenScores(trace, reading));
    const shown = T - prefix + 1;
    const mlps = tower.mlpEffects(trace, reading);
    let { embedding } = /** @type {any} */ (trace);
    let length = norm(trace.embedding);
    if (removes(ablation)) {
      const left = collection.left(image, ablation);
      [embedding, length] = [left.embedding, left.norm];
      left.heads.forEach(([layer, head], i) => {
        const at = (layer * H + head) * shown;
        scores.fill(0, at, at + shown);
        scores[at] = dot(left.instead[i], 0, direction, 0, direction.length);
      });
      if (left.rest) {
        mlps.fill(0);
        mlps[0] = dot(left.rest, 0, direction, 0, direction.length);
      }
    }
    for (let i = 0; i < scores.length; i++) scores[i] /= length;
    const heads = new Float32Array(scores.length / shown);
    for (let i = 0; i < heads.length; i++) {
      let sum = 0;
      for (let k = 0; k < shown; k++) sum += scores[i * shown + k];
      heads[i] = sum;
    }
    return {
      scores,
      heads,
      mlps: floats(mlps.map((x) => x / length)),
      cosine: dot(embedding, 0, direction, 0, direction.length) / length,
      length,
    };
  }

  /** @param {Selection} s @returns {Promise<Answer>} */
  async heads(s, { find = "" } = {}) {
    const { n_layers: L, n_heads: H, has_tail } = this.engine.tower.facts;
    const arrays = { heads: new Float32Array(L * H), mlps: new Float32Array(1 + L + Number(has_tail)) };
    let cosine = null;
    let before = null;
    if (s.text && s.image !== null) {
      const found = await this.scores(s, s.ablation);
      [arrays.heads, arrays.mlps, cosine] = [found.heads, found.mlps, found.cosine];
      before = removes(s.ablation) ? (await this.scores(s, NOTHING)).cosine : cosine;
    }
    return {
      view: { cosine, cosine_before: before, found: find.trim() ? await this.#found(find.trim()) : [] },
      arrays,
    };
  }

  /**
   * The heads that vary with a text more than with 95% of the pool, in order of their share of variance.
   * @param {string} text
   */
  async #found(text) {
    const { engine } = this;
    const { collection, pool, tower } = engine;
    const { n_layers: L, n_heads: H, d_embed: E } = tower.facts;
    const mean = this.once("mean text", () => meanOf(pool, E));
    const others = this.once("others", () =>
      Array.from({ length: pool.length / E }, (_, j) => apart(pool.subarray(j * E, (j + 1) * E), mean)),
    );
    const direction = apart(await engine.direction(text), mean);
    const found = [];
    for (let layer = 0; layer < L; layer++)
      for (let head = 0; head < H; head++) {
        const all = this.once(`along ${layer},${head}`, () =>
          floats(varianceAlong(collection, layer, head, others)),
        );
        const [share] = varianceAlong(collection, layer, head, [direction]);
        const above = all.filter((other) => other < share).length / all.length;
        if (above >= this.about.rules.found) found.push({ layer, head, share, above });
      }
    return found.sort((a, b) => b.share - a.share);
  }

  /** @param {Selection} s @returns {Promise<Answer>} */
  async heatmap(s) {
    if (s.image === null) return { view: { message: "Select an image." }, arrays: {} };
    const { engine, about } = this;
    const { tower } = engine;
    const trace = await engine.trace(s.image);
    const image = s.image;
    const arrays = /** @type {Record<string, any>} */ ({
      attention: tower.onePlaceless(tower.attention(trace)),
    });
    let cosine = null;
    let before = null;
    let fits = null;
    if (s.text) {
      const found = await this.scores(s, s.ablation);
      [arrays.scores, cosine] = [found.scores, found.cosine];
      before = removes(s.ablation) ? (await this.scores(s, NOTHING)).cosine : null;
      fits = named(about, s.text, image);
      arrays.shared = this.once(`shared ${image}`, () => this.#shared(trace));
      if (tower.facts.pools) {
        const pool = tower.onePlaceless(
          tower.poolScores(
            trace,
            engine.reading(`${s.text}\u0001${s.text_b}`, await engine.contrast(s.text, s.text_b)),
          ),
        );
        const length = norm(trace.embedding);
        arrays.pool = pool.map((x) => x / length);
      }
    }
    const [rows, cols] = tower.facts.image_size;
    const masked = about.masked[image];
    if (masked)
      arrays.mask = /** @type {Uint8Array} */ (this.masks).subarray(
        this.#maskAt(image) * rows * cols,
        (this.#maskAt(image) + 1) * rows * cols,
      );
    return {
      view: {
        cosine,
        cosine_before: before,
        fits,
        mask_size: masked ? [rows, cols] : null,
        context: null,
        joint: null,
        title: about.titles[image],
        picture: [image, "page"],
        message: "",
      },
      arrays,
      traits: { picture: await this.tiles.picture(image) },
    };
  }

  /** @param {number} image */
  #maskAt(image) {
    return this.about.masked.slice(0, image).filter(Boolean).length;
  }

  /** Token effects on the mean of all texts. @param {import("./tower.js").Trace} trace */
  #shared(trace) {
    const { tower, pool } = this.engine;
    const mean = this.once("mean text", () => meanOf(pool, tower.facts.d_embed));
    const length = norm(trace.embedding);
    return tower
      .onePlaceless(tower.tokenScores(trace, this.engine.reading("\u0000mean", mean)))
      .map((x) => x / length);
  }

  /**
   * What the cosine is compared with, and the texts of the head on this image.
   * @param {Selection} s
   * @returns {Promise<Answer>}
   */
  async heatmapRest(s, { joint_texts: n_texts = 10 } = {}) {
    if (s.image === null) return { view: {}, arrays: {} };
    const beside = await context(this, s);
    const { about, maps } = await joint(this, s, n_texts);
    return { view: { context: beside, joint: about }, arrays: maps ? { joint_maps: maps } : {} };
  }

  /**
   * @param {number} layer
   * @param {number} head
   * @param {number[]} images
   * @param {number} n_texts
   * @param {number} n_draws
   */
  described(layer, head, images, n_texts, n_draws) {
    const { collection, pool } = this.engine;
    return this.once(`textspan ${layer},${head} ${images} ${n_texts} ${n_draws}`, () =>
      textspan(collection, pool, layer, head, {
        n_texts,
        n_draws,
        images: images.length ? images : undefined,
      }),
    );
  }

  /** @param {Selection} s @returns {Promise<Answer>} */
  async textspan(s, { n_texts = 10, n_images = 3, roles = /** @type {Record<string, string>} */ ({}) } = {}) {
    const { engine } = this;
    const { texts, collection } = engine;
    const { layer, head } = s;
    const E = engine.tower.facts.d_embed;
    const view = /** @type {Record<string, any>} */ ({
      rows: [],
      message: "",
      role: null,
      roles: [...new Set([...Object.values(roles), "background", "colour", "texture"])].sort(),
      label: null,
    });
    if (layer === null || head === null)
      return { view: { ...view, message: "Select a head to see its texts." }, arrays: {} };
    view.role = roles[`${layer},${head}`] ?? "";
    const images = s.images.filter((i) => i < collection.n);
    const n_read = images.length || collection.n_published;
    if (n_read < 2)
      return {
        view: {
          ...view,
          message:
            "TextSpan explains how a head varies over images, so it needs at least 2 of them. Choose a larger set.",
        },
        arrays: {},
      };
    const { order, gains, nulls, usedUp, varies } = this.described(layer, head, images, n_texts, 20);
    if (!varies)
      return {
        view: {
          ...view,
          message: `L${layer}·H${head} writes the same on all of these images, so no text can explain how it varies.`,
        },
        arrays: {},
      };
    const at = (/** @type {number[]} */ sorted, /** @type {number} */ share) => {
      const place = share * (sorted.length - 1);
      const low = Math.floor(place);
      const high = Math.min(low + 1, sorted.length - 1);
      return sorted[low] + (sorted[high] - sorted[low]) * (place - low);
    };
    const drawn = order.map((_, i) => nulls.map((one) => one[i]).sort((a, b) => a - b));
    const means = drawn.map((all) => all.reduce((a, b) => a + b, 0) / all.length);
    view.rows = order.map((j, i) => ({
      text: texts[j],
      family: "",
      gain: gains[i],
      null: means[i],
      null_high: at(drawn[i], 0.95),
    }));
    const sum = (/** @type {number[]} */ all) => all.reduce((a, b) => a + b, 0);
    const ids = order.map((j) =>
      this.once(`top ${layer},${head} ${j} ${collection.n}`, () =>
        collection
          .best(collection.headScores(engine.pool.subarray(j * E, (j + 1) * E), layer, head), n_images)
          .map(([i]) => i),
      ),
    );
    const sheet = await this.tiles.sheet();
    return {
      view: {
        ...view,
        explained: sum(gains),
        null_explained: sum(means),
        n_draws: nulls.length,
        n_used_up: usedUp,
        n_read,
        n_images: collection.n,
        complete: true,
        pool: engine.said.texts_name,
        label: images.length ? null : (this.about.labels[`${layer},${head}`] ?? null),
        thumbnails: { ids, places: ids, columns: sheet.columns, n: sheet.n },
      },
      arrays: { sprite: sheet.bytes },
    };
  }

  /** @param {Selection} s @returns {Promise<Answer>} */
  async images(s, options = {}) {
    return gallery(this, s, options);
  }

  /** @param {Selection} s @returns {Promise<Answer>} */
  async ablate(s, { task: name = "", classes = "" } = {}) {
    const { bench, about } = this;
    const task = await bench.task(name, classes);
    const view = /** @type {Record<string, any>} */ ({
      task: name || (task ? task.name : "typed"),
      classes,
      note: task?.note ?? "",
      apart: { mlps: [], token: false },
      desk: null,
      outcome: null,
      presets: [],
      message: "",
      waiting: false,
    });
    if (!task)
      return {
        view: {
          ...view,
          message: "The classes of these images are not known. Type class names, separated by commas.",
        },
        arrays: {},
      };
    if (s.image === null) return { view: { ...view, message: "Select an image." }, arrays: {} };
    const made = bench.sums(task, s.image);
    const towards = s.text
      ? [bench.towards(s.text, (await this.scores({ ...s, text_b: "" }, NOTHING)).heads)]
      : [];
    const sets = about.presets[task.name] ?? about.presets[""] ?? [];
    const early = sets.filter(({ kind }) => kind === "early");
    const others = sets.filter(({ kind }) => kind !== "early");
    const found = packed({ thumbnail: await this.tiles.picture(s.image), ...made.arrays });
    return {
      view: {
        ...view,
        desk: { ...made.view, arrays: found.places },
        outcome: bench.outcome(task, s.ablation),
        presets: [...others, ...towards, ...early],
      },
      arrays: {},
      traits: { desk: new Uint8Array(found.blob.buffer) },
    };
  }

  /** @param {Selection} s @returns {Promise<Answer>} */
  async receipts(s) {
    const { engine } = this;
    const view = /** @type {Record<string, any>} */ ({
      share: null,
      before: null,
      stand_ins: [0, engine.collection.n],
    });
    const arrays = /** @type {Record<string, any>} */ ({});
    const share = async (/** @type {any} */ ablation) => {
      const { heads, cosine } = await this.scores(s, ablation);
      const late = heads
        .slice(-this.about.rules.n_late * engine.tower.facts.n_heads)
        .reduce((a, b) => a + b, 0);
      return [{ cosine, late }, heads];
    };
    if (s.image !== null) {
      const trace = await engine.trace(s.image);
      view.sum_check = this.once(`sum ${s.image}`, () => engine.tower.sumCheck(trace));
      if (engine.tower.facts.has_tail)
        view.readout = `${engine.tower.facts.kind}, its MLP ${((100 * dot(trace.tail, 0, trace.embedding, 0, trace.tail.length)) / norm(trace.embedding) ** 2).toFixed(0)}%`;
    }
    if (s.text && s.image !== null) {
      [view.share, arrays.heads] = await share(s.ablation);
      if (removes(s.ablation)) [view.before, arrays.heads_before] = await share(NOTHING);
    }
    return { view, arrays };
  }

  /**
   * The index of a picture that a reader has added.
   * @param {import("./picture.js").Picture} picture
   * @param {string} name
   */
  async add(picture, name) {
    const image = await this.engine.add(picture);
    this.about.titles[image] = name;
    this.about.masked[image] = false;
    this.tiles.forget();
    return image;
  }
}
