// Small pictures of points: those sent with the plane, others asked for a few at a time.

import { pictureLoader } from "../kit/gallery.js";

export const SETTLED = 160;

const ASKED = 64;

/**
 * Small pictures by image: those sent with the plane, others asked for a few at a time, one message under
 * way.
 * @param {AtlasApi} api
 * @param {() => void} changed
 */
export const thumbnails = (api, changed) => {
  const known = new Map();
  const load = pictureLoader(api);
  let wanted = /** @type {number[]} */ ([]);
  let waiting = 0;
  let timer = 0;
  /** @param {number[]} ids @param {any} sheet @param {number} columns @param {string[]} [names] */
  const keep = (ids, sheet, columns, names = []) => {
    const side = sheet.width / columns;
    ids.forEach((/** @type {number} */ id, /** @type {number} */ i) =>
      known.set(id, {
        sheet,
        left: (i % columns) * side,
        top: Math.floor(i / columns) * side,
        side,
        name: names[i] ?? known.get(id)?.name,
      }),
    );
    changed();
  };
  const send = () => {
    const now = performance.now();
    const ids = wanted.slice(0, ASKED);
    if (!ids.length || now - waiting < 4000) return;
    wanted = wanted.slice(ASKED);
    waiting = now;
    api.model.send({ thumbnails: ids });
  };
  /** @param {any} message @param {DataView[]} buffers */
  const heard = async (message, buffers) => {
    if (!message?.thumbnails) return;
    waiting = 0;
    const bytes = buffers[0];
    keep(
      message.thumbnails,
      await createImageBitmap(new Blob([/** @type {BlobPart} */ (bytes)])),
      message.columns,
      message.names,
    );
    send();
  };
  api.model.on("msg:custom", heard);
  api.cleanups.push(() => {
    clearTimeout(timer);
    api.model.off("msg:custom", heard);
  });
  return {
    /** @param {number} id */
    get: (id) => known.get(id),
    /** @param {number[]} ids @param {Uint8Array} bytes @param {number} columns @param {string[]} names */
    give: (ids, bytes, columns, names) => load(bytes, (sheet) => keep(ids, sheet, columns, names)),
    /** Requests pictures after the last movement. @param {number[]} ids */
    ask: (ids) => {
      const missing = ids.filter((/** @type {number} */ id) => !known.has(id));
      clearTimeout(timer);
      if (api.standalone || !missing.length) return;
      wanted = missing;
      timer = setTimeout(send, SETTLED);
    },
  };
};

/** @typedef {ReturnType<typeof thumbnails>} Thumbnails */
