/** Behaviours of the task queue, as its documentation has them. */
import assert from "node:assert/strict";
import { BrokerQueue, QueueMessageProcessing } from "@deepkit/broker";
import { type Behaviour, moment } from "./behaviour.js";
import { until } from "./cluster.js";

interface Task {
  id: number;
  due?: Date;
}

const { exactlyOnce } = QueueMessageProcessing;

/** The framework's broker drops what comes while the consumer is busy, so that these wait in between. */
const published: Behaviour[] = [
  {
    name: "queue: what is produced has been begun when produce resolves, in order",
    async run({ adapter }) {
      const channel = new BrokerQueue(adapter).channel<Task>("basics");
      const done: Task[] = [];
      await channel.consume(async (message) => {
        assert.equal(message.channel, "basics");
        done.push(message.data);
      });
      await channel.produce({ id: 1, due: new Date(5) });
      assert.deepEqual(done, [{ id: 1, due: new Date(5) }]);
      await channel.produce({ id: 2 });
      assert.deepEqual(done.at(1), { id: 2 });
    },
  },
  {
    name: "queue: exactly once, said of a channel: the same job again is not handled again",
    async run({ adapter }) {
      const channel = new BrokerQueue(adapter).channel<Task>("of-channel", { process: exactlyOnce });
      const done: number[] = [];
      await channel.consume(async ({ data }) => void done.push(data.id));
      for (const id of [1, 1, 2]) await channel.produce({ id });
      assert.deepEqual(done, [1, 2]);
    },
  },
  {
    name: "queue: exactly once, said of a job: only those jobs",
    async run({ adapter }) {
      const channel = new BrokerQueue(adapter).channel<Task>("of-job");
      const done: number[] = [];
      await channel.consume(async ({ data }) => void done.push(data.id));
      await channel.produce({ id: 1 }, { process: exactlyOnce });
      await channel.produce({ id: 1 }, { process: exactlyOnce });
      assert.deepEqual(done, [1]);
      await channel.produce({ id: 1 });
      assert.deepEqual(done, [1, 1]);
    },
  },
  {
    name: "queue: a job again is handled again when the interval is over",
    async run({ adapter, soonMs }) {
      const options = { process: exactlyOnce, deduplicationInterval: "700ms" } as const;
      const channel = new BrokerQueue(adapter).channel<Task>("interval", options);
      const done: number[] = [];
      await channel.consume(async ({ data }) => void done.push(data.id));
      await channel.produce({ id: 1 });
      await channel.produce({ id: 1 });
      assert.deepEqual(done, [1]);
      await until("the interval is over", async () => {
        await channel.produce({ id: 1 });
        return done.length === 2;
      }, soonMs);
    },
  },
  {
    name: "queue: a hash of one's own says what is the same",
    async run({ adapter }) {
      const channel = new BrokerQueue(adapter).channel<Task>("hash");
      const done: number[] = [];
      await channel.consume(async ({ data }) => void done.push(data.id));
      await channel.produce({ id: 1 }, { process: exactlyOnce, hash: "a" });
      await channel.produce({ id: 2 }, { process: exactlyOnce, hash: "a" });
      await channel.produce({ id: 3 }, { process: exactlyOnce, hash: "b" });
      assert.deepEqual(done, [1, 3]);
    },
  },
  {
    name: "queue: intervals of one's own count per job",
    async run({ adapter }) {
      const channel = new BrokerQueue(adapter).channel<Task>("own-interval");
      const done: number[] = [];
      await channel.consume(async ({ data }) => void done.push(data.id));
      await channel.produce({ id: 1 }, { process: exactlyOnce, deduplicationInterval: "1h" });
      await channel.produce({ id: 1 }, { process: exactlyOnce, deduplicationInterval: "1h" });
      await channel.produce({ id: 2 }, { process: exactlyOnce, deduplicationInterval: "1h" });
      assert.deepEqual(done, [1, 2]);
    },
  },
];

const documented: Behaviour[] = [
  {
    name: "queue: a consumer that was released has no more jobs, and they wait",
    memoryFails: "releasing a consumer is refused for want of a field that it does not send",
    async run({ adapter, soonMs }) {
      const channel = new BrokerQueue(adapter).channel<Task>("released");
      const done: number[] = [];
      const release = await channel.consume(async ({ data }) => void done.push(data.id));
      await channel.produce({ id: 1 });
      await release();
      await channel.produce({ id: 2 });
      assert.deepEqual(done, [1]);
      await channel.consume(async ({ data }) => void done.push(data.id));
      await until("the next one has it", () => done.length === 2, soonMs);
    },
  },
  {
    name: "queue: a job waits for a consumer",
    memoryFails: "what is produced while nobody consumes is lost",
    async run({ adapter, soonMs }) {
      const channel = new BrokerQueue(adapter).channel<Task>("early");
      await channel.produce({ id: 1 });
      const done: number[] = [];
      await channel.consume(async ({ data }) => void done.push(data.id));
      await until("it is handled", () => done.length === 1, soonMs);
    },
  },
  {
    name: "queue: jobs wait while a consumer is busy",
    memoryFails: "what comes while the consumer is busy is lost",
    async run({ adapter, soonMs }) {
      const channel = new BrokerQueue(adapter).channel<Task>("busy");
      const done: number[] = [];
      await channel.consume(async ({ data }) => {
        await moment(50);
        done.push(data.id);
      });
      await Promise.all([1, 2, 3].map((id) => channel.produce({ id })));
      await until("all are handled", () => done.length === 3, soonMs);
    },
  },
  {
    name: "queue: one of several consumers has each job",
    memoryFails: "all jobs go to the consumer that came last",
    async run({ adapter, soonMs }) {
      const channel = new BrokerQueue(adapter).channel<Task>("shared");
      const done: [number, number][] = [];
      for (const who of [1, 2]) {
        await channel.consume(async ({ data }) => {
          done.push([who, data.id]);
          // Both are needed for all of them to begin.
          await until("four have begun", () => done.length === 4);
        }, { maxParallel: 2 });
      }
      await Promise.all([1, 2, 3, 4].map((id) => channel.produce({ id })));
      await until("all have begun", () => done.length === 4, soonMs);
      assert.deepEqual(done.map(([, id]) => id).sort(), [1, 2, 3, 4]);
      assert.deepEqual(done.map(([who]) => who).sort(), [1, 1, 2, 2]);
    },
  },
  {
    name: "queue: a job whose consumer throws is tried again",
    memoryFails: "there is one delivery, whatever becomes of it",
    async run({ adapter, soonMs }) {
      const channel = new BrokerQueue(adapter).channel<Task>("retry");
      const tries: number[] = [];
      await channel.consume(async (message) => {
        tries.push(message.tries);
        if (tries.length === 1) throw new Error("not yet");
      });
      await channel.produce({ id: 1 });
      await until("it is tried again", () => tries.length === 2, 2 * soonMs);
      assert.deepEqual(tries, [0, 1]);
    },
  },
  {
    name: "queue: a job comes when its delay is over",
    memoryFails: "the delay is not looked at",
    async run({ adapter, soonMs }) {
      const channel = new BrokerQueue(adapter).channel<Task>("delay");
      let doneAt: number | undefined;
      await channel.consume(async () => void (doneAt = Date.now()));
      const begun = Date.now();
      await channel.produce({ id: 1 }, { process: QueueMessageProcessing.atLeastOnce, delay: "700ms" });
      await until("it is handled", () => doneAt !== undefined, soonMs);
      assert.ok((doneAt as number) - begun >= 650, `handled after ${(doneAt as number) - begun} ms`);
    },
  },
  {
    name: "queue: up to maxParallel jobs are handled at a time",
    memoryFails: "it is always one",
    async run({ adapter, soonMs }) {
      const channel = new BrokerQueue(adapter).channel<Task>("parallel");
      let running = 0;
      let most = 0;
      let ended = 0;
      await channel.consume(
        async () => {
          most = Math.max(most, ++running);
          await until("three run", () => most === 3);
          running -= 1;
          ended += 1;
        },
        { maxParallel: 3 },
      );
      await Promise.all([1, 2, 3, 4, 5].map((id) => channel.produce({ id })));
      await until("all are handled", () => ended === 5, soonMs);
      assert.equal(most, 3);
    },
  },
  {
    name: "queue: jobs of a higher priority come first",
    memoryFails: "priorities are not looked at, and what is produced while nobody consumes is lost",
    async run({ adapter, soonMs }) {
      const channel = new BrokerQueue(adapter).channel<Task>("priority");
      const { atLeastOnce: process } = QueueMessageProcessing;
      for (const id of [1, 5, 3]) await channel.produce({ id }, { process, priority: id });
      const done: number[] = [];
      await channel.consume(async ({ data }) => void done.push(data.id));
      await until("all are handled", () => done.length === 3, soonMs);
      assert.deepEqual(done, [5, 3, 1]);
    },
  },
  {
    name: "queue: jobs may be plain text or numbers",
    memoryFails: "what is no object is written in another way than it is read",
    async run({ adapter, soonMs }) {
      const channel = new BrokerQueue(adapter).channel<string>("text");
      const done: string[] = [];
      await channel.consume(async ({ data }) => void done.push(data));
      await channel.produce("one");
      await until("it is handled", () => done.length === 1, soonMs);
      assert.deepEqual(done, ["one"]);
    },
  },
  {
    name: "queue: a hash may be 0",
    memoryFails: "0 is taken for no hash",
    async run({ adapter }) {
      const channel = new BrokerQueue(adapter).channel<Task>("zero");
      const done: number[] = [];
      await channel.consume(async ({ data }) => void done.push(data.id));
      await channel.produce({ id: 1 }, { process: exactlyOnce, hash: 0 });
      await channel.produce({ id: 2 }, { process: exactlyOnce, hash: 0 });
      assert.deepEqual(done, [1]);
    },
  },
];

/** All of them. */
export const queueBehaviours: readonly Behaviour[] = [...published, ...documented];
