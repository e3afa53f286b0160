/** The cache as the framework asks for it. */
import type { BrokerAdapterCache, BrokerCacheItemOptionsResolved } from "@deepkit/broker";
import type { Type } from "@deepkit/type";
import { bytes, type Cache, type CacheEntry, type Client, type Invalidation, type Invalidations } from "@quorate/client";
import { codecOf } from "./codec.js";
import { unreadable } from "./key-value.js";
import { keepDoing, type Report } from "./report.js";

/** Keys that are remembered as copied in this process; of one that is forgotten the copy is, too. */
const COPIES_MAX = 65_536;
/** How often a value is read again that was invalidated while it was on its way. */
const READS_MAX = 8;

/** What this process may have a copy of. */
interface Copied {
  /** The newest change of it that was heard of. */
  heard: number;
  /** The copy is as of this change, or was told to be forgotten since. */
  held: number;
  /** Counts what was handed out for copies. */
  handedOut: number;
  tags: readonly string[];
}

/**
 * Entries are replicated and end with their ttl. The framework's `BrokerCache` keeps copies in each process:
 * it is told of every key that was invalidated anywhere, of those that were by a tag, and of all that it has
 * when invalidations may have been missed.
 */
export class CacheService implements Omit<BrokerAdapterCache, "disconnect" | "logger"> {
  readonly #cache: Cache<Uint8Array>;
  readonly #report: Report;
  readonly #callbacks = new Set<(key: string) => void>();
  /** The longest unused first. */
  readonly #copied = new Map<string, Copied>();
  readonly #closing = new AbortController();
  /** Counts the times when everything was to be forgotten. */
  #epoch = 0;
  #following: Promise<void> | undefined;

  constructor(client: Client, report: Report) {
    this.#cache = client.cache.withCodec(bytes);
    this.#report = report;
  }

  /** The value of a key and until when it is fresh, as `Date.now()` counts; nothing when it is not there. */
  async getCache(key: string, type: Type): Promise<{ value: any; ttl: number } | undefined> {
    const entry = await this.#read(key);
    if (entry === undefined) return undefined;
    try {
      return { value: codecOf(type).decode(entry.value), ttl: freshUntil(entry) };
    } catch (error) {
      throw unreadable(`the value of key ${JSON.stringify(key)} of the cache`, error);
    }
  }

  /** Until when a key is fresh. */
  async getCacheMeta(key: string): Promise<{ ttl: number } | undefined> {
    const entry = await this.#cache.entry(key);
    return entry && { ttl: freshUntil(entry) };
  }

  /** Sets a key. A ttl of 0 is none: then it stays until it is invalidated, or evicted. */
  async setCache(key: string, value: any, options: BrokerCacheItemOptionsResolved, type: Type): Promise<void> {
    const payload = codecOf(type).encode(value);
    await this.#follow();
    const { ttl, maxStale, tags } = options;
    const copied = this.#copy(key);
    copied.tags = tags;
    copied.handedOut += 1;
    const times = ttl > 0 ? { ttlMs: ttl, staleForMs: maxStale } : {};
    const { revision } = await this.#cache.set(key, payload, { ...times, tags });
    copied.held = Math.max(copied.held, revision);
  }

  /** Makes a key vanish, here and in all other processes. */
  async invalidateCache(key: string): Promise<void> {
    await this.#follow();
    const copied = this.#copy(key);
    const { handedOut } = copied;
    this.#forget(key);
    const { revision } = await this.#cache.invalidate(key);
    // What was copied meanwhile may be what is gone now.
    if (copied.handedOut !== handedOut) this.#forget(key);
    copied.held = Math.max(copied.held, revision);
  }

  /** Has a callback called with each key whose copy is to be forgotten. */
  onInvalidateCache(callback: (key: string) => void): void {
    this.#callbacks.add(callback);
  }

  close(): void {
    this.#closing.abort();
    this.#callbacks.clear();
  }

  /** Reads a key; not again what is known to be invalidated. */
  async #read(key: string): Promise<CacheEntry<Uint8Array> | undefined> {
    await this.#follow();
    const copied = this.#copy(key);
    for (let reads = 1; ; reads++) {
      const epoch = this.#epoch;
      const { heard } = copied;
      const entry = await this.#cache.entry(key, { minRevision: heard });
      if (entry === undefined) return undefined;
      const changed = copied.heard > heard && copied.heard > entry.modRevision;
      if (!changed && epoch === this.#epoch) {
        copied.tags = entry.tags;
        copied.handedOut += 1;
        copied.held = Math.max(copied.held, entry.modRevision);
        return entry;
      }
      // Then it is as good as missing; who asked builds a value of his own.
      if (reads >= READS_MAX) return undefined;
    }
  }

  #copy(key: string): Copied {
    const copied = this.#copied.get(key) ?? { heard: 0, held: 0, handedOut: 0, tags: [] };
    this.#copied.delete(key);
    this.#copied.set(key, copied);
    const [oldest] = this.#copied.keys();
    if (this.#copied.size > COPIES_MAX && oldest !== undefined) {
      this.#copied.delete(oldest);
      this.#forget(oldest);
    }
    return copied;
  }

  /** Hears of invalidations from before the first value is read, if anybody wants to. */
  #follow(): Promise<void> {
    if (this.#callbacks.size === 0) return Promise.resolve();
    this.#following ??= this.#begin().catch((error: unknown) => {
      this.#following = undefined;
      throw error;
    });
    return this.#following;
  }

  async #begin(): Promise<void> {
    const { signal } = this.#closing;
    let first: Invalidations | undefined = await this.#cache.invalidations({ signal });
    const follow = async () => {
      const invalidations = first ?? (await this.#cache.invalidations({ signal }));
      if (first === undefined) this.#forgetAll();
      first = undefined;
      try {
        for await (const said of invalidations) for (const one of said) this.#take(one);
      } finally {
        if (!signal.aborted) this.#forgetAll();
      }
    };
    void keepDoing("the invalidations of the cache", signal, this.#report, follow);
  }

  #take(one: Invalidation): void {
    switch (one.type) {
      case "key": {
        const copied = this.#copied.get(one.key);
        if (copied === undefined) return;
        copied.heard = Math.max(copied.heard, one.revision);
        if (one.revision > copied.held) void this.#look(one.key, one.revision, copied);
        break;
      }
      case "tag":
        for (const [key, { tags }] of this.#copied) {
          if (tags.includes(one.tag)) this.#changed(key, one.revision);
        }
        break;
      case "prefix": {
        const prefix = Buffer.from(one.prefix);
        for (const key of this.#copied.keys()) {
          const start = Buffer.from(key).subarray(0, prefix.length);
          if (start.equals(prefix)) this.#changed(key, one.revision);
        }
        break;
      }
      case "everything":
        this.#forgetAll();
        break;
    }
  }

  /**
   * A key was set, or it was invalidated; the cluster says the same of both. What was set is no reason to
   * forget a copy: the framework's cache would build a value of its own, and set that, and so on.
   */
  async #look(key: string, revision: number, copied: Copied): Promise<void> {
    let entry;
    try {
      entry = await this.#cache.entry(key, { minRevision: revision, allowStale: true });
    } catch {
      // It may be either.
    }
    if (entry?.modRevision !== revision) this.#gone(key, revision, copied);
  }

  #changed(key: string, revision: number): void {
    const copied = this.#copied.get(key);
    if (copied === undefined) return;
    copied.heard = Math.max(copied.heard, revision);
    this.#gone(key, revision, copied);
  }

  /** A copy is to be forgotten, unless it is a newer one, or was told to be forgotten before. */
  #gone(key: string, revision: number, copied: Copied): void {
    if (revision <= copied.held) return;
    copied.held = revision;
    this.#forget(key);
  }

  #forgetAll(): void {
    this.#epoch += 1;
    for (const key of this.#copied.keys()) this.#forget(key);
  }

  #forget(key: string): void {
    for (const callback of this.#callbacks) {
      try {
        callback(key);
      } catch (error) {
        this.#report(error, `a listener to invalidations of the cache failed at key ${JSON.stringify(key)}`);
      }
    }
  }
}

/** Until when an entry is fresh; without end it is as far away as dates go. */
function freshUntil({ remainingTtlMs }: CacheEntry<unknown>): number {
  return remainingTtlMs === undefined ? 8.64e15 : Date.now() + remainingTtlMs;
}
