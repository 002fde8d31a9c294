// Pictures as the network sees them, and their pixels.
import { readFile } from "node:fs/promises";
import { asked, page, tell } from "./open.mjs";

const { fitted, pixels, restored } = await page("script/picture.js");
const found = [];
for (const { file, rows, cols, steps } of asked.pictures) {
  const made = fitted({ rows, cols, data: new Uint8Array(await readFile(file)) }, steps);
  found.push({
    rows: made.rows,
    cols: made.cols,
    data: made.data,
    pixels: Array.from(pixels(made, steps).slice(0, 500)),
  });
}
tell({ found, restored: restored(Uint8Array.from(asked.kept), 2, 3).data });
