/** Transactions against a cluster: each kind of condition and operation, all or none. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { Client, InvalidArgumentError, JobLostError, NotFoundError, PayloadError, ResourceExhaustedError, type Condition, type Operation } from "@quorate/client";
import { TestCluster } from "@quorate/testing";
import { failure, soon } from "./support.js";

describe("txn", { timeout: 300_000 }, () => {
  let cluster: TestCluster;
  let client: Client;
  before(async () => {
    cluster = await TestCluster.start({ nodes: 1 });
    client = new Client({ endpoints: cluster.endpoints });
  });
  after(async () => {
    await client.close();
    await cluster.stop();
  });

  it("does everything of all services at one moment", async () => {
    const { kv, cache, queue, bus, lock, txn } = client.namespace("all");
    await kv.set("old", 1);
    await cache.set("stale", 1);
    await cache.set("tagged", 1, { tags: ["t"] });
    await queue.add("todo", "first");
    const [job] = await queue.pull("todo", { waitMs: 10_000 });
    const held = await lock.acquire("l", 5);
    const subscription = await bus.subscribe("done");
    const outcome = await txn.commit({
      if: [{ lock: "l", fencingToken: held.fencingToken }, { kv: "old", exists: true }],
      then: [
        { kvSet: "new", value: { a: 1 }, ttlMs: 60_000 },
        { kvGet: "new" },
        { kvGet: "nothing" },
        { kvDelete: "old", ifVersion: 1 },
        { kvIncrement: "count", by: 5 },
        { kvIncrementFloat: "float", by: 0.5 },
        { cacheSet: "fresh", value: [1], ttlMs: 60_000, tags: ["x"] },
        { cacheDelete: "stale" },
        { cacheInvalidateTags: ["t"] },
        { queueAdd: "next", data: { job: 1 }, priority: 3 },
        { queueAck: "todo", id: job?.id as string, lease: job?.lease as string },
        { lockRelease: "l", fencingToken: held.fencingToken },
        { busPublish: "done", message: { all: true }, headers: { h: "v" } },
      ],
    });
    assert.equal(outcome.succeeded, true);
    assert.equal(outcome.failedCondition, undefined);
    assert.deepEqual(
      outcome.results.map(({ kind }) => kind),
      ["kvSet", "kvGet", "kvGet", "kvDelete", "kvIncrement", "kvIncrementFloat", "cacheSet", "cacheDelete", "cacheInvalidateTags", "queuePush", "queueAck", "lockRelease", "busPublish"],
    );
    const [set, got, nothing, deleted, count, float] = outcome.results;
    assert.deepEqual(set, { kind: "kvSet", version: 1 });
    assert.ok(got?.kind === "kvGet" && got.entry !== undefined);
    assert.deepEqual(got.entry.value, { a: 1 });
    assert.equal(got.entry.modRevision, outcome.revision);
    assert.deepEqual(nothing, { kind: "kvGet", entry: undefined });
    assert.deepEqual(deleted, { kind: "kvDelete", deleted: true });
    assert.deepEqual(count, { kind: "kvIncrement", value: 5, version: 1 });
    assert.deepEqual(float, { kind: "kvIncrementFloat", value: 0.5, version: 1 });
    assert.deepEqual(await kv.get("new"), { a: 1 });
    assert.deepEqual(await cache.get("fresh"), [1]);
    assert.equal(await cache.get("tagged"), undefined);
    assert.equal((await queue.stats("todo")).leased, 0);
    assert.deepEqual((await queue.pull("next", { waitMs: 10_000 })).map(({ data, priority }) => [data, priority]), [[{ job: 1 }, 3]]);
    assert.deepEqual((await lock.inspect("l")).holders, []);
    const { value: message } = await soon("the message", subscription.next());
    assert.deepEqual([message?.message, message?.headers["h"]], [{ all: true }, "v"]);
    await subscription.unsubscribe();
  });

  it("does the other thing where a condition does not hold, and says which", async () => {
    const { kv, txn, lock, queue } = client.namespace("else");
    await kv.set("k", { deep: 1 });
    await queue.add("q", 1);
    const held = await lock.acquire("l", 5);
    const cases: [Condition, boolean][] = [
      [{ kv: "k", version: 1 }, true],
      [{ kv: "k", version: 2 }, false],
      [{ kv: "k", exists: true }, true],
      [{ kv: "k", exists: false }, false],
      [{ kv: "k", value: { deep: 1 } }, true],
      [{ kv: "k", value: { deep: 2 } }, false],
      [{ lock: "l", fencingToken: held.fencingToken }, true],
      [{ lock: "l", fencingToken: held.fencingToken + 1 }, false],
      [{ lock: "l", free: true }, false],
      [{ lock: "free", free: true }, true],
      [{ queue: "q", jobsAtMost: 1 }, true],
      [{ queue: "q", jobsAtMost: 0 }, false],
    ];
    for (const [condition, holds] of cases) {
      const text = JSON.stringify(condition);
      const outcome = await txn.commit({ if: [{ kv: "k", exists: true }, condition], then: [{ kvSet: "was", value: "then" }], else: [{ kvSet: "was", value: "else" }] });
      assert.equal(outcome.succeeded, holds, text);
      assert.equal(outcome.failedCondition, holds ? undefined : 1, text);
      assert.equal(await kv.get("was"), holds ? "then" : "else", text);
    }
    const neither = await txn.commit({ if: [{ kv: "k", exists: false }], then: [{ kvDelete: "k" }] });
    assert.deepEqual([neither.succeeded, neither.results], [false, []]);
    await held.release();
  });

  it("does nothing at all when one operation fails", async () => {
    const { kv, queue, txn } = client.namespace("nothing");
    await kv.set("word", "text");
    const bad: Operation[][] = [
      [{ kvSet: "a", value: 1 }, { kvIncrement: "word" }],
      [{ kvSet: "a", value: 1 }, { queueAck: "q", id: "1", lease: "1" }],
      [{ kvSet: "a", value: 1 }, { kvSet: "word", value: 2, ifAbsent: true }],
    ];
    for (const then of bad) await failure(txn.commit({ then }), Error);
    assert.equal(await kv.get("a"), undefined);
    await failure(queue.stats("q"), NotFoundError, "QUEUE_UNKNOWN");
    await queue.declare("q");
    await failure(txn.commit({ then: [{ queueAck: "q", id: "1", lease: "1" }] }), JobLostError);
  });

  it("reads several keys at one moment", async () => {
    const { kv, txn } = client.namespace("moment");
    await kv.set("left", 0);
    await kv.set("right", 0);
    let going = true;
    const writing = (async () => {
      for (let at = 1; going; at++) await txn.commit({ then: [{ kvSet: "left", value: at }, { kvSet: "right", value: at }] });
    })();
    for (let round = 0; round < 100; round++) {
      const { results } = await txn.commit({ then: [{ kvGet: "left" }, { kvGet: "right" }] });
      const [left, right] = results.map((one) => one.kind === "kvGet" && one.entry?.value);
      assert.equal(left, right);
    }
    going = false;
    await writing;
  });

  it("has one effect under an idempotency key, however often it is sent", async () => {
    const { kv, txn } = client.namespace("once");
    const spec = { then: [{ kvIncrement: "n" }] };
    for (let time = 0; time < 5; time++) await txn.commit(spec, { idempotencyKey: "the same" });
    assert.equal(await kv.get("n"), 1);
    await failure(txn.commit({ then: [{ kvIncrement: "n", by: 2 }] }, { idempotencyKey: "the same" }), InvalidArgumentError);
  });

  it("refuses what is no operation or no condition, before it sends anything", async () => {
    const { txn } = client;
    for (const bad of [null, undefined, 5, "kvSet", {}, { kvSett: 1 }]) {
      await failure(txn.commit({ then: [bad as never] }), InvalidArgumentError, "BAD_OPTION", /no operation/);
      await failure(txn.commit({ if: [bad as never] }), InvalidArgumentError, "BAD_OPTION", /no condition/);
    }
    await failure(txn.commit({ then: [{ kvSet: "a", value: undefined }] }), PayloadError);
    await failure(txn.commit({ then: [{ queueAck: "q", id: "x", lease: "1" }] }), InvalidArgumentError, "BAD_OPTION", /no id/);
    await failure(txn.commit({ if: [{ kv: "a", version: NaN }] }), InvalidArgumentError, "BAD_OPTION", /whole number/);
    await failure(txn.commit({ then: Array.from({ length: 129 }, () => ({ kvIncrement: "n" })) }), ResourceExhaustedError, undefined, /128/);
  });
});
