/** Locks against a cluster: order, sharing, fencing, and being told of a loss. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { Client, InvalidArgumentError, LockLostError, NotAcquiredError } from "@quorate/client";
import { TestCluster } from "@quorate/testing";
import { Deferred, eventually, failure, soon } from "./support.js";

describe("lock", { timeout: 300_000 }, () => {
  let cluster: TestCluster;
  let client: Client;
  let other: Client;
  before(async () => {
    cluster = await TestCluster.start();
    client = new Client({ endpoints: cluster.endpoints });
    other = new Client({ endpoints: cluster.endpoints });
  });
  after(async () => {
    await client.close();
    await other.close();
    await cluster.stop();
  });

  it("is held by one, given back by name, and tokens grow", async () => {
    const held = await client.lock.acquire("a", 5);
    assert.ok(held.remainingMs > 0 && !held.isLost && !held.signal.aborted);
    assert.equal(await other.lock.tryAcquire("a"), undefined);
    assert.equal((await other.lock.inspect("a")).holders[0]?.fencingToken, held.fencingToken);
    assert.equal(await other.lock.release("a"), false, "it does not hold it");
    assert.equal(await client.lock.release("a"), true);
    assert.equal(await client.lock.release("a"), false);
    assert.equal(held.isLost, true);
    assert.equal(held.signal.aborted, false, "what was given back was not lost");
    const next = await other.lock.tryAcquire("a");
    assert.ok((next?.fencingToken ?? 0) > held.fencingToken);
    assert.equal(await next?.release(), true);
    assert.equal(await next?.release(), true, "the same answer again");
  });

  it("says timeout when the wait was in vain, and holds nothing then", async () => {
    const held = await client.lock.acquire("busy", 5);
    for (const wait of [0.2, { waitMs: 200 }]) {
      await failure(other.lock.acquire("busy", wait), NotAcquiredError, "LOCK_WAIT_TIMEOUT", /timeout/);
    }
    await failure(other.lock.acquire("busy", 0), NotAcquiredError, "LOCK_HELD");
    assert.equal((await client.lock.inspect("busy")).waiters, 0);
    await held.release();
    assert.deepEqual((await client.lock.inspect("busy")).holders, []);
  });

  it("is given in the order it was asked for", async () => {
    const held = await client.lock.acquire("fair", 5);
    const order: number[] = [];
    const waiting: Promise<void>[] = [];
    for (let at = 0; at < 6; at++) {
      const one = at % 2 === 0 ? client : other;
      waiting.push(
        one.lock.run("fair", () => void order.push(at), 60),
      );
      await eventually("it waits", async () => (await client.lock.inspect("fair")).waiters === at + 1);
    }
    await held.release();
    await soon("all", Promise.all(waiting));
    assert.deepEqual(order, [0, 1, 2, 3, 4, 5]);
  });

  it("is shared by those who ask so, and by so many as there are permits", async () => {
    const readers = await Promise.all([client, other, client].map((one) => one.lock.acquire("rw", { shared: true })));
    assert.equal(await other.lock.tryAcquire("rw"), undefined);
    for (const reader of readers) await reader.release();
    const writer = await other.lock.tryAcquire("rw");
    assert.equal(await client.lock.tryAcquire("rw", { shared: true }), undefined);
    await writer?.release();
    const permits = await Promise.all([client, other].map((one) => one.lock.acquire("sem", { permits: 2 })));
    assert.equal(await client.lock.tryAcquire("sem", { permits: 2 }), undefined);
    for (const permit of permits) await permit.release();
    await failure(client.lock.acquire("sem", { permits: 2, shared: true }), InvalidArgumentError, "BAD_OPTION", /exclude each other/);
  });

  it("is given back at the end of a block or a function, also one that throws", async () => {
    {
      await using held = await client.lock.acquire("scoped", 5);
      assert.equal(held.isLost, false);
    }
    await failure(
      client.lock.run("scoped", () => {
        throw new RangeError("inside");
      }),
      RangeError,
    );
    assert.equal(await client.lock.run("scoped", (held) => held.name), "scoped");
    assert.deepEqual((await client.lock.inspect("scoped")).holders, []);
  });

  it("outlives its lease while this process lives, and ends with the client", async () => {
    const owner = new Client({ endpoints: cluster.endpoints });
    const held = await owner.lock.acquire("renewed", { ttlMs: 600 });
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    assert.equal(held.isLost, false);
    assert.equal(await client.lock.tryAcquire("renewed"), undefined);
    const waiting = client.lock.acquire("renewed", 60);
    await owner.close();
    await (await soon("the lock", waiting)).release();
  });

  it("withdraws a wait that its signal or its client ends", async () => {
    const held = await client.lock.acquire("withdrawn", 5);
    const controller = new AbortController();
    const waiting = other.lock.acquire("withdrawn", { waitMs: 60_000, signal: controller.signal });
    await eventually("it waits", async () => (await client.lock.inspect("withdrawn")).waiters === 1);
    controller.abort(new Error("no longer wanted"));
    await failure(waiting, Error, undefined, /no longer wanted/);
    await eventually("it waits no more", async () => (await client.lock.inspect("withdrawn")).waiters === 0);

    const third = new Client({ endpoints: cluster.endpoints });
    const theirs = third.lock.acquire("withdrawn", 60);
    theirs.catch(() => {});
    await eventually("it waits", async () => (await client.lock.inspect("withdrawn")).waiters === 1);
    await third.close();
    await failure(theirs, Error);
    assert.equal((await client.lock.inspect("withdrawn")).waiters, 0);
    await held.release();
    assert.deepEqual((await client.lock.inspect("withdrawn")).holders, [], "it was not granted to the one that is closed");
  });

  it("tells its holder when it is taken away", async () => {
    const held = await client.lock.acquire("taken", { ttlMs: 3_000 });
    const lost = new Deferred<unknown>();
    held.signal.addEventListener("abort", () => lost.resolve(held.signal.reason));
    assert.equal(await other.lock.forceRelease("taken"), 1);
    const reason = await soon("the signal", lost.promise);
    assert.ok(reason instanceof LockLostError);
    assert.equal(held.isLost, true);
    assert.equal(await held.release(), false);
    await failure(client.kv.set("fenced", 1, { guard: held.guard }), LockLostError);
  });

  it("refuses what makes no sense", async () => {
    const { lock } = client;
    const bad: [() => Promise<unknown>, string, RegExp][] = [
      [() => lock.acquire(""), "LOCK_NAME_EMPTY", /empty/],
      [() => lock.acquire(undefined as never), "BAD_OPTION", /the lock's name is a string/],
      [() => lock.acquire("x", NaN), "BAD_OPTION", /the wait is NaN/],
      [() => lock.acquire("x", -1), "BAD_OPTION", /the wait is -1000/],
      [() => lock.acquire("x", { ttlMs: 5 }), "INVALID_TTL", /100 to 3600000/],
      [() => lock.acquire("x", { permits: 0 }), "INVALID_PERMITS", /1 to 1000/],
      [() => lock.acquire("x", { permits: 1.5 }), "BAD_OPTION", /permits can't be sent/],
      [() => lock.acquire("x", 1e9), "INVALID_WAIT", /86400000/],
    ];
    for (const [call, reason, message] of bad) await failure(call(), InvalidArgumentError, reason, message);
  });

  // The last one here: it stops the whole cluster for a while.
  it("is lost by this process's own clock when no node answers, before another can have it", async () => {
    const ttlMs = 1_500;
    const held = await client.lock.acquire("lost", { ttlMs });
    const lost = new Deferred<number>();
    held.signal.addEventListener("abort", () => lost.resolve(performance.now()));
    for (const id of [1, 2, 3]) await cluster.pause(id);
    const pausedAt = performance.now();
    try {
      const lostAt = await soon("the loss", lost.promise);
      // It was renewed just before the pause at the latest, and no node can have prolonged it since.
      assert.ok(lostAt - pausedAt <= ttlMs + 500, `${lostAt - pausedAt} ms`);
      assert.ok(held.isLost);
      assert.equal(held.remainingMs, 0);
    } finally {
      for (const id of [1, 2, 3]) await cluster.resume(id);
    }
    await cluster.awaitHealthy();
    const next = await other.lock.acquire("lost", 30);
    assert.ok(next.fencingToken > held.fencingToken);
    await failure(client.kv.set("fenced", 1, { guard: held.guard, timeoutMs: 30_000 }), LockLostError);
    await next.release();
  });
});
