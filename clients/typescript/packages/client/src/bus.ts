/** The message bus: publish and subscribe with patterns, queue groups, request and reply. */
import { create } from "@bufbuild/protobuf";
import type { Place } from "./client.js";
import { checkedText, decode, encode, shown, type Codec } from "./codec.js";
import { NotFoundError, badOption } from "./errors.js";
import {
  BusContentSchema,
  BusPublishRequestSchema,
  BusPublishAllRequestSchema,
  BusReplyRequestSchema,
  BusRequestRequestSchema,
  type BusContent,
} from "./gen/quorate/v1/bus_pb.js";
import type { CallOptions } from "./inner.js";
import { Subscription, startSubscription, type Message, type SubscribeOptions } from "./subscription.js";

/** What goes along with a message, as `traceparent`. */
export type Headers = Readonly<Record<string, string>>;

export interface PublishOptions extends CallOptions {
  /** At most 32, of 8 KiB together. */
  readonly headers?: Headers | undefined;
}

export interface RequestOptions extends PublishOptions {
  /** How long an answer is waited for, in milliseconds. Default: the client's. */
  readonly timeoutMs?: number | undefined;
}

/** What became of a message that was published. */
export interface Published {
  /** Subscribers it was sent to, a queue group counted as one. */
  readonly subscribers: number;
  /** Nodes it was sent to. */
  readonly nodes: number;
  /** The term of the leader that numbered it. */
  readonly epoch: number;
  /** Its number in its channel, from 1 in each epoch. */
  readonly sequence: number;
}

/**
 * The message bus of one namespace. A message goes to whoever subscribes at that moment, at most once,
 * and is not stored; where some are missing a subscriber is told so. What must not be lost belongs into
 * a queue.
 *
 * ```ts
 * const subscription = await bus.subscribe("user.*");
 * subscription.subscribe((message) => console.log(message));
 * await bus.publish("user.created", { id: 7 });
 * ```
 *
 * Patterns: `*` is any run of characters, so `user.*` has `user.created` and `user.profile.updated`; `?`
 * is one, `[a-c]` and `[^a]` a class, `\` takes the next character as it is.
 */
export class Bus<M = any> {
  readonly #place: Place;
  readonly #codec: Codec<M>;

  /** @internal */
  constructor(place: Place) {
    this.#place = place;
    this.#codec = place.codec;
  }

  /** The same bus, with messages of another kind. */
  withCodec<T>(codec: Codec<T>): Bus<T> {
    return new Bus<T>({ ...this.#place, codec });
  }

  /**
   * Publishes a message; answered when it has its number, before anybody has received it. A failure with
   * the word `outcome unknown` may have published it: sending it again may publish it twice.
   */
  async publish<T extends M = M>(channel: string, message: T, options: PublishOptions = {}): Promise<Published> {
    const { inner, namespace } = this.#place;
    const content = this.#content(channel, message, options.headers);
    const request = create(BusPublishRequestSchema, { namespace, channel, content });
    return published(await inner.each("bus publish", options, 0, "busPublish", () => request));
  }

  /** Publishes several messages, all of them or none, one right behind the other. */
  async publishAll(
    messages: readonly { readonly channel: string; readonly message: M; readonly headers?: Headers }[],
    options: CallOptions = {},
  ): Promise<Published[]> {
    const { inner, namespace } = this.#place;
    const request = create(BusPublishAllRequestSchema, {
      namespace,
      messages: messages.map(({ channel, message, headers }) => ({
        channel,
        content: this.#content(channel, message, headers),
      })),
    });
    const answer = await inner.each("bus publishAll", options, 0, "busPublishAll", () => request);
    return answer.published.map(published);
  }

  /**
   * Subscribes to channels, or patterns of them. What is published after this has answered comes, to
   * callbacks of {@link Subscription.subscribe} or by iterating; until one of them is there it is kept,
   * within bounds.
   */
  async subscribe<T extends M = M>(
    patterns: string | readonly string[],
    options: SubscribeOptions = {},
  ): Promise<Subscription<T>> {
    const list = Array.isArray(patterns) ? [...patterns] : [patterns as string];
    return startSubscription<T>(this.#place, this.#codec as Codec<any>, list, options);
  }

  /**
   * Publishes a message and waits for the first answer to it.
   *
   * @throws {NoSubscribersError} at once when nobody subscribes to the channel.
   * @throws {NoReplyError} when nobody answered in time.
   */
  async request<A extends M = M>(channel: string, message: M, options: RequestOptions = {}): Promise<A> {
    const { inner, namespace } = this.#place;
    const content = this.#content(channel, message, options.headers);
    const request = create(BusRequestRequestSchema, { namespace, channel, content });
    const waitMs = options.timeoutMs ?? inner.requestTimeoutMs;
    const answer = await inner.each("bus request", options, waitMs, "busRequest", () => request);
    const payload = answer.content?.payload ?? new Uint8Array();
    return decode(this.#codec, payload, `the answer from channel ${shown(channel)}`) as A;
  }

  /**
   * Answers requests to channels with what a function makes of them. Of all that respond in the same
   * `queueGroup` (default: `responders`) one gets each request. A function that throws leaves its request
   * without an answer, and is told to the client's `onError`.
   */
  async respond<T extends M = M>(
    patterns: string | readonly string[],
    handler: (message: T, meta: Message<T>) => M | Promise<M>,
    options: SubscribeOptions = {},
  ): Promise<Subscription<T>> {
    const subscription = await this.subscribe<T>(patterns, { queueGroup: "responders", ...options });
    subscription.subscribe(async (message, meta) => {
      if (meta.replyTo === undefined) return;
      await this.reply(meta.replyTo, await handler(message, meta));
    });
    return subscription;
  }

  /** Answers a message that has a `replyTo`; whether the requester still waited for it. */
  async reply(replyTo: Uint8Array, message: M, options: PublishOptions = {}): Promise<boolean> {
    const { inner, namespace } = this.#place;
    const content = this.#content("(a reply)", message, options.headers);
    const request = create(BusReplyRequestSchema, { namespace, replyTo, content });
    try {
      // Only the first answer counts, so it may be repeated.
      await inner.read("bus reply", options, "busReply", () => request);
      return true;
    } catch (error) {
      if (error instanceof NotFoundError) return false;
      throw error;
    }
  }

  #content(channel: string, message: M, headers: Headers | undefined): BusContent {
    checkedText("the channel", channel);
    if (channel === "") throw badOption("a channel has 1 to 1024 bytes; this one is empty");
    return create(BusContentSchema, {
      payload: encode(this.#codec, message, `the message to channel ${shown(channel)}`),
      contentType: this.#codec.contentType,
      headers: Object.entries(headers ?? {}).map(([name, value]) => ({ name, value })),
    });
  }
}

function published(answer: { subscribers: bigint; nodes: number; epoch: bigint; sequence: bigint }): Published {
  return {
    subscribers: Number(answer.subscribers),
    nodes: answer.nodes,
    epoch: Number(answer.epoch),
    sequence: Number(answer.sequence),
  };
}
