// What is asked: whose classes, and which sets of heads.

import { clickable, focusedBy, h, headName, link, onEnter } from "../kit/dom.js";
import { headKey, roving, segmented } from "../kit/grid.js";

/** @import { Removed } from "./removed.js" */

/** The classes: those of the collection's tasks, or typed names. @param {AblateApi} api */
export const taskChooser = (api) => {
  const box = h("div", { class: "tasks" });
  const hint = h("small", { class: "typing", role: "status" });
  const typed = h("input", {
    type: "text",
    placeholder: "your classes: a swan, an owl, a dog",
    "aria-label": "Class names, separated by commas",
    spellcheck: "false",
    maxlength: 4000,
  });
  const form = h("div", { class: "field typed", hidden: true }, typed, hint);
  let mark = (/** @type {string} */ _task) => {};
  /** @param {string} task */
  const show = (task) => {
    mark(task);
    form.hidden = task !== "typed";
  };
  /** @param {string} task */
  const choose = (task) => {
    const few =
      task === "typed" &&
      typed.value.split(",").filter((/** @type {string} */ name) => name.trim()).length < 2;
    hint.textContent = few && typed.value.trim() ? "type at least two" : "";
    if (!few) return api.ask({}, { options: { task, classes: typed.value } });
    show("typed");
    typed.focus();
  };
  typed.addEventListener(
    "keydown",
    onEnter(() => choose("typed")),
  );
  /** @param {AblateView} view */
  const set = (view) => {
    if (box.dataset.of !== view.tasks.join()) {
      box.dataset.of = view.tasks.join();
      const options = view.tasks.map(([name, note]) => [name, name[0].toUpperCase() + name.slice(1), note]);
      const [control, chosen] = segmented(
        "Classes",
        [...options, ["typed", "Yours", "Type your own class names"]],
        choose,
      );
      box.replaceChildren(control);
      mark = chosen;
    }
    show(view.task);
    if (focusedBy(typed) !== typed) typed.value = api.option("classes");
  };
  return { parts: [box, form], set };
};

/** Sets of heads worth removing. @param {AblateApi} api @param {Removed} removed */
export const presetButtons = (api, removed) => {
  const token = clickable(
    {
      class: "preset",
      "data-kind": "token",
      title: "The class token's attention to itself, in every layer (Table A.1)",
      onclick: () => {
        removed.token = !removed.token;
        removed.changed();
      },
    },
    "the class token on itself",
  );
  const presets = roving(
    h("div", { class: "presets", role: "group", "data-local": true, "aria-label": "Sets of heads" }),
  );
  const clear = link("clear", () => removed.clear());
  /** @type {Record<string, (name: string) => string>} */
  const names = {
    text: (name) => `towards “${name}”`,
    property: (name) => `${name} heads`,
    shortcut: (name) => `heads that tell ${name}`,
    role: (name) => `heads you called ${name}`,
  };
  const paint = () => {
    clear.disabled = !removed.heads.size && !removed.rest && !removed.mlps.size && !removed.token;
    token.setAttribute("aria-pressed", String(removed.token));
    token.hidden = !api.view.has_token;
    token.disabled = api.standalone;
    presets.replaceChildren(
      ...api.view.presets.map(({ kind, name, heads }) => {
        const keys = heads.map(([l, hd]) => headKey(l, hd));
        return clickable(
          {
            class: "preset",
            "data-kind": kind,
            "data-name": name,
            "aria-pressed": String(keys.length > 0 && keys.every((at) => removed.heads.has(at))),
            title: heads.map(([l, hd]) => headName(l, hd)).join(", "),
            onclick: () => removed.toggleAll(keys),
          },
          names[kind]?.(name) ?? name,
          h("span", { class: "num" }, keys.length),
        );
      }),
      api.view.complete
        ? ""
        : h("span", { class: "wait" }, "More sets appear once the collection has been read."),
      token,
    );
  };
  return { presets, clear, paint };
};

/** Two texts whose heads form a separate set: "heads that tell … from …". @param {AblateApi} api */
export const shortcutForm = (api) => {
  /** @param {string} placeholder @param {string} label */
  const box = (placeholder, label) =>
    h("input", { type: "text", placeholder, "aria-label": label, spellcheck: "false", maxlength: 300 });
  const first = box("the sea", "First text of the shortcut");
  const second = box("a forest", "Second text of the shortcut");
  const hint = h("small", { role: "status" });
  const tell = () => {
    const shortcut = first.value.trim();
    const other = second.value.trim();
    const half = Boolean(shortcut) !== Boolean(other);
    hint.textContent = half
      ? "type both texts"
      : shortcut && shortcut === other
        ? "type two different texts"
        : "";
    if (half && focusedBy(second) !== second) second.focus();
    if (!hint.textContent) api.ask({}, { options: { shortcut, shortcut_b: other } });
  };
  for (const input of [first, second]) input.addEventListener("keydown", onEnter(tell));
  const part = h(
    "div",
    {
      class: "shortcut",
      role: "group",
      "aria-label": "Your own shortcut",
      title:
        "Name the shortcut: two texts that differ as the backgrounds do, such as “the sea” and “a forest”. Enter finds the late heads that vary along their difference.",
    },
    "heads that tell",
    h("span", { class: "field" }, first),
    "from",
    h("span", { class: "field" }, second),
    hint,
  );
  const draw = () => {
    if (part.contains(focusedBy(part))) return;
    first.value = api.option("shortcut");
    second.value = api.option("shortcut_b");
  };
  return { part, draw };
};
