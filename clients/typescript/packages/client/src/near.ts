/**
 * A near cache: copies of what was read, kept in this process and right by the stream of invalidations.
 *
 * `position` is the revision up to which everything that was invalidated has been taken in. A copy may be
 * used for a read that has to see revision `S` only while `position >= S`. A value that was read at
 * revision `R` may be kept only if nothing that was taken in has invalidated it behind `R`, and everything
 * behind `R` is remembered: so an answer that comes late can't bring an old value back.
 */
import type { CacheInvalidation } from "./gen/quorate/v1/cache_pb.js";
import { badOption } from "./errors.js";
import type { Inner } from "./inner.js";
import { SILENCE_MAX_MS, isRefused, openInvalidations } from "./invalidations.js";
import { backoffMs } from "./retry.js";
import { now, within } from "./time.js";

/** Bytes of a copy besides its key, its value and its tags. */
const ENTRY_BYTES = 128;
/** Invalidations that are remembered: more than come while a read is on its way. */
const REMEMBERED_MAX = 4_096;
/** How long to wait where the stream is refused. */
const REFUSED_PAUSE_MS = 5_000;

export interface NearOptions {
  /** Bytes of all copies. Default: 32 MiB. */
  readonly bytesMax?: number | undefined;
  /** The longest a copy is used, whatever its ttl, in milliseconds. Default: 60 s. */
  readonly ttlMaxMs?: number | undefined;
}

/** What was read. */
export interface Copied {
  readonly value: Uint8Array;
  readonly revision: bigint;
  readonly tags: readonly string[];
  readonly modRevision: bigint;
  /** Until when it is fresh, by this process's clock. */
  readonly freshUntil: number;
}

interface Copy extends Copied {
  readonly usedUntil: number;
  readonly bytes: number;
}

export class Near {
  readonly #inner: Inner;
  readonly #namespace: string;
  readonly #bytesMax: number;
  readonly #ttlMaxMs: number;
  /** The longest unused first. */
  readonly #copies = new Map<string, Copy>();
  readonly #tagged = new Map<string, Set<string>>();
  #bytes = 0;
  /** None while there is no stream: copies are used for no read at all. */
  #position: bigint | undefined;
  #group = 0;
  /** The newest invalidations of keys and tags: what, and at which revision. */
  readonly #remembered = new Map<string, bigint>();
  /** What happened behind it is remembered. */
  #rememberedSince = 0n;
  #running = false;

  constructor(inner: Inner, namespace: string, options: NearOptions) {
    this.#inner = inner;
    this.#namespace = namespace;
    this.#bytesMax = options.bytesMax ?? 32 << 20;
    this.#ttlMaxMs = options.ttlMaxMs ?? 60_000;
    if (!(this.#bytesMax >= 0)) throw badOption(`bytesMax is ${options.bytesMax}; it must be a number from 0`);
    if (!(this.#ttlMaxMs >= 0)) throw badOption(`ttlMaxMs is ${options.ttlMaxMs}; it must be a number from 0`);
  }

  /** A copy for a read that has to see this revision. */
  get(key: string, revision: bigint): Copied | undefined {
    this.#start();
    if (this.#position === undefined || this.#position < revision) return undefined;
    const copy = this.#copies.get(key);
    if (copy === undefined) return undefined;
    if (now() >= copy.usedUntil) {
      this.#remove(key);
      return undefined;
    }
    this.#copies.delete(key);
    this.#copies.set(key, copy);
    return copy;
  }

  /** Keeps what a read was answered, if it may be kept. */
  offer(key: string, read: Copied, group: number): void {
    const usedUntil = Math.min(read.freshUntil, now() + this.#ttlMaxMs);
    if (this.#position === undefined || group !== this.#group || usedUntil <= now()) return;
    if (read.revision < this.#rememberedSince) return;
    const behind = (what: string) => (this.#remembered.get(what) ?? 0n) > read.revision;
    if (behind(`k${key}`) || read.tags.some((tag) => behind(`t${tag}`))) return;
    const known = this.#copies.get(key);
    if (known !== undefined && known.revision > read.revision) return;
    const tags = read.tags.reduce((sum, tag) => sum + tag.length, 0);
    const bytes = key.length + read.value.length + tags + ENTRY_BYTES;
    if (bytes > this.#bytesMax) return;
    this.#remove(key);
    // Copied: what was read is a part of a message, which may be a thousand times as large.
    this.#copies.set(key, { ...read, value: read.value.slice(), usedUntil, bytes });
    this.#bytes += bytes;
    for (const tag of read.tags) {
      const keys = this.#tagged.get(tag) ?? new Set();
      keys.add(key);
      this.#tagged.set(tag, keys);
    }
    for (const oldest of this.#copies.keys()) {
      if (this.#bytes <= this.#bytesMax) break;
      this.#remove(oldest);
    }
  }

  /** This client itself changes a key: its own reads must not see the copy. */
  forget(key: string): void {
    this.#remove(key);
  }

  /** The same for all that have one of the tags. */
  forgetTags(tags: readonly string[]): void {
    for (const tag of tags) for (const key of [...(this.#tagged.get(tag) ?? [])]) this.#remove(key);
  }

  /** The same for everything. */
  forgetAll(): void {
    this.#copies.clear();
    this.#tagged.clear();
    this.#bytes = 0;
  }

  /** What happened, in its order, and up to which revision that is all. */
  takeIn(invalidations: readonly CacheInvalidation[], revision: bigint): void {
    for (const { revision: at, what } of invalidations) {
      switch (what.case) {
        case "key": {
          const key = idOf(what.value);
          this.#remember(`k${key}`, at);
          this.#removeBefore(key, at);
          break;
        }
        case "tag":
          this.#remember(`t${what.value}`, at);
          for (const key of [...(this.#tagged.get(what.value) ?? [])]) this.#removeBefore(key, at);
          break;
        case "prefix": {
          // Not remembered: whatever was read before may be among it.
          this.#rememberedSince = max(this.#rememberedSince, at);
          const prefix = idOf(what.value);
          for (const key of [...this.#copies.keys()]) if (key.startsWith(prefix)) this.#removeBefore(key, at);
          break;
        }
        default:
          // Everything; and what this client does not know could be anything.
          this.forgetAll();
          this.#rememberedSince = max(this.#rememberedSince, at);
      }
    }
    this.#position = revision;
  }

  /** A stream begins: what was read before it may have changed unseen. */
  begin(group: number, revision: bigint): void {
    this.lost();
    this.#group = group;
    this.#rememberedSince = revision;
    this.#position = revision;
  }

  /** The stream broke. */
  lost(): void {
    this.#position = undefined;
    this.#remembered.clear();
    this.forgetAll();
  }

  #remember(what: string, at: bigint): void {
    this.#remembered.delete(what);
    this.#remembered.set(what, at);
    if (this.#remembered.size <= REMEMBERED_MAX) return;
    const [oldest] = this.#remembered;
    if (oldest === undefined) return;
    this.#remembered.delete(oldest[0]);
    this.#rememberedSince = max(this.#rememberedSince, oldest[1]);
  }

  #removeBefore(key: string, at: bigint): void {
    const copy = this.#copies.get(key);
    if (copy !== undefined && copy.revision < at) this.#remove(key);
  }

  #remove(key: string): void {
    const copy = this.#copies.get(key);
    if (copy === undefined) return;
    this.#copies.delete(key);
    this.#bytes -= copy.bytes;
    for (const tag of copy.tags) {
      const keys = this.#tagged.get(tag);
      keys?.delete(key);
      if (keys?.size === 0) this.#tagged.delete(tag);
    }
  }

  /** Follows what is invalidated, from the first read until the client is closed. */
  #start(): void {
    if (this.#running) return;
    this.#running = true;
    void this.#follow();
  }

  async #follow(): Promise<void> {
    const { engine } = this.#inner;
    for (let failures = 0; !engine.closing.aborted; failures++) {
      let pauseMs = backoffMs(failures);
      try {
        const [first, stream] = await openInvalidations(this.#inner, this.#namespace, { signal: engine.closing });
        this.begin(first.groupId, first.revision);
        for (;;) {
          const said = await within(stream.heardAt + SILENCE_MAX_MS - now(), stream.next());
          if (said?.value === undefined) break;
          if (said.value.groupId !== this.#group || said.value.revision < (this.#position ?? 0n)) break;
          this.takeIn(said.value.invalidations, said.value.revision);
          failures = 0;
        }
        stream.cancel();
      } catch (error) {
        if (isRefused(error)) {
          this.#inner.onError(error, "there is no stream for the near cache");
          pauseMs = REFUSED_PAUSE_MS;
        }
      }
      this.lost();
      await pause(pauseMs, engine.closing);
    }
  }
}

/** Bytes as text that differs where they do. */
export function idOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}

function max(left: bigint, right: bigint): bigint {
  return left > right ? left : right;
}

/** Waits without keeping the process alive. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms).unref();
    signal.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
}
