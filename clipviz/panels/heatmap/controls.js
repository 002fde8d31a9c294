// What is shown, summed over what, how strongly; the colour bar and a line of words.

import { checkbox, h, headName, link, percent, scaled, scaleEnds } from "../kit/dom.js";
import { colourBar, DIVERGING, gradient, rgb } from "../kit/figure.js";
import { segmented } from "../kit/grid.js";
import { change } from "../kit/links.js";
import { SUN } from "../kit/maps.js";
import { BY_NEURONS, capital, OURS, OURS_POOLED, scoreOf } from "./map.js";

/** @import { Drawn, Maker } from "./map.js" */
/** @import { Stage } from "./stage.js" */

/**
 * What the map shows, in a line.
 * @param {HeatmapApi} api
 * @param {Maker} maker
 * @param {HeatmapView} view
 * @param {string} show
 */
const mapWords = (api, maker, view, show) => {
  const { text, text_b: other, layer, neuron, dictionary } = view.selection;
  const { cosine, cosine_before: before, removed, ignoring, neuron_layers: among } = view;
  const quoted = `“${text}”${other ? ` − “${other}”` : ""}`;
  const number =
    cosine === null
      ? ""
      : ` · cosine${other ? " A − B" : ""} ${change(cosine, before)}${removed && ` ${removed}`}`;
  const whole = removed ? ", whole model" : "";
  const attention = api.view.pools
    ? "share of each token in what heads and pool read"
    : "class token’s attention";
  return show === "neurons"
    ? `mean activation of the neurons of layers ${among[0]}–${among[among.length - 1]} that write most along ${quoted}, scaled to 0..1${whole}`
    : show === "neuron"
      ? `activation of ${dictionary ? `feature ${neuron} of ${dictionary}` : `neuron ${neuron} of layer ${layer}`}, scaled to 0..1${whole}`
      : maker.baselines().some((name) => name === show)
        ? `${capital(show)}${ignoring.includes(show) ? " (ignores the text)" : ` for ${quoted}`}${whole}`
        : show === "attention"
          ? text
            ? `${attention} (ignores the text)`
            : `no text yet: ${attention}`
          : show === "pool"
            ? `effect on ${quoted} of what the pool reads at each token${whole}`
            : `effect on ${quoted}${show === "centred" ? ", mean text subtracted" : ""}${number}`;
};

/** Reports that the head of this map is removed, with a button to restore it. @param {HeatmapApi} api */
const removalNote = (api) => {
  const gone = h("p", { class: "gone", role: "status", hidden: true });
  /** @param {Drawn} m */
  const tell = (m) => {
    const { layer, head } = api.view.selection;
    gone.hidden = !m.gone;
    if (m.gone) {
      const back = link(
        "Restore it",
        () =>
          api.ask({
            ablation: {
              ...api.view.selection.ablation,
              heads: api.view.selection.ablation.heads.filter(([l, at]) => l !== layer || at !== head),
            },
          }),
        { class: "to", hidden: api.standalone || api.view.selection.ablation.layers.includes(layer) },
      );
      gone.replaceChildren(
        `${headName(layer, head)} is removed: `,
        api.view.selection.ablation.how === "zero"
          ? "its effect on this image is zero. "
          : "the map shows its mean over the images, which replaces it. ",
        back,
      );
    }
  };
  return { gone, tell };
};

/**
 * Names the layer and the head in the scopes, and says why a map has none.
 * @param {HeatmapApi} api
 * @param {any} scopes
 * @param {Maker} maker
 */
const nameScopes = (api, scopes, maker) => {
  const { layer, head } = api.view.selection;
  const none = layer === null || head === null;
  const whole = maker.isBaseline() || maker.isPool() || maker.isNeurons();
  const [, , ofLayer, ofHead] = scopes.children;
  ofLayer.textContent = layer === null ? "Layer" : `Layer ${layer}`;
  ofHead.textContent = none ? "Head" : headName(layer, head);
  ofHead.setAttribute("aria-label", none ? "Head" : `Head ${headName(layer, head)}`);
  for (const button of scopes.children) button.disabled = whole;
  ofLayer.disabled ||= layer === null;
  ofHead.disabled ||= none;
  scopes.title = maker.isPool()
    ? "The pool reads the output of all heads and MLPs, so there is no scope"
    : maker.isNeurons()
      ? "Neurons belong to MLPs, so this map has no sum over heads."
      : whole
        ? "These methods explain the whole model only"
        : "";
};

/** The menu of what is shown. @param {HeatmapApi} api @param {Maker} maker */
const showMenu = (api, maker) => {
  /** @param {string[]} given */
  const option = ([value, text]) => h("option", { value }, text);
  const ours = h("optgroup", { label: "Token decomposition" });
  const neural = h("optgroup", { label: "Where neurons are active" }, ...BY_NEURONS.map(option));
  const others = h("optgroup", { label: "Compare with" });
  const menu = h("select", { class: "pick", "aria-label": "What is shown" }, ours, neural, others);
  menu.addEventListener("change", () => api.put({ show: menu.value }));
  const set = () => {
    const { text, neuron } = api.view.selection;
    const known = api.view.pools ? OURS_POOLED : OURS;
    const names = maker.baselines();
    if (ours.children.length !== known.length) ours.replaceChildren(...known.map(option));
    if (others.children.length !== names.length)
      others.replaceChildren(
        ...names.map((name) =>
          option([name, `${capital(name)}${api.view.ignoring.includes(name) ? " (ignores the text)" : ""}`]),
        ),
      );
    for (const entry of menu.querySelectorAll("option"))
      entry.disabled =
        (!text && !["attention", "neuron"].includes(entry.value)) ||
        (entry.value === "neuron" && neuron === null) ||
        ((api.standalone || api.model.live) && !maker.stored(entry.value));
    menu.value = text || maker.isNeurons() ? maker.name() : "attention";
  };
  return { menu, set };
};

/** The colours of a map, and its ends. @param {Drawn} m */
const scaleOf = ({ kind, limit, floor }) => {
  const { pos, neg } = DIVERGING.light;
  return kind === "signed"
    ? colourBar(...scaleEnds(limit), gradient(rgb(neg), "transparent", rgb(pos)), "").slice(0, 3)
    : colourBar(scaled(floor), scaled(limit), gradient("transparent", rgb(SUN)), "").slice(0, 3);
};

/**
 * The controls of the map: method, scope and opacity, with the colour bar and a line of text.
 * @param {HeatmapApi} api
 * @param {Stage} stage
 * @param {Maker} maker
 */
export const mapControls = (api, stage, maker) => {
  const [scopes, setScope] = segmented(
    "Sum over",
    [
      ["all", "All heads"],
      ["late", "Late", "The last layers, which write most of the embedding"],
      ["layer", "Layer"],
      ["head", "Head"],
    ],
    (scope) => api.put({ scope }),
  );
  scopes.querySelector('[data-value="late"]').setAttribute("aria-label", "Late layers");
  const shows = showMenu(api, maker);
  const slider = h("input", { type: "range", min: 0, max: 100, "aria-label": "Overlay opacity" });
  slider.addEventListener("input", () => {
    api.put({ opacity: slider.value / 100 }, false);
    stage.paint();
  });
  slider.addEventListener("change", () => api.put({ opacity: slider.value / 100 }));
  const [outlined, outline] = checkbox(
    "true mask",
    { class: "overlay", title: "The true outline of the objects" },
    (on) => api.put({ outline: on }),
  );
  const [fixing, fixed] = checkbox(
    "fix scale",
    {
      class: "overlay",
      title: "Keep the colour scale fixed for other texts, images and scopes, so that maps can be compared",
    },
    (on) => api.put({ scale: on ? (stage.map?.largest ?? null) : null }),
  );
  const bar = h("span", { class: "scale" });
  const what = h("p", { class: "what" });
  const truth = h("span", {
    class: "truth num",
    hidden: true,
    title:
      "Against the true mask: share of correct pixels, and the mean IoU of object and background; the map is thresholded at its mean",
  });
  const removal = removalNote(api);
  const set = () => {
    setScope(api.option("scope"));
    nameScopes(api, scopes, maker);
    shows.set();
    slider.value = Math.round(100 * api.option("opacity"));
    outline.checked = api.option("outline");
    fixed.checked = api.option("scale") !== null;
    outlined.hidden = !api.arrays.mask;
  };
  /** @param {HeatmapView} view @param {Drawn} m */
  const say = (view, m) => {
    bar.replaceChildren(...scaleOf(m));
    what.textContent = mapWords(api, maker, view, m.show);
    removal.tell(m);
    const found = scoreOf(api, m);
    truth.hidden = !found;
    truth.textContent = found ? `pixels ${percent(found.accuracy)} · IoU ${found.miou.toFixed(2)}` : "";
    Object.assign(api.root.dataset, {
      pixels: found ? found.accuracy.toFixed(5) : "",
      iou: found ? found.miou.toFixed(5) : "",
    });
  };
  return {
    gone: removal.gone,
    controls: h("div", { class: "controls" }, shows.menu, scopes),
    legend: h(
      "div",
      { class: "legend" },
      bar,
      fixing,
      h("label", { class: "overlay" }, "overlay", slider),
      outlined,
      truth,
    ),
    what,
    set,
    say,
  };
};
