// The ablation desk: one image's class scores under any removal, as sums that the panel toggles itself, and the
// collection's accuracy before, after, and with as many random heads removed instead.

import { predictions } from "./collection.js";
import { dot, random, ranked, unit } from "./numbers.js";

const MOST_CLASSES = 400;
const N_DRAWS = 5;
const MIN_GROUP = 8;
const N_TOWARDS = 5;
const Z = 1.959963984540054;

/**
 * @typedef {{ name: string, note: string, classes: string[], prompts: string[][], labels: number[], groups:
 *   string[], by: string, directions: Float32Array }} Task
 */
/** @typedef {import("./collection.js").Ablation} Ablation */
/** @typedef {{ value: number, low: number, high: number, n: number }} Estimate */

/** A share of n things with Wilson's interval. @param {number} right @param {number} n @returns {Estimate} */
const share = (right, n) => {
  const p = right / n;
  const scale = 1 + Z ** 2 / n;
  const centre = (p + Z ** 2 / (2 * n)) / scale;
  const half = (Z / scale) * Math.sqrt((p * (1 - p)) / n + Z ** 2 / (4 * n ** 2));
  return { value: p, low: Math.max(0, centre - half), high: Math.min(1, centre + half), n };
};

/**
 * The change of a share of the same n things, Bonett and Price's interval.
 * @param {number} nLost
 * @param {number} nGained
 * @param {number} n
 * @returns {Estimate}
 */
const paired = (nLost, nGained, n) => {
  const lost = (nLost + 1) / (n + 2);
  const gained = (nGained + 1) / (n + 2);
  const half = Z * Math.sqrt((lost + gained - (gained - lost) ** 2) / (n + 2));
  return {
    value: (nGained - nLost) / n,
    low: Math.max(-1, gained - lost - half),
    high: Math.min(1, gained - lost + half),
    n,
  };
};

/**
 * The difference of shares of different things, Newcombe's interval.
 * @param {Estimate} first
 * @param {Estimate} second
 * @returns {Estimate}
 */
const difference = (first, second) => {
  const value = second.value - first.value;
  return {
    value,
    low: value - Math.hypot(second.value - second.low, first.high - first.value),
    high: value + Math.hypot(second.high - second.value, first.value - first.low),
    n: Math.min(first.n, second.n),
  };
};

/** A noun with its article. @param {string} noun */
const withArticle = (noun) => {
  const lower = noun.toLowerCase();
  const begins = (/** @type {string[]} */ ...all) => all.some((start) => lower.startsWith(start));
  if (begins("a ", "an ", "the ")) return noun;
  const vowel =
    begins("hour", "honest", "honour", "heir") ||
    (/^[aeiou]/.test(lower) && !begins("uni", "use", "eu", "ufo", "one", "uk"));
  return `${vowel ? "an" : "a"} ${noun}`;
};

export class Bench {
  /**
   * @param {import("./engine.js").Engine} engine
   * @param {Task[]} tasks
   * @param {string[]} templates of the prompts of typed classes
   */
  constructor(engine, tasks, templates) {
    this.engine = engine;
    this.tasks = tasks;
    this.templates = templates;
    this.key = 0;
    this.made = { of: "", view: /** @type {any} */ (null), arrays: /** @type {any} */ (null) };
  }

  /**
   * A task by its name, or of typed classes; null where none is typed.
   * @param {string} name
   * @param {string} typed
   * @returns {Promise<Task | null>}
   */
  async task(name, typed) {
    if (name !== "typed" && !(name === "" && typed))
      return this.tasks.find((task) => task.name === name) ?? this.tasks[0] ?? null;
    if (!typed.trim()) return null;
    const bare = (/** @type {string} */ noun) =>
      noun
        .trim()
        .replaceAll("_", " ")
        .replace(/^(a|an|the) /i, "");
    const classes = [...new Set(typed.split(",").map(bare).filter(Boolean))];
    if (classes.length < 2)
      throw new RangeError(
        `expected at least two class names, got ${classes.join() || "none"}; separate them by commas: a swan, an owl`,
      );
    const known = this.tasks.find((task) =>
      classes.every((one) => task.classes.some((other) => other.toLowerCase() === one.toLowerCase())),
    );
    const place = classes.map(
      (one) => known?.classes.findIndex((other) => other.toLowerCase() === one.toLowerCase()) ?? -1,
    );
    const prompts = classes.map((one, i) =>
      known
        ? known.prompts[place[i]]
        : this.templates.map((template) => template.replace("{a}", withArticle(one)).replace("{}", one)),
    );
    const labels = known ? known.labels.map((label) => place.indexOf(label)) : [];
    const E = this.engine.tower.facts.d_embed;
    const directions = new Float32Array(classes.length * E);
    for (let c = 0; c < classes.length; c++) {
      const sum = new Float64Array(E);
      for (const prompt of prompts[c]) (await this.engine.direction(prompt)).forEach((x, k) => (sum[k] += x));
      directions.set(unit(sum), c * E);
    }
    return {
      name: "typed",
      note: "",
      classes,
      prompts,
      labels,
      groups: known?.groups ?? [],
      by: known?.by ?? "",
      directions,
    };
  }

  /** The sums from which any removal is computed, for one image. @param {Task} task @param {number} image */
  sums(task, image) {
    const { collection, tower } = this.engine;
    const { n_layers: L, n_heads: H, d_embed: E } = tower.facts;
    const of = JSON.stringify([task.name, task.classes, image]);
    if (this.made.of === of) return this.made;
    const one = collection.one(image);
    const embedding = Float64Array.from(one.embedding);
    const rest = Float64Array.from(embedding);
    /** @type {[number, number][]} */
    const heads = [];
    const effects = [];
    const J = L * H + 1;
    for (let layer = 0; layer < L; layer++)
      for (let head = 0; head < H; head++) {
        heads.push([layer, head]);
        effects.push(tower.headEffect(one, layer, head));
        effects[effects.length - 1].forEach((x, k) => (rest[k] -= x));
      }
    effects.push(rest);
    const all = task.classes.map((_, c) => dot(task.directions, c * E, embedding, 0, E));
    const rows =
      all.length <= MOST_CLASSES ? [...all.keys()] : ranked(all, MOST_CLASSES).sort((a, b) => a - b);
    const C = rows.length;
    const logits = Float32Array.from(rows, (c) => all[c]);
    const norm = Float32Array.of(dot(embedding, 0, embedding, 0, E));
    const arrays = /** @type {Record<string, any>} */ ({ logits, squared_norm: norm });
    for (const how of ["mean", "zero"]) {
      const terms = effects.map((effect, j) =>
        how === "zero"
          ? effect
          : effect.map(
              (x, k) =>
                x -
                (j < heads.length ? collection.meanEffect(heads[j][0], heads[j][1]) : collection.meanRest())[
                  k
                ],
            ),
      );
      const sides = {
        terms: new Float32Array(J * C),
        gram: new Float32Array(J * J),
        cross: new Float32Array(J),
      };
      terms.forEach((term, j) => {
        rows.forEach((c, place) => (sides.terms[j * C + place] = dot(task.directions, c * E, term, 0, E)));
        sides.cross[j] = dot(term, 0, embedding, 0, E);
        for (let k = 0; k <= j; k++)
          sides.gram[j * J + k] = sides.gram[k * J + j] = dot(term, 0, terms[k], 0, E);
      });
      for (const [name, side] of Object.entries(sides)) arrays[`${name}_${how}`] = side;
      Object.assign(arrays, { [`logits_${how}`]: logits, [`squared_norm_${how}`]: norm });
    }
    const { logit_scale: scale, logit_bias: bias, link } = this.engine.said.model;
    const label = rows.indexOf(task.labels[image] ?? -1);
    this.made = {
      of,
      arrays,
      view: {
        names: rows.map((c) => task.classes[c]),
        prompts: rows.map((c) => task.prompts[c][0]),
        rows,
        n_classes: task.classes.length,
        apart: false,
        token: false,
        heads,
        scale,
        bias,
        link,
        label,
        n_means: collection.n_published,
        key: ++this.key,
      },
    };
    return this.made;
  }

  /**
   * Accuracy before and after an ablation and with random heads removed instead; null without labelled
   * images.
   * @param {Task} task
   * @param {Ablation} ablation
   */
  outcome(task, ablation) {
    const { collection } = this.engine;
    const { n_heads: H, n_layers: L } = collection.tower.facts;
    const labelled = collection.published.filter((i) => (task.labels[i] ?? -1) >= 0);
    if (!labelled.length) return null;
    const right = (/** @type {Ablation} */ removed) => {
      const found = predictions(
        labelled.map((i) => collection.afterOne(i, removed)),
        task.directions,
      );
      return labelled.map((i, place) => found[place] === task.labels[i]);
    };
    const heads = collection.removed(ablation);
    const first = heads.length ? heads[0][0] : 0;
    const layers = heads.length ? Array.from({ length: L - first }, (_, i) => first + i) : [];
    const pool = layers.flatMap((layer) => Array.from({ length: H }, (_, head) => [layer, head]));
    const uniform = random(heads.length);
    /** @type {boolean[][]} */
    const draws = [];
    for (let draw = 0; heads.length && heads.length < pool.length && draw < N_DRAWS; draw++) {
      const order = ranked(
        pool.map(() => uniform()),
        heads.length,
      );
      draws.push(right({ ...ablation, heads: order.map((i) => pool[i]), layers: [] }));
    }
    const before = right({ heads: [], layers: [], mlps: [], tokens: [], how: "mean" });
    const after = right(ablation);
    const row = (/** @type {string} */ name, /** @type {number[]} */ places) => {
      const count = (/** @type {(place: number) => boolean} */ which) => places.filter(which).length;
      const n = places.length;
      const change = paired(
        count((p) => before[p] && !after[p]),
        count((p) => after[p] && !before[p]),
        n,
      );
      return {
        name,
        n_images: n,
        before: count((p) => before[p]) / n,
        after: count((p) => after[p]) / n,
        random: draws.map((one) => count((p) => one[p]) / n),
        change: [change.low, change.high],
        differs: change.low > 0 || change.high < 0,
      };
    };
    const members = /** @type {Map<string, number[]>} */ (new Map());
    labelled.forEach((i, place) =>
      members.set(task.groups[i] ?? "", [...(members.get(task.groups[i] ?? "") ?? []), place]),
    );
    members.delete("");
    const large = [...members].filter(([, places]) => places.length >= MIN_GROUP);
    const groups = (large.length ? large : [...members])
      .map(([name, places]) => row(name, places))
      .sort((a, b) => a.before - b.before);
    const everything = row(
      "all images",
      labelled.map((_, place) => place),
    );
    return {
      everything,
      groups,
      worst: this.#worst(groups),
      removed: Boolean(heads.length || ablation.mlps.length),
      by: task.by,
      n_heads: heads.length,
      drawn_from: layers,
      chance: 1 / task.classes.length,
    };
  }

  /** The worst group before and the worst after, which may be different groups. @param {any[]} groups */
  #worst(groups) {
    if (!groups.length) return null;
    const least = (/** @type {string} */ when) => groups.reduce((a, b) => (b[when] < a[when] ? b : a));
    const [first, last] = [least("before"), least("after")];
    const change =
      first.name === last.name
        ? { low: first.change[0], high: first.change[1] }
        : difference(
            share(Math.round(first.before * first.n_images), first.n_images),
            share(Math.round(last.after * last.n_images), last.n_images),
          );
    return {
      name: first.name,
      n_images: first.n_images,
      before: first.before,
      after: last.after,
      random: first.random.map((/** @type {unknown} */ _, /** @type {number} */ i) =>
        Math.min(...groups.map((group) => group.random[i])),
      ),
      change: [change.low, change.high],
      differs: change.low > 0 || change.high < 0,
    };
  }

  /**
   * The heads that write most towards a text on an image.
   * @param {string} text
   * @param {Float32Array} scores
   */
  towards(text, scores) {
    const { n_heads: H } = this.engine.tower.facts;
    return {
      kind: "text",
      name: text,
      heads: ranked(scores, N_TOWARDS)
        .sort((a, b) => a - b)
        .map((i) => [Math.floor(i / H), i % H]),
    };
  }
}
