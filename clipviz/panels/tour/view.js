import { clickable, focusedBy, h } from "../kit/dom.js";
import { mount } from "../kit/protocol.js";

/**
 * The card of a step, placed inside the panel that the step is about; on a lecture's board, which has little
 * room, below the texts.
 * @param {(by: number) => void} go
 */
const card = (go) => {
  const title = h("b", { class: "title", id: "cv-tour-title" });
  const text = h("p", { class: "told", id: "cv-tour-text" });
  const where = h("span", { class: "where num" });
  const note = h("p", { class: "note", role: "alert", hidden: true });
  const back = clickable({ class: "square back", onclick: () => go(-1) }, "Back");
  const next = clickable({
    class: "square next",
    "aria-describedby": "cv-tour-title cv-tour-text",
    onclick: () => go(1),
  });
  const close = clickable(
    {
      class: "square close",
      title: "End the tour (Esc)",
      "aria-label": "End the tour",
      onclick: () => go(0),
    },
    "✕",
  );
  const node = h(
    "div",
    { class: "cv-tour-card", role: "group", "aria-label": "Tour" },
    h("div", { class: "says" }, h("p", { class: "head" }, where, title), text, note),
    h("div", { class: "steps" }, back, next, close),
  );
  node.addEventListener("keydown", (/** @type {On<KeyboardEvent>} */ event) => {
    if (event.key === "Escape") {
      event.preventDefault();
      go(0);
    }
  });
  return { node, title, text, where, note, back, next };
};

/**
 * Scrolls a panel into view if it is not completely visible.
 * @param {any} panel
 * @param {boolean} grows its content is still being loaded
 */
const bring = (panel, grows) => {
  const { top, bottom } = panel.getBoundingClientRect();
  if (grows || top < 60 || bottom > window.innerHeight) panel.scrollIntoView({ block: "start" });
};

/** @param {TourApi} api @returns {Draw<TourView, TourArrays>} */
function build(api) {
  /** @type {any} */
  let panel = null;
  let held = false; // the focus was on the card, whose panel may be closed before the answer comes
  const board = () => api.root.closest(".cv-dashboard");
  const lecture = () => board()?.querySelector('.cv-lecture [data-panel="query"]');
  /** @param {number} by */
  const go = (by) => {
    const { at, steps } = api.view;
    held = made.node.contains(focusedBy(made.node));
    api.ask({}, { action: "go", step: by === 0 || at + by > steps.length ? 0 : at + by });
  };
  const made = card(go);
  const leave = () => {
    panel?.removeAttribute("data-toured");
    panel = null;
    made.node.remove();
  };
  const place = () => {
    const step = api.view.steps?.[api.view.at - 1];
    const found = step && board()?.querySelector(`[data-panel="${step.panel}"]`);
    if (!found || (found === panel && made.node.isConnected)) return;
    leave();
    panel = found;
    panel.dataset.toured = "true";
    if (lecture()) lecture().append(made.node);
    else panel.prepend(made.node);
    made.next.focus({ preventScroll: true });
    if (!lecture()) bring(panel, Boolean(panel.closest(".cv-desks")));
    api.root.dataset.panelShown = step.panel;
  };
  const waiting = new MutationObserver(place); // a desk is built only when it is opened
  api.cleanups.push(() => {
    waiting.disconnect();
    leave();
  });
  const problem = () => {
    const { message } = api.model.get("error") ?? {};
    made.note.hidden = !message;
    made.note.textContent = message ?? "";
  };
  api.model.on("change:error", problem);
  api.cleanups.push(() => api.model.off("change:error", problem));

  return ({ at, steps }) => {
    const step = steps[at - 1];
    Object.assign(api.root.dataset, { at, steps: steps.length, panelShown: "" });
    problem();
    if (!step) {
      const focused = focusedBy(api.root);
      const lost = !focused || focused === document.body || made.node.contains(focused);
      waiting.disconnect();
      leave();
      if (held && lost)
        /** @type {HTMLElement | null} */ (board()?.querySelector('[data-panel="query"] .tour'))?.focus();
      held = false;
      return;
    }
    made.title.textContent = step.title;
    made.text.textContent = step.text;
    made.where.textContent = `Step ${at} of ${steps.length}`;
    made.back.disabled = at === 1;
    made.next.textContent = at === steps.length ? "Finish" : "Next";
    place();
    const shown = board();
    if (shown) waiting.observe(shown, { childList: true, subtree: true });
    else
      requestAnimationFrame(() => {
        place();
        if (board()) waiting.observe(board(), { childList: true, subtree: true });
      });
  };
}

export default {
  /** @param {Context} context */
  render: (context) => mount(context, "tour", build),
};
