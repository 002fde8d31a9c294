// A number on a slider.

import { h } from "../kit/dom.js";

/** A share of the slider as a place within it; the middle of its thumb stays within the track. @param {number} share */
const along = (share) => `calc(8px + (100% - 16px) * ${share})`;

/** A flag at a place on the track. @param {string} name @param {number} share @param {string} words */
const flag = (name, share, words) =>
  h(
    "span",
    { class: `flag ${name}`, style: { left: along(share) } },
    h("i"),
    h("span", { class: share > 0.8 ? "end" : share < 0.2 ? "start" : "" }, `${name} ${words}`),
  );

/** What counts as right, behind the track. @param {QuizAnswer | undefined} answer */
const band = (answer) => {
  if (!answer?.band) return null;
  const [from, to] = answer.band;
  return h("i", { class: "band", style: { left: along(from), width: `calc((100% - 16px) * ${to - from})` } });
};

/**
 * The slider stands in the middle, and its number counts as chosen once it was moved.
 * @param {QuizView} view @param {(answer: number[]) => void} choose
 */
const slider = ({ steps = [], answer }, choose) => {
  const last = steps.length - 1;
  const value = h("output", {}, "Move the slider");
  const at = answer ? answer.chosen[0] : Math.floor(last / 2);
  const range = h("input", {
    type: "range",
    min: 0,
    max: last,
    value: at,
    disabled: Boolean(answer),
    "aria-label": "Your prediction",
    "aria-valuetext": answer ? steps[at] : "not chosen yet",
    oninput: () => {
      const words = steps[Number(range.value)];
      value.textContent = words;
      range.setAttribute("aria-valuetext", words);
      choose([Number(range.value)]);
    },
  });
  const ends = h("div", { class: "ends" }, h("span", {}, steps[0]), h("span", {}, steps[last]));
  return h(
    "div",
    { class: "slider num" },
    h("div", { class: "above" }, answer ? flag("measured", answer.exact ?? 0, answer.measured ?? "") : value),
    h("div", { class: "track" }, band(answer), range),
    answer ? h("div", { class: "below" }, flag("yours", at / last, steps[at])) : ends,
  );
};

/** @type {QuestionKind} */
export const byNumber = {
  role: "group",
  look: () => "",
  parts: ({ view }, { choose }) => [slider(view, choose)],
};
