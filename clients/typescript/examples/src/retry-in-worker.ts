/** A task that is tried several times by the worker itself, and given up then. */
import { type BrokerQueue, Client, type Job } from "@quorate/client";

interface Task {
  name: string;
  /** How often it fails before it works. */
  failures: number;
}

/** The unit of waiting; the page this follows has a second. */
const BACKOFF_MS = 50;

class TaskProcessor {
  constructor(
    private queue: BrokerQueue,
    private settled: () => void,
  ) {}

  async processWithRetry() {
    const subscription = await this.queue.subscribe<Task>("heavy.task");

    return subscription.subscribe(async (job) => {
      const maxRetries = 3;
      let attempt = 0;

      // The lease of the job is extended for as long as this runs.
      while (attempt < maxRetries) {
        try {
          await this.processHeavyTask(job, attempt);
          await job.ack();
          console.log(`Task ${job.data.name} is done at attempt ${attempt + 1}.`);
          this.settled();
          return;
        } catch (error) {
          attempt++;
          console.log(`Attempt ${attempt} at ${job.data.name} failed: ${(error as Error).message}`);

          if (attempt >= maxRetries) {
            // Not to be tried again: it goes to the dead letters, the queue heavy.task.dead
            await job.nack({ dead: true, error: (error as Error).message });
            console.log(`Task ${job.data.name} was moved to the dead letters.`);
            this.settled();
          } else {
            // Wait before retry
            await new Promise((resolve) => setTimeout(resolve, BACKOFF_MS * attempt));
          }
        }
      }
    });
  }

  private async processHeavyTask(job: Job<Task>, attempt: number) {
    if (attempt < job.data.failures) throw new Error("the machine is busy");
  }
}

const client = new Client({ namespace: "retry-in-worker" });
for (const queue of ["heavy.task", "heavy.task.dead"]) await client.queue.delete(queue); // of an earlier run

let left = 3;
let allSettled!: () => void;
const done = new Promise<void>((resolve) => (allSettled = resolve));
const processor = new TaskProcessor(client.queue, () => {
  left -= 1;
  if (left === 0) allSettled();
});
const consumption = await processor.processWithRetry();

await client.queue.add("heavy.task", { name: "easy", failures: 0 });
await client.queue.add("heavy.task", { name: "stubborn", failures: 2 });
await client.queue.add("heavy.task", { name: "hopeless", failures: 99 });
await done;
await consumption.stop();

const [letter] = await client.queue.pull<Task>("heavy.task.dead", { waitMs: 10_000 });
console.log(`Among the dead letters: ${letter?.data.name}.`);
await letter?.ack();
await client.close();
