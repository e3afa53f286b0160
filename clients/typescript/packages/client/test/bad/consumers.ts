/** A program whose handlers and subscribers fail in each way there is, with the default `onError`. */
import { Client } from "@quorate/client";
import { attempt, say } from "./report.js";

const namespace = "bad-consumers";
const client = new Client({ namespace });
const ways: Record<string, () => unknown> = {
  "sync error": () => {
    throw new Error("sync error");
  },
  "async error": async () => {
    await null;
    throw new Error("async error");
  },
  "a text": () => Promise.reject("a text"),
  "undefined": () => {
    throw undefined;
  },
  "null": () => Promise.reject(null),
  "an object without a prototype": () => {
    throw Object.create(null);
  },
  "an error whose message throws": () => {
    throw Object.defineProperty(new Error(), "message", {
      get: () => {
        throw new Error("in message");
      },
    });
  },
};

await client.queue.declare("jobs", { attemptsMax: 1 });
await client.queue.addMany("jobs", Object.keys(ways).map((data) => ({ data })));
const failed = new Set<string>();
let allFailed!: () => void;
const jobsDone = new Promise<void>((resolve) => (allFailed = resolve));
const consumption = await client.queue.process<string>("jobs", (job) => {
  failed.add(job.data);
  if (failed.size === Object.keys(ways).length) allFailed();
  return ways[job.data]?.();
});
await jobsDone;
await consumption.stop();
const { totals, dead } = await client.queue.stats("jobs");
say({ what: "jobs", value: { delivered: totals.delivered, dead } });

// Says that it is done, and does not wait until it is told.
await client.queue.add("unawaited", 1);
const handled = new Promise<void>((resolve) => {
  void client.queue.process("unawaited", (job) => {
    void job.ack({ signal: AbortSignal.abort(new Error("the ack failed")) });
    resolve();
  });
});
await handled;

const subscription = await client.bus.subscribe<string>("ways");
let seen = 0;
const received = new Promise<void>((resolve) => {
  subscription.subscribe((way) => {
    seen += 1;
    if (seen === Object.keys(ways).length) resolve();
    return ways[way]?.();
  });
});
for (const way of Object.keys(ways)) await client.bus.publish("ways", way);
await received;
say({ what: "messages", value: seen });

const responder = await client.bus.respond("ask", () => ways["async error"]?.());
await attempt("request", () => client.bus.request("ask", 1, { timeoutMs: 500 }));
await responder.unsubscribe();

// Being told of errors must not make others.
for (const [name, onError] of Object.entries({
  "onError throws": () => {
    throw new Error("in onError");
  },
  "onError rejects": async () => {
    throw new Error("in onError");
  },
})) {
  const other = new Client({ namespace, onError });
  const listening = await other.bus.subscribe("poison");
  const called = new Promise<void>((resolve) => {
    listening.subscribe(() => {
      resolve();
      throw new Error("in a subscriber");
    });
  });
  await client.bus.publish("poison", 1);
  await called;
  await other.close();
  say({ what: name, value: "survived" });
}
await client.close();
const stats = new Client({ namespace });
const { totals: acked } = await stats.queue.stats("unawaited");
say({ what: "unawaited", value: acked.acked });
await stats.close();
