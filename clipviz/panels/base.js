// Shared by every panel: elements, colours, the request/view protocol, the theme, keyboard grids.
// Texts come from files and users, so elements are built from text nodes only.

const h = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(node.style, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
};

const DTYPES = { float32: Float32Array, uint8: Uint8Array, int32: Int32Array };

// One binary blob holds every array of a view; `arrays` says where each begins.
const unpack = (arrays, blob) => {
  const unpacked = {};
  if (!blob || !arrays) return unpacked;
  const bytes = new Uint8Array(blob.buffer ?? blob, blob.byteOffset ?? 0, blob.byteLength);
  for (const [name, { dtype, offset, size }] of Object.entries(arrays)) {
    const copy = bytes.slice(offset, offset + size);
    unpacked[name] = new DTYPES[dtype](copy.buffer);
  }
  return unpacked;
};

const bytesUrl = (bytes, type) => URL.createObjectURL(new Blob([bytes], { type }));

// Colours: orange for positive, blue for negative, told apart by colour-blind readers; zero is the ground.
const DIVERGING = {
  light: { pos: [194, 65, 12], neg: [29, 78, 216], zero: [243, 244, 246] },
  dark: { pos: [240, 138, 75], neg: [122, 162, 255], zero: [38, 45, 55] },
};
const CATEGORIES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9", "#8c564b", "#6a5acd", "#7f7f7f"];
const mix = (a, b, t) => a.map((value, i) => Math.round(value + (b[i] - value) * t));
const diverging = (value, limit, theme) => {
  const { pos, neg, zero } = DIVERGING[theme];
  const t = limit > 0 ? Math.min(1, Math.abs(value) / limit) : 0;
  return mix(zero, value < 0 ? neg : pos, Math.pow(t, 0.8));
};
const rgb = (colour) => `rgb(${colour.join(",")})`;
const inkOn = ([r, g, b]) => (0.299 * r + 0.587 * g + 0.114 * b > 150 ? "#111827" : "#ffffff");
const signed = (value, digits = 3) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);
const percent = (value) => `${(100 * value).toFixed(1)}%`;
const headName = (layer, head) => `L${layer}·H${head}`;

const themeNow = () => {
  const light = document.body.dataset.jpThemeLight;
  if (light !== undefined) return light === "false" ? "dark" : "light";
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
};

// A panel's life: build the skeleton once, draw every view, send requests, show errors, clean up.
// spec.build(api) -> draw(view, arrays); api.ask(changes, extra) sends a change of the selection.
const mount = ({ model, el }, name, build) => {
  const root = h("section", { class: `cv cv-${name}`, "data-panel": name, "data-ready": "false", "aria-busy": "false", "data-lm-suppress-shortcuts": "true" }); // keys belong to the panel, not the notebook
  const body = h("div", { class: "cv-body" });
  const errors = h("div", { role: "alert" });
  root.append(h("div", { class: "cv-busy" }), errors, body);
  el.append(root);
  const api = { root, body, model, theme: themeNow(), view: {}, arrays: {}, cleanups: [] };
  let pending = {};
  let slow = null;

  const busy = (on) => {
    clearTimeout(slow);
    root.setAttribute("aria-busy", String(on));
    if (on) slow = setTimeout(() => (root.dataset.busy = "true"), 150);
    else root.dataset.busy = "false";
  };
  const newest = () => model.get("request")?.seq ?? 0;
  const answered = () => (model.get("view")?.ack ?? 0) >= newest();

  api.ask = (changes = {}, extra = {}) => {
    pending = answered() ? { ...changes } : { ...pending, ...changes };
    model.set("request", { seq: newest() + 1, changes: pending, ...extra });
    model.save_changes();
    if (!api.standalone) return busy(true);
    if (document.activeElement?.matches?.("input")) document.activeElement.blur();
    api.redraw(); // nobody answers: the controls show again what is drawn
  };
  api.showError = (error) => {
    errors.replaceChildren();
    if (!error?.message) return;
    const detail = error.detail ? h("details", {}, h("summary", {}, "Details"), h("pre", {}, error.detail)) : null;
    const close = h("button", { "aria-label": "Dismiss", onclick: () => errors.replaceChildren() }, "✕");
    errors.append(h("div", { class: "cv-error" }, h("p", {}, error.message, detail), close));
  };
  api.standalone = Boolean(model.standalone);

  let draw = () => {};
  const redraw = () => {
    if (!api.view.seq || api.view.waiting) return;
    root.dataset.theme = api.theme;
    draw(api.view, api.arrays);
    root.dataset.seq = api.view.seq;
    root.dataset.ready = "true";
  };
  api.redraw = redraw;
  const onView = () => {
    const view = model.get("view");
    if (!view?.seq) return;
    if ((view.ack ?? 0) < newest() && !api.standalone) return; // a newer request is under way
    busy(false);
    api.view = view;
    api.arrays = unpack(view.arrays, model.get("blob"));
    redraw();
  };
  const onError = () => {
    busy(false);
    api.showError(model.get("error"));
  };
  const retheme = () => {
    if (themeNow() === api.theme) return;
    api.theme = themeNow();
    root.dataset.theme = api.theme;
    redraw();
  };
  root.dataset.theme = api.theme;
  draw = build(api) ?? draw;
  model.on("change:view", onView);
  model.on("change:error", onError);
  const watcher = new MutationObserver(retheme);
  watcher.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
  onView();
  onError();
  // The first message of a widget waits for the running cell; later ones do not. Send it now.
  if (!api.standalone && !newest()) {
    model.set("request", { seq: 1, changes: {}, action: "hello" });
    model.save_changes();
  }
  return () => {
    model.off("change:view", onView);
    model.off("change:error", onError);
    watcher.disconnect();
    clearTimeout(slow);
    api.cleanups.forEach((clean) => clean());
  };
};

// A segmented control; `choose(value)` when one is pressed. Returns [element, set(value)].
const segmented = (label, options, choose) => {
  const buttons = options.map(([value, text, title]) =>
    h("button", { type: "button", "data-value": value, title, "aria-pressed": "false", onclick: () => choose(value) }, text));
  const set = (value) => buttons.forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.value === String(value))));
  return [h("div", { class: "seg", role: "group", "aria-label": label }, ...buttons), set];
};

// Arrow keys in a grid of buttons: one is in the tab order, arrows move focus and call `move(row, col)`.
const gridKeys = (event, row, col, nRows, nCols) => {
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const ends = { Home: [row, 0], End: [row, nCols - 1] };
  if (ends[event.key]) return ends[event.key];
  const step = steps[event.key];
  if (!step) return null;
  const to = [row + step[0], col + step[1]];
  return to[0] >= 0 && to[0] < nRows && to[1] >= 0 && to[1] < nCols ? to : null;
};

// A tile of a sprite (square thumbnails, row-major) as a background.
const tileStyle = (url, position, columns, count) => {
  const rows = Math.ceil(count / columns);
  const at = (i, n) => (n > 1 ? `${(100 * i) / (n - 1)}%` : "0%");
  return {
    backgroundImage: `url(${url})`,
    backgroundSize: `${columns * 100}% ${rows * 100}%`,
    backgroundPosition: `${at(position % columns, columns)} ${at(Math.floor(position / columns), rows)}`,
  };
};

// Tells Python whether the panel is on screen (trait `visible`), so that a hidden one computes nothing.
const followVisibility = (api, shown = () => {}) => {
  const seen = new ResizeObserver(() => {
    const visible = api.root.clientWidth > 0;
    if (visible) shown();
    if (visible === api.model.get("visible") || api.standalone) return;
    api.model.set("visible", visible);
    api.ask();
  });
  seen.observe(api.root);
  api.cleanups.push(() => seen.disconnect());
};

// The layers whose MLPs have later attention: buttons where they are few, a list where not. [element, set(layer, n)].
const FEW_LAYERS = 8;
const layerChooser = (choose) => {
  const slot = h("span", { class: "layers" });
  let mark = () => {}, n = 0;
  const make = () => {
    const layers = Array.from({ length: n - 1 }, (_, layer) => layer);
    if (layers.length <= FEW_LAYERS) {
      const [element, set] = segmented("Layer", layers.map((layer) => [layer, `L${layer}`, `Neurons of the MLP of layer ${layer}`]), (value) => choose(Number(value)));
      mark = set;
      return slot.replaceChildren(element);
    }
    const list = h("select", { "aria-label": "Layer", onchange: () => choose(Number(list.value)) }, ...layers.map((layer) => h("option", { value: layer }, `Layer ${layer}`)));
    mark = (layer) => (list.value = layer);
    return slot.replaceChildren(list);
  };
  return [slot, (layer, nLayers) => {
    if (n !== nLayers) { n = nLayers; make(); }
    mark(layer);
  }];
};
