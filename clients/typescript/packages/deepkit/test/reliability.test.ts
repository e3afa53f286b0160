/** What the framework's own broker lacks: nodes and processes that fail, and more than one of them. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { BrokerBus, BrokerCache, BrokerQueue, QueueMessageProcessing } from "@deepkit/broker";
import { typeOf } from "@deepkit/type";
import { Client } from "@quorate/client";
import { QuorateCache } from "@quorate/deepkit";
import { adapterOf, clusterForFile, restartAll, until } from "./cluster.js";

const own = clusterForFile();
const { atLeastOnce } = QueueMessageProcessing;

/** The framework's cache keeps the process alive for as long as its copies live. */
const LOCAL = { ttl: "10m", maxStale: 0, inMemoryTtl: "5s" };

interface Task {
  id: number;
}

function clientOf(t: TestContext, namespace: string): Client {
  const client = new Client({ endpoints: own.cluster.endpoints, namespace });
  t.after(() => client.close());
  return client;
}

test("a subscription goes on when its node is killed, and when the whole cluster was down", async (t) => {
  const namespace = "bus-restart";
  const publisher = new BrokerBus(adapterOf(own.cluster, t, { namespace })).channel<Task>("events");
  const subscriber = new BrokerBus(adapterOf(own.cluster, t, { namespace })).channel<Task>("events");
  const heard = new Set<number>();
  await subscriber.subscribe(({ id }) => void heard.add(id));
  let id = 0;
  const hears = () =>
    until("it hears again", async () => {
      const next = ++id;
      // While nobody leads a publish may fail, and one that is not stored may be missed.
      await publisher.publish({ id: next }).catch(() => {});
      return heard.has(next);
    });
  await hears();
  const killed = await own.cluster.killLeader();
  await hears();
  await own.cluster.restart(killed);
  await own.cluster.awaitHealthy();
  await restartAll(own.cluster);
  await hears();
});

test("a subscription that found no node for long says so, and goes on when there is one", async (t) => {
  const adapter = adapterOf(own.cluster, t, { namespace: "bus-outage" });
  const channel = new BrokerBus(adapter).channel<Task>("events");
  const heard = new Set<number>();
  await channel.subscribe(({ id }) => void heard.add(id));
  const nodes = [1, 2, 3];
  await Promise.all(nodes.map((node) => own.cluster.kill(node)));
  const cutOff = () => adapter.told.some(({ where }) => where.includes('the subscription to channel "events"'));
  await until("it says that it is cut off", cutOff, 60_000);
  for (const node of nodes) await own.cluster.restart(node);
  await own.cluster.awaitHealthy();
  let id = 0;
  await until(
    "it hears again",
    async () => {
      await channel.publish({ id: ++id }).catch(() => {});
      return heard.has(id);
    },
    60_000,
  );
});

test("jobs, keys and the cache outlive a cluster that was down as a whole, and its consumers go on", async (t) => {
  const namespace = "restart";
  const channel = new BrokerQueue(adapterOf(own.cluster, t, { namespace })).channel<Task>("tasks");
  const cache = new BrokerCache(adapterOf(own.cluster, t, { namespace }), { inMemoryTtl: 100 });
  const cached = cache.item<string>("cached", () => "built again", { ttl: "10m" });
  await cached.set("kept");
  for (const id of [1, 2, 3]) await channel.produce({ id });
  const done: number[] = [];
  const consumer = new BrokerQueue(adapterOf(own.cluster, t, { namespace })).channel<Task>("tasks");
  await consumer.consume(async ({ data }) => void done.push(data.id));
  await until("three are done", () => done.length === 3);
  await channel.produce({ id: 4 }, { process: atLeastOnce, delay: "2s" });
  await restartAll(own.cluster);
  assert.equal(await cached.get(), "kept");
  await channel.produce({ id: 5 });
  await until("all are done", () => new Set(done).size === 5);
});

test("consumers of several processes share the jobs", async (t) => {
  const namespace = "competing";
  const done: [number, number][] = [];
  for (const who of [1, 2, 3]) {
    const channel = new BrokerQueue(adapterOf(own.cluster, t, { namespace })).channel<Task>("tasks");
    await channel.consume(async ({ data }) => {
      done.push([who, data.id]);
      await until("each has one", () => new Set(done.map(([worker]) => worker)).size === 3);
    });
  }
  const producer = new BrokerQueue(adapterOf(own.cluster, t, { namespace })).channel<Task>("tasks");
  await Promise.all(Array.from({ length: 60 }, (_, id) => producer.produce({ id })));
  await until("all are done", () => done.length === 60);
  assert.equal(new Set(done.map(([, id]) => id)).size, 60);
});

test("a job that fails again and again becomes a dead letter, with what was said", async (t) => {
  const namespace = "dead";
  const adapter = adapterOf(own.cluster, t, {
    namespace,
    queueSettings: (queue) => (queue === "tasks" ? { attemptsMax: 3, backoff: { exponential: false, baseMs: 10 } } : undefined),
  });
  const channel = new BrokerQueue(adapter).channel<Task>("tasks");
  const tries: number[] = [];
  await channel.consume((message) => {
    tries.push(message.tries);
    throw new Error(`attempt ${message.tries} failed`);
  });
  await channel.produce({ id: 1 });
  const client = clientOf(t, namespace);
  await until("it is dead", async () => (await client.queue.stats("tasks")).dead === 1);
  assert.deepEqual(tries, [0, 1, 2]);
  assert.deepEqual(
    adapter.told.map(({ error }) => (error as Error).message),
    ["attempt 0 failed", "attempt 1 failed", "attempt 2 failed"],
  );
});

test("a hash that is a number is not the text of it", async (t) => {
  const channel = new BrokerQueue(adapterOf(own.cluster, t)).channel<Task>("tasks");
  const done: number[] = [];
  await channel.consume(({ data }) => void done.push(data.id));
  for (const hash of [1, "1", 1, "1".repeat(300), "1".repeat(300)]) {
    await channel.produce({ id: done.length }, { process: QueueMessageProcessing.exactlyOnce, hash });
  }
  assert.deepEqual(done, [0, 1, 2]);
});

test("a consumer can say that it failed, and that a job is to come later", async (t) => {
  const namespace = "later";
  const adapter = adapterOf(own.cluster, t, { namespace, queueSettings: { backoff: { exponential: false, baseMs: 10 } } });
  const channel = new BrokerQueue(adapter).channel<Task>("tasks");
  const at: number[] = [];
  await channel.consume((message) => {
    at.push(Date.now());
    if (at.length === 1) message.failed(new Error("said so"));
    if (at.length === 2) message.delay(1);
  });
  await channel.produce({ id: 1 });
  await until("it came three times", () => at.length === 3);
  const [, second, third] = at as [number, number, number];
  // Seconds, not milliseconds.
  assert.ok(third - second >= 900, `again after ${third - second} ms`);
  await until("it is done", async () => (await clientOf(t, namespace).queue.stats("tasks")).leased === 0);
  assert.deepEqual(adapter.told.map(({ error }) => (error as Error).message), ["said so"]);
});

test("a consumer may release itself, and what it has not begun stays for others", async (t) => {
  const namespace = "self-release";
  const channel = new BrokerQueue(adapterOf(own.cluster, t, { namespace })).channel<Task>("tasks");
  for (const id of [1, 2]) await channel.produce({ id });
  const done: number[] = [];
  let released = false;
  let release = async () => {};
  const ready = new Promise<void>((resolve) => {
    void channel
      .consume(async ({ data }) => {
        await ready;
        await release();
        released = true;
        done.push(data.id);
      })
      .then((ends) => {
        release = ends;
        resolve();
      });
  });
  const begun = Date.now();
  await until("it has released itself", () => released);
  assert.ok(Date.now() - begun < 20_000, "it waited for itself");
  const client = clientOf(t, namespace);
  await until("the other job waits", async () => {
    const { ready: waiting, leased } = await client.queue.stats("tasks");
    return waiting === 1 && leased === 0;
  });
  assert.deepEqual(done, [1]);
});

test("what another process sets, it reads; what it invalidates, all build again", async (t) => {
  const namespace = "cache-processes";
  let built = 0;
  const caches = [1, 2].map(() => new BrokerCache(adapterOf(own.cluster, t, { namespace }), LOCAL));
  const [left, right] = caches.map((cache) => cache.item<number>("n", () => ++built));
  assert.ok(left && right);
  assert.deepEqual([await left.get(), await right.get(), built], [1, 1, 1]);
  await left.invalidate();
  // The other process has a copy until it hears of it.
  await until("the other one builds again", async () => (await right.get()) === 2);
  assert.equal(await left.get(), 2);
  assert.equal(await right.exists(), true);
  // What somebody else does to it counts as well, by its tags, or where the cluster can't say what.
  await clientOf(t, namespace).cache.delete("n");
  await until("both build again", async () => (await left.get()) >= 3 && (await right.get()) >= 3);
});

test("a copy is forgotten when its value is invalidated elsewhere, not when it is set", async (t) => {
  const namespace = "cache-sets";
  const writer = adapterOf(own.cluster, t, { namespace });
  const reader = adapterOf(own.cluster, t, { namespace });
  const forgotten: string[] = [];
  reader.onInvalidateCache((key) => void forgotten.push(key));
  const type = typeOf<number>();
  const options = { ttl: 600_000, maxStale: 0, tags: [] };
  for (const key of ["set", "invalidated"]) {
    await writer.setCache(key, 1, options, type);
    assert.equal((await reader.getCache(key, type))?.value, 1);
  }
  // Otherwise all processes with a copy would build the value anew, and set it, for ever.
  await writer.setCache("set", 2, options, type);
  await writer.invalidateCache("invalidated");
  await until("one is forgotten", () => forgotten.length > 0);
  assert.deepEqual(forgotten, ["invalidated"]);
  assert.equal((await reader.getCache("set", type))?.value, 2);
});

test("tags invalidate copies of all processes", async (t) => {
  const namespace = "cache-tags";
  let built = 0;
  const item = () =>
    new BrokerCache(adapterOf(own.cluster, t, { namespace }), LOCAL).item<number>("tagged", () => ++built, {
      tags: ["products"],
    });
  const [left, right] = [item(), item()];
  assert.deepEqual([await left.get(), await right.get()], [1, 1]);
  await clientOf(t, namespace).cache.invalidateTags("products");
  await until("both have another value", async () => (await left.get()) === 2 && (await right.get()) === 2);
});

test("a pattern that is deleted is forgotten key by key", async (t) => {
  const namespace = "cache-pattern";
  const reader = adapterOf(own.cluster, t, { namespace });
  const forgotten: string[] = [];
  reader.onInvalidateCache((key) => void forgotten.push(key));
  const type = typeOf<number>();
  const keys = ["product/1", "product/2", "user/1"];
  for (const key of keys) await reader.setCache(key, 1, { ttl: 600_000, maxStale: 0, tags: [] }, type);
  await clientOf(t, namespace).cache.deletePattern("product/*");
  await until("both are forgotten", () => forgotten.length >= 2);
  assert.deepEqual(forgotten.sort(), ["product/1", "product/2"]);
  assert.equal((await reader.getCache("user/1", type))?.value, 1);
});

test("copies are forgotten when the node that tells of invalidations is killed", async (t) => {
  const namespace = "cache-failover";
  const reader = adapterOf(own.cluster, t, { namespace });
  const forgotten = new Set<string>();
  reader.onInvalidateCache((key) => void forgotten.add(key));
  const type = typeOf<number>();
  const options = { ttl: 600_000, maxStale: 0, tags: [] };
  await reader.setCache("a", 1, options, type);
  await reader.getCache("b", type);
  assert.equal(forgotten.size, 0);
  // It follows one of the nodes; which one, nobody says. So each is killed once.
  for (const node of [1, 2, 3]) {
    await own.cluster.kill(node);
    await own.cluster.restart(node);
    await own.cluster.awaitHealthy();
  }
  await until("both are forgotten", () => forgotten.has("a") && forgotten.has("b"));
});

test("one of all processes builds a value, however many ask at once", async (t) => {
  const namespace = "cache-stampede";
  let built = 0;
  const items = Array.from({ length: 4 }, () =>
    new QuorateCache(adapterOf(own.cluster, t, { namespace })).item<{ n: number }>("cold", async () => {
      await new Promise((resolve) => setTimeout(resolve, 200));
      return { n: ++built };
    }),
  );
  const got = await Promise.all(items.flatMap((item) => [item.get(), item.get(), item.get()]));
  assert.deepEqual(got, Array.from({ length: 12 }, () => ({ n: 1 })));
  assert.equal(built, 1);
});

test("what a builder throws is not kept, and what is set is seen by all processes", async (t) => {
  const namespace = "cache-set";
  const [left, right] = [1, 2].map(() => new QuorateCache(adapterOf(own.cluster, t, { namespace })));
  let fails = true;
  const item = left!.item<number>("n", () => {
    if (fails) throw new Error("no value today");
    return 7;
  });
  await assert.rejects(item.get(), /no value today/);
  fails = false;
  assert.equal(await item.get(), 7);
  const other = right!.item<number>("n", () => -1);
  assert.equal(await other.get(), 7);
  await other.set(8);
  assert.equal(await other.get(), 8);
  await until("the other process sees it", async () => (await item.get()) === 8);
  await item.invalidate();
  assert.equal(await item.exists(), false);
});

test("produce resolves when its own consumer has begun, also after the leader was killed", async (t) => {
  const namespace = "delivery";
  const channel = new BrokerQueue(adapterOf(own.cluster, t, { namespace })).channel<Task>("tasks");
  const begun: number[] = [];
  await channel.consume(({ data }) => void begun.push(data.id));
  for (let id = 1; id <= 20; id++) {
    await channel.produce({ id });
    assert.deepEqual(begun.at(-1), id);
  }
  const killed = await own.cluster.killLeader();
  await channel.produce({ id: 21 });
  assert.ok(begun.includes(21));
  await own.cluster.restart(killed);
  await own.cluster.awaitHealthy();
});

test("produce does not wait for who is busy, nor for long for who is elsewhere", async (t) => {
  const namespace = "no-wait";
  const local = adapterOf(own.cluster, t, { namespace, deliveryWaitMs: 100 });
  const remote = adapterOf(own.cluster, t, { namespace });
  const channel = new BrokerQueue(local).channel<Task>("tasks");
  let handled = 0;
  let free = () => {};
  const busy = new Promise<void>((resolve) => (free = resolve));
  await channel.consume(() => {
    handled += 1;
    return busy;
  });
  await channel.produce({ id: 0 });
  assert.equal(handled, 1);
  // It has no place left, so these are stored and no more.
  const begun = Date.now();
  await Promise.all(Array.from({ length: 50 }, (_, id) => channel.produce({ id: id + 1 })));
  assert.ok(Date.now() - begun < 10_000);
  assert.equal(handled, 1);
  await new BrokerQueue(remote).channel<Task>("tasks").consume(() => void (handled += 1));
  await until("the other process does them", () => handled === 51);
  free();
});

test("a client that was given outlives the adapter; an adapter whose client was closed is quiet", async (t) => {
  const client = new Client({ endpoints: own.cluster.endpoints });
  t.after(() => client.close());
  const first = adapterOf(own.cluster, t, { client, namespace: "given" });
  await new BrokerBus(first).channel<Task>("events").subscribe(() => {});
  await first.disconnect();
  const second = adapterOf(own.cluster, t, { client, namespace: "given" });
  const cache = new BrokerCache(second, LOCAL).item<number>("n", () => 1);
  assert.equal(await cache.get(), 1);
  const channel = new BrokerBus(second).channel<Task>("events");
  const heard: number[] = [];
  await channel.subscribe(({ id }) => void heard.push(id));
  await channel.publish({ id: 1 });
  await until("it is heard", () => heard.length === 1);
  await client.close();
  // By then it would have tried again, and said so.
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  assert.deepEqual([...first.told, ...second.told], []);
  await assert.rejects(cache.get().then(() => channel.publish({ id: 2 })), /closed/);
});
