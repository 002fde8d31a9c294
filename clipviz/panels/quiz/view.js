// Predict, commit, read: what is right comes with the answer and not before.

import { copyText, h } from "../kit/dom.js";
import { pictureLoader, pictureUrl } from "../kit/gallery.js";
import { roving } from "../kit/grid.js";
import { mount } from "../kit/protocol.js";
import { arraysAt, gallery } from "../kit/questions.js";
import { byChoice } from "./choice.js";
import { byNumber } from "./number.js";
import { byPiles } from "./piles.js";
import { byPlace } from "./place.js";

/** @type {Record<QuizView["kind"], QuestionKind>} */
const KINDS = { choice: byChoice, number: byNumber, place: byPlace, piles: byPiles };
const SAID = { open: "not answered", right: "answered rightly", wrong: "answered wrongly" };

/**
 * Buttons for the questions that have been answered and the first that is open; in a saved page for all.
 * @param {QuizView} view
 * @param {boolean} all
 * @param {(at: number) => void} go
 */
const steps = ({ at, states }, all, go) => {
  const open = all ? -1 : states.indexOf("open");
  return states.map((state, place) =>
    h(
      "button",
      {
        type: "button",
        class: `step ${state}`,
        "aria-label": `Question ${place + 1}, ${SAID[state]}`,
        "aria-current": place === at ? "step" : null,
        disabled: open >= 0 && place > open,
        onclick: () => go(place),
      },
      state === "right" ? "✓" : state === "wrong" ? "✗" : place + 1,
    ),
  );
};

/** What is said once a question has been answered. @param {QuizView} view @returns {Child[]} */
const verdict = ({ answer }) => {
  if (!answer) return [];
  const truth = answer.truth ? h("p", {}, answer.truth) : null;
  return [h("h3", {}, answer.verdict), h("p", {}, answer.because), truth];
};

/**
 * The row below the options.
 * @param {boolean} standalone a saved page, where nobody hears an answer
 * @param {() => void} goOn
 * @param {() => void} commit
 */
const actions = (standalone, goOn, commit) => {
  const button = h("button", { type: "submit", class: "square go" }, "Commit answer");
  const next = h("button", { type: "button", class: "square go next", onclick: goOn }, "Next question");
  const odds = h("span", { class: "odds" });
  const answers = h("div", { class: "choices", "aria-label": "Answers" });
  const form = h(
    "form",
    {
      onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        commit();
      },
    },
    answers,
    h("div", { class: "act" }, button, next, odds),
  );
  /** @param {QuizView} view @param {boolean} ready */
  const set = (view, ready) => {
    const { answer, at, states, rule } = view;
    button.hidden = Boolean(answer) || standalone;
    button.disabled = !ready;
    next.hidden = (!answer && !standalone) || at + 1 >= states.length;
    const stays = standalone ? "Answers are committed in the notebook. " : "A committed answer stays. ";
    odds.textContent = answer ? answer.guess : stays + rule;
  };
  return { form, answers, next, set };
};

/** Whether a class sees the answers, and the code to hand in, with a button that copies it. */
const handIn = () => {
  const shared = h(
    "p",
    { class: "shared" },
    "Your answers are counted on your class's board, without a name.",
  );
  const code = h("code", {});
  const said = h("span", { role: "status", class: "copied" });
  const copy = h(
    "button",
    { type: "button", class: "link", onclick: () => copyText(said, "Code", code.textContent) },
    "copy",
  );
  const line = h("p", { class: "hand-in" }, "Code to hand in: ", code, " ", copy, " ", said);
  /** @param {QuizView} view */
  const set = (view) => {
    shared.hidden = !view.shared;
    line.hidden = !view.code;
    code.textContent = view.code;
  };
  return /** @type {const} */ ([[shared, line], set]);
};

/** What was drawn. @param {any} root @param {QuizView} view @param {number[] | null} chosen */
const publish = (root, { at, states, kind, answer }, chosen) =>
  Object.assign(root.dataset, {
    at,
    answered: states.filter((state) => state !== "open").length,
    right: states.filter((state) => state === "right").length,
    fits: answer ? String(answer.fits) : "",
    kind,
    best: answer ? answer.best : "",
    chosen: answer ? answer.chosen : (chosen ?? ""),
  });

/** @param {QuizApi} api @returns {Draw<QuizView, QuizArrays>} */
function build(api) {
  /** @type {QuestionShown} */
  let now = api;
  /** @type {number | null} */
  let turned = null; // the question of a saved page that is shown
  /** @type {number[] | null} */
  let chosen = null;
  let drawn = "";
  let asking = false;
  const addresses = { sprite: pictureUrl(api), picture: pictureUrl(api), result: pictureUrl(api) };
  const load = pictureLoader(api);
  const hint = h("small", {});
  const title = h("span", {}, "Quiz");
  const row = roving(h("div", { class: "steps", role: "group", "aria-label": "Questions" }));
  const words = h("p", { class: "question", tabindex: -1 });
  const shown = h("div", { class: "shown" });
  const told = h("div", { class: "told", role: "status" });
  const score = h("p", { class: "score" });
  const [lines, setLines] = handIn();
  /** @param {number} at */
  const go = (at) => {
    turned = at;
    if (api.standalone) api.redraw();
    else api.ask({}, { options: { at } });
  };
  const commit = () => {
    if (chosen === null || now.view.answer || api.standalone) return;
    asking = true;
    api.ask({}, { action: "commit", question: now.view.at, answer: chosen });
  };
  const { form, answers, next, set } = actions(api.standalone, () => go(now.view.at + 1), commit);
  /** @type {QuestionTools} */
  const tools = {
    choose: (answer) => {
      chosen = answer;
      set(now.view, true);
      api.root.dataset.chosen = String(answer);
    },
    commit,
    url: (name) => addresses[name](now.arrays[name]),
    load,
  };
  api.printed = false; // the sheet of the quiz is its print
  const foot = h("div", { class: "foot" }, score, ...lines);
  api.body.append(h("h2", {}, title, hint), row, words, shown, form, told, foot);

  const renew = () => {
    const { view } = now;
    const { role, look, parts } = KINDS[view.kind];
    const isNew = view.at !== Number(drawn.split("/")[0] || -1);
    if (isNew || view.answer) chosen = null;
    words.textContent = view.words;
    const alone = view.tiles.length && !view.map?.length && !view.piles;
    shown.replaceChildren(...(alone ? [gallery(view, tools.url("sprite"), view.tiles)] : []));
    answers.className = `choices ${look(view)}`.trim();
    answers.setAttribute("role", role);
    answers.replaceChildren(...parts(now, tools));
    told.replaceChildren(.../** @type {Node[]} */ (verdict(view).filter(Boolean)));
    if (isNew && drawn) words.focus({ preventScroll: true });
    if (view.answer && asking && !next.hidden) next.focus({ preventScroll: true });
    asking = false;
  };
  return () => {
    const at = turned ?? api.view.at;
    const { root, arrays, view: given } = api;
    now = given.saved ? { root, view: given.saved[at], arrays: arraysAt(arrays, at) } : api;
    const { view } = now;
    const n = view.states.length;
    const key = `${view.at}/${Boolean(view.answer)}`;
    api.root.dataset.size = view.size;
    title.textContent = n > 1 ? "Quiz" : "Predict first";
    hint.textContent = n > 1 ? `Question ${view.at + 1} of ${n}` : "";
    row.hidden = n < 2;
    row.replaceChildren(...steps(view, api.standalone, go));
    if (key !== drawn) set(view, false);
    if (key !== drawn) renew();
    drawn = key;
    score.textContent = n > 1 ? view.score : "";
    setLines(view);
    publish(api.root, view, chosen);
  };
}

export default {
  /** @param {Context} context */
  render: (context) => mount(context, "quiz", build),
};
