/** Payloads: how values become bytes, and bytes values. */
import { PayloadError, badOption, textOf } from "./errors.js";

/** How values of one kind are written and read. */
export interface Codec<T = unknown> {
  /** What the bytes are, as `application/json`; goes along with messages and jobs. */
  readonly contentType: string;
  /** Rejects with any error what it can't write. */
  encode(value: T): Uint8Array;
  /** Rejects with any error what it can't read. */
  decode(bytes: Uint8Array): T;
}

const writer = new TextEncoder();
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * JSON, the default. Dates become text, as JSON has it; `undefined`, functions and symbols are refused,
 * because JSON has nothing for them. What takes part in JSON in its own way (`toJSON`) does here, too.
 */
export const json: Codec = {
  contentType: "application/json",
  encode(value) {
    const text = JSON.stringify(value);
    if (text === undefined) throw new TypeError(`JSON has nothing for ${typeof value}`);
    return writer.encode(text);
  },
  decode: (bytes) => JSON.parse(strict.decode(bytes)),
};

/** Bytes as they are. What is read is a copy: the rest of what came with it need not be kept for it. */
export const bytes: Codec<Uint8Array> = {
  contentType: "application/octet-stream",
  encode(value) {
    if (value instanceof Uint8Array) return value;
    throw new TypeError(`expected a Uint8Array, not ${typeof value}`);
  },
  decode: (bytes) => bytes.slice(),
};

/** Text as UTF-8. */
export const text: Codec<string> = {
  contentType: "text/plain; charset=utf-8",
  encode(value) {
    if (typeof value === "string") return writer.encode(value);
    throw new TypeError(`expected a string, not ${typeof value}`);
  },
  decode: (bytes) => strict.decode(bytes),
};

/** Writes a value. `what` names its place in the error. */
export function encode<T>(codec: Codec<T>, value: T, what: string): Uint8Array {
  try {
    return codec.encode(value);
  } catch (error) {
    throw new PayloadError(`${what} can't be written as ${codec.contentType}: ${textOf(error)}`, { cause: error });
  }
}

/** Reads a value. `what` names its place in the error. */
export function decode<T>(codec: Codec<T>, payload: Uint8Array, what: string): T {
  try {
    return codec.decode(payload);
  } catch (error) {
    throw new PayloadError(
      `${what} is not ${codec.contentType} (${payload.length} bytes): ${textOf(error)}; read it with the ` +
        "codec that it was written with",
      { cause: error },
    );
  }
}

/** A key, or a pattern of keys. */
export type Key = string | Uint8Array;

export function keyBytes(key: Key): Uint8Array {
  if (typeof key === "string") return writer.encode(checkedText("a key", key));
  if (key instanceof Uint8Array) return key;
  throw new PayloadError(`a key is a string or a Uint8Array, not ${key === null ? "null" : typeof key}`);
}

/** Half of a pair of surrogates, which UTF-8 has nothing for: written, all of them would be the same. */
const HALF_CHARACTER = /\p{Surrogate}/u;

/** A text that names something. `what` names it in the error. */
export function checkedText(what: string, text: string): string {
  if (typeof text !== "string") throw badOption(`${what} is a string, not ${text === null ? "null" : typeof text}`);
  if (HALF_CHARACTER.test(text)) throw badOption(`${what} has half a character, which can't be written as UTF-8`);
  return text;
}

const lenient = new TextDecoder();

/** A key as text; what is no UTF-8 shows as replacement characters. */
export function keyText(key: Uint8Array): string {
  return lenient.decode(key);
}

/** A key for texts. */
export function shown(key: Key): string {
  return JSON.stringify(typeof key === "string" ? key : keyText(key));
}
