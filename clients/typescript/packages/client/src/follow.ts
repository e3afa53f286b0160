/** A stream that goes on: read from one node, and from another one when that fails. */
import type { Engine } from "./engine.js";
import { Failed, isWorthRetrying, serviceFailure, type Failure } from "./failure.js";
import type { Incoming } from "./incoming.js";
import { told } from "./inner.js";
import { backoffMs } from "./retry.js";
import { now, sleep, within } from "./time.js";
import type { ServiceError } from "@grpc/grpc-js";

/** How long going on at another node may take before the stream is over with an error. */
export const RESUME_TIMEOUT_MS = 60_000;

export interface Follow<M> {
  /** Opens it at whichever node answers, where it has to go on; it is open with its first message. */
  open(signal: AbortSignal): Promise<[M, Incoming<M>]>;
  /** Whether it goes on after this failure. Default: when that is worth a retry. */
  goesOn?(failure: Failure): boolean;
  /** The stream broke; another one is opened next. */
  broke?(): void;
  /** A node that says nothing for so long has fallen silent, though nobody says that it is gone. */
  readonly silenceMs?: number;
}

/** What a stream said. */
export interface Said<M> {
  readonly message: M;
  /** It is the first message of a stream that was opened after another one broke. */
  readonly again: boolean;
}

/** Reads a stream that goes on. One caller of `next` at a time. */
export class Follower<M> {
  readonly #follow: Follow<M>;
  readonly #closed = new AbortController();
  #stream: Incoming<M> | undefined;
  #first: M | undefined;
  #failures = 0;
  #over = false;
  readonly #signals: readonly AbortSignal[];
  readonly #raised = () => this.close();

  private constructor(engine: Engine, follow: Follow<M>, signal: AbortSignal | undefined) {
    this.#follow = follow;
    this.#signals = signal === undefined ? [engine.closing] : [engine.closing, signal];
    for (const one of this.#signals) one.addEventListener("abort", this.#raised, { once: true });
  }

  /** Opens it. Rejects with what a caller is to get. The signal ends it, now or later. */
  static async start<M>(engine: Engine, follow: Follow<M>, signal: AbortSignal | undefined): Promise<Follower<M>> {
    engine.closing.throwIfAborted();
    signal?.throwIfAborted();
    const follower = new Follower(engine, follow, signal);
    try {
      [follower.#first, follower.#stream] = await follow.open(follower.#closed.signal);
    } catch (error) {
      follower.close();
      engine.closing.throwIfAborted();
      signal?.throwIfAborted();
      throw told(error);
    }
    return follower;
  }

  get isClosed(): boolean {
    return this.#over;
  }

  /** What it says next; `undefined` once it was closed. Rejects when it can't go on, and is over. */
  async next(): Promise<Said<M> | undefined> {
    try {
      for (;;) {
        if (this.#over) return undefined;
        if (this.#first !== undefined) {
          const message = this.#first;
          this.#first = undefined;
          return { message, again: false };
        }
        if (this.#stream === undefined) {
          // The first time it hardly waits: another node is likely to do better at once.
          await sleep(backoffMs(this.#failures), this.#closed.signal);
          this.#failures += 1;
          const [message, stream] = await this.#follow.open(this.#closed.signal);
          this.#stream = stream;
          return { message, again: true };
        }
        const message = await this.#read(this.#stream);
        if (message !== undefined) {
          this.#failures = 0;
          return { message, again: false };
        }
        this.#stream = undefined;
        this.#follow.broke?.();
      }
    } catch (error) {
      if (this.#closed.signal.aborted) return undefined;
      this.close();
      throw told(error);
    }
  }

  /** A message; `undefined` when the stream broke and another one is to be opened. */
  async #read(stream: Incoming<M>): Promise<M | undefined> {
    const { silenceMs } = this.#follow;
    try {
      if (silenceMs === undefined) return await stream.next();
      const said = await within(stream.heardAt + silenceMs - now(), stream.next());
      if (said !== undefined) return said.value;
      stream.cancel();
      return undefined;
    } catch (error) {
      if (this.#closed.signal.aborted) throw error;
      const failure = serviceFailure("the node", error as ServiceError, false);
      const goesOn = this.#follow.goesOn?.(failure) ?? isWorthRetrying(failure);
      if (!goesOn) throw new Failed(failure);
      return undefined;
    }
  }

  /** Ends it: its node forgets it. */
  close(): void {
    if (this.#over) return;
    this.#over = true;
    for (const one of this.#signals) one.removeEventListener("abort", this.#raised);
    this.#closed.abort();
    this.#stream?.cancel();
  }
}
