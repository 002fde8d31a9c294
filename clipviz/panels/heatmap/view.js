import {
  count,
  counted,
  h,
  headName,
  link,
  messageInstead,
  percent,
  scaled,
  scaleEnds,
  signed,
} from "../kit/dom.js";
import { colourBar, DIVERGING, fill, gradient, rgb, signName } from "../kit/figure.js";
import { gridKeys, roving, segmented } from "../kit/grid.js";
import { pictureLoader } from "../kit/gallery.js";
import { drawMap, drawOutline, largest, mapLayer, maskScores, SUN } from "../kit/maps.js";
import { mount } from "../kit/protocol.js";
import { change, headLink } from "../kit/links.js";

const TOKEN_HEADS = 5;
const OURS = [
  ["effect", "Effect on the text"],
  ["centred", "Effect, mean text subtracted"],
  ["attention", "Class token’s attention"],
];
const OURS_POOLED = [
  ["effect", "Where heads read from"],
  ["centred", "… mean text subtracted"],
  ["pool", "Where the pool reads"],
  ["attention", "Attention of heads and pool"],
];

const BY_NEURONS = [
  ["neurons", "Neurons that write the text"],
  ["neuron", "The selected neuron"],
];

/** Whether the selected head is among those that are removed. @param {SelectionShown} selection */
const isRemoved = ({ layer, head, ablation }) =>
  ablation.layers.includes(layer) || ablation.heads.some(([l, at]) => l === layer && at === head);

/**
 * @typedef {object} Drawn a map, and how it is drawn
 * @property {Float32Array} values
 * @property {"signed" | "plain"} kind
 * @property {string} show
 * @property {boolean} gone whether the head whose map it is is removed
 * @property {number} limit
 * @property {number} largest
 * @property {number} floor
 */

/** @type {Record<string, string>} */
const MADE_OF = { effect: "scores", centred: "shared" };

/** The arrays by any name. @param {HeatmapArrays} arrays */
const named = (arrays) => /** @type {Record<string, Float32Array | undefined>} */ (arrays);

/** @param {HeatmapApi} api the map on screen, summed here: over heads and layers, A minus B, minus the mean text */
const mapMaker = (api) => {
  const baselines = () => api.view.baselines ?? [];
  const name = () =>
    api.option("show") === "neuron" && api.view.selection.neuron === null ? "effect" : api.option("show");
  const isBaseline = () => Boolean(api.view.selection.text) && baselines().includes(name());
  const isNeurons = () => name() === "neuron" || (name() === "neurons" && Boolean(api.view.selection.text));
  // What one head writes at one token: effect on A (minus B, minus the mean text), or attention where there
  // is no text.
  const reader = () => {
    const { scores, shared, attention } = api.arrays;
    const { n_heads: H, rows, cols } = api.view;
    const T = rows * cols + 1;
    const show = name();
    const plain = show === "attention" || !scores;
    const a = plain ? attention : scores;
    const b = !plain && show === "centred" && !api.view.selection.text_b ? shared : null;
    /**
     * @param {number} layer
     * @param {number} head
     * @param {number} i
     */
    const at = (layer, head, i) => {
      const j = (layer * H + head) * T + i;
      return a[j] - (b ? b[j] : 0);
    };
    return { at, plain };
  };
  /**
   * @param {Float32Array} values
   * @param {Drawn["kind"]} kind
   * @param {string} show
   */
  const finish = (values, kind, show, gone = false) => ({
    values,
    kind,
    show,
    gone,
    limit: api.option("scale") ?? largest(values),
    largest: largest(values),
    floor:
      kind === "plain"
        ? Math.max(
            0,
            values.reduce(
              (/** @type {number} */ least, /** @type {number} */ value) => Math.min(least, value),
              Infinity,
            ),
          )
        : 0,
  });
  const summed = () => {
    const { n_layers: L, n_heads: H, rows, cols, selection } = api.view;
    const scope = api.option("scope");
    const { at, plain } = reader();
    const values = new Float32Array(rows * cols);
    for (let layer = 0; layer < L; layer++)
      for (let head = 0; head < H; head++) {
        if (scope === "late" && layer < L - api.view.n_late) continue;
        if ((scope === "layer" || scope === "head") && selection.layer !== null && layer !== selection.layer)
          continue;
        if (scope === "head" && selection.head !== null && head !== selection.head) continue;
        for (let i = 0; i < values.length; i++) values[i] += at(layer, head, i + 1);
      }
    return finish(
      values,
      plain ? "plain" : "signed",
      plain
        ? "attention"
        : BY_NEURONS.some(([value]) => value === name()) || isBaseline()
          ? "effect"
          : name(),
      !plain && scope === "head" && isRemoved(selection),
    );
  };
  /** @param {string} which */
  const baseline = (which) => finish(named(api.arrays)[which], "plain", which);
  const isPool = () => name() === "pool" && Boolean(api.arrays.pool);
  const pooled = () => finish(api.arrays.pool.subarray(1), "signed", "pool");
  // The map to show, or null while the kernel computes it.
  const shown = () => {
    const which = name();
    const { text, text_b: other } = api.view.selection;
    if (isNeurons()) return named(api.arrays)[which] ? baseline(which) : null;
    if (!text) return summed();
    if (isPool()) return pooled();
    if (isBaseline()) return named(api.arrays)[which] ? baseline(which) : null;
    return which === "centred" && !other && !api.arrays.shared ? null : summed();
  };
  // Whether a saved page has the data of a map.
  /** @param {string} which */
  const stored = (which) => Boolean(named(api.arrays)[MADE_OF[which] ?? which]);
  return { name, baselines, isBaseline, isNeurons, isPool, pooled, reader, summed, baseline, shown, stored };
};

const passing = new OffscreenCanvas(1, 1); // for maps that are drawn at once
/**
 * @param {HeatmapApi} api
 * @param {Drawn} m
 */
const layerOf = (api, m) =>
  mapLayer(m.values, api.view.rows, api.view.cols, m.limit, m.kind, m.floor, passing);
/**
 * @param {HeatmapApi} api
 * @param {Drawn} m
 */
const scoreOf = (api, m) =>
  api.arrays.mask && api.view.fits !== false && !m.gone && m.largest > 1e-9
    ? maskScores(
        m.values,
        api.view.rows,
        api.view.cols,
        api.arrays.mask,
        api.view.mask_size,
        BY_NEURONS.some(([name]) => name === m.show) ? api.view.neuron_threshold : null,
      )
    : null;
/** @param {string} name */
const capital = (name) => name[0].toUpperCase() + name.slice(1);

/**
 * The picture with its map; hover reads a token, a click or the arrows choose one.
 * @param {HeatmapApi} api
 * @param {any} chosen
 */
const mapStage = (api, chosen) => {
  const canvas = h("canvas", { class: "map", tabindex: 0, role: "img" });
  const tip = h("div", { class: "tip num", hidden: true });
  const box = h("div", { class: "box", hidden: true });
  const stage = h("div", { class: "stage" }, canvas, box, tip);
  const self = {
    stage,
    canvas,
    tip,
    picture: /** @type {any} */ (null),
    map: /** @type {(Drawn & { image?: number }) | null} */ (null),
    paint: () => {},
    hovered: () => {},
  };
  /** @type {number | null} */
  let hover = null;
  let width = 0; // set by the observer, since reading it here would force another layout
  const frameToken = () => {
    const { rows, cols, selection } = api.view;
    const token = selection.token ? selection.token - 1 : null;
    box.hidden = token === null;
    if (token !== null)
      Object.assign(box.style, {
        left: `${(100 * (token % cols)) / cols}%`,
        top: `${(100 * Math.floor(token / cols)) / rows}%`,
        width: `${100 / cols}%`,
        height: `${100 / rows}%`,
      });
  };
  self.paint = () => {
    if (!self.picture) return;
    drawMap(
      canvas,
      self.picture,
      self.map && layerOf(api, self.map),
      api.option("opacity"),
      Math.max(64, Math.round((width ||= stage.clientWidth) || 400)),
    );
    if (api.option("outline") && api.arrays.mask) drawOutline(canvas, api.arrays.mask, api.view.mask_size);
    frameToken();
    if (self.map) publish();
  };
  const publish = () => {
    const { selection, cols } = api.view;
    const { values, show } = self.map;
    const peak = values.indexOf(Math.max(...values));
    const total = values.reduce((/** @type {number} */ sum, /** @type {number} */ value) => sum + value, 0);
    Object.assign(api.root.dataset, {
      image: selection.image ?? "",
      layer: selection.layer ?? "",
      head: selection.head ?? "",
      token: selection.token ?? "",
      text: selection.text,
      textB: selection.text_b,
      scope: api.option("scope"),
      show,
      scale: api.option("scale")?.toFixed(6) ?? "",
      cosine: api.view.cosine?.toFixed(6) ?? "",
      total: total.toFixed(5),
      peak,
      drawn: Number(api.root.dataset.drawn ?? 0) + 1,
    });
    canvas.setAttribute(
      "aria-label",
      `${show} map; highest at row ${Math.floor(peak / cols)}, column ${peak % cols}. Arrow keys move between patches.`,
    );
  };
  /** @param {On<MouseEvent>} event */
  const at = (event) => {
    const bounds = canvas.getBoundingClientRect();
    const { rows, cols } = api.view;
    const col = Math.floor(((event.clientX - bounds.left) / bounds.width) * cols);
    const row = Math.floor(((event.clientY - bounds.top) / bounds.height) * rows);
    return row >= 0 && col >= 0 && row < rows && col < cols ? row * cols + col : null;
  };
  /** @param {number} value */
  const number = (value) =>
    self.map.kind === "signed"
      ? signed(value, 4)
      : Math.abs(value) >= 1e-3
        ? value.toFixed(4)
        : value.toExponential(1);
  /** @param {number} place */
  const point = (place) => {
    hover = place;
    tip.hidden = place === null || !self.map;
    if (tip.hidden) return;
    const { rows, cols } = api.view;
    const row = Math.floor(place / cols);
    const col = place % cols;
    tip.textContent = `patch (${row}, ${col}) · ${number(self.map.values[place])}`;
    tip.style.left = `${Math.max(18, Math.min(82, (100 * (col + 0.5)) / cols))}%`;
    tip.style.top = row < 2 ? `${(100 * (row + 1)) / rows + 9}%` : `${(100 * row) / rows}%`;
    api.root.dataset.hover = String(place);
  };
  self.hovered = () => hover !== null && point(hover);
  /** @param {number} place */
  const choose = (place) => {
    api.view.selection.token = place + 1;
    frameToken();
    point(place);
    chosen();
    api.ask({ token: place + 1 });
  };
  canvas.addEventListener(
    "mousemove",
    (/** @type {On<MouseEvent>} */ event) => api.view.seq && point(at(event)),
  );
  canvas.addEventListener("mouseleave", () => point(null));
  canvas.addEventListener(
    "click",
    (/** @type {On<MouseEvent>} */ event) => self.map && at(event) !== null && choose(at(event)),
  );
  canvas.addEventListener("keydown", (/** @type {On<KeyboardEvent>} */ event) => {
    const { rows, cols, selection } = api.view;
    if (event.key === "Escape") {
      point(null);
      return api.ask({ token: null });
    }
    const now = selection.token ? selection.token - 1 : Math.floor(rows / 2) * cols + Math.floor(cols / 2);
    const to = gridKeys(event, Math.floor(now / cols), now % cols, rows, cols);
    if (!to || !self.map) return;
    event.preventDefault();
    choose(to[0] * cols + to[1]);
  });
  const resized = new ResizeObserver(() => {
    if (width && width === stage.clientWidth) return;
    width = stage.clientWidth;
    self.paint();
  });
  resized.observe(stage);
  api.cleanups.push(() => resized.disconnect());
  return self;
};

/**
 * Which heads write at the chosen token.
 * @param {HeatmapApi} api
 * @param {any} given
 */
const tokenHeads = (api, { reader }) => {
  const part = h("div", { class: "part token" });
  const draw = () => {
    const { n_layers: L, n_heads: H, cols, selection } = api.view;
    const chosen = selection.token;
    const { at, plain } = reader();
    part.dataset.heads = "";
    if (!chosen)
      return part.replaceChildren(
        h("h3", {}, "Heads active at this patch"),
        h(
          "p",
          { class: "note" },
          "Click a patch, or move over the image with the arrow keys, to see the heads that write there.",
        ),
      );
    const all = [];
    for (let layer = 0; layer < L; layer++)
      for (let head = 0; head < H; head++) all.push([layer, head, at(layer, head, chosen)]);
    const total = all.reduce((sum, [, , v]) => sum + v, 0);
    const first = all.sort((a, b) => Math.abs(b[2]) - Math.abs(a[2])).slice(0, TOKEN_HEADS);
    const widest = Math.abs(first[0][2]) || 1;
    /** @param {[number, number, number]} given */
    const row = ([layer, head, v]) =>
      h(
        "button",
        {
          type: "button",
          class: "writer",
          "data-layer": layer,
          "data-head": head,
          "aria-pressed": String(layer === selection.layer && head === selection.head),
          title: `Select ${headName(layer, head)}`,
          disabled: !api.offers({ layer, head }),
          onclick: () => api.ask({ layer, head }),
        },
        h("span", { class: "name" }, headName(layer, head)),
        h("span", { class: "bar" }, fill(Math.abs(v) / widest, plain ? "plain" : signName(v))),
        h("span", { class: "num" }, plain ? v.toFixed(3) : signed(v, 4)),
      );
    part.dataset.heads = first.map(([layer, head]) => `${layer},${head}`).join(" ");
    part.dataset.spoken = `Most active: ${first
      .slice(0, 3)
      .map(([layer, head]) => headName(layer, head))
      .join(", ")}`;
    part.replaceChildren(
      h(
        "h3",
        {},
        `Heads active at patch (${Math.floor((chosen - 1) / cols)}, ${(chosen - 1) % cols})`,
        h("span", { class: "num" }, plain ? "attention" : `all heads ${signed(total, 4)}`),
      ),
      roving(h("div", { class: "writers" }, ...first.map(row))),
    );
  };
  return { part, draw };
};

/**
 * A head's texts on this image (Fig. 2.6).
 * @param {HeatmapApi} api
 * @param {ReturnType<typeof mapStage>} stage
 */
const headTexts = (api, stage) => {
  const part = h("div", { class: "part joint" });
  const [counts, setCount] = segmented(
    "How many of the head's texts",
    [
      [10, "10", "Of the head's first 10 texts"],
      [60, "60", "Of its first 60 texts, as many as in the thesis"],
    ],
    (n) => api.ask({}, { options: { joint_texts: Number(n) } }),
  );
  const draw = () => {
    const { joint: about, rows, cols, selection } = api.view;
    part.classList.toggle("pending", !about);
    if (!about || !stage.picture) return;
    const name =
      selection.layer === null || selection.head === null
        ? "the head"
        : headLink(api, selection.layer, selection.head);
    const title = h(
      "h3",
      {},
      h("b", {}, "How ", name, " reads this image"),
      api.standalone ? null : h("span", { class: "sizes" }, "Texts considered", counts),
      h(
        "span",
        {},
        `The strongest and weakest of its ${api.standalone ? `first ${about.n_texts} texts` : "texts"}${api.view.removed && ", before the removal"}`,
      ),
    );
    setCount(about.n_texts);
    if (!about.texts.length) return part.replaceChildren(title, h("p", { class: "note" }, about.message));
    const all = api.arrays.joint_maps;
    const size = rows * cols;
    const limit = largest(all);
    /**
     * @param {string} text
     * @param {number} i
     */
    const tile = (text, i) => {
      const small = h("canvas", { "aria-hidden": "true" });
      const value = about.values[i];
      drawMap(
        small,
        stage.picture,
        mapLayer(all.subarray(i * size, (i + 1) * size), rows, cols, limit, "signed", 0, passing),
        0.8,
        132,
      );
      return h(
        "button",
        {
          type: "button",
          class: "says",
          title: `Show “${text}” everywhere`,
          "aria-pressed": String(text === selection.text),
          "aria-label": `${text}, ${signed(value, 4)}`,
          disabled: !api.offers({ text }),
          onclick: () => api.ask({ text }),
        },
        small,
        h("b", { class: `num ${signName(value)}` }, signed(value)),
        h("span", { class: "words" }, text),
      );
    };
    part.dataset.texts = about.texts.join("\n");
    part.replaceChildren(title, roving(h("div", { class: "tiles" }, ...about.texts.map(tile))));
  };
  return { part, draw };
};

/**
 * Every method on this image, side by side.
 * @param {HeatmapApi} api
 * @param {ReturnType<typeof mapStage>} stage
 * @param {ReturnType<typeof mapMaker>} maker
 */
const methodStrip = (api, stage, maker) => {
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
    const there = [...maker.baselines(), "neurons"].filter((name) => named(api.arrays)[name]);
    strip.hidden = !there.length || !stage.picture || !api.view.selection.text;
    if (strip.hidden) return;
    const mine =
      maker.isBaseline() || maker.isNeurons()
        ? !api.view.selection.text_b && api.arrays.shared
          ? "centred"
          : "effect"
        : maker.name();
    /** @param {string} name */
    const one = (name) => {
      const ours = name === mine;
      const m = ours ? (maker.isPool() ? maker.pooled() : maker.summed()) : maker.baseline(name);
      const [small, score] = drawn(m);
      return h(
        "button",
        {
          type: "button",
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

/**
 * What the map shows, in a line.
 * @param {HeatmapApi} api
 * @param {ReturnType<typeof mapMaker>} maker
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
      : maker.baselines().includes(show)
        ? `${capital(show)}${ignoring.includes(show) ? " (ignores the text)" : ` for ${quoted}`}${whole}`
        : show === "attention"
          ? text
            ? `${attention} (ignores the text)`
            : `no text yet: ${attention}`
          : show === "pool"
            ? `effect on ${quoted} of what the pool reads at each token${whole}`
            : `effect on ${quoted}${show === "centred" ? ", mean text subtracted" : ""}${number}`;
};

/**
 * Reports that the head of this map is removed, with a button to restore it.
 * @param {HeatmapApi} api
 */
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
 * The controls of the map: method, scope and opacity, with the colour bar and a line of text.
 * @param {HeatmapApi} api
 * @param {ReturnType<typeof mapStage>} stage
 * @param {ReturnType<typeof mapMaker>} maker
 */
const mapControls = (api, stage, maker) => {
  /** @param {[string, string]} given */
  const option = ([value, text]) => h("option", { value }, text);
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
  const shows = h("select", { class: "pick", "aria-label": "What is shown" });
  const ours = h("optgroup", { label: "Token decomposition" });
  const others = h("optgroup", { label: "Compare with" });
  shows.append(ours, h("optgroup", { label: "Where neurons are active" }, ...BY_NEURONS.map(option)), others);
  shows.addEventListener("change", () => api.put({ show: shows.value }));
  const slider = h("input", { type: "range", min: 0, max: 100, "aria-label": "Overlay opacity" });
  slider.addEventListener("input", () => {
    api.put({ opacity: slider.value / 100 }, false);
    stage.paint();
  });
  slider.addEventListener("change", () => api.put({ opacity: slider.value / 100 }));
  const outline = h("input", { type: "checkbox", onchange: () => api.put({ outline: outline.checked }) });
  const outlined = h(
    "label",
    { class: "overlay", title: "The true outline of the objects" },
    outline,
    "true mask",
  );
  const fixed = h("input", {
    type: "checkbox",
    onchange: () => api.put({ scale: fixed.checked ? (stage.map?.largest ?? null) : null }),
  });
  const fixing = h(
    "label",
    {
      class: "overlay",
      title: "Keep the colour scale fixed for other texts, images and scopes, so that maps can be compared",
    },
    fixed,
    "fix scale",
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
  /** @param {HeatmapView} given */
  const set = ({ selection: { layer, head, text, neuron } }) => {
    const whole = maker.isBaseline() || maker.isPool() || maker.isNeurons();
    const known = api.view.pools ? OURS_POOLED : OURS;
    setScope(api.option("scope"));
    const [, , layerButton, headButton] = scopes.children;
    layerButton.textContent = layer === null ? "Layer" : `Layer ${layer}`;
    headButton.textContent = layer === null || head === null ? "Head" : headName(layer, head);
    headButton.setAttribute(
      "aria-label",
      layer === null || head === null ? "Head" : `Head ${headName(layer, head)}`,
    );
    for (const button of scopes.children) button.disabled = whole;
    layerButton.disabled ||= layer === null;
    headButton.disabled ||= layer === null || head === null;
    scopes.title = maker.isPool()
      ? "The pool reads the output of all heads and MLPs, so there is no scope"
      : maker.isNeurons()
        ? "Neurons belong to MLPs, so this map has no sum over heads."
        : whole
          ? "These methods explain the whole model only"
          : "";
    if (ours.children.length !== known.length) ours.replaceChildren(...known.map(option));
    if (others.children.length !== maker.baselines().length)
      others.replaceChildren(
        ...maker
          .baselines()
          .map((/** @type {string} */ name) =>
            option([
              name,
              `${capital(name)}${api.view.ignoring.includes(name) ? " (ignores the text)" : ""}`,
            ]),
          ),
      );
    for (const entry of shows.querySelectorAll("option"))
      entry.disabled =
        (!text && !["attention", "neuron"].includes(entry.value)) ||
        (entry.value === "neuron" && neuron === null) ||
        ((api.standalone || api.model.live) && !maker.stored(entry.value));
    shows.value = text || maker.isNeurons() ? maker.name() : "attention";
    slider.value = Math.round(100 * api.option("opacity"));
    outline.checked = api.option("outline");
    fixed.checked = api.option("scale") !== null;
    outlined.hidden = !api.arrays.mask;
  };
  /**
   * @param {HeatmapView} view
   * @param {Drawn} m
   */
  const say = (view, m) => {
    const { kind, limit, floor } = m;
    const { pos, neg } = DIVERGING.light;
    const sign = kind === "signed";
    bar.replaceChildren(
      ...colourBar(
        ...(sign ? scaleEnds(limit) : /** @type {[string, string]} */ ([scaled(floor), scaled(limit)])),
        sign ? gradient(rgb(neg), "transparent", rgb(pos)) : gradient("transparent", rgb(SUN)),
        "",
      ).slice(0, 3),
    );
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
    controls: h("div", { class: "controls" }, shows, scopes),
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

/**
 * What the numbers are compared with: the pool, the collection, the image's nearest texts.
 * @param {HeatmapApi} api
 */
const comparison = (api) => {
  const part = h("div", { class: "part context" });
  const banner = h("p", { class: "stranger", role: "status", hidden: true });
  /**
   * @param {PercentilesShown} given
   * @param {SelectionShown} given
   */
  const stands = ({ rank, n_texts: pool, share, n_images: n }, { text, text_b: other }) => {
    const what = other ? "A − B" : `“${text}”`;
    const among =
      rank === null ? "" : ` is text ${count(rank)} of ${count(pool)} for this image, and its cosine`;
    return h(
      "p",
      { class: "percentiles" },
      `${what}${among} is higher than on `,
      h("b", { class: "num" }, percent(share)),
      ` of ${counted(n, "other image")}.`,
    );
  };
  /** @param {HeatmapView} given */
  const draw = ({ context: about, selection, removed }) => {
    part.classList.toggle("pending", !about);
    if (!about) return;
    const { nearest, percentiles, far, true: known } = about;
    const tick = () => h("span", { class: "tick", "aria-hidden": "true" }, "✓");
    /**
     * @param {[string, number]} given
     * @param {number} i
     */
    const one = ([text, cosine], i) =>
      h(
        "button",
        {
          type: "button",
          class: "near",
          "aria-pressed": String(text === selection.text),
          title: `Show “${text}” everywhere`,
          disabled: !api.offers({ text }),
          onclick: () => api.ask({ text }),
        },
        text,
        ...(known?.[i] ? [tick(), h("span", { class: "sr" }, "(true of the picture)")] : []),
        h("span", { class: "num" }, signed(cosine)),
      );
    part.replaceChildren(
      h(
        "h3",
        {},
        "Nearest texts of the pool",
        h(
          "span",
          {},
          `cosine with the image${removed && ` ${removed}`}`,
          ...(known ? [" · ", tick(), " true of the picture"] : []),
        ),
      ),
      roving(h("div", { class: "nears" }, ...nearest.map(one))),
      ...(percentiles ? [stands(percentiles, selection)] : []),
    );
    banner.hidden = !far;
    banner.textContent = far
      ? `${far.why} Best text: cosine ${signed(far.cosine)}, higher than on ${percent(far.share)} of ${counted(far.n_images, "image")}.`
      : "";
    Object.assign(api.root.dataset, {
      far: String(Boolean(far)),
      rank: percentiles?.rank ?? "",
      share: percentiles?.share.toFixed(6) ?? "",
      nearest: nearest[0]?.[0] ?? "",
    });
  };
  return { part, banner, draw };
};

/**
 * @param {HeatmapApi} api
 * @returns {Draw<HeatmapView, HeatmapArrays>}
 */
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
    tools.set(view);
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
