// The images that the Images panel shows: chosen ones, the best for a text, the nearest to an image, or all.

import { removes } from "./collection.js";

/**
 * The Images panel: which images it shows, in which order, and how many there are.
 * @param {import("./answers.js").Answers} answers
 * @param {import("./answers.js").Selection} s
 * @returns {Promise<import("./answers.js").Answer>}
 */
export async function gallery(
  answers,
  s,
  { order = "text", by = "cosine", page = 0, column = "", value = "", n_shown = 28 } = {},
) {
  const { engine, about, tiles } = answers;
  const { collection } = engine;
  const everyone = Array.from({ length: collection.n }, (_, i) => i);
  const subset = column && value ? everyone.filter((i) => about.columns[column]?.[i] === value) : null;
  const allowed = subset && new Set(subset);
  const within = (/** @type {[number, number | null][]} */ all, /** @type {Set<number> | null} */ some) =>
    all.filter(([i]) => !some || some.has(i));
  const plain = /** @type {[number, number | null][]} */ (
    (subset ?? everyone).map((i) => /** @type {[number, null]} */ ([i, null]))
  );
  const quantity = () => {
    const what = s.text_b ? "A − B" : removes(s.ablation) ? "cosine" : "";
    return removes(s.ablation) ? `by ${what}, heads removed` : what && `by ${what}`;
  };
  const searched = async () =>
    collection.best(collection.cosines(await engine.contrast(s.text, s.text_b), s.ablation));
  let kind = order;
  let lists = /** @type {[string, [number, number | null][]][]} */ ([["", plain]]);
  if (order === "chosen" && s.images.length) {
    const some = new Set(s.images.filter((i) => !allowed || allowed.has(i)));
    lists = s.text ? [[quantity(), within(await searched(), some)]] : [["", within(plain, some)]];
  } else if ((order === "text" || order === "chosen") && s.text)
    [kind, lists] = ["text", [[quantity(), within(await searched(), allowed)]]];
  else if (order === "near" && s.image !== null) {
    const near = (/** @type {number[]} */ likeness, /** @type {boolean} */ self) =>
      within(collection.best(likeness), allowed).filter(([i]) => self || i !== s.image);
    lists = [["Whole model", near(collection.likeness(s.image), false)]];
    if (s.layer !== null && s.head !== null)
      lists.push([
        `L${s.layer}·H${s.head}`,
        near(collection.likenessUnder(s.image, s.layer, s.head, /** @type {any} */ (by)), by === "product"),
      ]);
  } else kind = "all";
  const each = Math.floor(n_shown / lists.length);
  const pages = Math.max(1, ...lists.map(([, all]) => Math.ceil(all.length / each)));
  const at = Math.min(page, pages - 1);
  lists = lists.map(([name, all]) => [name, all.slice(at * each, (at + 1) * each)]);
  const shown = lists.flatMap(([, all]) => all);
  const ids = shown.map(([i]) => i);
  const sheet = await tiles.sheet();
  return {
    view: {
      order: kind,
      by,
      lists: lists.map(([title, all]) => ({ title, count: all.length })),
      ids,
      places: ids,
      n_tiles: sheet.n,
      scores: shown.map(([, score]) => score),
      names: ids.map((i) => about.titles[i]),
      columns: sheet.columns,
      page: at,
      pages,
      attributes: about.attributes,
      column,
      value,
      n_subset: subset ? subset.length : null,
      n_images: collection.n,
      n_read: collection.n,
      skipped: [],
      n_skipped: 0,
      complete: true,
      waits: "",
    },
    arrays: { sprite: sheet.bytes },
  };
}
