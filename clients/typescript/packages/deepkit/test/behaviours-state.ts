/** Behaviours of the key-value store, the cache and locks, as their documentation has them. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { BrokerCache, BrokerKeyValue, BrokerLock, BrokerLockError } from "@deepkit/broker";
import { type Behaviour, moment } from "./behaviour.js";
import { until } from "./cluster.js";

interface Setting {
  name: string;
  since: Date;
}

const keyValue: Behaviour[] = [
  {
    name: "key-value: what was set is read until it is removed, also through items",
    async run({ adapter }) {
      const kv = new BrokerKeyValue(adapter);
      assert.equal(await kv.get<Setting>("a"), undefined);
      const setting: Setting = { name: "x", since: new Date(0) };
      await kv.set<Setting>("a", setting);
      assert.deepEqual(await kv.get<Setting>("a"), setting);
      const item = kv.item<Setting>("a");
      assert.deepEqual(await item.get(), setting);
      await item.set({ ...setting, name: "y" });
      assert.equal((await kv.get<Setting>("a")).name, "y");
      await item.remove();
      await kv.remove("a");
      assert.equal(await item.get(), undefined);
    },
  },
  {
    name: "key-value: increments at once all count, and 0 reads",
    async run({ adapter }) {
      const kv = new BrokerKeyValue(adapter);
      const sums = await Promise.all([kv.increment("n", 2), kv.increment("n", 3), kv.increment("n", -1.5)]);
      assert.equal(Math.max(...sums) >= 3.5, true);
      assert.equal(await kv.increment("n", 0), 3.5);
    },
  },
  {
    name: "key-value: a counter that was removed begins at 0",
    async run({ adapter }) {
      const item = new BrokerKeyValue(adapter).item<number>("n");
      await item.increment(5);
      await item.remove();
      assert.equal(await item.increment(1), 1);
    },
  },
  {
    name: "key-value: a ttl ends a key",
    async run({ adapter, soonMs }) {
      const kv = new BrokerKeyValue(adapter);
      await kv.set<string>("short", "v", { ttl: "200ms" });
      assert.equal(await kv.get<string>("short"), "v");
      await until("the key is gone", async () => (await kv.get<string>("short")) === undefined, soonMs);
    },
  },
  {
    name: "key-value: setting a key again takes its ttl away",
    memoryFails: "the timer of the first value removes the second one",
    async run({ adapter }) {
      const kv = new BrokerKeyValue(adapter);
      await kv.set<number>("again", 1, { ttl: 150 });
      await kv.set<number>("again", 2);
      await moment(400);
      assert.equal(await kv.get<number>("again"), 2);
    },
  },
  {
    name: "key-value: a value of another type is refused before it is sent",
    async run({ adapter }) {
      const kv = new BrokerKeyValue(adapter);
      await assert.rejects(kv.set<number>("typed", "text" as unknown as number), /number/);
      assert.equal(await kv.get<number>("typed"), undefined);
    },
  },
];

const cache: Behaviour[] = [
  {
    name: "cache: a value is built once, and again when it was invalidated",
    async run({ adapter }) {
      let built = 0;
      const cache = new BrokerCache(adapter, { ttl: "1m", inMemoryTtl: 500 });
      const item = cache.item<{ n: number }>("built", () => ({ n: ++built }));
      assert.deepEqual(await item.get(), { n: 1 });
      assert.deepEqual(await item.get(), { n: 1 });
      await item.invalidate();
      assert.deepEqual(await item.get(), { n: 2 });
      assert.deepEqual(await item.get(), { n: 2 });
    },
  },
  {
    name: "cache: a value exists until its ttl is over",
    async run({ adapter, soonMs }) {
      let built = 0;
      const cache = new BrokerCache(adapter, { inMemoryTtl: 500 });
      const item = cache.item<{ n: number }>("short", () => ({ n: ++built }), { ttl: 300 });
      assert.equal(await item.exists(), false);
      assert.deepEqual(await item.get(), { n: 1 });
      assert.equal(await item.exists(), true);
      await until("its ttl is over", async () => !(await item.exists()), soonMs);
      assert.deepEqual(await item.get(), { n: 2 });
    },
  },
  {
    name: "cache: what was set is what is read, without a builder",
    memoryFails: "its second level answers in a field that is not read, so it never has anything",
    async run({ adapter }) {
      const cache = new BrokerCache(adapter, { inMemoryTtl: 500 });
      const item = cache.item<number>("set", () => -1, { ttl: "1m" });
      await item.set(99);
      assert.equal(await item.get(), 99);
    },
  },
  {
    name: "cache: another cache on the same broker has the value, and knows that it exists",
    memoryFails: "its second level answers in a field that is not read, and a ttl where a time is expected",
    async run({ adapter }) {
      const options = { ttl: "1m", inMemoryTtl: 500 };
      await new BrokerCache(adapter, options).item<string>("shared", () => "first").get();
      const other = new BrokerCache(adapter, options).item<string>("shared", () => "second");
      assert.equal(await other.exists(), true);
      assert.equal(await other.get(), "first");
    },
  },
];

const lock: Behaviour[] = [
  {
    name: "lock: one has it, another can't take it, and then can",
    async run({ adapter }) {
      const lock = new BrokerLock(adapter);
      const id = randomUUID();
      const first = lock.item(id, { ttl: "1m" });
      const second = lock.item(id, { ttl: "1m" });
      await first.acquire();
      assert.equal(first.acquired, true);
      assert.equal(second.acquired, false);
      assert.equal(await second.isReserved(), true);
      assert.equal(await second.try(), undefined);
      await first.release();
      assert.equal(first.acquired, false);
      assert.equal(await second.isReserved(), false);
      assert.equal(await second.try(), second);
      await second.release();
      await second.release();
    },
  },
  {
    name: "lock: who waits has it when it is released, and an item takes it once",
    async run({ adapter }) {
      const lock = new BrokerLock(adapter);
      const id = randomUUID();
      const first = await lock.item(id, { ttl: "1m" }).hold();
      await assert.rejects(first.acquire(), BrokerLockError);
      const second = lock.item(id, { ttl: "1m" });
      let granted = false;
      const waits = second.acquire().then(() => (granted = true));
      await moment(100);
      assert.equal(granted, false);
      await first.release();
      await waits;
      await second.release();
    },
  },
  {
    name: "lock: it is free again when its ttl is over",
    memoryFails: "it takes milliseconds for seconds",
    async run({ adapter, soonMs }) {
      const lock = new BrokerLock(adapter);
      const id = randomUUID();
      await lock.item(id, { ttl: 300 }).acquire();
      const other = lock.item(id, { ttl: "1m" });
      await until("the lock is free", async () => (await other.try()) !== undefined, soonMs);
    },
  },
  {
    name: "lock: waiting for it ends with its timeout",
    memoryFails: "it takes milliseconds for seconds",
    async run({ adapter, soonMs }) {
      const lock = new BrokerLock(adapter);
      const id = randomUUID();
      await lock.item(id, { ttl: "1m" }).acquire();
      const waits = lock.item(id, { ttl: "1m", timeout: 200 }).acquire();
      const ended = await Promise.race([waits.then(() => "granted", () => "timeout"), moment(soonMs)]);
      waits.catch(() => {});
      assert.equal(ended, "timeout");
    },
  },
  {
    name: "lock: a ttl of an hour is an hour",
    memoryFails: "a thousand hours are more than a timer can wait, so it is freed at once",
    async run({ adapter }) {
      const lock = new BrokerLock(adapter);
      const id = randomUUID();
      const held = await lock.item(id, { ttl: "1h" }).acquire();
      await moment(100);
      assert.equal(await lock.item(id).try(), undefined);
      await held.release();
    },
  },
];

/** All of them. */
export const stateBehaviours: readonly Behaviour[] = [...keyValue, ...cache, ...lock];
