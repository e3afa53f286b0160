/**
 * How calls fail, sorted by what the caller can do about it. The same kinds, words and texts as in
 * the Rust client.
 */

/** What every failed call throws. `reason` is for programs, `message` for people. */
export class QuorateError extends Error {
  override readonly name: string = "QuorateError";

  /**
   * A stable upper-case word, as `NO_LEADER` or `KEY_TOO_LONG`. The client's own words:
   * `CONNECT_FAILED`, `CONNECTION_LOST`, `NO_ANSWER`, `DEADLINE` (it passed before the request was
   * sent), `SESSION_WINDOW_FULL`, `BAD_OPTION`, `BAD_PAYLOAD`, `BAD_ANSWER`, `CLIENT_CLOSED`.
   */
  readonly reason: string;

  constructor(reason: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }

  /** Whether what failed like this may have, or may yet have, an effect. */
  get mayHaveBeenApplied(): boolean {
    return false;
  }
}

/** The condition of a mutation did not hold; nothing was changed. Read again and decide. */
export class ConditionFailedError extends QuorateError {
  override readonly name = "ConditionFailedError";
  /** The version the key has; `undefined` when it is absent. */
  readonly version: number | undefined;

  constructor(reason: string, message: string, version: number | undefined) {
    super(reason, message);
    this.version = version;
  }
}

/** The request can't succeed as it is; nothing was changed. Correct it. */
export class InvalidArgumentError extends QuorateError {
  override readonly name = "InvalidArgumentError";
}

/**
 * The cluster does not know who asks (`UNAUTHENTICATED`: show another token or certificate), or he
 * may not do this (`FORBIDDEN`: ask for a role). Nothing was changed.
 */
export class DeniedError extends QuorateError {
  override readonly name = "DeniedError";
}

/** What the request names does not exist; nothing was changed. A missing key is not an error. */
export class NotFoundError extends QuorateError {
  override readonly name = "NotFoundError";
}

/** A limit was reached; nothing was changed. Free something, or come back later. */
export class ResourceExhaustedError extends QuorateError {
  override readonly name = "ResourceExhaustedError";
}

/**
 * No node could serve the request before the deadline, and a mutation certainly has no effect, now or
 * later. It may be called again.
 */
export class UnavailableError extends QuorateError {
  override readonly name = "UnavailableError";
}

/**
 * It is not known whether the mutation had, or will still have, its effect. Read the state before
 * deciding; a new call is a new mutation.
 */
export class IndeterminateError extends QuorateError {
  override readonly name = "IndeterminateError";

  constructor(reason: string, message: string) {
    super(reason, `outcome unknown: ${message}`);
  }

  override get mayHaveBeenApplied(): boolean {
    return true;
  }
}

/**
 * A lock was not granted: it is held, or the wait ran out (`LOCK_WAIT_TIMEOUT`; the message has the
 * word timeout). Nothing is held.
 */
export class NotAcquiredError extends QuorateError {
  override readonly name = "NotAcquiredError";
}

/** A lock is not held (any more). A mutation that was guarded by it has no effect. */
export class LockLostError extends QuorateError {
  override readonly name = "LockLostError";
}

/**
 * A job is not leased under this lease (any more): its time ran out, it was cancelled or purged, or
 * it was settled before. Somebody else may be working on it.
 */
export class JobLostError extends QuorateError {
  override readonly name = "JobLostError";
}

/** Nobody subscribes to the channel that a request was sent to; it was not published. */
export class NoSubscribersError extends QuorateError {
  override readonly name = "NoSubscribersError";
}

/** A request was published, and nobody answered it in time. Who received it may have acted on it. */
export class NoReplyError extends QuorateError {
  override readonly name = "NoReplyError";

  override get mayHaveBeenApplied(): boolean {
    return true;
  }
}

/** A value for the cache was built too late: the key or a tag was changed since. It is not stored. */
export class BuildLeaseLostError extends QuorateError {
  override readonly name = "BuildLeaseLostError";
}

/** Somebody else was building the value that was asked for, and failed with this text. */
export class BuildFailedError extends QuorateError {
  override readonly name = "BuildFailedError";
}

/** The session was lost again and again before the request could be sent; nothing was changed. */
export class SessionExpiredError extends QuorateError {
  override readonly name = "SessionExpiredError";
}

/** A watch can't have all the changes it asks for. List the keys, and watch from there. */
export class CompactedError extends QuorateError {
  override readonly name = "CompactedError";
  /** The oldest revision that a watch can begin from. */
  readonly oldest: number;

  constructor(reason: string, message: string, oldest: number) {
    super(reason, message);
    this.oldest = oldest;
  }
}

/** A payload can't be written or read by its codec: it is not what was expected. */
export class PayloadError extends QuorateError {
  override readonly name = "PayloadError";

  constructor(message: string, options?: ErrorOptions) {
    super("BAD_PAYLOAD", message, options);
  }
}

/** The client, or the handle, was closed before. Nothing was sent. */
export class ClosedError extends QuorateError {
  override readonly name = "ClosedError";

  constructor(what: string) {
    super("CLIENT_CLOSED", what);
  }
}

/** The cluster answered something this client can't make sense of; nothing was changed. */
export class InternalError extends QuorateError {
  override readonly name = "InternalError";
}

/** What was thrown, as text: anything can be, also what has no text or throws when it is asked for one. */
export function textOf(thrown: unknown): string {
  try {
    return String(thrown instanceof Error ? thrown.message : thrown);
  } catch {
    return "something was thrown that has no text";
  }
}

/** An option that can't be. */
export function badOption(message: string): InvalidArgumentError {
  return new InvalidArgumentError("BAD_OPTION", message);
}

/** An answer that can't be. */
export function badAnswer(message: string): InternalError {
  return new InternalError("BAD_ANSWER", message);
}
