function build(api) {
  // Not a form: a form's own Enter does nothing inside a notebook's output.
  const enter = (field) => (event) => {
    if (event.key === "Enter" && !event.isComposing) api.ask({ [field]: event.target.value.trim() });
  };
  const input = (field, letter, label, placeholder) => {
    const node = h("input", { type: "text", placeholder, "aria-label": label, autocomplete: "off", spellcheck: "false", maxlength: 300, onkeydown: enter(field) });
    const clear = h("button", { type: "button", class: "clear", "aria-label": `Clear text ${letter}`, onclick: () => { node.value = ""; api.ask({ [field]: "" }); node.focus(); } }, "✕");
    const form = h("span", { class: "field" }, h("b", {}, letter), node, clear);
    return { node, form, clear };
  };
  const a = input("text", "A", "Text A", "type a text, press Enter");
  const b = input("text_b", "− B", "Text B, subtracted", "compare with…");
  const chips = h("span", { class: "chips" });
  const undo = h("button", { type: "button", class: "square", title: "Undo (Ctrl+Z)", "aria-label": "Undo", onclick: () => api.ask({}, { action: "undo" }) }, "↶");
  const redo = h("button", { type: "button", class: "square", title: "Redo (Ctrl+Shift+Z)", "aria-label": "Redo", onclick: () => api.ask({}, { action: "redo" }) }, "↷");
  const said = h("span", { class: "said", role: "status" });
  let timer = null;
  const copy = async (what, text) => {
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = `${what} copied`;
    } catch {
      said.textContent = "";
      window.prompt(`Copy the ${what.toLowerCase()}`, text);
    }
    clearTimeout(timer);
    timer = setTimeout(() => (said.textContent = ""), 1800);
  };
  const code = h("button", { type: "button", class: "square", title: "Copy Python that reopens this view", "aria-label": "Copy code", onclick: () => copy("Code", api.view.code) }, "</>");
  const share = h("button", { type: "button", class: "square", title: "Copy a token: clipviz.Selection.from_token(…) reopens this view", onclick: () => copy("Token", api.view.token) }, "Share");
  const examples = h("div", { class: "examples", "aria-label": "Example texts" });
  api.body.append(
    h("div", { class: "bar" },
      h("span", { class: "brand" }, "clipviz"), chips,
      h("div", { class: "texts" }, a.form, b.form),
      h("span", { class: "tools" }, undo, redo, code, share)),
    examples, said);
  api.root.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z" || event.target.tagName === "INPUT") return;
    event.preventDefault();
    api.ask({}, { action: event.shiftKey ? "redo" : "undo" });
  });

  return (view) => {
    const { text, text_b } = view.selection;
    if (document.activeElement !== a.node || !a.node.value.trim()) a.node.value = text;
    if (document.activeElement !== b.node || !b.node.value.trim()) b.node.value = text_b;
    a.clear.hidden = !text;
    b.clear.hidden = !text_b;
    undo.disabled = !view.can_undo;
    redo.disabled = !view.can_redo;
    chips.replaceChildren(...[`${view.model} · ${view.size}`, view.device, `${view.n_images.toLocaleString("en")} images`].map((label) => h("span", { class: "chip" }, label)));
    examples.replaceChildren("Try ", ...view.examples.map((example) =>
      h("button", { type: "button", class: "example", "aria-pressed": String(example === text), onclick: () => { a.node.value = example; api.ask({ text: example }); } }, example)));
    examples.hidden = !view.examples.length;
    api.root.dataset.text = text;
    api.root.dataset.textB = text_b;
  };
}

export default { render: (context) => mount(context, "query", build) };
