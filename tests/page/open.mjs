// Opens a published folder in node with the page's own modules; imported by the scripts of these tests.
import { readFile } from "node:fs/promises";
import path from "node:path";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";

export const asked = JSON.parse(await text(process.stdin));

/** A module of the page. */
export const page = (name) => import(pathToFileURL(path.join(asked.scripts, name)).href);

/** Prints the answer; typed arrays as lists. */
export const tell = (answer) =>
  process.stdout.write(
    JSON.stringify(answer, (_, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value)),
  );

export const open = async (site = asked.site) => {
  const manifest = JSON.parse(await readFile(path.join(site, "manifest.json"), "utf8"));
  const { Store } = await page("script/store.js");
  const { Engine } = await page("script/engine.js");
  const store = new Store(manifest, (part) => readFile(path.join(site, "parts", part)));
  const ort = await page("vendor/ort.wasm.bundle.min.mjs");
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = (await store.bytes("runtime")).buffer;
  const tokenizers = manifest.tokens.kind === "json" ? await page("vendor/tokenizers.min.mjs") : null;
  const engine = new Engine(store, ort, tokenizers);
  await engine.open();
  return engine;
};
