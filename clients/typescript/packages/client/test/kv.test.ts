/** The key-value store against a cluster: each method, and watches. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { Client, CompactedError, ConditionFailedError, InvalidArgumentError, LockLostError, PayloadError, bytes, text } from "@quorate/client";
import { TestCluster } from "@quorate/testing";
import { eventually, failure, soon } from "./support.js";

describe("kv", { timeout: 300_000 }, () => {
  let cluster: TestCluster;
  let client: Client;
  before(async () => {
    cluster = await TestCluster.start();
    client = new Client({ endpoints: cluster.endpoints });
  });
  after(async () => {
    await client.close();
    await cluster.stop();
  });

  it("sets, gets and deletes, and counts versions", async () => {
    const { kv } = client;
    assert.equal(await kv.get("a"), undefined);
    const first = await kv.set("a", { deep: [1, null, "ü"] });
    assert.equal(first.version, 1);
    assert.deepEqual(await kv.get("a"), { deep: [1, null, "ü"] });
    const second = await kv.set("a", 2);
    assert.equal(second.version, 2);
    assert.ok(second.revision > first.revision);
    const entry = await kv.entry("a");
    assert.deepEqual(
      { ...entry, keyBytes: undefined },
      {
        key: "a",
        keyBytes: undefined,
        value: 2,
        version: 2,
        createRevision: first.revision,
        modRevision: second.revision,
        remainingTtlMs: undefined,
      },
    );
    assert.equal(await kv.delete("a"), true);
    assert.equal(await kv.delete("a"), false);
    assert.equal(await kv.get("a"), undefined);
  });

  it("keeps null, false, 0 and empty text apart from nothing", async () => {
    for (const value of [null, false, 0, ""]) {
      await client.kv.set("falsy", value);
      assert.equal(await client.kv.get("falsy"), value);
    }
  });

  it("sets on conditions only", async () => {
    const { kv } = client;
    const { version } = await kv.set("cas", 1);
    const conflict = await failure(kv.set("cas", 2, { ifVersion: version + 5 }), ConditionFailedError, "CONDITION_FAILED");
    assert.equal(conflict.version, version);
    assert.equal(await kv.get("cas"), 1);
    await kv.set("cas", 2, { ifVersion: version });
    await failure(kv.set("cas", 3, { ifAbsent: true }), ConditionFailedError);
    await failure(kv.delete("cas", { ifVersion: version }), ConditionFailedError);
    assert.equal(await kv.delete("cas", { ifVersion: version + 1 }), true);
    assert.equal((await kv.set("cas", 3, { ifAbsent: true })).version, 1);
    await failure(kv.set("cas", 3, { ifAbsent: true, ifVersion: 1 }), InvalidArgumentError, "BAD_OPTION", /exclude each other/);
  });

  it("lets one of many win", async () => {
    const won = await Promise.allSettled(Array.from({ length: 30 }, (_, at) => client.kv.set("race", at, { ifAbsent: true })));
    assert.equal(won.filter(({ status }) => status === "fulfilled").length, 1);
  });

  it("forgets after a ttl, which another set removes", async () => {
    const { kv } = client;
    await kv.set("short", 1, { ttlMs: 300 });
    const left = (await kv.entry("short"))?.remainingTtlMs;
    assert.ok(left !== undefined && left > 0 && left <= 300, String(left));
    await kv.set("kept", 1, { ttlMs: 300 });
    await kv.set("kept", 2);
    await eventually("the key is gone", async () => (await kv.get("short")) === undefined);
    assert.equal(await kv.get("kept"), 2);
  });

  it("increments whole and floating-point numbers exactly", async () => {
    const { kv } = client;
    assert.equal(await kv.increment("n"), 1);
    assert.equal(await kv.increment("n", 41), 42);
    assert.equal(await kv.increment("n", -50n), -8);
    assert.equal(await kv.get("n"), -8, "a counter is JSON, too");
    assert.equal(await kv.incrementFloat("f", 0.5), 0.5);
    assert.equal(await kv.incrementFloat("f", 0.25), 0.75);
    const sums = await Promise.all(Array.from({ length: 200 }, () => kv.increment("parallel")));
    assert.deepEqual(sums.sort((left, right) => left - right), Array.from({ length: 200 }, (_, at) => at + 1));
    await kv.set("word", "text");
    await failure(kv.increment("word"), InvalidArgumentError, "NOT_A_NUMBER");
    await failure(kv.increment("n", 0.5), InvalidArgumentError, "BAD_OPTION", /incrementFloat/);
    await kv.increment("big", 9_223_372_036_854_775_807n);
    await failure(kv.increment("big"), InvalidArgumentError, "OVERFLOW");
    await failure(kv.increment("big", 2n ** 70n), InvalidArgumentError, "BAD_OPTION", /by can't be sent/);
  });

  it("lists, counts and deletes by pattern and prefix", async () => {
    const kv = client.namespace("lists").kv;
    const names = Array.from({ length: 300 }, (_, at) => `item:${String(at).padStart(3, "0")}`);
    await Promise.all(names.map((name, at) => kv.set(name, { at, filling: "x".repeat(1_000) })));
    await kv.set("other", 1);
    const all = await kv.getPattern<{ at: number }>("item:*");
    assert.deepEqual(Object.keys(all), names, "in the order of their bytes");
    assert.equal(all["item:123"]?.at, 123);
    assert.equal(await kv.count("item:*"), 300);
    assert.equal(await kv.count(), 301);
    const keys: string[] = [];
    for await (const key of kv.keys("item:0[0-1]?")) keys.push(key);
    assert.deepEqual(keys, names.slice(0, 20));
    assert.equal(Object.keys(await kv.getPattern("item:", { prefix: true, limit: 7 })).length, 7);
    assert.deepEqual(await kv.getPattern("item:*", { limit: 0 }), {});
    for await (const entry of kv.list("item:*")) {
      assert.equal(entry.key, names[0]);
      break; // the stream is given up
    }
    assert.equal(await kv.deletePattern("item:1*"), 100);
    assert.equal(await kv.deletePattern("item:", { prefix: true }), 200);
    assert.deepEqual(await kv.getPattern("*"), { other: 1 });
    await failure(kv.deletePattern("x", { idempotencyKey: "k" }), InvalidArgumentError, "BAD_OPTION");
  });

  it("takes `__proto__` for a key like any other", async () => {
    await client.namespace("proto").kv.set("__proto__", 1);
    const found = await client.namespace("proto").kv.getPattern("*");
    assert.deepEqual(Object.entries(found), [["__proto__", 1]]);
  });

  it("has keys that are no text, and values of other kinds", async () => {
    const raw = client.namespace("raw").kv.withCodec(bytes);
    const key = Uint8Array.of(255, 1);
    await raw.set(key, Uint8Array.of(1, 2, 3));
    assert.deepEqual(await raw.get(key), Uint8Array.of(1, 2, 3));
    for await (const entry of raw.list()) assert.deepEqual(entry.keyBytes, key);
    await client.namespace("raw").kv.withCodec(text).set("t", "plain");
    assert.deepEqual(Buffer.from((await raw.get("t")) as Uint8Array).toString(), "plain");
  });

  it("reads what another client wrote, and as new as it is told to be", async () => {
    await using other = new Client({ endpoints: cluster.endpoints, routing: "any" });
    for (let round = 0; round < 20; round++) {
      const { revision } = await client.kv.set("seen", round);
      assert.equal(await other.kv.get("seen"), round);
      assert.equal(await other.kv.get("seen", { stale: true, minRevision: revision }), round);
    }
  });

  it("has keys that end with their client", async () => {
    const other = new Client({ endpoints: cluster.endpoints });
    await other.kv.set("alive", 1, { ephemeral: true });
    assert.equal(await client.kv.get("alive"), 1);
    const watch = await client.kv.watch("alive");
    await other.close();
    const { value } = await soon("the end of the session", watch.next());
    assert.deepEqual(value?.events.map((event) => event.type === "deleted" && event.cause), ["session-ended"]);
    watch.close();
  });

  it("refuses what a lock guards once it has passed on", async () => {
    const held = await client.lock.acquire("guard", 5);
    await client.kv.set("guarded", 1, { guard: held.guard });
    await held.release();
    await failure(client.kv.set("guarded", 2, { guard: held.guard }), LockLostError, "LOCK_LOST");
    assert.equal(await client.kv.get("guarded"), 1);
  });

  describe("watch", () => {
    it("tells each change once and in order, with its cause", async () => {
      const kv = client.namespace("watched").kv;
      const watch = await kv.watch(["a:*", "b"]);
      await kv.set("a:1", "one");
      await kv.set("c", "not watched");
      await kv.set("b", 2, { ttlMs: 100 });
      await kv.delete("a:1");
      const seen: unknown[] = [];
      while (seen.length < 4) {
        const { value } = await soon("changes", watch.next());
        for (const event of value?.events ?? []) seen.push([event.type, event.key, event.type === "set" ? event.value : event.cause]);
      }
      assert.deepEqual(seen, [
        ["set", "a:1", "one"],
        ["set", "b", 2],
        ["deleted", "a:1", "deleted"],
        ["deleted", "b", "expired"],
      ]);
      await watch.return();
      assert.deepEqual(await watch.next(), { done: true, value: undefined });
    });

    it("goes on from a revision, and never parts what happened at once", async () => {
      const inside = client.namespace("from");
      const { revision } = await inside.kv.set("a", 1);
      await inside.txn.commit({ then: [{ kvSet: "a", value: 2 }, { kvSet: "b", value: 3 }] });
      const watch = await inside.kv.watch("*", { fromRevision: revision + 1 });
      const { value } = await soon("both", watch.next());
      assert.deepEqual(value?.events.map((event) => event.key), ["a", "b"]);
      assert.equal(watch.revision, value?.revision);
      watch.close();
    });

    it("leaves values out when asked, and takes prefixes as they are", async () => {
      const kv = client.namespace("keys-only").kv;
      const watch = await kv.watch("a*", { prefix: true, keysOnly: true });
      await kv.set("ab", 1);
      await kv.set("a*b", 2);
      const { value } = await soon("the key", watch.next());
      assert.deepEqual(value?.events.map((event) => [event.key, event.type === "set" && event.value]), [["a*b", undefined]]);
      watch.close();
    });

    it("may be asked for several changes at once", async () => {
      const kv = client.namespace("at-once").kv;
      const watch = await kv.watch("*");
      const asked = [watch.next(), watch.next(), watch.next()];
      for (let at = 0; at < 3; at++) await kv.set("k", at);
      const came = await soon("three changes", Promise.all(asked));
      const values = came.flatMap(({ value }) => value?.events ?? []).map((event) => event.type === "set" && event.value);
      assert.deepEqual(values.slice(0, 1), [0]);
      watch.close();
    });

    it("throws at a value that can't be read, and another watch goes on from there", async () => {
      const { kv } = client.namespace("unreadable");
      const watch = await kv.watch("*");
      await kv.set("a", 1);
      await soon("the first", watch.next());
      await kv.withCodec(bytes).set("b", Uint8Array.of(1, 2));
      await failure(watch.next(), PayloadError, "BAD_PAYLOAD", /the value of key "b" is not application\/json/);
      assert.deepEqual(await watch.next(), { done: true, value: undefined });
      const again = await kv.withCodec(bytes).watch("*", { fromRevision: watch.revision + 1 });
      const { value } = await soon("the same again", again.next());
      assert.deepEqual(value?.events.map((event) => event.key), ["b"]);
      again.close();
    });

    it("says so when it asks for changes that are too old to be there, and from where they are", async () => {
      const { kv } = client.namespace("compacted");
      const { revision } = await kv.set("first", 1);
      // More than the 64 MiB of changes that the cluster keeps.
      const filling = "x".repeat(1_000_000);
      for (let round = 0; round < 20; round++) {
        await Promise.all(Array.from({ length: 4 }, () => kv.set("large", filling, { timeoutMs: 60_000 })));
      }
      const error = await failure(kv.watch("*", { fromRevision: revision }).then((watch) => watch.next()), CompactedError, "COMPACTED");
      assert.ok(error.oldest > revision, `${error.oldest}`);
      const watch = await kv.watch("*", { fromRevision: error.oldest, keysOnly: true });
      assert.equal((await soon("the oldest", watch.next())).value?.events[0]?.key, "large");
      watch.close();
      await kv.delete("large");
    });

    it("ends with its signal", async () => {
      const controller = new AbortController();
      const watch = await client.kv.watch("*", { signal: controller.signal });
      const next = watch.next();
      controller.abort();
      assert.equal((await soon("the end", next)).done, true);
      const old = new AbortController();
      old.abort(new Error("too late"));
      await failure(client.kv.watch("*", { signal: old.signal }), Error, undefined, /too late/);
    });
  });
});
