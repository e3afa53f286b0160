/** The message bus as the framework asks for it. */
import type { BrokerAdapterBus, Release } from "@deepkit/broker";
import type { Type } from "@deepkit/type";
import { bytes, type Bus, type Client, type Subscription } from "@quorate/client";
import { codecOf } from "./codec.js";
import { unreadable } from "./key-value.js";
import { keepDoing, type Report } from "./report.js";

/** How long one search for another node may take; then it is told, and the next begins. */
const RESUME_TIMEOUT_MS = 5_000;

type Listener = (payload: Uint8Array) => void;

/** One subscription in the cluster, for all of this process to the same channel. */
interface Channel {
  readonly listeners: Set<Listener>;
  readonly closing: AbortController;
  /** Resolves when messages come. */
  readonly started: Promise<void>;
}

/**
 * A message goes to all who subscribe at that moment, at most once, the publisher included. Subscriptions
 * outlive nodes and whole clusters; what is published while nobody listens is missed, and `report` is told
 * of a gap.
 */
export class BusService implements Omit<BrokerAdapterBus, "disconnect" | "logger"> {
  readonly #bus: Bus<Uint8Array>;
  readonly #patterns: boolean;
  readonly #report: Report;
  readonly #channels = new Map<string, Channel>();

  constructor(client: Client, patterns: boolean, report: Report) {
    this.#bus = client.bus.withCodec(bytes);
    this.#patterns = patterns;
    this.#report = report;
  }

  /** Publishes a message; resolves when it has its place among all messages, before anybody has it. */
  async publish(name: string, message: unknown, type: Type): Promise<void> {
    await this.#bus.publish(name, codecOf(type).encode(message));
  }

  /** Has a callback called with each message that is published after this has resolved. */
  async subscribe(name: string, callback: (message: any) => void, type: Type): Promise<Release> {
    const listener = this.#listener(name, callback, type);
    const channel = this.#channels.get(name) ?? this.#open(name);
    channel.listeners.add(listener);
    const release = async () => {
      if (!channel.listeners.delete(listener) || channel.listeners.size > 0) return;
      if (this.#channels.get(name) === channel) this.#channels.delete(name);
      channel.closing.abort();
    };
    try {
      await channel.started;
    } catch (error) {
      await release();
      throw error;
    }
    return release;
  }

  /** Ends all subscriptions. */
  close(): void {
    for (const channel of this.#channels.values()) {
      channel.listeners.clear();
      channel.closing.abort();
    }
    this.#channels.clear();
  }

  #listener(name: string, callback: (message: any) => void, type: Type): Listener {
    const codec = codecOf(type);
    return (payload) => {
      let message: unknown;
      try {
        message = codec.decode(payload);
      } catch (error) {
        this.#report(unreadable(`a message to channel ${JSON.stringify(name)}`, error), "a subscriber missed it");
        return;
      }
      try {
        // A callback may be asynchronous though its type does not say so.
        const came = callback(message) as unknown;
        if (came instanceof Promise) came.catch((error: unknown) => this.#report(error, subscriberOf(name)));
      } catch (error) {
        this.#report(error, subscriberOf(name));
      }
    };
  }

  #open(name: string): Channel {
    const closing = new AbortController();
    const listeners = new Set<Listener>();
    let first: Promise<Subscription<Uint8Array>> | undefined = this.#begin(name, closing.signal);
    const started = first.then(() => {});
    const channel: Channel = { listeners, closing, started };
    this.#channels.set(name, channel);
    const follow = async () => {
      const subscription = await (first ?? this.#begin(name, closing.signal));
      first = undefined;
      for await (const { message } of subscription) {
        for (const listener of [...listeners]) listener(message);
      }
    };
    // Who subscribes is told when it can't begin; from then on it goes on by itself.
    started.then(
      () => keepDoing(`the subscription to channel ${JSON.stringify(name)}`, closing.signal, this.#report, follow),
      () => this.#channels.get(name) === channel && this.#channels.delete(name),
    );
    return channel;
  }

  #begin(name: string, signal: AbortSignal): Promise<Subscription<Uint8Array>> {
    const onGap = (missed: number | undefined) => {
      if (missed !== undefined) {
        this.#report(new Error(`${missed} messages are missing`), `the subscription to channel ${JSON.stringify(name)}`);
      }
    };
    return this.#bus.subscribe(this.#patterns ? name : escaped(name), {
      signal,
      onGap,
      resumeTimeoutMs: RESUME_TIMEOUT_MS,
    });
  }
}

function subscriberOf(name: string): string {
  return `a subscriber of channel ${JSON.stringify(name)} failed`;
}

/** A name as the pattern that matches it alone. */
export function escaped(name: string): string {
  return name.replaceAll(/[\\*?[\]]/g, "\\$&");
}
