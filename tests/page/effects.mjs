// What the page says of some images and texts: embeddings, effects, scores, cosines.
import { asked, open, tell } from "./open.mjs";

const engine = await open();
const { tower } = engine;
const found = [];
const everything = { heads: [], layers: [], mlps: [], tokens: [], how: "mean", ...asked.ablation };
for (const image of asked.images) {
  const trace = await engine.trace(image);
  for (const text of asked.texts) {
    const direction = await engine.direction(text);
    const reading = tower.reading(direction);
    found.push({
      image,
      text,
      direction,
      embedding: trace.embedding,
      heads: tower.headEffects(trace, reading),
      mlps: tower.mlpEffects(trace, reading),
      tokens: tower.tokenScores(trace, reading),
      attention: tower.attention(trace),
      pool: tower.facts.pools ? tower.poolScores(trace, reading) : [],
      sumCheck: tower.sumCheck(trace),
    });
  }
}
const direction = await engine.direction(asked.texts[0]);
const [layer, head] = asked.head;
tell({
  found,
  effect: tower.headEffect(await engine.trace(asked.images[0]), layer, head),
  cosines: engine.collection.cosines(direction, everything),
  whole: engine.collection.cosines(direction, { ...everything, heads: [], layers: [], mlps: [] }),
  under: engine.collection.likenessUnder(asked.images[0], layer, head, "cosine"),
  like: engine.collection.likeness(asked.images[0]),
  headScores: engine.collection.headScores(direction, layer, head),
});
