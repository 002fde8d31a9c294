import { counted, h, messageInstead } from "../kit/dom.js";
import { segmented } from "../kit/grid.js";
import { followVisibility, mount } from "../kit/protocol.js";
import { bench } from "./bench.js";
import { shortcutForm, presetButtons, taskChooser } from "./choose.js";
import { classBars } from "./classes.js";
import { collectionPlot } from "./collection.js";
import { removalGrid } from "./grid.js";
import { removedSet } from "./removed.js";

/** @import { Removed } from "./removed.js" */

/** What is removed, in words. @param {Removed} removed */
const inWords = ({ heads, rest, mlps, token }) => {
  const m = rest ? 0 : mlps.size;
  const gone = [
    heads.size ? counted(heads.size, "head") : "",
    rest ? "the MLPs" : m ? counted(m, "MLP term") : "",
    token ? "the class token" : "",
  ].filter(Boolean);
  return gone.length
    ? `without ${gone.join(", ").replace(/, ([^,]*)$/, " and $1")}${m || token ? "; the other panels leave the single MLPs and the class token in" : ""}`
    : "click heads or MLPs to remove them";
};

/** @param {AblateApi} api @returns {Draw<AblateView, AblateArrays>} */
function build(api) {
  const hint = h("small", {});
  const task = taskChooser(api);
  const removed = removedSet(api, () => paint());
  const desk = bench(api, removed);
  const [hows, setHow] = segmented(
    "Replace a head's effect by",
    [
      ["mean", "Mean", "Replaced by its mean over the collection"],
      ["zero", "Zero", "Set to zero"],
    ],
    (how) => {
      removed.how = how;
      removed.changed();
    },
  );
  const sets = presetButtons(api, removed);
  const shortcut = shortcutForm(api);
  const grid = removalGrid(api, removed, desk);
  const bars = classBars(api, desk);
  const all = collectionPlot();
  for (const part of [hows, sets.clear, grid.part]) part.dataset.local = "";
  const parts = h("div", { class: "desk" }, grid.part, bars.part, all.part);
  const [empty, says] = messageInstead();
  api.body.append(
    h("h2", {}, "Ablation", hint),
    h("div", { class: "controls" }, ...task.parts, hows, sets.clear),
    sets.presets,
    shortcut.part,
    empty,
    parts,
  );
  followVisibility(api);
  const paint = () => {
    setHow(removed.how);
    Object.assign(api.root.dataset, {
      heads: removed.heads.size,
      rest: String(removed.rest),
      how: removed.how,
      mlps: [...removed.mlps].sort((a, b) => a - b).join(),
      token: String(removed.token),
    });
    hint.textContent = inWords(removed);
    if (!desk.data) return;
    parts.classList.toggle("lacking", desk.lacks());
    grid.paint();
    bars.paint();
    sets.paint();
    parts.classList.toggle("waiting", !removed.told());
    all.kept.hidden = !api.standalone || removed.told();
  };

  return (view) => {
    task.set(view);
    removed.adopt(view);
    says(view);
    parts.hidden = !view.desk;
    shortcut.part.hidden = !view.desk || !view.complete || api.standalone || Boolean(api.model.live);
    shortcut.draw();
    grid.make(view);
    if (desk.load(view)) bars.reset();
    paint();
    if (view.desk) all.paint(view);
    const { outcome } = view;
    Object.assign(api.root.dataset, {
      task: view.task,
      image: view.selection.image ?? "",
      complete: String(view.complete),
      presets: view.presets.length,
      classes: view.desk ? view.desk.n_classes : 0,
      measured: outcome ? outcome.n_heads : "",
      measuredHow: view.selection.ablation.how,
      apart: view.desk ? String(view.desk.apart) : "",
      measuredMlps: view.apart.mlps.join(),
      measuredToken: String(view.apart.token),
      accuracy: outcome ? outcome.everything.after.toFixed(6) : "",
      worst: outcome?.worst ? outcome.worst.after.toFixed(6) : "",
      draws: outcome ? outcome.everything.random.length : "",
    });
  };
}

export default {
  /** @param {Context} context */
  render: (context) => mount(context, "ablate", build),
};
