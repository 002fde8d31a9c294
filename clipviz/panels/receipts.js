function build(api) {
  const items = h("div", { class: "items num" });
  const said = h("span", { role: "status", class: "said" });
  const copy = h("button", { type: "button", class: "copy", onclick: async () => {
    try {
      await navigator.clipboard.writeText(api.view.code);
      said.textContent = "copied";
      setTimeout(() => (said.textContent = ""), 1500);
    } catch {
      window.prompt("Copy the code", api.view.code);
    }
  } }, "copy code");
  api.body.append(items, said, copy);
  return (view) => {
    const { share, selection } = view;
    const ok = view.sum_check < 1e-4;
    const parts = [[`${ok ? "✓" : "!"} sum check ${view.sum_check.toExponential(0).replace("e-", "e−")}`, "Largest relative difference between the summed effects and the model's own output, measured on load", ok ? "ok" : "bad"]];
    if (share) {
      parts.push([`cosine ${signed(share.cosine)}`, `Cosine of the image and “${selection.text}”: the sum of all effects`]);
      parts.push([`late heads ${signed(share.late)}`, "Summed direct effect of the last four attention layers"]);
      if (share.head !== null) parts.push([`${headName(selection.layer, selection.head)} ${signed(share.head, 4)}`, "Direct effect of the selected head"]);
    }
    parts.push([view.model, "model @ weights"], [`images ${view.images}`, "collection @ fingerprint"], [`texts ${view.texts}`, "text pool @ fingerprint"], [`${Math.round(view.milliseconds)} ms · ${view.device}`, "time of the last refresh, device"]);
    if (view.index) parts.push([`index ${view.index}`, "read from an index of the collection @ fingerprint"]);
    const [gone, looked] = view.stand_ins;
    if (gone) parts.push([`${gone.toLocaleString("en")} of ${looked.toLocaleString("en")} files missing: thumbnails shown`, "The codes are exact; what is traced anew is the thumbnail, so its heatmap is that of a smaller picture", "bad"]);
    items.replaceChildren(...parts.map(([text, title, kind]) => h("span", { title, class: kind }, text)));
    api.root.dataset.sumCheck = view.sum_check;
  };
}

export default { render: (context) => mount(context, "receipts", build) };
