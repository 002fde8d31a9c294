// A view as the page's address, readable, so that a link opens at a head, a text and an image.

/** @typedef {import("./answers.js").Selection} Selection */

/** Options that an address holds, by panel. @type {Record<string, string[]>} */
export const OPTIONS = {
  heatmap: ["scope", "show"],
  heads: ["quantity", "find"],
  images: ["order", "by", "column", "value"],
};

const dotted = (/** @type {number[]} */ pair) => pair.join(".");
const pairs = (/** @type {string} */ text) =>
  text
    .split(",")
    .filter(Boolean)
    .map((pair) => pair.split(".").map(Number));
const numbers = (/** @type {string} */ text) => text.split(",").filter(Boolean).map(Number);

/**
 * @param {Selection} s
 * @param {Record<string, Record<string, any>>} options that are not at their defaults, by panel
 * @param {number} n published images: those that somebody brought are on nobody else's page
 */
export const address = (s, options, n) => {
  const said = new URLSearchParams();
  const { ablation } = s;
  if (s.text) said.set("text", s.text);
  if (s.text_b) said.set("minus", s.text_b);
  if (s.image !== null && s.image < n) said.set("image", String(s.image));
  if (s.layer !== null && s.head !== null) said.set("head", dotted([s.layer, s.head]));
  if (s.token !== null) said.set("token", String(s.token));
  if (s.images.some((i) => i < n)) said.set("images", s.images.filter((i) => i < n).join());
  if (ablation.heads.length) said.set("without", ablation.heads.map(dotted).join());
  if (ablation.layers.length) said.set("layers", ablation.layers.join());
  if (ablation.mlps.length) said.set("mlps", ablation.mlps.join());
  if (ablation.how !== "mean") said.set("how", ablation.how);
  for (const [panel, own] of Object.entries(options))
    for (const [name, value] of Object.entries(own)) said.set(`${panel}.${name}`, String(value));
  return String(said);
};

/**
 * The selection's changes and the options that an address holds; what cannot be read is left out.
 * @param {string} hash
 */
export const read = (hash) => {
  const said = new URLSearchParams(hash.replace(/^#/, ""));
  const changes = /** @type {Record<string, any>} */ ({});
  const options = /** @type {Record<string, Record<string, string>>} */ ({});
  const take = (/** @type {string} */ name, /** @type {(text: string) => void} */ then) => {
    const text = said.get(name);
    if (text !== null) then(text);
  };
  take("text", (text) => (changes.text = text.slice(0, 300)));
  take("minus", (text) => (changes.text_b = text.slice(0, 300)));
  take("image", (text) => (changes.image = Number(text)));
  take("head", (text) => ([changes.layer, changes.head] = text.split(".").map(Number)));
  take("token", (text) => (changes.token = Number(text)));
  take("images", (text) => (changes.images = numbers(text)));
  const ablation = {
    heads: pairs(said.get("without") ?? ""),
    layers: numbers(said.get("layers") ?? ""),
    mlps: numbers(said.get("mlps") ?? ""),
    tokens: /** @type {number[]} */ ([]),
    how: said.get("how") === "zero" ? "zero" : "mean",
  };
  if (said.size) changes.ablation = ablation;
  for (const [panel, names] of Object.entries(OPTIONS))
    for (const name of names) take(`${panel}.${name}`, (text) => ((options[panel] ??= {})[name] = text));
  return { changes, options };
};
