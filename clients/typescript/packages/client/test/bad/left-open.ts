/**
 * A program that has begun everything there is, loses its whole cluster, and closes: it says `ready`, and
 * goes on when it is told on its input.
 */
import { once } from "node:events";
import { Client } from "@quorate/client";
import { attempt, said, say } from "./report.js";

const client = new Client({ namespace: "left-open", requestTimeoutMs: 1_000, onError: (error) => said("told", error) });
const watch = await client.kv.watch("*");
const changes = watch.next();
const subscription = await client.bus.subscribe("*");
subscription.subscribe(() => {});
const iterated = await client.bus.subscribe("*");
const messages = iterated.next();
const near = client.cache.near();
await near.get("a");
await client.queue.process("q", () => {}, { maxParallel: 3 });
const held = await client.lock.acquire("l", { ttlMs: 2_000 });
const lost = new Promise<void>((resolve) => held.signal.addEventListener("abort", () => resolve()));
say({ what: "ready" });
if (process.argv[2] === "wait") {
  await once(process.stdin, "data");
  await attempt("kv set", () => client.kv.set("a", 1));
  await lost;
  said("lock", held.signal.reason);
}
process.stdin.destroy();
await client.close();
await attempt("watch", async () => (await changes).done);
await attempt("subscription", async () => (await messages).done);
await attempt("lock release", () => client.lock.release("l"));
say({ what: "closed" });
