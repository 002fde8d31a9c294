// The image's classes before and now.

import { clickable, count, h, percent, signed } from "../kit/dom.js";
import { signName } from "../kit/figure.js";
import { pictureUrl } from "../kit/gallery.js";

/** @import { Bench } from "./bench.js" */

const SHOWN_CLASSES = 8;

/** A class: its bar now, a tick for before. @param {AblateApi} api @param {any} D @param {number} c */
const rowOf = (api, D, c) => {
  const length = h("i");
  const tick = h("b");
  const share = h("span", { class: "num" });
  const change = h("span", { class: "num change" });
  const name = clickable(
    { class: "name", title: D.prompts[c], onclick: () => api.ask({ text: D.prompts[c] }) },
    D.names[c],
  );
  if (c === D.label) name.append(h("em", { title: "the image's own class" }, "true"));
  return {
    node: h(
      "div",
      { class: "bar", role: "listitem" },
      name,
      h("span", { class: "track" }, length, tick),
      share,
      change,
    ),
    length,
    tick,
    share,
    change,
  };
};

/**
 * The most probable class, before and now.
 * @param {Bench} desk
 * @param {ReturnType<Bench["now"]>} now
 * @param {Float64Array} p
 * @param {Float64Array} q
 */
const judge = (desk, now, p, q) => {
  const D = desk.data;
  const first = desk.ranked(p)[0];
  /** @param {number} c @param {number} share */
  const strong = (c, share) => [h("strong", {}, D.names[c]), ` (${percent(share)})`];
  if (!now) return ["Nothing remains of the embedding."];
  if (first !== D.first)
    return ["Before: ", ...strong(D.first, q[D.first]), ". Now: ", ...strong(first, p[first]), "."];
  return [
    "Most probable: ",
    ...strong(first, p[first]),
    p[first] === q[first] ? "" : `, before ${percent(q[first])}`,
  ];
};

/** The image's classes before and now. @param {AblateApi} api @param {Bench} desk */
export const classBars = (api, desk) => {
  const picture = h("span", { class: "tile picture" });
  const verdict = h("p", { class: "verdict", role: "status" });
  const note = h("p", { class: "note" });
  const address = pictureUrl(api);
  const bars = h("div", { class: "bars", role: "list", "aria-label": "Class probabilities" });
  /** @type {Map<number, any>} */
  let rows = new Map();
  const reset = () => {
    picture.style.backgroundImage = `url(${address(desk.data.thumbnail)})`;
    rows = new Map();
    bars.replaceChildren();
  };
  /** @param {Float64Array} p @param {Float64Array} q */
  const chosen = (p, q) => {
    if (desk.data.names.length <= SHOWN_CLASSES) return desk.ranked(p);
    return [
      ...new Set([...desk.ranked(p).slice(0, SHOWN_CLASSES - 3), ...desk.ranked(q).slice(0, SHOWN_CLASSES)]),
    ]
      .slice(0, SHOWN_CLASSES)
      .sort((a, b) => p[b] - p[a]);
  };
  const paint = () => {
    const D = desk.data;
    const now = desk.now();
    const q = D.before.probabilities;
    const p = now?.probabilities ?? q.map(() => 0);
    const wanted = chosen(p, q);
    for (const [c, row] of rows)
      if (!wanted.includes(c)) {
        row.node.remove();
        rows.delete(c);
      }
    wanted.forEach((/** @type {number} */ c, /** @type {number} */ place) => {
      if (!rows.has(c)) rows.set(c, rowOf(api, D, c));
      const row = rows.get(c);
      const delta = p[c] - q[c];
      row.node.style.order = place;
      row.node.classList.toggle("first", place === 0);
      row.length.style.width = `${100 * p[c]}%`;
      row.tick.style.left = `${100 * q[c]}%`;
      row.share.textContent = percent(p[c]);
      row.change.textContent = Math.abs(delta) < 5e-4 ? "" : signed(100 * delta, 1);
      row.change.dataset.sign = signName(delta);
      row.node.title = `before ${percent(q[c])}, cosine ${D.before.cosines[c].toFixed(3)}${now ? ` · now ${percent(p[c])}, cosine ${now.cosines[c].toFixed(3)}` : ""}`;
      if (!row.node.isConnected) bars.append(row.node);
    });
    const first = desk.ranked(p)[0];
    verdict.replaceChildren(...judge(desk, now, p, q));
    note.textContent =
      D.n_classes > D.names.length
        ? `${D.link}; the ${D.names.length} of ${count(D.n_classes)} nearest to the image`
        : D.link;
    Object.assign(api.root.dataset, {
      top: D.names[first],
      probability: p[first].toFixed(6),
      before: D.names[D.first],
      painted: Number(api.root.dataset.painted ?? 0) + 1,
    });
  };
  return {
    part: h("div", { class: "part image" }, h("div", { class: "top" }, picture, verdict), bars, note),
    reset,
    paint,
  };
};
