/** The session of a namespace, with a cluster that the tests play. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ClosedError } from "@quorate/client";
import type { Engine, Plan } from "#dist/engine.js";
import { Failed, connectFailure, silentFailure } from "#dist/failure.js";
import { SessionCell } from "#dist/session.js";
import { now } from "#dist/time.js";
import { WINDOW } from "#dist/window.js";
import { Deferred, failure, soon } from "./support.js";

/** What the cluster is asked, and what it answers. */
class Played {
  readonly asked: string[] = [];
  readonly keys: string[] = [];
  sessions = 0n;
  open: () => Promise<void> = async () => {};
  close: () => Promise<void> = async () => {};

  get engine(): Engine {
    const call = async (plan: Plan, kind: string, request: () => { origin?: { idempotencyKey?: Uint8Array } }) => {
      this.asked.push(kind);
      if (kind === "sessionOpen") {
        this.keys.push(Buffer.from(request().origin?.idempotencyKey ?? []).toString("hex"));
        await this.open();
        this.sessions += 1n;
        return { sessionId: this.sessions, ttlMs: 30_000n };
      }
      assert.equal(kind, "sessionClose", plan.what);
      await this.close();
      return {};
    };
    const closing = new AbortController().signal;
    return { call, closing, attemptTimeoutMs: 1_000 } as unknown as Engine;
  }
}

const planOf = (timeoutMs = 60_000, signal?: AbortSignal): Plan => ({
  what: "kv set",
  effect: "once",
  deadline: now() + timeoutMs,
  attemptTimeoutMs: 1_000,
  signal,
});

describe("session", () => {
  it("is opened once for all who need it at once", async () => {
    const cluster = new Played();
    const cell = new SessionCell("", 30_000);
    const tickets = await Promise.all(Array.from({ length: 10 }, () => cell.ticket(cluster.engine, planOf())));
    assert.deepEqual(cluster.asked, ["sessionOpen"]);
    assert.deepEqual(tickets.map(({ sequence }) => sequence), Array.from({ length: 10 }, (_, at) => at + 1));
    assert.equal(tickets[9]?.origin().floor, 1n);
    tickets[0]?.done();
    assert.equal(tickets[9]?.origin().floor, 2n);
    await cell.close(cluster.engine, now() + 1_000);
  });

  it("is another one when it was lost, and no number goes from one to the other", async () => {
    const cluster = new Played();
    const cell = new SessionCell("", 30_000);
    const first = await cell.ticket(cluster.engine, planOf());
    first.session.lose();
    const second = await cell.ticket(cluster.engine, planOf());
    assert.notEqual(second.session.id, first.session.id);
    assert.equal(second.sequence, 1);
    await cell.close(cluster.engine, now() + 1_000);
  });

  it("has room for so many calls, and tells the next one why it waited in vain", async () => {
    const cluster = new Played();
    const cell = new SessionCell("", 30_000);
    const tickets = await Promise.all(Array.from({ length: WINDOW }, () => cell.ticket(cluster.engine, planOf())));
    const full = await failure(cell.ticket(cluster.engine, planOf(20)), Failed);
    assert.equal(full.failure.reason, "SESSION_WINDOW_FULL");
    const controller = new AbortController();
    const given = cell.ticket(cluster.engine, planOf(60_000, controller.signal));
    const next = cell.ticket(cluster.engine, planOf());
    await new Promise((resolve) => setImmediate(resolve));
    controller.abort(new RangeError("stop"));
    await failure(given, RangeError);
    tickets[0]?.done();
    assert.equal((await soon("the next one", next)).sequence, WINDOW + 1);
    await cell.close(cluster.engine, now() + 1_000);
  });

  it("lets those who wait behind another give up by their own deadline and signal, and those behind them pass", async () => {
    const cluster = new Played();
    const opening = new Deferred();
    cluster.open = () => opening.promise;
    const cell = new SessionCell("", 30_000);
    const first = cell.ticket(cluster.engine, planOf());
    const hasty = cell.ticket(cluster.engine, planOf(20));
    const controller = new AbortController();
    const given = cell.ticket(cluster.engine, planOf(60_000, controller.signal));
    const last = cell.ticket(cluster.engine, planOf());
    controller.abort(new RangeError("stop"));
    await failure(given, RangeError);
    assert.equal((await failure(hasty, Failed)).failure.maybeApplied, false);
    opening.resolve();
    assert.deepEqual([(await first).sequence, (await soon("the last", last)).sequence], [1, 2]);
    await cell.close(cluster.engine, now() + 1_000);
  });

  it("repeats an opening of open fate under the same name, and one that was not made under another", async () => {
    const cluster = new Played();
    const cell = new SessionCell("", 30_000);
    const answers = [silentFailure("a:1", true), connectFailure("a:1", "refused")];
    cluster.open = async () => {
      const next = answers.shift();
      if (next !== undefined) throw new Failed(next);
    };
    for (let time = 0; time < 2; time++) {
      const { failure: told } = await failure(cell.ticket(cluster.engine, planOf()), Failed);
      assert.equal(told.maybeApplied, false, "the mutation that wanted it was not sent");
    }
    await cell.ticket(cluster.engine, planOf());
    assert.equal(cluster.keys[0], cluster.keys[1]);
    assert.notEqual(cluster.keys[1], cluster.keys[2]);
    await cell.close(cluster.engine, now() + 1_000);
  });

  it("is opened by nobody once its client closes, whatever is still under way", async () => {
    const cluster = new Played();
    const cell = new SessionCell("", 30_000);
    const { session } = await cell.ticket(cluster.engine, planOf());
    const closed = new Deferred();
    cluster.close = () => closed.promise;
    const closing = cell.close(cluster.engine, now() + 1_000);
    assert.equal(session.isLive(now()), false);
    await failure(cell.ticket(cluster.engine, planOf()), ClosedError, "CLIENT_CLOSED");
    await failure(cell.session(cluster.engine, planOf()), ClosedError);
    closed.resolve();
    await closing;
    assert.deepEqual(cluster.asked, ["sessionOpen", "sessionClose"]);
  });
});
