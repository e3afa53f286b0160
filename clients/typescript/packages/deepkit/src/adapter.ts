/** The adapter: all five services of the framework's broker over one client. */
import type {
  BrokerAdapter,
  BrokerAdapterQueueProduceOptionsResolved,
  BrokerCacheItemOptionsResolved,
  BrokerQueueMessage,
  BrokerTimeOptionsResolved,
  Release,
} from "@deepkit/broker";
import { Logger, LoggerLevel } from "@deepkit/logger";
import type { Type } from "@deepkit/type";
import { Client, InvalidArgumentError, bytes, type Cache, type ClientOptions, type QueueSettings } from "@quorate/client";
import { BusService } from "./bus.js";
import { CacheService } from "./cache.js";
import { KeyValueService } from "./key-value.js";
import { LockService } from "./lock.js";
import { QueueService } from "./queue.js";
import type { Report } from "./report.js";

/** The namespace when nothing is said. */
const NAMESPACE = "deepkit";
/** How long `produce` waits for a consumer of its own process when nothing is said. */
const DELIVERY_WAIT_MS = 100;

/** What an adapter is made of: where the cluster is, as for {@link Client}, and how the services work. */
export interface QuorateBrokerOptions extends Omit<ClientOptions, "codec" | "onError" | "oneShot"> {
  /** Where all keys, queues, locks and channels of this adapter are. Default: `deepkit`. */
  readonly namespace?: string | undefined;
  /** A client that is used instead of one of its own; it is not closed with the adapter. */
  readonly client?: Client | undefined;
  /** Takes names of channels that are subscribed to as patterns: `user.*`. Default: names are exact. */
  readonly patterns?: boolean | undefined;
  /** How queues work, of all or by name: attempts, back-off, dead letters. Default: as the cluster has it. */
  readonly queueSettings?: QueueSettings | ((queue: string) => QueueSettings | undefined) | undefined;
  /**
   * The longest that `produce` waits for a free consumer of the same adapter to have begun with the job, in
   * milliseconds; 0: not at all. Default: 100.
   */
  readonly deliveryWaitMs?: number | undefined;
  /**
   * Told of what goes wrong where no caller waits: a consumer or subscriber that throws, a message that is
   * not of its type, a stream that is still cut off. Default: `console.error`.
   */
  readonly onError?: Report | undefined;
}

/**
 * Quorate as the broker of a Deepkit application.
 *
 * ```ts
 * const adapter = new QuorateBrokerAdapter({ endpoints: ["10.0.0.1:8811", "10.0.0.2:8811", "10.0.0.3:8811"] });
 * const queue = new BrokerQueue(adapter);
 * ```
 *
 * It connects when it is first used. Call {@link QuorateBrokerAdapter.disconnect} when it is done with: its
 * connections keep the process alive.
 */
export class QuorateBrokerAdapter implements BrokerAdapter {
  /** Where the framework says what it could not publish or subscribe to: that is told to `onError`. */
  readonly logger: Logger;
  /** @internal */
  readonly cacheClient: Cache<Uint8Array>;
  readonly #client: Client;
  readonly #owned: boolean;
  readonly #bus: BusService;
  readonly #cache: CacheService;
  readonly #keyValue: KeyValueService;
  readonly #lock: LockService;
  readonly #queue: QueueService;
  #disconnecting: Promise<void> | undefined;

  constructor(options: QuorateBrokerOptions = {}) {
    const { client, namespace = NAMESPACE, patterns = false, queueSettings, onError, ...clientOptions } = options;
    const { deliveryWaitMs = DELIVERY_WAIT_MS, ...connection } = clientOptions;
    if (!(deliveryWaitMs >= 0)) {
      throw new InvalidArgumentError("BAD_OPTION", `deliveryWaitMs is ${deliveryWaitMs}; it must be a number from 0`);
    }
    const report = safely(onError ?? ((error, where) => console.error(`quorate: ${where}:`, error)));
    this.logger = loggerOf(report);
    this.#owned = client === undefined;
    this.#client = client ?? new Client({ ...connection, onError: report });
    const place = this.#client.namespace(namespace);
    this.#bus = new BusService(place, patterns, report);
    this.cacheClient = place.cache.withCodec(bytes);
    this.#cache = new CacheService(place, report);
    this.#keyValue = new KeyValueService(place);
    this.#lock = new LockService(place);
    this.#queue = new QueueService(place, { settings: queueSettings, deliveryWaitMs }, report);
  }

  /**
   * Ends subscriptions and consumers (jobs that are being handled are waited for), gives locks back, and
   * closes the connections, unless the client was given. Later calls fail with `ClosedError` then. Doing it
   * again does nothing.
   */
  disconnect(): Promise<void> {
    this.#disconnecting ??= this.#disconnect();
    return this.#disconnecting;
  }

  async #disconnect(): Promise<void> {
    this.#bus.close();
    this.#cache.close();
    // Consumers first: what they handle may need its locks.
    await this.#queue.close();
    await this.#lock.close();
    if (this.#owned) await this.#client.close();
  }

  // Bus

  publish(name: string, message: any, type: Type): Promise<void> {
    return this.#bus.publish(name, message, type);
  }

  subscribe(name: string, callback: (message: any) => void, type: Type): Promise<Release> {
    return this.#bus.subscribe(name, callback, type);
  }

  // Queue

  produce(
    name: string,
    message: any,
    type: Type,
    options?: BrokerAdapterQueueProduceOptionsResolved,
  ): Promise<void> {
    return this.#queue.produce(name, message, type, options);
  }

  consume(
    name: string,
    callback: (message: BrokerQueueMessage<any>) => Promise<void>,
    options: { maxParallel: number },
    type: Type,
  ): Promise<Release> {
    return this.#queue.consume(name, callback, options, type);
  }

  // Lock

  lock(id: string, options: BrokerTimeOptionsResolved): Promise<undefined | Release> {
    return this.#lock.lock(id, options);
  }

  tryLock(id: string, options: BrokerTimeOptionsResolved): Promise<undefined | Release> {
    return this.#lock.tryLock(id, options);
  }

  isLocked(id: string): Promise<boolean> {
    return this.#lock.isLocked(id);
  }

  // Cache

  getCache(key: string, type: Type): Promise<{ value: any; ttl: number } | undefined> {
    return this.#cache.getCache(key, type);
  }

  getCacheMeta(key: string): Promise<{ ttl: number } | undefined> {
    return this.#cache.getCacheMeta(key);
  }

  setCache(key: string, value: any, options: BrokerCacheItemOptionsResolved, type: Type): Promise<void> {
    return this.#cache.setCache(key, value, options, type);
  }

  invalidateCache(key: string): Promise<void> {
    return this.#cache.invalidateCache(key);
  }

  onInvalidateCache(callback: (key: string) => void): void {
    this.#cache.onInvalidateCache(callback);
  }

  // Key-value

  get(key: string, type: Type): Promise<any> {
    return this.#keyValue.get(key, type);
  }

  set(key: string, value: any, options: { ttl: number }, type: Type): Promise<void> {
    return this.#keyValue.set(key, value, options, type);
  }

  remove(key: string): Promise<void> {
    return this.#keyValue.remove(key);
  }

  increment(key: string, value: number): Promise<number> {
    return this.#keyValue.increment(key, value);
  }
}

/** One that never throws: what it was to be told is about a defect already. */
function safely(report: Report): Report {
  return (error, where) => {
    try {
      report(error, where);
    } catch {
      // Nobody is left to be told.
    }
  };
}

/** A logger of the framework's whose errors are told to `report`. */
function loggerOf(report: Report): Logger {
  return new Logger([
    {
      write: ({ level, rawMessage }) => {
        if (level <= LoggerLevel.error) report(new Error(rawMessage), "the framework");
      },
      supportsColor: () => false,
    },
  ]);
}
