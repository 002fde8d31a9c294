// Elements, text and keys. Texts come from files and users, so elements are built from text nodes only.

/**
 * An element; attributes named on… are listeners, `style` is an object; null and false attributes are left
 * out.
 * @param {string} tag @param {Attributes} [attributes] @param {...Child} children @returns {any}
 */
export const h = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(node.style, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(
    .../** @type {(Node | string)[]} */ (children.filter((child) => child !== null && child !== undefined)),
  );
  return node;
};

/**
 * The element with the focus, in the page or in the shadow root that `near` is part of.
 * @param {Node} near
 * @returns {any}
 */
export const focusedBy = (near) => /** @type {any} */ (near.getRootNode()).activeElement ?? null;

/** A button that sends no form. @param {Attributes} attributes @param {...Child} children */
export const clickable = (attributes, ...children) =>
  h("button", { type: "button", ...attributes }, ...children);

/**
 * A checkbox with its words; returns the label and the box.
 * @param {string} words
 * @param {Attributes} attributes those of the label
 * @param {(on: boolean) => void} choose
 */
export const checkbox = (words, attributes, choose) => {
  const box = h("input", { type: "checkbox", onchange: () => choose(box.checked) });
  return [h("label", attributes, box, words), box];
};

/**
 * The element that an event happened in, or its nearest ancestor that fits.
 * @param {Event} event
 * @param {string} selector
 * @returns {any}
 */
export const closest = (event, selector) => /** @type {Element} */ (event.target).closest(selector);

/** @param {number} value @param {number} [digits] */
export const signed = (value, digits = 3) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);
/**
 * A number of a scale, with enough digits to differ from zero: 0.057, 0.00042, 3.1e−7.
 * @param {number} value
 */
export const scaled = (value) => {
  const size = Math.abs(value);
  if (!size || size >= 0.01) return value.toFixed(size ? 3 : 0).replace("-", "−");
  return (size >= 1e-5 ? value.toFixed(1 - Math.floor(Math.log10(size))) : value.toExponential(1)).replaceAll(
    "-",
    "−",
  );
};
/** The two ends of a scale around zero. @param {number} limit @returns {[string, string]} */
export const scaleEnds = (limit) => [`−${scaled(limit)}`, `+${scaled(limit)}`];
/** @param {number} value */
export const percent = (value) => `${(100 * value).toFixed(1)}%`;
/** How rare a finding is under its null: "p = .005". @param {number} p */
const pValue = (p) =>
  `p ${p >= 0.001 ? "=" : "<"} ${Math.max(p, 0.001).toFixed(3).replace(/^0/, "").replace(/0$/, "")}`;
export const NO_ROLE = "no clear role";
/**
 * A head's label and how rare it is, where it has one.
 * @param {string} name @param {number} p
 */
export const labelled = (name, p) => (name === NO_ROLE ? name : `${name} · ${pValue(p)}`);
/** @param {number} n */
export const count = (n) => n.toLocaleString("en");
/** "1 image", "12 images". @param {number} n @param {string} one @param {string} [many] */
export const counted = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
/** @param {number} layer @param {number} head */
export const headName = (layer, head) => `L${layer}·H${head}`;

/**
 * A listener that calls `act` with the trimmed text when Enter is pressed.
 * @param {(text: string) => void} act
 */
export const onEnter = (act) => (/** @type {On<KeyboardEvent>} */ event) => {
  if (event.key !== "Enter" || event.isComposing) return;
  event.preventDefault();
  act(event.target.value.trim());
};

/**
 * A button that looks like a link.
 * @param {string} text
 * @param {() => void} act
 * @param {Record<string, any>} [more]
 */
export const link = (text, act, more = {}) =>
  clickable({ ...more, class: `link ${more.class ?? ""}`.trim(), onclick: act }, text);

/**
 * A small square button.
 * @param {string} text
 * @param {string} label
 * @param {() => void} act
 * @param {Record<string, any>} [more]
 */
export const square = (text, label, act, more = {}) =>
  clickable(
    { title: label, "aria-label": label, ...more, class: `square ${more.class ?? ""}`.trim(), onclick: act },
    text,
  );

/**
 * A message for an empty panel; says(view) shows the view's message in place of `parts` and returns whether
 * it did.
 * @param {any[]} parts @returns {[any, (view: any) => boolean]}
 */
export const messageInstead = (...parts) => {
  const line = h("p", { class: "empty", role: "status", hidden: true });
  /** @param {{ message?: string }} view */
  const says = (view) => {
    line.hidden = !view.message;
    line.textContent = view.message ?? "";
    parts.forEach((part) => (part.hidden = Boolean(view.message)));
    return Boolean(view.message);
  };
  return [line, says];
};

/** Copies a text and says so. @param {any} said @param {string} what @param {string} text */
export const copyText = async (said, what, text) => {
  try {
    await navigator.clipboard.writeText(text);
    said.textContent = `${what} copied`;
    setTimeout(() => (said.textContent = ""), 1800);
  } catch {
    window.prompt(`Copy the ${what.toLowerCase()}`, text);
  }
};
