// The page's own kernel, beside the page: loads the parts, opens the engine, and answers one question after
// the other.

// @ts-ignore written when the page is published
import * as ort from "../runtime/ort.wasm.bundle.min.mjs";
import { Answers } from "./answers.js";
import { Bench } from "./desk.js";
import { Engine } from "./engine.js";
import { keeping } from "./keeping.js";
import { Store } from "./store.js";
import { Thumbnails } from "./thumbnails.js";

/** @type {Answers} */
let answers;

const post = (/** @type {any} */ message) => /** @type {any} */ (self).postMessage(message);

/** @param {{ manifest: any, base: string }} given */
const open = async ({ manifest, base }) => {
  const fetchPart = await keeping(base, manifest, (bytes) => post({ loaded: bytes }));
  const store = new Store(manifest, fetchPart);
  ort.env.wasm.numThreads = /** @type {any} */ (self).crossOriginIsolated
    ? Math.min(4, navigator.hardwareConcurrency || 1)
    : 1;
  ort.env.wasm.wasmBinary = (await store.bytes("runtime")).buffer;
  // @ts-ignore written when the page is published
  const tokenizers = manifest.tokens.kind === "json" ? await import("../runtime/tokenizers.min.mjs") : null;
  const engine = new Engine(store, ort, tokenizers);
  await engine.open((step) => post({ step }));
  const about = await store.json("about");
  const masks = store.has("masks") ? await store.bytes("masks") : null;
  const directions = store.has("tasks") ? await store.arrays("tasks") : {};
  const tasks = about.tasks.map((/** @type {any} */ task) => ({
    ...task,
    directions: directions[task.name],
  }));
  answers = new Answers(
    engine,
    about,
    masks,
    new Thumbnails(engine),
    new Bench(engine, tasks, about.templates),
  );
  return { n: engine.collection.n };
};

/**
 * A picture's pixels as they are in the file.
 * @param {Blob} blob
 * @returns {Promise<import("./picture.js").Picture>}
 */
const decoded = async (blob) => {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const { width: cols, height: rows } = bitmap;
  const context = /** @type {any} */ (
    new OffscreenCanvas(cols, rows).getContext("2d", { willReadFrequently: true })
  );
  context.drawImage(bitmap, 0, 0);
  const { data: wide } = context.getImageData(0, 0, cols, rows);
  const data = new Uint8Array(rows * cols * 3);
  for (let i = 0, j = 0; i < data.length; i += 3, j += 4) {
    data[i] = wide[j];
    data[i + 1] = wide[j + 1];
    data[i + 2] = wide[j + 2];
  }
  return { rows, cols, data };
};

/** @type {Record<string, (given: any) => Promise<any>>} */
const does = {
  open,
  add: async ({ blob, name }) => {
    let picture;
    try {
      picture = await decoded(blob);
    } catch {
      throw new RangeError(
        `expected a picture, got “${name}”, which the browser cannot decode; choose a PNG, JPEG or WebP file`,
      );
    }
    return { image: await answers.add(picture, name), n: answers.engine.collection.n };
  },
  ask: ({ panel, selection, options }) => /** @type {any} */ (answers)[panel](selection, options),
};

let turn = Promise.resolve();
self.addEventListener("message", ({ data: { id, what, given } }) => {
  turn = turn.then(async () => {
    try {
      post({ id, found: await does[what](given) });
    } catch (error) {
      const { message, stack, name } = /** @type {Error} */ (error);
      post({
        id,
        error: {
          message: name === "RangeError" ? message : `${name}: ${message}`,
          detail: name === "RangeError" ? "" : (stack ?? ""),
        },
      });
    }
  });
});
