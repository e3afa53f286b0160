/** A subscription that has begun: messages in order, whatever becomes of the nodes. */
import { create } from "@bufbuild/protobuf";
import "./dispose.js";
import type { Headers } from "./bus.js";
import type { Place } from "./client.js";
import { checkedText, decode, shown, type Codec } from "./codec.js";
import { badAnswer, badOption } from "./errors.js";
import { isWorthRetrying } from "./failure.js";
import { Follower, RESUME_TIMEOUT_MS } from "./follow.js";
import {
  BusOverflow,
  BusService,
  BusSubscribeRequestSchema,
  type BusMessage,
  type BusSubscribeResponse,
} from "./gen/quorate/v1/bus_pb.js";
import type { CallOptions, Inner } from "./inner.js";
import { Turns } from "./turns.js";

export interface SubscribeOptions extends CallOptions {
  /** Of all subscriptions of a namespace with the same group, one gets each message. */
  readonly queueGroup?: string | undefined;
  /** Messages that its node keeps for it while it is slow, 1 to 65536. Default: 1024. */
  readonly bufferMessages?: number | undefined;
  /** Bytes that its node keeps, 1 KiB to 16 MiB. Default: 4 MiB. */
  readonly bufferBytes?: number | undefined;
  /**
   * What happens beyond that: `drop-oldest` (default), and a gap says how many; or `disconnect`, and it
   * is over with an error.
   */
  readonly overflow?: "drop-oldest" | "disconnect" | undefined;
  /** How long going on at another node may take when one fails. Default: 60 s. */
  readonly resumeTimeoutMs?: number | undefined;
  /**
   * Told where messages are missing: how many, or `undefined` when the cluster does not know; after a
   * change of leaders it may be none.
   */
  readonly onGap?: ((missed: number | undefined) => void) | undefined;
}

/** A message with what came along. */
export interface Message<T> {
  readonly message: T;
  readonly channel: string;
  /** The term of the leader that numbered it. */
  readonly epoch: number;
  /** Its number in its channel. */
  readonly sequence: number;
  readonly headers: Headers;
  readonly contentType: string;
  /** The sender waits for an answer; see {@link Bus.reply}. */
  readonly replyTo: Uint8Array | undefined;
}

/** Called with each message. What it throws is told to the client's `onError`; the rest goes on. */
export type MessageHandler<T> = (message: T, meta: Message<T>) => unknown;

/** What {@link Subscription.subscribe} gives; ends that callback. */
export interface Observer {
  unsubscribe(): void;
}

/**
 * A subscription that has begun. When its node fails it goes on at another one; what was published
 * meanwhile is not sent again, and told as a gap. No message comes twice or after a later one.
 *
 * Messages go to the callbacks of {@link Subscription.subscribe}, all of which get each; or to one who
 * iterates over it: `for await (const { message, channel } of subscription)`.
 */
export class Subscription<T = any> implements AsyncIterableIterator<Message<T>> {
  readonly #inner: Inner;
  readonly #codec: Codec<T>;
  readonly #state: SubscriptionState;
  readonly #follower: Follower<BusSubscribeResponse>;
  readonly #observers = new Set<MessageHandler<T>>();
  readonly #ready: Message<T>[] = [];
  readonly #turns = new Turns();
  readonly #undoClose: () => void;
  #pumping: Promise<void> | undefined;

  /** @internal */
  constructor(inner: Inner, codec: Codec<T>, follower: Follower<BusSubscribeResponse>, state: SubscriptionState) {
    this.#inner = inner;
    this.#codec = codec;
    this.#follower = follower;
    this.#state = state;
    this.#undoClose = inner.onClose(async () => this.unsubscribe());
  }

  /** Has a callback called with each message from now on, one after the other. */
  subscribe(handler: MessageHandler<T>): Observer {
    if (typeof handler !== "function") throw badOption(`a subscriber is a function, not ${typeof handler}`);
    // A function that is given twice is called twice.
    const observer: MessageHandler<T> = (message, meta) => handler(message, meta);
    this.#observers.add(observer);
    this.#pumping ??= this.#pump();
    return { unsubscribe: () => void this.#observers.delete(observer) };
  }

  /** Ends it: its node forgets it, and no callback is called any more. */
  async unsubscribe(): Promise<void> {
    this.#undoClose();
    this.#observers.clear();
    this.#follower.close();
  }

  next(): Promise<IteratorResult<Message<T>, undefined>> {
    return this.#turns.take(() => this.#next());
  }

  async #next(): Promise<IteratorResult<Message<T>, undefined>> {
    for (;;) {
      const ready = this.#ready.shift();
      if (ready !== undefined) return { done: false, value: ready };
      let said;
      try {
        said = await this.#follower.next();
      } finally {
        if (this.#follower.isClosed) this.#undoClose();
      }
      if (said === undefined) return { done: true, value: undefined };
      // Where it could not say behind what to go on nobody counts what is missing.
      if (said.again && this.#state.place === undefined) this.#gap(undefined);
      this.#take(said.message);
    }
  }

  async return(): Promise<IteratorResult<Message<T>, undefined>> {
    await this.unsubscribe();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.unsubscribe();
  }

  /** Calls the callbacks until it is over. */
  async #pump(): Promise<void> {
    try {
      for (;;) {
        const { done, value } = await this.next();
        if (done) return;
        for (const observer of [...this.#observers]) {
          // One before it may have ended it.
          if (this.#observers.has(observer)) this.#call(observer, value);
        }
      }
    } catch (error) {
      this.#inner.onError(error, `the subscription to ${this.#state.patterns} ended`);
    } finally {
      void this.unsubscribe();
    }
  }

  #call(observer: MessageHandler<T>, meta: Message<T>): void {
    let came: unknown;
    const failed = (error: unknown) =>
      this.#inner.onError(error, `a subscriber of ${this.#state.patterns} failed at a message to ${meta.channel}`);
    try {
      if (isThenable((came = observer(meta.message, meta)))) came.then(undefined, failed);
    } catch (error) {
      failed(error);
    }
  }

  #gap(missed: number | undefined): void {
    const failed = (error: unknown) =>
      this.#inner.onError(error, `onGap of the subscription to ${this.#state.patterns} failed`);
    try {
      const came: unknown = this.#state.onGap?.(missed);
      if (isThenable(came)) came.then(undefined, failed);
    } catch (error) {
      failed(error);
    }
  }

  #take({ items, place }: BusSubscribeResponse): void {
    for (const { item } of items) {
      if (item.case === "message") {
        if (this.#goesTo(item.value.epoch, item.value.position)) this.#read(item.value);
      } else if (item.case === "gap") {
        this.#gap(item.value.missed === undefined ? undefined : Number(item.value.missed));
      } else {
        this.#follower.close();
        throw badAnswer("a subscription was told something of an unknown kind");
      }
    }
    if (place !== undefined) this.#goesTo(place.epoch, place.position);
  }

  /** A message that can't be read is told to `onError`, and passed over: those behind it are fine. */
  #read({ channel, epoch, sequence, content, replyTo }: BusMessage): void {
    try {
      this.#ready.push({
        message: decode(this.#codec, content?.payload ?? new Uint8Array(), `a message to channel ${shown(channel)}`),
        channel,
        epoch: Number(epoch),
        sequence: Number(sequence),
        headers: Object.fromEntries((content?.headers ?? []).map(({ name, value }) => [name, value])),
        contentType: content?.contentType ?? "",
        replyTo: replyTo.length > 0 ? replyTo : undefined,
      });
    } catch (error) {
      this.#inner.onError(error, `the subscription to ${this.#state.patterns} passed over a message`);
    }
  }

  /** Whether a place is further on, in the order of all messages. */
  #goesTo(epoch: bigint, position: bigint): boolean {
    const at = this.#state.place;
    if (at !== undefined && (epoch < at.epoch || (epoch === at.epoch && position <= at.position))) return false;
    this.#state.place = { epoch, position };
    return true;
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | undefined)?.then === "function";
}

interface SubscriptionState {
  place: { readonly epoch: bigint; readonly position: bigint } | undefined;
  readonly patterns: string;
  readonly onGap: ((missed: number | undefined) => void) | undefined;
}

/** @internal */
export async function startSubscription<T>(
  place: Place,
  codec: Codec<T>,
  patterns: string[],
  options: SubscribeOptions,
): Promise<Subscription<T>> {
  const { inner, namespace } = place;
  for (const pattern of patterns) checkedText("a pattern", pattern);
  const drops = options.overflow !== "disconnect";
  const state: SubscriptionState = {
    place: undefined,
    patterns: patterns.map(shown).join(", "),
    onGap: options.onGap,
  };
  let timeoutMs = options.timeoutMs;
  const follower = await Follower.start<BusSubscribeResponse>(
    inner.engine,
    {
      open: (signal) => {
        const plan = inner.plan("bus subscribe", "read", { timeoutMs, signal });
        timeoutMs = options.resumeTimeoutMs ?? RESUME_TIMEOUT_MS;
        return inner.engine.open(plan, BusService.method.subscribe, () =>
          create(BusSubscribeRequestSchema, {
            namespace,
            patterns,
            queueGroup: options.queueGroup ?? "",
            bufferMessages: options.bufferMessages ?? 0,
            bufferBytes: options.bufferBytes ?? 0,
            overflow: drops ? BusOverflow.DROP_OLDEST : BusOverflow.DISCONNECT,
            ...(state.place === undefined ? {} : { resume: state.place }),
          }),
        );
      },
      goesOn: (failure) => (failure.reason === "SLOW_SUBSCRIBER" ? drops : isWorthRetrying(failure)),
    },
    options.signal,
  );
  return new Subscription<T>(inner, codec, follower, state);
}
