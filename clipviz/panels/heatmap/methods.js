// The maps of every method side by side.

import { clickable, h } from "../kit/dom.js";
import { roving } from "../kit/grid.js";
import { drawMap } from "../kit/maps.js";
import { capital, layerOf, named, scoreOf } from "./map.js";

/** @import { Drawn, Maker } from "./map.js" */
/** @import { Stage } from "./stage.js" */

/**
 * Every method on this image, side by side.
 * @param {HeatmapApi} api
 * @param {Stage} stage
 * @param {Maker} maker
 */
export const methodStrip = (api, stage, maker) => {
  const strip = roving(
    h("div", { class: "strip", role: "group", "aria-label": "Every method on this image", hidden: true }),
  );
  /**
   * @type {WeakMap<object, { of: any[], made: any[] }>} what was drawn of a map, until something else that it
   *   rests on changes
   */
  const known = new WeakMap();
  /** @param {Drawn} m */
  const drawn = (m) => {
    const of = [stage.picture, m.limit, api.arrays.mask, api.view.fits, devicePixelRatio];
    const had = known.get(m.values);
    if (had?.of.every((value, i) => value === of[i])) return had.made;
    const small = h("canvas", { "aria-hidden": "true" });
    const made = [small, scoreOf(api, m)];
    drawMap(small, stage.picture, layerOf(api, m), 0.85, 96);
    known.set(m.values, { of, made });
    return made;
  };
  const draw = () => {
    /** @type {HeatmapOptions["show"][]} */
    const methods = [...maker.baselines(), "neurons"];
    const there = methods.filter((name) => named(api.arrays)[name]);
    strip.hidden = !there.length || !stage.picture || !api.view.selection.text;
    if (strip.hidden) return;
    const mine =
      maker.isBaseline() || maker.isNeurons()
        ? !api.view.selection.text_b && api.arrays.shared
          ? "centred"
          : "effect"
        : maker.name();
    /** @param {HeatmapOptions["show"]} name */
    const one = (name) => {
      const ours = name === mine;
      const m = ours ? (maker.isPool() ? maker.pooled() : maker.summed()) : maker.baseline(name);
      const [small, score] = drawn(m);
      return clickable(
        {
          class: `method${ours ? " ours" : ""}`,
          "data-method": name,
          "aria-pressed": String(name === maker.name()),
          title: ours
            ? "Token decomposition"
            : `${capital(name)}${api.view.ignoring.includes(name) ? " (ignores the text)" : ""}`,
          onclick: () => api.put({ show: name }),
        },
        small,
        h("span", { class: "name" }, ours ? "tokens" : name),
        score && h("span", { class: "num" }, `IoU ${score.miou.toFixed(2)}`),
      );
    };
    strip.replaceChildren(...[mine, ...there].map(one));
  };
  return { strip, draw };
};
