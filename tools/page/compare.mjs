// Run by compare.py in node: the page's numbers for every image and text beside those that Python wrote down.
import { readFile } from "node:fs/promises";
import path from "node:path";
import { asked, open, tell } from "../../tests/page/open.mjs";

const began = performance.now();
const engine = await open();
const opened = performance.now() - began;
const { tower } = engine;
const { d_embed: E, n_layers: L, n_heads: H, n_tokens: T, has_tail } = tower.facts;
const M = 1 + L + Number(has_tail);
const N = asked.texts.length;
const worst = {};
const most = {};
const passes = [];
const scores = [];
const note = (name, found, wanted) =>
  found.forEach((x, i) => {
    worst[name] = Math.max(worst[name] ?? 0, Math.abs(x - wanted[i]));
    most[name] = Math.max(most[name] ?? 0, Math.abs(wanted[i]));
  });
const readings = [];
const readingTimes = [];
for (const text of asked.texts) {
  const direction = await engine.direction(text);
  const at = performance.now();
  readings.push(tower.reading(direction));
  readingTimes.push(performance.now() - at);
}
for (let image = 0; image < asked.images; image++) {
  const file = await readFile(path.join(asked.site, `${image}.ref`));
  const wanted = new Float32Array(file.buffer.slice(file.byteOffset, file.byteOffset + file.length));
  let at = performance.now();
  const trace = await engine.pass(engine.picture(image));
  passes.push(performance.now() - at);
  note("embedding", trace.embedding, wanted.subarray(0, E));
  let from = E;
  const part = (size) => wanted.subarray(from, (from += size));
  const heads = part(N * L * H);
  const mlps = part(N * M);
  const tokens = part(N * L * H * T);
  readings.forEach((reading, j) => {
    note("heads", tower.headEffects(trace, reading), heads.subarray(j * L * H, (j + 1) * L * H));
    note("mlps", tower.mlpEffects(trace, reading), mlps.subarray(j * M, (j + 1) * M));
    at = performance.now();
    const found = tower.tokenScores(trace, reading);
    scores.push(performance.now() - at);
    note("tokens", found, tokens.subarray(j * L * H * T, (j + 1) * L * H * T));
    const cosine =
      reading.direction.reduce((sum, x, k) => sum + x * trace.embedding[k], 0) /
      Math.hypot(...trace.embedding);
    const said =
      reading.direction.reduce((sum, x, k) => sum + x * wanted[k], 0) / Math.hypot(...wanted.subarray(0, E));
    note("cosine", [cosine], [said]);
  });
}
const typed = [];
if (engine.typed)
  for (let i = 0; i < 5; i++) {
    const at = performance.now();
    await engine.direction(`a text that nobody has typed before, number ${i}`);
    typed.push(performance.now() - at);
  }
const median = (all) => [...all].sort((a, b) => a - b)[all.length >> 1] ?? null;
const round = (x) => (x === null ? null : Math.round(x * 10) / 10);
tell({
  images: asked.images,
  texts: N,
  difference: Object.fromEntries(
    Object.keys(worst).map((name) => [name, Number((worst[name] / most[name]).toExponential(1))]),
  ),
  ms: {
    open: round(opened),
    pass: round(median(passes)),
    text: round(median(typed)),
    reading: round(median(readingTimes)),
    scores: round(median(scores)),
  },
});
