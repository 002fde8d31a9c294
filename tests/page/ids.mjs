// Token ids of texts, by CLIP's byte pairs or by another family's tokenizer.json.
import { readFile } from "node:fs/promises";
import { asked, page, tell } from "./open.mjs";

const { BytePairs, FromJson } = await page("script/tokenizer.js");
const { kind, facts, files } = asked;
const entities = JSON.parse(await readFile(files.entities, "utf8"));
let tokenizer;
if (kind === "byte pairs") {
  const merges = await readFile(files.merges);
  tokenizer = new BytePairs(
    new Uint16Array(merges.buffer.slice(merges.byteOffset, merges.byteOffset + merges.length)),
    facts,
    entities,
  );
} else {
  const { Tokenizer } = await page("vendor/tokenizers.min.mjs");
  tokenizer = new FromJson(
    new Tokenizer(
      JSON.parse(await readFile(files.tokenizer, "utf8")),
      JSON.parse(await readFile(files.config, "utf8")),
    ),
    facts,
    entities,
  );
}
tell(asked.texts.map((text) => tokenizer.ids(text)));
