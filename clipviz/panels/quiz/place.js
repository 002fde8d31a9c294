// A box drawn on a picture, by pointer or keys.

import { closest, h } from "../kit/dom.js";

const GRID = 100; // boxes are drawn in percents of the picture's sides
const STEP = 2;
const LEAST = 4; // a smaller box is a click
const FIRST = 30; // sides of a box that a click or a key makes

/** @typedef {[number, number, number, number]} Box left, top, width, height */

/** @param {number} value @param {number} low @param {number} high */
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

/** A box of a size with its middle as near to a point as the picture allows. @param {number} x @param {number} y */
const around = (x, y, width = FIRST, height = FIRST) =>
  /** @type {Box} */ ([
    clamp(Math.round(x - width / 2), 0, GRID - width),
    clamp(Math.round(y - height / 2), 0, GRID - height),
    width,
    height,
  ]);

/** The box between two corners. @param {number[]} from @param {number[]} to @returns {Box} */
const between = (from, to) => {
  const [left, top] = from.map((one, axis) => Math.round(Math.min(one, to[axis])));
  const [right, bottom] = from.map((one, axis) => Math.round(Math.max(one, to[axis])));
  return [left, top, right - left, bottom - top];
};

/** What a key makes of a box, null for other keys. @param {KeyboardEvent} event @param {Box | null} box */
const keyed = ({ key, shiftKey }, box) => {
  const step = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[
    key
  ];
  if (!step) return null;
  if (!box) return around(GRID / 2, GRID / 2);
  const [left, top, width, height] = box;
  return /** @type {Box} */ (
    shiftKey
      ? [left, top, clamp(width + step[0], LEAST, GRID - left), clamp(height + step[1], LEAST, GRID - top)]
      : [clamp(left + step[0], 0, GRID - width), clamp(top + step[1], 0, GRID - height), width, height]
  );
};

/** @param {number[]} box */
const inWords = ([left, top, width, height]) =>
  `${Math.round(left)}% from the left, ${Math.round(top)}% from the top, ` +
  `${Math.round(width)}% wide, ${Math.round(height)}% high`;

/** A box over a picture. @param {string} name @param {number[] | null} box @param {...Node} inside */
const drawn = (name, box, ...inside) => put(h("i", { class: `box ${name}` }, ...inside), box);

/** Moves a box. @param {any} node @param {number[] | null} box */
const put = (node, box) => {
  node.hidden = !box;
  if (box) ["left", "top", "width", "height"].forEach((side, i) => (node.style[side] = `${box[i]}%`));
  return node;
};

/**
 * The pointer: a drag draws a box, moves it if it begins within it, and resizes it if it begins at a corner; a click
 * puts a box where it was. now() is the box, go(box) changes it.
 * @param {any} stage @param {() => Box | null} now @param {(box: Box) => void} go
 */
const pointing = (stage, now, go) => {
  /** @type {((at: number[]) => Box) | null} */
  let drag = null;
  /** @type {number[]} */
  let from = [];
  /** @param {On<PointerEvent>} event */
  const at = (event) => {
    const { left, top, width, height } = stage.getBoundingClientRect();
    return [(event.clientX - left) / width, (event.clientY - top) / height].map((x) =>
      clamp(GRID * x, 0, GRID),
    );
  };
  /** @param {On<PointerEvent>} event @returns {(at: number[]) => Box} */
  const begun = (event) => {
    const box = now();
    const corner = closest(event, ".grip");
    if (box && corner) {
      const [right, bottom] = corner.dataset.corner.split(" ").map(Number);
      const fixed = [box[0] + (right ? 0 : box[2]), box[1] + (bottom ? 0 : box[3])];
      return (to) => between(fixed, to);
    }
    if (box && closest(event, ".box")) {
      const middle = [box[0] + box[2] / 2 - from[0], box[1] + box[3] / 2 - from[1]];
      return (to) => around(to[0] + middle[0], to[1] + middle[1], box[2], box[3]);
    }
    return (to) => between(from, to);
  };
  stage.addEventListener("pointerdown", (/** @type {On<PointerEvent>} */ event) => {
    if (event.button) return;
    stage.setPointerCapture(event.pointerId);
    from = at(event);
    drag = begun(event);
  });
  stage.addEventListener("pointermove", (/** @type {On<PointerEvent>} */ event) => {
    if (drag) go(drag(at(event)));
  });
  stage.addEventListener("pointerup", (/** @type {On<PointerEvent>} */ event) => {
    if (!drag) return;
    const box = drag(at(event));
    drag = null;
    go(Math.min(box[2], box[3]) < LEAST ? around(from[0], from[1]) : box);
  });
  stage.addEventListener("pointercancel", () => {
    drag = null;
  });
};

const CORNERS = ["0 0", "1 0", "0 1", "1 1"];

/**
 * The picture to draw on.
 * @param {QuizView} view @param {QuestionTools} tools
 */
const open = (view, { choose, commit, url }) => {
  /** @type {Box | null} */
  let box = null;
  const grips = CORNERS.map((corner) => h("i", { class: "grip", "data-corner": corner }));
  const own = drawn("yours", null, ...grips);
  const said = h("output", { class: "num" }, "Draw a box on the picture");
  const stage = h(
    "div",
    { class: "stage", tabindex: 0, role: "application", "aria-label": label(null, view) },
    h("img", { src: url("picture"), alt: "", draggable: "false" }),
    own,
  );
  /** @param {Box} to */
  const go = (to) => {
    box = to;
    put(own, box);
    stage.setAttribute("aria-label", label(box, view));
    said.textContent = inWords(box);
    if (Math.min(box[2], box[3]) >= 1) choose(box);
  };
  pointing(stage, () => box, go);
  stage.addEventListener("keydown", (/** @type {On<KeyboardEvent>} */ event) => {
    if (event.key === "Enter") return commit();
    const to = keyed(event, box);
    if (!to) return;
    event.preventDefault();
    event.stopPropagation();
    go(to);
  });
  const keys = h(
    "p",
    { class: "keys" },
    "Drag to draw a box, drag the box to move it, and its corners to resize it. With keys: arrows move it, " +
      "Shift with an arrow resizes it.",
  );
  return [h("div", { class: "drawing" }, stage, h("div", { class: "beside" }, said, keys))];
};

/** @param {Box | null} box @param {QuizView} view */
const label = (box, { name }) =>
  `Your box on ${name}: ${box ? inWords(box) : "none yet, an arrow key draws one"}. Arrows move it, Shift with an arrow ` +
  "resizes it.";

/** A picture with boxes and a line below. @param {string} src @param {string} alt @param {any} words @param {Node[]} boxes */
const plate = (src, alt, words, boxes) =>
  h(
    "figure",
    {},
    h("div", { class: "stage still", role: "img", "aria-label": alt }, h("img", { src, alt: "" }), ...boxes),
    h("figcaption", {}, words),
  );

/** Your box, and where the true one is. @param {QuizView} view @param {QuizArrays} arrays @param {QuizAnswer} answer @param {(name: "picture" | "result") => string} url */
const answered = ({ name }, arrays, { chosen, box = [] }, url) => {
  const own = () => drawn("yours", chosen);
  const both = `Your box: ${inWords(chosen)}. The true box: ${inWords(box)}.`;
  const legend = h(
    "p",
    { class: "legend" },
    h("span", {}, h("i", { class: "box yours" }), "your box"),
    h("span", {}, h("i", { class: "box true" }), "the true box"),
  );
  const boxes = [drawn("true", box), own()];
  const plates = arrays.result
    ? [
        plate(url("picture"), `Your box on ${name}: ${inWords(chosen)}.`, "Your prediction", [own()]),
        plate(url("result"), both, "What was measured", boxes),
      ]
    : [plate(url("picture"), both, "", boxes)];
  return [h("div", { class: "plates" }, ...plates), legend];
};

/** @type {QuestionKind} */
export const byPlace = {
  role: "group",
  look: () => "place",
  parts: ({ view, arrays }, tools) =>
    view.answer ? answered(view, arrays, view.answer, tools.url) : open(view, tools),
};
