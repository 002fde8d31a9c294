// The heads that write at the chosen token.

import { clickable, h, headName, signed } from "../kit/dom.js";
import { fill, signName } from "../kit/figure.js";
import { roving } from "../kit/grid.js";

const TOKEN_HEADS = 5;

/** Which heads write at the chosen token. @param {HeatmapApi} api @param {any} given */
export const tokenHeads = (api, { reader }) => {
  const part = h("div", { class: "part token" });
  const draw = () => {
    const { n_layers: L, n_heads: H, cols, selection } = api.view;
    const chosen = selection.token;
    const { at, plain } = reader();
    part.dataset.heads = "";
    if (!chosen)
      return part.replaceChildren(
        h("h3", {}, "Heads active at this patch"),
        h(
          "p",
          { class: "note" },
          "Click a patch, or move over the image with the arrow keys, to see the heads that write there.",
        ),
      );
    const all = [];
    for (let layer = 0; layer < L; layer++)
      for (let head = 0; head < H; head++) all.push([layer, head, at(layer, head, chosen)]);
    const total = all.reduce((sum, [, , v]) => sum + v, 0);
    const first = all.sort((a, b) => Math.abs(b[2]) - Math.abs(a[2])).slice(0, TOKEN_HEADS);
    const widest = Math.abs(first[0][2]) || 1;
    /** @param {[number, number, number]} given */
    const row = ([layer, head, v]) =>
      clickable(
        {
          class: "writer",
          "data-layer": layer,
          "data-head": head,
          "aria-pressed": String(layer === selection.layer && head === selection.head),
          title: `Select ${headName(layer, head)}`,
          disabled: !api.offers({ layer, head }),
          onclick: () => api.ask({ layer, head }),
        },
        h("span", { class: "name" }, headName(layer, head)),
        h("span", { class: "bar" }, fill(Math.abs(v) / widest, plain ? "plain" : signName(v))),
        h("span", { class: "num" }, plain ? v.toFixed(3) : signed(v, 4)),
      );
    part.dataset.heads = first.map(([layer, head]) => `${layer},${head}`).join(" ");
    part.dataset.spoken = `Most active: ${first
      .slice(0, 3)
      .map(([layer, head]) => headName(layer, head))
      .join(", ")}`;
    part.replaceChildren(
      h(
        "h3",
        {},
        `Heads active at patch (${Math.floor((chosen - 1) / cols)}, ${(chosen - 1) % cols})`,
        h("span", { class: "num" }, plain ? "attention" : `all heads ${signed(total, 4)}`),
      ),
      roving(h("div", { class: "writers" }, ...first.map(row))),
    );
  };
  return { part, draw };
};
