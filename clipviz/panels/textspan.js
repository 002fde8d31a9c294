function build(api) {
  const title = h("span", {}, "TextSpan");
  const label = h("span", { class: "label" });
  const list = h("div", { class: "rows", role: "list" });
  const foot = h("p", { class: "foot" });
  const empty = h("p", { class: "empty", hidden: true });
  const whole = h("button", { type: "button", class: "example", hidden: true, onclick: () => api.ask({ images: [] }) }, "back to the whole collection");
  api.body.append(h("h3", {}, title, label), empty, list, foot, whole);
  let url = null;
  api.cleanups.push(() => url && URL.revokeObjectURL(url));

  list.addEventListener("keydown", (event) => {
    if (!["ArrowDown", "ArrowUp"].includes(event.key)) return;
    const buttons = [...list.querySelectorAll("button.text")];
    const to = buttons[buttons.indexOf(event.target) + (event.key === "ArrowDown" ? 1 : -1)];
    if (!to) return;
    event.preventDefault();
    to.focus();
  });

  const row = (view, { text, gain, null: low, null_high: high }, i, widest) => {
    const pass = gain > high;
    const ids = view.thumbnails?.ids[i] ?? [];
    const bar = h("span", { class: "bar", title: `explains ${percent(gain)} of the head's variance; under random rotations ${percent(low)} on average, ${percent(high)} at the 95th percentile` },
      h("i", { style: { width: `${(100 * gain) / widest}%` } }), h("b", { style: { left: `${Math.min(99, (100 * low) / widest)}%` } }));
    const images = ids.map((id, k) => h("button", { type: "button", class: "tile thumb", "aria-label": `Image ${id}, number ${k + 1} for this text`, "data-image": id, style: tileStyle(url, i * view.thumbnails.columns + k, view.thumbnails.columns, view.rows.length * view.thumbnails.columns), onclick: () => api.ask({ image: id }) }));
    return h("div", { class: `row${pass ? "" : " weak"}`, role: "listitem" },
      h("button", { type: "button", class: "text", "aria-pressed": String(text === view.selection.text), title: text, onclick: () => api.ask({ text }) }, text),
      bar, h("span", { class: "num share" }, percent(gain)), h("span", { class: "thumbs" }, ...images));
  };

  return (view, arrays) => {
    const { layer, head } = view.selection;
    if (url) URL.revokeObjectURL(url);
    url = arrays.sprite ? bytesUrl(arrays.sprite, "image/jpeg") : null;
    const named = layer !== null && head !== null;
    title.textContent = named ? `TextSpan of ${headName(layer, head)}` : "TextSpan";
    empty.hidden = !view.message;
    empty.textContent = view.message;
    label.hidden = !view.label;
    if (view.label) {
      label.textContent = view.label.name;
      label.classList.toggle("unclear", view.label.name === "no clear role");
      label.title = view.label.why;
    }
    const widest = Math.max(1e-9, ...view.rows.map((r) => Math.max(r.gain, r.null)));
    list.replaceChildren(...view.rows.map((r, i) => row(view, r, i, widest)));
    const set = view.selection.images.length;
    const read = view.complete || set ? `${set || view.n_read} ${set ? "chosen " : ""}images` : `${view.n_read} of ${view.n_images} images so far`;
    const few = (set || view.n_read) <= 2 * view.rows.length;
    foot.textContent = view.rows.length
      ? `${view.rows.length} ${view.rows.length === 1 ? "text explains" : "texts explain"} ${percent(view.explained)}; the null (ticks) ${percent(view.null_explained)} · ${read}${few ? ". So few images vary in so few ways that any texts would do: add more." : ""}` : "";
    whole.hidden = !set;
    Object.assign(api.root.dataset, { layer: layer ?? "", head: head ?? "", rows: view.rows.length, first: view.rows[0]?.text ?? "", images: set, complete: String(Boolean(view.complete)) });
  };
}

export default { render: (context) => mount(context, "textspan", build) };
