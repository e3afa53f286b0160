/** The key-value store. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Place } from "./client.js";
import { decode, encode, keyBytes, keyText, shown, type Codec, type Key } from "./codec.js";
import { UnavailableError, badOption } from "./errors.js";
import {
  Consistency,
  DeletePatternRequestSchema,
  DeleteRequestSchema,
  GetRequestSchema,
  IncrementFloatRequestSchema,
  IncrementRequestSchema,
  KeySelectorSchema,
  KvService,
  ListRequestSchema,
  SetRequestSchema,
  Show,
  type KvEntry,
} from "./gen/quorate/v1/kv_pb.js";
import { millis, told, whole, type CallOptions, type MutationOptions } from "./inner.js";
import { serviceFailure, toError } from "./failure.js";
import type { ServiceError } from "@grpc/grpc-js";
import { backoffMs } from "./retry.js";
import { now, raced, sleep } from "./time.js";
import { Watch, startWatch, type WatchOptions } from "./watch.js";

/** A key with its value and its history marks. */
export interface Entry<T> {
  readonly key: string;
  /** The key's bytes, where it is no text. */
  readonly keyBytes: Uint8Array;
  readonly value: T;
  /** 1 when it was created, plus one with every change since. */
  readonly version: number;
  /** When it was created. */
  readonly createRevision: number;
  /** When it was changed last. */
  readonly modRevision: number;
  /** Milliseconds left to live; `undefined` when it has no ttl. */
  readonly remainingTtlMs: number | undefined;
}

/** What a write came to. */
export interface Written {
  /** The key's version now. */
  readonly version: number;
  /** When it happened. */
  readonly revision: number;
}

export interface ReadOptions extends CallOptions {
  /** Answered from what a node has applied, without asking a quorum: may lag without bound. */
  readonly stale?: boolean | undefined;
  /** The read sees this revision or a later one. */
  readonly minRevision?: number | undefined;
}

export interface SetOptions extends MutationOptions {
  /** It lives so long, in milliseconds. Without it a set removes an earlier ttl. */
  readonly ttlMs?: number | undefined;
  /** Only if the key has exactly this version; else {@link ConditionFailedError}. */
  readonly ifVersion?: number | undefined;
  /** Only if the key does not exist; else {@link ConditionFailedError}. */
  readonly ifAbsent?: boolean | undefined;
  /** The key is deleted when this client's session ends: when it is closed, or gone for its ttl. */
  readonly ephemeral?: boolean | undefined;
}

export interface DeleteOptions extends MutationOptions {
  /** Only if the key has exactly this version; else {@link ConditionFailedError}. */
  readonly ifVersion?: number | undefined;
}

export interface ListOptions extends ReadOptions {
  /** Take the text as the beginning of keys instead of as a pattern. */
  readonly prefix?: boolean | undefined;
  /** At most so many. */
  readonly limit?: number | undefined;
}

/**
 * The key-value store of one namespace. Reads and writes are linearizable; values are JSON unless the
 * client has another codec, or {@link KeyValue.withCodec} gives one.
 *
 * Patterns: `*` is any run of characters, `?` one, `[a-c]` and `[^a]` a class, `\` takes the next
 * character as it is. What stands before the first wildcard bounds the search.
 */
export class KeyValue<V = any> {
  readonly #place: Place;
  readonly #codec: Codec<V>;

  /** @internal */
  constructor(place: Place) {
    this.#place = place;
    this.#codec = place.codec;
  }

  /** The same store, with values of another kind. */
  withCodec<T>(codec: Codec<T>): KeyValue<T> {
    return new KeyValue<T>({ ...this.#place, codec });
  }

  /** The value of a key; `undefined` when there is none. */
  async get<T extends V = V>(key: Key, options: ReadOptions = {}): Promise<T | undefined> {
    return (await this.entry<T>(key, options))?.value;
  }

  /** The value of a key with its version and times; `undefined` when there is none. */
  async entry<T extends V = V>(key: Key, options: ReadOptions = {}): Promise<Entry<T> | undefined> {
    const { inner, namespace } = this.#place;
    const request = create(GetRequestSchema, {
      namespace,
      key: keyBytes(key),
      consistency: options.stale ? Consistency.STALE : Consistency.LINEARIZABLE,
      minRevision: whole("minRevision", options.minRevision ?? 0),
    });
    const { entry } = await inner.read("kv get", options, "kvGet", () => request);
    return entry === undefined ? undefined : this.#read<T>(entry);
  }

  /** Sets a key. */
  async set<T extends V = V>(key: Key, value: T, options: SetOptions = {}): Promise<Written> {
    const { inner, namespace } = this.#place;
    if (options.ifVersion !== undefined && options.ifAbsent) {
      throw badOption("kv set: ifVersion and ifAbsent exclude each other");
    }
    const init: MessageInitShape<typeof SetRequestSchema> = {
      namespace,
      key: keyBytes(key),
      value: encode(this.#codec, value, `the value of key ${shown(key)}`),
      ephemeral: options.ephemeral ?? false,
    };
    if (options.ttlMs !== undefined) init.ttlMs = millis("ttlMs", options.ttlMs);
    if (options.ifVersion !== undefined) init.expect = { case: "ifVersion", value: whole("ifVersion", options.ifVersion) };
    if (options.ifAbsent) init.expect = { case: "ifAbsent", value: true };
    const request = create(SetRequestSchema, init);
    return written(
      await inner.mutate("kv set", namespace, options, "kvSet", (origin) => ({ ...request, origin })),
    );
  }

  /** Deletes a key; whether there was one. */
  async delete(key: Key, options: DeleteOptions = {}): Promise<boolean> {
    const { inner, namespace } = this.#place;
    const init: MessageInitShape<typeof DeleteRequestSchema> = { namespace, key: keyBytes(key) };
    if (options.ifVersion !== undefined) init.ifVersion = whole("ifVersion", options.ifVersion);
    const request = create(DeleteRequestSchema, init);
    const answer = await inner.mutate("kv delete", namespace, options, "kvDelete", (origin) => ({
      ...request,
      origin,
    }));
    return answer.deleted;
  }

  /**
   * Deletes all keys that match a pattern, in steps that are each atomic; answers how many there were.
   * Keys that are created meanwhile may be left.
   */
  async deletePattern(pattern: Key, options: MutationOptions & { prefix?: boolean } = {}): Promise<number> {
    const { inner, namespace } = this.#place;
    if (options.idempotencyKey !== undefined) {
      throw badOption("kv deletePattern has several steps, so it takes no idempotencyKey");
    }
    let deleted = 0;
    let cursor: Uint8Array = new Uint8Array();
    do {
      const request = create(DeletePatternRequestSchema, {
        namespace,
        selector: selectorOf(pattern, options.prefix),
        cursor,
      });
      const step = await inner.mutate("kv deletePattern", namespace, options, "kvDeletePattern", (origin) => ({
        ...request,
        origin,
      }));
      deleted += Number(step.deleted);
      cursor = step.cursor;
    } while (cursor.length > 0);
    return deleted;
  }

  /**
   * Adds to a whole number of 64 bits and answers the sum; beyond 2^53 the nearest number, while all of
   * its digits are kept. A missing key counts as 0; its ttl stays.
   */
  async increment(key: Key, by: number | bigint = 1, options: MutationOptions = {}): Promise<number> {
    const { inner, namespace } = this.#place;
    if (typeof by === "number" && !Number.isSafeInteger(by)) {
      throw badOption(`kv increment by ${by}: it must be a whole number; see incrementFloat`);
    }
    const request = create(IncrementRequestSchema, { namespace, key: keyBytes(key), by: BigInt(by) });
    const answer = await inner.mutate("kv increment", namespace, options, "kvIncrement", (origin) => ({
      ...request,
      origin,
    }));
    return Number(answer.value);
  }

  /** Adds to a floating-point number and answers the sum. A missing key counts as 0; its ttl stays. */
  async incrementFloat(key: Key, by: number, options: MutationOptions = {}): Promise<number> {
    const { inner, namespace } = this.#place;
    const request = create(IncrementFloatRequestSchema, { namespace, key: keyBytes(key), by });
    const answer = await inner.mutate("kv incrementFloat", namespace, options, "kvIncrementFloat", (origin) => ({
      ...request,
      origin,
    }));
    return answer.value;
  }

  /** All keys that match a pattern with their values, at one moment. */
  async getPattern<T extends V = V>(pattern: Key, options: ListOptions = {}): Promise<Record<string, T>> {
    return this.#whole(options, async () => {
      const found: [string, T][] = [];
      for await (const entry of this.list<T>(pattern, options)) found.push([entry.key, entry.value]);
      return Object.fromEntries(found);
    });
  }

  /** How many keys match a pattern. */
  async count(pattern: Key = "*", options: Omit<ListOptions, "limit"> = {}): Promise<number> {
    return this.#whole(options, async () => {
      let count = 0;
      for await (const page of this.#pages(pattern, Show.COUNT, options)) count += Number(page.count);
      return count;
    });
  }

  /** The keys that match a pattern, without their values, at one moment and in the order of their bytes. */
  async *keys(pattern: Key = "*", options: ListOptions = {}): AsyncGenerator<string, void, undefined> {
    for await (const page of this.#pages(pattern, Show.KEYS, options)) {
      for (const entry of page.entries) yield keyText(entry.key);
    }
  }

  /** The keys that match a pattern with their values, at one moment and in the order of their bytes. */
  async *list<T extends V = V>(pattern: Key = "*", options: ListOptions = {}): AsyncGenerator<Entry<T>, void, undefined> {
    for await (const page of this.#pages(pattern, Show.ENTRIES, options)) {
      for (const entry of page.entries) yield this.#read<T>(entry);
    }
  }

  /**
   * The changes of the keys that match a pattern, as they happen: each once, in order, none left out,
   * whatever becomes of the nodes. Any write that is acknowledged after this has answered will be seen.
   */
  watch<T extends V = V>(patterns: Key | readonly Key[], options: WatchOptions = {}): Promise<Watch<T>> {
    return startWatch<T>(this.#place, this.#codec as Codec<any>, patterns, options);
  }

  /** A read of many pages. Where a node fails between two of them it begins anew: it is of one moment. */
  async #whole<T>(options: ListOptions, read: () => Promise<T>): Promise<T> {
    const until = now() + (options.timeoutMs ?? this.#place.inner.requestTimeoutMs);
    for (let failures = 0; ; failures++) {
      try {
        return await read();
      } catch (error) {
        if (!(error instanceof UnavailableError) || now() >= until) throw error;
        await sleep(backoffMs(failures), options.signal);
      }
    }
  }

  /** The pages of one snapshot. */
  async *#pages(pattern: Key, show: Show, options: ListOptions) {
    const { inner, namespace } = this.#place;
    const request = create(ListRequestSchema, {
      namespace,
      selector: selectorOf(pattern, options.prefix),
      show,
      limit: options.limit ?? 0,
      consistency: options.stale ? Consistency.STALE : Consistency.LINEARIZABLE,
      minRevision: whole("minRevision", options.minRevision ?? 0),
    });
    if (options.limit === 0) return;
    const plan = inner.plan("kv list", "read", options);
    const opened = inner.engine.open(plan, KvService.method.listStream, () => request);
    const [first, stream] = await inner.told(opened);
    try {
      const next = () => raced(stream.next(), options.signal);
      for (let page: typeof first | undefined = first; page !== undefined; page = await next()) {
        inner.engine.seen.raise(namespace, page.groupId, page.revision);
        yield page;
      }
    } catch (error) {
      inner.engine.closing.throwIfAborted();
      options.signal?.throwIfAborted();
      throw told(toError(serviceFailure("the node", error as ServiceError, false)));
    } finally {
      stream.cancel();
    }
  }

  #read<T extends V>(entry: KvEntry): Entry<T> {
    const { key, value, version, createRevision, modRevision, remainingTtlMs } = entry;
    return {
      key: keyText(key),
      keyBytes: key,
      value: decode(this.#codec, value, `the value of key ${shown(key)}`) as T,
      version: Number(version),
      createRevision: Number(createRevision),
      modRevision: Number(modRevision),
      remainingTtlMs: remainingTtlMs === undefined ? undefined : Number(remainingTtlMs),
    };
  }
}

/** Which keys are meant. */
export function selectorOf(text: Key, prefix: boolean | undefined) {
  const value = keyBytes(text);
  return create(KeySelectorSchema, { select: prefix ? { case: "prefix", value } : { case: "pattern", value } });
}

function written(answer: { version: bigint; revision: bigint }): Written {
  return { version: Number(answer.version), revision: Number(answer.revision) };
}
