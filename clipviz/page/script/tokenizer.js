// Texts to token ids: CLIP's byte pairs here; other families by tokenizers.js from their tokenizer.json.

/**
 * What CLIP's own vocabulary calls words: contractions, letters, one digit, anything else that is no space.
 */
const WORD =
  /<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\p{White_Space}\p{L}\p{N}]+/giu;
const SPACES = /[\p{White_Space}\x1c-\x1f]+/gu;

/** The byte of every id below 256; printable bytes come first. */
const idOfByte = () => {
  const prints = (/** @type {number} */ b) =>
    (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
  const all = Array.from({ length: 256 }, (_, b) => b);
  const ids = new Uint16Array(256);
  [...all.filter(prints), ...all.filter((b) => !prints(b))].forEach((b, id) => (ids[b] = id));
  return ids;
};

/**
 * Text repaired as if typed by people: one form for accents, plain quotes, no ligatures, no wide letters,
 * nothing that does not print.
 * @param {string} text
 */
const repaired = (text) => {
  return text
    .replace(/\x1b\[((?:\d|;)*)([a-zA-Z])/g, "")
    .replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "\ufffd")
    .replace(/[\u0132\u0133\u0149\u01c4-\u01cc\u01f1-\u01f3\ufb00-\ufb06]/g, (c) =>
      c === "\ufb05" ? "\u017ft" : c.normalize("NFKC"),
    ) // ligatures
    .replace(/[\u3000\uff01-\uffef]/g, (c) => (c === "\u3000" ? " " : c.normalize("NFKC")))
    .replace(/[\u02bc\u2018-\u201b]/g, "'")
    .replace(/[\u201c-\u201f]/g, '"')
    .replace(/\r\n|[\r\u2028\u2029\u0085]/g, "\n")
    .normalize("NFC")
    .replace(/[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffb]/g, "");
};

/**
 * The character of a number in an HTML reference; numbers of old encodings are mapped, and some are invalid.
 * @param {number} code
 */
const referred = (code) => {
  if (code >= 0x80 && code <= 0x9f) return new TextDecoder("windows-1252").decode(new Uint8Array([code]));
  if (code === 0 || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return "\ufffd";
  const nothing =
    (code < 0x20 && ![9, 10, 12, 13].includes(code)) ||
    code === 0x7f ||
    (code >= 0xfdd0 && code <= 0xfdef) ||
    (code & 0xfffe) === 0xfffe;
  return nothing ? "" : String.fromCodePoint(code);
};

/** Cleans texts as open_clip does, with ftfy and html. */
class Cleaning {
  /**
   * @param {Record<string, string>} entities HTML's names for characters, with their semicolon where they
   *   need one
   */
  constructor(entities) {
    this.entities = entities;
  }

  /** @param {string} text */
  unescaped(text) {
    return text.replace(
      /&(?:#([0-9]+);?|#[xX]([0-9a-fA-F]+);?|([^\t\n\f <&#;]{1,32};?))/g,
      (whole, decimal, hex, name) => {
        if (!name) return referred(decimal ? Number(decimal) : parseInt(hex, 16));
        for (let n = name.length; n > 1; n--)
          if (Object.hasOwn(this.entities, name.slice(0, n)))
            return this.entities[name.slice(0, n)] + name.slice(n);
        return whole;
      },
    );
  }

  /** HTML's names, also in capitals, if the text has no other sign of HTML. @param {string} text */
  #named(text) {
    if (text.includes("<")) return text;
    return text.replace(/&#?[0-9A-Za-z]{1,24};/g, (whole) => {
      const name = whole.slice(1);
      const lower = name.toLowerCase();
      if (name.startsWith("#")) return this.unescaped(whole);
      if (Object.hasOwn(this.entities, name)) return this.entities[name];
      return name === name.toUpperCase() && Object.hasOwn(this.entities, lower)
        ? this.entities[lower].toUpperCase()
        : whole;
    });
  }

  /** @param {string} text */
  basic(text) {
    return this.unescaped(this.unescaped(repaired(this.#named(text)))).trim();
  }

  /** @param {string} text */
  whitespace(text) {
    return spaced(this.basic(text));
  }

  /** @param {string} text */
  lower(text) {
    return this.whitespace(text).toLowerCase();
  }

  /** @param {string} text */
  canonicalize(text) {
    return spaced(
      this.basic(text)
        .replaceAll("_", " ")
        .replace(/[!-/:-@[-`{-~]/g, "")
        .toLowerCase(),
    );
  }
}

const spaced = (/** @type {string} */ text) => text.replace(SPACES, " ").trim();

/** CLIP's tokenizer. */
export class BytePairs {
  /**
   * @param {Uint16Array} merges pairs of ids; pair i makes id 512 + i
   * @param {{ context: number, start: number, end: number }} facts
   * @param {Record<string, string>} entities
   */
  constructor(merges, facts, entities) {
    this.facts = facts;
    this.cleaning = new Cleaning(entities);
    this.bytes = idOfByte();
    this.ranks = new Map();
    for (let i = 0; i < merges.length / 2; i++) this.ranks.set(merges[2 * i] * 65536 + merges[2 * i + 1], i);
    /** @type {Map<string, number[]>} */
    this.known = new Map();
  }

  /** @param {string} word */
  #word(word) {
    if (word === "<start_of_text>") return [this.facts.start];
    if (word === "<end_of_text>") return [this.facts.end];
    let ids = Array.from(new TextEncoder().encode(word), (byte) => this.bytes[byte]);
    ids[ids.length - 1] += 256; // the end of a word
    while (ids.length > 1) {
      let least = Infinity;
      for (let i = 0; i + 1 < ids.length; i++)
        least = Math.min(least, this.ranks.get(ids[i] * 65536 + ids[i + 1]) ?? Infinity);
      if (least === Infinity) break;
      const next = [];
      for (let i = 0; i < ids.length; i++) {
        if (i + 1 < ids.length && this.ranks.get(ids[i] * 65536 + ids[i + 1]) === least)
          (next.push(512 + least), i++);
        else next.push(ids[i]);
      }
      ids = next;
    }
    return ids;
  }

  /** Ids of a text, padded with 0 to the context. @param {string} text */
  ids(text) {
    const { context, start, end } = this.facts;
    const found = [start];
    for (const [word] of this.cleaning.lower(text).matchAll(WORD)) {
      if (!this.known.has(word)) this.known.set(word, this.#word(word));
      found.push(.../** @type {number[]} */ (this.known.get(word)));
    }
    found.push(end);
    const kept = found.slice(0, context);
    if (found.length > context) kept[context - 1] = end;
    return Int32Array.from({ length: context }, (_, i) => kept[i] ?? 0);
  }
}

/** A tokenizer of another family. */
export class FromJson {
  /**
   * @param {any} tokenizer of tokenizers.js
   * @param {{ context: number, pad: number, clean: "" | "whitespace" | "lower" | "canonicalize", side: string,
   *   erased: number | null }} facts erased: an id that becomes 0
   * @param {Record<string, string>} entities
   */
  constructor(tokenizer, facts, entities) {
    this.tokenizer = tokenizer;
    this.cleaning = new Cleaning(entities);
    this.facts = facts;
  }

  /** @param {string} text */
  ids(text) {
    const { context, pad, clean, side, erased } = this.facts;
    const given = clean ? this.cleaning[clean](text) : text;
    const whole = this.tokenizer.encode(given).ids;
    const bare = this.tokenizer.encode(given, { add_special_tokens: false }).ids;
    const room = context - (whole.length - bare.length);
    const at = this.#place(whole, bare); // special tokens are kept when a text is truncated
    const found = [...whole.slice(0, at), ...bare.slice(0, room), ...whole.slice(at + bare.length)];
    const padding = Array(Math.max(0, context - found.length)).fill(pad);
    const ids = side === "left" ? [...padding, ...found] : [...found, ...padding];
    return Int32Array.from(ids, (id) => (id === erased ? 0 : id));
  }

  /** The position of the text among its special tokens. @param {number[]} whole @param {number[]} bare */
  #place(whole, bare) {
    for (let at = 0; at + bare.length <= whole.length; at++)
      if (bare.every((id, i) => whole[at + i] === id)) return at;
    return 0;
  }
}
