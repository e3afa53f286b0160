/**
 * What a consumer has: pure bookkeeping of leases, no calls.
 *
 * After a break the cluster says which leases the consumer still has, and sends their jobs again. What is
 * here and not among them was lost meanwhile; what is still here, and what was settled while that was on
 * its way, is passed over.
 */
import type { DeliveredJob } from "./gen/quorate/v1/queue_pb.js";
import { Lease } from "./job.js";
import { now } from "./time.js";

/** The most jobs that a consumer may have at a time. */
export const WINDOW_MAX = 1_000;
/** Jobs of one stream that may be here: a full window, and as many whose settlement is on its way. */
const HELD_MAX = 2 * WINDOW_MAX;
/** A lease is at most half a day, whatever comes. */
const LEASE_MAX_MS = 43_200_000;

/** A job that came and was not handed out yet. */
export interface Waiting {
  readonly job: DeliveredJob;
  readonly lease: Lease;
}

interface Held {
  readonly lease: Lease;
  /** The stream it came on, or came again on. */
  stream: number;
}

export class Holder {
  /** Counts the streams. */
  #stream = 0;
  /** The first stream of the consumer as the cluster knows it now. */
  #ownSince = 0;
  readonly #held = new Map<bigint, Held>();
  /** Settled, of those that came on an earlier stream: they may come again on this one. */
  readonly #settled = new Map<bigint, bigint>();
  #waiting: Waiting[] = [];

  beginStream(): void {
    this.#stream += 1;
    this.#settled.clear();
  }

  /** The next stream is that of another consumer: what was held is not its own. */
  beginConsumer(): void {
    this.#ownSince = this.#stream + 1;
  }

  /** The cluster says which leases the consumer still has. */
  keepOnly(leases: readonly bigint[]): void {
    const kept = new Set(leases);
    for (const [jobId, { lease, stream }] of [...this.#held]) {
      if (stream >= this.#ownSince && !kept.has(lease.number)) this.#forget(jobId, lease.number, true);
    }
  }

  /** A job came. Answers why that can't be, if it can't. */
  takeIn(job: DeliveredJob): string | undefined {
    if (this.#settled.get(job.jobId) === job.lease) return undefined;
    const until = now() + Math.min(Number(job.leaseMs), LEASE_MAX_MS);
    const held = this.#held.get(job.jobId);
    if (held !== undefined) {
      if (held.lease.number === job.lease) {
        held.stream = this.#stream;
        held.lease.until = until;
        return undefined;
      }
      // Delivered again, so the lease before has ended, though nobody said so.
      this.#forget(job.jobId, held.lease.number, true);
    }
    if (this.#held.size >= HELD_MAX) {
      return `a consumer was sent more than ${HELD_MAX} jobs that it has not settled`;
    }
    const lease = new Lease(job.jobId, job.lease, until);
    this.#held.set(job.jobId, { lease, stream: this.#stream });
    this.#waiting.push({ job, lease });
    return undefined;
  }

  /** A job is not the consumer's any more. */
  withdraw(jobId: bigint, lease: bigint): void {
    this.#forget(jobId, lease, true);
  }

  /** None of what it had is its own any more. */
  withdrawAll(): void {
    this.#waiting = [];
    for (const { lease } of this.#held.values()) lease.withdraw();
    this.#held.clear();
  }

  /** What became of a job was said. */
  settled(lease: Lease): void {
    const stream = this.#forget(lease.jobId, lease.number, false);
    if (stream !== undefined && stream < this.#stream) this.#settled.set(lease.jobId, lease.number);
  }

  /** The next job to work on. */
  next(): Waiting | undefined {
    return this.#waiting.shift();
  }

  /** All that wait. */
  drain(): Waiting[] {
    return this.#waiting.splice(0);
  }

  #forget(jobId: bigint, lease: bigint, withdrawn: boolean): number | undefined {
    const held = this.#held.get(jobId);
    if (held === undefined || held.lease.number !== lease) return undefined;
    this.#held.delete(jobId);
    if (withdrawn) {
      this.#waiting = this.#waiting.filter((waiting) => waiting.job.jobId !== jobId);
      held.lease.withdraw();
    }
    return held.stream;
  }
}
