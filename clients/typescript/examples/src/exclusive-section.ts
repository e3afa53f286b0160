/**
 * A section that only one process executes at a time. Takes how often each of the four contenders
 * enters it: `node dist/exclusive-section.js 50`.
 */
import { type BrokerLock, Client } from "@quorate/client";

class CriticalSectionService {
  /** Contenders inside, and the most there ever were. */
  inside = 0;
  most = 0;

  constructor(
    private lock: BrokerLock,
    private perform: () => Promise<void>,
  ) {}

  async processExclusively(resourceId: string) {
    const lockKey = `process:${resourceId}`;
    const acquired = await this.lock.acquire(lockKey, 30); // 30 second timeout

    if (!acquired) {
      throw new Error("Could not acquire lock");
    }

    try {
      // Critical section - only one process can execute this
      await this.performCriticalOperation(resourceId);
    } finally {
      await this.lock.release(lockKey);
    }
  }

  private async performCriticalOperation(_resourceId: string) {
    this.inside += 1;
    this.most = Math.max(this.most, this.inside);
    try {
      await this.perform();
    } finally {
      this.inside -= 1;
    }
  }
}

const rounds = Number(process.argv[2] ?? 3);
const client = new Client({ namespace: "exclusive-section" });
await client.kv.set("balance", 0);

// Reading and writing apart: without the lock, updates would be lost.
const service = new CriticalSectionService(client.lock, async () => {
  const balance = (await client.kv.get<number>("balance")) ?? 0;
  await client.kv.set("balance", balance + 1);
  console.log(`The balance is ${balance + 1}.`);
});

await Promise.all(
  Array.from({ length: 4 }, async () => {
    for (let round = 0; round < rounds; round++) await service.processExclusively("account-7");
  }),
);
console.log(`${4 * rounds} deposits, the balance is ${await client.kv.get("balance")}; at most ${service.most} inside.`);

await client.close();
