/** Locks and keys: what the framework promises and its own broker does not keep. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BrokerKeyValue, BrokerLock, BrokerLockError } from "@deepkit/broker";
import { Client } from "@quorate/client";
import { adapterOf, clusterForFile, until } from "./cluster.js";

const own = clusterForFile();

interface User {
  id: number;
  name: string;
  born: Date;
  tags: Set<string>;
}

test("a value comes back with its type, on another adapter and after the leader was killed", async (t) => {
  const namespace = "kv-types";
  const writer = new BrokerKeyValue(adapterOf(own.cluster, t, { namespace }));
  const reader = new BrokerKeyValue(adapterOf(own.cluster, t, { namespace }));
  const user: User = { id: 7, name: "Ada", born: new Date("1815-12-10"), tags: new Set(["a", "b"]) };
  await writer.set<User>("user", user);
  assert.deepEqual(await reader.get<User>("user"), user);
  const killed = await own.cluster.killLeader();
  assert.deepEqual(await reader.get<User>("user"), user);
  await own.cluster.restart(killed);
  await own.cluster.awaitHealthy();
});

test("a ttl ends a key, and setting it again takes the ttl away", async (t) => {
  const kv = new BrokerKeyValue(adapterOf(own.cluster, t));
  await kv.set<number>("short", 1, { ttl: 300 });
  await kv.set<number>("kept", 1, { ttl: 300 });
  await kv.set<number>("kept", 2);
  assert.equal(await kv.get<number>("short"), 1);
  await until("the key is gone", async () => (await kv.get<number>("short")) === undefined);
  assert.equal(await kv.get<number>("kept"), 2);
});

test("increments of several processes add up, also by fractions", async (t) => {
  const namespace = "kv-increment";
  const adapters = [1, 2, 3].map(() => new BrokerKeyValue(adapterOf(own.cluster, t, { namespace })));
  await Promise.all(adapters.flatMap((kv) => Array.from({ length: 20 }, () => kv.increment("hits", 0.5))));
  assert.equal(await adapters[0]!.increment("hits", 0), 30);
});

test("a lock ends with its ttl though its holder lives", async (t) => {
  const namespace = "lock-ttl";
  const first = new BrokerLock(adapterOf(own.cluster, t, { namespace })).item("job", { ttl: 700 });
  const second = new BrokerLock(adapterOf(own.cluster, t, { namespace })).item("job", { ttl: "1h", timeout: "30s" });
  const begun = Date.now();
  await first.acquire();
  assert.equal(await second.try(), undefined);
  await second.acquire();
  const waited = Date.now() - begun;
  assert.ok(waited >= 600, `granted after ${waited} ms`);
  assert.ok(second.acquired);
  // What the first one holds no longer it can't take away from the second one.
  await first.release();
  assert.equal(await first.isReserved(), true);
  await second.release();
  assert.equal(await first.isReserved(), false);
});

test("waiting for a lock ends with its timeout", { timeout: 30_000 }, async (t) => {
  const namespace = "lock-timeout";
  const lock = new BrokerLock(adapterOf(own.cluster, t, { namespace }));
  const other = new BrokerLock(adapterOf(own.cluster, t, { namespace }));
  await lock.item("busy").acquire();
  const waiting = other.item("busy", { timeout: 300 });
  await assert.rejects(waiting.acquire(), (error: Error) => {
    assert.ok(error instanceof BrokerLockError);
    assert.match(error.message, /timeout: lock "busy" was not granted within 300 ms/);
    return true;
  });
  assert.equal(waiting.acquired, false);
});

test("locks are granted in the order they were asked for", async (t) => {
  const namespace = "lock-order";
  const lock = new BrokerLock(adapterOf(own.cluster, t, { namespace }));
  const held = await lock.item("turn").acquire();
  const order: number[] = [];
  const watcher = new Client({ endpoints: own.cluster.endpoints, namespace });
  t.after(() => watcher.close());
  const waits: Promise<void>[] = [];
  for (let n = 1; n <= 4; n++) {
    const item = new BrokerLock(adapterOf(own.cluster, t, { namespace })).item("turn");
    waits.push(
      item.acquire().then(async () => {
        order.push(n);
        await item.release();
      }),
    );
    // The next one asks when this one waits.
    await until("it waits", async () => (await watcher.lock.inspect("turn")).waiters === n);
  }
  await held.release();
  await Promise.all(waits);
  assert.deepEqual(order, [1, 2, 3, 4]);
});

test("the locks of an adapter that disconnects, waiting ones included, are free", async (t) => {
  const namespace = "lock-disconnect";
  const gone = adapterOf(own.cluster, t, { namespace });
  const other = adapterOf(own.cluster, t, { namespace });
  const busy = await new BrokerLock(other).item("busy").acquire();
  await new BrokerLock(gone).item("held").acquire();
  const watcher = new Client({ endpoints: own.cluster.endpoints, namespace });
  t.after(() => watcher.close());
  const waits = assert.rejects(new BrokerLock(gone).item("busy").acquire(), /disconnected/);
  await until("it waits", async () => (await watcher.lock.inspect("busy")).waiters === 1);
  await gone.disconnect();
  await gone.disconnect();
  await waits;
  await new BrokerLock(other).item("held", { timeout: "20s" }).acquire();
  assert.equal((await watcher.lock.inspect("busy")).waiters, 0);
  await busy.release();
  assert.equal(await other.isLocked("busy"), false);
});

test("a lock that is released twice, or whose ttl is longer than a lease may be, does no harm", async (t) => {
  const lock = new BrokerLock(adapterOf(own.cluster, t));
  const item = lock.item("long", { ttl: "3d" });
  await item.acquire();
  await assert.rejects(item.acquire(), BrokerLockError);
  await item.release();
  await item.release();
  assert.equal(await item.isReserved(), false);
});

test("many locks at once are taken without a warning", async (t) => {
  const warnings: Error[] = [];
  const warned = (warning: Error) => void warnings.push(warning);
  process.on("warning", warned);
  t.after(() => void process.off("warning", warned));
  const lock = new BrokerLock(adapterOf(own.cluster, t));
  const items = await Promise.all(Array.from({ length: 40 }, (_, n) => lock.item(`many/${n}`).acquire()));
  await Promise.all(items.map((item) => item.release()));
  await new Promise(setImmediate);
  assert.deepEqual(warnings, []);
});
