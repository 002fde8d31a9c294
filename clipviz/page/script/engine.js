// The model in the page: its networks, its tower as the lenses read it, its tokenizer and the published
// collection.

import { Collection } from "./collection.js";
import { unit } from "./numbers.js";
import { fitted, pixels, restored } from "./picture.js";
import { BytePairs, FromJson } from "./tokenizer.js";
import { Tower } from "./tower.js";

const KEPT = 6; // traces of pictures, the newest

export class Engine {
  /**
   * @param {import("./store.js").Store} store
   * @param {any} ort the runtime
   * @param {any} [tokenizers] tokenizers.js, where the model needs it
   */
  constructor(store, ort, tokenizers = null) {
    this.store = store;
    this.ort = ort;
    this.tokenizers = tokenizers;
    this.said = /** @type {any} */ (store.manifest);
    /** @type {Map<number, import("./tower.js").Trace>} */
    this.traces = new Map();
    /** @type {Map<string, Float64Array>} */
    this.directions = new Map();
    /** @type {import("./picture.js").Picture[]} */
    this.dropped = [];
    /** @type {Map<string, import("./tower.js").Reading>} */
    this.readings = new Map();
  }

  /** Opens everything; say(what) is called before each step. @param {(what: string) => void} [say] */
  async open(say = () => {}) {
    const { store } = this;
    const { facts, tokens } = this.said;
    say("numbers");
    this.tower = new Tower(facts, await store.arrays("lens"));
    this.collection = new Collection(this.tower, /** @type {any} */ (await store.arrays("collection")));
    this.pool = /** @type {Float32Array} */ ((await store.arrays("pool")).pool);
    this.texts = /** @type {string[]} */ (await store.json("texts"));
    this.textAt = new Map(this.texts.map((text, i) => [text, i]));
    this.pictures = await store.bytes("pictures");
    say("image tower");
    this.imageNet = await this.#network("image tower");
    if (!store.has("text tower")) return;
    say("text tower");
    this.textNet = await this.#network("text tower");
    this.tokenizer = await this.#tokenizer(tokens);
  }

  /** @param {string} name */
  async #network(name) {
    return this.ort.InferenceSession.create(await this.store.bytes(name), {
      executionProviders: ["wasm"],
      graphOptimizationLevel: "all",
    });
  }

  /** @param {any} tokens */
  async #tokenizer({ kind, facts }) {
    const entities = await this.store.json("entities");
    if (kind === "byte pairs")
      return new BytePairs(new Uint16Array((await this.store.bytes("merges")).buffer), facts, entities);
    return new FromJson(
      new this.tokenizers.Tokenizer(await this.store.json("tokenizer"), await this.store.json("config")),
      facts,
      entities,
    );
  }

  /** A picture as the network sees it. @param {number} image @returns {import("./picture.js").Picture} */
  picture(image) {
    const { n_published: n } = this.collection;
    const [rows, cols] = this.said.facts.image_size;
    const size = rows * cols * 3;
    return image < n
      ? restored(this.pictures.subarray(image * size, (image + 1) * size), rows, cols)
      : this.dropped[image - n];
  }

  /**
   * One forward pass of a picture, with everything from which effects follow.
   * @param {import("./picture.js").Picture} picture
   * @returns {Promise<import("./tower.js").Trace>}
   */
  async pass(picture) {
    const { ort, said } = this;
    const taps = said.taps.map((/** @type {string} */ name) => `tap:${name}`);
    const given = new ort.Tensor("float32", pixels(picture, said.steps), [1, 3, picture.rows, picture.cols]);
    const outputs = await this.imageNet.run({ pixels: given }, taps);
    return Object.fromEntries(
      said.taps.map((/** @type {string} */ name) => [name, outputs[`tap:${name}`].data]),
    );
  }

  /** The trace of an image of the collection; the newest are kept. @param {number} image */
  async trace(image) {
    const known = this.traces.get(image) ?? (await this.pass(this.picture(image)));
    this.traces.delete(image);
    this.traces.set(image, known);
    if (this.traces.size > KEPT) this.traces.delete(/** @type {number} */ (this.traces.keys().next().value));
    return known;
  }

  /**
   * Adds one picture at the end of the collection; returns its index.
   * @param {import("./picture.js").Picture} picture of any size
   */
  async add(picture) {
    const seen = fitted(picture, this.said.steps);
    const trace = await this.pass(seen);
    this.dropped.push(seen);
    const image = this.collection.add({
      codes: trace.codes,
      embedding: trace.embedding,
      mean: trace.mean,
      std: trace.std,
    });
    this.traces.set(image, trace);
    return image;
  }

  /** Whether only texts of the pool can be used. */
  get typed() {
    return Boolean(this.textNet);
  }

  /**
   * A text's unit direction; those of the pool are stored.
   * @param {string} text
   * @returns {Promise<Float64Array>}
   */
  async direction(text) {
    const known = this.directions.get(text);
    if (known) return known;
    const { d_embed: E } = this.said.facts;
    const at = this.textAt.get(text);
    const found =
      at === undefined
        ? await this.#encoded(text)
        : Float64Array.from(this.pool.subarray(at * E, (at + 1) * E));
    this.directions.set(text, found);
    return found;
  }

  /** @param {string} text */
  async #encoded(text) {
    if (!this.textNet)
      throw new RangeError(
        `expected one of the ${this.texts.length.toLocaleString("en")} texts of the pool, got “${text}”: ${this.said.tokens.facts.why}, so this page cannot read other texts. Choose one of the texts, or open the session in Python.`,
      );
    const ids = this.tokenizer.ids(text);
    const outputs = await this.textNet.run({ ids: new this.ort.Tensor("int32", ids, [1, ids.length]) });
    return unit(outputs["tap:embedding"].data);
  }

  /** A text, or one minus another. @param {string} text @param {string} other */
  async contrast(text, other) {
    const a = await this.direction(text);
    if (!other) return a;
    const b = await this.direction(other);
    return a.map((x, k) => x - b[k]);
  }

  /**
   * A direction brought back through the readout; the newest are kept.
   * @param {string} key
   * @param {ArrayLike<number>} direction
   */
  reading(key, direction) {
    const known = this.readings.get(key) ?? this.tower.reading(direction);
    this.readings.delete(key);
    this.readings.set(key, known);
    if (this.readings.size > KEPT)
      this.readings.delete(/** @type {string} */ (this.readings.keys().next().value));
    return known;
  }
}
