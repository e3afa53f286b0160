/**
 * Work that one process announces on the bus, and several others do. Takes the number of tasks:
 * `node dist/worker-coordination.js 100`.
 *
 * The bus sends each message at most once: what is published in the moment a node fails may reach
 * nobody. So the coordinator announces again what nobody has completed, and a task may be done twice.
 * Where tasks must not be lost without any of that, put them into a queue instead.
 */
import { type BrokerBus, Client } from "@quorate/client";
import cluster from "node:cluster";

interface Work {
  taskId: string;
  data: { number: number };
}

interface Completed {
  taskId: string;
  workerId: number;
}

const WORKERS = 3;
/** How long a task may take before it is announced again. */
const PATIENCE_MS = 2_000;

class WorkerCoordinator {
  constructor(private bus: BrokerBus) {}

  async coordinateWork(tasks: number) {
    // Master process publishes work
    if (cluster.isPrimary) {
      const open = new Map<string, Work>();
      for (let number = 1; number <= tasks; number++) {
        open.set(`task-${number}`, { taskId: `task-${number}`, data: { number } });
      }
      let completed: () => void = () => {};
      const reports = await this.bus.subscribe<Completed>("work.completed");
      reports.subscribe(({ taskId, workerId }) => {
        if (!open.delete(taskId)) return;
        console.log(`Worker ${workerId} has completed ${taskId}.`);
        completed();
      });
      for (const work of open.values()) {
        while (open.has(work.taskId)) {
          const report = new Promise<void>((resolve) => (completed = resolve));
          await this.bus.publish("work.available", work).catch((error: Error) => {
            // Whether it was published is not known: the worst that happens is that it is done twice.
            console.log(`Announcing ${work.taskId} again: ${error.name}.`);
          });
          let timer: NodeJS.Timeout | undefined;
          const patience = new Promise<void>((resolve) => (timer = setTimeout(resolve, PATIENCE_MS)));
          await Promise.race([report, patience]);
          clearTimeout(timer);
        }
      }
      console.log(`All ${tasks} tasks are completed.`);
    }

    // Worker processes subscribe to work; as a group, so that each task goes to one of them
    if (cluster.isWorker) {
      const subscription = await this.bus.subscribe<Work>("work.available", { queueGroup: "workers" });
      subscription.subscribe(async (message) => {
        await this.processTask(message.data);

        // Report completion
        await this.bus.publish("work.completed", {
          taskId: message.taskId,
          workerId: cluster.worker?.id,
        });
      });
    }
  }

  private async processTask(data: Work["data"]) {
    let sum = 0;
    for (let term = 1; term <= data.number; term++) sum += term;
    return sum;
  }
}

const client = new Client({ namespace: "worker-coordination" });
const coordinator = new WorkerCoordinator(client.bus);

if (cluster.isPrimary) {
  const workers = Array.from({ length: WORKERS }, () => cluster.fork());
  // Each says once that it has subscribed.
  await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once("message", resolve))));
  console.log(`${WORKERS} workers are ready.`);
  await coordinator.coordinateWork(Number(process.argv[2] ?? 6));
  const gone = workers.map((worker) => new Promise<number>((resolve) => worker.once("exit", resolve)));
  for (const worker of workers) worker.send("stop");
  const codes = await Promise.all(gone);
  console.log(`The workers have ended, with ${codes.join(", ")}.`);
  await client.close();
} else {
  process.once("message", () => {
    void client.close().then(() => process.disconnect());
  });
  await coordinator.coordinateWork(0);
  process.send?.("ready");
}
