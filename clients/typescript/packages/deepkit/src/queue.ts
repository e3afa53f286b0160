/** The task queue as the framework asks for it. */
import { createHash } from "node:crypto";
import {
  BrokerQueueMessage,
  QueueMessageProcessing,
  type BrokerAdapterQueue,
  type BrokerAdapterQueueProduceOptionsResolved,
  type Release,
} from "@deepkit/broker";
import type { Type } from "@deepkit/type";
import {
  InvalidArgumentError,
  type Client,
  type Codec,
  type Consumer,
  type Consumption,
  type Job,
  type Queue,
  type QueueSettings,
} from "@quorate/client";
import { CONTENT_TYPE, codecOf, type TypeCodec } from "./codec.js";
import { Deliveries } from "./delivery.js";
import { unreadable } from "./key-value.js";
import type { Report } from "./report.js";

/** The highest priority of the cluster. */
const PRIORITY_MAX = 255;
/** The longest key that the cluster takes for keeping duplicates away, in bytes; a longer one is hashed. */
const DEDUPE_KEY_MAX = 64;

/** Bytes that say what they are. */
const bson: Codec<Uint8Array> = { contentType: CONTENT_TYPE, encode: (bytes) => bytes, decode: (bytes) => bytes };

/** How the queues of an adapter work; see {@link QuorateBrokerOptions}. */
export interface QueueServiceOptions {
  readonly settings: QueueSettings | ((queue: string) => QueueSettings | undefined) | undefined;
  readonly deliveryWaitMs: number;
}

/**
 * Jobs are stored before `produce` resolves, shared among all consumers, and delivered until one of them
 * has handled each: at least once, since a consumer that dies may have done its work.
 */
export class QueueService implements Omit<BrokerAdapterQueue, "disconnect" | "logger"> {
  readonly #queue: Queue<Uint8Array>;
  readonly #options: QueueServiceOptions;
  readonly #report: Report;
  readonly #deliveries = new Deliveries();
  readonly #consumptions = new Set<Consumption>();
  readonly #declared = new Map<string, Promise<void>>();

  constructor(client: Client, options: QueueServiceOptions, report: Report) {
    this.#queue = client.queue.withCodec(bson);
    this.#options = options;
    this.#report = report;
  }

  /**
   * Stores a job. When a consumer of this adapter is free and is assigned the job, its callback has been
   * called when this resolves; that is waited for at most `deliveryWaitMs`.
   */
  async produce(
    name: string,
    message: unknown,
    type: Type,
    options?: BrokerAdapterQueueProduceOptionsResolved,
  ): Promise<void> {
    const payload = codecOf(type).encode(message);
    const { delay = 0, priority = 0 } = options ?? {};
    if (!Number.isInteger(priority) || priority < 0 || priority > PRIORITY_MAX) {
      const text = `queue produce: priority is ${priority}; it must be a whole number from 0 to ${PRIORITY_MAX}`;
      throw new InvalidArgumentError("BAD_OPTION", text);
    }
    await this.#declare(name);
    const pushed = await this.#queue.add(name, payload, {
      ...(delay > 0 ? { delayMs: delay } : {}),
      priority,
      ...dedupeOf(payload, options),
    });
    if (delay > 0 || pushed.duplicate) return;
    await this.#untilDelivered(name, pushed.id);
  }

  /** Has a callback called with jobs, up to `maxParallel` at a time; resolves when they can come. */
  async consume(
    name: string,
    callback: (message: BrokerQueueMessage<any>) => Promise<void>,
    options: { maxParallel: number },
    type: Type,
  ): Promise<Release> {
    const codec = codecOf(type);
    await this.#declare(name);
    const { maxParallel } = options;
    const end = this.#deliveries.consumerOf(name, maxParallel);
    let consumer: Consumer<Uint8Array>;
    let consumption: Consumption;
    try {
      consumer = await this.#queue.subscribe(name, { maxParallel });
      consumption = consumer.subscribe((job) => this.#handle(name, job, codec, callback));
      await consumption.started;
    } catch (error) {
      end();
      throw error;
    }
    this.#consumptions.add(consumption);
    const ended = () => {
      end();
      this.#consumptions.delete(consumption);
    };
    // What ends it by itself is told by the client.
    consumption.done.then(ended, ended);
    return async () => {
      end();
      // Not for what is being handled: it may be a handler who releases its consumer.
      await consumer.unsubscribe();
    };
  }

  /** Takes no more jobs, and waits for those that are being handled. */
  async close(): Promise<void> {
    await Promise.all([...this.#consumptions].map((consumption) => consumption.stop()));
  }

  /** One job: has it handled, and says what became of it. */
  async #handle(
    name: string,
    job: Job<Uint8Array>,
    codec: TypeCodec,
    callback: (message: BrokerQueueMessage<any>) => Promise<void>,
  ): Promise<void> {
    let message: BrokerQueueMessage<unknown>;
    try {
      message = new BrokerQueueMessage<unknown>(name, codec.decode(job.payload));
    } catch (error) {
      const why = unreadable(`job ${job.id} of queue ${JSON.stringify(name)}`, error);
      this.#report(why, "a consumer could not read a job; it is tried again, and then a dead letter");
      await job.nack({ error: why.message });
      return;
    }
    message.tries = job.attempt - 1;
    const done = this.#deliveries.handOut(name, job.id);
    try {
      const handling = callback(message);
      this.#deliveries.handedOut(name);
      await handling;
    } catch (error) {
      // The framework's channels catch what their consumers throw; who uses the adapter itself may not.
      message.failed(error instanceof Error ? error : new Error(String(error)));
    } finally {
      this.#deliveries.handedOut(name);
      done();
    }
    const delayMs = message.delayed > 0 ? { delayMs: message.delayed * 1_000 } : {};
    if (message.state === "failed") {
      const { error } = message as { error?: unknown };
      this.#report(error ?? new Error("it said so"), `a consumer of queue ${JSON.stringify(name)} failed at job ${job.id}`);
      await job.nack({ ...delayMs, error: error instanceof Error ? error.message : String(error ?? "") });
    } else if (message.delayed > 0) {
      await job.nack(delayMs);
    } else {
      await job.ack();
    }
  }

  async #untilDelivered(name: string, id: string): Promise<void> {
    const { deliveryWaitMs } = this.#options;
    if (deliveryWaitMs <= 0 || !this.#deliveries.hasRoom(name)) return;
    const elsewhere = new AbortController();
    // Where it is tells for how long it is worth waiting.
    const asked = this.#queue.getJob(name, id, { signal: elsewhere.signal }).then(
      (job) => {
        if (job?.state === "ready") return;
        // Leased: to this process, and then it is about to come; or to another one.
        if (job?.state === "leased") setTimeout(() => elsewhere.abort(), deliveryWaitMs / 5).unref();
        else elsewhere.abort();
      },
      () => {},
    );
    await this.#deliveries.seen(name, id, deliveryWaitMs, elsewhere.signal);
    elsewhere.abort();
    await asked;
  }

  /** Has a queue work as it is asked for, once. */
  #declare(name: string): Promise<void> {
    const { settings } = this.#options;
    if (settings === undefined) return Promise.resolve();
    const known = this.#declared.get(name);
    if (known !== undefined) return known;
    const asked = typeof settings === "function" ? settings(name) : settings;
    const declared = asked === undefined ? Promise.resolve() : this.#queue.declare(name, asked).then(() => {});
    this.#declared.set(name, declared);
    declared.catch(() => this.#declared.delete(name));
    return declared;
  }
}

/** Under which name, and for how long, a job keeps others like it away. */
function dedupeOf(payload: Uint8Array, options: BrokerAdapterQueueProduceOptionsResolved | undefined) {
  if (options?.process !== QueueMessageProcessing.exactlyOnce || !(options.deduplicationInterval > 0)) return {};
  const { hash, deduplicationInterval: dedupeWindowMs } = options;
  // Without a hash it is that of the BSON, as in the framework; but of 256 bits, where the framework's 32
  // would have some job in billions taken for another one, and thrown away.
  if (hash === undefined) return { dedupeKey: digest(payload), dedupeWindowMs };
  // The number 1 and the text "1" are different ones.
  const key = new TextEncoder().encode(`${typeof hash === "number" ? "n" : "s"}:${hash}`);
  return { dedupeKey: key.length > DEDUPE_KEY_MAX ? digest(key) : key, dedupeWindowMs };
}

function digest(bytes: Uint8Array): Uint8Array {
  return createHash("sha256").update(bytes).digest();
}
