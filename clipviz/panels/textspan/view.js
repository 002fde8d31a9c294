import {
  clickable,
  count,
  counted,
  h,
  labelled,
  messageInstead,
  NO_ROLE,
  onEnter,
  percent,
} from "../kit/dom.js";
import { fill } from "../kit/figure.js";
import { pictureUrl, tileStyle } from "../kit/gallery.js";
import { walk } from "../kit/grid.js";
import { deskLink, headLink } from "../kit/links.js";
import { mount } from "../kit/protocol.js";

/**
 * One text with its share of the variance, what random rotations explain, and its top images.
 * @param {TextSpanApi} api
 * @param {TextSpanView} view
 * @param {string} url
 * @param {number} i
 * @param {number} widest
 */
const textRow = (api, url, view, i, widest) => {
  const { text, gain, null: mean, null_high: high } = view.rows[i];
  const pass = gain > high;
  const ids = view.thumbnails?.ids[i] ?? [];
  const title = `explains ${percent(gain)} of the head's variance; random rotations: ${percent(mean)} on average, ${percent(high)} at the 95th percentile (the tick)`;
  const bar = h(
    "span",
    { class: "bar", title },
    fill(gain / widest),
    h("b", { style: { left: `${Math.min(99, (100 * high) / widest)}%` } }),
  );
  const images = ids.map((id, k) =>
    clickable({
      class: "tile thumb",
      "aria-label": `Image ${id}, number ${k + 1} for this text`,
      "data-image": id,
      disabled: !api.offers({ image: id }),
      style: tileStyle(url, view.thumbnails.places[i][k], view.thumbnails.columns, view.thumbnails.n),
      onclick: () => api.ask({ image: id }),
    }),
  );
  return h(
    "div",
    { class: `row${pass ? "" : " weak"}`, role: "listitem" },
    clickable(
      {
        class: "text",
        "aria-pressed": String(text === view.selection.text),
        title: text,
        disabled: !api.offers({ text }),
        onclick: () => api.ask({ text }),
      },
      text,
    ),
    bar,
    h("span", { class: "num share" }, percent(gain)),
    h("span", { class: "thumbs" }, ...images),
  );
};

/** How much variance the texts explain, and of which images. @param {TextSpanView} view */
const explained = (view) => {
  const set = view.selection.images.length;
  const n = view.rows.length;
  if (!n) return "";
  const read = set
    ? counted(set, "chosen image")
    : view.complete
      ? counted(view.n_read, "image")
      : `${count(view.n_read)} of ${counted(view.n_images, "image")} so far`;
  const few =
    (set || view.n_read) <= 2 * n
      ? ". With so few images almost any texts explain the variance, so add more images."
      : "";
  const used = view.n_used_up
    ? `. ${counted(view.n_used_up, "other text adds", "other texts add")} nothing to these`
    : "";
  return `${counted(n, "text explains", "texts explain")} ${percent(view.explained)} of the variance (random rotations: ${percent(view.null_explained)}) · ${read}${used}${few}`;
};

/** A person's own role for the head, typed in place and stored for the model. @param {TextSpanApi} api */
const ownRole = (api) => {
  const id = `cv-roles-${Math.random().toString(36).slice(2)}`;
  const known = h("datalist", { id });
  const input = h("input", {
    type: "text",
    class: "own",
    hidden: true,
    list: id,
    maxlength: 60,
    placeholder: "background, texture…",
    "aria-label": "Your own role for this head",
    spellcheck: "false",
  });
  const shown = clickable({ class: "own", onclick: () => open(true) });
  /** @type {any} */
  let head = null;
  /** @param {boolean} is */
  const open = (is) => {
    input.hidden = !is;
    shown.hidden = is;
    if (!is) return;
    const { layer, head: at } = api.view.selection;
    head = [layer, at];
    input.value = api.view.role;
    input.focus();
    input.select();
  };
  const done = () => {
    if (input.hidden) return;
    const role = input.value.trim();
    open(false);
    if (role !== api.view.role) api.ask({}, { action: "role", head, role });
  };
  input.addEventListener("keydown", (/** @type {On<KeyboardEvent>} */ event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      open(false);
      shown.focus();
    }
  });
  input.addEventListener(
    "keydown",
    onEnter(() => {
      done();
      shown.focus();
    }),
  );
  input.addEventListener("blur", done);
  /** @param {TextSpanView} given */
  const draw = ({ role, roles, selection }) => {
    if (!input.hidden && String(head) !== `${selection.layer},${selection.head}`) open(false);
    shown.hidden = !input.hidden || role === null || (api.standalone && !role);
    shown.disabled = api.standalone;
    shown.textContent = role ? `yours: ${role}` : "+ your role";
    shown.classList.toggle("given", Boolean(role));
    shown.title = role
      ? "The role that you gave this head; it is not computed, and is stored for this model"
      : "Give this head your own role, which is stored for this model";
    known.replaceChildren(...roles.map((/** @type {string} */ value) => h("option", { value })));
  };
  return { part: h("span", { class: "owned" }, shown, input, known), draw };
};

/** @param {TextSpanApi} api @returns {Draw<TextSpanView, TextSpanArrays>} */
function build(api) {
  const title = h("span", {}, "TextSpan");
  const label = h("span", { class: "label" });
  const own = ownRole(api);
  const list = h("div", { class: "rows", role: "list" });
  const foot = h("p", { class: "foot" });
  const key = h(
    "p",
    { class: "foot key" },
    "Ticks: 95th percentile of random rotations; bars that stay below it are grey.",
  );
  const whole = clickable(
    { class: "example", hidden: true, onclick: () => api.ask({ images: [] }) },
    "back to the whole collection",
  );
  const [empty, says] = messageInstead(list, foot);
  api.body.append(
    h("h2", {}, title, h("span", { class: "roles" }, own.part, label)),
    empty,
    list,
    key,
    foot,
    whole,
  );
  const address = pictureUrl(api);
  walk(list, () => [...list.querySelectorAll("button.text")]);

  return (view, arrays) => {
    const { layer, head, images, text } = view.selection;
    const url = address(arrays.sprite);
    title.replaceChildren(
      "TextSpan",
      ...(layer !== null && head !== null ? [" of ", headLink(api, layer, head)] : []),
    );
    says(view);
    own.draw(view);
    label.hidden = !view.label;
    if (view.label) {
      label.textContent = labelled(view.label.name, view.label.p_value);
      label.classList.toggle("unclear", view.label.name === NO_ROLE);
      label.title = view.label.why;
    }
    const widest = Math.max(1e-9, ...view.rows.map((r) => Math.max(r.gain, r.null_high)));
    list.replaceChildren(...view.rows.map((_, i) => textRow(api, url, view, i, widest)));
    const to = view.rows.length && text ? deskLink(api, "neurons", `neurons towards “${text}”`) : null;
    foot.replaceChildren(explained(view), ...(to ? [" · ", to] : []));
    key.hidden = !view.rows.length;
    whole.hidden = !images.length || api.standalone;
    Object.assign(api.root.dataset, {
      layer: layer ?? "",
      head: head ?? "",
      rows: view.rows.length,
      first: view.rows[0]?.text ?? "",
      role: view.role ?? "",
      images: images.length,
      complete: String(Boolean(view.complete)),
    });
  };
}

export default {
  /** @param {Context} context */
  render: (context) => mount(context, "textspan", build),
};
