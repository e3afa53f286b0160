/** The cache: values with a ttl, tags, and one builder at a time in the whole cluster. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Place } from "./client.js";
import { decode, encode, keyBytes, shown, type Codec, type Key } from "./codec.js";
import {
  BuildLeaseLostError,
  ClosedError,
  IndeterminateError,
  ResourceExhaustedError,
  UnavailableError,
  badAnswer,
  badOption,
  textOf,
} from "./errors.js";
import {
  CacheDeletePatternRequestSchema,
  CacheDeleteRequestSchema,
  CacheEndBuildRequestSchema,
  CacheFillRequestSchema,
  CacheGetOrBuildRequestSchema,
  CacheGetRequestSchema,
  CacheInvalidateTagsRequestSchema,
  CachePolicySchema,
  CacheSetRequestSchema,
  CacheStatsRequestSchema,
  CacheTouchRequestSchema,
  type CacheEntry as WireEntry,
  type CachePolicy as WirePolicy,
} from "./gen/quorate/v1/cache_pb.js";
import { Consistency } from "./gen/quorate/v1/kv_pb.js";
import { Invalidations } from "./invalidations.js";
import { millis, whole, type CallOptions, type MutationOptions } from "./inner.js";
import { selectorOf } from "./kv.js";
import { Near, idOf, type NearOptions } from "./near.js";
import { now, raced, sleep, within } from "./time.js";

/** How long a write waits for room at first, and at most: eviction makes some in a few of them. */
const FULL_PAUSE_MS = 5;
const FULL_PAUSE_MAX_MS = 100;
/** Values that are built behind a stale one at the same time, by one client. */
const REBUILDS_MAX = 64;
/** How long a builder has when nothing is said. */
const BUILD_LEASE_MS = 30_000;
/** How often a value is built for one call, when it was too late each time. */
const BUILDS_MAX = 3;

/** How an entry is kept. */
export interface CachePolicy {
  /** It is fresh for so long, in milliseconds. Without it, until it is deleted or evicted. */
  readonly ttlMs?: number | undefined;
  /** How long after its ttl it may still be shown, while a new value is built. */
  readonly staleForMs?: number | undefined;
  /** By which it can be made to vanish together with others; at most 16. */
  readonly tags?: readonly string[] | undefined;
}

export type CacheSetOptions = CachePolicy & MutationOptions;

export interface CacheGetOptions extends CallOptions {
  /** Sees all that was acknowledged to anybody; costs a question to a quorum. */
  readonly linearizable?: boolean | undefined;
  /** The read sees this revision or a later one. */
  readonly minRevision?: number | undefined;
  /** Answers a value whose ttl is over as well, within its `staleForMs`. */
  readonly allowStale?: boolean | undefined;
}

/** What a write came to. */
export interface CacheWritten {
  /** When it happened. */
  readonly revision: number;
}

/** A value that was found. */
export interface CacheEntry<T> {
  readonly value: T;
  /** When it was set. */
  readonly modRevision: number;
  /** Milliseconds it is fresh for; `undefined`: without end. */
  readonly remainingTtlMs: number | undefined;
  /** Its ttl is over. */
  readonly stale: boolean;
  readonly tags: readonly string[];
}

export interface BuildOptions extends CachePolicy, CallOptions {
  /** How long the builder may take, 100 ms to 10 min. Default: 30 s. */
  readonly buildLeaseMs?: number | undefined;
  /** How long another's value is waited for. Default: the build lease. */
  readonly waitMs?: number | undefined;
  /** Waits for the new value instead of showing a stale one. */
  readonly freshOnly?: boolean | undefined;
}

/** How full the cache is, and how often the node that answers found what it was asked for. */
export interface CacheStats {
  readonly entries: number;
  readonly bytes: number;
  readonly bytesMax: number;
  readonly hits: number;
  readonly staleHits: number;
  readonly misses: number;
  readonly evicted: number;
}

/**
 * The cache of one namespace. Entries are replicated, so no failover empties it; when it is full those
 * that were not read for long are evicted.
 *
 * Reads are answered by the node that is asked, from what it has applied, and never older than anything
 * this client has seen: after a write or an invalidation of one's own no read answers what was before.
 */
export class Cache<V = any> {
  readonly #place: Place;
  readonly #codec: Codec<V>;
  readonly #near: Near | undefined;
  readonly #shared: Shared;

  /** @internal */
  constructor(place: Place, near?: Near, shared: Shared = { flights: new Map(), rebuilds: 0 }) {
    this.#place = place;
    this.#codec = place.codec;
    this.#near = near;
    this.#shared = shared;
  }

  /** The same cache, with values of another kind. */
  withCodec<T>(codec: Codec<T>): Cache<T> {
    return new Cache<T>({ ...this.#place, codec }, this.#near);
  }

  /** The same cache, with copies in this process that are kept right; keep it, it is what holds them. */
  near(options: NearOptions = {}): Cache<V> {
    const { inner, namespace } = this.#place;
    return new Cache<V>({ ...this.#place, codec: this.#codec }, new Near(inner, namespace, options));
  }

  /** The value of a key; `undefined` when there is none. */
  async get<T extends V = V>(key: Key, options: CacheGetOptions = {}): Promise<T | undefined> {
    return (await this.entry<T>(key, options))?.value;
  }

  /** The value of a key with its times and tags; `undefined` when there is none. */
  async entry<T extends V = V>(key: Key, options: CacheGetOptions = {}): Promise<CacheEntry<T> | undefined> {
    const { inner, namespace } = this.#place;
    const bytes = keyBytes(key);
    const seen = options.linearizable ? undefined : this.#seen(options.minRevision);
    if (this.#near !== undefined && seen !== undefined) {
      const copy = this.#near.get(idOf(bytes), seen);
      if (copy !== undefined) return this.#copied<T>(key, copy);
    }
    const request = create(CacheGetRequestSchema, {
      namespace,
      key: bytes,
      consistency: seen === undefined ? Consistency.LINEARIZABLE : Consistency.STALE,
      minRevision: seen ?? 0n,
      allowStale: options.allowStale ?? false,
    });
    const sentAt = now();
    const answer = await inner.read("cache get", options, "cacheGet", () => request);
    if (answer.entry === undefined) return undefined;
    this.#keep(bytes, answer.entry, answer.revision, answer.groupId, sentAt);
    return this.#read<T>(key, answer.entry);
  }

  /** Sets a key. A number is its ttl in SECONDS. */
  async set<T extends V = V>(key: Key, value: T, ttl: number | CacheSetOptions = {}): Promise<CacheWritten> {
    const { inner, namespace } = this.#place;
    const options = typeof ttl === "number" ? { ttlMs: ttl * 1_000 } : ttl;
    const request = create(CacheSetRequestSchema, {
      namespace,
      key: keyBytes(key),
      value: encode(this.#codec, value, `the value of key ${shown(key)} of the cache`),
      policy: policyOf(options),
    });
    this.#near?.forget(idOf(request.key));
    const { revision } = await this.#store(options, () =>
      inner.mutate("cache set", namespace, options, "cacheSet", (origin) => ({ ...request, origin })),
    );
    this.#near?.forget(idOf(request.key));
    return { revision: Number(revision) };
  }

  /** Deletes a key; whether there was one. */
  async delete(key: Key, options: MutationOptions = {}): Promise<boolean> {
    return (await this.#delete(key, options)).deleted;
  }

  /** Deletes a key, which may not be there; from when on it is gone. */
  async invalidate(key: Key, options: MutationOptions = {}): Promise<CacheWritten> {
    return { revision: Number((await this.#delete(key, options)).revision) };
  }

  async #delete(key: Key, options: MutationOptions): Promise<{ deleted: boolean; revision: bigint }> {
    const { inner, namespace } = this.#place;
    const request = create(CacheDeleteRequestSchema, { namespace, key: keyBytes(key) });
    this.#near?.forget(idOf(request.key));
    const answer = await inner.mutate("cache delete", namespace, options, "cacheDelete", (origin) => ({
      ...request,
      origin,
    }));
    this.#near?.forget(idOf(request.key));
    return answer;
  }

  /** Deletes all keys that match a pattern, in steps that are each atomic; how many there were. */
  async deletePattern(pattern: Key, options: MutationOptions & { prefix?: boolean } = {}): Promise<number> {
    const { inner, namespace } = this.#place;
    if (options.idempotencyKey !== undefined) {
      throw badOption("cache deletePattern has several steps, so it takes no idempotencyKey");
    }
    let deleted = 0;
    let cursor: Uint8Array = new Uint8Array();
    do {
      const selector = selectorOf(pattern, options.prefix);
      const request = create(CacheDeletePatternRequestSchema, { namespace, selector, cursor });
      const kind = "cacheDeletePattern";
      const step = await inner.mutate("cache deletePattern", namespace, options, kind, (origin) => ({
        ...request,
        origin,
      }));
      deleted += Number(step.deleted);
      cursor = step.cursor;
      this.#near?.forgetAll();
    } while (cursor.length > 0);
    return deleted;
  }

  /** Makes every entry that has one of the tags vanish, at once and however many there are. */
  async invalidateTags(tags: string | readonly string[], options: MutationOptions = {}): Promise<void> {
    const { inner, namespace } = this.#place;
    const list = typeof tags === "string" ? [tags] : [...tags];
    const request = create(CacheInvalidateTagsRequestSchema, { namespace, tags: list });
    const kind = "cacheInvalidateTags";
    await inner.mutate("cache invalidateTags", namespace, options, kind, (origin) => ({ ...request, origin }));
    this.#near?.forgetTags(list);
  }

  /** Begins the ttl of an entry anew, in SECONDS; without one it has no end. Whether there was an entry. */
  async touch(key: Key, ttlSeconds?: number, options: MutationOptions = {}): Promise<boolean> {
    const { inner, namespace } = this.#place;
    const init: MessageInitShape<typeof CacheTouchRequestSchema> = { namespace, key: keyBytes(key) };
    if (ttlSeconds !== undefined) init.ttlMs = millis("the ttl", ttlSeconds * 1_000);
    const request = create(CacheTouchRequestSchema, init);
    this.#near?.forget(idOf(request.key));
    const answer = await inner.mutate("cache touch", namespace, options, "cacheTouch", (origin) => ({
      ...request,
      origin,
    }));
    return answer.found;
  }

  /**
   * What is set, deleted and invalidated from now on, for who keeps copies of values of its own; what is
   * invalidated after this has answered comes. {@link Cache.near} is such copies, kept by the client.
   */
  invalidations(options: CallOptions = {}): Promise<Invalidations> {
    return Invalidations.start(this.#place, options);
  }

  /** How full the cache is. */
  async stats(options: CallOptions = {}): Promise<CacheStats> {
    const { inner, namespace } = this.#place;
    const request = create(CacheStatsRequestSchema, { namespace });
    const stats = await inner.read("cache stats", options, "cacheStats", () => request);
    return {
      entries: Number(stats.entries),
      bytes: Number(stats.bytes),
      bytesMax: Number(stats.bytesMax),
      hits: Number(stats.hits),
      staleHits: Number(stats.staleHits),
      misses: Number(stats.misses),
      evicted: Number(stats.evicted),
    };
  }

  /**
   * The value of a key; when there is none, what the function makes of it, which is stored. Of all who
   * miss a key at once, in the whole cluster, one builds; the others wait for it, or get a stale value.
   * What the function throws is thrown here, and not stored.
   *
   * @throws {BuildFailedError} when somebody else was building it, and failed.
   */
  async getOrBuild<T extends V = V>(key: Key, build: () => T | Promise<T>, ttl: number | BuildOptions = {}): Promise<T> {
    const options = typeof ttl === "number" ? { ttlMs: ttl * 1_000 } : ttl;
    const bytes = keyBytes(key);
    const seen = this.#seen(undefined);
    const copy = seen === undefined ? undefined : this.#near?.get(idOf(bytes), seen);
    if (copy !== undefined) return this.#copied<T>(key, copy).value;
    const flight = `${options.freshOnly ? "f" : "s"}${idOf(bytes)}`;
    const until = now() + (options.timeoutMs ?? this.#place.inner.requestTimeoutMs) + longestWait(options);
    for (;;) {
      const ahead = this.#shared.flights.get(flight);
      if (ahead === undefined) break;
      let landed;
      try {
        landed = await within(until - now(), raced(ahead.came, options.signal));
      } catch (error) {
        // It was given up by its own caller, or had less time, so somebody else has to make the call.
        const mine = options.signal?.aborted || error instanceof ClosedError;
        const gaveUp = ahead.signal?.aborted || error instanceof UnavailableError || error instanceof IndeterminateError;
        if (!mine && gaveUp && now() < until) continue;
        throw error;
      }
      if (landed === undefined) {
        throw new UnavailableError(
          "BUILD_WAIT_TIMEOUT",
          "another call of this client was still building the value when there was no time left to wait",
        );
      }
      // It may have begun before something that this call has to see.
      if (landed.value.revision >= (seen ?? 0n)) return landed.value.value as T;
    }
    const came = this.#fetch<T>(key, bytes, build, options);
    const entry = { came, signal: options.signal };
    this.#shared.flights.set(flight, entry);
    try {
      return (await came).value;
    } finally {
      if (this.#shared.flights.get(flight) === entry) this.#shared.flights.delete(flight);
    }
  }

  /** Asks the cluster, and does what it says. */
  async #fetch<T extends V>(
    key: Key,
    bytes: Uint8Array,
    build: () => T | Promise<T>,
    options: BuildOptions,
  ): Promise<{ value: T; revision: bigint }> {
    const { inner, namespace } = this.#place;
    for (let builds = 1; ; builds++) {
      const request = create(CacheGetOrBuildRequestSchema, {
        namespace,
        key: bytes,
        buildLeaseMs: millis("buildLeaseMs", options.buildLeaseMs ?? 0),
        minRevision: this.#seen(undefined) ?? 0n,
        freshOnly: options.freshOnly ?? false,
      });
      const kind = "cacheGetOrBuild";
      const sentAt = now();
      const wait = longestWait(options);
      const call = { timeoutMs: options.timeoutMs, signal: options.signal };
      const make = inner.mutate("cache getOrBuild", namespace, call, kind, (origin) => ({ ...request, origin }), wait);
      const { entry, task, revision, groupId } = await make;
      if (entry !== undefined && !(entry.stale && options.freshOnly)) {
        this.#keep(bytes, entry, revision, groupId, sentAt);
        if (task !== undefined) this.#rebuild(bytes, task.lease, build, options);
        return { value: this.#read<T>(key, entry).value, revision };
      }
      if (task === undefined) {
        throw badAnswer("cache getOrBuild was answered without a value and without a task");
      }
      try {
        return await this.#build(bytes, task.lease, build, options);
      } catch (error) {
        if (!(error instanceof BuildLeaseLostError) || builds >= BUILDS_MAX) throw error;
      }
    }
  }

  /** Builds a value and stores it; a failure is told to those who wait. */
  async #build<T extends V>(
    key: Uint8Array,
    lease: bigint,
    build: () => T | Promise<T>,
    options: BuildOptions,
  ): Promise<{ value: T; revision: bigint }> {
    const { inner, namespace } = this.#place;
    let value: T;
    let payload: Uint8Array;
    try {
      value = await build();
      payload = encode(this.#codec, value, `the value that was built for key ${shown(key)}`);
    } catch (error) {
      const text = textOf(error).slice(0, 256);
      const request = create(CacheEndBuildRequestSchema, { namespace, key, lease, error: text });
      const end = inner.mutate("cache endBuild", namespace, {}, "cacheEndBuild", (origin) => ({ ...request, origin }));
      // When it can't be told the lease runs out, and another one builds.
      await end.catch(() => {});
      throw error;
    }
    const request = create(CacheFillRequestSchema, { namespace, key, lease, value: payload, policy: policyOf(options) });
    const { revision } = await this.#store(options, () =>
      inner.mutate("cache fill", namespace, { timeoutMs: options.timeoutMs }, "cacheFill", (origin) => ({
        ...request,
        origin,
      })),
    );
    return { value, revision };
  }

  /** Builds a value behind the stale one; when there are too many such, its lease runs out. */
  #rebuild<T extends V>(key: Uint8Array, lease: bigint, build: () => T | Promise<T>, options: BuildOptions): void {
    if (this.#shared.rebuilds >= REBUILDS_MAX) return;
    this.#shared.rebuilds += 1;
    this.#build(key, lease, build, options)
      .catch((error: unknown) => {
        if (error instanceof BuildLeaseLostError) return;
        this.#place.inner.onError(error, `building key ${shown(key)} of the cache behind its stale value failed`);
      })
      .finally(() => (this.#shared.rebuilds -= 1));
  }

  /** What a read has to see; `undefined` when that is not known, and the newest has to be asked for. */
  #seen(minRevision: number | undefined): bigint | undefined {
    const { inner, namespace } = this.#place;
    const seen = inner.engine.seen.newest(namespace);
    if (seen === undefined) return undefined;
    const asked = whole("minRevision", minRevision ?? 0);
    return asked > seen ? asked : seen;
  }

  /** Stores something; waits for room while some is being made. */
  async #store<A>(options: MutationOptions, store: () => Promise<A>): Promise<A> {
    const until = now() + (options.timeoutMs ?? this.#place.inner.requestTimeoutMs);
    for (let pause = FULL_PAUSE_MS; ; pause = Math.min(pause * 2, FULL_PAUSE_MAX_MS)) {
      try {
        return await store();
      } catch (error) {
        const full = error instanceof ResourceExhaustedError && error.reason === "CACHE_FULL";
        // Under a name that was given it can only be repeated as it is.
        if (!full || options.idempotencyKey !== undefined || now() + pause >= until) throw error;
      }
      await sleep(pause, options.signal);
    }
  }

  #keep(key: Uint8Array, entry: WireEntry, revision: bigint, group: number, sentAt: number): void {
    if (this.#near === undefined || entry.stale) return;
    const { value, remainingTtlMs, tags } = entry;
    const freshUntil = remainingTtlMs === undefined ? Infinity : sentAt + Number(remainingTtlMs);
    this.#near.offer(idOf(key), { value, revision, tags, freshUntil, modRevision: entry.modRevision }, group);
  }

  #copied<T extends V>(key: Key, copy: ReturnType<Near["get"]> & {}): CacheEntry<T> {
    return {
      value: this.#decoded<T>(key, copy.value),
      modRevision: Number(copy.modRevision),
      remainingTtlMs: copy.freshUntil === Infinity ? undefined : Math.max(copy.freshUntil - now(), 0),
      stale: false,
      tags: copy.tags,
    };
  }

  #read<T extends V>(key: Key, { value, modRevision, remainingTtlMs, stale, tags }: WireEntry): CacheEntry<T> {
    return {
      value: this.#decoded<T>(key, value),
      modRevision: Number(modRevision),
      remainingTtlMs: remainingTtlMs === undefined ? undefined : Number(remainingTtlMs),
      stale,
      tags,
    };
  }

  #decoded<T extends V>(key: Key, value: Uint8Array): T {
    return decode(this.#codec, value, `the value of key ${shown(key)} of the cache`) as T;
  }
}

interface Flight {
  readonly came: Promise<{ value: unknown; revision: bigint }>;
  readonly signal: AbortSignal | undefined;
}

/** What is being fetched for whom, so that one call is made for all of them. */
interface Shared {
  readonly flights: Map<string, Flight>;
  rebuilds: number;
}

function longestWait(options: BuildOptions): number {
  return Math.min(options.waitMs ?? options.buildLeaseMs ?? BUILD_LEASE_MS, 600_000);
}

/** A policy for the wire. */
export function policyOf({ ttlMs, staleForMs, tags }: CachePolicy): WirePolicy {
  const init: MessageInitShape<typeof CachePolicySchema> = {
    staleForMs: millis("staleForMs", staleForMs ?? 0),
    tags: [...(tags ?? [])],
  };
  if (ttlMs !== undefined) init.ttlMs = millis("the ttl", ttlMs);
  return create(CachePolicySchema, init);
}
