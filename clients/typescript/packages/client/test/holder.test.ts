/** The leases that a consumer has, over breaks of its stream. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { create } from "@bufbuild/protobuf";
import { DeliveredJobSchema, type DeliveredJob } from "#dist/gen/quorate/v1/queue_pb.js";
import { Holder, WINDOW_MAX } from "#dist/holder.js";
import type { Lease } from "#dist/job.js";
import { property } from "./support.js";

const delivered = (jobId: number, lease: number): DeliveredJob =>
  create(DeliveredJobSchema, { jobId: BigInt(jobId), lease: BigInt(lease), leaseMs: 30_000n, attempt: 1 });

describe("holder", () => {
  it("hands out each job once, in order", () => {
    const holder = new Holder();
    holder.beginConsumer();
    holder.beginStream();
    for (const id of [1, 2, 3]) assert.equal(holder.takeIn(delivered(id, 10 * id)), undefined);
    assert.deepEqual([1, 2, 3].map(() => holder.next()?.job.jobId), [1n, 2n, 3n]);
    assert.equal(holder.next(), undefined);
  });

  it("raises the signal of what is withdrawn, and hands it out no more", () => {
    const holder = new Holder();
    holder.beginConsumer();
    holder.beginStream();
    holder.takeIn(delivered(1, 10));
    holder.takeIn(delivered(2, 20));
    const first = holder.next()?.lease as Lease;
    holder.withdraw(1n, 10n);
    holder.withdraw(2n, 99n); // another lease of it
    assert.ok(first.signal.aborted);
    assert.match(String(first.signal.reason), /withdrawn/);
    assert.equal(holder.next()?.job.jobId, 2n);
  });

  it("keeps after a break what the cluster says it has, and loses the rest", () => {
    const holder = new Holder();
    holder.beginConsumer();
    holder.beginStream();
    for (const id of [1, 2, 3]) holder.takeIn(delivered(id, 10 * id));
    const [one, two] = [holder.next()?.lease as Lease, holder.next()?.lease as Lease];
    holder.beginStream();
    holder.keepOnly([10n]);
    assert.ok(!one.signal.aborted);
    assert.ok(two.signal.aborted);
    assert.equal(holder.next(), undefined, "the third was lost while it waited");
    assert.equal(holder.takeIn(delivered(1, 10)), undefined, "it is sent again");
    assert.equal(holder.next(), undefined, "but is here already");
  });

  it("passes over what was settled while it was on its way again", () => {
    const holder = new Holder();
    holder.beginConsumer();
    holder.beginStream();
    holder.takeIn(delivered(1, 10));
    const lease = holder.next()?.lease as Lease;
    holder.beginStream();
    holder.keepOnly([10n]);
    holder.settled(lease);
    holder.takeIn(delivered(1, 10));
    assert.equal(holder.next(), undefined);
    holder.takeIn(delivered(1, 11));
    assert.equal(holder.next()?.lease.number, 11n, "a new delivery is another one");
  });

  it("takes a job that comes under another lease for lost under the first", () => {
    const holder = new Holder();
    holder.beginConsumer();
    holder.beginStream();
    holder.takeIn(delivered(1, 10));
    const lease = holder.next()?.lease as Lease;
    holder.takeIn(delivered(1, 11));
    assert.ok(lease.signal.aborted);
    assert.equal(holder.next()?.lease.number, 11n);
  });

  it("leaves what an earlier consumer has to that one's end", () => {
    const holder = new Holder();
    holder.beginConsumer();
    holder.beginStream();
    holder.takeIn(delivered(1, 10));
    const lease = holder.next()?.lease as Lease;
    holder.beginConsumer();
    holder.beginStream();
    holder.keepOnly([]);
    assert.ok(!lease.signal.aborted, "it is not the new consumer's, so nobody said that it is lost");
    holder.withdrawAll();
    assert.ok(lease.signal.aborted);
  });

  it("refuses a flood", () => {
    const holder = new Holder();
    holder.beginConsumer();
    holder.beginStream();
    for (let id = 1; id <= 2 * WINDOW_MAX; id++) assert.equal(holder.takeIn(delivered(id, id)), undefined);
    assert.match(String(holder.takeIn(delivered(9_999, 9_999))), /more than 2000 jobs/);
  });

  it("hands out no lease twice, and none that was withdrawn, whatever the order", () => {
    property(300, (dice) => {
      const holder = new Holder();
      holder.beginConsumer();
      holder.beginStream();
      const out = new Map<bigint, Lease>();
      const live = new Map<bigint, bigint>(); // the cluster's leases: job to lease
      let leases = 0;
      for (let step = 0; step < 200; step++) {
        const id = 1 + dice.below(6);
        switch (dice.below(6)) {
          case 0:
          case 1: {
            leases += 1;
            live.set(BigInt(id), BigInt(leases));
            holder.takeIn(delivered(id, leases));
            break;
          }
          case 2: {
            const next = holder.next();
            if (next === undefined) break;
            assert.ok(!out.has(next.lease.number), `lease ${next.lease.number} was handed out twice`);
            assert.ok(!next.lease.signal.aborted);
            assert.equal(live.get(next.job.jobId), next.lease.number);
            out.set(next.lease.number, next.lease);
            break;
          }
          case 3: {
            const lease = dice.pick([...out.values()]);
            if (lease === undefined || live.get(lease.jobId) !== lease.number) break;
            live.delete(lease.jobId);
            holder.settled(lease);
            break;
          }
          case 4: {
            const lease = live.get(BigInt(id));
            if (lease === undefined) break;
            live.delete(BigInt(id));
            holder.withdraw(BigInt(id), lease);
            break;
          }
          default: {
            // A break: some are lost meanwhile, the others are sent again.
            for (const job of [...live.keys()]) if (dice.next() < 0.3) live.delete(job);
            holder.beginStream();
            holder.keepOnly([...live.values()]);
            for (const [job, lease] of live) holder.takeIn(delivered(Number(job), Number(lease)));
          }
        }
        for (const lease of out.values()) {
          if (live.get(lease.jobId) === lease.number) assert.ok(!lease.signal.aborted);
        }
      }
    });
  });
});
