/** The cache against a cluster: each method, one builder at a time, stale values and near copies. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { BuildFailedError, Client, InvalidArgumentError, PayloadError, bytes, type BuildOptions } from "@quorate/client";
import { TestCluster } from "@quorate/testing";
import { Deferred, eventually, failure, soon } from "./support.js";

describe("cache", { timeout: 300_000 }, () => {
  let cluster: TestCluster;
  let client: Client;
  let other: Client;
  before(async () => {
    cluster = await TestCluster.start();
    client = new Client({ endpoints: cluster.endpoints });
    other = new Client({ endpoints: cluster.endpoints, routing: "any" });
  });
  after(async () => {
    await client.close();
    await other.close();
    await cluster.stop();
  });

  it("sets with a ttl in seconds, gets and deletes", async () => {
    const { cache } = client;
    await cache.set("a", { x: 1 }, 3600);
    assert.deepEqual(await cache.get("a"), { x: 1 });
    const entry = await cache.entry("a");
    assert.ok(entry?.remainingTtlMs !== undefined && entry.remainingTtlMs > 3_500_000 && entry.remainingTtlMs <= 3_600_000);
    assert.equal(entry.stale, false);
    await cache.set("b", 1);
    assert.equal((await cache.entry("b"))?.remainingTtlMs, undefined);
    assert.equal(await cache.delete("a"), true);
    assert.equal(await cache.delete("a"), false);
    assert.equal(await cache.get("a"), undefined);
    await cache.set("soon", 1, 0.2);
    await eventually("it is over", async () => (await cache.get("soon")) === undefined);
  });

  it("answers no read what was before this client's own write, at whichever node", async () => {
    for (let round = 0; round < 50; round++) {
      await other.cache.set("own", round, 60);
      assert.equal(await other.cache.get("own"), round);
    }
    await client.cache.set("own", "new", 60);
    assert.equal(await other.cache.get("own", { linearizable: true }), "new");
  });

  it("deletes by pattern and by tag, and touches", async () => {
    const { cache } = client.namespace("patterns");
    for (const key of ["products:1", "products:2", "users:1"]) await cache.set(key, key, { ttlMs: 60_000, tags: [`t:${key}`, "all"] });
    assert.equal(await cache.deletePattern("products:*"), 2);
    assert.equal(await cache.get("products:1"), undefined);
    assert.equal(await cache.get("users:1"), "users:1");
    assert.equal(await cache.touch("users:1", 3_600), true);
    assert.ok(((await cache.entry("users:1"))?.remainingTtlMs ?? 0) > 60_000);
    assert.equal(await cache.touch("nothing", 1), false);
    await cache.invalidateTags("all");
    assert.equal(await cache.get("users:1"), undefined);
    await cache.set("x:1", 1);
    assert.equal(await cache.deletePattern("x:", { prefix: true }), 1);
    await failure(cache.deletePattern("x", { idempotencyKey: "k" }), InvalidArgumentError, "BAD_OPTION");
  });

  it("counts", async () => {
    await client.cache.set("counted", 1);
    const stats = await client.cache.stats();
    assert.ok(stats.entries > 0 && stats.bytes > 0 && stats.bytesMax > stats.bytes);
  });

  it("says what is not JSON, and reads it with the codec it was written with", async () => {
    await client.cache.withCodec(bytes).set("raw", Uint8Array.of(0, 1));
    await failure(client.cache.get("raw"), PayloadError, "BAD_PAYLOAD", /the value of key "raw" of the cache is not application\/json/);
    assert.deepEqual(await client.cache.withCodec(bytes).get("raw"), Uint8Array.of(0, 1));
  });

  describe("getOrBuild", () => {
    it("builds once for all who miss it at once, in all clients", async () => {
      let builds = 0;
      const release = new Deferred();
      const build = async () => {
        builds += 1;
        await release.promise;
        return { built: builds };
      };
      const asked = [client, other, client, other].flatMap((one) =>
        Array.from({ length: 10 }, () => one.cache.getOrBuild("once", build, 60)),
      );
      await eventually("somebody builds", () => builds > 0);
      release.resolve();
      const values = await soon("all", Promise.all(asked));
      assert.equal(builds, 1);
      for (const value of values) assert.deepEqual(value, { built: 1 });
      assert.deepEqual(await other.cache.get("once"), { built: 1 });
    });

    it("makes one call for all of this client who wait, which leaves room for others", async () => {
      const release = new Deferred();
      const building = new Deferred();
      // More than a session has room for.
      const asked = Array.from({ length: 2_000 }, () =>
        client.cache.getOrBuild("crowd", async () => {
          building.resolve();
          await release.promise;
          return 1;
        }),
      );
      await building.promise;
      await client.kv.set("beside the crowd", 1);
      release.resolve();
      assert.deepEqual(new Set(await soon("the crowd", Promise.all(asked))), new Set([1]));
    });

    it("throws what the function throws, stores nothing, and tells those who wait elsewhere", async () => {
      const release = new Deferred();
      const building = new Deferred();
      const mine = client.cache.getOrBuild("broken", async () => {
        building.resolve();
        await release.promise;
        throw new RangeError("the database is down");
      });
      mine.catch(() => {});
      await building.promise;
      const theirs = other.cache.getOrBuild("broken", () => "theirs");
      theirs.catch(() => {});
      release.resolve();
      await failure(mine, RangeError, undefined, /the database is down/);
      const came = await soon("the other's", Promise.allSettled([theirs]));
      // Told of the failure, or too late to be told and the next builder.
      if (came[0].status === "rejected") await failure(theirs, BuildFailedError, "BUILD_FAILED", /the database is down/);
      else assert.equal(came[0].value, "theirs");
      await client.cache.delete("broken");
      assert.equal(await client.cache.getOrBuild("broken", () => "mended"), "mended");
    });

    it("refuses what can't be written, and what was built is not stored", async () => {
      await failure(client.cache.getOrBuild("undefined", () => undefined), PayloadError, "BAD_PAYLOAD", /built for key "undefined"/);
      assert.equal(await client.cache.get("undefined"), undefined);
    });

    it("shows a stale value while a new one is built, once", async () => {
      const { cache } = client.namespace("stale");
      const options: BuildOptions = { ttlMs: 100, staleForMs: 60_000 };
      await cache.getOrBuild("k", () => "old", options);
      await eventually("it is stale", async () => (await cache.get("k")) === undefined);
      assert.deepEqual((await cache.entry("k", { allowStale: true }))?.stale, true);
      const release = new Deferred();
      let builds = 0;
      const build = async () => {
        builds += 1;
        await release.promise;
        return "new";
      };
      const shown = await Promise.all(Array.from({ length: 10 }, () => cache.getOrBuild("k", build, { ...options, ttlMs: 60_000 })));
      assert.deepEqual(new Set(shown), new Set(["old"]));
      release.resolve();
      await eventually("the new one is there", async () => (await cache.get("k")) === "new");
      assert.equal(builds, 1);
    });

    it("waits for the new value when a stale one is not wanted", async () => {
      const { cache } = client.namespace("fresh");
      await cache.set("k", "old", { ttlMs: 50, staleForMs: 60_000 });
      await eventually("it is stale", async () => (await cache.get("k")) === undefined);
      assert.equal(await cache.getOrBuild("k", () => "new", { freshOnly: true }), "new");
    });

    it("does not store what was invalidated while it was built", async () => {
      let builds = 0;
      const value = await client.cache.getOrBuild("late", async () => {
        builds += 1;
        if (builds === 1) await other.cache.set("late", "set by another", 60);
        return `built ${builds}`;
      });
      assert.equal(value, "set by another");
      assert.equal(await client.cache.get("late", { linearizable: true }), "set by another");
    });

    it("lets one who waits give up by himself, and goes on for the others", async () => {
      const release = new Deferred();
      const building = new Deferred();
      const first = client.cache.getOrBuild("given up", async () => {
        building.resolve();
        await release.promise;
        return 1;
      });
      await building.promise;
      const controller = new AbortController();
      const second = client.cache.getOrBuild("given up", () => 2, { signal: controller.signal });
      controller.abort(new RangeError("given up"));
      await failure(second, RangeError, undefined, /given up/);
      release.resolve();
      assert.equal(await first, 1);
    });
  });

  describe("near", () => {
    it("shows copies without asking, until another client changes them", async () => {
      const near = client.namespace("near").cache.near();
      const theirs = other.namespace("near").cache;
      await theirs.set("k", 1, 60);
      await near.get("k"); // begins the stream
      await eventually("there is a copy", async () => {
        await near.get("k");
        return await unasked(client, () => near.get("k"));
      });
      for (let value = 2; value < 10; value++) {
        await theirs.set("k", value, 60);
        await eventually("the copy is right", async () => (await near.get("k")) === value);
      }
      await theirs.deletePattern("*");
      await eventually("it is gone", async () => (await near.get("k")) === undefined);
    });

    it("never shows what was before a write of its own", async () => {
      const near = client.namespace("near-own").cache.near({ bytesMax: 1 << 20 });
      for (let value = 0; value < 200; value++) {
        await near.set("k", value, 60);
        assert.equal(await near.get("k"), value);
        assert.equal(await near.get("k"), value);
      }
      await near.delete("k");
      assert.equal(await near.get("k"), undefined);
      await near.set("t", 1, { tags: ["tag"] });
      await near.get("t");
      await near.invalidateTags(["tag"]);
      assert.equal(await near.get("t"), undefined);
    });

    it("counts down the ttl of a copy", async () => {
      const near = client.namespace("near-ttl").cache.near();
      await near.set("k", 1, 0.5);
      await near.get("k");
      await eventually("it is over", async () => (await near.get("k")) === undefined);
    });
  });
});

/** Whether a read is answered without a message to a node: within the same turn of the event loop. */
async function unasked(_client: Client, read: () => Promise<unknown>): Promise<boolean> {
  let answered = false;
  void read().then(() => (answered = true));
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  return answered;
}
