import { copyText, count, counted, h, onEnter, square } from "../kit/dom.js";
import { roving } from "../kit/grid.js";
import { mount } from "../kit/protocol.js";

const MOST = 300; // characters of a text

/**
 * One text field of the bar. Not a form: a form's own Enter does nothing inside a notebook's output.
 * @param {QueryApi} api
 * @param {string} field
 * @param {string} letter
 * @param {string} label
 * @param {string} placeholder
 * @param {(words: string) => void} cut
 */
const textField = (api, field, letter, label, placeholder, cut) => {
  const shorten = () => {
    const length = node.value.length;
    if (length > MOST) node.value = node.value.slice(0, MOST);
    cut(length > MOST ? `${label} was shortened to its first ${MOST} of ${count(length)} characters.` : "");
  };
  const node = h("input", {
    type: "text",
    placeholder: api.standalone ? "" : placeholder,
    readonly: api.standalone,
    title: api.standalone ? "This page has answers for the texts below" : null,
    "aria-label": label,
    autocomplete: "off",
    spellcheck: "false",
    oninput: shorten,
    onkeydown: onEnter((text) => api.ask({ [field]: text })),
  });
  const clear = h(
    "button",
    {
      type: "button",
      class: "clear",
      "aria-label": `Clear text ${letter}`,
      onclick: () => {
        node.value = "";
        api.ask({ [field]: "" });
        node.focus();
      },
    },
    "✕",
  );
  /** @param {string} text */
  const show = (text) => {
    if (document.activeElement !== node || !node.value.trim()) node.value = text;
    clear.hidden = !text || !api.offers({ [field]: "" });
    form.hidden = api.standalone && field === "text_b" && !text;
  };
  const form = h("span", { class: "field" }, h("b", {}, letter), node, clear);
  return { node, show, form };
};

/**
 * @param {QueryApi} api
 * @returns {Draw<QueryView, QueryArrays>}
 */
function build(api) {
  const cut = h("p", { class: "cut", role: "status", hidden: true });
  /** @param {string} text */
  const tell = (text) => {
    cut.hidden = !text;
    cut.textContent = text;
  };
  const a = textField(api, "text", "A", "Text A", "type a text, press Enter", tell);
  const b = textField(api, "text_b", "− B", "Text B, subtracted", "compare with…", tell);
  const chips = h("span", { class: "chips" });
  const said = h("span", { class: "said", role: "status" });
  const undo = square("↶", "Undo (Ctrl+Z)", () => api.ask({}, { action: "undo" }), { "aria-label": "Undo" });
  const redo = square("↷", "Redo (Ctrl+Shift+Z)", () => api.ask({}, { action: "redo" }), {
    "aria-label": "Redo",
  });
  const code = square(
    "</>",
    "Copy Python code that reopens this view",
    () => copyText(said, "Code", api.view.code),
    { "aria-label": "Copy code" },
  );
  const share = h(
    "button",
    {
      type: "button",
      class: "square",
      title: "Copy a token; session.view = clipviz.View.from_token(…) reopens this view",
      onclick: () => copyText(said, "Token", api.view.token),
    },
    "Share",
  );
  const board = () => api.root.closest(".cv-dashboard");
  const fill = () =>
    document.fullscreenElement ? document.exitFullscreen() : board()?.requestFullscreen?.();
  const full = square("⤢", "Fill the screen (F)", () => void fill(), {
    "aria-label": "Fill the screen",
    hidden: !document.fullscreenEnabled,
  });
  const tour = h(
    "button",
    {
      type: "button",
      class: "square tour",
      title: "A few steps through the board",
      hidden: api.standalone || !api.model.get("n_steps"),
      onclick: () => api.ask({}, { action: "tour" }),
    },
    "Tour",
  );
  const examples = roving(h("div", { class: "examples", role: "group", "aria-label": "Example texts" }));
  const skip = h(
    "button",
    {
      type: "button",
      class: "skip",
      hidden: true,
      onclick: () =>
        /** @type {HTMLElement | null} */ (
          board()?.querySelector('[data-panel="heads"] .cell[tabindex="0"]')
        )?.focus(),
    },
    "Skip to the heads",
  );
  api.printed = false; // a bar of texts has no figure
  api.body.append(
    skip,
    h(
      "div",
      { class: "bar" },
      h("span", { class: "brand" }, "clipviz"),
      h("div", { class: "texts" }, a.form, b.form),
      roving(
        h(
          "span",
          { class: "tools", role: "toolbar", "aria-label": "Board" },
          tour,
          undo,
          redo,
          code,
          share,
          full,
        ),
      ),
    ),
    cut,
    h("div", { class: "bar" }, examples, chips),
    said,
  );
  api.root.addEventListener("keydown", (event) => {
    if (
      api.standalone ||
      !(event.ctrlKey || event.metaKey) ||
      event.key.toLowerCase() !== "z" ||
      /** @type {any} */ (event.target).tagName === "INPUT"
    )
      return;
    event.preventDefault();
    api.ask({}, { action: event.shiftKey ? "redo" : "undo" });
  });

  const pressed = (/** @type {any} */ event) => {
    if (
      event.key !== "f" ||
      event.ctrlKey ||
      event.metaKey ||
      event.altKey ||
      event.target.closest?.("input, select, textarea")
    )
      return;
    event.preventDefault();
    void fill();
  };
  requestAnimationFrame(() => {
    board()?.addEventListener("keydown", pressed);
    full.hidden ||= !board();
    skip.hidden = !board()?.querySelector('[data-panel="heads"]');
  });
  api.cleanups.push(() => board()?.removeEventListener("keydown", pressed));

  return (view) => {
    const { text, text_b } = view.selection;
    a.show(text);
    b.show(text_b);
    undo.disabled = !view.can_undo;
    redo.disabled = !view.can_redo;
    for (const button of [undo, redo]) button.hidden = api.standalone;
    // These copy code for the saved view.
    for (const button of [code, share]) button.hidden = view.asSaved === false;
    chips.replaceChildren(
      ...[`${view.model} · ${view.size}`, view.device, counted(view.n_images, "image")].map((label) =>
        h("span", { class: "chip" }, label),
      ),
    );
    examples.replaceChildren(
      api.standalone ? "Texts " : "Try ",
      ...view.examples.map((example) =>
        h(
          "button",
          {
            type: "button",
            class: "example",
            "aria-pressed": String(example === text),
            onclick: () => {
              a.node.value = example;
              api.ask({ text: example });
            },
          },
          example,
        ),
      ),
    );
    examples.hidden = !view.examples.length;
    Object.assign(api.root.dataset, { text, textB: text_b });
  };
}

export default {
  /** @param {Context} context */
  render: (context) => mount(context, "query", build),
};
