/** What is invalidated in the cache, as it happens: for those who keep copies of its values themselves. */
import { create } from "@bufbuild/protobuf";
import "./dispose.js";
import type { Place } from "./client.js";
import { keyText } from "./codec.js";
import { Failed, isWorthRetrying } from "./failure.js";
import {
  CacheInvalidationsRequestSchema,
  CacheService,
  type CacheInvalidation,
  type CacheInvalidationsResponse,
} from "./gen/quorate/v1/cache_pb.js";
import type { Incoming } from "./incoming.js";
import { told, type CallOptions, type Inner } from "./inner.js";
import { backoffMs } from "./retry.js";
import { now, sleep, within } from "./time.js";

/** A message comes every 5 s at least; a node that is silent for so long is gone. */
export const SILENCE_MAX_MS = 20_000;

/** What has to be forgotten. */
export type Invalidation =
  | {
      /** This key was set, deleted or invalidated; who set it himself hears of it, too. */
      readonly type: "key";
      readonly key: string;
      /** The key's bytes, where it is no text. */
      readonly keyBytes: Uint8Array;
      /** When it happened: a value whose `modRevision` is this one is what was set then. */
      readonly revision: number;
    }
  /** All that has this tag. */
  | { readonly type: "tag"; readonly tag: string; readonly revision: number }
  /** All whose keys begin like this. */
  | { readonly type: "prefix"; readonly prefix: Uint8Array; readonly revision: number }
  /** Everything: the cluster can't say what, or nobody listened for a while. */
  | { readonly type: "everything" };

const EVERYTHING: readonly Invalidation[] = [{ type: "everything" }];

/** Opens a stream of them; answers its first message, which says where it begins. */
export function openInvalidations(
  inner: Inner,
  namespace: string,
  options: CallOptions,
): Promise<[CacheInvalidationsResponse, Incoming<CacheInvalidationsResponse>]> {
  const plan = inner.plan("cache invalidations", "read", options);
  return inner.engine.open(plan, CacheService.method.invalidations, () =>
    create(CacheInvalidationsRequestSchema, { namespace }),
  );
}

/** Whether a failure to open it is no matter of time. */
export function isRefused(error: unknown): boolean {
  return error instanceof Failed && !isWorthRetrying(error.failure) && error.failure.cause === "answered";
}

/**
 * The invalidations of a cache from when this began. It goes on for as long as the client lives, whatever
 * becomes of the nodes: when its node fails it says `everything` at once, since from then on it hears
 * nothing, and `everything` again when another node has it, since what was copied meanwhile may be old.
 * Iterating throws when it is refused.
 *
 * ```ts
 * for await (const invalidations of await cache.invalidations()) {
 *   for (const one of invalidations) if (one.type === "key") copies.delete(one.key); else copies.clear();
 * }
 * ```
 */
export class Invalidations implements AsyncIterableIterator<readonly Invalidation[]> {
  readonly #place: Place;
  readonly #closed = new AbortController();
  readonly #undoClose: () => void;
  #stream: Incoming<CacheInvalidationsResponse> | undefined;
  #group = 0;
  #position = 0n;
  #failures = 0;

  private constructor(place: Place) {
    this.#place = place;
    this.#undoClose = place.inner.onClose(async () => this.close());
  }

  /** @internal */
  static async start(place: Place, options: CallOptions): Promise<Invalidations> {
    const invalidations = new Invalidations(place);
    try {
      await invalidations.#open(options);
    } catch (error) {
      invalidations.close();
      throw told(error);
    }
    const { signal } = options;
    const raised = () => invalidations.close();
    signal?.addEventListener("abort", raised, { once: true });
    if (signal?.aborted) raised();
    return invalidations;
  }

  async next(): Promise<IteratorResult<readonly Invalidation[], undefined>> {
    const { signal } = this.#closed;
    while (!signal.aborted) {
      try {
        if (this.#stream === undefined) {
          await sleep(backoffMs(this.#failures++), signal);
          await this.#open({ signal });
          return { done: false, value: EVERYTHING };
        }
        const said = await this.#read(this.#stream);
        if (signal.aborted) break;
        if (said === undefined) {
          this.#stream.cancel();
          this.#stream = undefined;
          return { done: false, value: EVERYTHING };
        }
        if (said.length > 0) return { done: false, value: said };
      } catch (error) {
        if (signal.aborted) break;
        if (!isRefused(error)) continue;
        this.close();
        throw told(error);
      }
    }
    return { done: true, value: undefined };
  }

  async return(): Promise<IteratorResult<readonly Invalidation[], undefined>> {
    this.close();
    return { done: true, value: undefined };
  }

  /** Ends it. */
  close(): void {
    this.#undoClose();
    this.#closed.abort();
    this.#stream?.cancel();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  async #open(options: CallOptions): Promise<void> {
    const { inner, namespace } = this.#place;
    const [first, stream] = await openInvalidations(inner, namespace, options);
    this.#stream = stream;
    this.#group = first.groupId;
    this.#position = first.revision;
    if (this.#closed.signal.aborted) stream.cancel();
  }

  /** What it says next; `undefined` when it broke. */
  async #read(stream: Incoming<CacheInvalidationsResponse>): Promise<readonly Invalidation[] | undefined> {
    let said;
    try {
      said = (await within(stream.heardAt + SILENCE_MAX_MS - now(), stream.next()))?.value;
    } catch {
      return undefined;
    }
    // Another group, or one that went back, has another history.
    if (said === undefined || said.groupId !== this.#group || said.revision < this.#position) return undefined;
    this.#position = said.revision;
    this.#failures = 0;
    return said.invalidations.map(read);
  }
}

function read({ revision, what }: CacheInvalidation): Invalidation {
  const at = Number(revision);
  switch (what.case) {
    case "key":
      return { type: "key", key: keyText(what.value), keyBytes: what.value, revision: at };
    case "tag":
      return { type: "tag", tag: what.value, revision: at };
    case "prefix":
      return { type: "prefix", prefix: what.value, revision: at };
    default:
      // What this client does not know could be anything.
      return { type: "everything" };
  }
}
