/**
 * Retries, back-off and dead letters by the queue itself: the handler just throws. Between two attempts
 * no worker is occupied, another one may make the next attempt, and a worker that dies costs nothing.
 */
import { type BrokerQueue, Client, type Job } from "@quorate/client";

interface Task {
  name: string;
  failures: number;
}

class TaskProcessor {
  constructor(
    private queue: BrokerQueue,
    private changed: (name: string) => void,
  ) {}

  async processWithRetry() {
    // 3 attempts; 50 ms between the first two, then 100 ms.
    await this.queue.declare("heavy.task", {
      attemptsMax: 3,
      backoff: { exponential: true, baseMs: 50, capMs: 1_000 },
    });

    return await this.queue.process<Task>("heavy.task", async (job) => {
      await this.processHeavyTask(job);
      console.log(`Task ${job.data.name} is done at attempt ${job.attempt}.`);
      this.changed(job.data.name);
    });
  }

  /** What was given up comes here, to be looked at. */
  async processDeadLetters() {
    return await this.queue.process<Task>("heavy.task.dead", (job) => {
      console.log(`Task ${job.data.name} was given up.`);
      this.changed(job.data.name);
    });
  }

  private async processHeavyTask(job: Job<Task>) {
    if (job.attempt <= job.data.failures) throw new Error(`attempt ${job.attempt} at ${job.data.name} failed`);
  }
}

const client = new Client({
  namespace: "retry-by-queue",
  // Where what a handler throws is told.
  onError: (error) => console.log(`Told to onError: ${(error as Error).message}`),
});
for (const queue of ["heavy.task", "heavy.task.dead"]) await client.queue.delete(queue); // of an earlier run

const open = new Set(["easy", "stubborn", "hopeless"]);
let allSettled!: () => void;
const done = new Promise<void>((resolve) => (allSettled = resolve));
const processor = new TaskProcessor(client.queue, (name) => {
  open.delete(name);
  if (open.size === 0) allSettled();
});
await processor.processWithRetry();
await processor.processDeadLetters();

await client.queue.add("heavy.task", { name: "easy", failures: 0 });
await client.queue.add("heavy.task", { name: "stubborn", failures: 2 });
await client.queue.add("heavy.task", { name: "hopeless", failures: 99 });
await done;
const { totals } = await client.queue.stats("heavy.task");
console.log(`3 tasks, ${totals.delivered} attempts, ${totals.died} dead letter.`);
// Ends the two subscriptions as well, once the jobs at hand are acknowledged.
await client.close();
