import { clickable, copyText, count, counted, h } from "../kit/dom.js";
import { change, headLink } from "../kit/links.js";
import { mount } from "../kit/protocol.js";

/**
 * The selected head's share of the cosine, and what it was before a removal.
 * @param {ReceiptsApi} api
 * @returns {(number | null)[]}
 */
const ownHead = ({
  view: {
    selection: { layer, head },
    n_heads: H,
  },
  arrays: { heads, heads_before: before },
}) => [heads, before].map((all) => (all && layer !== null && head !== null ? all[layer * H + head] : null));

/**
 * [text, explanation, kind] of everything that the numbers on screen are based on.
 * @param {ReceiptsApi} api
 * @param {ReceiptsView} view
 * @returns {[any, string, string?][]}
 */
const receipts = (api, view) => {
  const {
    share,
    before,
    selection,
    sum_check: check,
    stand_ins: [gone, looked],
  } = view;
  const ok = check < 1e-4;
  const { text, text_b: other } = selection;
  const of = other ? `“${text}” minus that with “${other}”` : `“${text}”`;
  /** @type {[any, string, string?][]} */
  const parts = [
    [
      `${ok ? "✓" : "!"} sum check ${check.toExponential(0).replace("e-", "e−")}`,
      "Largest relative difference between the summed effects and the model's own output, measured on load",
      ok ? "ok" : "bad",
    ],
  ];
  if (share) {
    const after = before ? "; before → after removing heads" : "";
    parts.push([
      `cosine${other ? " A − B" : ""} ${change(share.cosine, before?.cosine)}`,
      `Cosine of the image and ${of}: the sum of all effects${after}`,
    ]);
    parts.push([
      `late heads ${change(share.late, before?.late)}`,
      `Summed direct effect of the last four attention layers on this cosine${after}`,
    ]);
    const [now, then] = ownHead(api);
    if (now !== null)
      parts.push([
        [headLink(api, selection.layer, selection.head), ` ${change(now, then, 4)}`],
        `Direct effect of the selected head on this cosine${after}`,
      ]);
  }
  parts.push([
    `readout: ${view.readout}`,
    "How the embedding is computed from the tokens. The MLP after an attention pool cannot be split over heads, so its share of this image’s embedding is stated.",
  ]);
  parts.push(
    [view.model, "model @ weights"],
    [`images ${view.images}`, "collection @ fingerprint"],
    [`texts ${view.texts}`, "text pool @ fingerprint"],
    [`${Math.round(view.milliseconds)} ms · ${view.device}`, "time of the last refresh, device"],
  );
  if (view.index)
    parts.push([
      `index ${view.index} · ${count(view.index_bytes)} bytes per image`,
      "read from an index of the collection @ fingerprint; head codes are kept whole in float16, statistics in float64",
    ]);
  if (gone)
    parts.push([
      `${count(gone)} of ${counted(looked, "file")} missing or replaced: thumbnails shown`,
      "The codes are exact; heatmaps are computed from the thumbnail, a smaller picture",
      "bad",
    ]);
  for (const note of view.notes ?? []) parts.push([note, "A problem that affects this view", "bad"]);
  return parts;
};

/** @param {ReceiptsApi} api @returns {Draw<ReceiptsView, ReceiptsArrays>} */
function build(api) {
  const items = h("div", { class: "items num" });
  const said = h("span", { role: "status", class: "said" });
  const copy = clickable(
    { class: "copy", onclick: () => copyText(said, "Code", api.view.code) },
    "copy code",
  );
  api.printed = false; // nothing is drawn
  api.body.append(items, said, copy);
  return (view) => {
    items.replaceChildren(
      ...receipts(api, view).map(([text, title, kind]) =>
        h("span", { title, class: kind }, ...[text].flat()),
      ),
    );
    copy.hidden = view.asSaved === false;
    const { share, before } = view;
    /** @param {Share | null} values @param {"cosine" | "late"} name */
    const fixed = (values, name) => values?.[name]?.toFixed(6) ?? "";
    Object.assign(api.root.dataset, {
      sumCheck: view.sum_check,
      cosine: fixed(share, "cosine"),
      late: fixed(share, "late"),
      head: ownHead(api)[0]?.toFixed(6) ?? "",
      cosineBefore: fixed(before, "cosine"),
    });
  };
}

export default {
  /** @param {Context} context */
  render: (context) => mount(context, "receipts", build),
};
