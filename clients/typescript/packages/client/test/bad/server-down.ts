/** A program whose broker does not run. */
import { Client } from "@quorate/client";
import { attempt } from "./report.js";

const client = new Client({ requestTimeoutMs: 600, connectTimeoutMs: 300 });
await attempt("kv get", () => client.kv.get("a"));
await attempt("kv set", () => client.kv.set("a", 1));
await attempt("kv watch", () => client.kv.watch("a"));
await attempt("kv getPattern", () => client.kv.getPattern("a*"));
await attempt("cache get", () => client.cache.get("a"));
await attempt("cache near", () => client.cache.near().get("a"));
await attempt("cache getOrBuild", () => client.cache.getOrBuild("a", () => 1, { waitMs: 100 }));
await attempt("queue add", () => client.queue.add("q", 1));
await attempt("queue subscribe", () => client.queue.subscribe("q"));
await attempt("queue process", () => client.queue.process("q", () => {}));
await attempt("queue pull", () => client.queue.pull("q"));
await attempt("bus publish", () => client.bus.publish("c", 1));
await attempt("bus subscribe", () => client.bus.subscribe("c"));
await attempt("bus request", () => client.bus.request("c", 1));
await attempt("lock acquire", () => client.lock.acquire("l", 0.1));
await attempt("lock tryAcquire", () => client.lock.tryAcquire("l"));
await attempt("lock inspect", () => client.lock.inspect("l"));
await attempt("txn commit", () => client.txn.commit({ then: [{ kvSet: "a", value: 1 }] }));
await attempt("cluster status", () => client.cluster.status());
// Nobody waits for this one any more, which is the program's mistake, but not one to die of after close.
const unawaited = client.kv.set("a", 1);
unawaited.catch(() => {});
await client.close();
await client.close();
await attempt("after close", () => client.kv.get("a"));
