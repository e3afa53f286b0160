/** When to try again: full-jitter back-off, and a budget that keeps retries from becoming the load. */
import { now } from "./time.js";

/** Most a first retry waits: about a round trip, since another node is likely to do better at once. */
const BACKOFF_BASE_MS = 10;
/** Most any retry waits: a fraction of an election, so that its end is noticed soon. */
const BACKOFF_CAP_MS = 500;

/** How long to wait before retry `nth` (from 0): evenly random below a bound that doubles. */
export function backoffMs(nth: number): number {
  return Math.random() * Math.min(BACKOFF_BASE_MS * 2 ** Math.min(nth, 16), BACKOFF_CAP_MS);
}

/** How many retries a client may make beyond its successes. */
export interface RetryBudget {
  /** Retries that may be made at once; covers what is in flight when a leader dies. */
  readonly burst: number;
  /** Retries that are allowed again per second, beside one for every call that succeeds. */
  readonly perSecond: number;
}

/** Two for each of the 1 024 calls a session may have in flight, and 200 per second. */
export const RETRY_BUDGET: RetryBudget = { burst: 2_048, perSecond: 200 };

/** The token bucket behind {@link RetryBudget}. An empty one delays retries; it never fails a call. */
export class Budget {
  readonly #limits: RetryBudget;
  #tokens: number;
  #filledAt = now();

  constructor(limits: RetryBudget) {
    this.#limits = limits;
    this.#tokens = limits.burst;
  }

  /** A call succeeded: one more retry is allowed. */
  deposit(): void {
    this.#tokens = Math.min(this.#tokens + 1, this.#limits.burst);
  }

  /**
   * Takes a token that is there or will be: answers after how many milliseconds the retry may be made.
   * The bucket may owe tokens, so those who wait pass in the order they came.
   */
  withdraw(): number {
    const at = now();
    const refill = ((at - this.#filledAt) * this.#limits.perSecond) / 1_000;
    this.#tokens = Math.min(this.#tokens + refill, this.#limits.burst);
    this.#filledAt = at;
    this.#tokens -= 1;
    if (this.#tokens >= 0) return 0;
    return this.#limits.perSecond > 0 ? (-this.#tokens * 1_000) / this.#limits.perSecond : Infinity;
  }

  /** Gives back what was taken and not used. */
  giveBack(): void {
    this.deposit();
  }
}
