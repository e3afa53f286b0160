/** Programs that meet something bad; each has to end by itself. `faulty.js NAME ENDPOINTS` */
import { BrokerBus, BrokerCache, BrokerKeyValue, BrokerLock, BrokerQueue } from "@deepkit/broker";
import { QuorateBrokerAdapter } from "@quorate/deepkit";

interface Task {
  id: number;
}

interface Note {
  text: string;
}

const [name, endpoints] = process.argv.slice(2);
const told: string[] = [];
const adapter = new QuorateBrokerAdapter({
  endpoints,
  namespace: `faulty-${name}`,
  requestTimeoutMs: name === "down" ? 500 : 20_000,
  deliveryWaitMs: 10_000,
  onError: (error, where) => void told.push(`${where}: ${String(error)}`),
});

async function fails(what: string, call: () => Promise<unknown>): Promise<void> {
  const text = await call().then(
    () => "it did not fail",
    (error: unknown) => `${(error as Error).name}: ${(error as Error).message}`,
  );
  console.log(`${what}: ${text.replaceAll("\n", " ")}`);
}

const until = async (holds: () => boolean) => {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 10));
};

const programs: Record<string, () => Promise<void>> = {
  /** Nothing listens there. */
  async down() {
    const kv = new BrokerKeyValue(adapter);
    await fails("get", () => kv.get<number>("a"));
    await fails("set", () => kv.set<number>("a", 1));
    await fails("publish", () => new BrokerBus(adapter).channel<Task>("a").publish({ id: 1 }));
    await fails("subscribe", () => new BrokerBus(adapter).channel<Task>("a").subscribe(() => {}));
    await fails("produce", () => new BrokerQueue(adapter).channel<Task>("a").produce({ id: 1 }));
    await fails("consume", () => new BrokerQueue(adapter).channel<Task>("a").consume(() => {}));
    await fails("lock", () => new BrokerLock(adapter).item("a", { timeout: 200 }).acquire());
    await fails("cache", () => new BrokerCache(adapter).item<number>("a", () => 1).get());
    new BrokerBus(adapter).subject<Task>("subject").next({ id: 1 });
    await until(() => told.some((text) => text.includes("subject")));
    await adapter.disconnect();
  },
  /** What is written is not of its type, nor is what is read. */
  async types() {
    const kv = new BrokerKeyValue(adapter);
    await fails("set", () => kv.set<Task>("a", { id: "x" } as unknown as Task));
    await kv.set<Task>("a", { id: 1 });
    await fails("get", () => kv.get<Note>("a"));
    await kv.increment("n", 1);
    await fails("get of a counter", () => kv.get<number>("n"));
    await fails("increment of a value", () => kv.increment("a", 1));
    const queue = new BrokerQueue(adapter);
    await fails("produce", () => queue.channel<Task>("q").produce({} as Task));
    await fails("priority", () => queue.channel<Task>("q").produce({ id: 1 }, { process: 1, priority: 1_000 }));
    // A message of another type is passed over, a job of another type is not handed out.
    const bus = new BrokerBus(adapter);
    await bus.channel<Note>("b").subscribe(({ text }) => console.log(`heard ${text}`));
    await bus.channel<Task>("b").publish({ id: 1 });
    await bus.channel<Note>("b").publish({ text: "fine" });
    await queue.channel<Task>("q").produce({ id: 7 });
    await queue.channel<Note>("q").consume(({ data }) => console.log(`handled ${data.text}`));
    await until(() => told.length >= 2);
    await adapter.disconnect();
  },
  /** Consumers and subscribers that throw, at once and later. */
  async throws() {
    const bus = new BrokerBus(adapter).channel<Task>("b");
    await bus.subscribe(() => {
      throw new Error("subscriber threw");
    });
    await bus.subscribe((async () => {
      throw new Error("subscriber rejected");
    }) as () => void);
    await bus.publish({ id: 1 });
    const queue = new BrokerQueue(adapter).channel<Task>("q");
    await queue.consume(() => {
      throw new Error("consumer threw");
    });
    await queue.produce({ id: 1 });
    await until(() => told.length >= 3);
    await adapter.disconnect();
  },
  /** It is disconnected twice, while things are under way, and used afterwards. */
  async closed() {
    const kv = new BrokerKeyValue(adapter);
    const queue = new BrokerQueue(adapter).channel<Task>("q");
    const release = await queue.consume(() => {});
    const releaseBus = await new BrokerBus(adapter).channel<Task>("b").subscribe(() => {});
    const lock = await new BrokerLock(adapter).item("l").acquire();
    const onTheWay = kv.increment("n", 1).then(
      () => {},
      () => {},
    );
    await Promise.all([adapter.disconnect(), adapter.disconnect()]);
    await adapter.disconnect();
    await onTheWay;
    await release();
    await releaseBus();
    await lock.release();
    await fails("get", () => kv.get<number>("a"));
    await fails("produce", () => queue.produce({ id: 1 }));
    await fails("consume", () => queue.consume(() => {}));
    await fails("subscribe", () => new BrokerBus(adapter).channel<Task>("b").subscribe(() => {}));
    await fails("lock", () => new BrokerLock(adapter).item("l").acquire());
  },
  /** Options that can't be. */
  async options() {
    for (const [what, options] of Object.entries({
      endpoints: { endpoints: "nowhere" },
      namespace: { namespace: "n".repeat(300) },
      wait: { deliveryWaitMs: -1 },
    })) {
      await fails(what, async () => new QuorateBrokerAdapter(options));
    }
    await adapter.disconnect();
  },
};

await programs[name ?? ""]?.();
for (const text of told) console.log(`told ${text.replaceAll("\n", " ")}`);
console.log("ends");
