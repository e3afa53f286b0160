/** The bus against a cluster: patterns, groups, requests, and what becomes of subscribers that fail. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import {
  Client,
  InvalidArgumentError,
  NoReplyError,
  NoSubscribersError,
  PayloadError,
  bytes,
  type Subscription,
} from "@quorate/client";
import { TestCluster } from "@quorate/testing";
import { Deferred, eventually, failure, soon } from "./support.js";

describe("bus", { timeout: 300_000 }, () => {
  let cluster: TestCluster;
  let client: Client;
  let other: Client;
  const told: { where: string; error: unknown }[] = [];
  before(async () => {
    cluster = await TestCluster.start();
    client = new Client({ endpoints: cluster.endpoints, onError: (error, where) => told.push({ where, error }) });
    other = new Client({ endpoints: cluster.endpoints, routing: "any" });
  });
  after(async () => {
    await client.close();
    await other.close();
    await cluster.stop();
  });

  /** The next messages of a subscription. */
  async function next<T>(subscription: Subscription<T>, count: number): Promise<T[]> {
    const came: T[] = [];
    while (came.length < count) {
      const { value } = await soon(`message ${came.length + 1} of ${count}`, subscription.next());
      if (value !== undefined) came.push(value.message);
    }
    return came;
  }

  it("brings what is published to all who subscribe, in order, with all that came along", async () => {
    const mine = await client.bus.subscribe<number>("orders.*");
    const theirs = await other.bus.subscribe<number>("orders.created");
    for (let at = 0; at < 200; at++) await other.bus.publish("orders.created", at, { headers: { nth: String(at) } });
    const first = await soon("the first", mine.next());
    assert.deepEqual(
      [first.value?.message, first.value?.channel, first.value?.headers["nth"], first.value?.contentType, first.value?.replyTo],
      [0, "orders.created", "0", "application/json", undefined],
    );
    assert.equal(first.value?.sequence, 1);
    assert.deepEqual(await next(mine, 199), Array.from({ length: 199 }, (_, at) => at + 1));
    assert.deepEqual(await next(theirs, 200), Array.from({ length: 200 }, (_, at) => at));
    await mine.unsubscribe();
    await theirs.unsubscribe();
    assert.deepEqual(await mine.next(), { done: true, value: undefined });
  });

  it("matches patterns over dots, classes and single characters", async () => {
    const subscription = await client.bus.subscribe<string>(["p.*", "?.error", "[a-c]x", "lit\\*eral"]);
    const sent = ["p.a", "p.a.b", "q", "x.error", "xx.error", "bx", "dx", "lit*eral", "literal"];
    for (const channel of sent) await client.bus.publish(channel, channel);
    assert.deepEqual(await next(subscription, 5), ["p.a", "p.a.b", "x.error", "bx", "lit*eral"]);
    const { subscribers } = await client.bus.publish("q", 1);
    assert.equal(subscribers, 0);
    await subscription.unsubscribe();
  });

  it("publishes several at once, in order", async () => {
    const subscription = await client.bus.subscribe<number>("batch");
    const published = await other.bus.publishAll([1, 2, 3].map((message) => ({ channel: "batch", message })));
    assert.deepEqual(published.map(({ sequence }) => sequence - (published[0]?.sequence ?? 0)), [0, 1, 2]);
    assert.deepEqual(await next(subscription, 3), [1, 2, 3]);
    await subscription.unsubscribe();
  });

  it("gives each message to one of a group, and to all groups", async () => {
    const counts = new Map<string, number[]>();
    const all = new Deferred();
    const subscriptions: Subscription[] = [];
    for (const [name, group, from] of [["a1", "a", client], ["a2", "a", other], ["b1", "b", other], ["none", undefined, client]] as const) {
      const subscription = await from.bus.subscribe<number>("work", { queueGroup: group });
      const mine: number[] = [];
      counts.set(name, mine);
      subscription.subscribe((message) => {
        mine.push(message);
        if ([...counts.values()].flat().length === 300) all.resolve();
      });
      subscriptions.push(subscription);
    }
    for (let at = 0; at < 100; at++) await client.bus.publish("work", at);
    await soon("all messages", all.promise);
    const numbers = Array.from({ length: 100 }, (_, at) => at);
    const sorted = (...names: string[]) => names.flatMap((name) => counts.get(name) ?? []).sort((left, right) => left - right);
    assert.deepEqual(sorted("a1", "a2"), numbers);
    assert.deepEqual(sorted("b1"), numbers);
    assert.deepEqual(sorted("none"), numbers);
    for (const subscription of subscriptions) await subscription.unsubscribe();
  });

  it("calls each callback with each message until it is ended, also by another one", async () => {
    const subscription = await client.bus.subscribe<number>("callbacks");
    const seen: string[] = [];
    const third = new Deferred();
    const first = subscription.subscribe((message) => {
      seen.push(`a${message}`);
      if (message === 2) second.unsubscribe();
      if (message === 3) third.resolve();
    });
    const second = subscription.subscribe((message) => void seen.push(`b${message}`));
    for (const message of [1, 2, 3]) await client.bus.publish("callbacks", message);
    await soon("the third", third.promise);
    assert.deepEqual(seen, ["a1", "b1", "a2", "a3"]);
    first.unsubscribe();
    await subscription.unsubscribe();
    assert.throws(() => subscription.subscribe("no function" as never), InvalidArgumentError);
  });

  it("goes on behind a subscriber that throws, now or later, and tells of it", async () => {
    const before = told.length;
    const subscription = await client.bus.subscribe<number>("throwing");
    const done = new Deferred();
    subscription.subscribe((message) => {
      if (message === 1) throw new Error("at once");
      if (message === 2) return Promise.reject(new Error("later"));
      if (message === 3) return { then: (_: unknown, reject: (error: Error) => void) => reject(new Error("in its own way")) };
      if (message === 4) throw "no error at all";
      done.resolve();
      return undefined;
    });
    for (const message of [1, 2, 3, 4, 5]) await client.bus.publish("throwing", message);
    await soon("the last", done.promise);
    await eventually("all were told", () => told.length === before + 4);
    for (const { where } of told.slice(before)) assert.match(where, /a subscriber of "throwing" failed at a message to throwing/);
    await subscription.unsubscribe();
  });

  it("passes over a message that can't be read, and tells of it", async () => {
    const before = told.length;
    const subscription = await client.bus.subscribe<number>("mixed");
    await client.bus.publish("mixed", 1);
    await client.bus.withCodec(bytes).publish("mixed", Uint8Array.of(255));
    await client.bus.publish("mixed", 2);
    assert.deepEqual(await next(subscription, 2), [1, 2]);
    assert.equal(told.length, before + 1);
    assert.ok(told.at(-1)?.error instanceof PayloadError);
    await subscription.unsubscribe();
  });

  it("may be asked for several messages at once", async () => {
    const subscription = await client.bus.subscribe<number>("at-once");
    const asked = [subscription.next(), subscription.next(), subscription.next()];
    for (const message of [1, 2, 3]) await client.bus.publish("at-once", message);
    const came = await soon("three", Promise.all(asked));
    assert.deepEqual(came.map(({ value }) => value?.message), [1, 2, 3]);
    await subscription.return();
  });

  it("says how many messages a slow reader missed", async () => {
    const gaps: (number | undefined)[] = [];
    const subscription = await client.bus.subscribe<string>("flood", { bufferMessages: 10, onGap: (missed) => gaps.push(missed) });
    const filling = "x".repeat(60_000);
    const sent = 600;
    for (let at = 0; at < sent; at++) await other.bus.publish("flood", `${at} ${filling}`);
    let came = 0;
    for (let last = ""; !last.startsWith(`${sent - 1} `); came++) [last = ""] = await next(subscription, 1);
    const missed = gaps.reduce<number>((sum, gap) => sum + (gap ?? NaN), 0);
    assert.ok(gaps.length > 0, "it was never behind");
    assert.equal(came + missed, sent);
    await subscription.unsubscribe();
  });

  it("survives an onGap that throws", async () => {
    const before = told.length;
    const subscription = await client.bus.subscribe<string>("gaps", {
      bufferMessages: 1,
      onGap: () => {
        throw new Error("in onGap");
      },
    });
    const filling = "x".repeat(60_000);
    for (let at = 0; at < 300; at++) await other.bus.publish("gaps", `${at} ${filling}`);
    for (let last = ""; !last.startsWith("299 "); ) [last = ""] = await next(subscription, 1);
    assert.ok(told.length > before);
    assert.match(told.at(-1)?.where ?? "", /onGap of the subscription to "gaps" failed/);
    await subscription.unsubscribe();
  });

  describe("request and reply", () => {
    it("brings the answer of one of the responders", async () => {
      const responders = await Promise.all(
        [client, other].map((one) => one.bus.respond<{ n: number }>("double", ({ n }) => ({ twice: 2 * n }), { queueGroup: "g" })),
      );
      const answers = await Promise.all(Array.from({ length: 50 }, (_, n) => other.bus.request<{ twice: number }>("double", { n })));
      assert.deepEqual(answers.map(({ twice }) => twice), Array.from({ length: 50 }, (_, n) => 2 * n));
      // A message that is no request is none.
      await client.bus.publish("double", { n: 1 });
      for (const responder of responders) await responder.unsubscribe();
    });

    it("fails at once when nobody is there", async () => {
      await failure(client.bus.request("nobody", 1), NoSubscribersError, "NO_SUBSCRIBERS");
    });

    it("waits for an answer as long as it is told, and no longer", async () => {
      const subscription = await client.bus.subscribe("silent");
      const asked = performance.now();
      await failure(other.bus.request("silent", 1, { timeoutMs: 3_000 }), NoReplyError, "NO_REPLY");
      const tookMs = performance.now() - asked;
      assert.ok(tookMs > 2_500 && tookMs < 4_500, `${tookMs} ms`);
      await subscription.unsubscribe();
    });

    it("leaves a request without an answer when its handler throws, and tells of it", async () => {
      const before = told.length;
      const responder = await client.bus.respond("broken", () => {
        throw new Error("the handler is broken");
      });
      await failure(other.bus.request("broken", 1, { timeoutMs: 500 }), NoReplyError);
      assert.match(String(told.at(-1)?.error), /the handler is broken/);
      assert.ok(told.length > before);
      await responder.unsubscribe();
    });

    it("tells a late answer that nobody waits for it", async () => {
      const subscription = await client.bus.subscribe("late");
      const asking = other.bus.request("late", 1, { timeoutMs: 300 });
      const { value } = await soon("the request", subscription.next());
      await failure(asking, NoReplyError);
      assert.equal(await client.bus.reply(value?.replyTo as Uint8Array, "too late"), false);
      await subscription.unsubscribe();
    });
  });

  it("has room for many subscriptions of one client, without a warning", async () => {
    const warnings: Error[] = [];
    const warned = (warning: Error) => warnings.push(warning);
    process.on("warning", warned);
    const controller = new AbortController();
    const many = await Promise.all(Array.from({ length: 30 }, (_, at) => client.bus.subscribe(`many.${at}`)));
    for (const subscription of many) await subscription.unsubscribe();
    await new Promise((resolve) => setImmediate(resolve));
    process.off("warning", warned);
    assert.deepEqual(warnings, []);
    const signalled = await client.bus.subscribe("signalled", { signal: controller.signal });
    const end = signalled.next();
    controller.abort();
    assert.equal((await soon("the end", end)).done, true);
  });

  it("refuses what makes no sense", async () => {
    const { bus } = client;
    const bad: [() => Promise<unknown>, string | undefined, RegExp][] = [
      [() => bus.subscribe("a["), "INVALID_PATTERN", /never closed/],
      [() => bus.subscribe("a\\"), "INVALID_PATTERN", /escapes nothing/],
      [() => bus.subscribe(""), "INVALID_PATTERN", /1 to 1024 bytes/],
      [() => bus.subscribe([]), "INVALID_PATTERN", /0 patterns/],
      [() => bus.subscribe(5 as never), "BAD_OPTION", /a pattern is a string, not number/],
      [() => bus.subscribe("a", { bufferMessages: -1 }), "BAD_OPTION", /bus subscribe: bufferMessages can't be sent/],
      [() => bus.publish("", 1), "BAD_OPTION", /1 to 1024 bytes/],
      [() => bus.publish(5 as never, 1), "BAD_OPTION", /the channel is a string, not number/],
      [() => bus.publish("\ud800", 1), "BAD_OPTION", /half a character/],
      [() => bus.publish("a", "x".repeat(3 << 20)), "REQUEST_TOO_LARGE", /2097152/],
    ];
    for (const [call, reason, message] of bad) await failure(call(), InvalidArgumentError, reason, message);
    await failure(bus.publish("a", undefined), PayloadError, "BAD_PAYLOAD", /the message to channel "a"/);
  });
});
