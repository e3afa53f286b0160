/**
 * One call: attempts on one node after the other until there is an answer, or the deadline.
 *
 * The rule that everything here serves: a mutation fails as not applied only if each of its attempts
 * certainly was not; one attempt of open fate makes the whole call indeterminate, unless a later
 * attempt is answered.
 */
import {
  create,
  type DescMethodBiDiStreaming,
  type DescMethodServerStreaming,
  type MessageShape,
} from "@bufbuild/protobuf";
import { status, type ServiceError } from "@grpc/grpc-js";
import { setMaxListeners } from "node:events";
import { ClosedError, badOption } from "./errors.js";
import {
  Failed,
  connectFailure,
  deadlineFailure,
  isOverload,
  isRememberedRejection,
  isWorthRetrying,
  lostFailure,
  refused,
  serviceFailure,
  silentFailure,
  type Failure,
} from "./failure.js";
import { MembersRequestSchema } from "./gen/quorate/v1/cluster_pb.js";
import { Incoming, openDuplex, openServerStream, unary, type Duplex } from "./incoming.js";
import { METHODS, tellsRevision } from "./methods.js";
import { Nodes, type Routing } from "./nodes.js";
import { Patience } from "./patience.js";
import { PipeFailed, type Answer, type Request, type TraceContext } from "./pipe.js";
import { Pool, type Connection } from "./pool.js";
import { Budget, backoffMs, type RetryBudget } from "./retry.js";
import { Seen } from "./seen.js";
import { now, raced, sleep, within } from "./time.js";

/** How often the members are asked for when nothing fails. */
const MEMBERS_EVERY_MS = 10_000;
/** How often at most they are asked for while calls, or asking, fail. */
const MEMBERS_EVERY_FAILING_MS = 1_000;
/** How long one node may take to name them. */
const MEMBERS_DEADLINE_MS = 1_000;
/** A node that is silent for less may just be slow, and the caller in a hurry. */
const SILENCE_MIN_MS = 100;
/** With less time left an attempt is not begun: a node answers 50 ms before the deadline it is given. */
const ATTEMPT_MIN_MS = 5;
/** Failures of different nodes that an error text names. */
const NAMED_FAILURES_MAX = 3;

const MEMBERS = create(MembersRequestSchema);

/**
 * What a repetition of a request does: nothing, since it changes nothing (`read`); nothing more, since
 * it carries a name (`once`); it may have a second effect, so there is none after an attempt of open
 * fate (`each`).
 */
export type Effect = "read" | "once" | "each";

/** How a call is made. */
export interface Plan {
  /** What it is, for texts: `"kv set"`. */
  readonly what: string;
  readonly effect: Effect;
  /** By the monotonic clock. */
  readonly deadline: number;
  /** How long a node may be silent before another one is asked. */
  readonly attemptTimeoutMs: number;
  /** Ends the call when it is raised; a mutation may have its effect all the same. */
  readonly signal?: AbortSignal | undefined;
}

/** The answer of a kind of request. */
export type AnswerOf<C extends Request["case"]> = Extract<Answer, { case: C }>["value"];
/** A request of a kind. */
export type RequestOf<C extends Request["case"]> = Extract<Request, { case: C }>["value"];

/** One attempt: what takes it back when nobody waits for it any more. */
export interface Attempt {
  readonly connection: Connection;
  readonly timeoutMs: number;
  undo: (() => void) | undefined;
}

export interface EngineOptions {
  readonly pool: Pool;
  readonly seeds: readonly string[];
  readonly routing: Routing;
  readonly retryBudget: RetryBudget;
  readonly attemptTimeoutMs: number;
  readonly traceContext: (() => TraceContext | undefined) | undefined;
}

/** What all handles of a client share to make calls. It knows nothing of sessions. */
export class Engine {
  readonly pool: Pool;
  readonly nodes: Nodes;
  readonly seen = new Seen();
  readonly attemptTimeoutMs: number;
  readonly #patience = new Patience();
  readonly #budget: Budget;
  readonly #traceContext: (() => TraceContext | undefined) | undefined;
  #membersAskedAt = -Infinity;
  #failedSince = false;
  #asking = false;
  #learning: NodeJS.Timeout | undefined;
  readonly #closing = new AbortController();

  constructor(options: EngineOptions) {
    // As many listen as there are subscriptions, watches and consumers.
    setMaxListeners(0, this.#closing.signal);
    this.pool = options.pool;
    this.nodes = new Nodes(options.seeds, options.routing);
    this.attemptTimeoutMs = options.attemptTimeoutMs;
    this.#budget = new Budget(options.retryBudget);
    this.#traceContext = options.traceContext;
  }

  /** Raised when the client is closed. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  close(): void {
    if (this.#closing.signal.aborted) return;
    clearInterval(this.#learning);
    this.#closing.abort(new ClosedError("the client was closed"));
    this.pool.close();
  }

  /** Makes a call of the pipeline. `request` is asked for the message of each attempt. */
  async call<C extends Request["case"]>(plan: Plan, kind: C, request: () => RequestOf<C>): Promise<AnswerOf<C>> {
    return this.attempts(plan, async (attempt) => {
      const message = request();
      const answer = await this.#send(attempt, { case: kind, value: message } as Request);
      const value = answer.value as AnswerOf<C>;
      if (answer.case !== kind) {
        throw new PipeFailed({
          kind: "refused",
          refusal: {
            code: status.INTERNAL,
            message: "the answer is that of another call",
            reason: "BAD_ANSWER",
            notApplied: false,
          },
        });
      }
      const told = tellsRevision(message, value);
      if (told !== undefined) this.seen.raise(told.namespace, told.group, told.revision);
      return value;
    });
  }

  /**
   * Opens a stream on whichever node answers first; it is open with its first message, which is answered
   * with it.
   */
  open<I extends DescMethodServerStreaming>(
    plan: Plan,
    method: I,
    request: () => MessageShape<I["input"]>,
  ): Promise<[MessageShape<I["output"]>, Incoming<MessageShape<I["output"]>>]> {
    return this.attempts(plan, async (attempt) => {
      const stream = openServerStream(attempt.connection, this.pool.metadata, method, request());
      attempt.undo = () => stream.cancel();
      return [await firstOf(stream), stream];
    });
  }

  /** The same for a stream in both directions, whose first message is `first`. */
  openDuplex<I extends DescMethodBiDiStreaming>(
    plan: Plan,
    method: I,
    first: () => MessageShape<I["input"]>,
  ): Promise<[MessageShape<I["output"]>, Duplex<MessageShape<I["input"]>, MessageShape<I["output"]>>]> {
    return this.attempts(plan, async (attempt) => {
      const stream = openDuplex(attempt.connection, this.pool.metadata, method);
      attempt.undo = () => stream.cancel();
      stream.send(first());
      return [await firstOf(stream.incoming), stream];
    });
  }

  /** Attempts until one is answered. Rejects with {@link Failed}, or with the reason of a signal. */
  async attempts<T>(plan: Plan, attempt: (attempt: Attempt) => Promise<T>): Promise<T> {
    const tried: string[] = [];
    const named = new Map<string, string>();
    let retries = 0;
    let maybeApplied = false;
    let last: Failure | undefined;
    const gaveUp = () => {
      if (last === undefined) return new Failed(deadlineFailure(plan.what));
      const advice = maybeApplied
        ? "read the state before repeating it"
        : "check that a majority of the nodes is running and that the endpoints are right";
      const texts = [...named.values()].slice(-NAMED_FAILURES_MAX).join("; ");
      return new Failed({
        ...last,
        // Not an answer any more: nobody knows how the next try would have ended.
        cause: last.cause === "answered" ? "deadline" : last.cause,
        message: `${plan.what} got no answer in ${retries} tries before its deadline: ${texts}; ${advice}`,
        maybeApplied,
        version: undefined,
      });
    };
    for (;;) {
      this.closing.throwIfAborted();
      plan.signal?.throwIfAborted();
      this.#refreshMembersIfDue();
      if (plan.deadline - now() < ATTEMPT_MIN_MS) throw gaveUp();
      const addr = this.nodes.pick(tried, now());
      let failure: Failure;
      try {
        const answer = await this.#attempt(plan, addr, attempt);
        this.#budget.deposit();
        return answer;
      } catch (error) {
        if (!(error instanceof Failed)) throw unwritable(plan.what, error);
        failure = error.failure;
      }
      const again = isWorthRetrying(failure) && !(plan.effect === "each" && failure.maybeApplied);
      if (!again) {
        if (maybeApplied && !isRememberedRejection(failure) && !failure.maybeApplied) {
          const message = `${failure.message} (an earlier attempt may have had its effect)`;
          failure = { ...failure, maybeApplied: true, message };
        }
        throw new Failed(failure);
      }
      maybeApplied ||= failure.maybeApplied;
      last = failure;
      named.delete(addr);
      named.set(addr, failure.message);
      if (!tried.includes(addr)) tried.push(addr);
      this.#failedSince = true;
      const backoff = backoffMs(retries);
      retries += 1;
      const pause = Math.max(backoff, this.#budget.withdraw());
      if (now() + pause + ATTEMPT_MIN_MS > plan.deadline) {
        this.#budget.giveBack();
        throw gaveUp();
      }
      await sleep(pause, plan.signal);
    }
  }

  async #attempt<T>(plan: Plan, addr: string, make: (attempt: Attempt) => Promise<T>): Promise<T> {
    const mutation = plan.effect !== "read";
    const begun = now();
    const dialMax = this.#patience.stretch(this.pool.connectTimeoutMs);
    let connection: Connection;
    try {
      connection = await this.pool.connect(addr, Math.min(dialMax, plan.deadline - begun));
    } catch (error) {
      this.closing.throwIfAborted();
      const failure = this.#failureOf(addr, error, false);
      if (failure === undefined) throw error;
      if (now() - begun >= dialMax) this.#patience.inVain(begun);
      // A node that refuses who asks serves others.
      if (failure.cause !== "answered") this.nodes.failed(addr, now());
      throw new Failed(failure);
    }
    const sentAt = now();
    // Half of the time that is left is for another node.
    const left = plan.deadline - sentAt;
    const patient = Math.min(this.#patience.stretch(plan.attemptTimeoutMs), left / 2);
    const timeoutMs = Math.min(left, Math.max(patient, plan.attemptTimeoutMs));
    const attempt: Attempt = { connection, timeoutMs, undo: undefined };
    try {
      const answer = await within(timeoutMs, raced(make(attempt), plan.signal));
      if (answer === undefined) {
        this.#noteSilence(connection, sentAt);
        throw new Failed(silentFailure(addr, mutation));
      }
      this.#patience.answered(now() - sentAt, plan.attemptTimeoutMs);
      this.nodes.answered(addr);
      const leader = connection.pipe.leader;
      if (leader !== undefined) {
        this.nodes.vouchedFor(leader, now());
        this.nodes.learnLeader(leader);
      }
      return answer.value;
    } catch (error) {
      attempt.undo?.();
      this.closing.throwIfAborted();
      const failure = this.#failureOf(addr, error, mutation);
      if (failure === undefined) throw error;
      if (!(error instanceof Failed)) this.#note(connection, failure);
      throw new Failed(failure);
    }
  }

  /** What an error of an attempt means; `undefined` when it is not about a node. */
  #failureOf(addr: string, error: unknown, mutation: boolean): Failure | undefined {
    if (error instanceof Failed) return error.failure;
    if (error instanceof PipeFailed) {
      const { failure } = error;
      switch (failure.kind) {
        case "unsent":
          return connectFailure(addr, failure.why);
        case "lost":
          return lostFailure(addr, failure.why, mutation);
        case "refused":
          return refused(addr, failure.refusal, mutation);
        case "alone":
          return undefined;
      }
    }
    return isServiceError(error) ? serviceFailure(addr, error, mutation) : undefined;
  }

  /** Learns from a failed attempt. */
  #note(connection: Connection, failure: Failure): void {
    const { addr } = connection;
    if (failure.cause !== "answered") {
      this.pool.discard(connection);
      this.nodes.failed(addr, now());
      return;
    }
    if (isWorthRetrying(failure) && !isOverload(failure)) {
      // It lives, but serves nothing now; a leader of this kind is about to be none.
      this.nodes.failed(addr, now());
    } else {
      this.nodes.answered(addr);
    }
    if (failure.leader !== undefined && failure.leader !== addr) this.nodes.learnLeader(failure.leader);
  }

  /**
   * A frozen node, or one behind a partition, keeps the connection open and says nothing. The next
   * attempt dials anew: a dial that fails is certain news, where silence is not. What has answered
   * others meanwhile is slow, and a new connection would only make it slower.
   */
  #noteSilence(connection: Connection, since: number): void {
    this.#patience.inVain(since);
    if (now() - since < SILENCE_MIN_MS) return;
    if (!connection.heardSince(since)) this.pool.discard(connection);
    this.nodes.failed(connection.addr, now());
  }

  /** Sends one request in the connection's pipeline, or on its own if it is too large for that. */
  async #send(attempt: Attempt, request: Request): Promise<Answer> {
    const { connection, timeoutMs } = attempt;
    const context = this.#traceContext?.();
    const made = connection.pipe.call(request, timeoutMs, context);
    attempt.undo = () => made.withdraw();
    try {
      return await made.answer;
    } catch (error) {
      if (!(error instanceof PipeFailed) || error.failure.kind !== "alone") throw error;
      const method = METHODS[request.case];
      const alone = unary(connection, this.pool.metadata, method, request.value, timeoutMs, context);
      attempt.undo = alone.cancel;
      return { case: request.case, value: await alone.answer } as Answer;
    }
  }

  /** Asks for the members beside the calls, if that is due. */
  #refreshMembersIfDue(): void {
    if (!this.nodes.learns || this.#asking || this.closing.aborted) return;
    const every = this.#failedSince ? this.#patience.stretch(MEMBERS_EVERY_FAILING_MS) : MEMBERS_EVERY_MS;
    if (now() < this.#membersAskedAt + every) return;
    // One that only listens makes no calls: when its node goes, all that it knows of may have gone
    // before. So it asks for as long as it lives, which keeps no process alive.
    this.#learning ??= setInterval(() => this.#refreshMembersIfDue(), MEMBERS_EVERY_FAILING_MS).unref();
    this.#membersAskedAt = now();
    this.#failedSince = false;
    this.#asking = true;
    void this.#refreshMembers().then((named) => {
      this.#asking = false;
      this.#failedSince ||= !named;
    });
  }

  /** Whether a node has named them. Those it has a connection to are asked first. */
  async #refreshMembers(): Promise<boolean> {
    const order = this.nodes.addresses.sort(
      (left, right) => Number(this.pool.isConnected(right)) - Number(this.pool.isConnected(left)),
    );
    for (const addr of order) {
      const plan: Plan = {
        what: "cluster members",
        effect: "read",
        deadline: now() + this.#patience.stretch(MEMBERS_DEADLINE_MS),
        attemptTimeoutMs: this.attemptTimeoutMs,
      };
      try {
        const answer = await this.#attempt(plan, addr, (attempt) =>
          this.#send(attempt, { case: "clusterMembers", value: MEMBERS }),
        );
        if (answer.case !== "clusterMembers") continue;
        this.nodes.learnMembers(answer.value.members.map((member) => member.clientAddr));
        return true;
      } catch {
        // The next one may name them; calls say what is wrong.
      }
    }
    return false;
  }
}

/** The message that says that a stream has begun. */
async function firstOf<T>(incoming: Incoming<T>): Promise<T> {
  const first = await incoming.next();
  if (first !== undefined) return first;
  const message = "the stream ended before it began";
  const refusal = { code: status.UNAVAILABLE, message, reason: "", notApplied: true };
  throw new PipeFailed({ kind: "refused", refusal });
}

/** A request that has a number or a text that no message can have: said in the caller's terms. */
function unwritable(what: string, error: unknown): unknown {
  const parts = error instanceof Error ? /^cannot encode field (?:\w+\.)*(\w+) to binary: (.*)$/.exec(error.message) : null;
  if (parts === null) return error;
  const [, field, why] = parts;
  const name = (field ?? "").replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
  return badOption(`${what}: ${name} can't be sent: ${(why ?? "").slice(0, 200)}`);
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error;
}
