import { clickable, copyText, count, counted, focusedBy, h, onEnter, square } from "../kit/dom.js";
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
  const clear = clickable(
    {
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
    if (focusedBy(node) !== node || !node.value.trim()) node.value = text;
    clear.hidden = !text || !api.offers({ [field]: "" });
    form.hidden = api.standalone && field === "text_b" && !text;
  };
  const form = h("span", { class: "field" }, h("b", {}, letter), node, clear);
  return { node, show, form };
};

/** The dashboard that the bar is part of. @param {QueryApi} api */
const boardOf = (api) => api.root.closest(".cv-dashboard");

/** A button that fills the screen with the board, as the key F does. @param {QueryApi} api */
const fullScreen = (api) => {
  const fill = () =>
    document.fullscreenElement ? document.exitFullscreen() : boardOf(api)?.requestFullscreen?.();
  const full = square("⤢", "Fill the screen (F)", () => void fill(), {
    "aria-label": "Fill the screen",
    hidden: !document.fullscreenEnabled,
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
    boardOf(api)?.addEventListener("keydown", pressed);
    full.hidden ||= !boardOf(api);
  });
  api.cleanups.push(() => boardOf(api)?.removeEventListener("keydown", pressed));
  return full;
};

/**
 * On a lecture's board, which has no room for both, a button that shows the images in place of the texts of a head.
 * @param {QueryApi} api
 */
const imagesInstead = (api) => {
  const lecture = () => api.root.closest(".cv-lecture");
  const toggle = () => {
    const shown = Boolean(lecture()?.classList.toggle("cv-pictures"));
    button.setAttribute("aria-pressed", String(shown));
  };
  const button = clickable(
    {
      class: "square images",
      title: "Choose an image; press again for the head's texts",
      "aria-pressed": "false",
      hidden: true,
      onclick: toggle,
    },
    "Images",
  );
  requestAnimationFrame(() => (button.hidden = !lecture()));
  return button;
};

/**
 * Tour, images, undo and redo, copies of the view, the whole screen.
 * @param {QueryApi} api
 * @param {any} said
 * @returns {[any, (view: QueryView) => void]}
 */
const boardTools = (api, said) => {
  const undo = square("↶", "Undo (Ctrl+Z)", () => api.ask({}, { action: "undo" }), { "aria-label": "Undo" });
  const redo = square("↷", "Redo (Ctrl+Shift+Z)", () => api.ask({}, { action: "redo" }), {
    "aria-label": "Redo",
  });
  const code = square(
    "</>",
    "Copy Python code that reopens this view",
    () => copyText(said, "Code", api.view.code),
    { "aria-label": "Copy code", class: "copy" },
  );
  const share = clickable(
    {
      class: "square copy",
      title: "Copy a token; session.view = clipviz.View.from_token(…) reopens this view",
      onclick: () => copyText(said, "Token", api.view.token),
    },
    "Share",
  );
  const tour = clickable(
    {
      class: "square tour",
      title: "A few steps through the board",
      hidden: api.standalone || !api.model.get("n_steps"),
      onclick: () => api.ask({}, { action: "tour" }),
    },
    "Tour",
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
  /** @param {QueryView & Shown} view */
  const set = (view) => {
    undo.disabled = !view.can_undo;
    redo.disabled = !view.can_redo;
    for (const button of [undo, redo]) button.hidden = api.standalone;
    // These copy code for the saved view.
    for (const button of [code, share]) button.hidden = view.asSaved === false;
  };
  const tools = h(
    "span",
    { class: "tools", role: "toolbar", "aria-label": "Board" },
    tour,
    imagesInstead(api),
    undo,
    redo,
    code,
    share,
    fullScreen(api),
  );
  return [roving(tools), set];
};

/** A way past the bar for those who use keys. @param {QueryApi} api */
const skipLink = (api) => {
  const head = () => boardOf(api)?.querySelector('[data-panel="heads"] .cell[tabindex="0"]');
  const act = () => /** @type {HTMLElement | null} */ (head())?.focus();
  const skip = clickable({ class: "skip", hidden: true, onclick: act }, "Skip to the heads");
  requestAnimationFrame(() => (skip.hidden = !boardOf(api)?.querySelector('[data-panel="heads"]')));
  return skip;
};

/**
 * Texts to try.
 * @param {QueryApi} api
 * @param {(text: string) => void} show
 * @returns {[any, (view: QueryView & Shown) => void]}
 */
const exampleTexts = (api, show) => {
  const examples = roving(h("div", { class: "examples", role: "group", "aria-label": "Example texts" }));
  /** @param {string} text @param {boolean} pressed */
  const one = (text, pressed) => {
    const choose = () => {
      show(text);
      api.ask({ text });
    };
    return clickable({ class: "example", "aria-pressed": String(pressed), onclick: choose }, text);
  };
  /** @param {QueryView & Shown} view */
  const set = (view) => {
    const shown = view.examples.map((text) => one(text, text === view.selection.text));
    examples.replaceChildren(api.standalone ? "Texts " : "Try ", ...shown);
    examples.hidden = !view.examples.length;
  };
  return [examples, set];
};

/** @param {QueryApi} api @returns {Draw<QueryView, QueryArrays>} */
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
  const [tools, setTools] = boardTools(api, said);
  const [examples, setExamples] = exampleTexts(api, (text) => (a.node.value = text));
  api.printed = false; // a bar of texts has no figure
  api.body.append(
    skipLink(api),
    h(
      "div",
      { class: "bar" },
      h("span", { class: "brand" }, "clipviz"),
      h("div", { class: "texts" }, a.form, b.form),
      tools,
    ),
    cut,
    h("div", { class: "bar" }, examples, chips),
    said,
  );

  return (view) => {
    const { text, text_b } = view.selection;
    a.show(text);
    b.show(text_b);
    setTools(view);
    setExamples(view);
    chips.replaceChildren(
      ...[`${view.model} · ${view.size}`, view.device, counted(view.n_images, "image")].map((label) =>
        h("span", { class: "chip" }, label),
      ),
    );
    Object.assign(api.root.dataset, { text, textB: text_b });
  };
}

export default {
  /** @param {Context} context */
  render: (context) => mount(context, "query", build),
};
