/** A program that shows a wrong token, or whatever else its arguments say. */
import { Client, type ClientOptions } from "@quorate/client";
import { attempt } from "./report.js";

const options = JSON.parse(process.argv[2] ?? "{}") as ClientOptions;
const client = new Client({ requestTimeoutMs: 10_000, ...options });
await attempt("kv get", () => client.kv.get("shop.a"));
await attempt("kv get elsewhere", () => client.kv.get("a"));
await attempt("kv set", () => client.kv.set("shop.a", 1));
await attempt("kv watch", async () => (await client.kv.watch("shop.*")).close());
await attempt("queue add", () => client.queue.add("q", 1));
await attempt("queue subscribe", () => client.queue.subscribe("q"));
await attempt("queue process", async () => (await client.queue.process("q", () => {})).stop());
await attempt("bus subscribe", async () => (await client.bus.subscribe("c")).unsubscribe());
await attempt("bus publish", () => client.bus.publish("c", 1));
await attempt("lock acquire", () => client.lock.acquire("l", 0.1));
await attempt("cache getOrBuild", () => client.cache.getOrBuild("a", () => 1));
await client.close();
