/**
 * Sessions: opened when the first mutation needs one, kept alive in the background, replaced when
 * lost; and the sequences that make a retried mutation have one effect.
 *
 * A session's life is counted from the moment a request that prolongs it was SENT, on this process's
 * monotonic clock: it is over here before it is over in the cluster.
 */
import { create } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { randomBytes } from "node:crypto";
import type { Effect, Engine, Plan } from "./engine.js";
import { ClosedError } from "./errors.js";
import { Failed, deadlineFailure, isSessionLost, isWorthRetrying, type Failure } from "./failure.js";
import { OriginSchema, type Origin } from "./gen/quorate/v1/kv_pb.js";
import { CloseRequestSchema, KeepAliveRequestSchema, OpenRequestSchema } from "./gen/quorate/v1/session_pb.js";
import { later, now, raced, within } from "./time.js";
import { WINDOW, Window } from "./window.js";

/** The shortest ttl the cluster grants. A smaller one in an answer would make keep-alives a flood. */
export const TTL_MIN_MS = 1_000;
/** The longest. */
export const TTL_MAX_MS = 3_600_000;
/** How long one keep-alive may be tried, if a third of the ttl is longer than that. */
const KEEP_ALIVE_DEADLINE_MAX_MS = 10_000;

/** A name that no other call has. */
export function uniqueKey(): Uint8Array {
  return randomBytes(16);
}

/** One session. */
export class Session {
  readonly id: bigint;
  readonly window = new Window();
  #expiresAt: number;
  #lost = false;
  #changed: (() => void)[] = [];

  constructor(id: bigint, expiresAt: number) {
    this.id = id;
    this.#expiresAt = expiresAt;
  }

  /** Until when it certainly lives. */
  get expiresAt(): number {
    return this.#expiresAt;
  }

  isLive(at: number): boolean {
    return !this.#lost && at < this.#expiresAt;
  }

  /** The cluster does not know it any more. */
  lose(): void {
    this.#lost = true;
    this.#wake();
  }

  prolong(expiresAt: number): void {
    this.#expiresAt = Math.max(this.#expiresAt, expiresAt);
  }

  /** The sequence was answered or given up. */
  finish(sequence: number): void {
    if (this.window.finish(sequence)) this.#wake();
  }

  /** Waits until the window has moved or the session was lost, at most so long. */
  changed(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.max(ms, 0));
      this.#changed.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  #wake(): void {
    for (const wake of this.#changed.splice(0)) wake();
  }
}

/** A sequence in use by one call; `done` says that the call was answered or given up. */
export class Ticket {
  readonly session: Session;
  readonly sequence: number;

  constructor(session: Session, sequence: number) {
    this.session = session;
    this.sequence = sequence;
  }

  /** What goes into a request now; the floor may have moved since the last attempt. */
  origin(): Origin {
    return create(OriginSchema, {
      sessionId: this.session.id,
      sequence: BigInt(this.sequence),
      floor: BigInt(this.session.window.floor),
    });
  }

  done(): void {
    this.session.finish(this.sequence);
  }
}

/** The place of a namespace's session: at most one is in use at a time. */
export class SessionCell {
  readonly #namespace: string;
  readonly #ttlMs: number;
  #live: Session | undefined;
  #keepAlive: NodeJS.Timeout | undefined;
  /**
   * An opening whose answer never came. The next one repeats its key, so that it gets the same session
   * instead of leaving one behind; that session may be as old as the first try.
   */
  #opening: { readonly key: Uint8Array; readonly firstSentAt: number } | undefined;
  /** Held by the call that opens the session or waits for room in its window. First come, first served. */
  #turn: Promise<void> = Promise.resolve();
  #queued = 0;
  #closed = false;

  constructor(namespace: string, ttlMs: number) {
    this.#namespace = namespace;
    this.#ttlMs = ttlMs;
  }

  /**
   * A sequence of the session, which is opened if there is none. Waits while 1 024 calls are unanswered.
   * A failure never leaves a mutation of open fate: it was not sent.
   */
  async ticket(engine: Engine, plan: Plan): Promise<Ticket> {
    this.#mustBeOpen();
    const at = now();
    if (this.#queued === 0 && this.#live?.isLive(at)) {
      const sequence = this.#live.window.allocate();
      if (sequence !== undefined) return new Ticket(this.#live, sequence);
    }
    return this.#inTurn(plan, async () => {
      for (;;) {
        const session = this.#current() ?? (await this.#open(engine, plan));
        const sequence = session.window.allocate();
        if (sequence !== undefined) return new Ticket(session, sequence);
        const left = Math.min(plan.deadline, session.expiresAt) - now();
        if (now() >= plan.deadline) throw new Failed(windowFull(plan.what));
        await raced(session.changed(left), plan.signal);
        this.#mustBeOpen();
      }
    });
  }

  /** The session itself, for what ends with it; opened if there is none. */
  async session(engine: Engine, plan: Plan): Promise<Session> {
    return this.#current() ?? this.#inTurn(plan, async () => this.#current() ?? (await this.#open(engine, plan)));
  }

  /** Ends the session, if there is one: what it owns in the cluster is freed at once. */
  async close(engine: Engine, deadline: number): Promise<void> {
    // What is under way must not open another one: that would be left behind, with locks maybe.
    this.#closed = true;
    clearTimeout(this.#keepAlive);
    const session = this.#live;
    this.#live = undefined;
    if (session === undefined) return;
    const live = session.isLive(now());
    session.lose();
    if (!live) return;
    // Repeating it changes nothing, so it is as safe as a read.
    const plan = planOf(engine, "session close", "read", deadline);
    await engine.call(plan, "sessionClose", () =>
      create(CloseRequestSchema, { sessionId: session.id, namespace: this.#namespace }),
    );
  }

  #mustBeOpen(): void {
    if (this.#closed) throw new ClosedError("the client was closed");
  }

  #current(): Session | undefined {
    return this.#live?.isLive(now()) ? this.#live : undefined;
  }

  async #inTurn<T>(plan: Plan, work: () => Promise<T>): Promise<T> {
    const before = this.#turn;
    let leave!: () => void;
    const mine = new Promise<void>((resolve) => (leave = resolve));
    // Whoever gives up leaves at once, and lets nobody pass those before it.
    this.#turn = before.then(() => mine);
    this.#queued += 1;
    try {
      // Who is ahead may have more time, and use it.
      const turn = await within(plan.deadline - now(), raced(before, plan.signal));
      if (turn === undefined || now() >= plan.deadline) {
        const full = this.#current() !== undefined;
        throw new Failed(full ? windowFull(plan.what) : deadlineFailure(plan.what));
      }
      plan.signal?.throwIfAborted();
      this.#mustBeOpen();
      return await work();
    } finally {
      this.#queued -= 1;
      leave();
    }
  }

  async #open(engine: Engine, of: Plan): Promise<Session> {
    const opening = this.#begun();
    const plan = planOf(engine, "session open", "once", of.deadline);
    let opened;
    try {
      opened = await engine.call(plan, "sessionOpen", () =>
        create(OpenRequestSchema, {
          namespace: this.#namespace,
          origin: { idempotencyKey: opening.key },
          ttlMs: BigInt(Math.ceil(this.#ttlMs)),
        }),
      );
    } catch (error) {
      if (!(error instanceof Failed)) throw error;
      const { failure } = error;
      if (!failure.maybeApplied) this.#opening = undefined;
      // Whatever became of the session: the mutation that wanted it was not sent.
      const cause = failure.cause === "answered" && isWorthRetrying(failure) ? "deadline" : failure.cause;
      throw new Failed({ ...failure, cause, maybeApplied: false });
    }
    this.#opening = undefined;
    if (opened.sessionId === 0n) throw new Failed(badAnswer("session open was answered without an id"));
    const ttl = clamp(Number(opened.ttlMs));
    const session = new Session(opened.sessionId, opening.firstSentAt + ttl);
    this.#live = session;
    this.#keepAliveAt(engine, session, opening.firstSentAt + ttl / 3, ttl / 3);
    return session;
  }

  /** The opening to go on with. One that is so old that its session may be over is left behind. */
  #begun(): { readonly key: Uint8Array; readonly firstSentAt: number } {
    const at = now();
    const before = this.#opening;
    if (before !== undefined && at < before.firstSentAt + Math.min(this.#ttlMs, TTL_MAX_MS) / 2) {
      return before;
    }
    return (this.#opening = { key: uniqueKey(), firstSentAt: at });
  }

  /** Keeps a session alive until it is lost; ended from outside when nobody needs it any more. */
  #keepAliveAt(engine: Engine, session: Session, at: number, every: number): void {
    this.#keepAlive = later(at - now(), () => {
      void this.#prolong(engine, session, every);
    });
  }

  async #prolong(engine: Engine, session: Session, every: number): Promise<void> {
    const sentAt = now();
    if (!session.isLive(sentAt)) return session.lose();
    const deadline = Math.min(session.expiresAt, sentAt + Math.min(every, KEEP_ALIVE_DEADLINE_MAX_MS));
    const plan = planOf(engine, "session keep-alive", "read", deadline);
    let next = sentAt + every;
    try {
      const kept = await engine.call(plan, "sessionKeepAlive", () =>
        create(KeepAliveRequestSchema, { sessionId: session.id, namespace: this.#namespace }),
      );
      const ttl = clamp(Number(kept.ttlMs));
      session.prolong(sentAt + ttl);
      every = ttl / 3;
      next = sentAt + every;
    } catch (error) {
      if (engine.closing.aborted) return;
      if (!(error instanceof Failed) || isSessionLost(error.failure)) return session.lose();
      // Not at once: an answer that is no success may have come without delay.
      next = now() + every / 4;
    }
    if (this.#live === session) this.#keepAliveAt(engine, session, Math.min(next, session.expiresAt), every);
  }
}

function clamp(ttlMs: number): number {
  return Math.min(Math.max(ttlMs, TTL_MIN_MS), TTL_MAX_MS);
}

function planOf(engine: Engine, what: string, effect: Effect, deadline: number): Plan {
  return { what, effect, deadline, attemptTimeoutMs: engine.attemptTimeoutMs };
}

function windowFull(what: string): Failure {
  return {
    cause: "deadline",
    code: status.DEADLINE_EXCEEDED,
    reason: "SESSION_WINDOW_FULL",
    message:
      `${what} was not sent: ${WINDOW} calls of this client were unanswered until its deadline; use ` +
      "fewer at a time, or several clients",
    maybeApplied: false,
  };
}

function badAnswer(message: string): Failure {
  return { cause: "answered", code: status.INTERNAL, reason: "BAD_ANSWER", message, maybeApplied: false };
}
