/** A program that reads as JSON what is none, in each service. */
import { Client, bytes } from "@quorate/client";
import { attempt, said, say } from "./report.js";

let told: (error: unknown) => void = () => {};
const client = new Client({ namespace: "not-json", onError: (error) => told(error) });
const junk = Uint8Array.of(0xff, 0x00, 0x7b);

await client.kv.withCodec(bytes).set("k", junk);
await attempt("kv get", () => client.kv.get("k"));
await attempt("kv getPattern", () => client.kv.getPattern("*"));
await attempt("txn", () => client.txn.commit({ then: [{ kvGet: "k" }] }));
await attempt("kv get as bytes", async () => (await client.kv.withCodec(bytes).get("k"))?.length);

const watch = await client.kv.watch("*");
await client.kv.withCodec(bytes).set("k", junk);
await attempt("watch", () => watch.next());

await client.cache.withCodec(bytes).set("c", junk, 60);
await attempt("cache get", () => client.cache.get("c"));
await attempt("cache getOrBuild", () => client.cache.getOrBuild("c", () => 1));

const subscription = await client.bus.subscribe("b");
const first = new Promise<void>((resolve) => {
  told = (error) => {
    said("bus", error);
    resolve();
  };
});
const readable = subscription.next();
await client.bus.withCodec(bytes).publish("b", junk);
await client.bus.publish("b", "fine");
await first;
say({ what: "the message behind it", value: (await readable).value?.message });

await client.queue.declare("q", { attemptsMax: 1 });
await client.queue.withCodec(bytes).add("q", junk);
const job = new Promise<void>((resolve) => {
  told = (error) => {
    said("job", error);
    resolve();
  };
});
await client.queue.process("q", (one) => one.data);
await job;

const responder = await client.bus.withCodec(bytes).respond("r", () => junk);
await attempt("request", () => client.bus.withCodec(bytes).request("r", junk));
const asking = new Client({ namespace: "not-json" });
await attempt("answer", async () => {
  const answered = await client.bus.withCodec(bytes).respond("s", () => junk);
  await asking.bus.request("s", 1).finally(() => answered.unsubscribe());
});
await responder.unsubscribe();
await asking.close();
await client.close();
