// The picture under the hand: a drag or a wheel moves the concept's map, and the frames that Python finds
// follow.

import { counted, h, link, messageInstead, percent } from "../kit/dom.js";
import { markSelected, perRow, walk } from "../kit/grid.js";
import { pictureLoader, pictureUrl, tileStyle } from "../kit/gallery.js";
import { drawMap, glow, mapLayer } from "../kit/maps.js";
import { followVisibility, mount } from "../kit/protocol.js";

const STEP = 1 / 16;
const ZOOM = 1.06;
const APART = 50; // ms between two moves sent to Python; the map follows every move
const SURE = 0.3; // above this correlation a concept's name is shown without a question mark
/** @param {number} zoom */
const clampZoom = (zoom) => Math.max(0.4, Math.min(2.5, zoom));

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

/**
 * The hand: pointer, wheel and keys become option `move` = [grip, right, down, zoom]; `moved` is called at
 * once, so that the map follows before Python has heard. @param {GenerateApi} api @param {any} stage @param {() =>
 * void} moved
 */
const hand = (api, stage, moved) => {
  let grip = 0;
  /** @type {number[] | null} */
  let from = null;
  let at = [0, 0, 1];
  let shown = [0, 0, 1];
  let waiting = 0;
  let told = 0;
  let wheeled = 0;
  const tell = () => {
    waiting ||= setTimeout(
      () => {
        [waiting, told] = [0, performance.now()];
        api.put({ move: [grip, ...at] });
      },
      Math.max(0, told + APART - performance.now()),
    );
  };
  const take = () => {
    grip = Math.max(grip, api.option("move")?.[0] ?? 0) + 1;
    at = [0, 0, 1];
    shown = at;
  };
  /**
   * @param {number} right
   * @param {number} down
   * @param {number} zoom
   */
  const go = (right, down, zoom) => {
    at = [right, down, clampZoom(zoom)];
    moved();
    tell();
  };
  const drop = () => {
    from = null;
    stage.dataset.held = "false";
  };
  const heard = {
    /** @param {On<PointerEvent>} event */
    pointerdown: (event) => {
      if (event.button) return;
      stage.setPointerCapture(event.pointerId);
      take();
      from = [event.clientX, event.clientY];
      stage.dataset.held = "true";
    },
    /** @param {On<PointerEvent>} event */
    pointermove: (event) => {
      if (!from) return;
      const side = stage.getBoundingClientRect().width;
      go((event.clientX - from[0]) / side, (event.clientY - from[1]) / side, at[2]);
    },
    pointerup: drop,
    pointercancel: drop,
    /** @param {On<KeyboardEvent>} event */
    keydown: (event) => {
      const move = {
        ArrowLeft: [-STEP, 0, 1],
        ArrowRight: [STEP, 0, 1],
        ArrowUp: [0, -STEP, 1],
        ArrowDown: [0, STEP, 1],
        "+": [0, 0, ZOOM ** 2],
        "=": [0, 0, ZOOM ** 2],
        "-": [0, 0, ZOOM ** -2],
      }[event.key];
      if (!move) return;
      event.preventDefault();
      take();
      go(move[0], move[1], move[2]);
    },
  };
  for (const [event, listener] of Object.entries(heard)) stage.addEventListener(event, listener);
  stage.addEventListener(
    "wheel",
    (/** @type {On<WheelEvent>} */ event) => {
      event.preventDefault();
      if (!from && event.timeStamp - wheeled > 900) take();
      wheeled = event.timeStamp;
      go(at[0], at[1], at[2] * (event.deltaY < 0 ? ZOOM : 1 / ZOOM));
    },
    { passive: false },
  );
  return {
    /**
     * The map on show was made when the hand was here.
     * @param {number[]} given
     */
    settle: ([held, ...place]) => {
      shown = held === grip ? place : at;
    },
    /** How far the map on show lags behind the hand: right, down, zoom. */
    ahead: () => [at[0] - shown[0], at[1] - shown[1], at[2] / shown[2]],
  };
};

/**
 * The picture in its colours and the map over it, moved as far as the hand is ahead.
 * @param {any} canvas
 * @param {HTMLImageElement | OffscreenCanvas} picture
 * @param {any} layer
 * @param {number} opacity
 * @param {number} width
 * @param {number[]} ahead
 */
const paint = (canvas, picture, layer, opacity, width, [right, down, zoom]) => {
  drawMap(canvas, picture, null, 0, width);
  if (!layer) return;
  const context = canvas.getContext("2d");
  const side = canvas.width;
  const grown = side * zoom;
  const edge = (side - grown) / 2;
  context.globalAlpha = opacity;
  context.drawImage(layer, edge + right * side, edge + down * side, grown, grown);
  context.globalAlpha = 1;
};

/**
 * Draws a picture on the way, red green blue opacity for each pixel: no file to decode.
 * @returns {(pixels: Uint8Array, size: number[]) => OffscreenCanvas}
 */
const pixelDrawer = () => {
  const picture = new OffscreenCanvas(1, 1);
  const context = picture.getContext("2d");
  return (pixels, [rows, cols]) => {
    if (picture.height !== rows || picture.width !== cols) [picture.height, picture.width] = [rows, cols];
    context.putImageData(new ImageData(new Uint8ClampedArray(pixels), cols, rows), 0, 0);
    return picture;
  };
};

/** What the model says before and after. @param {GenerateView} view */
const verdicts = (view) =>
  view.before.map((/** @type {SaidShown} */ before, /** @type {number} */ i) => {
    const after = view.after[i] ?? before;
    const same = before.answer === after.answer;
    /**
     * @param {SaidShown} said
     * @param {boolean} [other]
     */
    const cell = (said, other) =>
      h(
        "td",
        {
          class: other && !same ? "changed" : null,
          title:
            said.probability === null
              ? "There is no object, according to the true scene or, if that is unknown, to a locator"
              : null,
        },
        said.answer,
        " ",
        said.probability === null ? null : h("span", { class: "num" }, percent(said.probability)),
      );
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, before.question),
      cell(before),
      cell(after, true),
      view.scene ? h("td", { class: "true" }, view.scene[before.question] ?? "") : null,
    );
  });

/** @param {ConceptListed} one */
const unitsOf = (one) => counted(one.units.length, "unit");
/** @param {ConceptListed} one */
const conceptHint = (one) =>
  `${unitsOf(one)} of the generator that are active together, shared with ${one.readers.join(" and ")}: ${one.units.map((/** @type {[string, number]} */ [layer, unit]) => `${layer} · ${unit}`).join(", ")}. Named by the text whose CLIP heatmap correlates most with their maps (r ${one.similarity.toFixed(2)}).`;

/** The strongest concepts; one or all of them can be dragged. @param {GenerateApi} api */
const concepts = (api) => {
  const list = h("div", { class: "concepts", role: "listbox", "aria-label": "Concepts" });
  /** @param {number} place */
  const choose = (place) => api.ask({}, { options: { concept: place } });
  walk(list, () => [...list.children], { columns: perRow });
  /**
   * @param {string} url
   * @param {number} place
   * @param {string} title
   * @param {string} under
   * @param {string} hint
   * @param {any} map
   */
  const tile = (url, place, title, under, hint, map, sure = true) =>
    h(
      "button",
      {
        type: "button",
        class: "one",
        role: "option",
        title: hint,
        "data-place": place,
        onclick: () => choose(place),
      },
      h("span", { class: "tile", style: { backgroundImage: `url(${url})`, backgroundSize: "cover" } }, map),
      h("span", { class: sure ? "name" : "name guess" }, title),
      h("span", { class: "units" }, under),
    );
  /**
   * @param {GenerateView} view
   * @param {GenerateArrays} arrays
   * @param {string} url
   */
  const set = (view, arrays, url) => {
    const chosen = api.option("concept");
    const size = view.side * view.side;
    const maps = view.concepts.map((_, i) =>
      glow(arrays.tiles.subarray(i * size, (i + 1) * size), view.side, view.side, 255),
    );
    list.replaceChildren(
      tile(
        url,
        -1,
        "Everything",
        counted(view.n_units, "unit"),
        `All ${counted(view.n_concepts, "concept")} that other models share`,
        null,
      ),
      ...view.concepts.map((one, i) =>
        tile(url, one.place, one.name, unitsOf(one), conceptHint(one), maps[i], one.similarity >= SURE),
      ),
    );
    markSelected([...list.children], (item) => Number(item.dataset.place) === chosen);
  };
  return [list, set];
};

/**
 * How far the maps came towards the requested ones, and whether the edit succeeded; during a search, how
 * far the search is.
 * @param {any} view
 * @returns {[number, string]}
 */
const progressOf = (view) => {
  if (!view.settled) return [view.of ? view.step / view.of : 0, view.work];
  if (!view.verdict) return [0, "Drag the picture, or press a button"];
  return [Math.max(0, view.reached), view.verdict];
};

/** Copy, remove, amplify; reset, keep, add. @param {GenerateApi} api */
const tools = (api) => {
  /**
   * @param {string} name
   * @param {string} text
   * @param {string} hint
   */
  const change = (name, text, hint) =>
    link(text, () => api.ask({}, { action: "change", change: name }), { title: hint, "data-change": name });
  /**
   * @param {string} name
   * @param {string} text
   * @param {string} hint
   */
  const act = (name, text, hint) =>
    link(text, () => api.ask({}, { action: name }), { title: hint, "data-action": name });
  return h(
    "div",
    { class: "tools", role: "toolbar", "aria-label": "Changes" },
    change("copy", "Copy", "Copy the concept's region beside it, where there is room"),
    change("remove", "Remove", "Fill the concept's region with its surroundings"),
    change("amplify", "Amplify", "Multiply each map by 1.6"),
    h("span", { class: "gap" }),
    act("reset", "Reset", "Return to the first picture"),
    act("keep", "Keep", "Store this picture below"),
    act("add", "Add to images", "Add it to the images, so that every panel can show it"),
  );
};

/**
 * Where one works: the stage, and beside it before and after.
 * @param {GenerateApi} api
 * @param {any} stage
 * @param {any} list
 */
const benchOf = (api, stage, list) => {
  const table = h("tbody", {});
  const formula = h("caption", {});
  const first = h("img", { class: "first", alt: "The first picture" });
  const way = h("i");
  const says = h("span", {});
  const opacity = h("input", {
    type: "range",
    min: 0,
    max: 1,
    step: 0.05,
    "aria-label": "Opacity of the map",
    "data-local": true,
    oninput: () => api.put({ opacity: Number(opacity.value) }),
  });
  const kept = h("div", { class: "kept", role: "group", "aria-label": "Kept pictures" });
  const truth = h(
    "th",
    { scope: "col", title: "The scene that the latent of this picture determines" },
    "true scene now",
  );
  const heads = [...["CLIP says", "before", "now"].map((text) => h("th", { scope: "col" }, text)), truth];
  const side = h(
    "div",
    { class: "side" },
    h(
      "div",
      { class: "beside" },
      h("figure", {}, first, h("figcaption", {}, "Before")),
      h("table", {}, formula, h("thead", {}, h("tr", {}, ...heads)), table),
    ),
    h(
      "p",
      {
        class: "status",
        role: "status",
        title:
          "Searches here take 40 steps to follow a drag and 120 to start from an image; session.generator.edit and .invert take the thesis's 500 steps unless given a schedule",
      },
      h("span", { class: "way", role: "presentation" }, way),
      says,
    ),
    tools(api),
    kept,
  );
  const element = h(
    "div",
    { class: "bench" },
    h(
      "div",
      { class: "hold" },
      stage,
      h("label", { class: "opacity" }, "Map ", opacity),
      h("p", { class: "hint" }, "Drag to move · wheel to zoom · click a concept to move it alone"),
    ),
    side,
    list,
  );
  /**
   * @param {GenerateView} view
   * @param {GenerateArrays} arrays
   * @param {any} addresses
   */
  const set = (view, arrays, addresses) => {
    const [share, text] = progressOf(view);
    way.style.width = percent(share);
    if (says.textContent !== text) says.textContent = text;
    says.classList.toggle("failed", view.settled && view.done === false);
    if (!view.settled) return;
    says.title = view.asked
      ? `The maps are ${view.distance.toFixed(3)} from those asked; before the edit, ${view.asked.toFixed(3)}`
      : "";
    truth.hidden = !view.scene;
    first.src = addresses[0](arrays.first);
    table.replaceChildren(...verdicts(view));
    formula.textContent = view.link;
    const sheet = arrays.kept ? addresses[1](arrays.kept) : "";
    kept.replaceChildren(
      ...Array.from({ length: view.n_kept }, (_, i) =>
        h("button", {
          type: "button",
          class: "tile",
          title: "Continue from this picture",
          "aria-label": `Kept picture ${i + 1}`,
          style: tileStyle(sheet, i, view.n_kept, view.n_kept),
          onclick: () => api.ask({}, { action: "back", place: i }),
        }),
      ),
    );
  };
  return [element, set, () => (opacity.value = api.option("opacity"))];
};

/**
 * @param {GenerateApi} api
 * @returns {Draw<GenerateView, GenerateArrays>}
 */
function build(api) {
  const [begins, setBegins] = starts(api);
  const [list, setConcepts] = concepts(api);
  const canvas = h("canvas", { class: "picture" });
  const stage = h(
    "div",
    {
      class: "stage",
      tabindex: 0,
      role: "application",
      "aria-label":
        "Generated picture. Drag to move the concept, wheel to zoom; arrow keys and plus and minus do the same.",
    },
    canvas,
  );
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
  /**
   * @param {GenerateView} view
   * @param {GenerateArrays} arrays
   * @param {any} made
   */
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
