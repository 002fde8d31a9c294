import { h, messageInstead } from "../kit/dom.js";
import { pictureLoader } from "../kit/gallery.js";
import { mount } from "../kit/protocol.js";
import { comparison } from "./context.js";
import { mapControls } from "./controls.js";
import { headTexts } from "./joint.js";
import { mapMaker } from "./map.js";
import { methodStrip } from "./methods.js";
import { mapStage } from "./stage.js";
import { tokenHeads } from "./token.js";

/** @param {HeatmapApi} api @returns {Draw<HeatmapView, HeatmapArrays>} */
function build(api) {
  const hint = h("small", {});
  const spoken = h("div", { class: "sr", role: "status" });
  const maker = mapMaker(api);
  const stage = mapStage(api, () => {
    heads.draw();
    spoken.textContent = `${stage.tip.textContent}. ${heads.part.dataset.spoken ?? ""}`;
  });
  const heads = tokenHeads(api, maker);
  const texts = headTexts(api, stage);
  const strip = methodStrip(api, stage, maker);
  const tools = mapControls(api, stage, maker);
  const beside = comparison(api);
  const below = h("div", { class: "below" }, heads.part, texts.part);
  const [empty, says] = messageInstead(stage.stage, below, beside.part);
  api.body.append(
    h("h2", {}, "Heatmap", hint),
    tools.controls,
    empty,
    beside.banner,
    stage.stage,
    tools.gone,
    tools.legend,
    tools.what,
    beside.part,
    strip.strip,
    below,
    spoken,
  );
  const load = pictureLoader(api);
  let pictureOf = "";
  let loading = "";

  /** @param {HeatmapView} view */
  const show = (view) => {
    const next = maker.shown();
    tools.set();
    api.root.dataset.pending = String(!next);
    if (next || !stage.map || stage.map.image !== view.selection.image)
      // A map on its way: the last one stays.
      stage.map = next && Object.assign(next, { image: view.selection.image });
    if (stage.map) tools.say(view, stage.map);
    hint.textContent = hint.title = view.title;
    stage.hovered();
    stage.paint();
    strip.draw();
    heads.draw();
    texts.draw();
    beside.draw(view);
  };

  return (view) => {
    if (says(view)) return;
    const wanted = JSON.stringify(view.picture);
    if (wanted === pictureOf) {
      loading = wanted;
      return show(view);
    }
    if (wanted === loading) return; // draw once, when it is decoded
    loading = wanted;
    load(new Uint8Array(api.model.get("picture").buffer.slice(0)), (picture) => {
      if (wanted !== loading) return;
      [stage.picture, pictureOf] = [picture, wanted];
      show(api.view);
    });
  };
}

export default {
  /** @param {Context} context */
  render: (context) => mount(context, "heatmap", build),
};
