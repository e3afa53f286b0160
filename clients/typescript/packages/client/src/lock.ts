/** Locks: taken in order, renewed by themselves, and known to be lost before another can have them. */
import { create } from "@bufbuild/protobuf";
import "./dispose.js";
import type { Place } from "./client.js";
import { checkedText } from "./codec.js";
import { LockLostError, NotAcquiredError, UnavailableError, badOption } from "./errors.js";
import { Failed, isSessionLost, toError } from "./failure.js";
import {
  LockAcquireRequestSchema,
  LockCancelRequestSchema,
  LockForceReleaseRequestSchema,
  LockInspectRequestSchema,
  LockMode,
  LockReleaseRequestSchema,
  LockRenewRequestSchema,
  type LockAcquireResponse,
} from "./gen/quorate/v1/lock_pb.js";
import { Consistency } from "./gen/quorate/v1/kv_pb.js";
import { millis, told, waiting, type CallOptions, type Guard } from "./inner.js";
import type { Plan } from "./engine.js";
import type { Ticket } from "./session.js";
import { later, now } from "./time.js";

/** The lease when nothing is said. */
const TTL_MS = 30_000;
/** How long to wait when nothing is said. */
const WAIT_MS = 10_000;
/** The longest wait: a day. */
const WAIT_MAX_MS = 86_400_000;
/** How long a request that was given up is tried to be cancelled. */
const CANCEL_MS = 10_000;
/** Sessions that one call may lose before it is sent. */
const SESSIONS_LOST_MAX = 3;

export interface AcquireOptions extends CallOptions {
  /** How long to wait for it, in milliseconds; 0: take it now or not at all. Default: 10 s. */
  readonly waitMs?: number | undefined;
  /** Its lease, 100 ms to 1 h, which is renewed for as long as this process lives. Default: 30 s. */
  readonly ttlMs?: number | undefined;
  /** Whether it is renewed; otherwise it is lost when its lease is over. Default: true. */
  readonly renew?: boolean | undefined;
  /** Shared with others that ask so: a read lock. */
  readonly shared?: boolean | undefined;
  /** A semaphore: so many may hold it at a time, all of whom ask for this number. */
  readonly permits?: number | undefined;
}

/** Who holds a lock. */
export interface LockHolder {
  readonly fencingToken: number;
  readonly sessionId: string;
  readonly ttlMs: number;
}

/** A lock as it is now. */
export interface LockState {
  readonly holders: readonly LockHolder[];
  readonly waiters: number;
}

/**
 * The locks of one namespace. They are given in the order they were asked for, also across nodes that
 * fail. They are not reentrant: who asks for a lock twice waits for itself.
 *
 * ```ts
 * await lock.acquire("report", 10); // waits up to 10 seconds
 * try {
 *   await work();
 * } finally {
 *   await lock.release("report");
 * }
 * ```
 *
 * Or, with what {@link HeldLock} gives: `await using held = await lock.acquire("report", 10);`
 */
export class Lock {
  readonly #place: Place;
  /** What was acquired here and not given back, by name, in the order it was acquired. */
  readonly #held: Map<string, HeldLock[]>;

  /** @internal */
  constructor(place: Place) {
    this.#place = place;
    this.#held = new Map();
  }

  /**
   * Takes a lock, or waits for it. A number is how long to wait, in SECONDS.
   *
   * @throws {NotAcquiredError} when the wait was in vain (the message has the word timeout). Nothing is
   *   held then, and nothing waits any more.
   */
  async acquire(name: string, wait: number | AcquireOptions = {}): Promise<HeldLock> {
    const options = typeof wait === "number" ? { waitMs: wait * 1_000 } : wait;
    const held = await acquire(this.#place, name, options, (gone) => this.#forget(gone));
    const list = this.#held.get(name) ?? [];
    list.push(held);
    this.#held.set(name, list);
    return held;
  }

  /** Takes a lock if it is free; `undefined` when somebody else has it. */
  async tryAcquire(name: string, options: Omit<AcquireOptions, "waitMs"> = {}): Promise<HeldLock | undefined> {
    try {
      return await this.acquire(name, { ...options, waitMs: 0 });
    } catch (error) {
      if (error instanceof NotAcquiredError) return undefined;
      throw error;
    }
  }

  /**
   * Gives back what this object holds under a name, the oldest if it is several; whether there was
   * something. Releasing what is not held does nothing.
   */
  async release(name: string): Promise<boolean> {
    const held = this.#held.get(name)?.[0];
    return held === undefined ? false : held.release();
  }

  /** Runs a function while the lock is held; its signal is raised when the lock is lost. */
  async run<T>(name: string, work: (held: HeldLock) => Promise<T> | T, wait: number | AcquireOptions = {}): Promise<T> {
    const held = await this.acquire(name, wait);
    try {
      return await work(held);
    } finally {
      await held.release();
    }
  }

  /** Who holds a lock, and how many wait for it. */
  async inspect(name: string, options: CallOptions = {}): Promise<LockState> {
    const { inner, namespace } = this.#place;
    const request = create(LockInspectRequestSchema, { namespace, name, consistency: Consistency.LINEARIZABLE });
    const { lock } = await inner.read("lock inspect", options, "lockInspect", () => request);
    return {
      holders: (lock?.holders ?? []).map(({ fencingToken, sessionId, ttlMs }) => ({
        fencingToken: Number(fencingToken),
        sessionId: String(sessionId),
        ttlMs: Number(ttlMs),
      })),
      waiters: Number(lock?.waiters ?? 0n),
    };
  }

  /** Takes a lock from all its holders: for operators, when a holder hangs. Answers how many there were. */
  async forceRelease(name: string, options: CallOptions = {}): Promise<number> {
    const { inner, namespace } = this.#place;
    const request = create(LockForceReleaseRequestSchema, { namespace, name });
    const answer = await inner.mutate("lock forceRelease", namespace, options, "lockForceRelease", (origin) => ({
      ...request,
      origin,
    }));
    return Number(answer.released);
  }

  #forget(gone: HeldLock): void {
    const rest = (this.#held.get(gone.name) ?? []).filter((held) => held !== gone);
    if (rest.length > 0) this.#held.set(gone.name, rest);
    else this.#held.delete(gone.name);
  }
}

/**
 * A lock that is held. It is renewed in the background; {@link HeldLock.signal} is raised when it is
 * lost, by this process's clock and so before the cluster gives it to another, even if this process was
 * stopped meanwhile: then as soon as it runs again. What was begun before may then still be on its way;
 * only {@link HeldLock.guard} keeps that from having an effect.
 */
export class HeldLock {
  readonly name: string;
  /** Larger than that of every earlier grant. */
  readonly fencingToken: number;
  /** When it was granted. */
  readonly revision: number;
  readonly #place: Place;
  readonly #lost = new AbortController();
  readonly #forget: (gone: HeldLock) => void;
  readonly #undoClose: () => void;
  #expiresAt: number;
  #renewal: NodeJS.Timeout | undefined;
  #expiry: NodeJS.Timeout | undefined;
  #released: Promise<boolean> | undefined;

  /** @internal */
  constructor(
    place: Place,
    name: string,
    granted: LockAcquireResponse,
    expiresAt: number,
    renews: boolean,
    forget: (gone: HeldLock) => void,
  ) {
    this.#place = place;
    this.name = name;
    this.fencingToken = Number(granted.fencingToken);
    this.revision = Number(granted.revision);
    this.#expiresAt = expiresAt;
    this.#forget = forget;
    this.#undoClose = place.inner.onClose(async () => void (await this.release()));
    const every = Math.max(expiresAt - now(), 0) / 3;
    if (renews) this.#renewAt(now() + every, every);
    this.#watchExpiry();
  }

  /** Raised when it is lost; its reason is a {@link LockLostError}. Not raised by a release. */
  get signal(): AbortSignal {
    this.#look();
    return this.#lost.signal;
  }

  /** Whether it is lost, or was given back. */
  get isLost(): boolean {
    this.#look();
    return this.#lost.signal.aborted || this.#released !== undefined;
  }

  /** Milliseconds for which it is certainly held without another renewal. */
  get remainingMs(): number {
    return this.isLost ? 0 : Math.max(this.#expiresAt - now(), 0);
  }

  /** Goes along with mutations: the cluster refuses them once the lock has passed on. */
  get guard(): Guard {
    return { name: this.name, fencingToken: this.fencingToken };
  }

  /** Gives it back; whether it was still held. Doing it again does nothing, unless it failed. */
  release(): Promise<boolean> {
    this.#released ??= this.#release().catch((error: unknown) => {
      this.#released = undefined;
      throw error;
    });
    return this.#released;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release();
  }

  async #release(): Promise<boolean> {
    this.#end();
    if (this.#lost.signal.aborted) return false;
    const { inner, namespace } = this.#place;
    const request = create(LockReleaseRequestSchema, {
      namespace,
      name: this.name,
      fencingToken: BigInt(this.fencingToken),
    });
    const answer = await inner.mutate("lock release", namespace, {}, "lockRelease", (origin) => ({
      ...request,
      origin,
    }));
    return answer.released;
  }

  #end(): void {
    clearTimeout(this.#renewal);
    clearTimeout(this.#expiry);
    this.#undoClose();
    this.#forget(this);
  }

  #lose(): void {
    if (this.#lost.signal.aborted || this.#released !== undefined) return;
    this.#end();
    const text = `lock ${JSON.stringify(this.name)} is lost: it was not renewed in time, or was taken away`;
    this.#lost.abort(new LockLostError("LOCK_LOST", text));
  }

  /** This process may have been stopped, and no timer has said so yet. */
  #look(): void {
    if (now() >= this.#expiresAt) this.#lose();
  }

  #watchExpiry(): void {
    clearTimeout(this.#expiry);
    this.#expiry = later(this.#expiresAt - now(), () => {
      if (now() >= this.#expiresAt) this.#lose();
      else this.#watchExpiry();
    });
  }

  #renewAt(at: number, every: number): void {
    this.#renewal = later(at - now(), () => void this.#renew(every));
  }

  async #renew(every: number): Promise<void> {
    this.#look();
    if (this.isLost) return;
    const sentAt = now();
    const deadline = Math.min(this.#expiresAt, sentAt + every);
    let next: number;
    try {
      const leftMs = await renew(this.#place, this.name, BigInt(this.fencingToken), deadline);
      // This process was stopped meanwhile, and somebody may have looked: what is lost stays lost.
      this.#look();
      if (this.isLost) return;
      this.#expiresAt = Math.max(this.#expiresAt, sentAt + leftMs);
      this.#watchExpiry();
      every = leftMs / 3;
      next = sentAt + every;
    } catch (error) {
      if (error instanceof Failed && error.failure.reason === "LOCK_LOST") return this.#lose();
      // Not at once: an answer that is no success may have come without delay.
      next = now() + every / 8;
    }
    if (!this.isLost) this.#renewAt(next, every);
  }
}

/** Renews a lock; answers for how long it is held, in milliseconds from when this was called. */
async function renew(place: Place, name: string, token: bigint, deadline: number): Promise<number> {
  const { inner, namespace } = place;
  const { engine } = inner;
  const plan: Plan = { what: "lock renew", effect: "read", deadline, attemptTimeoutMs: engine.attemptTimeoutMs };
  const request = create(LockRenewRequestSchema, { namespace, name, fencingToken: token });
  return Number((await engine.call(plan, "lockRenew", () => request)).ttlMs);
}

async function acquire(
  place: Place,
  name: string,
  options: AcquireOptions,
  forget: (gone: HeldLock) => void,
): Promise<HeldLock> {
  const { inner, namespace } = place;
  const { engine } = inner;
  const waitMs = options.waitMs ?? WAIT_MS;
  checkedText("the lock's name", name);
  if (options.shared && options.permits !== undefined) {
    throw badOption("lock acquire: shared and permits exclude each other");
  }
  const mode = options.shared ? LockMode.SHARED : options.permits === undefined ? LockMode.EXCLUSIVE : LockMode.PERMIT;
  const request = create(LockAcquireRequestSchema, {
    namespace,
    name,
    ttlMs: millis("ttlMs", options.ttlMs ?? TTL_MS),
    waitMs: millis("the wait", waitMs),
    mode,
    permits: options.permits ?? 0,
  });
  const plan = inner.plan("lock acquire", "once", options);
  const patient = waiting(plan, Math.min(waitMs, WAIT_MAX_MS));
  const cell = inner.cell(namespace);
  for (let sessionsLost = 1; ; sessionsLost++) {
    let ticket: Ticket;
    try {
      ticket = await cell.ticket(engine, plan);
    } catch (error) {
      throw told(error);
    }
    const sentAt = now();
    try {
      const granted = await engine.call(patient, "lockAcquire", () => ({ ...request, origin: ticket.origin() }));
      return await take(place, name, granted, ticket, sentAt, options.renew ?? true, forget);
    } catch (error) {
      if (!(error instanceof Failed)) {
        // Given up by a signal, or with the client: what it may have been granted is given back.
        void cancel(place, ticket).catch(() => {});
        throw error;
      }
      const { failure } = error;
      if (isSessionLost(failure) && !failure.maybeApplied) {
        ticket.session.lose();
        ticket.done();
        if (sessionsLost >= SESSIONS_LOST_MAX) throw toError(failure);
        continue;
      }
      if (!failure.maybeApplied) {
        ticket.done();
        throw toError(failure);
      }
      try {
        await cancel(place, ticket);
      } catch {
        throw toError(failure);
      }
      if (failure.reason !== "LOCK_WAITING") {
        throw new UnavailableError(failure.reason, `${failure.message}; the request was withdrawn`);
      }
      throw new NotAcquiredError(
        "LOCK_WAIT_TIMEOUT",
        `timeout: lock ${JSON.stringify(name)} was not granted in time, and is not held; the request was withdrawn`,
      );
    }
  }
}

/** Makes a lock of a grant. One that was waited for has begun some time before its answer. */
async function take(
  place: Place,
  name: string,
  granted: LockAcquireResponse,
  ticket: Ticket,
  sentAt: number,
  renews: boolean,
  forget: (gone: HeldLock) => void,
): Promise<HeldLock> {
  const ttlMs = Number(granted.ttlMs);
  let expiresAt = Math.min(sentAt + ttlMs, ticket.session.expiresAt);
  const renewedAt = now();
  if (expiresAt < renewedAt + (ttlMs * 2) / 3) {
    try {
      expiresAt = renewedAt + (await renew(place, name, granted.fencingToken, renewedAt + ttlMs));
    } catch (error) {
      // Lost while nobody could know that it was held.
      await cancel(place, ticket).catch(() => {});
      throw told(error);
    }
  }
  let held: HeldLock;
  try {
    held = new HeldLock(place, name, granted, expiresAt, renews, forget);
  } catch (error) {
    await cancel(place, ticket).catch(() => {});
    throw error;
  }
  // The answer has come, so its number is free.
  ticket.done();
  return held;
}

/** Withdraws a request. Doing it again does no harm, so it is as safe as a read. */
async function cancel(place: Place, ticket: Ticket): Promise<void> {
  const { inner, namespace } = place;
  const { engine } = inner;
  const deadline = now() + CANCEL_MS;
  const plan: Plan = { what: "lock cancel", effect: "read", deadline, attemptTimeoutMs: engine.attemptTimeoutMs };
  try {
    await engine.call(plan, "lockCancel", () =>
      create(LockCancelRequestSchema, {
        namespace,
        sessionId: ticket.session.id,
        sequence: BigInt(ticket.sequence),
      }),
    );
  } finally {
    ticket.done();
  }
}
