// Colours, legends and tips. Orange for positive, blue for negative, distinguishable for colour-blind readers; zero
// is the ground.

import { closest, h } from "./dom.js";

/** @type {Record<string, Record<string, Colour>>} */
export const DIVERGING = {
  light: { pos: [194, 65, 12], neg: [29, 78, 216], zero: [243, 244, 246] },
  dark: { pos: [240, 138, 75], neg: [122, 162, 255], zero: [38, 45, 55] },
};
export const CATEGORIES = [
  "#0072b2",
  "#d55e00",
  "#009e73",
  "#cc79a7",
  "#b58900",
  "#56b4e9",
  "#8c564b",
  "#6a5acd",
  "#7f7f7f",
];
/** @param {Colour} a @param {Colour} b @param {number} t */
export const mix = (a, b, t) => a.map((value, i) => Math.round(value + (b[i] - value) * t));
/** @param {number} value @param {number} limit @param {string} theme */
export const diverging = (value, limit, theme) => {
  const { pos, neg, zero } = DIVERGING[theme];
  const t = limit > 0 ? Math.min(1, Math.abs(value) / limit) : 0;
  return mix(zero, value < 0 ? neg : pos, Math.pow(t, 0.8));
};
/** @param {Colour} colour */
export const rgb = (colour) => `rgb(${colour.join(",")})`;
/** Relative luminance by WCAG. @param {Colour} colour */
const luminance = (colour) => {
  const [r, g, b] = colour.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
/** @type {[string, Colour][]} */
const INKS = [
  ["#111827", [17, 24, 39]],
  ["#ffffff", [255, 255, 255]],
  ["#000000", [0, 0, 0]],
];
/**
 * The first ink whose contrast with a colour is at least 4.5; black or white has it on any colour.
 * @param {Colour} colour
 */
export const inkOn = (colour) => {
  const ground = luminance(colour) + 0.05;
  const found = INKS.find(([, ink]) => {
    const ratio = ground / (luminance(ink) + 0.05);
    return Math.max(ratio, 1 / ratio) >= 4.5;
  });
  return found ? found[0] : "#000000";
};
/** @param {string[]} colours */
export const gradient = (...colours) => `linear-gradient(90deg, ${colours.join(",")})`;
/** @param {string} theme */
export const divergingGradient = (theme) =>
  gradient(...["neg", "zero", "pos"].map((name) => rgb(DIVERGING[theme][name])));

/**
 * The parts of a colour bar with its ends and its quantity.
 * @param {Child} low
 * @param {Child} high
 * @param {string} background
 * @param {string} what
 */
export const colourBar = (low, high, background, what) => [
  h("span", { class: "num" }, low),
  h("i", { style: { background } }),
  h("span", { class: "num" }, high),
  h("span", { class: "what" }, what),
];

/** The sign of a number as a class name. @param {number} value */
export const signName = (value) => (value < 0 ? "neg" : "pos");

/** A bar whose length is a share of its track. @param {number} share @param {string} [kind] */
export const fill = (share, kind) =>
  h("i", { class: kind, style: { width: `${100 * Math.min(1, Math.max(0, share))}%` } });

/** The sign of a number as a class name of its text or bar. @param {number} value */
export const minusOrPlus = (value) => (value < 0 ? "minus" : "plus");

/**
 * A bar to the right of its track's middle for a positive value, to the left for a negative one.
 * @param {number} value
 * @param {number} widest
 */
export const signedBar = (value, widest) =>
  h("span", { class: "signed" }, fill(Math.abs(value) / widest / 2, minusOrPlus(value)));

/**
 * A line below a grid about the cell under the pointer: words(cell) is its text, null where there is nothing
 * to say; idle is what it says without one. It covers no cell and is as wide as the grid.
 * @param {any} grid @param {(cell: any) => string | null} words @param {string} [idle]
 */
export const lineBelow = (grid, words, idle = "") => {
  const line = h("p", { class: "about-cell", "aria-hidden": "true" }, idle); // cells say it themselves
  /** @param {string | null} said */
  const tell = (said) => {
    line.textContent = said ?? idle;
  };
  grid.addEventListener("mouseover", (/** @type {On<MouseEvent>} */ event) => {
    const cell = closest(event, ".cell");
    tell(cell && words(cell));
  });
  grid.addEventListener("mouseleave", () => tell(null));
  return line;
};
