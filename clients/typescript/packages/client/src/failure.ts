/** What one failed attempt says: whether it may have had an effect, and what to do next. */
import { status, type Metadata, type ServiceError } from "@grpc/grpc-js";
import * as errors from "./errors.js";

/** Characters of a message that are kept: enough for any text of ours. */
const MESSAGE_MAX = 1_024;
/** Characters of a word that are kept; a node that sends more is not one of ours. */
const WORD_MAX = 64;

/**
 * Where a failure was noticed: a node answered it; there was no connection, so nothing was sent; the
 * connection broke under the request; the node was silent for the whole attempt; the deadline came
 * before there was anything to send.
 */
export type Cause = "answered" | "connect" | "lost" | "silent" | "deadline";

/** A failed attempt, and at the end a failed call. */
export interface Failure {
  readonly cause: Cause;
  readonly code: status;
  readonly reason: string;
  readonly message: string;
  /** The version a key has, beside CONDITION_FAILED. */
  readonly version?: number | undefined;
  /** The oldest revision a watch can begin from, beside COMPACTED. */
  readonly oldestRevision?: number | undefined;
  /** Whether a mutation may have, or may yet have, an effect. Always false for reads. */
  readonly maybeApplied: boolean;
  /** The leader, as the node that answered knows it. */
  readonly leader?: string | undefined;
}

/** A failure on its way through promises. */
export class Failed extends Error {
  readonly failure: Failure;

  constructor(failure: Failure) {
    super(failure.message);
    this.failure = failure;
  }
}

export function connectFailure(addr: string, why: string): Failure {
  return {
    cause: "connect",
    code: status.UNAVAILABLE,
    reason: "CONNECT_FAILED",
    message: `can't connect to ${addr}: ${bounded(why)}`,
    maybeApplied: false,
  };
}

export function lostFailure(addr: string, why: string, mutation: boolean): Failure {
  return {
    cause: "lost",
    code: status.UNAVAILABLE,
    reason: "CONNECTION_LOST",
    message: `the connection to ${addr} broke: ${bounded(why)}`,
    maybeApplied: mutation,
  };
}

export function silentFailure(addr: string, mutation: boolean): Failure {
  return {
    cause: "silent",
    code: status.DEADLINE_EXCEEDED,
    reason: "NO_ANSWER",
    message: `${addr} did not answer in time`,
    maybeApplied: mutation,
  };
}

export function deadlineFailure(what: string): Failure {
  return {
    cause: "deadline",
    code: status.DEADLINE_EXCEEDED,
    reason: "DEADLINE",
    message:
      `the deadline passed before ${what} was sent; allow it more time, or check that the cluster ` +
      "is running",
    maybeApplied: false,
  };
}

/** What a node says of a call that it refused, in the pipeline or by trailers. */
export interface Refusal {
  readonly code: status;
  readonly message: string;
  readonly reason: string;
  readonly notApplied: boolean;
  readonly version?: number | undefined;
  readonly oldestRevision?: number | undefined;
  readonly leader?: string | undefined;
}

/** Reads what a node said. `mutation` says whether an effect is possible at all. */
export function refused(addr: string, refusal: Refusal, mutation: boolean): Failure {
  // No word means unknown, with one exception: by the rules of gRPC no handler has run when a method
  // does not exist.
  const notApplied = refusal.notApplied || refusal.code === status.UNIMPLEMENTED;
  const said = bounded(refusal.message);
  let message = said;
  if (refusal.code === status.UNIMPLEMENTED) {
    message =
      `${addr} does not offer this call; check that it is the client port of a node of a fitting ` +
      `version: ${said}`;
  } else if (said === "") {
    message = `${addr} answered ${status[refusal.code] ?? refusal.code}`;
  }
  return {
    cause: "answered",
    code: refusal.code,
    reason: refusal.reason === "" ? "UNSPECIFIED" : refusal.reason.slice(0, WORD_MAX),
    message,
    version: refusal.version,
    oldestRevision: refusal.oldestRevision,
    maybeApplied: mutation && !notApplied,
    leader: refusal.leader,
  };
}

/** Whether a node itself said this: all that nodes answer has a word, or is a refusal of gRPC's own. */
export function isFromNode(error: ServiceError): boolean {
  return (
    text(error.metadata, "quorate-reason") !== undefined ||
    text(error.metadata, "quorate-outcome") !== undefined ||
    error.code === status.UNIMPLEMENTED ||
    error.code === status.UNAUTHENTICATED ||
    error.code === status.PERMISSION_DENIED
  );
}

/** Reads the trailers of a call of its own. */
export function refusalOf(error: ServiceError): Refusal {
  const metadata = error.metadata;
  return {
    code: error.code,
    message: error.details,
    reason: text(metadata, "quorate-reason") ?? "",
    notApplied: text(metadata, "quorate-outcome") === "not_applied",
    version: number(metadata, "quorate-version"),
    oldestRevision: number(metadata, "quorate-oldest-revision"),
    leader: text(metadata, "quorate-leader", 260),
  };
}

/** The failure of a call of its own, or of a stream. */
export function serviceFailure(addr: string, error: ServiceError, mutation: boolean): Failure {
  return isFromNode(error)
    ? refused(addr, refusalOf(error), mutation)
    : lostFailure(addr, error.details || error.message, mutation);
}

/** Whether the session is not, or no longer, able to take the request. */
export function isSessionLost(failure: Failure): boolean {
  return (
    failure.cause === "answered" &&
    (failure.reason === "SESSION_EXPIRED" || failure.reason === "SEQUENCE_TOO_OLD")
  );
}

const REMEMBERED = new Set([
  "CONDITION_FAILED",
  "NOT_A_NUMBER",
  "OVERFLOW",
  "LOCK_HELD",
  "LOCK_LOST",
  "LOCK_WAIT_TIMEOUT",
  "LOCK_WAIT_CANCELLED",
  "QUEUE_UNKNOWN",
  "QUEUE_FULL",
  "JOB_UNKNOWN",
  "JOB_LEASE_LOST",
  "BUILD_LEASE_LOST",
  "BUILD_FAILED",
]);

/**
 * Whether the state machine itself decided this, so that a repetition of the same request is answered
 * the same, and the answer holds for all attempts of the call.
 */
export function isRememberedRejection(failure: Failure): boolean {
  return failure.cause === "answered" && !failure.maybeApplied && REMEMBERED.has(failure.reason);
}

/** Whether it is about how much is asked for at once, which passes by itself. */
export function isOverload(failure: Failure): boolean {
  return failure.reason === "OVERLOADED" || failure.reason === "CALLER_LIMIT";
}

const ABOUT_THE_NODE = new Set(["UNSPECIFIED", "NO_LEADER", "NOT_LEADER", "SHUTTING_DOWN", "FATAL"]);

/** Whether the same request may fare better on another node, or a little later. */
export function isWorthRetrying(failure: Failure): boolean {
  if (failure.cause !== "answered") return failure.cause !== "deadline";
  switch (failure.code) {
    case status.UNAVAILABLE:
      // That nobody is there to receive a message is an answer.
      return failure.reason !== "NO_SUBSCRIBERS";
    case status.DEADLINE_EXCEEDED:
      // A wait that ran out is an answer.
      return failure.reason !== "LOCK_WAIT_TIMEOUT" && failure.reason !== "NO_REPLY";
    case status.RESOURCE_EXHAUSTED:
      return isOverload(failure) && !failure.maybeApplied;
    case status.UNKNOWN:
    case status.CANCELLED:
    case status.ABORTED:
    case status.INTERNAL:
      return failure.maybeApplied || ABOUT_THE_NODE.has(failure.reason);
    default:
      return false;
  }
}

/** The error that a caller gets. */
export function toError(failure: Failure): errors.QuorateError {
  const { cause, code, reason, message } = failure;
  // The node knows that it was published, and has waited: nothing about it is unknown to it.
  if (cause === "answered" && code === status.DEADLINE_EXCEEDED && reason === "NO_REPLY") {
    return new errors.NoReplyError(reason, message);
  }
  if (failure.maybeApplied) return new errors.IndeterminateError(reason, message);
  if (cause !== "answered") return new errors.UnavailableError(reason, message);
  switch (reason) {
    case "CONDITION_FAILED":
      return new errors.ConditionFailedError(reason, message, failure.version);
    case "COMPACTED":
      return new errors.CompactedError(reason, message, failure.oldestRevision ?? 0);
    case "LOCK_LOST":
      return new errors.LockLostError(reason, message);
    case "JOB_LEASE_LOST":
    case "JOB_UNKNOWN":
      return new errors.JobLostError(reason, message);
    case "LOCK_HELD":
    case "LOCK_WAIT_TIMEOUT":
    case "LOCK_WAIT_CANCELLED":
      return new errors.NotAcquiredError(reason, message);
    case "BUILD_LEASE_LOST":
      return new errors.BuildLeaseLostError(reason, message);
    case "BUILD_FAILED":
      return new errors.BuildFailedError(reason, message);
    case "SESSION_EXPIRED":
      return new errors.SessionExpiredError(reason, message);
    case "NO_SUBSCRIBERS":
      return new errors.NoSubscribersError(reason, message);
  }
  switch (code) {
    case status.NOT_FOUND:
      return new errors.NotFoundError(reason, message);
    case status.RESOURCE_EXHAUSTED:
      return new errors.ResourceExhaustedError(reason, message);
    case status.INVALID_ARGUMENT:
    case status.FAILED_PRECONDITION:
    case status.OUT_OF_RANGE:
    case status.ALREADY_EXISTS:
      return new errors.InvalidArgumentError(reason, message);
    case status.PERMISSION_DENIED:
    case status.UNAUTHENTICATED:
      return new errors.DeniedError(reason, message);
    case status.UNAVAILABLE:
    case status.DEADLINE_EXCEEDED:
    case status.CANCELLED:
    case status.ABORTED:
    case status.UNKNOWN:
      return new errors.UnavailableError(reason, message);
    default:
      return new errors.InternalError(reason, message);
  }
}

function text(metadata: Metadata | undefined, key: string, max = WORD_MAX): string | undefined {
  const value = metadata?.get(key)[0];
  return typeof value === "string" && value !== "" && value.length <= max ? value : undefined;
}

function number(metadata: Metadata | undefined, key: string): number | undefined {
  const value = text(metadata, key, 20);
  return value !== undefined && /^\d+$/.test(value) ? Number(value) : undefined;
}

function bounded(message: string): string {
  return message.slice(0, MESSAGE_MAX);
}
