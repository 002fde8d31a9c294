// TextSpan of every head with its null, heads found by a text, and accuracies with heads removed.
import { asked, open, page, tell } from "./open.mjs";

const engine = await open();
const { n_layers: L, n_heads: H } = engine.tower.facts;
const { collection, pool } = engine;
const { apart, headSpan, meanOf, textspan, varianceAlong } = await page("script/textspan.js");
const { accuracy } = await page("script/collection.js");
const heads = Array.from({ length: L * H }, (_, i) => [Math.floor(i / H), i % H]);
const [layer, head] = asked.some.head;
const text = apart(await engine.direction(asked.text), meanOf(pool, engine.tower.facts.d_embed));
tell({
  spans: heads.map(([l, h]) => {
    const { order, gains, usedUp } = textspan(collection, pool, l, h, { n_draws: 0 });
    return { order, gains, usedUp };
  }),
  some: textspan(collection, pool, layer, head, { images: asked.some.images, n_texts: 4, n_draws: 0 }),
  alone: (({ span, ...rest }) => ({ ...rest, width: span.length }))(
    headSpan(collection, layer, head, asked.some.images.slice(0, 1)),
  ),
  null: textspan(collection, pool, layer, head, { n_draws: 200, seed: 5 }).nulls,
  along: heads.map(([l, h]) => varianceAlong(collection, l, h, [text])[0]),
  accuracies: asked.ablations.map((ablation) =>
    accuracy(collection.after(ablation), Float32Array.from(asked.classes.flat()), asked.labels, asked.groups),
  ),
});
