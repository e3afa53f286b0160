/** One application, unchanged, on the framework's own broker and on a cluster that loses its leader. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { BrokerKeyValue } from "@deepkit/broker";
import { adapterOf, clusterForFile, until } from "./cluster.js";
import { Program } from "./process.js";

const own = clusterForFile();
const APP = "./app/app.js";

test("workers deliver all letters, though the leader is killed meanwhile", async (t) => {
  const environment = { BROKER: "quorate", APP_FRAMEWORK_BROKER_HOST: own.cluster.endpoints.join(",") };
  const workers = [1, 2, 3].map(() => new Program(t, APP, ["work"], environment));
  for (const worker of workers) await worker.wrote("a worker works", (line) => line === "works");
  const delivered = () => new Set(workers.flatMap(({ lines }) => lines.filter((line) => line.startsWith("delivered "))));

  const sender = new Program(t, APP, ["send", "0", "300"], environment);
  await until("some are delivered", () => delivered().size > 30);
  const killed = await own.cluster.killLeader();
  assert.equal(await sender.exit(), 0, sender.text);
  await until("all are delivered", () => delivered().size === 300, 60_000);
  for (const { lines } of workers) assert.ok(lines.some((line) => line.endsWith(" true")), "a worker had none");

  const kv = new BrokerKeyValue(adapterOf(own.cluster, t, { namespace: "deepkit" }));
  for (const id of [0, 150, 299]) {
    assert.match(await kv.get<string>(`delivered/${id}`), new RegExp(`^Dear person-${id}@example.org`));
  }
  // One of three processes built the template, and the others have it from the cache.
  assert.equal(await kv.increment("templates", 0), 1);

  for (const worker of workers) worker.stop();
  for (const worker of workers) assert.equal(await worker.exit(), 0, worker.text);
  await own.cluster.restart(killed);
});

test("what a worker had when it was killed another one delivers", async (t) => {
  const namespace = "deepkit";
  const environment = { BROKER: "quorate", APP_FRAMEWORK_BROKER_HOST: own.cluster.endpoints.join(",") };
  const doomed = new Program(t, APP, ["work"], environment);
  await doomed.wrote("a worker works", (line) => line === "works");
  const sender = new Program(t, APP, ["send", "1000", "50"], environment);
  await doomed.wrote("some are delivered", (line) => line.startsWith("delivered 1010"));
  doomed.kill();
  assert.equal(await sender.exit(), 0, sender.text);
  const heir = new Program(t, APP, ["work"], environment);
  const kv = new BrokerKeyValue(adapterOf(own.cluster, t, { namespace }));
  const there = async (id: number) => (await kv.get<string>(`delivered/${id}`)) !== undefined;
  // The one it had in hand comes when its session has ended.
  for (let id = 1000; id < 1050; id++) await until(`letter ${id} is delivered`, () => there(id), 90_000);
  heir.stop();
  assert.equal(await heir.exit(), 0, heir.text);
});

test("the same application runs on the framework's own broker, if it sends again what that has lost", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "deepkit-"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const socket = join(directory, "broker.sock");
  const environment = {
    APP_FRAMEWORK_BROKER_LISTEN: socket,
    APP_FRAMEWORK_BROKER_HOST: socket,
    APP_FRAMEWORK_PORT: "0",
    CAREFUL: "1",
  };
  const server = new Program(t, APP, ["server:start"], { ...environment, APP_FRAMEWORK_BROKER_START_ON_BOOTSTRAP: "1" });
  await server.wrote("the broker has started", (line) => line.includes("Broker started"));
  const worker = new Program(t, APP, ["work"], environment);
  await worker.wrote("a worker works", (line) => line === "works");
  const sender = new Program(t, APP, ["send", "0", "20"], environment);
  await sender.wrote("all are sent", (line) => line === "sent 19");
  const delivered = new Set(worker.lines.filter((line) => line.startsWith("delivered ")));
  assert.equal(delivered.size, 20);
});
