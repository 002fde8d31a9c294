// Run by compare.py in node: the page's numbers for every image and text beside those that Python wrote down.
import { readFile } from "node:fs/promises";
import path from "node:path";
import { asked, open, page, tell } from "../../tests/page/open.mjs";

const began = performance.now();
const engine = await open();
const opened = performance.now() - began;
const { tower, collection, pool } = engine;
const { textspan } = await page("script/textspan.js");
const { accuracy, predictions } = await page("script/collection.js");
const { d_embed: E, n_layers: L, n_heads: H, n_tokens: T, has_tail } = tower.facts;
const M = 1 + L + Number(has_tail);
const N = asked.texts.length;

/** The largest difference and the largest number of each quantity. */
class Worst {
  constructor() {
    this.far = {};
    this.most = {};
  }

  note(name, found, wanted) {
    if (found.length !== wanted.length)
      throw new Error(`${name}: ${found.length} of ${wanted.length} numbers`);
    let [far, most] = [this.far[name] ?? 0, this.most[name] ?? 0];
    for (let i = 0; i < found.length; i++) {
      const difference = Math.abs(found[i] - wanted[i]);
      if (!(difference <= far)) far = difference; // also if one is no number
      most = Math.max(most, Math.abs(wanted[i]));
    }
    [this.far[name], this.most[name]] = [far, most];
  }

  /** Cosines as they are, the others as shares of the largest. */
  get differences() {
    const share = (name) => (name === "cosine" ? 1 : this.most[name]);
    return Object.fromEntries(Object.keys(this.far).map((name) => [name, this.far[name] / share(name)]));
  }
}

const cosine = (direction, embedding) => {
  let [sum, square] = [0, 0];
  for (let k = 0; k < E; k++) {
    sum += direction[k] * embedding[k];
    square += embedding[k] * embedding[k];
  }
  return sum / Math.sqrt(square);
};

const times = { pass: [], text: [], reading: [], scores: [] };
const timed = async (name, work) => {
  const at = performance.now();
  const found = await work();
  times[name].push(performance.now() - at);
  return found;
};

const directions = [];
const readings = [];
for (const text of asked.texts) {
  directions.push(await timed("text", () => engine.direction(text)));
  readings.push(await timed("reading", () => tower.reading(directions[directions.length - 1])));
}
const worst = Object.fromEntries(asked.kinds.map((kind) => [kind, new Worst()]));
for (let image = 0; image < asked.images; image++) {
  const trace = await timed("pass", () => engine.pass(engine.picture(image)));
  const found = [];
  for (const [j, reading] of readings.entries())
    found.push({
      heads: tower.headEffects(trace, reading),
      mlps: tower.mlpEffects(trace, reading),
      tokens: await timed("scores", () => tower.tokenScores(trace, reading)),
      cosine: [cosine(directions[j], trace.embedding)],
    });
  for (const kind of asked.kinds) {
    const file = await readFile(path.join(asked.site, `${image}.${kind}`));
    const wanted = new Float32Array(file.buffer.slice(file.byteOffset, file.byteOffset + file.length));
    let from = 0;
    const part = (size) => wanted.subarray(from, (from += size));
    const embedding = part(E);
    worst[kind].note("embedding", trace.embedding, embedding);
    for (const [name, size] of [
      ["heads", L * H],
      ["mlps", M],
      ["tokens", L * H * T],
    ])
      for (let j = 0; j < N; j++) worst[kind].note(name, found[j][name], part(size));
    for (let j = 0; j < N; j++)
      worst[kind].note("cosine", found[j].cosine, [cosine(asked.directions[kind][j], embedding)]);
  }
}

const median = (all) => [...all].sort((a, b) => a - b)[all.length >> 1];
tell({
  difference: Object.fromEntries(asked.kinds.map((kind) => [kind, worst[kind].differences])),
  spans: Array.from({ length: L * H }, (_, i) =>
    textspan(collection, pool, Math.floor(i / H), i % H, { n_draws: 0 }),
  ),
  decided: asked.ablations.map((ablation) => {
    const embeddings = collection.after(ablation);
    const classes = Float32Array.from(asked.classes.flat());
    return {
      top1: accuracy(embeddings, classes, asked.labels, asked.groups).top1,
      classes: predictions(embeddings, classes),
    };
  }),
  ms: {
    open: opened,
    ...Object.fromEntries(Object.entries(times).map(([name, all]) => [name, median(all)])),
  },
});
