/**
 * The framework's cache with the promises of its documentation: it builds a value once, and not once per
 * process; it never answers a value that was not built; what a builder throws is not kept.
 */
import {
  BrokerCache,
  BrokerCacheItem,
  type BrokerCacheItemOptions,
  type BrokerCacheItemOptionsResolved,
  type BrokerCacheOptions,
  type CacheBuilder,
} from "@deepkit/broker";
import { resolveReceiveType, type ReceiveType, type Type } from "@deepkit/type";
import type { BuildOptions, Cache, Codec } from "@quorate/client";
import type { QuorateBrokerAdapter } from "./adapter.js";
import { CONTENT_TYPE, codecOf } from "./codec.js";

/**
 * A {@link BrokerCache} over the cluster's own get-or-build. Of all who miss a key at once, in all processes,
 * one builds it, and the others wait for that, or have a value that is at most `maxStale` too old. Copies in
 * this process are used for `inMemoryTtl` at most, and not any more once the cluster says that the value was
 * set or invalidated, by whomever.
 *
 * The framework's own class works on the adapter, too; this one takes its place where `quorateBroker()` is
 * imported.
 */
export class QuorateCache extends BrokerCache {
  readonly #cache: Cache<Uint8Array>;

  constructor(adapter: QuorateBrokerAdapter, config: Partial<BrokerCacheOptions> = {}) {
    super(withoutInvalidations(adapter), config);
    const { inMemoryTtl } = this["config"];
    this.#cache = inMemoryTtl > 0 ? adapter.cacheClient.near({ ttlMaxMs: inMemoryTtl }) : adapter.cacheClient;
  }

  override item<T>(
    key: string,
    builder: CacheBuilder<T>,
    options?: Partial<BrokerCacheItemOptions>,
    type?: ReceiveType<T>,
  ): BrokerCacheItem<T> {
    // Who compiles with the framework's types gives that of a call on the function itself.
    const called = this.item as { Ω?: readonly ReceiveType<T>[] | undefined };
    const resolved = resolveReceiveType(type ?? called.Ω?.[0]);
    called.Ω = undefined;
    const item = super.item<T>(key, builder, options, resolved as ReceiveType<T>);
    return new QuorateCacheItem<T>(item, this.#cache.withCodec(typed<T>(resolved)));
  }
}

/** An item of it. */
class QuorateCacheItem<T> extends BrokerCacheItem<T> {
  readonly #key: string;
  readonly #builder: CacheBuilder<T>;
  readonly #options: BrokerCacheItemOptionsResolved;
  readonly #cache: Cache<T>;

  constructor(of: BrokerCacheItem<T>, cache: Cache<T>) {
    super(of["key"], of["builder"], of["options"], of["adapter"], of["store"], of["type"], of["logger"]);
    this.#key = of["key"];
    this.#builder = of["builder"];
    this.#options = of["options"];
    this.#cache = cache;
  }

  override get(): Promise<T> {
    return this.#cache.getOrBuild(this.#key, this.#builder, policyOf(this.#options));
  }

  override async set(value: T): Promise<void> {
    await this.#cache.set(this.#key, value, policyOf(this.#options));
  }

  override async invalidate(): Promise<void> {
    await this.#cache.invalidate(this.#key);
  }

  override async exists(): Promise<boolean> {
    return (await this.#cache.entry(this.#key)) !== undefined;
  }
}

/** How a value is kept. A ttl of 0 is none. */
function policyOf({ ttl, maxStale, tags }: BrokerCacheItemOptionsResolved): BuildOptions {
  return { ...(ttl > 0 ? { ttlMs: ttl, staleForMs: maxStale } : {}), tags };
}

function typed<T>(type: Type): Codec<T> {
  const codec = codecOf(type);
  return {
    contentType: CONTENT_TYPE,
    encode: (value) => codec.encode(value),
    decode: (bytes) => codec.decode(bytes) as T,
  };
}

/** The class that is extended listens to invalidations for its own copies, of which there are none here. */
function withoutInvalidations(adapter: QuorateBrokerAdapter): QuorateBrokerAdapter {
  return Object.create(adapter, { onInvalidateCache: { value: () => {} } }) as QuorateBrokerAdapter;
}
