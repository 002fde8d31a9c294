// Pictures as files for the browser: a single one, or the whole collection as a sheet of thumbnails.

const TILE = 96;

export class Thumbnails {
  /** @param {import("./engine.js").Engine} engine */
  constructor(engine) {
    this.engine = engine;
    /** @type {Map<number, Uint8Array>} */
    this.files = new Map();
    /** @type {Promise<{ bytes: Uint8Array, columns: number, n: number }> | null} */
    this.made = null;
  }

  /** @param {number} image */
  #canvas(image) {
    const { rows, cols, data } = this.engine.picture(image);
    const canvas = new OffscreenCanvas(cols, rows);
    const pixels = new ImageData(cols, rows);
    for (let i = 0, j = 0; i < data.length; i += 3, j += 4) {
      pixels.data[j] = data[i];
      pixels.data[j + 1] = data[i + 1];
      pixels.data[j + 2] = data[i + 2];
      pixels.data[j + 3] = 255;
    }
    /** @type {any} */ (canvas.getContext("2d")).putImageData(pixels, 0, 0);
    return canvas;
  }

  /** A picture as a PNG file's bytes. @param {number} image */
  async picture(image) {
    const known =
      this.files.get(image) ??
      new Uint8Array(await (await this.#canvas(image).convertToBlob({ type: "image/png" })).arrayBuffer());
    this.files.set(image, known);
    return known;
  }

  /** Small squares of every image, row by row. */
  sheet() {
    return (this.made ??= this.#sheet());
  }

  async #sheet() {
    const { n } = this.engine.collection;
    const columns = Math.ceil(Math.sqrt(n));
    const canvas = new OffscreenCanvas(columns * TILE, Math.ceil(n / columns) * TILE);
    const context = /** @type {any} */ (canvas.getContext("2d"));
    for (let i = 0; i < n; i++) {
      const one = this.#canvas(i);
      const side = Math.min(one.width, one.height);
      context.drawImage(
        one,
        (one.width - side) / 2,
        (one.height - side) / 2,
        side,
        side,
        (i % columns) * TILE,
        Math.floor(i / columns) * TILE,
        TILE,
        TILE,
      );
    }
    return {
      bytes: new Uint8Array(
        await (await canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 })).arrayBuffer(),
      ),
      columns,
      n,
    };
  }

  /** The collection has grown. */
  forget() {
    this.made = null;
  }
}
