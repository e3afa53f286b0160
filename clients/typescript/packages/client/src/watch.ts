/** Watching keys: what happens to them, as it happens. */
import { create } from "@bufbuild/protobuf";
import type { Place } from "./client.js";
import { decode, keyBytes, keyText, shown, type Codec, type Key } from "./codec.js";
import { badAnswer } from "./errors.js";
import { isWorthRetrying } from "./failure.js";
import { Follower, RESUME_TIMEOUT_MS } from "./follow.js";
import {
  DeleteCause,
  KeySelectorSchema,
  KvService,
  WatchRequestSchema,
  type WatchEvent as WireEvent,
  type WatchResponse,
} from "./gen/quorate/v1/kv_pb.js";
import { whole, type CallOptions } from "./inner.js";
import { Turns } from "./turns.js";

/** A message comes every 5 s at least; a node that is silent for so long is gone. */
const SILENCE_MAX_MS = 20_000;

export interface WatchOptions extends CallOptions {
  /** Take the texts as the beginnings of keys instead of as patterns. */
  readonly prefix?: boolean | undefined;
  /**
   * Begins with the changes of this revision: that of a list plus one, say, or of {@link Changes} plus
   * one. Without it, behind every write that was acknowledged before.
   */
  readonly fromRevision?: number | undefined;
  /** Without the values. */
  readonly keysOnly?: boolean | undefined;
  /** How long going on at another node may take when one fails. Default: 60 s. */
  readonly resumeTimeoutMs?: number | undefined;
}

/** What became of a key. */
export type KeyEvent<T> =
  | {
      readonly type: "set";
      readonly key: string;
      readonly revision: number;
      /** `undefined` with `keysOnly`. */
      readonly value: T | undefined;
      /** 1 when this change created it. */
      readonly version: number;
      readonly createRevision: number;
      readonly ttlMs: number | undefined;
    }
  | {
      readonly type: "deleted";
      readonly key: string;
      readonly revision: number;
      /** Why it is gone. */
      readonly cause: "deleted" | "expired" | "session-ended" | "other";
    };

/** What happened at one moment, or several: everything up to `revision`. */
export interface Changes<T> {
  readonly events: readonly KeyEvent<T>[];
  /** A watch from here plus one goes on behind them. */
  readonly revision: number;
}

/**
 * A watch that has begun. When its node fails it goes on at another one. Iterating ends when it is
 * closed. It throws, and is over, when it fell so far behind that changes are lost ({@link CompactedError}),
 * or when a value is none that its codec reads ({@link PayloadError}).
 */
export class Watch<T = any> implements AsyncIterableIterator<Changes<T>> {
  readonly #follower: Follower<WatchResponse>;
  readonly #codec: Codec<T>;
  readonly #state: WatchState;
  readonly #keysOnly: boolean;
  readonly #turns = new Turns();
  #held: WireEvent[] = [];

  /** @internal */
  constructor(follower: Follower<WatchResponse>, codec: Codec<T>, state: WatchState, keysOnly: boolean) {
    this.#follower = follower;
    this.#codec = codec;
    this.#state = state;
    this.#keysOnly = keysOnly;
    state.broke = () => (this.#held = []);
  }

  /**
   * How far it is: everything up to this revision was handed out, or does not concern it. Behind a
   * value that could not be read it stays: another watch, with another codec, goes on from here plus one.
   */
  get revision(): number {
    return Number(this.#state.done ?? 0n);
  }

  next(): Promise<IteratorResult<Changes<T>, undefined>> {
    return this.#turns.take(() => this.#next());
  }

  async #next(): Promise<IteratorResult<Changes<T>, undefined>> {
    for (;;) {
      const said = await this.#follower.next();
      if (said === undefined) return { done: true, value: undefined };
      try {
        const changes = this.#take(said.message);
        if (changes !== undefined) return { done: false, value: changes };
      } catch (error) {
        this.close();
        throw error;
      }
    }
  }

  async return(): Promise<IteratorResult<Changes<T>, undefined>> {
    this.close();
    return { done: true, value: undefined };
  }

  /** Ends it. */
  close(): void {
    this.#follower.close();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** Takes a message in; answers what is complete with it. */
  #take(message: WatchResponse): Changes<T> | undefined {
    const { events, revision } = message;
    const last = events.at(-1);
    // Not how far the watch is: one from a revision to come is ahead of the cluster.
    if (last !== undefined) this.#state.seen(message.groupId, last.revision);
    // The first message says behind which revision it begins, and has no events.
    const done = this.#state.done ?? revision;
    if (revision < done) throw badAnswer(`a watch went back from revision ${done} to ${revision}`);
    let newest = this.#held.at(-1)?.revision ?? done + 1n;
    for (const event of events) {
      if (event.revision < newest) {
        throw badAnswer(`an event of revision ${event.revision} came after revision ${newest} of the same watch`);
      }
      newest = event.revision;
      this.#held.push(event);
    }
    const complete = this.#held.filter((event) => event.revision <= revision);
    this.#held = this.#held.filter((event) => event.revision > revision);
    const read = complete.map((event) => this.#read(event));
    // What can't be read was not handed out.
    this.#state.done = revision;
    return read.length === 0 ? undefined : { events: read, revision: Number(revision) };
  }

  #read({ key, revision, change }: WireEvent): KeyEvent<T> {
    const at = { key: keyText(key), revision: Number(revision) };
    if (change.case === "set") {
      const { value, version, createRevision, ttlMs } = change.value;
      return {
        type: "set",
        ...at,
        value: this.#keysOnly ? undefined : decode(this.#codec, value, `the value of key ${shown(key)}`),
        version: Number(version),
        createRevision: Number(createRevision),
        ttlMs: ttlMs === undefined ? undefined : Number(ttlMs),
      };
    }
    if (change.case === "deleted") return { type: "deleted", ...at, cause: CAUSES[change.value] ?? "other" };
    throw badAnswer(`an event of revision ${revision} does not say what became of its key`);
  }
}

const CAUSES: Partial<Record<DeleteCause, "deleted" | "expired" | "session-ended">> = {
  [DeleteCause.DELETED]: "deleted",
  [DeleteCause.EXPIRED]: "expired",
  [DeleteCause.SESSION_ENDED]: "session-ended",
};

interface WatchState {
  /** Everything up to this revision was handed out. */
  done: bigint | undefined;
  broke: () => void;
  readonly seen: (group: number, revision: bigint) => void;
}

/** @internal */
export async function startWatch<T>(
  place: Place,
  codec: Codec<T>,
  patterns: Key | readonly Key[],
  options: WatchOptions,
): Promise<Watch<T>> {
  const { inner, namespace } = place;
  const list: Key[] = typeof patterns === "string" || patterns instanceof Uint8Array ? [patterns] : [...patterns];
  const selectors = list.map((key) => {
    const value = keyBytes(key);
    return create(KeySelectorSchema, {
      select: options.prefix ? { case: "prefix", value } : { case: "pattern", value },
    });
  });
  const { seen } = inner.engine;
  const fromRevision = whole("fromRevision", options.fromRevision ?? 0);
  const state: WatchState = {
    done: fromRevision > 0n ? fromRevision - 1n : undefined,
    broke: () => {},
    seen: (group, revision) => seen.raise(namespace, group, revision),
  };
  let timeoutMs = options.timeoutMs;
  const follower = await Follower.start<WatchResponse>(
    inner.engine,
    {
      open: (signal) => {
        const plan = inner.plan("kv watch", "read", { timeoutMs, signal });
        timeoutMs = options.resumeTimeoutMs ?? RESUME_TIMEOUT_MS;
        return inner.engine.open(plan, KvService.method.watch, () =>
          create(WatchRequestSchema, {
            namespace,
            selectors,
            fromRevision: state.done === undefined ? 0n : state.done + 1n,
            keysOnly: options.keysOnly ?? false,
          }),
        );
      },
      // Whoever reads slowly goes on where it was, while the history has it.
      goesOn: (failure) => isWorthRetrying(failure) || failure.reason === "SLOW_READER",
      // Of a revision that is not complete everything is sent again.
      broke: () => state.broke(),
      silenceMs: SILENCE_MAX_MS,
    },
    options.signal,
  );
  return new Watch<T>(follower, codec, state, options.keysOnly ?? false);
}
