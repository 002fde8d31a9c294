// A saved page: each panel's own script on a stand-in model that holds its traits, and answers from what is
// stored.

import { boardFrame, boardPlace } from "../kit/board.js";
import { h } from "../kit/dom.js";
import { followTheme } from "../kit/protocol.js";
import { followAround, ownFrame } from "./around.js";

/**
 * @typedef {{ dtype: string, offset: number, size: number, scale?: number, row?: number }} KeptPlace
 * @typedef {{ dtype: string, bytes: Uint8Array }} Kept
 * @typedef {{ of: string[], answers: Record<string, Record<string, number>[]> }} Part
 * @typedef {{ name: string, script: string, traits: Record<string, any>, below: boolean, parts: Part[] | null }} Saved
 * @typedef {{ panels: Saved[], arrays: KeptPlace[], values: any[], selection: Record<string, any>, images: number[],
 *   texts: string[], heads: [number, number][], told: string }} Stored what a page holds
 * @typedef {{ values: Record<string, any>, parts: Part[] | null, fire: (event: string) => void,
 *   fixed: (is: boolean) => void }} One a panel of the page
 */

/** @param {string} text */
const raw = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
/** @param {any} value */
const unpacked = (value) =>
  value && typeof value === "object" && typeof value.base64 === "string"
    ? new DataView(raw(value.base64).buffer)
    : value;
/** @param {string} id */
const inflated = async (id) => {
  const packed = new Blob([raw(document.getElementById(id).textContent)]);
  return new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
};

/**
 * The bytes of a stored array; numbers kept as steps of each row's scale become float32 again.
 * @param {Stored} given
 * @param {ArrayBuffer} content
 */
const arrayReader =
  ({ arrays }, content) =>
  (/** @type {number} */ i) => {
    const { dtype, offset, size, scale, row } = arrays[i];
    if (dtype !== "int16") return { dtype, bytes: new Uint8Array(content, offset, size) };
    const steps = new Int16Array(content, offset, size / 2);
    const scales = new Float32Array(content, scale, steps.length / row);
    const values = new Float32Array(steps.length);
    for (let k = 0; k < values.length; k++) values[k] = steps[k] * scales[Math.floor(k / row)];
    return { dtype: "float32", bytes: new Uint8Array(values.buffer) };
  };

/** Arrays as a panel gets them: one buffer, and where each begins. @param {Record<string, Kept>} arrays */
const packArrays = (arrays) => {
  /** @type {Record<string, any>} */
  const places = {};
  let size = 0;
  for (const [name, { dtype, bytes }] of Object.entries(arrays)) {
    places[name] = { dtype, offset: size, size: bytes.length };
    size += bytes.length + (-bytes.length & 7);
  }
  const buffer = new Uint8Array(size);
  for (const [name, { bytes }] of Object.entries(arrays)) buffer.set(bytes, places[name].offset);
  return [places, new DataView(buffer.buffer)];
};

/**
 * The replacement of the kernel: it answers from stored parts.
 * @param {Stored} store
 * @param {ArrayBuffer} content
 * @param {() => void} tell
 */
const answering = (store, content, tell) => {
  const array = arrayReader(store, content);
  const heads = new Set(store.heads.map((pair) => pair.join()));
  /** @type {One[]} */
  const models = [];
  let selection = store.selection;
  /** @param {string[]} of */
  const key = (of) => of.map((/** @type {string} */ field) => selection[field] ?? "").join("\u0001");
  /** @type {Record<string, (value: any, changes: Record<string, any>) => boolean>} */
  const known = {
    image: (image) => store.images.includes(image),
    text: (text) => store.texts.includes(text),
    token: () => true,
    layer: (layer, changes) => heads.has([layer, changes.head ?? selection.head].join()),
    head: (head, changes) => heads.has([changes.layer ?? selection.layer, head].join()),
  };
  /** @param {Partial<PanelRequest>} request @returns {Record<string, any> | null} */
  const wanted = ({ changes = {}, action = "", head = null } = {}) =>
    action === "visit" && head ? { layer: head[0], head: head[1] } : action ? null : changes;
  /** @param {Partial<PanelRequest>} request */
  const offers = (request) => {
    const changes = wanted(request);
    return (
      Boolean(changes) &&
      !Object.keys(request.options ?? {}).length &&
      Object.entries(changes).every(
        ([field, value]) =>
          known[field]?.(value, changes) || JSON.stringify(value) === JSON.stringify(selection[field]),
      )
    );
  };
  /** @param {One} one @param {number} ack */
  const show = (one, ack) => {
    if (!one.parts) return one.fixed(JSON.stringify(selection) !== JSON.stringify(store.selection));
    const view = { ...one.values.view };
    /** @type {Record<string, Kept>} */
    const arrays = {};
    for (const { of, answers } of one.parts) {
      const [fields, named, own] = answers[key(of)] ?? [{}, {}, {}];
      for (const [name, i] of Object.entries(fields)) view[name] = store.values[i];
      for (const [name, i] of Object.entries(named)) arrays[name] = array(i);
      for (const [name, i] of Object.entries(own))
        one.values[name] = new DataView(array(i).bytes.slice().buffer);
    }
    const [places, blob] = packArrays(arrays);
    one.values.view = structuredClone({
      ...view,
      selection,
      arrays: places,
      ack,
      seq: (view.seq ?? 0) + 1,
      asSaved: JSON.stringify(selection) === JSON.stringify(store.selection),
    });
    one.values.blob = blob;
    one.fire("change:view");
  };
  /** @param {PanelRequest} request */
  const ask = (request) => {
    if (!offers(request)) return tell();
    const next = { ...selection, ...wanted(request) };
    if ("image" in wanted(request) && next.image !== selection.image && !("token" in wanted(request)))
      next.token = null;
    const stays = next.layer === store.selection.layer;
    next.neuron = stays ? store.selection.neuron : null;
    next.dictionary = stays ? store.selection.dictionary : "";
    selection = next;
    for (const one of models) show(one, request.seq);
  };
  return {
    offers,
    ask,
    /** @param {One} one */
    add: (one) => {
      models.push(one);
      show(one, 0);
    },
  };
};

/**
 * A panel's model.
 * @param {Saved} given
 * @param {ReturnType<typeof answering>} page
 * @returns {{ model: Model, one: One }}
 */
const standIn = ({ traits, parts }, page) => {
  const values = Object.fromEntries(Object.entries(traits).map(([name, value]) => [name, unpacked(value)]));
  /** @type {Record<string, Set<() => void>>} */
  const listeners = {};
  /** @type {Model} */
  const model = {
    standalone: true,
    fixed: !parts,
    offers: page.offers,
    get: (name) => values[name],
    set: (name, value) => {
      values[name] = value;
      if (name === "request") page.ask(value);
    },
    on: (event, listener) => (listeners[event] ??= new Set()).add(listener),
    off: (event, listener) => listeners[event]?.delete(listener),
    save_changes: () => {},
    send: () => {},
  };
  return {
    model,
    one: {
      values,
      parts,
      fire: (event) => listeners[event]?.forEach((listener) => listener()),
      fixed: () => {},
    },
  };
};

/** A frame, in the output of a cell, is as high as its page. */
const fitFrame = () => {
  const frame = ownFrame();
  if (frame)
    new ResizeObserver(() => (frame.style.height = `${document.body.offsetHeight}px`)).observe(document.body);
};

/**
 * A note at the top on what works, and a note when something is not available.
 * @param {string} told
 * @param {boolean} answers
 * @param {boolean} fixed
 */
const notes = (told, answers, fixed) => {
  const works = answers
    ? [
        `Saved page: ${told} answer here, offline. `,
        `Choose them in any panel; hovering, scopes, methods and scales work.${fixed ? " The desk below the board does not change." : ""} Everything else needs the notebook.`,
      ]
    : ["Saved page: one view, offline. ", "Whatever asks the model needs the notebook."];
  const about = h("p", { class: "cv-note", role: "note" }, h("b", {}, works[0]), works[1]);
  const asked = h(
    "p",
    { class: "cv-asked", role: "status", hidden: true },
    "This is not stored in the page: it needs the notebook.",
  );
  let quiet = 0;
  const tell = () => {
    clearTimeout(quiet);
    asked.hidden = false;
    document.body.dataset.asked = "true";
    quiet = setTimeout(() => {
      asked.hidden = true;
      delete document.body.dataset.asked;
    }, 2500);
  };
  document.addEventListener("pointerdown", (/** @type {On<PointerEvent>} */ { target }) => {
    if (target.closest(":is(button, input, select):disabled")) tell();
  });
  return { about, asked, tell };
};

const start = async () => {
  followAround();
  fitFrame();
  /** @type {Stored} */
  const store = JSON.parse(new TextDecoder().decode(await inflated("panels")));
  const content = await inflated("arrays");
  const single = store.panels.length === 1;
  const { root, grid, desks } = boardFrame();
  followTheme(root);
  const note = notes(
    store.told,
    store.panels.some(({ parts }) => parts?.some(({ of }) => of.length)),
    store.panels.some(({ parts }) => !parts),
  );
  const page = answering(store, content, note.tell);
  document.querySelector("main").append(note.about, root, note.asked);
  for (const panel of store.panels) {
    const { name, script, below } = panel;
    const el = boardPlace(single || below ? "desk" : name);
    const stale = h(
      "p",
      { class: "cv-stale", hidden: true },
      "As saved: this desk does not follow the selection above.",
    );
    (single || below ? desks : grid).append(el);
    const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    const { default: drawn } = await import(url);
    const { model, one } = standIn(panel, page);
    URL.revokeObjectURL(url);
    if (!panel.parts) el.append(stale);
    one.fixed = (is) => {
      stale.hidden = !is;
    };
    page.add(one);
    await drawn.render({ model, el });
  }
  if (desks.children.length) grid.insertBefore(desks, grid.querySelector(":scope > .cv-at-receipts"));
  document.body.dataset.ready = "true";
};

start();
