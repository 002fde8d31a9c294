// Points and pictures in a plane. The wheel zooms, a drag pans or draws a loop that chooses images, a click
// selects one.

import { count, counted, h, link, messageInstead, percent } from "../kit/dom.js";
import { headLink } from "../kit/links.js";
import { followVisibility, mount } from "../kit/protocol.js";
import { planeStage } from "./stage.js";
import { planeTools } from "./tools.js";

const MOST_CHOSEN = 5000;

/** @param {AtlasApi} api @returns {Draw<AtlasView, AtlasArrays>} */
function build(api) {
  const told = h("span", {});
  const chosen = h("span", { role: "status" });
  /** @param {number[]} found @returns {void} */
  const choose = (found) => {
    if (found.length < 2)
      return void (chosen.textContent = found.length
        ? "A description needs more than one image. Draw the loop around more."
        : "There is no image in the loop. Draw it around some images.");
    const most = Math.min(found.length, MOST_CHOSEN);
    const even = Array.from({ length: most }, (_, i) => found[Math.floor((i * found.length) / most)]);
    inside = found.length;
    api.ask({ images: even.map((i) => api.arrays.ids[i]) });
  };
  let inside = 0;
  const stage = planeStage(api, choose);
  const tools = planeTools(api, stage);
  const see = link("see them in the gallery", () => api.ask({}, { action: "gallery" }), { hidden: true });
  const clear = link("back to the whole collection", () => api.ask({ images: [] }));
  const foot = h("p", { class: "foot" }, told, chosen, see, clear);
  const [empty, says] = messageInstead(stage.stage, tools.element, foot);
  api.body.append(
    h(
      "h2",
      {},
      "Atlas",
      h(
        "small",
        {},
        `scroll to zoom, drag to move${api.standalone ? "" : ", Shift-drag around images to describe them"}`,
      ),
    ),
    tools.element,
    stage.stage,
    empty,
    foot,
  );
  followVisibility(api);

  return (view, arrays) => {
    const { layer, head, image, images } = view.selection;
    Object.assign(api.root.dataset, {
      points: view.n_points ?? 0,
      by: view.by,
      layer: layer ?? "",
      head: head ?? "",
      image: image ?? "",
      images: images.length,
      column: view.column ?? "",
      groups: (view.groups ?? []).length,
      ends: (view.ends ?? []).flat().join("\n"),
    });
    if (says(view)) return;
    tools.set(view);
    stage.draw(view, arrays);
    const who = view.by === "head" ? headLink(api, layer, head) : "the whole model";
    const all = counted(view.n_images, "image");
    const how = api.root.dataset.painter;
    told.replaceChildren(
      `These two axes show ${percent(view.share)} of the variance of `,
      who,
      ` · ${view.n_points < view.n_images ? `an even sample of ${count(view.n_points)} of ${all}` : all}${how === "density" ? " · drawn without a graphics card: brighter where images lie denser" : ""}`,
    );
    const thinner =
      inside > images.length && images.length === MOST_CHOSEN
        ? ` (an even sample of the ${count(inside)} inside)`
        : "";
    chosen.textContent = images.length
      ? `${count(images.length)} chosen${thinner}: TextSpan reads only these`
      : "";
    see.hidden = !images.length || api.standalone || !api.root.closest(".cv-dashboard");
    clear.hidden = !images.length;
  };
}

export default {
  /** @param {Context} context */
  render: (context) => mount(context, "atlas", build),
};
