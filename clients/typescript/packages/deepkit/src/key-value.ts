/** The key-value store as the framework asks for it. */
import type { BrokerAdapterKeyValue } from "@deepkit/broker";
import type { Type } from "@deepkit/type";
import { PayloadError, bytes, type Client, type KeyValue } from "@quorate/client";
import { codecOf } from "./codec.js";

/** Linearizable; a value is stored when `set` resolves, whatever becomes of the nodes. */
export class KeyValueService implements Omit<BrokerAdapterKeyValue, "disconnect" | "logger"> {
  readonly #kv: KeyValue<Uint8Array>;

  constructor(client: Client) {
    this.#kv = client.kv.withCodec(bytes);
  }

  /** The value of a key; `undefined` when there is none. */
  async get(key: string, type: Type): Promise<unknown> {
    const stored = await this.#kv.get(key);
    if (stored === undefined) return undefined;
    try {
      return codecOf(type).decode(stored);
    } catch (error) {
      if (!isCounter(stored)) throw unreadable(`the value of key ${JSON.stringify(key)}`, error);
      throw new PayloadError(`key ${JSON.stringify(key)} is a counter; read it by incrementing it by 0`, { cause: error });
    }
  }

  /** Sets a key. A ttl of 0 is none; setting a key again takes an earlier ttl away. */
  async set(key: string, value: unknown, options: { ttl: number }, type: Type): Promise<void> {
    const payload = codecOf(type).encode(value);
    await this.#kv.set(key, payload, options.ttl > 0 ? { ttlMs: options.ttl } : {});
  }

  /** Removes a key; one that is not there is fine. */
  async remove(key: string): Promise<void> {
    await this.#kv.delete(key);
  }

  /**
   * Adds to a number, at once for everybody, and answers the sum; a missing key counts as 0. Not for keys
   * that were set, as in the framework: read a counter by adding 0.
   */
  async increment(key: string, value: number): Promise<number> {
    return this.#kv.incrementFloat(key, value);
  }
}

/** Whether a value is one that is incremented: a decimal number as text, which no BSON is. */
function isCounter(stored: Uint8Array): boolean {
  return stored.length > 0 && stored[stored.length - 1] !== 0 && Number.isFinite(Number(Buffer.from(stored).toString()));
}

/** The error for a payload that is not of the type that is asked for. */
export function unreadable(what: string, cause: unknown): PayloadError {
  const said = cause instanceof Error ? cause.message : String(cause);
  return new PayloadError(`${what} is not of the type it is read as: ${said}`, { cause });
}
