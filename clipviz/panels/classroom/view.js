// The board of a class: how far it is, what it answered, and what is right once the teacher has revealed it.

import { counted, h } from "../kit/dom.js";
import { fill } from "../kit/figure.js";
import { pictureLoader, pictureUrl } from "../kit/gallery.js";
import { roving } from "../kit/grid.js";
import { drawMap, drawOutline, largest, mapLayer } from "../kit/maps.js";
import { mount } from "../kit/protocol.js";
import { arraysAt, gallery, letter } from "../kit/questions.js";

const LOOK = 2000; // ms after which the folder is read again
const MAP_SIDE = 180;
const MOST_ROWS = 2; // counts without options are columns if there are more of them
const MOST_NUMBERED = 24; // columns that have room for their counts

/** A question of the class with its arrays. @typedef {{ view: ClassroomView, arrays: ClassroomArrays }} Asked */

/** Asks for the folder to be read again while somebody can see the panel. @param {ClassroomApi} api */
const keepLooking = (api) => {
  if (api.standalone) return;
  const look = () => {
    if (!document.hidden && api.root.clientWidth) api.put({ looks: api.option("looks") + 1 });
  };
  const timer = setInterval(look, LOOK);
  api.cleanups.push(() => clearInterval(timer));
};

/** The pictures of a question, numbered if they are sorted. @param {ClassroomView} view @param {string} url */
const pictured = (view, url) => gallery(view, url, view.tiles, Boolean(view.piles));

/** The letters and names of two piles. @param {ClassroomView} view */
const named = ({ piles }) =>
  piles ? [h("p", {}, piles.map((pile, i) => `${letter(i)}: ${pile}`).join(" · "))] : [];

/** The maps of the options over their picture. @param {Asked} asked @param {ReturnType<typeof pictureLoader>} load */
const maps = ({ view, arrays }, load) => {
  const { maps: values, picture, outline } = arrays;
  const [rows, cols] = view.map ?? [0, 0];
  const canvases = (view.options ?? []).map((_, at) =>
    h("canvas", { role: "img", "aria-label": `Map ${letter(at)} over the picture` }),
  );
  if (values && picture)
    load(picture, (decoded) =>
      canvases.forEach((canvas, at) => {
        const own = values.subarray(at * rows * cols, (at + 1) * rows * cols);
        drawMap(canvas, decoded, mapLayer(own, rows, cols, largest(values), "signed"), 0.85, MAP_SIDE);
        if (outline && view.revealed?.mask) drawOutline(canvas, outline, view.revealed.mask);
      }),
    );
  return canvases;
};

/**
 * What stands beside each count of a choice.
 * @param {Asked} asked
 * @param {string} url
 * @param {ReturnType<typeof pictureLoader>} load
 * @returns {Node[]}
 */
const options = (asked, url, load) => {
  const { view } = asked;
  if (view.map?.length) return maps(asked, load);
  return (view.options ?? []).map(({ words, tiles }) =>
    tiles.length ? gallery(view, url, tiles) : h("span", { class: "said" }, words),
  );
};

/**
 * The picture that is drawn on, with the true box once it has been revealed.
 * @param {Asked} asked
 * @param {ReturnType<typeof pictureUrl>} url
 */
const plate = ({ view, arrays }, url) => {
  if (!arrays.picture || view.map?.length) return null;
  const box = view.revealed?.box;
  const sides = ["left", "top", "width", "height"];
  const style = box && Object.fromEntries(sides.map((side, i) => [side, `${box[i]}%`]));
  return h(
    "span",
    { class: "plate" },
    h("img", { src: url(arrays.result ?? arrays.picture), alt: view.name ?? "the picture" }),
    style ? h("i", { class: "box", style }) : null,
  );
};

/**
 * Counts one below the other, each with a bar.
 * @param {ClassroomView} view
 * @param {Node[]} beside
 * @param {boolean} lettered
 */
const rows = ({ counts, progress, at, revealed }, beside, lettered) => {
  const all = progress[at].n;
  const row = (/** @type {Node} */ shown, /** @type {number} */ i) => {
    const right = revealed?.right[i];
    return h(
      "li",
      { class: `row${lettered ? "" : " plain"}${right ? " right" : ""}` },
      lettered ? h("b", { class: "letter" }, letter(i)) : null,
      shown,
      right ? h("b", { class: "mark" }, "✓ right") : null,
      h("span", { class: "bar", "aria-hidden": "true" }, fill(all ? counts[i] / all : 0)),
      h(
        "b",
        { class: "num" },
        counts[i],
        h("span", { class: "sr" }, counts[i] === 1 ? " answer" : " answers"),
      ),
    );
  };
  return h("ul", { class: "rows" }, ...beside.map(row));
};

/**
 * Counts side by side, one column each.
 * @param {ClassroomView} view
 * @param {string[]} names
 */
const columns = ({ counts, revealed }, names) => {
  const most = Math.max(1, ...counts);
  const said = names.flatMap((name, i) => (counts[i] ? [`${name}: ${counts[i]}`] : []));
  const last = names.length - 1;
  const numbered = names.length <= MOST_NUMBERED;
  /** @param {number} n @param {number} i */
  const column = (n, i) =>
    h(
      "span",
      { class: revealed?.right[i] ? "column right" : "column", title: `${names[i]}: ${n}` },
      numbered && n ? h("b", { class: "num" }, n) : null,
      h("i", { style: { height: `${(100 * n) / most}%` } }),
    );
  return h(
    "div",
    { class: "histogram" },
    h(
      "div",
      { class: "columns", role: "img", "aria-label": `Answers. ${said.join(", ") || "None"}` },
      ...counts.map(column),
    ),
    h("div", { class: "ends", "aria-hidden": "true" }, h("span", {}, names[0]), h("span", {}, names[last])),
  );
};

/** What the class answered. @param {ClassroomView} view @param {Node[]} beside what the options show */
const chart = (view, beside) => {
  const { counts, labels, steps, progress, at } = view;
  if (!counts.length)
    return h("p", { class: "closed" }, "The answers to this question are counted once it has been revealed.");
  if (beside.length) return rows(view, beside, true);
  if (!progress[at].n) return h("p", { class: "closed" }, "There are no answers yet.");
  if (!labels.length) return columns(view, steps ?? counts.map((_, i) => String(i)));
  if (labels.length > MOST_ROWS)
    return columns(
      view,
      labels.map((label) => `${label} right`),
    );
  return rows(
    view,
    labels.map((label) => h("span", { class: "said" }, label)),
    false,
  );
};

/** A share with its interval on a line from 0 to 1, and what guessing gives. @param {ClassroomScore} score */
const interval = ({ right, low, high, chance }) =>
  h(
    "span",
    { class: "interval", "aria-hidden": "true" },
    h("i", { class: "band", style: { left: `${100 * low}%`, width: `${100 * (high - low)}%` } }),
    h("i", { class: "chance", style: { left: `${100 * chance}%` } }),
    h("i", { class: "value", style: { left: `${100 * right}%` } }),
  );

/** A score in words and on a line. @param {ClassroomScore | null} given @param {string} of @returns {Node[]} */
const scored = (given, of) =>
  given ? [h("p", { class: "scored" }, h("span", {}, h("b", {}, of), " ", given.said), interval(given))] : [];

/** What is said once a question has been revealed. @param {ClassroomView} view @returns {Node[]} */
const verdict = ({ revealed }) => {
  if (!revealed) return [];
  const truth = revealed.truth ? [h("p", {}, revealed.truth)] : [];
  return [h("p", { class: "key" }, revealed.told), ...truth, ...scored(revealed.score, "This question:")];
};

/** Who has handed in. */
const attendance = () => {
  const line = h("p", { class: "attendance" });
  /** @param {ClassroomView} view */
  const tell = ({ students, joined, unread, trouble }) => {
    const have = students === 1 ? "student has answered" : "students have answered";
    const more = joined > students ? `${joined} have joined` : "";
    const nobody = joined ? "" : "Nobody has joined yet";
    const strange = unread ? `${counted(unread, "file")} could not be read` : "";
    const parts = [more, nobody, strange, trouble].filter(Boolean);
    line.replaceChildren(
      h("b", { class: "num" }, students),
      " ",
      h("span", {}, have),
      ...parts.flatMap((words) => [" ", h("span", { class: "more" }, words)]),
    );
  };
  return /** @type {const} */ ([line, tell]);
};

/**
 * A button for each question, with how far the class is; they stay, so that none loses the focus.
 * @param {(at: number) => void} go
 */
const strip = (go) => {
  const row = roving(
    h("div", { class: "steps", role: "group", "aria-label": "Questions", "data-local": true }),
  );
  /** @param {ClassroomView} view */
  const set = ({ progress, joined, at }) => {
    while (row.children.length < progress.length) {
      const place = row.children.length;
      const level = h("i", {});
      row.append(
        h("button", { type: "button", class: "step", onclick: () => go(place) }, level, h("span", {})),
      );
    }
    progress.forEach(({ n, revealed }, place) => {
      const button = row.children[place];
      const far = `${n} of ${joined} have answered`;
      button.setAttribute("aria-label", `Question ${place + 1}: ${far}${revealed ? ", revealed" : ""}`);
      button.setAttribute("aria-pressed", String(place === at));
      button.classList.toggle("revealed", revealed);
      button.title = far;
      button.firstChild.style.height = `${joined ? (100 * n) / joined : 0}%`;
      button.lastChild.textContent = revealed ? "✓" : String(place + 1);
    });
  };
  return /** @type {const} */ ([row, set]);
};

/** The question on show, in a saved page that at a place. @param {ClassroomApi} api @param {number} at @returns {Asked} */
const asked = ({ view, arrays }, at) =>
  view.saved ? { view: view.saved[at], arrays: arraysAt(arrays, at) } : { view, arrays };

/** What was drawn. @param {any} root @param {ClassroomView} view */
const publish = (root, { at, students, joined, unread, counts, revealed, progress, size }) =>
  Object.assign(root.dataset, {
    at,
    students,
    joined,
    unread,
    size,
    counts,
    answered: progress[at].n,
    revealed: String(Boolean(revealed)),
  });

/** @param {ClassroomApi} api @returns {Draw<ClassroomView, ClassroomArrays>} */
function build(api) {
  /** @type {number | null} */
  let turned = null; // the question of a saved page that is shown
  let drawn = "";
  let shownOf = "";
  /** @type {Node[]} */
  let beside = [];
  const [sheet, picture] = [pictureUrl(api), pictureUrl(api)];
  const load = pictureLoader(api);
  const hint = h("small", {});
  const [line, tell] = attendance();
  /** @param {number} at */
  const go = (at) => {
    turned = at;
    if (api.standalone) api.redraw();
    else api.ask({}, { options: { at } });
  };
  const [row, setSteps] = strip(go);
  const words = h("p", { class: "question" });
  const shown = h("div", { class: "shown" });
  const far = h("p", { class: "reached" });
  const answers = h("div", { class: "answers" });
  const told = h("div", { class: "told", role: "status" });
  const onclick = () => api.ask({}, { action: api.view.revealed ? "hide" : "reveal", question: api.view.at });
  const reveal = h("button", { type: "button", class: "square", onclick });
  const foot = h("div", { class: "foot" });
  api.printed = false; // its numbers are in .data()
  api.body.append(
    h("h2", {}, "Classroom", hint),
    line,
    row,
    words,
    shown,
    far,
    answers,
    h("div", { class: "act" }, reveal),
    told,
    foot,
  );
  keepLooking(api);
  return () => {
    const key = `${api.view.seq}/${turned}`;
    if (key === drawn) return; // the browser asked for the folder, and nothing in it has changed
    drawn = key;
    const now = asked(api, turned ?? api.view.at);
    const { view, arrays } = now;
    const { at, progress, joined, revealed } = view;
    hint.textContent = progress.length > 1 ? `Question ${at + 1} of ${progress.length}` : "";
    tell(view);
    setSteps(view);
    row.hidden = progress.length < 2;
    words.textContent = view.words;
    const what = `${at}/${Boolean(revealed)}`;
    if (what !== shownOf) {
      const drawing = plate(now, picture);
      const alone = view.tiles.length && !view.map?.length;
      beside = options(now, sheet(arrays.sprite), load);
      shown.replaceChildren(
        ...(alone ? [pictured(view, sheet(arrays.sprite))] : []),
        ...named(view),
        ...(drawing ? [drawing] : []),
      );
      shownOf = what;
    }
    far.hidden = !joined;
    far.replaceChildren(
      h("span", { class: "bar", "aria-hidden": "true" }, fill(joined ? progress[at].n / joined : 0)),
      `${progress[at].n} of ${joined} have answered this question`,
    );
    answers.replaceChildren(chart(view, beside));
    reveal.hidden = api.standalone;
    reveal.textContent = revealed ? "Hide the answer again" : "Reveal the answer";
    reveal.classList.toggle("go", !revealed);
    told.replaceChildren(...verdict(view));
    foot.replaceChildren(...scored(view.score, "All revealed questions:"));
    foot.hidden = progress.filter((one) => one.revealed).length < 2;
    publish(api.root, view);
  };
}

export default {
  /** @param {Context} context */
  render: (context) => mount(context, "classroom", build),
};
