/** The framework's module: how an application gets, starts and ends its broker. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { once } from "node:events";
import { test } from "node:test";
import { App } from "@deepkit/app";
import { BrokerBus, BrokerCache, BrokerDeepkitAdapter, BrokerKeyValue, BrokerLock, BrokerQueue } from "@deepkit/broker";
import { FrameworkModule, createTestingApp } from "@deepkit/framework";
import { QuorateBrokerAdapter, QuorateCache } from "@quorate/deepkit";
import { QuorateServer, quorateBroker } from "@quorate/deepkit/framework";
import { clusterForFile, until } from "./cluster.js";

const own = clusterForFile();

interface Mail {
  to: string;
}

class Mailer {
  readonly sent: string[] = [];

  constructor(
    private queue: BrokerQueue,
    private bus: BrokerBus,
  ) {}

  async start(): Promise<void> {
    await this.queue.channel<Mail>("mails").consume(async ({ data }) => {
      this.sent.push(data.to);
      await this.bus.channel<Mail>("sent").publish(data);
    });
  }

  mail(to: string): Promise<void> {
    return this.queue.channel<Mail>("mails").produce({ to });
  }
}

test("an application under test has it with one import", async (t) => {
  const testing = createTestingApp({
    providers: [Mailer],
    imports: [
      new FrameworkModule({ broker: { host: [...own.cluster.endpoints] } }),
      quorateBroker({ namespace: "testing", deliveryWaitMs: 10_000 }),
    ],
  });
  t.after(() => testing.stopServer());
  await testing.startServer();
  assert.ok((testing.app.get(BrokerDeepkitAdapter) as unknown) instanceof QuorateBrokerAdapter);
  assert.ok(testing.app.get(BrokerCache) instanceof QuorateCache);

  const mailer = testing.app.get(Mailer);
  await mailer.start();
  const heard: string[] = [];
  await testing.app.get(BrokerBus).channel<Mail>("sent").subscribe(({ to }) => void heard.push(to));
  await mailer.mail("a@example.org");
  assert.deepEqual(mailer.sent, ["a@example.org"]);
  await until("it is heard", () => heard.length === 1);

  const lock = await testing.app.get(BrokerLock).item("l").acquire();
  await testing.app.get(BrokerKeyValue).set<number>("n", 1);
  await lock.release();
  await testing.stopServer();
  await assert.rejects(testing.app.get(BrokerKeyValue).get<number>("n"), /closed/);
});

test("a broker that starts with the application, and its data outlives it", async (t) => {
  const dataDir = await mkdtemp(join(tmpdir(), "quorate-app-"));
  t.after(() => rm(dataDir, { recursive: true, force: true }));
  const listen = `localhost:${await freePorts(3)}`;
  const start = async () => {
    const testing = createTestingApp({
      imports: [new FrameworkModule({ broker: { startOnBootstrap: true, listen } }), quorateBroker({ dataDir })],
    });
    t.after(() => testing.stopServer());
    await testing.startServer();
    return testing;
  };
  const first = await start();
  await first.app.get(BrokerKeyValue).set<string>("kept", "yes");
  await first.stopServer();
  // What it listened on is free again at once: the broker is gone when the application has stopped.
  const server = createServer().listen(Number(listen.split(":")[1]), "127.0.0.1");
  await once(server, "listening");
  server.close();
  await once(server, "close");
  const second = await start();
  assert.equal(await second.app.get(BrokerKeyValue).get<string>("kept"), "yes");
  await second.stopServer();
});

test("what the import says goes before what the framework's config says", async (t) => {
  const testing = createTestingApp({
    imports: [
      quorateBroker({ host: [...own.cluster.endpoints], namespace: "before" }),
      new FrameworkModule({ broker: { host: "127.0.0.1:9", startOnBootstrap: false } }),
    ],
  });
  t.after(() => testing.stopServer());
  await testing.startServer();
  assert.equal(await testing.app.get(BrokerKeyValue).increment("n", 2), 2);
});

test("the debugger's bus is on this one, and does not end it", async (t) => {
  const framework = new FrameworkModule({ debug: true, broker: { host: [...own.cluster.endpoints] } });
  const testing = createTestingApp({ imports: [framework, quorateBroker({ namespace: "debug" })] });
  t.after(() => testing.stopServer());
  await testing.startServer();
  const token = framework
    .getProviders()
    .find((provider) => typeof provider === "function" && provider.prototype instanceof BrokerBus);
  assert.ok(typeof token === "function");
  const debug = testing.app.get(token as typeof BrokerBus);
  const heard: string[] = [];
  await testing.app.get(BrokerBus).channel<Mail>("frames").subscribe(({ to }) => void heard.push(to));
  await debug.adapter.disconnect();
  await debug.channel<Mail>("frames").publish({ to: "a" });
  await until("it is heard", () => heard.length === 1);
});

test("without the framework's module it says so", () => {
  const app = new App({ imports: [quorateBroker()] });
  assert.throws(() => app.getInjectorContext(), /quorateBroker\(\) is imported without the FrameworkModule/);
});

test("a broker that can't start says why", async () => {
  const gone = new QuorateServer({ binary: "/nowhere/quorate", listen: "127.0.0.1:1" });
  await assert.rejects(gone.start(), /the broker at 127\.0\.0\.1:1 did not start: .*ENOENT/);
  await gone.stop();
  const dataDir = await mkdtemp(join(tmpdir(), "quorate-app-"));
  const refused = new QuorateServer({ listen: "192.0.2.1:8811", dataDir });
  await assert.rejects(refused.start(), /did not start: it ended with \d+: .+/);
  await rm(dataDir, { recursive: true, force: true });
});

/** The first of so many ports in a row that are free just now. */
async function freePorts(count: number): Promise<number> {
  for (;;) {
    const first = 22_000 + Math.floor(Math.random() * 7_000);
    const servers = Array.from({ length: count }, (_, at) => createServer().listen(first + at, "127.0.0.1"));
    const free = await Promise.all(servers.map((server) => once(server, "listening").then(() => true, () => false)));
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
    if (free.every(Boolean)) return first;
  }
}
