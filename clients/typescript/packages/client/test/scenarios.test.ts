/**
 * The scenarios that every client runs alike, see `tests/scenarios/README.md`. With QUORATE_SCENARIO only
 * those whose names have that text.
 */
import {
  Client,
  QuorateError,
  type Condition,
  type Consumer,
  type HeldLock,
  type Job,
  type Operation,
  type OperationResult,
  type Subscription,
  type Watch,
} from "@quorate/client";
import { TestCluster } from "@quorate/testing";
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";

const DIRECTORY = fileURLToPath(new URL("../../../../../../tests/scenarios/", import.meta.url));

type Json = any;
type Step =
  | { do: string; with?: Record<string, Json>; expect?: Json; error?: { kind: string; reason?: string }; as?: string; client?: string }
  | { repeat: number; steps: Step[] }
  | { parallel: Step[][] };

/** What a builder of a value throws. */
class BuildError extends Error {}

/** One run of one scenario. */
class Run {
  readonly #cluster: TestCluster;
  readonly #namespace: string;
  readonly #clients = new Map<string, Client>();
  readonly #kept = new Map<string, Json>();
  static #killed: number | undefined;

  constructor(cluster: TestCluster, namespace: string) {
    this.#cluster = cluster;
    this.#namespace = namespace;
  }

  async steps(steps: readonly Step[], turn?: number): Promise<void> {
    for (const step of steps) {
      if ("repeat" in step) {
        for (let at = 1; at <= step.repeat; at++) await this.steps(step.steps, at);
      } else if ("parallel" in step) {
        await Promise.all(step.parallel.map((list) => this.steps(list, turn)));
      } else {
        await this.#step(turned(step, turn));
      }
    }
  }

  async end(): Promise<void> {
    await Promise.all([...this.#clients.values()].map((client) => client.close()));
  }

  async #step(step: Extract<Step, { do: string }>): Promise<void> {
    const text = JSON.stringify(step);
    let came: Json;
    try {
      came = await this.#do(step.do, step.with ?? {}, step.client ?? "a", step.as);
    } catch (error) {
      if (step.error === undefined) throw new Error(`${text} failed: ${String(error)}`, { cause: error });
      const kind = (error as Error).constructor.name.replace(/Error$/, "");
      assert.equal(kind, step.error.kind, `${text} failed with ${String(error)}`);
      if (step.error.reason !== undefined) assert.equal((error as QuorateError).reason, step.error.reason, text);
      return;
    }
    assert.equal(step.error, undefined, `${text} came to ${JSON.stringify(came)}`);
    if ("expect" in step) assert.deepEqual(came, step.expect, text);
  }

  #client(name: string): Client {
    let client = this.#clients.get(name);
    if (client === undefined) {
      client = new Client({
        endpoints: this.#cluster.endpoints,
        namespace: this.#namespace,
        requestTimeoutMs: 30_000,
        onError: () => {},
      });
      this.#clients.set(name, client);
    }
    return client;
  }

  /** What was kept under `$name`. */
  #named<T>(name: string): T {
    const kept = this.#kept.get(name.slice(1));
    assert.ok(kept !== undefined, `nothing is kept as ${name}`);
    return kept as T;
  }

  async #do(call: string, given: Record<string, Json>, by: string, as: string | undefined): Promise<Json> {
    const client = this.#client(by);
    const keep = (what: unknown) => {
      if (as !== undefined) this.#kept.set(as, what);
    };
    const guard = given["guard"] === undefined ? undefined : this.#named<HeldLock>(given["guard"]).guard;
    const { key, value, pattern, queue, count, lock } = given;
    switch (call) {
      case "kv.set": {
        const { ttl_ms: ttlMs, if_version: ifVersion, if_absent: ifAbsent, ephemeral } = given;
        const { version } = await client.kv.set(key, value, { ttlMs, ifVersion, ifAbsent, ephemeral, guard });
        return { version };
      }
      case "kv.get":
        return (await client.kv.get(key)) ?? null;
      case "kv.entry": {
        const entry = await client.kv.entry(key);
        return entry ? { value: entry.value, version: entry.version, ttl: entry.remainingTtlMs !== undefined } : null;
      }
      case "kv.delete":
        return client.kv.delete(key, { ifVersion: given["if_version"] });
      case "kv.increment":
        return client.kv.increment(key, given["by"]);
      case "kv.increment_float":
        return client.kv.incrementFloat(key, given["by"]);
      case "kv.list":
        return client.kv.getPattern(pattern);
      case "kv.count":
        return client.kv.count(pattern);
      case "kv.delete_pattern":
        return client.kv.deletePattern(pattern);
      case "kv.watch": {
        const watch = await client.kv.watch(pattern);
        keep({ watch, events: [] });
        return null;
      }
      case "watch.next": {
        const { watch, events } = this.#named<{ watch: Watch; events: Json[] }>(given["watch"]);
        while (events.length < count) {
          const { value: changes } = await watch.next();
          assert.ok(changes, "the watch is over");
          for (const event of changes.events) {
            events.push(
              event.type === "set" ? { set: event.key, value: event.value } : { deleted: event.key, cause: event.cause },
            );
          }
        }
        return events.splice(0, count);
      }
      case "cache.set": {
        const { ttl_ms: ttlMs, stale_for_ms: staleForMs, tags } = given;
        await client.cache.set(key, value, { ttlMs, staleForMs, tags });
        return null;
      }
      case "cache.get":
        return (await client.cache.get(key)) ?? null;
      case "cache.delete":
        return client.cache.delete(key);
      case "cache.delete_pattern":
        return client.cache.deletePattern(pattern);
      case "cache.invalidate_tags":
        await client.cache.invalidateTags(given["tags"]);
        return null;
      case "cache.get_or_build": {
        let built = false;
        const build = () => {
          built = true;
          if (given["fail"] !== undefined) throw new BuildError(given["fail"]);
          return given["build"];
        };
        const came = await client.cache.getOrBuild(key, build, { ttlMs: given["ttl_ms"] });
        return { value: came, built };
      }
      case "queue.push": {
        const { data, delay_ms: delayMs, priority, dedupe_key: dedupeKey, group } = given;
        const { duplicate } = await client.queue.add(queue, data, { delayMs, priority, dedupeKey, group, guard });
        return { duplicate };
      }
      case "queue.pull": {
        const jobs = await client.queue.pull(queue, { count: count ?? 1, waitMs: given["wait_ms"] ?? 0 });
        if (jobs[0] !== undefined) keep(jobs[0]);
        return jobs.map(({ data, attempt }) => ({ data, attempt }));
      }
      case "queue.ack":
        await this.#named<Job>(given["job"]).ack();
        return null;
      case "queue.extend":
        await this.#named<Job>(given["job"]).extend();
        return null;
      case "queue.nack": {
        const { delay_ms: delayMs, dead, hand_back: handBack, error } = given;
        await this.#named<Job>(given["job"]).nack({ delayMs, dead, handBack, error });
        return null;
      }
      case "queue.declare": {
        const { attempts_max: attemptsMax, visibility_ms: visibilityMs, backoff_ms: baseMs } = given;
        const backoff = baseMs === undefined ? undefined : { exponential: false, baseMs };
        await client.queue.declare(queue, { attemptsMax, visibilityMs, backoff });
        return null;
      }
      case "queue.stats": {
        const { ready, delayed, leased, dead } = await client.queue.stats(queue);
        return { ready, delayed, leased, dead };
      }
      case "queue.consume": {
        const consumer = await client.queue.subscribe(queue, { maxParallel: given["window"] });
        // It has begun once it is asked for the first job.
        keep({ consumer, next: consumer.next() });
        return null;
      }
      case "consumer.next": {
        const consuming = this.#named<{ consumer: Consumer; next: Promise<IteratorResult<Job, undefined>> }>(
          given["consumer"],
        );
        const { value: job } = await consuming.next;
        assert.ok(job, "the consumer is over");
        consuming.next = consuming.consumer.next();
        keep(job);
        return { data: job.data, attempt: job.attempt };
      }
      case "consumer.close":
        await this.#named<{ consumer: Consumer }>(given["consumer"]).consumer.unsubscribe();
        return null;
      case "queue.redrive":
        return client.queue.redrive(queue);
      case "queue.purge":
        return client.queue.purge(queue);
      case "lock.acquire": {
        const { wait_ms: waitMs, ttl_ms: ttlMs, shared, permits } = given;
        keep(await client.lock.acquire(lock, { waitMs, ttlMs, shared, permits }));
        return null;
      }
      case "lock.release":
        return this.#named<HeldLock>(given["held"]).release();
      case "lock.is_lost":
        return this.#named<HeldLock>(given["held"]).isLost;
      case "lock.is_newer":
        return (
          this.#named<HeldLock>(given["held"]).fencingToken > this.#named<HeldLock>(given["than"]).fencingToken
        );
      case "lock.inspect": {
        const { holders, waiters } = await client.lock.inspect(lock);
        return { holders: holders.length, waiters };
      }
      case "bus.subscribe":
        keep(await client.bus.subscribe(given["patterns"], { queueGroup: given["queue_group"] }));
        return null;
      case "bus.publish": {
        const { subscribers } = await client.bus.publish(given["channel"], given["message"]);
        return { subscribers };
      }
      case "subscription.next": {
        const subscription = this.#named<Subscription>(given["subscription"]);
        const messages: Json[] = [];
        while (messages.length < count) {
          const { value: next } = await subscription.next();
          assert.ok(next, "the subscription is over");
          messages.push({ channel: next.channel, message: next.message });
        }
        return messages;
      }
      case "bus.request":
        return client.bus.request(given["channel"], given["message"]);
      case "bus.respond":
        keep(await client.bus.respond(given["channel"], (message) => ({ answer: given["answer"], to: message })));
        return null;
      case "txn.commit": {
        const outcome = await client.txn.commit({
          if: (given["if"] ?? []).map(condition),
          then: (given["then"] ?? []).map(operation),
          else: (given["else"] ?? []).map(operation),
        });
        return { succeeded: outcome.succeeded, results: outcome.results.map(result) };
      }
      case "client.close":
        await client.close();
        this.#clients.delete(by);
        return null;
      case "cluster.kill_leader":
        await this.#cluster.awaitHealthy();
        Run.#killed = await this.#cluster.killLeader();
        return null;
      case "cluster.restart":
        assert.ok(Run.#killed !== undefined, "nothing was killed");
        await this.#cluster.restart(Run.#killed);
        return null;
      case "cluster.await_healthy":
        await this.#cluster.awaitHealthy();
        return null;
      default:
        throw new Error(`there is no call ${call}`);
    }
  }
}

function condition(given: Json): Condition {
  if ("jobs_at_most" in given) return { queue: given.queue, jobsAtMost: given.jobs_at_most };
  return given;
}

function operation(given: Json): Operation {
  const [name] = Object.keys(given) as [string];
  const { [name]: what, ...rest } = given;
  const names: Record<string, string> = {
    kv_get: "kvGet",
    kv_set: "kvSet",
    kv_delete: "kvDelete",
    kv_increment: "kvIncrement",
    queue_push: "queueAdd",
    cache_set: "cacheSet",
    cache_invalidate_tags: "cacheInvalidateTags",
    bus_publish: "busPublish",
  };
  return { [names[name] ?? name]: what, ...rest } as Operation;
}

function result(came: OperationResult): Json {
  switch (came.kind) {
    case "kvGet":
      return came.entry?.value ?? null;
    case "kvSet":
      return { version: came.version };
    case "kvDelete":
    case "cacheDelete":
      return came.deleted;
    case "kvIncrement":
    case "kvIncrementFloat":
      return came.value;
    default:
      return null;
  }
}

/** The step of a turn: `#` in its texts is the turn's number. */
function turned<T>(value: T, turn: number | undefined): T {
  if (turn === undefined) return value;
  if (value === "#") return turn as T;
  if (typeof value === "string") return value.replaceAll("#", String(turn)) as T;
  if (Array.isArray(value)) return value.map((item) => turned(item, turn)) as T;
  if (value !== null && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, turned(item, turn)])) as T;
  }
  return value;
}

describe("scenarios", { timeout: 600_000 }, () => {
  let cluster: TestCluster;
  const run = `scenario-${process.pid}-${Date.now()}`;
  const only = process.env["QUORATE_SCENARIO"] ?? "";

  before(async () => {
    cluster = await TestCluster.start();
  });
  after(async () => {
    await cluster?.stop();
  });

  const files = readdirSync(DIRECTORY).filter((file) => file.endsWith(".json"));
  assert.ok(files.length > 0, `there are no scenarios in ${DIRECTORY}`);
  for (const file of files) {
    const { scenarios } = JSON.parse(readFileSync(`${DIRECTORY}/${file}`, "utf8")) as {
      scenarios: { name: string; steps: Step[] }[];
    };
    for (const [at, { name, steps }] of scenarios.entries()) {
      if (!name.includes(only)) continue;
      it(`${file}: ${name}`, async () => {
        const scenario = new Run(cluster, `${run}-${file}-${at}`);
        try {
          await scenario.steps(steps);
        } finally {
          await scenario.end();
        }
      });
    }
  }
});
