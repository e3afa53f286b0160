/** What the tests share: waiting for events, errors as values, and random numbers that can be repeated. */
import assert from "node:assert/strict";
import { QuorateError } from "@quorate/client";

/** Far above what anything here takes, so that a busy machine fails no test. */
export const DEADLINE_MS = 60_000;

/** A promise, and what settles it. */
export class Deferred<T = void> {
  readonly promise: Promise<T>;
  resolve!: (value: T) => void;
  reject!: (error: unknown) => void;

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }
}

/** The promise, or an error that says what was waited for in vain. */
export async function soon<T>(what: string, promise: Promise<T>, deadlineMs = DEADLINE_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${deadlineMs} ms for ${what}`)), deadlineMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits until something holds that nobody tells of. */
export async function eventually(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const until = Date.now() + DEADLINE_MS;
  while (!(await holds())) {
    if (Date.now() > until) throw new Error(`after ${DEADLINE_MS} ms it does not hold that ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** The error that a promise rejects with: of this class, for this reason, with a message that has this. */
export async function failure<E extends Error>(
  promise: Promise<unknown>,
  kind: abstract new (...args: never[]) => E,
  reason?: string,
  message?: RegExp,
): Promise<E> {
  let came: unknown;
  try {
    came = await soon("a failure", promise);
  } catch (error) {
    assert.ok(error instanceof kind, `expected ${kind.name}, not ${String(error)}`);
    if (reason !== undefined) assert.equal((error as unknown as QuorateError).reason, reason, error.message);
    if (message !== undefined) assert.match(error.message, message);
    return error;
  }
  throw new assert.AssertionError({ message: `expected ${kind.name}, but it came to ${JSON.stringify(came)}` });
}

/** Random numbers from a seed, which is in the name of whatever fails: `QUORATE_TEST_SEED` repeats it. */
export class Dice {
  readonly seed: number;
  #state: number;

  constructor(seed = Number(process.env["QUORATE_TEST_SEED"] ?? Math.floor(Math.random() * 2 ** 31))) {
    this.seed = seed;
    this.#state = seed;
  }

  /** From 0 to below 1 (mulberry32). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  below(bound: number): number {
    return Math.floor(this.next() * bound);
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }
}

/** Runs a property many times, each with a seed of its own, which is printed when it does not hold. */
export function property(rounds: number, holds: (dice: Dice) => void): void {
  const { seed } = new Dice();
  for (let round = 0; round < rounds; round++) {
    const dice = new Dice(seed + round);
    try {
      holds(dice);
    } catch (error) {
      console.error(`it does not hold for QUORATE_TEST_SEED=${dice.seed}`);
      throw error;
    }
  }
}
