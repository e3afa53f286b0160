/** What the handles of a client share: how reads and mutations are made and named. */
import { create } from "@bufbuild/protobuf";
import { ClosedError, InvalidArgumentError, ResourceExhaustedError, badOption, type QuorateError } from "./errors.js";
import { checkedText } from "./codec.js";
import type { AnswerOf, Effect, Engine, Plan, RequestOf } from "./engine.js";
import { Failed, isSessionLost, toError } from "./failure.js";
import { LockGuardSchema, OriginSchema, type Origin } from "./gen/quorate/v1/kv_pb.js";
import type { Request } from "./pipe.js";
import { SessionCell, uniqueKey } from "./session.js";
import { now } from "./time.js";

/**
 * The longest a call may take, in milliseconds: far below the ten minutes for which the cluster remembers
 * an idempotency key.
 */
const REQUEST_TIMEOUT_MAX_MS = 300_000;
/** An attempt of a call in a hurry gets at least so long. */
const ATTEMPT_TIMEOUT_MIN_MS = 20;
/** Namespaces with a session of one client. */
const SESSIONS_MAX = 1_024;
/** Sessions that one call may lose before it is sent. */
const SESSIONS_LOST_MAX = 3;
const NAMESPACE_BYTES_MAX = 255;

/** A lock that a mutation depends on; see {@link HeldLock.guard}. */
export interface Guard {
  readonly name: string;
  readonly fencingToken: number;
}

/** Settings that every call takes. */
export interface CallOptions {
  /** How long it may take in all, retries included; at most 5 minutes. Default: the client's. */
  readonly timeoutMs?: number | undefined;
  /** Ends the call with the signal's reason; a mutation that was sent may have its effect all the same. */
  readonly signal?: AbortSignal | undefined;
}

/** Settings that every mutation takes. */
export interface MutationOptions extends CallOptions {
  /** Only while this lock is held under this token; otherwise {@link LockLostError}, and no effect. */
  readonly guard?: Guard | undefined;
  /**
   * A name for the mutation, 1 to 64 bytes: repetitions under it, by whichever process, have one effect
   * within 10 minutes. Without it the client names it, and repeats it safely by itself.
   */
  readonly idempotencyKey?: string | Uint8Array | undefined;
}

export class Inner {
  readonly engine: Engine;
  readonly requestTimeoutMs: number;
  /** Told of what goes wrong where no caller waits for it. */
  readonly onError: (error: unknown, where: string) => void;
  readonly #sessionTtlMs: number;
  readonly #oneShot: boolean;
  readonly #cells = new Map<string, SessionCell>();
  readonly #closers = new Set<() => Promise<void>>();
  #closing: Promise<void> | undefined;

  constructor(
    engine: Engine,
    requestTimeoutMs: number,
    sessionTtlMs: number,
    oneShot: boolean,
    onError: (error: unknown, where: string) => void,
  ) {
    this.engine = engine;
    this.requestTimeoutMs = requestTimeoutMs;
    this.#sessionTtlMs = sessionTtlMs;
    this.#oneShot = oneShot;
    this.onError = (error, where) => {
      // What was to be told is about a defect already, so one in telling it ends here.
      try {
        const told: unknown = onError(error, where);
        if (told instanceof Promise) told.catch(() => {});
      } catch {}
    };
  }

  /** Whether mutations have keys instead of a session, and nothing is bound to one. */
  get oneShot(): boolean {
    return this.#oneShot;
  }

  /** The plan of a call that begins now. */
  plan(what: string, effect: Effect, options: CallOptions): Plan {
    const timeoutMs = Math.min(options.timeoutMs ?? this.requestTimeoutMs, REQUEST_TIMEOUT_MAX_MS);
    if (!(timeoutMs > 0)) throw badOption(`timeoutMs is ${options.timeoutMs}; it must be more than 0`);
    // What may be repeated leaves time for a second node when the first one says nothing.
    const attemptTimeoutMs =
      effect === "each"
        ? this.engine.attemptTimeoutMs
        : Math.min(this.engine.attemptTimeoutMs, Math.max(timeoutMs / 2, ATTEMPT_TIMEOUT_MIN_MS));
    return { what, effect, deadline: now() + timeoutMs, attemptTimeoutMs, signal: options.signal };
  }

  /** Makes a call that changes nothing. */
  async read<C extends Request["case"]>(
    what: string,
    options: CallOptions,
    kind: C,
    request: () => RequestOf<C>,
  ): Promise<AnswerOf<C>> {
    return this.told(this.engine.call(this.plan(what, "read", options), kind, request));
  }

  /**
   * Makes a call that may be made again only while it certainly had no effect. A node may be silent for
   * `waitMs` of its time: that is what waiting for an answer of somebody else sounds like.
   */
  async each<C extends Request["case"]>(
    what: string,
    options: CallOptions,
    waitMs: number,
    kind: C,
    request: () => RequestOf<C>,
  ): Promise<AnswerOf<C>> {
    const plan = this.plan(what, "each", options);
    const attemptTimeoutMs = Math.max(plan.attemptTimeoutMs, waitMs);
    return this.told(this.engine.call({ ...plan, attemptTimeoutMs }, kind, request));
  }

  /** Makes a call that has one effect, however often it is sent. It may be answered `waitMs` later. */
  async mutate<C extends Request["case"]>(
    what: string,
    namespace: string,
    options: MutationOptions,
    kind: C,
    request: (origin: Origin) => RequestOf<C>,
    waitMs = 0,
  ): Promise<AnswerOf<C>> {
    const plan = this.plan(what, "once", options);
    const named = (origin: Origin): Origin => {
      if (options.guard === undefined) return origin;
      const { name, fencingToken } = options.guard;
      return { ...origin, guard: create(LockGuardSchema, { name, fencingToken: whole("guard.fencingToken", fencingToken) }) };
    };
    let key = options.idempotencyKey;
    if (key === undefined && this.#oneShot) key = uniqueKey();
    if (key !== undefined) {
      const idempotencyKey = typeof key === "string" ? new TextEncoder().encode(key) : key;
      if (idempotencyKey.length < 1 || idempotencyKey.length > 64) {
        throw new InvalidArgumentError(
          "IDEMPOTENCY_KEY_LENGTH",
          `the idempotency key of this ${what} has ${idempotencyKey.length} bytes; it must have 1 to 64`,
        );
      }
      const origin = named(create(OriginSchema, { idempotencyKey }));
      return this.told(this.engine.call(waiting(plan, waitMs), kind, () => request(origin)));
    }
    return this.told(this.#inSession(plan, namespace, kind, (origin) => request(named(origin)), waitMs));
  }

  async #inSession<C extends Request["case"]>(
    plan: Plan,
    namespace: string,
    kind: C,
    request: (origin: Origin) => RequestOf<C>,
    waitMs: number,
  ): Promise<AnswerOf<C>> {
    const cell = this.cell(namespace);
    for (let sessionsLost = 1; ; sessionsLost++) {
      const ticket = await cell.ticket(this.engine, plan);
      try {
        return await this.engine.call(waiting(plan, waitMs), kind, () => request(ticket.origin()));
      } catch (error) {
        if (!(error instanceof Failed) || !isSessionLost(error.failure)) throw error;
        ticket.session.lose();
        // Sent again under a new session, a request that had its effect would have it twice.
        if (error.failure.maybeApplied || sessionsLost >= SESSIONS_LOST_MAX) throw error;
      } finally {
        ticket.done();
      }
    }
  }

  /** The place of a namespace's session. */
  cell(namespace: string): SessionCell {
    const known = this.#cells.get(namespace);
    if (known !== undefined) return known;
    this.#open();
    if (this.#cells.size >= SESSIONS_MAX) {
      throw new ResourceExhaustedError(
        "TOO_MANY_NAMESPACES",
        `this client has sessions in ${SESSIONS_MAX} namespaces, which is the limit; use another client`,
      );
    }
    const cell = new SessionCell(checkedNamespace(namespace), this.#sessionTtlMs);
    this.#cells.set(namespace, cell);
    return cell;
  }

  /** Turns what the engine says into what callers get. */
  async told<T>(call: Promise<T>): Promise<T> {
    try {
      return await call;
    } catch (error) {
      throw told(error);
    }
  }

  #open(): void {
    if (this.#closing !== undefined) throw new ClosedError("the client was closed");
  }

  /** Something is under way that has to end before the client does. Answers how to take that back. */
  onClose(close: () => Promise<void>): () => void {
    this.#open();
    this.#closers.add(close);
    return () => void this.#closers.delete(close);
  }

  /** Ends what is under way, then the sessions, then the connections. */
  close(deadlineMs: number): Promise<void> {
    this.#closing ??= this.#close(now() + deadlineMs);
    return this.#closing;
  }

  async #close(deadline: number): Promise<void> {
    try {
      await Promise.allSettled([...this.#closers].map((close) => close()));
      const cells = [...this.#cells.values()];
      // A session that could not be closed ends with its ttl.
      await Promise.allSettled(cells.map((cell) => cell.close(this.engine, deadline)));
    } finally {
      this.engine.close();
    }
  }
}

/** What a caller gets for what the engine said. */
export function told(error: unknown): QuorateError | unknown {
  return error instanceof Failed ? toError(error.failure) : error;
}

/**
 * The plan of a call whose answer may take so much longer. Silence is what waiting sounds like; a node
 * that is gone is noticed by the connection.
 */
export function waiting(plan: Plan, waitMs: number): Plan {
  if (waitMs === 0) return plan;
  return { ...plan, deadline: plan.deadline + waitMs, attemptTimeoutMs: plan.attemptTimeoutMs + waitMs };
}

export function checkedNamespace(namespace: string): string {
  checkedText("the namespace", namespace);
  const bytes = Buffer.byteLength(namespace);
  if (bytes > NAMESPACE_BYTES_MAX) {
    throw new InvalidArgumentError(
      "NAMESPACE_TOO_LONG",
      `the namespace has ${bytes} bytes, the limit is ${NAMESPACE_BYTES_MAX}`,
    );
  }
  return namespace;
}

/** Milliseconds for the cluster: whole ones, parts count as a whole one. */
export function millis(name: string, ms: number): bigint {
  if (!Number.isFinite(ms) || ms < 0) throw badOption(`${name} is ${ms}; it must be a number from 0`);
  return BigInt(Math.ceil(ms));
}

/** A whole number for the cluster: a version, a revision, a token, a count. */
export function whole(name: string, value: number): bigint {
  if (!Number.isSafeInteger(value) || value < 0) throw badOption(`${name} is ${value}; it must be a whole number from 0`);
  return BigInt(value);
}
