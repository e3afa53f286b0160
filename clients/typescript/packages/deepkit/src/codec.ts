/** Payloads: values of a type that is known at run time, as BSON. */
import { getBsonEncoder } from "@deepkit/bson";
import type { Type } from "@deepkit/type";

/** What payloads are said to be, where that goes along with them. */
export const CONTENT_TYPE = "application/bson";

/** How values of one type are written and read. Both refuse what is not of the type. */
export interface TypeCodec {
  /** @throws {ValidationError} when the value is not of the type. */
  encode(value: unknown): Uint8Array;
  /** @throws when the bytes are not BSON, or not of the type. */
  decode(bytes: Uint8Array): unknown;
}

const codecs = new WeakMap<Type, TypeCodec>();

/** The codec of a type; the same one for the same type, as making one compiles functions. */
export function codecOf(type: Type): TypeCodec {
  const known = codecs.get(type);
  if (known !== undefined) return known;
  const { encode, decode } = getBsonEncoder(type);
  const codec: TypeCodec = {
    encode: (value) => encode(value),
    decode: (bytes) => {
      if (!isDocument(bytes)) throw new TypeError(`${bytes.length} bytes that are no BSON document`);
      return decode(bytes, 0);
    },
  };
  codecs.set(type, codec);
  return codec;
}

/** The least that the reader of BSON takes for granted: that the document says its own length. */
function isDocument(bytes: Uint8Array): boolean {
  if (bytes.length < 5 || bytes[bytes.length - 1] !== 0) return false;
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getInt32(0, true) === bytes.length;
}
