// What a quiz and the board of its class share.

import { h } from "./dom.js";
import { tileStyle } from "./gallery.js";

/** The letter of an option. @param {number} option */
export const letter = (option) => String.fromCharCode(65 + option);

/**
 * Pictures of a question's sheet in a row.
 * @param {{ names: string[], columns: number }} view
 * @param {string} url
 * @param {number[]} tiles
 * @param {boolean} [numbered]
 */
export const gallery = ({ names, columns }, url, tiles, numbered = false) =>
  h(
    "span",
    { class: "gallery" },
    ...tiles.map((place) =>
      h(
        "span",
        {
          class: "tile",
          role: "img",
          "aria-label": numbered ? `Picture ${place + 1}, ${names[place]}` : names[place],
          style: tileStyle(url, place, columns, names.length),
        },
        numbered ? h("b", { class: "number num" }, place + 1) : null,
      ),
    ),
  );

/**
 * The arrays of one question of a saved page, which have its number behind their names.
 * @param {Record<string, any>} arrays
 * @param {number} at
 */
export const arraysAt = (arrays, at) => {
  const own = Object.entries(arrays).map(([name, array]) => [name.split(" "), array]);
  const found = own.filter(([[, place]]) => Number(place) === at);
  return Object.fromEntries(found.map(([[name], array]) => [name, array]));
};
