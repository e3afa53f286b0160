/** The task queue against a cluster: pushing, consuming in each way, settling, and looking at it. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import {
  Client,
  InvalidArgumentError,
  JobLostError,
  NotFoundError,
  PayloadError,
  ResourceExhaustedError,
  bytes,
  type Job,
} from "@quorate/client";
import { TestCluster } from "@quorate/testing";
import { Deferred, eventually, failure, soon } from "./support.js";

describe("queue", { timeout: 300_000 }, () => {
  let cluster: TestCluster;
  let client: Client;
  /** What was told to `onError`. */
  const told: { where: string; error: unknown }[] = [];
  const toldOf = (text: string) => told.filter(({ where, error }) => `${where} ${String(error)}`.includes(text));
  before(async () => {
    cluster = await TestCluster.start();
    client = new Client({ endpoints: cluster.endpoints, onError: (error, where) => told.push({ where, error }) });
  });
  after(async () => {
    await client.close();
    await cluster.stop();
  });

  /** Waits for `count` jobs, handled as the function says. */
  async function handled(queue: string, count: number, handler: (job: Job) => unknown, options = {}): Promise<void> {
    const all = new Deferred();
    let left = count;
    const consumption = await client.queue.process(
      queue,
      async (job) => {
        try {
          return await handler(job);
        } finally {
          left -= 1;
          if (left === 0) all.resolve();
        }
      },
      options,
    );
    await soon(`${count} jobs of ${queue}`, all.promise);
    await consumption.stop();
  }

  it("delivers what was pushed, with all that came along", async () => {
    const { id, duplicate } = await client.queue.add("along", { to: "a" }, { headers: { trace: "x" }, priority: 7 });
    assert.equal(duplicate, false);
    const subscription = await client.queue.subscribe<{ to: string }>("along");
    const { value: job } = await soon("the job", subscription.next());
    assert.ok(job !== undefined);
    assert.deepEqual(
      [job.id, job.data.to, job.attempt, job.priority, job.headers["trace"], job.contentType, job.queue],
      [id, "a", 1, 7, "x", "application/json", "along"],
    );
    assert.ok(Math.abs(job.pushedAt.getTime() - Date.now()) < 600_000);
    assert.ok(job.remainingMs > 0);
    assert.equal(job.isSettled, false);
    await job.ack();
    await job.ack();
    assert.equal(job.isSettled, true);
    await failure(job.nack(), JobLostError, "JOB_SETTLED");
    await subscription.unsubscribe();
    assert.deepEqual(await subscription.next(), { done: true, value: undefined });
    assert.equal((await client.queue.stats("along")).totals.acked, 1);
  });

  it("does nothing before there is a handler, and shares jobs among all there are", async () => {
    const pushed = Array.from({ length: 60 }, (_, at) => at);
    await client.queue.addMany("shared", pushed.map((data) => ({ data })));
    const idle = await client.queue.subscribe("shared");
    const seen: number[][] = [[], [], []];
    const all = new Deferred();
    const consumptions = await Promise.all(
      seen.map((mine) =>
        client.queue.process("shared", async (job) => {
          mine.push(job.data);
          if (seen.flat().length === pushed.length) all.resolve();
          await new Promise((resolve) => setImmediate(resolve));
        }),
      ),
    );
    await soon("all jobs", all.promise);
    for (const consumption of consumptions) await consumption.stop();
    await idle.unsubscribe();
    assert.deepEqual(seen.flat().sort((left, right) => left - right), pushed);
    assert.ok(seen.filter((mine) => mine.length > 0).length > 1);
  });

  it("works on maxParallel jobs at a time, and on no more", async () => {
    await client.queue.addMany("parallel", Array.from({ length: 40 }, (_, data) => ({ data })));
    let running = 0;
    let most = 0;
    const four = new Deferred();
    await handled(
      "parallel",
      40,
      async () => {
        running += 1;
        most = Math.max(most, running);
        if (running === 4) four.resolve();
        await four.promise;
        await new Promise((resolve) => setTimeout(resolve, 2));
        running -= 1;
      },
      { maxParallel: 4, prefetch: 8 },
    );
    assert.equal(most, 4);
  });

  it("is iterated, several at once", async () => {
    await client.queue.addMany("iterated", [{ data: 1 }, { data: 2 }, { data: 3 }, { data: 4 }]);
    await using subscription = await client.queue.subscribe<number>("iterated", { prefetch: 3 });
    const [first, second] = await soon("two", Promise.all([subscription.next(), subscription.next()]));
    await first.value?.ack();
    await second.value?.ack();
    const rest: number[] = [];
    for await (const job of subscription) {
      rest.push(job.data);
      await job.ack();
      if (rest.length === 2) break;
    }
    assert.deepEqual([first.value?.data, second.value?.data, ...rest], [1, 2, 3, 4]);
  });

  it("acknowledges what returns, and tries again what throws, whatever is thrown", async () => {
    await client.queue.declare("thrown", { backoff: { exponential: false, baseMs: 1 }, attemptsMax: 10 });
    const thrown: unknown[] = [new Error("an error"), "a text", undefined, { odd: true }, null];
    await client.queue.add("thrown", "x");
    await handled("thrown", thrown.length + 2, (job) => {
      if (job.attempt === 1) throw new Error("at once");
      if (job.attempt <= thrown.length + 1) return Promise.reject(thrown[job.attempt - 2]);
      return undefined;
    });
    await eventually("it is done", async () => (await client.queue.stats("thrown")).totals.acked === 1);
    const stats = await client.queue.stats("thrown");
    assert.deepEqual([stats.totals.delivered, stats.totals.nacked, stats.ready + stats.leased + stats.delayed], [7, 6, 0]);
    assert.equal(toldOf("of queue \"thrown\" failed").length, 6);
  });

  it("gives up after so many attempts, and brings dead letters back", async () => {
    await client.queue.declare("dying", { attemptsMax: 2, backoff: { exponential: false, baseMs: 1 } });
    const { id } = await client.queue.add("dying", { n: 1 });
    await handled("dying", 2, () => {
      throw new Error("no good");
    });
    await eventually("it is dead", async () => (await client.queue.stats("dying")).dead === 1);
    const dead = await client.queue.getJob("dying", id);
    assert.deepEqual([dead?.state, dead?.queue], ["dead", "dying.dead"]);
    assert.equal((await client.queue.getJob("dying.dead", id))?.state, "ready");
    assert.deepEqual(dead?.failures.map(({ attempt, error }) => [attempt, error]), [[1, "no good"], [2, "no good"]]);
    assert.equal(await client.queue.redrive("dying"), 1);
    await handled("dying", 1, (job) => assert.equal(job.attempt, 1));
    await eventually("it is gone", async () => (await client.queue.getJob("dying", id)) === undefined);
    await client.queue.add("dying", { n: 2 });
    await handled("dying", 1, (job) => job.nack({ dead: true, error: "given up" }));
    const [letter] = await client.queue.pull("dying.dead", { waitMs: 30_000 });
    assert.deepEqual(letter?.data, { n: 2 });
    await letter?.ack();
  });

  it("hands a job back without counting the attempt, or delays it", async () => {
    await client.queue.add("back", 1);
    const attempts: number[] = [];
    await handled("back", 3, (job) => {
      attempts.push(job.attempt);
      if (attempts.length === 1) return job.nack({ handBack: true });
      if (attempts.length === 2) return job.nack({ delayMs: 1 });
      return undefined;
    });
    assert.deepEqual(attempts, [1, 1, 2]);
    const [job] = await client.queue.pull("back", { waitMs: 0 });
    assert.equal(job, undefined);
    await client.queue.add("back", 2);
    const [other] = await client.queue.pull("back", { waitMs: 30_000 });
    await failure(other?.nack({ dead: true, delayMs: 5 }) as Promise<void>, InvalidArgumentError, "BAD_OPTION", /exclude each other/);
    assert.equal(other?.isSettled, false, "what was refused was not said");
    await other?.ack();
  });

  it("orders by priority, holds back what is delayed, and keeps groups in order", async () => {
    for (const [data, priority] of [["low", 0], ["high", 9], ["middle", 5]] as const) {
      await client.queue.add("ordered", data, { priority });
    }
    const order: string[] = [];
    await handled("ordered", 3, (job) => void order.push(job.data));
    assert.deepEqual(order, ["high", "middle", "low"]);

    const pushedAt = Date.now();
    await client.queue.add("later", "delayed", { delayMs: 400 });
    await client.queue.add("later", "by the clock", { notBefore: new Date(pushedAt + 400) });
    assert.equal((await client.queue.stats("later")).delayed, 2);
    await handled("later", 2, () => assert.ok(Date.now() - pushedAt >= 350));
    await failure(client.queue.add("later", 1, { delayMs: 1, notBefore: new Date() }), InvalidArgumentError, "BAD_OPTION");

    await client.queue.addMany("groups", Array.from({ length: 20 }, (_, data) => ({ data, group: data % 2 ? "odd" : "even" })));
    const seen: Record<string, number[]> = { odd: [], even: [] };
    await handled("groups", 20, (job) => void seen[job.data % 2 ? "odd" : "even"]?.push(job.data), { maxParallel: 8 });
    for (const list of Object.values(seen)) assert.deepEqual(list, [...list].sort((left, right) => left - right));
  });

  it("takes a job once under a dedupe key", async () => {
    const first = await client.queue.add("deduped", 1, { dedupeKey: "k" });
    const again = await client.queue.add("deduped", 2, { dedupeKey: "k" });
    assert.deepEqual(again, { id: first.id, duplicate: true });
    const other = await client.queue.add("deduped", 3, { dedupeKey: Uint8Array.of(1) });
    assert.equal(other.duplicate, false);
    assert.equal((await client.queue.stats("deduped")).totals.duplicates, 1);
  });

  it("is pulled from, and jobs come again when their lease ends", async () => {
    await client.queue.declare("pulled", { visibilityMs: 1_000 });
    assert.deepEqual(await client.queue.pull("pulled"), []);
    const waiting = client.queue.pull("pulled", { waitMs: 30_000, count: 5 });
    await client.queue.add("pulled", "x");
    const [job] = await soon("the job", waiting);
    assert.equal(job?.data, "x");
    await job.extend(60_000);
    assert.ok(job.remainingMs > 30_000);
    await job.extend();
    const [again] = await soon("its second delivery", client.queue.pull("pulled", { waitMs: 30_000 }));
    assert.equal(again?.attempt, 2);
    const lost = await failure(job.ack(), JobLostError, "JOB_LEASE_LOST");
    assert.ok(lost.message.length > 0);
    assert.ok(job.signal.aborted);
    assert.equal(job.remainingMs, 0);
    await again.progress(0.5, "half");
    await failure(again.progress(2), InvalidArgumentError, "BAD_OPTION", /0 to 1/);
    await again.ack();
  });

  it("extends the lease of a job for as long as its handler runs", async () => {
    await client.queue.declare("slow", { visibilityMs: 1_000 });
    await client.queue.add("slow", 1);
    let deliveries = 0;
    await handled("slow", 1, async (job) => {
      deliveries += 1;
      await new Promise((resolve) => setTimeout(resolve, 3_000));
      assert.ok(!job.signal.aborted);
    });
    assert.equal(deliveries, 1);
    assert.equal((await client.queue.stats("slow")).totals.lapsed, 0);
  });

  it("tells a worker that its job was cancelled", async () => {
    const { id } = await client.queue.add("cancelled", 1);
    const withdrawn = new Deferred<unknown>();
    const begun = new Deferred();
    const consumption = await client.queue.process("cancelled", async (job) => {
      begun.resolve();
      await new Promise<void>((resolve) => job.signal.addEventListener("abort", () => resolve()));
      withdrawn.resolve(job.signal.reason);
    });
    await begun.promise;
    assert.equal(await client.queue.cancel("cancelled", id), true);
    assert.ok((await soon("the signal", withdrawn.promise)) instanceof JobLostError);
    assert.equal(await client.queue.cancel("cancelled", id), false);
    await consumption.stop();
  });

  it("pauses, resumes, purges and is deleted", async () => {
    const { queue } = client;
    await failure(queue.stats("unknown"), NotFoundError, "QUEUE_UNKNOWN");
    assert.equal(await queue.declare("managed"), true);
    assert.equal(await queue.declare("managed", { jobsMax: 3, parallelMax: 2, rate: { jobs: 100, perMs: 1_000 }, keepDoneMs: 60_000, dedupeWindowMs: 1_000, deadLetters: { queue: "elsewhere" } }), false);
    await queue.pause("managed");
    await queue.addMany("managed", [{ data: 1 }, { data: 2 }, { data: 3 }]);
    await failure(queue.add("managed", 4), ResourceExhaustedError, "QUEUE_FULL");
    const paused = await queue.stats("managed");
    assert.deepEqual([paused.paused, paused.ready], [true, 3]);
    assert.deepEqual(await queue.pull("managed"), []);
    await queue.resume("managed");
    const [job] = await queue.pull("managed", { waitMs: 30_000 });
    await job?.ack();
    assert.equal((await queue.getJob("managed", job?.id as string))?.state, "done", "it is kept");
    assert.ok((await queue.purge("managed")) >= 2);
    assert.equal(await queue.delete("managed"), true);
    assert.equal(await queue.delete("managed"), false);
    await queue.declare("dropping", { jobsMax: 1, whenFull: "drop-oldest", deadLetters: "discard" });
    await queue.add("dropping", "old");
    await queue.add("dropping", "new");
    assert.equal((await queue.pull("dropping", { waitMs: 30_000 }))[0]?.data, "new");
  });

  it("ends a consumer whose queue is deleted, with an error", async () => {
    await client.queue.declare("gone");
    const consumption = await client.queue.process("gone", () => {});
    await client.queue.delete("gone");
    await failure(consumption.done, NotFoundError);
    assert.equal(toldOf('the subscription to queue "gone" ended').length, 1);
    await consumption.stop();
  });

  it("begins no more jobs once it is stopped, and gives back those that wait", async () => {
    await client.queue.addMany("stopped", Array.from({ length: 5 }, (_, data) => ({ data })));
    const begun = new Deferred();
    const release = new Deferred();
    let count = 0;
    const consumption = await client.queue.process(
      "stopped",
      async () => {
        count += 1;
        begun.resolve();
        await release.promise;
      },
      { prefetch: 4 },
    );
    await begun.promise;
    await eventually("all are here", async () => (await client.queue.stats("stopped")).leased === 5);
    const stopping = consumption.stop();
    release.resolve();
    await soon("the stop", stopping);
    assert.equal(count, 1);
    await eventually("the others are given back", async () => (await client.queue.stats("stopped")).ready === 4);
    const [job] = await client.queue.pull("stopped");
    assert.equal(job?.attempt, 1, "they were not counted as delivered");
  });

  it("may be stopped before it has begun, and that is no failure", async () => {
    const before = told.length;
    const subscription = await client.queue.subscribe("early");
    const consumption = subscription.subscribe(() => {});
    await soon("the stop", consumption.stop());
    await soon("the end", consumption.done);
    assert.equal(told.length, before);
    assert.throws(() => subscription.subscribe(() => {}), InvalidArgumentError);
  });

  it("ends with its signal", async () => {
    const controller = new AbortController();
    const consumption = await client.queue.process("signalled", () => {}, { signal: controller.signal });
    controller.abort();
    await soon("the end", consumption.done);
  });

  it("waits, when it is closed, for an ack that its handler did not wait for", async () => {
    const other = new Client({ endpoints: cluster.endpoints });
    await other.queue.addMany("unawaited", Array.from({ length: 20 }, (_, data) => ({ data })));
    let count = 0;
    const all = new Deferred();
    await other.queue.process(
      "unawaited",
      (job) => {
        void job.ack();
        count += 1;
        if (count === 20) all.resolve();
      },
      { maxParallel: 20 },
    );
    await soon("all", all.promise);
    await other.close();
    const stats = await client.queue.stats("unawaited");
    assert.deepEqual([stats.totals.acked, stats.ready + stats.leased], [20, 0]);
  });

  it("lets an ack that failed be said again, and tells whoever did not wait for it", async () => {
    await client.queue.add("again", 1);
    const [job] = await client.queue.pull("again", { waitMs: 30_000 });
    await failure(job?.ack({ signal: AbortSignal.abort(new Error("not now")) }) as Promise<void>, Error, undefined, /not now/);
    assert.equal(job?.isSettled, false);
    await job.ack();
    assert.equal((await client.queue.stats("again")).totals.acked, 1);

    await client.queue.add("again", 2);
    await handled("again", 1, (one) => {
      void one.ack({ signal: AbortSignal.abort(new Error("not now either")) });
    });
    await eventually("it was told", () => toldOf("not now either").length === 1);
    await eventually("and said again", async () => (await client.queue.stats("again")).totals.acked === 2);
  });

  it("says of a job that is not JSON which it is, and reads it with its codec", async () => {
    await client.queue.declare("raw", { attemptsMax: 1 });
    const { id } = await client.queue.withCodec(bytes).add("raw", Uint8Array.of(0, 255));
    let came: unknown;
    await handled("raw", 1, (job) => {
      try {
        return job.data;
      } catch (error) {
        came = error;
        throw error;
      }
    });
    assert.ok(came instanceof PayloadError);
    assert.match(came.message, new RegExp(`job ${id} of queue "raw" is not application/json`));
    const [letter] = await client.queue.withCodec(bytes).pull("raw.dead", { waitMs: 30_000 });
    assert.deepEqual(letter?.data, Uint8Array.of(0, 255));
    assert.deepEqual(letter?.payload, Uint8Array.of(0, 255));
  });

  it("refuses options that make no sense", async () => {
    const { queue } = client;
    for (const options of [{ maxParallel: 0 }, { maxParallel: NaN }, { maxParallel: 1.5 }, { prefetch: -1 }, { maxParallel: 5, prefetch: -3 }, { maxParallel: 900, prefetch: 200 }]) {
      await failure(queue.subscribe("q", options), InvalidArgumentError, "BAD_OPTION", /maxParallel/);
    }
    const bad: [() => Promise<unknown>, string | undefined, RegExp][] = [
      [() => queue.add("q", 1, { delayMs: -1 }), "BAD_OPTION", /delayMs is -1/],
      [() => queue.add("q", 1, { priority: 300 }), "INVALID_PRIORITY", /0 to 255/],
      [() => queue.add("q", 1, { priority: -1 }), "BAD_OPTION", /queue push: priority can't be sent/],
      [() => queue.add("q", 1, { notBefore: new Date(NaN) }), "BAD_OPTION", /notBefore is NaN/],
      [() => queue.add("", 1), "QUEUE_NAME_EMPTY", /empty/],
      [() => queue.add(undefined as never, 1), "BAD_OPTION", /the queue's name is a string, not undefined/],
      [() => queue.pull("q", { count: -1 }), "BAD_OPTION", /count/],
      [() => queue.pull("q", { count: 0 }), "INVALID_COUNT", /1 to 128/],
      [() => queue.declare("q", { attemptsMax: NaN }), "BAD_OPTION", /attemptsMax/],
      [() => queue.declare("q", { jobsMax: NaN }), "BAD_OPTION", /jobsMax/],
      [() => queue.getJob("q", "no id"), "BAD_OPTION", /no id of a job/],
    ];
    for (const [call, reason, message] of bad) await failure(call(), InvalidArgumentError, reason, message);
    const subscription = await queue.subscribe("q");
    assert.throws(() => subscription.subscribe(undefined as never), InvalidArgumentError);
    await failure(queue.add("q", "x".repeat(3 << 20)), InvalidArgumentError, "REQUEST_TOO_LARGE", /2097152/);
    await failure(queue.add("q", undefined), PayloadError, "BAD_PAYLOAD", /the job for queue "q"/);
  });
});
