/** Locks as the framework asks for them. */
import { setMaxListeners } from "node:events";
import { BrokerLockError, type BrokerAdapterLock, type BrokerTimeOptionsResolved, type Release } from "@deepkit/broker";
import { ClosedError, NotAcquiredError, type Client, type HeldLock, type Lock } from "@quorate/client";

/** The shortest lease of the cluster. */
const LEASE_MIN_MS = 100;
/** The longest one. */
const LEASE_MAX_MS = 3_600_000;
/** What is renewed has a lease of so long. */
const RENEWED_LEASE_MS = 30_000;
/** The longest wait, for those that have no timeout: a day. */
const WAIT_MAX_MS = 86_400_000;
/** The longest a timer of Node.js waits. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/**
 * Granted in the order they are asked for. A lock is free again when it is released, when its ttl is over,
 * whether its holder still works or not, and when its holder's process is gone for the session's ttl.
 */
export class LockService implements Omit<BrokerAdapterLock, "disconnect" | "logger"> {
  readonly #lock: Lock;
  readonly #holds = new Set<HeldLock>();
  readonly #closing = new AbortController();

  constructor(client: Client) {
    this.#lock = client.lock;
    // Each call that waits listens to it, and there may be many.
    setMaxListeners(0, this.#closing.signal);
  }

  /** Waits for a lock. @throws {BrokerLockError} with the word timeout when that was in vain. */
  async lock(id: string, options: BrokerTimeOptionsResolved): Promise<Release> {
    const waitMs = options.timeout > 0 ? Math.min(options.timeout, WAIT_MAX_MS) : WAIT_MAX_MS;
    const { signal } = this.#closing;
    try {
      return this.#held(await this.#lock.acquire(id, { ...leaseOf(options.ttl), waitMs, signal }), options.ttl);
    } catch (error) {
      if (!(error instanceof NotAcquiredError)) throw error;
      const text = `timeout: lock ${JSON.stringify(id)} was not granted within ${waitMs} ms`;
      throw Object.assign(new BrokerLockError(text), { cause: error });
    }
  }

  /** Takes a lock if it is free. */
  async tryLock(id: string, options: BrokerTimeOptionsResolved): Promise<Release | undefined> {
    const held = await this.#lock.tryAcquire(id, { ...leaseOf(options.ttl), signal: this.#closing.signal });
    return held && this.#held(held, options.ttl);
  }

  /** Whether anybody holds it, this process included. */
  async isLocked(id: string): Promise<boolean> {
    return (await this.#lock.inspect(id)).holders.length > 0;
  }

  /**
   * Ends what waits, and gives back all that is held. What can't be given back now is free when its lease
   * is over.
   */
  async close(): Promise<void> {
    this.#closing.abort(new ClosedError("the adapter was disconnected"));
    await Promise.allSettled([...this.#holds].map((held) => held.release()));
  }

  /** What gives it back, also by itself where the cluster's leases can't be of that length. */
  #held(held: HeldLock, ttl: number): Release {
    this.#holds.add(held);
    const forget = () => void this.#holds.delete(held);
    held.signal.addEventListener("abort", forget, { once: true });
    let timer: NodeJS.Timeout | undefined;
    if (ttl > 0 && (ttl < LEASE_MIN_MS || ttl > LEASE_MAX_MS)) {
      // When it can't be given back now its lease does it.
      const over = () => void held.release().then(forget, forget);
      timer = setTimeout(over, Math.min(ttl, TIMER_MAX_MS)).unref();
    }
    return async () => {
      clearTimeout(timer);
      await held.release();
      forget();
    };
  }
}

/** The lease for a ttl: itself and not renewed, where the cluster has leases of that length. */
function leaseOf(ttl: number): { ttlMs: number; renew: boolean } {
  const fits = ttl > 0 && ttl <= LEASE_MAX_MS;
  return fits ? { ttlMs: Math.max(ttl, LEASE_MIN_MS), renew: false } : { ttlMs: RENEWED_LEASE_MS, renew: true };
}
