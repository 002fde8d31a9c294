// The replacement of Python in the page: the selection with its history, and each panel brought to it, the cheapest
// first.

import { packed } from "./packing.js";

/** @typedef {import("./answers.js").Selection} Selection */
/**
 * @typedef {{ name: string, values: Record<string, any>, key: string, ack: number, seq: number, fire: (event:
 *   string) => void, arrays: Record<string, any> }} Live a panel that answers
 */

/** @type {Record<string, number>} */
const COST = { query: 0, heads: 1, heatmap: 2, textspan: 3, images: 4, ablate: 6, receipts: 9 };

/**
 * What a panel depends on; it is recomputed only if this changes.
 * @type {Record<string, (s: Selection, o: any) => any>}
 */
const LOOKS_AT = {
  query: (s) => s,
  heads: ({ image, text, text_b, ablation }, { find }) => [image, text, text_b, ablation, find],
  heatmap: ({ image, layer, head, text, text_b, ablation }, { joint_texts }) => [
    image,
    layer,
    head,
    text,
    text_b,
    ablation,
    joint_texts,
  ],
  textspan: ({ layer, head, images }, { roles }) => [layer, head, images, roles],
  images: ({ image, layer, head, images, text, text_b, ablation }, { order, by, page, column, value }) => [
    /** @type {Record<string, any[]>} */ ({
      text: [text, text_b, ablation],
      near: [image, layer, head],
      chosen: [images, text, text_b, ablation],
      all: [],
    })[order],
    order,
    by,
    page,
    column,
    value,
  ],
  ablate: ({ image, text, ablation }, { task, classes }) => [image, text, ablation, task, classes],
  receipts: ({ image, text, text_b, ablation }) => [image, text, text_b, ablation],
};

/** A description of what is removed. @param {any} ablation @param {number} H heads of a layer */
export const removed = ({ heads, layers, mlps }, H) => {
  const n =
    heads.filter((/** @type {[number, number]} */ [layer]) => !layers.includes(layer)).length +
    layers.length * H;
  const parts = [...(n ? [`${n} ${n === 1 ? "head" : "heads"}`] : []), ...(mlps.length ? ["the MLPs"] : [])];
  return parts.length ? `without ${parts.join(" and ")}` : "";
};

export class Kernel {
  /**
   * @param {{ facts: any, selection: Selection, n_images: number }} given
   * @param {(panel: string, selection: Selection, options: any) => Promise<any>} ask the worker
   * @param {() => void} changed called after the selection or an option changed
   * @param {(is: boolean) => void} [busy] called when a request starts, and when every panel shows its result
   */
  constructor({ facts, selection, n_images }, ask, changed, busy = () => {}) {
    this.facts = facts;
    this.ask = ask;
    this.changed = changed;
    this.busy = busy;
    this.n = n_images;
    /** @type {Selection[]} */
    this.made = [selection];
    this.place = 0;
    /** @type {Live[]} */
    this.panels = [];
    this.roles = {};
    this.turn = 0;
    /** @type {Record<string, (request: any) => Promise<void> | void>} */
    this.actions = {};
  }

  get selection() {
    return this.made[this.place];
  }

  /**
   * Changes fields of the selection; throws RangeError for invalid values.
   * @param {Partial<Selection>} changes
   */
  select(changes) {
    const next = { ...this.selection, ...structuredClone(changes) };
    const { n_layers: L, n_heads: H, n_tokens: T } = this.facts;
    if ("ablation" in changes)
      next.ablation = { heads: [], layers: [], mlps: [], tokens: [], how: "mean", ...changes.ablation };
    if ("image" in changes && next.image !== this.selection.image && !("token" in changes)) next.token = null;
    const within = (/** @type {string} */ name, /** @type {any} */ value, /** @type {number} */ n) => {
      if (value !== null && !(Number.isInteger(value) && value >= 0 && value < n))
        throw new RangeError(`expected ${name} within 0..${n - 1}, got ${JSON.stringify(value)}`);
    };
    within("an image", next.image, this.n);
    within("a layer", next.layer, L);
    within("a head", next.head, H);
    within("a token", next.token, T);
    next.images.forEach((i) => within("an image", i, this.n));
    for (const [layer, head] of next.ablation.heads) {
      within("a layer", layer, L);
      within("a head", head, H);
    }
    next.ablation.layers.forEach((layer) => within("a layer", layer, L));
    next.neuron = null;
    next.dictionary = "";
    if (JSON.stringify(next) === JSON.stringify(this.selection)) return;
    this.made = [...this.made.slice(0, this.place + 1), next];
    this.place += 1;
    this.changed();
  }

  /** @param {number} step */
  go(step) {
    const place = this.place + step;
    if (place < 0 || place >= this.made.length) return;
    this.place = place;
    this.changed();
  }

  /** A panel's options, by name. @param {Live} panel */
  #options({ name, values }) {
    const { order, by, page, column, value, find, joint_texts, task, classes } = values;
    return {
      query: {},
      receipts: {},
      heads: { find },
      heatmap: { joint_texts },
      textspan: { roles: this.roles },
      images: { order, by, page, column, value },
      ablate: { task, classes },
    }[name];
  }

  /** A request of a panel's script. @param {Live} panel @param {any} request */
  async requested(panel, { seq, changes = {}, options = {}, action = "", ...fields }) {
    this.busy(true);
    for (const [name, value] of Object.entries(options)) {
      if (panel.values[name] === value) continue;
      panel.values[name] = value;
      panel.fire(`change:${name}`);
    }
    if (Object.keys(options).length) this.changed();
    if (seq !== panel.ack) {
      panel.ack = seq;
      panel.fire("change:heard");
      try {
        if (action && action !== "hello")
          await (
            this.actions[action] ??
            (() => {
              throw new RangeError(`the page has no action “${action}”: it needs Python`);
            })
          )({ panel, ...fields });
        this.select(changes);
      } catch (error) {
        this.fail(panel, /** @type {any} */ (error));
      }
    }
    await this.refresh();
  }

  /** @param {Live} panel @param {{ message: string, detail?: string }} error */
  fail(panel, { message, detail = "" }) {
    panel.values.error = { message, detail, seq: panel.ack };
    panel.fire("change:error");
    this.#publish(panel, {}, null);
  }

  /** Updates every panel to the selection; outdated work stops. */
  async refresh() {
    const mine = ++this.turn;
    this.busy(true);
    await this.#all(mine);
    if (mine === this.turn) this.busy(false);
  }

  /** @param {number} mine */
  async #all(mine) {
    const selection = this.selection;
    const began = performance.now();
    const waiting = [...this.panels].sort((a, b) => COST[a.name] - COST[b.name]);
    for (const panel of waiting) await this.#bring(panel, selection, mine, began);
    const heatmap = waiting.find(({ name }) => name === "heatmap");
    if (mine !== this.turn || !heatmap || heatmap.values.view.joint || selection.image === null) return;
    try {
      const { view, arrays } = await this.ask("heatmapRest", selection, this.#options(heatmap));
      if (mine === this.turn) this.#publish(heatmap, view, { ...heatmap.arrays, ...arrays });
    } catch (error) {
      if (mine === this.turn) this.fail(heatmap, /** @type {any} */ (error));
    }
  }

  /** @param {Live} panel @param {Selection} selection @param {number} mine @param {number} began */
  async #bring(panel, selection, mine, began) {
    if (mine !== this.turn || panel.values.visible === false) return;
    const options = this.#options(panel);
    const key = JSON.stringify([LOOKS_AT[panel.name](selection, options), this.n]);
    if (key === panel.key) return this.#publish(panel, panel.name === "query" ? this.#history() : {}, null);
    try {
      const {
        view,
        arrays,
        traits = {},
      } = panel.name === "query"
        ? { view: this.#history(), arrays: {} }
        : await this.ask(panel.name, selection, options);
      if (mine !== this.turn) return;
      for (const [name, bytes] of Object.entries(traits))
        panel.values[name] = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      if (panel.values.error?.message) {
        panel.values.error = {};
        panel.fire("change:error");
      }
      if (panel.name === "receipts") view.milliseconds = performance.now() - began;
      panel.key = key;
      this.#publish(panel, view, arrays);
    } catch (error) {
      panel.key = "";
      if (mine === this.turn) this.fail(panel, /** @type {any} */ (error));
    }
  }

  #history() {
    return { can_undo: this.place > 0, can_redo: this.place + 1 < this.made.length, n_images: this.n };
  }

  /**
   * @param {Live} panel
   * @param {Record<string, any>} view
   * @param {Record<string, any> | null} arrays null: they stay
   */
  #publish(panel, view, arrays) {
    const { values } = panel;
    const before = values.view;
    let places = before.arrays;
    if (arrays) {
      const made = packed(arrays);
      [panel.arrays, places, values.blob] = [arrays, made.places, made.blob];
    }
    const selection = structuredClone(this.selection);
    values.view = {
      ...before,
      ...view,
      selection,
      removed: removed(selection.ablation, this.facts.n_heads),
      arrays: places,
      ack: panel.ack,
      seq: (before.seq ?? 0) + 1,
      asSaved: false,
    };
    panel.fire("change:view");
  }
}
