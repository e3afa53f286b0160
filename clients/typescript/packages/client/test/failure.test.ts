/** What a failed attempt means: for the effect, for the next attempt, and for the caller. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Metadata, status, type ServiceError } from "@grpc/grpc-js";
import * as Q from "@quorate/client";
import {
  connectFailure,
  deadlineFailure,
  isRememberedRejection,
  isSessionLost,
  isWorthRetrying,
  lostFailure,
  refused,
  serviceFailure,
  silentFailure,
  toError,
} from "#dist/failure.js";

const answer = (code: status, reason: string, notApplied: boolean, mutation = true) =>
  refused("a:1", { code, message: "because", reason, notApplied }, mutation);

describe("the effect of a failed attempt", () => {
  it("is none when nothing was sent, and open when the node fell silent or the connection broke", () => {
    assert.equal(connectFailure("a:1", "refused").maybeApplied, false);
    assert.equal(deadlineFailure("kv set").maybeApplied, false);
    for (const made of [lostFailure, (addr: string, _: string, mutation: boolean) => silentFailure(addr, mutation)]) {
      assert.equal(made("a:1", "reset", true).maybeApplied, true);
      assert.equal(made("a:1", "reset", false).maybeApplied, false, "a read has none");
    }
  });

  it("is none only if the node says so, or does not know the method", () => {
    assert.equal(answer(status.UNAVAILABLE, "NO_LEADER", true).maybeApplied, false);
    assert.equal(answer(status.UNAVAILABLE, "NO_LEADER", false).maybeApplied, true);
    assert.equal(answer(status.UNKNOWN, "", false).maybeApplied, true);
    assert.equal(answer(status.UNIMPLEMENTED, "", false).maybeApplied, false);
    assert.match(answer(status.UNIMPLEMENTED, "", false).message, /check that it is the client port/);
  });
});

describe("another attempt", () => {
  it("is worth it for what passes or another node may do, and for nothing that is an answer", () => {
    const worth = [
      connectFailure("a:1", "refused"),
      lostFailure("a:1", "reset", true),
      silentFailure("a:1", true),
      answer(status.UNAVAILABLE, "NO_LEADER", true),
      answer(status.RESOURCE_EXHAUSTED, "OVERLOADED", true),
      answer(status.UNKNOWN, "", false),
      answer(status.INTERNAL, "FATAL", true),
    ];
    for (const failure of worth) assert.ok(isWorthRetrying(failure), failure.reason);
    const not = [
      deadlineFailure("kv get"),
      answer(status.UNAVAILABLE, "NO_SUBSCRIBERS", true),
      answer(status.DEADLINE_EXCEEDED, "LOCK_WAIT_TIMEOUT", true),
      answer(status.DEADLINE_EXCEEDED, "NO_REPLY", false),
      answer(status.RESOURCE_EXHAUSTED, "QUEUE_FULL", true),
      answer(status.INVALID_ARGUMENT, "KEY_EMPTY", true),
      answer(status.UNAUTHENTICATED, "UNAUTHENTICATED", true),
      answer(status.FAILED_PRECONDITION, "CONDITION_FAILED", true),
    ];
    for (const failure of not) assert.ok(!isWorthRetrying(failure), failure.reason);
  });

  it("is answered the same where the state machine decided, so that answer is for all attempts", () => {
    assert.ok(isRememberedRejection(answer(status.FAILED_PRECONDITION, "CONDITION_FAILED", true)));
    assert.ok(!isRememberedRejection(answer(status.UNAVAILABLE, "NO_LEADER", true)));
    assert.ok(isSessionLost(answer(status.NOT_FOUND, "SESSION_EXPIRED", true)));
    assert.ok(!isSessionLost(silentFailure("a:1", true)));
  });
});

describe("the error a caller gets", () => {
  it("has the class that says what to do", () => {
    const cases: [ReturnType<typeof answer>, abstract new (...args: never[]) => Error][] = [
      [connectFailure("a:1", "x"), Q.UnavailableError],
      [silentFailure("a:1", true), Q.IndeterminateError],
      [silentFailure("a:1", false), Q.UnavailableError],
      [answer(status.FAILED_PRECONDITION, "CONDITION_FAILED", true), Q.ConditionFailedError],
      [answer(status.NOT_FOUND, "QUEUE_UNKNOWN", true), Q.NotFoundError],
      [answer(status.RESOURCE_EXHAUSTED, "QUEUE_FULL", true), Q.ResourceExhaustedError],
      [answer(status.INVALID_ARGUMENT, "KEY_EMPTY", true), Q.InvalidArgumentError],
      [answer(status.OUT_OF_RANGE, "OVERFLOW", true), Q.InvalidArgumentError],
      [answer(status.PERMISSION_DENIED, "FORBIDDEN", true), Q.DeniedError],
      [answer(status.UNAUTHENTICATED, "UNAUTHENTICATED", true), Q.DeniedError],
      [answer(status.ABORTED, "LOCK_LOST", true), Q.LockLostError],
      [answer(status.ABORTED, "JOB_LEASE_LOST", true), Q.JobLostError],
      [answer(status.DEADLINE_EXCEEDED, "LOCK_WAIT_TIMEOUT", true), Q.NotAcquiredError],
      [answer(status.DEADLINE_EXCEEDED, "NO_REPLY", false), Q.NoReplyError],
      [answer(status.UNAVAILABLE, "NO_SUBSCRIBERS", true), Q.NoSubscribersError],
      [answer(status.ABORTED, "BUILD_LEASE_LOST", true), Q.BuildLeaseLostError],
      [answer(status.ABORTED, "BUILD_FAILED", true), Q.BuildFailedError],
      [answer(status.NOT_FOUND, "SESSION_EXPIRED", true), Q.SessionExpiredError],
      [answer(status.OUT_OF_RANGE, "COMPACTED", true), Q.CompactedError],
      [answer(status.DATA_LOSS, "WHATEVER", true), Q.InternalError],
      [answer(status.UNAVAILABLE, "NO_LEADER", true), Q.UnavailableError],
      [answer(status.UNAVAILABLE, "NO_LEADER", false), Q.IndeterminateError],
    ];
    for (const [failure, kind] of cases) {
      const error = toError(failure);
      assert.ok(error instanceof kind, `${failure.reason} became ${error.name}`);
      assert.ok(error instanceof Q.QuorateError);
      assert.equal(error.name, kind.name);
      assert.equal(error.reason, failure.reason);
      assert.equal(error.mayHaveBeenApplied, error instanceof Q.IndeterminateError || error instanceof Q.NoReplyError);
    }
  });

  it("is told by trailers, as far as they are believable", () => {
    const error = (trailers: Record<string, string>, code = status.ABORTED): ServiceError => {
      const metadata = new Metadata();
      for (const [name, value] of Object.entries(trailers)) metadata.set(name, value);
      return Object.assign(new Error("details"), { code, details: "details", metadata });
    };
    const told = serviceFailure(
      "a:1",
      error({ "quorate-reason": "COMPACTED", "quorate-outcome": "not_applied", "quorate-oldest-revision": "77" }),
      true,
    );
    assert.equal((toError(told) as Q.CompactedError).oldest, 77);
    const odd = serviceFailure("a:1", error({ "quorate-reason": "x".repeat(500), "quorate-outcome": "not_applied" }), true);
    assert.equal(odd.reason, "UNSPECIFIED");
    const silent = serviceFailure("a:1", error({}, status.UNAVAILABLE), true);
    assert.equal(silent.cause, "lost", "what no node said is about the connection");
    assert.equal(silent.maybeApplied, true);
  });

  it("has a bounded text", () => {
    const long = refused("a:1", { code: status.INTERNAL, message: "x".repeat(100_000), reason: "y".repeat(100_000), notApplied: true }, true);
    assert.ok(long.message.length <= 2_000 && long.reason.length <= 64);
  });
});
