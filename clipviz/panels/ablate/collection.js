// The accuracy of the collection, over all images and by groups.

import { count, counted, h, percent, signed } from "../kit/dom.js";
import { signName } from "../kit/figure.js";

const SHOWN_GROUPS = 6;

/**
 * How much an accuracy changed, with its interval: in points, as the kernel found it.
 * @param {OutcomeRow} given
 */
const changeWords = ({ before, after, change: [low, high], differs }) =>
  `${differs ? `a change of ${signed(100 * (after - before), 1)} points` : "no difference"} (95% interval ${signed(100 * low, 1)} to ${signed(100 * high, 1)})`;

/**
 * One line of the plot: a group's accuracy before, after, and with as many other heads of the same layers
 * removed.
 * @param {OutcomeRow} row
 * @param {string} name
 * @param {boolean} strong
 * @param {boolean} removed
 */
const accuracyLine = (row, name, strong, removed) => {
  /** @param {number} share */
  const at = (share) => ({ left: `${100 * share}%` });
  const delta = row.after - row.before;
  const low = Math.min(...row.random);
  const high = Math.max(...row.random);
  const [from, to] = row.change.map((/** @type {number} */ end) =>
    Math.min(1, Math.max(0, row.before + end)),
  );
  const spread = row.random.length
    ? `; ${row.random.length} random draws ${percent(low)} to ${percent(high)}`
    : "";
  const track = h(
    "span",
    {
      class: "dots",
      role: "cell",
      title: `before ${percent(row.before)}, after ${percent(row.after)}${removed ? `, ${changeWords(row)}` : ""}${spread}`,
    },
    h("u", {
      style: { left: `${100 * Math.min(row.before, row.after)}%`, width: `${100 * Math.abs(delta)}%` },
    }),
    removed ? h("em", { style: { left: `${100 * from}%`, width: `${100 * (to - from)}%` } }) : null,
    ...row.random.map((/** @type {number} */ share) => h("s", { style: at(share) })),
    h("b", { style: at(row.before) }),
    h("i", { style: at(row.after) }),
  );
  return h(
    "div",
    { class: `line${strong ? " strong" : ""}`, role: "row" },
    h(
      "span",
      { class: "group", role: "rowheader", title: `${row.name}, ${counted(row.n_images, "image")}` },
      name,
    ),
    track,
    h("span", { class: "num", role: "cell" }, percent(row.after)),
    h(
      "span",
      {
        class: "num change",
        role: "cell",
        "data-sign": removed && row.differs ? signName(delta) : "",
        "data-differs": removed ? String(row.differs) : null,
      },
      !removed ? "" : row.differs ? signed(100 * delta, 1) : "no difference",
    ),
  );
};

/** The collection's accuracy. */
export const collectionPlot = () => {
  const about = h("span", { class: "about" });
  const plot = h("div", { class: "plot", role: "table", "aria-label": "Accuracy over the collection" });
  const sentence = h("p", { class: "note", role: "status" });
  const kept = h(
    "p",
    { class: "kept", hidden: true },
    "The collection's numbers are for the heads that were removed when this page was saved.",
  );
  /** @param {OutcomeShown} given @param {number} shown */
  const say = ({ worst, everything, groups, by, n_heads: k, drawn_from: from, removed: out }, shown) => {
    const row = worst ?? everything;
    const draws = row.random;
    const layers = from.length === 1 ? `layer ${from[0]}` : `layers ${from[0]}–${from[from.length - 1]}`;
    const change = out
      ? `${worst ? "Worst group" : "Accuracy"}: ${percent(row.before)} before, ${percent(row.after)} after: ${changeWords(row)}.`
      : "No heads are removed. Click heads to remove them.";
    const chance = draws.length
      ? ` Removing ${counted(k, "other head")} instead, drawn at random from the same or the nearest layers (${layers}; ${counted(draws.length, "draw")}): ${percent(Math.min(...draws))} to ${percent(Math.max(...draws))}.`
      : "";
    return (
      change +
      chance +
      (groups.length > shown
        ? ` The groups differ by ${by}; these are the ${shown} worst of ${groups.length}.`
        : by
          ? ` The groups differ by ${by}.`
          : "")
    );
  };
  /** @param {AblateView} view */
  const paint = (view) => {
    const found = view.outcome;
    const read = view.complete ? "" : ` · ${count(view.n_read)} of ${count(view.n_images)} read`;
    about.textContent = found
      ? `${counted(found.everything.n_images, "image")} with a label${view.note && ` · classes ${view.note}`}${read}`
      : read;
    if (!found) {
      plot.replaceChildren();
      sentence.textContent =
        view.task === "typed"
          ? "No image of the collection has a label among these classes, so there are only bars for the image."
          : "Measuring…";
      return;
    }
    const groups = found.groups.slice(0, SHOWN_GROUPS);
    const keys = h(
      "div",
      { class: "keys" },
      h("span", {}, h("b"), "before"),
      h("span", {}, h("i"), "after"),
      h("span", {}, h("s"), "random heads"),
      found.removed ? h("span", {}, h("em"), "95% interval of the change") : null,
    );
    plot.replaceChildren(
      keys,
      accuracyLine(found.everything, "all images", true, found.removed),
      ...(found.worst ? [accuracyLine(found.worst, "worst group", true, found.removed)] : []),
      ...groups.map((row) => accuracyLine(row, row.name, false, found.removed)),
    );
    sentence.textContent = say(found, groups.length);
  };
  return {
    part: h("div", { class: "part all" }, h("h3", {}, "The collection", about), plot, sentence, kept),
    kept,
    paint,
  };
};
