/** What all calls share: namespaces, codecs, signals, deadlines, names of mutations, sessions, closing. */
import assert from "node:assert/strict";
import { createServer, type Socket } from "node:net";
import { once } from "node:events";
import { after, before, describe, it } from "node:test";
import {
  BrokerBus,
  BrokerCache,
  BrokerKeyValue,
  BrokerLock,
  BrokerQueue,
  Client,
  ClosedError,
  InvalidArgumentError,
  LockLostError,
  UnavailableError,
  text,
  type ClientOptions,
  type Codec,
} from "@quorate/client";
import { TestCluster } from "@quorate/testing";
import { Deferred, eventually, failure, soon } from "./support.js";

describe("client", { timeout: 300_000 }, () => {
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

  it("has handles of the classes under their other names, too", () => {
    assert.ok(client.kv instanceof BrokerKeyValue && client.cache instanceof BrokerCache);
    assert.ok(client.queue instanceof BrokerQueue && client.bus instanceof BrokerBus && client.lock instanceof BrokerLock);
  });

  it("learns the other nodes and the leader from one", async () => {
    await using one = new Client({ endpoints: cluster.endpoints[1] });
    await one.kv.set("learn", 1);
    await eventually("all are known", () => one.nodes.length === 3);
    assert.deepEqual([...one.nodes].sort(), [...cluster.endpoints].sort());
    await eventually("the leader is known", () => one.leader !== undefined);
    const { leaderId, nodes, term, clusterId } = await one.cluster.status();
    assert.equal(one.leader, cluster.endpoints[(leaderId ?? 0) - 1]);
    assert.equal(nodes.filter(({ role, healthy }) => role === "leader" && healthy).length, 1);
    assert.ok(term > 0 && clusterId !== "");
  });

  it("works through any node, and through the given ones alone", async () => {
    for (const routing of ["any", "endpoints"] as const) {
      await using one = new Client({ endpoints: cluster.endpoints, routing });
      await Promise.all(Array.from({ length: 50 }, () => one.kv.increment(`by ${routing}`)));
      assert.equal(await one.kv.get(`by ${routing}`), 50);
    }
    await using fixed = new Client({ endpoints: cluster.endpoints[0], routing: "endpoints" });
    await fixed.kv.set("fixed", 1);
    assert.deepEqual(fixed.nodes, [cluster.endpoints[0]]);
  });

  it("takes its endpoints from the environment", async () => {
    const before = process.env["QUORATE_ENDPOINTS"];
    process.env["QUORATE_ENDPOINTS"] = cluster.endpoints.join(" , ");
    try {
      await using one = new Client();
      await one.kv.set("env", 1);
    } finally {
      if (before === undefined) delete process.env["QUORATE_ENDPOINTS"];
      else process.env["QUORATE_ENDPOINTS"] = before;
    }
  });

  it("keeps namespaces apart in all services, and shares one connection and one close", async () => {
    const [left, right] = [client.namespace("left"), client.namespace("right")];
    await left.kv.set("k", "l");
    await right.kv.set("k", "r");
    assert.deepEqual([await left.kv.get("k"), await right.kv.get("k"), await client.kv.get("k")], ["l", "r", undefined]);
    await left.cache.set("k", 1);
    assert.equal(await right.cache.get("k"), undefined);
    await left.queue.add("q", 1);
    await right.queue.declare("q");
    assert.deepEqual(await right.queue.pull("q"), []);
    const held = await left.lock.acquire("l", 5);
    assert.notEqual(await right.lock.tryAcquire("l"), undefined);
    const subscription = await left.bus.subscribe("c");
    assert.equal((await right.bus.publish("c", 1)).subscribers, 0);
    assert.equal((await left.bus.publish("c", 1)).subscribers, 1);
    await subscription.unsubscribe();
    await left.close(); // that of a view does nothing
    assert.equal(await left.kv.get("k"), "l");
    await held.release();
    assert.throws(() => client.namespace("x".repeat(256)), InvalidArgumentError);
  });

  it("writes and reads by a codec of one's own, in all services", async () => {
    const reversed: Codec<string> = {
      contentType: "text/reversed",
      encode: (value) => text.encode([...value].reverse().join("")),
      decode: (bytes) => [...text.decode(bytes)].reverse().join(""),
    };
    await using one = new Client({ endpoints: cluster.endpoints, namespace: "codec", codec: reversed });
    await one.kv.set("k", "abc");
    assert.equal(await one.kv.get("k"), "abc");
    assert.equal(await client.namespace("codec").kv.withCodec(text).get("k"), "cba");
    await one.cache.set("k", "def");
    assert.equal(await one.cache.get("k"), "def");
    await one.queue.add("q", "ghi");
    const [job] = await one.queue.pull("q", { waitMs: 30_000 });
    assert.deepEqual([job?.data, job?.contentType], ["ghi", "text/reversed"]);
    const subscription = await one.bus.subscribe("c");
    await one.bus.publish("c", "jkl");
    assert.equal((await soon("the message", subscription.next())).value?.message, "jkl");
    const { results } = await one.txn.withCodec(text).commit({ then: [{ kvSet: "t", value: "x" }, { kvGet: "t" }] });
    assert.ok(results[1]?.kind === "kvGet" && results[1].entry?.value === "x");
  });

  it("sends what is too large for the pipeline on its own, in order with the rest", async () => {
    const large = "x".repeat(1_000_000);
    await client.kv.set("large", large);
    assert.equal((await client.kv.get<string>("large"))?.length, large.length);
    await Promise.all(Array.from({ length: 8 }, (_, at) => client.kv.set(`large:${at}`, large)));
    assert.equal(await client.kv.count("large:*"), 8);
    assert.equal(Object.keys(await client.kv.getPattern("large:*")).length, 8);
    await client.kv.deletePattern("large*");
  });

  it("makes a thousand calls at once, and more than its window has room for", async () => {
    const calls = 3_000;
    const sums = await Promise.all(Array.from({ length: calls }, () => client.kv.increment("many", 1, { timeoutMs: 60_000 })));
    assert.equal(new Set(sums).size, calls);
    assert.equal(await client.kv.get("many"), calls);
  });

  it("gives a mutation one effect under an idempotency key, whoever repeats it", async () => {
    await using other = new Client({ endpoints: cluster.endpoints });
    for (const one of [client, other, client]) await one.kv.increment("named", 1, { idempotencyKey: "k1" });
    assert.equal(await client.kv.get("named"), 1);
    const [first, again] = [await client.queue.add("named", 1, { idempotencyKey: "k2" }), await other.queue.add("named", 1, { idempotencyKey: "k2" })];
    assert.equal(first.id, again.id);
    for (const bad of ["", "x".repeat(65), new Uint8Array()]) {
      await failure(client.kv.increment("named", 1, { idempotencyKey: bad }), InvalidArgumentError, "IDEMPOTENCY_KEY_LENGTH", /1 to 64/);
    }
  });

  it("needs no session for a call or two", async () => {
    await using one = new Client({ endpoints: cluster.endpoints, oneShot: true });
    assert.equal(await one.kv.increment("one-shot"), 1);
    await one.queue.add("one-shot", 1);
    const consumption = await one.queue.process("one-shot", () => {});
    await eventually("it is done", async () => (await one.queue.stats("one-shot")).totals.acked === 1);
    await consumption.stop();
  });

  it("opens another session when its own is over, and goes on", async () => {
    await using one = new Client({ endpoints: cluster.endpoints, sessionTtlMs: 1_000 });
    await one.kv.set("ephemeral", 1, { ephemeral: true });
    const held = await one.lock.acquire("of a session", { ttlMs: 60_000 });
    const watch = await client.kv.watch("ephemeral");
    for (const id of [1, 2, 3]) await cluster.pause(id);
    await eventually("the lock is lost by its session's clock", () => held.isLost);
    assert.ok(held.signal.reason instanceof LockLostError);
    for (const id of [1, 2, 3]) await cluster.resume(id);
    await cluster.awaitHealthy();
    await one.kv.set("after", 1, { timeoutMs: 60_000 });
    assert.equal(await one.kv.increment("counter"), 1);
    watch.close();
  });

  describe("signals and deadlines", () => {
    it("ends a call with the signal's reason, before it is sent and while it waits", async () => {
      const aborted = AbortSignal.abort(new RangeError("before"));
      for (const call of [
        () => client.kv.get("a", { signal: aborted }),
        () => client.kv.set("a", 1, { signal: aborted }),
        () => client.cache.get("a", { signal: aborted }),
        () => client.cache.getOrBuild("aborted", () => 1, { signal: aborted }),
        () => client.queue.add("a", 1, { signal: aborted }),
        () => client.queue.subscribe("a", { signal: aborted }),
        () => client.bus.publish("a", 1, { signal: aborted }),
        () => client.bus.subscribe("a", { signal: aborted }),
        () => client.lock.acquire("aborted", { signal: aborted }),
        () => client.txn.commit({ then: [{ kvSet: "a", value: 1 }] }, { signal: aborted }),
        () => client.kv.getPattern("*", { signal: aborted }),
        () => client.kv.watch("*", { signal: aborted }),
        () => client.cluster.status({ signal: aborted }),
      ]) {
        await failure(call(), RangeError, undefined, /before/);
      }
      const controller = new AbortController();
      const pulling = client.queue.pull("nothing here", { waitMs: 60_000, signal: controller.signal });
      await client.kv.get("a");
      controller.abort(new RangeError("while"));
      await failure(pulling, RangeError, undefined, /while/);
    });

    it("ends a listing between two of its pages", async () => {
      const { kv } = client.namespace("pages");
      const filling = "x".repeat(100_000);
      await Promise.all(Array.from({ length: 60 }, (_, at) => kv.set(`k${at}`, filling)));
      const controller = new AbortController();
      const reading = (async () => {
        for await (const _ of kv.list("*", { signal: controller.signal })) controller.abort(new RangeError("enough"));
      })();
      await failure(reading, RangeError, undefined, /enough/);
    });

    it("keeps the deadline of each call, whatever the one ahead of it has", async () => {
      const silent = await silentServer();
      try {
        await using one = new Client({ endpoints: silent.address, connectTimeoutMs: 60_000, attemptTimeoutMs: 60_000 });
        const patient = one.kv.set("a", 1, { timeoutMs: 60_000 });
        patient.catch(() => {});
        const begun = performance.now();
        await failure(one.kv.set("b", 1, { timeoutMs: 300 }), UnavailableError, undefined, /allow it more time|got no answer/);
        const controller = new AbortController();
        const other = one.kv.set("c", 1, { signal: controller.signal, timeoutMs: 60_000 });
        controller.abort(new RangeError("stop"));
        await failure(other, RangeError, undefined, /stop/);
        assert.ok(performance.now() - begun < 20_000);
      } finally {
        silent.close();
      }
    });

    it("gives up on a node that says nothing, and asks another one", async () => {
      const silent = await silentServer();
      try {
        await using one = new Client({ endpoints: [silent.address, ...cluster.endpoints], connectTimeoutMs: 200, requestTimeoutMs: 30_000 });
        for (let at = 0; at < 5; at++) await one.kv.set("silence", at);
        assert.equal(await one.kv.get("silence"), 4);
      } finally {
        silent.close();
      }
    });
  });

  describe("close", () => {
    it("may be done twice, and at once; calls after it say so", async () => {
      const one = new Client({ endpoints: cluster.endpoints });
      await one.kv.set("a", 1);
      const subscription = await one.bus.subscribe("a");
      const watch = await one.kv.watch("a");
      const consumer = await one.queue.subscribe("closing");
      const held = await one.lock.acquire("closing", 5);
      const iterated = [subscription.next(), watch.next(), consumer.next()];
      await Promise.all([one.close(), one.close()]);
      await one.close();
      for (const { done } of await soon("the ends", Promise.all(iterated))) assert.equal(done, true);
      assert.equal(held.isLost, true);
      assert.deepEqual((await client.lock.inspect("closing")).holders, []);
      for (const call of [
        () => one.kv.get("a"),
        () => one.kv.set("a", 1),
        () => one.kv.getPattern("*"),
        () => one.kv.watch("*"),
        () => one.cache.get("a"),
        () => one.cache.set("a", 1),
        () => one.cache.getOrBuild("a", () => 1),
        () => one.cache.near().get("a"),
        () => one.queue.add("q", 1),
        () => one.queue.subscribe("q"),
        () => one.queue.process("q", () => {}),
        () => one.queue.pull("q"),
        () => one.bus.publish("c", 1),
        () => one.bus.subscribe("c"),
        () => one.bus.request("c", 1),
        () => one.lock.acquire("l"),
        () => one.lock.inspect("l"),
        () => one.txn.commit({ then: [{ kvSet: "a", value: 1 }] }),
        () => one.cluster.status(),
        () => one.namespace("never used").kv.set("a", 1),
      ]) {
        const closed = await failure(call(), ClosedError, "CLIENT_CLOSED", /the client was closed/);
        assert.equal(closed.mayHaveBeenApplied, false);
      }
      assert.equal(await one.lock.release("l"), false);
      assert.equal(await held.release(), true, "it was, by closing");
    });

    it("fails calls that are under way, and waits for jobs that are", async () => {
      const one = new Client({ endpoints: cluster.endpoints });
      await one.queue.add("under way", 1);
      const begun = new Deferred();
      const release = new Deferred();
      await one.queue.process("under way", async () => {
        begun.resolve();
        await release.promise;
      });
      await begun.promise;
      const waiting = one.queue.pull("nothing at all", { waitMs: 60_000 });
      waiting.catch(() => {});
      const closing = one.close();
      release.resolve();
      await soon("the close", closing);
      await failure(waiting, Error);
      assert.equal((await client.queue.stats("under way")).totals.acked, 1);
    });

    it("opens no new session for what was under way", async () => {
      const views = Array.from({ length: 5 }, (_, at) => `closing ${at}`);
      const holders = await Promise.all(views.map((name) => client.namespace(name).lock.acquire("l", 5)));
      const one = new Client({ endpoints: cluster.endpoints });
      const waiting = views.map((name) => one.namespace(name).lock.acquire("l", 60));
      for (const wait of waiting) wait.catch(() => {});
      for (const name of views) {
        await eventually("it waits", async () => (await client.namespace(name).lock.inspect("l")).waiters === 1);
      }
      await one.close();
      for (const wait of waiting) await failure(wait, Error);
      for (const [at, name] of views.entries()) {
        assert.equal((await client.namespace(name).lock.inspect("l")).waiters, 0);
        await holders[at]?.release();
        assert.deepEqual((await client.namespace(name).lock.inspect("l")).holders, []);
      }
    });
  });

  it("refuses options that make no sense, at once", () => {
    const bad: [unknown, RegExp][] = [
      [{ endpoints: [] }, /names no node/],
      [{ endpoints: "" }, /names no node/],
      [{ endpoints: "localhost" }, /"localhost" is not host:port/],
      [{ endpoints: "http://localhost:8811" }, /is not host:port/],
      [{ endpoints: ["a:1", 5] }, /a list of texts/],
      [{ endpoints: 8811 }, /a list of texts/],
      [{ endpoints: Array.from({ length: 65 }, (_, at) => `h${at}:1`) }, /at most 64/],
      [{ requestTimeoutMs: NaN }, /requestTimeoutMs is NaN/],
      [{ requestTimeoutMs: -1 }, /requestTimeoutMs is -1; it must be 1 to 300000/],
      [{ attemptTimeoutMs: 0 }, /attemptTimeoutMs/],
      [{ connectTimeoutMs: Infinity }, /connectTimeoutMs/],
      [{ sessionTtlMs: 5 }, /sessionTtlMs is 5; it must be 1000 to 3600000/],
      [{ routing: "leadr" }, /routing is "leadr"; it must be one of leader, any, endpoints/],
      [{ retryBudget: { burst: NaN, perSecond: 1 } }, /retryBudget.burst/],
      [{ namespace: 5 }, /the namespace is a string/],
      [{ codec: {} }, /a codec has a contentType/],
      [{ onError: "console" }, /onError is a function/],
      [{ token: "with space" }, /the token has characters that no token has/],
      [{ tls: { caFile: "/nowhere/ca.pem" } }, /can't read \/nowhere\/ca.pem/],
      [{ tls: { ca: "rubbish" } }, /tls.ca is no PEM/],
      [{ tls: { cert: "x" } }, /belong together/],
    ];
    for (const [options, message] of bad) {
      assert.throws(() => new Client(options as ClientOptions), (error: Error) => {
        assert.ok(error instanceof InvalidArgumentError, `${JSON.stringify(options)}: ${error}`);
        assert.equal(error.reason, "BAD_OPTION");
        assert.match(error.message, message);
        return true;
      });
    }
  });

  it("refuses numbers that make no sense, call by call", async () => {
    for (const call of [
      () => client.kv.get("a", { timeoutMs: NaN }),
      () => client.kv.get("a", { timeoutMs: 0 }),
      () => client.kv.get("a", { timeoutMs: -5 }),
      () => client.kv.get("a", { minRevision: NaN }),
      () => client.kv.get("a", { minRevision: -1 }),
      () => client.kv.set("a", 1, { ttlMs: -1 }),
      () => client.kv.set("a", 1, { ttlMs: NaN }),
      () => client.kv.set("a", 1, { ttlMs: 1e300 }),
      () => client.kv.set("a", 1, { ifVersion: 1.5 }),
      () => client.kv.set("a", 1, { guard: { name: "l", fencingToken: NaN } }),
      () => client.kv.getPattern("*", { limit: -1 }),
      () => client.kv.watch("*", { fromRevision: NaN }),
      () => client.cache.set("a", 1, -1),
      () => client.cache.set("a", 1, NaN),
      () => client.cache.touch("a", -1),
      () => client.cache.getOrBuild("a", () => 1, { buildLeaseMs: -1 }),
    ]) {
      await failure(call(), InvalidArgumentError, "BAD_OPTION");
    }
    assert.throws(() => client.cache.near({ bytesMax: NaN }), InvalidArgumentError);
    await failure(client.kv.set("a", 1, { ttlMs: 0 }), InvalidArgumentError, "INVALID_TTL", /from 1 to/);
    await failure(client.kv.set("", 1), InvalidArgumentError, "KEY_EMPTY");
    await failure(client.kv.set("k".repeat(1_025), 1), InvalidArgumentError, "KEY_TOO_LONG", /1025 bytes long, the limit is 1024/);
    await failure(client.kv.set("k", "x".repeat(1 << 20)), InvalidArgumentError, "VALUE_TOO_LARGE", /the limit is 1048576/);
    await failure(client.kv.set("k", "x".repeat(5 << 20)), InvalidArgumentError, "REQUEST_TOO_LARGE");
    await failure(client.cache.set("k", "x".repeat(5 << 20)), InvalidArgumentError, "REQUEST_TOO_LARGE");
    await failure(client.kv.getPattern("a["), InvalidArgumentError, "INVALID_PATTERN", /never closed/);
    await failure(client.kv.watch("a["), InvalidArgumentError, "INVALID_PATTERN");
    await failure(client.kv.deletePattern("a["), InvalidArgumentError, "INVALID_PATTERN");
    await failure(client.cache.deletePattern("a["), InvalidArgumentError, "INVALID_PATTERN");
  });
});

/** Takes connections, and says nothing on them. */
async function silentServer(): Promise<{ address: string; close(): void }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    address: `127.0.0.1:${(server.address() as { port: number }).port}`,
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}
