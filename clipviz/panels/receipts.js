/** [text, explanation, kind] of everything that the numbers on screen rest on. */
const receipts = (view) => {
  const { share, selection, sum_check: check, stand_ins: [gone, looked] } = view, ok = check < 1e-4;
  const parts = [[`${ok ? "✓" : "!"} sum check ${check.toExponential(0).replace("e-", "e−")}`, "Largest relative difference between the summed effects and the model's own output, measured on load", ok ? "ok" : "bad"]];
  if (share) {
    parts.push([`cosine ${signed(share.cosine)}`, `Cosine of the image and “${selection.text}”: the sum of all effects`]);
    parts.push([`late heads ${signed(share.late)}`, "Summed direct effect of the last four attention layers"]);
    if (share.head !== null) parts.push([`${headName(selection.layer, selection.head)} ${signed(share.head, 4)}`, "Direct effect of the selected head"]);
  }
  parts.push([view.model, "model @ weights"], [`images ${view.images}`, "collection @ fingerprint"], [`texts ${view.texts}`, "text pool @ fingerprint"], [`${Math.round(view.milliseconds)} ms · ${view.device}`, "time of the last refresh, device"]);
  if (view.index) parts.push([`index ${view.index}`, "read from an index of the collection @ fingerprint"]);
  if (gone) parts.push([`${count(gone)} of ${counted(looked, "file")} missing: thumbnails shown`, "The codes are exact; heatmaps are computed from the thumbnail, a smaller picture", "bad"]);
  return parts;
};

function build(api) {
  const items = h("div", { class: "items num" }), said = h("span", { role: "status", class: "said" });
  const copy = h("button", { type: "button", class: "copy", onclick: () => copyText(said, "Code", api.view.code) }, "copy code");
  api.body.append(items, said, copy);
  return (view) => {
    items.replaceChildren(...receipts(view).map(([text, title, kind]) => h("span", { title, class: kind }, text)));
    api.root.dataset.sumCheck = view.sum_check;
  };
}

export default { render: (context) => mount(context, "receipts", build) };
