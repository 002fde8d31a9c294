// What the numbers are compared with: the pool, the collection, the nearest texts of the image.

import { count, counted, h, percent, signed } from "../kit/dom.js";
import { roving } from "../kit/grid.js";
import { textButton } from "../kit/links.js";

/**
 * What the numbers are compared with: the pool, the collection, the image's nearest texts.
 * @param {HeatmapApi} api
 */
export const comparison = (api) => {
  const part = h("div", { class: "part context" });
  const banner = h("p", { class: "stranger", role: "status", hidden: true });
  /** @param {PercentilesShown} given @param {SelectionShown} given */
  const stands = ({ rank, n_texts: pool, share, n_images: n }, { text, text_b: other }) => {
    const what = other ? "A − B" : `“${text}”`;
    const among =
      rank === null ? "" : ` is text ${count(rank)} of ${count(pool)} for this image, and its cosine`;
    return h(
      "p",
      { class: "percentiles" },
      `${what}${among} is higher than on `,
      h("b", { class: "num" }, percent(share)),
      ` of ${counted(n, "other image")}.`,
    );
  };
  /** @param {HeatmapView} given */
  const draw = ({ context: about, selection, removed }) => {
    part.classList.toggle("pending", !about);
    if (!about) return;
    const { nearest, percentiles, far, true: known } = about;
    const tick = () => h("span", { class: "tick", "aria-hidden": "true" }, "✓");
    /** @param {[string, number]} given @param {number} i */
    const one = ([text, cosine], i) =>
      textButton(
        api,
        text,
        { class: "near" },
        text,
        ...(known?.[i] ? [tick(), h("span", { class: "sr" }, "(true of the picture)")] : []),
        h("span", { class: "num" }, signed(cosine)),
      );
    part.replaceChildren(
      h(
        "h3",
        {},
        "Nearest texts of the pool",
        h(
          "span",
          {},
          `cosine with the image${removed && ` ${removed}`}`,
          ...(known ? [" · ", tick(), " true of the picture"] : []),
        ),
      ),
      roving(h("div", { class: "nears" }, ...nearest.map(one))),
      ...(percentiles ? [stands(percentiles, selection)] : []),
    );
    banner.hidden = !far;
    banner.textContent = far
      ? `${far.why} Best text: cosine ${signed(far.cosine)}, higher than on ${percent(far.share)} of ${counted(far.n_images, "image")}.`
      : "";
    Object.assign(api.root.dataset, {
      far: String(Boolean(far)),
      rank: percentiles?.rank ?? "",
      share: percentiles?.share.toFixed(6) ?? "",
      nearest: nearest[0]?.[0] ?? "",
    });
  };
  return { part, banner, draw };
};
