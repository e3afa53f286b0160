/** A lock that is waited for only so long, and what to do without it. */
import { type BrokerLock, Client } from "@quorate/client";

/** How long to wait for the lock; the page this follows has 10 seconds. */
const WAIT_SECONDS = 0.5;

class CriticalSectionService {
  constructor(private lock: BrokerLock) {}

  async tryProcessWithTimeout(resourceId: string) {
    const lockKey = `process:${resourceId}`;

    try {
      await this.lock.acquire(lockKey, WAIT_SECONDS);
      await this.performCriticalOperation(resourceId);
    } catch (error) {
      if ((error as Error).message.includes("timeout")) {
        console.log("Could not acquire lock within timeout");
      } else {
        throw error;
      }
    } finally {
      // Releasing what is not held does nothing.
      await this.lock.release(lockKey);
    }
  }

  private async performCriticalOperation(resourceId: string) {
    console.log(`Working on ${resourceId}, alone`);
  }
}

// Two clients, as two processes would have.
const mine = new Client({ namespace: "try-with-timeout" });
const theirs = new Client({ namespace: "try-with-timeout" });
const service = new CriticalSectionService(mine.lock);

await service.tryProcessWithTimeout("report");

const held = await theirs.lock.acquire("process:report", 30);
await service.tryProcessWithTimeout("report");
console.log(`The other one still has it: ${!held.isLost}.`);

await held.release();
await service.tryProcessWithTimeout("report");

await mine.close();
await theirs.close();
