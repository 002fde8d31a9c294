// Predict, commit, read: what is right comes with the answer and not before.

import { copyText, h, percent } from "../kit/dom.js";
import { pictureLoader, pictureUrl, tileStyle } from "../kit/gallery.js";
import { roving } from "../kit/grid.js";
import { drawMap, drawOutline, largest, mapLayer } from "../kit/maps.js";
import { mount } from "../kit/protocol.js";

const MAP_SIDE = 224;
const SAID = { open: "not answered", right: "answered rightly", wrong: "answered wrongly" };

/** The letter of an option. @param {number} option */
const letter = (option) => String.fromCharCode(65 + option);

/** Pictures of the sheet in a row. @param {QuizView} view @param {string} url @param {number[]} tiles */
const gallery = (view, url, tiles) =>
  h(
    "span",
    { class: "gallery" },
    ...tiles.map((place) =>
      h("span", {
        class: "tile",
        role: "img",
        "aria-label": view.names[place],
        style: tileStyle(url, place, view.columns, view.names.length),
      }),
    ),
  );

/** What an option is marked with once the question has been answered. @param {QuizView} view @param {number} at */
const mark = ({ answer }, at) => {
  if (!answer) return null;
  const own = answer.chosen === at;
  if (answer.right.includes(at)) return h("b", { class: "mark" }, own ? "✓ your answer" : "✓ measured");
  return own ? h("b", { class: "mark" }, "✗ your answer") : null;
};

/**
 * The options as radio buttons. chosen(option) is called for the one that is pressed.
 * @param {QuizView} view
 * @param {string} url
 * @param {(option: number) => void} chosen
 */
const choices = (view, url, chosen) =>
  view.options.map(({ words, tiles }, at) => {
    const { answer } = view;
    const kind = !answer ? "" : answer.right.includes(at) ? "right" : answer.chosen === at ? "wrong" : "";
    return h(
      "label",
      { class: `choice ${kind}`.trim() },
      h("input", {
        type: "radio",
        name: "answer",
        value: at,
        checked: answer?.chosen === at,
        disabled: Boolean(answer),
        onchange: () => chosen(at),
      }),
      h("b", { class: "letter" }, letter(at)),
      view.map.length
        ? h("canvas", { class: "map", role: "img", "aria-label": `Map ${letter(at)} over the picture` })
        : tiles.length
          ? gallery(view, url, tiles)
          : h("span", { class: "said" }, words),
      mark(view, at),
    );
  });

/** A place on the slider's track. @param {QuizView} view @param {number} at @param {string} words */
const flag = ({ options }, at, words) => {
  const share = at / (options.length - 1);
  return h(
    "span",
    { class: `flag ${words.split(" ")[0]}`, style: { left: `calc(8px + (100% - 16px) * ${share})` } },
    h("i"),
    h("span", { class: share > 0.8 ? "end" : share < 0.2 ? "start" : "" }, words),
  );
};

/**
 * The options as the steps of a slider, which stands in the middle and counts as chosen once it was moved.
 * @param {QuizView} view
 * @param {(option: number) => void} chosen
 */
const slider = (view, chosen) => {
  const { options, answer } = view;
  const middle = Math.floor((options.length - 1) / 2);
  const value = h("output", { class: "num" }, answer ? "" : "Move the slider");
  const range = h("input", {
    type: "range",
    min: 0,
    max: options.length - 1,
    value: answer?.chosen ?? middle,
    disabled: Boolean(answer),
    "aria-label": "Your prediction",
    "aria-valuetext": answer ? options[answer.chosen].words : "not chosen yet",
    oninput: () => {
      const at = Number(range.value);
      value.textContent = options[at].words;
      range.setAttribute("aria-valuetext", options[at].words);
      chosen(at);
    },
  });
  const ends = h(
    "div",
    { class: "ends num" },
    h("span", {}, options[0].words),
    h("span", {}, options[options.length - 1].words),
  );
  const above = answer ? flag(view, answer.best, `measured ${answer.measured}`) : value;
  const below = answer
    ? h("div", { class: "below" }, flag(view, answer.chosen, `yours ${options[answer.chosen].words}`))
    : ends;
  return h("div", { class: "slider num" }, h("div", { class: "above" }, above), range, below);
};

/**
 * The maps over the picture, with the outline of what is truly there once the question has been answered.
 * @param {{ root: any, view: QuizView, arrays: QuizArrays }} shown
 * @param {any} form
 * @param {(bytes: Uint8Array, then: (picture: HTMLImageElement) => void) => void} load
 */
const paintMaps = ({ root, view, arrays }, form, load) => {
  const { picture, maps } = arrays;
  if (!picture || !maps) return;
  const [rows, cols] = view.map;
  const limit = largest(maps);
  load(picture, (decoded) => {
    form.querySelectorAll("canvas").forEach((/** @type {any} */ canvas, /** @type {number} */ at) => {
      const values = maps.subarray(at * rows * cols, (at + 1) * rows * cols);
      drawMap(canvas, decoded, mapLayer(values, rows, cols, limit, "signed"), 0.85, MAP_SIDE);
      if (view.mask && arrays.outline) drawOutline(canvas, arrays.outline, view.mask);
    });
    root.dataset.painted = String(view.at);
  });
};

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
const verdict = ({ answer, on_scale: onScale }) => {
  if (!answer) return [];
  return [
    h(
      "h3",
      {},
      answer.fits
        ? "Right."
        : onScale
          ? `The answer is ${answer.measured}.`
          : `Not this one: the answer is ${letter(answer.best)}.`,
    ),
    h("p", {}, answer.because),
    answer.truth ? h("p", {}, answer.truth) : null,
  ];
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
  const form = h(
    "form",
    {
      onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        commit();
      },
    },
    h("div", { class: "choices" }),
    h("div", { class: "act" }, button, next, odds),
  );
  /** @param {QuizView} view @param {boolean} ready */
  const set = (view, ready) => {
    const { answer, at, states, chance } = view;
    button.hidden = Boolean(answer) || standalone;
    button.disabled = !ready;
    next.hidden = (!answer && !standalone) || at + 1 >= states.length;
    const stays = standalone ? "Answers are committed in the notebook. " : "A committed answer stays. ";
    odds.textContent = `${answer ? "" : stays}A guess is right with a probability of ${percent(chance)}.`;
  };
  return { form, next, set };
};

/** The code to hand in, with a button that copies it. */
const handIn = () => {
  const code = h("code", {});
  const said = h("span", { role: "status", class: "copied" });
  const copy = h(
    "button",
    { type: "button", class: "link", onclick: () => copyText(said, "Code", code.textContent) },
    "copy",
  );
  const line = h("p", { class: "hand-in" }, "Code to hand in: ", code, " ", copy, " ", said);
  /** @param {string} text */
  const set = (text) => {
    line.hidden = !text;
    code.textContent = text;
  };
  return /** @type {const} */ ([line, set]);
};

/**
 * A question of a saved page.
 * @param {QuizApi} api
 * @param {number} at
 * @returns {{ root: any, view: QuizView, arrays: QuizArrays }}
 */
const savedAt = ({ root, view, arrays }, at) => {
  const own = Object.entries(arrays).map(([name, array]) => [name.split(" "), array]);
  const found = own.filter(([[, place]]) => Number(place) === at).map(([[name], array]) => [name, array]);
  return { root, view: { ...view, ...view.saved[at] }, arrays: Object.fromEntries(found) };
};

/** What was drawn. @param {any} root @param {QuizView} view @param {number | null} chosen */
const publish = (root, { at, states, answer }, chosen) =>
  Object.assign(root.dataset, {
    at,
    answered: states.filter((state) => state !== "open").length,
    right: states.filter((state) => state === "right").length,
    fits: answer ? String(answer.fits) : "",
    best: answer ? answer.best : "",
    chosen: answer ? answer.chosen : (chosen ?? ""),
  });

/** @param {QuizApi} api @returns {Draw<QuizView, QuizArrays>} */
function build(api) {
  /** @type {{ root: any, view: QuizView, arrays: QuizArrays }} */
  let now = api;
  /** @type {number | null} */
  let place = null; // the question of a saved page that is shown
  /** @type {number | null} */
  let chosen = null;
  let drawn = "";
  let asking = false;
  const address = pictureUrl(api);
  const load = pictureLoader(api);
  const hint = h("small", {});
  const title = h("span", {}, "Quiz");
  const row = roving(h("div", { class: "steps", role: "group", "aria-label": "Questions" }));
  const words = h("p", { class: "question", tabindex: -1 });
  const shown = h("div", { class: "shown" });
  const told = h("div", { class: "told", role: "status" });
  const score = h("p", { class: "score" });
  const [line, setCode] = handIn();
  /** @param {number} at */
  const go = (at) => {
    place = at;
    if (api.standalone) api.redraw();
    else api.ask({}, { options: { at } });
  };
  const commit = () => {
    if (chosen === null || now.view.answer || api.standalone) return;
    asking = true;
    api.ask({}, { action: "commit", question: now.view.at, option: chosen });
  };
  const { form, next, set } = actions(api.standalone, () => go(now.view.at + 1), commit);
  /** @param {number} option */
  const choose = (option) => {
    chosen = option;
    set(now.view, true);
    api.root.dataset.chosen = String(option);
  };
  api.printed = false; // the sheet of the quiz is its print
  api.body.append(
    h("h2", {}, title, hint),
    row,
    words,
    shown,
    form,
    told,
    h("div", { class: "foot" }, score, line),
  );

  const renew = () => {
    const { view, arrays } = now;
    const url = address(arrays.sprite);
    const isNew = view.at !== Number(drawn.split("/")[0] || -1);
    if (isNew || view.answer) chosen = null;
    words.textContent = view.words;
    const alone = view.tiles.length && !view.map.length;
    shown.replaceChildren(...(alone ? [gallery(view, url, view.tiles)] : []));
    const many = view.map.length || view.options.some(({ tiles }) => tiles.length);
    form.firstChild.className = `choices${view.on_scale ? "" : many ? " pictures" : " texts"}`;
    form.firstChild.replaceChildren(...(view.on_scale ? [slider(view, choose)] : choices(view, url, choose)));
    form.firstChild.setAttribute("role", view.on_scale ? "group" : "radiogroup");
    form.firstChild.setAttribute("aria-label", "Answers");
    told.replaceChildren(.../** @type {Node[]} */ (verdict(view).filter(Boolean)));
    paintMaps(now, form, load);
    if (isNew && drawn) words.focus({ preventScroll: true });
    if (view.answer && asking && !next.hidden) next.focus({ preventScroll: true });
    asking = false;
  };
  return () => {
    now = api.view.saved ? savedAt(api, place ?? api.view.at) : api;
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
    setCode(view.code);
    publish(api.root, view, chosen);
  };
}

export default {
  /** @param {Context} context */
  render: (context) => mount(context, "quiz", build),
};
