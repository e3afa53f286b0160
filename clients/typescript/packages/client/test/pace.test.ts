/** When to try again, how long to wait, and what was seen: pure bookkeeping, with a clock of its own. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it, mock } from "node:test";
import { Patience } from "#dist/patience.js";
import { Budget, backoffMs } from "#dist/retry.js";
import { Seen } from "#dist/seen.js";
import { raced, sleep, within } from "#dist/time.js";
import { Turns } from "#dist/turns.js";
import { Deferred, failure, property } from "./support.js";

let clock = 0;
const stopped = () => {
  clock = 1_000;
  mock.method(performance, "now", () => clock);
};
const started = () => mock.restoreAll();

describe("back-off", () => {
  it("is random below a bound that doubles, up to half a second", () => {
    for (let nth = 0; nth < 40; nth++) {
      const bound = Math.min(10 * 2 ** nth, 500);
      for (let time = 0; time < 50; time++) {
        const ms = backoffMs(nth);
        assert.ok(ms >= 0 && ms < bound, `${ms} at retry ${nth}`);
      }
    }
    const spread = Array.from({ length: 200 }, () => backoffMs(10));
    assert.ok(Math.max(...spread) > 250 && Math.min(...spread) < 250, "full jitter");
  });
});

describe("retry budget", () => {
  beforeEach(stopped);
  afterEach(started);

  it("lets a burst pass, then so many a second, in the order they come", () => {
    const budget = new Budget({ burst: 3, perSecond: 10 });
    assert.deepEqual([budget.withdraw(), budget.withdraw(), budget.withdraw()], [0, 0, 0]);
    assert.equal(budget.withdraw(), 100);
    assert.equal(budget.withdraw(), 200);
    clock += 1_000; // ten more, two of them owed
    assert.equal(budget.withdraw(), 0, "the bucket is full again, no fuller");
    assert.deepEqual([budget.withdraw(), budget.withdraw()], [0, 0]);
    assert.ok(budget.withdraw() > 0);
  });

  it("is filled by calls that succeed, and by what was not used", () => {
    const budget = new Budget({ burst: 1, perSecond: 0 });
    assert.equal(budget.withdraw(), 0);
    assert.equal(budget.withdraw(), Infinity);
    budget.giveBack();
    budget.deposit();
    assert.equal(budget.withdraw(), 0);
    for (let time = 0; time < 10; time++) budget.deposit();
    assert.equal(budget.withdraw(), 0);
    assert.equal(budget.withdraw(), Infinity, "never more than the burst");
  });
});

describe("patience", () => {
  beforeEach(stopped);
  afterEach(started);

  it("doubles with silence, up to eight times, and is taken back by answers that come soon", () => {
    const patience = new Patience();
    assert.equal(patience.stretch(100), 100);
    for (const stretched of [200, 400, 800, 800]) {
      clock += 10;
      patience.inVain(clock);
      assert.equal(patience.stretch(100), stretched);
    }
    for (let answers = 0; answers < 15; answers++) patience.answered(10, 100);
    assert.equal(patience.stretch(100), 800);
    patience.answered(60, 100); // not soon: the count begins anew
    for (let answers = 0; answers < 15; answers++) patience.answered(50, 100);
    assert.equal(patience.stretch(100), 800);
    patience.answered(50, 100);
    assert.equal(patience.stretch(100), 400);
  });

  it("takes many calls that waited for the same silence for one", () => {
    const patience = new Patience();
    for (let call = 0; call < 100; call++) patience.inVain(500);
    assert.equal(patience.stretch(1), 2);
  });
});

describe("what was seen", () => {
  it("never goes back, and is kept by group", () => {
    const seen = new Seen();
    assert.equal(seen.newest("a"), 0n);
    seen.raise("a", 1, 10n);
    seen.raise("a", 1, 7n);
    assert.equal(seen.newest("a"), 10n);
    seen.raise("b", 1, 20n);
    assert.equal(seen.newest("a"), 20n, "both are in one group");
    seen.raise("c", 2, 5n);
    assert.equal(seen.newest("c"), 5n);
    seen.raiseIn("c", 6n);
    assert.equal(seen.newest("c"), 6n);
    seen.raiseIn("nowhere", 99n);
    assert.equal(seen.newest("nowhere"), 0n);
    seen.raise("a", 2, 1n); // moved to another group
    assert.equal(seen.newest("a"), 6n);
  });

  it("says that it does not know, rather than that there is nothing, where there are too many namespaces", () => {
    const seen = new Seen();
    for (let at = 0; at < 4_096; at++) seen.raise(`n${at}`, 1, 1n);
    seen.raise("one more", 1, 5n);
    assert.equal(seen.newest("one more"), undefined);
    assert.equal(seen.newest("n7"), 1n);
  });

  it("is at least what any answer told, in any order", () => {
    property(100, (dice) => {
      const seen = new Seen();
      let most = 0n;
      for (let step = 0; step < 100; step++) {
        const revision = BigInt(dice.below(1_000));
        if (revision > most) most = revision;
        seen.raise(dice.pick(["a", "b"]), 1, revision);
        for (const name of ["a", "b"]) {
          const newest = seen.newest(name) as bigint;
          assert.ok(newest === most || newest === 0n, "everything in its group, or nothing of it was heard");
        }
      }
    });
  });
});

describe("time", () => {
  it("ends a sleep with the signal's reason", async () => {
    const controller = new AbortController();
    const slept = sleep(60_000, controller.signal);
    controller.abort(new Error("enough"));
    await failure(slept, Error, undefined, /enough/);
    await failure(sleep(60_000, AbortSignal.abort(new Error("before"))), Error, undefined, /before/);
  });

  it("tells a promise that comes from one that comes too late", async () => {
    assert.deepEqual(await within(10_000, Promise.resolve(7)), { value: 7 });
    assert.deepEqual(await within(10_000, Promise.resolve(undefined)), { value: undefined });
    assert.equal(await within(1, new Promise(() => {})), undefined);
    await failure(within(10_000, Promise.reject(new Error("broken"))), Error, undefined, /broken/);
  });

  it("races a promise against a signal, and forgets the signal afterwards", async () => {
    const controller = new AbortController();
    assert.equal(await raced(Promise.resolve(1), controller.signal), 1);
    const never = raced(new Promise<number>(() => {}), controller.signal);
    controller.abort(new Error("stop"));
    await failure(never, Error, undefined, /stop/);
  });
});

describe("turns", () => {
  it("makes calls one after the other, also behind one that fails", async () => {
    const turns = new Turns();
    const first = new Deferred();
    const order: number[] = [];
    const calls = [
      turns.take(() => first.promise.then(() => void order.push(1))),
      turns.take(async () => {
        order.push(2);
        throw new Error("second");
      }),
      turns.take(async () => order.push(3)),
    ];
    await Promise.resolve();
    assert.deepEqual(order, []);
    first.resolve();
    const ended = await Promise.allSettled(calls);
    assert.deepEqual(ended.map(({ status }) => status), ["fulfilled", "rejected", "fulfilled"]);
    assert.deepEqual(order, [1, 2, 3]);
  });
});
