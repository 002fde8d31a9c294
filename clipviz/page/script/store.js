// The contents of a published folder, by the names of its manifest: contents in compressed parts, put together
// again.

import { fromHalves } from "./numbers.js";

/**
 * @typedef {{ bytes: number, sent: number, parts: string[], arrays?: Record<string, { dtype: string, shape:
 *   number[], offset: number }> }} Content
 */

/** @param {ArrayBuffer | Uint8Array} packed @returns {Promise<Uint8Array>} */
export const inflated = async (packed) => {
  const stream = new Blob([/** @type {any} */ (packed)])
    .stream()
    .pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
};

/** @type {Record<string, any>} */
const KINDS = {
  float32: Float32Array,
  float64: Float64Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  int32: Int32Array,
};

export class Store {
  /**
   * @param {{ contents: Record<string, Content> }} manifest
   * @param {(part: string) => Promise<ArrayBuffer | Uint8Array>} fetchPart
   */
  constructor(manifest, fetchPart) {
    this.manifest = manifest;
    this.fetchPart = fetchPart;
  }

  /** @param {string} name */
  has(name) {
    return name in this.manifest.contents;
  }

  /** A complete content. @param {string} name */
  async bytes(name) {
    const content = this.manifest.contents[name];
    if (!content) throw new Error(`the page has no content “${name}”`);
    const whole = new Uint8Array(content.bytes);
    let at = 0;
    for (const part of content.parts) {
      const piece = await inflated(await this.fetchPart(part));
      whole.set(piece, at);
      at += piece.length;
    }
    return whole;
  }

  /** @param {string} name */
  async json(name) {
    return JSON.parse(new TextDecoder().decode(await this.bytes(name)));
  }

  /**
   * The arrays of a content, half precision as float32.
   * @param {string} name
   * @returns {Promise<Record<string, any>>}
   */
  async arrays(name) {
    const { buffer } = await this.bytes(name);
    /** @type {Record<string, any>} */
    const found = {};
    for (const [array, { dtype, shape, offset }] of Object.entries(
      this.manifest.contents[name].arrays ?? {},
    )) {
      const n = shape.reduce((a, b) => a * b, 1);
      found[array] =
        dtype === "float16"
          ? fromHalves(new Uint16Array(buffer, offset, n))
          : new KINDS[dtype](buffer, offset, n);
    }
    return found;
  }
}
