// The picture under the hand: a drag or a wheel moves the concept's map, and the frames that Python finds
// follow.

import { h, link, messageInstead } from "../kit/dom.js";
import { pictureLoader, pictureUrl } from "../kit/gallery.js";
import { mapLayer } from "../kit/maps.js";
import { followVisibility, mount } from "../kit/protocol.js";
import { benchOf } from "./bench.js";
import { concepts } from "./concepts.js";
import { hand } from "./hand.js";
import { paint, pixelDrawer } from "./picture.js";

/** Random, a class, the selected image. @param {GenerateApi} api */
const starts = (api) => {
  /** @param {string} source */
  const begin = (source, more = {}) => api.ask({}, { action: "begin", source, ...more });
  const random = link("Random picture", () => begin("random"), { title: "A new latent from the prior" });
  const classes = h("select", {
    "aria-label": "Class",
    onchange: () => classes.value && begin("class", { label: classes.value }),
  });
  const image = link("From the selected image", () => begin("image"), {
    title: "Search for a latent whose shared units have the same maps as on the image (Eq. 4.7)",
  });
  let known = "";
  /** @param {GenerateView} view */
  const set = (view) => {
    const key = view.classes.join("\n");
    if (key !== known) {
      known = key;
      classes.replaceChildren(
        h("option", { value: "" }, "Random…"),
        ...view.classes.map((name) => h("option", { value: name }, name)),
      );
    }
    classes.value = view.label;
    classes.hidden = !view.classes.length;
    image.disabled = view.image === null;
  };
  return [h("div", { class: "starts" }, random, h("label", {}, "Class ", classes), image), set];
};

/** @param {GenerateApi} api @returns {Draw<GenerateView, GenerateArrays>} */
function build(api) {
  const [begins, setBegins] = starts(api);
  const [list, setConcepts] = concepts(api);
  const canvas = h("canvas", { class: "picture" });
  const about =
    "Generated picture. Drag to move the concept, wheel to zoom; arrow keys and plus and minus do the same.";
  const stage = h("div", { class: "stage", tabindex: 0, role: "application", "aria-label": about }, canvas);
  const [bench, setBench, setOpacity] = benchOf(api, stage, list);
  const [message, says] = messageInstead(bench, begins);
  api.body.append(
    h("h2", {}, "Generate", h("small", {}, "drag a map, and the generated image follows")),
    begins,
    message,
    bench,
  );
  followVisibility(api);
  const load = pictureLoader(api);
  const drawPixels = pixelDrawer();
  const addresses = ["first", "kept", "tiles"].map(() => pictureUrl(api));
  /** @type {any} */
  let picture = null;
  /** @type {any} */
  let layer = null;
  let frames = 0;
  let told = 0;
  let drawn = 0;
  let due = 0;
  let width = 288;
  const now = () => {
    due = 0;
    if (picture) paint(canvas, picture, layer, api.option("opacity"), width, mine.ahead());
  };
  const again = () => {
    due ||= requestAnimationFrame(now);
  };
  const mine = hand(api, stage, again);
  const sized = new ResizeObserver(() => {
    if (stage.clientWidth) width = stage.clientWidth;
    again();
  });
  sized.observe(stage);
  api.cleanups.push(() => {
    sized.disconnect();
    cancelAnimationFrame(due);
  });
  /** @param {GenerateView} view @param {GenerateArrays} arrays @param {any} made */
  const show = (view, arrays, made) => {
    if (view.seq !== drawn) frames += 1;
    [picture, drawn] = [made, view.seq];
    if (view.settled) {
      layer = mapLayer(arrays.map, view.side, view.side, 255, "glow");
      mine.settle(view.moved);
      setConcepts(view, arrays, addresses[2](arrays.picture));
    }
    now();
    Object.assign(api.root.dataset, {
      state: view.settled ? "settled" : "moving",
      frames,
      step: view.step,
      distance: view.distance.toFixed(4),
      label: view.label,
      concept: api.option("concept"),
      kept: view.n_kept,
      done: view.settled ? String(view.done) : "",
    });
  };
  return (view, arrays) => {
    if (says(view)) return void (api.root.dataset.state = "message");
    setOpacity();
    if (view.seq === told) return again();
    told = view.seq;
    setBegins(view);
    setBench(view, arrays, addresses);
    if (arrays.pixels) return show(view, arrays, drawPixels(arrays.pixels, view.arrays.pixels.shape));
    load(arrays.picture, (made) => view.seq === told && show(view, arrays, made));
  };
}

export default {
  /** @param {Context} context */
  render: (context) => mount(context, "generate", build),
};
