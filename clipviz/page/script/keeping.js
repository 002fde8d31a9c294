// Parts from the server, cached by the browser under their name, which is a hash of their content.

/** @param {ArrayBuffer} packed */
const digest = async (packed) =>
  Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", packed)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");

/**
 * Fetches a part, or takes it from the browser's cache; progress(bytes) after each.
 * @param {string} base
 * @param {any} manifest
 * @param {(bytes: number) => void} progress
 */
export const keeping = async (base, manifest, progress) => {
  const wanted = new Set(
    Object.values(manifest.contents).flatMap(({ parts }) =>
      parts.map((/** @type {string} */ part) => new URL(`parts/${part}`, base).href),
    ),
  );
  let kept = /** @type {Cache | null} */ (null);
  try {
    kept = await caches.open(`clipviz ${new URL(base).pathname}`);
    // An earlier page cached these.
    for (const { url } of await kept.keys()) if (!wanted.has(url)) await kept.delete(url);
  } catch {
    kept = null; // the browser has no cache, or the page is not served securely
  }
  return async (/** @type {string} */ part) => {
    const url = new URL(`parts/${part}`, base).href;
    const right = async (/** @type {ArrayBuffer} */ packed) =>
      !crypto.subtle || (await digest(packed)).startsWith(part.split(".")[0]);
    const known = await kept?.match(url);
    const stored = known && (await known.arrayBuffer());
    if (stored && (await right(stored))) {
      progress(stored.byteLength);
      return stored;
    }
    const answer = await fetch(url);
    if (!answer.ok)
      throw new RangeError(
        `expected the part ${part} of this page, got status ${answer.status}; upload the folder again`,
      );
    const packed = await answer.arrayBuffer();
    if (!(await right(packed)))
      throw new RangeError(`expected the content of part ${part}, got other bytes; load the page again`);
    try {
      await kept?.put(url, new Response(packed.slice(0)));
    } catch {
      kept = null; // no space: it is fetched again next time
    }
    progress(packed.byteLength);
    return packed;
  };
};
